"""What the methods of a run predict, and how good their probabilities are.

Predictions are shown as confusion matrices for classes, as counts for each tag, and as scatter plots of predicted
against true values for targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mirembed.config.approaches import Method
from mirembed.hookspecs import Classification, Regression, Tags
from mirembed.reports import style
from mirembed.reports.page import Cell, Section, Table
from mirembed.runs.record import RunRecord
from mirembed.runs.reliability import Reliability, reliability
from mirembed.statistics.target_metrics import pearson_r
from mirembed.store.root import slug

_FEW_CLASSES = 12
"""With at most this many classes, the cells of a confusion matrix have room for their counts."""

_MANY_POINTS = 1500
"""With more points than this, a scatter plot stores them as a bitmap."""

_OF_BIN = ("probability", "frequency")


def predictions_of(run: RunRecord) -> tuple[list[style.Figure], list[Table]]:
    """Return confusion matrices or counts of tags of each method except chance; for targets, plots of one method."""
    if isinstance(run.task, Regression):
        method = main_method(run)
        return ([] if method is None else _scatter_figures(run, run.task, method)), []
    if isinstance(run.task, Tags):
        return [], [_tag_counts(run, run.task, one) for one in _shown_methods(run)]
    with style.styled():
        confusions = [_confusion(run, run.task, method) for method in _shown_methods(run)]
    return [figure for figure, _ in confusions], [table for _, table in confusions]


def main_method(run: RunRecord) -> Method | None:
    """Return the method of the first approach that learns a similarity, or else the first that is not chance."""
    methods = _shown_methods(run)
    learned = [method for method in methods if method.approach.similarity is not None]
    return next(iter([*learned, *methods]), None)


def _shown_methods(run: RunRecord) -> list[Method]:
    return [method for method in run.first_methods if method.approach.name != "chance"]


def _confusion(run: RunRecord, task: Classification, method: Method) -> tuple[style.Figure, Table]:
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


def _scatter_figures(run: RunRecord, task: Regression, method: Method) -> list[style.Figure]:
    predictions = run.predictions[method.name]
    figures = []
    with style.styled():
        for column, target in enumerate(task.targets):
            truth, predicted = predictions.truth[:, column], predictions.predicted[:, column]
            figure, axes = style.axes(height=3.6)
            ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
            axes.plot(ends, ends, color=style.INK, linewidth=0.8, linestyle=style.dashes(1))
            axes.plot(truth, predicted, "o", color=style.COLORS[0], markersize=3.6, markerfacecolor="none")
            axes.lines[-1].set_rasterized(len(truth) > _MANY_POINTS)
            axes.set(xlabel=f"annotated {target.name}", ylabel=f"predicted {target.name}")
            r = pearson_r(truth, predicted)
            caption = f"Each point is a track in a test fold, predicted by {method.name}. Pooled r = {r:.3f}."
            figures.append(style.draw(figure, f"scatter-{slug(target.name)}", f"Prediction of {target.name}", caption))
    return figures


def _tag_counts(run: RunRecord, task: Tags, method: Method) -> Table:
    """Count the tracks that have each tag, those that a method gives it to, and those where both agree."""
    predictions = run.predictions[method.name]
    truth, predicted = predictions.truth > 0, predictions.predicted > 0  # [n_rows, n_tags]
    labeled, given, right = (found.sum(axis=0).tolist() for found in (truth, predicted, truth & predicted))
    rows, records = [], []
    for tag, n_labeled, n_given, n_right in zip(task.classes, labeled, given, right, strict=True):
        shares = [n_right / n if n else None for n in (n_given, n_labeled)]
        counts = [Cell(str(count)) for count in (n_labeled, n_given, n_right)]
        rows.append([Cell(tag), *counts, *(Cell("undefined" if one is None else f"{one:.3f}") for one in shares)])
        values = (n_labeled, n_given, n_right, *shares)
        names = ("labeled", "predicted", "both", "precision", "recall")
        records.append({"method": method.name, "tag": tag, **dict(zip(names, values, strict=True))})
    caption = (
        "Tracks that have the tag, tracks for which the method predicts it, and tracks with both, counted over all "
        "folds and seeds. Precision: share of the predicted tracks that have the tag. Recall: share of the tracks with "
        "the tag for which it is predicted. A learner may never predict a rare tag, and still rank its tracks well."
    )
    headings = ["tag", "with the tag", "predicted", "both", "precision", "recall"]
    return Table(f"tags-{slug(method.label)}", f"Tags: {method.name}", caption, headings, rows, records)


def probabilities_section(run: RunRecord) -> Section:
    """Return how reliable the probabilities of each method are; empty for targets, and if there are none."""
    methods = [method for method in run.methods if method.approach.name != "chance"]
    pairs = [(method, reliability(run.predictions[method.name], run.task)) for method in methods]
    found = [(method, one) for method, one in pairs if one is not None]
    if not found:
        return Section("Probabilities")
    of = "of the most probable class of each test track" if isinstance(run.task, Classification) else "of every tag"
    about = (
        f"Probabilities {of}, in ten bins of equal width: the mean probability, and how often the prediction was "
        "right. On the dashed line, the two are equal. The probabilities of learners are calibrated on inner folds of "
        "the training tracks; those of nn are the outputs of its network, which are not calibrated; those of combined "
        "methods are means over their members."
    )
    first = [method.name for method in run.first_methods]
    with style.styled():
        figures = [_draw_reliability(method, one) for method, one in found if method.name in first]
    return Section("Probabilities", [about], tables=[_reliability_table(run, found)], figures=figures)


def _reliability_table(run: RunRecord, found: Sequence[tuple[Method, Reliability]]) -> Table:
    rows, records = [], []
    for method, one in found:
        n = int(one.counts.sum())
        stated, came_true = (float(np.nansum(values * one.counts)) / n for values in (one.probability, one.frequency))
        kind = _kind(method)
        numbers = [f"{value:.3f}" for value in (stated, came_true, one.error, one.brier)]
        rows.append([Cell(method.name), Cell(kind), Cell(str(n)), *map(Cell, numbers)])
        for low, high, count, probability, frequency in zip(
            one.edges, one.edges[1:], one.counts, one.probability, one.frequency, strict=False
        ):
            of_bin = {"low": low, "high": high, "count": int(count)}
            # An empty bin has neither.
            of_bin |= {"probability": probability, "frequency": frequency} if count else dict.fromkeys(_OF_BIN)
            whole = {"error": one.error, "brier": one.brier}
            records.append({"method": method.name, "kind": kind, **of_bin, **whole})
    summed = "summed over classes" if isinstance(run.task, Classification) else "averaged over tags"
    caption = (
        "Over all test tracks of all folds and seeds. Calibration error: mean difference between the two over the "
        f"bins, weighted by their counts (expected calibration error). Brier score: squared error of the "
        f"probabilities, {summed}. Both are 0 at best. The CSV file has the bins."
    )
    names = ["method", "probabilities", "number", "mean", "came true", "calibration error", "Brier score"]
    return Table("reliability", "Reliability of the probabilities", caption, names, rows, records)


def _kind(method: Method) -> str:
    if method.approach.members:
        return "mean of its members"
    return "not calibrated" if method.learner is None else "calibrated"


def _draw_reliability(method: Method, found: Reliability) -> style.Figure:
    """Draw how often each bin of probabilities came true, above the number of probabilities in each bin."""
    figure, (axes, below) = style.axes_above(height=3.7, ratios=(3, 1))
    filled = found.counts > 0
    axes.plot([0, 1], [0, 1], color=style.INK, linewidth=0.8, linestyle=style.dashes(1))
    axes.plot(found.probability[filled], found.frequency[filled], "o-", color=style.COLORS[0], markersize=5)
    axes.set(ylabel="came true", xlim=(0, 1), ylim=(-0.03, 1.03))
    below.bar(found.edges[:-1], found.counts, np.diff(found.edges), align="edge", color=style.COLORS[6], linewidth=0)
    below.set(xlabel="probability", ylabel="number")
    below.locator_params(axis="y", integer=True, nbins=3)
    caption = (
        f"{_kind(method).capitalize()}; calibration error {found.error:.3f}, Brier score {found.brier:.3f}. "
        "Below: the number of probabilities in each bin."
    )
    return style.draw(figure, f"reliability-{slug(method.label)}", f"Reliability of {method.name}", caption)
