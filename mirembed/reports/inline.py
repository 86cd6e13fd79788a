"""SVG that stands inside a page: it takes the page's colors, and its points say what they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from mirembed.reports.style import GRID, INK, PAPER, Figure

_SVG = "http://www.w3.org/2000/svg"
_LINK = "http://www.w3.org/1999/xlink"
_THEMED = {INK: "currentColor", GRID: "var(--grid)", PAPER: "var(--paper)"}


def inline_svg(figure: Figure, prefix: str) -> str:
    """Return the SVG of a figure for a page.

    Parameters
    ----------
    figure : Figure
    prefix : str
        Begins all ids, so that no two figures of a page share one.
    """
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK)
    root = ElementTree.fromstring(figure.svg)  # noqa: S314
    for parent in list(root.iter()):
        for child in list(parent):
            # Its style would be the whole page's; the page has the same for all figures.
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style") or child.get("id") == "background":
                parent.remove(child)
    for gid, texts in figure.points.items():
        _name_points(root, gid, texts)
    for element in root.iter():
        for name, value in element.attrib.items():
            element.set(name, _themed(_prefixed(name, value, prefix)))
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("role", "group" if figure.points else "img")
    root.set("aria-label", figure.title)
    if figure.points:
        root.set("class", "points")
    return ElementTree.tostring(root, encoding="unicode")


def _name_points(root: ElementTree.Element, gid: str, texts: Sequence[str]) -> None:
    """Give each point of a group its text, which any browser shows when it is pointed at."""
    group = root.find(f".//*[@id='{gid}']")
    if group is None:
        return
    points = group.findall(f".//{{{_SVG}}}use")
    for point, text in zip(points, texts, strict=True):
        point.set("class", "point")
        ElementTree.SubElement(point, f"{{{_SVG}}}title").text = text


def _prefixed(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == f"{{{_LINK}}}href":
        return re.sub(r"^#", f"#{prefix}-", value)
    return value.replace("url(#", f"url(#{prefix}-")


def _themed(value: str) -> str:
    for color, themed in _THEMED.items():
        value = value.replace(color, themed)
    return value
