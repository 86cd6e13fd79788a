"""Ballroom: dance style, 8 classes, 698 clips."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from mirembed import Archive, Card, Listing
from mirembed_datasets.copies import list_class_folders
from mirembed_datasets.tables import DATA, read_table

N_CLIPS = {
    "ChaChaCha": 111,
    "Jive": 60,
    "Quickstep": 82,
    "Rumba": 98,
    "Samba": 86,
    "Tango": 86,
    "VienneseWaltz": 65,
    "Waltz": 110,
}
"""Number of clips in each class."""
RUMBAS = ("rumba-american", "rumba-international", "rumba-misc")
FOLDERS = {name.lower(): name for name in N_CLIPS} | dict.fromkeys(RUMBAS, "Rumba")
"""Class by lower-case name of the folder."""
CLIP = re.compile(r"(?P<album>Albums-\w+)-\d\d|Media-\d{6}", re.ASCII)

CARD = Card(
    title="Ballroom",
    n_tracks=sum(N_CLIPS.values()),
    labels="8 dance styles",
    license="said to be CC BY-NC-SA 4.0; not verified",
    citation="""\
@article{gouyon2006,
  author  = {Gouyon, Fabien and Klapuri, Anssi and Dixon, Simon and Alonso, Miguel and Tzanetakis, George and
             Uhle, Christian and Cano, Pedro},
  title   = {An experimental comparison of audio tempo induction algorithms},
  journal = {IEEE Transactions on Audio, Speech, and Language Processing},
  volume  = {14},
  number  = {5},
  pages   = {1832--1844},
  year    = {2006},
  doi     = {10.1109/TSA.2005.858509}
}""",
    source="The archive of the ISMIR 2004 tempo contest, Music Technology Group, Universitat Pompeu Fabra.",
    tree="""\
BallroomData/
  ChaChaCha/
    Albums-<Album>-NN.wav Media-NNNNNN.wav ...
  Jive/ Quickstep/ Rumba-American/ Rumba-International/ Rumba-Misc/ Samba/ Tango/ VienneseWaltz/ Waltz/""",
    archives=(
        Archive(
            "https://mtg.upf.edu/ismir2004/contest/tempoContest/data1.tar.gz",
            "md5:2872a3e52070bc342a4510a95e2fa0b8",
        ),
    ),
    rate=44100,
    seconds=(20.0, 40.0),
)


class Ballroom:
    """The ballroom dance clips of the ISMIR 2004 tempo contest.

    Ids are file names without suffix, such as ``Media-105901``; each is unique. The three Rumba folders are one
    class.

    The group of a clip is its album if the file name contains one (244 clips): clips of one album share performers and
    production. Nothing is known about the others, ``Media-NNNNNN``.

    References
    ----------
    F. Gouyon et al., "An experimental comparison of audio tempo induction algorithms", IEEE Transactions on
    Audio, Speech, and Language Processing 14(5), 2006, doi 10.1109/TSA.2005.858509.
    """

    card = CARD

    def listing(self, audio: Path) -> Listing:
        """List the clips of a complete or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the class folders, one of its two parents, or one of the class folders.

        Raises
        ------
        DatasetError
            There is no copy, more than one, or a clip is in the folders of two classes.
        """
        listing = list_class_folders(
            audio,
            lambda style, file: file.stem if CLIP.fullmatch(file.stem) else None,
            _album,
            folders=FOLDERS,
            n_clips=N_CLIPS,
            title="Ballroom",
            expected="a folder 'BallroomData' with files such as Waltz/Media-105901.wav",
        )
        found = Counter(track.label for track in listing.tracks)
        partial = [f"{style} {found[style]} of {n}" for style, n in N_CLIPS.items() if 0 < found[style] < n]
        notes = [f"incomplete classes: {', '.join(partial)}"] if partial else []
        return replace(listing, notes=[*listing.notes, *notes])

    def known_faults(self) -> dict[str, str]:
        """Return the replicas that Sturm found, one of each pair.

        Of a pair in one class it is the second clip. Of the pair in two classes it is both: one recording with two
        labels is of no use for training or testing.
        """
        return {row.text("id"): row.text("reason") for row in read_table(DATA / "ballroom.csv").rows}


def _album(clip: str) -> str | None:
    match = CLIP.fullmatch(clip)
    return match["album"] if match else None
