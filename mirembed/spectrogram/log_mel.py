"""Samples, and files, → log-mel spectrogram."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.audio import Decoder, decode_into
from mirembed.errors import AudioError
from mirembed.spectrogram.backends import Backend, Powers, choose_backend
from mirembed.spectrogram.definition import DEFAULTS, SpectrogramParameters, count_frames, hop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Spectrogram:
    """The spectrogram of one file, and what decoding it told.

    Attributes
    ----------
    frames : ndarray [n_frames, n_bands], float32
        Power in dB, at least -100.
    duration : float
        Seconds.
    audio_hash, decoder, chatter
        As in `mirembed.audio.Sound`.
    backend : {"essentia", "scipy"}
    """

    frames: NDArray[np.float32]
    duration: float
    audio_hash: str
    decoder: Decoder
    chatter: int
    backend: Backend


def spectrogram(path: Path, parameters: SpectrogramParameters = DEFAULTS, backend: str = "auto") -> Spectrogram:
    """Decode a file and compute its spectrogram, block by block.

    Parameters
    ----------
    path : pathlib.Path
    parameters : SpectrogramParameters
    backend : {"auto", "essentia", "scipy"}

    Raises
    ------
    AudioError
        As `mirembed.audio.decode_into` and `log_mel`.
    SpecError
        See `mirembed.spectrogram.choose_backend`.
    """
    chosen = choose_backend(backend)
    stream, sound = decode_into(path, partial(LogMel, parameters=parameters, backend=chosen))
    return Spectrogram(stream.frames(), sound.duration, sound.audio_hash, sound.decoder, sound.chatter, chosen)


def log_mel(
    samples: NDArray[np.floating[Any]],
    rate: int,
    parameters: SpectrogramParameters = DEFAULTS,
    backend: str = "auto",
) -> NDArray[np.float32]:
    """Compute the log-mel spectrogram of samples.

    Parameters
    ----------
    samples : ndarray [n_samples]
        One channel; full scale is 1.
    rate : int
        Sampling rate in Hz.
    parameters : SpectrogramParameters
    backend : {"auto", "essentia", "scipy"}

    Returns
    -------
    ndarray [n_frames, bands], float32
        Power in dB; full frames only.

    Raises
    ------
    AudioError
        The sampling rate is too low for the bands; there is not one full frame; a power is not finite.
    """
    import numpy as np

    stream = LogMel(rate, parameters, choose_backend(backend))
    with np.errstate(over="ignore"):  # what is too large for float32 is found by its power
        stream.add(np.ascontiguousarray(samples, dtype=np.float32))
    return stream.frames()


class LogMel:
    """The log-mel spectrogram of samples that come piece by piece, whatever the pieces.

    Parameters
    ----------
    rate : int
    parameters : SpectrogramParameters
    backend : {"essentia", "scipy"}
    """

    def __init__(self, rate: int, parameters: SpectrogramParameters, backend: Backend) -> None:
        import numpy as np

        self._rate, self._parameters = rate, parameters
        self._hop = hop(rate, parameters)
        self._powers = Powers(rate, parameters, backend)
        self._n_samples = self._n_frames = 0
        self._rest = np.empty(0, np.float32)
        self._decibels: list[NDArray[np.float32]] = []

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples, ``[n_samples]``, in one piece of memory."""
        import numpy as np

        # From the first sample of the next frame on.
        known = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        self._n_samples += len(samples)
        offset = self._n_samples - len(known)
        n_frames = count_frames(self._n_samples, self._rate, self._parameters)
        numbers = np.arange(self._n_frames, n_frames + 1)
        starts = numbers * self._hop.numerator // self._hop.denominator - offset
        if len(starts) > 1:
            self._decibels.append(self._in_decibels(self._powers(known, starts[:-1])))
            self._n_frames = n_frames
        self._rest = known[max(0, int(starts[-1])) :].copy()

    def frames(self) -> NDArray[np.float32]:
        """Return the spectrogram ``[n_frames, bands]`` of all samples.

        Raises
        ------
        AudioError
            There is not one full frame.
        """
        import numpy as np

        if not self._decibels:
            raise AudioError(
                f"{self._n_samples / self._rate:.3f} s long, where one frame takes {self._parameters.frame_seconds} s: "
                "use a longer clip"
            )
        if len(self._decibels) > 1:
            self._decibels = [np.concatenate(self._decibels)]
        return self._decibels[0]

    def _in_decibels(self, powers: NDArray[np.float64]) -> NDArray[np.float32]:
        import numpy as np

        if not np.isfinite(powers).all():
            raise AudioError("samples that are NaN, or too large for their power: full scale should be 1")
        decibels: NDArray[np.float32] = 10 * np.log10(np.maximum(powers, self._parameters.minimum_power))
        return decibels.astype(np.float32)
