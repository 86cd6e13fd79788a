"""Calibrating a fitted learner on inner folds of its training tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.datasets.splits import default_scheme, make_folds
from mirembed.errors import EvaluationError, PluginError
from mirembed.hookspecs import Regression, Task
from mirembed.models.learners import FittedLearner, calibrate
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.training.excerpts import Stream

N_FOLDS = 5
"""Inner folds; fewer where there are too few tracks of a class, or too few groups."""


def calibrated(
    registry: Registry,
    learner: Spec,
    task: Task,
    fitted: FittedLearner,
    embeddings: NDArray[np.float32],
    labels: NDArray[Any],
    groups: NDArray[np.int64],
    *,
    grouped: bool,
    seed: Sequence[int],
) -> FittedLearner:
    """Return a fitted learner with what turns its decision values into probabilities, or with the reason why not.

    The learner is fitted anew in each inner fold, and the sigmoids to the decision values of the tracks left out.

    Parameters
    ----------
    embeddings : ndarray [n_train, units]
    labels : ndarray [n_train, ...]
    groups : ndarray [n_train], int64
        See `mirembed.store.tracks.Tracks.group_codes`.
    grouped : bool
        Whether inner folds keep groups apart.
    seed : sequence of int
        Draws the inner folds.
    """
    if isinstance(task, Regression):
        return fitted
    try:
        folds = inner_folds(task, labels, groups if grouped else None, N_FOLDS, seed=seed)
        calibration = calibrate(registry, learner, task, fitted, embeddings, labels, folds, seed=seed, groups=groups)
    except (EvaluationError, PluginError) as error:
        return replace(fitted, uncalibrated=str(error))
    return replace(fitted, calibration=calibration)


def inner_folds(
    task: Task, labels: NDArray[Any], groups: NDArray[np.int64] | None, n_folds: int, *, seed: Sequence[int]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split training tracks into folds: into ``n_folds`` of them, or into as many as can be made.

    Parameters
    ----------
    labels : ndarray [n_train, ...]
    groups : ndarray [n_train], int64, or None
        Numbers of groups to keep apart; None: the folds follow the default of the task.
    n_folds : int
    seed : sequence of int
        Seed and fold.

    Returns
    -------
    list of (ndarray, ndarray)
        Positions among the training tracks: of the training and of the test part of each fold.

    Raises
    ------
    EvaluationError
        If not even two folds can be made.
    """
    scheme = default_scheme(task) if groups is None else "grouped"
    names = None if groups is None else [str(group) for group in groups]
    number = int(np.random.SeedSequence([*seed, Stream.INNER_FOLDS]).generate_state(1)[0])
    for n in range(n_folds, 1, -1):
        try:
            folds, _ = make_folds(task, labels, scheme=scheme, n_folds=n, seed=number, groups=names)
        except EvaluationError as error:
            reason = str(error).partition(":")[0]  # without the advice, which is about --cv
        else:
            return [(fold.train, fold.test) for fold in folds]
    raise EvaluationError(f"the training tracks cannot be split into inner folds: {reason}")
