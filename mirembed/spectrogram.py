"""One audio file → its log-mel spectrogram, as MIRtoolbox defines it by default.

Frames of 50 ms every 25 ms, a Hamming window, the power in 40 triangular bands on Slaney's mel scale
(Auditory Toolbox, 1998: linear to 933 Hz, logarithmic above), in decibels. Nothing is resampled, for the
bands end below 7 kHz. The window is divided by its sum, and each sum over a band's bins is multiplied by
their width, so that the same music has the same spectrogram at every sampling rate.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.audio import Decoder, decode
from mirembed.errors import AudioError
from mirembed.essentia_algorithms import algorithm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SpectrogramParameters:
    """Everything that defines a spectrogram.

    Attributes
    ----------
    version : int
        Of what the other fields do not say: down-mixing, power, decibels.
    frame_seconds, hop_seconds : float
        The hop is not rounded to samples: frame ``i`` starts at sample ``floor(i * hop_seconds * rate)``.
    window : str
        As Essentia names it, symmetric; Hamming's constants are 0.54 and 0.46.
    widest_bin : float
        Hz. The FFT size is the next power of two of a frame and of ``rate / widest_bin``.
    bands : int
    lowest_edge, linear_step : float
        Hz. The first ``linear_edges`` edges of the bands are ``linear_step`` apart.
    linear_edges : int
    log_factor : float
        Ratio of an edge to the one below, above the linear part.
    minimum_power : float
        Lower powers are raised to it: digital silence is -100 dB.
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
        """Return the fields, in their order."""
        return asdict(self)


DEFAULTS = SpectrogramParameters()


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
        As in `mirembed.audio.Audio`.
    """

    frames: NDArray[np.float32]
    duration: float
    audio_hash: str
    decoder: Decoder
    chatter: int


def spectrogram(path: Path, parameters: SpectrogramParameters = DEFAULTS) -> Spectrogram:
    """Decode a file and compute its spectrogram.

    Raises
    ------
    AudioError
        As `mirembed.audio.decode` and `log_mel`.
    """
    audio = decode(path)
    frames = log_mel(audio.samples, audio.rate, parameters)
    return Spectrogram(frames, len(audio.samples) / audio.rate, audio.audio_hash, audio.decoder, audio.chatter)


def log_mel(
    samples: NDArray[np.floating[Any]], rate: int, parameters: SpectrogramParameters = DEFAULTS
) -> NDArray[np.float32]:
    """Compute the log-mel spectrogram of samples by Essentia.

    Parameters
    ----------
    samples : ndarray [n_samples]
        One channel; full scale is 1.
    rate : int
        Sampling rate in Hz.
    parameters : SpectrogramParameters

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

    n_frames = count_frames(len(samples), rate, parameters)
    if not n_frames:
        raise AudioError(
            f"{len(samples) / rate:.3f} s long, where one frame takes {parameters.frame_seconds} s: use a longer clip"
        )
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    length, hop = _frame_length(rate, parameters), _hop(rate, parameters)
    window, spectrum, bands, scale = _algorithms(rate, parameters)
    power = np.empty((n_frames, parameters.bands))
    for frame, start in enumerate(np.arange(n_frames) * hop.numerator // hop.denominator):
        magnitudes = spectrum.__compute__(window.__compute__(samples[start : start + length]))
        power[frame] = bands.__compute__(magnitudes)
    if not np.isfinite(power).all():
        raise AudioError("samples that are NaN, or too large for their power: full scale should be 1")
    decibels = 10 * np.log10(np.maximum(power * scale, parameters.minimum_power))
    return decibels.astype(np.float32)


def count_frames(n_samples: int, rate: int, parameters: SpectrogramParameters = DEFAULTS) -> int:
    """Return the number of full frames: 1199 in 30 s, at every sampling rate."""
    rest = n_samples - _frame_length(rate, parameters)
    return 0 if rest < 0 else math.floor(rest / _hop(rate, parameters)) + 1


def band_edges(parameters: SpectrogramParameters = DEFAULTS) -> NDArray[np.float64]:
    """Return the edges of the triangles, ``[bands + 2]`` in Hz: band ``i`` spans edges ``i`` to ``i + 2``."""
    import numpy as np

    linear = parameters.lowest_edge + parameters.linear_step * np.arange(parameters.linear_edges)
    n_logarithmic = parameters.bands + 2 - parameters.linear_edges
    logarithmic = linear[-1] * parameters.log_factor ** np.arange(1, n_logarithmic + 1)
    return np.concatenate([linear, logarithmic])


def _frame_length(rate: int, parameters: SpectrogramParameters) -> int:
    return math.floor(_exactly(parameters.frame_seconds) * rate)


def _hop(rate: int, parameters: SpectrogramParameters) -> Fraction:
    return _exactly(parameters.hop_seconds) * rate


def _exactly(seconds: float) -> Fraction:
    # 0.025 as it is written: its binary products may fall just below the whole number that they should be.
    return Fraction(str(seconds))


def _algorithms(rate: int, parameters: SpectrogramParameters) -> tuple[Any, Any, Any, float]:
    """Return Essentia's window, magnitude spectrum and bands, and what is left to multiply the bands with."""
    import numpy as np

    edges = band_edges(parameters)
    lowest_rate = 100 * math.ceil(2 * edges[-1] / 100)
    if rate < lowest_rate:
        raise AudioError(
            f"sampling rate {rate} Hz: the bands reach {edges[-1]:.0f} Hz and need at least {lowest_rate}; "
            "use a recording of full bandwidth"
        )
    length = _frame_length(rate, parameters)
    fft_size = 2 ** math.ceil(math.log2(max(length, rate / parameters.widest_bin)))
    window = algorithm(
        "Windowing",
        type=parameters.window,
        size=length,
        zeroPadding=fft_size - length,
        normalized=False,
        zeroPhase=False,
        symmetric=True,
        constantsDecimals=2,
    )
    bands = algorithm(
        "TriangularBands",
        frequencyBands=edges.tolist(),
        sampleRate=float(rate),
        inputSize=fft_size // 2 + 1,
        weighting="linear",
        normalize="unit_tri",
        type="power",
        log=False,
    )
    window_sum = np.sum(window.__compute__(np.ones(length, np.float32)), dtype=np.float64)
    return window, algorithm("Spectrum", size=fft_size), bands, rate / fft_size / window_sum**2
