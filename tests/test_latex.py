"""Tables of a report as LaTeX: escaped, sized for a column or a page, and compiled where LaTeX is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_pages import report
from small_reports import write_report_run
from test_report_tables import SELECTION

from mirembed import Classification
from mirembed.reports.latex import COLUMN, PAGE, escape_latex, latex_table
from mirembed.reports.page import Cell, Table
from mirembed.reports.report import WrittenReport
from mirembed.store.files import read_table, write_table

NASTY = (r"a\b{c}~^#$", "[R&B] 100% -5", "*rock_<2>|x", "Zażółć, naïve “soul”")
DOCUMENT = r"""\documentclass[10pt,twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,array,graphicx}
\setlength{\textwidth}{17.2cm}\setlength{\columnsep}{0.8cm}\setlength{\columnwidth}{8.2cm}\setlength{\hsize}{8.2cm}
\begin{document}
"""


def table(columns: list[str], rows: list[list[Cell]], caption: str = "Caption.") -> Table:
    return Table("some", "Title", caption, columns, rows, [])


@pytest.fixture(scope="module")
def nasty(tmp_path_factory) -> WrittenReport:
    """The report on a run with names that mean something in LaTeX, which has every kind of table."""
    folder = tmp_path_factory.mktemp("runs") / "nasty"
    rows = [row | {"similarity.gamma": "<2>", "learner.C": "1_0%"} for row in SELECTION]
    skill = {"rbf-sl": 0.9, "nn": 0.5}
    command = "mirembed evaluate --cv 5 --seed 0 " + " ".join(f"--features logmel:bands={n}" for n in range(30))
    write_report_run(
        folder, Classification(NASTY), skill=skill, n_tracks=30, probabilities=True, retrieval=True, processor=command
    )
    write_table(folder / "selection.parquet", read_table(folder / "predictions.parquet").from_pylist(rows))
    return report(folder)


def test_the_best_score_is_bold_with_a_star_and_text_is_escaped():
    rows = [[Cell("R&B_50%"), Cell("0.5", "[0.1, 0.9]", best=True)], [Cell(r"a\b{c}~^#$"), Cell("0.4")]]
    latex = latex_table(table(["class", "r²"], rows), "one-")
    assert r"R\&B\_50\% & \textbf{0.5}\rlap{*} {\scriptsize [0.1, 0.9]} \\" in latex
    assert r"a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}\#\$ & 0.4 \\" in latex
    assert r"class & r\textsuperscript{2} \\" in latex
    assert r"\begin{tabular}{@{}lr@{}}" in latex
    assert r"\label{tab:one-some}" in latex
    assert latex.index(r"\caption{Title. Caption.}") < latex.index(r"\toprule") < latex.index(r"\bottomrule")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("-0.5 [-0.1, 0.2]", "$-$0.5 [$-$0.1, 0.2]"),
        ("A - B", "A $-$ B"),
        ("1e-08, r=-.5", "1e$-$08, r=$-$.5"),
        ("rbf-sl of 2026-01-02", "rbf-sl of 2026-01-02"),
        ("--seed 0", "{-}{-}seed 0"),
        ("“so”", "``so''"),
    ],
)
def test_signs_of_numbers_are_minus_signs_and_double_hyphens_stay_two(text, escaped):
    assert escape_latex(text) == escaped


def test_a_table_that_no_column_has_room_for_takes_the_page():
    small = [[Cell("accuracy"), Cell("0.512", "[0.123, 0.876]")]]
    assert r"\begin{table}[t]" in latex_table(table(["metric", "nn"], small))
    # As a whole too wide for a column, but not with the intervals below the scores.
    stacked = latex_table(table(["metric", *["rbf-sl"] * 3], [small[0] + [small[0][1]] * 2]))
    assert r"\begin{table}[t]" in stacked
    assert "accuracy & 0.512 & 0.512 & 0.512 \\\\\n & {\\scriptsize [0.123, 0.876]} &" in stacked
    wide = latex_table(table(["metric", *["rbf-sl"] * 7], [small[0] + [small[0][1]] * 6]))
    assert r"\begin{table*}[t]" in wide
    assert "p{" not in wide
    assert r"\resizebox" not in wide
    assert r"\resizebox{\textwidth}" in latex_table(table(["metric", *["0.123"] * 40], [[Cell("0.123")] * 41]))


def test_long_texts_are_broken_into_lines_that_fit_the_page():
    latex = latex_table(table(["what", "value"], [[Cell("command"), Cell("mirembed evaluate --cv 5 " * 20)]]))
    (width,) = re.findall(r"p\{(\d+)pt\}", latex)
    assert COLUMN < float(width) < PAGE
    assert r"\usepackage{array}" in latex


def test_a_table_longer_than_a_page_becomes_several_with_one_number():
    latex = latex_table(table(["tag", "score"], [[Cell(f"tag {n}"), Cell("0.5")] for n in range(100)]))
    assert latex.count(r"\begin{table}") == 3
    assert latex.count(r"\addtocounter{table}{-1}") == 2
    assert latex.count(r"\label") == 1


def test_what_pdflatex_lacks_is_said():
    needs = {text: latex_table(table([text], [])).partition("\n")[0] for text in ("jazz", "café", "邦楽")}
    assert "T1" not in needs["jazz"]
    assert "[T1]{fontenc}" in needs["café"]
    assert "lualatex" in needs["邦楽"]


def test_every_row_of_every_table_has_as_many_cells(nasty):
    paths = [path for path in nasty.tables if path.suffix == ".tex"]
    assert {"retrieval", "reliability", "pooled", "selection", "provenance"} <= {path.stem for path in paths}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        (alignment,) = set(re.findall(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}", text))
        n_columns = len(re.sub(r">\{\\raggedright\\arraybackslash\}p\{\d+pt\}", "p", alignment))
        rows = [line for line in text.splitlines() if line.endswith(r" \\")]
        assert rows
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == n_columns - 1
            assert not row.startswith(("[", "*"))
            assert len(re.findall(r"(?<!\\)\{", row)) == len(re.findall(r"(?<!\\)\}", row))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (Debian: texlive-latex-recommended)")
def test_all_tables_and_the_methods_compile_and_fit(nasty, tmp_path):
    paths = [path for path in nasty.tables if path.suffix == ".tex"]
    inputs = [rf"\input{{{path}}}\clearpage" for path in paths]
    methods = next(path for path in nasty.methods if path.name == "methods.tex")
    (tmp_path / "paper.tex").write_text(
        "\n".join([DOCUMENT, rf"{{\sloppy\input{{{methods}}}}}", *inputs, r"\end{document}"]), encoding="utf-8"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, timeout=100)
    log = Path(tmp_path / "paper.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, log[-2000:]
    too_wide = re.findall(
        r"Overfull \\hbox \((?:[1-9][\d.]*)pt too wide\).*\n.*", log
    )  # fractions of a point are not seen
    assert too_wide == []
    assert "multiply defined" not in log
