"""What a grid says of all its runs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from mirembed.compare import best_of, corrected, n_tested
from mirembed.config.approaches import Method
from mirembed.progress import counted
from mirembed.reports.contents import dataset_table
from mirembed.reports.page import Section
from mirembed.reports.scoring import RunScores
from mirembed.reports.tables import Cell, Table, interval_record
from mirembed.runs.scores import lines
from mirembed.statistics import metric_named

_Column: TypeAlias = tuple[str, str | None]
"""An approach and its learner. The name of a method depends on how many learners its run has."""


def overview_sections(all_scores: Sequence[RunScores], n_runs: int) -> list[Section]:
    """Return the table of datasets, and the scores of all methods on each; ``n_runs`` counts those to come too."""
    if not all_scores:
        return []
    datasets = _named(dataset_table([scores.run for scores in all_scores]), all_scores)
    return [Section("Datasets", tables=[datasets]), Section("Scores", tables=[_scores_table(all_scores, n_runs)])]


def _named(table: Table, all_scores: Sequence[RunScores]) -> Table:
    """Begin each row of a table, which is of a run, with the run's name."""
    names = [scores.run.folder.name for scores in all_scores]
    rows = [[Cell(name), *row] for name, row in zip(names, table.rows, strict=True)]
    records = [{"run": name, **record} for name, record in zip(names, table.records, strict=True)]
    return replace(table, columns=["run", *table.columns], rows=rows, records=records)


def _scores_table(all_scores: Sequence[RunScores], n_runs: int) -> Table:
    """Lines are runs, columns methods; the best of a line is marked after correction over all tests of the table."""
    best, n_tests = _best(all_scores)
    columns = _columns(all_scores)
    rows, records = [], []
    for scores in all_scores:
        run, line = scores.run, lines(scores.run.task)[0]
        methods = {_column(method): method.name for method in run.first_methods if scores.by_fold}
        unfinished = "" if run.finished else " (going on)"
        cells = [
            Cell(run.folder.name),
            Cell(f"{run.configuration['dataset']['spec']}{unfinished}"),
            Cell(metric_named(line[0]).label),
        ]
        for column, label in columns.items():
            if column not in methods:
                cells.append(Cell(""))
                continue
            interval, is_best = scores.interval(methods[column], line), methods[column] == best.get(run.folder.name)
            cells.append(Cell.of(interval, best=is_best))
            place = {"run": run.folder.name, "metric": line[0], "method": label}
            by = {"approach": column[0], "learner": column[1]}
            records.append({**place, **by, **interval_record(interval), "best": is_best})
        rows.append(cells)
    several = any(scores.run.n_folds > 1 for scores in all_scores)
    means = "Means over the folds with 95 % intervals after Nadeau and Bengio" if several else "Scores in single folds"
    missing = f" {n_runs - len(all_scores)} of {n_runs} runs have not begun." if len(all_scores) < n_runs else ""
    return Table(
        "overview",
        "Scores of each method on each dataset",
        f"{means}; each approach with the first learner of its run. A mark and bold type: better than every other "
        f"method of the line, baselines included, after Holm's correction over the {counted(n_tests, 'test')} of this "
        f"table: all pairs of methods in each line.{missing}",
        ["run", "dataset", "metric", *columns.values()],
        rows,
        records,
    )


def _best(all_scores: Sequence[RunScores]) -> tuple[dict[str, str | None], int]:
    """Return the best method of each run, where there is one, and the number of tests that the correction is over."""
    family = [
        (scores.run.folder.name, test)
        for scores in all_scores
        for test in scores.tests
        if (test.metric, test.target) == lines(scores.run.task)[0]
    ]
    tests = corrected(test for _, test in family)
    best = {}
    for scores in all_scores:
        run = scores.run
        of_run = [test for (name, _), test in zip(family, tests, strict=True) if name == run.folder.name]
        best[run.folder.name] = best_of(of_run, len(run.first_methods)).get(lines(run.task)[0])
    return best, n_tested(tests)


def _columns(all_scores: Sequence[RunScores]) -> Mapping[_Column, str]:
    """Return the columns with their labels: the approach alone where no run has it with another learner."""
    found = [_column(method) for scores in all_scores if scores.by_fold for method in scores.run.first_methods]
    columns = list(dict.fromkeys(found))
    approaches = [approach for approach, _ in columns]
    return {
        (approach, learner): approach if approaches.count(approach) == 1 else f"{approach}+{learner}"
        for approach, learner in columns
    }


def _column(method: Method) -> _Column:
    return method.approach.name, None if method.learner is None else str(method.learner)
