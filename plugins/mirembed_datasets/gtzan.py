"""GTZAN: genre, 10 classes, 1000 clips."""

from __future__ import annotations

import re
from pathlib import Path

from mirembed import Archive, Card, Classification, Listing, Split, Track
from mirembed_datasets.audio_files import Clips, audio_in, class_folders, find_home, notes_on_copy, one_file_each
from mirembed_datasets.tables import DATA, Row, read_table

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
N_CLIPS = 1000
CLIP = re.compile(r"(?P<genre>[a-z]+)[._](?P<number>000[0-9]{2})", re.IGNORECASE)
CORRUPT = "jazz.00054"

CARD = Card(
    title="GTZAN genre collection",
    n_tracks=N_CLIPS,
    labels="10 genres",
    license="unknown",
    citation="""\
@article{tzanetakis2002,
  author  = {Tzanetakis, George and Cook, Perry},
  title   = {Musical genre classification of audio signals},
  journal = {IEEE Transactions on Speech and Audio Processing},
  volume  = {10},
  number  = {5},
  pages   = {293--302},
  year    = {2002},
  doi     = {10.1109/TSA.2002.800560}
}""",
    source="Bring your own copy: the host of the archive has long been out of reach.",
    tree="""\
genres/
  blues/
    blues.00000.wav ... blues.00099.wav
  classical/ country/ disco/ hiphop/ jazz/ metal/ pop/ reggae/ rock/""",
    archives=(
        Archive(
            "http://opihi.cs.uvic.ca/sound/genres.tar.gz",
            "sha256:24347e0223d2ba798e0a558c4c172d9d4a19c00bb7963fe055d183dadb4ef2c6",
        ),
    ),
    rate=22050,
    seconds=(29.0, 31.0),
)


class Gtzan:
    """The genre collection of Tzanetakis and Cook (2002).

    Ids are ``blues.00000`` to ``rock.00099``, whatever the format of a copy and the spelling of its names.

    The group of a clip is its artist, as a number, for the 948 clips that the artist-filtered split of Foleiss
    and Tavares (2020) keeps.

    References
    ----------
    G. Tzanetakis and P. Cook, "Musical genre classification of audio signals", IEEE Transactions on Speech
    and Audio Processing 10(5), 2002, doi 10.1109/TSA.2002.800560. For its faults see B. L. Sturm, "The
    GTZAN dataset: Its contents, its faults, their effects on evaluation, and its future use", 2013,
    arXiv 1306.1461.
    """

    card = CARD

    def listing(self, audio: Path) -> Listing:
        """Return the clips of a whole or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the genre folders, one of its two parents, or one of the genre folders.

        Raises
        ------
        DatasetError
            There is no copy, or more than one.
        """
        home = find_home(
            audio,
            lambda folder: bool(_clips(folder).files),
            title="GTZAN",
            expected="the folder 'genres' or 'genres_original' is expected, with files such as blues/blues.00000.wav",
            parts=GENRES,
        )
        clips = _clips(home)
        groups = {row.text("id"): row.values["group"] or None for row in _facts()}
        tracks = [Track(clip, file, clip.split(".")[0], groups[clip]) for clip, file in sorted(clips.files.items())]
        genres = {track.label for track in tracks}
        notes = notes_on_copy(audio, home, len(tracks), N_CLIPS)
        if missing := [genre for genre in GENRES if genre not in genres]:
            notes.append(f"classes left out, without a clip in this copy: {', '.join(missing)}")
        task = Classification(tuple(genre for genre in GENRES if genre in genres))
        return Listing(task, tracks, absent=N_CLIPS - len(tracks), notes=[*notes, *clips.notes])

    def schemes(self) -> dict[str, list[Split]]:
        """Return the published splits.

        ``kereliuk``
            The fault-filtered split of Kereliuk, Sturm and Larsen (2015): fitted on its training and validation
            part, 640 clips, scored on its test part, 290.
        ``sturm3``
            The stratified, artist-filtered three folds of Foleiss and Tavares (2020), 948 clips.
        """
        part = {row.text("id"): row.values["kereliuk"] for row in _facts()}
        fold = {row.text("id"): row.values["fold"] for row in _facts()}
        return {
            "kereliuk": [_split(part, test="test")],
            "sturm3": [_split(fold, test=number) for number in ("1", "2", "3")],
        }

    def known_faults(self) -> dict[str, str]:
        """Return the 70 clips that the fault-filtered split leaves out, and one that is corrupt in many copies.

        That split keeps one of the clips that repeat each other. Leaving out what other lists leave out as well
        would remove both.
        """
        reason = "left out of the fault-filtered split of Kereliuk et al. (2015)"
        faults = {row.text("id"): reason for row in _facts() if not row.values["kereliuk"]}
        return {**faults, CORRUPT: "corrupt in many copies"}


def _facts() -> tuple[Row, ...]:
    """Return what was published about each clip."""
    return read_table(DATA / "gtzan.csv").rows


def _split(parts: dict[str, str], test: str) -> Split:
    """Return the split that scores on the part ``test`` and is fitted on the others; "" is no part."""
    return Split(
        train=frozenset(clip for clip, part in parts.items() if part not in ("", test)),
        test=frozenset(clip for clip, part in parts.items() if part == test),
    )


def _clips(home: Path) -> Clips:
    """Return the clips in the genre folders of ``home``."""
    folders = class_folders(home, {genre: genre for genre in GENRES})
    return one_file_each(((_id(genre, file), file) for genre, folder in folders for file in audio_in(folder)), ".wav")


def _id(genre: str, file: Path) -> str | None:
    match = CLIP.fullmatch(file.stem)
    return f"{genre}.{match['number']}" if match and match["genre"].lower() == genre else None
