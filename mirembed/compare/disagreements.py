"""The tracks that one approach predicts better than another."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mirembed.evaluate.parts import PREDICTED
from mirembed.hookspecs import Classification, Regression, Task

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Mistake:
    """A track whose class only one approach gets right.

    Attributes
    ----------
    track : str
    label : str
    prediction_a, prediction_b : str
    times : int
        How often it came out so; more than once with several seeds.
    """

    track: str
    label: str
    prediction_a: str
    prediction_b: str
    times: int


@dataclass(frozen=True)
class LargerError:
    """A track and target that one approach predicts more closely.

    Attributes
    ----------
    track : str
    target : str
    truth : float
        In the target's own units.
    error_a, error_b : float
        Absolute errors, in the same units; means over the seeds.
    """

    track: str
    target: str
    truth: float
    error_a: float
    error_b: float


Better: TypeAlias = tuple[Mistake, ...] | tuple[LargerError, ...]


@dataclass(frozen=True)
class Disagreements:
    """Where two approaches disagree.

    Attributes
    ----------
    a, b : str
        The approaches.
    count_a, count_b : int
        Classification: predictions that only A, and only B, gets right. Regression: tracks and targets that A, and B,
        predicts more closely.
    better_a, better_b : tuple of Mistake, or of LargerError
        Those where A, and B, is better: the most frequent mistakes, the largest differences of error first.
    mcnemar_p : float or None
        Of McNemar's exact test, corrected after Holm over the pairs; only of a single split, which leaves no folds to
        test over.
    """

    a: str
    b: str
    count_a: int
    count_b: int
    better_a: Better
    better_b: Better
    mcnemar_p: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the disagreements as JSON."""
        return asdict(self)


def disagreements(task: Task, a: str, b: str, table_a: pa.Table, table_b: pa.Table, top: int) -> Disagreements:
    """Find where two approaches disagree.

    Parameters
    ----------
    task : Classification or Regression
    a, b : str
    table_a, table_b : pyarrow.Table
        Their predictions, row by row of the same tracks.
    top : int
        How many to list for each approach.
    """
    if isinstance(task, Classification):
        return _mistakes(a, b, table_a, table_b, top)
    return _larger_errors(task, a, b, table_a, table_b, top)


def _mistakes(a: str, b: str, table_a: pa.Table, table_b: pa.Table, top: int) -> Disagreements:
    columns = [table_a["id"], table_a["label"], table_a["prediction"], table_b["prediction"]]
    times = Counter(zip(*(column.to_pylist() for column in columns), strict=True))
    often_first = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    found = [Mistake(track, label, of_a, of_b, count) for (track, label, of_a, of_b), count in often_first]
    only_a = [one for one in found if one.prediction_a == one.label != one.prediction_b]
    only_b = [one for one in found if one.prediction_b == one.label != one.prediction_a]
    count_a, count_b = (sum(one.times for one in only) for only in (only_a, only_b))
    return Disagreements(a, b, count_a, count_b, tuple(only_a[:top]), tuple(only_b[:top]))


def _larger_errors(task: Regression, a: str, b: str, table_a: pa.Table, table_b: pa.Table, top: int) -> Disagreements:
    ids, first, rows = np.unique(table_a["id"].to_pylist(), return_index=True, return_inverse=True)
    times = np.bincount(rows)
    found = []
    for target in task.targets:
        truth = table_a[target.name].to_numpy()
        errors = [
            np.bincount(rows, np.abs(table[PREDICTED + target.name].to_numpy() - truth)) / times
            for table in (table_a, table_b)
        ]
        values = zip(ids.tolist(), truth[first].tolist(), errors[0].tolist(), errors[1].tolist(), strict=True)
        found += [LargerError(track, target.name, *numbers) for track, *numbers in values]
    better_a = sorted((e for e in found if e.error_a < e.error_b), key=lambda e: e.error_a - e.error_b)
    better_b = sorted((e for e in found if e.error_b < e.error_a), key=lambda e: e.error_b - e.error_a)
    return Disagreements(a, b, len(better_a), len(better_b), tuple(better_a[:top]), tuple(better_b[:top]))
