"""Read tables of labels: CSV as spreadsheets write it, or one JSON object per line."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from unicodedata import category, normalize

from mirembed import DatasetError, counted
from mirembed_datasets.table_files import decoded, read_text, records

__all__ = ["DATA", "Faults", "Row", "Table", "find_table", "read_rows", "read_table", "read_text", "same", "unique"]

V = TypeVar("V")

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
DATA = Path(__file__).parent / "data"
"""Tables that come with the built-in datasets; the README there names their sources."""

SHOWN = 5
"""Rows to name of each kind of fault."""

_LONG = 120
"""Characters of a value to show."""

_DISARMED = re.compile(r"'+[=+\-@\t\r]")
"""A text that would be a formula, with the apostrophe that keeps it from being one."""


@dataclass(frozen=True)
class Row:
    """One row of a table. As a string, it says where it is, for messages.

    Attributes
    ----------
    file : pathlib.Path
    line : int
        Line of the file on which the row begins, from 1.
    values : mapping of str to str
        The value by column, without surrounding white space; "" for an empty cell. An apostrophe that keeps a
        spreadsheet from taking the value for a formula is removed.
    """

    file: Path
    line: int
    values: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"

    def text(self, column: str) -> str:
        """Return the value in ``column``; raise `DatasetError` if it is empty."""
        if not self.values[column]:
            raise DatasetError(f"{self}: column {column!r} is empty; fill it in or remove the row")
        return self.values[column]

    def number(self, column: str) -> float:
        """Return the value in ``column`` as a number; raise `DatasetError` if it is not a finite number."""
        text = self.text(column)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DatasetError(f"{self}: {text!r} in column {column!r} is not a finite number, such as 0.5")
        return number

    def number_within(self, column: str, low: float, high: float) -> float:
        """Return the value in ``column``; raise `DatasetError` if it is not a number from ``low`` to ``high``."""
        number = self.number(column)
        if not low <= number <= high:
            raise DatasetError(f"{self}: {self.text(column)} in column {column!r} is not between {low:g} and {high:g}")
        return number

    def whole_number_within(self, column: str, low: int, high: int) -> int:
        """Return the value in ``column``; raise `DatasetError` if it is not an integer from ``low`` to ``high``."""
        number = self.number_within(column, low, high)
        if not number.is_integer():
            raise DatasetError(f"{self}: {self.text(column)} in column {column!r} is not an integer")
        return int(number)

    def yes_or_no(self, column: str) -> bool:
        """Return whether ``column`` is 1 or true; raise `DatasetError` if it is not 0 or false either."""
        text = self.text(column)
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        if text in ("0", "1"):
            return text == "1"
        raise DatasetError(f"{self}: {text!r} in column {column!r} is not 0 or 1")

    def strings(self, column: str, separator: str) -> list[str]:
        """Return the texts in ``column``: those of a JSON list, or those between separators; empty ones are left out.

        Raises
        ------
        DatasetError
            The value begins like a JSON list but is not one, or its items are not all strings.
        """
        text = self.values[column]
        if not text.startswith("["):
            return [one for part in text.split(separator) if (one := part.strip())]
        try:
            found = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            found = None
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise DatasetError(f'{self}: {text!r} in column {column!r} is not a JSON list of texts, such as ["a", "b"]')
        return [one.strip() for one in found if one.strip()]


@dataclass(frozen=True)
class Table:
    """A table of labels.

    Attributes
    ----------
    file : pathlib.Path
    columns : tuple of str
        Column names in the order of the file and in Unicode's composed form, without columns that have no name.
    rows : tuple of Row
        At least one.
    notes : tuple of str
        What the user should know about how the file was read.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> str:
        """Return the column of this name, or else the only one that differs in case and spaces alone.

        Raises
        ------
        DatasetError
            There is no such column, or several.
        """
        exact = normalize("NFC", name.strip())
        if exact in self.columns:
            return exact
        found = [column for column in self.columns if same(column) == same(name)]
        if not found:
            raise DatasetError(f"{self.file} has no column {name!r}; its columns are {self.named_columns()}")
        if len(found) > 1:
            raise DatasetError(f"{self.file}: column {name!r} may be any of {', '.join(map(repr, found))}; write one")
        return found[0]

    def named_columns(self) -> str:
        """Return the column names for a message."""
        return ", ".join(map(repr, self.columns))


class Faults:
    """What is wrong with the rows of a table, so that all of it is said at once.

    Parameters
    ----------
    file : pathlib.Path
        The table.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._found: dict[str, list[tuple[int, str]]] = {}

    def add(self, kind: str, line: int, value: str = "") -> None:
        """Remember that a row has a fault; ``kind`` says what is wrong and what to do."""
        short = value if len(value) <= _LONG else f"{value[:_LONG]}…"
        self._found.setdefault(kind, []).append((line, short))

    def check(self) -> None:
        """Raise `DatasetError` if there are faults: the first of each kind, with their lines."""
        if not self._found:
            return
        kinds = [f"{_listed(found)}: {kind}" for kind, found in self._found.items()]
        if len(kinds) == 1:
            raise DatasetError(f"{self.file}, {kinds[0]}")
        raise DatasetError("\n  ".join([f"{self.file} has {len(kinds)} kinds of faults", *kinds]))


def _listed(found: Sequence[tuple[int, str]]) -> str:
    """Return the first lines of a kind of fault, with their values, and how many more there are."""
    if not any(value for _, value in found):
        text = f"line{'s' * (len(found) > 1)} {', '.join(str(line) for line, _ in found[:SHOWN])}"
    else:
        text = ", ".join(f"line {line}: {value}" for line, value in found[:SHOWN])
    return text + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def same(name: str) -> str:
    r"""Return a name as it is compared where case, spaces, Unicode's forms and invisible characters do not matter.

    >>> same(" Track  ID") == same("track id"), same("\u200epath") == same("\ufeffpath")
    (True, True)
    """
    visible = "".join(letter for letter in name if letter.isascii() or category(letter) != "Cf")
    return normalize("NFC", " ".join(visible.split()).casefold())


def read_rows(file: Path, *, open_ended: bool = False) -> Iterator[Row]:
    """Yield the rows of a published CSV file one by one, for tables that are too large for `read_table`.

    Parameters
    ----------
    file : pathlib.Path
    open_ended : bool, optional
        In a row of a CSV file, the last column may have several values, which are joined by tabs, or none.

    Raises
    ------
    DatasetError
        See `read_table`; and where a row has fewer values than there are columns, or the encoding would be a guess.
    """
    text = read_text(file)
    columns: list[str] = []
    for line, values in records(file, text):
        if not columns:
            columns = _distinct(values, file)
            continue
        if open_ended:
            last = len(columns) - 1
            values = [*values[:last], "\t".join(values[last:])]
        if len(values) != len(columns):
            raise DatasetError(f"{file}, line {line}: {counted(len(values), 'value')} for {len(columns)} columns")
        yield Row(file, line, {column: value for column, value in zip(columns, values, strict=True) if column})


def read_table(file: Path) -> Table:
    """Read a table of labels.

    A file with the suffix ``.jsonl``, ``.ndjson`` or ``.json`` has one JSON object per line; a list becomes its JSON
    text. In any other file, the first line names the columns. The delimiter is a comma, semicolon, tab or ``|``.
    Byte order marks, Excel's line ``sep=;``, Windows line endings, blank lines, empty columns at the end, and white
    space around names and values are ignored. Values that a row lacks at its end are empty.

    Raises
    ------
    DatasetError
        The file cannot be read, is no text, has no rows, or has malformed rows, which are all named.
    """
    text, note = decoded(file)
    notes = [note] if note else []
    faults = Faults(file)
    is_json = file.suffix.lower() in JSON_SUFFIXES
    if is_json:
        rows = _json_rows(file, text, faults)
    else:
        rows, short = _csv_rows(file, text, faults)
        if short:
            lines = _listed([(line, "") for line in short])
            notes.append(
                f"{counted(len(short), 'row')} of {file} shorter than the header: missing cells at the end count as "
                f"empty ({lines})"
            )
    faults.check()
    if not rows:
        expected = "one JSON object per line" if is_json else "a line that names the columns, and one line per track"
        raise DatasetError(f"{file} has no rows; expected {expected}")
    columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
    complete = (Row(row.file, row.line, {column: row.values.get(column, "") for column in columns}) for row in rows)
    return Table(file, columns, tuple(complete), tuple(notes))


def unique(table: Table, entry: Callable[[Row], tuple[str, V]]) -> tuple[dict[str, V], int]:
    """Return the value of each key in a table, and the number of rows that only repeat an earlier one.

    ``entry`` returns the key and the value of a row.

    Raises
    ------
    DatasetError
        Two rows have the same key and different values.
    """
    first: dict[str, tuple[Row, V]] = {}
    repeated = 0
    for row in table.rows:
        key, value = entry(row)
        earlier, known = first.setdefault(key, (row, value))
        if known != value:
            raise DatasetError(f"{row}: {key!r} is {value}, but {known} on line {earlier.line}; remove one of the rows")
        repeated += earlier is not row
    return {key: value for key, (_, value) in first.items()}, repeated


def find_table(name: str, home: Path, *, folders: Sequence[str] = (".",), source: str) -> Path:
    """Find the table that labels the audio in ``home``.

    Parameters
    ----------
    name : str
        Name of the file.
    home : pathlib.Path
        The folder to search; the two folders above are searched next.
    folders : sequence of str, optional
        Where to search, relative to each of the three folders.
    source : str
        Where to get the file, for the message if it is missing.

    Raises
    ------
    DatasetError
        There is no such file.
    """
    here = home.absolute()
    for above in (here, *here.parents[:2]):
        for folder in folders:
            if (file := above / folder / name).is_file():
                return file
    raise DatasetError(f"no {name} in {str(home)!r} or the two folders above it; {source}")


def _csv_rows(file: Path, text: str, faults: Faults) -> tuple[list[Row], list[int]]:
    """Return the rows of a CSV file, and the lines of those with fewer values than columns."""
    rows: list[Row] = []
    short: list[int] = []
    columns: list[str] = []
    for line, values in records(file, text):
        if not columns:
            columns = _distinct([normalize("NFC", _armed(name)) for name in values], file)
            continue
        if len(values) < len(columns):
            short.append(line)
            values = [*values, *[""] * (len(columns) - len(values))]
        if any(values[len(columns) :]):
            faults.add(
                f"expected {counted(len(columns), 'value')}; put quotation marks around a value that contains the "
                "delimiter, such as a number with a decimal comma",
                line,
                f"{len(values)} values",
            )
        named = {column: _armed(value) for column, value in zip(columns, values, strict=False) if column}
        rows.append(Row(file, line, named))
    return rows, short


def _armed(text: str) -> str:
    """Remove the apostrophe that keeps a spreadsheet from taking a text for a formula."""
    return text[1:] if _DISARMED.match(text) else text


def _distinct(columns: list[str], file: Path) -> list[str]:
    for column in columns:
        if column and columns.count(column) > 1:
            raise DatasetError(f"{file} has two columns named {column!r}; rename or remove one of them")
    return columns


def _json_rows(file: Path, text: str, faults: Faults) -> list[Row]:
    rows = []
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if not line.strip():
            continue
        try:
            # keep numbers as they are written: the id 007 and the class 1 are strings
            record = json.loads(
                line, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_json_object
            )
            if not isinstance(record, dict):
                raise TypeError(line.strip())
            values = {key: _json_value(value) for key, value in record.items()}
        except (json.JSONDecodeError, RecursionError) as error:
            if _is_one_value(text):
                raise DatasetError(
                    f"{file} is one JSON value on several lines; write one object per line (JSON Lines)"
                ) from error
            faults.add("not JSON; expected one object per line", number, getattr(error, "msg", "nested too deeply"))
        except KeyError as error:
            faults.add("a key that an object has twice; remove one", number, str(error))
        except TypeError as error:
            faults.add(
                "expected a JSON object such as {'path': …, 'label': …}, with strings and numbers", number, str(error)
            )
        else:
            rows.append(Row(file, number, values))
    return rows


def _json_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object with its keys in Unicode's composed form; raise `KeyError` for one that occurs twice."""
    found: dict[str, object] = {}
    for key, value in pairs:
        name = normalize("NFC", key.strip())
        if name in found:
            raise KeyError(name)
        found[name] = value
    return found


def _is_one_value(text: str) -> bool:
    try:
        json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def _json_value(value: object) -> str:
    """Return a value as a text; raise `TypeError` for one that is not a text, a number, a truth value or a list."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    raise TypeError(repr(value))
