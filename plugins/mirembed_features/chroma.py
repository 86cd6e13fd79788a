"""The features ``chroma``: the strength of each pitch class, in whatever octave.

Harmonic pitch class profiles after Gómez (Tonal Description of Music Audio Signals, Universitat Pompeu Fabra, 2006,
chapter 3), computed by Essentia: the power of each spectral peak is added to the pitch classes of the notes of which it
can be a harmonic.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed import Audio, AudioError
from mirembed_features.framing import ALIGNED, aligned_blocks, exact, windows

LOWEST, HIGHEST = 40.0, 5000.0
"""Hz: peaks outside this range are left out."""

MINIMUM_RATE = 8000
"""Hz: below this, too few harmonics are left."""

MINIMUM_AMPLITUDE = 1e-5
"""Weaker peaks are left out (-100 dB from full scale), so that silence and dither are zeros."""

MAX_PEAKS = 60
HARMONICS = 8

Profile: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From the samples of a frame to its pitch class profile."""


CITATION = """\
@phdthesis{gomez2006,
  author = {G{\\'o}mez, Emilia},
  title  = {Tonal Description of Music Audio Signals},
  school = {Universitat Pompeu Fabra},
  year   = {2006}
}"""


class Chroma:
    """Harmonic pitch class profiles: the strength of each pitch class in frames of a recording, from 0 to 1.

    The first value is A (440 Hz); the others follow upwards, in steps of a semitone or of a third of one. Each frame is
    divided by its maximum; silence is zeros. The frames are longer than those of ``logmel``, because low notes need it,
    but there are as many and their centers are the same: zeros are added to both ends of the recording. So
    ``logmel+chroma`` can be stacked.

    Parameters
    ----------
    size : {12, 36}
        Values in a frame: one per semitone, or three.
    frame : float
        Seconds in a frame, 0.05 to 2.
    hop : float
        Seconds from one frame to the next, 0.001 to 10.

    Raises
    ------
    ValueError
        A parameter is out of range, or Essentia cannot be imported.
    """

    version = "1"
    backend = "essentia"
    citation = CITATION

    def __init__(self, size: Literal[12, 36] = 12, frame: float = 0.2, hop: float = 0.025) -> None:
        if size not in (12, 36):
            raise ValueError(f"size is {size}; expected 12 or 36")
        if not ALIGNED <= frame <= 2:
            raise ValueError(f"frame is {frame:g}; expected {ALIGNED} to 2 seconds")
        if not 0.001 <= hop <= 10:
            raise ValueError(f"hop is {hop:g}; expected 0.001 to 10 seconds")
        from mirembed import essentia_error

        if error := essentia_error():
            raise ValueError(f"chroma needs Essentia, which cannot be imported ({error})")
        self.values, self.hop = int(size), hop
        self._frame = frame

    @property
    def description(self) -> str:
        """What the frames are, for a paper."""
        return (
            f"harmonic pitch class profiles [@gomez2006] of {self.values} values, of frames of {1000 * self._frame:g} "
            f"ms with a hop of {1000 * self.hop:g} ms"
        )

    def extract(self, audio: Audio) -> NDArray[np.float32]:
        """Return the profiles of a recording: ndarray ``[n_frames, size]``, 0 to 1.

        Raises
        ------
        AudioError
            The sampling rate is below 8 kHz; the recording is shorter than 50 ms; its samples are too large.
        """
        rate = audio.rate
        if rate < MINIMUM_RATE:
            raise AudioError(f"sampling rate {rate} Hz is too low: chroma needs at least {MINIMUM_RATE} Hz")
        length = math.floor(exact(self._frame) * rate)
        profile = _profile(rate, length, self.values)
        frames = windows(aligned_blocks(audio, length), length, exact(self.hop) * rate)
        profiles = [profile(frame) for frame in frames]
        if not profiles:
            raise AudioError(f"shorter than one frame of {ALIGNED} s; use a longer clip")
        found = np.stack(profiles)
        if not np.isfinite(found).all():
            raise AudioError("samples are NaN or too large: full scale should be 1")
        return found


@functools.lru_cache(maxsize=8)
def _profile(rate: int, length: int, size: int) -> Profile:
    from mirembed import essentia_algorithm

    def algorithm(name: str, **parameters: object) -> Callable[..., Any]:
        compute: Callable[..., Any] = essentia_algorithm(name, **parameters).__compute__
        return compute

    fft_size = 1 << math.ceil(math.log2(length))
    highest = min(HIGHEST, rate / 2)
    windowing = algorithm(
        "Windowing", type="blackmanharris62", size=length, zeroPadding=fft_size - length, zeroPhase=False
    )
    spectrum = algorithm("Spectrum", size=fft_size)
    peaks = algorithm(
        "SpectralPeaks",
        sampleRate=rate,
        minFrequency=LOWEST,
        maxFrequency=highest,
        maxPeaks=MAX_PEAKS,
        magnitudeThreshold=MINIMUM_AMPLITUDE,
        orderBy="magnitude",
    )
    pitch_classes = algorithm(
        "HPCP",
        size=size,
        sampleRate=rate,
        minFrequency=LOWEST,
        maxFrequency=highest,
        harmonics=HARMONICS,
        bandPreset=False,
        weightType="cosine",
        windowSize=1.0,
        normalized="unitMax",
    )

    def profile(frame: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = pitch_classes(*peaks(spectrum(windowing(frame))))
        return found

    return profile
