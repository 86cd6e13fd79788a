"""The look of all figures: one palette, markers and dashes that survive grayscale printing, and reproducible files.

The colors are those of Okabe and Ito without yellow; the palest are darkened, so that all have a contrast of at least 3
to 1 with the page, light or dark. Neighboring colors also differ in marker and dash. Source: M. Okabe, K. Ito, Color
Universal Design, 2008.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MatplotlibFigure

from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import Metric

INK = "#23272d"
GRID = "#d8dbe0"
PAPER = "#fefefe"
"""Colors of text and lines, of the grid, and of the background. On the page they follow its theme."""

COLORS = ("#0072b2", "#d55e00", "#009e73", "#c46a9a", "#2f8fca", "#b57d00", "#7f7f7f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)))

RAMP = (("#0072b2", "v"), ("#2f8fca", "d"), ("#7f7f7f", "o"), ("#b57d00", "s"), ("#d55e00", "^"))
"""Colors and markers from low to high values."""

_BAND = 0.13
"""Opacity of the band of a curve."""

_MARGIN = 0.03
"""How far an axis may exceed the range of its metric, so that points at the ends are visible as a whole."""

WIDTH = 4.2
"""Figure width in inches: fits a phone without shrinking the text."""

DPI = 150

_STYLE_SHEET = Path(__file__).parent / "templates" / "figures.mplstyle"
_STYLE_COLORS: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "grid.color": GRID,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
}


@dataclass(frozen=True)
class Figure:
    """A figure in both formats.

    Attributes
    ----------
    name : str
        Of its files, without suffix.
    title, caption : str
        Screen readers read the title.
    svg, png : bytes
    points : mapping of str to sequence of str
        Tooltips: for each group of points, by its id in the SVG, the text of each point.
    drawing : matplotlib.figure.Figure or None
        To draw it at another size; see `mirembed.reports.paper`.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    png: bytes
    points: Mapping[str, Sequence[str]] = field(default_factory=dict)
    drawing: MatplotlibFigure | None = field(default=None, repr=False, compare=False)


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style inside a ``with`` block, and restore matplotlib's settings after it."""
    sheet = matplotlib.rc_params_from_file(_STYLE_SHEET, use_default_template=False)
    with matplotlib.rc_context({**sheet, **_STYLE_COLORS}), warnings.catch_warnings():
        # Characters missing from the font become boxes in the PNG; in the SVG, the viewer picks the font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def axes(height: float = 2.9) -> tuple[MatplotlibFigure, Axes]:
    """Return an empty figure and its axes; the height is in inches. Call it inside `styled`."""
    figure = MatplotlibFigure(figsize=(WIDTH, height), layout="constrained")
    figure.patch.set_gid("background")
    return figure, figure.add_subplot()


def axes_above(height: float, ratios: tuple[float, float]) -> tuple[MatplotlibFigure, tuple[Axes, Axes]]:
    """Return an empty figure and its two axes, one above the other, which share the x-axis. Call it inside `styled`."""
    figure = MatplotlibFigure(figsize=(WIDTH, height), layout="constrained")
    figure.patch.set_gid("background")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
    return figure, (upper, lower)


def legend(figure: MatplotlibFigure) -> None:
    """Add a legend of all labeled lines below the axes, in as many columns as fit."""
    # matplotlib labels unlabeled lines _child0, _child1, ...; its own legend would also skip a class named _other.
    handles = [line for line in figure.axes[0].lines if not re.fullmatch(r"_child\d+", str(line.get_label()))]
    labels = [str(line.get_label()) for line in handles]
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    for n_columns in range(min(3, len(handles)), 0, -1):
        added = figure.legend(handles, labels, loc="outside lower center", ncols=n_columns)
        if n_columns == 1 or added.get_window_extent(renderer).width <= figure.bbox.width:
            break
        added.remove()
    for text, handle in zip(added.get_texts(), handles, strict=True):
        if (gid := str(handle.get_gid())).startswith("curve-"):
            text.set_gid(gid.replace("curve", "key"))  # on the page, a click selects the curve


def draw(
    figure: MatplotlibFigure, name: str, title: str, caption: str, points: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """Render a figure as SVG and PNG; the same content gives the same bytes. Call it inside `styled`."""
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.set_layout_engine("none")  # the layout was computed for the SVG
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return Figure(name, title, caption, svg.getvalue(), png.getvalue(), points or {}, figure)


def color(position: int) -> str:
    """Return the color of the method or class at this position."""
    return COLORS[position % len(COLORS)]


def marker(position: int) -> str:
    """Return the marker at this position; pairs of color and marker repeat after 77."""
    return MARKERS[position % len(MARKERS)]


def dashes(position: int) -> Any:
    """Return the line style at this position; pairs of color and line style repeat after 35."""
    return DASHES[position % len(DASHES)]


def draw_curve(
    axes: Axes, x: Sequence[float], intervals: Sequence[Interval], position: int, label: str, *, band: bool = True
) -> None:
    """Draw means over ``x`` as a line, with their intervals as a band; undefined means leave a gap.

    Without ``band``, it is there but invisible: the page shows it for the curve that a reader selects.
    """
    means = [np.nan if one.mean is None else one.mean for one in intervals]
    lows = [mean if one.low is None else one.low for one, mean in zip(intervals, means, strict=True)]
    highs = [mean if one.high is None else one.high for one, mean in zip(intervals, means, strict=True)]
    shade: dict[str, Any] = {"color": color(position), "alpha": _BAND if band else 0.0, "linewidth": 0}
    axes.fill_between(x, lows, highs, gid=f"band-{position}", **shade)
    look: dict[str, Any] = {"color": color(position), "linestyle": dashes(position), "marker": marker(position)}
    axes.plot(x, means, markevery=max(1, len(means) // 8), label=label, gid=f"curve-{position}", **look)


def draw_last_intervals(axes: Axes, x: float, span: float, intervals: Mapping[int, Interval]) -> None:
    """Draw the interval of each curve at its end, by the curve's position, side by side to the right of ``x``.

    ``span`` is the width of the curves on the horizontal axis.
    """
    for number, (position, one) in enumerate(intervals.items(), 1):
        if one.mean is None or one.low is None or one.high is None:
            continue
        at, tip = x + 0.035 * span * number, 0.008 * span
        ends = [at - tip, at + tip, at, at, at - tip, at + tip], [one.low] * 3 + [one.high] * 3
        axes.plot(*ends, color=color(position), linewidth=1.2, gid=f"end-{position}")
        axes.plot([at], [one.mean], marker(position), color=color(position), markersize=4, gid=f"mean-{position}")


def log_axis(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with three to eight labels of round numbers; linear for less than a third."""
    low, high = axes.get_ylim()
    low = max(low, min((float(np.nanmin(y[y > 0])) for y in _drawn(axes) if (y > 0).any()), default=low))
    if low <= 0 or high / low < 3:
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = powers
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = np.sort(np.outer(powers, steps).ravel())
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 3:
            break
    ticks = ticks[:: -(-len(ticks) // 8)]
    axes.set_yticks(ticks, [f"{tick:,.10g}" if tick < 1e6 else f"{tick:.0e}" for tick in ticks])
    axes.set_yticks([], minor=True)


def _drawn(axes: Axes) -> list[Any]:
    """Return the heights of all lines of axes."""
    return [np.asarray(line.get_ydata(), np.float64) for line in axes.lines]


def keep_in_range(axes: Axes, metric: Metric) -> None:
    """Cut the vertical axis to the range of a metric, which an interval may exceed."""
    low, high = axes.get_ylim()
    lowest, highest = metric.range
    axes.set_ylim(max(low, lowest - _MARGIN), min(high, highest + _MARGIN))


def draw_cells(
    axes: Axes, values: Any, limits: tuple[float, float], columns: Sequence[str], rows: Sequence[str]
) -> None:
    """Draw a matrix ``[n_rows, n_columns]`` as labeled cells, from pale at the lower limit to dark at the upper."""
    low, high = limits
    axes.pcolormesh(values, cmap="Blues", vmin=low, vmax=high, edgecolors=GRID, linewidth=0.5)
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axes.grid(visible=False)
    axes.set_xticks([j + 0.5 for j in range(len(columns))], columns, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    axes.tick_params(length=0)


def write_cell(axes: Axes, row: int, column: int, text: str, darkness: float, fontsize: float = 8) -> None:
    """Write text into a cell: black on pale shades and white on dark ones, in every theme."""
    ink = "#ffffff" if darkness > 0.55 else "#000000"
    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=fontsize)
