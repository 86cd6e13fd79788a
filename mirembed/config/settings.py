"""The settings of an evaluation, by the names that flags and experiment files give them."""

from __future__ import annotations

import types
import typing
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mirembed.config.experiment import Experiment, check_normalize, choose_approaches, choose_device
from mirembed.errors import SpecError
from mirembed.specs import Spec, near_names

_TAKEN = ("report", "manifest.json", "experiment.toml")
"""What else stands in the folder of an experiment."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What ``mirembed evaluate`` can be told, as it is told: each attribute is a flag, and a key of experiment files.

    Attributes
    ----------
    name : str
        Of the evaluation, where an experiment has several.
    dataset : tuple of str
        None: the only dataset of the store.
    approach, similarity : tuple of str
        See `mirembed.config.choose_approaches`.
    label_similarity : str or None
    learner : tuple of str
    epochs, batch : int
    seed : tuple of int
    folds : str or None
    cv, splits : int or None
    test_size : float or None
        These four: see `mirembed.evaluate.choose_evaluation`.
    normalize : str
    exclude : str or None
    checkpoint_every : int
        Score after every so many epochs too; 0: after the last only.
    keep_models, keep_embeddings : bool
    device, engine : str
    """

    name: str = ""
    dataset: tuple[str, ...] = ()
    approach: tuple[str, ...] = ()
    similarity: tuple[str, ...] = ()
    label_similarity: str | None = None
    learner: tuple[str, ...] = ("svm",)
    epochs: int = 400
    batch: int = 32
    seed: tuple[int, ...] = (0,)
    folds: str | None = None
    cv: int | None = None
    splits: int | None = None
    test_size: float | None = None
    normalize: str = "training"
    exclude: str | None = None
    checkpoint_every: int = 10
    keep_models: bool = False
    keep_embeddings: bool = False
    device: str = "auto"
    engine: str = "auto"

    def __post_init__(self) -> None:
        lowest = {"epochs": 1, "batch": 1, "checkpoint_every": 0}
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise SpecError(f"{flag(name)} is {getattr(self, name)}: expected at least {low}")
        if self.name.startswith(".") or self.name in _TAKEN:
            raise SpecError(f"an evaluation cannot be called {self.name!r}: its folder could not; choose another name")
        for seed in self.seed:
            if not 0 <= seed < 2**32:
                raise SpecError(f"--seed is {seed}: expected a number from 0 to {2**32 - 1}")
        for name in ("seed", "learner"):
            for value, times in Counter(getattr(self, name)).items():
                if times > 1:
                    raise SpecError(f"{flag(name)} {value} is given {times} times; give it once")
        if not self.learner or not self.seed:
            raise SpecError(f"{flag('seed' if self.learner else 'learner')} is empty: expected at least one")

    def updated(self, content: Mapping[str, Any], where: str) -> EvaluationSettings:
        """Return the settings with what ``content`` says, by the keys of experiment files.

        Parameters
        ----------
        content : mapping
            A single value may stand for a list of one.
        where : str
            For errors.

        Raises
        ------
        SpecError
            If a key is unknown or a value has the wrong type.
        """
        known = {key(field.name): field.name for field in fields(self)}
        types_ = typing.get_type_hints(type(self))
        values = {}
        for name, value in content.items():
            if name not in known:
                near = near_names(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
                raise SpecError(f"{where}: there is no setting {name!r}; {hint}")
            values[known[name]] = _convert(value, types_[known[name]], f"{where}: {name}")
        return replace(self, **_replaced(values), **values)

    def to_toml(self) -> dict[str, Any]:
        """Return the settings by their keys in experiment files; those that say nothing are left out."""
        content = {key(field.name): getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in content.items()
            if value not in (None, (), "")
        }

    def experiment(self) -> Experiment:
        """Return the experiment that the settings describe.

        Raises
        ------
        SpecError
            If one of them is malformed.
        """
        return Experiment(
            choose_approaches(self.approach, self.similarity, self.label_similarity),
            tuple(Spec.parse(learner) for learner in self.learner),
            self.epochs,
            self.batch,
            check_normalize(self.normalize),
            choose_device(self.device),
        )


def _replaced(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that lose their value because another takes their place."""
    rivals = [
        ("cv", "splits"),
        ("cv", "test_size"),
        ("splits", "cv"),
        ("approach", "similarity"),
        ("similarity", "approach"),
    ]
    empty = EvaluationSettings()
    return {
        other: getattr(empty, other) for given, other in rivals if values.get(given) is not None and other not in values
    }


def key(name: str) -> str:
    """Return how an attribute is spelled in a file."""
    return name.replace("_", "-")


def flag(name: str) -> str:
    """Return how an attribute is spelled on the command line."""
    return f"--{key(name)}"


def _convert(value: Any, wanted: Any, where: str) -> Any:
    """Check a value of a file against a type of `EvaluationSettings`."""
    if typing.get_origin(wanted) is tuple:
        item = typing.get_args(wanted)[0]
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(one, item, where) for one in values)
    accepted = [one for one in typing.get_args(wanted) or (wanted,) if one is not types.NoneType]
    [kind] = accepted
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}
        raise SpecError(f"{where} is {value!r}: expected {words[kind]}")
    return value
