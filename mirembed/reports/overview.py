"""What a grid says of all its runs together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mirembed.reports.contents import dataset_table, title
from mirembed.reports.page import Section
from mirembed.reports.scoring import LABELS, RunScores, best_of, lines
from mirembed.reports.tables import Cell, Table, interval_record
from mirembed.statistics import holm


def overview_sections(all_scores: Sequence[RunScores], n_runs: int) -> list[Section]:
    """Return the table of datasets, and the scores of all methods on each; ``n_runs`` counts those to come too."""
    if not all_scores:
        return []
    datasets = dataset_table([scores.run for scores in all_scores])
    return [Section("Datasets", tables=[datasets]), Section("Scores", tables=[_scores_table(all_scores, n_runs)])]


def _scores_table(all_scores: Sequence[RunScores], n_runs: int) -> Table:
    """Lines are runs, columns methods; the best of a line is marked after correction over all tests of the table."""
    tests = [
        [test for test in scores.tests if (test.metric, test.target) == lines(scores.run.task)[0]]
        for scores in all_scores
    ]
    p_values = [test.comparison.p for of_run in tests for test in of_run if test.comparison is not None]
    corrected = iter(holm(p_values).tolist() if p_values else [])
    methods = list(dict.fromkeys(method for scores in all_scores for method in scores.by_fold))
    rows, records = [], []
    for scores, of_run in zip(all_scores, tests, strict=True):
        line = lines(scores.run.task)[0]
        retested = [replace(t, p_holm=next(corrected) if t.comparison is not None else None) for t in of_run]
        best = best_of(retested, len(scores.by_fold)).get(line)
        unfinished = "" if scores.run.finished else " (going on)"
        cells = [Cell(f"{title(scores.run)}{unfinished}"), Cell(LABELS[line[0]])]
        for method in methods:
            if method not in scores.by_fold:
                cells.append(Cell(""))
                continue
            interval = scores.interval(method, line)
            cells.append(Cell.of(interval, best=method == best))
            place = {"run": scores.run.folder.name, "metric": line[0], "method": method}
            records.append({**place, **interval_record(interval), "best": method == best})
        rows.append(cells)
    missing = f" {n_runs - len(all_scores)} of {n_runs} runs have not begun." if len(all_scores) < n_runs else ""
    return Table(
        "overview",
        "Scores of each method on each dataset",
        "Means over the folds with 95 % intervals after Nadeau and Bengio. A mark and bold type: better than every "
        f"other method of the line after Holm's correction over the {len(p_values)} tests of this table.{missing}",
        ["run", "metric", *methods],
        rows,
        records,
    )
