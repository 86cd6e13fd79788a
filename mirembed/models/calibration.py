"""Calibrated probabilities from the decision values of a learner: a softmax for classes, a sigmoid for each tag.

Classes: C. Guo, G. Pleiss, Y. Sun & K. Q. Weinberger, On calibration of modern neural networks, ICML 2017 (temperature
scaling). Tags: J. C. Platt, Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers
(1999); with the algorithm of H.-T. Lin, C.-J. Lin & R. C. Weng, A note on Platt's probabilistic outputs, Machine
Learning 68 (2007).
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
_STEEPEST = 2.0**20
"""For values of unit deviation: steeper than any slope that the targets allow."""


@dataclass(frozen=True)
class Calibration:
    """Turns decision values into probabilities.

    Attributes
    ----------
    slope : ndarray, float64
        Of each tag ``[n_tags]``; of classes, the same for all ``[1]``: the inverse of the temperature.
    intercept : ndarray [n_tags], float64
        Of each tag; for classes, none ``[0]``.
    """

    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray[np.float64], labels: NDArray[np.int64]) -> Calibration:
        """Fit to decision values of tracks that the learner was not fitted to.

        Parameters
        ----------
        values : ndarray [n_tracks, n_classes]
            NaN where the learner knew nothing of the class or tag.
        labels : ndarray [n_tracks] class indices, or [n_tracks, n_tags] of 0 and 1
        """
        if labels.ndim == 1:
            return cls(np.array([fit_slope(values, labels)]), np.zeros(0))
        columns = []
        for of_one, is_one in zip(values.T, labels.T.astype(bool), strict=True):
            known = ~np.isnan(of_one)
            if len(np.unique(is_one[known])) < 2:  # only the number of tracks with the tag tells anything
                columns.append(fit_sigmoid(np.zeros(len(of_one)), is_one))
            else:
                columns.append(fit_sigmoid(of_one[known], is_one[known]))
        slope, intercept = np.array(columns, np.float64).reshape(-1, 2).T
        return cls(slope, intercept)

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of each class or tag.

        Those of classes sum up to 1, and the class with the largest value is the most probable: their softmax, of the
        values times the slope. That of a tag is ``1 / (1 + exp(-(slope * value + intercept)))``; where the value is
        NaN, that of an uninformative value.

        Parameters
        ----------
        values : ndarray [n_tracks, n_classes]

        Returns
        -------
        ndarray [n_tracks, n_classes], float64, between 0 and 1
        """
        if not len(self.intercept):
            return softmax(self.slope * _known(values))
        return sigmoid(np.where(np.isnan(values), 0, values * self.slope) + self.intercept)


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return decision values in which a class that the learner does not know is as unlikely as the least likely."""
    return np.where(np.isnan(values), np.nanmin(values, axis=1, keepdims=True), values)


def sigmoid(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``1 / (1 + exp(-value))`` in float64, without overflow."""
    small = np.exp(-np.abs(values.astype(np.float64)))
    found: NDArray[np.float64] = np.where(values >= 0, 1, small) / (1 + small)
    return found


def softmax(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the softmax of each row, in float64."""
    powers = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True, initial=-np.inf))
    found: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return found


def fit_slope(values: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the slope with which the softmax of decision values is most likely; 0 if they tell nothing.

    As in Platt's sigmoids, no target is 0 or 1, or the slope would be infinite where all tracks are told apart: of
    ``n`` tracks, the class of each has the target ``(n + 1) / (n + 2)``, and the others share the rest.

    Parameters
    ----------
    values : ndarray [n_tracks, n_classes]
        NaN where the learner knew nothing of the class. Tracks of such a class are left out.
    labels : ndarray [n_tracks]
    """
    from scipy.optimize import brentq

    of_own = values[np.arange(len(labels)), labels]
    tested = ~np.isnan(of_own)  # a learner that did not know the class of a track cannot be right about it
    known, (n, n_classes) = _known(values[tested]), values[tested].shape
    spread = float(known.std()) if n else 0.0
    if not spread > 0 or n_classes < 2:
        return 0.0
    scaled = known / spread
    target = np.full(scaled.shape, 1 / ((n + 2) * (n_classes - 1)))
    target[np.arange(n), labels[tested]] = (n + 1) / (n + 2)

    def gradient(slope: float) -> float:
        return float(((softmax(slope * scaled) - target) * scaled).sum())

    if gradient(0.0) >= 0:
        return 0.0
    highest = 1.0
    while gradient(highest) < 0 and highest < _STEEPEST:
        highest *= 2
    if highest >= _STEEPEST:
        return highest / spread
    return float(brentq(gradient, 0.0, highest, xtol=1e-12)) / spread


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
    """Return ``decision_function``, or else ``predict_proba``, by class: ndarray ``[n_tracks, n_classes]``.

    Those of pairs of classes (``decision_function_shape="ovo"``) become one for each class, see `of_pairs`.
    """
    method = getattr(estimator, "decision_function", None) or getattr(estimator, "predict_proba", None)
    classes = getattr(estimator, "classes_", None)
    if method is None or classes is None:
        return None
    found = np.asarray(method(X), np.float64)
    if found.ndim == 1 and len(classes) == 2:
        found = np.column_stack([-found, found])
    elif getattr(estimator, "decision_function_shape", None) == "ovo":
        found = of_pairs(found, len(classes))
    if found.shape != (len(X), len(classes)) or not np.isfinite(found).all():
        return None
    values = np.full((len(X), n_classes), np.nan)
    values[:, np.asarray(classes, np.int64)] = found
    return values


def of_pairs(values: NDArray[np.float64], n_classes: int) -> NDArray[np.float64]:
    """Return a decision value for each class from those of an SVM for each pair of classes: their mean over the pairs.

    If the log-odds of two classes are proportional to their decision value, so are these means to the log-probabilities
    that are closest to all log-odds (least squares); E. L. Allwein, R. E. Schapire & Y. Singer, Reducing multiclass to
    binary, JMLR 1 (2000), decode with them. The SVM predicts the class with the most votes, though: if another class
    has the largest mean, the two swap their means.

    >>> of_pairs(np.array([[0.1, 0.9, 0.5]]), 3)  # of classes 0 and 1, 0 and 2, 1 and 2
    array([[ 0.5,  0.2, -0.7]])

    Parameters
    ----------
    values : ndarray [n_tracks, n_pairs], float64
        In the order of ``numpy.triu_indices``; positive for the first class of the pair.
    n_classes : int
        At least 3.

    Returns
    -------
    ndarray [n_tracks, n_classes], float64
    """
    means, votes = np.zeros((len(values), n_classes)), np.zeros((len(values), n_classes), np.int64)
    for of_pair, first, second in zip(values.T, *np.triu_indices(n_classes, 1), strict=True):
        means[:, first] += of_pair
        means[:, second] -= of_pair
        votes[:, first] += of_pair > 0
        votes[:, second] += of_pair <= 0
    means /= n_classes - 1
    rows, largest, predicted = np.arange(len(values)), means.argmax(axis=1), votes.argmax(axis=1)
    means[rows, largest], means[rows, predicted] = means[rows, predicted], means[rows, largest]
    return means
