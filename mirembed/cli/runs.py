"""``mirembed compare`` and ``report``: what runs have shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, Table, print_result
from mirembed.hookspecs import Regression
from mirembed.interruption import STARTS_OVER, interruptible, say_when_interrupted
from mirembed.progress import counted
from mirembed.store import Store

if TYPE_CHECKING:
    from mirembed.compare.comparison import Comparison
    from mirembed.compare.disagreements import Disagreements
    from mirembed.compare.families import Family
    from mirembed.compare.paired_tests import PairedTest


_TOP = 10
"""Tracks to list per method, by default."""

_MANY_TESTS = 50
"""Of a larger exploratory family, only the significant tests are printed."""


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Runs: folders, or unambiguous prefixes of names in the store."),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Method that the others are compared with. Default: as declared before training; with several runs, "
            "the same method of the first run.",
        ),
    ] = None,
    approach: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help="Show only the pairs of these methods; repeatable. Default: all."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help=f"Tracks to list per method. Default: {_TOP}; with several pairs, {_TOP} in JSON and otherwise none.",
        ),
    ] = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    json: options.Json = False,
) -> None:
    """Compare the methods of a run, or of several runs on the same folds: which is better, and on which tracks.

    Tests the paired differences over the folds (Nadeau & Bengio), corrected for all tests of a family (Holm).
    """
    with interruptible():
        from mirembed.compare.comparison import compare as run
        from mirembed.runs.record import open_run

    folder = Store(store).runs
    opened = [open_run(folder, name) for name in runs]
    report = run(opened, against=against, methods=approach or [], top=_TOP if top is None else top)
    brief = top is None and len(report.disagreements) > 1
    print_result(json, report.to_json, _text(report, brief))


def _text(report: Comparison, brief: bool) -> Iterator[str | Table]:
    """Yield the tests and, unless ``brief``, the tracks on which each pair disagrees."""
    from mirembed.compare.paired_tests import p_text

    yield from _tests(report)
    for found in report.disagreements:
        a, b = (f"{name} ({side})" for name, side in zip(_labels(report, found), "AB", strict=True))
        if not brief:
            yield _disagreements(report, found, a, b)
        if found.mcnemar_p is not None:
            yield (
                f"McNemar's exact test over the tracks of the two fitted models {a} and {b}: p (Holm) "
                f"{p_text(found.mcnemar_p)}"
            )
    if brief:
        yield f"--top {_TOP} lists the tracks on which each pair disagrees"


def _labels(report: Comparison, of: PairedTest | Disagreements) -> tuple[str, str]:
    """Return the names of A and B."""
    return report.label(of.a, of.run_a), report.label(of.b, of.run_b)


def _tests(report: Comparison) -> Iterator[str | Table]:
    kind = counted(report.n_folds, "random split" if report.repeated else "fold")
    if len(report.runs) == 1:
        yield f"{report.runs[0].name}: {kind}"
    else:
        yield f"{len(report.runs)} runs: {kind}"
        yield from (f"run {number}: {run.name}" for number, run in enumerate(report.runs, 1))
    has_welch = any(test.p_welch is not None for test in report.tests)
    for family in report.families:
        yield from _family(report, family, has_welch)
    if any(test.t_test is not None for test in report.tests):
        yield (
            "Paired over the folds; 95 % intervals and t-tests: Nadeau & Bengio; effect: Hedges' g of the paired "
            "differences. Exploratory tests raise questions; only a family that was declared answers one."
        )
    if has_welch:
        yield (
            "Welch's test is the paper's. Unpaired and uncorrected, it treats overlapping splits as independent and "
            "finds too many differences; the verdicts do not use it."
        )
    for name, values in report.settings.items():
        listed = ", ".join(str(value) for value in values[:-1])
        yield f"the runs differ in {name}: {listed} and {values[-1]}"
    yield from report.notes


def _family(report: Comparison, family: Family, has_welch: bool) -> Iterator[str | Table]:
    from mirembed.compare.paired_tests import SIGNIFICANCE

    tests, title = family.tests, family.describe()
    if family.exploratory and len(tests) > _MANY_TESTS:
        tests = tuple(test for test in tests if test.significant)
        title += f"; the {len(tests)} with p (Holm) < {SIGNIFICANCE:g} are listed, and --json has all"
    if not tests:
        yield title
        return
    rows = [_row(report, test) for test in tests]
    if not has_welch:
        for row in rows:
            del row["p (Welch)"]
    yield Table(list(rows[0]), [list(row.values()) for row in rows], title)


def _row(report: Comparison, test: PairedTest) -> dict[str, object]:
    from mirembed.compare.paired_tests import p_text
    from mirembed.statistics.metrics import metric_named

    tested = test.t_test
    a, b = _labels(report, test)
    return {
        "A": a,
        "B": b,
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


def _disagreements(report: Comparison, found: Disagreements, a: str, b: str) -> str | Table:
    if not isinstance(report.task, Regression):
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
    width: Annotated[
        list[float] | None,
        typer.Option(
            metavar="INCHES",
            min=1,
            max=30,
            help="Width of the figures as PDF; repeatable. Default: 3.5 and 7, a column and a page.",
        ),
    ] = None,
    font_size: Annotated[
        float,
        typer.Option(metavar="POINTS", min=3, max=40, help="Size of the text in the figures as PDF."),
    ] = 8.0,
    store: options.StoreFolder = options.DEFAULT_STORE,
    json: options.Json = False,
) -> None:
    """Write the report of a run: an HTML page, figures (PNG, SVG, PDF), tables (CSV, LaTeX) and a methods section.

    For an unfinished run, it covers the folds finished so far.
    """
    import logging

    logging.getLogger("matplotlib").addHandler(logging.NullHandler())  # it warns where it cannot keep a cache
    with interruptible():
        from mirembed.reports.paper import WIDTHS
        from mirembed.reports.report import write_report
        from mirembed.runs.summary import find_run

    say_when_interrupted(STARTS_OVER)
    folder = find_run(Store(store).runs, run).folder
    with ConsoleProgress() as progress:
        written = write_report(
            folder, out, options.discover(), progress, widths=sorted(set(width or WIDTHS)), font_size=font_size
        )
    for line in written.progress:
        typer.echo(line, err=True)
    n_figures, n_tables = (
        sum(path.suffix == suffix for path in found)
        for found, suffix in ((written.figures, ".svg"), (written.tables, ".csv"))
    )
    beside = f"{counted(n_figures, 'figure')}, {counted(n_tables, 'table')} and the methods in words beside it"
    print_result(json, lambda: asdict(written), [f"report: {written.page}", beside])
