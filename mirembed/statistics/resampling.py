"""Metrics of many bootstrap resamples of the tracks at once.

Each metric here is a function of sums over tracks, and the sums of a resample are a product of two matrices: how
often it drew each track, and the sums of each track. A thousand resamples take about as long as one does otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONSTANT = 1e-14
"""A variance below this, in units of the largest deviation, is 0 up to the rounding of sums of squares."""


@dataclass(frozen=True)
class Resampling:
    """How a metric is computed from sums over tracks.

    Attributes
    ----------
    sums : callable
        Truth and prediction, each ``[n]`` (class indices, or values of a target), to the terms of the sums
        ``[n, n_sums]``.
    metric : callable
        Sums ``[..., n_sums]`` to the metric ``[...]``.
    """

    sums: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
    metric: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def prepare(
        self, truth: NDArray[Any], prediction: NDArray[Any], tracks: NDArray[np.int64], n_tracks: int
    ) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
        """Add up the sums of each track, and return the function that computes the metric of resamples.

        Parameters
        ----------
        truth, prediction : ndarray [n], class indices or values of a target
        tracks : ndarray [n], int64
            The number of the track of each prediction; a track may have several predictions, or none.
        n_tracks : int

        Returns
        -------
        callable
            Drawn tracks ``[n_resamples, n_drawn]``, int64, to the metric of each resample ``[n_resamples]``, float64;
            NaN for a resample without predictions.
        """
        terms = self.sums(truth, prediction)
        sums = np.zeros((n_tracks, terms.shape[1]))
        np.add.at(sums, tracks, terms)
        n_predictions = np.bincount(tracks, minlength=n_tracks)

        def resample(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
            bins = drawn + n_tracks * np.arange(len(drawn))[:, None]
            counts = np.bincount(bins.ravel(), minlength=len(drawn) * n_tracks).reshape(len(drawn), n_tracks)
            values = np.full(len(drawn), np.nan)
            some = counts @ n_predictions > 0
            values[some] = self.metric(counts[some] @ sums)
            return values

        return resample


def _class_sums(truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.float64]:
    """Return hits, labels and predictions of each class: ndarray ``[n, 3 * n_classes]``."""
    classes = np.union1d(truth, prediction)
    is_true, is_predicted = truth[:, None] == classes, prediction[:, None] == classes
    return np.concatenate([is_true & is_predicted, is_true, is_predicted], axis=1).astype(np.float64)


def _accuracy(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    hits, labels, _ = np.split(sums, 3, axis=-1)
    accuracy: NDArray[np.float64] = hits.sum(axis=-1) / labels.sum(axis=-1)
    return accuracy


def _macro_f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    hits, labels, predictions = np.split(sums, 3, axis=-1)
    occurs = labels + predictions > 0
    f1 = 2 * hits / np.where(occurs, labels + predictions, 1)
    mean: NDArray[np.float64] = f1.sum(axis=-1) / occurs.sum(axis=-1)
    return mean


def _target_sums(truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.float64]:
    """Return count, moments of truth x and prediction y about their means, and squared error: ndarray ``[n, 7]``.

    All are in units in which the largest deviation of x, and of y, is 1, so that no square underflows.
    """
    x, y = truth - truth.mean(), prediction - prediction.mean()
    unit_x, unit_y = np.abs(x).max() or 1.0, np.abs(y).max() or 1.0
    error = (truth - prediction) / unit_x
    x, y = x / unit_x, y / unit_y
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, error**2], axis=1)


def _moments(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return variances of truth and prediction, their covariance, and the mean squared error."""
    n, x, y, xx, yy, xy, error = np.moveaxis(sums, -1, 0)
    x, y = x / n, y / n
    variance_x, variance_y = xx / n - x**2, yy / n - y**2
    return (
        np.where(variance_x > CONSTANT, variance_x, 0),
        np.where(variance_y > CONSTANT, variance_y, 0),
        xy / n - x * y,
        error / n,
    )


def _r(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    variance_x, variance_y, covariance, _ = _moments(sums)
    product = variance_x * variance_y
    r = np.where(product > 0, covariance / np.sqrt(np.where(product > 0, product, 1)), 0)
    return np.clip(r, -1, 1)


def _r2(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    variance_x, _, _, error = _moments(sums)
    return np.where(variance_x > 0, 1 - error / np.where(variance_x > 0, variance_x, 1), 0)


ACCURACY = Resampling(_class_sums, _accuracy)
MACRO_F1 = Resampling(_class_sums, _macro_f1)
R = Resampling(_target_sums, _r)
R_SQUARED = Resampling(_target_sums, lambda sums: _r(sums) ** 2)
R2 = Resampling(_target_sums, _r2)
