"""Learning curves: score on the test folds, and training loss, against epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mirembed.hookspecs import Classification
from mirembed.reports import style
from mirembed.reports.scoring import RunScores
from mirembed.reports.style import Figure
from mirembed.reports.tables import Cell, Table, interval_record
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import Line, fold_scores, line_label, lines
from mirembed.statistics import Interval, metric_named
from mirembed.store.root import slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, Mapping[int, Mapping[Line, Interval]]]
"""By method, epoch and line."""


@dataclass(frozen=True)
class _Panel:
    """One figure: a line of the table of scores, for the methods of one learner."""

    name: str
    title: str
    line: Line
    methods: Sequence[str]


def explained(run: RunRecord) -> str:
    """Say what the curves are."""
    return (
        f"Score on the test folds at every checkpoint, the learner fitted anew at each: {_mean(run)}. The hollow point "
        "is the highest of its curve, chosen on the test data; all results are those of the last epoch. Level lines: "
        "what is not trained by epochs."
    )


def single_point(epoch: int) -> str:
    """Say why there are no curves of scores."""
    return (
        f"Scores were taken after epoch {epoch} alone, and a single point is no curve; "
        "--checkpoint-every N takes them after every N epochs."
    )


def only_checkpoint(curves: Curves) -> int | None:
    """Return the epoch of the only checkpoint; None where there are several, or none."""
    epochs = {epoch for by_epoch in curves.values() for epoch in by_epoch}
    return epochs.pop() if len(epochs) == 1 else None


def learning_curves(run: RunRecord) -> Curves:
    """Return mean and 95 % interval over the folds at each checkpoint."""
    return {
        method: {
            epoch: {line: run.over_folds(values, answers) for line, values in fold_scores(answers, run.task).items()}
            for epoch, answers in by_epoch.items()
        }
        for method, by_epoch in run.checkpoints.items()
    }


def curve_table(run: RunRecord, curves: Curves) -> Table | None:
    """Return the highest and the last point of each curve, and as CSV every point; None without checkpoints."""
    headline = lines(run.task)[0]
    rows = []
    for method, by_epoch in curves.items():
        last, top = max(by_epoch), highest(by_epoch, headline)
        at_top, at_last = (Cell.of(by_epoch[epoch][headline]) for epoch in (top, last))
        rows.append([Cell(method), Cell(str(last)), at_last, Cell(str(top)), at_top])
    records = [
        {"method": method, "epoch": epoch, "metric": line[0], "target": line[1], **interval_record(interval)}
        for method, by_epoch in curves.items()
        for epoch, by_line in by_epoch.items()
        for line, interval in by_line.items()
    ]
    if not rows:
        return None
    metric = metric_named(headline[0]).label
    return Table(
        "curves",
        "Last and highest point of the curves",
        f"{metric} on the test folds. The highest point is chosen on the test data: it is no result, and nothing else "
        "here uses it.",
        ["method", "last epoch", metric, "epoch of the highest", f"{metric} there, chosen on the test data"],
        rows,
        records,
    )


def highest(by_epoch: Mapping[int, Mapping[Line, Interval]], line: Line) -> int:
    """Return the epoch of the highest mean; the earliest of equals."""
    return max(by_epoch, key=lambda epoch: (by_epoch[epoch][line].mean, -epoch))


def curve_figures(scores: RunScores, curves: Curves) -> list[Figure]:
    """Draw the curves, one figure for each line and learner; lines of single targets where there is one learner."""
    with style.styled():
        return [_draw(scores, curves, panel) for panel in _panels(scores.run, curves)]


def loss_figure(run: RunRecord) -> Figure | None:
    """Draw the training loss of each network; None where nothing is trained yet."""
    if run.curves is None:
        return None
    approaches = np.array(run.curves["approach"].to_pylist())
    epochs, losses = run.curves["epoch"].to_numpy(), run.curves["loss"].to_numpy()
    with style.styled():
        figure, axes = style.axes()
        for position, approach in _positions(run).items():
            rows = approaches == approach
            if not rows.any():
                continue
            steps = np.unique(epochs[rows])
            values = [losses[rows & (epochs == step)] for step in steps]
            band = [value.min() for value in values], [value.max() for value in values]
            _line(axes, steps, [value.mean() for value in values], band, position, approach)
        axes.set(xlabel="epoch", ylabel="loss a track", yscale="log")
        axes.locator_params(axis="x", integer=True)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}" if _decades(axes) < 1 else "")
        style.legend(figure, 3)
        return style.draw(
            figure,
            "loss",
            "Training loss",
            "Mean over the folds, and from the lowest to the highest fold. Approaches have losses of their own: which "
            "is lower says nothing.",
        )


def _panels(run: RunRecord, curves: Curves) -> Iterator[_Panel]:
    if not curves:
        return
    headline, *targets = lines(run.task)
    if len(run.learners) < 2:
        shown = [headline, *(line for line in targets if line[0] == "r")]
        for line in shown:
            name = "curve" if line == headline else f"curve-{slug(str(line[1]))}"
            yield _Panel(name, f"Learning curves: {line_label(line)}", line, list(curves))
        return
    for learner in run.learners:
        methods = [m.name for m in run.methods if m.learner is None or str(m.learner) == learner]
        methods = [name for name in methods if name in curves]
        if methods:
            yield _Panel(f"curve-{slug(learner)}", f"Learning curves with {learner}", headline, methods)


def _draw(scores: RunScores, curves: Curves, panel: _Panel) -> Figure:
    positions = {approach: position for position, approach in _positions(scores.run).items()}
    approaches = {method.name: method.approach.name for method in scores.run.methods}
    figure, axes = style.axes()
    for method in panel.methods:
        by_epoch, position = curves[method], positions[approaches[method]]
        epochs = list(by_epoch)
        intervals = [by_epoch[epoch][panel.line] for epoch in epochs]
        band = [_or(i.low, i.mean) for i in intervals], [_or(i.high, i.mean) for i in intervals]
        _line(axes, epochs, [i.mean for i in intervals], band, position, approaches[method])
        top = highest(by_epoch, panel.line)
        axes.plot(
            [top],
            [by_epoch[top][panel.line].mean],
            style.marker(position),
            color=style.color(position),
            markerfacecolor=style.PAPER,
            markersize=6.5,
            zorder=4,
        )
    _draw_untrained(axes, scores, panel)
    axes.set(xlabel="epoch", ylabel=metric_named(panel.line[0]).label)
    axes.locator_params(axis="x", integer=True)
    low, high = axes.get_ylim()  # an interval may reach beyond what a score can be, the picture need not
    axes.set_ylim(max(low, -0.03 if isinstance(scores.run.task, Classification) else -1.03), min(high, 1.03))
    style.legend(figure, 3)
    return style.draw(
        figure,
        panel.name,
        panel.title,
        f"{_mean(scores.run).capitalize()}. Hollow: the highest point, chosen on the test data.",
    )


def _mean(run: RunRecord) -> str:
    return "mean over the folds, and its 95 % interval as a band" if run.n_folds > 1 else "of a single fold"


def _draw_untrained(axes: Axes, scores: RunScores, panel: _Panel) -> None:
    shown = [method for method in scores.run.methods if method.name in panel.methods]
    learner = next((method.learner for method in shown if method.learner is not None), None)
    level = [m for m in scores.run.methods if not m.approach.trains and m.learner in (learner, None)]
    for number, method in enumerate(level, 1):
        mean = scores.interval(method.name, panel.line).mean
        axes.axhline(mean, color=style.INK, linewidth=0.9, linestyle=style.dashes(number), label=method.approach.name)


def _positions(run: RunRecord) -> dict[int, str]:
    """Return the trained approaches by their position, which decides color, marker and dash."""
    return dict(enumerate(dict.fromkeys(m.approach.name for m in run.methods if m.approach.trains)))


def _line(
    axes: Axes,
    epochs: Any,
    means: Sequence[float],
    band: tuple[Sequence[float], Sequence[float]],
    position: int,
    label: str,
) -> None:
    color = style.color(position)
    axes.fill_between(epochs, *band, color=color, alpha=0.13, linewidth=0)
    axes.plot(
        epochs,
        means,
        color=color,
        linestyle=style.dashes(position),
        marker=style.marker(position),
        markevery=max(1, len(means) // 8),
        label=label,
    )


def _decades(axes: Axes) -> float:
    low, high = axes.get_ylim()
    return float(np.log10(high / low))


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
