"""Every pair of approaches, tested on every metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed import statistics
from mirembed.compare.disagreements import Disagreements, disagreements
from mirembed.compare.results import Results, check_paired, choose_pairs, differing_settings
from mirembed.evaluate.scores import answers, metric_table
from mirembed.hookspecs import Classification, Regression, Task
from mirembed.statistics import Comparison, corrected_paired_t_test, holm, mcnemar_test, welch_t_test
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
            "p": tested.p if tested else None,
            "p_holm": self.p_holm,
            "p_welch": self.p_welch,
            "effect": _finite(tested.effect) if tested else None,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Report:
    """Pairs of approaches, compared.

    Attributes
    ----------
    a, b : pathlib.Path
        The runs; the same where approaches of one run are compared.
    task : Classification or Regression
    settings : mapping of str to (Any, Any)
        In what the runs differ.
    n_folds : int
        Folds of all seeds.
    notes : tuple of str
        What else should be known, one line each.
    tests : tuple of PairedTest
    disagreements : tuple of Disagreements
        One for each pair.
    """

    a: Path
    b: Path
    task: Task
    settings: Mapping[str, tuple[Any, Any]]
    n_folds: int
    notes: tuple[str, ...]
    tests: tuple[PairedTest, ...]
    disagreements: tuple[Disagreements, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "a": str(self.a),
            "b": str(self.b),
            "settings": dict(self.settings),
            "n_folds": self.n_folds,
            "notes": list(self.notes),
            "tests": [test.to_json() for test in self.tests],
            "disagreements": [one.to_json() for one in self.disagreements],
        }


def compare(a: Results, b: Results | None = None, approaches: Sequence[str] = (), top: int = 10) -> Report:
    """Compare approaches of one run with one another, or those of two runs.

    Parameters
    ----------
    a : Results
    b : Results or None
    approaches : sequence of str
        See `mirembed.compare.results.choose_pairs`.
    top : int
        How many tracks to list for each pair and approach.

    Raises
    ------
    EvaluationError
        The runs cannot be paired, or do not have the approaches.
    """
    pairs = choose_pairs(a, b, approaches)
    b = b or a
    check_paired(a, b)
    scores_a = {one: _fold_scores(a, one) for one, _ in pairs}
    scores_b = {other: _fold_scores(b, other) for _, other in pairs}
    tests = [test for one, other in pairs for test in _test_pair(a, one, other, scores_a[one], scores_b[other])]
    undefined = [_undefined(a, one) for one in scores_a] + [_undefined(b, other) for other in scores_b]
    found = [disagreements(a.task, *pair, a.predictions[pair[0]], b.predictions[pair[1]], top) for pair in pairs]
    if len(a.parts) == 1 and isinstance(a.task, Classification):
        p_values = holm([mcnemar_test(one.count_a, one.count_b) for one in found])
        found = [replace(one, mcnemar_p=float(p)) for one, p in zip(found, p_values, strict=True)]
    n_folds = len(a.parts) // (a.n_seeds if a.official else 1)
    return Report(
        a=a.folder,
        b=b.folder,
        task=a.task,
        settings=differing_settings(a, b),
        n_folds=len(a.parts),
        notes=tuple(dict.fromkeys(note for note in [*undefined, *_untestable(tests, n_folds)] if note)),
        tests=_correct(tests),
        disagreements=tuple(found),
    )


def _fold_scores(results: Results, approach: str) -> _FoldScores:
    """Return every metric of an approach in every fold."""
    if isinstance(results.task, Regression):
        r = _by_fold(results, approach, statistics.pearson_r)
        scores: _FoldScores = {("r", None): r.mean(axis=1)}
        if len(results.task.targets) > 1:
            scores |= {("r", target.name): r[:, column] for column, target in enumerate(results.task.targets)}
        return scores
    metrics = {"accuracy": statistics.accuracy, "macro_f1": statistics.macro_f1}
    return {(name, None): _by_fold(results, approach, metric)[:, 0] for name, metric in metrics.items()}


def _by_fold(results: Results, approach: str, metric: Callable[[Any, Any], float]) -> NDArray[np.float64]:
    """Return a metric in every fold: ndarray ``[n_folds, n_targets]``; of classes ``[n_folds, 1]``."""
    truth, predicted = answers(results.predictions[approach], results.task)
    return metric_table(metric, truth, predicted, results.parts)


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


def _correct(tests: Sequence[PairedTest]) -> tuple[PairedTest, ...]:
    """Correct the p-values after Holm, over all the tests together."""
    p_values = [test.comparison.p for test in tests if test.comparison is not None]
    if not p_values:
        return tuple(tests)
    corrected = iter(holm(p_values))
    return tuple(replace(test, p_holm=float(next(corrected))) if test.comparison else test for test in tests)


def _undefined(results: Results, approach: str) -> str:
    """Say in how many folds and targets r is undefined; nothing where it is defined in all."""
    if isinstance(results.task, Classification):
        return ""
    defined = _by_fold(results, approach, statistics.pearson_r_defined)
    count = int(defined.size - defined.sum())
    where = f"{approach} in {results.folder.name}"
    return f"{where}: r is undefined in {count} folds and targets (constant prediction); scored 0" if count else ""


def _untestable(tests: Sequence[PairedTest], n_folds: int) -> list[str]:
    """Say why some pairs are not tested."""
    untested = [test for test in tests if test.comparison is None]
    if not untested:
        return []
    if n_folds == 1:
        return ["not tested: each seed has a single split, and there are no folds to test over"]
    return ["not tested: the difference is the same in all folds, which does not tell how it varies"]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
