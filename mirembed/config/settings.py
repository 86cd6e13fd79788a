"""The settings of a fit or an evaluation, named as the flags and the keys of experiment files are."""

from __future__ import annotations

import types
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias

from mirembed.config import defaults
from mirembed.config.approaches import FROM, Approach, Method, by_training, cross
from mirembed.config.combinations import Combination, Member, named, with_combined
from mirembed.config.selection import EPOCH, Choice, checkpoints, parse_choices
from mirembed.errors import SpecError
from mirembed.specs import Spec, near_names

Normalize: TypeAlias = Literal["training", "dataset"]
"""Which tracks the means and deviations of the normalization come from."""

FOLDS_FILES = (".csv", ".tsv", ".parquet")
"""Endings of tables with folds."""

_RESERVED_NAMES = ("report", "manifest.json", "experiment.toml")
"""Other entries in the folder of an experiment."""

_REPLACES = {
    "cv": ("splits", "test_size"),
    "splits": ("cv",),
    "approach": ("similarity",),
    "similarity": ("approach",),
    "against": ("primary",),
    "primary": ("against",),
}
"""Settings that go back to their defaults when another gets a new value."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers: each attribute is a flag of ``mirembed evaluate`` and a key of its files.

    ``mirembed fit`` uses those of the training and the learner, and ignores the others.

    Attributes
    ----------
    name : str
        Name of the evaluation, if an experiment has several.
    dataset : tuple of str
        By default the only dataset in the store.
    features, network : tuple of str
        Each is combined with every approach that takes one. Features joined by ``+`` are stacked.
    approach, similarity : tuple of str
        With ``from_`` they give `approaches`; ``rbf-sl`` if all are empty and ``combine`` lists no methods.
    from_ : tuple of str
        Models whose networks are used as they are: folders, or names in the store.
    combine : tuple of str
        Methods that average the predictions of others, which are added if they are missing; see
        `mirembed.config.combinations`.
    label_similarity : str or None
        Compares labels; by default, labels are compared by the similarity that compares embeddings.
    learner : tuple of str
        Each is combined with every approach that needs one.
    epochs, batch : int
    optimizer : str
        Of torch, with its parameters: ``adadelta``, ``adam:lr=0.001``.
    excerpt : int
        Frames of each track in an epoch; features of one frame ignore it.
    deltas : bool or None
        Whether the differences of consecutive frames are appended to the input; None: for features with several frames.
    ensemble : int
        Number of networks that are trained from different seeds and used as one, their embeddings side by side.
    seed : tuple of int
        Each draws its own folds, weights and excerpts.
    folds : str or None
        ``random``, ``stratified``, ``grouped``, official splits of the dataset, or a table with the fold of each track
        (see `is_folds_file`); the default depends on the task.
    cv : int or None
        Number of folds.
    splits : int or None
        Number of repeated random splits, instead of cross-validation.
    test_size : float or None
        Fraction of the tracks (with ``grouped``, of the groups) that each random split tests.
    train_size : tuple of float
        Shares of each fold's training tracks, an evaluation each; all of them if empty.
    metric : str or None
        The headline metric, for tables, curves, tests and what is selected; the default depends on the task.
    select : tuple of str
        What is chosen inside the folds: ``learner.C=0.1|1|10``, ``epoch``; see `mirembed.config.selection`.
    inner_cv : int
        Number of inner folds, in which ``select`` compares the values, and stacked weights are found.
    against : str or None
        The method that the others are compared with; by default the first combined one, else the first trained one.
    primary : tuple of (str, str)
        The pairs of methods to compare instead; only in files. See `mirembed.config.comparisons`.
    normalize : {"training", "dataset"}
        Which tracks the means and deviations of the input come from.
    exclude : str or None
        ``known-faults``, or None to exclude no track.
    checkpoint_every : int
        Number of epochs between scores, for the learning curves; 0 scores after the last epoch only.
    keep_models : bool
        Keep the models of all folds.
    keep_embeddings : bool
        Keep the embeddings of all folds and checkpoints; otherwise only those of the first fold's last epoch.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    engine : str
        ``auto``, ``numba`` or ``torch``.
    """

    name: str = ""
    dataset: tuple[str, ...] = ()
    features: tuple[str, ...] = (defaults.FEATURES,)
    network: tuple[str, ...] = (defaults.NETWORK,)
    approach: tuple[str, ...] = ()
    similarity: tuple[str, ...] = ()
    from_: tuple[str, ...] = ()
    combine: tuple[str, ...] = ()
    label_similarity: str | None = None
    learner: tuple[str, ...] = (defaults.LEARNER,)
    epochs: int = defaults.EPOCHS
    batch: int = defaults.BATCH
    optimizer: str = defaults.OPTIMIZER
    excerpt: int = defaults.EXCERPT
    deltas: bool | None = None
    ensemble: int = defaults.ENSEMBLE
    seed: tuple[int, ...] = (defaults.SEED,)
    folds: str | None = None
    cv: int | None = None
    splits: int | None = None
    test_size: float | None = None
    train_size: tuple[float, ...] = ()
    metric: str | None = None
    select: tuple[str, ...] = ()
    inner_cv: int = defaults.INNER_FOLDS
    against: str | None = None
    primary: tuple[tuple[str, str], ...] = ()
    normalize: str = defaults.NORMALIZE
    exclude: str | None = None
    checkpoint_every: int = defaults.CHECKPOINT_EVERY
    keep_models: bool = False
    keep_embeddings: bool = False
    device: str = defaults.DEVICE
    engine: str = defaults.ENGINE

    def __post_init__(self) -> None:
        lowest_values = {"epochs": 1, "batch": 1, "excerpt": 1, "ensemble": 1, "checkpoint_every": 0, "inner_cv": 2}
        for name, lowest in lowest_values.items():
            if getattr(self, name) < lowest:
                raise SpecError(f"{flag(name)} is {getattr(self, name)}: expected at least {lowest}")
        if self.name.startswith(".") or self.name in _RESERVED_NAMES:
            raise SpecError(f"an evaluation cannot be named {self.name!r}, as its folder would be; choose another name")
        for seed in self.seed:
            if not 0 <= seed < 2**32:
                raise SpecError(f"--seed is {seed}: expected a number from 0 to {2**32 - 1}")
        for name in ("features", "network", "learner", "seed"):
            if not getattr(self, name):
                raise SpecError(f"{flag(name)} is empty: expected at least one")
            _refuse_repeats(flag(name), getattr(self, name))
        for size in self.train_size:
            if not 0 < size <= 1:
                raise SpecError(f"--train-size is {size:g}: expected a share of the training tracks, such as 0.5")
        _refuse_repeats("--train-size", self.train_size)
        _refuse_repeats("--combine", self.combine)
        choices = typing.get_args(Normalize)
        if self.normalize not in choices:
            raise SpecError(f"--normalize {self.normalize}: expected {' or '.join(choices)}")

    @property
    def approaches(self) -> tuple[Approach, ...]:
        """The approaches that ``approach``, ``similarity`` and ``from_`` name; members of ``combine`` may add others.

        Raises
        ------
        SpecError
            If one is malformed or given twice.
        """
        names = [*self.approach, *(f"{Spec.parse(similarity)}-sl" for similarity in self.similarity)]
        lists_all = bool(self.combine) and all(one.members for one in self.combinations)
        if not names and not self.from_ and not lists_all:
            names = [defaults.APPROACH]
        saved = [Approach.of_model(model) for model in self.from_]
        approaches = (*map(self._approach, names), *saved)
        _refuse_repeats("the approach", [approach.name for approach in approaches])
        return approaches

    def _approach(self, name: str) -> Approach:
        labels = None if self.label_similarity is None else Spec.parse(self.label_similarity)
        return Approach.parse(name, labels)

    @property
    def used_approaches(self) -> tuple[Approach, ...]:
        """The approaches of all methods that are not combined, each once."""
        approaches = {method.approach.name: method.approach for method in self.methods if not method.approach.members}
        return tuple(approaches.values())

    @property
    def combinations(self) -> list[Combination]:
        """What ``combine`` asks for, parsed, each with a name.

        Raises
        ------
        SpecError
            If one is malformed, or two have the same name.
        """
        return named([Combination.parse(text) for text in self.combine])

    @property
    def learners(self) -> tuple[Spec, ...]:
        """The learners, parsed.

        Raises
        ------
        SpecError
            If one is malformed.
        """
        return tuple(Spec.parse(learner) for learner in self.learner)

    @property
    def methods(self) -> tuple[Method, ...]:
        """Every approach with the learners, networks and features that it takes; then what ``combine`` asks for.

        Raises
        ------
        SpecError
            If something is malformed, see `approaches`, `learners` and `mirembed.config.combinations`.
        """
        crossed = cross(self.features, self._networks, self.approaches, self.learners)
        learners = [str(learner) for learner in self.learners]
        flags = {"learner": learners, "network": self._networks, "features": self.features}
        return with_combined(crossed, self.combinations, flags, self._approach)

    @property
    def _networks(self) -> list[str]:
        return [str(Spec.parse(network)) for network in self.network]

    @property
    def all_features(self) -> tuple[str, ...]:
        """The features of the flags, and those that members of ``combine`` name, each once."""
        members = [text for one in self.combinations for text in one.members]
        found = [Member.parse(text, self._networks).features for text in members if not text.startswith(FROM)]
        return tuple(dict.fromkeys([*self.features, *(one for one in found if one)]))

    def with_features(self, names: Mapping[str, str]) -> Settings:
        """Return the settings with other names of `all_features`, by what they were."""
        combined = [one.with_features(names, self._networks) for one in map(Combination.parse, self.combine)]
        features = tuple(names[one] for one in self.features)
        return replace(self, features=features, combine=tuple(map(str, combined)))

    @property
    def trainings(self) -> list[tuple[Method, ...]]:
        """The methods, grouped by the training that they share."""
        return by_training(self.methods)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What is chosen inside the folds, parsed.

        Raises
        ------
        SpecError
            If something is malformed, given twice, or leaves nothing to choose.
        """
        choices = parse_choices(self.select)
        if EPOCH in self.select and len(checkpoints(self.epochs, self.checkpoint_every)) < 2:
            raise SpecError(
                f"--select epoch: with --epochs {self.epochs} and --checkpoint-every {self.checkpoint_every}, there is "
                "only one checkpoint, so nothing to choose; set --checkpoint-every to at least 1 and less than --epochs"
            )
        return choices

    def check(self) -> None:
        """Parse everything that names a plugin, so that a typo is reported before any work starts.

        Raises
        ------
        SpecError
            If something is malformed, see `methods`; or features, networks, an ensemble or a similarity of labels are
            given that no approach uses, or inner folds where nothing is chosen.
        """
        _ = self.methods, Spec.parse(self.optimizer), self.choices
        stacks = any(method.approach.stacked for method in self.methods)
        if self.inner_cv != defaults.INNER_FOLDS and not self.select and not stacks:
            raise SpecError(
                f"--inner-cv {self.inner_cv}: nothing is chosen in inner folds; give --select or --combine stacked, or "
                "omit it"
            )
        approaches = self.used_approaches
        listed = ", ".join(approach.name for approach in approaches)
        if self.label_similarity is not None and not any(approach.label_similarity for approach in approaches):
            raise SpecError(
                f"--label-similarity {self.label_similarity}: no approach given ({listed}) learns a similarity; omit it"
            )
        uses = {
            "features": any(method.features in self.features for method in self.methods),
            "network": any(method.network in self._networks for method in self.methods),
            "ensemble": any(approach.takes_network for approach in approaches),
        }
        for name, used in uses.items():
            given = getattr(self, name)
            if not used and given != getattr(Settings(), name):
                shown = given[0] if isinstance(given, tuple) else given
                raise SpecError(f"{flag(name)} {shown}: none of the approaches ({listed}) uses it; omit it")

    def updated(self, content: Mapping[str, Any], where: str) -> Settings:
        """Return a copy with the values of ``content``, whose keys are those of experiment files.

        Parameters
        ----------
        content : mapping
            A single value may stand for a list of one.
        where : str
            Where the content comes from, for error messages.

        Raises
        ------
        SpecError
            If a key is unknown or a value has the wrong type.
        """
        known = {key(field.name): field for field in fields(self)}
        wanted = typing.get_type_hints(type(self))
        values: dict[str, Any] = {}
        for name, value in content.items():
            if name not in known:
                near = near_names(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
                raise SpecError(f"{where}: unknown setting {name!r}; {hint}")
            if name == "combine" and isinstance(value, list | tuple):
                value = ["|".join(map(str, one)) if isinstance(one, list | tuple) else one for one in value]
            values[known[name].name] = _convert(value, wanted[known[name].name], f"{where}: {name}")
        reset: dict[str, Any] = {
            other: known[key(other)].default
            for name, others in _REPLACES.items()
            if values.get(name) is not None
            for other in others
        }
        return replace(self, **(reset | values))

    def to_toml(self) -> dict[str, Any]:
        """Return the settings by their keys in experiment files; empty ones are left out."""
        content = {key(field.name): getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in content.items()
            if value not in (None, (), "")
        }


def is_folds_file(folds: str | None) -> bool:
    """Whether ``--folds`` names a table: its ending says so.

    >>> is_folds_file("artists.csv"), is_folds_file("stratified")
    (True, False)
    """
    return folds is not None and folds.lower().endswith(FOLDS_FILES)


def key(name: str) -> str:
    """Return the spelling of an attribute in a file.

    >>> key("test_size"), key("from_")
    ('test-size', 'from')
    """
    return name.rstrip("_").replace("_", "-")


def flag(name: str) -> str:
    """Return the spelling of an attribute on the command line.

    >>> flag("test_size")
    '--test-size'
    """
    return f"--{key(name)}"


def _refuse_repeats(what: str, values: Sequence[Any]) -> None:
    for value, times in Counter(values).items():
        if times > 1:
            raise SpecError(f"{what} {value} is given {times} times; give it once")


def _convert(value: Any, wanted: Any, where: str) -> Any:
    """Check a value of a file against the type of an attribute of `Settings`."""
    if typing.get_origin(wanted) is tuple:
        items = typing.get_args(wanted)
        if items[-1] is Ellipsis:
            values = value if isinstance(value, list | tuple) else [value]
            return tuple(_convert(one, items[0], where) for one in values)
        if not isinstance(value, list | tuple) or len(value) != len(items):
            raise SpecError(f'{where} has {value!r}: expected a list of {len(items)}, such as [["rbf-sl", "nn"]]')
        return tuple(_convert(one, item, where) for one, item in zip(value, items, strict=True))
    [kind] = [one for one in typing.get_args(wanted) or (wanted,) if one is not types.NoneType]
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        words = {int: "an integer", float: "a number", str: "a quoted string", bool: "true or false"}
        raise SpecError(f"{where} is {value!r}: expected {words[kind]}")
    return value
