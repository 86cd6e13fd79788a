"""What can be chosen inside a fold: the candidates of each method, and the inner folds that compare them.

Everything here happens before the training, so that a mistake in ``--select`` is reported at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from mirembed.config import Method, Settings
from mirembed.config.selection import EPOCH, Choice, checkpoints
from mirembed.datasets.splits import Fold, Scheme, default_scheme, groups_on_both_sides, make_folds
from mirembed.errors import EvaluationError, SpecError
from mirembed.fit.resolve import describe_chosen
from mirembed.hookspecs import Regression, Task
from mirembed.progress import counted
from mirembed.registry import Kind, Registry
from mirembed.specs import Spec, parameters_of
from mirembed.training.excerpts import Stream
from mirembed.training.labels import scale_for

Groups: TypeAlias = Sequence[str | None]

Network: TypeAlias = tuple[str | None, str, str]
"""A network to train: its spec, what it is trained for, and the optimizer."""


@dataclass(frozen=True)
class Candidate:
    """Values to try for a method.

    Attributes
    ----------
    values : mapping of str to str
        By the name of the choice; empty if nothing is chosen for the method.
    method : Method
        With these values. It keeps its name.
    optimizer : str
    epochs : int
    """

    values: Mapping[str, str]
    method: Method
    optimizer: str
    epochs: int

    @property
    def network(self) -> Network:
        """Identifies the network, whatever the number of epochs."""
        return self.method.network, self.method.approach.training, self.optimizer

    @property
    def name(self) -> str:
        """Tells apart the candidates that share a network after some epoch."""
        return self.method.name if self.method.learner is None else f"{self.method.name} | {self.method.learner}"


@dataclass(frozen=True, eq=False)
class Selection:
    """What is chosen for the methods of a training.

    Attributes
    ----------
    metric : str
        The metric that decides.
    choices : tuple of str
        The names of all choices of the run.
    candidates : mapping of str to tuple of Candidate
        By method, in the order in which they win ties.
    inner : ndarray [n_train], int64
        The inner fold that tests each training track; -1 for a track that all inner folds train on.
    """

    metric: str
    choices: tuple[str, ...]
    candidates: Mapping[str, tuple[Candidate, ...]]
    inner: NDArray[np.int64]

    @property
    def of_network(self) -> bool:
        """Whether something of the network is chosen, so that networks are trained in the inner folds."""
        return any(len({(one.network, one.epochs) for one in some}) > 1 for some in self.candidates.values())

    @property
    def networks(self) -> list[list[Candidate]]:
        """The candidates by the network that they share."""
        found: dict[Network, list[Candidate]] = {}
        for one in itertools.chain(*self.candidates.values()):
            found.setdefault(one.network, []).append(one)
        return list(found.values())

    @property
    def splits(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The positions of training and test tracks of each inner fold among the training tracks."""
        numbers = range(int(self.inner.max()) + 1)
        return [(np.flatnonzero(self.inner != one), np.flatnonzero(self.inner == one)) for one in numbers]

    @property
    def n_inner_networks(self) -> int:
        """How many networks are trained in the inner folds."""
        return len(self.networks) * len(self.splits) if self.of_network else 0

    def of(self, methods: Iterable[Method]) -> Selection | None:
        """Return what is chosen for some of the methods; None if nothing is."""
        candidates = {method.name: self.candidates[method.name] for method in methods}
        chosen = any(len(some) > 1 for some in candidates.values())
        return replace(self, candidates=candidates) if chosen else None


def plan_candidates(
    settings: Settings, methods: Sequence[Method], registry: Registry, described: Mapping[str, Any]
) -> dict[str, tuple[Candidate, ...]]:
    """Combine all values that ``--select`` gives for each method.

    A choice applies to every method whose part has that parameter, and was not given a value for it.

    Parameters
    ----------
    settings : Settings
    methods : sequence of Method
    registry : Registry
    described : mapping
        What `mirembed.fit.resolve.describe_settings` returns.

    Raises
    ------
    SpecError
        If a choice is malformed or applies to no method.
    PluginError
        If a plugin rejects a value.
    """
    for choice in settings.choices:
        if not any(_applies(choice, method, settings, registry) for method in methods):
            raise SpecError(_why_none(choice, methods, settings, registry))
    found: dict[str, tuple[Candidate, ...]] = {}
    for method in methods:
        choices = [choice for choice in settings.choices if _applies(choice, method, settings, registry)]
        values = [_values(choice, settings) for choice in choices]
        combinations = [dict(zip(choices, combined, strict=True)) for combined in itertools.product(*values)]
        found[method.name] = tuple(_candidate(method, combined, settings) for combined in combinations)
    changed = [one for some in found.values() for one in some if one.values]
    for one in {(one.network, one.name): one for one in changed}.values():
        describe_chosen(described, [one.method], one.optimizer, one.epochs, registry)
    return found


def _values(choice: Choice, settings: Settings) -> Sequence[str]:
    if choice.part != EPOCH:
        return choice.values
    return [str(epoch) for epoch in checkpoints(settings.epochs, settings.checkpoint_every)]


def _part(choice: Choice, method: Method, settings: Settings) -> Spec | None:
    """Return the spec of a method whose parameter is chosen; None if the method has no such part."""
    approach = method.approach
    if choice.part == "learner":
        return method.learner
    if choice.part == "network":
        return None if method.network is None else Spec.parse(method.network)
    if not approach.trains:
        return None
    if choice.part == "similarity":
        return approach.similarity
    if choice.part == "label-similarity":
        return approach.label_similarity
    return Spec.parse(settings.optimizer)


def _applies(choice: Choice, method: Method, settings: Settings, registry: Registry) -> bool:
    spec = _part(choice, method, settings)
    if choice.part == EPOCH:
        return method.approach.trains
    if spec is None or _is_given(choice, spec, settings):
        return False
    # What an optimizer takes is known only once torch is imported.
    return choice.part == "optimizer" or choice.parameter in _parameters(choice, spec, registry)


def _is_given(choice: Choice, spec: Spec, settings: Settings) -> bool:
    """Whether a parameter has a value: then it is not chosen, as the method is named after that value."""
    if choice.part == "label-similarity" and settings.label_similarity is None:
        return False  # the labels are compared as the embeddings are, so nobody gave their parameters
    return choice.parameter in spec.parameters


def _parameters(choice: Choice, spec: Spec, registry: Registry) -> dict[str, str]:
    """Return the parameters of a plugin as text, by name."""
    kind: Kind = "learner" if choice.part == "learner" else "network" if choice.part == "network" else "similarity"
    return {one.name: str(one) for one in parameters_of(registry.find(kind, spec.name).factory)}


def _why_none(choice: Choice, methods: Sequence[Method], settings: Settings, registry: Registry) -> str:
    """Say why a choice applies to no method."""
    specs = dict.fromkeys(str(spec) for method in methods if (spec := _part(choice, method, settings)) is not None)
    if choice.part == EPOCH or not specs:
        listed = ", ".join(dict.fromkeys(method.approach.name for method in methods))
        trained = choice.part in (EPOCH, "optimizer")
        lacks = "trains a network" if trained else f"has a {choice.part.replace('-', ' ')} to choose"
        return f"--select {choice.name}: none of the approaches ({listed}) {lacks}; omit it"
    parts = [Spec.parse(spec) for spec in specs]
    if given := [one for one in parts if _is_given(choice, one, settings)]:
        return f"--select {choice.name}: {given[0]} already has a value for {choice.parameter}; omit one of the two"
    lists = [
        f"{spec.name} has {', '.join(_parameters(choice, spec, registry).values()) or 'no parameters'}"
        for spec in {spec.name: spec for spec in parts}.values()
    ]
    return f"--select {choice.name}: no {choice.part} has a parameter {choice.parameter!r}; {'; '.join(lists)}"


def _candidate(method: Method, values: Mapping[Choice, str], settings: Settings) -> Candidate:
    def given(part: str) -> dict[str, str]:
        return {choice.parameter: value for choice, value in values.items() if choice.part == part}

    def changed(part: str, spec: Spec) -> Spec:
        return Spec(spec.name, {**spec.parameters, **given(part)})

    approach, learner, network = method.approach, method.learner, method.network
    if approach.trains:
        follow = settings.label_similarity is None
        approach = approach.with_parameters(given("similarity"), given("label-similarity"), labels_follow=follow)
    if learner is not None:
        learner = changed("learner", learner)
    if network is not None:
        network = str(changed("network", Spec.parse(network)))
    by_name = {choice.name: value for choice, value in values.items()}
    return Candidate(
        values=by_name,
        method=replace(method, approach=approach, learner=learner, network=network),
        optimizer=str(changed("optimizer", Spec.parse(settings.optimizer))) if approach.trains else settings.optimizer,
        epochs=int(by_name.get(EPOCH, settings.epochs)),
    )


def inner_scheme(scheme: str, task: Task, folds: Iterable[Fold], groups: Groups) -> Scheme:
    """Return how inner folds are drawn: as the outer ones.

    Inside official splits, groups stay apart if the splits keep them apart.
    """
    if scheme in get_args(Scheme):
        return cast(Scheme, scheme)
    apart = any(group is not None for group in groups) and not groups_on_both_sides(folds, groups)
    return "grouped" if apart else default_scheme(task)


def draw_inner_folds(
    task: Task, labels: NDArray[Any], groups: Groups, fold: Fold, *, scheme: Scheme, n_folds: int, seed: int
) -> NDArray[np.int64]:
    """Return the inner fold that tests each training track of a fold: ndarray ``[n_train]``, int64.

    They depend on the seed, the number of the fold and its training tracks alone.

    Parameters
    ----------
    task : Task
    labels : ndarray [n_tracks] or [n_tracks, n_targets]
    groups : sequence of str or None
        Of all tracks.
    fold : Fold
    scheme : {"random", "stratified", "grouped"}
    n_folds : int
    seed : int
        Of the outer folds.

    Raises
    ------
    EvaluationError
        If the training tracks cannot be split this way.
    """
    number = int(np.random.SeedSequence([seed, fold.index, Stream.INNER_FOLDS]).generate_state(1)[0])
    of_fold = [groups[row] for row in fold.train]
    try:
        folds, _ = make_folds(task, labels[fold.train], scheme=scheme, n_folds=n_folds, seed=number, groups=of_fold)
    except EvaluationError as error:
        reason = str(error).partition(": use ")[0]
        where = f" of fold {fold.index}" if len(fold.test) else ""  # a fit trains on all tracks
        raise EvaluationError(
            f"--inner-cv {n_folds}: the {counted(len(fold.train), 'training track')}{where} cannot be split into inner "
            f"folds ({reason}); use fewer inner folds, or another scheme (--folds)"
        ) from error
    inner = np.full(len(fold.train), -1, np.int64)
    for one in folds:
        inner[one.test] = one.index
    return checked_inner_folds(task, labels, fold, inner)


def checked_inner_folds(task: Task, labels: NDArray[Any], fold: Fold, inner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the inner folds of a fold, once it is clear that something can be learned in each.

    Raises
    ------
    EvaluationError
        If an inner fold has too few training tracks, or only one class, or the same tags for all of them, or a target
        of unknown range that is constant.
    """
    for one in range(int(inner.max()) + 1):
        trained = fold.train[inner != one]
        alike = not isinstance(task, Regression) and bool((labels[trained] == labels[trained[:1]]).all())
        if len(trained) < 2 or alike:
            raise EvaluationError(
                f"inner fold {one} of fold {fold.index} leaves {counted(len(trained), 'track')} to train on; "
                "expected at least two, of two classes or with different tags; change the inner folds"
            )
        scale_for(task, labels[trained])
    return inner
