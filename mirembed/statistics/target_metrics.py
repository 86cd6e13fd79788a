"""Metrics of targets, and the same metrics of bootstrap resamples.

Three names that papers confuse:

- r is Pearson's correlation, from -1 to 1.
- r² is its square, from 0 to 1, the "coefficient of determination" of Jakubik & Kwaśnicka. Scale, offset and
  sign of a prediction do not change it.
- R² is 1 - SS_res / SS_tot, at most 1, and below 0 for a prediction that is worse than the mean of the truth.

Truth and prediction are arrays ``[n_tracks]``, or ``[n_tracks, n_targets]``, in the dataset's own units; a metric is
float64 ``[]`` or ``[n_targets]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirembed.statistics.resampling import sums_by_unit
from mirembed.statistics.samples import checked, divided, is_constant, ranks, tie_ends

CONSTANT = 1e-14
"""A variance below this, in units of the largest deviation, is 0 up to the rounding of sums of squares."""


def pearson_r(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return Pearson's correlation, from -1 to 1; NaN if truth or prediction is constant, as a single track is."""
    truth, prediction = checked(truth, prediction)
    return _correlation(truth, prediction, is_constant(truth) | is_constant(prediction))


def spearman(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return Spearman's rank correlation, from -1 to 1; NaN if truth or prediction is constant.

    It is Pearson's correlation of the ranks; equal values share the mean of their ranks.

    Source: Spearman, The proof and measurement of association between two things, American Journal of Psychology 15,
    1904, doi 10.2307/1412159.
    """
    truth, prediction = checked(truth, prediction)
    undefined = is_constant(truth) | is_constant(prediction)
    return _correlation(ranks(truth), ranks(prediction), undefined)


def r_squared(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return r², the square of `pearson_r`, from 0 to 1, and NaN where that is. Not R², which is `r2_score`."""
    return pearson_r(truth, prediction) ** 2


def r2_score(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return R² = 1 - SS_res / SS_tot, at most 1; NaN if the truth is constant."""
    truth, prediction = checked(truth, prediction)
    residual = np.sum((truth - prediction) ** 2, axis=0)
    total = np.sum((truth - truth.mean(axis=0)) ** 2, axis=0)
    return 1 - divided(residual, np.where(is_constant(truth), 0, total))


def rmse(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return the root of the mean squared error, at least 0, in the units of the target."""
    truth, prediction = checked(truth, prediction)
    return np.asarray(np.sqrt(np.mean((truth - prediction) ** 2, axis=0)))


def mae(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return the mean absolute error, at least 0, in the units of the target."""
    truth, prediction = checked(truth, prediction)
    return np.asarray(np.mean(np.abs(truth - prediction), axis=0))


def ccc(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return the concordance correlation coefficient, from -1 to 1; NaN if the truth is constant.

    It is 2 cov(x, y) / (var(x) + var(y) + (mean(x) - mean(y))²), with moments that divide by the number of tracks:
    r, reduced by every difference in mean and deviation. A constant prediction has 0. Of a constant truth, the formula
    would give 0 whatever the prediction.

    Source: Lin, A Concordance Correlation Coefficient to Evaluate Reproducibility, Biometrics 45, 1989,
    doi 10.2307/2532051.
    """
    truth, prediction = checked(truth, prediction)
    undefined = is_constant(truth)
    x, y = truth - truth.mean(axis=0), prediction - prediction.mean(axis=0)
    unit = np.where(undefined, 1, np.abs(x).max(axis=0))  # so that no square underflows
    x, y, bias = x / unit, y / unit, (truth.mean(axis=0) - prediction.mean(axis=0)) / unit
    spread = np.mean(x**2, axis=0) + np.mean(y**2, axis=0) + bias**2
    return divided(2 * np.mean(x * y, axis=0), np.where(undefined, 0, spread))


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64], undefined: NDArray[np.bool_]) -> NDArray[np.float64]:
    r = np.sum(_standardized(x) * _standardized(y), axis=0)
    return np.where(undefined, np.nan, np.clip(r, -1, 1))


def _standardized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale each column to mean 0 and norm 1; a column without any difference is 0."""
    span = np.ptp(values, axis=0)
    deviations = (values - values.mean(axis=0)) / np.where(span > 0, span, 1)  # so that no square underflows
    norm = np.linalg.norm(deviations, axis=0)
    return np.asarray(deviations / np.where(norm > 0, norm, 1))


class Moments(NamedTuple):
    """Of resamples, each ``[n_resamples, n_targets]``: x is the truth and y the prediction, in units of their own."""

    variance_x: NDArray[np.float64]
    variance_y: NDArray[np.float64]
    covariance: NDArray[np.float64]
    squared_error: NDArray[np.float64]
    absolute_error: NDArray[np.float64]
    error: NDArray[np.float64]
    unit_x: NDArray[np.float64]
    unit_y: NDArray[np.float64]


def moments(
    truth: NDArray[np.float64], prediction: NDArray[np.float64], units: NDArray[np.int64], n_units: int
) -> Callable[[NDArray[np.float64]], Moments]:
    """Prepare the moments of resamples.

    They are in units in which the largest deviation of x, and of y, is 1, so that no square underflows; errors are in
    the units of x.
    """
    x, y = truth - truth.mean(axis=0), prediction - prediction.mean(axis=0)
    unit_x, unit_y = (np.where(is_constant(v), 1, np.abs(v).max(axis=0)) for v in (x, y))
    error = (truth - prediction) / unit_x
    x, y = x / unit_x, y / unit_y
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, error**2, np.abs(error), error], axis=1)
    of_resamples = sums_by_unit(terms, units, n_units)

    def compute(counts: NDArray[np.float64]) -> Moments:
        n, *sums = np.moveaxis(of_resamples(counts), 1, 0)
        x, y, xx, yy, xy, squared, absolute, signed = (divided(one, n) for one in sums)
        variance_x, variance_y = xx - x**2, yy - y**2
        variance_x, variance_y = (np.where(v <= CONSTANT, 0, v) for v in (variance_x, variance_y))
        return Moments(variance_x, variance_y, xy - x * y, squared, absolute, signed, unit_x, unit_y)

    return compute


def resampled_r(m: Moments) -> NDArray[np.float64]:
    """Return r of each resample and target."""
    return np.clip(divided(m.covariance, np.sqrt(m.variance_x * m.variance_y)), -1, 1)


def resampled_r_squared(m: Moments) -> NDArray[np.float64]:
    """Return r² of each resample and target."""
    return resampled_r(m) ** 2


def resampled_r2(m: Moments) -> NDArray[np.float64]:
    """Return R² of each resample and target."""
    return 1 - divided(m.squared_error, m.variance_x)


def resampled_rmse(m: Moments) -> NDArray[np.float64]:
    """Return the root mean squared error of each resample and target."""
    return np.asarray(np.sqrt(m.squared_error) * m.unit_x)


def resampled_mae(m: Moments) -> NDArray[np.float64]:
    """Return the mean absolute error of each resample and target."""
    return np.asarray(m.absolute_error * m.unit_x)


def resampled_ccc(m: Moments) -> NDArray[np.float64]:
    """Return the concordance correlation coefficient of each resample and target."""
    scale = m.unit_y / m.unit_x
    spread = m.variance_x + m.variance_y * scale**2 + m.error**2
    return divided(2 * m.covariance * scale, np.where(m.variance_x > 0, spread, 0))


def rank_correlations(
    truth: NDArray[np.float64], prediction: NDArray[np.float64], units: NDArray[np.int64], n_units: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Prepare Spearman's correlation of resamples, ``[n_resamples, n_targets]``.

    Ranks are those within the resample. They are exact, as sums of counts and their halves are.
    """
    columns = range(truth.shape[1])
    ranked = [[_ranks_in_resamples(values[:, c], units) for values in (truth, prediction)] for c in columns]
    undefined = is_constant(truth) | is_constant(prediction)

    def compute(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = counts[:, units]  # [n_resamples, n]
        found = np.full((len(counts), truth.shape[1]), np.nan)
        for column in np.flatnonzero(~undefined):
            x, y = (of_counts(counts) for of_counts in ranked[column])
            xy, xx, yy = (np.einsum("bn,bn,bn->b", weights, one, other) for one, other in ((x, y), (x, x), (y, y)))
            found[:, column] = np.clip(divided(xy, np.sqrt(xx * yy)), -1, 1)
        return found

    return compute


def _ranks_in_resamples(
    values: NDArray[np.float64], units: NDArray[np.int64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Prepare the rank of each value in resamples, less the mean rank: counts to ``[n_resamples, n]``."""
    order = np.argsort(values, kind="stable")
    first, last = tie_ends(values[order])
    position = np.empty(len(values), np.int64)
    position[order] = np.arange(len(values))
    first, last, sorted_units = first[position], last[position], units[order]

    def compute(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        up_to = np.zeros((len(counts), len(values) + 1))
        np.cumsum(counts[:, sorted_units], axis=1, out=up_to[:, 1:])
        centered: NDArray[np.float64] = (up_to[:, first] + up_to[:, last + 1] - up_to[:, -1:]) / 2
        return centered

    return compute


def same(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return statistics that are the metric itself."""
    return statistics
