"""Ballroom: dance style, 8 classes, 698 clips."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from mirembed import Archive, Card, Classification, DatasetError, Listing, Track
from mirembed_datasets.audio_files import Clips, audio_in, class_folders, find_home, notes_on_copy, one_file_each
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
"""Clips in each class."""
RUMBAS = ("rumba-american", "rumba-international", "rumba-misc")
FOLDERS = {name.lower(): name for name in N_CLIPS} | dict.fromkeys(RUMBAS, "Rumba")
"""The class of each folder, its name in lower case."""
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

    Ids are the names of the files without suffix, such as ``Media-105901``: none occurs twice. The three Rumba
    folders are one class.

    The group of a clip is its album, where the name tells one (244 clips): clips of an album share performers
    and production. Of the others, ``Media-NNNNNN``, nothing is known.

    References
    ----------
    F. Gouyon et al., "An experimental comparison of audio tempo induction algorithms", IEEE Transactions on
    Audio, Speech, and Language Processing 14(5), 2006, doi 10.1109/TSA.2005.858509.
    """

    card = CARD

    def listing(self, audio: Path) -> Listing:
        """Return the clips of a whole or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the class folders, one of its two parents, or one of the class folders.

        Raises
        ------
        DatasetError
            There is no copy, more than one, or a clip lies in folders of two classes.
        """
        home = find_home(
            audio,
            lambda folder: bool(_clips(folder).files),
            title="Ballroom",
            expected="the folder 'BallroomData' is expected, with files such as Waltz/Media-105901.wav",
            parts=FOLDERS,
        )
        clips = _clips(home)
        tracks = _tracks(clips)
        counts = Counter(track.label for track in tracks)
        short = {style: n - counts[style] for style, n in N_CLIPS.items() if counts[style] < n}
        notes = notes_on_copy(audio, home, len(tracks), sum(N_CLIPS.values()))
        if some := [f"{style} {counts[style]} of {N_CLIPS[style]}" for style in short if counts[style]]:
            notes.append(f"classes with clips missing: {', '.join(some)}")
        if none := [style for style in short if not counts[style]]:
            notes.append(f"classes left out, without a clip in this copy: {', '.join(none)}")
        task = Classification(tuple(style for style in N_CLIPS if counts[style]))
        return Listing(task, tracks, absent=sum(short.values()), notes=[*notes, *clips.notes])

    def known_faults(self) -> dict[str, str]:
        """Return the replicas that Sturm found, one of each pair.

        Of a pair in one class the second clip is named. Of the pair in two classes both are: one recording with
        two labels teaches and tests nothing.
        """
        return {row.text("id"): row.text("reason") for row in read_table(DATA / "ballroom.csv").rows}


def _clips(home: Path) -> Clips:
    """Return the files in the class folders of ``home``, by class and name."""
    files = [(style, file) for style, folder in class_folders(home, FOLDERS) for file in audio_in(folder)]
    return one_file_each(
        ((f"{style}/{file.stem}" if CLIP.fullmatch(file.stem) else None, file) for style, file in files), ".wav"
    )


def _tracks(clips: Clips) -> list[Track]:
    tracks: dict[str, Track] = {}
    for key, file in clips.files.items():
        style, clip = key.split("/")
        match = CLIP.fullmatch(clip)
        track = Track(clip, file, style, match["album"] if match else None)
        other = tracks.setdefault(clip, track)
        if other is not track:
            raise DatasetError(
                f"the clip {clip} is of the class {other.label} and of {style}: remove {str(other.path)!r} "
                f"or {str(file)!r}"
            )
    return sorted(tracks.values(), key=lambda track: track.id)
