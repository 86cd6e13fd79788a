"""Emotify: induced emotion, 9 regressed values, 400 clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mirembed import Archive, Card, DatasetError, Listing, Regression, Tags, Target, Track, counted
from mirembed_datasets.copies import files_by_class, find_copy, notes_on_copy, number_of
from mirembed_datasets.tables import Row, Table, find_table, read_table

GENRES = ("classical", "rock", "electronic", "pop")
"""In the order of the track ids: 1 to 100 are classical."""
N_GENRE = 100
N_CLIPS = len(GENRES) * N_GENRE
N_RATINGS = 8407
"""Rows of the published table, one for each listener and track."""
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
THRESHOLD = 0.25
"""Fraction of listeners who felt an emotion that is a tag."""
SITE = "http://www2.projects.science.uu.nl/memotion/emotifydata"

CARD = Card(
    title="Emotify",
    n_tracks=N_CLIPS,
    labels="9 emotions: the fraction of listeners who felt each, or those that enough of them felt",
    license="none stated; users are asked to cite the article",
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

    Ids are those of ``data.csv``, 1 to 400. The group is the artist in the tags of the file.

    Parameters
    ----------
    task : {"regression", "tags"}
        A target is the fraction of a clip's listeners who chose the emotion. An emotion is a tag of a clip if that
        fraction is at least ``threshold``.
    threshold : float, optional
        Above 0, at most 1. Default: 0.25.

    Raises
    ------
    DatasetError
        The threshold is out of range, or given for another task.

    References
    ----------
    A. Aljanaki, F. Wiering and R. C. Veltkamp, "Studying emotion induced by music through a crowdsourcing
    game", Information Processing & Management 52(1), 2016, doi 10.1016/j.ipm.2015.03.004.
    """

    card = CARD

    def __init__(self, *, task: Literal["regression", "tags"] = "regression", threshold: float | None = None) -> None:
        if threshold is not None and task != "tags":
            raise DatasetError(f"threshold={threshold:g} is for tags; add task=tags")
        if threshold is not None and not 0 < threshold <= 1:
            raise DatasetError(f"threshold={threshold:g} is not a fraction of listeners, such as {THRESHOLD:g}")
        self.task = task
        self.threshold = THRESHOLD if threshold is None else threshold

    def listing(self, audio: Path) -> Listing:
        """List the clips of a complete or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the genre folders, one of its two parents, or one of the genre folders. ``data.csv`` must
            be in that folder or in one of its two parents.

        Raises
        ------
        DatasetError
            There is no copy, or more than one, or ``data.csv`` is missing or malformed.
        """
        copy = find_copy(
            audio,
            lambda folder: [
                (_id(genre, file), file) for genre, file in files_by_class(folder, {genre: genre for genre in GENRES})
            ],
            original=".mp3",
            title="Emotify",
            expected="a folder 'emotifymusic' with files such as classical/1.mp3",
            parts=GENRES,
        )
        file = find_table("data.csv", copy.home, source=f"get the listeners' ratings from {SITE}/data.csv")
        table = read_table(file)
        labels = _labels(table)
        rated = sorted(labels.keys() & copy.files.keys(), key=int)
        if not rated:
            raise DatasetError(
                f"{file} has no ratings for the {counted(len(copy.files), 'clip')} in {str(copy.home)!r}; "
                f"the complete table has {N_RATINGS} rows for {N_CLIPS} tracks"
            )
        tracks = [Track(clip, copy.files[clip], self._label(labels[clip]), _artist(copy.files[clip])) for clip in rated]
        notes = [*notes_on_copy(audio, copy.home, len(tracks), N_CLIPS), *table.notes]
        if len(table.rows) != N_RATINGS:
            notes.append(
                f"{file} has {counted(len(table.rows), 'row')} for {counted(len(labels), 'track')}, expected "
                f"{N_RATINGS} for {N_CLIPS}; its labels may differ from the published ones"
            )
        if unrated := len(copy.files) - len(tracks):
            notes.append(f"skipped {counted(unrated, 'clip')} (no ratings in {file})")
        if ungrouped := sum(track.group is None for track in tracks):
            notes.append(f"{counted(ungrouped, 'clip')} without a group: no artist in the tags of the file")
        targets = Regression(tuple(Target(emotion, 0.0, 1.0) for emotion in EMOTIONS))
        task = targets if self.task == "regression" else Tags(EMOTIONS)
        return Listing(task, tracks, absent=len(labels) - len(tracks), notes=[*notes, *copy.skipped])

    def _label(self, felt: tuple[float, ...]) -> tuple[float, ...] | frozenset[str]:
        if self.task == "regression":
            return felt
        return frozenset(emotion for emotion, share in zip(EMOTIONS, felt, strict=True) if share >= self.threshold)


def _id(genre: str, file: Path) -> str | None:
    number = number_of(file, N_GENRE)
    return None if number is None else str(GENRES.index(genre) * N_GENRE + int(number))


def _labels(table: Table) -> Mapping[str, tuple[float, ...]]:
    """Return the mean rating of each emotion by track id."""
    for column in ("track id", "genre", *EMOTIONS):
        table.column(column)
    ratings: dict[str, list[tuple[int, ...]]] = {}
    for row in table.rows:
        rating = tuple(row.whole_number_within(emotion, 0, 1) for emotion in EMOTIONS)
        ratings.setdefault(_track_id(row), []).append(rating)
    return {
        clip: tuple(sum(chosen) / len(chosen) for chosen in zip(*given, strict=True)) for clip, given in ratings.items()
    }


def _track_id(row: Row) -> str:
    number = row.whole_number_within("track id", 1, N_CLIPS)
    genre = GENRES[(number - 1) // N_GENRE]
    if row.text("genre").lower() != genre:
        raise DatasetError(
            f"{row}: track {number} is {row.text('genre')!r}, but {genre!r} in the published table; use {SITE}/data.csv"
        )
    return str(number)


def _artist(file: Path) -> str | None:
    """Return the artist in the tags of ``file``; None if there is none or the file cannot be read."""
    import mutagen

    try:
        tags = mutagen.File(file, easy=True)
    except mutagen.MutagenError:  # unreadable audio is reported when it is decoded
        return None
    names = tags.get("artist", []) if tags else []
    return " ".join(names[0].split()) or None if names else None
