"""Scores of a run, from its predictions alone: whoever has the predictions gets the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed import statistics
from mirembed.evaluate.parts import PREDICTED
from mirembed.hookspecs import Classification, Regression, Task
from mirembed.statistics import Interval, bootstrap_interval, nadeau_bengio_interval
from mirembed.statistics.resampling import resampled

if TYPE_CHECKING:
    import pyarrow as pa

_Metric = Callable[[NDArray[Any], NDArray[Any]], float]


@dataclass(frozen=True)
class Scores:
    """The scores of one method.

    Attributes
    ----------
    method : str
    intervals : dict of str to Interval
        Means over folds with 95 % intervals. Classification: accuracy, macro_f1. Regression: r, r_squared, r2,
        each the mean over the targets in a fold.
    pooled : dict of str to Interval
        The same metrics over the predictions of all folds together, a mean over seeds and targets, with
        95 % bootstrap intervals over tracks.
    targets : dict of str to Interval
        r for each target; empty for classification.
    undefined : int
        Folds and targets in which a constant prediction made r undefined; they count as 0.
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
            content["undefined_r"] = self.undefined
        return content


def score(predictions: pa.Table, task: Task, n_train: float, *, official: bool = False) -> list[Scores]:
    """Score every method of a table of predictions, in the order in which they stand there.

    Parameters
    ----------
    predictions : pyarrow.Table
        Columns method, seed, fold, and label and prediction, or each target and its prediction.
    task : Classification or Regression
    n_train : float
        Mean number of training tracks of a fold, which the intervals depend on; the manifest of a run holds it.
    official : bool
        The folds are official splits, the same for every seed.
    """
    methods = np.array(predictions["method"].to_pylist())
    seeds = predictions["seed"].to_numpy()
    folds = predictions["fold"].to_numpy()
    truth, predicted = answers(predictions, task)
    ids = np.array(predictions["id"].to_pylist())
    result = []
    for method in dict.fromkeys(methods.tolist()):
        rows = methods == method
        names = sorted(set(zip(folds[rows].tolist(), seeds[rows].tolist(), strict=True)))
        parts = [np.flatnonzero(rows & (seeds == seed) & (folds == fold)) for fold, seed in names]
        tracks = np.unique(ids[rows])
        wholes = [
            _Tested(chosen, np.searchsorted(tracks, ids[chosen]))
            for seed in sorted(set(seeds[rows].tolist()))
            for chosen in [np.flatnonzero(rows & (seeds == seed))]
        ]
        result.append(_score_method(method, task, truth, predicted, parts, wholes, n_train, official))
    return result


@dataclass(frozen=True)
class _Tested:
    """The rows of one seed, and the number of the track of each."""

    rows: NDArray[np.int64]
    tracks: NDArray[np.int64]


def _score_method(
    method: str,
    task: Task,
    truth: NDArray[Any],
    predicted: NDArray[Any],
    parts: Sequence[NDArray[np.int64]],
    wholes: Sequence[_Tested],
    n_train: float,
    official: bool,
) -> Scores:
    """Score one method; ``parts`` are the rows of each fold, seed after seed, ``wholes`` those of each seed."""
    n_test = float(np.mean([len(part) for part in parts]))
    n_tracks = max(int(whole.tracks.max()) for whole in wholes) + 1

    def interval(values: NDArray[np.float64]) -> Interval:
        # Other seeds do not draw other tracks into an official split: it counts once.
        if official:
            values = values.reshape(-1, len(wholes)).mean(axis=1)
        return nadeau_bengio_interval(values, n_train, n_test)

    def pooled(name: str, metric: _Metric) -> Interval:
        # The same metric twice: as it is defined, and as fast as a thousand resamples want it.
        several = [
            resampled(name, truth[whole.rows, column], predicted[whole.rows, column], whole.tracks, n_tracks)
            for whole in wholes
            for column in range(truth.shape[1])
        ]
        return bootstrap_interval(
            lambda _: float(metric_table(metric, truth, predicted, [whole.rows for whole in wholes]).mean()),
            n_tracks,
            # A seed of which nothing was drawn, as may be with a few splits, has no say.
            of_resamples=lambda drawn: np.nanmean([of_target(drawn) for of_target in several], axis=0),
        )

    metrics = _metrics(task)
    by_fold = {name: metric_table(metric, truth, predicted, parts) for name, metric in metrics.items()}
    targets: dict[str, Interval] = {}
    undefined = 0
    if isinstance(task, Regression):
        targets = {t.name: interval(by_fold["r"][:, column]) for column, t in enumerate(task.targets)}
        defined = metric_table(statistics.pearson_r_defined, truth, predicted, parts)
        undefined = int(defined.size - defined.sum())
    return Scores(
        method=method,
        intervals={name: interval(values.mean(axis=1)) for name, values in by_fold.items()},
        pooled={name: pooled(name, metric) for name, metric in metrics.items()},
        targets=targets,
        undefined=undefined,
    )


def without_width(scores: Sequence[Scores]) -> list[str]:
    """Return a warning for each method that scores the same in all folds, whose interval looks like certainty.

    ``chance`` has none: guessing does score the same on equal folds.
    """
    found = []
    for one in scores:
        [(metric, interval), *_] = one.intervals.items()
        if one.method != "chance" and interval.low is not None and interval.low == interval.high:
            found.append(
                f"warning: {one.method} scores the same in every fold ({metric} {interval.mean:.3f}): an interval "
                "without width does not mean that other music would score so"
            )
    return found


def _metrics(task: Task) -> dict[str, _Metric]:
    if isinstance(task, Classification):
        return {"accuracy": statistics.accuracy, "macro_f1": statistics.macro_f1}
    return {"r": statistics.pearson_r, "r_squared": statistics.r_squared, "r2": statistics.r2_score}


def metric_table(
    metric: _Metric, truth: NDArray[Any], predicted: NDArray[Any], parts: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Return a metric for every part and target: ndarray ``[n_parts, n_targets]``."""
    return np.array(
        [[metric(truth[part, column], predicted[part, column]) for column in range(truth.shape[1])] for part in parts],
        np.float64,
    )


def answers(predictions: pa.Table, task: Task) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return truth and predictions, each ``[n_rows, n_targets]``; class indices ``[n_rows, 1]``."""
    if isinstance(task, Classification):
        position = {name: index for index, name in enumerate(task.classes)}
        return (
            np.array([[position[name]] for name in predictions["label"].to_pylist()]),
            np.array([[position[name]] for name in predictions["prediction"].to_pylist()]),
        )
    names = [target.name for target in task.targets]
    return (
        np.column_stack([predictions[name].to_numpy() for name in names]),
        np.column_stack([predictions[PREDICTED + name].to_numpy() for name in names]),
    )
