"""How well the neighbors of a track are the tracks that people would call similar to it.

Each test track of a fold is a query, and the other test tracks of the fold are its candidates, ranked from the most to
the least similar embedding. No network or learner has seen any of them. Candidates of the query's own group (artist)
are left out, because tracks of one artist or album sound alike whatever their labels: the artist filter of

    Pampalk, Flexer & Widmer, Improvements of Audio-Based Music Similarity and Genre Classification, ISMIR 2005.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.statistics.resampling import sums_by_unit
from mirembed.statistics.samples import divided

K = 5
"""Neighbors that precision at k, nDCG at k and hubness look at."""

PRECISION, AVERAGE_PRECISION, R_PRECISION, NDCG = f"precision_at_{K}", "map", "r_precision", f"ndcg_at_{K}"
OCCURRENCE = "k_occurrence"

QUERY_SCORES = (PRECISION, AVERAGE_PRECISION, R_PRECISION, NDCG, OCCURRENCE)
"""What `retrieve` returns of each query, in the order of the columns of a run."""


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


def hubness(k_occurrences: NDArray[np.number[Any]]) -> float:
    """Return the skewness of the k-occurrences: how often each track is among the ``k`` nearest of the others.

    0 for symmetric counts; above 1, a few tracks (hubs) are neighbors of very many. NaN without tracks, and if all
    occur equally often.

    >>> round(hubness(np.array([0, 0, 0, 4])), 3)
    1.155

    Source: Radovanović, Nanopoulos & Ivanović, Hubs in Space, Journal of Machine Learning Research 11, 2010, section
    2.2.

    Parameters
    ----------
    k_occurrences : ndarray [n_tracks]
    """
    if not len(k_occurrences):
        return np.nan
    deviations = k_occurrences - k_occurrences.mean()
    variance = float(np.mean(deviations**2))
    return float(np.mean(deviations**3) / variance**1.5) if variance else np.nan


def label_gains(labels: NDArray[Any]) -> Callable[[int], NDArray[np.float64]]:
    """Return a function of a track: how similar the labels of all tracks are to its own, from 0 to 1, ``[n_tracks]``.

    Classes: 1 for the same class. Tags: the Jaccard index, the share of the tags of both tracks that they have in
    common; 0 without tags. Targets: 1 minus the mean absolute difference of the scaled targets, at least 0.

    Parameters
    ----------
    labels : ndarray [n_tracks] int64 class indices, [n_tracks, n_tags] int64 0 or 1, or [n_tracks, n_targets] float64
        Targets scaled to [0, 1].
    """
    if labels.ndim == 1:
        return lambda row: (labels == labels[row]).astype(np.float64)
    if labels.dtype.kind == "f":
        return lambda row: np.clip(1 - np.abs(labels - labels[row]).mean(axis=1), 0, None)
    tags = labels.astype(np.float32)  # a product of these is fast, and represents counts exactly
    n_tags = tags.sum(axis=1)

    def jaccard(row: int) -> NDArray[np.float64]:
        both = tags @ tags[row]
        return np.asarray(both.astype(np.float64) / np.maximum(n_tags + n_tags[row] - both, 1))

    return jaccard


def retrieve(
    similarities_to: Callable[[int], NDArray[np.floating[Any]]],
    labels: NDArray[Any],
    groups: NDArray[np.int64] | None = None,
    k: int = K,
) -> dict[str, NDArray[np.float64]]:
    """Rank the other tracks for each track, and score the rankings.

    Candidates that are equally similar in every respect are ranked in the order of the tracks.

    Parameters
    ----------
    similarities_to : callable
        The number of a track to the similarities of all tracks to it: ``[n_tracks]``, or ``[n_kinds, n_tracks]``, of
        which a later kind decides where the earlier ones are equal. Larger is more similar.
    labels : ndarray
        As for `label_gains`. A candidate is relevant if its gain is not 0; targets have gains only.
    groups : ndarray [n_tracks], int64, optional
        The number of each track's group; candidates of the query's own group are left out.
    k : int

    Returns
    -------
    dict of str to ndarray [n_tracks], float64
        The `QUERY_SCORES`: of each query precision at k, average precision, R-precision and nDCG at k, NaN where
        undefined; and how often each track is among the ``k`` nearest of another that has more than ``k`` candidates,
        NaN if none has.
    """
    n_tracks = len(labels)
    groups = np.arange(n_tracks) if groups is None else groups
    has_relevant = not (labels.ndim == 2 and labels.dtype.kind == "f")
    scores = {name: np.full(n_tracks, np.nan) for name in QUERY_SCORES}
    occurrences, has_choice = np.zeros(n_tracks), False
    gains_of = label_gains(labels)
    for query in range(n_tracks):
        candidates = np.flatnonzero(groups != groups[query])
        similarities = np.atleast_2d(similarities_to(query))[:, candidates]
        ranked = candidates[np.lexsort(-similarities[::-1])]
        gains = gains_of(query)[ranked]
        if len(ranked) > k:  # otherwise all candidates are neighbors, whatever the embedding
            occurrences[ranked[:k]] += 1
            has_choice = True
        scores[NDCG][query] = ndcg_at_k(gains, k)
        if has_relevant:
            relevant = gains > 0
            scores[PRECISION][query] = precision_at_k(relevant, k)
            scores[AVERAGE_PRECISION][query] = average_precision(relevant)
            scores[R_PRECISION][query] = r_precision(relevant)
    if has_choice:
        scores[OCCURRENCE] = occurrences
    return scores


def mean_of_queries(defined: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean score of the queries that have one: ndarray ``[1]``, NaN if there are none.

    Parameters
    ----------
    defined : ndarray [n, 1], float64
        1 for a query that has a score, otherwise 0.
    scores : ndarray [n, 1], float64
        0 where there is none.
    """
    return divided(scores.sum(axis=0), defined.sum(axis=0))


def hubness_of_tracks(defined: NDArray[np.float64], occurrences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `hubness` in the form of a metric: ndarray ``[1]``, of occurrences ``[n, 1]``."""
    return np.array([hubness(occurrences[defined > 0])])


def query_sums(
    defined: NDArray[np.float64], scores: NDArray[np.float64], units: NDArray[np.int64], n_units: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Prepare the sums of resamples ``[n_resamples, 4]``: the number of scores, and their first three powers."""
    terms = np.concatenate([defined, scores, scores**2, scores**3], axis=1)
    return sums_by_unit(terms, units, n_units)


def resampled_mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean score of the queries of each resample."""
    return divided(sums[:, 1], sums[:, 0])


def resampled_hubness(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the skewness of the k-occurrences of each resample."""
    mean, square, cube = (divided(sums[:, power], sums[:, 0]) for power in (1, 2, 3))
    variance = square - mean**2
    skew = cube - 3 * mean * square + 2 * mean**3
    return divided(skew, np.where(variance > 1e-12, variance, 0) ** 1.5)
