"""Draw the parameters of each clip from its own random generator, and write its notes and drum hits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mirembed_datasets.synthesis.styles import DRUMS, PARTS, PITCHED, STYLES, Style

CLIP_SECONDS = 10.0
CLIPS_PER_STYLE = 15
BANDS = ("Herons", "Lanterns", "Kettles", "Comets", "Orchards")
"""Last words of the bands' names: every style has five bands of its own, such as the Waltz Herons."""

SEED = 2018
PARAMETERS, SCORE, SOUND, BAND = range(4)
"""What a generator is for, the last part of its key: drawing more for one purpose does not change the others."""

BALANCE = 3.0
"""Largest deviation of a part's level in the mix, dB."""

MODE_VALENCE = {"major": 1.0, "mixolydian": 0.5, "dorian": -0.5, "minor": -1.0}

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
}
"""Semitones of the seven scale steps above the tonic."""

LOWEST_TONIC = {"bass": 33, "chords": 52, "lead": 64}
"""The tonic of each part is in the octave above this MIDI number."""

TIMING = 0.006
"""Largest deviation of an onset, seconds."""


@dataclass(frozen=True)
class Band:
    """What the clips of one band have in common.

    Attributes
    ----------
    name : str
    instruments : dict of str to str
        The instrument or drum of each part.
    tuning : float
        Cents above 440 Hz.
    brightness : float
        Added to the brightness of its clips.
    room : float
        Decay time of the reverberation to 1/e, seconds.
    drum_pitch : float
        Factor on the pitch of its drums.
    """

    name: str
    instruments: dict[str, str]
    tuning: float
    brightness: float
    room: float
    drum_pitch: float


@dataclass(frozen=True)
class Clip:
    """The parameters of one clip.

    Attributes
    ----------
    style_number, index : int
        Index of the style in `STYLES`, and of the clip among the clips of its style.
    band : Band
    tempo : float
        Beats per minute.
    tonic : int
        Pitch class of the key, from 0 for C to 4 for E.
    mode : str
    progression : str
    groove : dict of str to str
        The step pattern of each part.
    swing : float
    octave : int
        Octaves by which the melody is transposed.
    density : float
        Probability of an ornament, in [0, 1].
    brightness : float
        Tilt of the spectrum, in [-1, 1].
    loudness : float
        In [-1, 1].
    balance : dict of str to float
        Level of each part in the mix, dB.
    """

    style_number: int
    index: int
    band: Band
    tempo: float
    tonic: int
    mode: str
    progression: str
    groove: dict[str, str]
    swing: float
    octave: int
    density: float
    brightness: float
    loudness: float
    balance: dict[str, float]

    @property
    def style(self) -> Style:
        """The style that the clip was drawn from."""
        return STYLES[self.style_number]

    @property
    def id(self) -> str:
        """Path below the audio folder, such as ``waltz/waltz-03.wav``."""
        return f"{self.style.name}/{self.style.name}-{self.index:02d}.wav"

    @property
    def pace(self) -> float:
        """Tempo in [-1, 1]: octaves above 110 beats per minute, divided by the 0.75 that the styles span."""
        return float(np.log2(self.tempo / 110)) / 0.75

    @property
    def arousal(self) -> float:
        """From 1, calm, to 9, excited: rises with tempo, ornaments, loudness and brightness."""
        ornaments = 2 * self.density - 1
        return 5 + 4 * (0.45 * self.pace + 0.2 * ornaments + 0.2 * self.loudness + 0.15 * self.brightness)

    @property
    def valence(self) -> float:
        """From 1, unpleasant, to 9, pleasant: rises with major modes, tempo and brightness."""
        return 5 + 4 * (0.4 * MODE_VALENCE[self.mode] + 0.25 * self.pace + 0.35 * self.brightness)

    def generator(self, purpose: int) -> np.random.Generator:
        """Return the clip's own random generator for `SCORE` or `SOUND`."""
        return _generator(self.style_number, self.index, purpose)


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
class Hit:
    """One sound of a step pattern, with everything that a drum needs.

    Attributes
    ----------
    symbol : str
        Its first character in the pattern.
    step : int
        Counted from the start of the clip.
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
    """The notes of each pitched part, and the hits of each drum."""

    notes: dict[str, list[Note]]
    hits: dict[str, list[Hit]]


def draw_clips() -> list[Clip]:
    """Draw the parameters of every clip, style after style."""
    return [draw_clip(style, index) for style in range(len(STYLES)) for index in range(CLIPS_PER_STYLE)]


def draw_clip(style_number: int, index: int) -> Clip:
    """Draw the parameters of one clip; the bands of a style take turns."""
    style = STYLES[style_number]
    band = _draw_band(style_number, index % len(BANDS))
    rng = _generator(style_number, index, PARAMETERS)
    groove = int(rng.integers(len(style.grooves["bass"])))
    return Clip(
        style_number=style_number,
        index=index,
        band=band,
        tempo=rng.uniform(*style.tempo),
        tonic=int(rng.integers(5)),
        mode=_one_of(style.modes, rng),
        progression=_one_of(style.progressions, rng),
        groove={part: patterns[groove] for part, patterns in style.grooves.items()},
        swing=rng.uniform(*style.swing),
        octave=int(rng.integers(-1, 2)),
        density=rng.uniform(0, 1),
        brightness=band.brightness + rng.uniform(-0.6, 0.6),
        loudness=rng.uniform(-1, 1),
        balance={part: rng.uniform(-BALANCE, BALANCE) for part in (*PITCHED, "drums")},
    )


def _draw_band(style_number: int, number: int) -> Band:
    style = STYLES[style_number]
    rng = _generator(style_number, number, BAND)
    return Band(
        name=f"{style.name.title()} {BANDS[number]}",
        instruments={part: _one_of(style.instruments[part], rng) for part in PARTS},
        tuning=rng.uniform(-25, 25),
        brightness=rng.uniform(-0.4, 0.4),
        room=rng.uniform(0.02, 0.25),
        drum_pitch=rng.uniform(0.85, 1.2),
    )


def _generator(*key: int) -> np.random.Generator:
    return np.random.default_rng((SEED, *key))


def _one_of(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def compose(clip: Clip) -> Score:
    """Write the score of a clip; its last sounds may end after `CLIP_SECONDS`."""
    rng = clip.generator(SCORE)
    notes = {part: list(_notes(clip, part, rng)) for part in PITCHED}
    hits = {drum: list(_hits(clip, drum, rng)) for drum in DRUMS}
    return Score(notes, hits)


def _notes(clip: Clip, part: str, rng: np.random.Generator) -> Iterator[Note]:
    melody = 0
    for hit in _hits(clip, part, rng):
        root = _root(clip, hit.step)
        if hit.symbol.isdigit():
            scale_steps = [root + int(hit.symbol) - 1]
        elif part == "chords":
            scale_steps = [root + int(tone) - 1 for tone in clip.style.voicing]
        else:
            on_beat = hit.step % clip.style.steps_per_beat == 0
            melody = _next_melody_step(melody, root, on_beat, rng)
            scale_steps = [melody]
        for scale_step in scale_steps:
            yield Note(hit.start, hit.duration, _pitch(clip, part, scale_step), hit.velocity)


def _hits(clip: Clip, part: str, rng: np.random.Generator) -> Iterator[Hit]:
    n_steps = 1 + int(CLIP_SECONDS / _onset(clip, 2) * 2)
    repeated = (clip.groove[part] * n_steps)[:n_steps]
    for sound in re.finditer("[^.=]=*", repeated):
        symbol, step = sound[0][0], sound.start()
        delay, velocity, chance = rng.uniform(-TIMING, TIMING), rng.uniform(0.8, 1.0), rng.uniform()
        if symbol == "o":
            if chance >= clip.density:
                continue
            velocity /= 2
        onset = _onset(clip, step)
        yield Hit(symbol, step, max(0.0, onset + delay), _onset(clip, sound.end()) - onset, velocity)


def _onset(clip: Clip, step: int) -> float:
    """Return the time of a step in seconds; every second step is moved by the swing."""
    pair, second = divmod(step, 2)
    seconds_per_step = 60 / (clip.tempo * clip.style.steps_per_beat)
    return 2 * (pair + second * clip.swing) * seconds_per_step


def _root(clip: Clip, step: int) -> int:
    """Return the root of the chord at a step, in scale steps from the tonic: -3 (the fifth below) to 3."""
    chord = step // clip.style.steps_per_chord % len(clip.progression)
    return (int(clip.progression[chord]) + 2) % 7 - 3


def _next_melody_step(previous: int, root: int, on_beat: bool, rng: np.random.Generator) -> int:
    """Return the next scale step of a random walk that is on a chord tone on every beat."""
    step = previous + (-2, -1, -1, 1, 1, 2)[int(rng.integers(6))]
    step = min(max(step, -3), 9)
    nearest = next(near for near in (step, step - 1, step + 1) if (near - root) % 7 in (0, 2, 4))
    return nearest if on_beat else step


def _pitch(clip: Clip, part: str, scale_step: int) -> float:
    """Return the MIDI number of a scale step above the tonic of a part."""
    lowest = LOWEST_TONIC[part]
    tonic = lowest + (clip.tonic - lowest) % 12
    octave, degree = divmod(scale_step, 7)
    if part == "lead":
        octave += clip.octave
    return tonic + 12 * octave + SCALES[clip.mode][degree] + clip.band.tuning / 100
