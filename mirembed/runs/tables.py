"""The tables of a run: their columns, and the arrays of predictions that scores are computed from.

========================  ==================================================================================
``folds.parquet``         seed, id, fold, group: one row for each time that a track is tested; group null if it has none
``predictions.parquet``   method, approach, learner, network, features, seed, fold, id; then label and prediction
                          of classes or tags, ``score_`` with each tag's name, and ``probability_`` with the name of
                          each class or tag, null where a method has none; or each target's name and ``predicted_`` with
                          the name; then ``retrieval_`` with the name of each score of a query
                          (`mirembed.statistics.retrieval`), null where it is undefined
``checkpoints.parquet``   the same with the column epoch after fold, without probabilities and retrieval
``curves.parquet``        approach, learner, network, features, seed, fold, epoch, loss
``cost.parquet``          methods (a list: those that share the network), network, features, seed, fold, wall_seconds,
                          cpu_seconds, peak_memory, sessions, processor; see `mirembed.workers.cost.Cost`
``selection.parquet``     method, seed, fold, candidate (numbered in the order that wins ties), a column for each choice
                          (``learner.C``, ``epoch``; null where a method has no such choice), inner_fold, score (null
                          where it is undefined), chosen
``weights.parquet``       method, member, seed, fold, weight
``embeddings/``           approach, learner, network, features, seed, fold, epoch, id, in_sample (whether the network
                          trained on it), embedding; of methods that share a network, those of the first
========================  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mirembed.config.approaches import Method
from mirembed.config.selection import EPOCH
from mirembed.datasets.splits import Fold
from mirembed.hookspecs import Classification, Regression, Tags, Task
from mirembed.statistics.retrieval import OCCURRENCE, QUERY_SCORES
from mirembed.store.embeddings import vector_column
from mirembed.store.rows import label_type, tags_of
from mirembed.store.tracks import tag_array

KEYS = ("seed", "fold", "id")
"""What identifies a test of a track."""

TRAINED = ("approach", "learner", "network", "features")
"""What identifies the network of a fold, and with it curves and embeddings: methods may choose different networks."""

PROBABILITY = "probability_"
"""Before the name of a class or tag: the column of its probabilities."""

PREDICTED = "predicted_"
"""Before a target's name: the column of its predictions."""

RETRIEVAL = "retrieval_"
"""Before the name of a score of a query: how well the neighbors of a test track among the others suit it."""

SCORE = "score_"
"""Before a tag's name: the column of the scores that rank tracks by it."""


def network_of(method: Method) -> tuple[str | None, ...]:
    """Return the values of the columns `TRAINED`."""
    learner = None if method.learner is None else str(method.learner)
    return method.approach.name, learner, method.network, method.features


def folds_table(ids: Sequence[str], folds: Mapping[int, Sequence[Fold]], groups: Sequence[str | None]) -> pa.Table:
    """Make the table of the folds of every seed; ``groups`` has the group of each track."""
    tests = [(seed, fold.index, row) for seed, of_seed in folds.items() for fold in of_seed for row in fold.test]
    return pa.table(
        {
            "seed": pa.array([seed for seed, _, _ in tests], pa.int64()),
            "id": pa.array([ids[row] for _, _, row in tests], pa.string()),
            "fold": pa.array([fold for _, fold, _ in tests], pa.int64()),
            "group": pa.array([groups[row] for _, _, row in tests], pa.string()),
        }
    )


def predictions_table(
    task: Task,
    method: Method,
    seed: int,
    fold: int,
    ids: Sequence[str],
    truth: NDArray[Any],
    predicted: NDArray[Any],
    scores: NDArray[np.float64] | None = None,
    probabilities: NDArray[np.float64] | None = None,
    retrieval: Mapping[str, NDArray[np.float64]] | None = None,
) -> pa.Table:
    """Make the table of what a method predicts for the test tracks of a fold.

    Parameters
    ----------
    task : Classification, Tags or Regression
    method : Method
    seed, fold : int
    ids : sequence of str, of the test tracks
    truth, predicted : ndarray
        Class indices ``[n_test]``, tags ``[n_test, n_tags]`` of 0 and 1, or targets ``[n_test, n_targets]`` in original
        units.
    scores : ndarray [n_test, n_tags], or None
        Of tags: see `mirembed.models.model.Model.scores`.
    probabilities : ndarray [n_test, n_classes], float64, or None
        Of classes and tags; None where the method has none.
    retrieval : mapping of str to ndarray [n_test], float64, or None
        The `QUERY_SCORES` of the test tracks; None where the method has no embedding.
    """
    n = len(ids)
    columns: dict[str, Any] = {
        "method": [method.name] * n,
        "approach": [method.approach.name] * n,
        "learner": pa.array([None if method.learner is None else str(method.learner)] * n, pa.string()),
        "network": pa.array([method.network] * n, pa.string()),
        "features": pa.array([method.features] * n, pa.string()),
        "seed": pa.array([seed] * n, pa.int64()),
        "fold": pa.array([fold] * n, pa.int64()),
        "id": list(ids),
    }
    if isinstance(task, Classification):
        for name, indices in (("label", truth), ("prediction", predicted)):
            columns[name] = [task.classes[int(index)] for index in indices]
    elif isinstance(task, Tags):
        for name, tags in (("label", truth), ("prediction", predicted)):
            columns[name] = pa.array([tags_of(row, task) for row in tags], label_type(task))
        if scores is not None:
            columns |= {SCORE + tag: scores[:, position] for position, tag in enumerate(task.classes)}
    else:
        for position, target in enumerate(task.targets):
            columns[target.name] = truth[:, position]
            columns[PREDICTED + target.name] = predicted[:, position]
    if not isinstance(task, Regression):
        for position, name in enumerate(task.classes):
            values = [None] * n if probabilities is None else probabilities[:, position]
            columns[PROBABILITY + name] = pa.array(values, pa.float64())
    for name in QUERY_SCORES:
        values = [None] * n if retrieval is None else retrieval[name]
        columns[RETRIEVAL + name] = pa.array(values, pa.float64(), from_pandas=True)  # null for NaN
    return pa.table(columns)


def with_epoch(predictions: pa.Table, epoch: int) -> pa.Table:
    """Make the rows of ``checkpoints.parquet`` from the predictions after one epoch."""
    left_out = (PROBABILITY, RETRIEVAL)
    predictions = predictions.select([name for name in predictions.column_names if not name.startswith(left_out)])
    after_fold = predictions.column_names.index("fold") + 1
    return predictions.add_column(after_fold, "epoch", pa.array([epoch] * len(predictions), pa.int64()))


def embeddings_table(
    method: Method, seed: int, fold: int, epoch: int, ids: Sequence[str], in_sample: NDArray[np.bool_], vectors: Any
) -> pa.Table:
    """Make the table of the embeddings of all tracks.

    Parameters
    ----------
    method : Method
        The first of those that share the embeddings.
    in_sample : ndarray [n_tracks], bool
        Whether the network was trained on the track.
    vectors : ndarray [n_tracks, units], float32
    """
    n = len(vectors)
    return pa.table(
        {
            "approach": [method.approach.name] * n,
            "learner": pa.array([None if method.learner is None else str(method.learner)] * n, pa.string()),
            "network": pa.array([method.network] * n, pa.string()),
            "features": pa.array([method.features] * n, pa.string()),
            "seed": pa.array([seed] * n, pa.int64()),
            "fold": pa.array([fold] * n, pa.int64()),
            "epoch": pa.array([epoch] * n, pa.int64()),
            "id": list(ids),
            "in_sample": pa.array(in_sample, pa.bool_()),
            "embedding": vector_column(vectors),
        }
    )


def curves_table(trainings: Sequence[tuple[pa.Table, Sequence[float]]]) -> pa.Table:
    """Make the table of losses from the predictions and the losses of each training, one loss an epoch."""
    keys = (*TRAINED, "seed", "fold")
    rows = [
        {**dict(zip(keys, values, strict=True)), "epoch": epoch, "loss": loss}
        for predictions, losses in trainings
        for values in dict.fromkeys(table_rows(predictions, *keys))
        for epoch, loss in enumerate(losses, 1)
    ]
    names, numbers = dict.fromkeys(TRAINED, pa.string()), dict.fromkeys(("seed", "fold", "epoch"), pa.int64())
    return pa.Table.from_pylist(rows, schema=pa.schema({**names, **numbers, "loss": pa.float64()}))


def selection_table(rows: Sequence[Mapping[str, Any]], predictions: pa.Table) -> pa.Table:
    """Make the table of the scores in the inner folds of one fold.

    Parameters
    ----------
    rows : sequence of mapping
        The columns of ``selection.parquet`` but seed and fold; the values of choices are text.
    predictions : pyarrow.Table
        Of the same fold.
    """
    place = {name: predictions[name][0].as_py() for name in ("seed", "fold")}
    numbers = ("seed", "fold", "candidate", "inner_fold", EPOCH)
    types = {name: pa.int64() for name in numbers} | {"score": pa.float64(), "chosen": pa.bool_()}
    front, back = ["method", "seed", "fold", "candidate"], ["inner_fold", "score", "chosen"]
    columns = [*front, *(name for name in rows[0] if name not in (*front, *back)), *back]
    content = [{**row, **place, **({EPOCH: int(row[EPOCH])} if row.get(EPOCH) else {})} for row in rows]
    return pa.Table.from_pylist(content, schema=pa.schema({name: types.get(name, pa.string()) for name in columns}))


def cost_table(trainings: Sequence[tuple[pa.Table, Mapping[str, Any]]]) -> pa.Table:
    """Make the table of costs from the predictions of each training and its cost and processor."""
    keys = ("network", "features", "seed", "fold")
    rows = []
    for predictions, cost in trainings:
        first = dict(zip(keys, table_rows(predictions.slice(0, 1), *keys)[0], strict=True))
        rows.append({"methods": list(dict.fromkeys(predictions["method"].to_pylist())), **first, **cost})
    columns = {
        "methods": pa.list_(pa.string()),
        **dict.fromkeys(("network", "features"), pa.string()),
        **dict.fromkeys(("seed", "fold"), pa.int64()),
        **dict.fromkeys(("wall_seconds", "cpu_seconds"), pa.float64()),
        **dict.fromkeys(("peak_memory", "sessions"), pa.int64()),
        "processor": pa.string(),
    }
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def table_rows(table: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    """Return some columns of a table as one tuple a row."""
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))


@dataclass(frozen=True, eq=False)
class Predictions:
    """The out-of-fold predictions of one method after one epoch, a row for each test of a track.

    Attributes
    ----------
    seeds, folds : ndarray [n_rows], int64
    ids : ndarray [n_rows], str
    truth, predicted : ndarray [n_rows, n_targets]
        In original units; class indices ``[n_rows, 1]``; tags ``[n_rows, n_tags]`` of 0 and 1.
    scores : ndarray [n_rows, n_tags], float64, or None
        The scores that rank tracks by each tag; larger is more likely.
    probabilities : ndarray [n_rows, n_classes], float64, or None
        Of each class or tag; None for targets, and where the method has none.
    retrieval : mapping of str to ndarray [n_rows], float64, or None
        The `QUERY_SCORES` of each test track, NaN where undefined; None where the method has no embedding.
    """

    seeds: NDArray[np.int64]
    folds: NDArray[np.int64]
    ids: NDArray[np.str_]
    truth: NDArray[Any]
    predicted: NDArray[Any]
    scores: NDArray[np.float64] | None = None
    probabilities: NDArray[np.float64] | None = None
    retrieval: Mapping[str, NDArray[np.float64]] | None = None

    @classmethod
    def from_table(cls, table: pa.Table, task: Task) -> Predictions:
        """Read the rows of a table of predictions, in their order."""
        scores = None
        if isinstance(task, Classification):
            index = {name: number for number, name in enumerate(task.classes)}
            truth, predicted = (
                np.array([[index[name]] for name in table[column].to_pylist()]) for column in ("label", "prediction")
            )
        elif isinstance(task, Tags):
            truth, predicted = (tag_array(task, table[column].to_pylist()) for column in ("label", "prediction"))
            scores = _numbers_by_name(table, SCORE, task.classes)
        else:
            names = [target.name for target in task.targets]
            truth, predicted = (
                np.column_stack([_numbers(table[prefix + name]) for name in names]) for prefix in ("", PREDICTED)
            )
        probabilities = None if isinstance(task, Regression) else _numbers_by_name(table, PROBABILITY, task.classes)
        if probabilities is not None and np.isnan(probabilities).all():
            probabilities = None
        retrieval = None
        if all(RETRIEVAL + name in table.column_names for name in QUERY_SCORES):
            retrieval = {name: _numbers(table[RETRIEVAL + name]) for name in QUERY_SCORES}
        seeds, folds = _numbers(table["seed"]), _numbers(table["fold"])
        ids = np.array(table["id"].to_pylist(), str)
        return cls(seeds, folds, ids, truth, predicted, scores, probabilities, retrieval)

    @classmethod
    def by_columns(cls, table: pa.Table, task: Task, *columns: str) -> dict[tuple[Any, ...], Predictions]:
        """Read the rows of each combination of values of some columns, in the order of the table."""
        rows: dict[tuple[Any, ...], list[int]] = {}
        for row, values in enumerate(table_rows(table, *columns)):
            rows.setdefault(values, []).append(row)
        whole = cls.from_table(table, task)
        parts = {values: whole.take(np.array(some)) for values, some in rows.items()}
        return {values: part._without_nan() for values, part in parts.items()}

    @classmethod
    def by_method(cls, table: pa.Table, task: Task) -> dict[str, Predictions]:
        """Read the rows of each method, in the order of the table."""
        return {method: predictions for (method,), predictions in cls.by_columns(table, task, "method").items()}

    def take(self, rows: NDArray[Any]) -> Predictions:
        """Return some rows, by number or mask."""
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        of_queries = arrays.pop("retrieval")
        taken: dict[str, Any] = {name: None if array is None else array[rows] for name, array in arrays.items()}
        if of_queries is not None:
            taken["retrieval"] = {name: array[rows] for name, array in of_queries.items()}
        return Predictions(**taken)

    def _without_nan(self) -> Predictions:
        """Return the predictions of a method without probabilities and scores of retrieval, if it has none."""
        found = self
        if self.probabilities is not None and np.isnan(self.probabilities).all():
            found = replace(found, probabilities=None)
        if self.retrieval is not None and np.isnan(self.retrieval[OCCURRENCE]).all():
            found = replace(found, retrieval=None)
        return found

    def sorted(self) -> Predictions:
        """Return the rows sorted by seed, fold and id."""
        return self.take(np.lexsort((self.ids, self.folds, self.seeds)))

    @cached_property
    def tests(self) -> list[tuple[int, int, str]]:
        """Seed, fold and id of each row."""
        return list(zip(self.seeds.tolist(), self.folds.tolist(), self.ids.tolist(), strict=True))

    @cached_property
    def parts(self) -> list[NDArray[np.int64]]:
        """The rows of each fold of each seed, sorted by seed and fold."""
        order = np.lexsort((self.folds, self.seeds))
        seeds, folds = self.seeds[order], self.folds[order]
        return np.split(order, np.flatnonzero((np.diff(seeds) != 0) | (np.diff(folds) != 0)) + 1)

    @cached_property
    def fold_of_part(self) -> NDArray[np.int64]:
        """The fold of each of the `parts`; with several seeds, a fold stands once for each."""
        return np.array([self.folds[rows[0]] for rows in self.parts], np.int64)

    @cached_property
    def of_seed(self) -> list[NDArray[np.int64]]:
        """The rows of each seed."""
        return [np.flatnonzero(self.seeds == seed) for seed in np.unique(self.seeds)]


def _numbers_by_name(table: pa.Table, prefix: str, names: Sequence[str]) -> NDArray[np.float64] | None:
    """Return the columns of some names ``[n_rows, n_names]``, NaN for null; None if the table lacks any."""
    if not all(prefix + name in table.column_names for name in names):
        return None
    return np.column_stack([_numbers(table[prefix + name]) for name in names])


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column of numbers, NaN for null.

    There may be a billion of them, so not as Python's numbers; pyarrow's own conversion would import pandas.
    """
    dtype = column.type.to_pandas_dtype()
    parts = [np.empty(0, dtype)]
    for chunk in column.chunks:
        valid, values = chunk.buffers()
        rows = slice(chunk.offset, chunk.offset + len(chunk))
        numbers = np.frombuffer(values, dtype)[rows] if len(chunk) else parts[0]
        if chunk.null_count:
            known = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")[rows]
            numbers = np.where(known, numbers, np.nan)
        parts.append(numbers)
    return np.concatenate(parts)
