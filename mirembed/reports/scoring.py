"""Scores of a run by metric, target and fold, and the tests between its methods: from its predictions alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed import statistics
from mirembed.compare import PairedTest, Results, corrected, paired_tests
from mirembed.hookspecs import Classification, Task
from mirembed.runs.record import Answers, RunRecord
from mirembed.runs.scores import metric_table
from mirembed.statistics import Interval

Line: TypeAlias = tuple[str, str | None]
"""A metric, and a target or None: the mean over targets, or classes."""

LABELS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "r": "r", "r_squared": "r²", "r2": "R²"}
"""How metrics are written for people."""


def lines(task: Task, metric: str = "r") -> list[Line]:
    """Return what a table of scores has a line for, the headline first; of targets, their ``metric``."""
    if isinstance(task, Classification):
        return [("accuracy", None), ("macro_f1", None)]
    targets = [target.name for target in task.targets]
    return [(metric, None), *((metric, name) for name in targets if len(targets) > 1)]


def line_label(line: Line) -> str:
    """Return a line's name for people."""
    metric, target = line
    return target or (f"{LABELS[metric]}, mean" if metric.startswith("r") else LABELS[metric])


def fold_scores(answers: Answers, task: Task) -> dict[Line, NDArray[np.float64]]:
    """Return the scores in each fold of each seed, ``[n_parts]``, by line."""
    found: dict[Line, NDArray[np.float64]] = {}
    if isinstance(task, Classification):
        metrics = {"accuracy": statistics.accuracy, "macro_f1": statistics.macro_f1}
        for name, metric in metrics.items():
            found[name, None] = metric_table(metric, answers.truth, answers.predicted, answers.parts)[:, 0]
        return found
    r = metric_table(statistics.pearson_r, answers.truth, answers.predicted, answers.parts)
    r2 = metric_table(statistics.r2_score, answers.truth, answers.predicted, answers.parts)
    for name, by_target in (("r", r), ("r_squared", r**2), ("r2", r2)):
        found[name, None] = by_target.mean(axis=1)
        found |= {(name, target.name): by_target[:, column] for column, target in enumerate(task.targets)}
    return found


@dataclass(frozen=True, eq=False)
class RunScores:
    """The scores of all methods of a run.

    Attributes
    ----------
    run : RunRecord
    by_fold : mapping of str to dict
        For each method its `fold_scores`.
    """

    run: RunRecord
    by_fold: Mapping[str, dict[Line, NDArray[np.float64]]]

    @classmethod
    def of(cls, run: RunRecord) -> RunScores:
        """Compute the scores from the predictions."""
        return cls(run, {name: fold_scores(answers, run.task) for name, answers in run.answers.items()})

    def interval(self, method: str, line: Line) -> Interval:
        """Return the mean over folds with its 95 % interval."""
        return self.run.over_folds(self.by_fold[method][line], self.run.answers[method])

    @cached_property
    def tests(self) -> tuple[PairedTest, ...]:
        """All pairs of the table of scores: each approach with its first learner, on every line."""
        return corrected(self._pairs([method.name for method in self.run.first_methods]))

    @cached_property
    def kernel_tests(self) -> tuple[PairedTest, ...]:
        """All pairs of learners on each network, on the headline."""
        headline = lines(self.run.task)[0]
        of_network: dict[str, list[str]] = {}
        for method in self.run.methods:
            of_network.setdefault(method.approach.name, []).append(method.name)
        pairs = [test for methods in of_network.values() for test in self._pairs(methods)]
        return corrected(test for test in pairs if (test.metric, test.target) == headline)

    @cached_property
    def best(self) -> dict[Line, str]:
        """For each line the method that is significantly higher than every other, where there is one."""
        return best_of(self.tests, len(self.run.first_methods))

    @cached_property
    def _results(self) -> Results:
        return Results.open(self.run.folder.parent, str(self.run.folder))

    def _pairs(self, methods: Sequence[str]) -> tuple[PairedTest, ...]:
        """Test all pairs of some methods on all lines, uncorrected; nothing is tested of a run that is going on."""
        if not self.run.finished or len(methods) < 2:
            return ()
        return paired_tests(self._results, self._results, combinations(methods, 2))


def best_of(tests: Iterable[PairedTest], n_methods: int) -> dict[Line, str]:
    """Return, for each line that has one, the method that is significantly higher than all ``n_methods - 1`` others."""
    higher = Counter(
        ((test.metric, test.target), test.a if test.verdict == "A is higher" else test.b)
        for test in tests
        if test.verdict in ("A is higher", "B is higher")
    )
    return {line: method for (line, method), count in higher.items() if count == n_methods - 1}
