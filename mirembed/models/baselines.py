"""Features that need no training: the baselines that a trained network has to beat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Estimator, Regression, Task
from mirembed.store.frame_file import reading_ahead
from mirembed.training.excerpts import Normalization, gather

BLOCK = 10_000
"""Number of frames held at once."""


@dataclass(frozen=True)
class InputStatistics:
    """Mean and standard deviation over time of what a network sees of a track, standardized on the training tracks.

    For features with one frame, that frame.

    Attributes
    ----------
    normalization : Normalization
    deltas : bool
        Whether a network sees first differences too.
    one_frame : bool
        Whether a track has a single frame.
    mean, std : ndarray [units], float64
        Mean and standard deviation of these statistics over the training tracks.
    """

    normalization: Normalization
    deltas: bool
    one_frame: bool
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @property
    def units(self) -> int:
        """Number of statistics."""
        return len(self.mean)

    @classmethod
    def fit(
        cls,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        normalization: Normalization,
        *,
        deltas: bool,
        one_frame: bool,
    ) -> InputStatistics:
        """Standardize on training tracks; a constant statistic becomes 0.

        Parameters
        ----------
        frames : ndarray [total_frames, values]
        starts, lengths : ndarray [n_train]
            First row and number of frames of each training track.
        normalization : Normalization
        deltas, one_frame : bool
            See the attributes.
        """
        nothing = np.zeros(0)
        raw = cls(normalization, deltas, one_frame, nothing, nothing)._statistics(frames, starts, lengths)
        std = raw.std(axis=0)
        # Input is normalized, so that a deviation below 1e-6 is rounding.
        return cls(normalization, deltas, one_frame, raw.mean(axis=0), np.where(std > 1e-6, std, 1))

    def embed(
        self, frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the standardized statistics of tracks: ndarray ``[n_tracks, units]``."""
        return ((self._statistics(frames, starts, lengths) - self.mean) / self.std).astype(np.float32)

    def _statistics(
        self, frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return means, then standard deviations, of each track: ``[n_tracks, units]``."""
        width = frames.shape[1] * (2 if self.deltas else 1)
        means, squares = np.zeros((2, len(starts), width))
        for row in reading_ahead(frames, list(zip(starts[:, None], lengths[:, None], strict=True))):
            count = 0
            for block in self._blocks(frames, starts[row], lengths[row]):
                # Chan, Golub & LeVeque, The American Statistician 37 (1983)
                mean = block.mean(axis=0)
                step, both = mean - means[row], count + len(block)
                means[row] += step * len(block) / both
                squares[row] += np.square(block - mean).sum(axis=0) + np.square(step) * count * len(block) / both
                count = both
        return means if self.one_frame else np.hstack([means, np.sqrt(squares / lengths[:, None])])

    def _blocks(self, frames: NDArray[np.float32], start: np.int64, length: np.int64) -> Iterator[NDArray[np.float64]]:
        """Yield a track as a network sees it, in blocks ``[n_frames, width]``."""
        track = np.array([start]), np.array([length])
        for offset in range(0, int(length), BLOCK):
            n_frames = min(BLOCK, int(length) - offset)
            inputs, _ = gather(frames, *track, np.array([offset]), n_frames, self.normalization, deltas=self.deltas)
            yield inputs[0].astype(np.float64)


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
    """Return an estimator that always predicts the most frequent class, the majority for each tag, or mean targets."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    estimator: Estimator
    estimator = DummyRegressor() if isinstance(task, Regression) else DummyClassifier(strategy="most_frequent")
    return estimator
