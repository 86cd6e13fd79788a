"""Features that need no training: the baselines that a trained network has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Classification, Estimator, Task
from mirembed.store.frame_file import Moments


@dataclass(frozen=True)
class MelStatistics:
    """Mean and standard deviation of each band of a track, standardized on the training tracks.

    Attributes
    ----------
    mean, std : ndarray [2 * n_bands], float64
        Mean and standard deviation of these features over the training tracks.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @property
    def units(self) -> int:
        """Number of features."""
        return len(self.mean)

    @classmethod
    def fit(cls, frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> MelStatistics:
        """Standardize on training tracks; a constant feature becomes 0.

        Parameters
        ----------
        frames : ndarray [total_frames, n_bands], dB
        starts, lengths : ndarray [n_train]
            First row and number of frames of each training track.
        """
        features = _band_statistics(frames, starts, lengths)
        std = features.std(axis=0)
        return cls(features.mean(axis=0), np.where(std > 0, std, 1))

    def embed(
        self, frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the features of tracks: ndarray ``[n_tracks, 2 * n_bands]``."""
        return ((_band_statistics(frames, starts, lengths) - self.mean) / self.std).astype(np.float32)


@dataclass(frozen=True)
class NoFeatures:
    """A constant in place of features: all tracks look the same."""

    units = 1

    def embed(
        self, frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return zeros ``[n_tracks, 1]``."""
        return np.zeros((len(starts), 1), np.float32)


def chance_estimator(task: Task) -> Estimator:
    """Return an estimator that always predicts the most frequent class, or the mean of each target."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    estimator: Estimator
    estimator = DummyClassifier(strategy="most_frequent") if isinstance(task, Classification) else DummyRegressor()
    return estimator


def _band_statistics(
    frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    moments = Moments.of(frames, starts, lengths)
    return np.hstack([moments.means, np.sqrt(moments.squares / moments.counts[:, None])])
