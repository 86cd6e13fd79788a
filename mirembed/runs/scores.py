"""Scores of a run, from its predictions alone: anyone with the predictions gets the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Regression, Task
from mirembed.runs.tables import Predictions
from mirembed.statistics.intervals import Interval, bootstrap_interval, nadeau_bengio_interval
from mirembed.statistics.metrics import Metric, headline, metric_named, metrics_for

Line: TypeAlias = tuple[str, str | None]
"""A line of a table of scores: the name of a metric, and a target, or None for the mean over the targets."""

FoldScores: TypeAlias = dict[Line, NDArray[np.float64]]
"""The score of each of the `Predictions.parts`, ``[n_parts]``, by line."""


def lines(task: Task, metric: str | None = None) -> list[Line]:
    """Return the lines of a table of scores, the headline first.

    Parameters
    ----------
    task : Classification or Regression
    metric : str or None
        None: all metrics that `mirembed.compare` tests.
    """
    chosen = [one.name for one in metrics_for(task) if (one.compared if metric is None else one.name == metric)]
    targets = [target.name for target in task.targets] if isinstance(task, Regression) else []
    return [line for name in chosen for line in [(name, None), *((name, t) for t in targets if len(targets) > 1)]]


def line_label(line: Line) -> str:
    """Return a line's name for people.

    >>> line_label(("macro_f1", None)), line_label(("r", None)), line_label(("r", "valence"))
    ('macro-F1', 'r, mean', 'valence')
    """
    metric, target = metric_named(line[0]), line[1]
    return target or (f"{metric.label}, mean" if metric.task is Regression else metric.label)


def fold_scores(predictions: Predictions, task: Task) -> FoldScores:
    """Compute every metric in each fold of each seed: the mean over the targets, and each target."""
    found: FoldScores = {}
    for metric in metrics_for(task):
        by_target = part_scores(metric.function, predictions)
        found[metric.name, None] = by_target.mean(axis=1)
        if isinstance(task, Regression):
            found |= {(metric.name, target.name): by_target[:, n] for n, target in enumerate(task.targets)}
    return found


def part_scores(
    function: Callable[[NDArray[Any], NDArray[Any]], float],
    predictions: Predictions,
    parts: Sequence[NDArray[np.int64]] | None = None,
) -> NDArray[np.float64]:
    """Compute a function of truth and prediction for each part and target: ndarray ``[n_parts, n_targets]``.

    Parameters
    ----------
    function : callable
        Such as `Metric.function`.
    predictions : Predictions
    parts : sequence of ndarray of int64, or None
        Rows; None: of each fold of each seed.
    """
    rows = predictions.parts if parts is None else parts
    columns = range(predictions.truth.shape[1])
    values = [[function(predictions.truth[r, c], predictions.predicted[r, c]) for c in columns] for r in rows]
    return np.array(values, np.float64)


def n_undefined(predictions: Predictions, task: Task) -> int:
    """Return the number of folds and targets in which the headline metric is undefined."""
    is_defined = headline(task).is_defined
    if is_defined is None:
        return 0
    defined = part_scores(is_defined, predictions)
    return int(defined.size - defined.sum())


def describe_undefined(name: str, count: int) -> str:
    """Describe in how many folds and targets a metric is undefined.

    >>> describe_undefined("r", 3)
    'r is undefined in 3 folds and targets (constant prediction); scored 0'
    """
    metric = metric_named(name)
    return f"{metric.label} is undefined in {count} folds and targets ({metric.undefined}); scored 0"


def over_folds(
    values: NDArray[np.float64], predictions: Predictions, n_train: float, *, official: bool = False
) -> Interval:
    """Return the mean of a score over the folds with its 95 % interval (Nadeau & Bengio).

    Parameters
    ----------
    values : ndarray [n_parts], float64
        The score of each of the parts of ``predictions``.
    predictions : Predictions
    n_train : float
        Mean number of training tracks of a fold.
    official : bool
        The folds are official splits, the same for every seed: more seeds do not add test tracks, so each split counts
        once, with the mean of its seeds.
    """
    by_fold = np.argsort(predictions.fold_of_part, kind="stable")
    values = values[by_fold]
    if official:
        _, starts = np.unique(predictions.fold_of_part[by_fold], return_index=True)
        values = np.array([seeds.mean() for seeds in np.split(values, starts[1:])])
    return nadeau_bengio_interval(values, n_train, len(predictions.ids) / len(predictions.parts))


@dataclass(frozen=True)
class Scores:
    """The scores of one method.

    Attributes
    ----------
    method : str
    intervals : dict of str to Interval
        Means over folds with 95 % intervals, by the name of the metric; each the mean over the targets in a fold.
    pooled : dict of str to Interval
        The same metrics over the predictions of all folds together, a mean over seeds and targets, with
        95 % bootstrap intervals over tracks.
    targets : dict of str to Interval
        The headline metric of each target; empty for classification.
    undefined : int
        Folds and targets in which the headline metric is undefined; they count as 0.
    """

    method: str
    intervals: dict[str, Interval]
    pooled: dict[str, Interval]
    targets: dict[str, Interval]
    undefined: int

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON: ``{"accuracy": {"mean", "low", "high"}, ..., "pooled": {...}}``."""
        content: dict[str, Any] = {name: asdict(interval) for name, interval in self.intervals.items()}
        content["pooled"] = {name: asdict(interval) for name, interval in self.pooled.items()}
        if self.targets:
            content["targets"] = {name: asdict(interval) for name, interval in self.targets.items()}
            content[f"undefined_{next(iter(self.intervals))}"] = self.undefined
        return content

    @classmethod
    def from_json(cls, method: str, content: Mapping[str, Any], task: Task) -> Scores:
        """Read what `to_json` made.

        Raises
        ------
        KeyError, TypeError, ValueError
            The content is something else.
        """
        metrics = [metric.name for metric in metrics_for(task)]
        targets = [target.name for target in task.targets] if isinstance(task, Regression) else []
        return cls(
            method=method,
            intervals={name: _interval(content[name]) for name in metrics},
            pooled={name: _interval(content["pooled"][name]) for name in metrics},
            targets={name: _interval(content["targets"][name]) for name in targets},
            undefined=int(content[f"undefined_{metrics[0]}"]) if targets else 0,
        )


def _interval(content: Mapping[str, Any]) -> Interval:
    low, high = (None if content[key] is None else float(content[key]) for key in ("low", "high"))
    return Interval(float(content["mean"]), low, high)


def score(
    predictions: Mapping[str, Predictions], task: Task, n_train: float, *, official: bool = False
) -> list[Scores]:
    """Score every method.

    Parameters
    ----------
    predictions : mapping of str to Predictions
        By method.
    task : Classification or Regression
    n_train : float
        Mean number of training tracks of a fold, which the intervals depend on; the manifest of a run holds it.
    official : bool
        The folds are official splits, the same for every seed.
    """
    return [_score_method(name, one, task, n_train, official) for name, one in predictions.items()]


def _score_method(method: str, predictions: Predictions, task: Task, n_train: float, official: bool) -> Scores:
    def interval(line: Line) -> Interval:
        return over_folds(by_fold[line], predictions, n_train, official=official)

    by_fold = fold_scores(predictions, task)
    metrics = metrics_for(task)
    targets = task.targets if isinstance(task, Regression) else ()
    return Scores(
        method=method,
        intervals={metric.name: interval((metric.name, None)) for metric in metrics},
        pooled={metric.name: _pooled(metric, predictions) for metric in metrics},
        targets={target.name: interval((metrics[0].name, target.name)) for target in targets},
        undefined=n_undefined(predictions, task),
    )


def _pooled(metric: Metric, predictions: Predictions) -> Interval:
    """Return a metric over all folds, the mean over seeds and targets, with its bootstrap interval over tracks."""
    tracks, track = np.unique(predictions.ids, return_inverse=True)
    resampled = [
        metric.resampled.prepare(
            predictions.truth[rows, column], predictions.predicted[rows, column], track[rows], len(tracks)
        )
        for rows in predictions.of_seed
        for column in range(predictions.truth.shape[1])
    ]
    return bootstrap_interval(
        float(part_scores(metric.function, predictions, predictions.of_seed).mean()),
        # With few splits, a resample may draw no track that a seed has tested: its mean is over the other seeds.
        lambda drawn: np.nanmean([one(drawn) for one in resampled], axis=0),
        len(tracks),
    )


def zero_width_warnings(scores: Sequence[Scores]) -> list[str]:
    """Return a warning for each method that scores the same in all folds, whose interval looks like certainty.

    Not for ``chance``: guessing does score the same on folds of one size.
    """
    found = []
    for one in scores:
        [(metric, interval), *_] = one.intervals.items()
        if one.method != "chance" and interval.low is not None and interval.low == interval.high:
            label = metric_named(metric).label
            found.append(
                f"warning: {one.method} scores the same in every fold ({label} {interval.mean:.3f}): its interval has "
                "no width, which does not imply certainty"
            )
    return found
