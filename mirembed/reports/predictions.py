"""Where predictions go: confusion matrices, and prediction against truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed import statistics
from mirembed.config.approaches import Method
from mirembed.hookspecs import Classification, Regression
from mirembed.reports import style
from mirembed.reports.style import Figure
from mirembed.reports.tables import Cell, Table
from mirembed.runs.record import RunRecord
from mirembed.runs.tables import Predictions
from mirembed.store.root import slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW_CLASSES = 12
"""Up to so many, the cells of a confusion matrix have room for their counts."""

_MANY_POINTS = 1500
"""From so many on, points are stored as a picture."""


def shown_methods(run: RunRecord) -> list[Method]:
    """Return the methods whose predictions are shown one by one: each approach but chance, with its first learner."""
    return [method for method in run.first_methods if method.approach.name != "chance"]


def shown_method(run: RunRecord) -> Method | None:
    """Return the method of the first approach that learns a similarity, else the first of all."""
    methods = shown_methods(run)
    learned = [method for method in methods if method.approach.similarity is not None]
    return next(iter([*learned, *methods]), None)


def confusion(predictions: Predictions, n_classes: int) -> NDArray[np.int64]:
    """Return how often each class was predicted for each class: ndarray ``[n_classes, n_classes]``, truth first."""
    pairs = predictions.truth[:, 0] * n_classes + predictions.predicted[:, 0]
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def confusion_tables(run: RunRecord) -> list[Table]:
    """Return a confusion matrix for each approach; empty for regression."""
    if not isinstance(run.task, Classification):
        return []
    classes = run.task.classes
    tables = []
    for method in shown_methods(run):
        counts = confusion(run.predictions[method.name], len(classes))
        rows = [
            [Cell(name), *(Cell(str(count)) for count in of_class)]
            for name, of_class in zip(classes, counts, strict=True)
        ]
        records = [
            {"method": method.name, "label": one, "prediction": other, "count": int(counts[i, j])}
            for i, one in enumerate(classes)
            for j, other in enumerate(classes)
        ]
        caption = "Lines: labels; columns: predictions. Counts over all folds and seeds."
        name = f"confusion-{slug(method.approach.name)}"
        tables.append(Table(name, f"Confusion: {method.name}", caption, ["label", *classes], rows, records))
    return tables


def confusion_figures(run: RunRecord) -> list[Figure]:
    """Draw the confusion matrix of each approach; nothing for regression."""
    if not isinstance(run.task, Classification):
        return []
    found = []
    with style.styled():
        for method in shown_methods(run):
            counts = confusion(run.predictions[method.name], len(run.task.classes))
            figure, axes = style.axes(height=3.9)
            _draw_matrix(axes, counts, run.task.classes)
            caption = "Labels against predictions, counted over all folds and seeds; shade: share of the label."
            name = f"confusion-{slug(method.approach.name)}"
            found.append(style.draw(figure, name, f"Confusion: {method.name}", caption))
    return found


def scatter_figures(run: RunRecord) -> list[Figure]:
    """Draw prediction against truth for each target; nothing for classification."""
    method = shown_method(run)
    if not isinstance(run.task, Regression) or method is None:
        return []
    answers = run.predictions[method.name]
    found = []
    with style.styled():
        for column, target in enumerate(run.task.targets):
            truth, predicted = answers.truth[:, column], answers.predicted[:, column]
            figure, axes = style.axes(height=3.6)
            ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
            axes.plot(ends, ends, color=style.INK, linewidth=0.8, linestyle=style.dashes(1))
            axes.plot(truth, predicted, "o", color=style.COLORS[0], markersize=3.2, alpha=0.45, markeredgewidth=0)
            axes.lines[-1].set_rasterized(len(truth) > _MANY_POINTS)
            axes.set(xlabel=f"{target.name}, as annotated", ylabel="as predicted")
            r = statistics.pearson_r(truth, predicted)
            caption = f"Each point is a track in its test fold, predicted by {method.name}; pooled r = {r:.3f}."
            found.append(style.draw(figure, f"scatter-{slug(target.name)}", f"Prediction of {target.name}", caption))
    return found


def _draw_matrix(axes: Axes, counts: NDArray[np.int64], names: Sequence[str]) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shade(axes, shares, 0.0, 1.0)
    if len(names) <= _FEW_CLASSES:
        for (i, j), count in np.ndenumerate(counts):
            write(axes, i, j, str(count), shares[i, j])
    name_cells(axes, names, names)
    axes.set(xlabel="predicted", ylabel="label")


def shade(axes: Axes, values: NDArray[np.float64], low: float, high: float) -> None:
    """Fill a matrix of cells, the darker the higher; cells that are not numbers stay empty."""
    axes.pcolormesh(
        np.ma.masked_invalid(values), cmap="Blues", vmin=low, vmax=high, edgecolors=style.GRID, linewidth=0.5
    )
    axes.set(xlim=(0, values.shape[1]), ylim=(values.shape[0], 0))
    axes.grid(visible=False)


def name_cells(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    """Write the names of columns and rows beside a matrix of cells."""
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.tick_params(length=0)


def write(axes: Axes, i: int, j: int, text: str, darkness: float, **options: Any) -> None:
    """Write into a cell, black on pale and white on dark, in every theme."""
    ink = "#ffffff" if darkness > 0.55 else "#000000"
    axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=ink, **{"fontsize": 8, **options})
