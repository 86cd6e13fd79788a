"""Emotify: induced emotion, 9 regressed values, 400 clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mirembed import Archive, Card, DatasetError, Listing, Regression, Target, Track
from mirembed_datasets.audio_files import (
    Clips,
    audio_in,
    class_folders,
    counted,
    find_home,
    notes_on_copy,
    number_of,
    one_file_each,
)
from mirembed_datasets.tables import Row, Table, find_table, read_table

GENRES = ("classical", "rock", "electronic", "pop")
"""In the order of the track ids: 1 to 100 are classical."""
N_GENRE = 100
N_CLIPS = len(GENRES) * N_GENRE
N_ANSWERS = 8407
"""Rows of the published table: one for each listener and track."""
EMOTIONS = (
    "amazement",
    "solemnity",
    "tenderness",
    "nostalgia",
    "calmness",
    "power",
    "joyful_activation",
    "tension",
    "sadness",
)
SITE = "http://www2.projects.science.uu.nl/memotion/emotifydata"

CARD = Card(
    title="Emotify",
    n_tracks=N_CLIPS,
    labels="9 emotions, each the fraction of listeners who felt it",
    license="none stated; whoever uses it is asked to cite the article",
    citation="""\
@article{aljanaki2016,
  author  = {Aljanaki, Anna and Wiering, Frans and Veltkamp, Remco C.},
  title   = {Studying emotion induced by music through a crowdsourcing game},
  journal = {Information Processing \\& Management},
  volume  = {52},
  number  = {1},
  pages   = {115--128},
  year    = {2016},
  doi     = {10.1016/j.ipm.2015.03.004}
}""",
    source=f"{SITE}/emotifymusic.zip (no checksum is published: fetch it yourself) and {SITE}/data.csv",
    tree="""\
data.csv
emotifymusic/
  classical/
    1.mp3 ... 100.mp3
  rock/ electronic/ pop/""",
    archives=(Archive(f"{SITE}/data.csv", "md5:583c2fc66ef1cba37c50a0ea7ad585ed"),),
    rate=44100,
    seconds=(25.0, 62.0),
)


class Emotify:
    """The clips of the game Emotify, and the emotions that its players felt.

    Ids are those of ``data.csv``, 1 to 400. A target is the fraction of a track's listeners who chose the
    emotion. The group is the artist in the tags of the file.

    References
    ----------
    A. Aljanaki, F. Wiering and R. C. Veltkamp, "Studying emotion induced by music through a crowdsourcing
    game", Information Processing & Management 52(1), 2016, doi 10.1016/j.ipm.2015.03.004.
    """

    card = CARD

    def listing(self, audio: Path) -> Listing:
        """Return the clips of a whole or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the genre folders, one of its two parents, or one of the genre folders. ``data.csv``
            is in the first or in one of its two parents.

        Raises
        ------
        DatasetError
            There is no copy, more than one, or ``data.csv`` is missing or not sound.
        """
        home = find_home(
            audio,
            lambda folder: bool(_clips(folder).files),
            title="Emotify",
            expected="the folder 'emotifymusic' is expected, with files such as classical/1.mp3",
            parts=GENRES,
        )
        clips = _clips(home)
        file = find_table("data.csv", home, source=f"the answers of the listeners, from {SITE}/data.csv")
        table = read_table(file)
        labels = _labels(table)
        there = sorted(labels.keys() & clips.files.keys(), key=int)
        if not there:
            raise DatasetError(
                f"{file} has no answers for {counted(len(clips.files), 'clip')} in {str(home)!r}: "
                f"the whole table has {N_ANSWERS} rows for {N_CLIPS} tracks"
            )
        tracks = [Track(clip, clips.files[clip], labels[clip], _artist(clips.files[clip])) for clip in there]
        notes = notes_on_copy(audio, home, len(tracks), N_CLIPS)
        if len(table.rows) != N_ANSWERS:
            notes.append(
                f"{file} has {len(table.rows)} rows for {len(labels)} tracks, not {N_ANSWERS} for {N_CLIPS}: "
                "its labels may differ from the published ones"
            )
        if unlabeled := len(clips.files) - len(tracks):
            notes.append(f"{counted(unlabeled, 'clip')} left out, without an answer in {file}")
        if alone := sum(track.group is None for track in tracks):
            notes.append(f"{counted(alone, 'clip')} without a group: no artist in the tags of the file")
        task = Regression(tuple(Target(emotion, 0.0, 1.0) for emotion in EMOTIONS))
        return Listing(task, tracks, absent=len(labels) - len(tracks), notes=[*notes, *clips.notes])


def _clips(home: Path) -> Clips:
    """Return the clips in the genre folders of ``home``."""
    folders = class_folders(home, {genre: genre for genre in GENRES})
    return one_file_each(((_id(genre, file), file) for genre, folder in folders for file in audio_in(folder)), ".mp3")


def _id(genre: str, file: Path) -> str | None:
    number = number_of(file, N_GENRE)
    return None if number is None else str(GENRES.index(genre) * N_GENRE + number)


def _labels(table: Table) -> Mapping[str, tuple[float, ...]]:
    """Return the mean answer of each track's listeners to each emotion."""
    for column in ("track id", "genre", *EMOTIONS):
        table.column(column)
    answers: dict[str, list[tuple[int, ...]]] = {}
    for row in table.rows:
        answer = tuple(row.whole_number_within(emotion, 0, 1) for emotion in EMOTIONS)
        answers.setdefault(_track_id(row), []).append(answer)
    return {
        clip: tuple(sum(chosen) / len(chosen) for chosen in zip(*given, strict=True)) for clip, given in answers.items()
    }


def _track_id(row: Row) -> str:
    number = row.whole_number_within("track id", 1, N_CLIPS)
    genre = GENRES[(number - 1) // N_GENRE]
    if row.text("genre").lower() != genre:
        raise DatasetError(
            f"{row}: track {number} is {row.text('genre')!r} here and {genre!r} in the published table: "
            f"use {SITE}/data.csv"
        )
    return str(number)


def _artist(file: Path) -> str | None:
    """Return the artist in the tags of ``file``; None where there is none, or the file cannot be read."""
    import mutagen

    try:
        tags = mutagen.File(file, easy=True)
    except mutagen.MutagenError:  # whether the audio is sound is found out when it is decoded
        return None
    names = tags.get("artist", []) if tags else []
    return " ".join(names[0].split()) or None if names else None
