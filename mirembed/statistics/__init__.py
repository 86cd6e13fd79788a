"""Significance tests of the difference between two approaches, and effect sizes.

All tests are two-sided. A difference is the first approach minus the second. `mirembed.statistics.metrics` has the
metrics, `mirembed.statistics.intervals` the confidence intervals, `mirembed.statistics.resampling` the bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirembed.statistics.intervals import Interval, deviation, finite_sample, nadeau_bengio_error, student_interval
from mirembed.statistics.samples import is_constant


@dataclass(frozen=True)
class TTestResult:
    """The result of a t-test of two means.

    For scores that do not vary at all, t is 0 and p is 1 if the means are equal; otherwise t and the effect are
    infinite and p is 0.

    Attributes
    ----------
    difference : Interval
        Between the means.
    statistic : float
        Student's t.
    df : float
        Degrees of freedom.
    p : float
        From 0 to 1.
    effect : float or None
        Hedges' g, the difference in units of a standard deviation; each test says which. None with a single degree
        of freedom, where it is not defined.
    """

    difference: Interval
    statistic: float
    df: float
    p: float
    effect: float | None


def corrected_paired_t_test(
    differences: ArrayLike, n_train: float, n_test: float, confidence: float = 0.95
) -> TTestResult:
    """Test whether the paired differences of the scores of J folds or splits have the mean 0.

    Student's t-test with J - 1 degrees of freedom and the standard error of `nadeau_bengio_error`, which allows for
    overlapping training sets. The effect is `cohens_dz`, corrected for small samples.

    Source: Nadeau & Bengio, Inference for the Generalization Error, Machine Learning 52, 2003,
    doi 10.1023/A:1024068626366.

    Parameters
    ----------
    differences : array [J], float
        Score of the first approach minus that of the second, for each of at least two folds.
    n_train, n_test : float
        Numbers of tracks in the training and the test part, means over the folds.
    confidence : float
        Of the interval; between 0 and 1.

    Raises
    ------
    EvaluationError
        There are fewer than two differences, or some are not finite.
    ValueError
        A size or the confidence is out of range.
    """
    differences = finite_sample(differences, at_least=2)
    error, df = nadeau_bengio_error(differences, n_train, n_test), len(differences) - 1
    effect = hedges_g(cohens_dz(differences), df) if df > 1 else None
    return _student(float(differences.mean()), error, df, effect, confidence)


def welch_t_test(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> TTestResult:
    """Test whether two independent samples of scores have the same mean, whatever their variances.

    The scores of splits of the same tracks are not independent, so the test finds too many differences between them.
    It is here to replicate papers that use it. The effect is `cohens_d`, corrected for small samples.

    Source: Welch, The generalization of "Student's" problem when several different population variances are involved,
    Biometrika 34, 1947, doi 10.1093/biomet/34.1-2.28.

    Parameters
    ----------
    a, b : array [n_a], [n_b], float
        At least two scores each.
    confidence : float
        Of the interval; between 0 and 1.

    Raises
    ------
    EvaluationError
        There are fewer than two scores in one of them, or some are not finite.
    ValueError
        The confidence is out of range.
    """
    a, b = finite_sample(a, at_least=2), finite_sample(b, at_least=2)
    variances = [deviation(sample) ** 2 / len(sample) for sample in (a, b)]
    variance = sum(variances)
    df = float(len(a) + len(b) - 2)
    if variance:
        shares = [part / variance for part in variances]
        df = 1 / sum(share**2 / (len(sample) - 1) for share, sample in zip(shares, (a, b), strict=True))
    effect = hedges_g(cohens_d(a, b), len(a) + len(b) - 2)
    return _student(_mean_difference(a, b), math.sqrt(variance), df, effect, confidence)


def mcnemar_test(only_a: int, only_b: int) -> float:
    """Compute the p-value of McNemar's exact test of whether two classifiers are right on equally many tracks.

    It covers the choice of test tracks. It takes the two trained classifiers as given, and ignores how they would have
    come out with other training tracks.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12, 1947, doi 10.1007/BF02295996, with the exact binomial distribution.

    Parameters
    ----------
    only_a, only_b : int
        Numbers of tracks on which only the first is right, and only the second.
    """
    from scipy.stats import binomtest  # imported only here: it takes half a second

    discordant = only_a + only_b
    return float(binomtest(only_a, discordant).pvalue) if discordant else 1.0


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust the p-values of several tests so that the family-wise error rate is bounded (Holm's correction).

    An adjusted value below 0.05 is significant at that level among all the tests together, whatever their dependence.

    >>> holm([0.01, 0.04, 0.03]).round(2)
    array([0.03, 0.06, 0.06])

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.

    Parameters
    ----------
    p_values : array [n_tests], float
        From 0 to 1.

    Returns
    -------
    ndarray [n_tests], float64
        In the same order; from 0 to 1, each at least the original p-value.

    Raises
    ------
    ValueError
        A value is not a number from 0 to 1.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"p-values are {p_values}: expected one number from 0 to 1 per test")
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)  # the smallest is multiplied by the number of all tests
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def cohens_d(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the difference between the means of two samples in units of their pooled standard deviation.

    Infinite if neither varies and the means differ; 0 if the means are equal.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, section 2.2.

    Parameters
    ----------
    a, b : array [n_a], [n_b], float
        At least two scores each.

    Raises
    ------
    EvaluationError
        There are fewer than two scores in one of them, or some are not finite.
    """
    a, b = finite_sample(a, at_least=2), finite_sample(b, at_least=2)
    squares = sum((len(sample) - 1) * deviation(sample) ** 2 for sample in (a, b))
    return _ratio(_mean_difference(a, b), math.sqrt(squares / (len(a) + len(b) - 2)))


def cohens_dz(differences: ArrayLike) -> float:
    """Compute the mean of paired differences in units of their standard deviation.

    Infinite if they are all equal and not 0; 0 if all are 0. Folds with more tracks vary less, so only values from
    the same numbers of folds and tracks are comparable.

    Source: Lakens, Calculating and reporting effect sizes to facilitate cumulative science, Frontiers in Psychology 4,
    2013, doi 10.3389/fpsyg.2013.00863, formula 6.

    Parameters
    ----------
    differences : array [J], float
        At least two.

    Raises
    ------
    EvaluationError
        There are fewer than two differences, or some are not finite.
    """
    differences = finite_sample(differences, at_least=2)
    return _ratio(float(differences.mean()), deviation(differences))


def hedges_g(d: float, df: int) -> float:
    """Correct Cohen's d for its bias, which makes it too large in small samples.

    Source: Hedges, Distribution theory for Glass's estimator of effect size and related estimators, Journal of
    Educational Statistics 6, 1981, doi 10.3102/10769986006002107.

    Parameters
    ----------
    d : float
    df : int
        Degrees of freedom of the standard deviation that ``d`` was divided by; at least 2.

    Raises
    ------
    ValueError
        There are fewer.
    """
    if df < 2:
        raise ValueError(f"df is {df}: expected at least 2 degrees of freedom")
    return d * math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def _student(difference: float, error: float, df: float, effect: float | None, confidence: float) -> TTestResult:
    """Test whether a difference with a standard error of ``df`` degrees of freedom is 0."""
    from scipy.special import stdtr

    statistic = _ratio(difference, error)
    p = 2 * float(stdtr(df, -abs(statistic)))
    return TTestResult(student_interval(difference, error, df, confidence), statistic, df, p, effect)


def _mean_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the difference between the means; exactly 0 if all scores are equal up to rounding."""
    return 0.0 if is_constant(np.concatenate([a, b])) else float(a.mean() - b.mean())


def _ratio(difference: float, spread: float) -> float:
    if spread:
        return difference / spread
    return math.copysign(math.inf, difference) if difference else 0.0
