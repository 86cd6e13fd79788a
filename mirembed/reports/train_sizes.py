"""Learning curves over training tracks: the runs of an experiment that differ only in their train size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from mirembed.reports import style
from mirembed.reports.page import Cell, Section, Table
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import Line
from mirembed.statistics.metrics import metric_named

_FOLLOWS = ("train_size", "n_train", "n_used", "chance", "folds_digest")
"""Entries of a run's configuration that differ with the train size."""


def train_sizes_section(runs: Sequence[RunRecord]) -> Section:
    """Return the scores over the number of training tracks; empty unless runs differ only in that."""
    alike: dict[str, list[RunRecord]] = {}
    for run in runs:
        if run.predictions:
            alike.setdefault(_all_but_size(run), []).append(run)
    groups = [sorted(group, key=lambda run: run.n_train) for group in alike.values() if len(group) > 1]
    if not groups:
        return Section("Training tracks")
    names = [f"train-sizes{f'-{number}' if len(groups) > 1 else ''}" for number in range(1, len(groups) + 1)]
    about = (
        "Scores by the number of training tracks. All sizes are tested on the same tracks, and the training tracks of "
        "a size include those of smaller sizes. A band is the 95 % interval over the folds."
    )
    with style.styled():
        figures = [_draw(name, group) for name, group in zip(names, groups, strict=True)]
    tables = [_table(name, group) for name, group in zip(names, groups, strict=True)]
    return Section("Training tracks", [about], tables=tables, figures=figures)


def _all_but_size(run: RunRecord) -> str:
    """Return everything that decides the numbers of a run, but its train size, as text."""
    kept = {name: value for name, value in run.configuration.items() if name not in _FOLLOWS}
    return json.dumps([kept, run.tests], sort_keys=True)


def _line(run: RunRecord) -> Line:
    return run.headline, None


def _draw(name: str, runs: Sequence[RunRecord]) -> style.Figure:
    first = runs[0]
    metric, dataset = metric_named(first.headline), first.configuration["dataset"]["spec"]
    sizes = [run.n_train for run in runs]
    figure, axes = style.axes()
    for position, method in enumerate(first.first_methods):
        intervals = [run.interval(method.name, _line(run)) for run in runs]
        if any(interval.mean is not None for interval in intervals):
            style.draw_curve(axes, sizes, intervals, position, method.label)
    axes.set(xlabel="training tracks of a fold", ylabel=metric.label)
    axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    style.keep_in_range(axes, metric)
    style.legend(figure)
    seeds = f", {first.n_seeds} seeds" if first.n_seeds > 1 else ""
    caption = f"Mean over the folds{seeds}{_unfinished(runs)}."
    return style.draw(figure, name, f"{metric.title} by number of training tracks: {dataset}", caption)


def _unfinished(runs: Sequence[RunRecord]) -> str:
    names = [run.folder.name for run in runs if not run.finished]
    return f"; unfinished: {', '.join(names)}" if names else ""


def _table(name: str, runs: Sequence[RunRecord]) -> Table:
    methods = runs[0].first_methods
    rows, records = [], []
    for run in runs:
        intervals = [run.interval(method.name, _line(run)) for method in methods]
        rows.append([Cell(run.folder.name), Cell(f"{run.train_size:g}"), Cell(f"{run.n_train:.0f}")])
        rows[-1] += map(Cell.of, intervals)
        records += [
            {
                "run": run.folder.name,
                "train_size": run.train_size,
                "n_train": run.n_train,
                "method": method.name,
                "metric": run.headline,
                **asdict(interval),
            }
            for method, interval in zip(methods, intervals, strict=True)
        ]
    spec, metric = runs[0].configuration["dataset"]["spec"], metric_named(runs[0].headline)
    title = f"{metric.title} by number of training tracks: {spec}"
    caption = (
        "Training tracks: the mean over the folds. Means over the folds with 95 % intervals (Nadeau and Bengio); they "
        "are wider for fewer training tracks. Sizes are not tested against each other here: see mirembed compare."
    )
    names = ["run", "train size", "training tracks", *(method.label for method in methods)]
    return Table(name, title, caption, names, rows, records)
