"""The definition of the log-mel spectrogram, as MIRtoolbox computes it by default.

Frames of 50 ms every 25 ms, a Hamming window, and the power in 40 triangular bands on Slaney's mel scale (Auditory
Toolbox, 1998: linear up to 933 Hz, logarithmic above), in decibels. Nothing is resampled, because the bands end below
7 kHz. The window is divided by its sum, and each sum over a band's bins is multiplied by their width, so that the same
music has the same spectrogram at every sampling rate.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import AudioError


@dataclass(frozen=True)
class SpectrogramParameters:
    """Everything that defines a spectrogram.

    Attributes
    ----------
    version : int
        Version of the steps that the other fields do not describe: downmixing, power, decibels.
    frame_seconds, hop_seconds : float
        The hop is not rounded to samples: frame ``i`` starts at sample ``floor(i * hop_seconds * rate)``.
    window : str
        Essentia's name of a symmetric window; Hamming's constants are 0.54 and 0.46.
    widest_bin : float
        Hz. The FFT size is the next power of two of the frame length and of ``rate / widest_bin``.
    bands : int
    lowest_edge, linear_step : float
        Hz. The first ``linear_edges`` edges of the bands are ``linear_step`` apart.
    linear_edges : int
    log_factor : float
        Ratio of an edge to the one below, above the linear part.
    minimum_power : float
        Lower powers are raised to it, so that digital silence is -100 dB.
    """

    version: int = 1
    frame_seconds: float = 0.05
    hop_seconds: float = 0.025
    window: str = "hamming"
    widest_bin: float = 66.0
    bands: int = 40
    lowest_edge: float = 133.3333
    linear_step: float = 66.6667
    linear_edges: int = 13
    log_factor: float = 1.0711703
    minimum_power: float = 1e-10

    def to_json(self) -> dict[str, int | float | str]:
        """Return the fields in their order."""
        return asdict(self)


DEFAULTS = SpectrogramParameters()


def count_frames(n_samples: int, rate: int, parameters: SpectrogramParameters = DEFAULTS) -> int:
    """Return the number of full frames: 1199 in 30 s, at every sampling rate.

    >>> count_frames(30 * 22_050, 22_050), count_frames(30 * 44_100, 44_100)
    (1199, 1199)
    """
    rest = n_samples - frame_length(rate, parameters)
    return 0 if rest < 0 else math.floor(rest / hop(rate, parameters)) + 1


def frame_length(rate: int, parameters: SpectrogramParameters) -> int:
    """Return the number of samples in a frame.

    >>> frame_length(22_050, DEFAULTS)
    1102
    """
    return math.floor(_exact(parameters.frame_seconds) * rate)


def hop(rate: int, parameters: SpectrogramParameters) -> Fraction:
    """Return the number of samples from frame to frame, which need not be whole.

    >>> float(hop(22_050, DEFAULTS))
    551.25
    """
    return _exact(parameters.hop_seconds) * rate


def _exact(seconds: float) -> Fraction:
    # 0.025 as written: products of its binary value may fall just below the whole number that they should be.
    return Fraction(str(seconds))


def fft_size(rate: int, parameters: SpectrogramParameters) -> int:
    """Return the number of samples in a zero-padded frame, a power of two.

    >>> fft_size(22_050, DEFAULTS), fft_size(44_100, DEFAULTS)
    (2048, 4096)
    """
    return 1 << math.ceil(math.log2(max(frame_length(rate, parameters), rate / parameters.widest_bin)))


def band_edges(parameters: SpectrogramParameters = DEFAULTS) -> NDArray[np.float64]:
    """Return the edges of the triangles, ``[bands + 2]`` in Hz: band ``i`` spans edges ``i`` to ``i + 2``."""
    linear = parameters.lowest_edge + parameters.linear_step * np.arange(parameters.linear_edges)
    n_logarithmic = parameters.bands + 2 - parameters.linear_edges
    logarithmic = linear[-1] * parameters.log_factor ** np.arange(1, n_logarithmic + 1)
    return np.concatenate([linear, logarithmic])


def band_filters(rate: int, parameters: SpectrogramParameters) -> tuple[slice, NDArray[np.float64]]:
    """Return the triangular filters of the bands.

    Returns
    -------
    bins : slice
        The bins of the FFT that contribute to any band.
    filters : ndarray [n_bins, bands]
        Weights of the powers in these bins.

    Raises
    ------
    AudioError
        The sampling rate is too low for the bands.
    """
    edges = band_edges(parameters)
    lowest_rate = 100 * math.ceil(2 * edges[-1] / 100)
    if rate < lowest_rate:
        raise AudioError(
            f"sampling rate {rate} Hz is too low: the bands reach {edges[-1]:.0f} Hz and need at least {lowest_rate} "
            "Hz; use a recording of full bandwidth"
        )
    size = fft_size(rate, parameters)
    width = rate / size
    bins = slice(math.ceil(edges[0] / width), math.floor(edges[-1] / width) + 1)
    frequency = np.arange(bins.start, bins.stop)[:, None] * width
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequency - low) / (center - low), (high - frequency) / (high - center)
    filters = np.clip(np.minimum(rising, falling), 0, None) * (2 / (high - low)) * width
    return bins, filters
