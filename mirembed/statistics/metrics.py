"""The metrics of predictions: one table of them, `METRICS`.

Conventions
-----------
Truth comes first, prediction second, both arrays with a row for each track. A metric gives one number for one fold (or
for all folds pooled) and each *column*: a target, a tag or a class. Where it is undefined it is NaN, and the table
knows why (`Metric.reasons`), so that a caller can count these cases and leave them out of means.

The functions are in `mirembed.statistics.class_metrics`, `mirembed.statistics.tag_metrics` and
`mirembed.statistics.target_metrics`. All raise `EvaluationError` for arrays that are empty, differ in shape or are not
finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import SpecError
from mirembed.hookspecs import Classification, Regression, Tags, Task
from mirembed.progress import joined
from mirembed.specs import near_names
from mirembed.statistics import class_metrics, retrieval, tag_metrics, target_metrics
from mirembed.statistics.resampling import Resampling
from mirembed.statistics.samples import is_constant

Reason: TypeAlias = Literal[
    "constant truth",
    "constant prediction",
    "no positive",
    "no negative",
    "no query with enough candidates",
    "equal counts",
]
"""Why a metric is undefined."""

_HOLDS: Mapping[Reason, Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]]] = {
    "constant truth": lambda truth, _: is_constant(truth),
    "constant prediction": lambda _, prediction: is_constant(prediction),
    "no positive": lambda truth, _: np.asarray(~truth.any(axis=0)),
    "no negative": lambda truth, _: np.asarray(truth.all(axis=0)),
    "no query with enough candidates": lambda truth, _: np.asarray(~truth.any(axis=0)),
    "equal counts": lambda _, prediction: is_constant(prediction),
}
"""Whether each reason holds, for truth and prediction ``[n, n_columns]``."""

Column: TypeAlias = Literal["class", "tag", "target"]


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics: all that the rest of mirembed needs to know about a metric.

    Attributes
    ----------
    name : str
        In JSON, CSV, code and ``--metric``: ``macro_f1``.
    label, title : str
        In tables and figures: ``r``; and at the start of a title: ``Pearson's r``.
    task : type, or tuple of types
        `Classification`, `Tags` or `Regression`.
    function : callable
        Truth and prediction to the metric, float64. Without ``column``: class indices ``[n_tracks]`` to ``[]``.
        Otherwise ``[n_tracks, n_columns]`` to ``[n_columns]``: of classes and tags, the truth is 0 or 1; of tags, the
        prediction is a score. Of ``retrieval``, the truth ``[n_tracks, 1]`` is 1 for queries that have a score, and the
        prediction is that score.
    resampled : Resampling
        The same metric of many bootstrap resamples at once. It takes a column for each class, tag or target.
    range : (float, float)
        The lowest and the highest possible value.
    column : {"class", "tag", "target"} or None
        What it has a value for; None: a single value for all classes.
    reasons : tuple of Reason
        Why it can be undefined: the first that holds is the cause.
    has_mean : bool
        Whether the mean over the columns is a score too, and the metric can be the headline.
    higher_is_better : bool
    source : {"predictions", "retrieval"}
        What it is computed from: predictions, or the neighbors of test tracks (`mirembed.statistics.retrieval`), which
        depend on the embeddings alone.
    in_brief : bool
        Whether tables without room for every metric show it, even if it is not the headline.
    """

    name: str
    label: str
    title: str
    task: type[Task] | tuple[type[Task], ...]
    function: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
    resampled: Resampling
    range: tuple[float, float]
    column: Column | None = None
    reasons: tuple[Reason, ...] = ()
    has_mean: bool = True
    higher_is_better: bool = True
    source: Literal["predictions", "retrieval"] = "predictions"
    in_brief: bool = False

    @property
    def name_in_text(self) -> str:
        """The label; where it says more, the title.

        >>> metric_named("accuracy").name_in_text, metric_named("r").name_in_text
        ('accuracy', "Pearson's r")
        """
        return self.label if self.label.lower() == self.title.lower() else self.title

    def why_undefined(self, truth: NDArray[Any], prediction: NDArray[Any]) -> list[Reason]:
        """Return the reason why the metric is undefined, for each column where it is.

        Parameters
        ----------
        truth, prediction : ndarray [n, n_columns]

        >>> truth, prediction = np.array([[1.0, 1.0], [2.0, 1.0]]), np.array([[3.0, 0.0], [3.0, 1.0]])
        >>> metric_named("r").why_undefined(truth, prediction)
        ['constant prediction', 'constant truth']
        """
        holding = {reason: _HOLDS[reason](truth, prediction) for reason in self.reasons}
        causes = [next((r for r in self.reasons if holding[r][column]), None) for column in range(truth.shape[1])]
        return [cause for cause in causes if cause is not None]


def _of_queries(name: str, label: str, *tasks: type[Task]) -> Metric:
    """Return a metric of retrieval that is a mean over queries."""
    return Metric(
        name,
        label,
        label[0].upper() + label[1:] if label.islower() else label,
        tasks,
        retrieval.mean_of_queries,
        Resampling(retrieval.query_sums, retrieval.resampled_mean),
        (0, 1),
        reasons=("no query with enough candidates",),
        source="retrieval",
    )


_COUNTS, _MOMENTS = class_metrics.class_counts, target_metrics.moments

METRICS = (
    Metric(
        "accuracy",
        "accuracy",
        "Accuracy",
        Classification,
        class_metrics.accuracy,
        Resampling(_COUNTS, class_metrics.resampled_accuracy),
        (0, 1),
        in_brief=True,
    ),
    Metric(
        "macro_f1",
        "macro-F1",
        "Macro-F1",
        Classification,
        class_metrics.macro_f1,
        Resampling(_COUNTS, class_metrics.resampled_macro_f1),
        (0, 1),
        in_brief=True,
    ),
    Metric(
        "balanced_accuracy",
        "balanced accuracy",
        "Balanced accuracy",
        Classification,
        class_metrics.balanced_accuracy,
        Resampling(_COUNTS, class_metrics.resampled_balanced_accuracy),
        (0, 1),
    ),
    Metric(
        "recall",
        "recall",
        "Recall",
        Classification,
        class_metrics.recall,
        Resampling(_COUNTS, class_metrics.resampled_recall),
        (0, 1),
        column="class",
        reasons=("no positive",),
        has_mean=False,
    ),
    Metric(
        "roc_auc",
        "ROC-AUC",
        "ROC-AUC",
        Tags,
        tag_metrics.roc_auc,
        Resampling(tag_metrics.rankings, tag_metrics.resampled_roc_auc),
        (0, 1),
        column="tag",
        reasons=("no positive", "no negative"),
        in_brief=True,
    ),
    Metric(
        "average_precision",
        "average precision",
        "Average precision",
        Tags,
        tag_metrics.average_precision,
        Resampling(tag_metrics.rankings, tag_metrics.resampled_average_precision),
        (0, 1),
        column="tag",
        reasons=("no positive",),
        in_brief=True,
    ),
    Metric(
        "r",
        "r",
        "Pearson's r",
        Regression,
        target_metrics.pearson_r,
        Resampling(_MOMENTS, target_metrics.resampled_r),
        (-1, 1),
        column="target",
        reasons=("constant truth", "constant prediction"),
        in_brief=True,
    ),
    Metric(
        "r_squared",
        "r²",
        "r²",
        Regression,
        target_metrics.r_squared,
        Resampling(_MOMENTS, target_metrics.resampled_r_squared),
        (0, 1),
        column="target",
        reasons=("constant truth", "constant prediction"),
        in_brief=True,
    ),
    Metric(
        "r2",
        "R²",
        "R²",
        Regression,
        target_metrics.r2_score,
        Resampling(_MOMENTS, target_metrics.resampled_r2),
        (-math.inf, 1),
        column="target",
        reasons=("constant truth",),
        in_brief=True,
    ),
    Metric(
        "spearman",
        "Spearman",
        "Spearman's correlation",
        Regression,
        target_metrics.spearman,
        Resampling(target_metrics.rank_correlations, target_metrics.same),
        (-1, 1),
        column="target",
        reasons=("constant truth", "constant prediction"),
    ),
    Metric(
        "rmse",
        "RMSE",
        "RMSE",
        Regression,
        target_metrics.rmse,
        Resampling(_MOMENTS, target_metrics.resampled_rmse),
        (0, math.inf),
        column="target",
        higher_is_better=False,
    ),
    Metric(
        "mae",
        "MAE",
        "MAE",
        Regression,
        target_metrics.mae,
        Resampling(_MOMENTS, target_metrics.resampled_mae),
        (0, math.inf),
        column="target",
        higher_is_better=False,
    ),
    Metric(
        "ccc",
        "CCC",
        "Concordance",
        Regression,
        target_metrics.ccc,
        Resampling(_MOMENTS, target_metrics.resampled_ccc),
        (-1, 1),
        column="target",
        reasons=("constant truth",),
    ),
    _of_queries(retrieval.PRECISION, f"precision at {retrieval.K}", Classification, Tags),
    _of_queries(retrieval.AVERAGE_PRECISION, "mean average precision", Classification, Tags),
    _of_queries(retrieval.R_PRECISION, "R-precision", Classification, Tags),
    _of_queries(retrieval.NDCG, f"nDCG at {retrieval.K}", Tags, Regression),
    Metric(
        "hubness",
        "hubness",
        "Hubness",
        (Classification, Tags, Regression),
        retrieval.hubness_of_tracks,
        Resampling(retrieval.query_sums, retrieval.resampled_hubness),
        (-math.inf, math.inf),
        reasons=("no query with enough candidates", "equal counts"),
        higher_is_better=False,
        source="retrieval",
    ),
)
"""Every metric, the default headline of each task first."""


def metrics_for(task: Task, metric: str | None = None) -> tuple[Metric, ...]:
    """Return the metrics of a task, the headline first: ``metric``, or the default.

    >>> [metric.name for metric in metrics_for(Classification(("blues", "jazz")), "macro_f1")]
    ['macro_f1', 'accuracy', 'balanced_accuracy', 'recall', 'precision_at_5', 'map', 'r_precision', 'hubness']

    Raises
    ------
    SpecError
        See `headline`.
    """
    first = headline(task, metric)
    others = (one for one in METRICS if isinstance(task, one.task) and one.name != first.name)
    return (first, *others)


def headline(task: Task, metric: str | None = None) -> Metric:
    """Return the main metric of a task: the one of this name, or accuracy of classes, ROC-AUC of tags, r of targets.

    Raises
    ------
    SpecError
        There is no such metric, or the task has no such score.
    """
    able = [one for one in METRICS if isinstance(task, one.task) and one.has_mean and one.source == "predictions"]
    if metric is None:
        return able[0]
    chosen = metric_named(metric)
    if chosen not in able:
        names = joined([one.name for one in able], "or")
        if chosen.source == "retrieval":
            raise SpecError(
                f"--metric {metric} is computed from embeddings, not from predictions, and cannot be the headline; "
                f"choose {names}"
            )
        kinds = {Classification: "classes", Tags: "tags", Regression: "targets"}
        raise SpecError(
            f"--metric {metric} is not a score of {kinds[type(task)]}, which this dataset has; choose {names}"
        )
    return chosen


def metric_named(name: str) -> Metric:
    """Return a metric by its name.

    >>> metric_named("macro_f1").label
    'macro-F1'

    Raises
    ------
    SpecError
        There is none.
    """
    found = {metric.name: metric for metric in METRICS}
    if name not in found:
        near = near_names(name, found, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(found)}"
        raise SpecError(f"--metric {name}: unknown metric; {hint}")
    return found[name]
