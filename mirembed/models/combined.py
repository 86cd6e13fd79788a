"""A combined model: several models whose predictions are averaged; in memory and on disk.

On disk it is a folder::

    model.json              task, features, weights, provenance, names of the members, digests of all files
    network.safetensors     weights and scales of the members; its metadata has the digests of their networks
    members/1-NAME/ ...     each member, a model that can be used by itself
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from mirembed.features.info import FeaturesInfo
from mirembed.hookspecs import Regression, Tags
from mirembed.models.averaging import Outputs, average
from mirembed.models.base import RECORDINGS, AnyModel, TrackFrames
from mirembed.models.model import Model
from mirembed.models.saved import NETWORK, checked_manifest, identity, reading_model
from mirembed.progress import joined
from mirembed.registry import Registry
from mirembed.store.root import slug
from mirembed.store.rows import task_from_json


@dataclass
class CombinedModel(AnyModel):
    """Models of the same task, whose predictions are averaged and whose embeddings are concatenated.

    See `AnyModel` for the attributes that are not listed.

    Attributes
    ----------
    members : mapping of str to Model
        By the names of their methods.
    weights : ndarray [n_members], float64
        Of their predictions: not negative, with sum 1.
    exponents : ndarray [n_members], int64
        A member's embedding is multiplied by 2 to the power of its exponent, see `equalizing`. A power of two changes
        no digit, so that `predict` gets back what the member had embedded, to the bit.
    """

    members: Mapping[str, Model]
    weights: NDArray[np.float64]
    exponents: NDArray[np.int64]
    recordings: Sequence[str] = ()
    learner_recordings: Sequence[str] = ()
    audio_hashes: Sequence[str] = ()
    learner_audio_hashes: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first, *others = self.members.values()
        self.task = first.task
        if any(other.task != first.task for other in others):
            raise ValueError("its members have different tasks")

    @classmethod
    def of(
        cls, members: Mapping[str, Model], weights: NDArray[np.float64], exponents: NDArray[np.int64]
    ) -> CombinedModel:
        """Combine models that were fitted to the same tracks."""

        def merged(name: str) -> list[str]:
            return list(dict.fromkeys(one for member in members.values() for one in getattr(member, name)))

        fitted_to: dict[str, Any] = {name: merged(name) for name in RECORDINGS}
        return cls(members, weights, exponents, **fitted_to)

    @property
    def feature_sets(self) -> tuple[FeaturesInfo, ...]:
        """See `AnyModel`."""
        return tuple({_key(member.features): member.features for member in self.members.values()}.values())

    @property
    def units(self) -> int:
        """See `AnyModel`."""
        return sum(member.units for member in self.members.values())

    @property
    def may_fuse(self) -> bool:
        """See `AnyModel`."""
        return any(member.may_fuse for member in self.members.values())

    @property
    def member_weights(self) -> dict[str, float]:
        """See `AnyModel`."""
        return dict(zip(self.members, self.weights.tolist(), strict=True))

    def embed_sets(self, sets: Sequence[TrackFrames]) -> NDArray[np.float32]:
        """See `AnyModel`."""
        by_features = {_key(one): tracks for one, tracks in zip(self.feature_sets, sets, strict=True)}
        return self.join([member.embed(*by_features[_key(member.features)]) for member in self.members.values()])

    def join(self, embeddings: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Scale and concatenate the members' embeddings ``[n_tracks, units]``."""
        pairs = zip(embeddings, self.exponents, strict=True)
        return np.concatenate([np.ldexp(vectors, exponent) for vectors, exponent in pairs], axis=1)

    def split(self, embeddings: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the members' embeddings ``[n_tracks, units]``, as they were before `join`."""
        ends = np.cumsum([member.units for member in self.members.values()])[:-1]
        pairs = zip(np.split(embeddings, ends, axis=1), self.exponents, strict=True)
        return [np.ldexp(vectors, -exponent) for vectors, exponent in pairs]

    def outputs(self, embeddings: NDArray[np.float32]) -> Outputs:
        """Return the mean of what the members predict from embeddings ``[n_tracks, units]``."""
        members = zip(self.members.values(), self.split(embeddings), strict=True)
        return average(self.task, [outputs_of(*member) for member in members], self.weights)

    def predict(self, embeddings: NDArray[np.float32]) -> NDArray[Any]:
        """See `AnyModel`."""
        return self.outputs(embeddings).predicted

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `AnyModel`; they are the mean probabilities."""
        found = self.outputs(embeddings).scores
        if found is None:
            raise TypeError(f"scores are of tags, and the task is {self.task!r}")
        return found

    @property
    def has_probabilities(self) -> bool:
        """See `AnyModel`."""
        return any(member.has_probabilities for member in self.members.values())

    @property
    def uncalibrated(self) -> str | None:
        """See `AnyModel`."""
        named = [name for name, member in self.members.items() if member.calibration is None]
        if not named or not self.has_probabilities:
            return None
        return f"these probabilities are means that include those of {joined(named)}, which are not calibrated"

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """See `AnyModel`."""
        return None if isinstance(self.task, Regression) else self.outputs(embeddings).probabilities

    def _write(self, folder: Path) -> Mapping[str, Any]:
        described, digests = [], []
        weights = self.member_weights
        for number, (name, member) in enumerate(self.members.items(), 1):
            place = f"members/{number}-{slug(name)}"
            member.save(folder / place)
            digests.append(str(member.provenance["digest"]))
            described.append({"name": name, "folder": place, "weight": weights[name]})
        arrays = {"weights": self.weights, "exponents": self.exponents}
        (folder / NETWORK).write_bytes(save(arrays, {"members": " ".join(digests)}))
        return {"members": described}

    @classmethod
    def assemble(cls, folder: Path, manifest: Mapping[str, Any], registry: Registry) -> Self:
        """See `AnyModel`."""
        members = {one["name"]: Model.load(folder / one["folder"], registry) for one in manifest["members"]}
        arrays = load_file(folder / NETWORK)
        fitted_to: dict[str, Any] = {name: tuple(manifest[name]) for name in RECORDINGS}
        provenance = {**manifest["provenance"], **identity(folder)}
        found = cls(members, arrays["weights"], arrays["exponents"], **fitted_to, provenance=provenance)
        described = [one.to_json() for one in found.feature_sets], found.units, found.task, len(found.weights)
        wanted = manifest["features"], manifest["units"], task_from_json(manifest["task"]), len(manifest["members"])
        if described != wanted:
            raise ValueError("its members are not those of its manifest")
        return found


def load_model(folder: Path, registry: Registry) -> AnyModel:
    """Read a model of any kind; see `AnyModel.load`."""
    with reading_model(folder):
        manifest = checked_manifest(folder)
        kind: type[AnyModel] = CombinedModel if "members" in manifest else Model
        return kind.assemble(folder, manifest, registry)


def equalizing(embeddings: Sequence[NDArray[np.float32]], learned: Sequence[bool]) -> NDArray[np.int64]:
    """Return the exponents by which members count about the same in distances between embeddings.

    With them, the root mean square distance of the training tracks from their mean is between 0.71 and 1.41 (the square
    roots of 1/2 and 2) for each member. Those without a network have learned nothing about which tracks are similar, so
    they are scaled to an eighth of that, and hardly count.

    >>> tracks = np.array([[-3], [3]], np.float32), np.array([[0.5], [0.0]], np.float32)
    >>> equalizing(tracks, [True, True]).tolist(), equalizing(tracks, [True, False]).tolist()
    ([-2, 2], [-2, -1])

    Parameters
    ----------
    embeddings : sequence of ndarray [n_train, units], float32
        Of the training tracks, by each member.
    learned : sequence of bool
        Whether each member has a network.
    """
    pairs = zip(embeddings, learned, strict=True)
    return np.array([_exponent(vectors.astype(np.float64)) - (0 if one else 3) for vectors, one in pairs], np.int64)


def _exponent(vectors: NDArray[np.float64]) -> int:
    spread = float(np.sqrt(np.square(vectors - vectors.mean(axis=0)).sum(axis=1).mean()))
    return -round(np.log2(spread)) if spread > 0 else 0


def _key(features: FeaturesInfo) -> tuple[str, ...]:
    """Return what identifies the frames of features, stacked in their order."""
    return tuple(features.digests)


def outputs_of(model: AnyModel, embeddings: NDArray[np.float32]) -> Outputs:
    """Return what a model predicts for tracks with embeddings ``[n_tracks, units]``."""
    scores = model.scores(embeddings) if isinstance(model.task, Tags) else None
    return Outputs(model.predict(embeddings), scores, model.probabilities(embeddings))
