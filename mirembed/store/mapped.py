"""Reading from an array that may be a mapped file, and a file that memory does not hold."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT_BYTES = 8 * 2**20
"""Of a mapped file, about as much stays in a process's memory after it was used."""

Runs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Runs of rows: the first row of each, ``[n]``, and how many rows it has, ``[n]``."""


def reading_ahead(frames: NDArray[np.float32], parts: Sequence[Runs]) -> Iterator[int]:
    """Yield the numbers of ``parts``, one after the other: the caller reads the part whose number it is given.

    Of a mapped file the system reads the next part in the background meanwhile. What earlier ones used leaves the
    memory of this process, which would otherwise grow to the size of the file; the system may keep it. Any other
    array is in memory, and nothing is done.

    Parameters
    ----------
    frames : ndarray [total_frames, n_bands]
    parts : sequence of (ndarray [n], ndarray [n])
        The first row, and the number of rows, of everything that is read in a part.
    """
    mapping = _mapping(frames)
    if mapping is None:
        yield from range(len(parts))
        return
    row = frames.strides[0]
    kept = 0
    for number in range(len(parts)):
        # The present part once more: what the system had to drop meanwhile it would read page by page.
        for first, counts in parts[number : number + 2]:
            _ask_for(mapping, row, first, counts)
        yield number
        kept += int(parts[number][1].sum()) * row
        if kept >= KEPT_BYTES:
            mapping.madvise(mmap.MADV_DONTNEED)
            kept = 0
    mapping.madvise(mmap.MADV_DONTNEED)


def each_run(
    frames: NDArray[np.float32], first: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[NDArray[np.float32]]:
    """Yield runs of rows ``[counts[i], n_bands]`` one after the other, such as whole tracks; see `reading_ahead`."""
    for run in reading_ahead(frames, list(zip(first[:, None], counts[:, None], strict=True))):
        yield frames[first[run] : first[run] + counts[run]]


def expect_random_access(frames: NDArray[np.float32]) -> None:
    """Tell the system to read no more of a mapped file than it is asked for, or than a page.

    Around each random excerpt it would otherwise read as much as of a file that is read in order: megabytes.
    """
    mapping = _mapping(frames)
    if mapping is not None:
        mapping.madvise(mmap.MADV_RANDOM)


def _ask_for(mapping: mmap.mmap, row: int, first: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Have the system read rows of ``row`` bytes in the background."""
    begins = first * row // mmap.PAGESIZE * mmap.PAGESIZE
    ends = np.minimum((first + counts) * row, len(mapping))
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        mapping.madvise(mmap.MADV_WILLNEED, begin, end - begin)


def _mapping(frames: NDArray[np.float32]) -> mmap.mmap | None:
    owner: Any = frames
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner if isinstance(owner, mmap.mmap) else None
