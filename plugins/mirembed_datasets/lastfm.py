"""Last.fm mood: 4 classes, more than 2000 clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mirembed import Card, Classification, DatasetError, Listing, Track, counted, find_audio
from mirembed_datasets.copies import (
    audio_in,
    choose_files,
    class_folders,
    find_home,
    notes_on_copy,
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
    license="none for the audio: only lists and time stamps were published",
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
  with a column path (or id) and a column class
audio/
  the files named in the table""",
)


class Lastfm:
    """Songs in four moods, chosen by the tags of Last.fm.

    Users bring their own audio: a folder for each mood, or a table ``labels.csv`` or ``labels.tsv`` next to the audio.
    Ids are paths relative to the parent of the mood folders, without suffix, such as ``happy/song``; with a table,
    paths relative to the audio folder.

    References
    ----------
    Y. Song, S. Dixon and M. Pearce, "Evaluation of musical features for emotion classification", ISMIR 2012.
    """

    card = CARD

    def listing(self, audio: Path) -> Listing:
        """List the songs of a copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the mood folders or the table, one of its two parents, or a folder in it.

        Raises
        ------
        DatasetError
            There is no copy, or more than one, or the table is malformed.
        """
        here = audio.absolute()
        home = find_home(
            audio,
            lambda folder: bool(_tables(folder) or _candidates(folder)),
            title="Last.fm",
            expected=f"a folder for each mood ({', '.join(MOODS)}), or {' or '.join(TABLES)}",
            parts={*MOODS, here.name.lower()} if _tables(here.parent) else MOODS,  # audio/ may have any name
        )
        listing = _list_table(home) if _tables(home) else _list_moods(home)
        notes = notes_on_copy(audio, home, len(listing.tracks), N_LISTED)
        return replace(listing, notes=[*notes, *listing.notes])


def _tables(home: Path) -> list[Path]:
    return [home / name for name in TABLES if (home / name).is_file()]


def _mood_folders(home: Path) -> list[tuple[str, Path]]:
    return class_folders(home, {mood: mood for mood in MOODS})


def _candidates(home: Path) -> list[tuple[str, Path]]:
    """Return the audio at any depth in the mood folders of ``home``, each with the id of its clip."""
    return [
        (f"{mood}/{name.rpartition('.')[0]}", file)
        for mood, folder in _mood_folders(home)
        for name, file in find_audio(folder).files.items()
    ]


def _list_moods(home: Path) -> Listing:
    files, skipped = choose_files(_candidates(home), ".mp3")
    tracks = [Track(clip, file, clip.split("/")[0]) for clip, file in sorted(files.items())]
    task = _task(tracks)
    notes = [note for _, folder in _mood_folders(home) for note in find_audio(folder).notes]
    if missing := [mood for mood in MOODS if mood not in task.classes]:
        notes.append(f"classes without clips in this copy: {', '.join(missing)}")
    if others := [folder.name for folder in subfolders(home) if folder.name.lower() not in MOODS]:
        notes.append(f"skipped {counted(len(others), 'folder')} (not a mood): {', '.join(map(repr, others))}")
    if loose := audio_in(home):
        notes.append(f"skipped {counted(len(loose), 'audio file')} (not in a mood folder)")
    return Listing(task, tracks, notes=[*notes, *skipped])


def _list_table(home: Path) -> Listing:
    tables = _tables(home)
    if len(tables) > 1:
        raise DatasetError(f"{str(home)!r} holds both {' and '.join(TABLES)}; remove one of them")
    listing = _list_audio_of(tables[0], home)
    tracks = [replace(track, label=str(track.label).lower()) for track in listing.tracks]
    others = sorted({str(track.label) for track in tracks}.difference(MOODS))
    kept = [track for track in tracks if track.label in MOODS]
    if not kept:
        raise DatasetError(f"{tables[0]} has the classes {', '.join(others)}; expected {', '.join(MOODS)}")
    notes = list(listing.notes)
    if others:
        notes.append(f"skipped {counted(len(tracks) - len(kept), 'clip')} (not one of the moods): {', '.join(others)}")
    return Listing(_task(kept), kept, absent=listing.absent, notes=notes)


def _list_audio_of(table: Path, home: Path) -> Listing:
    """List the audio of a table whose paths are relative to ``home`` or to one of the folders there."""
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
