"""The paired tests of approaches, and their correction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed import statistics
from mirembed.hookspecs import Regression
from mirembed.runs.results import Results
from mirembed.runs.scores import answers, metric_table
from mirembed.statistics import Comparison, corrected_paired_t_test, holm, welch_t_test
from mirembed.statistics.metrics import is_constant

SIGNIFICANCE = 0.05
"""A corrected p-value below this is called significant."""

_FoldScores: TypeAlias = dict[tuple[str, str | None], NDArray[np.float64]]
"""By metric and target: ndarray ``[n_folds]``."""


@dataclass(frozen=True)
class PairedTest:
    """One line of the table.

    Attributes
    ----------
    a, b : str
        The approaches.
    metric : str
        ``accuracy`` or ``macro_f1``; ``r``.
    target : str or None
        None: for regression, the mean over the targets in a fold.
    mean_a, mean_b : float
        Means over the folds of all seeds.
    comparison : Comparison or None
        None of a single split, which leaves no folds to test over, and of a difference that is the same in all
        folds, whose variance cannot be estimated.
    p_holm : float or None
        Corrected after Holm over all tests of the table.
    p_welch : float or None
        Of Welch's unpaired test over repeated random splits, uncorrected: the paper's test. It takes the splits for
        independent, which they are not, and so finds too much; no verdict rests on it. None of other folds.
    """

    a: str
    b: str
    metric: str
    target: str | None
    mean_a: float
    mean_b: float
    comparison: Comparison | None
    p_holm: float | None = None
    p_welch: float | None = None

    @property
    def p(self) -> float | None:
        """The p-value before correction; None of what was not tested."""
        return None if self.comparison is None else self.comparison.p

    @property
    def verdict(self) -> str:
        """``A is higher`` or ``B is higher``, ``not significant``, or ``not tested``."""
        if self.p_holm is None:
            return "not tested"
        if self.p_holm >= SIGNIFICANCE:
            return "not significant"
        return "A is higher" if self.mean_a > self.mean_b else "B is higher"

    def to_json(self) -> dict[str, Any]:
        """Return the line as JSON; infinite numbers are None."""
        tested = self.comparison
        return {
            "a": self.a,
            "b": self.b,
            "metric": self.metric,
            "target": self.target,
            "mean_a": self.mean_a,
            "mean_b": self.mean_b,
            "difference": asdict(tested.difference) if tested else {"mean": self.mean_a - self.mean_b},
            "t": _finite(tested.statistic) if tested else None,
            "df": tested.df if tested else None,
            "p": self.p,
            "p_holm": self.p_holm,
            "p_welch": self.p_welch,
            "effect": _finite(tested.effect) if tested else None,
            "verdict": self.verdict,
        }


def paired_tests(a: Results, b: Results, pairs: Iterable[tuple[str, str]]) -> tuple[PairedTest, ...]:
    """Test pairs of approaches on every metric, without correcting for their number.

    Parameters
    ----------
    a, b : Results
        The same run, or two that `check_paired` accepts.
    pairs : iterable of (str, str)
        An approach of ``a`` and one of ``b``.
    """
    pairs = list(pairs)
    scores_a = {one: _fold_scores(a, one) for one, _ in pairs}
    scores_b = {other: _fold_scores(b, other) for _, other in pairs}
    return tuple(test for one, other in pairs for test in _test_pair(a, one, other, scores_a[one], scores_b[other]))


def corrected(tests: Iterable[PairedTest]) -> tuple[PairedTest, ...]:
    """Correct the p-values after Holm over these tests, and over no others."""
    family = tuple(tests)
    p_values = [test.p for test in family if test.p is not None]
    of_family = iter(holm(p_values).tolist())
    return tuple(replace(test, p_holm=None if test.p is None else next(of_family)) for test in family)


def n_tested(tests: Iterable[PairedTest]) -> int:
    """Return over how many tests a correction is: what could not be tested is not counted."""
    return sum(test.p is not None for test in tests)


def metric_by_fold(results: Results, approach: str, metric: Callable[[Any, Any], float]) -> NDArray[np.float64]:
    """Return a metric in every fold: ndarray ``[n_folds, n_targets]``; of classes ``[n_folds, 1]``."""
    truth, predicted = answers(results.predictions[approach], results.task)
    return metric_table(metric, truth, predicted, results.parts)


def _fold_scores(results: Results, approach: str) -> _FoldScores:
    """Return every metric of an approach in every fold."""
    if isinstance(results.task, Regression):
        r = metric_by_fold(results, approach, statistics.pearson_r)
        scores: _FoldScores = {("r", None): r.mean(axis=1)}
        if len(results.task.targets) > 1:
            scores |= {("r", target.name): r[:, column] for column, target in enumerate(results.task.targets)}
        return scores
    metrics = {"accuracy": statistics.accuracy, "macro_f1": statistics.macro_f1}
    return {(name, None): metric_by_fold(results, approach, metric)[:, 0] for name, metric in metrics.items()}


def _test_pair(results: Results, a: str, b: str, scores_a: _FoldScores, scores_b: _FoldScores) -> list[PairedTest]:
    n_test = len(results.folds) / len(results.parts)
    n_train = float(results.configuration["n_train"])
    tests = []
    for (metric, target), values in scores_a.items():
        others = scores_b[metric, target]
        differences = values - others
        if results.official:  # other seeds do not draw other tracks into an official split
            differences = differences.reshape(results.n_seeds, -1).mean(axis=0)
        testable = len(differences) > 1 and not (is_constant(differences) and differences.any())
        comparison = corrected_paired_t_test(differences, n_train, n_test) if testable else None
        p_welch = welch_t_test(values, others).p if results.repeated and len(values) > 1 else None
        means = float(values.mean()), float(others.mean())
        tests.append(PairedTest(a, b, metric, target, *means, comparison, p_welch=p_welch))
    return tests


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
