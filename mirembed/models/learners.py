"""Learners: describing one with its kernel, and fitting it to the embeddings of the training tracks.

A kernel is any registered similarity, which a learner names (see `mirembed.hookspecs.Learner`). Its estimator then
receives similarities to the training tracks, a precomputed Gram matrix, in place of embeddings.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.config import Approach
from mirembed.errors import EvaluationError, MirembedError, PluginError, SpecError
from mirembed.hookspecs import Classification, Estimator, Regression, Tags, Task
from mirembed.models.calibration import Calibration, decision_values
from mirembed.models.estimators import check_storable
from mirembed.models.outputs import LEARNED, constant_tags, learned_task
from mirembed.progress import counted
from mirembed.registry import Registry, plugin_code
from mirembed.specs import Spec
from mirembed.training.labels import TargetScale
from mirembed.training.similarity import PluginSimilarity

MATCH = "match"
"""As a kernel, the learned similarity; as the value of a kernel's parameter, the learned similarity's value."""


TOLERANCE = 1e-6
"""Rounding error allowed in a Gram matrix, relative to its largest eigenvalue or value."""


@dataclass(frozen=True)
class Kernel:
    """A similarity together with the training tracks that others are compared with.

    Attributes
    ----------
    described : mapping
        Name, distribution, version and all parameters of the similarity, from `Registry.provenance`.
    similarity : PluginSimilarity
    embeddings : ndarray [n_train, units], float32
    """

    described: Mapping[str, Any]
    similarity: PluginSimilarity
    embeddings: NDArray[np.float32]

    @classmethod
    def create(cls, registry: Registry, described: Mapping[str, Any], embeddings: NDArray[np.float32]) -> Kernel:
        """Create the kernel of a description, with exactly the parameters that it lists."""
        similarity = PluginSimilarity.create(registry, exact_spec(described))
        return cls(described, similarity.double(), embeddings)

    def gram(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the similarities of tracks to the training tracks.

        To the bit, a track's row does not depend on the other tracks.

        Parameters
        ----------
        embeddings : ndarray [n, units]

        Returns
        -------
        ndarray [n, n_train], float64

        Raises
        ------
        PluginError
            If the similarity fails, or its values are not finite.
        """
        candidates = self.embeddings.astype(np.float64)
        rows = [self.similarity.similarities_to(query, candidates) for query in embeddings.astype(np.float64)]
        gram = np.array(rows, np.float64).reshape(-1, len(candidates))
        if not np.isfinite(gram).all():
            raise PluginError(
                f"the similarity {self.similarity.name} returned values that are not finite for embeddings of tracks; "
                "check its parameters"
            )
        return gram

    def training_gram(self) -> NDArray[np.float64]:
        """Return the similarities ``[n_train, n_train]`` of the training tracks, symmetric to the bit.

        Raises
        ------
        PluginError
            If the similarity fails, or its values are not finite or not symmetric.
        """
        gram = self.gram(self.embeddings)
        difference = float(np.abs(gram - gram.T).max())
        if difference > TOLERANCE * np.abs(gram).max():
            raise PluginError(
                f"the similarity {self.similarity.name} is not a kernel: S(x, y) and S(y, x) differ by up to "
                f"{difference:.3g}; report it to that plugin's authors"
            )
        return (gram + gram.T) / 2

    def notes(self, gram: NDArray[np.float64]) -> list[str]:
        """Return a note for the user if the training tracks' Gram matrix is not positive semi-definite, else none."""
        eigenvalues = np.linalg.eigvalsh(gram)  # in ascending order
        smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
        if smallest >= -TOLERANCE * abs(largest):
            return []
        return [
            f"the Gram matrix of {self.described['spec']} is not positive semi-definite (smallest eigenvalue "
            f"{smallest:.3g}, largest {largest:.3g}), so a kernel machine may not find the best solution"
        ]


def exact_spec(described: Mapping[str, Any]) -> Spec:
    """Return the spec of a described similarity with all its parameters, whatever defaults its plugin has now."""
    values = {name: str(value) for name, value in described["parameters"].items() if value is not None}
    given = Spec.parse(described["spec"]).parameters
    return Spec(f"{described['distribution']}/{described['name']}", {**values, **given})


@dataclass(frozen=True)
class FittedLearner:
    """A fitted learner.

    Attributes
    ----------
    estimator : Estimator
    kernel : Kernel or None
        The similarity whose Gram matrix the estimator takes; None if it takes embeddings.
    gram : ndarray [n_train, n_train] or None
        The Gram matrix of the kernel.
    constant : ndarray [n_tags], int64, or None
        Of tags: see `mirembed.models.outputs.constant_tags`. The estimator knows only the learned ones.
    calibration : Calibration or None
        See `calibrate`.
    uncalibrated : str or None
        Why it has no calibration, if that needs an explanation.
    chosen : mapping or None
        The parameters that a search of scikit-learn, such as ``GridSearchCV``, chose for the estimator.
    """

    estimator: Estimator
    kernel: Kernel | None = None
    gram: NDArray[np.float64] | None = None
    constant: NDArray[np.int64] | None = None
    calibration: Calibration | None = None
    uncalibrated: str | None = None
    chosen: Mapping[str, Any] | None = None

    @property
    def notes(self) -> list[str]:
        """Notes for the user. They take the eigenvalues of the Gram matrix, so ask only when needed."""
        of_kernel = [] if self.kernel is None or self.gram is None else self.kernel.notes(self.gram)
        return of_kernel if self.uncalibrated is None else [*of_kernel, f"no probabilities: {self.uncalibrated}"]


def fit_learner(
    registry: Registry,
    learner: Spec,
    approach: Approach,
    task: Task,
    embeddings: NDArray[np.float32],
    labels: NDArray[Any],
    scale: TargetScale | None,
    *,
    seed: Sequence[int],
    groups: NDArray[np.int64] | None = None,
) -> FittedLearner:
    """Fit a learner to the embeddings and labels of the training tracks, or to the Gram matrix of its kernel.

    About a tag that all training tracks have, or none, there is nothing to learn: the learner does not see it.

    Parameters
    ----------
    approach : Approach
        The approach of the network; a kernel may be the similarity that it learned.
    embeddings : ndarray [n_train, units]
    labels : ndarray
        As `mirembed.store.tracks.Tracks.label_array`.
    scale : TargetScale or None
        For regression.
    seed : sequence of int
        Seeds the global random generators during the fit, for estimators without a seed of their own.
    groups : ndarray [n_train], int64, or None
        For learners that take groups: equal numbers are of the same group. None: each track is a group of its own.

    Raises
    ------
    EvaluationError
        If the training tracks have one class only, or all have the same tags.
    PluginError
        If the learner or its kernel fails.
    """
    if isinstance(task, Classification) and len(np.unique(labels)) < 2:
        raise EvaluationError("the training tracks have one class only; a learner needs at least two")
    kernel: Kernel | None = None
    gram: NDArray[np.float64] | None = None
    if kernels := describe_learner(registry, learner, [approach]).get("kernels"):
        kernel = Kernel.create(registry, kernels[approach.name], embeddings)
        gram = kernel.training_gram()
    X = embeddings if gram is None else gram
    fitted, constant = _fit(registry, learner, task, X, labels, scale, groups, seed)
    estimator, chosen = _best_of_search(fitted)
    return FittedLearner(estimator, kernel, gram, constant, chosen=chosen)


def _best_of_search(estimator: Any) -> tuple[Estimator, dict[str, Any] | None]:
    """Return what a search of scikit-learn found, and its parameters; other estimators as they are.

    The search itself predicts the same, but holds much that need not be stored, and functions that cannot be.
    """
    if not (hasattr(estimator, "best_estimator_") and hasattr(estimator, "best_params_")):
        return estimator, None
    found = estimator.best_params_.items()
    chosen = {
        name: value if isinstance(value, bool | int | float | str | None) else str(value) for name, value in found
    }
    return estimator.best_estimator_, chosen


def _fit(
    registry: Registry,
    learner: Spec,
    task: Task,
    X: NDArray[np.floating],
    labels: NDArray[Any],
    scale: TargetScale | None,
    groups: NDArray[np.int64] | None,
    seed: Sequence[int],
) -> tuple[Estimator, NDArray[np.int64] | None]:
    """Fit a new estimator to embeddings or a Gram matrix; return it, and which tags are constant."""
    constant = constant_tags(labels) if isinstance(task, Tags) else None
    if constant is not None:
        if not (constant == LEARNED).any():
            raise EvaluationError("the training tracks all have the same tags, so there is nothing to learn")
        task, labels = learned_task(task, constant), labels[:, constant == LEARNED]
    estimator = new_estimator(registry, learner, task)
    with _naming(registry, learner, f"fit {counted(len(X), 'track')}"), _seeded(seed):
        groups = np.arange(len(X)) if groups is None else groups
        given = {"groups": groups} if takes_groups(registry, learner) else {}
        estimator.fit(X, learner_targets(labels, scale), **given)
    return estimator, constant


def calibrate(
    registry: Registry,
    learner: Spec,
    task: Task,
    fitted: FittedLearner,
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    *,
    seed: Sequence[int],
    groups: NDArray[np.int64] | None = None,
) -> Calibration | None:
    """Calibrate a learner on the decision values of the training tracks, each by one that was fitted without the track.

    Parameters
    ----------
    task : Classification or Tags
    fitted : FittedLearner
        Fitted to all training tracks.
    embeddings : ndarray [n_train, units]
    labels : ndarray [n_train] class indices, or [n_train, n_tags] of 0 and 1
    folds : sequence of (ndarray, ndarray)
        Positions of the tracks to fit a learner to, and of those to compute decision values of; in each fold.
    seed, groups
        See `fit_learner`.

    Returns
    -------
    Calibration or None
        None if the estimator has no decision value for each class.

    Raises
    ------
    EvaluationError
        If there is nothing to learn in a fold.
    PluginError
        If the learner fails.
    """
    assert not isinstance(task, Regression)  # noqa: S101
    gram, n_classes = fitted.gram, len(task.classes)
    values = np.full((len(labels), n_classes), np.nan)
    name = f"the estimator of the learner {learner}"
    for number, (train, test) in enumerate(folds, 1):
        inside, outside = (
            embeddings[rows] if gram is None else gram[np.ix_(rows, train)] for rows in (train, test)
        )  # [n, units], or [n, n_train of the fold]
        of_fold = None if groups is None else groups[train]
        estimator, constant = _fit(registry, learner, task, inside, labels[train], None, of_fold, [*seed, number])
        found = decision_values(estimator, name, task, outside, constant)
        if found is None:
            return None
        values[test] = found
    return Calibration.fit(values, labels)


def takes_groups(registry: Registry, learner: Spec) -> bool:
    """Return whether the estimators of a learner are fitted with groups."""
    return bool(getattr(registry.create("learner", learner), "takes_groups", False))


@contextlib.contextmanager
def _seeded(seed: Sequence[int]) -> Iterator[None]:
    """Seed the global generators of Python and numpy, and restore them afterwards."""
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    before = random.getstate(), np.random.get_state()
    random.seed(number)
    np.random.seed(number)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def learner_targets(labels: NDArray[Any], scale: TargetScale | None) -> NDArray[Any]:
    """Return the ``y`` of a learner: class indices, tags of 0 and 1, or scaled targets."""
    return labels if scale is None else scale.scale(labels)


def new_estimator(registry: Registry, learner: Spec, task: Task) -> Estimator:
    """Return the unfitted estimator of a learner.

    Raises
    ------
    PluginError
        If the learner fails or returns something else.
    """
    with _naming(registry, learner, "make an estimator"):
        estimator: Estimator = registry.create("learner", learner).estimator(task)
        if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
            raise TypeError(f"estimator() returned {estimator!r}, which has no fit and predict")
    return estimator


def check_learners(registry: Registry, learners: Sequence[Spec], task: Task | None, *, saved: bool) -> None:
    """Refuse learners that cannot learn a task, before anything is trained.

    Parameters
    ----------
    task : Classification, Tags, Regression or None
        None: there are no labels to learn, and nothing is checked.
    saved : bool
        Whether their models will be saved: also refuse those that could be saved but not loaded again.

    Each is fitted to a few random numbers: some estimators get what cannot be stored only then.

    Raises
    ------
    PluginError
        See `new_estimator`.
    ModelError
        See `mirembed.models.estimators.check_storable`.
    """
    if task is None:
        return
    for learner in learners:
        estimator = new_estimator(registry, learner, task)
        if not saved:
            continue
        with contextlib.suppress(MirembedError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there is nothing to learn from random numbers
            estimator = _fitted_to_noise(registry, learner, task)
        check_storable(estimator, learner, registry)


def _fitted_to_noise(registry: Registry, learner: Spec, task: Task) -> Estimator:
    """Return the estimator of a learner, fitted to random embeddings and labels."""
    n_labels = len(task.targets) if isinstance(task, Regression) else len(task.classes)
    n = 20 * n_labels if isinstance(task, Classification) else 40
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 50)).astype(np.float32)
    labels: NDArray[Any] = np.arange(n) % n_labels
    if isinstance(task, Tags):
        labels = rng.integers(0, 2, (n, n_labels))
    elif isinstance(task, Regression):
        labels = rng.uniform(size=(n, n_labels))
    gram = None if _kernel_spec(registry, learner) is None else (X @ X.T).astype(np.float64)
    fitted, _ = _fit(registry, learner, task, X if gram is None else gram, labels, None, None, (0, 0))
    return _best_of_search(fitted)[0]


@contextlib.contextmanager
def _naming(registry: Registry, learner: Spec, purpose: str) -> Iterator[None]:
    """Name the learner, and what it was doing, in the errors of its plugin."""
    with plugin_code(f"{registry.find('learner', learner.name).with_origin(learner)} fails to {purpose}"):
        yield


def describe_learner(registry: Registry, learner: Spec, approaches: Sequence[Approach]) -> dict[str, Any]:
    """Describe a learner as `Registry.provenance` does, and add its kernel for each approach as ``kernels``.

    A learner that takes embeddings has no ``kernels``.

    Raises
    ------
    PluginError
        If the learner or a kernel is unknown, or refuses its parameters.
    SpecError
        If a kernel is to match the learned similarity and an approach learns none; the message names all such
        approaches.
    """
    described = registry.provenance("learner", learner)
    wanted = _kernel_spec(registry, learner)
    if wanted is None:
        return described
    kernels: dict[str, Any] = {}
    refused: dict[str, list[str]] = {}
    for approach in approaches:
        spec = _resolve_match(registry, wanted, approach)
        if isinstance(spec, str):
            refused.setdefault(spec, []).append(approach.name)
        else:
            kernels[approach.name] = registry.provenance("similarity", spec)
            registry.create("similarity", exact_spec(kernels[approach.name]))
    if refused:
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in refused.items())
        raise SpecError(
            f"the kernel of the learner {learner} cannot match every approach ({reasons}); "
            "leave them out, or name the kernel and its parameters"
        )
    return {**described, "kernels": kernels} if kernels else described


def _kernel_spec(registry: Registry, learner: Spec) -> Spec | None:
    """Return the similarity that a learner names as its kernel, before ``match`` is resolved."""
    with _naming(registry, learner, "name its kernel"):
        wanted = getattr(registry.create("learner", learner), "kernel_similarity", None)
        if wanted is None:
            return None
        if not isinstance(wanted, str):
            raise TypeError(f"kernel_similarity is {wanted!r}; expected the spec of a similarity, or None")
    spec = Spec.parse(wanted)
    if spec.name == MATCH and spec.parameters:
        raise SpecError(f"kernel {wanted!r}: {MATCH} uses the parameters of the learned similarity; give none")
    return spec


def _resolve_match(registry: Registry, wanted: Spec, approach: Approach) -> Spec | str:
    """Replace ``match`` by what an approach learns; return the reason where that is impossible."""
    matched = [name for name, value in wanted.parameters.items() if value == MATCH]
    if wanted.name != MATCH and not matched:
        return wanted
    if approach.similarity is None:
        return "no similarity is learned"
    if wanted.name == MATCH:
        return approach.similarity
    learned = registry.provenance("similarity", approach.similarity)["parameters"]
    if missing := [name for name in matched if name not in learned]:
        return f"the similarity {approach.similarity} has no {' and no '.join(missing)}"
    return Spec(wanted.name, {**wanted.parameters, **{name: str(learned[name]) for name in matched}})
