"""The scores of a run, computed from its predictions alone, so that anyone who has these gets the same numbers."""

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


def lines(task: Task) -> list[Line]:
    """Return the lines of the table of scores: of each metric that `mirembed.compare` tests, the headline first."""
    targets = _target_names(task)
    columns = [None, *(targets if len(targets) > 1 else [])]
    return [(metric.name, target) for metric in metrics_for(task) if metric.compared for target in columns]


def all_lines(task: Task, metric: str) -> list[Line]:
    """Return."""
    names = [metric, *(one.name for one in metrics_for(task) if one.name != metric)]
    targets = _target_names(task)
    return [(name, t) for name in names for t in [None, *(targets if len(targets) > 1 else [])]]


def paired_scores(a: FoldScores, b: FoldScores, line: Line) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return."""
    return a[line], b[line]


def line_label(line: Line) -> str:
    """Return the label of a line in tables and figures.

    >>> line_label(("macro_f1", None)), line_label(("r", None)), line_label(("r", "valence"))
    ('macro-F1', 'r, mean', 'valence')
    """
    metric, target = metric_named(line[0]), line[1]
    return target or (f"{metric.label}, mean" if metric.task is Regression else metric.label)


def fold_scores(predictions: Predictions, task: Task) -> FoldScores:
    """Compute every metric in each fold of each seed: the mean over the targets, and each target."""
    found: FoldScores = {}
    for metric in metrics_for(task):
        by_target = _part_scores(metric.function, predictions, predictions.parts)
        found[metric.name, None] = by_target.mean(axis=1)
        found |= {(metric.name, target): by_target[:, n] for n, target in enumerate(_target_names(task))}
    return found


def _target_names(task: Task) -> list[str]:
    return [target.name for target in task.targets] if isinstance(task, Regression) else []


def _part_scores(
    function: Callable[[NDArray[Any], NDArray[Any]], float], predictions: Predictions, parts: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Compute a metric in each part, given by its rows, and for each target: ndarray ``[n_parts, n_targets]``."""
    columns = range(predictions.truth.shape[1])
    values = [[function(predictions.truth[r, c], predictions.predicted[r, c]) for c in columns] for r in parts]
    return np.array(values, np.float64)


def n_undefined(predictions: Predictions, task: Task) -> int:
    """Return the number of folds and targets in which the headline metric is undefined."""
    is_defined = headline(task).is_defined
    if is_defined is None:
        return 0
    defined = _part_scores(is_defined, predictions, predictions.parts)
    return int(defined.size - defined.sum())


def describe_undefined(name: str, count: int) -> str:
    """Describe in how many folds and targets a metric is undefined.

    >>> describe_undefined("r", 3)
    'r is undefined in 3 folds and targets (constant truth or prediction); scored 0'
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
        Number of folds and targets in which the headline metric is undefined; it is scored 0 there.
    """

    method: str
    intervals: dict[str, Interval]
    pooled: dict[str, Interval]
    targets: dict[str, Interval]
    undefined: int

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON: ``{"accuracy": {"mean", "low", "high"}, ..., "pooled": {...}}``."""
        fields = asdict(self)
        content: dict[str, Any] = {**fields["intervals"], "pooled": fields["pooled"]}
        if self.targets:
            content |= {"targets": fields["targets"], f"undefined_{next(iter(self.intervals))}": self.undefined}
        return content

    @classmethod
    def from_json(cls, method: str, content: Mapping[str, Any], task: Task) -> Scores:
        """Read what `to_json` returned.

        Raises
        ------
        KeyError, TypeError, ValueError
            The content is not that.
        """
        metrics = [metric.name for metric in metrics_for(task)]
        targets = _target_names(task)
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
    metrics = metrics_for(task)
    found = []
    for method, one in predictions.items():
        by_line = fold_scores(one, task)
        over = {line: over_folds(values, one, n_train, official=official) for line, values in by_line.items()}
        found.append(
            Scores(
                method=method,
                intervals={metric.name: over[metric.name, None] for metric in metrics},
                pooled={metric.name: _pooled(metric, one) for metric in metrics},
                targets={target: over[metrics[0].name, target] for target in _target_names(task)},
                undefined=n_undefined(one, task),
            )
        )
    return found


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
        float(_part_scores(metric.function, predictions, predictions.of_seed).mean()),
        # With few splits, a resample may draw no track that a seed has tested: its mean is over the other seeds.
        lambda drawn: np.nanmean([one(drawn) for one in resampled], axis=0),
        len(tracks),
    )


def zero_width_warnings(scores: Sequence[Scores]) -> list[str]:
    """Return a warning for each method that scores the same in every fold: its interval would look like certainty.

    ``chance`` gets none, as guessing does score the same on folds of equal size.
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
