"""What a run found, in sentences: what was compared, which method is best, and whether the tests show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mirembed.compare.families import BASELINES, Family, declared_kinds
from mirembed.compare.paired_tests import PairedTest, n_tested, p_in_text
from mirembed.config.approaches import UNTRAINED_BASELINES
from mirembed.progress import counted, decimals, first_names, joined
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import column_kind, column_names
from mirembed.runs.summary import describe_chance
from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import Metric, metric_named

_NAMED = 4
"""Of more methods than this, a sentence gives the number instead of their names."""


@dataclass(frozen=True)
class Answer:
    """What a run found.

    Attributes
    ----------
    verdict : str
        In a few words, without a period: for a heading.
    compared : str
        What was compared, on what.
    evidence : tuple of str
        The sentences that support the verdict: scores, differences and p-values.
    reference : str or None
        The method that the others were compared with; None if pairs were declared instead.
    best : tuple of str
        The methods with the best score; several if they share it, none if nothing is scored.
    ranked : tuple of str
        All methods, from the best to the worst score; those without one come last.
    better : tuple of str
        The methods that a declared test shows to be better than another, the best first.
    """

    verdict: str
    compared: str
    evidence: tuple[str, ...]
    reference: str | None
    best: tuple[str, ...]
    ranked: tuple[str, ...]
    better: tuple[str, ...]


def answer(run: RunRecord, families: Iterable[Family]) -> Answer:
    """Say what a run found.

    Parameters
    ----------
    run : RunRecord
        Finished or not.
    families : iterable of Family
        The tests of its methods, see `mirembed.compare.families.run_families`; none of an unfinished run. Exploratory
        ones play no part.
    """
    findings = _Findings.of(run, families)
    verdict, evidence = findings.conclude()
    winners = {test.better for test in findings.tests}
    return Answer(
        verdict,
        _compared(run),
        tuple(evidence),
        reference=run.comparisons.reference,
        best=tuple(findings.best),
        ranked=tuple(dict.fromkeys([*findings.best, *findings.scores, *run.predictions])),
        better=tuple(method for method in findings.scores if method in winners),
    )


@dataclass(frozen=True, eq=False)
class _Findings:
    """The scores of a run's methods and the tests that were declared before training.

    Attributes
    ----------
    run : RunRecord
    metric : Metric
        The headline.
    scores : mapping of str to Interval
        Of the methods that have one, the best first.
    best : list of str
        Those that share the best score.
    families : list of Family
    """

    run: RunRecord
    metric: Metric
    scores: Mapping[str, Interval]
    best: list[str]
    families: list[Family]

    @classmethod
    def of(cls, run: RunRecord, families: Iterable[Family]) -> _Findings:
        metric = metric_named(run.headline)
        sign = -1 if metric.higher_is_better else 1
        means = {method: run.interval(method, (metric.name, None)) for method in run.predictions}
        ranked = sorted(
            ((sign * one.mean, method) for method, one in means.items() if one.mean is not None), key=lambda x: x[0]
        )
        best = [method for value, method in ranked if value == ranked[0][0]]
        reference = run.comparisons.reference
        if reference in best:  # no other method is better than it
            best = [reference, *(method for method in best if method != reference)]
        scores = {method: means[method] for _, method in ranked}
        return cls(run, metric, scores, best, [family for family in families if not family.exploratory])

    @property
    def tests(self) -> list[PairedTest]:
        return [test for family in self.families for test in family.tests]

    @property
    def label(self) -> str:
        return self.metric.name_in_text

    def conclude(self) -> tuple[str, list[str]]:
        """Return the verdict and the evidence."""
        run, label = self.run, self.label
        if not run.predictions:
            return "No scores yet", []
        if not self.best:
            return f"{label} is undefined for every method", ["Nothing can be compared."]
        best = self.best[0]
        if not run.finished:
            return f"{best} scores best so far (unfinished)", [f"{self._score_of_best()}. Nothing is tested yet."]
        if len(run.predictions) == 1:
            alone = f"{self._score_of_best()}. It is the only method, so there is nothing to compare it with."
            chance = describe_chance(self.metric.name, run.configuration["chance"])
            return f"{label} {self._value(best)} with {best}, the only method", [alone, f"{chance}."]
        reference = run.comparisons.reference
        verdict, evidence = self._of_pairs(best) if reference is None else self._against(best, reference)
        return verdict, [sentence for sentence in [*evidence, self._beside_chance(best)] if sentence]

    def _against(self, best: str, reference: str) -> tuple[str, list[str]]:
        """Conclude where every other method was compared with a reference."""
        of_other = {test.a if test.b == reference else test.b: test for test in self.tests}
        better = [name for name in self.scores if name in of_other and of_other[name].better == name]
        worse = [name for name in self.scores if name in of_other and of_other[name].better == reference]
        if best == reference:
            return self._reference_leads(reference, of_other, worse)
        test = of_other[best]
        evidence = [f"{self._score_of_best()}, {self._apart(test, best, f'the reference {reference}')}."]
        if not test.significant:
            evidence.append(self._unsure(test))
        trains = any(method.approach.name not in UNTRAINED_BASELINES for method in self.run.methods)
        if best in UNTRAINED_BASELINES and trains:
            evidence.append(f"{best} trains no network, and no trained method scores better.")
        if also := [name for name in better if name != best]:
            evidence.append(f"Also significantly better than {reference}: {self._with_p(also, of_other)}.")
        if best in better and len(better) > 1:
            evidence.append(f"No test between these {len(better)} methods was declared.")
        if worse:
            evidence.append(f"Significantly worse than {reference}: {first_names(worse, 2 * _NAMED)}.")
        if better:
            return f"{_listed(better)} {'beats' if len(better) == 1 else 'beat'} {reference}", evidence
        return f"{best} scores best, but not significantly better than {reference}", evidence

    def _reference_leads(
        self, reference: str, of_other: Mapping[str, PairedTest], worse: Sequence[str]
    ) -> tuple[str, list[str]]:
        """Conclude where no method scores better than the reference."""
        evidence = [f"{self._score_of_best()}; {reference} is the reference of all comparisons."]
        if worse:
            evidence.append(f"It is significantly better than {self._with_p(worse, of_other)}.")
        if unsure := [name for name, test in of_other.items() if test.p is not None and not test.significant]:
            shown = self._with_p(unsure, of_other)
            evidence.append(f"It is not significantly better than {shown}.")
        if untested := [test for test in of_other.values() if test.p is None]:
            evidence.append(self._unsure(untested[0]))
        if n_tested(of_other.values()) > 1:
            first, second = declared_kinds(self.run)
            apart = f", separately for {first} and for {second}" if self.run.comparisons.baselines else ""
            evidence.append(f"All p-values are Holm-corrected{apart}.")
        if len(worse) == len(of_other):
            return f"{reference} beats {_listed(worse)}", evidence
        if worse:
            return f"{reference} scores best, and beats {_listed(worse)}", evidence
        return f"{reference} scores best, but not significantly better than {_listed(list(of_other), 'or')}", evidence

    def _of_pairs(self, best: str) -> tuple[str, list[str]]:
        """Conclude where pairs of methods were declared."""
        own = {test.a if test.b == best else test.b: test for test in self.tests if best in (test.a, test.b)}
        evidence = [f"{self._score_of_best()}."]
        for other, test in list(own.items())[: 2 * _NAMED]:
            evidence.append(f"It is {self._apart(test, best, other)}.")
        if unsure := [test for test in own.values() if not test.significant]:
            evidence.append(self._unsure(unsure[0]))
        others = [test for test in self.tests if test.significant and best not in (test.a, test.b)]
        for test in others[: 2 * _NAMED]:
            worse = test.b if test.better == test.a else test.a
            evidence.append(f"{test.better} is significantly better than {worse} ({self._p_short(test)}).")
        if not own:
            evidence.append("No declared comparison includes it.")
            return f"{best} scores best, untested", evidence
        beaten = [other for other, test in own.items() if test.better == best]
        if beaten:
            return f"{best} beats {_listed(beaten)}", evidence
        return f"{best} scores best, but not significantly better than {_listed(list(own), 'or')}", evidence

    def _score_of_best(self) -> str:
        """Return the best score with its interval, and whose it is."""
        highest = "highest" if self.metric.higher_is_better else "lowest"
        one = self.scores[self.best[0]]
        names, verb = _listed(self.best), "has" if len(self.best) == 1 else "share"
        interval = "" if one.low is None or one.high is None else f" ({_interval(one.low, one.high)})"
        if len(self.run.predictions) == 1:
            return f"{names} has {self.label} {self._value(self.best[0])}{interval}"
        return f"{names} {verb} the {highest} {self.label}, {self._value(self.best[0])}{interval}"

    def _value(self, method: str) -> str:
        return decimals(self.scores[method].mean or 0.0)

    def _apart(self, test: PairedTest, best: str, other: str) -> str:
        """Return how far ``best`` is from the other method of a test, with the interval and the p-value."""
        one = test.difference
        if one.mean is None:
            return f"not comparable with {other}"
        above = (one.mean >= 0) == (test.a == best)
        text = f"{abs(one.mean):.3f} {'above' if above else 'below'} {other}"
        if test.p is None or one.low is None or one.high is None:
            return text
        low, high = (one.low, one.high) if one.mean >= 0 else (-one.high, -one.low)
        return f"{text} ({_interval(low, high)}; {self._p_short(test)}, {self._corrected(test)})"

    def _corrected(self, test: PairedTest) -> str:
        """Say over which family of tests a p-value is corrected."""
        family = next(family for family in self.families if test in family.tests)
        of_family = "test with a baseline" if family.name == BASELINES else f"test of {declared_kinds(self.run)[0]}"
        if self.run.comparisons.reference is None:
            of_family = "declared test"
        if family.n_tested == 1:
            return f"the only {of_family}"
        tests = of_family.replace("test", f"{family.n_tested} tests", 1)
        return f"Holm-corrected over the {tests}"

    def _with_p(self, names: Sequence[str], tests: Mapping[str, PairedTest]) -> str:
        """Return methods with the p-values of their tests; of many, the first."""
        return first_names([f"{name} ({self._p_short(tests[name])})" for name in names], 2 * _NAMED)

    @staticmethod
    def _p_short(test: PairedTest) -> str:
        return p_in_text(test.p_holm) or "not tested"

    def _unsure(self, test: PairedTest) -> str:
        """Say why a test does not show which method is better."""
        if test.p is not None:
            return "A difference of this size may be due to chance; that does not show that the methods are equal."
        if not n_tested(self.tests) and self.run.n_folds == 1:
            return "A single split has no folds to test over, so this may be due to chance."
        return (
            f"{test.a} and {test.b} could not be tested: too few folds have a score of both, or their difference is "
            "the same in every fold."
        )

    def _beside_chance(self, best: str) -> str:
        """Warn if even the best method may be no better than a constant guess; empty otherwise."""
        chance, one = self.run.configuration["chance"], self.scores[best]
        if chance is None or one.mean is None or best == "chance":
            return ""
        if (one.mean > chance) != self.metric.higher_is_better:
            return f"A constant guess scores no worse ({chance:.3f})."
        if one.low is not None and one.high is not None and one.low <= chance <= one.high:
            return f"Its interval includes the score of a constant guess ({chance:.3f})."
        return ""


def _interval(low: float, high: float) -> str:
    return f"95 % interval {decimals(low)} to {decimals(high)}"


def _compared(run: RunRecord) -> str:
    """Say what was compared, on what: metric, dataset, tracks, labels, folds, groups and epochs."""
    configuration = run.configuration
    labels = counted(len(column_names(run.task)), column_kind(run.task))
    trains = any(method.approach.trains for method in run.methods)
    epochs = f", each network trained for {counted(configuration['epochs'], 'epoch')}" if trains else ""
    methods = f"{counted(len(run.methods), 'method')} on {configuration['dataset']['spec']}"
    first = f"{methods}: {labels}, {run.sizes.describe(run.describe_folds())}{epochs}."
    return f"{first} {_groups(run)} Measured by {metric_named(run.headline).name_in_text}."


def _groups(run: RunRecord) -> str:
    """Say whether tracks of one group are kept on one side of the folds."""
    if run.groups is not None:
        return "No group (artist) is on both sides of a split."
    if run.n_groups:
        return "Groups (artists) may be on both sides of a split, which may make all scores too high."
    return "Groups (artists) are not known, so one may be on both sides of a split."


def _listed(names: Sequence[str], word: str = "and") -> str:
    """Return names as a sentence has them; of many, how many there are.

    >>> _listed(["fl", "nn", "stats"]), _listed(["fl", "nn"], "or")
    ('fl, nn and stats', 'fl or nn')
    """
    if len(names) > _NAMED:
        return f"{len(names)} methods" if word == "and" else f"any of {len(names)} methods"
    return joined(names, word)
