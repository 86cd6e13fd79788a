"""Eight styles, written down as step patterns.

They come in four pairs, so that no single cue tells all of them apart:

========  ==========================  ==================================================================
pair      in common                   what differs
========  ==========================  ==================================================================
waltz     accordion, fiddle, flute;   3/4, oom-pah-pah, major and minor
jig       six quavers a bar           6/8, running melody, drum on the dotted crotchets, modal
swing     jazz quartet, seventh       triplet quavers, walking bass, ride cymbal
bossa     chords, tempo               straight quavers, clave, bass on one and three
house     tempo, drums                chopped seventh chords, syncopated bass
trance    (four on the floor)         held triads, arpeggio, bass between the kicks
rock      guitars, organ, bass, kit   backbeat, fifths, driving quavers
reggae                                chords off the beat, kick and snare on three, roomy bass line
========  ==========================  ==================================================================

A pattern has one character a step and is repeated as it stands:

=========  =======================================================================================
``.``      rest
``=``      the sound before goes on
``1``-``9``  a scale step above the root of the chord (8 is the octave)
``x``      a drum hit, a whole chord, or a note that the melody chooses
``o``      the same as an ornament: softer, and played as often as the clip's density says
=========  =======================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Groove:
    """What the band plays: one step pattern for each instrument and for the low, middle and high drum."""

    bass: str
    chords: str
    lead: str
    low: str
    middle: str
    high: str


@dataclass(frozen=True)
class Style:
    """The choices that the clips of one style draw from.

    Attributes
    ----------
    name : str
    tempo : tuple of float
        Lowest and highest, beats a minute.
    steps_per_beat, steps_per_chord : int
    modes : tuple of str
        Keys of `mirembed_datasets.synthesis.score.SCALES`; one that stands twice is drawn twice as often.
    progressions : tuple of str
        Chords in turn, each as the scale step of its root.
    voicing : str
        The chord, as scale steps above its root.
    bass, chords, lead : tuple of str
        Keys of `mirembed_datasets.synthesis.synth.INSTRUMENTS` that a band may choose for the part.
    grooves : tuple of Groove
    swing : tuple of float
        Where the second of two steps falls between the first and the next pair: 1/2 straight, 2/3 triplets.
    """

    name: str
    tempo: tuple[float, float]
    steps_per_beat: int
    steps_per_chord: int
    modes: tuple[str, ...]
    progressions: tuple[str, ...]
    voicing: str
    bass: tuple[str, ...]
    chords: tuple[str, ...]
    lead: tuple[str, ...]
    low: tuple[str, ...]
    middle: tuple[str, ...]
    high: tuple[str, ...]
    grooves: tuple[Groove, ...]
    swing: tuple[float, float] = (0.5, 0.5)


WALTZ = Style(
    name="waltz",
    tempo=(92, 160),
    steps_per_beat=2,
    steps_per_chord=6,
    modes=("major", "major", "minor"),
    progressions=("1155", "1451", "1625", "1415"),
    voicing="135",
    bass=("upright", "tuba"),
    chords=("accordion", "piano"),
    lead=("fiddle", "accordion"),
    low=("kick",),
    middle=("brush", "snare"),
    high=("shaker",),
    grooves=(
        Groove(
            bass="1=....5=....",
            chords="..x.x.",
            lead="x===x=x=====",
            low="x.....",
            middle="..x.x.",
            high="o.o.o.",
        ),
        Groove(
            bass="1=....",
            chords="..xox.",
            lead="x=x=x=x=xox=",
            low="x.....",
            middle="..xoxo",
            high="x.....",
        ),
        Groove(
            bass="1=..3.5=....",
            chords="..x=x=",
            lead="xxx=xxx=xxo.",
            low="x..x..",
            middle="...x.o",
            high="x.xx.x",
        ),
    ),
)
JIG = Style(
    name="jig",
    tempo=(76, 118),
    steps_per_beat=3,
    steps_per_chord=6,
    modes=("major", "mixolydian", "dorian"),
    progressions=("1171", "1147", "1717", "1415"),
    voicing="158",
    bass=("upright",),
    chords=("accordion", "guitar"),
    lead=("fiddle", "flute"),
    low=("tom", "kick"),
    middle=("brush", "rim"),
    high=("shaker",),
    grooves=(
        Groove(
            bass="1==5==",
            chords="x.ox.o",
            lead="xxxxxxx=xxox",
            low="x..x..",
            middle="...x.o",
            high="o.oo.o",
        ),
        Groove(
            bass="1==1.5",
            chords="x==x==",
            lead="x=xx=xxxxx==",
            low="x.....",
            middle="..ox.o",
            high="x.xx.x",
        ),
        Groove(bass="1=...1", chords="..x.x.", lead="x=x=x=xxx=xo", low="x.....", middle="..x.xo", high="o.o.o."),
    ),
)
SWING = Style(
    name="swing",
    tempo=(112, 184),
    steps_per_beat=2,
    steps_per_chord=8,
    modes=("major", "mixolydian"),
    progressions=("2511", "1625", "3625", "1425"),
    voicing="1357",
    bass=("upright",),
    chords=("piano", "guitar"),
    lead=("clarinet", "flute"),
    low=("kick",),
    middle=("brush",),
    high=("ride", "hat"),
    grooves=(
        Groove(
            bass="1=3=5=6=8=6=5=3=",
            chords="x..x....",
            lead="x.xxo.x.",
            low="o...o...",
            middle="..x...x.",
            high="x.xxx.xx",
        ),
        Groove(
            bass="1=2=3=5=",
            chords="..x....x",
            lead="xxx=.oxx=...xoxx",
            low="x......o",
            middle=".o.x...o",
            high="x.xox.xo",
        ),
        Groove(
            bass="1==15==1",
            chords="x..x..x...x..x..",
            lead="..x=ox==x=......",
            low="x..xx..x",
            middle="..x...x.",
            high="xxxxxxxx",
        ),
    ),
    swing=(0.61, 0.68),
)
BOSSA = Style(
    name="bossa",
    tempo=(112, 172),
    steps_per_beat=2,
    steps_per_chord=16,
    modes=("major", "dorian", "minor"),
    progressions=("1251", "2511", "1425", "1414"),
    voicing="1357",
    bass=("upright", "sub"),
    chords=("epiano", "guitar"),
    lead=("clarinet", "epiano"),
    low=("kick",),
    middle=("rim", "brush"),
    high=("shaker", "ride"),
    grooves=(
        Groove(
            bass="1==55==1",
            chords="x..x..x...x..x..",
            lead="x===..x=xo......",
            low="x..xx..x",
            middle="x..x..x...x..x..",
            high="xoxoxoxo",
        ),
        Groove(
            bass="1==55===",
            chords="x=.x=.x=..x=.x=.",
            lead="..x=ox==x=......",
            low="x..ox..o",
            middle="..x.x...x..x..x.",
            high="xxxxxxxx",
        ),
        Groove(
            bass="1=3=5=3=",
            chords="..x....x",
            lead="x.xxo.x.",
            low="x......o",
            middle=".o.x...o",
            high="x.xox.xo",
        ),
    ),
)
HOUSE = Style(
    name="house",
    tempo=(114, 132),
    steps_per_beat=4,
    steps_per_chord=16,
    modes=("dorian", "minor"),
    progressions=("1144", "1415", "1", "16"),
    voicing="1357",
    bass=("synthbass", "sub"),
    chords=("organ", "epiano"),
    lead=("organ", "saw"),
    low=("kick",),
    middle=("clap",),
    high=("hat",),
    grooves=(
        Groove(
            bass="1..1..1...5.1...",
            chords="x..x..x...x..x..",
            lead="....x.ox........",
            low="x...x...x...x...",
            middle="....x.......x...",
            high="o.x.o.x.o.x.o.xo",
        ),
        Groove(
            bass="1.....1.8..1..5.",
            chords="..x..x....x..x..",
            lead="........x=xx.o..",
            low="x...x...x...x...",
            middle="....o.......o..o",
            high="..x...x...x...x.",
        ),
        Groove(
            bass="..1..11...1..1..",
            chords="x=====x=====x===",
            lead="x.o.x...o.x.o...",
            low="x...x...x...x...",
            middle="....x..o....x..o",
            high="xxxoxoxoxoxoxoxo",
        ),
    ),
    swing=(0.5, 0.57),
)
TRANCE = Style(
    name="trance",
    tempo=(114, 132),
    steps_per_beat=4,
    steps_per_chord=16,
    modes=("minor",),
    progressions=("1637", "1673", "1564", "6415"),
    voicing="135",
    bass=("synthbass",),
    chords=("saw", "strings"),
    lead=("saw",),
    low=("kick",),
    middle=("clap",),
    high=("hat",),
    grooves=(
        Groove(
            bass="..1...1...1...1.",
            chords="x===============",
            lead="1358135813581358",
            low="x...x...x...x...",
            middle="....x.......x...",
            high="o.x.o.x.o.x.o.xo",
        ),
        Groove(
            bass=".111.111.111.111",
            chords="x=======x=======",
            lead="1.5.8.5.3.5.8.3.",
            low="x...x...x...x...",
            middle="....o.......o..o",
            high="..x...x...x...x.",
        ),
        Groove(
            bass="1..1..1...1.1...",
            chords="x..x..x...x..x..",
            lead="8.53.8.53.8.5.3.",
            low="x...x...x...x...",
            middle="....x..o....x..o",
            high="xxxoxoxoxoxoxoxo",
        ),
    ),
)
ROCK = Style(
    name="rock",
    tempo=(92, 152),
    steps_per_beat=2,
    steps_per_chord=8,
    modes=("mixolydian", "major", "minor"),
    progressions=("1741", "1545", "1647", "1474"),
    voicing="158",
    bass=("fingerbass",),
    chords=("crunch",),
    lead=("crunch", "guitar"),
    low=("kick",),
    middle=("snare",),
    high=("hat", "ride"),
    grooves=(
        Groove(
            bass="11111111",
            chords="x=x=x=x=",
            lead="x===..x=",
            low="x...xo..",
            middle="..x...x.",
            high="xxxxxxxx",
        ),
        Groove(
            bass="1=.11=51",
            chords="x==x==xo",
            lead="....x=xo",
            low="x..ox..o",
            middle="..x...xo",
            high="xoxoxoxo",
        ),
        Groove(
            bass="1..1..15",
            chords=".x.x.x.x",
            lead="x=ox=...",
            low="x...x...",
            middle="..x...x.",
            high="x.x.x.xo",
        ),
    ),
)
REGGAE = Style(
    name="reggae",
    tempo=(66, 100),
    steps_per_beat=4,
    steps_per_chord=16,
    modes=("major", "mixolydian"),
    progressions=("1415", "14", "1645", "1212"),
    voicing="135",
    bass=("fingerbass", "sub"),
    chords=("crunch", "organ"),
    lead=("organ", "guitar"),
    low=("kick",),
    middle=("snare", "rim"),
    high=("hat",),
    grooves=(
        Groove(
            bass="1=..1=3=5=......",
            chords="..x...x...x...x.",
            lead="x=..o.x=........",
            low="........x.......",
            middle="........x.......",
            high="x.x.x.xox.x.x.xo",
        ),
        Groove(
            bass="....1=1=..5=3=1=",
            chords="..xo..xo..xo..xo",
            lead="........x=x=o=..",
            low="........x.....o.",
            middle="........x..o..o.",
            high="o.xoo.xoo.xoo.xo",
        ),
        Groove(
            bass="1.1.1.1.5.5.3.1.",
            chords="x=..x=..x=..x=xo",
            lead="x===..o.........",
            low="x...o...x..o....",
            middle="....x.......x...",
            high="x.x.x.x.x.x.x.xo",
        ),
    ),
)

STYLES = (WALTZ, JIG, SWING, BOSSA, HOUSE, TRANCE, ROCK, REGGAE)
