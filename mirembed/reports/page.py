"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mirembed.reports.inline import inline_svg
from mirembed.reports.style import Figure
from mirembed.reports.tables import Table


@dataclass(frozen=True)
class Section:
    """Part of the page.

    Attributes
    ----------
    title : str
    paragraphs : sequence of str
    tables, folded : sequence of Table
        ``folded`` ones open when they are clicked.
    figures : sequence of Figure
    texts : mapping of str to str
        Files that open when their title is clicked.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.paragraphs or self.tables or self.folded or self.figures or self.texts)


@dataclass(frozen=True)
class Part:
    """What the page says of one run.

    Attributes
    ----------
    name : str
        Begins the names of its files, where a page has several parts.
    title : str
    progress : str
        How far a run is that is going on; empty of a finished one.
    sections : sequence of Section
    """

    name: str
    title: str
    progress: str
    sections: Sequence[Section]

    @property
    def heading(self) -> str:
        """Name and title: of two runs on the same dataset the titles may be the same."""
        return f"{self.name} ({self.title})"


def render(title: str, paragraphs: Sequence[str], overview: Sequence[Section], parts: Sequence[Part]) -> str:
    """Return the page as HTML; whatever text it holds is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mirembed.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return (
        environment.get_template("report.html")
        .render(
            title=title,
            paragraphs=paragraphs,
            overview=[_shown(section, "overview") for section in overview],
            parts=[
                {
                    "heading": part.heading,
                    "progress": part.progress,
                    "sections": [
                        _shown(section, f"run{number}-{place}") for place, section in enumerate(part.sections, 1)
                    ],
                }
                for number, part in enumerate(parts, 1)
            ],
        )
        .lstrip()
    )


def _shown(section: Section, prefix: str) -> dict[str, Any]:
    """Return a section as the template has it, its figures ready to stand in the page."""
    figures = [
        {
            "title": figure.title,
            "caption": figure.caption,
            "svg": inline_svg(figure, f"{prefix}-{number}"),
        }
        for number, figure in enumerate(section.figures, 1)
    ]
    return {**vars(section), "figures": figures}
