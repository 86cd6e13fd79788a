"""The predictions of combined methods, which are computed from those of their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

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
        tables += [_combine(task, method, *place, [parts[name, *place] for name in names]) for place in finished]
        if not isinstance(task, Regression):
            notes += _without_probabilities(method, parts, finished)
    return Combined(tables, notes)


def _combine(task: Task, method: Method, seed: int, fold: int, members: Sequence[Predictions]) -> pa.Table:
    """Average the predictions of the members for the test tracks of a fold, which are in the same order."""
    first = members[0]
    is_class = isinstance(task, Classification)
    outputs = [
        Outputs(one.predicted[:, 0] if is_class else one.predicted, one.scores, one.probabilities) for one in members
    ]
    made = average(task, outputs, equal_weights(len(members)))
    truth = first.truth[:, 0] if is_class else first.truth
    ids = first.ids.tolist()
    return predictions_table(task, method, seed, fold, ids, truth, made.predicted, made.scores, made.probabilities)


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
