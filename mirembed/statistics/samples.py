"""Arrays of truth and prediction: their checks, and what metrics share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirembed.errors import EvaluationError

ROUNDING = 1e-13
"""Relative to its largest value, the range below which an array counts as constant."""


def checked(truth: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return truth and prediction as float64, which represents class indices exactly.

    Parameters
    ----------
    truth, prediction : array [n_tracks] or [n_tracks, n_columns]

    Raises
    ------
    EvaluationError
        They are empty, differ in shape, or have values that are not finite.
    """
    truth, prediction = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if truth.ndim not in (1, 2) or truth.shape != prediction.shape or not truth.size:
        raise EvaluationError(
            f"truth has shape {truth.shape}, prediction {prediction.shape}: expected one value per track and column"
        )
    for name, values in (("truth", truth), ("prediction", prediction)):
        if bad := int(np.count_nonzero(~np.isfinite(values))):
            raise EvaluationError(f"{name}: {bad} of {values.size} values are not finite numbers")
    return truth, prediction


def is_constant(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether the values of each column are the same up to float64 rounding.

    Parameters
    ----------
    values : ndarray [n, ...], float64

    Returns
    -------
    ndarray [...], bool
    """
    return np.asarray(np.ptp(values, axis=0) <= ROUNDING * np.abs(values).max(axis=0))


def nan_mean(values: NDArray[np.float64], axis: int | None = None) -> NDArray[np.float64]:
    """Return the mean of the values that are not NaN; NaN where there are none.

    >>> nan_mean(np.array([[1.0, np.nan], [3.0, np.nan]]), axis=0)
    array([ 2., nan])
    """
    return divided(np.nansum(values, axis=axis), np.sum(~np.isnan(values), axis=axis))


def divided(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """Divide element by element; the result is NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(*(np.asarray(one, np.float64) for one in (numerator, denominator)))
    quotient: NDArray[np.float64]
    quotient = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)
    return quotient


def tie_ends(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last row with the same value, for each row of sorted columns.

    Parameters
    ----------
    values : ndarray [n, ...], float64
        Sorted along the first axis.

    Returns
    -------
    first, last : ndarray [n, ...], int64

    >>> first, last = tie_ends(np.array([0.1, 0.5, 0.5, 0.9]))
    >>> first.tolist(), last.tolist()
    ([0, 1, 1, 3], [0, 2, 2, 3])
    """
    n = len(values)
    rows = np.arange(n).reshape(-1, *[1] * (values.ndim - 1))
    changes = np.ones((n + 1, *values.shape[1:]), bool)
    changes[1:-1] = values[1:] != values[:-1]
    first = np.maximum.accumulate(np.where(changes[:-1], rows, 0), axis=0)
    last = np.minimum.accumulate(np.where(changes[1:], rows, n)[::-1], axis=0)[::-1]
    return first, last


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value in its column, from 1; equal values share the mean of their ranks.

    Parameters
    ----------
    values : ndarray [n, ...], float64

    >>> ranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    order = np.argsort(values, axis=0)
    first, last = tie_ends(np.take_along_axis(values, order, axis=0))
    found = np.empty(values.shape)
    np.put_along_axis(found, order, (first + last) / 2 + 1, axis=0)
    return found
