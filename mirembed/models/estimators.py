"""Fitted estimators on disk, in the format of skops: nothing that is loaded can run code."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mirembed.errors import ModelError, PluginError
from mirembed.hookspecs import Estimator
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec

_PARTS = frozenset(
    f"sklearn.{name}"
    for name in (
        "_loss.link.IdentityLink",
        "_loss.link.LogLink",
        "_loss.link.LogitLink",
        "_loss.link.MultinomialLogit",
        "_loss.loss.HalfTweedieLossIdentity",
        "calibration._CalibratedClassifier",
        "calibration._SigmoidCalibration",
        "ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "gaussian_process.kernels.ConstantKernel",
        "gaussian_process.kernels.DotProduct",
        "gaussian_process.kernels.Matern",
        "gaussian_process.kernels.Product",
        "gaussian_process.kernels.RBF",
        "gaussian_process.kernels.RationalQuadratic",
        "gaussian_process.kernels.Sum",
        "gaussian_process.kernels.WhiteKernel",
        "metrics._dist_metrics.EuclideanDistance64",
        "metrics._dist_metrics.ManhattanDistance64",
        "metrics._dist_metrics.MinkowskiDistance64",
        "neighbors._ball_tree.BallTree",
        "neighbors._kd_tree.KDTree",
        "neural_network._stochastic_optimizers.AdamOptimizer",
        "neural_network._stochastic_optimizers.SGDOptimizer",
        "tree._tree.Tree",
    )
)
"""Parts of scikit-learn's estimators that skops does not trust. They hold numbers, not code.

No functions, and never the whole package: scikit-learn also has functions that run programs.
"""


def check_storable(estimator: Estimator, learner: Spec, registry: Registry) -> None:
    """Refuse an estimator, fitted or not, that `load_estimator` would refuse.

    Raises
    ------
    ModelError
        If skops cannot store it, or it holds types that may not be loaded.
    """
    plugin = registry.find("learner", learner.name)
    data = dump_estimator(estimator)
    with _skops() as skops:
        untrusted = skops.get_untrusted_types(data=data)
    if foreign := _foreign_types(untrusted, plugin):
        raise ModelError(
            f"the {type(estimator).__name__} of the learner {learner} holds {', '.join(foreign)}; only estimators of "
            f"scikit-learn, arrays and types of {plugin.distribution} can be saved in a model"
        )


def dump_estimator(estimator: Estimator) -> bytes:
    """Return an estimator as bytes that `load_estimator` reads.

    Raises
    ------
    ModelError
        If skops cannot store it.
    """
    try:
        with _skops() as skops:
            return bytes(skops.dumps(estimator))
    except Exception as error:
        raise ModelError(
            f"the learner's {type(estimator).__name__} cannot be saved without pickle ({error}); "
            "its plugin needs an estimator that skops can store"
        ) from error


def load_estimator(path: Path, learner: Mapping[str, Any], registry: Registry) -> Estimator:
    """Read the estimator of a model.

    Parameters
    ----------
    path : pathlib.Path
    learner : mapping
        The learner that made it, from the model's provenance.
    registry : Registry

    Raises
    ------
    ModelError
        If the file cannot be read, or holds types other than those of scikit-learn and of the learner's plugin.
    """
    try:
        with _skops() as skops:
            untrusted: list[str] = skops.get_untrusted_types(file=path)
    except Exception as error:
        raise ModelError(f"{path} was not loaded: skops cannot read it ({error}); fit the model again") from error
    if any(not _is_of_scikit_learn(name) for name in untrusted):
        try:
            plugin = registry.require("learner", learner, f"the model {path.parent}")
        except PluginError as error:
            raise ModelError(str(error)) from error
        if foreign := _foreign_types(untrusted, plugin):
            raise ModelError(
                f"{path} was not loaded: it holds {', '.join(foreign)}, which might run code; only estimators of "
                f"scikit-learn, arrays and types of {plugin.distribution} are allowed"
            )
    try:
        with _skops() as skops:
            estimator: Estimator = skops.load(path, trusted=untrusted)
    except Exception as error:
        raise ModelError(
            f"{path} was not loaded: {type(error).__name__}: {error}; install the versions listed in model.json, "
            "or fit the model again"
        ) from error
    return estimator


_in_mirembed: ContextVar[bool] = ContextVar("_in_mirembed", default=False)
"""Whether skops works for mirembed, in this thread."""
_importing = threading.Lock()


@contextmanager
def _skops() -> Iterator[Any]:
    """Give skops.io to mirembed, without importing all of scikit-learn.

    When it is imported, skops calls `all_estimators` to list the types that it trusts, which imports all of
    scikit-learn, and torch. That would double the 1.6 s of processor time that ``mirembed predict`` takes. mirembed
    needs no list: see `_is_of_scikit_learn`. Other users of skops in this process still find it: see `_EstimatorNames`.
    """
    token = _in_mirembed.set(True)
    try:
        with _importing:
            if "skops.io" not in sys.modules:
                _import_skops()
        yield importlib.import_module("skops.io")
    finally:
        _in_mirembed.reset(token)


def _import_skops() -> None:
    import sklearn.utils

    all_estimators = sklearn.utils.all_estimators
    # Another thread that asks meanwhile gets them all.
    sklearn.utils.all_estimators = lambda *args, **kw: [] if _in_mirembed.get() else all_estimators(*args, **kw)
    try:
        importlib.import_module("skops.io")
    finally:
        sklearn.utils.all_estimators = all_estimators
    for name in ("_trusted_types", "_general"):
        module: Any = importlib.import_module(f"skops.io.{name}")
        if not module.SKLEARN_ESTIMATOR_TYPE_NAMES:
            module.SKLEARN_ESTIMATOR_TYPE_NAMES = _EstimatorNames()


class _EstimatorNames(list[str]):
    """skops' list of the names of scikit-learn's estimators, made on first use by anyone but mirembed."""

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return super().__iter__()

    def __len__(self) -> int:
        self._fill()
        return super().__len__()

    def __add__(self, others: Any) -> Any:
        self._fill()
        return super().__add__(others)

    def __contains__(self, name: object) -> bool:
        self._fill()
        return super().__contains__(name)

    def _fill(self) -> None:
        if super().__len__() or _in_mirembed.get():
            return
        from sklearn.utils import all_estimators

        names = [f"{estimator.__module__}.{estimator.__name__}" for _, estimator in all_estimators()]
        self[:] = [name for name in names if name.startswith("sklearn.")]


def _foreign_types(untrusted: Sequence[str], plugin: Plugin) -> list[str]:
    """Return the types that are neither scikit-learn's nor those of a plugin, which the user chose to install."""
    package = plugin.factory.__module__.partition(".")[0]
    return [name for name in untrusted if name.partition(".")[0] != package and not _is_of_scikit_learn(name)]


def _is_of_scikit_learn(name: str) -> bool:
    """Return whether a type is a public estimator of scikit-learn, or a part of one."""
    if name in _PARTS:
        return True
    module, _, type_name = name.rpartition(".")
    package, *rest = module.split(".")
    if (
        package != "sklearn"
        or type_name.startswith("_")
        or {"conftest", "experimental", "externals", "tests"} & {*rest}
    ):
        return False
    from sklearn.base import BaseEstimator

    try:
        found = getattr(importlib.import_module(module), type_name, None)
    except (ImportError, ValueError):
        return False
    return isinstance(found, type) and issubclass(found, BaseEstimator)
