"""The table of tests between methods."""

from __future__ import annotations

from collections.abc import Sequence

from mirembed.approaches import Method
from mirembed.compare import PairedTest
from mirembed.reports.scoring import LABELS, RunScores, lines
from mirembed.reports.tables import Cell, Table, p_value


def significance_tables(scores: RunScores) -> list[Table]:
    """Return the tests of the headline metric, and those of all further lines; nothing of a run that is going on."""
    headline = lines(scores.run.task)[0]
    first = [test for test in scores.tests if (test.metric, test.target) == headline]
    others = [test for test in scores.tests if (test.metric, test.target) != headline]
    tables = []
    if first:
        tables.append(_table(scores, "significance", f"Differences in {LABELS[headline[0]]}", first))
    if others:
        tables.append(_table(scores, "significance-all", "Differences in everything else", others))
    return tables


def kernel_tests(scores: RunScores) -> Table | None:
    """Return the tests between methods that share a network; None of a run with a single learner."""
    approaches = {method.name: method for method in scores.run.methods}

    def same_network(a: Method, b: Method) -> bool:
        return a.approach == b.approach and a.learner != b.learner

    headline = lines(scores.run.task)[0]
    found = [
        test
        for test in scores.tests
        if (test.metric, test.target) == headline and same_network(approaches[test.a], approaches[test.b])
    ]
    return _table(scores, "kernels-significance", "The same network, another kernel", found) if found else None


def _table(scores: RunScores, name: str, title: str, tests: Sequence[PairedTest]) -> Table:
    several = len({(test.metric, test.target) for test in tests}) > 1
    welch = scores.run.repeated
    caption = (
        f"Paired over the folds: 95 % intervals and t-tests after Nadeau and Bengio, all {len(scores.tests)} tests of "
        "this run corrected together after Holm. Effect: Hedges' g of the paired differences. A difference that is "
        "not significant is no sign that the methods are equal."
    )
    if welch:
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


def _row(test: PairedTest, several: bool, welch: bool) -> list[Cell]:
    tested = test.comparison
    difference = Cell(f"{test.mean_a - test.mean_b:.3f}") if tested is None else Cell.of(tested.difference)
    return [
        Cell(test.a),
        Cell(test.b),
        *([Cell(test.target or LABELS[test.metric])] if several else []),
        difference,
        Cell(p_value(test.p_holm)),
        Cell(verdict(test)),
        Cell(f"{test.mean_a:.3f}"),
        Cell(f"{test.mean_b:.3f}"),
        Cell("" if tested is None else f"{tested.statistic:.2f}"),
        Cell("" if tested is None else p_value(tested.p)),
        *([Cell(p_value(test.p_welch))] if welch else []),
        Cell("" if tested is None or tested.effect is None else f"{tested.effect:.2f}"),
    ]


def verdict(test: PairedTest) -> str:
    """Return the verdict with the method's name."""
    return {"A is higher": f"{test.a} is higher", "B is higher": f"{test.b} is higher"}.get(test.verdict, test.verdict)


def _record(test: PairedTest) -> dict[str, object]:
    content = test.to_json()
    difference = content.pop("difference")
    numbers = {f"difference_{key}": difference.get(key) for key in ("mean", "low", "high")}
    return {**content, **numbers, "verdict": verdict(test)}
