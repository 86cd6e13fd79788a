"""Tables: what they hold, and their CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mirembed.statistics import Interval

_LATEX = {
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


@dataclass(frozen=True)
class Cell:
    """A cell as people read it.

    Attributes
    ----------
    text : str
    detail : str
        Smaller, after the text: an interval, or a remark.
    best : bool
        Whether it is marked as better than every other of its row.
    """

    text: str
    detail: str = ""
    best: bool = False

    @classmethod
    def of(cls, interval: Interval, *, best: bool = False) -> Cell:
        """Return a mean with its interval."""
        mean, _, detail = str(interval).partition(" ")
        return cls(mean, detail, best)


@dataclass(frozen=True)
class Table:
    """A table for people, and the same numbers unrounded for programs.

    Attributes
    ----------
    name : str
        Of its files.
    title, caption : str
    columns : sequence of str
    rows : sequence of sequence of Cell
        The first cell of a row is its heading.
    records : sequence of mapping
        The rows of the CSV file; all have the same keys.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    records: Sequence[Mapping[str, Any]]

    @property
    def numeric(self) -> list[bool]:
        """Whether a column holds numbers, which stand to the right; the headings of the rows never do."""
        columns = zip(*self.rows, strict=True)
        return [number > 0 and all(_is_number(cell.text) for cell in cells) for number, cells in enumerate(columns)]

    def to_csv(self) -> str:
        """Return the records as CSV, numbers with all their digits; what is undefined is empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.records[0]) if self.records else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        return text.getvalue()

    def to_latex(self) -> str:
        """Return a ``tabular`` in the style of the package booktabs; what is marked as best is bold."""
        lines = [
            f"% {self.title}. {self.caption}",
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{''.join('r' if numeric else 'l' for numeric in self.numeric)}}}",
            r"\toprule",
            _latex_row([latex(column) for column in self.columns]),
            r"\midrule",
            *(_latex_row([_latex_cell(cell) for cell in row]) for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    """Escape text for LaTeX, on one line."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def interval_record(interval: Interval) -> dict[str, float | None]:
    """Return the three numbers of an interval under the names that all CSV files give them."""
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def p_value(p: float | None) -> str:
    """Return a p-value for people; nothing where there is none."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _is_number(text: str) -> bool:
    return all(character in "0123456789.-<" for character in text)


def _latex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{latex(cell.text)}}}" if cell.best else latex(cell.text)
    return rf"{text} {{\scriptsize {latex(cell.detail)}}}" if cell.detail else text


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
