"""Confidence intervals: of a mean over folds, and of a metric of pooled predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirembed.errors import EvaluationError
from mirembed.statistics.samples import is_constant


@dataclass(frozen=True)
class Interval:
    """A mean over folds, or a pooled score, and its confidence interval.

    Attributes
    ----------
    mean : float or None
        None: undefined in every fold.
    low, high : float or None
        None for a single fold or track.
    """

    mean: float | None
    low: float | None
    high: float | None

    def within(self, lowest: float, highest: float) -> Interval:
        """Return the interval cut to the range of a metric, which the interval of a mean may exceed.

        >>> Interval(0.9, 0.75, 1.05).within(0, 1)
        Interval(mean=0.9, low=0.75, high=1.0)
        """
        if self.low is None or self.high is None:
            return self
        return Interval(self.mean, max(self.low, float(lowest)), min(self.high, float(highest)))

    def __str__(self) -> str:
        if self.mean is None:
            return "undefined"
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def nadeau_bengio_error(scores: ArrayLike, n_train: float, n_test: float) -> float:
    """Compute the corrected standard error of the mean of the scores of J folds or splits.

    The training sets of folds overlap, so their scores are not independent and the usual variance s²/J is too
    small. The corrected one is (1/J + n_test/n_train) s², with s² the unbiased variance of the scores. The correction
    was derived for random splits; for the folds of one cross-validation it is an approximation.

    Source: Nadeau & Bengio, Inference for the Generalization Error, Machine Learning 52, 2003,
    doi 10.1023/A:1024068626366.

    Parameters
    ----------
    scores : array [J], float
        One score, or paired difference of scores, for each of at least two folds.
    n_train, n_test : float
        Numbers of tracks in the training and the test part, means over the folds.

    Raises
    ------
    EvaluationError
        There are fewer than two scores, or some are not finite.
    ValueError
        A size is out of range.
    """
    scores = finite_sample(scores, at_least=2)
    if not (n_train > 0 and n_test > 0):
        raise ValueError(f"n_train {n_train} or n_test {n_test} is out of range")
    return deviation(scores) * math.sqrt(1 / len(scores) + n_test / n_train)


def nadeau_bengio_interval(scores: ArrayLike, n_train: float, n_test: float, confidence: float = 0.95) -> Interval:
    """Compute the mean of the scores of J folds or splits and its corrected confidence interval.

    The interval is that of Student's t distribution with J - 1 degrees of freedom and the error of
    `nadeau_bengio_error`.

    Parameters
    ----------
    scores : array [J], float
        One score, or paired difference of scores, for each fold.
    n_train, n_test : float
        Numbers of tracks in the training and the test part, means over the folds.
    confidence : float
        Between 0 and 1.

    Raises
    ------
    EvaluationError
        There are no scores, or some are not finite.
    ValueError
        A size or the confidence is out of range.
    """
    scores = finite_sample(scores, at_least=1)
    mean = float(scores.mean())
    if len(scores) == 1:
        return Interval(mean, None, None)
    return student_interval(mean, nadeau_bengio_error(scores, n_train, n_test), len(scores) - 1, confidence)


def student_interval(mean: float, error: float, df: float, confidence: float) -> Interval:
    """Compute the interval of a mean whose standard error has ``df`` degrees of freedom.

    Raises
    ------
    ValueError
        The confidence is not between 0 and 1.
    """
    from scipy.special import stdtrit  # scipy.stats has the same, but takes half a second to import

    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is out of range: expected a number between 0 and 1")
    half_width = float(stdtrit(df, (1 + confidence) / 2)) * error
    return Interval(mean, mean - half_width, mean + half_width)


def finite_sample(scores: ArrayLike, at_least: int) -> NDArray[np.float64]:
    """Convert scores to a float64 array ``[J]``.

    Raises
    ------
    EvaluationError
        There are fewer than ``at_least``, or some are not finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < at_least or not np.isfinite(scores).all():
        raise EvaluationError(f"scores are {scores}: expected one finite number per fold, and at least {at_least}")
    return scores


def deviation(values: NDArray[np.float64]) -> float:
    """Return the unbiased standard deviation; exactly 0 for values that are equal up to rounding."""
    return 0.0 if bool(is_constant(values)) else float(values.std(ddof=1))


def percentile_interval(value: float | None, resampled: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """Return a metric with its percentile bootstrap interval.

    It covers the choice of test tracks, not of training tracks: no network is trained again.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Parameters
    ----------
    value : float or None
        The metric of all tracks; None where it is undefined.
    resampled : ndarray [n_resamples], float64
        The metric of each resample, NaN where it is undefined: these resamples are left out. See
        `mirembed.statistics.resampling`.
    confidence : float
        Between 0 and 1.
    """
    resampled = resampled[~np.isnan(resampled)]
    if value is None or not len(resampled):
        return Interval(value, None, None)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
