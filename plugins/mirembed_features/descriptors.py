"""The features ``descriptors``: hand-crafted low-level, rhythm and tonal descriptors, one vector per recording.

They are those of Essentia's MusicExtractor (Bogdanov et al., Essentia: An Audio Analysis Library for Music Information
Retrieval, ISMIR 2013), which computed AcousticBrainz. Left out are descriptors whose size depends on the recording
(positions of beats), those that say the same as others in finer detail (128 mel bands, the whole histogram of tempi),
and the tags of the file.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed import Audio, AudioError

RATE = 44_100
"""Hz: the rate that the extractor works at. Its own resampling is worse."""

SHORTEST, LONGEST = 1.0, 1800.0
"""Seconds. The extractor keeps its frames in memory: 1.3 GB for the longest recording."""

STATISTICS = ("mean", "stdev", "dmean")
"""Of the frames of a recording: mean, standard deviation, mean absolute difference between neighbors."""

_SHAPE = ("crest", "flatness_db", "kurtosis", "skewness", "spread")

_FRAMES: dict[str, int] = {
    **{f"lowlevel.{bands}_{shape}": 1 for bands in ("barkbands", "erbbands", "melbands") for shape in _SHAPE},
    "lowlevel.barkbands": 27,
    "lowlevel.erbbands": 40,
    "lowlevel.melbands": 40,
    "lowlevel.gfcc": 13,
    "lowlevel.mfcc": 13,
    "lowlevel.spectral_contrast_coeffs": 6,
    "lowlevel.spectral_contrast_valleys": 6,
    "lowlevel.dissonance": 1,
    "lowlevel.hfc": 1,
    "lowlevel.loudness_ebu128.momentary": 1,
    "lowlevel.loudness_ebu128.short_term": 1,
    "lowlevel.pitch_salience": 1,
    "lowlevel.silence_rate_20dB": 1,
    "lowlevel.silence_rate_30dB": 1,
    "lowlevel.silence_rate_60dB": 1,
    "lowlevel.spectral_centroid": 1,
    "lowlevel.spectral_complexity": 1,
    "lowlevel.spectral_decrease": 1,
    "lowlevel.spectral_energy": 1,
    "lowlevel.spectral_energyband_high": 1,
    "lowlevel.spectral_energyband_low": 1,
    "lowlevel.spectral_energyband_middle_high": 1,
    "lowlevel.spectral_energyband_middle_low": 1,
    "lowlevel.spectral_entropy": 1,
    "lowlevel.spectral_flux": 1,
    "lowlevel.spectral_kurtosis": 1,
    "lowlevel.spectral_rms": 1,
    "lowlevel.spectral_rolloff": 1,
    "lowlevel.spectral_skewness": 1,
    "lowlevel.spectral_spread": 1,
    "lowlevel.spectral_strongpeak": 1,
    "lowlevel.zerocrossingrate": 1,
    "tonal.chords_strength": 1,
    "tonal.hpcp": 36,
    "tonal.hpcp_crest": 1,
    "tonal.hpcp_entropy": 1,
}
"""Descriptors of frames, with their number of values."""

_BEATS: dict[str, int] = {"rhythm.beats_loudness": 1, "rhythm.beats_loudness_band_ratio": 6}
"""Descriptors of beats, whose differences are left out."""

_RECORDING: dict[str, int] = {
    "lowlevel.average_loudness": 1,
    "lowlevel.dynamic_complexity": 1,
    "lowlevel.loudness_ebu128.integrated": 1,
    "lowlevel.loudness_ebu128.loudness_range": 1,
    "rhythm.bpm": 1,
    "rhythm.bpm_histogram_first_peak_bpm": 1,
    "rhythm.bpm_histogram_first_peak_weight": 1,
    "rhythm.bpm_histogram_second_peak_bpm": 1,
    "rhythm.bpm_histogram_second_peak_spread": 1,
    "rhythm.bpm_histogram_second_peak_weight": 1,
    "rhythm.danceability": 1,
    "rhythm.onset_rate": 1,
    "tonal.chords_changes_rate": 1,
    "tonal.chords_histogram": 24,
    "tonal.chords_number_rate": 1,
    "tonal.key_edma.strength": 1,
    "tonal.thpcp": 36,
    "tonal.tuning_diatonic_strength": 1,
    "tonal.tuning_equal_tempered_deviation": 1,
    "tonal.tuning_frequency": 1,
    "tonal.tuning_nontempered_energy_ratio": 1,
}
"""Descriptors of the whole recording."""

_SIZES: dict[str, int] = {
    **{f"{name}.{statistic}": size for name, size in _FRAMES.items() for statistic in STATISTICS},
    **{f"{name}.{statistic}": size for name, size in _BEATS.items() for statistic in STATISTICS[:2]},
    **_RECORDING,
}

_KEY = ("tonal.key_edma.fifths_cos", "tonal.key_edma.fifths_sin", "tonal.key_edma.major")
"""The key as numbers: the position of its tonic on the circle of fifths, with C at the angle 0, and 1 for major."""

NAMES: tuple[str, ...] = (
    *(name if size == 1 else f"{name}[{index}]" for name, size in sorted(_SIZES.items()) for index in range(size)),
    *_KEY,
)
"""The names of all values, in their order."""

_FIFTHS = ("C", "G", "D", "A", "E", "B", "F#", "C#", "Ab", "Eb", "Bb", "F")


class Descriptors:
    """Low-level, rhythm and tonal descriptors of a recording by Essentia's MusicExtractor: one vector.

    The recording is resampled to 44.1 kHz. Descriptors of frames are summarized by their mean, their standard deviation
    and the mean of their absolute differences. Values are Essentia's, in its units;
    ``mirembed_features.descriptors.NAMES`` names them in their order. The key becomes the position of its tonic on the
    circle of fifths (cosine and sine) and 1 for major; the key of the chords is left out.

    Raises
    ------
    ValueError
        Essentia cannot be imported.
    """

    version = "1"
    backend = "essentia"
    description = "one vector of the low-level, rhythm and tonal descriptors of Essentia's MusicExtractor"
    values = len(NAMES)
    hop = None

    def __init__(self) -> None:
        from mirembed import essentia_error

        if error := essentia_error():
            raise ValueError(f"descriptors need Essentia, which cannot be imported ({error})")

    def extract(self, audio: Audio) -> NDArray[np.float32]:
        """Return the descriptors of a recording: ndarray ``[1, values]``.

        Raises
        ------
        AudioError
            The recording is shorter than 1 s, longer than 30 min, or silent; or a descriptor is not finite.
        """
        if audio.duration > LONGEST:
            raise _too_long(audio.duration)
        # The extractor reads files only, and not all that mirembed reads.
        with tempfile.NamedTemporaryFile(prefix="mirembed-", suffix=".wav") as file:
            _write(audio, file.name)
            pool = _music_extractor(file.name)
        found = _vector(pool)
        if not np.isfinite(found).all():
            names = [NAMES[index] for index in np.flatnonzero(~np.isfinite(found))]
            raise AudioError(f"{', '.join(names[:3])} (of {len(names)} descriptors) cannot be computed: not finite")
        return found[None]


def _write(audio: Audio, name: str) -> None:
    import soundfile

    n_samples = 0
    try:
        with soundfile.SoundFile(name, "w", RATE, 1, "FLOAT") as file:
            for block in audio.blocks(RATE):
                n_samples += len(block)
                if n_samples > LONGEST * RATE:
                    raise _too_long(n_samples / RATE)
                file.write(block)
    except soundfile.SoundFileError as error:
        raise AudioError(f"no disk space in {tempfile.gettempdir()} ({error}); free some or set TMPDIR") from error
    if n_samples < SHORTEST * RATE:
        raise AudioError(f"{n_samples / RATE:.3f} s long; descriptors need at least {SHORTEST:g} s")


def _too_long(seconds: float) -> AudioError:
    return AudioError(f"{seconds / 60:.0f} min long; descriptors take at most {LONGEST / 60:.0f} min; split the file")


def _music_extractor(name: str) -> Any:
    from mirembed import essentia_algorithm

    statistics = {f"{group}Stats": list(STATISTICS) for group in ("lowlevel", "rhythm", "tonal", "mfcc", "gfcc")}
    extractor = essentia_algorithm("MusicExtractor", **statistics)
    try:
        with _quiet():
            pool, _ = extractor.__compute__(name)
    except RuntimeError as error:
        if "silent" in str(error):
            raise AudioError("silent, or nearly all of it, so that Essentia's MusicExtractor rejects it") from error
        raise
    return pool


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Turn off Essentia's progress messages in a ``with`` block."""
    from essentia import log

    before = log.infoActive, log.warningActive
    log.infoActive = log.warningActive = False
    try:
        yield
    finally:
        log.infoActive, log.warningActive = before


def _vector(pool: Any) -> NDArray[np.float32]:
    parts = []
    for name, size in sorted(_SIZES.items()):
        values = np.atleast_1d(np.asarray(_value(pool, name), np.float32))
        if values.shape != (size,):
            raise AudioError(f"Essentia's MusicExtractor finds {values.size} values of {name}, not {size}")
        parts.append(values)
    angle = 2 * math.pi * _FIFTHS.index(_value(pool, "tonal.key_edma.key")) / 12
    major = _value(pool, "tonal.key_edma.scale") == "major"
    return np.concatenate([*parts, np.array([math.cos(angle), math.sin(angle), major], np.float32)])


def _value(pool: Any, name: str) -> Any:
    if name not in pool.descriptorNames():
        raise AudioError(f"Essentia's MusicExtractor finds no {name}")
    return pool.__value__(name, pool.__keyType__(name))
