"""The scores of a run's methods: over folds, pooled, and by class, tag or target; and where they are undefined."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from mirembed.compare.families import Family
from mirembed.compare.paired_tests import best_of
from mirembed.config.approaches import Method, columns
from mirembed.hookspecs import Classification, Regression
from mirembed.reports.captions import best_marks, describe_means, first_learner
from mirembed.reports.comparisons import declared_tests
from mirembed.reports.page import Cell, Section, Table
from mirembed.reports.predictions import predictions_of
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import Line, Scores, all_lines, column_kind, column_names, line_label, lines
from mirembed.runs.summary import describe_chance
from mirembed.runs.tables import TRAINED, network_of
from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import Metric, metric_named, metrics_for

_FEW_LINES = 3
"""Up to so many metrics are columns of the table of scores, which then fits a phone; methods are its rows."""

_FEW_COLUMNS = 12
"""The table by class or tag is open up to so many of them."""


def scores_section(run: RunRecord, families: Sequence[Family]) -> Section:
    """Return the tables of scores, below the chance level."""
    shown = _shown_lines(run)
    compared = {name for name, _ in shown}
    title = metric_named(run.headline).title if len(compared) == 1 else "Scores"
    table = _table_by_line(run, "scores", f"{title} of each method", shown, best_of(declared_tests(families)))
    folded = [_metrics_table(run), _pooled_table(run), *_undefined_tables(run)]
    chance = describe_chance(run.headline, run.configuration["chance"])
    return Section("Scores", [chance], tables=[table], folded_tables=folded)


def columns_section(run: RunRecord) -> Section:
    """Return the scores and the predictions of each class, tag or target."""
    kind = column_kind(run.task)
    figures, counts = predictions_of(run)
    tables = _tables_by_column(run, _shown_lines(run))
    shown = tables if kind != "target" and len(column_names(run.task)) <= _FEW_COLUMNS else []
    folded = [table for table in tables if table not in shown]
    return Section(f"By {kind}", tables=shown, figures=figures, folded_tables=[*folded, *counts])


def _shown_lines(run: RunRecord) -> list[Line]:
    """Return the lines of the table of scores; those by class or tag have tables of their own."""
    shown = lines(run.task, run.headline)
    return shown if isinstance(run.task, Regression) else [line for line in shown if line[1] is None]


def retrieval_section(run: RunRecord) -> Section:
    """Return how well the neighbors of test tracks suit them; empty if no method has an embedding."""
    methods = _embedded(run)
    metrics = [metric for metric in metrics_for(run.task) if metric.source == "retrieval"]
    wanted: list[Line] = [(metric.name, None) for metric in metrics]
    if not methods:
        return Section("Retrieval")
    caption = (
        f"{describe_means(run)}. Each test track is a query; the other test tracks of its fold are ranked by the "
        "learned similarity, or by cosine if none was learned. Tracks of the query's own group (artist) are left "
        "out where groups are known. Learners are not used. Hubness: above 1, a few tracks are neighbors of very many."
    )
    by_method = [[(line, run.interval(method.name, line)) for line in wanted] for method in methods]
    labels = [method.label for method in methods]
    named = [one if labels.count(one.label) > 1 else replace(one, name=one.label, learner=None) for one in methods]
    headings = columns(named)
    rows = [
        [*map(Cell, heading_of), *(_score_cell(run, method, line, interval) for line, interval in of_method)]
        for method, of_method, *heading_of in zip(methods, by_method, *headings.values(), strict=True)
    ]
    records = [
        _record(line, method, interval)
        for method, of_method in zip(methods, by_method, strict=True)
        for line, interval in of_method
    ]
    names = [*headings, *(metric.label for metric in metrics)]
    return Section("Retrieval", tables=[Table("retrieval", "Neighbors of test tracks", caption, names, rows, records)])


def _embedded(run: RunRecord) -> list[Method]:
    """Return the methods with an embedding; of those that share one, the first."""
    found: list[Method] = []
    for method in run.methods:
        one = run.predictions[method.name].retrieval
        others = [run.predictions[other.name].retrieval for other in found if other.label == method.label]
        if one is not None and not any(_same(one, other) for other in others if other is not None):
            found.append(method)
    return found


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def _table_by_line(run: RunRecord, name: str, title: str, shown: Sequence[Line], best: Collection[str]) -> Table:
    methods = run.first_methods
    cells: dict[Line, list[Cell]] = {}
    records = []
    for line in shown:
        cells[line] = []
        for method in methods:
            interval, is_best = run.interval(method.name, line), line == (run.headline, None) and method.name in best
            cells[line].append(_score_cell(run, method, line, interval, best=is_best))
            records.append(_record(line, method, interval) | {"best": is_best})
    marks = best_marks(any(record["best"] for record in records))
    caption = f"{describe_means(run)}.{marks}{first_learner(run)}"
    labels = [line_label(line) for line in shown]
    headings = columns(methods)
    if len(headings) > 1 or len(shown) <= _FEW_LINES:
        of_methods = zip(*headings.values(), *cells.values(), strict=True)
        rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in of_methods]
        return Table(name, title, caption, [*headings, *labels], rows, records)
    first = "target" if len({metric for metric, _ in shown}) == 1 else "metric"
    rows = [[Cell(label), *of_line] for label, of_line in zip(labels, cells.values(), strict=True)]
    return Table(name, title, caption, [first, *(method.name for method in methods)], rows, records)


def _tables_by_column(run: RunRecord, shown: Collection[Line]) -> list[Table]:
    """Return a table of each metric that has a value for each class, tag or target and is not ``shown`` yet."""
    by_metric: dict[str, list[str]] = {}
    for line in all_lines(run.task, run.headline):
        if line[1] is not None and line not in shown:
            by_metric.setdefault(line[0], []).append(line[1])
    return [_table_by_column(run, metric_named(name), parts) for name, parts in by_metric.items()]


def _table_by_column(run: RunRecord, metric: Metric, parts: Sequence[str]) -> Table:
    methods, counts = run.first_methods, tracks_by_column(run)
    rows, records = [], []
    for part in parts:
        row = [Cell(part), *([Cell(str(counts[part]))] if counts else [])]
        for method in methods:
            interval = run.interval(method.name, (metric.name, part))
            row.append(_score_cell(run, method, (metric.name, part), interval))
            counted_in = {"tracks": counts[part]} if counts else {}
            records.append(_record((metric.name, part), method, interval) | counted_in)
        rows.append(row)
    heading = str(metric.column)
    plural = "classes" if heading == "class" else f"{heading}s"
    of = f" Tracks: those of the {heading} that are tested." if counts else ""
    caption = f"{describe_means(run)}.{of} Nothing is marked: tests of single {plural} are exploratory."
    names = [heading, *(["tracks"] if counts else []), *(method.name for method in methods)]
    title = f"{metric.title} of each {heading}"
    return Table(f"scores-{metric.name}", title, caption + first_learner(run), names, rows, records)


def tracks_by_column(run: RunRecord) -> dict[str, int]:
    """Return how many of the tested tracks have each class or tag; empty for targets."""
    if isinstance(run.task, Regression):
        return {}
    first = next(iter(run.predictions.values()))
    names = column_names(run.task)
    truth = first.truth[np.unique(first.ids, return_index=True)[1]]  # each track once
    if isinstance(run.task, Classification):
        truth = truth == np.arange(len(names))  # [n_tracks, n_classes]
    return dict(zip(names, truth.sum(axis=0).tolist(), strict=True))


def _metrics_table(run: RunRecord) -> Table:
    """Return all metrics of the predictions of each method, means over the folds."""
    cells = {
        method.name: [
            _score_cell(run, method, line, run.interval(method.name, line)) for line in _means_of_predictions(run)
        ]
        for method in run.methods
    }
    caption = (
        f"{describe_means(run)}, cut to the range of each metric. The CSV file also has every class, tag or target."
    )
    return _table_by_method(run, "metrics", "All metrics", caption, cells, "intervals")


def _pooled_table(run: RunRecord) -> Table:
    """Return all metrics of the predictions of all folds together."""
    units = "tracks" if run.groups is None else "groups"
    several = ", means over the seeds," if run.n_seeds > 1 else ""
    caption = (
        f"Metrics of the predictions of all folds together{several} with 95 % bootstrap intervals over {units}. "
        "Methods are compared by their means over the folds."
    )
    cells = {
        one.method: [Cell.of(one.pooled[line]) for line in _means_of_predictions(run)] for one in _ordered_scores(run)
    }
    return _table_by_method(run, "pooled", "All metrics, pooled", caption, cells, "pooled")


def _table_by_method(
    run: RunRecord, name: str, title: str, caption: str, cells: Mapping[str, Sequence[Cell]], attribute: str
) -> Table:
    headings = columns(run.methods)
    if len(headings) == 1:
        headings = {"method": [method.name for method in run.methods]}
    labels = [metric_named(metric).label for metric, _ in _means_of_predictions(run)]
    rows = [
        [*map(Cell, heading_of), *cells[method.name]]
        for method, *heading_of in zip(run.methods, *headings.values(), strict=True)
    ]
    records = [
        _record(line, method, interval)
        for method, one in zip(run.methods, _ordered_scores(run), strict=True)
        for line, interval in getattr(one, attribute).items()
    ]
    return Table(name, title, caption, [*headings, *labels], rows, records)


def _means_of_predictions(run: RunRecord) -> list[Line]:
    """Return the lines of all means that are computed from predictions."""
    found = all_lines(run.task, run.headline)
    return [line for line in found if line[1] is None and metric_named(line[0]).source == "predictions"]


def _ordered_scores(run: RunRecord) -> list[Scores]:
    by_method = {one.method: one for one in run.scores}
    return [by_method[method.name] for method in run.methods]


def _undefined_tables(run: RunRecord) -> list[Table]:
    """Return the table of scores that are undefined, if there are any."""
    rows, records = [], []
    n_columns = len(column_names(run.task))
    for one in _ordered_scores(run):
        for name, reasons in one.undefined.items():
            metric = metric_named(name)
            scores = run.n_parts if run.finished else len(run.predictions[one.method].parts)
            total = scores * (n_columns if metric.column else 1)
            for reason, count in reasons.items():
                rows.append([Cell(one.method), Cell(metric.label), Cell(reason), Cell(str(count)), Cell(str(total))])
                records.append(
                    {"method": one.method, "metric": name, "reason": reason, "undefined": count, "of": total}
                )
    caption = "In how many folds (and classes, tags or targets) a score is undefined, and why. Means leave these out."
    names = ["method", "metric", "reason", "undefined", "of"]
    return [Table("undefined", "Undefined scores", caption, names, rows, records)] if rows else []


def _score_cell(run: RunRecord, method: Method, line: Line, interval: Interval, *, best: bool = False) -> Cell:
    """Return a cell that shows a mean, its interval and how many scores were left out because they are undefined."""
    cell = Cell.of(interval, best=best)
    if interval.mean is None:
        return cell
    missing = _n_undefined(run, method.name, line)
    details = [*([cell.detail] if cell.detail else []), *([f"{missing} undefined"] if missing else [])]
    return Cell(cell.text, ", ".join(details), best)


def _n_undefined(run: RunRecord, method: str, line: Line) -> int:
    name, part = line
    scores = run.fold_scores[method]
    of_line = [line] if part is not None else [one for one in scores if one[0] == name and one[1] is not None]
    return sum(int(np.isnan(scores[one]).sum()) for one in of_line or [line])


def _record(line: Line, method: Method, interval: Interval) -> dict[str, Any]:
    parts = dict(zip(TRAINED, network_of(method), strict=True))
    return {"method": method.name, **parts, "metric": line[0], "target": line[1], **asdict(interval)}
