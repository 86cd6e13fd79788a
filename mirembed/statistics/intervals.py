"""Confidence intervals: of a mean over folds, and of a metric of pooled predictions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirembed.errors import EvaluationError
from mirembed.statistics.metrics import is_constant


@dataclass(frozen=True)
class Interval:
    """A mean over folds and its confidence interval.

    Attributes
    ----------
    mean : float
    low, high : float or None
        None for a single fold or track. Not clipped to the range of the metric.
    """

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
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
    return 0.0 if is_constant(values) else float(values.std(ddof=1))


def bootstrap_interval(
    value: float,
    of_resamples: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    n_tracks: int,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Interval:
    """Compute the percentile bootstrap interval over tracks of a metric of pooled predictions.

    It covers the choice of test tracks, not of training tracks: no network is trained again. The same call gives the
    same interval.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Parameters
    ----------
    value : float
        The metric of all tracks.
    of_resamples : callable
        The metric of resamples: numbers of the drawn tracks ``[n_resamples, n_tracks]`` to ``[n_resamples]``. See
        `mirembed.statistics.metrics.Resampling`.
    n_tracks : int
    confidence : float
        Between 0 and 1.
    resamples : int
    """
    from scipy.stats import bootstrap

    if n_tracks < 2:
        return Interval(value, None, None)
    result = bootstrap(
        (np.arange(n_tracks),),
        lambda drawn, axis: of_resamples(np.atleast_2d(drawn)),
        n_resamples=resamples,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return Interval(value, float(result.confidence_interval.low), float(result.confidence_interval.high))
