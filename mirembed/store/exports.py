"""Tables for other programs: Parquet, or CSV as spreadsheets open it and the dataset ``folder`` reads it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.store.files import write_table, writing

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_SUFFIXES = (".csv", ".parquet")

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a text begins that a spreadsheet would take for a formula; apostrophes before it count too."""

_FLAGS = ("0", "1", "0.0", "1.0", "true", "false")
"""Values in the column of a single tag."""


def write_rows(path: Path, rows: Iterable[Sequence[Any]], schema: pa.Schema, *, bom: bool = False) -> None:
    """Write a table as CSV or Parquet, by the suffix of ``path``.

    Parameters
    ----------
    path : pathlib.Path
    rows : iterable of sequence
        Values in the order of the columns; None is an empty cell.
    schema : pyarrow.Schema
        Names and types of the columns.
    bom : bool
        See `write_csv`.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    if path.suffix.lower() == ".csv":
        write_csv(path, schema.names, rows, bom=bom)
        return
    import pyarrow as pa

    write_table(path, pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, bom: bool = False) -> None:
    """Write a table as CSV in UTF-8; text that a spreadsheet would take for a formula is `disarmed`.

    Parameters
    ----------
    path : pathlib.Path
    columns : sequence of str
    rows : iterable of sequence
        Values in the order of ``columns``; None is an empty cell, and a list is written as by `as_cell`.
    bom : bool
        Begin with a byte order mark, by which Excel recognizes UTF-8.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    encoding = "utf-8-sig" if bom else "utf-8"
    with writing(path) as temporary, temporary.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow([disarmed(column) for column in columns])
        writer.writerows([disarmed(as_cell(value)) for value in row] for row in rows)


def disarmed(value: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would take for a formula; return anything else as it is.

    Text that begins with apostrophes before such a text gets another one, so that removing one always gives the
    original. The dataset ``folder`` removes it.

    >>> disarmed("=1+1"), disarmed("-minus-.wav"), disarmed(-0.5), disarmed("'t Hooft")
    ("'=1+1", "'-minus-.wav", -0.5, "'t Hooft")
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def as_cell(value: Any) -> Any:
    """Return a list as the text that the dataset ``folder`` reads; anything else as it is.

    Tags are separated by semicolons. They are a JSON list if one of them contains a separator, or could be the value in
    a column of a single tag.

    >>> as_cell(["piano", "calm"]), as_cell(["drum, bass"]), as_cell([0.75, 0.5])
    ('piano; calm', '["drum, bass"]', '0.75; 0.5')
    """
    if not isinstance(value, list):
        return value
    tags = [one for one in value if isinstance(one, str)]
    if any(tag.startswith("[") or set(tag) & set(";|,") or tag.lower() in _FLAGS for tag in tags):
        return json.dumps(tags, ensure_ascii=False)
    return "; ".join(map(str, value))
