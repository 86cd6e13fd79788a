"""Approaches compared: which pairs, whether two runs can be paired, which is higher, and where they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from mirembed.compare.disagreements import Disagreements, disagreements
from mirembed.compare.paired_tests import PairedTest, corrected, n_tested, paired_tests
from mirembed.errors import EvaluationError
from mirembed.hookspecs import Classification, Task
from mirembed.runs.folder import flatten
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import describe_undefined, n_undefined
from mirembed.statistics import holm, mcnemar_test


@dataclass(frozen=True)
class Comparison:
    """Pairs of approaches, compared.

    Attributes
    ----------
    a, b : pathlib.Path
        The runs; the same where approaches of one run are compared.
    task : Classification or Regression
    settings : mapping of str to (Any, Any)
        The settings in which the runs differ.
    n_folds : int
        Folds, or random splits, of all seeds.
    repeated : bool
        Whether they are repeated random splits.
    notes : tuple of str
        What else a reader should know, one line each.
    tests : tuple of PairedTest
        Of the requested pairs, corrected over the whole family.
    disagreements : tuple of Disagreements
        One for each of these pairs.
    n_pairs, n_tested : int
        The family of Holm's correction: all pairs of the run, whichever of them were requested; of two
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
        """Return the comparison as JSON."""
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


def compare(a: RunRecord, b: RunRecord | None = None, approaches: Sequence[str] = (), top: int = 10) -> Comparison:
    """Compare approaches of one run with one another, or those of two runs.

    Holm's correction runs over all pairs of a run, even if only some are requested: choosing them after the results
    are known must not make a difference significant.

    Parameters
    ----------
    a, b : RunRecord
        Finished runs. ``b`` None: approaches of ``a`` are compared with one another.
    approaches : sequence of str
        Within one run, two or more of its approaches; none for all. For two runs, one in ``a`` and one in ``b``, or
        one that both have; none for all that both have.
    top : int
        How many tracks to list for each pair and approach.

    Raises
    ------
    EvaluationError
        The runs cannot be paired, or do not have the approaches.
    """
    if b is None:
        b, pairs = a, _pairs_within(a, approaches)
        requested = {frozenset(pair) for pair in pairs}
        family = [*pairs, *(pair for pair in combinations(a.predictions, 2) if frozenset(pair) not in requested)]
    else:
        pairs = family = _pairs_between(a, b, approaches)
        _check_paired(a, b)
    of_family = corrected(paired_tests(a, b, family))
    tests = tuple(test for test in of_family if (test.a, test.b) in pairs)
    single = a.n_parts == 1 and isinstance(a.task, Classification)
    found = {
        (one, other): disagreements(a.task, one, other, a.predictions[one], b.predictions[other], top)
        for one, other in (family if single else pairs)
    }
    if single:
        p_values = holm([mcnemar_test(one.count_a, one.count_b) for one in found.values()])
        found = {pair: replace(found[pair], mcnemar_p=float(p)) for pair, p in zip(found, p_values, strict=True)}
    undefined = [_undefined(a, one) for one, _ in pairs] + [_undefined(b, other) for _, other in pairs]
    return Comparison(
        a=a.folder,
        b=b.folder,
        task=a.task,
        settings={} if b is a else _differing_settings(a, b),
        n_folds=a.n_parts,
        repeated=a.repeated,
        notes=tuple(dict.fromkeys(note for note in [*undefined, _untested(tests, a.n_folds)] if note)),
        tests=tests,
        disagreements=tuple(found[pair] for pair in pairs),
        n_pairs=len(family),
        n_tested=n_tested(of_family),
    )


def _pairs_within(run: RunRecord, approaches: Sequence[str]) -> list[tuple[str, str]]:
    chosen = list(dict.fromkeys(approaches)) or list(run.predictions)
    for approach in chosen:
        _check_has(run, approach)
    if len(chosen) < 2:
        raise EvaluationError(
            f"{chosen[0]} has nothing to be compared with: the run {run.folder.name} has {', '.join(run.predictions)}; "
            "name two approaches (--approach), or a second run"
        )
    return list(combinations(chosen, 2))


def _pairs_between(a: RunRecord, b: RunRecord, approaches: Sequence[str]) -> list[tuple[str, str]]:
    if len(approaches) > 2:
        raise EvaluationError(
            f"{len(approaches)} approaches ({', '.join(approaches)}) for two runs; give one for both, or one for each"
        )
    if approaches:
        pair = (approaches[0], approaches[-1])
        for run, approach in zip((a, b), pair, strict=True):
            _check_has(run, approach)
        return [pair]
    shared = [(approach, approach) for approach in a.predictions if approach in b.predictions]
    if not shared:
        raise EvaluationError(
            f"the runs have no approach in common: {a.folder.name} has {', '.join(a.predictions)}; {b.folder.name} has "
            f"{', '.join(b.predictions)}; name one in each: --approach {next(iter(a.predictions))} "
            f"--approach {next(iter(b.predictions))}"
        )
    return shared


def _check_has(run: RunRecord, approach: str) -> None:
    if approach not in run.predictions:
        raise EvaluationError(
            f"the run {run.folder.name} has no approach {approach!r}; it has {', '.join(run.predictions)}"
        )


def _check_paired(a: RunRecord, b: RunRecord) -> None:
    """Check that two different runs tested the same tracks in the same folds.

    Raises
    ------
    EvaluationError
        They did not; the message lists the differences. Or both are the same run.
    """
    if a.folder.samefile(b.folder):
        raise EvaluationError(
            f"{a.folder.name} is given twice; name it once to compare its approaches with one another, or another run"
        )
    one, other = a.configuration, b.configuration
    reasons = []
    if one["dataset"]["digest"] != other["dataset"]["digest"] or a.task != b.task:
        reasons.append(
            "different tracks, labels, audio or spectrogram settings "
            f"({one['dataset']['spec']} with {one['n_tracks']} tracks, "
            f"{other['dataset']['spec']} with {other['n_tracks']})"
        )
    if sorted(one["seeds"]) != sorted(other["seeds"]):
        seeds = " and ".join(", ".join(map(str, each["seeds"])) for each in (one, other))
        reasons.append(f"different seeds ({seeds})")
    if any(one[name] != other[name] for name in ("folds", "cv", "splits", "test_size")):
        reasons.append(f"different folds ({_folds(a)} and {_folds(b)})")
    if not reasons and a.tests != b.tests:
        moved = len(a.tests) - len({*a.tests} & {*b.tests})
        reasons.append(f"different folds ({moved} of {len(a.tests)} test tracks are in another fold)")
    if reasons:
        raise EvaluationError(
            f"the runs {a.folder.name} and {b.folder.name} cannot be paired: {'; '.join(reasons)}.\n"
            "Evaluate both on the same dataset, with the same --seed, --folds, --cv and --exclude"
        )


def _folds(run: RunRecord) -> str:
    size = f", test size {run.configuration['test_size']:g}" if run.repeated else ""
    return run.describe_folds() + size


def _differing_settings(a: RunRecord, b: RunRecord) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two runs differ, such as ``{"epochs": (100, 400)}``; not those that only one has."""
    one, other = flatten(a.configuration), flatten(b.configuration)
    return {
        name: (one[name], other[name])
        for name in one
        if name in other and one[name] != other[name] and name != "methods"  # these are what is compared
    }


def _undefined(run: RunRecord, approach: str) -> str:
    """Describe in how many folds and targets the headline metric is undefined; empty where it is defined in all."""
    count = n_undefined(run.predictions[approach], run.task)
    return f"{approach} in {run.folder.name}: {describe_undefined(run.headline, count)}" if count else ""


def _untested(tests: Sequence[PairedTest], n_folds: int) -> str:
    """Explain why some pairs are not tested; empty where all are."""
    if all(test.t_test is not None for test in tests):
        return ""
    if n_folds == 1:
        return "not tested: each seed has a single split, and a test needs several folds"
    return "not tested: the difference is the same in all folds, so its variance cannot be estimated"
