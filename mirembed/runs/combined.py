"""The predictions of combined methods, which are computed from those of their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mirembed.config.approaches import Method
from mirembed.hookspecs import Classification, Regression, Task
from mirembed.models.averaging import Outputs, average, equal_weights, stacked_weights
from mirembed.progress import counted
from mirembed.runs.tables import Predictions, predictions_table, table_rows

_Parts: TypeAlias = Mapping[tuple[str, int, int], Predictions]
"""Predictions by method, seed and fold."""


@dataclass(frozen=True, eq=False)
class Combined:
    """What combined methods predict.

    Attributes
    ----------
    tables : list of pyarrow.Table
        Rows of ``predictions.parquet``, for each combined method and each fold that all its members have finished.
    notes : list of str
        Which members have no probabilities.
    weights : pyarrow.Table or None
        Rows of ``weights.parquet``; None if no method is stacked.
    """

    tables: list[pa.Table]
    notes: list[str]
    weights: pa.Table | None = None


@dataclass(frozen=True)
class MemberWeight:
    """The weight of a member of a stacked method, over the folds of all seeds.

    Attributes
    ----------
    method, member : str
    mean, low, high : float
        Mean, smallest and largest weight.
    """

    method: str
    member: str
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON."""
        return asdict(self)


def member_weights(table: pa.Table | None) -> list[MemberWeight]:
    """Summarize the rows of ``weights.parquet`` by method and member; empty if there are none."""
    found: dict[tuple[str, str], list[float]] = {}
    for method, member, weight in [] if table is None else table_rows(table, "method", "member", "weight"):
        found.setdefault((method, member), []).append(weight)
    return [MemberWeight(*names, float(np.mean(some)), min(some), max(some)) for names, some in found.items()]


def combine_predictions(
    predictions: pa.Table, methods: Sequence[Method], task: Task, inner: pa.Table | None = None
) -> Combined:
    """Average the predictions of the members of each combined method, fold by fold.

    Parameters
    ----------
    predictions : pyarrow.Table
        Of the other methods; of an unfinished run, those that there are.
    methods : sequence of Method
        All methods of the run.
    task : Classification, Tags or Regression
    inner : pyarrow.Table or None
        What members of stacked methods predict for training tracks in inner folds.
    """
    combined = [method for method in methods if method.approach.members]
    if not combined:
        return Combined([], [])
    parts = Predictions.by_columns(predictions, task, "method", "seed", "fold")
    places = list(dict.fromkeys(table_rows(predictions, "seed", "fold")))
    of_inner = {} if inner is None else Predictions.by_columns(inner, task, "method", "seed", "fold")
    tables: list[pa.Table] = []
    notes: list[str] = []
    weights: list[dict[str, Any]] = []
    for method in combined:
        names = method.approach.members
        finished = [place for place in places if all((name, *place) in parts for name in names)]
        for seed, fold in finished:
            of_members = equal_weights(len(names))
            if method.approach.stacked:
                of_members = _stacked(task, [of_inner[name, seed, fold] for name in names])
                row = {"method": method.name, "seed": seed, "fold": fold}
                weights += [row | {"member": name, "weight": one} for name, one in zip(names, of_members, strict=True)]
            made = average_predictions(task, [parts[name, seed, fold] for name in names], of_members)
            truth, predicted = made.truth, made.predicted
            if isinstance(task, Classification):
                truth, predicted = truth[:, 0], predicted[:, 0]
            output = truth, predicted, made.scores, made.probabilities
            tables.append(predictions_table(task, method, seed, fold, made.ids.tolist(), *output))
        if not isinstance(task, Regression):
            notes += _without_probabilities(method, parts, finished)
    types = dict.fromkeys(("method", "member"), pa.string()) | dict.fromkeys(("seed", "fold"), pa.int64())
    schema = pa.schema({**types, "weight": pa.float64()})
    return Combined(tables, notes, pa.Table.from_pylist(weights, schema) if weights else None)


def _stacked(task: Task, members: Sequence[Predictions]) -> NDArray[np.float64]:
    """Return the weights of members from their predictions of training tracks in inner folds."""
    truth = members[0].truth
    labels = truth[:, 0] if isinstance(task, Classification) else truth
    return stacked_weights(task, labels, [_outputs(task, one) for one in members])


def average_predictions(task: Task, members: Sequence[Predictions], weights: NDArray[np.float64]) -> Predictions:
    """Average predictions of the same tests, in the same order; see `mirembed.models.averaging.average`."""
    made = average(task, [_outputs(task, one) for one in members], weights)
    predicted = made.predicted[:, None] if isinstance(task, Classification) else made.predicted
    return replace(
        members[0], predicted=predicted, scores=made.scores, probabilities=made.probabilities, retrieval=None
    )


def _outputs(task: Task, one: Predictions) -> Outputs:
    predicted = one.predicted[:, 0] if isinstance(task, Classification) else one.predicted
    return Outputs(predicted, one.scores, one.probabilities)


def _without_probabilities(method: Method, parts: _Parts, places: Sequence[tuple[int, int]]) -> list[str]:
    """Say which members count with their plain predictions, and in how many folds."""
    found = []
    for name in method.approach.members:
        n = sum(parts[name, *place].probabilities is None for place in places)
        if n:
            where = f"{n} of {counted(len(places), 'fold')}"
            found.append(
                f"{method.name}: {name} has no probabilities in {where}; there, its predictions count as 1 and 0"
            )
    return found
