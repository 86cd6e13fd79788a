"""Your own audio files, labeled by the folders they are in or by a table."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import ClassVar, TypeAlias

from mirembed import (
    AUDIO_SUFFIXES,
    AudioFiles,
    Card,
    Classification,
    DatasetError,
    Listing,
    Regression,
    Tags,
    Target,
    Task,
    Track,
    counted,
    find_audio,
)
from mirembed_datasets.copies import subfolders
from mirembed_datasets.tables import Row, Table, read_table, unique

PATH_COLUMNS = ("path", "file", "filename", "audio", "track", "id")
CLASS_COLUMNS = ("label", "class", "genre", "style", "mood")
SHOWN = 5
"""Tracks without audio to name."""

SEPARATORS = ";|,"
"""Of tags in a list; the first that occurs anywhere in the column."""

Label: TypeAlias = str | frozenset[str] | tuple[float, ...]


class Folder:
    """A folder of audio files.

    Without a table, each folder in the audio folder is a class, and the audio files in it, at any depth, are its
    tracks. With a table, each row names a track and its class, tags or targets.

    Parameters
    ----------
    labels : pathlib.Path, optional
        Table of labels (CSV, TSV or JSON Lines), relative to the current folder or else to the audio folder. Paths in
        the table are relative to the audio folder and may lack the suffix.
    target : str, optional
        Columns with the targets of a regression, joined by ``+``. Their range is that of the training tracks.
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

    def listing(self, audio: Path) -> Listing:
        """List the tracks of a folder.

        Raises
        ------
        DatasetError
            There is no such folder, it holds no labeled audio, or the table is malformed.
        """
        found = find_audio(audio)
        if not found.files:
            holds = "; ".join([counted(found.others, "other file"), *found.notes])
            raise DatasetError(
                f"no audio files in {str(audio)!r}, which contains {holds}; "
                f"expected files ending in {', '.join(sorted(AUDIO_SUFFIXES))}"
            )
        if self.labels is None:
            return _list_class_folders(audio, found)
        table = read_table(_existing(self.labels, audio))
        return _list_table(audio, found, table, self._columns(table))

    def _columns(self, table: Table) -> _Columns:
        """Choose the columns of ``table``: those given, or else those with a usual name."""
        path = table.column(self.path) if self.path is not None else _usual(PATH_COLUMNS, table.columns)
        if path is None:
            raise DatasetError(
                f"{table.file} has no column named {', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]}; "
                f"give path=COLUMN, one of {table.named_columns()}"
            )
        group = table.column(self.group) if self.group is not None else None
        if self.target is not None:
            return _Columns(path, group, targets=_several("target", self.target, table))
        if self.tags is not None:
            return _tag_columns(self.tags, table, path, group)
        if self.label is not None:
            return _Columns(path, group, label=table.column(self.label))
        return _Columns(path, group, label=_class_column(table, used={path, group}))


@dataclass(frozen=True)
class _Columns:
    """The columns of a table that are used.

    Attributes
    ----------
    path : str
    group : str or None
    label : str or None
        Of the classes; or of lists of tags, if they have a ``separator``.
    separator : str
    tags, targets : tuple of str
        Columns of 0 and 1, or of numbers.
    """

    path: str
    group: str | None
    label: str | None = None
    separator: str = ""
    tags: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def entry(self, row: Row) -> _Entry:
        group = None if self.group is None else row.values[self.group] or None
        if self.label is not None and self.separator:
            return _Entry(frozenset(row.strings(self.label, self.separator)), group)
        if self.label is not None:
            return _Entry(row.text(self.label), group)
        if self.tags:
            return _Entry(frozenset(tag for tag in self.tags if row.yes_or_no(tag)), group)
        return _Entry(tuple(row.number(target) for target in self.targets), group)


@dataclass(frozen=True)
class _Entry:
    """What a row says about a track."""

    label: Label
    group: str | None

    def __str__(self) -> str:
        label = sorted(self.label) if isinstance(self.label, frozenset) else self.label
        return f"{label!r}" if self.group is None else f"{label!r} in group {self.group!r}"


def _list_class_folders(audio: Path, found: AudioFiles) -> Listing:
    loose = [file for file in found.files if "/" not in file]
    tracks = [Track(name, file, name.split("/")[0]) for name, file in found.files.items() if "/" in name]
    if not tracks:
        raise DatasetError(
            f"{str(audio)!r} holds {counted(len(loose), 'audio file')} but no class folder with audio; "
            "put them into one folder per class, or give a table with labels=FILE"
        )
    task = _classes(tracks)
    notes = list(found.notes)
    if loose:
        notes.append(f"skipped {counted(len(loose), 'audio file')} (not in a class folder)")
    if found.others:
        notes.append(f"skipped {counted(found.others, 'file')} (not audio)")
    empty = [folder.name for folder in subfolders(audio) if folder.name not in task.classes]
    if empty:
        notes.append(f"skipped {counted(len(empty), 'folder')} (no audio): {', '.join(map(repr, empty))}")
    return Listing(task, tracks, notes=notes)


def _list_table(audio: Path, found: AudioFiles, table: Table, columns: _Columns) -> Listing:
    locate = _locator(found)
    entries, repeated = unique(table, lambda row: (locate(row.text(columns.path), row), columns.entry(row)))
    tracks = [
        Track(track, found.files[track], entry.label, entry.group)
        for track, entry in sorted(entries.items())
        if track in found.files
    ]
    if not tracks:
        raise DatasetError(
            f"{str(audio)!r} holds none of the {counted(len(entries), 'track')} of {table.file}, such as "
            f"{next(iter(entries))!r}; column {columns.path!r} must hold paths relative to that folder"
        )
    notes = list(found.notes)
    if repeated:
        notes.append(f"skipped {counted(repeated, 'row')} of {table.file} (repeated)")
    if unlisted := len(found.files.keys() - entries.keys()):
        notes.append(f"skipped {counted(unlisted, 'audio file')} (not listed in {table.file})")
    if columns.group is not None and (ungrouped := sum(track.group is None for track in tracks)):
        notes.append(f"{counted(ungrouped, 'track')} without a group: column {columns.group!r} is empty")
    task: Task
    if columns.targets:
        task = Regression(tuple(Target(target) for target in columns.targets))
    elif columns.tags:
        task = Tags(columns.tags)
    else:
        task = _tags(tracks, columns) if columns.separator else _classes(tracks)
        if missing := {name for entry in entries.values() for name in _names(entry.label)}.difference(task.classes):
            kind = "tags" if columns.separator else "classes"
            notes.append(f"{kind} without audio: {', '.join(sorted(missing))}")
    if absent := sorted(entries.keys() - found.files.keys()):
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        notes.append(f"listed in {table.file} without audio: {', '.join(absent[:SHOWN])}{more}")
    return Listing(task, tracks, absent=len(entries) - len(tracks), notes=notes)


def _locator(found: AudioFiles) -> Callable[[str, Row], str]:
    """Return a function that turns the path in a row into the id of its audio file, or returns it if there is none."""
    of_stem = defaultdict(list)
    for file in found.files:
        of_stem[str(PurePosixPath(file).with_suffix(""))].append(file)

    def locate(text: str, row: Row) -> str:
        path = posixpath.normpath(text.replace("\\", "/"))
        if path.startswith(("/", "../")) or path == ".." or PureWindowsPath(path).is_absolute():
            raise DatasetError(f"{row}: {text!r} is outside the audio folder; expected a path relative to that folder")
        if path in found.files:
            return path
        files = of_stem.get(path, [])
        if len(files) > 1:
            raise DatasetError(f"{row}: {text!r} may be any of {', '.join(files)}; add the suffix")
        return files[0] if files else path

    return locate


def _existing(labels: Path, audio: Path) -> Path:
    for file in (labels, audio / labels):
        if file.is_file():
            return file
    raise DatasetError(
        f"there is no file {str(labels)!r} in the current folder or in {str(audio)!r}; check labels=FILE"
    )


def _several(parameter: str, names: str, table: Table) -> tuple[str, ...]:
    """Return the columns that a parameter names, joined by ``+``."""
    columns = tuple(name.strip() for name in names.split("+"))
    if not all(columns) or len(set(columns)) < len(columns):
        example = {"target": "valence+arousal", "tags": "calm+piano"}[parameter]
        raise DatasetError(f"{parameter}={names} is not a list of distinct columns, such as {example}")
    return tuple(table.column(column) for column in columns)


def _tag_columns(names: str, table: Table, path: str, group: str | None) -> _Columns:
    """Choose between columns of 0 and 1 and a column of lists, and find the separator of these."""
    if names == "*":
        others = tuple(column for column in table.columns if column not in (path, group))
        if not others:
            raise DatasetError(f"tags=*: {table.file} has no columns left for tags; it has {table.named_columns()}")
        return _Columns(path, group, tags=others)
    if names not in table.columns and "+" in names:
        return _Columns(path, group, tags=_several("tags", names, table))
    column = table.column(names)
    values = [row.values[column] for row in table.rows]
    if {value.lower() for value in values} <= {"0", "1", "true", "false"}:
        return _Columns(path, group, tags=(column,))
    lists = [value for value in values if not value.startswith("[")]
    found = (separator for separator in SEPARATORS if any(separator in value for value in lists))
    return _Columns(path, group, label=column, separator=next(found, SEPARATORS[0]))


def _class_column(table: Table, used: set[str | None]) -> str:
    others = [column for column in table.columns if column not in used]
    column = _usual(CLASS_COLUMNS, others)
    if column is None and len(others) == 1:
        column = others[0]
    if column is None:
        raise DatasetError(
            f"{table.file} has no column named {', '.join(CLASS_COLUMNS[:-1])} or {CLASS_COLUMNS[-1]}; "
            f"give label=COLUMN, or target=COLUMN for numbers; its columns are {table.named_columns()}"
        )
    return column


def _usual(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """Return the column with the first of ``names`` that exists, in upper or lower case."""
    spelled = {column.lower(): column for column in reversed(columns)}
    return next((spelled[name] for name in names if name in spelled), None)


def _names(label: Label | None) -> frozenset[str]:
    """Return the class, or the tags, of a label."""
    return label if isinstance(label, frozenset) else frozenset({str(label)})


def _tags(tracks: list[Track], columns: _Columns) -> Tags:
    tags = sorted({tag for track in tracks for tag in _names(track.label)})
    if not tags:
        raise DatasetError(
            f"column {columns.label!r} has no tag for any of the {counted(len(tracks), 'track')} with audio; give the "
            "column with the tags, tags=COLUMN"
        )
    return Tags(tuple(tags))


def _classes(tracks: list[Track]) -> Classification:
    return Classification(tuple(sorted({str(track.label) for track in tracks})))
