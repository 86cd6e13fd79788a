"""Compare approaches: choose the pairs, check that two runs can be paired, test differences, list disagreements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mirembed.compare.paired_tests import PairedTest, corrected, n_tested, paired_tests
from mirembed.differences import differing_settings, made_with
from mirembed.errors import EvaluationError
from mirembed.hookspecs import Classification, Regression, Tags, Task
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import describe_undefined, n_undefined
from mirembed.runs.tables import Predictions
from mirembed.statistics import holm, mcnemar_test
from mirembed.store.rows import tags_of


@dataclass(frozen=True)
class Mistake:
    """A track whose class only one approach gets right.

    Attributes
    ----------
    track : str
    label : str
    prediction_a, prediction_b : str
    times : int
        How often; more than once with several seeds.
    """

    track: str
    label: str
    prediction_a: str
    prediction_b: str
    times: int


@dataclass(frozen=True)
class LargerError:
    """A track and target that one approach predicts more closely.

    Attributes
    ----------
    track : str
    target : str
    truth : float
        In the target's own units.
    error_a, error_b : float
        Absolute errors, in the same units; means over the seeds.
    """

    track: str
    target: str
    truth: float
    error_a: float
    error_b: float


Better: TypeAlias = tuple[Mistake, ...] | tuple[LargerError, ...]


@dataclass(frozen=True)
class Disagreements:
    """Where two approaches disagree.

    Attributes
    ----------
    a, b : str
        The approaches.
    count_a, count_b : int
        Classification: predictions that only A, and only B, gets right. Regression: tracks and targets that A, and B,
        predicts more closely.
    better_a, better_b : tuple of Mistake, or of LargerError
        Those where A, and B, is better; the most frequent mistakes, or the largest differences of error, first.
    mcnemar_p : float or None
        Of McNemar's exact test, Holm-corrected over the pairs. Only for a single split, which has no folds to test
        over.
    """

    a: str
    b: str
    count_a: int
    count_b: int
    better_a: Better
    better_b: Better
    mcnemar_p: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Pairs of approaches, compared.

    Attributes
    ----------
    a, b : pathlib.Path
        The runs; the same where approaches of one run are compared.
    task : Classification, Tags or Regression
    settings : mapping of str to (Any, Any)
        The settings in which the runs differ.
    n_folds : int
        Folds, or random splits, of all seeds.
    repeated : bool
        Whether they are repeated random splits.
    notes : tuple of str
        Further remarks, one line each.
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
            "disagreements": [asdict(one) for one in self.disagreements],
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
        (one, other): _disagreements(a.task, one, other, a.predictions[one], b.predictions[other], top)
        for one, other in (family if single else pairs)
    }
    if single:
        p_values = holm([mcnemar_test(one.count_a, one.count_b) for one in found.values()])
        found = {pair: replace(found[pair], mcnemar_p=float(p)) for pair, p in zip(found, p_values, strict=True)}
    settings = differing_settings(a.configuration, b.configuration) | made_with(a.configuration, b.configuration)
    settings.pop("methods", None)  # the methods are what is compared
    if a is not b:
        settings |= _differing_parts(a, b, pairs)
    undefined = [_undefined(a, one) for one, _ in pairs] + [_undefined(b, other) for _, other in pairs]
    return Comparison(
        a=a.folder,
        b=b.folder,
        task=a.task,
        settings=settings,
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
            f"nothing to compare {chosen[0]} with: the run {run.folder.name} has {', '.join(run.predictions)}; "
            "name two methods (--approach), or a second run"
        )
    return list(combinations(chosen, 2))


def _pairs_between(a: RunRecord, b: RunRecord, approaches: Sequence[str]) -> list[tuple[str, str]]:
    if len(approaches) > 2:
        raise EvaluationError(
            f"{len(approaches)} methods ({', '.join(approaches)}) for two runs; give one for both, or one for each"
        )
    if approaches:
        pair = (approaches[0], approaches[-1])
        for run, approach in zip((a, b), pair, strict=True):
            _check_has(run, approach)
        return [pair]
    shared = [(approach, approach) for approach in a.predictions if approach in b.predictions]
    if not shared:
        raise EvaluationError(
            f"the runs have no method in common: {a.folder.name} has {', '.join(a.predictions)}; {b.folder.name} has "
            f"{', '.join(b.predictions)}; name one in each: --approach {next(iter(a.predictions))} "
            f"--approach {next(iter(b.predictions))}"
        )
    return shared


def _differing_parts(a: RunRecord, b: RunRecord, pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[Any, Any]]:
    """Return the features, networks and learners in which the methods of a pair differ, by a description."""
    in_a, in_b = ({method.name: method for method in run.methods} for run in (a, b))
    found: dict[str, tuple[Any, Any]] = {}
    for one, other in pairs:
        for part in ("features", "network", "learner"):
            here, there = (None if (of := getattr(m, part)) is None else str(of) for m in (in_a[one], in_b[other]))
            if here != there:
                found[f"the {part} of {one if one == other else f'{one} and {other}'}"] = (here, there)
    return found


def _check_has(run: RunRecord, approach: str) -> None:
    if approach not in run.predictions:
        raise EvaluationError(
            f"the run {run.folder.name} has no method {approach!r}; it has {', '.join(run.predictions)}"
        )


def _check_paired(a: RunRecord, b: RunRecord) -> None:
    """Check that two different runs tested the same tracks in the same folds.

    Raises
    ------
    EvaluationError
        They did not, and the message lists the differences; or both are the same run.
    """
    if a.folder.samefile(b.folder):
        raise EvaluationError(
            f"{a.folder.name} is given twice; name it once to compare its approaches, or name another run"
        )
    one, other = a.configuration, b.configuration
    reasons = []
    if one["dataset"]["tracks"] != other["dataset"]["tracks"] or a.task != b.task:
        reasons.append(
            "different tracks, labels or audio "
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


def _disagreements(task: Task, a: str, b: str, of_a: Predictions, of_b: Predictions, top: int) -> Disagreements:
    """Find the tracks on which two approaches disagree.

    Parameters
    ----------
    task : Classification, Tags or Regression
    a, b : str
        The approaches.
    of_a, of_b : Predictions
        Row by row of the same tracks.
    top : int
        How many tracks to list for each approach.
    """
    if isinstance(task, Classification):
        return _mistakes(task, a, b, of_a, of_b, top)
    if isinstance(task, Tags):
        return _wrong_tags(task, a, b, of_a, of_b, top)
    return _larger_errors(task, a, b, of_a, of_b, top)


def _mistakes(task: Classification, a: str, b: str, of_a: Predictions, of_b: Predictions, top: int) -> Disagreements:
    columns = [[task.classes[n] for n in column[:, 0]] for column in (of_a.truth, of_a.predicted, of_b.predicted)]
    return _disagreeing(columns, a, b, of_a, top)


def _disagreeing(columns: Sequence[Sequence[str]], a: str, b: str, of_a: Predictions, top: int) -> Disagreements:
    """Find the tracks that only one is right about; ``columns`` are their labels and what A and B predict."""
    times = Counter(zip(of_a.ids.tolist(), *columns, strict=True))
    most_often_first = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    found = [Mistake(track, label, in_a, in_b, count) for (track, label, in_a, in_b), count in most_often_first]
    only_a = [one for one in found if one.prediction_a == one.label != one.prediction_b]
    only_b = [one for one in found if one.prediction_b == one.label != one.prediction_a]
    count_a, count_b = (sum(one.times for one in only) for only in (only_a, only_b))
    return Disagreements(a, b, count_a, count_b, tuple(only_a[:top]), tuple(only_b[:top]))


def _wrong_tags(task: Tags, a: str, b: str, of_a: Predictions, of_b: Predictions, top: int) -> Disagreements:
    """Compare the sets of tags: a prediction is right where all tags are."""
    columns = [[", ".join(tags_of(row, task)) for row in rows] for rows in (of_a.truth, of_a.predicted, of_b.predicted)]
    return _disagreeing(columns, a, b, of_a, top)


def _larger_errors(task: Regression, a: str, b: str, of_a: Predictions, of_b: Predictions, top: int) -> Disagreements:
    ids, first, rows = np.unique(of_a.ids, return_index=True, return_inverse=True)
    times = np.bincount(rows)
    found = []
    for column, target in enumerate(task.targets):
        truth = of_a.truth[:, column]
        error_a, error_b = (
            (np.bincount(rows, np.abs(one.predicted[:, column] - truth)) / times).tolist() for one in (of_a, of_b)
        )
        values = zip(ids.tolist(), truth[first].tolist(), error_a, error_b, strict=True)
        found += [LargerError(track, target.name, *numbers) for track, *numbers in values]
    better_a = sorted((e for e in found if e.error_a < e.error_b), key=lambda e: e.error_a - e.error_b)
    better_b = sorted((e for e in found if e.error_b < e.error_a), key=lambda e: e.error_b - e.error_a)
    return Disagreements(a, b, len(better_a), len(better_b), tuple(better_a[:top]), tuple(better_b[:top]))
