"""Learners, fitted to the embeddings of training tracks."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.config.approaches import Approach
from mirembed.errors import EvaluationError
from mirembed.hookspecs import Classification, Estimator, Task
from mirembed.models.kernels import Kernel, describe_kernels, indefinite_notes
from mirembed.models.model import Model
from mirembed.registry import Registry, plugin_code
from mirembed.specs import Spec
from mirembed.training.labels import TargetScale


@dataclass(frozen=True)
class FittedLearner:
    """What comes of a learner.

    Attributes
    ----------
    estimator : Estimator
    kernel : Kernel or None
        The similarity whose Gram matrix the estimator takes; None: it takes embeddings.
    gram : ndarray [n_train, n_train] or None
        Of the kernel.
    """

    estimator: Estimator
    kernel: Kernel | None = None
    gram: NDArray[np.float64] | None = None

    @property
    def notes(self) -> list[str]:
        """What the user should be told of it. To find that out takes the eigenvalues of the Gram matrix."""
        return [] if self.kernel is None or self.gram is None else indefinite_notes(self.kernel, self.gram)

    def put_into(self, model: Model, *, notes: bool = True) -> None:
        """Let a model predict with it."""
        model.estimator, model.kernel = self.estimator, self.kernel
        model.provenance = {**model.provenance, "notes": self.notes if notes else []}


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
) -> FittedLearner:
    """Fit a learner to the embeddings and labels of the training tracks, or to the Gram matrix of its kernel.

    Parameters
    ----------
    approach : Approach
        What the embeddings come from: a kernel may be the similarity that it learned.
    embeddings : ndarray [n_train, units]
    labels : ndarray [n_train] int64 class indices, or [n_train, n_targets] float64 in original units
    scale : TargetScale or None
        None for classification.
    seed : sequence of int
        Of the global generators while the estimator is fitted: one that was given no seed draws from them.
    """
    if isinstance(task, Classification) and len(np.unique(labels)) < 2:
        raise EvaluationError("the training tracks have one class only; a learner needs at least two")
    estimator = new_estimator(registry, learner, task)
    kernel: Kernel | None = None
    gram: NDArray[np.float64] | None = None
    if described := describe_kernels(registry, learner, [approach]):
        kernel = Kernel.create(registry, described[approach.name], embeddings)
        gram = kernel.training_gram()
    with _blaming(registry, learner, f"fit {len(embeddings)} tracks"), _seeded(seed):
        estimator.fit(embeddings if gram is None else gram, answers(labels, scale))
    return FittedLearner(estimator, kernel, gram)


@contextlib.contextmanager
def _seeded(seed: Sequence[int]) -> Iterator[None]:
    """Seed the global generators of Python and numpy, and put them back."""
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    before = random.getstate(), np.random.get_state()
    random.seed(number)
    np.random.seed(number)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def answers(labels: NDArray[Any], scale: TargetScale | None) -> NDArray[Any]:
    """Return what a learner is to predict: class indices, or scaled targets."""
    return labels if scale is None else scale.scale(labels)


def new_estimator(registry: Registry, learner: Spec, task: Task) -> Estimator:
    """Return the unfitted estimator of a learner."""
    with _blaming(registry, learner, "make an estimator"):
        estimator: Estimator = registry.create("learner", learner).estimator(task)
        if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
            raise TypeError(f"estimator() returned {estimator!r}, which has no fit and predict")
    return estimator


@contextlib.contextmanager
def _blaming(registry: Registry, learner: Spec, purpose: str) -> Iterator[None]:
    with plugin_code(f"{registry.find('learner', learner.name).with_origin(learner)} fails to {purpose}"):
        yield
