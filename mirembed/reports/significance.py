"""The tables of tests between methods; each is corrected over its own tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mirembed.compare import PairedTest, n_tested
from mirembed.progress import counted
from mirembed.reports.score_tables import first_learners
from mirembed.reports.scoring import RunScores
from mirembed.reports.tables import Cell, Table, p_value
from mirembed.runs.scores import lines
from mirembed.statistics import metric_named


def significance_table(scores: RunScores) -> Table | None:
    """Return the tests behind the table of scores, headline first; nothing of a run that is going on."""
    in_order = lines(scores.run.task)
    tests = sorted(scores.tests, key=lambda test: in_order.index((test.metric, test.target)))
    said = f"every pair of methods of the table of scores, on each of its lines.{first_learners(scores.run)}"
    return _table(scores, "significance", "Differences between methods", tests, said) if tests else None


def kernel_tests(scores: RunScores) -> Table | None:
    """Return the tests between methods that share a network; None of a run with a single learner."""
    said = f"every pair of learners on each network, of {metric_named(lines(scores.run.task)[0][0]).label}."
    found = scores.kernel_tests
    return _table(scores, "kernels-significance", "The same network, another kernel", found, said) if found else None


def _table(scores: RunScores, name: str, title: str, tests: Sequence[PairedTest], family: str) -> Table:
    several = len({(test.metric, test.target) for test in tests}) > 1
    welch = scores.run.repeated
    caption = _caption(tests, family)
    if welch and n_tested(tests):
        caption += (
            " Welch's test is the paper's: it takes overlapping splits for independent, announces too many "
            "differences, and decides nothing here."
        )
    columns = [
        "A",
        "B",
        *(["of"] if several else []),
        "A - B",
        "p (Holm)",
        "verdict",
        "mean of A",
        "mean of B",
        "t",
        "p",
    ]
    rows = [_row(test, several, welch) for test in tests]
    records = [_record(test) for test in tests]
    return Table(name, title, caption, [*columns, *(["p (Welch)"] if welch else []), "effect"], rows, records)


def _caption(tests: Sequence[PairedTest], family: str) -> str:
    tested = n_tested(tests)
    if not tested:
        return (
            "Nothing is tested: a single split, or a difference that is the same in all folds, leaves nothing to "
            "estimate the error from."
        )
    caption = (
        "Paired over the folds: 95 % intervals and t-tests after Nadeau and Bengio. Holm's correction is over the "
        f"{counted(tested, 'test')} of this table: {family} Effect: Hedges' g of the paired differences. A difference "
        "that is not significant is no sign that the methods are equal."
    )
    if tested == len(tests):
        return caption
    return (
        f"{caption} Not tested: what has a single split, or differs by the same in all folds, which leaves nothing to "
        "estimate the error from."
    )


def _row(test: PairedTest, several: bool, welch: bool) -> list[Cell]:
    tested = test.t_test
    difference = Cell(f"{test.mean_a - test.mean_b:.3f}") if tested is None else Cell.of(tested.difference)
    return [
        Cell(test.a),
        Cell(test.b),
        *([Cell(test.target or metric_named(test.metric).label)] if several else []),
        difference,
        Cell(p_value(test.p_holm)),
        Cell(verdict(test)),
        Cell(f"{test.mean_a:.3f}"),
        Cell(f"{test.mean_b:.3f}"),
        Cell("" if tested is None else _number(tested.statistic)),
        Cell(p_value(test.p)),
        *([Cell(p_value(test.p_welch))] if welch else []),
        Cell("" if tested is None else _number(tested.effect)),
    ]


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.2f}"


def verdict(test: PairedTest) -> str:
    """Return the verdict with the method's name."""
    return {"A is higher": f"{test.a} is higher", "B is higher": f"{test.b} is higher"}.get(test.verdict, test.verdict)


def _record(test: PairedTest) -> dict[str, object]:
    content = test.to_json()
    difference = content.pop("difference")
    numbers = {f"difference_{key}": difference.get(key) for key in ("mean", "low", "high")}
    return {**content, **numbers, "verdict": verdict(test)}
