"""The report's page, one self-contained HTML file, and its tables, which are also written as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from mirembed.compare.answer import Answer
from mirembed.reports.style import GRID, INK, PAPER, Figure
from mirembed.statistics.intervals import Interval
from mirembed.store.exports import disarmed

if TYPE_CHECKING:
    from markupsafe import Markup

_SVG = "http://www.w3.org/2000/svg"
_LINK = "http://www.w3.org/1999/xlink"
_THEME = {INK: "currentColor", GRID: "var(--grid)", PAPER: "var(--paper)"}

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
        Whether the cell is marked as significantly better than what its method was compared with.
    link : str
        Where a click on the text leads; empty for nowhere.
    """

    text: str
    detail: str = ""
    best: bool = False
    link: str = ""

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
        return [n > 0 and all(_is_number(cell.text) for cell in cells) for n, cells in enumerate(columns)]

    def to_csv(self) -> str:
        """Return the records as CSV; numbers keep all their digits, undefined values are empty, formulas disarmed."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.records[0]) if self.records else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: disarmed(value) for name, value in record.items()} for record in self.records)
        return text.getvalue()


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes
    ----------
    title : str
    paragraphs : sequence of str
    tables, folded_tables : sequence of Table
        Folded tables open with a click.
    figures : sequence of Figure
    folded_texts : mapping of str to str
        Texts by their titles; they open with a click.
    definitions : mapping of str to str
        What names mean, a line each.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    folded_tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    folded_texts: Mapping[str, str] = field(default_factory=dict)
    definitions: Mapping[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        tables = [*self.tables, *self.folded_tables]
        return not (self.paragraphs or tables or self.figures or self.folded_texts or self.definitions)

    @property
    def anchor(self) -> str:
        """The title as part of an address.

        >>> Section("Scores by class").anchor
        'scores-by-class'
        """
        return "-".join(re.findall(r"\w+", self.title.lower()))


@dataclass(frozen=True)
class RunPart:
    """The part of the page about one run.

    Attributes
    ----------
    name : str
        Of the run. File names begin with it when the page covers several runs.
    dataset : str
        Its name, without parameters.
    title : str
        Dataset, sizes and folds.
    answer : Answer
    progress : str
        How far an unfinished run got; empty if it is finished.
    warnings : sequence of str
        What to know before reading the scores.
    sections : sequence of Section
    """

    name: str
    dataset: str
    title: str
    answer: Answer
    progress: str
    warnings: Sequence[str]
    sections: Sequence[Section]

    @property
    def heading(self) -> str:
        """Name and title: two runs on the same dataset may share a title."""
        return f"{self.name} ({self.title})"


def render(title: str, overview: Sequence[Section], parts: Sequence[RunPart]) -> str:
    """Return the page as HTML, with all text escaped.

    Parameters
    ----------
    title : str
        Of the run or experiment: its name.
    overview : sequence of Section
        Of an experiment; empty for a single run.
    parts : sequence of RunPart
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mirembed.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "svg": _inline_svg}
    template = environment.get_template("report.html")
    return template.render(name=title, overview=overview, parts=parts).lstrip()


def _prose(text: str) -> Markup:
    """Escape a sentence, with what it puts in back-ticks as code.

    >>> _prose("run `mirembed fit` <again>")
    Markup('run <code>mirembed fit</code> &lt;again&gt;')
    """
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<![^\s(])`([^`\n]+)`(?![^\s.,;:)])", r"<code>\1</code>", str(escape(text))))  # noqa: S704


def _is_number(text: str) -> bool:
    return text == "undefined" or set(text) <= _NUMBER


def _inline_svg(figure: Figure, prefix: str) -> Markup:
    """Return a figure's SVG for use inside the page: in the page's colors, with its tooltips.

    Parameters
    ----------
    figure : Figure
    prefix : str
        Put before every id, so that no two figures of a page share one.
    """
    from markupsafe import Markup

    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK)
    root = ElementTree.fromstring(figure.svg)  # noqa: S314
    for parent in list(root.iter()):
        for child in list(parent):
            # A <style> element would apply to the whole page, which has the same rules in its own style sheet.
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style") or child.get("id") == "background":
                parent.remove(child)
    for gid, texts in figure.points.items():
        _add_tooltips(root, gid, texts)
    for element in root.iter():
        if of_curve := re.fullmatch(r"(band|best|curve|end|mean|key)-(\d+)", element.get("id", "")):
            element.set("class", of_curve[1])
            element.set("data-curve", of_curve[2])
        for name, value in element.attrib.items():
            element.set(name, _themed(_prefixed(name, value, prefix)))
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    selectable = figure.points or root.find(".//*[@class='key']") is not None
    root.set("role", "group" if selectable else "img")
    root.set("aria-label", figure.title)
    if figure.points:
        root.set("class", "points")
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704


def _add_tooltips(root: ElementTree.Element, gid: str, texts: Sequence[str]) -> None:
    group = root.find(f".//*[@id='{gid}']")
    if group is None:
        return
    points = group.findall(f".//{{{_SVG}}}use")
    for point, text in zip(points, texts, strict=True):
        point.set("class", "point")
        ElementTree.SubElement(point, f"{{{_SVG}}}title").text = text


def _prefixed(name: str, value: str, prefix: str) -> str:
    """Return an attribute's value with the prefix in front of any id that it defines or refers to."""
    if name == "id":
        return f"{prefix}-{value}"
    if name == f"{{{_LINK}}}href":
        return re.sub(r"^#", f"#{prefix}-", value)
    return value.replace("url(#", f"url(#{prefix}-")


def _themed(value: str) -> str:
    for color, themed in _THEME.items():
        value = value.replace(color, themed)
    return value
