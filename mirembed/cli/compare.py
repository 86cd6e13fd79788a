"""``mirembed compare``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirembed.cli import options
from mirembed.hookspecs import Classification
from mirembed.progress import counted

if TYPE_CHECKING:
    from mirembed.compare import Comparison, Disagreements, PairedTest


_TOP = 10
"""Tracks to list per approach, by default."""


def compare(
    run_a: Annotated[
        str,
        typer.Argument(metavar="RUN_A", help="Run: a folder, or an unambiguous prefix of a name in the store."),
    ],
    run_b: Annotated[str | None, typer.Argument(metavar="RUN_B", help="A second run.")] = None,
    approach: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Approaches to compare; repeatable. With two runs: one in both, or one in each. Default: all.",
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
    """Compare the approaches of one run, or of two runs on the same folds: which is better, and on which tracks.

    Tests the paired differences over the folds (Nadeau & Bengio), corrected for all tests of the run (Holm).
    """
    from mirembed.cli.output import print_json
    from mirembed.compare import compare as run
    from mirembed.runs import open_run
    from mirembed.store import Store

    runs = Store(store).runs
    first = open_run(runs, run_a)
    second = None if run_b is None else open_run(runs, run_b)
    report = run(first, second, approach or [], _TOP if top is None else top)
    if json:
        print_json(report.to_json())
        return
    _print_tests(report)
    several = top is None and len(report.disagreements) > 1
    for found in report.disagreements:
        if several:
            _print_mcnemar(found)
        else:
            _print_disagreements(report, found)
    if several:
        typer.echo(f"--top {_TOP} lists the tracks on which each pair disagrees")


def _print_tests(report: Comparison) -> None:
    from mirembed.cli.output import print_table

    kind = "random split" if report.repeated else "fold"
    runs = report.a.name if report.a == report.b else f"A: {report.a.name}, B: {report.b.name}"
    columns = ["A", "B", "metric", "mean of A", "mean of B", "A - B", "t", "p", "p (Holm)", "effect", "verdict"]
    rows = [_row(test) for test in report.tests]
    if any(test.p_welch is not None for test in report.tests):
        columns.insert(-2, "p (Welch)")
        rows = [
            [*row[:-2], "" if test.p_welch is None else _p_value(test.p_welch), *row[-2:]]
            for row, test in zip(rows, report.tests, strict=True)
        ]
    print_table(columns, rows, f"{runs}: {counted(report.n_folds, kind)}")
    if any(test.t_test is not None for test in report.tests):
        typer.echo(
            "Paired over the folds; 95 % intervals and t-tests: Nadeau & Bengio; effect: Hedges' g of the paired "
            "differences."
        )
        typer.echo(_family(report))
    if "p (Welch)" in columns:
        typer.echo(
            "Welch's test is the paper's. Unpaired and uncorrected, it treats overlapping splits as independent and "
            "finds too many differences; the verdicts do not use it."
        )
    for name, (one, other) in report.settings.items():
        typer.echo(f"the runs differ in {name}: {one} and {other}")
    for note in report.notes:
        typer.echo(note)


def _family(report: Comparison) -> str:
    n_shown, over = len(report.disagreements), counted(report.n_tested, "test")
    if n_shown == report.n_pairs:
        return f"Holm correction over {over}."
    return f"Shown: {n_shown} of {report.n_pairs} pairs; Holm correction over all {over} of the run."


def _row(test: PairedTest) -> list[str]:
    from mirembed.statistics.metrics import metric_named

    metric = metric_named(test.metric).label + (f" {test.target}" if test.target else "")
    cells = [test.a, test.b, metric, f"{test.mean_a:.3f}", f"{test.mean_b:.3f}", str(test.difference)]
    if test.t_test is None or test.p_holm is None:
        return [*cells, "", "", "", "", test.verdict]
    tested = test.t_test
    effect = "" if tested.effect is None else f"{tested.effect:.2f}"
    p_values = [_p_value(tested.p), _p_value(test.p_holm)]
    return [*cells, f"{tested.statistic:.2f}", *p_values, effect, test.verdict]


def _p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _print_disagreements(report: Comparison, found: Disagreements) -> None:
    from mirembed.cli.output import print_table

    a, b = f"{found.a} (A)", f"{found.b} (B)"
    if isinstance(report.task, Classification):
        title = f"{a} right, {b} wrong: {found.count_a}; the reverse: {found.count_b}"
        columns = ["better", "track", "label", "A predicts", "B predicts", "times"]
    else:
        title = f"{a} closer than {b}: {counted(found.count_a, 'prediction')}; the reverse: {found.count_b}"
        columns = ["better", "track", "target", "truth", "error of A", "error of B"]
    better = [("A", one) for one in found.better_a] + [("B", one) for one in found.better_b]
    rows = [[side, *(_cell(value) for value in asdict(one).values())] for side, one in better]
    if rows:
        print_table(columns, rows, title)
    else:
        typer.echo(title)
    _print_mcnemar(found)


def _print_mcnemar(found: Disagreements) -> None:
    if found.mcnemar_p is not None:
        typer.echo(
            f"McNemar's exact test over the tracks of the two fitted models {found.a} (A) and {found.b} (B): "
            f"p (Holm) {_p_value(found.mcnemar_p)}"
        )


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
