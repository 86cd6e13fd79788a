"""What both decoders share: each block of samples is checked, hashed, mixed down and passed on, in silence."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import AudioError

MAX_HOURS = 12
"""A file whose header states more is refused before it is decoded."""

MAX_RATE = 768_000
"""Hz. Only a damaged header states more, and one frame at that rate would not fit in memory."""

BLOCK_VALUES = 2**19
"""Samples of all channels in a block: 2 MiB."""

Decoder = Literal["soundfile", "essentia"]


class Receiver(Protocol):
    """Takes the samples of one file in order."""

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples, ``[n_samples]``: the mean of the channels, all finite; full scale is 1."""


R = TypeVar("R", bound=Receiver)


class DecodeState(Generic[R]):
    """Checks, hashes and mixes down the samples of one file, and passes them to a receiver.

    Parameters
    ----------
    receiver : callable
        Called with the sampling rate in Hz, it makes a `Receiver`.
    rate : int
    n_channels : int
    decoder : {"soundfile", "essentia"}

    Raises
    ------
    AudioError
        The sampling rate is not that of music.
    """

    def __init__(self, receiver: Callable[[int], R], rate: int, n_channels: int, decoder: Decoder) -> None:
        if not 1 <= rate <= MAX_RATE:
            raise AudioError(f"sampling rate {rate} Hz, expected at most {MAX_RATE}; the header is damaged")
        self.rate = rate
        self.decoder = decoder
        self.n_samples = 0
        self.receiver = receiver(rate)
        self._n_channels = n_channels
        self._n_bad = 0
        self._hasher = hashlib.blake2b(f"{rate} Hz, {n_channels} channels".encode(), digest_size=16)

    @property
    def seconds(self) -> float:
        """Duration of the samples decoded so far."""
        return self.n_samples / self.rate

    def add(self, channels: NDArray[np.float32]) -> None:
        """Take the next samples, ``[n_samples, n_channels]``, C-contiguous."""
        self.n_samples += len(channels)
        require_bounded(self.seconds)
        self._hasher.update(channels.data.cast("B"))
        # Channel by channel: numpy's mean over an axis of length two is many times slower.
        mono: NDArray[np.float32] = channels[:, 0].copy()
        with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite are counted instead
            for channel in range(1, self._n_channels):
                mono += channels[:, channel]
        if self._n_channels > 1:
            mono /= self._n_channels
        if not np.isfinite(mono).all():
            self._n_bad += int(channels.size - np.count_nonzero(np.isfinite(channels)))
        if not self._n_bad:
            self.receiver.add(mono)

    def finish(self) -> str:
        """Return the digest of all samples.

        Raises
        ------
        AudioError
            There are no samples, or some are NaN or infinite.
        """
        if not self.n_samples:
            raise AudioError("no samples: the file is nothing but a header")
        if self._n_bad:
            n_values = self.n_samples * self._n_channels
            raise AudioError(f"{self._n_bad} of {n_values} samples are NaN or infinite; export the file again")
        return self._hasher.hexdigest()


def require_bounded(seconds: float) -> None:
    """Raise `AudioError` for audio longer than `MAX_HOURS`."""
    if seconds > MAX_HOURS * 3600:
        raise AudioError(f"{seconds / 3600:.1f} hours long, longer than the limit of {MAX_HOURS} hours; split the file")


@contextlib.contextmanager
def silenced() -> Iterator[list[bytes]]:
    """Keep the lines that native libraries write to file descriptors 1 and 2, instead of showing them.

    Anything that Python has printed before is flushed first. The descriptors belong to the whole process: what Python
    prints inside the block, or in another thread, may be kept too. The list is empty until the block ends.
    """
    lines: list[bytes] = []
    _flush()
    with os.fdopen(os.memfd_create("native-output"), "w+b") as sink:
        terminal = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        try:
            for descriptor in terminal:
                os.dup2(sink.fileno(), descriptor)
            yield lines
        finally:
            for descriptor, original in terminal.items():
                os.dup2(original, descriptor)
                os.close(original)
            _flush()
            sink.seek(0)
            lines += sink


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
