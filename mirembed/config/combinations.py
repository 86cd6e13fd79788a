"""Combined methods: how a combination is written, and which methods it averages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mirembed.config.approaches import FROM, NETWORK_BASELINES, UNTRAINED_BASELINES, Approach, Method
from mirembed.errors import SpecError
from mirembed.progress import joined
from mirembed.specs import Spec

ALL, STACKED = "all", "stacked"

_NAME = re.compile(r"[^\W_][\w.-]*")
_UNNAMED = re.compile(r"combined(-\d+)?")
_RESERVED = (ALL, STACKED, *NETWORK_BASELINES, *UNTRAINED_BASELINES)


@dataclass(frozen=True)
class Combination:
    """A method that averages the predictions of other methods of the evaluation, its members.

    Attributes
    ----------
    name : str
        Of the combined method; empty if none is given.
    members : tuple of str
        Their names, or methods in full, see `Member`; empty for all methods except ``chance``.
    stacked : bool
        Whether inner folds of the training tracks determine the weights; otherwise they are equal.
    """

    name: str
    members: tuple[str, ...]
    stacked: bool

    @classmethod
    def parse(cls, text: str) -> Combination:
        """Read ``[NAME=][stacked:]MEMBER|MEMBER|...``, where ``all``, or ``stacked`` alone, stands for all methods.

        >>> Combination.parse("best=stacked:rbf:gamma=2-sl|stats@logmel+chroma")
        Combination(name='best', members=('rbf:gamma=2-sl', 'stats@logmel+chroma'), stacked=True)
        >>> Combination.parse("stacked")
        Combination(name='', members=(), stacked=True)

        Raises
        ------
        SpecError
            If it is malformed.
        """
        name, equals, rest = text.partition("=")
        if not equals or set(name) & set(":|+@"):  # what follows a colon is a parameter of a similarity
            name, rest = "", text
        elif not _NAME.fullmatch(name):
            raise SpecError(
                f"--combine {text}: a combined method cannot be named {name!r}; expected a letter or a digit, then "
                "letters, digits, dots, hyphens and underscores"
            )
        if name in _RESERVED or name.endswith("-sl") or name.startswith(FROM):
            raise SpecError(f"--combine {text}: a combined method cannot be named {name}; choose another name")
        stacked = rest == STACKED or rest.startswith(f"{STACKED}:")
        listed = (rest[len(STACKED) + 1 :] or ALL) if stacked else rest
        members = () if listed == ALL else tuple(listed.split("|"))
        if not all(members) or len(members) == 1:
            raise SpecError(
                f"--combine {text}: expected all, or at least two methods separated by |, such as rbf-sl|stats"
            )
        for member, times in Counter(members).items():
            if times > 1:
                raise SpecError(f"--combine {text}: {member} is given {times} times; give it once")
        return cls(name, members, stacked)

    def with_features(self, known: Mapping[str, str], networks: Sequence[str]) -> Combination:
        """Return the combination with other names of the features of its members, by what they were."""

        def renamed(text: str) -> str:
            member = Member.parse(text, networks) if not text.startswith(FROM) else None
            return text if member is None else str(replace(member, features=known.get(member.features or "")))

        return replace(self, members=tuple(map(renamed, self.members)))

    @property
    def shown(self) -> str:
        """What the user wrote, without a name that `named` gave."""
        return str(replace(self, name="") if _UNNAMED.fullmatch(self.name) else self)

    def __str__(self) -> str:
        start = f"{self.name}=" if self.name else ""
        listed = "|".join(self.members) or ALL
        return f"{start}{STACKED}:{listed}" if self.stacked else f"{start}{listed}"


@dataclass(frozen=True)
class Member:
    """A method in full, ``APPROACH[+LEARNER][@NETWORK][@FEATURES]``; what is left out follows the flags.

    Attributes
    ----------
    approach : str
    learner, network, features : str or None
    """

    approach: str
    learner: str | None = None
    network: str | None = None
    features: str | None = None

    @classmethod
    def parse(cls, text: str, networks: Sequence[str]) -> Member:
        """Read a method; a single part after ``@`` is a network if it is one of ``networks``, otherwise features.

        >>> Member.parse("fl+svm:C=10@tcn@logmel+chroma", [])
        Member(approach='fl', learner='svm:C=10', network='tcn', features='logmel+chroma')
        >>> Member.parse("fl@tcn", ["gru", "tcn"]).network, Member.parse("fl@chroma", ["gru"]).features
        ('tcn', 'chroma')

        Raises
        ------
        SpecError
            If it is malformed.
        """
        first, *parts = text.split("@")
        approach, plus, learner = first.partition("+")
        if not approach or (plus and not learner) or not all(parts) or len(parts) > 2:
            raise SpecError(
                f"--combine: {text!r} is not a method; write APPROACH, or APPROACH+LEARNER@NETWORK@FEATURES"
            )
        network = features = None
        if len(parts) == 2:
            network, features = str(Spec.parse(parts[0])), parts[1]
        elif parts and "+" not in parts[0] and str(Spec.parse(parts[0])) in networks:
            network = str(Spec.parse(parts[0]))
        elif parts:
            features = parts[0]
        return cls(approach, str(Spec.parse(learner)) if plus else None, network, features)

    def __str__(self) -> str:
        learner = f"+{self.learner}" if self.learner else ""
        return f"{self.approach}{learner}" + "".join(f"@{part}" for part in (self.network, self.features) if part)


def named(combinations: Sequence[Combination]) -> list[Combination]:
    """Give a name to each combination that has none.

    >>> [one.name for one in named([Combination.parse("all"), Combination.parse("best=nn|fl")])]
    ['combined', 'best']

    Raises
    ------
    SpecError
        If two have the same name.
    """
    n_unnamed = sum(not one.name for one in combinations)
    numbers = iter(range(1, n_unnamed + 1))
    found = [
        one if one.name else replace(one, name="combined" if n_unnamed == 1 else f"combined-{next(numbers)}")
        for one in combinations
    ]
    for name, times in Counter(one.name for one in found).items():
        if times > 1:
            raise SpecError(f"--combine: {times} combined methods are named {name}; give each its own name")
    return found


def with_combined(
    methods: Sequence[Method],
    combinations: Sequence[Combination],
    flags: Mapping[str, Sequence[str]],
    read: Callable[[str], Approach],
) -> tuple[Method, ...]:
    """Return methods, then those members of combinations that are missing among them, then the combined methods.

    Parameters
    ----------
    methods : sequence of Method
    combinations : sequence of Combination
        With different names.
    flags : mapping of str to sequence of str
        What ``learner``, ``network`` and ``features`` are by default.
    read : callable
        Reads an approach.

    Raises
    ------
    SpecError
        If a member is malformed, ambiguous, ``chance`` or a combined method; or a combination has fewer than two, or
        the name of another method.
    """
    found = {method.name: method for method in methods}
    names_of_combined = {one.name for one in combinations}
    members: dict[str, list[str]] = {}
    for one in combinations:
        members[one.name] = []
        for text in one.members:
            if text in names_of_combined and text not in found:
                raise SpecError(f"--combine {one.shown}: the combined method {text} cannot be a member; omit it")
            method = _member(text, one, found, flags, read)
            found[method.name] = method
            members[one.name].append(method.name)
    every = [name for name, method in found.items() if method.approach.name != "chance"]
    combined: list[Method] = []
    for one in combinations:
        names = members[one.name] or every
        if one.name in found:
            raise SpecError(f"--combine {one.shown}: {one.name} is the name of another method; choose another name")
        if len(names) < 2:
            there = names[0] if names else "chance, which cannot be a member"
            raise SpecError(
                f"--combine {one.shown}: expected at least two methods, not only {there}; add an --approach"
            )
        if len(set(names)) < len(names):
            raise SpecError(f"--combine {one.shown}: two members are the same method ({joined(names)}); give each once")
        approach = Approach(one.name, members=tuple(names), stacked=one.stacked)
        for other in combined:
            if set(other.approach.members) == set(names) and other.approach.stacked == one.stacked:
                raise SpecError(f"--combine {one.shown}: {other.name} combines the same methods; give one of the two")
        combined.append(Method(one.name, None, None, approach, None))
    return *found.values(), *combined


def _member(
    text: str,
    combination: Combination,
    known: Mapping[str, Method],
    flags: Mapping[str, Sequence[str]],
    read: Callable[[str], Approach],
) -> Method:
    """Return the method that a member describes: one of those that are known, or a new one."""
    if text in known and text != "chance":
        return known[text]
    where = f"--combine {combination.shown}: {text}"
    if text == "chance":
        raise SpecError(f"{where} predicts without the audio, so it cannot be a member; omit it")
    if text.startswith(FROM):
        raise SpecError(f"{where} is not a method of this evaluation; give --from {text.removeprefix(FROM)}")
    given = Member.parse(text, flags["network"])
    approach = read(given.approach)
    takes = {"learner": approach.learns, "network": approach.takes_network, "features": approach.takes_features}
    parts: dict[str, str | None] = {}
    for part, is_taken in takes.items():
        value = getattr(given, part)
        if value is not None and not is_taken:
            raise SpecError(f"{where}: {approach.name} has no {part}; omit {value}")
        if value is None and is_taken and len(flags[part]) > 1:
            raise SpecError(f"{where} does not say which {part} to use; name one of {', '.join(flags[part])}")
        parts[part] = value if value is not None or not is_taken else flags[part][0]
    learner = None if parts["learner"] is None else Spec.parse(parts["learner"])
    name = str(replace(given, approach=approach.name))
    method = Method(name, parts["features"], parts["network"], approach, learner)
    same = (one for one in known.values() if replace(one, name=name) == method)
    return next(same, method)
