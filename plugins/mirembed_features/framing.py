"""Cuts samples, or any other rows, that arrive in blocks of any length into windows; aligns frames of any length."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mirembed import Audio


@functools.lru_cache(maxsize=64)
def exact(seconds: float) -> Fraction:
    """Return a number as it is written: the product of 0.025 and a rate may be just below a whole number.

    >>> exact(0.025) * 44_100
    Fraction(2205, 2)
    """
    return Fraction(str(seconds))


ALIGNED = 0.05
"""Seconds in a frame of `logmel`. Frame ``i`` of features with longer frames has the center of its frame ``i``."""


def aligned_blocks(audio: Audio, length: int) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of a recording with zeros before and after them.

    Frames of ``length`` samples then are as many as frames of 50 ms of the recording alone, with the same centers.
    """
    zeros = np.zeros(length - math.floor(exact(ALIGNED) * audio.rate), np.float32)
    before = len(zeros) // 2
    return itertools.chain([zeros[:before]], audio.blocks(), [zeros[before:]])


def windows(
    blocks: Iterable[NDArray[np.float32]], length: int, hop: Fraction, *, pad: bool = False
) -> Iterator[NDArray[np.float32]]:
    """Yield windows: ndarray ``[length, ...]``; window ``i`` begins at row ``floor(i * hop)``.

    Parameters
    ----------
    blocks : iterable of ndarray [n, ...]
        Successive rows. The windows do not depend on where a block ends.
    length : int
        Rows in a window.
    hop : Fraction
        Rows from the beginning of a window to that of the next, at least 1.
    pad : bool
        Whether rows after the last full window are yielded too, in a window that zeros fill.
    """
    rest: NDArray[np.float32] | None = None
    n, offset, start, end = 0, 0, 0, 0  # rows so far; row of rest[0]; begin of the next window; end of the last one
    i = 0
    for block in blocks:
        rest = block if rest is None or not len(rest) else np.concatenate([rest, block])
        n += len(block)
        while start + length <= n:
            yield np.ascontiguousarray(rest[start - offset : start - offset + length])
            i, end = i + 1, start + length
            start = i * hop.numerator // hop.denominator
        passed = min(start, n)
        rest, offset = rest[passed - offset :].copy(), passed
    if pad and rest is not None and n > max(start, end):
        padded = np.zeros((length, *rest.shape[1:]), np.float32)
        padded[: n - start] = rest
        yield padded
