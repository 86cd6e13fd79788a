"""Training on a share of each fold's training tracks, to see how scores grow with the number of tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mirembed.datasets.splits import Fold, checked_folds, renumbered
from mirembed.hookspecs import Classification, Tags, Task
from mirembed.training.excerpts import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray


def shrunk_folds(
    task: Task,
    labels: NDArray[Any],
    folds: Sequence[Fold],
    size: float,
    *,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> tuple[list[Fold], list[str]]:
    """Keep a share of each fold's training tracks; test parts stay as they are.

    A larger share contains every smaller one. Classes keep their proportions, up to one track each, and so do tracks
    with the same rarest tag. Which tracks are kept depends on the fold and the seed only.

    Parameters
    ----------
    task, labels
        As for `mirembed.datasets.splits.make_folds`.
    folds : sequence of Fold
    size : float
        Above 0, at most 1. At least one track, or group, is kept.
    seed : int
    groups : ndarray [n_tracks], int64, optional
        The number of each track's group: keep whole groups, as many as come closest to the share of the tracks.

    Returns
    -------
    folds : list of Fold
    notes : list of str

    Raises
    ------
    EvaluationError
        If a training part is left with a single class.
    """
    if size == 1:
        return list(folds), []
    strata = _strata(task, labels)
    units = np.arange(len(labels)) if groups is None else groups
    draws = [np.random.default_rng([seed, fold.index, Stream.TRAIN_SIZE]) for fold in folds]
    kept = [_kept(units[fold.train], strata[fold.train], size, rng) for fold, rng in zip(folds, draws, strict=True)]
    parts = [(fold.train[rows], fold.test) for fold, rows in zip(folds, kept, strict=True)]
    found, notes = checked_folds(task, labels, parts, [], remedy="use a larger --train-size")
    return [
        replace(one, inner=None if fold.inner is None else renumbered(fold.inner[rows]))
        for one, fold, rows in zip(found, folds, kept, strict=True)
    ], notes


def _strata(task: Task, labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return a number for each track: tracks with the same number keep their share of the training tracks."""
    if isinstance(task, Classification):
        return np.asarray(labels, np.int64)
    if isinstance(task, Tags):  # the rarest of its tags, as rare ones are the first to lose their share
        rarest_first = np.argsort(labels.sum(axis=0), kind="stable")
        first = labels[:, rarest_first].argmax(axis=1)
        return np.where(labels.any(axis=1), first, len(task.classes))
    return np.zeros(len(labels), np.int64)


def _kept(
    units: NDArray[np.int64], strata: NDArray[np.int64], size: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the rows that are kept, ascending.

    Units (tracks or groups) are ranked once, whatever the share: those of each stratum in random order, evenly spread
    over the ranks.

    Parameters
    ----------
    units, strata : ndarray [n_train]
        Of each training track; the stratum of a unit is that of most of its tracks.
    """
    _, unit_of, n_tracks = np.unique(units, return_inverse=True, return_counts=True)
    _, strata = np.unique(strata, return_inverse=True)
    of_stratum = np.zeros((len(n_tracks), strata.max() + 1), np.int64)  # [n_units, n_strata]: their tracks
    np.add.at(of_stratum, (unit_of, strata), 1)
    stratum_of = of_stratum.argmax(axis=1)
    shuffled = rng.permutation(len(n_tracks))
    middle = np.empty(len(n_tracks))
    for stratum in np.unique(stratum_of):
        members = shuffled[stratum_of[shuffled] == stratum]
        end = np.cumsum(n_tracks[members])
        middle[members] = (end - n_tracks[members] / 2) / end[-1]
    ranked = shuffled[np.argsort(middle[shuffled], kind="stable")]
    n_units = 1 + int(np.abs(np.cumsum(n_tracks[ranked]) - size * len(units)).argmin())
    return np.flatnonzero(np.isin(unit_of, ranked[:n_units]))
