"""How good the probabilities of a run are: what came true of what was said to be so probable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Classification, Task
from mirembed.runs.tables import Predictions


@dataclass(frozen=True)
class Reliability:
    """The reliability of probabilities, in bins of equal width from 0 to 1.

    For classes, of the most probable class of each track; for tags, of every tag of every track.

    Attributes
    ----------
    edges : ndarray [n_bins + 1], float64
    counts : ndarray [n_bins], int64
        Probabilities in each bin.
    probability, frequency : ndarray [n_bins], float64
        Their mean, and how many of them came true, from 0 to 1; NaN in an empty bin.
    error : float
        Expected calibration error: the mean of the differences between the two, weighted by the counts (M. P. Naeini,
        G. Cooper & M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015).
    brier : float
        Brier score: the squared difference between probabilities and truth, summed over classes, or averaged over tags;
        a mean over tracks. 0 is perfect.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    probability: NDArray[np.float64]
    frequency: NDArray[np.float64]
    error: float
    brier: float


def reliability(predictions: Predictions, task: Task, n_bins: int = 10) -> Reliability | None:
    """Return the reliability of a method's probabilities of all test tracks; None if it has none.

    Parameters
    ----------
    predictions : Predictions
    task : Classification, Tags or Regression
    n_bins : int
    """
    probabilities = predictions.probabilities
    if probabilities is None or len(probabilities) == 0:
        return None
    if isinstance(task, Classification):
        truth = predictions.truth == np.arange(len(task.classes))  # [n_rows, n_classes]
        brier = float(np.square(probabilities - truth).sum(axis=1).mean())
        rows, top = np.arange(len(truth)), probabilities.argmax(axis=1)
        stated, came_true = probabilities[rows, top], truth[rows, top]
    else:
        truth = predictions.truth.astype(bool)  # [n_rows, n_tags]
        brier = float(np.square(probabilities - truth).mean())
        stated, came_true = probabilities.ravel(), truth.ravel()
    bins = np.minimum((stated * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        probability = np.bincount(bins, stated, n_bins) / counts
        frequency = np.bincount(bins, came_true, n_bins) / counts
    error = float(np.nansum(np.abs(probability - frequency) * counts) / counts.sum())
    return Reliability(np.linspace(0, 1, n_bins + 1), counts, probability, frequency, error, brier)
