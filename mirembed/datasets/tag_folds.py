"""Folds of tracks with tags: each fold gets its share of the tracks of every tag, as far as that is possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirembed.hookspecs import Tags
from mirembed.progress import first_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAMED = 10
"""Tags that a note names; it counts the others."""


def stratify_tags(tags: NDArray[np.int64], shares: Sequence[float], seed: int | Sequence[int]) -> NDArray[np.int64]:
    """Distribute tracks over parts by iterative stratification.

    The tracks of the rarest tag are distributed first, each to the part that lacks most tracks of this tag, then those
    of the next one. The tracks without a tag fill up the parts in the end.

    Source: Sechidis, Tsoumakas & Vlahavas, On the Stratification of Multi-label Data, ECML PKDD 2011, algorithm 1.

    Parameters
    ----------
    tags : ndarray [n_tracks, n_tags], int64
        0 or 1.
    shares : sequence of float
        The share of the tracks that each part is to have; their sum is 1.
    seed : int or sequence of int

    Returns
    -------
    ndarray [n_tracks], int64
        The part of each track.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(tags))
    part = np.full(len(tags), -1)
    share = np.asarray(shares)
    lacking = share * len(tags)  # [n_parts]
    lacking_of_tag = share[:, None] * tags.sum(axis=0)  # [n_parts, n_tags]

    def put(row: int, *criteria: NDArray[np.float64]) -> None:
        """Put a track into the part with the largest of the last criterion; ties go by the others, then by chance."""
        chosen = np.lexsort((rng.random(len(share)), *criteria))[-1]
        part[row] = chosen
        lacking[chosen] -= 1
        lacking_of_tag[chosen] -= tags[row]

    left = tags.sum(axis=0)
    while left.any():
        tag = int(np.where(left > 0, left, len(tags) + 1).argmin())
        for row in order[(part[order] < 0) & (tags[order, tag] > 0)]:
            put(row, lacking, lacking_of_tag[:, tag])
            left -= tags[row]
    for row in order[part[order] < 0]:
        put(row, lacking)
    return part


def distribute_groups(tags: NDArray[np.int64], groups: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Distribute groups of tracks over folds, so that tracks and the tracks of every tag are spread evenly.

    The largest groups come first, each to the fold that has the smallest share of what the group holds: this adds least
    to the sum, over folds, of the squared shares of the tracks and of the tracks of each tag.

    Parameters
    ----------
    tags : ndarray [n_tracks, n_tags], int64
        0 or 1.
    groups : ndarray [n_tracks], int64
        The group of each track, from 0.
    n_folds : int
        At most the number of groups.
    seed : int

    Returns
    -------
    ndarray [n_tracks], int64
        The fold of each track.
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros((groups.max() + 1, 1 + tags.shape[1]))
    np.add.at(counts, groups, np.column_stack([np.ones(len(tags)), tags]))
    shares = counts / np.maximum(counts.sum(axis=0), 1)  # [n_groups, 1 + n_tags]
    order = rng.permutation(len(shares))
    filled = np.zeros((n_folds, shares.shape[1]))
    fold = np.empty(len(shares), np.int64)
    for group in order[np.argsort(-np.square(shares[order]).sum(axis=1), kind="stable")]:
        fold[group] = np.lexsort((rng.random(n_folds), filled[:, 0], filled @ shares[group]))[0]
        filled[fold[group]] += shares[group]
    return fold[groups]


def rare_tags(task: Tags, tags: NDArray[np.int64], n_folds: int) -> list[str]:
    """Return a note about the tags that fewer tracks have than there are folds; none if there are no such tags."""
    counts = tags.sum(axis=0).tolist()
    rare = [f"{tag} ({n})" for tag, n in zip(task.classes, counts, strict=True) if 0 < n < n_folds]
    return [f"tags of fewer tracks than the {n_folds} folds: {first_names(rare, _NAMED)}"] if rare else []


def tag_notes(
    task: Tags, tags: NDArray[np.int64], parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> list[str]:
    """Return notes about tags that cannot be learned in a fold, or not scored.

    Parameters
    ----------
    tags : ndarray [n_tracks, n_tags], int64
        0 or 1.
    parts : sequence of (ndarray [n_train], ndarray [n_test]), int64
        The rows of the training and the test tracks of each fold.
    """
    trained, tested = (np.array([tags[rows].mean(axis=0) for rows in side]) for side in zip(*parts, strict=True))
    unscored = (tested == 0) | (tested == 1)
    notes = []
    for found, what in (  # [n_folds, n_tags]
        (trained == 0, "tags that no training track of a fold has, never predicted there"),
        (trained == 1, "tags that every training track of a fold has, always predicted there"),
        (unscored, "tags that no test track of a fold has, or every one, which cannot be scored there"),
    ):
        names = [f"{tag} ({_in_folds(folds)})" for tag, folds in zip(task.classes, found.T, strict=True) if folds.any()]
        if names:
            notes.append(f"{what}: {first_names(names, _NAMED)}")
    return notes


def _in_folds(found: NDArray[np.bool_]) -> str:
    """Name the folds of a mask ``[n_folds]``.

    >>> _in_folds(np.array([True, False, True])), _in_folds(np.array([True, True]))
    ('folds 0 and 2', 'all folds')
    """
    numbers = [str(number) for number in np.flatnonzero(found)]
    if len(numbers) == len(found) > 1:
        return "all folds"
    if len(numbers) == 1:
        return f"fold {numbers[0]}"
    return f"folds {', '.join(numbers[:-1])} and {numbers[-1]}"
