"""Scores of a run by metric, target and fold, and the tests between its methods: from its predictions alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from mirembed.compare import PairedTest, best_of, corrected, paired_tests
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import FoldScores, Line, lines
from mirembed.statistics import Interval


@dataclass(frozen=True, eq=False)
class RunScores:
    """The scores of all methods of a run.

    Attributes
    ----------
    run : RunRecord
    """

    run: RunRecord

    @property
    def by_fold(self) -> Mapping[str, FoldScores]:
        """For each method its scores in each fold."""
        return self.run.fold_scores

    def interval(self, method: str, line: Line) -> Interval:
        """Return the mean over folds with its 95 % interval."""
        return self.run.interval(method, line)

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

    def _pairs(self, methods: Sequence[str]) -> tuple[PairedTest, ...]:
        """Test all pairs of some methods on all lines, uncorrected; nothing is tested of a run that is going on."""
        if not self.run.finished or len(methods) < 2:
            return ()
        return paired_tests(self.run, self.run, combinations(methods, 2))
