"""Your own audio files, labeled by the folders they are in or by a table."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from unicodedata import normalize

from mirembed import (
    AUDIO_SUFFIXES,
    AudioFiles,
    Card,
    Classification,
    DatasetError,
    Listing,
    Track,
    counted,
    find_audio,
)
from mirembed_datasets.copies import subfolders
from mirembed_datasets.folder_table import MISSING, Columns, list_table
from mirembed_datasets.tables import read_table


class Folder:
    """A folder of audio files.

    Without a table, each folder in the audio folder is a class, and the audio files in it, at any depth, are its
    tracks. With a table, each row names a track and its class, tags or targets.

    Parameters
    ----------
    labels : pathlib.Path, optional
        Table of labels (CSV, TSV or JSON Lines), relative to the current folder or else to the audio folder. Paths in
        the table are relative to the audio folder and may lack the suffix; absolute paths, paths relative to the
        current folder, and those of another computer are recognized.
    target : str, optional
        Columns with the targets of a regression, joined by ``+``. Their range is that of the training tracks. A track
        that lacks one of them is unlabeled.
    tags : str, optional
        Column with the tags of a track, as a JSON list or separated by ``;``, ``|`` or ``,`` (the first of these that
        occurs in the column); an empty cell is a track without tags. Or columns of 0 and 1, one a tag, joined by ``+``;
        ``*`` for all that remain.
    group : str, optional
        Column of the group that must not be in both the training and the test part of a fold, such as the artist.
    label : str, optional
        Column of the class. Default: the first of label, class, genre, style and mood that exists, or else the only
        remaining column.
    path : str, optional
        Column of the path. Default: the first of path, file, filename, audio, track and id that exists.
    missing : str, optional
        Words that stand for a missing value like an empty cell, joined by ``+``, in upper or lower case; ``empty`` if
        only empty cells do.

    Raises
    ------
    DatasetError
        A column is given without a table, or more than one of ``label``, ``tags`` and ``target`` is given.
    """

    card: ClassVar[Card] = Card(
        title="Your own files: one folder per class, or a table of labels",
        n_tracks=0,
        labels="your classes, tags or targets",
        license="that of your music",
        citation="",
        source="your disk",
        tree="<class>/<any name>.wav, .mp3, .flac ...\nor any audio files, and a table with their paths and labels",
    )

    def __init__(
        self,
        *,
        labels: Path | None = None,
        target: str | None = None,
        tags: str | None = None,
        group: str | None = None,
        label: str | None = None,
        path: str | None = None,
        missing: str = MISSING,
    ) -> None:
        columns = {"target": target, "tags": tags, "group": group, "label": label, "path": path}
        given = [name for name, column in columns.items() if column is not None]
        if labels is None and given:
            raise DatasetError(
                f"{given[0]}={columns[given[0]]} names a column of a table, but there is no table; add labels=FILE"
            )
        tasks = {"label": "classes", "tags": "tags", "target": "numbers"}
        if len(chosen := [name for name in tasks if columns[name] is not None]) > 1:
            listed = " and ".join(f"{name}={columns[name]} is for {tasks[name]}" for name in chosen)
            raise DatasetError(f"{listed}; give only one of them")
        self.labels = labels
        self.target = target
        self.tags = tags
        self.group = group
        self.label = label
        self.path = path
        self.missing = missing

    def listing(self, audio: Path) -> Listing:
        """List the tracks of a folder.

        Raises
        ------
        DatasetError
            There is no such folder, it holds no labeled audio, or the table is malformed.
        """
        found = find_audio(audio)
        if not found.files:
            why = "; ".join(found.notes) or "no visible file in it"
            raise DatasetError(
                f"no audio files in {str(audio)!r} ({why}); "
                f"expected files ending in {', '.join(sorted(AUDIO_SUFFIXES))}"
            )
        if self.labels is None:
            return _list_class_folders(audio, found)
        table = read_table(_existing(self.labels, audio))
        columns = Columns.choose(
            table, path=self.path, group=self.group, label=self.label, tags=self.tags, target=self.target
        )
        return list_table(audio, found, table, columns, self.missing)


def _list_class_folders(audio: Path, found: AudioFiles) -> Listing:
    loose = [file for file in found.files if "/" not in file]
    tracks = [Track(name, file, name.split("/")[0].strip()) for name, file in found.files.items() if "/" in name]
    if not tracks:
        raise DatasetError(
            f"{str(audio)!r} holds {counted(len(loose), 'audio file')} but no class folder with audio; "
            "put them into one folder per class, or give a table with labels=FILE"
        )
    task = Classification(tuple(sorted({str(track.label) for track in tracks})))
    notes = list(found.notes)
    if loose:
        notes.append(f"skipped {counted(len(loose), 'audio file')} (not in a class folder)")
    names = {normalize("NFC", folder.name).strip() for folder in subfolders(audio)}
    if empty := sorted(names.difference(task.classes)):
        notes.append(f"skipped {counted(len(empty), 'folder')} (no audio): {', '.join(map(repr, empty))}")
    return Listing(task, tracks, notes=notes, labels_from="the first folder")


def _existing(labels: Path, audio: Path) -> Path:
    for file in (labels, audio / labels):
        if file.is_file():
            return file
    raise DatasetError(
        f"there is no file {str(labels)!r} in the current folder or in {str(audio)!r}; check labels=FILE"
    )
