"""Bootstrap resamples: how often each one draws each unit, and sums over what it draws.

A *unit* is what is drawn as a whole: a track, or a group of tracks. A resample is the number of times that each unit is
drawn, so a metric of many resamples can be computed at once, from weighted sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
"""Number of resamples of an interval."""

_AT_ONCE = 2**18
"""Largest number of counts in memory at once; so many fit into a processor's cache."""


@dataclass(frozen=True)
class Resampling:
    """How a metric of many resamples is computed at once.

    Attributes
    ----------
    prepare : callable
        Truth and prediction ``[n, n_columns]``, the unit of each row ``[n]`` and the number of units, to a function. It
        turns how often each of some resamples draws each unit, float64 ``[n_resamples, n_units]``, into statistics.
        Several metrics may share it.
    metric : callable
        Those statistics to the metric: ``[n_resamples, n_columns]``, or ``[n_resamples]`` of all columns together; NaN
        where it is undefined.
    """

    prepare: Callable[
        [NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], int], Callable[[NDArray[np.float64]], Any]
    ]
    metric: Callable[[Any], NDArray[np.float64]]


def resample_counts(n_units: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """Yield how often each resample draws each unit: ndarrays ``[n_resamples, n_units]``, float64.

    Each resample draws ``n_units`` units with replacement. The same call yields the same counts.
    """
    rng = np.random.default_rng(seed)
    size = max(1, _AT_ONCE // n_units)
    for start in range(0, resamples, size):
        n = min(size, resamples - start)
        bins = rng.integers(0, n_units, (n, n_units)) + n_units * np.arange(n)[:, None]
        yield np.bincount(bins.ravel(), minlength=n * n_units).reshape(n, n_units).astype(np.float64)


def sums_by_unit(
    terms: NDArray[np.float64], units: NDArray[np.int64], n_units: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Prepare sums over the rows that resamples draw.

    Parameters
    ----------
    terms : ndarray [n, ...], float64
    units : ndarray [n], int64
        The unit of each row; a unit may have several rows, or none.
    n_units : int

    Returns
    -------
    callable
        Counts ``[n_resamples, n_units]`` to sums ``[n_resamples, ...]``.
    """
    sums = np.zeros((n_units, *terms.shape[1:]))
    np.add.at(sums, units, terms)
    flat = sums.reshape(n_units, -1)
    return lambda counts: (counts @ flat).reshape(len(counts), *terms.shape[1:])
