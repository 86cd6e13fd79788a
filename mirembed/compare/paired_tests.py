"""Paired tests of methods over the folds, and the correction for their number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mirembed.runs.record import RunRecord
from mirembed.runs.scores import Line, paired_scores
from mirembed.statistics import TTestResult, corrected_paired_t_test, holm, welch_t_test
from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import metric_named
from mirembed.statistics.samples import is_constant, nan_mean

SIGNIFICANCE = 0.05
"""A corrected p-value below this is called significant."""


class RunMethod(NamedTuple):
    """A method of a run.

    Attributes
    ----------
    run : RunRecord
    method : str
    number : int
        Of the run among those that are compared, from 1.
    """

    run: RunRecord
    method: str
    number: int = 1


RunPair: TypeAlias = tuple[RunMethod, RunMethod]
"""Methods A and B, of one run or of two that tested the same tracks in the same folds."""


@dataclass(frozen=True)
class PairedTest:
    """One row of the table of tests.

    Attributes
    ----------
    a, b : str
        The methods.
    metric : str
        A name in `mirembed.statistics.METRICS`.
    target : str or None
        A target, tag or class; None: the mean over all of them in a fold.
    mean_a, mean_b : float or None
        Means over the folds of all seeds, of folds and targets in which the metric is defined for both methods; None if
        there are none.
    t_test : TTestResult or None
        None if not tested: there are fewer than two folds to compare, or the difference is the same in all of them, so
        that its variance cannot be estimated.
    p_holm : float or None
        Holm-corrected over the family of the test.
    p_welch : float or None
        Of Welch's unpaired test over repeated random splits, uncorrected: the paper's test. It assumes that the splits
        are independent, which they are not, so it finds too many differences; no verdict rests on it. None for other
        folds.
    run_a, run_b : int
        Numbers of the runs among those that are compared, from 1.
    """

    a: str
    b: str
    metric: str
    target: str | None
    mean_a: float | None
    mean_b: float | None
    t_test: TTestResult | None
    p_holm: float | None = None
    p_welch: float | None = None
    run_a: int = 1
    run_b: int = 1

    @property
    def line(self) -> Line:
        """The line of the table of scores that is tested."""
        return self.metric, self.target

    @property
    def difference(self) -> Interval:
        """The mean difference A - B, with its interval if it was tested."""
        if self.t_test is not None:
            return self.t_test.difference
        if self.mean_a is None or self.mean_b is None:
            return Interval(None, None, None)
        return Interval(self.mean_a - self.mean_b, None, None)

    @property
    def p(self) -> float | None:
        """The p-value before correction; None if not tested."""
        return None if self.t_test is None else self.t_test.p

    @property
    def significant(self) -> bool:
        """Whether the difference is significant after correction."""
        return self.p_holm is not None and self.p_holm < SIGNIFICANCE

    @property
    def verdict(self) -> str:
        """``A is higher`` or ``B is higher``, ``not significant``, or ``not tested``."""
        if self.p_holm is None:
            return "not tested"
        if not self.significant:
            return "not significant"
        return "A is higher" if self._a_is_higher else "B is higher"

    @property
    def better(self) -> str | None:
        """The method that is significantly better, which need not be the higher one; None if neither is."""
        if not self.significant:
            return None
        return self.a if self._a_is_higher == metric_named(self.metric).higher_is_better else self.b

    @property
    def _a_is_higher(self) -> bool:
        return (self.difference.mean or 0) > 0

    def to_json(self) -> dict[str, Any]:
        """Return the test as JSON; infinite numbers are None."""
        tested = self.t_test
        return {
            "a": self.a,
            "b": self.b,
            "metric": self.metric,
            "target": self.target,
            "mean_a": self.mean_a,
            "mean_b": self.mean_b,
            "difference": asdict(self.difference) if tested else {"mean": self.difference.mean},
            "t": _finite(tested.statistic) if tested else None,
            "df": tested.df if tested else None,
            "p": self.p,
            "p_holm": self.p_holm,
            "p_welch": self.p_welch,
            "effect": _finite(tested.effect) if tested else None,
            "verdict": self.verdict,
        }


def paired_test(a: RunMethod, b: RunMethod, line: Line) -> PairedTest:
    """Test two methods on a line of the table of scores, without correcting for other tests.

    Only folds and targets count in which the metric is defined for both methods.
    """
    run = a.run
    scores_a, scores_b = paired_scores(run.fold_scores[a.method], b.run.fold_scores[b.method], line)  # [n_parts]
    if run.official:  # more seeds do not add test tracks to an official split
        scores_a, scores_b = (nan_mean(scores.reshape(run.n_seeds, -1), axis=0) for scores in (scores_a, scores_b))
    defined = np.isfinite(scores_a - scores_b)
    scores_a, scores_b = scores_a[defined], scores_b[defined]
    differences = scores_a - scores_b
    n_train = min(run.n_train, b.run.n_train)  # the fewer, the larger the variance
    testable = len(differences) > 1 and not (is_constant(differences) and differences.any())
    n_test = len(run.tests) / run.n_parts
    return PairedTest(
        a.method,
        b.method,
        *line,
        mean_a=float(scores_a.mean()) if len(scores_a) else None,
        mean_b=float(scores_b.mean()) if len(scores_b) else None,
        t_test=corrected_paired_t_test(differences, n_train, n_test) if testable else None,
        p_welch=welch_t_test(scores_a, scores_b).p if run.repeated and len(differences) > 1 else None,
        run_a=a.number,
        run_b=b.number,
    )


def corrected(tests: Iterable[PairedTest]) -> tuple[PairedTest, ...]:
    """Apply Holm's correction to the p-values of a family of tests."""
    family = tuple(tests)
    p_values = [test.p for test in family if test.p is not None]
    of_family = iter(holm(p_values).tolist())
    return tuple(replace(test, p_holm=None if test.p is None else next(of_family)) for test in family)


def n_tested(tests: Iterable[PairedTest]) -> int:
    """Return the number of tests that a correction runs over; those that could not be run do not count."""
    return sum(test.p is not None for test in tests)


def best_of(tests: Iterable[PairedTest]) -> set[str]:
    """Return the methods that are significantly better in all of these tests in which they take part."""
    better: dict[str, bool] = {}
    for test in tests:
        for method in (test.a, test.b):
            better[method] = better.get(method, True) and test.better == method
    return {method for method, in_all in better.items() if in_all}


def p_text(p: float | None) -> str:
    """Return a p-value as tables show it; empty if there is none."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def p_in_text(p: float | None) -> str:
    """Return a p-value as sentences have it: ``p < 0.001`` or ``p = 0.023``; empty if there is none."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
