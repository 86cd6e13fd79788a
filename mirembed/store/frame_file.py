"""The frames of many tracks in one flat file: writing it, reading it with little memory, and the moments of its values.

The file begins with the frames of all tracks, float32 ``[total frames, n_values]``. The moments of each track follow,
float64 ``[n_tracks, 2, n_values]``: means, and sums of squared deviations.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.interruption import raise_if_interrupted
from mirembed.store.files import lock, writing

KEPT_BYTES = 8 * 2**20
"""Roughly how much of a mapped file stays in a process's memory after use."""

Runs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Runs of rows: the first row of each, ``[n]``, and the number of its rows, ``[n]``."""


@dataclass(frozen=True)
class FrameFile:
    """Where the frames of tracks are in a flat file. Small enough to send to worker processes.

    Attributes
    ----------
    path : pathlib.Path
    shape : (int, int)
        Frames and values per frame of the whole file.
    n_tracks : int
        Tracks of the whole file.
    positions : ndarray, int64
        Which track of the file each of these tracks is.
    starts, lengths : ndarray, int64
        The frames of track i are the rows ``starts[i] : starts[i] + lengths[i]``.
    """

    path: Path
    shape: tuple[int, int]
    n_tracks: int
    positions: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def at(cls, path: Path, lengths: NDArray[np.int64], n_values: int) -> FrameFile:
        """Lay out a file for tracks of ``lengths [n_tracks]`` frames, one after the other."""
        shape = (int(lengths.sum()), n_values)
        return cls(path, shape, len(lengths), np.arange(len(lengths)), np.cumsum(lengths) - lengths, lengths)

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> FrameFile:
        """Return some of the tracks, in the same file."""
        return replace(self, positions=self.positions[rows], starts=self.starts[rows], lengths=self.lengths[rows])

    @property
    def is_whole(self) -> bool:
        """Whether the file exists and has the size that it should have."""
        moment_bytes = self.n_tracks * 2 * self.shape[1] * 8
        return self.path.exists() and self.path.stat().st_size == self._frame_bytes + moment_bytes

    def write(self, pieces: Iterable[tuple[int, int, NDArray[np.float32]]]) -> None:
        """Write the file from pieces in any order.

        Parameters
        ----------
        pieces : iterable of (int, int, ndarray)
            The number of a track, a first column, and values ``[n_frames, n_columns]`` for the columns from there on.
            Frames beyond the length of the track are cut. Together, the pieces fill the file.

        Raises
        ------
        StoreWriteError
            The disk is full or the folder cannot be written.
        """
        moments = np.zeros((self.n_tracks, 2, self.shape[1]))
        with writing(self.path) as temporary, temporary.open("w+b") as file:
            file.truncate(self._frame_bytes)
            for track, column, values in pieces:
                raise_if_interrupted()
                values = values[: self.lengths[track]].astype(np.float32, copy=False)
                columns = slice(column, column + values.shape[1])
                first = int(self.starts[track]) * self.shape[1] * 4
                block = values
                if values.shape[1] < self.shape[1]:  # other pieces have the other columns
                    file.seek(first)
                    content = file.read(len(values) * self.shape[1] * 4)
                    block = np.frombuffer(content, np.float32).reshape(len(values), -1).copy()
                    block[:, columns] = values
                file.seek(first)
                file.write(block.tobytes())
                moments[track, :, columns] = _track_moments(values)
            file.seek(self._frame_bytes)
            file.write(moments.tobytes())

    def open(self) -> NDArray[np.float32]:
        """Map the frames: ndarray ``[total frames, n_values]``, read-only.

        Read it through `reading_ahead`: the process waits for every page that was not requested in advance.
        """
        frames = np.memmap(self.path, np.float32, "r", shape=self.shape)
        if mapping := _mapping(frames):
            # Around each random excerpt the system would otherwise read megabytes, as if the file were read in order.
            mapping.madvise(mmap.MADV_RANDOM)
        return frames

    def moments(self) -> Moments:
        """Read the moments of the tracks; no frame is read."""
        stored = np.fromfile(self.path, np.float64, offset=self._frame_bytes).reshape(self.n_tracks, 2, self.shape[1])
        return Moments(self.lengths, *stored[self.positions].swapaxes(0, 1))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes from deleting the file while worker processes open it again and again."""
        with self.path.open("rb") as file:
            lock(file, exclusive=False, wait=True)
            yield

    @property
    def _frame_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * 4


def delete_unused(path: Path) -> None:
    """Delete a flat file unless a process has it `FrameFile.in_use`."""
    with contextlib.suppress(OSError), path.open("r+b") as file:
        if lock(file):
            path.unlink()


def reading_ahead(frames: NDArray[np.float32], parts: Sequence[Runs]) -> Iterator[int]:
    """Yield the indices of ``parts`` in order; the caller reads each part when it gets its index.

    While the caller reads one part of a mapped file, the system reads the next in the background. Parts that were read
    leave the memory of this process, which would otherwise grow to the size of the file; the system may keep them.
    For an array in memory it only yields the indices.

    Parameters
    ----------
    frames : ndarray [total_frames, n_values]
    parts : sequence of (ndarray [n], ndarray [n])
        The first row and the number of rows of everything that is read in a part.
    """
    mapping = _mapping(frames)
    if mapping is None:
        yield from range(len(parts))
        return
    row_bytes = frames.strides[0]
    kept = 0
    for index in range(len(parts)):
        # Ask for the current part again: pages that the system has dropped since would be read one by one.
        for first, counts in parts[index : index + 2]:
            begins = first * row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            ends = np.minimum((first + counts) * row_bytes, len(mapping))
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                mapping.madvise(mmap.MADV_WILLNEED, begin, end - begin)
        yield index
        kept += int(parts[index][1].sum()) * row_bytes
        if kept >= KEPT_BYTES:
            mapping.madvise(mmap.MADV_DONTNEED)
            kept = 0
    mapping.madvise(mmap.MADV_DONTNEED)


def each_run(
    frames: NDArray[np.float32], first: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[NDArray[np.float32]]:
    """Yield runs of rows ``[counts[i], n_values]``, such as whole tracks, one after the other; see `reading_ahead`."""
    for run in reading_ahead(frames, list(zip(first[:, None], counts[:, None], strict=True))):
        yield frames[first[run] : first[run] + counts[run]]


def _mapping(frames: NDArray[np.float32]) -> mmap.mmap | None:
    """Return the mapped file that an array is a view of, or None."""
    owner: Any = frames
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner if isinstance(owner, mmap.mmap) else None


@dataclass(frozen=True)
class Moments:
    """Mean and squared deviations of every value of every track: enough for the statistics of any set of tracks.

    Attributes
    ----------
    counts : ndarray [n_tracks], int64
        Frames of each track.
    means : ndarray [n_tracks, n_values], float64
    squares : ndarray [n_tracks, n_values], float64
        Sums of squared deviations from the mean of the same track.
    """

    counts: NDArray[np.int64]
    means: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Moments:
        """Compute the moments of tracks.

        Parameters
        ----------
        frames : ndarray [total_frames, n_values]
        starts, lengths : ndarray [n_tracks]
        """
        moments = np.zeros((2, len(starts), frames.shape[1]))
        for row, track in enumerate(each_run(frames, starts, lengths)):
            moments[:, row] = _track_moments(track)
        return cls(lengths, *moments)

    def together(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and variance of each value over the frames of all tracks, each frame counting once.

        Chan, Golub & LeVeque, "Algorithms for computing the sample variance", The American Statistician 37 (1983):
        squared deviations within the tracks, plus those of the tracks' means. Unlike a difference of sums of squares
        it loses no digits where the mean is large compared to the deviation.

        Returns
        -------
        mean, variance : ndarray [n_values], float64
            The variance is the mean squared deviation.
        """
        counts = self.counts[:, None]
        total = self.counts.sum()
        mean = (counts * self.means).sum(axis=0) / total
        between = (counts * np.square(self.means - mean)).sum(axis=0)
        return mean, (self.squares.sum(axis=0) + between) / total


def _track_moments(track: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and sum of squared deviations of each column of a track ``[n_frames, n_values]``."""
    frames = np.asarray(track, np.float64)
    mean = frames.mean(axis=0)
    return mean, np.square(frames - mean).sum(axis=0)
