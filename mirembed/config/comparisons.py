"""The comparisons of an evaluation that are declared before training, so that no result can influence their choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from mirembed.config.approaches import UNTRAINED_BASELINES, Method
from mirembed.errors import SpecError
from mirembed.specs import near_names

Pair: TypeAlias = tuple[str, str]
"""Two methods, A and B. A difference is the score of A minus that of B."""


@dataclass(frozen=True)
class Comparisons:
    """The pairs of methods that are tested on the headline metric.

    The tests of `primary` are one family, those of `baselines` another.

    Attributes
    ----------
    reference : str or None
        The method that the others are compared with; None if the pairs were listed.
    primary : tuple of (str, str)
        Every trained method and the reference, or the pairs that were listed. A combined method as reference comes
        first in each pair, and is also compared with its members that are not trained.
    baselines : tuple of (str, str)
        The reference and every baseline without training; empty if the pairs were listed.
    """

    reference: str | None
    primary: tuple[Pair, ...]
    baselines: tuple[Pair, ...]

    @classmethod
    def of(cls, methods: Sequence[Method], against: str | None = None, primary: Sequence[Pair] = ()) -> Comparisons:
        """Choose the comparisons of methods; by default, with the first combined one, or the first that is trained.

        >>> from mirembed.config.approaches import Approach, cross
        >>> from mirembed.specs import Spec
        >>> approaches = [Approach("chance"), Approach("nn"), Approach("fl"), Approach("stats")]
        >>> found = Comparisons.of(cross(["logmel"], ["gru"], approaches, [Spec("svm")]))
        >>> found.primary, found.baselines
        ((('fl', 'nn'),), (('nn', 'chance'), ('nn', 'stats')))

        Parameters
        ----------
        methods : sequence of Method
        against : str or None
            The reference.
        primary : sequence of (str, str)
            The pairs to compare, instead of a reference.

        Raises
        ------
        SpecError
            If a method is unknown, a pair is listed twice or compares a method with itself, there is nothing to compare
            the reference with, or both a reference and pairs are given.
        """
        names = [method.name for method in methods]
        if primary:
            if against is not None:
                raise SpecError(
                    f"--against {against} and primary exclude each other: primary lists all pairs; omit one"
                )
            _check_pairs(primary, names)
            return cls(None, tuple((a, b) for a, b in primary), ())
        trained = [method.name for method in methods if method.approach.name not in UNTRAINED_BASELINES]
        if against is not None:
            _check_known(against, names, f"--against {against}")
            if len(names) == 1:
                raise SpecError(f"--against {against}: there is no other method to compare with it; add an --approach")
        members = {method.name: method.approach.members for method in methods if method.approach.members}
        reference = next(iter([*members, *trained, *names])) if against is None else against
        others = [name for name in names if name != reference]
        declared = [name for name in others if name in trained or name in members.get(reference, ())]
        return cls(
            reference,
            tuple((reference, name) if reference in members else (name, reference) for name in declared),
            tuple((reference, name) for name in others if name not in declared),
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Comparisons:
        """Read what `to_json` returned."""
        primary, baselines = (tuple((a, b) for a, b in content[name]) for name in ("primary", "baselines"))
        return cls(content["reference"], primary, baselines)

    def to_json(self) -> dict[str, Any]:
        """Return the comparisons as JSON."""
        pairs = {name: [list(pair) for pair in getattr(self, name)] for name in ("primary", "baselines")}
        return {"reference": self.reference, **pairs}


def _check_pairs(pairs: Sequence[Pair], names: Sequence[str]) -> None:
    for a, b in pairs:
        for name in (a, b):
            _check_known(name, names, f"primary: {name}")
        if a == b:
            raise SpecError(f"primary compares {a} with itself; name two methods")
    for pair, times in Counter(frozenset(pair) for pair in pairs).items():
        if times > 1:
            raise SpecError(f"primary lists the pair {' and '.join(sorted(pair))} {times} times; list it once")


def _check_known(name: str, names: Sequence[str], where: str) -> None:
    if name not in names:
        near = near_names(name, names, n=1)
        hint = f"did you mean {near[0]}? The methods are" if near else "the methods are"
        raise SpecError(f"{where} is not a method of this evaluation; {hint} {', '.join(names)}")
