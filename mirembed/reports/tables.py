"""Tables, and their CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mirembed.statistics.intervals import Interval

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "²": r"\textsuperscript{2}",
    }
)

_NUMBER = set("0123456789.-<")
"""The characters of a number; that of a small p-value begins with ``<``."""


@dataclass(frozen=True)
class Cell:
    """A cell of the table on the page.

    Attributes
    ----------
    text : str
    detail : str
        In small type below the text: an interval or a remark.
    best : bool
        Whether the cell is marked as better than every other in its row.
    """

    text: str
    detail: str = ""
    best: bool = False

    @classmethod
    def of(cls, interval: Interval, *, best: bool = False) -> Cell:
        """Return a cell that shows a mean and its interval."""
        mean, _, detail = str(interval).partition(" ")
        return cls(mean, detail, best)


@dataclass(frozen=True)
class Table:
    """A table with rounded numbers for the page, and the same numbers unrounded for the CSV file.

    Attributes
    ----------
    name : str
        Of its files, without suffix.
    title, caption : str
    columns : sequence of str
    rows : sequence of sequence of Cell
        The first cell of each row is its heading.
    records : sequence of mapping
        Rows of the CSV file, all with the same keys.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    records: Sequence[Mapping[str, Any]]

    @property
    def numeric(self) -> list[bool]:
        """For each column whether it holds only numbers, which are aligned right; row headings never are."""
        columns = zip(*self.rows, strict=True)
        return [n > 0 and all(set(cell.text) <= _NUMBER for cell in cells) for n, cells in enumerate(columns)]

    def to_csv(self) -> str:
        """Return the records as CSV; numbers keep all their digits, and undefined values are empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.records[0]) if self.records else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        return text.getvalue()

    def to_latex(self) -> str:
        """Return a ``tabular`` for the package booktabs, with the best cells in bold."""
        alignment = "".join("r" if numeric else "l" for numeric in self.numeric)
        lines = [
            f"% {self.title}. {self.caption}",
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            _latex_row([escape_latex(column) for column in self.columns]),
            r"\midrule",
            *(_latex_row([_latex_cell(cell) for cell in row]) for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    r"""Escape text for LaTeX, on one line.

    >>> escape_latex("R&B\n50_%")
    'R\\&B 50\\_\\%'
    """
    return " ".join(text.split()).translate(_LATEX)


def _latex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{escape_latex(cell.text)}}}" if cell.best else escape_latex(cell.text)
    return rf"{text} {{\scriptsize {escape_latex(cell.detail)}}}" if cell.detail else text


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
