"""The shape of the spectrum as features for mirembed.

Every `mirembed` command imports this module, so numpy is imported only when features are computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirembed import AudioError, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from mirembed import Audio

RATE = 16000
"""Sampling rate in Hz to which all audio is converted."""


class Shape:
    """Centroid and spread in Hz, and flatness between 0 and 1, of the power spectrum of each frame.

    Parameters
    ----------
    frame : float
        Length of a frame in seconds, at least as long as the hop.
    hop : float
        Seconds from frame to frame: a whole number of samples at 16 kHz.
    """

    values = 3
    version = "1"

    def __init__(self, frame: float = 0.05, hop: float = 0.025) -> None:
        self.hop = hop
        self._hop, self._frame = round(hop * RATE), round(frame * RATE)
        if not 0 < self._hop == hop * RATE:
            raise ValueError(f"hop is {hop}; expected a whole number of samples at {RATE} Hz, such as 0.025")
        if self._frame < self._hop:
            raise ValueError(f"frame is {frame} and hop is {hop}; expected a frame at least as long as the hop")

    def extract(self, audio: Audio) -> NDArray[np.float32]:
        """Return the shape of all whole frames: ndarray ``[n_frames, 3]``."""
        import numpy as np

        described = []
        waiting = np.zeros(0, np.float32)  # samples of the next frames
        for block in audio.blocks(RATE):
            waiting = np.concatenate([waiting, block])
            n_frames = max(0, (len(waiting) - self._frame) // self._hop + 1)
            if n_frames:
                starts = np.arange(n_frames) * self._hop
                described.append(self._describe(waiting[starts[:, None] + np.arange(self._frame)]))
                waiting = waiting[n_frames * self._hop :]
        if not described:
            raise AudioError(f"shorter than a frame of {self._frame / RATE:g} s")
        return np.concatenate(described)

    def _describe(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return centroid, spread and flatness ``[n_frames, 3]`` of frames ``[n_frames, n_samples]``."""
        import numpy as np

        power = np.abs(np.fft.rfft(frames * np.hanning(self._frame))) ** 2 + 1e-12  # [n_frames, n_bins]; never 0
        frequencies = np.fft.rfftfreq(self._frame, 1 / RATE)
        share = power / power.sum(axis=1, keepdims=True)
        centroid = share @ frequencies
        spread = np.sqrt((share * (frequencies - centroid[:, None]) ** 2).sum(axis=1))
        flatness = np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)
        return np.stack([centroid, spread, flatness], axis=1).astype(np.float32)


@hookimpl
def mirembed_register_features(register: Callable[..., None]) -> None:
    """Register the features."""
    register("shape", Shape, summary="Centroid, spread and flatness of the spectrum")
