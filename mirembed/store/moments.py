"""What is known of the bands of each track: enough for the statistics of any set of tracks, without their frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirembed.store.mapped import each_run


@dataclass(frozen=True)
class Moments:
    """Mean and squared deviations of every band of every track.

    Attributes
    ----------
    counts : ndarray [n_tracks], int64
        Frames of each track.
    means : ndarray [n_tracks, n_bands], float64, dB
    squares : ndarray [n_tracks, n_bands], float64, dB²
        Sums of squared deviations from the mean of the same track.
    """

    counts: NDArray[np.int64]
    means: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Moments:
        """Take the moments of tracks.

        Parameters
        ----------
        frames : ndarray [total_frames, n_bands], dB
        starts, lengths : ndarray [n_tracks]
        """
        moments = np.zeros((2, len(starts), frames.shape[1]))
        for row, track in enumerate(each_run(frames, starts, lengths)):
            moments[:, row] = track_moments(track)
        return cls(lengths, *moments)

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> Moments:
        """Return the moments of some of the tracks."""
        return Moments(self.counts[rows], self.means[rows], self.squares[rows])

    def together(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and variance of each band over the frames of all tracks, each frame counting once.

        Chan, Golub & LeVeque, "Algorithms for computing the sample variance", The American Statistician 37 (1983):
        squared deviations within the tracks, and of the tracks' means. Unlike a difference of sums of squares it
        loses no digits where the mean is large beside the deviation.

        Returns
        -------
        mean, variance : ndarray [n_bands], float64
            In dB and dB²; the variance is the mean squared deviation.
        """
        counts = self.counts[:, None]
        total = self.counts.sum()
        mean = (counts * self.means).sum(axis=0) / total
        between = (counts * np.square(self.means - mean)).sum(axis=0)
        return mean, (self.squares.sum(axis=0) + between) / total


def track_moments(track: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and sum of squared deviations of each band of a track ``[n_frames, n_bands]``."""
    frames = np.asarray(track, np.float64)
    mean = frames.mean(axis=0)
    return mean, np.square(frames - mean).sum(axis=0)
