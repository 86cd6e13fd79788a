"""How many tracks the folds train on and test, and what guessing scores on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.datasets.splits import Fold
from mirembed.hookspecs import Classification, Task
from mirembed.models.baselines import chance_estimator
from mirembed.progress import counted
from mirembed.runs.summary import Sizes

Folds = Mapping[int, Sequence[Fold]]
"""The folds of every seed."""

SMALL_TEST_PART = 10
"""With fewer test tracks in a fold its score is coarse, and an interval over such scores means little."""


def fold_sizes(folds: Folds, n_tracks: int) -> Sizes:
    """Count the tracks of the folds of all seeds."""
    all_folds = [fold for of_seed in folds.values() for fold in of_seed]
    used = np.unique(np.concatenate([rows for fold in all_folds for rows in (fold.train, fold.test)]))
    return Sizes(
        n_tracks,
        len(used),
        float(np.mean([len(fold.train) for fold in all_folds])),
        float(np.mean([len(fold.test) for fold in all_folds])),
    )


def chance(task: Task, labels: NDArray[Any], folds: Folds) -> float:
    """Return what the approach ``chance`` scores.

    Classification: the accuracy on the test tracks of always predicting the most frequent class of the training
    tracks, a mean over the folds. Regression: r, which is 0 for a constant prediction.
    """
    if not isinstance(task, Classification):
        return 0.0
    return float(np.mean([_accuracy_by_chance(task, labels, fold) for of_seed in folds.values() for fold in of_seed]))


def small_test_parts(folds: Sequence[Fold]) -> list[str]:
    """Return a warning if some fold tests so few tracks that the intervals mean little."""
    smallest = min(len(fold.test) for fold in folds)
    if smallest >= SMALL_TEST_PART:
        return []
    where = "the test part of a fold has" if len(folds) > 1 else "the test part has"
    return [
        f"warning: {where} only {counted(smallest, 'track')} (fewer than {SMALL_TEST_PART}): one track more or less "
        "moves its score far, and the intervals mean little"
    ]


def _accuracy_by_chance(task: Task, labels: NDArray[np.int64], fold: Fold) -> float:
    estimator = chance_estimator(task)
    estimator.fit(np.zeros((len(fold.train), 1)), labels[fold.train])
    return float(np.mean(estimator.predict(np.zeros((len(fold.test), 1))) == labels[fold.test]))
