"""How figures look: one palette, markers and dashes that survive gray print, and files that do not vary.

The colors are those of Okabe and Ito without their yellow, which is too pale for white paper; neighbors differ in
marker and dash as well. Source: M. Okabe, K. Ito, Color Universal Design, 2008.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

INK = "#23272d"
GRID = "#d8dbe0"
PAPER = "#fefefe"
"""Text and lines, grid, and background; on a page they follow its theme."""

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)))

RAMP = (("#0072b2", "v"), ("#56b4e9", "d"), ("#8f8f8f", "o"), ("#e69f00", "s"), ("#d55e00", "^"))
"""Colors and markers of low to high values."""

WIDTH = 4.2
"""Of a figure, inches: as wide as a phone shows without making the text small."""

DPI = 150

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "legend.frameon": False,
    "svg.fonttype": "none",  # letters stay letters: they can be searched, and take the color of the page
    "svg.hashsalt": "mirembed",
    "text.parse_math": False,  # a name may hold a dollar sign
}


@dataclass(frozen=True)
class Figure:
    """A picture in both formats.

    Attributes
    ----------
    name : str
        Of its files.
    title, caption : str
        The title is also what a screen reader says.
    svg, png : bytes
    points : mapping of str to sequence of str
        For each group of points, by its id in the SVG, what to say of each point.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    png: bytes
    points: Mapping[str, Sequence[str]] = field(default_factory=dict)


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style; nothing of it is left when the block ends."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Letters that the font lacks are boxes in the PNG; the SVG leaves them to whoever shows it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def axes(height: float = 2.9, width: float = WIDTH) -> tuple[MatplotlibFigure, Axes]:
    """Return an empty figure with one pair of axes; sizes in inches. Use it inside `styled`."""
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(width, height), layout="constrained")
    figure.patch.set_gid("background")
    return figure, figure.add_subplot()


def legend(figure: MatplotlibFigure, columns: int = 2) -> None:
    """Put the legend of all lines with a label below the axes."""
    # matplotlib calls unlabeled lines _child0, _child1, ...; its own search would leave out a class called _other.
    handles = [line for line in figure.axes[0].lines if not re.fullmatch(r"_child\d+", str(line.get_label()))]
    if handles:
        labels = [str(line.get_label()) for line in handles]
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(handles)))


def draw(
    figure: MatplotlibFigure,
    name: str,
    title: str,
    caption: str,
    points: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Write a figure as SVG and PNG, both the same to the byte for the same content. Use it inside `styled`."""
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.set_layout_engine("none")  # once is enough
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return Figure(name, title, caption, svg.getvalue(), png.getvalue(), points or {})


def color(position: int) -> str:
    """Return the color of the method or class at a position."""
    return COLORS[position % len(COLORS)]


def marker(position: int) -> str:
    """Return its marker; with the color, that of no other up to the 77th."""
    return MARKERS[position % len(MARKERS)]


def dashes(position: int) -> Any:
    """Return its kind of line; with the color, that of no other up to the 35th."""
    return DASHES[position % len(DASHES)]
