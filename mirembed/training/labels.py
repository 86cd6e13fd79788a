"""Label vectors: one-hot for classes, 0 or 1 for each tag, targets scaled to [0, 1] for regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import EvaluationError
from mirembed.hookspecs import Classification, Regression, Task


@dataclass(frozen=True)
class TargetScale:
    """The range of each regression target that is mapped to [0, 1].

    Attributes
    ----------
    low, high : ndarray [n_targets], float64, original units
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def fit(cls, task: Regression, labels: NDArray[np.float64]) -> TargetScale:
        """Use the declared range of each target or, if none is declared, the range of ``labels``.

        Pass the labels of the training tracks only.

        Raises
        ------
        EvaluationError
            If an undeclared target is constant.
        """
        columns = list(zip(task.targets, labels.T, strict=True))
        low = np.array([values.min() if t.low is None else t.low for t, values in columns], np.float64)
        high = np.array([values.max() if t.high is None else t.high for t, values in columns], np.float64)
        for target, bottom, top in zip(task.targets, low, high, strict=True):
            if not bottom < top:
                raise EvaluationError(
                    f"{target.name} is {bottom:g} in every training track, so there is nothing to learn; "
                    "check the labels or leave this target out"
                )
        return cls(low, high)

    def scale(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map original units to [0, 1]."""
        return (labels - self.low) / (self.high - self.low)

    def unscale(self, scaled: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Map [0, 1] to original units."""
        return np.asarray(scaled, np.float64) * (self.high - self.low) + self.low


def one_hot(indices: NDArray[np.int64], n_classes: int) -> NDArray[np.float32]:
    """Return the label vectors ``[n, n_classes]`` of class indices ``[n]``.

    >>> one_hot(np.array([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    return np.eye(n_classes, dtype=np.float32)[indices]


def label_vectors(task: Task, labels: NDArray[Any], scale: TargetScale | None) -> NDArray[np.float32]:
    """Return the label vectors of tracks, which networks learn from: ndarray ``[n, n_classes, n_tags or n_targets]``.

    A track without tags has the zero vector.

    Parameters
    ----------
    task : Classification, Tags or Regression
    labels : ndarray
        As `mirembed.store.tracks.Tracks.label_array`.
    scale : TargetScale or None
        For regression.

    >>> from mirembed import Tags
    >>> label_vectors(Tags(("calm", "loud")), np.array([[0, 1], [0, 0]]), None).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    if isinstance(task, Classification):
        return one_hot(labels, len(task.classes))
    return (labels if scale is None else scale.scale(labels)).astype(np.float32)


def scale_for(task: Task, labels: NDArray[Any]) -> TargetScale | None:
    """Return the scale of regression targets, fitted to the labels of training tracks; None for classes and tags.

    Raises
    ------
    EvaluationError
        See `TargetScale.fit`.
    """
    return TargetScale.fit(task, labels) if isinstance(task, Regression) else None


def undeclared(task: Task) -> Sequence[str]:
    """Return the names of the regression targets whose range is not declared."""
    if not isinstance(task, Regression):
        return []
    return [target.name for target in task.targets if target.low is None or target.high is None]
