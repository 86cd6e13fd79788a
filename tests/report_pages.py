"""Helpers for the tests of reports: writing one, and reading its page as a browser does."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mirembed.registry import Registry
from mirembed.reports import style
from mirembed.reports.report import WrittenReport, write_report

TABLES = {
    "Tracks, labels and folds": "datasets",
    "Scores of each method on each dataset": "overview",
    "Scores of each method": "scores",
    "Pearson's r of each method": "scores",
    "ROC-AUC of each method": "scores",
    "All metrics": "metrics",
    "All metrics, pooled": "pooled",
    "Undefined scores": "undefined",
    "Neighbors of test tracks": "retrieval",
    "What was chosen": "selection",
    "What was chosen in each fold": "selection-folds",
    "Reliability of the probabilities": "reliability",
    "Time and memory": "cost",
    "Last and best points of the curves": "curves",
    "Learned similarity and kernel": "kernels",
    "Learners on the same network": "kernels-significance",
    "Declared comparisons": "significance",
    "Exploratory comparisons": "exploratory",
    "Where the numbers come from": "provenance",
    "Tracks that every method misses": "errors",
}
"""The names of the tables' files, by the titles of the tables."""

BLANK = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'
VOID = {"meta", "br", "hr", "img", "link", "input"}


def report(folder: Path, out: Path | None = None, *, drawn: bool = False) -> WrittenReport:
    """Write a report with small figures; unless ``drawn``, they are blank, which takes a quarter of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "DPI", 20)
        if not drawn:
            patch.setattr(style.MatplotlibFigure, "savefig", lambda self, file, **options: file.write(BLANK))
        return write_report(folder, out, Registry.discover())


def records(written: WrittenReport, name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    (path,) = [path for path in written.tables if path.name == f"{name}.csv"]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass
class Page(HTMLParser):
    """The elements of a page with their text, and its tables by the names of their files."""

    source: str
    elements: list[tuple[str, dict[str, str], list[str]]] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(self.source)
        self.close()
        self.unclosed = [name for name, _, _ in self._open]

    @classmethod
    def of(cls, written: WrittenReport) -> Page:
        return cls(written.page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)
        if tag == "table":
            self._table = self.name(self.texts("h3", "h4", "h5")[-1])
            self._rows = self.tables.setdefault(self._table, [])
        if tag == "tr":
            self._rows.append([])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        name, _, text = self._open.pop()
        assert name == tag, f"<{name}> ends with </{tag}>"
        if tag in ("td", "th"):
            self._rows[-1].append(" ".join("".join(text).split()))
        if tag == "caption":
            self.captions[self._table] = " ".join("".join(text).split())

    def handle_data(self, data: str) -> None:
        for _, _, text in self._open:
            text.append(data)

    def texts(self, *tags: str) -> list[str]:
        return [" ".join("".join(text).split()) for tag, _, text in self.elements if tag in tags]

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes, _ in self.elements if name in attributes]

    def text(self, *tags: str) -> str:
        return " ".join(self.texts(*tags))

    @staticmethod
    def name(title: str) -> str:
        """Return the name of a table's file."""
        kind, _, what = title.partition(": ")
        if kind in ("Confusion", "Tags"):
            return f"{kind.lower()}-{what}"
        if kind.endswith("by number of training tracks"):
            return f"train-sizes-{what}"
        metric, _, column = title.partition(" of each ")
        return f"scores-{metric}" if column in ("class", "tag", "target") else TABLES[title]

    def is_table(self, text: str) -> bool:
        """Whether a text is that of a table."""
        return text in self.texts("table")

    def cell(self, name: str, row: str, column: str) -> str:
        """Return the text of a table's cell; methods are rows of a table of few metrics, and else its columns."""
        heading, *rows = self.tables[name]
        if column not in heading:
            row, column = column, row
        (found,) = [cells for cells in rows if cells[0] == row]
        return found[heading.index(column)]

    def figure_caption(self, title: str) -> str:
        """Return the caption of the only figure whose title begins so."""
        (found,) = [caption for caption in self.texts("figcaption") if caption.startswith(title)]
        return found
