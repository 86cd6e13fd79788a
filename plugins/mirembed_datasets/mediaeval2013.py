"""MediaEval 2013, also "1000 songs" or emoMusic: valence and arousal, 744 clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mirembed import Archive, Card, DatasetError, Listing, Regression, Split, Target, Track
from mirembed_datasets.audio_files import Clips, audio_in, counted, find_home, notes_on_copy, number_of, one_file_each
from mirembed_datasets.tables import DATA, Row, Table, find_table, read_table

N_CLIPS = 744
MOST = 1000
"""The largest id: only 744 of the 1000 songs are annotated."""
LOW, HIGH = 1.0, 9.0
COLUMNS = ("mean_valence", "mean_arousal")
MEANS = (5.0061, 4.7865)
"""Mean valence and arousal of the published file."""
ANNOTATIONS = "static_annotations.csv"
MEND = f"put {ANNOTATIONS} of MediaEval 2013 in its place"
SITE = "http://cvml.unige.ch/databases/emoMusic"

CARD = Card(
    title="MediaEval 2013 (1000 songs, emoMusic)",
    n_tracks=N_CLIPS,
    labels="valence and arousal, from 1 to 9",
    license="clips from the Free Music Archive under Creative Commons licenses; none stated for the annotations",
    citation="""\
@inproceedings{soleymani2013,
  author    = {Soleymani, Mohammad and Caro, Micheal N. and Schmidt, Erik M. and Sha, Cheng-Ya and Yang, Yi-Hsuan},
  title     = {1000 songs for emotional analysis of music},
  booktitle = {Proceedings of the 2nd ACM International Workshop on Crowdsourcing for Multimedia},
  pages     = {1--6},
  year      = {2013},
  doi       = {10.1145/2506364.2506365}
}""",
    source=f"{SITE}/",
    tree="""\
clips_45seconds/
  2.mp3 ... 1000.mp3
static_annotations.csv
songs_info.csv""",
    archives=(
        Archive(
            f"{SITE}/clips_45sec.tar.gz",
            "sha256:3994a5d5fefc27f9540d1a69cd7f1294c68e6cb311ce49765021e2e9c7a1057b",
        ),
        Archive(
            f"{SITE}/annotations.tar.gz",
            "sha256:e0cb0b06e1b0ce7f04b1572fc410937699b7fad9dae67ddaa745f06cda4b0b33",
        ),
    ),
    rate=44100,
    seconds=(40.0, 50.0),
)


class Mediaeval2013:
    """The songs of the MediaEval 2013 task on emotion in music, with their static annotations.

    Ids are the song ids, 2 to 1000. The group is the artist that ``songs_info.csv`` names.

    References
    ----------
    M. Soleymani et al., "1000 songs for emotional analysis of music", CrowdMM 2013,
    doi 10.1145/2506364.2506365.
    """

    card = CARD

    def listing(self, audio: Path) -> Listing:
        """Return the annotated clips of a whole or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the clips, or one up to three levels above. The annotations are in the first or in
            one of its two parents, or there in a folder ``annotations``.

        Raises
        ------
        DatasetError
            There is no copy, more than one, or ``static_annotations.csv`` is missing, not sound, or DEAM's.
        """
        home = find_home(
            audio,
            lambda folder: bool(_clips(folder).files),
            title="MediaEval 2013",
            expected="the folder 'clips_45seconds' is expected, with files such as 2.mp3",
            depth=3,
        )
        clips = _clips(home)
        source = f"get annotations.tar.gz from {SITE}/ (DEAM's will not do: its valence and arousal are swapped)"
        file = find_table(ANNOTATIONS, home, folders=(".", "annotations"), source=source)
        labels, notes = _labels(read_table(file))
        artists, remarks = _artists(file.with_name("songs_info.csv"))
        there = sorted(labels.keys() & clips.files.keys(), key=int)
        if not there:
            raise DatasetError(f"{file} has none of the {counted(len(clips.files), 'clip')} in {str(home)!r}")
        tracks = [Track(clip, clips.files[clip], labels[clip], artists.get(clip)) for clip in there]
        notes = [*notes_on_copy(audio, home, len(tracks), N_CLIPS), *notes, *remarks]
        if unlabeled := len(clips.files) - len(tracks):
            notes.append(f"{counted(unlabeled, 'clip')} left out, not annotated in {file}")
        if artists and (alone := sum(track.group is None for track in tracks)):
            notes.append(f"{counted(alone, 'clip')} without a group: no artist in songs_info.csv")
        task = Regression((Target("valence", LOW, HIGH), Target("arousal", LOW, HIGH)))
        return Listing(task, tracks, absent=len(labels) - len(tracks), notes=[*notes, *clips.notes])

    def schemes(self) -> dict[str, list[Split]]:
        """Return ``mediaeval``, the split of the task: fitted on 619 development songs, scored on 125."""
        parts: dict[str, set[str]] = {"development": set(), "evaluation": set()}
        for row in read_table(DATA / "mediaeval2013.csv").rows:
            parts[row.text("set")].add(row.text("id"))
        return {"mediaeval": [Split(frozenset(parts["development"]), frozenset(parts["evaluation"]))]}


def _clips(home: Path) -> Clips:
    """Return the numbered clips in ``home``."""
    return one_file_each(((_id(file), file) for file in audio_in(home)), ".mp3")


def _id(file: Path) -> str | None:
    number = number_of(file, MOST)
    return None if number is None else str(number)


def _labels(table: Table) -> tuple[Mapping[str, tuple[float, ...]], list[str]]:
    """Return valence and arousal of each song, and what is to be said of the table."""
    if "valence_mean" in table.columns:
        raise DatasetError(f"{table.file} is DEAM's, whose valence and arousal are swapped: {MEND}")
    for column in ("song_id", *COLUMNS):
        table.column(column)
    rows: dict[str, tuple[Row, tuple[float, ...]]] = {}
    repeated = 0
    for row in table.rows:
        song = str(row.whole_number_within("song_id", 1, MOST))
        values = tuple(row.number_within(column, LOW, HIGH) for column in COLUMNS)
        first, known = rows.setdefault(song, (row, values))
        if known != values:
            raise DatasetError(f"{row}: song {song} has other values on line {first.line}: remove one of the rows")
        repeated += first is not row
    labels = {song: values for song, (_, values) in rows.items()}
    _refuse_swapped(labels, table.file)
    notes = [f"{counted(repeated, 'row')} of {table.file} left out, saying again what another says"] if repeated else []
    if len(labels) != N_CLIPS:
        notes.append(f"{table.file} has {len(labels)} songs; the published one has {N_CLIPS}")
    return labels, notes


def _refuse_swapped(labels: Mapping[str, tuple[float, ...]], file: Path) -> None:
    """Raise `DatasetError` when the means of all 744 songs are the published ones with their places exchanged."""
    if len(labels) != N_CLIPS:
        return
    means = [sum(values) / N_CLIPS for values in zip(*labels.values(), strict=True)]
    if all(abs(mean - other) < 0.01 for mean, other in zip(means, reversed(MEANS), strict=True)):
        raise DatasetError(f"valence and arousal are swapped in {file}, as they are in DEAM's: {MEND}")


def _artists(file: Path) -> tuple[Mapping[str, str], list[str]]:
    """Return the artist of each song, and why they are missing; labels do not depend on this file."""
    try:
        table = read_table(file)
        table.column("song_id")
        table.column("Artist")
    except DatasetError as error:
        return {}, [f"clips without a group, as the artists cannot be read: {error}"]
    artists = {row.values["song_id"]: " ".join(row.values["Artist"].split()) for row in table.rows}
    return {song: artist for song, artist in artists.items() if artist}, []
