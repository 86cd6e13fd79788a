"""Fingerprints of recordings, and the pairs of tracks that hold the same one, also shifted in time.

A fingerprint is a sequence of words of 24 bits, one every 50 ms. A bit tells whether, between one band and the next,
the energy grows more or less than it did a moment ago: gain, equalization, codecs and sampling rates hardly change
it. Silence and steady tones grow nowhere: their words are 0, which tells nothing and is never compared. Two tracks
are compared bit by bit at every offset at which they share a word.

Source: the bits are those of Haitsma & Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002, with
energies averaged over 1.2 s, so that frames need not begin at the same sample.
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
"""Seconds at least: long enough that every band has a bin of its own."""

_AVERAGED, _APART = 24, 8
"""Steps over which an energy is averaged, and steps between two energies that are compared."""

_RANGE = 80.0
"""Decibels below the loudest energy of the clip at which noise floors of all kinds become one."""

_STEADY = 0.1
"""Decibels: a smaller change of the growth between two bands is rounding and no music."""

SAME = 0.25
"""Share of different bits up to which two stretches hold one recording; of unrelated music at least 0.38 differ."""

_MIN_WORDS = 100
"""Fewest words to be compared. With the steps that the last one looks ahead they are 6.6 s of sound."""

_NEIGHBORS = 8
"""Equal words that are looked at for each word; loops and many copies share it with more."""


@dataclass(frozen=True)
class Match:
    """Two tracks that hold the same recording.

    Attributes
    ----------
    first, second : int
        Positions of the tracks.
    offset : float
        Seconds: what sounds at t in the second sounds at t + offset in the first.
    difference : float
        Share of the bits that differ, from 0 to `SAME`.
    """

    first: int
    second: int
    offset: float
    difference: float


def fingerprint(samples: NDArray[np.float32], rate: int) -> NDArray[np.uint32]:
    """Return the words of a recording.

    Parameters
    ----------
    samples : ndarray [n_samples], one channel
    rate : int
        Hz.

    Returns
    -------
    ndarray [n_words], uint32
        In the lower 24 bits; 0 where more than half of them mean nothing, as in silence and steady tones. Empty
        for recordings shorter than about 1.7 s, and below 9000 Hz, where the highest band is missing.
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
    """Return all pairs of tracks that hold the same recording for at least 6.6 s, the surest first."""
    best: dict[tuple[int, int], Match] = {}
    for first, second, offset in _candidates(fingerprints):
        difference = _difference(fingerprints[first], fingerprints[second], offset)
        if difference <= SAME:
            match = Match(first, second, offset * STEP, difference)
            best[first, second] = min(match, best.get((first, second), match), key=_distance)
    return sorted(best.values(), key=_distance)


def _distance(match: Match) -> tuple[float, float]:
    """Order matches; of offsets that agree equally well, as in loops, the smallest is meant."""
    return match.difference, abs(match.offset)


def _energies(samples: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Return the energies in bands between 150 Hz and 4.5 kHz: ndarray ``[n_steps, BITS + 1]``, dB."""
    from scipy.fft import rfft

    size = 2 ** int(np.ceil(np.log2(_WINDOW * rate)))
    if len(samples) < size or rate < 2 * _HIGHEST:
        return np.zeros((0, BITS + 1))
    n_steps = int((len(samples) - size) / (STEP * rate)) + 1
    edges = np.round(np.geomspace(_LOWEST, _HIGHEST, BITS + 2) * size / rate).astype(int)
    starts = np.round(np.arange(n_steps) * STEP * rate).astype(int)
    window = np.hanning(size).astype(np.float32)
    energies = np.empty((n_steps, BITS + 1))
    for block in range(0, n_steps, 1024):  # hours of music, some megabytes at a time
        frames = np.lib.stride_tricks.sliding_window_view(samples, size)[starts[block : block + 1024]]
        spectrum: NDArray[Any] = rfft(frames * window, axis=1, overwrite_x=True)
        power = spectrum.real**2 + spectrum.imag**2
        energies[block : block + 1024] = np.add.reduceat(power, edges, axis=1)[:, : BITS + 1]
    decibels = 10 * np.log10(np.maximum(energies, 1e-10))
    return np.asarray(np.maximum(decibels, decibels.max() - _RANGE))


def _candidates(fingerprints: Sequence[NDArray[np.uint32]]) -> list[tuple[int, int, int]]:
    """Return ``(first, second, offset)``, in steps, wherever two tracks share a word."""
    if not fingerprints:
        return []
    lengths = [len(words) for words in fingerprints]
    words = np.concatenate(fingerprints)
    track = np.repeat(np.arange(len(lengths)), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    # Equal words of one position stand together: a loop repeats its words, and its copies should meet where they begin.
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
    """Return the share of different bits where two fingerprints overlap; 1 where they overlap too little."""
    start, stop = max(0, offset), min(len(first), len(second) + offset)
    one, other = first[start:stop], second[start - offset : stop - offset]
    telling = (one != 0) & (other != 0)
    n_words = np.count_nonzero(telling)
    if n_words < _MIN_WORDS:
        return 1.0
    differing = np.bitwise_count(one[telling] ^ other[telling])
    return float(differing.sum() / (BITS * n_words))
