"""Copies of one recording in a library: which tracks sound the same, cheaply by what is stored.

Copies have equal bytes, equal decoded samples, or embeddings that are much nearer to each other than those of different
tracks usually are. How near that is depends on the model and on the library, so distances are measured in units of the
library's own: the median distance from a track to its fourth nearest, which a few copies of a track hardly change.

Measured on 32 clips of GTZAN and Emotify in 18 versions each, among 120 clips, with three models (``rbf-sl``,
``cosine-sl``, ``nn``), in these units: transcodes to MP3, Ogg Vorbis and Opus at usual bit rates, and other sampling
rates, are 0.01 to 0.2 apart, versions trimmed by half a second 0.02 to 0.25 (one 0.7), and the nearest two different
clips 0.38, 0.31 and 0.22. A change of level by 6 dB moves an embedding by more than 1: such copies are not near.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mirembed.library.collection import Collection

COPY = 0.15
"""Largest distance of the embeddings of copies, in units of `typical_distance`."""

COPY_SECONDS = 1.0
"""Largest difference between the durations of copies that only their embeddings show."""

_SAMPLE = 64
"""Tracks whose distances are measured for `typical_distance`."""

_NEAREST = 4
"""The neighbor to which they are measured: a track with up to three copies has another one there."""

_BLOCK = 128
"""Tracks that are compared with all others at a time: 50 MB at 100 000 tracks."""


def copy_groups(collection: Collection, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Group tracks that are copies of one recording, without decoding anything.

    Parameters
    ----------
    collection : Collection
    rows : sequence of int
        Of the collection.

    Returns
    -------
    ndarray [n_rows], int64
        Copies have the same number: the place among ``rows`` of the first of them.
    """
    rows = np.asarray(rows, np.int64)
    links = list(equal_pairs([collection.recordings[row] for row in rows]))
    links += equal_pairs([collection.audio_hashes[row] for row in rows])
    nearest = COPY * typical_distance(collection.vectors)
    seconds = collection.durations[rows]
    for one, other, _ in near_pairs(collection.vectors[rows], nearest):
        close = np.abs(seconds[one] - seconds[other]) <= COPY_SECONDS  # False where a duration is unknown
        links += zip(one[close].tolist(), other[close].tolist(), strict=True)
    return linked(len(rows), links)


def copies_of(
    collection: Collection,
    rows: Sequence[int] | NDArray[np.int64],
    vector: NDArray[np.float32],
    duration: float,
    audio_hash: str | None = None,
) -> NDArray[np.bool_]:
    """Say which tracks are copies of a recording that need not be in the collection.

    Parameters
    ----------
    collection : Collection
    rows : sequence of int
        Of the collection.
    vector : ndarray [units]
        The embedding of the recording.
    duration : float
        Its length in seconds; NaN if it is unknown.
    audio_hash : str, optional
        The digest of its samples.

    Returns
    -------
    ndarray [n_rows], bool
    """
    rows = np.asarray(rows, np.int64)
    distances = np.linalg.norm(collection.vectors[rows] - vector, axis=1)
    near = distances <= COPY * typical_distance(collection.vectors)
    near &= np.abs(collection.durations[rows] - duration) <= COPY_SECONDS
    same = [audio_hash is not None and collection.audio_hashes[row] == audio_hash for row in rows]
    return near | np.array(same, np.bool_)


def typical_distance(vectors: NDArray[np.float32]) -> float:
    """Return the median distance from a track to its fourth nearest, of 64 tracks; 0 if there is only one track.

    Parameters
    ----------
    vectors : ndarray [n_tracks, units]
    """
    if len(vectors) < 2:
        return 0.0
    center = vectors.mean(axis=0)
    sample = vectors[np.unique(np.linspace(0, len(vectors) - 1, _SAMPLE).astype(int))] - center
    others = vectors - center
    squares = _squared_distances(sample, others)
    place = min(_NEAREST, len(vectors) - 1)  # a track is its own nearest
    return float(np.median(np.sqrt(np.partition(squares, place, axis=1)[:, place])))


def near_pairs(
    vectors: NDArray[np.float32], distance: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Yield all pairs of tracks that are at most this far apart, block by block, each pair in both orders.

    Parameters
    ----------
    vectors : ndarray [n_tracks, units]
    distance : float

    Yields
    ------
    one, other : ndarray [n_pairs], int64
        Rows of ``vectors``; those in ``one`` increase from block to block.
    distances : ndarray [n_pairs], float64
    """
    centered = vectors - vectors.mean(axis=0) if len(vectors) else vectors  # smaller numbers, smaller rounding
    # Of sums of squares in float32: a pair that might be near is measured again below.
    rounding = 1e-5 * float(np.einsum("ij,ij->i", centered, centered).max(initial=0))
    for start in range(0, len(vectors), _BLOCK):
        block = _squared_distances(centered[start : start + _BLOCK], centered)
        one, other = np.nonzero(block <= distance**2 + rounding)
        one += start
        one, other = one[one != other], other[one != other]
        distances = np.linalg.norm(vectors[one].astype(np.float64) - vectors[other], axis=1)
        near = distances <= distance
        yield one[near], other[near], distances[near]


def _squared_distances(block: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared distances ``[n_block, n_others]``; rounding may make those of equal vectors differ from 0."""
    squares = block @ others.T
    squares *= -2
    squares += np.einsum("ij,ij->i", others, others)
    squares += np.einsum("ij,ij->i", block, block)[:, None]
    return np.maximum(squares, 0, out=squares)


def equal_pairs(values: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """Yield the place of each value that occurred before, with the place of its first occurrence; None equals nothing.

    >>> list(equal_pairs(["a", "b", "a", None, "a", None]))
    [(0, 2), (0, 4)]
    """
    first: dict[Hashable, int] = {}
    for place, value in enumerate(values):
        if value is not None and first.setdefault(value, place) != place:
            yield first[value], place


def linked(n: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Return for each of ``n`` things the first of those that links connect it with, directly or through others.

    >>> linked(5, [(3, 1), (4, 3)]).tolist()
    [0, 1, 2, 1, 1]
    """
    first = list(range(n))

    def root(thing: int) -> int:
        while first[thing] != thing:
            first[thing] = thing = first[first[thing]]
        return thing

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        first[high] = low
    return np.array([root(thing) for thing in range(n)], np.int64)
