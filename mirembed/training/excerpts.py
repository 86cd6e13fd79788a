"""The input of a network: random excerpts of normalized frames, with or without their first differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mirembed.config import defaults
from mirembed.store.frame_file import Moments

BLOCK = 100
"""Frames of a full track that a network takes at a time; batches of short excerpts are padded to a multiple of it."""


class Stream(IntEnum):
    """Independent streams of random numbers drawn from one (seed, fold)."""

    NETWORK = 0
    HEAD = 1
    EXCERPTS = 2
    STEPS = 3
    """What the network itself draws in an epoch, such as dropout."""
    MEMBER = 4
    """Begins the streams of a further network of an ensemble."""
    INNER_FOLDS = 5
    TRAIN_SIZE = 6


@dataclass(frozen=True)
class InputForm:
    """How the frames of a track become the input of a network.

    Attributes
    ----------
    excerpt : int
        Frames of each track in an epoch.
    deltas : bool
        Whether the first differences of the values are appended.
    """

    excerpt: int = defaults.EXCERPT
    deltas: bool = True

    @classmethod
    def of(cls, hop: float | None, excerpt: int, deltas: bool | None) -> InputForm:
        """Return the form for features with a hop; features of one frame (``hop=None``) have no differences.

        >>> InputForm.of(0.025, excerpt=100, deltas=None), InputForm.of(None, excerpt=100, deltas=True)
        (InputForm(excerpt=100, deltas=True), InputForm(excerpt=1, deltas=False))
        """
        if hop is None:
            return cls(excerpt=1, deltas=False)
        return cls(excerpt, deltas is not False)

    def inputs(self, values: int) -> int:
        """Return the size of a frame of the input, for features of so many values."""
        return 2 * values if self.deltas else values

    def padded(self, lengths: NDArray[np.int64]) -> int:
        """Return the number of frames to which a batch of excerpts of tracks of these lengths is padded.

        >>> InputForm().padded(np.array([30, 70])), InputForm(excerpt=1000).padded(np.array([30, 170]))
        (100, 200)
        """
        return int(min(self.excerpt, -(-int(lengths.max()) // BLOCK) * BLOCK))


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each value of the features.

    Attributes
    ----------
    mean, std : ndarray [values], float32, in the features' own unit
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def fit(cls, moments: Moments) -> Normalization:
        """Compute the statistics over all frames of the tracks with these moments.

        Pass the moments of the training tracks only. A constant value gets a standard deviation of 1, so that its
        normalized values are 0.
        """
        mean, variance = moments.together()
        # A deviation below 1e-4, of numbers such as decibels, is rounding.
        std = np.where(variance > 1e-8, np.sqrt(variance), 1)
        return cls(mean.astype(np.float32), std.astype(np.float32))


def draw_offsets(rng: np.random.Generator, lengths: NDArray[np.int64], n_frames: int) -> NDArray[np.int64]:
    """Draw the first frame of one excerpt per track, uniformly over all positions.

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
    *,
    deltas: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut ``n_frames`` frames out of each track of a batch.

    Parameters
    ----------
    frames : ndarray [total_frames, values]
    starts, lengths : ndarray [batch]
        First row and number of frames of each track.
    offsets : ndarray [batch]
        First frame of each excerpt, counted from the start of its track.
    n_frames : int
    normalization : Normalization
    deltas : bool
        Whether to append the first differences.

    Returns
    -------
    inputs : ndarray [batch, n_frames, values or 2 * values], float32
        Normalized values, then their first differences. The difference at a track's first frame is 0.
    inside : ndarray [batch, n_frames], float32
        1 for frames of the track. 0 beyond its end, where ``inputs`` repeats the last frame and must be ignored.
    """
    position = offsets[:, None] + np.arange(n_frames)  # [batch, n_frames]
    inside = (position < lengths[:, None]).astype(np.float32)
    position = np.minimum(position, np.maximum(lengths[:, None] - 1, 0))
    now = np.asarray(frames[starts[:, None] + position])  # [batch, n_frames, values]
    if not deltas:
        return (now - normalization.mean) / normalization.std, inside
    before = np.asarray(frames[starts[:, None] + np.maximum(position - 1, 0)])
    inputs = np.concatenate([(now - normalization.mean), (now - before)], axis=2)  # [batch, n_frames, 2 * values]
    inputs /= np.tile(normalization.std, 2)
    return inputs, inside


def epoch_batches(
    seed: Sequence[int], epoch: int, lengths: NDArray[np.int64], batch: int, excerpt: int = defaults.EXCERPT
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield ``(rows, offsets)`` for the batches of one epoch: every track once, in random order, one excerpt each.

    Parameters
    ----------
    seed : sequence of int
        Seed and fold. The draws depend on ``seed`` and ``epoch`` alone, so that all approaches see the same excerpts
        and a resumed training continues with the draws it would have had.
    epoch : int
    lengths : ndarray [n_tracks]
        Number of frames of each training track.
    batch : int
        Batch size. The last batch may be smaller; no track is dropped.
    excerpt : int
        Frames of an excerpt.
    """
    rng = np.random.default_rng([*seed, Stream.EXCERPTS, epoch])
    order = rng.permutation(len(lengths))
    offsets = draw_offsets(rng, lengths, excerpt)
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        yield rows, offsets[rows]
