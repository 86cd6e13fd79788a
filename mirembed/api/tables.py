"""Tables as results show them: what all results with a table have in common, and HTML for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 10
"""Rows that a notebook shows; it counts the others."""

_ITEMS = 4
"""Values of a list that a cell shows."""


class TableResult:
    """A result with a row for each file, track or method.

    Attributes
    ----------
    table : pyarrow.Table
    """

    table: pa.Table
    _not_shown: tuple[str, ...] = ()
    """Columns that a notebook does not show."""

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} rows: {', '.join(self.table.column_names)})"

    def to_pandas(self) -> Any:
        """Return the table as a `pandas.DataFrame`; pandas must be installed."""
        return self.table.to_pandas()

    def _repr_html_(self) -> str:
        return table_html(self.table.drop_columns(list(self._not_shown)))


def table_html(table: pa.Table, rows: int = _ROWS) -> str:
    """Return the first rows of a table as HTML, without columns that have no value at all."""
    table = table.select([name for name in table.column_names if not len(table) or table[name].null_count < len(table)])
    shown = table.slice(0, rows).to_pydict()
    cells = zip(*shown.values(), strict=True)
    more = f"<p>{len(table):,} rows, the first {rows} shown</p>" if len(table) > rows else ""
    return rows_html(table.column_names, cells) + more


def rows_html(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as an HTML table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(_text(value))}</td>' for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts_html(facts: Iterable[tuple[str, Any]]) -> str:
    """Return names and values as an HTML table; values that are None or empty are left out."""
    rows = [(name, _text(value)) for name, value in facts if value not in (None, "", [], ())]
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table><tbody>{cells}</tbody></table>"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        more = f", ... {len(value)} values" if len(value) > _ITEMS and isinstance(value[0], float) else ""
        return ", ".join(map(_text, value[:_ITEMS] if more else value)) + more
    return str(value)
