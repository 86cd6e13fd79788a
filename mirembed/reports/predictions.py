"""Predictions: confusion matrices for classes, and scatter plots of predicted against true values for targets."""

from __future__ import annotations

import numpy as np

from mirembed.config.approaches import Method
from mirembed.hookspecs import Classification, Regression
from mirembed.reports import style
from mirembed.reports.page import Cell, Section, Table
from mirembed.reports.style import Figure
from mirembed.runs.record import RunRecord
from mirembed.statistics.metrics import pearson_r
from mirembed.store.root import slug

_FEW_CLASSES = 12
"""With at most this many classes, the cells of a confusion matrix have room for their counts."""

_MANY_POINTS = 1500
"""With more points than this, a scatter plot stores them as a bitmap."""


def predictions_section(run: RunRecord) -> Section:
    """Return the confusion matrix of each method except chance; for regression, scatter plots of one method."""
    if isinstance(run.task, Regression):
        method = main_method(run)
        return Section("Predictions", figures=[] if method is None else _scatter_figures(run, run.task, method))
    with style.styled():
        confusions = [_confusion(run, run.task, method) for method in _shown_methods(run)]
    figures, tables = [figure for figure, _ in confusions], [table for _, table in confusions]
    return Section("Predictions", figures=figures, folded_tables=tables)


def main_method(run: RunRecord) -> Method | None:
    """Return the method of the first approach that learns a similarity, or else the first that is not chance."""
    methods = _shown_methods(run)
    learned = [method for method in methods if method.approach.similarity is not None]
    return next(iter([*learned, *methods]), None)


def _shown_methods(run: RunRecord) -> list[Method]:
    return [method for method in run.first_methods if method.approach.name != "chance"]


def _confusion(run: RunRecord, task: Classification, method: Method) -> tuple[Figure, Table]:
    """Count a method's predictions, with one row for each true class, as a figure and as a table."""
    predictions, classes = run.predictions[method.name], task.classes
    n_classes = len(classes)
    pairs = predictions.truth[:, 0] * n_classes + predictions.predicted[:, 0]
    counts = np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = style.axes(height=3.9)
    style.draw_cells(axes, shares, (0.0, 1.0), classes, classes)
    if n_classes <= _FEW_CLASSES:
        for (i, j), count in np.ndenumerate(counts):
            style.write_cell(axes, i, j, str(count), shares[i, j])
    axes.set(xlabel="prediction", ylabel="label")
    name, title = f"confusion-{slug(method.label)}", f"Confusion: {method.name}"
    caption = "Predictions for the tracks of each label, counted over all folds and seeds. Shade: share of the label."
    drawn = style.draw(figure, name, title, caption)
    rows = [[Cell(label), *(Cell(str(count)) for count in row)] for label, row in zip(classes, counts, strict=True)]
    records = [
        {"method": method.name, "label": classes[i], "prediction": classes[j], "count": int(count)}
        for (i, j), count in np.ndenumerate(counts)
    ]
    caption = "Rows: labels. Columns: predictions. Counts over all folds and seeds."
    return drawn, Table(name, title, caption, ["label", *classes], rows, records)


def _scatter_figures(run: RunRecord, task: Regression, method: Method) -> list[Figure]:
    predictions = run.predictions[method.name]
    figures = []
    with style.styled():
        for column, target in enumerate(task.targets):
            truth, predicted = predictions.truth[:, column], predictions.predicted[:, column]
            figure, axes = style.axes(height=3.6)
            ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
            axes.plot(ends, ends, color=style.INK, linewidth=0.8, linestyle=style.dashes(1))
            axes.plot(truth, predicted, "o", color=style.COLORS[0], markersize=3.2, alpha=0.45, markeredgewidth=0)
            axes.lines[-1].set_rasterized(len(truth) > _MANY_POINTS)
            axes.set(xlabel=f"annotated {target.name}", ylabel=f"predicted {target.name}")
            r = pearson_r(truth, predicted)
            caption = f"Each point is a track in a test fold, predicted by {method.name}. Pooled r = {r:.3f}."
            figures.append(style.draw(figure, f"scatter-{slug(target.name)}", f"Prediction of {target.name}", caption))
    return figures
