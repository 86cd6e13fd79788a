"""Metrics of tags, and the same metrics of bootstrap resamples.

Truth is 0 or 1, and the prediction a score that is higher for tracks which more likely have the tag: arrays
``[n_tracks]``, or ``[n_tracks, n_tags]``. A metric is float64 ``[]`` or ``[n_tags]``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirembed.statistics.samples import checked, divided, ranks, tie_ends


def roc_auc(truth: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Return the area under the ROC curve, from 0 to 1; NaN if no track has the tag, or every track.

    It is the probability that a random track with the tag has a higher score than a random one without it; equal scores
    count half. Scores at random, or all equal, have 0.5.

    Source: Hanley & McNeil, The meaning and use of the area under a receiver operating characteristic (ROC) curve,
    Radiology 143, 1982, doi 10.1148/radiology.143.1.7063747.
    """
    truth, scores = checked(truth, scores)
    positives = truth.sum(axis=0)
    negatives = len(truth) - positives
    wins = np.sum(truth * ranks(scores), axis=0) - positives * (positives + 1) / 2
    return divided(wins, positives * negatives)


def average_precision(truth: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Return the average precision, above 0 and at most 1; NaN if no track has the tag.

    It is the mean, over the tracks with the tag, of the precision among all tracks that score at least as high, without
    interpolation: scikit-learn's ``average_precision_score``. Scores that are all equal have the share of the tracks
    with the tag.
    """
    truth, scores = checked(truth, scores)
    order = np.argsort(-scores, axis=0, kind="stable")
    hits = np.take_along_axis(truth, order, axis=0)
    _, last = tie_ends(np.take_along_axis(scores, order, axis=0))
    precision = np.take_along_axis(np.cumsum(hits, axis=0), last, axis=0) / (last + 1)
    return divided(np.sum(hits * precision, axis=0), truth.sum(axis=0))


Rankings = NDArray[np.float64]
"""ROC-AUC and average precision of each resample and tag, ``[2, n_resamples, n_tags]``."""


def rankings(
    truth: NDArray[np.float64], scores: NDArray[np.float64], units: NDArray[np.int64], n_units: int
) -> Callable[[NDArray[np.float64]], Rankings]:
    """Prepare both metrics of resamples. They are exact up to the last division, as sums of counts are."""
    tags = [_ranking(truth[:, tag], scores[:, tag], units) for tag in range(truth.shape[1])]

    def compute(counts: NDArray[np.float64]) -> Rankings:
        return np.stack([of_counts(counts) for of_counts in tags], axis=-1)

    return compute


def _ranking(
    truth: NDArray[np.float64], scores: NDArray[np.float64], units: NDArray[np.int64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Prepare both metrics of one tag: counts to ``[2, n_resamples]``.

    Only tracks with the tag, the positives, are looked at one by one. What is needed of the others is how many score
    higher than each positive.
    """
    order = np.argsort(-scores, kind="stable")
    first, last = tie_ends(scores[order])
    positive = np.flatnonzero(truth[order])
    first, last, units = first[positive], last[positive], units[order]
    # The positives above each positive, and those above it or tied with it.
    first_positive, last_positive = np.searchsorted(positive, first), np.searchsorted(positive, last, side="right")

    def compute(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        all_to, hits_to = np.zeros((len(counts), len(units) + 1)), np.zeros((len(counts), len(positive) + 1))
        np.cumsum(counts[:, units], axis=1, out=all_to[:, 1:])
        weights = counts[:, units[positive]]  # [n_resamples, n_positives]
        np.cumsum(weights, axis=1, out=hits_to[:, 1:])
        n_hits, n_all = hits_to[:, -1], all_to[:, -1]
        hits, found = hits_to[:, last_positive], all_to[:, last + 1]
        higher = all_to[:, first] - hits_to[:, first_positive]
        tied = found - hits - higher
        losses = np.einsum("bn,bn->b", weights, higher + tied / 2)
        n_pairs = n_hits * (n_all - n_hits)
        precision = hits / np.maximum(found, 1)  # what is not drawn has a weight of 0
        return np.stack(
            [divided(n_pairs - losses, n_pairs), divided(np.einsum("bn,bn->b", weights, precision), n_hits)]
        )

    return compute


def resampled_roc_auc(found: Rankings) -> NDArray[np.float64]:
    """Return the ROC-AUC of each resample and tag."""
    return np.asarray(found[0])


def resampled_average_precision(found: Rankings) -> NDArray[np.float64]:
    """Return the average precision of each resample and tag."""
    return np.asarray(found[1])
