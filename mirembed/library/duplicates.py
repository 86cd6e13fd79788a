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

from mirembed.library.distances import near_pairs

if TYPE_CHECKING:
    from mirembed.library.collection import Collection

COPY = 0.15
"""Largest distance of the embeddings of copies, in units of `Collection.typical_distance`."""

COPY_SECONDS = 1.0
"""Largest difference between the durations of copies that only their embeddings show."""


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
    nearest = COPY * collection.typical_distance
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
    near = distances <= COPY * collection.typical_distance
    near &= np.abs(collection.durations[rows] - duration) <= COPY_SECONDS
    same = [audio_hash is not None and collection.audio_hashes[row] == audio_hash for row in rows]
    return near | np.array(same, np.bool_)


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
