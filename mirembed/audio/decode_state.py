"""What both decoders share: each block of samples is checked, hashed and mixed down, in silence."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import AudioError

MAX_HOURS = 12
"""A file whose header states more is refused before it is decoded."""

MAX_RATE = 768_000
"""Hz. Only a damaged header states more, and one frame at that rate would not fit in memory."""

BLOCK_VALUES = 2**19
"""Samples of all channels in a block: 2 MiB."""

CANCELS = 0.01
"""The mean of channels cancels if its power is less than this fraction of theirs; that of unrelated ones is 1/n."""

AUDIBLE = 1e-5
"""Mean square below which nothing is said of it: -50 dB relative to full scale."""

_EVERY = 16
"""One of so many short stretches is enough to tell."""

CANCELED_SHARE = 0.1
"""A file is reported if the mean of its channels cancels in at least this fraction of it."""

CANCELED = "the channels cancel"
"""How the note on such a file begins."""

Decoder = Literal["soundfile", "essentia"]


@dataclass(frozen=True)
class OpenFile:
    """A file that a decoder has opened.

    Attributes
    ----------
    rate : int
        Sampling rate in Hz.
    channels : int
    seconds : float
        Duration according to the decoder, without decoding; 0 if unknown.
    decoder : {"soundfile", "essentia"}
    blocks : callable
        Each call decodes the file from its beginning: an iterator of arrays ``[n_samples, channels]``, float32,
        C-contiguous, which are valid until the next one.

    Raises
    ------
    AudioError
        The sampling rate is 0 or too high.
    """

    rate: int
    channels: int
    seconds: float
    decoder: Decoder
    blocks: Callable[[], Iterator[NDArray[np.float32]]]

    def __post_init__(self) -> None:
        if not 1 <= self.rate <= MAX_RATE:
            raise AudioError(f"sampling rate {self.rate} Hz, expected 1 to {MAX_RATE}; export the file again")


class DecodeState:
    """Checks, hashes and mixes down the samples of one file.

    Parameters
    ----------
    rate, channels : int
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.n_samples = 0
        self._rate, self._channels = rate, channels
        self._n_bad = self._n_canceled = 0
        self._largest = 0.0
        self._hasher = hashlib.blake2b(f"{rate} Hz, {channels} channels".encode(), digest_size=16)

    @property
    def seconds(self) -> float:
        """Duration of the samples decoded so far."""
        return self.n_samples / self._rate

    def add(self, block: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Take the next samples, ``[n_samples, channels]``, C-contiguous.

        Returns
        -------
        ndarray [n_samples], float32
            The mean of the channels, read-only; None once a sample was NaN, infinite or too large for a mean.
        """
        self.n_samples += len(block)
        require_bounded(self.seconds)
        self._hasher.update(block.data.cast("B"))
        mono = mix(block)
        if not _is_finite(mono):
            self._n_bad += int(block.size - np.count_nonzero(np.isfinite(block)))
            self._largest = max(self._largest, float(np.abs(block).max()))
        elif self._channels > 1:
            self._n_canceled += len(block) * _cancels(block, mono)
        return None if self._n_bad or self._largest else mono

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether the channels cancel each other."""
        share = self._n_canceled / max(1, self.n_samples)
        if share < CANCELED_SHARE:
            return ()
        return (f"{CANCELED} in {share:.0%} of the file: features see their mean, which is nearly silent",)

    def finish(self) -> str:
        """Return the digest of all samples.

        Raises
        ------
        AudioError
            There are no samples, or some are NaN, infinite or too large for a mean.
        """
        if not self.n_samples:
            raise AudioError("no samples: nothing was decoded")
        if self._n_bad:
            n_values = self.n_samples * self._channels
            raise AudioError(f"{self._n_bad} of {n_values} samples are NaN or infinite; export the file again")
        if self._largest:
            raise AudioError(f"samples of up to {self._largest:.2g}, where full scale is 1; export the file again")
        return self._hasher.hexdigest()


def mix(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the channels of ``block [n_samples, channels]``: ndarray ``[n_samples]``, read-only."""
    # Channel by channel: numpy's mean over an axis of length two is many times slower.
    channels = block.shape[1]
    mono: NDArray[np.float32]
    with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite are counted instead
        mono = block[:, 0] + block[:, 1] if channels > 1 else block[:, 0].copy()
        for channel in range(2, channels):
            mono += block[:, channel]
    if channels > 1:
        mono /= channels
    mono.flags.writeable = False  # several features may read it
    return mono


def has_silence(block: NDArray[np.float32], length: int) -> bool:
    """Whether all channels of ``block [n_samples, channels]`` are exactly 0 for a while.

    Every such stretch of at least ``length`` samples is found, even if only half of it lies in this block, and none of
    less than a quarter.
    """
    step = max(1, length // 4)
    zero = ~block[::step].any(axis=1)
    starts = step * np.flatnonzero(zero[:-1] & zero[1:])
    return any(not block[start : start + step].any() for start in starts)


def _is_finite(samples: NDArray[np.float32]) -> bool:
    """Whether no sample is NaN or infinite."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = samples.sum()  # as it would be of one such sample, and reading them once is enough
    return bool(np.isfinite(total) or np.isfinite(samples).all())


def _cancels(block: NDArray[np.float32], mono: NDArray[np.float32]) -> bool:
    """Whether loud channels ``[n_samples, channels]`` have a mean ``[n_samples]`` of nearly nothing."""
    length = max(1, len(block) // 256)
    n_stretches = len(block) // length
    some = block[: n_stretches * length].reshape(n_stretches, -1)[::_EVERY].reshape(-1)
    mean = mono[: n_stretches * length].reshape(n_stretches, -1)[::_EVERY].reshape(-1)
    with np.errstate(over="ignore"):  # einsum, because BLAS would start threads in every worker
        power = float(np.einsum("i,i->", some, some)) / some.size
        left = float(np.einsum("i,i->", mean, mean)) / mean.size
    return power > AUDIBLE and left < CANCELS * power


def require_bounded(seconds: float, *, stated: bool = False) -> None:
    """Raise `AudioError` for audio longer than `MAX_HOURS`; with ``stated``, only the header says that it is."""
    if seconds <= MAX_HOURS * 3600:
        return
    hours = f"{seconds / 3600:.1f} hours"
    if stated:
        raise AudioError(
            f"the header states {hours}, and the limit is {MAX_HOURS} hours; split the file or export it again"
        )
    raise AudioError(f"at least {hours} long, and the limit is {MAX_HOURS} hours; split the file")


@contextlib.contextmanager
def silenced() -> Iterator[list[bytes]]:
    """Keep the lines that native libraries write to file descriptors 1 and 2, instead of showing them.

    Anything that Python has printed before is flushed first. The descriptors belong to the whole process: what Python
    prints inside the block, or in another thread, may be kept too. The list is empty until the block ends.
    """
    lines: list[bytes] = []
    _flush()
    sink = os.memfd_create("native-output")
    terminal = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    try:
        for descriptor in terminal:
            os.dup2(sink, descriptor)
        yield lines
    finally:
        for descriptor, original in terminal.items():
            os.dup2(original, descriptor)
            os.close(original)
        _flush()
        with os.fdopen(sink, "rb") as written:
            if os.fstat(sink).st_size:  # usually nothing was written, and this runs for every block of samples
                written.seek(0)
                lines += written


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
