"""How well the neighbors of a track are the tracks that people would call similar to it.

Each test track of a fold is a query, and the other test tracks of the fold are its candidates, ranked from the most to
the least similar embedding. No network or learner has seen any of them. Candidates of the query's own group (artist)
are left out, because tracks of one artist or album sound alike whatever their labels: the artist filter of

    Pampalk, Flexer & Widmer, Improvements of Audio-Based Music Similarity and Genre Classification, ISMIR 2005.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

K = 5
"""Neighbors that precision at k, nDCG at k and hubness look at."""


def precision_at_k(relevant: NDArray[np.bool_], k: int = K) -> float:
    """Return the fraction of the first ``k`` candidates that are relevant, from 0 to 1.

    NaN if no candidate is relevant, or there are fewer than ``k``.

    >>> precision_at_k(np.array([True, False, True, False, False, True]))
    0.4

    Source: Manning, Raghavan & Schütze, Introduction to Information Retrieval, 2008, section 8.4.

    Parameters
    ----------
    relevant : ndarray [n_candidates], bool
        From the most to the least similar candidate.
    k : int
    """
    return float(relevant[:k].mean()) if relevant.any() and len(relevant) >= k else np.nan


def average_precision(relevant: NDArray[np.bool_]) -> float:
    """Return the mean of the precisions at the rank of each relevant candidate, from 0 to 1.

    NaN if no candidate is relevant. The mean over queries is the mean average precision.

    >>> average_precision(np.array([True, False, True]))
    0.8333333333333333

    Source: as `precision_at_k`.

    Parameters
    ----------
    relevant : ndarray [n_candidates], bool
        From the most to the least similar candidate.
    """
    ranks = np.flatnonzero(relevant) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean()) if len(ranks) else np.nan


def r_precision(relevant: NDArray[np.bool_]) -> float:
    """Return the fraction of relevant ones among the first R candidates, of which R are relevant; from 0 to 1.

    NaN if no candidate is relevant.

    Source: as `precision_at_k`.

    Parameters
    ----------
    relevant : ndarray [n_candidates], bool
        From the most to the least similar candidate.
    """
    n_relevant = int(relevant.sum())
    return float(relevant[:n_relevant].mean()) if n_relevant else np.nan


def ndcg_at_k(gains: NDArray[np.float64], k: int = K) -> float:
    """Return the normalized discounted cumulative gain of the first ``k`` candidates, from 0 to 1.

    The gain of the candidate at rank i is divided by log2(i + 1); the sum is divided by that of the best order. NaN if
    no candidate has a gain, or there are fewer than ``k``.

    Source: Järvelin & Kekäläinen, Cumulated gain-based evaluation of IR techniques, ACM Transactions on Information
    Systems 20, 2002, doi 10.1145/582415.582418.

    Parameters
    ----------
    gains : ndarray [n_candidates], float64
        How similar the labels are, 0 or more; from the most to the least similar candidate.
    k : int
    """
    if len(gains) < k or not gains.any():
        return np.nan
    discounts = 1 / np.log2(np.arange(2, k + 2))
    return float(gains[:k] @ discounts / (np.sort(gains)[::-1][:k] @ discounts))


def hubness(k_occurrences: NDArray[np.integer[Any]]) -> float:
    """Return the skewness of the k-occurrences: how often each track is among the ``k`` nearest of the others.

    0 for symmetric counts; above 1, a few hubs are neighbors of everything. NaN if all tracks occur equally often.

    >>> round(hubness(np.array([0, 0, 0, 4])), 3)
    1.155

    Source: Radovanović, Nanopoulos & Ivanović, Hubs in Space, Journal of Machine Learning Research 11, 2010, section
    2.2.

    Parameters
    ----------
    k_occurrences : ndarray [n_tracks], int
    """
    deviations = k_occurrences - k_occurrences.mean()
    variance = float(np.mean(deviations**2))
    return float(np.mean(deviations**3) / variance**1.5) if variance else np.nan


def label_gains(labels: NDArray[Any], row: int) -> NDArray[np.float64]:
    """Return how similar the labels of all tracks are to those of one, from 0 to 1: ndarray ``[n_tracks]``.

    Classes: 1 for the same class. Tags: the Jaccard index, the share of the tags of both tracks that they have in
    common; 0 without tags. Targets: 1 minus the mean absolute difference of the scaled targets, at least 0.

    Parameters
    ----------
    labels : ndarray [n_tracks] int64 class indices, [n_tracks, n_tags] int64 0 or 1, or [n_tracks, n_targets] float64
        Targets scaled to [0, 1].
    row : int
    """
    gains: NDArray[np.float64]
    if labels.ndim == 1:
        gains = (labels == labels[row]).astype(np.float64)
    elif labels.dtype.kind == "f":
        gains = np.clip(1 - np.abs(labels - labels[row]).mean(axis=1), 0, None)
    else:
        both, either = (labels & labels[row]).sum(axis=1), (labels | labels[row]).sum(axis=1)
        gains = both / np.maximum(either, 1)
    return gains


def retrieve(
    similarities_to: Callable[[int], NDArray[np.floating[Any]]],
    labels: NDArray[Any],
    groups: Sequence[str | None] | None = None,
    k: int = K,
) -> dict[str, NDArray[Any]]:
    """Rank the other tracks for each track, and score the rankings.

    Candidates of equal similarity are ranked in the order of the tracks.

    Parameters
    ----------
    similarities_to : callable
        The number of a track to the similarities ``[n_tracks]`` of all tracks to it; larger is more similar.
    labels : ndarray
        As for `label_gains`. A candidate is relevant if its gain is not 0; targets have gains only.
    groups : sequence of str or None, optional
        Of each track; a track without a group is a group of its own.
    k : int

    Returns
    -------
    dict of str to ndarray [n_tracks]
        ``precision_at_k``, ``map`` (the average precision of each query), ``r_precision`` and ``ndcg``, float64, NaN
        where undefined; ``k_occurrence``, int64.
    """
    n_tracks = len(labels)
    has_relevant = not (labels.ndim == 2 and labels.dtype.kind == "f")
    known = np.array([None] * n_tracks if groups is None else list(groups), object)
    scores = {name: np.full(n_tracks, np.nan) for name in ("precision_at_k", "map", "r_precision", "ndcg")}
    occurrences = np.zeros(n_tracks, np.int64)
    for query in range(n_tracks):
        allowed = np.arange(n_tracks) != query
        if known[query] is not None:
            allowed &= known != known[query]
        candidates = np.flatnonzero(allowed)
        ranked = candidates[np.argsort(-similarities_to(query)[candidates], kind="stable")]
        gains = label_gains(labels, query)[ranked]
        occurrences[ranked[:k]] += 1
        scores["ndcg"][query] = ndcg_at_k(gains, k)
        if has_relevant:
            relevant = gains > 0
            scores["precision_at_k"][query] = precision_at_k(relevant, k)
            scores["map"][query] = average_precision(relevant)
            scores["r_precision"][query] = r_precision(relevant)
    return {**scores, "k_occurrence": occurrences}
