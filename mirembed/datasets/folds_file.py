"""Folds that a table gives: ``--folds FILE``, with the columns id, fold and, optionally, inner_fold."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from mirembed.datasets.splits import Fold, official_folds
from mirembed.errors import SpecError
from mirembed.hookspecs import Split, Task
from mirembed.progress import counted, first_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAIN = "train"
"""In place of a fold: a track that is never tested, and that all folds train on."""


@dataclass(frozen=True)
class FoldsFile:
    """A table of folds.

    Attributes
    ----------
    name : str
        Of the file, without its folder.
    content : bytes
        Of the file, which a run keeps.
    splits : mapping of str to Split
        One for each fold, by its name in the table; in the order of their numbers, or of the names if one is not a
        number.
    """

    name: str
    content: bytes
    splits: Mapping[str, Split]

    @property
    def ids(self) -> frozenset[str]:
        """The tracks of the table."""
        return frozenset().union(*(split.train | split.test for split in self.splits.values()))


def read_folds_file(path: Path) -> FoldsFile:
    """Read a table of folds: CSV, TSV or Parquet, as its ending says.

    Each row names a track and the fold that tests it; all other folds train on it. In place of a fold, ``train`` marks
    a track that all folds train on: with ``train`` and ``test``, there is a single split. A column ``inner_fold``
    gives, in the same way, the folds within each training part on which ``--select`` makes its choices. The
    ``folds.parquet`` of a cross-validation with one seed is such a table.

    Raises
    ------
    SpecError
        The table cannot be read, lacks a column or a value, lists a track twice, or leaves a fold nothing to train on.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(f"--folds {path}: cannot be read ({error.strerror}); give a table of folds") from error
    rows = list(_rows(path, content))
    if not rows:
        raise SpecError(f"--folds {path} has no rows; expected one for each track, with its id and its fold")
    fold_of: dict[str, str] = {}
    inner_of: dict[str, str] = {}
    for where, row in rows:
        track = normalize("NFC", _value(row, "id", where))  # as `find_audio` writes ids
        if track in fold_of:
            raise SpecError(f"{where}: track {track!r} is listed twice; remove one of the rows")
        fold_of[track] = _value(row, "fold", where)
        inner_of[track] = row.get("inner_fold") or ""
    names = _in_order(fold_of.values())
    if not names:
        raise SpecError(f"--folds {path}: all tracks are marked {TRAIN!r}; give a fold to the tracks to test")
    if "inner_fold" not in rows[0][1]:
        inner_of = {}
    return FoldsFile(path.name, content, {name: _split(path, name, fold_of, inner_of) for name in names})


def own_folds(
    task: Task, labels: NDArray[Any], file: FoldsFile, ids: Sequence[str], missing: Collection[str]
) -> tuple[list[Fold], list[str]]:
    """Turn a table of folds into folds of the tracks in the store.

    Parameters
    ----------
    task, labels, ids
        See `mirembed.datasets.splits.official_folds`.
    file : FoldsFile
    missing : collection of str
        Ids of other tracks of the dataset, which are excluded, unlabeled or lack features.

    Returns
    -------
    folds : list of Fold
    notes : list of str
        How many tracks are not in the table, and how many of the table are missing.

    Raises
    ------
    SpecError
        The table has ids that are not of the dataset, or a fold has no track in the store.
    EvaluationError
        See `mirembed.datasets.splits.official_folds`.
    """
    if unknown := sorted(file.ids.difference(ids, missing)):
        raise SpecError(
            f"--folds {file.name}: {len(unknown)} of its {counted(len(file.ids), 'track')} "
            f"{'is' if len(unknown) == 1 else 'are'} not in the dataset: {first_names(unknown, 3)}; ids are those that "
            f"`mirembed extract` stored, such as {ids[0]!r}"
        )
    present = set(ids)
    for name, split in file.splits.items():
        for part, tracks in (("test", split.test), ("training", split.train)):
            if not tracks & present:
                raise SpecError(
                    f"--folds {file.name}: fold {name!r} has no {part} track: all {len(tracks)} are excluded, "
                    "unlabeled or lack features"
                )
    return official_folds(task, labels, list(file.splits.values()), ids, source=file.name)


def _split(path: Path, name: str, fold_of: Mapping[str, str], inner_of: Mapping[str, str]) -> Split:
    """Return the split that tests the tracks of one fold and trains on all others."""
    test = frozenset(track for track, fold in fold_of.items() if fold == name)
    train = frozenset(fold_of) - test
    if not train:
        raise SpecError(
            f"--folds {path}: all {counted(len(test), 'track')} are in the fold {name!r}, which leaves none to train "
            "on; give several folds, or train and test"
        )
    if not inner_of:
        return Split(train, test)
    if without := sorted(track for track in train if not inner_of[track]):
        raise SpecError(
            f"--folds {path}: {counted(len(without), 'training track')} of fold {name!r} without an inner_fold: "
            f"{first_names(without, 3)}; fill it in, with {TRAIN!r} for tracks that are never tested"
        )
    inner = _in_order(inner_of[track] for track in train)
    return Split(train, test, tuple(frozenset(track for track in train if inner_of[track] == one) for one in inner))


def _in_order(folds: Collection[str] | Iterator[str]) -> list[str]:
    """Return the distinct folds: in the order of their numbers, or by name if one is not a number."""
    names = sorted({fold for fold in folds if fold != TRAIN})
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def _value(row: Mapping[str, str], column: str, where: str) -> str:
    if not row[column]:
        raise SpecError(f"{where}: column {column!r} is empty; fill it in, or remove the row")
    return row[column]


def _rows(path: Path, content: bytes) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of a table, and where it is, for messages."""
    read = _parquet_rows if path.suffix.lower() == ".parquet" else _csv_rows
    for number, row in read(path, content):
        for column in ("id", "fold"):
            if column not in row:
                raise SpecError(
                    f"--folds {path} has no column {column!r}; expected the columns id, fold and, optionally, "
                    f"inner_fold, not {', '.join(map(repr, row))}"
                )
        yield f"--folds {path}, {number}", row


def _parquet_rows(path: Path, content: bytes) -> Iterator[tuple[str, dict[str, str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
    except pa.ArrowException as error:
        raise SpecError(f"--folds {path} is not a Parquet file ({error})") from error
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", {name: "" if value is None else str(value) for name, value in row.items()}


def _csv_rows(path: Path, content: bytes) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"--folds {path} is not UTF-8; save the table as UTF-8") from error
    header = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                n_columns = counted(len(reader.fieldnames or ()), "value")
                raise SpecError(
                    f"--folds {path}, line {reader.line_num}: expected {n_columns}; put quotation marks around a value "
                    f"that contains {delimiter!r}"
                )
            yield f"line {reader.line_num}", {name.strip(): value.strip() for name, value in row.items()}
    except csv.Error as error:
        raise SpecError(
            f"--folds {path}, line {reader.reader.line_num}: malformed quotation marks ({error})"
        ) from error
