"""Audio fingerprints, and the pairs of tracks that contain the same recording, even shifted in time.

A fingerprint is a sequence of 24-bit words, one every 50 ms. A bit says whether the difference in energy between two
neighboring bands is larger or smaller than it was a moment ago; gain, equalization, codecs and sampling rates hardly
change it. Words of silence and steady tones, where nothing changes, are 0 and never compared. Two tracks are compared
bit by bit at every offset at which they share a word.

Source: the bits are those of Haitsma & Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002, with
energies averaged over 1.2 s, so that frames need not start at the same sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEP = 0.05
"""Seconds from one word to the next."""

BITS = 24
_LOWEST, _HIGHEST = 150.0, 4500.0
_WINDOW = 0.046
"""Shortest window in seconds: long enough that every band has a bin of its own."""

_AVERAGED, _APART = 24, 8
"""Steps over which energies are averaged, and steps between two energies that are compared."""

_RANGE = 80.0
"""Dynamic range in decibels below the loudest energy of a track; anything quieter is raised to that level."""

_STEADY = 0.1
"""Decibels; a smaller change is rounding, not music."""

SAME = 0.25
"""Largest fraction of differing bits in the same recording; in unrelated music at least 0.38 differ."""

_MIN_WORDS = 100
"""Fewest words worth comparing. Together with the steps that the last one looks ahead, they are 6.6 s of audio."""

_NEIGHBORS = 8
"""Most equal words to consider for each word; loops and many copies have more."""


@dataclass(frozen=True)
class Match:
    """Two tracks that contain the same recording.

    Attributes
    ----------
    first, second : int
        Indices of the tracks.
    offset : float
        In seconds: time t in the second track is time t + offset in the first.
    difference : float
        Fraction of differing bits, from 0 to `SAME`.
    """

    first: int
    second: int
    offset: float
    difference: float


def fingerprint(samples: NDArray[np.float32], rate: int) -> NDArray[np.uint32]:
    """Compute the fingerprint of a recording.

    Parameters
    ----------
    samples : ndarray [n_samples], one channel
    rate : int
        Hz.

    Returns
    -------
    ndarray [n_words], uint32
        Words in the lower 24 bits; 0 where more than half of the bits carry no information, as in silence and steady
        tones. Empty for recordings shorter than about 1.7 s, and at rates below 9000 Hz, which lack the highest band.
    """
    energies = _energies(samples, rate)  # [n_steps, BITS + 1], dB
    if len(energies) <= _AVERAGED + _APART:
        return np.zeros(0, np.uint32)
    sums = np.cumsum(np.vstack([np.zeros((1, BITS + 1)), energies]), axis=0)
    averages = (sums[_AVERAGED:] - sums[:-_AVERAGED]) / _AVERAGED
    growth = np.diff(averages, axis=1)  # [n_steps, BITS]
    change = growth[_APART:] - growth[:-_APART]
    weights = (1 << np.arange(BITS, dtype=np.uint32))[::-1]
    words = ((change > 0) * weights).sum(axis=1)
    steady = np.count_nonzero(np.abs(change) > _STEADY, axis=1) < BITS / 2
    return np.where(steady, 0, words).astype(np.uint32)


def same_recordings(fingerprints: Sequence[NDArray[np.uint32]]) -> list[Match]:
    """Find all pairs of tracks that share a recording for at least 6.6 s, the most similar first."""
    best: dict[tuple[int, int], Match] = {}
    for first, second, offset in _candidates(fingerprints):
        difference = _difference(fingerprints[first], fingerprints[second], offset)
        if difference <= SAME:
            match = Match(first, second, offset * STEP, difference)
            best[first, second] = min(match, best.get((first, second), match), key=_distance)
    return sorted(best.values(), key=_distance)


def _distance(match: Match) -> tuple[float, float]:
    """Sort key of matches: the smallest of several offsets that agree equally well, as in loops, comes first."""
    return match.difference, abs(match.offset)


def _energies(samples: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Compute the energies in bands between 150 Hz and 4.5 kHz: ndarray ``[n_steps, BITS + 1]``, dB."""
    from scipy.fft import rfft

    size = 2 ** int(np.ceil(np.log2(_WINDOW * rate)))
    if len(samples) < size or rate < 2 * _HIGHEST:
        return np.zeros((0, BITS + 1))
    n_steps = int((len(samples) - size) / (STEP * rate)) + 1
    edges = np.round(np.geomspace(_LOWEST, _HIGHEST, BITS + 2) * size / rate).astype(int)
    starts = np.round(np.arange(n_steps) * STEP * rate).astype(int)
    window = np.hanning(size).astype(np.float32)
    energies = np.empty((n_steps, BITS + 1))
    for block in range(0, n_steps, 1024):  # a few megabytes at a time, even for hours of music
        frames = np.lib.stride_tricks.sliding_window_view(samples, size)[starts[block : block + 1024]]
        spectrum: NDArray[Any] = rfft(frames * window, axis=1, overwrite_x=True)
        power = spectrum.real**2 + spectrum.imag**2
        energies[block : block + 1024] = np.add.reduceat(power, edges, axis=1)[:, : BITS + 1]
    decibels = 10 * np.log10(np.maximum(energies, 1e-10))
    return np.asarray(np.maximum(decibels, decibels.max() - _RANGE))


def _candidates(fingerprints: Sequence[NDArray[np.uint32]]) -> list[tuple[int, int, int]]:
    """Return ``(first, second, offset)``, the offset in steps, wherever two tracks share a word."""
    if not fingerprints:
        return []
    lengths = [len(words) for words in fingerprints]
    words = np.concatenate(fingerprints)
    track = np.repeat(np.arange(len(lengths)), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    # Sorted by position too: a loop repeats its words, and its copies should be matched at the same position.
    order = np.lexsort((position, words))[np.count_nonzero(words == 0) :]
    found = []
    for distance in range(1, _NEIGHBORS + 1):
        equal = np.flatnonzero(words[order[distance:]] == words[order[:-distance]])
        one, other = order[equal], order[equal + distance]
        between = track[one] != track[other]
        one, other = one[between], other[between]
        swap = track[one] > track[other]
        one, other = np.where(swap, other, one), np.where(swap, one, other)
        found.append(np.stack([track[one], track[other], position[one] - position[other]], axis=1))
    return [(int(a), int(b), int(offset)) for a, b, offset in np.unique(np.concatenate(found), axis=0)]


def _difference(first: NDArray[np.uint32], second: NDArray[np.uint32], offset: int) -> float:
    """Return the fraction of differing bits where two fingerprints overlap; 1 if the overlap is too short."""
    start, stop = max(0, offset), min(len(first), len(second) + offset)
    one, other = first[start:stop], second[start - offset : stop - offset]
    informative = (one != 0) & (other != 0)
    n_words = np.count_nonzero(informative)
    if n_words < _MIN_WORDS:
        return 1.0
    differing = np.bitwise_count(one[informative] ^ other[informative])
    return float(differing.sum() / (BITS * n_words))
