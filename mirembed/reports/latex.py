"""Tables as LaTeX floats that fit one column of a two-column paper, or else its page.

The narrowest common column is that of ISMIR, 8.2 cm; its page is 17.2 cm wide. Widths of text are estimated with those
of Computer Modern, which is wider than Times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mirembed.reports.page import Cell, Table

_POINTS_PER_CM = 72.27 / 2.54
COLUMN, PAGE = 8.2 * _POINTS_PER_CM, 17.2 * _POINTS_PER_CM
"""Widths that a ``table`` and a ``table*`` have to fit, in points."""

_SEPARATION = 4.0
"""Space on each side of a cell, in points, but not at the edges of the table."""

_SCRIPT = 7.0
"""Size of ``\\scriptsize`` in points, in which details are set."""

_OPTICAL = {7.0: 1.14, 8.0: 1.065, 9.0: 1.03}
"""How much wider the letters of small sizes are, which are not the large ones made smaller."""

_BOLD = 1.16
_LINES = 44
"""Lines of a table that a page has room for, with a caption."""

_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "{}$&#%_"},
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "²": r"\textsuperscript{2}",
        "“": "``",
        "”": "''",
        "\u2018": "`",
        "\u2019": "'",
        "…": r"\dots{}",
        "\u2013": "--",
        "—": "---",
        "\u2010": "{-}",
        "\u2212": "$-$",
        "\u00d7": r"$\times$",
        "±": r"$\pm$",
        "≤": r"$\le$",
        "≥": r"$\ge$",
        "→": r"$\to$",
        "\u03b1": r"$\alpha$",
        "\u03b3": r"$\gamma$",
        "ε": r"$\varepsilon$",
        "μ": r"$\mu$",
        "\u03c1": r"$\rho$",
        "\u03c3": r"$\sigma$",
    }
)

_MINUS = re.compile(r"(?<![\w.)\]-])-(?=\.?\d)|(?<=\de)-(?=\d)|(?<= )-(?= )")
"""A hyphen that is the sign of a number, or stands between two things of which one is subtracted."""

_WIDTHS = {
    **dict.fromkeys("iljI.,:;'|!`()[]/ ", 0.3),
    **dict.fromkeys("frtsJ-", 0.39),
    **dict.fromkeys("mwMW@%#+=<>\u2212", 0.83),
    **dict.fromkeys("ABCDEFGHKLNOPQRSTUVXYZ&", 0.72),
}
"""Widths of characters, in em; see `_width`."""


@dataclass(frozen=True)
class _Layout:
    """A way to set a table.

    Attributes
    ----------
    float_ : {"table", "table*"}
        One column of the page, or its whole width.
    command : str
        Font size.
    size : float
        In points.
    stacked : bool
        Whether details are below the numbers, and long headings take several lines.
    """

    float_: str
    command: str
    size: float
    stacked: bool

    @property
    def room(self) -> float:
        """The width that the table has to fit, in points."""
        return COLUMN if self.float_ == "table" else PAGE


_LAYOUTS = (
    _Layout("table", r"\small", 9, stacked=False),
    _Layout("table", r"\small", 9, stacked=True),
    _Layout("table", r"\footnotesize", 8, stacked=True),
    _Layout("table*", r"\small", 9, stacked=False),
    _Layout("table*", r"\small", 9, stacked=True),
    _Layout("table*", r"\footnotesize", 8, stacked=True),
)
"""The first of these that fits is used."""


def latex_table(table: Table, prefix: str = "") -> str:
    """Return a table as a float for the package booktabs, with its caption; the best cells are bold.

    A table that one column has no room for is a ``table*``. One of many rows becomes several floats with one number.

    Parameters
    ----------
    table : Table
    prefix : str
        Put before the table's name in its label, ``tab:PREFIXNAME``.
    """
    layout = next((one for one in _LAYOUTS if _natural_width(table, one) <= one.room), _LAYOUTS[-1])
    alignment, scaled = _alignment(table, layout)
    packages = ["booktabs", *(["array"] if "p{" in alignment else []), *(["graphicx"] if scaled else [])]
    per_row = [_lines_of(row, layout) for row in table.rows]
    parts = list(_parts(table.rows, per_row))
    lines = [f"% needs \\usepackage{{{package}}}" for package in packages]
    for number, rows in enumerate(parts):
        text = (
            escape_latex(f"{table.title}. {table.caption}")
            if not number
            else escape_latex(table.title) + " (continued)."
        )
        label = [rf"\label{{tab:{prefix}{table.name}}}"] if not number else []
        tabular = [
            rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"\toprule",
            _row([_heading(table, column, layout) for column in range(len(table.columns))]),
            r"\midrule",
            *(line for row in rows for line in _row_lines(table, row, alignment, layout)),
            r"\bottomrule",
            r"\end{tabular}%" if scaled else r"\end{tabular}",
        ]
        lines += [
            rf"\begin{{{layout.float_}}}[t]",
            *([r"\addtocounter{table}{-1}"] if number else []),
            r"\centering",
            rf"\caption{{{text}}}",
            *label,
            rf"{layout.command}\setlength{{\tabcolsep}}{{{_SEPARATION:g}pt}}%",
            *([r"\resizebox{\textwidth}{!}{%", *tabular, "}"] if scaled else tabular),
            rf"\end{{{layout.float_}}}",
        ]
    text = "\n".join(lines) + "\n"
    return _encoding_notes(text) + text


def escape_latex(text: str) -> str:
    r"""Escape text for LaTeX, on one line; signs of numbers become minus signs, and ``--`` stays two hyphens.

    >>> escape_latex("R&B\n50_% [-0.5, 1] --cv 5")
    'R\\&B 50\\_\\% [$-$0.5, 1] {-}{-}cv 5'
    """
    text = "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))
    text = re.sub("-{2,}", lambda run: "\u2010" * len(run[0]), _MINUS.sub("\u2212", text))
    return text.translate(_LATEX)


def _encoding_notes(text: str) -> str:
    """Return comments on what a text needs that has characters beyond ASCII."""
    others = {one for one in text if ord(one) > 127}
    if any(ord(one) > 0x17F for one in others):
        return "% has characters that pdflatex does not know; use lualatex or xelatex, with a font that has them\n"
    return "% needs \\usepackage[T1]{fontenc}\n" if others else ""


# ---- widths ---------------------------------------------------------------------------------------------------------


def _width(text: str, size: float) -> float:
    """Return the width of a text of ASCII characters in points; others are taken for wide ones."""
    return (
        size
        * _OPTICAL.get(size, 1.0)
        * sum(_WIDTHS.get(one, 0.53 if ord(one) < 0x250 else 1.0) for one in _MINUS.sub("\u2212", text))
    )


def _cell_width(cell: Cell, layout: _Layout) -> float:
    text, detail = _width(cell.text, layout.size) * (_BOLD if cell.best else 1), _width(cell.detail, _SCRIPT)
    if layout.stacked or not cell.detail:
        return max(text, detail)
    return text + _width(" ", layout.size) + detail


def _column_widths(table: Table, layout: _Layout) -> list[float]:
    """Return the width of each column in points."""
    widths = []
    for number, heading in enumerate(table.columns):
        cells = max((_cell_width(row[number], layout) for row in table.rows), default=0.0)
        lines = heading.split() if layout.stacked and _width(heading, layout.size) > cells else [heading]
        widths.append(max(cells, *(_width(line, layout.size) for line in lines)) if lines else cells)
    return widths


def _separations(table: Table) -> float:
    return 2 * _SEPARATION * (len(table.columns) - 1)


def _natural_width(table: Table, layout: _Layout) -> float:
    return sum(_column_widths(table, layout)) + _separations(table)


def _alignment(table: Table, layout: _Layout) -> tuple[str, bool]:
    """Return the columns of a ``tabular``, and whether the whole has to be scaled to fit.

    If the table is too wide, columns of text are broken into lines, as few as possible.
    """
    widths, numeric = _column_widths(table, layout), table.numeric
    room = layout.room - _separations(table)
    plain = ["r" if one else "l" for one in numeric]
    if sum(widths) <= room:
        return "".join(plain), False
    least = {n: _least_width(table, n, layout) for n, one in enumerate(numeric) if not one}
    broken: list[int] = []
    for column in sorted(least, key=lambda n: least[n] - widths[n]):  # those that can shrink most come first
        broken.append(column)
        left = room - sum(least.get(n, 0.0) if n in broken else width for n, width in enumerate(widths))
        if left >= 0:
            break
    else:
        return "".join(plain), True
    shrunk = sum(widths[n] - least[n] for n in broken)
    for n in broken:
        width = least[n] + left * (widths[n] - least[n]) / shrunk
        plain[n] = rf">{{\raggedright\arraybackslash}}p{{{width:.0f}pt}}"
    return "".join(plain), False


def _least_width(table: Table, column: int, layout: _Layout) -> float:
    """Return the width of the longest word of a column of text in points, after which a line may end."""
    texts = [table.columns[column], *(row[column].text for row in table.rows)]
    words = [word for text in texts for word in re.split(r"\s|(?<=[:=/+@,_])", text)]
    return max(_width(word, layout.size) for word in words) * _BOLD


# ---- rows -----------------------------------------------------------------------------------------------------------


def _parts(rows: Sequence[Sequence[Cell]], per_row: Sequence[int]) -> Iterator[list[Sequence[Cell]]]:
    """Yield the rows in parts that a page has room for; one part if there are no rows."""
    part: list[Sequence[Cell]] = []
    used = 0
    for row, lines in zip(rows, per_row, strict=True):
        if part and used + lines > _LINES:
            yield part
            part, used = [], 0
        part.append(row)
        used += lines
    yield part


def _lines_of(row: Sequence[Cell], layout: _Layout) -> int:
    """Estimate the lines that a row takes."""
    details = any(cell.detail for cell in row) if layout.stacked else False
    longest = max((_cell_width(cell, layout) for cell in row), default=0.0)
    return 1 + details + int(longest // layout.room)


def _heading(table: Table, column: int, layout: _Layout) -> str:
    heading = table.columns[column]
    cells = max((_cell_width(row[column], layout) for row in table.rows), default=0.0)
    if not layout.stacked or len(heading.split()) < 2 or _width(heading, layout.size) <= cells:
        return escape_latex(heading)
    side = "r" if table.numeric[column] else "l"
    words = r"\\".join(map(escape_latex, heading.split()))
    return rf"\shortstack[{side}]{{{words}}}"


def _row_lines(table: Table, row: Sequence[Cell], alignment: str, layout: _Layout) -> list[str]:
    """Return the lines of a row; a second one has the details, if they are stacked."""
    breaks = "p{" in alignment
    texts = [_bold(breakable(cell.text) if breaks else escape_latex(cell.text), best=cell.best) for cell in row]
    details = [rf"{{\scriptsize {escape_latex(cell.detail)}}}" if cell.detail else "" for cell in row]
    if not layout.stacked:
        return [_row([f"{text} {detail}".strip() for text, detail in zip(texts, details, strict=True)])]
    return [_row(texts), *([_row(details)] if any(details) else [])]


def _bold(text: str, *, best: bool) -> str:
    return rf"\textbf{{{text}}}\rlap{{*}}" if best else text


def breakable(text: str) -> str:
    """Escape a text that may be broken into lines after signs, too."""
    return re.sub(r"(?<=[^\s\\])(\\_|[:=/+@,])(?=\S)", r"\1\\allowbreak{}", escape_latex(text))


def _row(cells: Sequence[str]) -> str:
    row = " & ".join(cells) + r" \\"
    # After the end of the row before, a bracket or a star would be its argument.
    return "{}" + row if row.startswith(("[", "*")) else row
