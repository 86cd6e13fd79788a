"""Families of tests: Holm's correction covers the tests of one family, whichever of them are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mirembed.compare.paired_tests import PairedTest, RunMethod, RunPair, corrected, n_tested, paired_test
from mirembed.config.comparisons import Comparisons, Pair
from mirembed.hookspecs import Classification, Regression, Task
from mirembed.progress import counted
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import Line, all_lines
from mirembed.statistics.metrics import metric_named

PRIMARY, BASELINES = "primary", "baselines"
"""The families of an evaluation that are declared before training."""


@dataclass(frozen=True)
class Family:
    """Tests that are corrected together.

    Attributes
    ----------
    name : str
        `PRIMARY` and `BASELINES`, on the headline metric. All others are exploratory: ``other pairs`` on the headline
        metric; ``other metrics``; and ``targets``, ``tags`` or ``classes``, one by one.
    declared : bool
        Whether it was declared before training.
    tests : tuple of PairedTest
        Those that are shown.
    n_tests, n_tested : int
        Of the family, shown or not; and those among them that could be tested, over which the correction runs.
    """

    name: str
    declared: bool
    tests: tuple[PairedTest, ...]
    n_tests: int
    n_tested: int

    @classmethod
    def of(cls, name: str, tests: Iterable[PairedTest], *, declared: bool = False) -> Family:
        """Correct the tests of a family."""
        together = corrected(tests)
        return cls(name, declared, together, len(together), n_tested(together))

    @property
    def exploratory(self) -> bool:
        """Whether its tests are to find questions rather than to answer one."""
        return self.name not in (PRIMARY, BASELINES)

    def describe(self) -> str:
        """Say what the family is, and over how many tests its correction runs.

        >>> Family("targets", False, (), 6, 4).describe()
        'targets: exploratory, Holm correction over 4 tests, 0 of 6 shown'
        """
        kind = "exploratory" if self.exploratory else f"{'' if self.declared else 'not '}declared before training"
        over = f"Holm correction over {counted(self.n_tested, 'test')}" if self.n_tested else "not tested"
        shown = "" if len(self.tests) == self.n_tests else f", {len(self.tests)} of {self.n_tests} shown"
        return f"{self.name}: {kind}, {over}{shown}"

    def to_json(self) -> dict[str, Any]:
        """Return the family and the tests that are shown as JSON."""
        return {
            "family": self.name,
            "exploratory": self.exploratory,
            "declared": self.declared,
            "n_tests": self.n_tests,
            "n_tested": self.n_tested,
            "tests": [test.to_json() for test in self.tests],
        }


def run_families(run: RunRecord, comparisons: Comparisons | None = None) -> tuple[Family, ...]:
    """Test the methods of a run.

    Parameters
    ----------
    run : RunRecord
        Finished.
    comparisons : Comparisons or None
        The pairs of the families that are not exploratory; None for those that the run declared.
    """
    wanted = run.comparisons if comparisons is None else comparisons
    used = {frozenset(pair) for pair in (*wanted.primary, *wanted.baselines)}
    others = [(b, a) for a, b in combinations(run.predictions, 2) if frozenset((a, b)) not in used]

    def of_run(pairs: Iterable[Pair]) -> list[RunPair]:
        return [(RunMethod(run, a), RunMethod(run, b)) for a, b in pairs]

    declared = all(_same_pairs(getattr(wanted, name), getattr(run.comparisons, name)) for name in (PRIMARY, BASELINES))
    return families(of_run(wanted.primary), of_run(wanted.baselines), of_run(others), declared=declared)


def declared_kinds(run: RunRecord) -> tuple[str, str]:
    """Say what the methods of the two declared families are."""
    of_reference = [one for one in run.methods if one.name == run.comparisons.reference and one.approach.members]
    if not of_reference:
        return "trained methods", "baselines without training"
    return f"trained methods and members of {of_reference[0].name}", "other baselines without training"


def _same_pairs(one: Iterable[Pair], other: Iterable[Pair]) -> bool:
    return {frozenset(pair) for pair in one} == {frozenset(pair) for pair in other}


def describe_best(run: RunRecord, found: Iterable[Family]) -> str:
    """Say which method scores best on the headline metric, and whether declared tests show that it is better."""
    metric = metric_named(run.headline)
    means = {method: run.interval(method, (metric.name, None)).mean for method in run.predictions}
    known = {method: mean for method, mean in means.items() if mean is not None}
    if not known:
        return f"{metric.label} is undefined for every method"
    best = (max if metric.higher_is_better else min)(known, key=lambda method: known[method])
    text = f"{'Highest' if metric.higher_is_better else 'Lowest'} {metric.label}: {best} ({known[best]:.3f})"
    tests = [test for family in found if not family.exploratory for test in family.tests if best in (test.a, test.b)]
    better, not_better, untested = "significantly better than", "not significantly better than", "not tested against"
    others: dict[str, list[str]] = {better: [], not_better: [], untested: []}
    for test in tests:
        found_to_be = untested if test.p is None else better if test.better == best else not_better
        others[found_to_be].append(test.b if test.a == best else test.a)
    shown = [f"{found_to_be} {', '.join(names)}" for found_to_be, names in others.items() if names]
    return "; ".join([text, *shown]) if tests else f"{text}; no declared comparison includes it"


def families(
    primary: Sequence[RunPair], baselines: Sequence[RunPair], others: Sequence[RunPair], *, declared: bool
) -> tuple[Family, ...]:
    """Test pairs of methods on the headline metric, and the first two kinds also on everything else.

    Returns
    -------
    tuple of Family
        Those that have tests.
    """
    pairs = [*primary, *baselines, *others]
    if not pairs:
        return ()
    run = pairs[0][0].run
    headline, *more = all_lines(run.task, run.headline)
    chosen = [*primary, *baselines]
    metrics = [line for line in more if line[1] is None]
    parts = [(metric, part) for metric, part in more if part is not None and _is_headline_part(run, metric)]
    found = (
        Family.of(PRIMARY, _tests(primary, [headline]), declared=declared),
        Family.of(BASELINES, _tests(baselines, [headline]), declared=declared),
        Family.of("other pairs", _tests(others, [headline])),
        Family.of("other metrics", _tests(chosen, metrics)),
        Family.of(_parts_of(run.task), _tests(chosen, parts)),
    )
    return tuple(family for family in found if family.n_tests)


def _is_headline_part(run: RunRecord, metric: str) -> bool:
    """Whether the parts of a metric are tested: those of the headline metric, and of classes their recall."""
    return isinstance(run.task, Classification) or metric == run.headline


def _parts_of(task: Task) -> str:
    """Return what a task consists of: the name of the family that tests its parts one by one."""
    if isinstance(task, Classification):
        return "classes"
    return "targets" if isinstance(task, Regression) else "tags"


def _tests(pairs: Iterable[RunPair], lines: Sequence[Line]) -> list[PairedTest]:
    return [paired_test(*pair, line) for pair in pairs for line in lines]
