"""``mirembed compare`` and ``report``: what runs have shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, Table, print_result
from mirembed.hookspecs import Classification
from mirembed.interruption import STARTS_OVER, interruptible, say_when_interrupted
from mirembed.progress import counted
from mirembed.store import Store

if TYPE_CHECKING:
    from mirembed.compare.comparison import Comparison, Disagreements
    from mirembed.compare.paired_tests import PairedTest


_TOP = 10
"""Tracks to list per approach, by default."""


def compare(
    run_a: Annotated[
        str, typer.Argument(metavar="RUN_A", help="Run: a folder, or an unambiguous prefix of a name in the store.")
    ],
    run_b: Annotated[str | None, typer.Argument(metavar="RUN_B", help="A second run.")] = None,
    approach: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Methods to compare, as the run names them; repeatable. With two runs: one for both, or one for each. "
            "Default: all.",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Tracks to list per approach. Default: 10; with several pairs, 10 in JSON and otherwise none.",
        ),
    ] = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    json: options.Json = False,
) -> None:
    """Compare the methods of one run, or of two runs on the same folds: which is better, and on which tracks.

    Tests the paired differences over the folds (Nadeau & Bengio), corrected for all tests of the run (Holm).
    """
    with interruptible():
        from mirembed.compare.comparison import compare as run
        from mirembed.runs.record import open_run

    runs = Store(store).runs
    first = open_run(runs, run_a)
    second = None if run_b is None else open_run(runs, run_b)
    report = run(first, second, approach or [], _TOP if top is None else top)
    brief = top is None and len(report.disagreements) > 1
    print_result(json, report.to_json, _text(report, brief))


def _text(report: Comparison, brief: bool) -> Iterator[str | Table]:
    """Yield the tests and, unless ``brief``, the tracks on which each pair disagrees."""
    from mirembed.compare.paired_tests import p_text

    yield from _tests(report)
    for found in report.disagreements:
        if not brief:
            yield _disagreements(report, found)
        if found.mcnemar_p is not None:
            yield (
                f"McNemar's exact test over the tracks of the two fitted models {found.a} (A) and {found.b} (B): "
                f"p (Holm) {p_text(found.mcnemar_p)}"
            )
    if brief:
        yield f"--top {_TOP} lists the tracks on which each pair disagrees"


def _tests(report: Comparison) -> Iterator[str | Table]:
    kind = "random split" if report.repeated else "fold"
    runs = report.a.name if report.a == report.b else f"A: {report.a.name}, B: {report.b.name}"
    rows = [_row(test) for test in report.tests]
    has_welch = any(test.p_welch is not None for test in report.tests)
    if not has_welch:
        for row in rows:
            del row["p (Welch)"]
    yield Table(list(rows[0]), [list(row.values()) for row in rows], f"{runs}: {counted(report.n_folds, kind)}")
    if any(test.t_test is not None for test in report.tests):
        yield (
            "Paired over the folds; 95 % intervals and t-tests: Nadeau & Bengio; effect: Hedges' g of the paired "
            "differences."
        )
        n_shown, over = len(report.disagreements), counted(report.n_tested, "test")
        if n_shown == report.n_pairs:
            yield f"Holm correction over {over}."
        else:
            yield f"Shown: {n_shown} of {report.n_pairs} pairs; Holm correction over all {over} of the run."
    if has_welch:
        yield (
            "Welch's test is the paper's. Unpaired and uncorrected, it treats overlapping splits as independent and "
            "finds too many differences; the verdicts do not use it."
        )
    for name, (one, other) in report.settings.items():
        yield f"the runs differ in {name}: {one} and {other}"
    yield from report.notes


def _row(test: PairedTest) -> dict[str, object]:
    from mirembed.compare.paired_tests import p_text
    from mirembed.statistics.metrics import metric_named

    tested = test.t_test
    return {
        "A": test.a,
        "B": test.b,
        "metric": metric_named(test.metric).label + (f" {test.target}" if test.target else ""),
        "mean of A": test.mean_a,
        "mean of B": test.mean_b,
        "A - B": test.difference,
        "t": tested and f"{tested.statistic:.2f}",
        "p": tested and p_text(tested.p),
        "p (Holm)": p_text(test.p_holm),
        "p (Welch)": p_text(test.p_welch),
        "effect": None if tested is None or tested.effect is None else f"{tested.effect:.2f}",
        "verdict": test.verdict,
    }


def _disagreements(report: Comparison, found: Disagreements) -> str | Table:
    a, b = f"{found.a} (A)", f"{found.b} (B)"
    if isinstance(report.task, Classification):
        title = f"{a} right, {b} wrong: {found.count_a}; the reverse: {found.count_b}"
        columns = ["better", "track", "label", "A predicts", "B predicts", "times"]
    else:
        title = f"{a} closer than {b}: {counted(found.count_a, 'prediction')}; the reverse: {found.count_b}"
        columns = ["better", "track", "target", "truth", "error of A", "error of B"]
    better = [("A", one) for one in found.better_a] + [("B", one) for one in found.better_b]
    rows = [[side, *asdict(one).values()] for side, one in better]
    return Table(columns, rows, title) if rows else title


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Run or experiment: a folder, or an unambiguous prefix of a name in the store."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Output folder. Default: the folder report inside the run.")
    ] = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    json: options.Json = False,
) -> None:
    """Write the report of a run: an HTML page, figures (PNG, SVG) and tables (CSV, LaTeX).

    For an unfinished run, it covers the folds finished so far.
    """
    with interruptible():
        from mirembed.reports.report import write_report
        from mirembed.runs.summary import find_run

    say_when_interrupted(STARTS_OVER)
    folder = find_run(Store(store).runs, run).folder
    with ConsoleProgress() as progress:
        written = write_report(folder, out, options.discover(), progress)
    for line in written.progress:
        typer.echo(line, err=True)
    n_figures, n_tables = len(written.figures) // 2, len(written.tables) // 2  # each is written in two formats
    beside = f"{counted(n_figures, 'figure')} and {counted(n_tables, 'table')} beside it"
    print_result(json, lambda: asdict(written), [f"report: {written.page}", beside])
