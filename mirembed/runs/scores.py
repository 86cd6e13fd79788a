"""The scores of a run, computed from its predictions alone, so that anyone who has these gets the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Classification, Regression, Tags, Task
from mirembed.interruption import interruptible
from mirembed.progress import counted
from mirembed.runs.tables import Predictions
from mirembed.statistics.intervals import Interval, nadeau_bengio_interval, percentile_interval
from mirembed.statistics.metrics import Column, Metric, headline, metric_named, metrics_for
from mirembed.statistics.resampling import resample_counts
from mirembed.statistics.retrieval import OCCURRENCE
from mirembed.statistics.samples import is_constant, nan_mean

Line: TypeAlias = tuple[str, str | None]
"""A line of a table of scores: the name of a metric, and a target, tag or class, or None for the mean over them."""

FoldScores: TypeAlias = dict[Line, NDArray[np.float64]]
"""The score of each of the `Predictions.parts`, ``[n_parts]``, by line; NaN where it is undefined."""

Undefined: TypeAlias = dict[str, int]
"""In how many folds and columns a metric is undefined, by the reason."""


def lines(task: Task, metric: str | None = None) -> list[Line]:
    """Return the lines of the table of scores: the headline, its columns, and the means of the usual other metrics.

    Parameters
    ----------
    task : Classification, Tags or Regression
    metric : str or None
        The headline; None: the default of the task.
    """
    first = headline(task, metric)
    usual = {one.name for one in metrics_for(task) if one.in_brief}
    return [line for line in all_lines(task, metric) if line[0] == first.name or (line[0] in usual and line[1] is None)]


def all_lines(task: Task, metric: str | None = None) -> list[Line]:
    """Return the lines of every metric: the headline and its columns, then the other means, then the other columns.

    >>> all_lines(Classification(("blues", "jazz")), "macro_f1")[:3]
    [('macro_f1', None), ('accuracy', None), ('balanced_accuracy', None)]
    >>> all_lines(Classification(("blues", "jazz")))[-2:]
    [('recall', 'blues'), ('recall', 'jazz')]
    """
    first, *others = metrics_for(task, metric)
    columns = column_names(task)

    def by_column(one: Metric) -> list[Line]:
        shown = one.column is not None and (len(columns) > 1 or not one.has_mean)
        return [(one.name, column) for column in columns if shown]

    means: list[Line] = [(one.name, None) for one in others if one.has_mean]
    return [(first.name, None), *by_column(first), *means, *(line for one in others for line in by_column(one))]


def column_names(task: Task) -> list[str]:
    """Return the names of the columns that metrics have values for: classes, tags or targets."""
    return [target.name for target in task.targets] if isinstance(task, Regression) else list(task.classes)


def column_kind(task: Task) -> Column:
    """Return what one of these columns is."""
    kinds: dict[type[Task], Column] = {Classification: "class", Tags: "tag", Regression: "target"}
    return kinds[type(task)]


def line_label(line: Line) -> str:
    """Return the label of a line in tables and figures.

    >>> line_label(("macro_f1", None)), line_label(("r", None)), line_label(("r", "valence"))
    ('macro-F1', 'r, mean', 'valence')
    """
    metric, column = metric_named(line[0]), line[1]
    return column or (f"{metric.label}, mean" if metric.column else metric.label)


def fold_scores(predictions: Predictions, task: Task, metrics: Collection[str] | None = None) -> FoldScores:
    """Compute every metric, or some, in each fold of each seed: each column, and the mean over them.

    Undefined columns are left out of the mean of a fold; it is NaN where all are undefined.
    """
    columns, found = _Columns.of(predictions, task), FoldScores()
    for metric in metrics_for(task):
        if metrics is None or metric.name in metrics:
            found |= _by_line(metric, task, columns.scores(metric, predictions.parts))
    return found


def _by_line(metric: Metric, task: Task, scores: NDArray[np.float64]) -> dict[Line, NDArray[np.float64]]:
    """Return the scores ``[..., n_columns]`` of a metric as its lines: the mean over the columns, and each column."""
    found: dict[Line, NDArray[np.float64]] = {}
    if metric.has_mean:
        found[metric.name, None] = nan_mean(scores, axis=-1)
    if metric.column is not None:
        found |= {(metric.name, name): scores[..., n] for n, name in enumerate(column_names(task))}
    return found


def paired_scores(a: FoldScores, b: FoldScores, line: Line) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scores of two methods in each fold, over what is defined for both.

    Parameters
    ----------
    a, b : FoldScores
        Of the same tracks in the same folds.
    line : Line
        The mean over the columns then runs, in each fold, over the columns in which both methods have a score.

    Returns
    -------
    a, b : ndarray [n_parts], float64
        Both NaN where nothing is defined for both.
    """
    metric, column = line
    cells = [one for one in a if one[0] == metric and one[1] is not None] if column is None else []
    x, y = (np.stack([scores[one] for one in cells or [line]], axis=1) for scores in (a, b))
    missing = np.isnan(x) | np.isnan(y)
    return nan_mean(np.where(missing, np.nan, x), axis=1), nan_mean(np.where(missing, np.nan, y), axis=1)


@dataclass(frozen=True, eq=False)
class _Columns:
    """What metrics are computed from: a column for each class, tag or target.

    Attributes
    ----------
    truth, values : ndarray [n_rows, n_columns], float64
        Truth is 0 or 1 for classes and tags. Values are predictions; of tags, scores.
    whole : (ndarray, ndarray) or None
        Of classes: the class indices ``[n_rows]``, true and predicted.
    retrieval : dict of str to ndarray [n_rows], float64, or None
        See `Predictions`.
    """

    truth: NDArray[np.float64]
    values: NDArray[np.float64]
    whole: tuple[NDArray[Any], NDArray[Any]] | None = None
    retrieval: Mapping[str, NDArray[np.float64]] | None = None

    @classmethod
    def of(cls, predictions: Predictions, task: Task) -> _Columns:
        if isinstance(task, Classification):
            whole = predictions.truth[:, 0], predictions.predicted[:, 0]
            truth, values = (indices[:, None] == np.arange(len(task.classes)) for indices in whole)
            return cls(truth.astype(np.float64), values.astype(np.float64), whole, predictions.retrieval)
        values = predictions.scores if isinstance(task, Tags) else predictions.predicted
        truth = predictions.truth.astype(np.float64)
        return cls(truth, np.asarray(values, np.float64), retrieval=predictions.retrieval)

    def inputs(self, metric: Metric) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return truth and values ``[n_rows, n_columns]`` for a metric."""
        if metric.source == "predictions":
            return self.truth, self.values
        nothing = np.full(len(self.truth), np.nan)
        name = OCCURRENCE if metric.name == "hubness" else metric.name
        found = (self.retrieval or {}).get(name, nothing)[:, None]  # [n_rows, 1]
        return (~np.isnan(found)).astype(np.float64), np.nan_to_num(found)

    def scores(self, metric: Metric, parts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Compute a metric in each part, given by its rows: ndarray ``[n_parts, n_columns]``."""
        truth, values = self.inputs(metric)
        if metric.column is None and self.whole is not None and metric.source == "predictions":
            truth, values = self.whole
        return np.array([np.atleast_1d(metric.function(truth[rows], values[rows])) for rows in parts])

    def guessed(self, metric: Metric, predictions: Predictions) -> NDArray[np.bool_]:
        """Return for which seeds and columns a pooled score would mislead: ndarray ``[n_seeds, n_columns]``, bool.

        A prediction that is constant in every fold is lower where the truth is higher, as the other folds are then
        lower: its pooled correlation is negative by construction.
        """
        if "constant prediction" not in metric.reasons:
            return np.zeros((1, 1), bool)
        parts = predictions.parts
        reasons = [is_constant(self.values[rows]) & ~is_constant(self.truth[rows]) for rows in parts]
        seeds = np.array([predictions.seeds[rows[0]] for rows in parts])
        return np.stack([np.all(np.stack(reasons)[seeds == seed], axis=0) for seed in np.unique(seeds)])

    def undefined(self, metric: Metric, parts: Sequence[NDArray[np.int64]]) -> Undefined:
        """Count the parts and columns in which a metric is undefined."""
        if not metric.reasons or (metric.source == "retrieval" and self.retrieval is None):
            return {}
        truth, values = self.inputs(metric)
        return dict(Counter(why for rows in parts for why in metric.why_undefined(truth[rows], values[rows])))


def undefined(predictions: Predictions, task: Task, metric: str) -> Undefined:
    """Count the folds and columns in which a metric is undefined."""
    return _Columns.of(predictions, task).undefined(metric_named(metric), predictions.parts)


def describe_undefined(name: str, counts: Undefined) -> str:
    """Describe where a metric is undefined.

    >>> describe_undefined("r", {"constant truth": 1, "constant prediction": 2})
    'r is undefined in 3 pairs of fold and target (constant truth: 1, constant prediction: 2) and left out of its mean'
    """
    metric, n = metric_named(name), sum(counts.values())
    where = f"{counted(n, 'pair')} of fold and {metric.column}" if metric.column else counted(n, "fold")
    reasons = ", ".join(f"{reason}: {count}" for reason, count in counts.items())
    return f"{metric.label} is undefined in {where} ({reasons}) and left out of its mean"


def over_folds(
    line: Line, values: NDArray[np.float64], predictions: Predictions, n_train: float, *, official: bool = False
) -> Interval:
    """Return the mean of a score over the folds with its 95 % interval (Nadeau & Bengio), cut to the metric's range.

    Parameters
    ----------
    line : Line
        What is scored.
    values : ndarray [n_parts], float64
        The score of each of the parts of ``predictions``; those that are NaN are left out.
    predictions : Predictions
    n_train : float
        Mean number of training tracks of a fold.
    official : bool
        The folds are official splits, the same for every seed: more seeds do not add test tracks, so each split counts
        once, with the mean of its seeds.
    """
    if official:
        folds = predictions.fold_of_part
        values = np.array([nan_mean(values[folds == fold]) for fold in np.unique(folds)])
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(None, None, None)
    interval = nadeau_bengio_interval(values, n_train, len(predictions.ids) / len(predictions.parts))
    return interval.within(*metric_named(line[0]).range)


@dataclass(frozen=True)
class Scores:
    """The scores of one method.

    Attributes
    ----------
    method : str
    intervals : dict of Line to Interval
        Means over folds with 95 % intervals, of all lines; the headline first.
    pooled : dict of Line to Interval
        The same metrics over the predictions of all folds together, means over seeds, with 95 % bootstrap intervals.
    undefined : dict of str to dict of str to int
        In how many folds and columns each metric is undefined, by the reason; metrics that are defined everywhere are
        left out.
    """

    method: str
    intervals: dict[Line, Interval]
    pooled: dict[Line, Interval]
    undefined: dict[str, Undefined]

    @property
    def headline(self) -> str:
        """The name of the headline metric."""
        return next(iter(self.intervals))[0]

    @property
    def by_column(self) -> dict[str, Interval]:
        """The headline metric of each target or tag over the folds; empty for classes and for a single target."""
        return {column: one for (metric, column), one in self.intervals.items() if metric == self.headline and column}

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON.

        ``{"r": {"mean", "low", "high"}, ..., "by_target": {"r": {"valence": {...}}}, "pooled": {...}, "undefined"}``
        """
        return {**_nested(self.intervals), "pooled": _nested(self.pooled), "undefined": self.undefined}

    @classmethod
    def from_json(cls, method: str, content: Mapping[str, Any], task: Task, metric: str | None = None) -> Scores:
        """Read what `to_json` returned.

        Raises
        ------
        KeyError, TypeError, ValueError
            The content is not that.
        """
        intervals, pooled = (
            {line: _interval(_find(one, line)) for line in all_lines(task, metric)}
            for one in (content, content["pooled"])
        )
        return cls(method, intervals, pooled, {name: dict(counts) for name, counts in content["undefined"].items()})


def _nested(intervals: Mapping[Line, Interval]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for (name, column), interval in intervals.items():
        if column is None:
            content[name] = asdict(interval)
        else:
            content.setdefault(f"by_{metric_named(name).column}", {}).setdefault(name, {})[column] = asdict(interval)
    return content


def _find(content: Mapping[str, Any], line: Line) -> Mapping[str, Any]:
    name, column = line
    found: Mapping[str, Any]
    found = content[name] if column is None else content[f"by_{metric_named(name).column}"][name][column]
    return found


def _interval(content: Mapping[str, Any]) -> Interval:
    return Interval(*(None if content[key] is None else float(content[key]) for key in ("mean", "low", "high")))


@interruptible()
def score(
    predictions: Mapping[str, Predictions],
    task: Task,
    n_train: float,
    *,
    metric: str | None = None,
    official: bool = False,
    groups: Mapping[str, str] | None = None,
) -> list[Scores]:
    """Score every method.

    Parameters
    ----------
    predictions : mapping of str to Predictions
        By method.
    task : Classification, Tags or Regression
    n_train : float
        Mean number of training tracks of a fold, which the intervals depend on; the manifest of a run holds it.
    metric : str or None
        The headline; None: the default of the task.
    official : bool
        The folds are official splits, the same for every seed.
    groups : mapping of str to str, or None
        The groups of tracks, by id: the bootstrap draws groups, and tracks that have none. None: it draws tracks.
    """
    found = []
    for method, one in predictions.items():
        by_line, columns = fold_scores(one, task), _Columns.of(one, task)
        counts = {each.name: columns.undefined(each, one.parts) for each in metrics_for(task)}
        found.append(
            Scores(
                method=method,
                intervals={
                    line: over_folds(line, by_line[line], one, n_train, official=official)
                    for line in all_lines(task, metric)
                },
                pooled=_pooled(one, task, columns, all_lines(task, metric), groups or {}),
                undefined={name: reasons for name, reasons in counts.items() if reasons},
            )
        )
    return found


def _pooled(
    predictions: Predictions, task: Task, columns: _Columns, wanted: Sequence[Line], groups: Mapping[str, str]
) -> dict[Line, Interval]:
    """Return each line over all folds, a mean over seeds, with its bootstrap interval over groups or tracks."""
    values: dict[Line, NDArray[np.float64]] = {}
    guessed = {metric.name: columns.guessed(metric, predictions) for metric in metrics_for(task)}
    for metric in metrics_for(task):
        of_seeds = np.where(guessed[metric.name], np.nan, columns.scores(metric, predictions.of_seed))
        values |= _by_line(metric, task, of_seeds)  # [n_seeds]
    resampled = _resampled(predictions, task, columns, guessed, groups)
    found = {}
    for line in wanted:
        value = float(nan_mean(values[line]))
        found[line] = percentile_interval(None if np.isnan(value) else value, resampled.get(line, np.zeros(0)))
    return found


def _resampled(
    predictions: Predictions,
    task: Task,
    columns: _Columns,
    guessed: Mapping[str, NDArray[np.bool_]],
    groups: Mapping[str, str],
) -> dict[Line, NDArray[np.float64]]:
    """Return each line of bootstrap resamples ``[n_resamples]``, means over seeds; empty if there is one unit to draw.

    With few splits, a resample may draw no track that a seed has tested: its mean is over the other seeds.
    """
    drawn_as = [(groups.get(track, ""), "" if track in groups else track) for track in predictions.ids.tolist()]
    number = {unit: n for n, unit in enumerate(sorted(set(drawn_as)))}
    units = np.array([number[unit] for unit in drawn_as], np.int64)
    if len(number) < 2:
        return {}
    metrics, seeds = metrics_for(task), predictions.of_seed
    # Metrics with the same inputs may share what is prepared.
    key = {one.name: (one.resampled.prepare, one.name if one.source == "retrieval" else "") for one in metrics}
    prepared: dict[Any, list[Callable[[NDArray[np.float64]], Any]]] = {}
    for metric in metrics:
        if key[metric.name] not in prepared:
            truth, values = columns.inputs(metric)
            prepare = metric.resampled.prepare
            prepared[key[metric.name]] = [prepare(truth[r], values[r], units[r], len(number)) for r in seeds]
    found: dict[Line, list[NDArray[np.float64]]] = {}
    for counts in resample_counts(len(number)):
        statistics = {name: [of_seed(counts) for of_seed in of_seeds] for name, of_seeds in prepared.items()}
        for metric in metrics:
            of_seeds = [metric.resampled.metric(one).reshape(len(counts), -1) for one in statistics[key[metric.name]]]
            known = np.where(guessed[metric.name][:, None], np.nan, np.stack(of_seeds))
            for line, scores in _by_line(metric, task, known).items():  # [n_seeds, n_resamples]
                found.setdefault(line, []).append(nan_mean(scores, axis=0))
    return {line: np.concatenate(chunks) for line, chunks in found.items()}


def zero_width_warnings(scores: Sequence[Scores]) -> list[str]:
    """Return a warning for each method that scores the same in every fold: its interval would look like certainty.

    ``chance`` gets none, as guessing does score the same on folds of equal size.
    """
    found = []
    for one in scores:
        interval = one.intervals[one.headline, None]
        if one.method != "chance" and interval.low is not None and interval.low == interval.high:
            label = metric_named(one.headline).label
            found.append(
                f"warning: {one.method} scores the same in every fold ({label} {interval.mean:.3f}): its interval has "
                "no width, which does not imply certainty"
            )
    return found
