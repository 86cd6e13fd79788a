"""Who computes the power spectra: Essentia, or scipy where there is no Essentia.

The two agree to 0.01 dB in bands within 100 dB of a clip's maximum, and so are one to the fingerprint.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mirembed.audio.essentia_algorithms import algorithm, why_not
from mirembed.errors import SpecError
from mirembed.spectrogram.definition import SpectrogramParameters, band_filters, fft_size, frame_length

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Backend = Literal["essentia", "scipy"]

BACKENDS = ("auto", "essentia", "scipy")
"""What may be asked for; ``auto`` is Essentia where it can be imported."""

FRAMES_AT_ONCE = 64

Spectra: TypeAlias = "Callable[[list[NDArray[np.float32]]], NDArray[np.float32]]"
"""From at most `FRAMES_AT_ONCE` frames ``[length]`` to their amplitudes ``[n_frames, n_bins]``."""


def choose_backend(wanted: str) -> Backend:
    """Return the backend that is meant.

    Raises
    ------
    SpecError
        If there is none of this name, or Essentia is asked for and cannot be imported.
    """
    if wanted not in BACKENDS:
        raise SpecError(f"--backend {wanted}: expected {', '.join(BACKENDS)}")
    if wanted == "scipy":
        return "scipy"
    missing = why_not()
    if missing is None:
        return "essentia"
    if wanted == "essentia":
        raise SpecError(f"--backend essentia: Essentia cannot be imported ({missing}); use --backend scipy")
    return "scipy"


class Powers:
    """Computes the power in each band of frames.

    Parameters
    ----------
    rate : int
        Hz.
    parameters : SpectrogramParameters
    backend : {"essentia", "scipy"}

    Raises
    ------
    AudioError
        The sampling rate is too low for the bands.
    """

    def __init__(self, rate: int, parameters: SpectrogramParameters, backend: Backend) -> None:
        self._length = frame_length(rate, parameters)
        self._filters, self._spectra = _prepare(rate, parameters, backend)

    def __call__(self, samples: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the powers ``[n_frames, bands]`` of the frames of ``samples`` that begin at ``starts``."""
        import numpy as np

        powers = np.empty((len(starts), self._filters.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is for the caller to find
            for first in range(0, len(starts), FRAMES_AT_ONCE):
                several = starts[first : first + FRAMES_AT_ONCE].tolist()
                frames = [samples[start : start + self._length] for start in several]
                powers[first : first + len(several)] = self._spectra(frames) @ self._filters
        return powers


@functools.lru_cache(maxsize=8)
def _prepare(rate: int, parameters: SpectrogramParameters, backend: Backend) -> tuple[NDArray[np.float32], Spectra]:
    import numpy as np

    bins, filters = band_filters(rate, parameters)
    length, size = frame_length(rate, parameters), fft_size(rate, parameters)
    make = {"essentia": _by_essentia, "scipy": _by_scipy}[backend]
    spectra, window_sum = make(length, size, bins, parameters.window)
    return (filters / window_sum**2).astype(np.float32), spectra


def _by_essentia(length: int, size: int, bins: slice, window: str) -> tuple[Spectra, float]:
    import numpy as np

    windowing = algorithm(
        "Windowing",
        type=window,
        size=length,
        zeroPadding=size - length,
        normalized=False,
        zeroPhase=False,
        symmetric=True,
        constantsDecimals=2,
    ).__compute__
    spectrum = algorithm("Spectrum", size=size).__compute__
    amplitudes = np.empty((FRAMES_AT_ONCE, bins.stop - bins.start), np.float32)

    def powers(frames: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        for row, frame in zip(amplitudes, frames, strict=False):
            row[:] = spectrum(windowing(frame))[bins]
        return np.square(amplitudes[: len(frames)])

    return powers, float(np.sum(windowing(np.ones(length, np.float32)), dtype=np.float64))


def _by_scipy(length: int, size: int, bins: slice, window: str) -> tuple[Spectra, float]:
    import numpy as np
    from scipy.fft import rfft

    # scipy.signal has these too, and takes half a second and 60 MiB to import.
    weights = {"hamming": np.hamming, "hann": np.hanning}[window](length)
    weights32: NDArray[Any] = weights.astype(np.float32)
    padded = np.zeros((FRAMES_AT_ONCE, size), np.float32)

    def powers(frames: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        for row, frame in zip(padded, frames, strict=False):
            np.multiply(frame, weights32, out=row[:length])
        spectra = rfft(padded[: len(frames)])[:, bins]
        power: NDArray[np.float32] = np.square(spectra.real) + np.square(spectra.imag)
        return power

    return powers, float(weights.sum())
