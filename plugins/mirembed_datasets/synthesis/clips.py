"""The particulars of each clip, drawn from its own generator, and the emotions that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mirembed_datasets.synthesis.styles import STYLES, Groove, Style

SEED = 2018
CLIPS_PER_STYLE = 15
BAND_NAMES = ("Herons", "Lanterns", "Kettles", "Comets", "Orchards")
HAPPINESS = {"major": 1.0, "mixolydian": 0.5, "dorian": -0.5, "minor": -1.0}

PITCHED = ("bass", "chords", "lead")
DRUMS = ("low", "middle", "high")
BALANCE = 3.0
"""How far a part may stand out of the mix or sink into it, dB."""

PARTICULARS, SCORE, SOUND, BAND = range(4)
"""Last numbers of the keys of the generators: what is drawn for one leaves the others as they are."""

T = TypeVar("T")


@dataclass(frozen=True)
class Band:
    """Who plays a clip: the instruments and habits that its clips have in common.

    Attributes
    ----------
    name : str
    instruments : dict of str to str
        Who plays each part of a groove, as a key of the synthesiser's `INSTRUMENTS` or `DRUMS`.
    tuning : float
        Cents above 440 Hz.
    brightness : float
        Added to the brightness of its clips.
    room : float
        Reverberation, seconds to 1/e.
    kit : float
        Pitch of its drums as a factor.
    """

    name: str
    instruments: dict[str, str]
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
        Pitch class of the key, 0 for C.
    mode : str
    progression : str
    groove : Groove
    swing : float
    octave : int
        Of the melody, against the usual one.
    density : float
        How often ornaments are played, in [0, 1].
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
    groove: Groove
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
        business = 2 * self.density - 1
        return 5 + 4 * (0.45 * self.pace + 0.2 * business + 0.2 * self.loudness + 0.15 * self.brightness)

    @property
    def valence(self) -> float:
        """From 1, unpleasant, to 9, pleasant: major modes, fast tempi and bright sounds please."""
        return 5 + 4 * (0.4 * HAPPINESS[self.mode] + 0.25 * self.pace + 0.35 * self.brightness)

    def generator(self, purpose: int) -> np.random.Generator:
        """Return the clip's own generator for ``purpose``, one of `PARTICULARS`, `SCORE` and `SOUND`."""
        return generator(self.style_number, self.index, purpose)


def generator(*key: int) -> np.random.Generator:
    """Return the random generator of ``key``: equal keys draw equal numbers on every machine."""
    return np.random.default_rng((SEED, *key))


def all_clips() -> list[Clip]:
    """Return the particulars of every clip, style after style."""
    return [clip(style, index) for style in range(len(STYLES)) for index in range(CLIPS_PER_STYLE)]


def clip(style_number: int, index: int) -> Clip:
    """Draw the particulars of one clip; the bands of a style take turns."""
    style = STYLES[style_number]
    band = _band(style_number, index % len(BAND_NAMES))
    rng = generator(style_number, index, PARTICULARS)
    return Clip(
        style_number=style_number,
        index=index,
        band=band,
        tempo=rng.uniform(*style.tempo),
        tonic=int(rng.integers(5)),
        mode=_one_of(style.modes, rng),
        progression=_one_of(style.progressions, rng),
        groove=_one_of(style.grooves, rng),
        swing=rng.uniform(*style.swing),
        octave=int(rng.integers(-1, 2)),
        density=rng.uniform(0, 1),
        brightness=band.brightness + rng.uniform(-0.6, 0.6),
        loudness=rng.uniform(-1, 1),
        balance={part: rng.uniform(-BALANCE, BALANCE) for part in (*PITCHED, "drums")},
    )


def _band(style_number: int, number: int) -> Band:
    style = STYLES[style_number]
    rng = generator(style_number, number, BAND)
    return Band(
        name=f"{style.name.title()} {BAND_NAMES[number]}",
        instruments={part: _one_of(getattr(style, part), rng) for part in (*PITCHED, *DRUMS)},
        tuning=rng.uniform(-25, 25),
        brightness=rng.uniform(-0.4, 0.4),
        room=rng.uniform(0.02, 0.25),
        kit=rng.uniform(0.85, 1.2),
    )


def _one_of(options: Sequence[T], rng: np.random.Generator) -> T:
    return options[int(rng.integers(len(options)))]
