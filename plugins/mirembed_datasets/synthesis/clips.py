"""The particulars of each clip, drawn from its own generator, and the emotions that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mirembed_datasets.synthesis.styles import PARTS, PITCHED, STYLES, Style

SEED = 2018
CLIPS_PER_STYLE = 15
BANDS = ("Herons", "Lanterns", "Kettles", "Comets", "Orchards")
"""Last words of the bands' names: every style has its own five, such as the Waltz Herons."""

PARTICULARS, SCORE, SOUND, BAND = range(4)
"""What a generator is for, the end of its key: drawing more for one purpose leaves the others as they are."""

BALANCE = 3.0
"""How far a part may stand out of the mix or sink into it, dB."""

HAPPINESS = {"major": 1.0, "mixolydian": 0.5, "dorian": -0.5, "minor": -1.0}


@dataclass(frozen=True)
class Band:
    """Who plays a clip: the instruments and habits that its clips have in common.

    Attributes
    ----------
    name : str
    players : dict of str to str
        The instrument or drum of each part.
    tuning : float
        Cents above 440 Hz.
    brightness : float
        Added to the brightness of its clips.
    room : float
        Reverberation, seconds to 1/e.
    kit : float
        Pitch of its drums, as a factor.
    """

    name: str
    players: dict[str, str]
    tuning: float
    brightness: float
    room: float
    kit: float


@dataclass(frozen=True)
class Clip:
    """One clip before a note of it is written.

    Attributes
    ----------
    style_number, index : int
        The clip's place in `STYLES`, and among the clips of its style.
    band : Band
    tempo : float
        Beats a minute.
    tonic : int
        Pitch class of the key, from 0 for C to 4 for E.
    mode : str
    progression : str
    groove : dict of str to str
        The step pattern of each part.
    swing : float
    octave : int
        Octaves by which the melody is moved.
    density : float
        How often ornaments are played, in [0, 1].
    brightness : float
        Tilt of the spectrum, in [-1, 1].
    loudness : float
        In [-1, 1].
    balance : dict of str to float
        Level of each part of the mix, dB.
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
        """Tempo in [-1, 1]: octaves above 110 beats a minute, by the three quarters that the styles span."""
        return float(np.log2(self.tempo / 110)) / 0.75

    @property
    def arousal(self) -> float:
        """From 1, calm, to 9, excited: the fast, the busy, the loud and the bright excite."""
        ornaments = 2 * self.density - 1
        return 5 + 4 * (0.45 * self.pace + 0.2 * ornaments + 0.2 * self.loudness + 0.15 * self.brightness)

    @property
    def valence(self) -> float:
        """From 1, unpleasant, to 9, pleasant: major modes, fast tempi and bright sounds please."""
        return 5 + 4 * (0.4 * HAPPINESS[self.mode] + 0.25 * self.pace + 0.35 * self.brightness)

    def generator(self, purpose: int) -> np.random.Generator:
        """Return the clip's own random generator for `SCORE` or `SOUND`."""
        return _generator(self.style_number, self.index, purpose)


def draw_clips() -> list[Clip]:
    """Return the particulars of every clip, style after style."""
    return [draw_clip(style, index) for style in range(len(STYLES)) for index in range(CLIPS_PER_STYLE)]


def draw_clip(style_number: int, index: int) -> Clip:
    """Return the particulars of one clip; the bands of a style take turns."""
    style = STYLES[style_number]
    band = _draw_band(style_number, index % len(BANDS))
    rng = _generator(style_number, index, PARTICULARS)
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
        players={part: _one_of(style.players[part], rng) for part in PARTS},
        tuning=rng.uniform(-25, 25),
        brightness=rng.uniform(-0.4, 0.4),
        room=rng.uniform(0.02, 0.25),
        kit=rng.uniform(0.85, 1.2),
    )


def _generator(*key: int) -> np.random.Generator:
    return np.random.default_rng((SEED, *key))


def _one_of(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
