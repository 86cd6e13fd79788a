"""Read tables of labels: separated by commas, semicolons or tabs, or one JSON object per line."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mirembed import DatasetError, counted

V = TypeVar("V")

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
DELIMITERS = "\t;,"
DATA = Path(__file__).parent / "data"
"""Tables that come with the built-in datasets; the README there names their sources."""


@dataclass(frozen=True)
class Row:
    """One row of a table. As a string, it says where it is, for messages.

    Attributes
    ----------
    file : pathlib.Path
    line : int
        Line of the file on which the row ends, from 1.
    values : mapping of str to str
        The value by column, without surrounding white space; "" for an empty cell.
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
            raise DatasetError(f"{self}: {number:g} in column {column!r} is not between {low:g} and {high:g}")
        return number

    def whole_number_within(self, column: str, low: int, high: int) -> int:
        """Return the value in ``column``; raise `DatasetError` if it is not an integer from ``low`` to ``high``."""
        number = self.number_within(column, low, high)
        if not number.is_integer():
            raise DatasetError(f"{self}: {number:g} in column {column!r} is not an integer")
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
        except json.JSONDecodeError:
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
        Column names in the order of the file, without columns that have no name.
    rows : tuple of Row
        At least one.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, name: str) -> str:
        """Return ``name``; raise `DatasetError` if there is no such column."""
        if name not in self.columns:
            raise DatasetError(f"{self.file} has no column {name!r}; its columns are {self.named_columns()}")
        return name

    def named_columns(self) -> str:
        """Return the column names for a message."""
        return ", ".join(map(repr, self.columns))


def read_rows(file: Path, *, open_ended: bool = False) -> Iterator[Row]:
    """Yield the rows of a table one by one, for tables that are too large for `read_table`.

    Parameters
    ----------
    file : pathlib.Path
    open_ended : bool, optional
        In a row of a CSV file, the last column may have several values, which are joined by tabs, or none.

    Raises
    ------
    DatasetError
        See `read_table`.
    """
    text = read_text(file)
    return _json_rows(file, text) if file.suffix.lower() in JSON_SUFFIXES else _csv_rows(file, text, open_ended)


def read_table(file: Path) -> Table:
    """Read a table of labels.

    A file with the suffix ``.jsonl``, ``.ndjson`` or ``.json`` has one JSON object per line; a list becomes its JSON
    text. In any other file, the first line names the columns and decides the delimiter. A byte order mark, Windows line
    endings, blank lines and white space around names and values are ignored.

    Raises
    ------
    DatasetError
        The file cannot be read, is not UTF-8, has no rows, or has a malformed row.
    """
    rows = tuple(read_rows(file))
    if not rows:
        raise DatasetError(f"{file} has no rows; expected a line that names the columns, and one line per track")
    columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
    complete = (Row(row.file, row.line, {column: row.values.get(column, "") for column in columns}) for row in rows)
    return Table(file, columns, tuple(complete))


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


def read_text(file: Path) -> str:
    """Return the text of a file; raise `DatasetError` if it cannot be read or is not UTF-8."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {file}: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{file}, line {line}: not UTF-8; save the table as UTF-8") from error


def _csv_rows(file: Path, text: str, open_ended: bool) -> Iterator[Row]:
    delimiter = _delimiter(text)
    # strict: an unclosed quotation mark is an error, where it would otherwise swallow the rest of the file
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    columns: list[str] = []
    try:
        for record in reader:
            values = [value.strip() for value in record]
            if not any(values):
                continue
            if not columns:
                columns = _distinct(values, file)
                continue
            if open_ended:
                last = len(columns) - 1
                values = [*values[:last], "\t".join(values[last:])]
            if len(values) != len(columns):
                raise DatasetError(
                    f"{file}, line {reader.line_num}: {counted(len(values), 'value')} for {len(columns)} columns; "
                    f"put quotation marks around a value that contains {delimiter!r}"
                )
            named = {column: value for column, value in zip(columns, values, strict=True) if column}
            yield Row(file, reader.line_num, named)
    except csv.Error as error:
        raise DatasetError(f"{file}, line {reader.line_num}: malformed quotation marks ({error})") from error


def _delimiter(text: str) -> str:
    """Return the delimiter that splits the first line into the most columns."""
    header = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")

    def columns(delimiter: str) -> int:
        return len(next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), []))

    return max(DELIMITERS, key=columns)


def _distinct(columns: list[str], file: Path) -> list[str]:
    for column in columns:
        if column and columns.count(column) > 1:
            raise DatasetError(f"{file} has two columns named {column!r}; rename or remove one")
    return columns


def _json_rows(file: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if not line.strip():
            continue
        try:
            # keep numbers as they are written: the id 007 and the class 1 are strings
            record = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{file}, line {number}: not JSON ({error.msg}); expected one object per line"
            ) from error
        if not isinstance(record, dict):
            raise DatasetError(f"{file}, line {number}: expected a JSON object such as {{'path': …, 'label': …}}")
        yield Row(file, number, {key.strip(): _json_value(value, file, number) for key, value in record.items()})


def _json_value(value: object, file: Path, number: int) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    raise DatasetError(f"{file}, line {number}: {value!r} is not a string or a number")
