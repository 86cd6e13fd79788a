"""The matrix of learned similarities against kernels, as a picture."""

from __future__ import annotations

import numpy as np

from mirembed.reports import style
from mirembed.reports.predictions import name_cells, shade, write
from mirembed.reports.score_tables import matching
from mirembed.reports.scoring import RunScores
from mirembed.reports.style import Figure
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import lines
from mirembed.statistics import metric_named


def kernel_figure(scores: RunScores) -> Figure | None:
    """Draw the mean score of each approach with each learner; None of a run with a single learner."""
    run, line = scores.run, lines(scores.run.task)[0]
    if len(run.learners) < 2:
        return None
    approaches = _approaches(scores)
    means = np.full((len(approaches), len(run.learners)), np.nan)
    with style.styled():
        figure, axes = style.axes(height=1.6 + 0.5 * len(approaches))
        framed = []
        for method in run.methods:
            if method.learner is None:
                continue
            place = approaches.index(method.approach.name), run.learners.index(str(method.learner))
            means[place] = scores.interval(method.name, line).mean
            if matching(run, method):
                framed.append(place)
        low, high = float(np.nanmin(means)), float(np.nanmax(means))
        span = (high - low) or 1.0
        shade(axes, means, low - 0.3 * span, high + 0.3 * span)
        for (i, j), mean in np.ndenumerate(means):
            if not np.isnan(mean):
                interval = scores.interval(_named(run, approaches[i], run.learners[j]), line)
                text = str(interval).replace(" ", "\n", 1)
                write(axes, i, j, text, (mean - low) / span * 0.8, fontsize=7)
        for i, j in framed:
            axes.plot([j, j + 1, j + 1, j, j], [i, i, i + 1, i + 1, i], color=style.COLORS[1], linewidth=2.2)
        name_cells(axes, run.learners, approaches)
        axes.set(xlabel="what predicts", ylabel="what the network learned")
        over = "mean and 95 % interval over the folds" if run.n_folds > 1 else "in a single fold"
        return style.draw(
            figure,
            "kernels",
            "Learned similarity against kernel",
            f"{metric_named(line[0]).label}: {over}; the darker the higher. Framed: the kernel is "
            "the similarity that was learned, or of its kind.",
        )


def _approaches(scores: RunScores) -> list[str]:
    return list(dict.fromkeys(m.approach.name for m in scores.run.methods if m.learner is not None))


def _named(run: RunRecord, approach: str, learner: str) -> str:
    return next(m.name for m in run.methods if (m.approach.name, str(m.learner)) == (approach, learner))
