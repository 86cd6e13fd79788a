"""Learning curves: scores on the test folds, and training losses, by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mirembed.config.approaches import Method
from mirembed.config.selection import EPOCH
from mirembed.reports import style
from mirembed.reports.page import Cell, Section, Table
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import Line, column_names, fold_scores, line_label, lines
from mirembed.runs.tables import TRAINED, network_of, table_rows
from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import metric_named, metrics_for
from mirembed.store.root import slug

_Curve = Mapping[int, Mapping[Line, Interval]]
"""Scores of a method by epoch and line: means over the folds with 95 % intervals."""

_MANY_TARGETS = 12
"""With more targets or tags than this, curves are drawn of their mean alone."""

_FEW_CURVES = 2
"""Bands of more curves than this would hide each other; instead, each curve has its interval at its end."""


def curves_section(run: RunRecord) -> Section:
    """Return the learning curves; until anything is scored, only the losses."""
    losses = _loss_figures(run)
    curves = _learning_curves(run)
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    if len(epochs) < 2:
        if EPOCH in run.configuration["select"]:
            note = "Each fold chose its epoch, and no two epochs were reached in all folds, so there are no curves."
            return Section("Learning curves", [note], figures=losses)
        note = "Only epoch {} was scored, so there are no curves; --checkpoint-every N scores every N epochs."
        return Section("Learning curves", [note.format(epoch) for epoch in epochs], figures=losses)
    note = (
        f"Scores on the test folds at each checkpoint, with the learner fitted anew: {_describe_mean(run)}. A hollow "
        f"marker is the best point of its curve. It was chosen on the test data, so results are {_results(run)}."
    )
    if any(not method.approach.trains for method in run.methods):
        note += " Horizontal lines are methods that train no network of their own."
    if sum(method.approach.trains for method in run.first_methods) > _FEW_CURVES:
        note += " Click a name below a figure to show the intervals of its curve."
    with style.styled():
        figures = _curve_figures(run, curves)
    return Section("Learning curves", [note], figures=[*figures, *losses], folded_tables=[_curve_table(run, curves)])


def _learning_curves(run: RunRecord) -> dict[str, _Curve]:
    """Return the curve of each method, in every metric of predictions."""
    metrics = [metric.name for metric in metrics_for(run.task) if metric.source == "predictions"]
    return {
        method: {
            epoch: {
                line: run.over_folds(line, values, predictions)
                for line, values in fold_scores(predictions, run.task, metrics).items()
            }
            for epoch, predictions in by_epoch.items()
        }
        for method, by_epoch in run.checkpoints.items()
    }


def _curve_table(run: RunRecord, curves: Mapping[str, _Curve]) -> Table:
    """Return the last and the best point of each curve; all points in the CSV."""
    headline = lines(run.task, run.headline)[0]
    rows = []
    for method, curve in curves.items():
        last, top = max(curve), _best(curve, headline)
        at_last, at_top = (Cell.of(curve[epoch][headline]) for epoch in (last, top))
        rows.append([Cell(method), Cell(str(last)), at_last, Cell(str(top)), at_top])
    records = [
        {"method": method, "epoch": epoch, "metric": line[0], "target": line[1], **asdict(interval)}
        for method, curve in curves.items()
        for epoch, by_line in curve.items()
        for line, interval in by_line.items()
    ]
    metric = metric_named(headline[0]).label
    return Table(
        "curves",
        "Last and best points of the curves",
        "Scores on the test folds. The best point is chosen on the test data: it is not a result, and nothing else "
        "in this report uses it.",
        ["method", "last epoch", metric, "epoch of the best", f"best {metric} (chosen on the test data)"],
        rows,
        records,
    )


def _best(curve: _Curve, line: Line) -> int:
    """Return the epoch with the best mean, the earliest if several share it; the first if none is defined."""
    sign = 1 if metric_named(line[0]).higher_is_better else -1

    def height(epoch: int) -> float:
        mean = curve[epoch][line].mean
        return -np.inf if mean is None else sign * mean

    return max(curve, key=lambda epoch: (height(epoch), -epoch))


def _curve_figures(run: RunRecord, curves: Mapping[str, _Curve]) -> list[style.Figure]:
    """Draw the curves of the headline for each learner; if there is only one, those of each target too."""
    headline, *others = lines(run.task, run.headline)
    if len(column_names(run.task)) > _MANY_TARGETS:
        others = []
    trained = [method for method in run.methods if method.name in curves]
    if len(run.learners) < 2:
        names = {headline: "curve"} | {line: f"curve-{slug(line[1])}" for line in others if line[1] is not None}
        return [
            _draw(run, curves, trained, line, name, f"Learning curves: {line_label(line)}")
            for line, name in names.items()
        ]
    by_learner = {name: [m for m in trained if m.learner is None or str(m.learner) == name] for name in run.learners}
    return [
        _draw(run, curves, methods, headline, f"curve-{slug(learner)}", f"Learning curves with {learner}")
        for learner, methods in by_learner.items()
        if methods
    ]


def _draw(
    run: RunRecord, curves: Mapping[str, _Curve], methods: Sequence[Method], line: Line, name: str, title: str
) -> style.Figure:
    """Draw one line of the table of scores at each checkpoint, for the methods of one learner."""
    positions = _positions(run)
    figure, axes = style.axes()
    bands = len(methods) <= _FEW_CURVES
    for method in methods:
        curve, position = curves[method.name], positions[method.label]
        intervals = [by_line[line] for by_line in curve.values()]
        style.draw_curve(axes, list(curve), intervals, position, method.label, band=bands)
        top = _best(curve, line)
        at_top = curve[top][line].mean
        hollow: dict[str, Any] = {"markerfacecolor": style.PAPER, "markersize": 6.5, "zorder": 4}
        hollow["gid"] = f"best-{position}"
        if at_top is not None:
            axes.plot([top], [at_top], style.marker(position), color=style.color(position), **hollow)
    if not bands:
        epochs = [epoch for method in methods for epoch in curves[method.name]]
        ends = {positions[method.label]: list(curves[method.name].values())[-1][line] for method in methods}
        style.draw_last_intervals(axes, max(epochs), max(epochs) - min(epochs), ends)
    learner = next((method.learner for method in methods if method.learner is not None), None)
    untrained = [m for m in run.methods if not m.approach.trains and m.learner in (learner, None)]
    for number, method in enumerate(untrained, 1):
        mean = run.interval(method.name, line).mean
        if mean is None:
            continue
        axes.axhline(mean, color=style.INK, linewidth=0.9, linestyle=style.dashes(number), label=method.label)
    axes.set(xlabel="epoch", ylabel=metric_named(line[0]).label)
    axes.locator_params(axis="x", integer=True)
    style.keep_in_range(axes, metric_named(line[0]))
    style.legend(figure)
    shown = ""
    if run.n_folds > 1:
        shown = ", with its 95 % interval as a band" if bands else "; at the right, 95 % intervals after the last epoch"
    caption = f"{_describe_mean(run).capitalize()}{shown}. Hollow: the best point, chosen on the test data."
    return style.draw(figure, name, title, caption)


def _loss_figures(run: RunRecord) -> list[style.Figure]:
    """Draw the training loss of each network; no figure before the first training is finished."""
    curves = _losses(run)
    if not curves:
        return []
    positions = _positions(run)
    bands = len(curves) <= _FEW_CURVES
    with style.styled():
        figure, axes = style.axes()
        for labels, (epochs, ranges) in curves.items():
            style.draw_curve(axes, epochs, ranges, positions[labels[0]], ", ".join(labels), band=bands)
        axes.set(xlabel="epoch", ylabel="loss per track")
        axes.locator_params(axis="x", integer=True)
        style.log_axis(axes)
        style.legend(figure)
        caption = f"Mean over the folds{', with a band from the lowest to the highest fold' if bands else ''}."
        if len(curves) > 1:
            caption += " Approaches have different losses, so their heights cannot be compared."
        if EPOCH in run.configuration["select"]:
            caption += " Later epochs are those of the folds that reached them."
        return [style.draw(figure, "loss", "Training loss", caption)]


def _losses(run: RunRecord) -> dict[tuple[str, ...], tuple[list[int], list[Interval]]]:
    """Return epochs and losses (mean, lowest and highest fold), by the labels of the methods that share a training."""
    if not len(run.curves):
        return {}
    by_network = {network_of(method): method.label for method in run.methods}
    trained = np.array([by_network[network] for network in table_rows(run.curves, *TRAINED)])
    epochs, losses = run.curves["epoch"].to_numpy(), run.curves["loss"].to_numpy()
    found: dict[tuple[str, ...], tuple[list[int], list[Interval]]] = {}
    for label in _positions(run):
        rows = trained == label
        if not rows.any():
            continue
        steps = np.unique(epochs[rows])
        values = [losses[rows & (epochs == step)] for step in steps]
        curve = steps.tolist(), [Interval(one.mean(), one.min(), one.max()) for one in values]
        # nn and fl have one network, unless each chose its own.
        shared = next((labels for labels, other in found.items() if other == curve), ())
        found.pop(shared, None)
        found[*shared, label] = curve
    return found


def _results(run: RunRecord) -> str:
    """Say of which epoch the results of the run are."""
    return (
        "those of the epoch that was chosen in each fold"
        if EPOCH in run.configuration["select"]
        else ("always those of the last epoch")
    )


def _describe_mean(run: RunRecord) -> str:
    return "mean over the folds" if run.n_folds > 1 else "scores on a single fold"


def _positions(run: RunRecord) -> dict[str, int]:
    """Return the position of each trained network, which determines its color, marker and line style."""
    labels = dict.fromkeys(method.label for method in run.methods if method.approach.trains)
    return {label: position for position, label in enumerate(labels)}
