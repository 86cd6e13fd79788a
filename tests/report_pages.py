"""What the tests of reports share: writing one, and reading its page as a browser does."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mirembed.registry import Registry
from mirembed.reports import Written, write_report

VOID = {"meta", "br", "hr", "img", "link", "input"}


def report(folder: Path, out: Path | None = None) -> Written:
    return write_report(folder, out, Registry.discover())


def records(written: Written, name: str) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    (path,) = [path for path in written.tables if path.name == f"{name}.csv"]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass
class Page(HTMLParser):
    """The elements of a page, with the text that is in them."""

    source: str
    elements: list[tuple[str, dict[str, str], list[str]]] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(self.source)
        self.close()
        self.unclosed = [name for name, _, _ in self._open]

    @classmethod
    def of(cls, written: Written) -> Page:
        return cls(written.page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)
        if tag == "table":
            self._rows = self.tables.setdefault(self.texts("h3", "h4")[-1], [])
        if tag == "tr":
            self._rows.append([])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        name, _, text = self._open.pop()
        assert name == tag, f"<{name}> ends with </{tag}>"
        if tag in ("td", "th"):
            self._rows[-1].append(" ".join("".join(text).split()))

    def handle_data(self, data: str) -> None:
        for _, _, text in self._open:
            text.append(data)

    def texts(self, *tags: str) -> list[str]:
        return [" ".join("".join(text).split()) for tag, _, text in self.elements if tag in tags]

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes, _ in self.elements if name in attributes]

    def cell(self, title: str, row: str, column: str) -> str:
        """What a table says in a row and a column."""
        heading, *rows = self.tables[title]
        (found,) = [cells for cells in rows if cells[0] == row]
        return found[heading.index(column)]


def number(record: dict[str, Any], name: str) -> float:
    return float(record[name])
