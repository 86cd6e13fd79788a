"""The metrics of predictions, and one table of them: `METRICS`.

Conventions
-----------
Truth comes first, prediction second; both are one-dimensional arrays of the same length with a value for each track,
regression targets in the dataset's own units. A metric is one number for one fold (or all folds pooled)
and one target. Where a metric is undefined it is 0, never NaN; `Metric.is_defined` tells the cases apart, so that a
caller can count and report them.

Three names that papers confuse:

- r is Pearson's correlation, from -1 to 1.
- r² is its square, from 0 to 1, the "coefficient of determination" of Jakubik & Kwaśnicka. Scale, offset and
  sign of a prediction do not change it.
- R² is 1 - SS_res / SS_tot, at most 1, and below 0 for a prediction that is worse than the mean of the truth.

All metrics raise `EvaluationError` for arrays that are empty, differ in shape or are not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirembed.errors import EvaluationError
from mirembed.hookspecs import Classification, Regression, Task

ROUNDING = 1e-13
"""Relative to its largest value, the range below which an array counts as constant."""

CONSTANT = 1e-14
"""A variance below this, in units of the largest deviation, is 0 up to the rounding of sums of squares."""


def accuracy(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Return the fraction of tracks with the right class, from 0 to 1.

    Parameters
    ----------
    truth, prediction : array [n_tracks], int
        Class indices.
    """
    truth, prediction = _validate(truth, prediction)
    return float(np.mean(truth == prediction))


def macro_f1(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Return the unweighted mean of the F1 scores of the classes, from 0 to 1.

    The mean runs over the classes that occur in truth or prediction, as scikit-learn's ``f1_score`` with
    ``average="macro"`` does. The F1 score of a class that occurs in neither is 0/0: to count it as 0 would
    penalize a prediction for a class that a small fold happens to lack. A class that is predicted but not true,
    or true but never predicted, scores 0.

    Parameters
    ----------
    truth, prediction : array [n_tracks], int
        Class indices.
    """
    truth, prediction = _validate(truth, prediction)
    classes = np.union1d(truth, prediction)
    is_true = truth[:, None] == classes  # [n_tracks, n_classes]
    is_predicted = prediction[:, None] == classes
    hits = np.sum(is_true & is_predicted, axis=0)
    return float(np.mean(2 * hits / (is_true.sum(axis=0) + is_predicted.sum(axis=0))))


def pearson_r(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Return Pearson's correlation, from -1 to 1; 0 where it is not defined (see `pearson_r_defined`).

    Parameters
    ----------
    truth, prediction : array [n_tracks], float
    """
    truth, prediction = _validate(truth, prediction)
    if is_constant(truth) or is_constant(prediction):
        return 0.0
    return float(np.clip(_standardized(truth) @ _standardized(prediction), -1, 1))


def pearson_r_defined(truth: ArrayLike, prediction: ArrayLike) -> bool:
    """Return whether r is defined: neither array is constant, up to float64 rounding. A single track is constant.

    Parameters
    ----------
    truth, prediction : array [n_tracks], float
    """
    return not any(is_constant(values) for values in _validate(truth, prediction))


def r_squared(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Return r², the square of `pearson_r`, from 0 to 1. Not R², which is `r2_score`.

    Parameters
    ----------
    truth, prediction : array [n_tracks], float
    """
    return pearson_r(truth, prediction) ** 2


def r2_score(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Return R² = 1 - SS_res / SS_tot, at most 1; 0 for a constant truth, where it is undefined.

    Parameters
    ----------
    truth, prediction : array [n_tracks], float
    """
    truth, prediction = _validate(truth, prediction)
    if is_constant(truth):
        return 0.0
    residual = np.sum((truth - prediction) ** 2)
    return float(1 - residual / np.sum((truth - truth.mean()) ** 2))


def r2_defined(truth: ArrayLike, prediction: ArrayLike) -> bool:
    """Return whether R² is defined: the truth is not constant, up to float64 rounding. A single track is constant.

    Parameters
    ----------
    truth, prediction : array [n_tracks], float
    """
    truth, _ = _validate(truth, prediction)
    return not is_constant(truth)


def _validate(truth: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as float64, which represents class indices exactly."""
    truth, prediction = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != prediction.shape or not truth.size:
        raise EvaluationError(
            f"truth has shape {truth.shape}, prediction {prediction.shape}: expected one value per track"
        )
    for name, values in (("truth", truth), ("prediction", prediction)):
        if bad := int(np.count_nonzero(~np.isfinite(values))):
            raise EvaluationError(f"{name}: {bad} of {values.size} values are not finite numbers")
    return truth, prediction


def is_constant(values: NDArray[np.float64]) -> bool:
    """Return whether the values are the same up to float64 rounding."""
    return bool(np.ptp(values) <= ROUNDING * np.abs(values).max())


def _standardized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale values, which are not constant, to mean 0 and norm 1."""
    deviations: NDArray[np.float64] = (values - values.mean()) / np.ptp(values)  # so that no square underflows
    return deviations / np.linalg.norm(deviations)


@dataclass(frozen=True)
class Resampling:
    """How a metric of many bootstrap resamples is computed at once, from sums over tracks.

    The sums of the resamples are a product of two matrices: how often each resample drew each track, and the sums of
    each track. A thousand resamples take about as long as one does otherwise.

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


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics: all that the rest of mirembed needs to know about a metric.

    Attributes
    ----------
    name : str
        In JSON, CSV and code: ``macro_f1``.
    label, title : str
        In tables and figures: ``r``; and at the start of a title: ``Pearson's r``.
    task : type
        `Classification` or `Regression`.
    function : callable
        Truth and prediction ``[n_tracks]`` to a float.
    resampled : Resampling
        The same metric of many bootstrap resamples at once.
    range : (float, float)
        The lowest and the highest possible value.
    is_defined : callable or None
        Truth and prediction to whether the metric is defined; where it is not, ``function`` returns 0. None: always.
    undefined : str
        When the metric is undefined, as messages say it: ``constant truth``.
    higher_is_better : bool
    compared : bool
        Whether `mirembed.compare` tests differences of it.
    own_table : str
        The name of the table in reports that shows this metric alone, for each target; empty: there is none.
    remark : str
        A sentence or two for the caption of that table.
    """

    name: str
    label: str
    title: str
    task: type[Task]
    function: Callable[[NDArray[Any], NDArray[Any]], float]
    resampled: Resampling
    range: tuple[float, float]
    is_defined: Callable[[NDArray[Any], NDArray[Any]], bool] | None = None
    undefined: str = ""
    higher_is_better: bool = True
    compared: bool = True
    own_table: str = ""
    remark: str = ""


METRICS = (
    Metric("accuracy", "accuracy", "Accuracy", Classification, accuracy, Resampling(_class_sums, _accuracy), (0, 1)),
    Metric("macro_f1", "macro-F1", "Macro-F1", Classification, macro_f1, Resampling(_class_sums, _macro_f1), (0, 1)),
    Metric(
        "r",
        "r",
        "Pearson's r",
        Regression,
        pearson_r,
        Resampling(_target_sums, _r),
        (-1, 1),
        is_defined=pearson_r_defined,
        undefined="constant truth or prediction",
    ),
    Metric(
        "r_squared",
        "r²",
        "r²",
        Regression,
        r_squared,
        Resampling(_target_sums, lambda sums: _r(sums) ** 2),
        (0, 1),
        is_defined=pearson_r_defined,
        undefined="constant truth or prediction",
        compared=False,
        own_table="scores-squared",
        remark="The paper's coefficient of determination. Significance is tested for r, so no best is marked here.",
    ),
    Metric(
        "r2",
        "R²",
        "R²",
        Regression,
        r2_score,
        Resampling(_target_sums, _r2),
        (-math.inf, 1),
        is_defined=r2_defined,
        undefined="constant truth",
        compared=False,
    ),
)
"""Every metric, the headline of each task first."""


def metrics_for(task: Task) -> tuple[Metric, ...]:
    """Return the metrics of a task, the headline first.

    >>> [metric.name for metric in metrics_for(Classification(("blues", "jazz")))]
    ['accuracy', 'macro_f1']
    """
    return tuple(metric for metric in METRICS if isinstance(task, metric.task))


def headline(task: Task) -> Metric:
    """Return the main metric of a task: accuracy for classification, r for regression."""
    return metrics_for(task)[0]


def metric_named(name: str) -> Metric:
    """Return a metric by its name.

    >>> metric_named("macro_f1").label
    'macro-F1'
    """
    return next(metric for metric in METRICS if metric.name == name)
