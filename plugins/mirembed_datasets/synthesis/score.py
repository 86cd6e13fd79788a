"""From the particulars of a clip to its notes and drum hits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mirembed_datasets.synthesis.clips import SCORE, Clip
from mirembed_datasets.synthesis.styles import DRUMS, PITCHED

CLIP_SECONDS = 10.0

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
}
"""Semitones above the tonic of the seven scale steps."""

LOWEST_TONIC = {"bass": 33, "chords": 52, "lead": 64}
"""The tonic of each part lies in the octave above this MIDI number."""

LOOSENESS = 0.006
"""How far a player may be early or late, seconds."""


@dataclass(frozen=True)
class Note:
    """A pitched sound.

    Attributes
    ----------
    start, duration : float
        Seconds.
    pitch : float
        MIDI number, 69 for A at 440 Hz.
    velocity : float
        Amplitude in [0, 1].
    """

    start: float
    duration: float
    pitch: float
    velocity: float


@dataclass(frozen=True)
class Stroke:
    """One sound of a step pattern: all that a drum needs to know.

    Attributes
    ----------
    symbol : str
        Its first character in the pattern.
    step : int
        From the beginning of the clip.
    start, duration : float
        Seconds.
    velocity : float
        Amplitude in [0, 1].
    """

    symbol: str
    step: int
    start: float
    duration: float
    velocity: float


@dataclass(frozen=True)
class Score:
    """What each pitched part and each drum plays."""

    notes: dict[str, list[Note]]
    hits: dict[str, list[Stroke]]


def compose(clip: Clip) -> Score:
    """Return the score of ``clip``; its last sounds may reach beyond `CLIP_SECONDS`."""
    rng = clip.generator(SCORE)
    notes = {part: list(_notes(clip, part, rng)) for part in PITCHED}
    hits = {drum: list(_strokes(clip, drum, rng)) for drum in DRUMS}
    return Score(notes, hits)


def _notes(clip: Clip, part: str, rng: np.random.Generator) -> Iterator[Note]:
    melody = 0
    for stroke in _strokes(clip, part, rng):
        root = _root(clip, stroke.step)
        if stroke.symbol.isdigit():
            scale_steps = [root + int(stroke.symbol) - 1]
        elif part == "chords":
            scale_steps = [root + int(tone) - 1 for tone in clip.style.voicing]
        else:
            on_beat = stroke.step % clip.style.steps_per_beat == 0
            melody = _next_of_melody(melody, root, on_beat, rng)
            scale_steps = [melody]
        for scale_step in scale_steps:
            yield Note(stroke.start, stroke.duration, _pitch(clip, part, scale_step), stroke.velocity)


def _strokes(clip: Clip, part: str, rng: np.random.Generator) -> Iterator[Stroke]:
    n_steps = 1 + int(CLIP_SECONDS / _onset(clip, 2) * 2)
    repeated = (clip.groove[part] * n_steps)[:n_steps]
    for sound in re.finditer("[^.=]=*", repeated):
        symbol, step = sound[0][0], sound.start()
        late, velocity, luck = rng.uniform(-LOOSENESS, LOOSENESS), rng.uniform(0.8, 1.0), rng.uniform()
        if symbol == "o":
            if luck >= clip.density:
                continue
            velocity /= 2
        onset = _onset(clip, step)
        yield Stroke(symbol, step, max(0.0, onset + late), _onset(clip, sound.end()) - onset, velocity)


def _onset(clip: Clip, step: int) -> float:
    """Return when ``step`` begins, in seconds; every second step is moved by the swing."""
    pair, second = divmod(step, 2)
    seconds_per_step = 60 / (clip.tempo * clip.style.steps_per_beat)
    return 2 * (pair + second * clip.swing) * seconds_per_step


def _root(clip: Clip, step: int) -> int:
    """Return the root of the chord at ``step``, as scale steps from the tonic: -3 (the fifth below) to 3."""
    chord = step // clip.style.steps_per_chord % len(clip.progression)
    return (int(clip.progression[chord]) + 2) % 7 - 3


def _next_of_melody(previous: int, root: int, on_beat: bool, rng: np.random.Generator) -> int:
    """Return the next scale step of a random walk that comes to rest on chord tones on the beat."""
    step = previous + (-2, -1, -1, 1, 1, 2)[int(rng.integers(6))]
    step = min(max(step, -3), 9)
    nearest = next(near for near in (step, step - 1, step + 1) if (near - root) % 7 in (0, 2, 4))
    return nearest if on_beat else step


def _pitch(clip: Clip, part: str, scale_step: int) -> float:
    """Return the MIDI number of a scale step above the tonic of ``part``."""
    lowest = LOWEST_TONIC[part]
    tonic = lowest + (clip.tonic - lowest) % 12
    octave, degree = divmod(scale_step, 7)
    if part == "lead":
        octave += clip.octave
    return tonic + 12 * octave + SCALES[clip.mode][degree] + clip.band.tuning / 100
