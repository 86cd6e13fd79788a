"""Audio that is in memory, and resampling of samples that arrive in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.decode_state import MAX_RATE


class SamplesAudio:
    """Samples in memory as the `mirembed.Audio` of a recording, for tests and experiments.

    Parameters
    ----------
    samples : ndarray [n_samples]
        One channel; full scale is 1. Converted to float32.
    rate : int
        Sampling rate in Hz.
    path : pathlib.Path, optional
    ids : tuple of str, optional
    block : int
        Samples in a block; the last one may be shorter.

    Examples
    --------
    >>> import numpy as np
    >>> audio = SamplesAudio(np.zeros(1000), rate=500, block=400)
    >>> audio.duration, [len(samples) for samples in audio.blocks()]
    (2.0, [400, 400, 200])
    >>> sum(len(samples) for samples in audio.blocks(rate=1000))
    2000
    """

    channels = 1

    def __init__(
        self,
        samples: NDArray[np.floating[Any]],
        rate: int,
        *,
        path: Path = Path("samples"),
        ids: tuple[str, ...] = (),
        block: int = 2**19,
    ) -> None:
        self.path, self.ids, self.rate = path, ids, rate
        with np.errstate(over="ignore"):
            self._samples = np.array(samples, np.float32).reshape(-1)  # a copy, which nobody else changes
        self._samples.flags.writeable = False
        self._block = block
        self.duration = len(self._samples) / rate

    def blocks(self, rate: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Yield the samples in order; see `mirembed.Audio.blocks`."""
        starts = range(0, len(self._samples), self._block)
        return resampled((self._samples[start : start + self._block] for start in starts), self.rate, rate)


def resampled(blocks: Iterator[NDArray[np.float32]], rate: int, wanted: int | None) -> Iterator[NDArray[np.float32]]:
    """Resample a stream of samples with soxr ("HQ": 20 bits, linear phase).

    The result does not depend on the lengths of the blocks, to the bit.

    Parameters
    ----------
    blocks : iterator of ndarray [n_samples], float32
    rate : int
        Their sampling rate in Hz.
    wanted : int or None
        Another sampling rate, or None for no change.

    Raises
    ------
    ValueError
        The wanted rate is out of range.
    """
    if wanted is None or wanted == rate:
        return blocks
    if not 1 <= wanted <= MAX_RATE:
        raise ValueError(f"a sampling rate of {wanted} Hz; expected 1 to {MAX_RATE}")
    return _by_soxr(blocks, rate, wanted)


def _by_soxr(blocks: Iterator[NDArray[np.float32]], rate: int, wanted: int) -> Iterator[NDArray[np.float32]]:
    import soxr

    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    for block in blocks:
        if len(found := stream.resample_chunk(block)):
            yield found
    if len(found := stream.resample_chunk(np.empty(0, np.float32), last=True)):
        yield found
