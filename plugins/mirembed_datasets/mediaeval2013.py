"""MediaEval 2013, also "1000 songs" or emoMusic: valence and arousal, 744 clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mirembed import Archive, Card, DatasetError, Listing, Regression, Split, Target, Track, counted
from mirembed_datasets.copies import audio_in, find_copy, notes_on_copy, number_of
from mirembed_datasets.tables import DATA, Row, Table, find_table, read_table, unique

N_CLIPS = 744
LARGEST_ID = 1000
"""Only 744 of the 1000 songs are annotated."""
LOW, HIGH = 1.0, 9.0
COLUMNS = ("mean_valence", "mean_arousal")
MEANS = (5.0061, 4.7865)
"""Mean valence and arousal in the published file."""
ANNOTATIONS = "static_annotations.csv"
REPLACE = f"replace it by {ANNOTATIONS} of MediaEval 2013"
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

    Ids are the song ids, 2 to 1000. The group is the artist in ``songs_info.csv``.

    References
    ----------
    M. Soleymani et al., "1000 songs for emotional analysis of music", CrowdMM 2013,
    doi 10.1145/2506364.2506365.
    """

    card = CARD

    def listing(self, audio: Path) -> Listing:
        """List the annotated clips of a complete or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the clips, or one up to three levels above. The annotations must be in the folder with the
            clips, in one of its two parents, or in a folder ``annotations`` in one of these.

        Raises
        ------
        DatasetError
            There is no copy, or more than one, or ``static_annotations.csv`` is missing, malformed, or DEAM's.
        """
        copy = find_copy(
            audio,
            lambda folder: [(number_of(file, LARGEST_ID), file) for file in audio_in(folder)],
            original=".mp3",
            title="MediaEval 2013",
            expected="a folder 'clips_45seconds' with files such as 2.mp3",
            depth=3,
        )
        source = f"get annotations.tar.gz from {SITE}/ (not DEAM's, in which valence and arousal are swapped)"
        file = find_table(ANNOTATIONS, copy.home, folders=(".", "annotations"), source=source)
        labels, notes_on_labels = _labels(read_table(file))
        artists, notes_on_artists = _artists(file.with_name("songs_info.csv"))
        annotated = sorted(labels.keys() & copy.files.keys(), key=int)
        if not annotated:
            clips = counted(len(copy.files), "clip")
            raise DatasetError(
                f"{file} has no annotations for the {clips} in {str(copy.home)!r}; check that both are MediaEval 2013's"
            )
        tracks = [Track(clip, copy.files[clip], labels[clip], artists.get(clip)) for clip in annotated]
        notes = [*notes_on_copy(audio, copy.home, len(tracks), N_CLIPS), *notes_on_labels, *notes_on_artists]
        if unlabeled := len(copy.files) - len(tracks):
            notes.append(f"skipped {counted(unlabeled, 'clip')} (not annotated in {file})")
        if artists and (ungrouped := sum(track.group is None for track in tracks)):
            notes.append(f"{counted(ungrouped, 'clip')} without a group: no artist in songs_info.csv")
        task = Regression((Target("valence", LOW, HIGH), Target("arousal", LOW, HIGH)))
        return Listing(task, tracks, absent=len(labels) - len(tracks), notes=[*notes, *copy.skipped])

    def schemes(self) -> dict[str, list[Split]]:
        """Return ``mediaeval``, the official split: 619 development songs to train on, 125 to test on."""
        parts: dict[str, set[str]] = {"development": set(), "evaluation": set()}
        for row in read_table(DATA / "mediaeval2013.csv").rows:
            parts[row.text("set")].add(row.text("id"))
        return {"mediaeval": [Split(frozenset(parts["development"]), frozenset(parts["evaluation"]))]}


def _labels(table: Table) -> tuple[Mapping[str, tuple[float, ...]], list[str]]:
    """Return valence and arousal by song id, and notes on the table."""
    if "valence_mean" in table.columns:
        raise DatasetError(f"{table.file} is DEAM's, in which valence and arousal are swapped; {REPLACE}")
    for column in ("song_id", *COLUMNS):
        table.column(column)
    labels, repeated = unique(table, _label)
    _refuse_swapped(labels, table.file)
    notes = list(table.notes)
    if repeated:
        notes.append(f"skipped {counted(repeated, 'row')} of {table.file} (repeated)")
    if len(labels) != N_CLIPS:
        notes.append(f"{table.file} has {counted(len(labels), 'song')}, the published one has {N_CLIPS}")
    return labels, notes


def _label(row: Row) -> tuple[str, tuple[float, ...]]:
    song = row.whole_number_within("song_id", 1, LARGEST_ID)
    return str(song), tuple(row.number_within(column, LOW, HIGH) for column in COLUMNS)


def _refuse_swapped(labels: Mapping[str, tuple[float, ...]], file: Path) -> None:
    """Raise `DatasetError` if the means of all 744 songs are the published ones with valence and arousal swapped."""
    if len(labels) != N_CLIPS:
        return
    means = [sum(values) / N_CLIPS for values in zip(*labels.values(), strict=True)]
    if all(abs(mean - other) < 0.01 for mean, other in zip(means, reversed(MEANS), strict=True)):
        raise DatasetError(f"valence and arousal are swapped in {file}, as they are in DEAM; {REPLACE}")


def _artists(file: Path) -> tuple[Mapping[str, str], list[str]]:
    """Return the artist by song id, or a note on why there are none; labels do not depend on this file."""
    try:
        table = read_table(file)
        table.column("song_id")
        table.column("Artist")
    except DatasetError as error:
        return {}, [f"clips without a group, because the artists cannot be read: {error}"]
    artists = {row.values["song_id"]: " ".join(row.values["Artist"].split()) for row in table.rows}
    return {song: artist for song, artist in artists.items() if artist}, list(table.notes)
