"""What the network is fed: normalized frames with first differences, as random excerpts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mirembed.store.frame_file import Moments

EXCERPT_FRAMES = 100


class Stream(IntEnum):
    """Independent streams of random numbers from one (seed, fold), by what they are for."""

    NETWORK = 0
    HEAD = 1
    EXCERPTS = 2


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each band.

    Attributes
    ----------
    mean, std : ndarray [n_bands], float32, dB
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def fit(cls, moments: Moments) -> Normalization:
        """Take the statistics of all frames of the tracks with these moments: the training tracks, and no other.

        A band that never changes gets the standard deviation 1, so that it becomes 0.
        """
        mean, variance = moments.together()
        # What varies by less than 1e-4 dB does so by rounding.
        std = np.where(variance > 1e-8, np.sqrt(variance), 1)
        return cls(mean.astype(np.float32), std.astype(np.float32))


def draw_offsets(
    rng: np.random.Generator, lengths: NDArray[np.int64], n_frames: int = EXCERPT_FRAMES
) -> NDArray[np.int64]:
    """Draw the first frame of one excerpt in each track, all positions equally likely.

    A track of at most ``n_frames`` frames starts at 0.
    """
    return rng.integers(0, np.maximum(lengths - n_frames, 0), endpoint=True)


def gather(
    frames: NDArray[np.float32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    offsets: NDArray[np.int64],
    n_frames: int,
    normalization: Normalization,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut ``n_frames`` frames out of each of a batch of tracks.

    Parameters
    ----------
    frames : ndarray [total_frames, n_bands], dB
    starts, lengths : ndarray [batch]
        First row and number of frames of each track.
    offsets : ndarray [batch]
        First frame of each cut, counted from the track's start.
    n_frames : int
    normalization : Normalization

    Returns
    -------
    inputs : ndarray [batch, n_frames, 2 * n_bands], float32
        Normalized bands, then their first differences; the difference of a track's first frame is 0.
    inside : ndarray [batch, n_frames], float32
        1 for a frame of the track, 0 beyond its end, where the inputs repeat the last frame and are to be ignored.
    """
    position = offsets[:, None] + np.arange(n_frames)  # [batch, n_frames]
    inside = (position < lengths[:, None]).astype(np.float32)
    position = np.minimum(position, np.maximum(lengths[:, None] - 1, 0))
    now = np.asarray(frames[starts[:, None] + position])  # [batch, n_frames, n_bands]
    before = np.asarray(frames[starts[:, None] + np.maximum(position - 1, 0)])
    inputs = np.concatenate([(now - normalization.mean), (now - before)], axis=2)  # [batch, n_frames, 2 * n_bands]
    inputs /= np.tile(normalization.std, 2)
    return inputs, inside


def epoch_batches(
    seed: Sequence[int], epoch: int, lengths: NDArray[np.int64], batch: int
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield ``(rows, offsets)`` of one epoch: every track once, in random order, one excerpt each.

    Parameters
    ----------
    seed : sequence of int
        Seed and fold. With the epoch they alone decide, so that all approaches see the same draws, and an
        interrupted training goes on with the draws it would have had.
    epoch : int
    lengths : ndarray [n_tracks]
        Of the training tracks.
    batch : int
        The last batch is smaller when the tracks do not fill it; no track is dropped.
    """
    rng = np.random.default_rng([*seed, Stream.EXCERPTS, epoch])
    order = rng.permutation(len(lengths))
    offsets = draw_offsets(rng, lengths)
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        yield rows, offsets[rows]
