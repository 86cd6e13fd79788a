"""Calibrated probabilities: a sigmoid for each class turns the decision values of a learner into probabilities.

J. C. Platt, Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers (1999); with the
algorithm of H.-T. Lin, C.-J. Lin & R. C. Weng, A note on Platt's probabilistic outputs, Machine Learning 68 (2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Classification, Estimator, Tags, Task
from mirembed.models.outputs import LEARNED, tag_scores
from mirembed.progress import counted
from mirembed.registry import plugin_code

_MOST_STEPS = 100
_TOLERANCE = 1e-10
"""Of the gradient, relative to the number of tracks."""


@dataclass(frozen=True)
class Calibration:
    """The sigmoid of each class: its probability is ``1 / (1 + exp(-(slope * value + intercept)))``.

    Attributes
    ----------
    slope, intercept : ndarray [n_classes], float64
    """

    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray[np.float64], truth: NDArray[np.bool_]) -> Calibration:
        """Fit a sigmoid to each column.

        Parameters
        ----------
        values : ndarray [n_tracks, n_classes]
            Decision values of tracks that the learner was not fitted to; NaN where it knew nothing of the class.
        truth : ndarray [n_tracks, n_classes]
            Whether the track is of the class.
        """
        columns = []
        for of_one, is_one in zip(values.T, truth.T, strict=True):
            known = ~np.isnan(of_one)
            if len(np.unique(is_one[known])) < 2:  # only the number of tracks of the class tells anything
                columns.append(fit_sigmoid(np.zeros(len(of_one)), is_one))
            else:
                columns.append(fit_sigmoid(of_one[known], is_one[known]))
        slope, intercept = np.array(columns, np.float64).reshape(-1, 2).T
        return cls(slope, intercept)

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of each class by itself; where the value is NaN, that of an uninformative value.

        Parameters
        ----------
        values : ndarray [n_tracks, n_classes]

        Returns
        -------
        ndarray [n_tracks, n_classes], float64, between 0 and 1
        """
        return sigmoid(np.where(np.isnan(values), 0, values * self.slope) + self.intercept)


def sigmoid(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``1 / (1 + exp(-value))`` in float64, without overflow."""
    small = np.exp(-np.abs(values.astype(np.float64)))
    found: NDArray[np.float64] = np.where(values >= 0, 1, small) / (1 + small)
    return found


def softmax(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the softmax of each row, in float64."""
    powers = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True, initial=-np.inf))
    return normalized(powers)


def normalized(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of classes ``[n, n_classes]`` that exclude each other: each row sums up to 1."""
    found: NDArray[np.float64] = probabilities / probabilities.sum(axis=1, keepdims=True)
    return found


def fit_sigmoid(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and intercept of the most likely sigmoid, by Newton's method.

    So that no probability is 0 or 1, the ``n`` tracks of the class have the target ``(n + 1) / (n + 2)`` in place of 1,
    and the ``m`` others ``1 / (m + 2)`` in place of 0.

    Parameters
    ----------
    values : ndarray [n_tracks], finite
    truth : ndarray [n_tracks]
    """
    positive = int(truth.sum())
    negative = len(truth) - positive
    target = np.where(truth, (positive + 1) / (positive + 2), 1 / (negative + 2))
    center, spread = (float(values.mean()), float(values.std())) if len(values) else (0.0, 0.0)
    if not (positive and negative and spread > 0):  # values tell nothing
        share = float(target.mean()) if len(values) else 0.5
        return 0.0, float(np.log(share / (1 - share)))
    inputs = np.column_stack([(values - center) / spread, np.ones(len(values))])  # [n_tracks, 2]
    weights = np.array([0.0, np.log((positive + 1) / (negative + 1))])

    def loss(weights: NDArray[np.float64]) -> float:
        outputs = inputs @ weights
        return float((np.logaddexp(0, outputs) - target * outputs).sum())

    for _ in range(_MOST_STEPS):
        probability = sigmoid(inputs @ weights)
        gradient = inputs.T @ (probability - target)
        if np.abs(gradient).max() < _TOLERANCE * len(values):
            break
        hessian = (inputs.T * (probability * (1 - probability))) @ inputs + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        before, size = loss(weights), 1.0
        while loss(weights - size * step) > before - 1e-4 * size * float(gradient @ step) and size > 1e-10:
            size /= 2
        weights = weights - size * step
    slope = float(weights[0] / spread)
    return slope, float(weights[1] - slope * center)


def decision_values(
    estimator: Estimator, name: str, task: Task, X: NDArray[Any], constant: NDArray[np.int64] | None = None
) -> NDArray[np.float64] | None:
    """Return the decision values of a fitted estimator, larger for a more likely class or tag.

    Parameters
    ----------
    estimator : Estimator
    name : str
        What to call it in messages.
    task : Classification or Tags
    X : ndarray [n_tracks, units], or [n_tracks, n_train] for a precomputed kernel
    constant : ndarray [n_tags], int64, or None
        See `mirembed.models.outputs.constant_tags`.

    Returns
    -------
    ndarray [n_tracks, n_classes], float64, or None
        NaN for classes and tags about which it has learned nothing; None if it has no value for each class.

    Raises
    ------
    PluginError
        If the estimator fails.
    """
    if isinstance(task, Tags):
        scores = tag_scores(estimator, name, task, X, constant)
        return scores if constant is None else np.where(constant == LEARNED, scores, np.nan)
    assert isinstance(task, Classification)  # noqa: S101
    with plugin_code(f"{name} fails to score {counted(len(X), 'track')}"):
        return _class_values(estimator, X, len(task.classes))


def _class_values(estimator: Estimator, X: NDArray[np.floating], n_classes: int) -> NDArray[np.float64] | None:
    """Return ``decision_function``, or else ``predict_proba``, by class: ndarray ``[n_tracks, n_classes]``."""
    method = getattr(estimator, "decision_function", None) or getattr(estimator, "predict_proba", None)
    classes = getattr(estimator, "classes_", None)
    if method is None or classes is None:
        return None
    found = np.asarray(method(X), np.float64)
    if found.ndim == 1 and len(classes) == 2:
        found = np.column_stack([-found, found])
    if found.shape != (len(X), len(classes)) or not np.isfinite(found).all():
        return None
    values = np.full((len(X), n_classes), np.nan)
    values[:, np.asarray(classes, np.int64)] = found
    return values
