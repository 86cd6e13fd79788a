"""Learners, fitted to the embeddings of training tracks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.approaches import Approach
from mirembed.errors import EvaluationError
from mirembed.hookspecs import Classification, Estimator, Task
from mirembed.kernels import Kernel, describe_kernels, indefinite_notes
from mirembed.labels import TargetScale
from mirembed.models import Model
from mirembed.registry import Registry, plugin_code
from mirembed.specs import Spec


@dataclass(frozen=True)
class FittedLearner:
    """What comes of a learner.

    Attributes
    ----------
    estimator : Estimator
    kernel : Kernel or None
        The similarity whose Gram matrix the estimator takes; None: it takes embeddings.
    notes : list of str
        What the user should be told of it.
    """

    estimator: Estimator
    kernel: Kernel | None
    notes: list[str]

    def put_into(self, model: Model) -> None:
        """Let a model predict with it."""
        model.estimator, model.kernel = self.estimator, self.kernel
        model.provenance = {**model.provenance, "notes": self.notes}


def fit_learner(
    registry: Registry,
    learner: Spec,
    approach: Approach,
    task: Task,
    embeddings: NDArray[np.float32],
    labels: NDArray[Any],
    scale: TargetScale | None,
) -> FittedLearner:
    """Fit a learner to the embeddings and labels of the training tracks, or to the Gram matrix of its kernel.

    Parameters
    ----------
    approach : Approach
        What the embeddings come from: a kernel may be the similarity that it learnt.
    embeddings : ndarray [n_train, units]
    labels : ndarray [n_train] int64 class indices, or [n_train, n_targets] float64 in original units
    scale : TargetScale or None
        None for classification.
    """
    if isinstance(task, Classification) and len(np.unique(labels)) < 2:
        raise EvaluationError("the training tracks have one class only; a learner needs at least two")
    estimator = new_estimator(registry, learner, task)
    kernel: Kernel | None = None
    X: NDArray[np.floating] = embeddings
    notes: list[str] = []
    if described := describe_kernels(registry, learner, [approach]):
        kernel = Kernel.create(registry, described[approach.name], embeddings)
        gram = kernel.training_gram()
        notes += indefinite_notes(kernel, gram)
        X = gram
    with _blaming(registry, learner, f"fit {len(embeddings)} tracks"):
        estimator.fit(X, answers(labels, scale))
    return FittedLearner(estimator, kernel, notes)


def answers(labels: NDArray[Any], scale: TargetScale | None) -> NDArray[Any]:
    """Return what a learner is to predict: class indices, or scaled targets."""
    return labels if scale is None else scale.scale(labels)


def new_estimator(registry: Registry, learner: Spec, task: Task) -> Estimator:
    """Return the unfitted estimator of a learner."""
    with _blaming(registry, learner, "make an estimator"):
        estimator: Estimator = registry.create("learner", learner).estimator(task)
    return estimator


@contextlib.contextmanager
def _blaming(registry: Registry, learner: Spec, purpose: str) -> Iterator[None]:
    with plugin_code(f"{registry.find('learner', learner.name).blame(learner)} fails to {purpose}"):
        yield
