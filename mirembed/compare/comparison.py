"""Compare methods of one run, or of several on the same folds: choose pairs, test them, list disagreements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mirembed.compare.disagreements import Disagreements, disagreements
from mirembed.compare.families import Family, families, run_families
from mirembed.compare.paired_tests import PairedTest, RunMethod, RunPair
from mirembed.config.approaches import UNTRAINED_BASELINES
from mirembed.config.comparisons import Comparisons
from mirembed.differences import differing_settings, made_with
from mirembed.errors import EvaluationError
from mirembed.hookspecs import Classification, Task
from mirembed.interruption import interruptible
from mirembed.progress import counted
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import describe_undefined, undefined
from mirembed.statistics import holm, mcnemar_test


@dataclass(frozen=True)
class Comparison:
    """Methods, compared in pairs.

    Attributes
    ----------
    runs : tuple of pathlib.Path
        One, or several that tested the same tracks in the same folds.
    task : Task
    settings : mapping of str to tuple
        The settings in which the runs differ, with the value of each run.
    n_folds : int
        Folds, or random splits, of all seeds.
    repeated : bool
        Whether they are repeated random splits.
    notes : tuple of str
        Further remarks, one line each.
    families : tuple of Family
        The tests, by the family over which they are corrected.
    disagreements : tuple of Disagreements
        One for each pair that is tested on the headline metric.
    """

    runs: tuple[Path, ...]
    task: Task
    settings: Mapping[str, tuple[Any, ...]]
    n_folds: int
    repeated: bool
    notes: tuple[str, ...]
    families: tuple[Family, ...]
    disagreements: tuple[Disagreements, ...]

    @property
    def tests(self) -> tuple[PairedTest, ...]:
        """The tests of all families."""
        return tuple(test for family in self.families for test in family.tests)

    def label(self, method: str, run: int) -> str:
        """Return the name of a method, with the number of its run if there are several."""
        return f"run {run}: {method}" if len(self.runs) > 1 else method

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        return {
            "runs": [str(run) for run in self.runs],
            "settings": {name: list(values) for name, values in self.settings.items()},
            "n_folds": self.n_folds,
            "repeated": self.repeated,
            "notes": list(self.notes),
            "families": [family.to_json() for family in self.families],
            "disagreements": [asdict(one) for one in self.disagreements],
        }


@interruptible()
def compare(
    runs: Sequence[RunRecord], *, against: str | None = None, methods: Sequence[str] = (), top: int = 10
) -> Comparison:
    """Compare the methods of one run with one another, or those of several runs with those of the first.

    One run is compared as it declared before training, unless ``against`` names another reference. Of several runs,
    each method is compared with the one of the same name in the first run, or else with the first one that is trained
    there.

    Holm's correction runs over whole families, even if only some methods are shown: choosing them after the results are
    known must not make a difference significant.

    Parameters
    ----------
    runs : sequence of RunRecord
        Finished.
    against : str or None
        The method that all others are compared with, of the first run that has it.
    methods : sequence of str
        Show only pairs of these; none for all.
    top : int
        How many tracks to list for each pair and method.

    Raises
    ------
    EvaluationError
        The runs cannot be paired, or do not have the methods.
    """
    first, *others = runs
    for name in (*methods, *([] if against is None else [against])):
        _check_has(runs, name)
    if others:
        for other in others:
            _check_paired(first, other)
        _check_different(runs)
        found = families(*_pairs_of_runs(runs, against), declared=False)
    else:
        _check_several(first, methods)
        wanted = None if against is None else Comparisons.of(first.methods, against)
        found = run_families(first, wanted)
    shown = [_showing(family, methods) for family in found]
    if not any(family.tests for family in shown):
        raise EvaluationError(
            f"no pair of the methods {', '.join(methods)} is compared; omit --approach, or name a reference: "
            f"--against {methods[0]}"
        )
    headline = [family for family in found if family.tests[0].line == (first.headline, None)]
    return Comparison(
        runs=tuple(run.folder for run in runs),
        task=first.task,
        settings=_differences(runs, found),
        n_folds=first.n_parts,
        repeated=first.repeated,
        notes=_notes(runs, found, shown),
        families=tuple(family for family in shown if family.tests),
        disagreements=tuple(one for family in headline for one in _disagreements(runs, family, methods, top)),
    )


def _pairs_of_runs(
    runs: Sequence[RunRecord], against: str | None
) -> tuple[list[RunPair], list[RunPair], list[RunPair]]:
    """Return the primary pairs of several runs, those with baselines, and those of other methods with the first run."""
    every = [RunMethod(run, method, number) for number, run in enumerate(runs, 1) for method in run.predictions]
    in_first = {one.method: one for one in every if one.number == 1}
    baselines = {(n, m.name) for n, run in enumerate(runs, 1) for m in run.methods if _is_baseline(m.approach.name)}
    if against is None:
        reference = next((one for one in in_first.values() if (1, one.method) not in baselines), every[0])
        pairs = [(one, in_first.get(one.method, reference)) for one in every if one.number > 1]
    else:
        reference = next(one for one in every if one.method == against)
        pairs = [(one, reference) for one in every if one is not reference]
    primary = [(a, b) for a, b in pairs if (a.number, a.method) not in baselines]
    # A baseline is B, as within one run, unless it is compared with itself in the other run.
    with_baselines = [(a, b) if a.method == b.method else (b, a) for a, b in pairs if (a.number, a.method) in baselines]
    used = {frozenset(pair) for pair in pairs}
    others = [
        (one, other)
        for one in every
        for other in in_first.values()
        if one.number > 1 and frozenset((one, other)) not in used
    ]
    return primary, with_baselines, others


def _is_baseline(approach: str) -> bool:
    return approach in UNTRAINED_BASELINES


def _showing(family: Family, methods: Sequence[str]) -> Family:
    """Return a family of which only the tests between some methods are shown; none for all."""
    if not methods:
        return family
    return replace(family, tests=tuple(test for test in family.tests if {test.a, test.b} <= {*methods}))


def _disagreements(runs: Sequence[RunRecord], family: Family, methods: Sequence[str], top: int) -> list[Disagreements]:
    """Return the disagreements of a family's pairs that are shown; on a single split, with McNemar's test of them."""
    first = runs[0]
    pairs = [
        (RunMethod(runs[test.run_a - 1], test.a, test.run_a), RunMethod(runs[test.run_b - 1], test.b, test.run_b))
        for test in family.tests
    ]
    found = [disagreements(first.task, a, b, top) for a, b in pairs]
    if first.n_parts == 1 and isinstance(first.task, Classification):
        p_values = holm([mcnemar_test(one.count_a, one.count_b) for one in found])
        found = [replace(one, mcnemar_p=float(p)) for one, p in zip(found, p_values, strict=True)]
    return [one for one in found if not methods or {one.a, one.b} <= {*methods}]


def _differences(runs: Sequence[RunRecord], found: Sequence[Family]) -> dict[str, tuple[Any, ...]]:
    """Return the settings in which runs differ, and the parts in which their methods do, with the value of each run."""
    first, *others = runs
    each = [
        differing_settings(first.configuration, run.configuration) | made_with(first.configuration, run.configuration)
        for run in others
    ]
    names = dict.fromkeys(name for one in each for name in one)
    settings: dict[str, tuple[Any, ...]] = {}
    for name in names:
        before = next(one[name][0] for one in each if name in one)
        settings[name] = (before, *(one[name][1] if name in one else before for one in each))
    compared = [name for name in settings if name == "methods" or name.startswith("comparisons.")]
    for name in compared:  # what is compared is no difference between the runs
        del settings[name]
    methods = {(number, method.name): method for number, run in enumerate(runs, 1) for method in run.methods}
    main = [test for family in found if not family.exploratory for test in family.tests]
    for test in (test for test in main if test.run_a != test.run_b):
        of_pair = ((test.run_a, test.a), (test.run_b, test.b))
        for part in ("features", "network", "learner"):
            values = {key: getattr(methods[key], part) for key in of_pair}
            if len({str(value) for value in values.values()}) > 1:
                named = " and ".join(dict.fromkeys(method for _, method in sorted(of_pair)))
                by_run = {number: None if value is None else str(value) for (number, _), value in values.items()}
                known = settings.get(name := f"the {part} of {named}", (None,) * len(runs))
                settings[name] = tuple(by_run.get(number, old) for number, old in enumerate(known, 1))
    return settings


def _notes(runs: Sequence[RunRecord], found: Sequence[Family], shown: Sequence[Family]) -> tuple[str, ...]:
    first = runs[0]
    tests = [test for family in shown for test in family.tests]
    notes = []
    if len(runs) == 1 and any(not family.declared and not family.exploratory for family in found):
        notes.append(f"the run declared other comparisons: {_declared(first.comparisons)}")
    compared = dict.fromkeys(key for test in tests for key in ((test.run_a, test.a), (test.run_b, test.b)))
    for number, method in compared:
        run = runs[number - 1]
        if counts := undefined(run.predictions[method], run.task, run.headline):
            notes.append(f"{method} in {run.folder.name}: {describe_undefined(run.headline, counts)}")
    if untested := _untested(tests, first.n_parts):
        notes.append(untested)
    return tuple(dict.fromkeys(notes))


def _declared(comparisons: Comparisons) -> str:
    """Describe what a run declared, in a few words."""
    if comparisons.reference is not None:
        return f"every method against {comparisons.reference}"
    return ", ".join(f"{a} against {b}" for a, b in comparisons.primary)


def _untested(tests: Sequence[PairedTest], n_folds: int) -> str:
    """Explain why some pairs are not tested; empty where all are."""
    count = sum(test.t_test is None for test in tests)
    if not count:
        return ""
    if n_folds == 1:
        return "not tested: each seed has a single split, and a test needs several folds"
    return (
        f"{count} of {counted(len(tests), 'test')} not tested: the metric is undefined in too many folds, or the "
        "difference is the same in all of them, so that its variance cannot be estimated"
    )


def _check_has(runs: Sequence[RunRecord], method: str) -> None:
    if not any(method in run.predictions for run in runs):
        has = "; ".join(f"{run.folder.name} has {', '.join(run.predictions)}" for run in runs)
        raise EvaluationError(f"there is no method {method!r}: {has}")


def _check_several(run: RunRecord, methods: Sequence[str]) -> None:
    chosen = list(dict.fromkeys(methods)) or list(run.predictions)
    if len(chosen) < 2:
        raise EvaluationError(
            f"nothing to compare {chosen[0]} with: the run {run.folder.name} has {', '.join(run.predictions)}; "
            "name two methods (--approach), or a second run"
        )


def _check_different(runs: Sequence[RunRecord]) -> None:
    for number, run in enumerate(runs):
        if any(run.folder.samefile(other.folder) for other in runs[:number]):
            raise EvaluationError(
                f"{run.folder.name} is given twice; name it once to compare its methods, or name another run"
            )


def _check_paired(a: RunRecord, b: RunRecord) -> None:
    """Check that two runs tested the same tracks in the same folds, and are scored by the same metric.

    Raises
    ------
    EvaluationError
        They did not, and the message lists the differences.
    """
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
    if not reasons and a.headline != b.headline:
        reasons.append(f"different metrics ({a.headline} and {b.headline})")
    if reasons:
        raise EvaluationError(
            f"the runs {a.folder.name} and {b.folder.name} cannot be paired: {'; '.join(reasons)}.\n"
            "Evaluate both on the same dataset, with the same --seed, --folds, --cv, --exclude and --metric"
        )


def _folds(run: RunRecord) -> str:
    size = f", test size {run.configuration['test_size']:g}" if run.repeated else ""
    return run.describe_folds() + size
