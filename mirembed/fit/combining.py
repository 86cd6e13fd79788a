"""Combined models: their members are fitted like other models, and saved as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.config import Method
from mirembed.fit.names import work_folder
from mirembed.hookspecs import Regression
from mirembed.models.baselines import InputStatistics
from mirembed.models.combined import CombinedModel, equalizing
from mirembed.models.model import Model
from mirembed.registry import Registry
from mirembed.store.root import slug


def members_of(methods: Sequence[Method]) -> set[str]:
    """Return the names of the methods that combined methods average."""
    return {name for method in methods for name in method.approach.members}


def stacked_members(methods: Sequence[Method]) -> set[str]:
    """Return the names of the members whose weights come from inner folds."""
    return members_of([method for method in methods if method.approach.stacked])


def saved_methods(methods: Sequence[Method]) -> list[Method]:
    """Return the methods that a fit saves a model of: all but the members of combined methods."""
    inside = members_of(methods)
    return [method for method in methods if method.name not in inside]


def member_folders(models: Path, methods: Sequence[Method], digest: str) -> dict[str, Path]:
    """Return the folders of members until the combined models of the fit ``digest`` are saved, by method."""
    return {name: work_folder(models) / f"{slug(name)}-{digest}.member" for name in sorted(members_of(methods))}


def combine_saved(
    method: Method,
    folders: Mapping[str, Path],
    embeddings: Mapping[str, NDArray[np.float32]],
    weights: NDArray[np.float64],
    provenance: Mapping[str, Any],
    registry: Registry,
) -> CombinedModel:
    """Return the model of a combined method; it is not saved yet.

    Parameters
    ----------
    method : Method
    folders : mapping of str to pathlib.Path
        Of its members, by name.
    embeddings : mapping of str to ndarray [n_train, units], float32
        Of the training tracks by each member.
    weights : ndarray [n_members], float64
    provenance : mapping
        For its manifest, besides what depends on the method.
    """
    names = method.approach.members
    members = {name: Model.load(folders[name], registry) for name in names}
    learned = [not isinstance(member.network, InputStatistics) for member in members.values()]
    model = CombinedModel.of(members, weights, equalizing([embeddings[name] for name in names], learned))
    chosen = {f"{name} {choice}": value for name, one in members.items() for choice, value in one.chosen.items()}
    model.provenance = {
        **provenance,
        "approach": method.name,
        "learner": None,
        "notes": list(_notes(members)),
        "loss": None,
        **({"selection": {"chosen": chosen}} if chosen else {}),
    }
    return model


def _notes(members: Mapping[str, Model]) -> Iterator[str]:
    for name, member in members.items():
        yield from (f"{name}: {note}" for note in member.provenance["notes"])
        if not isinstance(member.task, Regression) and not member.has_probabilities:
            yield f"{name} has no probabilities; its predictions count as 1 and 0"
