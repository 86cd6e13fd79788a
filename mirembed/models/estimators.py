"""Fitted estimators on disk, as skops stores them: nothing that is loaded can run code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mirembed.errors import ModelError, PluginError
from mirembed.hookspecs import Estimator
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec

_OF_SCIKIT_LEARN = frozenset(
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
"""What scikit-learn's own estimators are made of and skops does not trust by itself: types that hold numbers, no code.

Functions are not among them, and never the whole package: scikit-learn also has functions that run programs.
"""


def check_storable(estimator: Estimator, learner: Spec, registry: Registry) -> None:
    """Refuse a learner's estimator, fitted or not, that `Model.load` would refuse.

    Raises
    ------
    ModelError
        If skops cannot store it, or it holds types of a third party.
    """
    import skops.io

    plugin = registry.find("learner", learner.name)
    foreign = _foreign_types(skops.io.get_untrusted_types(data=dump_estimator(estimator)), plugin)
    if foreign:
        raise ModelError(
            f"a model with the learner {learner} could be saved but not loaded: its {type(estimator).__name__} holds "
            f"types that neither scikit-learn nor {plugin.distribution} defines: {', '.join(foreign)}"
        )


def dump_estimator(estimator: Estimator) -> bytes:
    """Return an estimator as bytes that `load_estimator` takes.

    Raises
    ------
    ModelError
        If skops cannot store it.
    """
    import skops.io

    try:
        return bytes(skops.io.dumps(estimator))
    except Exception as error:
        raise ModelError(
            f"the learner's {type(estimator).__name__} cannot be saved without pickle ({error}); "
            "its plugin needs an estimator that skops can store"
        ) from error


def _foreign_types(untrusted: Sequence[str], plugin: Plugin) -> list[str]:
    # The plugin is code that the user chose to install; anything else might be an attack.
    package = plugin.factory.__module__.partition(".")[0]
    return [name for name in untrusted if name.partition(".")[0] != package and name not in _OF_SCIKIT_LEARN]


def load_estimator(path: Path, manifest: Mapping[str, Any], registry: Registry) -> Estimator:
    """Read the estimator of a model.

    Parameters
    ----------
    path : pathlib.Path
    manifest : mapping
        Of the model, which says whose learner it is.
    registry : Registry

    Raises
    ------
    ModelError
        If the file cannot be read, or holds types that neither scikit-learn nor the plugin of the learner defines.
    """
    import skops.io

    try:
        untrusted = skops.io.get_untrusted_types(file=path)
    except Exception as error:
        raise ModelError(f"{path} was not loaded: skops cannot read it ({error}); fit the model again") from error
    if untrusted:
        try:
            plugin = registry.require("learner", manifest["provenance"]["learner"], f"the model {path.parent}")
        except PluginError as error:
            raise ModelError(str(error)) from error
        foreign = _foreign_types(untrusted, plugin)
        if foreign:
            raise ModelError(
                f"{path} holds types that neither scikit-learn nor {plugin.distribution} defines: "
                f"{', '.join(foreign)}; it was not loaded, because it might run foreign code"
            )
    try:
        estimator: Estimator = skops.io.load(path, trusted=untrusted)
    except Exception as error:
        raise ModelError(
            f"{path} was not loaded: {type(error).__name__}: {error}; install the versions that model.json names, "
            "or fit the model again"
        ) from error
    return estimator
