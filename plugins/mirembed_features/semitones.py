"""The features ``semitones``: the power in bands a semitone apart, in dB, aligned with ``logmel``.

The machinery is that of `logmel`: nothing is resampled, a Hamming window is divided by its sum, and the powers of the
FFT's bins are summed with triangular weights. The triangles have their peaks at the notes of equal temperament
(A4 = 440 Hz) and end at the next notes. At low notes, a triangle is narrower than a bin, so that the weight of a bin is
the part of the triangle that lies in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mirembed import Audio, AudioError
from mirembed_features.framing import ALIGNED, aligned_blocks
from mirembed_features.logmel import Bands, Definition, Stream

LOWEST_NOTE = 24
"""MIDI number of the first band: C1, 32.7 Hz."""

MAX_BANDS = 120


@dataclass(frozen=True)
class Notes(Definition):
    """Everything that decides the frames: bands around notes of equal temperament, a semitone apart."""

    def edges(self) -> NDArray[np.float64]:
        """Return the frequencies of the notes, from the one below the first band on: ``[bands + 2]`` in Hz."""
        notes = np.arange(LOWEST_NOTE - 1, LOWEST_NOTE + self.bands + 1)
        return frequency(notes)

    def fft_size(self, rate: int) -> int:
        """Return the smallest power of two that is at least a frame."""
        return 1 << math.ceil(math.log2(self.frame_length(rate)))

    def filters(self, rate: int) -> tuple[slice, NDArray[np.float64]]:
        """Return the bins that contribute to any band, and their weights ``[n_bins, bands]``, which sum to 1."""
        edges = self.edges()
        width = rate / self.fft_size(rate)
        bins = slice(math.floor(edges[0] / width + 0.5), math.ceil(edges[-1] / width - 0.5) + 1)
        borders = (np.arange(bins.start, bins.stop + 1)[:, None] - 0.5) * width
        return bins, np.diff(_below(borders, edges[:-2], edges[1:-1], edges[2:]), axis=0)


def frequency(notes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the frequencies of MIDI notes in Hz.

    >>> frequency(np.array([24, 69])).round(3).tolist()
    [32.703, 440.0]
    """
    found: NDArray[np.float64] = 440 * 2 ** ((notes - 69) / 12)
    return found


def _below(
    frequencies: NDArray[np.float64], low: NDArray[np.float64], peak: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the part of each triangle that lies below each frequency: ``[n, 1]`` to ``[n, bands]``, from 0 to 1."""
    rising = np.clip(frequencies, low, peak) - low
    falling = high - np.clip(frequencies, peak, high)
    return (rising**2 / (peak - low) + (high - peak) - falling**2 / (high - peak)) / (high - low)


class Semitones(Bands):
    """The power in bands a semitone apart in frames of a recording, in dB, at least -100.

    The first band is C1 (32.7 Hz), the last of the default 84 is B7 (3951 Hz). The frames are longer than those of
    ``logmel``, because low notes need it, but there are as many and their centers are the same: zeros are added to both
    ends of the recording. So ``logmel+semitones+chroma`` can be stacked. Below some 200 Hz, notes are closer together
    than frames of 0.2 s can separate, so that each is heard in several bands.

    Parameters
    ----------
    bands : int
        Number of bands, 1 to 120.
    frame : float
        Seconds in a frame, 0.05 to 2.
    hop : float
        Seconds from one frame to the next, 0.001 to 10.
    backend : {"auto", "essentia", "scipy"}
        What computes the spectra; auto is Essentia if it is installed. The results are interchangeable.

    Raises
    ------
    ValueError
        A parameter is out of range, or Essentia is wanted and cannot be imported.
    """

    def __init__(
        self,
        bands: int = 84,
        frame: float = 0.2,
        hop: float = 0.025,
        backend: Literal["auto", "essentia", "scipy"] = "auto",
    ) -> None:
        if not 1 <= bands <= MAX_BANDS:
            raise ValueError(f"bands={bands}; expected 1 to {MAX_BANDS}")
        if not ALIGNED <= frame <= 2:
            raise ValueError(f"frame={frame:g}; expected seconds from {ALIGNED} to 2")
        if not 0.001 <= hop <= 10:
            raise ValueError(f"hop={hop:g}; expected seconds from 0.001 to 10")
        low, high = frequency(np.array([LOWEST_NOTE - 1, LOWEST_NOTE + bands]))
        super().__init__(Notes(bands, frame, hop, float(low), float(high), "semitones"), backend)

    @property
    def description(self) -> str:
        """What the frames are, for a paper."""
        one = self.definition
        lowest, highest = frequency(np.array([LOWEST_NOTE, LOWEST_NOTE + one.bands - 1]))
        return (
            f"the power in {one.bands} bands a semitone apart, centered on notes from {lowest:.4g} to {highest:.4g} "
            f"Hz, in dB, of frames of {1000 * one.frame:g} ms with a hop of {1000 * one.hop:g} ms"
        )

    def extract(self, audio: Audio) -> NDArray[np.float32]:
        """Return the bands of a recording.

        Returns
        -------
        ndarray [n_frames, bands], float32
            Power in dB.

        Raises
        ------
        AudioError
            The sampling rate is too low for the bands; the recording is shorter than 50 ms; a power is not finite.
        """
        self.definition.require_rate(audio.rate)
        stream = Stream(audio.rate, self.definition, self.backend)
        for samples in aligned_blocks(audio, self.definition.frame_length(audio.rate)):
            stream.add(samples)
        if not stream.n_frames:
            raise AudioError(f"shorter than one frame of {ALIGNED} s; use a longer clip")
        return stream.frames()
