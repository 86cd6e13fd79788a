"""Figures for print: PDF files with embedded TrueType fonts, each drawn anew at the width that it has on paper."""

from __future__ import annotations

import io

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from mirembed.reports import style

WIDTHS = (3.5, 7.0)
"""Inches: one column and both columns of a page."""

FONT_SIZE = 8.0
"""Points: the size of the labels of axes."""

_DPI = 300
_TRUETYPE = 42
"""In matplotlib's settings: fonts as journals demand them, instead of Type 3."""


def figure_pdf(figure: style.Figure, width: float, font_size: float = FONT_SIZE) -> bytes:
    """Return a figure as PDF; the same content gives the same bytes.

    Parameters
    ----------
    figure : Figure
        Its drawing is changed.
    width : float
        Inches. The height grows with its square root, so that a wide figure is not a tall one.
    font_size : float
        Points, of the labels of axes; other text is scaled with them.
    """
    drawing = figure.drawing
    assert drawing is not None  # noqa: S101
    before, height = drawing.get_size_inches()
    scale = font_size / float(drawing.axes[0].xaxis.label.get_fontsize())
    with style.styled(), matplotlib.rc_context({"pdf.fonttype": _TRUETYPE}):
        drawing.set_layout_engine("constrained")
        drawing.set_size_inches(width, height * (width / before) ** 0.5)
        _scale_text(drawing, scale)
        if drawing.legends:  # it may need another number of columns
            size = drawing.legends[0].get_texts()[0].get_fontsize()
            for legend in list(drawing.legends):
                legend.remove()
            with matplotlib.rc_context({"legend.fontsize": size}):
                style.legend(drawing)
        buffer = io.BytesIO()
        metadata = {"Title": figure.title, "Creator": None, "Producer": None, "CreationDate": None}
        drawing.savefig(buffer, format="pdf", dpi=_DPI, facecolor="none", metadata=metadata)
    return buffer.getvalue()


def _scale_text(drawing: Figure, scale: float) -> None:
    """Multiply the size of all text; new ticks have the size of the others."""
    ticks = {axis: axis.get_ticklabels()[:1] for axes in drawing.axes for axis in (axes.xaxis, axes.yaxis)}
    sizes = {axis: float(labels[0].get_fontsize()) * scale for axis, labels in ticks.items() if labels}
    for text in drawing.findobj(Text):
        text.set_fontsize(float(text.get_fontsize()) * scale)
    for axis, size in sizes.items():
        axis.set_tick_params(which="both", labelsize=size)
