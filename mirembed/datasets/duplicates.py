"""Audio fingerprints, and the pairs of tracks that contain the same recording, even shifted in time.

A fingerprint is a sequence of 24-bit words, one every 50 ms. A bit says whether the difference in energy between two
neighboring bands is larger or smaller than it was a moment ago; gain, equalization, codecs and sampling rates hardly
change it. Words of silence and steady tones, where nothing changes, are 0 and never compared. Two tracks are compared
bit by bit at every offset at which they share a word.

Source: the bits are those of Haitsma & Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002, with
energies averaged over 1.2 s, so that frames need not start at the same sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.interruption import raise_if_interrupted

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

_SHARE = 2**19
"""Words to look at together: their candidates take up to 100 MB."""

_COMPARED, _STRIDE = 2**13, 64
"""Candidates that are compared at a time, and the words of each; most candidates are given up after half of theirs."""


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
    """Find all pairs of tracks that share a recording for at least 6.6 s, the most similar first.

    Besides the fingerprints themselves, and a copy of them, this takes some 100 MB, however many tracks there are.
    """
    lengths = np.array([len(words) for words in fingerprints], np.int64)
    starts = np.cumsum(lengths) - lengths
    # `_differences` reads past the end of the last track.
    words = np.concatenate([*fingerprints, np.zeros(_STRIDE, np.uint32)]).astype(np.uint32, copy=False)
    best: dict[tuple[int, int], Match] = {}
    for candidates in _candidates(words, starts):
        for block in range(0, len(candidates), _COMPARED):
            some = candidates[block : block + _COMPARED]
            differences = _differences(words, starts, lengths, some)
            for row in np.flatnonzero(differences <= SAME):
                first, second, offset = some[row].tolist()
                match = Match(first, second, offset * STEP, float(differences[row]))
                best[first, second] = min(match, best.get((first, second), match), key=_order)
    return sorted(best.values(), key=lambda match: (*_order(match)[:2], match.first, match.second))


def _order(match: Match) -> tuple[float, float, float]:
    """Sort key of matches: the smallest of several offsets that agree equally well, as in loops, comes first."""
    return match.difference, abs(match.offset), -match.offset


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


def _candidates(words: NDArray[np.uint32], starts: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield ``[n, 3]`` first track, second track and offset, in steps, wherever two tracks share a word.

    One share of all values of words after the other is looked at, so that memory stays bounded. If tracks share words
    of several shares at one offset, it is yielded again.

    Parameters
    ----------
    words : ndarray [n_words]
        Of all tracks, one after the other; 0 is never shared.
    starts : ndarray [n_tracks]
        The place of the first word of each track.
    """
    n_shares = 1 << max(0, (len(words) // _SHARE).bit_length())
    for share in range(n_shares):
        raise_if_interrupted()
        places = np.flatnonzero((words & np.uint32(n_shares - 1) == share) & (words != 0))
        track = np.searchsorted(starts, places, side="right") - 1
        position = places - starts[track]
        # Sorted by position too: a loop repeats its words, and its copies should be matched at the same position.
        order = np.lexsort((position, words[places]))
        sorted_words, track, position = words[places[order]], track[order], position[order]
        for block in range(0, len(order), _SHARE):
            pairs = [_equal_words(sorted_words, block, distance) for distance in range(1, _NEIGHBORS + 1)]
            one, other = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
            between = track[one] != track[other]
            one, other = one[between], other[between]
            swap = track[one] > track[other]
            one, other = np.where(swap, other, one), np.where(swap, one, other)
            yield _unique(np.stack([track[one], track[other], position[one] - position[other]], axis=1))


def _equal_words(words: NDArray[np.uint32], start: int, distance: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places, from ``start`` on, of equal words that are this far apart in sorted words."""
    one = words[start : start + _SHARE]
    other = words[start + distance : start + distance + _SHARE]
    equal = np.flatnonzero(one[: len(other)] == other) + start
    return equal, equal + distance


def _unique(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the different rows ``[n, 3]``, sorted."""
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    new = np.ones(len(rows), np.bool_)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return rows[new]


def _differences(
    words: NDArray[np.uint32], starts: NDArray[np.int64], lengths: NDArray[np.int64], candidates: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the fraction of differing bits where two fingerprints overlap, for ``[n, 3]`` candidates.

    It is 1 where the overlap is too short, and where the beginning of the overlap shows that it exceeds `SAME`.
    """
    first, second, offset = candidates.T
    start = np.maximum(offset, 0)
    n_left = np.minimum(lengths[first], lengths[second] + offset) - start
    one, other = starts[first] + start, starts[second] + start - offset
    result, alive = np.ones(len(candidates)), np.arange(len(candidates))
    differing, n_words = np.zeros(len(candidates), np.int64), np.zeros(len(candidates), np.int64)
    columns = np.arange(_STRIDE)
    while len(alive):
        a, b = words[one[alive, None] + columns], words[other[alive, None] + columns]  # [n_alive, _STRIDE]
        informative = (a != 0) & (b != 0) & (columns < n_left[alive, None])
        differing[alive] += (np.bitwise_count(a ^ b) * informative).sum(axis=1, dtype=np.int64)
        n_words[alive] += informative.sum(axis=1)
        one[alive] += _STRIDE
        other[alive] += _STRIDE
        n_left[alive] = np.maximum(n_left[alive] - _STRIDE, 0)
        ended = alive[(n_left[alive] == 0) & (n_words[alive] >= _MIN_WORDS)]
        result[ended] = differing[ended] / (BITS * n_words[ended])
        most = n_words[alive] + n_left[alive]
        alive = alive[(n_left[alive] > 0) & (most >= _MIN_WORDS) & (differing[alive] <= SAME * BITS * most)]
    return result
