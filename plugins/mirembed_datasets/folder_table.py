"""List the tracks of a table of labels: choose its columns, read its cells, and find the audio files that it names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from unicodedata import normalize

from mirembed import AudioFiles, Classification, DatasetError, Listing, Regression, Tags, Target, Task, Track, counted
from mirembed_datasets.table_numbers import NumberFormat, looks_like_date
from mirembed_datasets.table_paths import Located
from mirembed_datasets.tables import SHOWN, Faults, Row, Table, same

PATH_COLUMNS = ("path", "file", "filename", "audio", "track", "id")
CLASS_COLUMNS = ("label", "class", "genre", "style", "mood")

SEPARATORS = ";|,"
"""Separators of tags in a list; the first that occurs anywhere in the column is used."""

MISSING = "NaN+NA+N/A+#N/A+<NA>+None+null+-+?"
"""Words for missing values, unless the user gives others."""

ONLY_EMPTY = "empty"

Label: TypeAlias = str | frozenset[str] | tuple[float, ...]


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are used.

    Attributes
    ----------
    path : str
    group : str or None
    label : str or None
        Column of classes; or of lists of tags, if there is a ``separator``.
    separator : str
    tags, targets : tuple of str
        Columns of 0 and 1, or of numbers.
    others : tuple of str
        Other columns that could be ``label``, if it was chosen by its name.
    """

    path: str
    group: str | None
    label: str | None = None
    separator: str = ""
    tags: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @classmethod
    def choose(
        cls,
        table: Table,
        *,
        path: str | None,
        group: str | None,
        label: str | None,
        tags: str | None,
        target: str | None,
    ) -> Columns:
        """Choose the columns of ``table``: those given, or else those with a usual name.

        Raises
        ------
        DatasetError
            A column does not exist, or none has a usual name.
        """
        place = table.column(path) if path is not None else next(iter(_usual(PATH_COLUMNS, table.columns)), None)
        if place is None:
            raise DatasetError(
                f"{table.file} has no column named {', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]}; "
                f"give path=COLUMN, one of {table.named_columns()}"
            )
        together = table.column(group) if group is not None else None
        if target is not None:
            return cls(place, together, targets=_several("target", target, table))
        if tags is not None:
            return _tag_columns(tags, table, place, together)
        if label is not None:
            return cls(place, together, label=table.column(label))
        classes, *others = _class_columns(table, used={place, together})
        return cls(place, together, label=classes, others=tuple(others))

    def __str__(self) -> str:
        names = [self.label] if self.label is not None else [*self.tags, *self.targets]
        return f"column{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"


class _Cells:
    """Turns the cells of a table into labels and groups, and remembers what is missing and what is wrong.

    Parameters
    ----------
    table : Table
    columns : Columns
    missing : str
        Words for missing values, joined by ``+``.
    faults : Faults
    """

    def __init__(self, table: Table, columns: Columns, missing: str, faults: Faults) -> None:
        self._columns = columns
        self._faults = faults
        words = [] if missing == ONLY_EMPTY else missing.split("+")
        self._words = {word.strip().casefold() for word in words}
        self._missing: dict[str, Counter[str]] = {}
        cells = [row.values[target] for row in table.rows for target in columns.targets]
        self._numbers = NumberFormat(cell for cell in cells if not self._is_missing(cell))

    def entry(self, row: Row) -> _Entry:
        """Return what a row says about a track."""
        group = None if self._columns.group is None else self._name(row, self._columns.group)
        return _Entry(self._label(row), group)

    def notes(self) -> list[str]:
        """Say which values are missing, and how commas in numbers were read."""
        notes = []
        for column, found in self._missing.items():
            said = [f"{number} {repr(word) if word else 'empty'}" for word, number in found.most_common()]
            remedy = (
                f"; if these are names, give missing={ONLY_EMPTY}" if any(found) and not self._columns.targets else ""
            )
            notes.append(f"column {column!r}: {counted(found.total(), 'missing value')} ({', '.join(said)}){remedy}")
        meant = {
            "decimal ,": "decimal comma",
            "thousands ,": "thousands separator",
            "thousands .": "thousands separator",
        }
        for use, text in self._numbers.used.items():
            if use in meant:
                notes.append(f"read {text!r} as {self._numbers.read(text):.15g} ({meant[use]}), and others like it")
        return notes

    def _label(self, row: Row) -> Label | None:
        columns = self._columns
        if columns.label is not None and columns.separator:
            return self._tags(row, columns.label)
        if columns.label is not None:
            return self._name(row, columns.label)
        if columns.tags:
            flags = {tag: self._flag(row, tag) for tag in columns.tags}
            return None if None in flags.values() else frozenset(tag for tag, has in flags.items() if has)
        numbers = tuple(self._number(row, target) for target in columns.targets)
        return tuple(number for number in numbers if number is not None) if None not in numbers else None

    def _is_missing(self, text: str) -> bool:
        return not text or text.casefold() in self._words

    def _present(self, row: Row, column: str) -> str:
        """Return a cell; "" for one that stands for a missing value, which is counted."""
        text = row.values[column]
        if self._is_missing(text):
            self._missing.setdefault(column, Counter())[text] += 1
            return ""
        return text

    def _name(self, row: Row, column: str) -> str | None:
        return _clean(self._present(row, column)) or None

    def _tags(self, row: Row, column: str) -> frozenset[str] | None:
        if not row.values[column]:
            return frozenset()  # known to have none
        if not self._present(row, column):
            return None
        try:
            names = row.strings(column, self._columns.separator)
        except DatasetError:
            self._add('not a JSON list of strings, such as ["a", "b"]', row, column)
            return None
        unknown = [name for name in names if self._is_missing(name)]
        self._missing.setdefault(column, Counter()).update(unknown)
        if not self._missing[column]:
            del self._missing[column]
        return frozenset(_clean(name) for name in names if name not in unknown)

    def _flag(self, row: Row, column: str) -> bool | None:
        text = self._present(row, column).lower()
        if text and text not in _FLAGS:
            self._add("not 0 or 1", row, column)
        return _FLAGS.get(text)

    def _number(self, row: Row, column: str) -> float | None:
        text = self._present(row, column)
        if not text:
            return None
        try:
            return self._numbers.read(text)
        except ValueError as error:
            self._add(_WRONG_NUMBERS.get(str(error), f"{error}; write it without separators of thousands"), row, column)
            return None

    def _add(self, kind: str, row: Row, column: str) -> None:
        self._faults.add(f"{kind} (column {column!r})", row.line, repr(row.values[column]))


_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}

_WRONG_NUMBERS = {
    "not a number": "expected a number, such as 0.5",
    "not a finite number": "expected a finite number, such as 0.5",
    "looks like a date": "expected a number; a spreadsheet may have turned it into a date: enter it again, as text",
}


@dataclass(frozen=True)
class _Entry:
    """What a row says about a track."""

    label: Label | None
    group: str | None

    def __str__(self) -> str:
        label = sorted(self.label) if isinstance(self.label, frozenset) else self.label
        said = "unlabeled" if label is None else f"{label!r}"
        return said if self.group is None else f"{said} in group {self.group!r}"


def list_table(audio: Path, found: AudioFiles, table: Table, columns: Columns, missing: str) -> Listing:
    """List the tracks of a table.

    Raises
    ------
    DatasetError
        The table has faults, which are all named; or it names or labels none of the audio files.
    """
    faults = Faults(table.file)
    cells = _Cells(table, columns, missing, faults)
    rows = [row for row in table.rows if row.values[columns.path]]
    located = Located(found, audio, table.file, (row.values[columns.path] for row in rows))
    for row in rows:
        text = row.values[columns.path]
        if text in located.ambiguous:
            faults.add("give the complete path", row.line, f"{text!r} matches {', '.join(located.ambiguous[text])}")
    rows = [row for row in rows if row.values[columns.path] in located.ids]
    entries, repeated = _unique(rows, lambda row: located.ids[row.values[columns.path]], cells.entry, faults)
    faults.check()
    tracks = [
        Track(track, found.files[track], entry.label, entry.group)
        for track, entry in sorted(entries.items())
        if track in found.files
    ]
    if not tracks:
        such = f", such as {next(iter(entries))!r}" if entries else ""
        raise DatasetError(
            f"{str(audio)!r} contains none of the {counted(len(entries), 'track')} of {table.file}{such}; "
            f"column {columns.path!r} must contain paths relative to that folder"
        )
    notes = [*found.notes, *table.notes, *located.notes, *cells.notes()]
    if pathless := [str(row.line) for row in table.rows if not row.values[columns.path]]:
        lines = ", ".join(pathless[:SHOWN]) + ", ..." * (len(pathless) > SHOWN)
        plural = "s" * (len(pathless) > 1)
        notes.append(f"skipped {counted(len(pathless), 'row')} of {table.file} (no path): line{plural} {lines}")
    if repeated:
        notes.append(f"skipped {counted(repeated, 'row')} of {table.file} (repeated)")
    if unlisted := len(found.files.keys() - entries.keys()):
        notes.append(f"skipped {counted(unlisted, 'audio file')} (not listed in {table.file})")
    if columns.group is not None and (ungrouped := sum(track.group is None for track in tracks)):
        notes.append(f"{counted(ungrouped, 'track')} without a group: no value in column {columns.group!r}")
    task = _task(columns, tracks, table)
    if isinstance(task, Classification | Tags) and not columns.tags:
        notes += _notes_on_names(task, entries.values())
    if columns.others:
        others = " or ".join(f"label={column}" for column in columns.others)
        notes.append(f"chose {columns} by its name; if you mean another one, give {others}")
    if absent := sorted(entries.keys() - found.files.keys()):
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        notes.append(f"listed in {table.file} without audio: {', '.join(absent[:SHOWN])}{more}")
    matched = sum(located.ids[row.values[columns.path]] in found.files for row in rows)
    notes.insert(0, f"matched {matched} of {counted(len(table.rows), 'row')} of {table.file} to audio files")
    return Listing(
        task,
        tracks,
        absent=len(absent),
        notes=notes,
        labels_from=str(columns),
        groups_from="" if columns.group is None else f"column {columns.group!r}",
    )


def _unique(
    rows: Iterable[Row], track_of: Callable[[Row], str], entry_of: Callable[[Row], _Entry], faults: Faults
) -> tuple[dict[str, _Entry], int]:
    """Return the entry of each track, and how many rows only repeat an earlier one; contradictions are faults."""
    first: dict[str, tuple[Row, _Entry]] = {}
    repeated = 0
    for row in rows:
        track, entry = track_of(row), entry_of(row)
        earlier, known = first.setdefault(track, (row, entry))
        repeated += earlier is not row
        if known != entry:
            contradiction = f"{track!r} is {entry}, but {known} on line {earlier.line}"
            faults.add("remove one of the rows", row.line, contradiction)
    return {track: entry for track, (_, entry) in first.items()}, repeated


def _task(columns: Columns, tracks: Sequence[Track], table: Table) -> Task:
    labels = [track.label for track in tracks if track.label is not None]
    if not labels:
        raise DatasetError(
            f"{columns} of {table.file} label{'s' * ('columns' not in str(columns))} none of the "
            f"{counted(len(tracks), 'track')} with audio; give another column, or fill it in"
        )
    if columns.targets:
        return Regression(tuple(Target(target) for target in columns.targets))
    if columns.tags:
        return Tags(columns.tags)
    names = tuple(sorted({name for label in labels for name in _names(label)}))
    if not columns.separator:
        return Classification(names)
    if not names:
        raise DatasetError(
            f"column {columns.label!r} has no tag for any of the {counted(len(tracks), 'track')} with audio; give the "
            "column with the tags, tags=COLUMN"
        )
    return Tags(names)


def _notes_on_names(task: Classification | Tags, entries: Iterable[_Entry]) -> list[str]:
    """Note classes or tags that only tracks without audio have, and those that a spreadsheet may have changed."""
    kind = "tags" if isinstance(task, Tags) else "classes"
    notes = []
    if lost := {name for entry in entries for name in _names(entry.label)}.difference(task.classes):
        notes.append(f"{kind} without audio: {', '.join(sorted(lost))}")
    if dates := [name for name in task.classes if looks_like_date(name)]:
        notes.append(f"{kind} that look like dates, into which a spreadsheet may have turned them: {', '.join(dates)}")
    return notes


def _names(label: object) -> frozenset[str]:
    """Return the class, or the tags, of a label."""
    return label if isinstance(label, frozenset) else frozenset() if label is None else frozenset({str(label)})


def _clean(name: str) -> str:
    """Return a name in Unicode's composed form, without white space around it or line ends in it."""
    return normalize("NFC", re.sub(r"\s*[\r\n]+\s*", " ", name.strip()))


def _several(parameter: str, names: str, table: Table) -> tuple[str, ...]:
    """Return the columns that a parameter names, joined by ``+``."""
    given = [name.strip() for name in names.split("+")]
    columns = tuple(table.column(name) for name in given if name)
    if not all(given) or len(set(columns)) < len(given):
        example = {"target": "valence+arousal", "tags": "calm+piano"}[parameter]
        raise DatasetError(f"{parameter}={names} is not a list of distinct columns, such as {example}")
    return columns


def _tag_columns(names: str, table: Table, path: str, group: str | None) -> Columns:
    """Choose between columns of 0 and 1 and a column of lists, and find the separator of these."""
    if names == "*":
        others = tuple(column for column in table.columns if column not in (path, group))
        if not others:
            raise DatasetError(f"tags=*: {table.file} has no columns left for tags; it has {table.named_columns()}")
        return Columns(path, group, tags=others)
    if "+" in names and not any(same(column) == same(names) for column in table.columns):
        return Columns(path, group, tags=_several("tags", names, table))
    column = table.column(names)
    values = [row.values[column] for row in table.rows]
    known = {value.lower() for value in values} - set(MISSING.lower().split("+"))
    if known - {""} and known <= {*_FLAGS, ""}:
        return Columns(path, group, tags=(column,))
    lists = [value for value in values if not value.startswith("[")]
    found = (separator for separator in SEPARATORS if any(separator in value for value in lists))
    return Columns(path, group, label=column, separator=next(found, SEPARATORS[0]))


def _class_columns(table: Table, used: set[str | None]) -> list[str]:
    """Return the column of the classes, and other columns that could be it."""
    others = [column for column in table.columns if column not in used]
    columns = _usual(CLASS_COLUMNS, others)
    if not columns and len(others) == 1:
        columns = others
    if not columns:
        raise DatasetError(
            f"{table.file} has no column named {', '.join(CLASS_COLUMNS[:-1])} or {CLASS_COLUMNS[-1]}; "
            f"give label=COLUMN, or target=COLUMN for numbers; its columns are {table.named_columns()}"
        )
    return columns


def _usual(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return the columns that are called one of ``names``, in upper or lower case, in the order of ``names``."""
    spelled: Mapping[str, str] = {same(column): column for column in reversed(columns)}
    return [spelled[name] for name in names if name in spelled]
