"""Eight styles, defined by step patterns.

They come in four pairs, so that no single feature separates all of them:

======  ============================================  ====================================================
style   shared with the other style of the pair       distinctive
======  ============================================  ====================================================
waltz   accordion, fiddle, upright bass; six quavers  3/4: bass on the one, chords on two and three
jig     a bar                                         6/8: two beats of three quavers, running melody
swing   piano, woodwind, upright bass; seventh        triplet quavers, walking bass, ride cymbal
bossa   chords; tempo                                 straight quavers, clave, bass on root and fifth
house   synthesizer and strings; tempo, kick on       chopped seventh chords, syncopated bass
trance  every beat, hats                              held minor triads, arpeggio, bass between the kicks
rock    guitar, bass and kit; modes and tempo         fifths on the beat, snare on two and four
reggae  overlap                                       triads off the beat, kick and snare on the three
======  ============================================  ====================================================

The last groove of each style has the drums, the chords or the bass of the other.

A pattern has one character per step and is repeated:

==============  ==================================================================================
``.``           rest
``=``           the previous sound continues
``1`` to ``8``  a scale step above the root of the chord; 8 is the octave
``x``           a drum hit, a whole chord, or a note of the melody
``o``           the same as an ornament: softer, and only as often as the density of the clip says
==============  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PITCHED = ("bass", "chords", "lead")
DRUMS = ("low", "middle", "high")
PARTS = PITCHED + DRUMS


@dataclass(frozen=True)
class Style:
    """The options from which the clips of a style are drawn.

    Attributes
    ----------
    name : str
    tempo : tuple of float
        Lowest and highest, beats per minute.
    steps_per_beat, steps_per_chord : int
    modes : tuple of str
        Keys of `mirembed_datasets.synthesis.composition.SCALES`; one that occurs twice is drawn twice as often.
    progressions : tuple of str
        Sequences of chords, each given by the scale step of its root.
    voicing : str
        Scale steps of the chord above its root.
    instruments : dict of str to tuple of str
        For each of `PARTS`, the instruments or drums of the synthesizer that a band may have.
    grooves : dict of str to tuple of str
        For each of `PARTS`, its step patterns; the first patterns of all parts form one groove, and so on.
    swing : tuple of float
        Position of the second of two steps between the first and the next pair: 1/2 straight, 2/3 triplets.
    """

    name: str
    tempo: tuple[float, float]
    steps_per_beat: int
    steps_per_chord: int
    modes: tuple[str, ...]
    progressions: tuple[str, ...]
    voicing: str
    instruments: Mapping[str, tuple[str, ...]]
    grooves: Mapping[str, tuple[str, ...]]
    swing: tuple[float, float] = (0.5, 0.5)


WALTZ = Style(
    name="waltz",
    tempo=(92, 160),
    steps_per_beat=2,
    steps_per_chord=6,
    modes=("major", "major", "minor"),
    progressions=("1155", "1451", "1625", "1415"),
    voicing="135",
    instruments={
        "bass": ("upright", "tuba"),
        "chords": ("accordion", "piano"),
        "lead": ("fiddle", "accordion"),
        "low": ("kick",),
        "middle": ("brush", "snare"),
        "high": ("shaker",),
    },
    grooves={
        "bass": ("1=....5=....", "1=....", "1=..3.5=...."),
        "chords": ("..x.x.", "..xox.", "..x=x="),
        "lead": ("x===x=x=====", "x=x=x=x=xox=", "xxx=xxx=xxo."),
        "low": ("x.....", "x.....", "x..x.."),
        "middle": ("..x.x.", "..xoxo", "...x.o"),
        "high": ("o.o.o.", "x.....", "x.xx.x"),
    },
)
JIG = Style(
    name="jig",
    tempo=(76, 118),
    steps_per_beat=3,
    steps_per_chord=6,
    modes=("major", "mixolydian", "dorian"),
    progressions=("1171", "1147", "1717", "1415"),
    voicing="158",
    instruments={
        "bass": ("upright",),
        "chords": ("accordion", "guitar"),
        "lead": ("fiddle", "flute"),
        "low": ("tom", "kick"),
        "middle": ("brush", "rim"),
        "high": ("shaker",),
    },
    grooves={
        "bass": ("1==5==", "1==1.5", "1=...1"),
        "chords": ("x.ox.o", "x==x==", "..x.x."),
        "lead": ("xxxxxxx=xxox", "x=xx=xxxxx==", "x=x=x=xxx=xo"),
        "low": ("x..x..", "x.....", "x....."),
        "middle": ("...x.o", "..ox.o", "..x.xo"),
        "high": ("o.oo.o", "x.xx.x", "o.o.o."),
    },
)
SWING = Style(
    name="swing",
    tempo=(112, 184),
    steps_per_beat=2,
    steps_per_chord=8,
    swing=(0.61, 0.68),
    modes=("major", "mixolydian"),
    progressions=("2511", "1625", "3625", "1425"),
    voicing="1357",
    instruments={
        "bass": ("upright",),
        "chords": ("piano", "epiano"),
        "lead": ("clarinet", "flute"),
        "low": ("kick",),
        "middle": ("brush",),
        "high": ("ride", "hat"),
    },
    grooves={
        "bass": ("1=3=5=6=8=6=5=3=", "1=2=3=5=", "1==15==1"),
        "chords": ("x..x....", "..x....x", "x..x..x...x..x.."),
        "lead": ("x.xxo.x.", "xxx=.oxx=...xoxx", "..x=ox==x=......"),
        "low": ("o...o...", "x......o", "x..xx..x"),
        "middle": ("..x...x.", ".o.x...o", "..x...x."),
        "high": ("x.xxx.xx", "x.xox.xo", "xxxxxxxx"),
    },
)
BOSSA = Style(
    name="bossa",
    tempo=(112, 172),
    steps_per_beat=2,
    steps_per_chord=16,
    modes=("major", "dorian", "minor"),
    progressions=("1251", "2511", "1425", "1414"),
    voicing="1357",
    instruments={
        "bass": ("upright",),
        "chords": ("epiano", "guitar"),
        "lead": ("clarinet", "flute"),
        "low": ("kick",),
        "middle": ("rim", "brush"),
        "high": ("shaker", "ride"),
    },
    grooves={
        "bass": ("1==55==1", "1==55===", "1=3=5=3="),
        "chords": ("x..x..x...x..x..", "x=.x=.x=..x=.x=.", "..x....x"),
        "lead": ("x===..x=xo......", "..x=ox==x=......", "x.xxo.x."),
        "low": ("x..xx..x", "x..ox..o", "x......o"),
        "middle": ("x..x..x...x..x..", "..x.x...x..x..x.", ".o.x...o"),
        "high": ("xoxoxoxo", "xxxxxxxx", "x.xox.xo"),
    },
)
HOUSE = Style(
    name="house",
    tempo=(114, 132),
    steps_per_beat=4,
    steps_per_chord=16,
    swing=(0.5, 0.57),
    modes=("dorian", "minor"),
    progressions=("1144", "1415", "1", "16"),
    voicing="1357",
    instruments={
        "bass": ("synthbass", "sub"),
        "chords": ("organ", "strings"),
        "lead": ("organ", "saw"),
        "low": ("kick",),
        "middle": ("clap",),
        "high": ("hat",),
    },
    grooves={
        "bass": ("1..1..1...5.1...", "1.....1.8..1..5.", "..1..11...1..1.."),
        "chords": ("x..x..x...x..x..", "..x..x....x..x..", "x=====x=====x==="),
        "lead": ("....x.ox........", "........x=xx.o..", "x.o.x...o.x.o..."),
        "low": ("x...x...x...x...", "x...x...x...x...", "x...x...x...x..."),
        "middle": ("....x.......x...", "....o.......o..o", "....x..o....x..o"),
        "high": ("o.x.o.x.o.x.o.xo", "..x...x...x...x.", "xxxoxoxoxoxoxoxo"),
    },
)
TRANCE = Style(
    name="trance",
    tempo=(114, 132),
    steps_per_beat=4,
    steps_per_chord=16,
    modes=("minor",),
    progressions=("1637", "1673", "1564", "6415"),
    voicing="135",
    instruments={
        "bass": ("synthbass",),
        "chords": ("saw", "strings"),
        "lead": ("saw", "organ"),
        "low": ("kick",),
        "middle": ("clap",),
        "high": ("hat",),
    },
    grooves={
        "bass": ("..1...1...1...1.", ".111.111.111.111", "1..1..1...1.1..."),
        "chords": ("x===============", "x=======x=======", "x..x..x...x..x.."),
        "lead": ("1358135813581358", "1.5.8.5.3.5.8.3.", "8.53.8.53.8.5.3."),
        "low": ("x...x...x...x...", "x...x...x...x...", "x...x...x...x..."),
        "middle": ("....x.......x...", "....o.......o..o", "....x..o....x..o"),
        "high": ("o.x.o.x.o.x.o.xo", "..x...x...x...x.", "xxxoxoxoxoxoxoxo"),
    },
)
ROCK = Style(
    name="rock",
    tempo=(88, 144),
    steps_per_beat=2,
    steps_per_chord=8,
    modes=("mixolydian", "major", "minor"),
    progressions=("1741", "1545", "1647", "1474"),
    voicing="158",
    instruments={
        "bass": ("fingerbass", "sub"),
        "chords": ("crunch",),
        "lead": ("crunch", "guitar"),
        "low": ("kick",),
        "middle": ("snare",),
        "high": ("hat", "ride"),
    },
    grooves={
        "bass": ("11111111", "1=.11=51", "1..1..15"),
        "chords": ("x=x=x=x=", "x==x==xo", ".x.x.x.x"),
        "lead": ("x===..x=", "....x=xo", "x=ox=..."),
        "low": ("x...xo..", "x..ox..o", "x...x..."),
        "middle": ("..x...x.", "..x...xo", "..x...x."),
        "high": ("xxxxxxxx", "xoxoxoxo", "x.x.x.xo"),
    },
)
REGGAE = Style(
    name="reggae",
    tempo=(72, 116),
    steps_per_beat=4,
    steps_per_chord=16,
    modes=("major", "mixolydian"),
    progressions=("1415", "14", "1645", "1212"),
    voicing="135",
    instruments={
        "bass": ("fingerbass", "sub"),
        "chords": ("crunch", "organ"),
        "lead": ("organ", "guitar"),
        "low": ("kick",),
        "middle": ("snare", "rim"),
        "high": ("hat",),
    },
    grooves={
        "bass": ("1=..1=3=5=......", "....1=1=..5=3=1=", "1.1.1.1.5.5.3.1."),
        "chords": ("..x...x...x...x.", ".xx=.xx=.xx=.xx=", "x=..x=..x=..x=xo"),
        "lead": ("x=..o.x=........", "........x=x=o=..", "x===..o........."),
        "low": ("........x.......", "........x.....o.", "x...o...x..o...."),
        "middle": ("........x.......", "........x..o..o.", "....x.......x..."),
        "high": ("x.x.x.xox.x.x.xo", "o.xoo.xoo.xoo.xo", "x.x.x.x.x.x.x.xo"),
    },
)

STYLES = (WALTZ, JIG, SWING, BOSSA, HOUSE, TRANCE, ROCK, REGGAE)
