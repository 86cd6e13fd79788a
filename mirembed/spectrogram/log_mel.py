"""Samples or files → log-mel spectrograms.

The spectra come from Essentia, or from scipy where Essentia is not installed. The two agree to 0.01 dB in bands within
100 dB of a clip's maximum, so the store treats their spectrograms as the same features.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.by_essentia import essentia_algorithm, essentia_error
from mirembed.errors import AudioError, SpecError
from mirembed.spectrogram.definition import (
    DEFAULTS,
    SpectrogramParameters,
    band_filters,
    count_frames,
    fft_size,
    frame_length,
    hop,
)

Backend = Literal["essentia", "scipy"]

BACKENDS = ("auto", "essentia", "scipy")
"""Valid values of ``--backend``; ``auto`` is Essentia if it can be imported, else scipy."""

BATCH_FRAMES = 64
"""Frames whose spectra are computed at once."""

PowerSpectra: TypeAlias = Callable[[list[NDArray[np.float32]]], NDArray[np.float32]]
"""From at most `BATCH_FRAMES` frames ``[length]`` to their power spectra ``[n_frames, n_bins]``."""


def choose_backend(name: str) -> Backend:
    """Return the backend that a value of ``--backend`` stands for.

    Raises
    ------
    SpecError
        The name is unknown, or Essentia is wanted and cannot be imported.
    """
    if name not in BACKENDS:
        raise SpecError(f"--backend {name}: expected {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}")
    if name == "scipy":
        return "scipy"
    error = essentia_error()
    if error and name == "essentia":
        raise SpecError(f"--backend essentia: Essentia cannot be imported ({error}); use --backend scipy")
    return "scipy" if error else "essentia"


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
        The sampling rate is too low for the bands; there is no full frame; a power is not finite.
    """
    stream = LogMel(rate, parameters, choose_backend(backend))
    with np.errstate(over="ignore"):  # a sample too large for float32 shows in its power
        stream.add(np.ascontiguousarray(samples, dtype=np.float32))
    return stream.frames()


class LogMel:
    """The log-mel spectrogram of samples that arrive in pieces of any length.

    Parameters
    ----------
    rate : int
        Sampling rate in Hz.
    parameters : SpectrogramParameters
    backend : {"essentia", "scipy"}

    Raises
    ------
    AudioError
        The sampling rate is too low for the bands.
    """

    def __init__(self, rate: int, parameters: SpectrogramParameters, backend: Backend) -> None:
        self._rate, self._parameters = rate, parameters
        self._length, self._hop = frame_length(rate, parameters), hop(rate, parameters)
        self._filters, self._power_spectra = _prepare(rate, parameters, backend)
        self._n_samples = self._n_frames = 0
        self._rest = np.empty(0, np.float32)
        self._decibels: list[NDArray[np.float32]] = []

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples, ``[n_samples]``, C-contiguous.

        Raises
        ------
        AudioError
            A power is not finite.
        """
        # From the first sample of the next frame on.
        known = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        self._n_samples += len(samples)
        offset = self._n_samples - len(known)
        n_frames = count_frames(self._n_samples, self._rate, self._parameters)
        numbers = np.arange(self._n_frames, n_frames + 1)
        starts = numbers * self._hop.numerator // self._hop.denominator - offset
        if len(starts) > 1:
            self._decibels.append(self._in_decibels(known, starts[:-1]))
            self._n_frames = n_frames
        self._rest = known[max(0, int(starts[-1])) :].copy()

    def frames(self) -> NDArray[np.float32]:
        """Return the spectrogram ``[n_frames, bands]`` of all samples.

        Raises
        ------
        AudioError
            There is no full frame.
        """
        if not self._decibels:
            raise AudioError(
                f"{self._n_samples / self._rate:.3f} s long, shorter than one frame of "
                f"{self._parameters.frame_seconds} s; use a longer clip"
            )
        if len(self._decibels) > 1:
            self._decibels = [np.concatenate(self._decibels)]
        return self._decibels[0]

    def _in_decibels(self, samples: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the spectrogram ``[n_frames, bands]`` of the frames that begin at ``starts``."""
        powers = np.empty((len(starts), self._filters.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite are found below
            for first in range(0, len(starts), BATCH_FRAMES):
                batch = starts[first : first + BATCH_FRAMES].tolist()
                frames = [samples[start : start + self._length] for start in batch]
                powers[first : first + len(batch)] = self._power_spectra(frames) @ self._filters
        if not np.isfinite(powers).all():
            raise AudioError("samples are NaN or too large: full scale should be 1")
        decibels: NDArray[np.float32] = 10 * np.log10(np.maximum(powers, self._parameters.minimum_power))
        return decibels.astype(np.float32)


@functools.lru_cache(maxsize=8)
def _prepare(
    rate: int, parameters: SpectrogramParameters, backend: Backend
) -> tuple[NDArray[np.float32], PowerSpectra]:
    """Return the filters ``[n_bins, bands]``, scaled for the window, and a function for the power in their bins."""
    bins, filters = band_filters(rate, parameters)
    length, size = frame_length(rate, parameters), fft_size(rate, parameters)
    make = {"essentia": _by_essentia, "scipy": _by_scipy}[backend]
    power_spectra, window_sum = make(length, size, bins, parameters.window)
    return (filters / window_sum**2).astype(np.float32), power_spectra


def _by_essentia(length: int, size: int, bins: slice, window: str) -> tuple[PowerSpectra, float]:
    windowing = essentia_algorithm(
        "Windowing",
        type=window,
        size=length,
        zeroPadding=size - length,
        normalized=False,
        zeroPhase=False,
        symmetric=True,
        constantsDecimals=2,
    ).__compute__
    spectrum = essentia_algorithm("Spectrum", size=size).__compute__
    amplitudes = np.empty((BATCH_FRAMES, bins.stop - bins.start), np.float32)

    def power_spectra(frames: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        for row, frame in zip(amplitudes, frames, strict=False):
            row[:] = spectrum(windowing(frame))[bins]
        return np.square(amplitudes[: len(frames)])

    return power_spectra, float(np.sum(windowing(np.ones(length, np.float32)), dtype=np.float64))


def _by_scipy(length: int, size: int, bins: slice, window: str) -> tuple[PowerSpectra, float]:
    from scipy.fft import rfft

    # scipy.signal has these windows too, but takes half a second and 60 MiB to import.
    weights = {"hamming": np.hamming, "hann": np.hanning}[window](length)
    weights32: NDArray[Any] = weights.astype(np.float32)
    padded = np.zeros((BATCH_FRAMES, size), np.float32)

    def power_spectra(frames: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        for row, frame in zip(padded, frames, strict=False):
            np.multiply(frame, weights32, out=row[:length])
        spectra = rfft(padded[: len(frames)])[:, bins]
        power: NDArray[np.float32] = np.square(spectra.real) + np.square(spectra.imag)
        return power

    return power_spectra, float(weights.sum())
