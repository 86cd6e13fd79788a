"""Last.fm mood: 4 classes, more than 2000 clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mirembed import Card, Classification, DatasetError, Listing, Track
from mirembed_datasets.audio_files import (
    Clips,
    audio_in,
    class_folders,
    counted,
    find_audio,
    find_home,
    notes_on_copy,
    one_file_each,
    subfolders,
)
from mirembed_datasets.folder import Folder

MOODS = ("happy", "sad", "angry", "relaxed")
N_LISTED = 2904
TABLES = ("labels.csv", "labels.tsv")

CARD = Card(
    title="Last.fm mood",
    n_tracks=N_LISTED,
    labels="4 moods",
    license="none for the audio: the release has lists and time stamps only",
    citation="""\
@inproceedings{song2012,
  author    = {Song, Yading and Dixon, Simon and Pearce, Marcus},
  title     = {Evaluation of musical features for emotion classification},
  booktitle = {Proceedings of the 13th International Society for Music Information Retrieval Conference},
  pages     = {523--528},
  year      = {2012}
}""",
    source="Bring your own audio: only the lists were published, with labels from the tags of Last.fm.",
    tree="""\
happy/ sad/ angry/ relaxed/
  any audio files
or
labels.csv or labels.tsv
  a column path (or id) and a column class
audio/
  the files that it names""",
)


class Lastfm:
    """Songs in four moods that were chosen by the tags of Last.fm.

    Every owner has their own copy: a folder for each mood, or a table ``labels.csv`` or ``labels.tsv`` beside the
    audio. Ids are paths from the folders of the moods, without suffix, such as ``happy/song``; with a table,
    paths relative to the audio folder.

    References
    ----------
    Y. Song, S. Dixon and M. Pearce, "Evaluation of musical features for emotion classification", ISMIR 2012.
    """

    card = CARD

    def listing(self, audio: Path) -> Listing:
        """Return the songs of a copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the mood folders or the table, one of its two parents, or a folder in it.

        Raises
        ------
        DatasetError
            There is no copy, or more than one, or the table is not sound.
        """
        here = audio.absolute()
        home = find_home(
            audio,
            lambda folder: bool(_tables(folder) or _clips(folder).files),
            title="Last.fm",
            expected=f"a folder for each mood ({', '.join(MOODS)}) is expected, or {' or '.join(TABLES)}",
            parts={*MOODS, here.name.lower()} if _tables(here.parent) else MOODS,  # audio/ may have any name
        )
        listing = _list_table(home) if _tables(home) else _list_moods(home)
        return replace(listing, notes=[*notes_on_copy(audio, home, len(listing.tracks), N_LISTED), *listing.notes])


def _tables(home: Path) -> list[Path]:
    return [home / name for name in TABLES if (home / name).is_file()]


def _clips(home: Path) -> Clips:
    """Return the audio at any depth in the mood folders of ``home``."""
    found = [
        (mood, name, file)
        for mood, folder in class_folders(home, {mood: mood for mood in MOODS})
        for name, file in find_audio(folder).files.items()
    ]
    return one_file_each(((f"{mood}/{name.rpartition('.')[0]}", file) for mood, name, file in found), ".mp3")


def _list_moods(home: Path) -> Listing:
    clips = _clips(home)
    folders = class_folders(home, {mood: mood for mood in MOODS})
    tracks = [Track(clip, file, clip.split("/")[0]) for clip, file in sorted(clips.files.items())]
    task = _task(tracks)
    notes = [note for _, folder in folders for note in find_audio(folder).notes]
    if missing := [mood for mood in MOODS if mood not in task.classes]:
        notes.append(f"classes left out, without a clip in this copy: {', '.join(missing)}")
    moods = {folder for _, folder in folders}
    if others := [folder.name for folder in subfolders(home) if folder not in moods]:
        notes.append(f"{counted(len(others), 'folder')} left out, called like no mood: {', '.join(map(repr, others))}")
    if loose := audio_in(home):
        notes.append(f"{counted(len(loose), 'audio file')} left out, in no folder of a mood")
    return Listing(task, tracks, notes=[*notes, *clips.notes])


def _list_table(home: Path) -> Listing:
    tables = _tables(home)
    if len(tables) > 1:
        raise DatasetError(f"{str(home)!r} holds {' and '.join(TABLES)}: remove one of them")
    listing = _list_beside(tables[0], home)
    tracks = [replace(track, label=str(track.label).lower()) for track in listing.tracks]
    others = sorted({str(track.label) for track in tracks}.difference(MOODS))
    kept = [track for track in tracks if track.label in MOODS]
    if not kept:
        raise DatasetError(f"{tables[0]} has the classes {', '.join(others)}: {', '.join(MOODS)} are expected")
    notes = list(listing.notes)
    if others:
        left_out = len(tracks) - len(kept)
        notes.append(f"{counted(left_out, 'clip')} left out, of other classes than the moods: {', '.join(others)}")
    return Listing(_task(kept), kept, absent=listing.absent, notes=notes)


def _list_beside(table: Path, home: Path) -> Listing:
    """List the table's audio: its paths are relative to ``home`` or to one of the folders there."""
    errors = []
    for audio in (home, *subfolders(home)):
        try:
            return Folder(labels=table.absolute()).listing(audio)
        except DatasetError as error:
            errors.append(error)
    raise errors[0]


def _task(tracks: list[Track]) -> Classification:
    labels = {track.label for track in tracks}
    return Classification(tuple(mood for mood in MOODS if mood in labels))
