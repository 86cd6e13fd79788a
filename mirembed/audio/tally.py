"""What is kept of a file while its blocks come in: the mean of the channels goes on, and the block is forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

from mirembed.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST = 12 * 3600
"""Seconds. A file that states more is refused before it is decoded."""

HIGHEST_RATE = 768_000
"""Hz. Only a damaged header states more, and a frame of it would not fit into memory."""

BLOCK_VALUES = 2**19
"""Samples of all channels in a block: 2 MiB."""

Decoder = Literal["soundfile", "essentia"]


class Receiver(Protocol):
    """Takes the samples of one file, in their order."""

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples, ``[n_samples]``: the mean of the channels; full scale is 1, all are finite."""


R = TypeVar("R", bound=Receiver)


class Tally(Generic[R]):
    """What is known of a file that is being decoded.

    Parameters
    ----------
    receiver : callable
        From the sampling rate in Hz to what takes the samples.
    rate : int
    n_channels : int
    decoder : {"soundfile", "essentia"}

    Raises
    ------
    AudioError
        If the rate or the number of channels cannot be that of music.
    """

    def __init__(self, receiver: Callable[[int], R], rate: int, n_channels: int, decoder: Decoder) -> None:
        if not 1 <= rate <= HIGHEST_RATE:
            raise AudioError(f"sampling rate {rate} Hz, expected at most {HIGHEST_RATE}: the header is damaged")
        self.rate = rate
        self.decoder = decoder
        self.n_samples = 0
        self.receiver = receiver(rate)
        self._n_channels = n_channels
        self._n_bad = 0
        self._hasher = hashlib.blake2b(f"{rate} Hz, {n_channels} channels".encode(), digest_size=16)

    @property
    def seconds(self) -> float:
        """The length of what was decoded."""
        return self.n_samples / self.rate

    def add(self, channels: NDArray[np.float32]) -> None:
        """Take the next samples ``[n_samples, n_channels]``, in one piece of memory."""
        import numpy as np

        self.n_samples += len(channels)
        require_bounded(self.seconds)
        self._hasher.update(channels.data.cast("B"))
        mono = self._mean(channels)
        if not np.isfinite(mono).all():
            self._n_bad += int(channels.size - np.count_nonzero(np.isfinite(channels)))
        if not self._n_bad:
            self.receiver.add(mono)

    def finish(self) -> str:
        """Return the digest of all samples.

        Raises
        ------
        AudioError
            If there was none, or one that is NaN or infinite.
        """
        if not self.n_samples:
            raise AudioError("no samples: the file has a header and no sound")
        if self._n_bad:
            n_values = self.n_samples * self._n_channels
            raise AudioError(f"{self._n_bad} of {n_values} samples are NaN or infinite: export the file again")
        return self._hasher.hexdigest()

    def _mean(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        # Channel by channel: numpy's mean over an axis of length two is many times slower.
        mono: NDArray[np.float32] = channels[:, 0].copy()
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is counted, and no warning
            for channel in range(1, self._n_channels):
                mono += channels[:, channel]
        if self._n_channels > 1:
            mono /= self._n_channels
        return mono


def require_bounded(seconds: float) -> None:
    """Raise `AudioError` for what is longer than `LONGEST`."""
    if seconds > LONGEST:
        raise AudioError(f"{seconds / 3600:.1f} hours long, at most {LONGEST // 3600} are read: cut it into pieces")
