"""On which tracks two methods disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mirembed.compare.paired_tests import RunMethod
from mirembed.hookspecs import Classification, Regression, Tags, Task
from mirembed.runs.tables import Predictions


@dataclass(frozen=True)
class Mistake:
    """A track whose class only one method gets right.

    Attributes
    ----------
    track : str
    label : str
    prediction_a, prediction_b : str
    times : int
        How often; more than once with several seeds.
    """

    track: str
    label: str
    prediction_a: str
    prediction_b: str
    times: int


@dataclass(frozen=True)
class LargerError:
    """A track and target, or tag, that one method predicts more closely.

    Attributes
    ----------
    track : str
    target : str
    truth : float
        In the target's own units; 1 for a track that has the tag, and 0 for one that does not.
    error_a, error_b : float
        Absolute errors, in the same units; means over the seeds.
    """

    track: str
    target: str
    truth: float
    error_a: float
    error_b: float


Better: TypeAlias = tuple[Mistake, ...] | tuple[LargerError, ...]

_Found: TypeAlias = tuple[int, int, Better, Better]
"""How often A and B are better, and where."""


@dataclass(frozen=True)
class Disagreements:
    """Where two methods disagree.

    Attributes
    ----------
    a, b : str
        The methods.
    count_a, count_b : int
        Classification: predictions that only A, and only B, gets right. Tags: the same for each tag of each track.
        Regression: tracks and targets that A, and B, predicts more closely.
    better_a, better_b : tuple of Mistake, or of LargerError
        Those where A, and B, is better; the most frequent mistakes, or the largest differences of error, first.
    run_a, run_b : int
        Numbers of the runs among those that are compared, from 1.
    mcnemar_p : float or None
        Of McNemar's exact test, Holm-corrected over the pairs of its family. Only for a single split, which has no
        folds to test over.
    """

    a: str
    b: str
    count_a: int
    count_b: int
    better_a: Better
    better_b: Better
    run_a: int = 1
    run_b: int = 1
    mcnemar_p: float | None = None


def disagreements(task: Task, a: RunMethod, b: RunMethod, top: int) -> Disagreements:
    """Find the tracks on which two methods disagree.

    Parameters
    ----------
    task : Task
    a, b : RunMethod
        Of the same tracks.
    top : int
        How many tracks to list for each method.
    """
    of_a, of_b = (one.run.predictions[one.method] for one in (a, b))
    if isinstance(task, Classification):
        found = _mistakes(task, of_a, of_b, top)
    elif isinstance(task, Tags):
        found = _wrong_tags(task, of_a, of_b, top)
    else:
        found = _larger_errors(task, of_a, of_b, top)
    return Disagreements(a.method, b.method, *found, a.number, b.number)


def _mistakes(task: Classification, of_a: Predictions, of_b: Predictions, top: int) -> _Found:
    columns = [[task.classes[n] for n in column[:, 0]] for column in (of_a.truth, of_a.predicted, of_b.predicted)]
    return _disagreeing(of_a.ids.tolist(), columns, top)


def _wrong_tags(task: Tags, of_a: Predictions, of_b: Predictions, top: int) -> _Found:
    """Compare what is said of each tag of each track: ``piano`` or ``not piano``."""
    rows, tags = np.nonzero(of_a.predicted != of_b.predicted)
    columns = [
        [
            task.classes[tag] if has else f"not {task.classes[tag]}"
            for tag, has in zip(tags, said[rows, tags], strict=True)
        ]
        for said in (of_a.truth, of_a.predicted, of_b.predicted)
    ]
    return _disagreeing(of_a.ids[rows].tolist(), columns, top)


def _disagreeing(ids: Sequence[str], columns: Sequence[Sequence[str]], top: int) -> _Found:
    """Find the predictions that only one gets right; ``columns`` are the labels and what A and B predict."""
    times = Counter(zip(ids, *columns, strict=True))
    most_often_first = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    found = [Mistake(track, label, in_a, in_b, count) for (track, label, in_a, in_b), count in most_often_first]
    only_a = [one for one in found if one.prediction_a == one.label != one.prediction_b]
    only_b = [one for one in found if one.prediction_b == one.label != one.prediction_a]
    count_a, count_b = (sum(one.times for one in only) for only in (only_a, only_b))
    return count_a, count_b, tuple(only_a[:top]), tuple(only_b[:top])


def _larger_errors(task: Regression, of_a: Predictions, of_b: Predictions, top: int) -> _Found:
    ids, first, rows = np.unique(of_a.ids, return_index=True, return_inverse=True)
    times = np.bincount(rows)
    found = []
    for column, target in enumerate(task.targets):
        truth = of_a.truth[:, column]
        error_a, error_b = (
            (np.bincount(rows, np.abs(one.predicted[:, column] - truth)) / times).tolist() for one in (of_a, of_b)
        )
        values = zip(ids.tolist(), truth[first].tolist(), error_a, error_b, strict=True)
        found += [LargerError(track, target.name, *numbers) for track, *numbers in values]
    better_a = sorted((e for e in found if e.error_a < e.error_b), key=lambda e: e.error_a - e.error_b)
    better_b = sorted((e for e in found if e.error_b < e.error_a), key=lambda e: e.error_b - e.error_a)
    return len(better_a), len(better_b), tuple(better_a[:top]), tuple(better_b[:top])
