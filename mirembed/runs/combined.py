"""The predictions of combined methods, which are computed from those of their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mirembed.config.approaches import Method
from mirembed.hookspecs import Classification, Regression, Task
from mirembed.models.averaging import Outputs, average, equal_weights
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
    """

    tables: list[pa.Table]
    notes: list[str]


def combine_predictions(predictions: pa.Table, methods: Sequence[Method], task: Task) -> Combined:
    """Average the predictions of the members of each combined method, fold by fold.

    Parameters
    ----------
    predictions : pyarrow.Table
        Of the other methods; of an unfinished run, those that there are.
    methods : sequence of Method
        All methods of the run.
    task : Classification, Tags or Regression
    """
    combined = [method for method in methods if method.approach.members]
    if not combined:
        return Combined([], [])
    parts = Predictions.by_columns(predictions, task, "method", "seed", "fold")
    places = list(dict.fromkeys(table_rows(predictions, "seed", "fold")))
    tables, notes = [], []
    for method in combined:
        names = method.approach.members
        finished = [place for place in places if all((name, *place) in parts for name in names)]
        for seed, fold in finished:
            made = average_predictions(task, [parts[name, seed, fold] for name in names], equal_weights(len(names)))
            truth, predicted = made.truth, made.predicted
            if isinstance(task, Classification):
                truth, predicted = truth[:, 0], predicted[:, 0]
            output = truth, predicted, made.scores, made.probabilities
            tables.append(predictions_table(task, method, seed, fold, made.ids.tolist(), *output))
        if not isinstance(task, Regression):
            notes += _without_probabilities(method, parts, finished)
    return Combined(tables, notes)


def average_predictions(task: Task, members: Sequence[Predictions], weights: NDArray[np.float64]) -> Predictions:
    """Average predictions of the same tests, in the same order; see `mirembed.models.averaging.average`."""
    is_class = isinstance(task, Classification)
    outputs = [
        Outputs(one.predicted[:, 0] if is_class else one.predicted, one.scores, one.probabilities) for one in members
    ]
    made = average(task, outputs, weights)
    predicted = made.predicted[:, None] if is_class else made.predicted
    return replace(
        members[0], predicted=predicted, scores=made.scores, probabilities=made.probabilities, retrieval=None
    )


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
