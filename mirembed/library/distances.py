"""Distances between the embeddings of a large library: exact, block by block, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 32
"""Tracks from which `typical_distance` measures."""

_NEAREST = 4
"""The neighbor to which it measures: even for a track with three copies, this is a different recording."""

FEWEST = 16
"""With fewer tracks, the fourth nearest one may not be near at all."""

_BLOCK = 128
"""Tracks that are compared with all others at once; this takes 50 MB for 100 000 tracks."""

_PAIRS = 2**16
"""Pairs that are measured at a time: 200 MB for embeddings of 128 units."""

_ROUNDING = 1e-5
"""Bound on the rounding errors of squared distances in float32, relative to the largest squared length of a vector.

It is a hundred times the error that was measured.
"""


def typical_distance(vectors: NDArray[np.float32]) -> float:
    """Return the median distance from a track to its fourth nearest one, over 32 tracks; 0 if there are too few tracks.

    Parameters
    ----------
    vectors : ndarray [n_tracks, units]
    """
    if len(vectors) < FEWEST:
        return 0.0
    sample, others = _factors(vectors)
    squares = sample[np.unique(np.linspace(0, len(vectors) - 1, _SAMPLE).astype(int))] @ others.T
    place = min(_NEAREST, len(vectors) - 1)  # the nearest one to a track is itself
    return float(np.median(np.sqrt(np.maximum(np.partition(squares, place, axis=1)[:, place], 0))))


def near_pairs(
    vectors: NDArray[np.float32], distance: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Yield all pairs of tracks within a distance, block by block.

    Parameters
    ----------
    vectors : ndarray [n_tracks, units]
    distance : float

    Yields
    ------
    first, second : ndarray [n_pairs], int64
        Rows of ``vectors``; ``first`` is smaller than ``second``, and does not occur in later blocks.
    distances : ndarray [n_pairs], float64
    """
    if len(vectors) < 2:
        return
    some, others = _factors(vectors)
    # A pair that may be near is measured again in float64.
    bound = distance**2 + _ROUNDING * float(some[:, -2].max())
    for start in range(0, len(vectors), _BLOCK):
        near = some[start : start + _BLOCK] @ others[start:].T <= bound  # [n_block, n_others]
        first, second = (places + start for places in np.nonzero(near))
        later = first < second
        first, second = first[later], second[later]
        # Where an embedding separates little, a block may have millions of pairs.
        parts = (slice(part, part + _PAIRS) for part in range(0, len(first), _PAIRS))
        differences = (vectors[first[part]].astype(np.float64) - vectors[second[part]] for part in parts)
        distances = np.concatenate([np.linalg.norm(one, axis=1) for one in differences] or [np.zeros(0)])
        near = distances <= distance
        yield first[near], second[near], distances[near]


def _factors(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two arrays ``[n, units + 2]``: the product of a row of each is the squared distance of two vectors."""
    centered = vectors - vectors.mean(axis=0)  # smaller numbers, smaller rounding
    squares = np.einsum("ij,ij->i", centered, centered)[:, None]
    ones = np.ones_like(squares)
    return np.hstack([-2 * centered, squares, ones]), np.hstack([centered, ones, squares])
