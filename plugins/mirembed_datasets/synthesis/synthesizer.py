"""Render the score of a clip as samples.

A note is one cycle of a waveform, repeated at the note's frequency and shaped by an envelope; a drum is a decaying sine
or a band of noise, rendered once per clip. The parts are mixed, reverberated, tilted and scaled to the clip's loudness.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from mirembed_datasets.synthesis.composition import CLIP_SECONDS, SOUND, Clip, Hit, Note, compose

SAMPLE_RATE = 22050

CYCLE = 4096
"""Samples of one cycle of a waveform."""

MAX_PARTIALS = 32

RELEASE = 0.04
"""Seconds in which a note fades out after its end."""

VIBRATO_RATE = 5.5
"""Hz."""

DRUM_SECONDS = 0.6
PITCH_DECAY = 0.02
"""Seconds in which a drum falls to its pitch."""

REVERBERATION = -7.0
"""Level of the reverberation relative to the dry mix, dB."""

TILT, TILT_FREQUENCY = 7.0, 1000.0
"""Gain in dB above the frequency in Hz: raised in the brightest clip, lowered in the darkest."""

LEVEL, LEVEL_RANGE = -20.0, 5.0
"""Level of a clip relative to full scale, and its largest deviation, dB."""

NOISE = (-42.0, -22.0)
"""Range of the level of the background noise relative to the music, dB."""

Samples: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Instrument:
    """A periodic sound.

    Attributes
    ----------
    rolloff : float
        The amplitude of partial k is ``k ** -rolloff``.
    attack : float
        Seconds until the note reaches its peak.
    decay : float
        Decay of a held note to 1/e, seconds; infinite for wind, bowed and keyed instruments.
    even : float
        Factor on the even partials; 0 sounds hollow.
    vibrato : float
        Largest deviation of the pitch, cents.
    detune : float
        Cents between the two voices of a note; 0 for one voice.
    drive : float
        Amount of distortion; 0 for none.
    """

    rolloff: float
    attack: float
    decay: float = np.inf
    even: float = 1.0
    vibrato: float = 0.0
    detune: float = 0.0
    drive: float = 0.0


INSTRUMENTS = {
    "upright": Instrument(rolloff=1.8, attack=0.012, decay=0.35),
    "tuba": Instrument(rolloff=1.5, attack=0.03),
    "fingerbass": Instrument(rolloff=1.4, attack=0.006, decay=0.6),
    "synthbass": Instrument(rolloff=1.0, attack=0.004, decay=0.3),
    "sub": Instrument(rolloff=2.6, attack=0.01),
    "piano": Instrument(rolloff=1.5, attack=0.003, decay=0.5),
    "epiano": Instrument(rolloff=2.2, attack=0.004, decay=0.6, detune=4),
    "guitar": Instrument(rolloff=1.3, attack=0.003, decay=0.25),
    "crunch": Instrument(rolloff=1.3, attack=0.004, decay=0.8, drive=2.5),
    "organ": Instrument(rolloff=1.6, attack=0.01, even=1.4, vibrato=8),
    "accordion": Instrument(rolloff=0.9, attack=0.03, detune=12),
    "saw": Instrument(rolloff=1.0, attack=0.01, detune=16),
    "strings": Instrument(rolloff=1.2, attack=0.12, detune=10, vibrato=10),
    "fiddle": Instrument(rolloff=1.1, attack=0.05, vibrato=25),
    "flute": Instrument(rolloff=2.4, attack=0.05, vibrato=15),
    "clarinet": Instrument(rolloff=1.3, attack=0.03, even=0.15, vibrato=6),
}


@dataclass(frozen=True)
class Drum:
    """A short sound: a sine, a band of noise, or both.

    Attributes
    ----------
    level : float
        Amplitude relative to the other drums.
    pitch : float
        Frequency of the sine, Hz; 0 for none.
    decay : float
        Decay of the sine to 1/e, seconds.
    band : tuple of float
        Lowest and highest frequency of the noise, Hz.
    noise : float
        Amplitude of the noise relative to the sine.
    noise_decay : float
        Decay of the noise to 1/e, seconds.
    """

    level: float
    pitch: float
    decay: float
    band: tuple[float, float]
    noise: float
    noise_decay: float


DRUMS = {
    "kick": Drum(level=1.0, pitch=52, decay=0.11, band=(500, 3000), noise=0.15, noise_decay=0.008),
    "tom": Drum(level=0.8, pitch=105, decay=0.13, band=(300, 1500), noise=0.2, noise_decay=0.02),
    "snare": Drum(level=0.8, pitch=185, decay=0.06, band=(700, 6500), noise=0.5, noise_decay=0.09),
    "clap": Drum(level=0.7, pitch=0, decay=0, band=(900, 3000), noise=0.6, noise_decay=0.06),
    "rim": Drum(level=0.6, pitch=820, decay=0.02, band=(1500, 5000), noise=0.3, noise_decay=0.01),
    "brush": Drum(level=0.5, pitch=0, decay=0, band=(1500, 6000), noise=0.4, noise_decay=0.07),
    "shaker": Drum(level=0.4, pitch=0, decay=0, band=(3500, 7000), noise=0.4, noise_decay=0.04),
    "hat": Drum(level=0.4, pitch=0, decay=0, band=(4500, 9500), noise=0.5, noise_decay=0.03),
    "ride": Drum(level=0.4, pitch=0, decay=0, band=(3500, 9000), noise=0.4, noise_decay=0.15),
}


def render(clip: Clip) -> NDArray[np.int16]:
    """Render a clip.

    Returns
    -------
    samples : ndarray [n_samples], int16
        Mono, `CLIP_SECONDS` at `SAMPLE_RATE`.
    """
    score, rng = compose(clip), clip.generator(SOUND)
    instruments = clip.band.instruments
    parts = {part: _render_notes(notes, INSTRUMENTS[instruments[part]]) for part, notes in score.notes.items()}
    parts["drums"] = _silence()
    for part, hits in score.hits.items():
        parts["drums"] += _render_hits(hits, DRUMS[instruments[part]], clip.band.drum_pitch, rng)
    mix = sum((_amplitude(clip.balance[part]) * _normalized(samples) for part, samples in parts.items()), _silence())
    return _master(clip, mix, rng)


def _render_notes(notes: Iterable[Note], instrument: Instrument) -> Samples:
    """Render notes on an instrument: ndarray of the length of a clip, float64."""
    part = _silence()
    for note in notes:
        _add(part, note.start, note.velocity * _render_note(note, instrument))
    if instrument.drive:
        part = np.tanh(instrument.drive * _normalized(part))
    return part


def _render_note(note: Note, instrument: Instrument) -> Samples:
    """Render one note, from its start to the end of its release."""
    seconds = _seconds(note.duration + RELEASE)
    frequency = 440 * 2 ** ((note.pitch - 69) / 12)
    cycle = _waveform(frequency, instrument)
    voices = (-instrument.detune / 2, instrument.detune / 2) if instrument.detune else (0.0,)
    phase = seconds * frequency
    if instrument.vibrato:
        depth = frequency * (2 ** (instrument.vibrato / 1200) - 1) / (2 * np.pi * VIBRATO_RATE)
        phase = phase + depth * np.sin(2 * np.pi * VIBRATO_RATE * seconds)
    sound = sum(cycle[(CYCLE * 2 ** (cents / 1200) * phase).astype(np.int64) % CYCLE] for cents in voices)
    rise = np.minimum(1, seconds / instrument.attack)
    fall = np.clip((note.duration + RELEASE - seconds) / RELEASE, 0, 1)
    envelope: Samples = rise * fall * np.exp(-seconds / instrument.decay)
    return envelope * sound


def _waveform(frequency: float, instrument: Instrument) -> Samples:
    """Return one cycle of the waveform, without partials above half the sample rate."""
    partial = np.arange(1, 1 + min(MAX_PARTIALS, int(SAMPLE_RATE / 2 / frequency)))
    spectrum = np.zeros(CYCLE // 2 + 1, dtype=np.complex128)
    spectrum[partial] = -1j * partial**-instrument.rolloff * np.where(partial % 2, 1, instrument.even)
    return _normalized(np.fft.irfft(spectrum))


def _render_hits(hits: Iterable[Hit], drum: Drum, pitch: float, rng: np.random.Generator) -> Samples:
    """Render the hits of a drum whose pitch is scaled by the factor ``pitch``."""
    part = _silence()
    sound = drum.level * _render_drum(drum, pitch, rng)
    for hit in hits:
        _add(part, hit.start, hit.velocity * sound)
    return part


def _render_drum(drum: Drum, pitch: float, rng: np.random.Generator) -> Samples:
    seconds = _seconds(DRUM_SECONDS)
    low, high = drum.band
    band = signal.butter(
        2, (pitch * low, min(pitch * high, 0.49 * SAMPLE_RATE)), "bandpass", fs=SAMPLE_RATE, output="sos"
    )
    noise = _normalized(signal.sosfilt(band, rng.uniform(-1, 1, len(seconds))))
    sound: Samples = drum.noise * noise * np.exp(-seconds / drum.noise_decay)
    if drum.pitch:
        # A drumhead is tighter just after it is struck: the pitch falls from twice its value.
        phase = pitch * drum.pitch * (seconds - PITCH_DECAY * np.exp(-seconds / PITCH_DECAY))
        sound = sound + np.sin(2 * np.pi * phase) * np.exp(-seconds / drum.decay)
    return sound


def _master(clip: Clip, mix: Samples, rng: np.random.Generator) -> NDArray[np.int16]:
    """Add the reverberation of the band's room, tilt the spectrum, add background noise and set the level."""
    time = _seconds(4 * clip.band.room)
    tail = rng.uniform(-1, 1, len(time)) * np.exp(-time / clip.band.room)
    mix = _normalized(mix) + _amplitude(REVERBERATION) * _normalized(signal.fftconvolve(mix, tail)[: len(mix)])
    pole = np.exp(-2 * np.pi * TILT_FREQUENCY / SAMPLE_RATE)
    low = signal.lfilter([1 - pole], [1, -pole], mix)
    mix = low + _amplitude(TILT * clip.brightness) * (mix - low)
    mix = _normalized(mix) + _amplitude(rng.uniform(*NOISE)) * _normalized(rng.uniform(-1, 1, len(mix)))
    # A limiter: peaks are rounded off, never clipped.
    limited = np.tanh(_amplitude(LEVEL + LEVEL_RANGE * clip.loudness) * mix)
    return np.round(32767 * limited).astype(np.int16)


def _add(part: Samples, start: float, sound: Samples) -> None:
    first = round(start * SAMPLE_RATE)
    part[first : first + len(sound)] += sound[: max(0, len(part) - first)]


def _silence() -> Samples:
    return np.zeros(round(CLIP_SECONDS * SAMPLE_RATE))


def _seconds(duration: float) -> Samples:
    """Return the times of the samples in a duration, in seconds."""
    return np.arange(round(duration * SAMPLE_RATE)) / SAMPLE_RATE


def _normalized(samples: Samples) -> Samples:
    """Scale samples to a root mean square of 1; silence stays silence."""
    rms = float(np.sqrt(np.mean(samples**2)))
    return samples / rms if rms else samples


def _amplitude(db: float) -> float:
    return float(10 ** (db / 20))
