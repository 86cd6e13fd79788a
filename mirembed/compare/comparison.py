"""Approaches compared: which is higher, and on which tracks they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mirembed import statistics
from mirembed.compare.disagreements import Disagreements, disagreements
from mirembed.compare.paired_tests import PairedTest, corrected, metric_by_fold, n_tested, paired_tests
from mirembed.hookspecs import Classification, Task
from mirembed.runs.results import Results, check_paired, choose_pairs, differing_settings, with_all_pairs
from mirembed.statistics import holm, mcnemar_test


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
        Folds, or random splits, of all seeds.
    repeated : bool
        Whether they are repeated random splits.
    notes : tuple of str
        What else should be known, one line each.
    tests : tuple of PairedTest
        Of the pairs that were asked for, corrected over the whole family.
    disagreements : tuple of Disagreements
        One for each of these pairs.
    n_pairs, n_tested : int
        The family that Holm's correction is over: all pairs of the run, whichever of them were asked for; of two
        runs, the pairs that are compared. What could not be tested is not counted.
    """

    a: Path
    b: Path
    task: Task
    settings: Mapping[str, tuple[Any, Any]]
    n_folds: int
    repeated: bool
    notes: tuple[str, ...]
    tests: tuple[PairedTest, ...]
    disagreements: tuple[Disagreements, ...]
    n_pairs: int
    n_tested: int

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "a": str(self.a),
            "b": str(self.b),
            "settings": dict(self.settings),
            "n_folds": self.n_folds,
            "repeated": self.repeated,
            "notes": list(self.notes),
            "family": {"pairs": self.n_pairs, "tests": self.n_tested},
            "tests": [test.to_json() for test in self.tests],
            "disagreements": [one.to_json() for one in self.disagreements],
        }


def compare(a: Results, b: Results | None = None, approaches: Sequence[str] = (), top: int = 10) -> Report:
    """Compare approaches of one run with one another, or those of two runs.

    Holm's correction is over all pairs of a run, also where only some are asked for: to choose them after the results
    are known must not make a difference significant.

    Parameters
    ----------
    a : Results
    b : Results or None
    approaches : sequence of str
        See `mirembed.runs.results.choose_pairs`.
    top : int
        How many tracks to list for each pair and approach.

    Raises
    ------
    EvaluationError
        The runs cannot be paired, or do not have the approaches.
    """
    pairs = choose_pairs(a, b, approaches)
    if b is None:
        b, family = a, with_all_pairs(a, pairs)
    else:
        check_paired(a, b)
        family = pairs
    of_family = corrected(paired_tests(a, b, family))
    tests = tuple(test for test in of_family if (test.a, test.b) in pairs)
    single = len(a.parts) == 1 and isinstance(a.task, Classification)
    found = {
        (one, other): disagreements(a.task, one, other, a.predictions[one], b.predictions[other], top)
        for one, other in (family if single else pairs)
    }
    if single:
        p_values = holm([mcnemar_test(one.count_a, one.count_b) for one in found.values()])
        found = {pair: replace(found[pair], mcnemar_p=float(p)) for pair, p in zip(found, p_values, strict=True)}
    n_folds = len(a.parts) // (a.n_seeds if a.official else 1)
    undefined = [_undefined(a, one) for one, _ in pairs] + [_undefined(b, other) for _, other in pairs]
    return Report(
        a=a.folder,
        b=b.folder,
        task=a.task,
        settings=differing_settings(a, b),
        n_folds=len(a.parts),
        repeated=a.repeated,
        notes=tuple(dict.fromkeys(note for note in [*undefined, *_untestable(tests, n_folds)] if note)),
        tests=tests,
        disagreements=tuple(found[pair] for pair in pairs),
        n_pairs=len(family),
        n_tested=n_tested(of_family),
    )


def _undefined(results: Results, approach: str) -> str:
    """Say in how many folds and targets r is undefined; nothing where it is defined in all."""
    if isinstance(results.task, Classification):
        return ""
    defined = metric_by_fold(results, approach, statistics.pearson_r_defined)
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
