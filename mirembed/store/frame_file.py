"""The frames of many tracks in one flat file, and what is known of their bands.

First stand the frames of all tracks, float32 ``[total frames, n_bands]``, then the moments of each track, float64
``[n_tracks, 2, n_bands]``: means, and sums of squared deviations (`mirembed.store.moments`).
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirembed.store.files import writing
from mirembed.store.mapped import expect_random_access
from mirembed.store.moments import Moments, track_moments


@dataclass(frozen=True)
class FrameFile:
    """Where the frames of tracks lie. Small: it is what travels to worker processes.

    Attributes
    ----------
    path : pathlib.Path
    shape : (int, int)
        Frames and bands of the whole file.
    n_tracks : int
        Tracks of the whole file.
    places : ndarray, int64
        Of the tracks that are described here, which track of the file each is.
    starts, lengths : ndarray, int64
        The frames of track i are the rows ``starts[i] : starts[i] + lengths[i]``.
    """

    path: Path
    shape: tuple[int, int]
    n_tracks: int
    places: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def at(cls, path: Path, lengths: NDArray[np.int64], n_bands: int) -> FrameFile:
        """Lay out a file for tracks of ``lengths [n_tracks]`` frames, one after the other."""
        shape = (int(lengths.sum()), n_bands)
        return cls(path, shape, len(lengths), np.arange(len(lengths)), np.cumsum(lengths) - lengths, lengths)

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> FrameFile:
        """Describe some of the tracks, in the same file."""
        return replace(self, places=self.places[rows], starts=self.starts[rows], lengths=self.lengths[rows])

    @property
    def is_whole(self) -> bool:
        """Whether the file is there and has the size that it should have."""
        moment_bytes = self.n_tracks * 2 * self.shape[1] * 8
        return self.path.exists() and self.path.stat().st_size == self._frame_bytes + moment_bytes

    def write(self, tracks: Iterable[tuple[int, NDArray[np.float32]]]) -> None:
        """Write the file from every track's number and frames ``[n_frames, n_bands]``, dB, in any order.

        Raises
        ------
        StoreWriteError
            If the disk is full or the folder cannot be written.
        """
        moments = np.zeros((self.n_tracks, 2, self.shape[1]))
        with writing(self.path) as temporary, temporary.open("wb") as file:
            for track, frames in tracks:
                file.seek(int(self.starts[track]) * self.shape[1] * 4)
                file.write(frames.astype(np.float32, copy=False).tobytes())
                moments[track] = track_moments(frames)
            file.seek(self._frame_bytes)
            file.write(moments.tobytes())

    def open(self) -> NDArray[np.float32]:
        """Map the frames: ndarray ``[total frames, n_bands]``, dB, read-only.

        Read it by `mirembed.store.mapped.reading_ahead`: of what was not asked for, every page is waited for.
        """
        frames = np.memmap(self.path, np.float32, "r", shape=self.shape)
        expect_random_access(frames)
        return frames

    def moments(self) -> Moments:
        """Read the moments of the tracks; no frame is read."""
        stored = np.fromfile(self.path, np.float64, offset=self._frame_bytes).reshape(self.n_tracks, 2, self.shape[1])
        return Moments(self.lengths, *stored[self.places].swapaxes(0, 1))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes from deleting the file while worker processes open it again and again."""
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    @property
    def _frame_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * 4


def delete_unused(path: Path) -> None:
    """Delete a flat file unless a process has it `FrameFile.in_use`."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
