"""The features ``logmel``: log-mel spectrograms, by default as MIRtoolbox computes them.

Frames of 50 ms every 25 ms, a Hamming window, and the power in 40 triangular bands on Slaney's mel scale (Auditory
Toolbox, 1998: linear up to 933 Hz, logarithmic above), in decibels. Nothing is resampled. The window is divided by its
sum, and each sum over a band's bins is multiplied by their width, so that the same music has the same spectrogram at
every sampling rate.

The spectra come from Essentia, or from scipy where Essentia is not installed. The two agree to 0.01 dB in bands within
100 dB of a clip's maximum, so their spectrograms are the same features.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed import Audio, AudioError
from mirembed_features.framing import exact

Backend = Literal["essentia", "scipy"]

MAX_BANDS = 1024
MAX_FREQUENCY = 384_000.0
"""Hz: half of the highest sampling rate."""

MINIMUM_POWER = 1e-10
"""Lower powers are raised to it, so that digital silence is -100 dB."""

BATCH_FRAMES = 64
"""Frames whose powers are summed into bands at once."""

FFT_VALUES = 2**16
"""Samples of the zero-padded frames that scipy transforms at once. They, and their spectra, fit in a core's cache."""

PowerSpectra: TypeAlias = Callable[[NDArray[np.float32], list[int]], NDArray[np.float32]]
"""From samples, and the first ones of at most `BATCH_FRAMES` frames, to power spectra ``[n_frames, n_bins]``.

They are valid until the next call."""


class Scale(NamedTuple):
    """A scale of pitch: functions from Hz to positions on it, and back."""

    position: Callable[[float], float]
    frequency: Callable[[NDArray[np.float64]], NDArray[np.float64]]


LOWEST, STEP, LINEAR_STEPS, RATIO = 133.3333, 66.6667, 12, 1.0711703
"""Slaney's bands: the lowest edge in Hz, twelve more in steps of 66.6667 Hz, then each at a ratio to the one below.

A position on his scale counts these steps from the lowest edge."""


def _slaney_position(frequency: float) -> float:
    top = LOWEST + STEP * LINEAR_STEPS
    if frequency <= top:
        position = (frequency - LOWEST) / STEP
    else:
        position = LINEAR_STEPS + math.log(frequency / top) / math.log(RATIO)
    return round(position, 6)  # so that 6853.8422 Hz is exactly 41 steps


def _slaney_frequency(position: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = LOWEST + STEP * np.minimum(position, LINEAR_STEPS)
    steps: NDArray[np.float64] = linear * RATIO ** np.maximum(position - LINEAR_STEPS, 0)
    return steps


SCALES: dict[str, Scale] = {
    "slaney": Scale(_slaney_position, _slaney_frequency),
    "htk": Scale(lambda f: 2595 * math.log10(1 + f / 700), lambda m: 700 * (10 ** (m / 2595) - 1)),
    "bark": Scale(lambda f: 26.81 * f / (1960 + f) - 0.53, lambda z: 1960 * (z + 0.53) / (26.28 - z)),
    "erb": Scale(lambda f: 21.4 * math.log10(1 + 0.00437 * f), lambda e: (10 ** (e / 21.4) - 1) / 0.00437),
}
"""By the value of ``scale``. Bark after Traunmüller (1990), ERB-rate after Glasberg and Moore (1990)."""


CITATION = """\
@inproceedings{lartillot2007,
  author    = {Lartillot, Olivier and Toiviainen, Petri},
  title     = {A {Matlab} Toolbox for Musical Feature Extraction from Audio},
  booktitle = {Proceedings of the 10th International Conference on Digital Audio Effects (DAFx-07)},
  address   = {Bordeaux, France},
  pages     = {237--244},
  year      = {2007}
}
@techreport{slaney1998,
  author      = {Slaney, Malcolm},
  title       = {Auditory Toolbox, Version 2},
  institution = {Interval Research Corporation},
  number      = {1998-010},
  year        = {1998}
}"""


@dataclass(frozen=True)
class Definition:
    """Everything that decides the frames; the attributes are the parameters of `LogMel`."""

    bands: int
    frame: float
    hop: float
    low: float
    high: float
    scale: str

    def edges(self) -> NDArray[np.float64]:
        """Return the edges of the triangles, ``[bands + 2]`` in Hz: band ``i`` spans edges ``i`` to ``i + 2``.

        They are at equal distances on the scale, from ``low`` to ``high``.
        """
        scale = SCALES[self.scale]
        return scale.frequency(np.linspace(scale.position(self.low), scale.position(self.high), self.bands + 2))

    def frame_length(self, rate: int) -> int:
        """Return the number of samples in a frame: ``floor(frame * rate)``."""
        return math.floor(exact(self.frame) * rate)

    def hop_length(self, rate: int) -> Fraction:
        """Return the number of samples from frame to frame, which need not be whole."""
        return exact(self.hop) * rate

    def count_frames(self, n_samples: int, rate: int) -> int:
        """Return the number of full frames."""
        rest = n_samples - self.frame_length(rate)
        return 0 if rest < 0 else math.floor(rest / self.hop_length(rate)) + 1

    def fft_size(self, rate: int) -> int:
        """Return the number of samples in a zero-padded frame.

        It is the smallest power of two that is at least a frame, and gives bins no wider than the narrowest distance
        between two edges, so that every band has a bin.
        """
        widest = float(np.diff(self.edges()).min())
        return 1 << math.ceil(math.log2(max(self.frame_length(rate), rate / widest)))

    def filters(self, rate: int) -> tuple[slice, NDArray[np.float64]]:
        """Return the triangular filters of the bands, each of area 1.

        Returns
        -------
        bins : slice
            The bins of the FFT that contribute to any band.
        filters : ndarray [n_bins, bands]
            Weights of the powers in these bins.
        """
        edges = self.edges()
        width = rate / self.fft_size(rate)
        bins = slice(math.ceil(edges[0] / width), math.floor(edges[-1] / width) + 1)
        frequency = np.arange(bins.start, bins.stop)[:, None] * width
        low, center, high = edges[:-2], edges[1:-1], edges[2:]
        rising, falling = (frequency - low) / (center - low), (high - frequency) / (high - center)
        return bins, np.clip(np.minimum(rising, falling), 0, None) * (2 / (high - low)) * width

    def require_rate(self, rate: int) -> None:
        """Raise `AudioError` if a sampling rate is too low for the bands."""
        lowest = math.ceil(2 * self.high)
        if rate < lowest:
            raise AudioError(
                f"sampling rate {rate} Hz is too low: the bands reach {self.high:.0f} Hz and need at least {lowest} "
                "Hz; use a recording of full bandwidth, or set a lower high"
            )


class Bands:
    """Features whose values are the powers in bands of frames of a recording, in dB.

    Parameters
    ----------
    definition : Definition
    backend : {"auto", "essentia", "scipy"}
        See `LogMel`.

    Raises
    ------
    ValueError
        Essentia is wanted and cannot be imported.
    """

    version = "1"
    neutral = ("backend",)

    def __init__(self, definition: Definition, backend: Literal["auto", "essentia", "scipy"]) -> None:
        self.values, self.hop = definition.bands, definition.hop
        self.definition, self._backend = definition, backend
        if backend == "essentia":
            self.backend  # noqa: B018, raises if it cannot be imported

    @functools.cached_property
    def backend(self) -> Backend:
        """The library that computes the spectra."""
        if self._backend == "scipy":
            return "scipy"
        from mirembed import essentia_error

        error = essentia_error()
        if error and self._backend == "essentia":
            raise ValueError(f"Essentia cannot be imported ({error}); use scipy")
        return "scipy" if error else "essentia"


class LogMel(Bands):
    """Log-mel spectrograms: the power in bands of frames of a recording, in dB, at least -100.

    With the defaults, 30 s of audio have 1199 frames at every sampling rate. Only full frames count. Frame ``i`` begins
    at sample ``floor(i * hop * rate)``. The edges of the bands are at equal distances on the scale between ``low`` and
    ``high``, and each band is a triangle from one edge to the next but one.

    Parameters
    ----------
    bands : int
        Number of bands, 1 to 1024.
    frame : float
        Seconds in a frame.
    hop : float
        Seconds from one frame to the next.
    low : float
        Lowest edge of the bands in Hz.
    high : float
        Highest edge of the bands in Hz; recordings need twice this sampling rate.
    scale : {"slaney", "htk", "bark", "erb"}
        slaney: mel of the Auditory Toolbox, linear up to 933 Hz and logarithmic above; htk: 2595 log10(1 + f/700);
        bark: 26.81 f/(1960 + f) - 0.53; erb: 21.4 log10(1 + 0.00437 f).
    backend : {"auto", "essentia", "scipy"}
        What computes the spectra; auto is Essentia if it is installed. The results are interchangeable.

    Raises
    ------
    ValueError
        A parameter is out of range, or Essentia is wanted and cannot be imported.
    """

    citation = CITATION

    def __init__(
        self,
        bands: int = 40,
        frame: float = 0.05,
        hop: float = 0.025,
        low: float = 133.3333,
        high: float = 6853.8422,
        scale: Literal["slaney", "htk", "bark", "erb"] = "slaney",
        backend: Literal["auto", "essentia", "scipy"] = "auto",
    ) -> None:
        if not 1 <= bands <= MAX_BANDS:
            raise ValueError(f"bands={bands}; expected 1 to {MAX_BANDS}")
        for name, seconds in (("frame", frame), ("hop", hop)):
            if not 0.001 <= seconds <= 10:
                raise ValueError(f"{name}={seconds:g}; expected seconds from 0.001 to 10")
        if not 0 <= low < high <= MAX_FREQUENCY:
            raise ValueError(f"low={low:g},high={high:g}; expected 0 <= low < high <= {MAX_FREQUENCY:.0f} Hz")
        if frame * high < 1:
            raise ValueError(f"frame={frame:g} is shorter than a period of high={high:g} Hz; use a longer one")
        definition = Definition(bands, frame, hop, low, high, scale)
        if float(np.diff(definition.edges()).min()) < 1:
            raise ValueError(f"bands={bands} from {low:g} to {high:g} Hz are too narrow; use fewer, or a wider range")
        super().__init__(definition, backend)

    @property
    def description(self) -> str:
        """What the frames are, for a paper."""
        one = self.definition
        scale = (
            "mel scale of Slaney's Auditory Toolbox [@slaney1998]" if one.scale == "slaney" else f"scale `{one.scale}`"
        )
        defaults = inspect.signature(LogMel).parameters
        known = all(getattr(one, name) == defaults[name].default for name in ("frame", "hop", "low", "high", "scale"))
        toolbox = ", as MIRtoolbox [@lartillot2007] has them by default" if known else ""
        return (
            f"log-mel spectrograms of {one.bands} bands from {one.low:.4g} to {one.high:.4g} Hz on the {scale}, "
            f"in dB, of frames of {1000 * one.frame:g} ms with a hop of {1000 * one.hop:g} ms{toolbox}"
        )

    def extract(self, audio: Audio) -> NDArray[np.float32]:
        """Return the spectrogram of a recording.

        Returns
        -------
        ndarray [n_frames, bands], float32
            Power in dB.

        Raises
        ------
        AudioError
            The sampling rate is too low for the bands; there is no full frame; a power is not finite.
        """
        self.definition.require_rate(audio.rate)
        stream = Stream(audio.rate, self.definition, self.backend)
        for samples in audio.blocks():
            stream.add(samples)
        return stream.frames()


class Stream:
    """The spectrogram of samples that arrive in pieces of any length."""

    def __init__(self, rate: int, definition: Definition, backend: Backend) -> None:
        self._rate, self.definition = rate, definition
        self._length, self._hop = definition.frame_length(rate), definition.hop_length(rate)
        self._filters, self._power_spectra = _prepare(rate, definition, backend)
        self._n_samples = self.n_frames = 0
        self._rest = np.empty(0, np.float32)
        self._decibels: list[NDArray[np.float32]] = []

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples, ``[n_samples]``, C-contiguous."""
        # From the first sample of the next frame on.
        known = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        self._n_samples += len(samples)
        offset = self._n_samples - len(known)
        n_frames = self.definition.count_frames(self._n_samples, self._rate)
        numbers = np.arange(self.n_frames, n_frames + 1)
        starts = numbers * self._hop.numerator // self._hop.denominator - offset
        if len(starts) > 1:
            self._decibels.append(self._in_decibels(known, starts[:-1]))
            self.n_frames = n_frames
        self._rest = known[max(0, int(starts[-1])) :].copy()

    def frames(self) -> NDArray[np.float32]:
        """Return the spectrogram ``[n_frames, bands]`` of all samples."""
        if not self._decibels:
            raise AudioError(
                f"{self._n_samples / self._rate:.3f} s long, shorter than one frame of {self.definition.frame:g} s; "
                "use a longer clip"
            )
        return np.concatenate(self._decibels) if len(self._decibels) > 1 else self._decibels[0]

    def _in_decibels(self, samples: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the spectrogram ``[n_frames, bands]`` of the frames that begin at ``starts``."""
        powers = np.empty((len(starts), self._filters.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite are found below
            for first in range(0, len(starts), BATCH_FRAMES):
                batch = starts[first : first + BATCH_FRAMES].tolist()
                powers[first : first + len(batch)] = self._power_spectra(samples, batch) @ self._filters
        if not np.isfinite(powers).all():
            raise AudioError("samples are NaN or too large: full scale should be 1")
        decibels: NDArray[np.float32] = 10 * np.log10(np.maximum(powers, MINIMUM_POWER))
        return decibels.astype(np.float32)


@functools.lru_cache(maxsize=8)
def _prepare(rate: int, definition: Definition, backend: Backend) -> tuple[NDArray[np.float32], PowerSpectra]:
    """Return the filters ``[n_bins, bands]``, scaled for the window, and a function for the power in their bins."""
    bins, filters = definition.filters(rate)
    make = {"essentia": _by_essentia, "scipy": _by_scipy}[backend]
    power_spectra, window_sum = make(definition.frame_length(rate), definition.fft_size(rate), bins)
    return (filters / window_sum**2).astype(np.float32), power_spectra


def _by_essentia(length: int, size: int, bins: slice) -> tuple[PowerSpectra, float]:
    from mirembed import essentia_algorithm

    windowing = essentia_algorithm(
        "Windowing",
        type="hamming",
        size=length,
        zeroPadding=size - length,
        normalized=False,
        zeroPhase=False,
        symmetric=True,
        constantsDecimals=2,
    ).__compute__
    spectrum = essentia_algorithm("Spectrum", size=size).__compute__
    # What Windowing does with a frame, without a call that takes longer than the products.
    weights = windowing(np.ones(length, np.float32))[:length].copy()
    padded = np.zeros(size, np.float32)
    weighted = padded[:length]
    amplitudes = np.empty((BATCH_FRAMES, bins.stop - bins.start), np.float32)

    def power_spectra(samples: NDArray[np.float32], starts: list[int]) -> NDArray[np.float32]:
        for row, start in zip(amplitudes, starts, strict=False):
            np.multiply(samples[start : start + length], weights, out=weighted)
            row[:] = spectrum(padded)[bins]
        found = amplitudes[: len(starts)]
        return np.square(found, out=found)

    return power_spectra, float(np.sum(weights, dtype=np.float64))


def _by_scipy(length: int, size: int, bins: slice) -> tuple[PowerSpectra, float]:
    from scipy.fft import rfft

    # scipy.signal has this window too, but takes half a second and 60 MiB to import.
    weights = np.hamming(length)
    weights32: NDArray[Any] = weights.astype(np.float32)
    rows = max(4, min(BATCH_FRAMES, FFT_VALUES // size))
    padded = np.zeros((rows, size), np.float32)
    weighted = list(padded[:, :length])
    parts = slice(2 * bins.start, 2 * bins.stop)  # a real part and an imaginary part for each bin
    squares = np.empty((rows, parts.stop - parts.start), np.float32)
    powers = np.empty((BATCH_FRAMES, bins.stop - bins.start), np.float32)

    def power_spectra(samples: NDArray[np.float32], starts: list[int]) -> NDArray[np.float32]:
        for first in range(0, len(starts), rows):
            some = starts[first : first + rows]
            for row, start in zip(weighted, some, strict=False):
                np.multiply(samples[start : start + length], weights32, out=row)
            spectra = rfft(padded[: len(some)]).view(np.float32)[:, parts]
            np.square(spectra, out=squares[: len(some)])
            found = squares[: len(some)]
            np.add(found[:, 0::2], found[:, 1::2], out=powers[first : first + len(some)])
        return powers[: len(starts)]

    return power_spectra, float(weights.sum())
