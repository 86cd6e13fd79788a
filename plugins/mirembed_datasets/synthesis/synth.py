"""From the score of a clip to its samples.

A note is one cycle of a waveform, read at the note's frequency and shaped by an envelope; a drum is a decaying sine
or a band of noise, made once a clip. The parts are mixed, put in a room, tilted and set to the clip's loudness.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from mirembed_datasets.synthesis.clips import SOUND, Clip
from mirembed_datasets.synthesis.score import CLIP_SECONDS, Note, Stroke, compose

SAMPLE_RATE = 22050

CYCLE = 4096
"""Samples of one cycle of a waveform."""

MOST_PARTIALS = 32

RELEASE = 0.04
"""Seconds in which a note dies away after its end."""

VIBRATO_RATE = 5.5
"""Hz."""

DRUM_SECONDS = 0.6
SETTLING = 0.02
"""Seconds in which a drum that was struck comes down to its pitch."""

WET = -7.0
"""Level of the reverberation against the dry mix, dB."""

TILT, TILT_FREQUENCY = 7.0, 1000.0
"""What lies above the frequency (Hz) is raised by so many dB in the brightest clip, lowered in the darkest."""

LEVEL, LOUDNESS = -20.0, 5.0
"""Root mean square of a clip: dB below full scale, and how far it varies."""

NOISE = (-42.0, -22.0)
"""Range of the background noise against the music, dB."""

Samples: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Instrument:
    """A periodic sound.

    Attributes
    ----------
    rolloff : float
        Partial k has the amplitude ``k ** -rolloff``.
    attack : float
        Seconds until the note is at its loudest.
    decay : float
        Seconds to 1/e of a note that is held; infinite for what is blown, bowed or keyed.
    even : float
        Factor of the even partials; 0 sounds hollow.
    vibrato : float
        Greatest deviation of the pitch, cents.
    detune : float
        Cents between the two voices of one note; 0 for one voice.
    drive : float
        How far the amplifier distorts; 0 for not at all.
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
        Amplitude in the kit.
    pitch : float
        Frequency of the sine, Hz; 0 for none.
    ring : float
        Decay of the sine, seconds to 1/e.
    band : tuple of float
        Lowest and highest frequency of the noise, Hz.
    noise : float
        Amplitude of the noise against the sine.
    hiss : float
        Decay of the noise, seconds to 1/e.
    """

    level: float
    pitch: float
    ring: float
    band: tuple[float, float]
    noise: float
    hiss: float


DRUMS = {
    "kick": Drum(level=1.0, pitch=52, ring=0.11, band=(500, 3000), noise=0.15, hiss=0.008),
    "tom": Drum(level=0.8, pitch=105, ring=0.13, band=(300, 1500), noise=0.2, hiss=0.02),
    "snare": Drum(level=0.8, pitch=185, ring=0.06, band=(700, 6500), noise=0.5, hiss=0.09),
    "clap": Drum(level=0.7, pitch=0, ring=0, band=(900, 3000), noise=0.6, hiss=0.06),
    "rim": Drum(level=0.6, pitch=820, ring=0.02, band=(1500, 5000), noise=0.3, hiss=0.01),
    "brush": Drum(level=0.5, pitch=0, ring=0, band=(1500, 6000), noise=0.4, hiss=0.07),
    "shaker": Drum(level=0.4, pitch=0, ring=0, band=(3500, 7000), noise=0.4, hiss=0.04),
    "hat": Drum(level=0.4, pitch=0, ring=0, band=(4500, 9500), noise=0.5, hiss=0.03),
    "ride": Drum(level=0.4, pitch=0, ring=0, band=(3500, 9000), noise=0.4, hiss=0.15),
}


def render(clip: Clip) -> NDArray[np.int16]:
    """Return the samples of ``clip``.

    Returns
    -------
    samples : ndarray [n_samples], int16
        Mono, `CLIP_SECONDS` at `SAMPLE_RATE`.
    """
    score, rng = compose(clip), clip.generator(SOUND)
    players = clip.band.players
    parts = {part: _play(notes, INSTRUMENTS[players[part]]) for part, notes in score.notes.items()}
    parts["drums"] = _silence()
    for part, hits in score.hits.items():
        parts["drums"] += _beat(hits, DRUMS[players[part]], clip.band.kit, rng)
    mix = sum((_gain(clip.balance[part]) * _unit(samples) for part, samples in parts.items()), _silence())
    return _master(clip, mix, rng)


def _play(notes: Iterable[Note], instrument: Instrument) -> Samples:
    """Return what ``instrument`` makes of ``notes``: the length of a clip, float64."""
    part = _silence()
    for note in notes:
        _add(part, note.start, note.velocity * _sound(note, instrument))
    if instrument.drive:
        part = np.tanh(instrument.drive * _unit(part))
    return part


def _sound(note: Note, instrument: Instrument) -> Samples:
    """Return one note, from its start to the end of its release."""
    seconds = _seconds(note.duration + RELEASE)
    frequency = 440 * 2 ** ((note.pitch - 69) / 12)
    cycle = _cycle(frequency, instrument)
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


def _cycle(frequency: float, instrument: Instrument) -> Samples:
    """Return one cycle of the waveform, without partials beyond half the sample rate."""
    partial = np.arange(1, 1 + min(MOST_PARTIALS, int(SAMPLE_RATE / 2 / frequency)))
    spectrum = np.zeros(CYCLE // 2 + 1, dtype=np.complex128)
    spectrum[partial] = -1j * partial**-instrument.rolloff * np.where(partial % 2, 1, instrument.even)
    return _unit(np.fft.irfft(spectrum))


def _beat(hits: Iterable[Stroke], drum: Drum, kit: float, rng: np.random.Generator) -> Samples:
    """Return what ``drum`` makes of ``hits``; ``kit`` scales its pitch."""
    part = _silence()
    sound = drum.level * _stroke(drum, kit, rng)
    for hit in hits:
        _add(part, hit.start, hit.velocity * sound)
    return part


def _stroke(drum: Drum, kit: float, rng: np.random.Generator) -> Samples:
    seconds = _seconds(DRUM_SECONDS)
    low, high = drum.band
    band = signal.butter(2, (kit * low, min(kit * high, 0.49 * SAMPLE_RATE)), "bandpass", fs=SAMPLE_RATE, output="sos")
    noise = _unit(signal.sosfilt(band, rng.uniform(-1, 1, len(seconds))))
    sound: Samples = drum.noise * noise * np.exp(-seconds / drum.hiss)
    if drum.pitch:
        # A struck skin is tighter at first: the pitch falls from twice its value.
        phase = kit * drum.pitch * (seconds - SETTLING * np.exp(-seconds / SETTLING))
        sound = sound + np.sin(2 * np.pi * phase) * np.exp(-seconds / drum.ring)
    return sound


def _master(clip: Clip, mix: Samples, rng: np.random.Generator) -> NDArray[np.int16]:
    """Put the mix in the band's room, tilt its spectrum, add the noise of a recording and set the loudness."""
    echo = _seconds(4 * clip.band.room)
    tail = rng.uniform(-1, 1, len(echo)) * np.exp(-echo / clip.band.room)
    mix = _unit(mix) + _gain(WET) * _unit(signal.fftconvolve(mix, tail)[: len(mix)])
    pole = np.exp(-2 * np.pi * TILT_FREQUENCY / SAMPLE_RATE)
    low = signal.lfilter([1 - pole], [1, -pole], mix)
    mix = low + _gain(TILT * clip.brightness) * (mix - low)
    mix = _unit(mix) + _gain(rng.uniform(*NOISE)) * _unit(rng.uniform(-1, 1, len(mix)))
    # A limiter: peaks are rounded, and never clipped.
    limited = np.tanh(_gain(LEVEL + LOUDNESS * clip.loudness) * mix)
    return np.round(32767 * limited).astype(np.int16)


def _add(part: Samples, start: float, sound: Samples) -> None:
    first = round(start * SAMPLE_RATE)
    room = max(0, len(part) - first)
    part[first : first + len(sound)] += sound[:room]


def _silence() -> Samples:
    return np.zeros(round(CLIP_SECONDS * SAMPLE_RATE))


def _seconds(duration: float) -> Samples:
    """Return the times of the samples of ``duration``, in seconds."""
    return np.arange(round(duration * SAMPLE_RATE)) / SAMPLE_RATE


def _unit(samples: Samples) -> Samples:
    """Return ``samples`` with a root mean square of 1; silence stays silence."""
    rms = float(np.sqrt(np.mean(samples**2)))
    return samples / rms if rms else samples


def _gain(db: float) -> float:
    return float(10 ** (db / 20))
