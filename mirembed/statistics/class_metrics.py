"""Metrics of classes, and the same metrics of bootstrap resamples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirembed.statistics.resampling import sums_by_unit
from mirembed.statistics.samples import checked, divided, nan_mean


def accuracy(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return the fraction of tracks with the right class, from 0 to 1.

    Parameters
    ----------
    truth, prediction : array [n_tracks], int
        Class indices.
    """
    truth, prediction = checked(truth, prediction)
    return np.asarray(np.mean(truth == prediction, axis=0))


def balanced_accuracy(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return the unweighted mean of the recall of the classes that occur in the truth, from 0 to 1.

    Source: Brodersen et al., The balanced accuracy and its posterior distribution, ICPR 2010,
    doi 10.1109/ICPR.2010.764; for several classes as scikit-learn's ``balanced_accuracy_score``.

    Parameters
    ----------
    truth, prediction : array [n_tracks], int
        Class indices.
    """
    return nan_mean(recall(*_one_hot(truth, prediction)))


def macro_f1(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return the unweighted mean of the F1 scores of the classes, from 0 to 1.

    The mean runs over the classes that occur in truth or prediction, as scikit-learn's ``f1_score`` with
    ``average="macro"`` does. The F1 score of a class that occurs in neither is 0/0: to count it as 0 would
    penalize a prediction for a class that a small fold happens to lack. A class that is predicted but not true,
    or true but never predicted, scores 0.

    Parameters
    ----------
    truth, prediction : array [n_tracks], int
        Class indices.
    """
    is_true, is_predicted = _one_hot(truth, prediction)
    hits = np.sum(is_true & is_predicted, axis=0)
    return nan_mean(divided(2 * hits, is_true.sum(axis=0) + is_predicted.sum(axis=0)))


def recall(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return the fraction of the tracks of a class that are predicted to be of it, from 0 to 1.

    NaN for a class that no track has.

    Parameters
    ----------
    truth, prediction : array [n_tracks] or [n_tracks, n_classes], 0 or 1
        Whether each track is of the class, in truth and in the prediction.

    Returns
    -------
    ndarray [] or [n_classes], float64
    """
    truth, prediction = checked(truth, prediction)
    return divided(np.sum(truth * prediction, axis=0), truth.sum(axis=0))


def _one_hot(truth: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return a column for each class that occurs: ndarray ``[n_tracks, n_classes]``."""
    truth, prediction = (values.reshape(-1) for values in checked(truth, prediction))
    classes = np.union1d(truth, prediction)
    return truth[:, None] == classes, prediction[:, None] == classes


ClassCounts = NDArray[np.float64]
"""For each resample: hits, labels and predictions of each class, ``[n_resamples, 3, n_classes]``."""


def class_counts(
    truth: NDArray[np.float64], prediction: NDArray[np.float64], units: NDArray[np.int64], n_units: int
) -> Callable[[NDArray[np.float64]], ClassCounts]:
    """Prepare the counts of resamples; truth and prediction are 0 or 1, ``[n, n_classes]``."""
    return sums_by_unit(np.stack([truth * prediction, truth, prediction], axis=1), units, n_units)


def resampled_accuracy(counts: ClassCounts) -> NDArray[np.float64]:
    """Return the accuracy of each resample ``[n_resamples]``."""
    return divided(counts[:, 0].sum(axis=-1), counts[:, 1].sum(axis=-1))


def resampled_recall(counts: ClassCounts) -> NDArray[np.float64]:
    """Return the recall of each class in each resample ``[n_resamples, n_classes]``."""
    return divided(counts[:, 0], counts[:, 1])


def resampled_balanced_accuracy(counts: ClassCounts) -> NDArray[np.float64]:
    """Return the balanced accuracy of each resample ``[n_resamples]``."""
    return nan_mean(resampled_recall(counts), axis=-1)


def resampled_macro_f1(counts: ClassCounts) -> NDArray[np.float64]:
    """Return the macro-F1 of each resample ``[n_resamples]``."""
    return nan_mean(divided(2 * counts[:, 0], counts[:, 1] + counts[:, 2]), axis=-1)
