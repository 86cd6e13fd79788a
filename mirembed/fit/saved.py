"""Networks of saved models that are used without training, with their features and their normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mirembed.config import Approach, Method
from mirembed.errors import MismatchError, ModelError
from mirembed.features.info import FeaturesInfo, resolve_features
from mirembed.models.saved import checked_manifest, features_in, find_model, identity, read_manifest, reading_model
from mirembed.progress import counted
from mirembed.registry import Registry
from mirembed.store import Store
from mirembed.store.tracks import Tracks


def learned_approach(provenance: Mapping[str, Any]) -> Approach:
    """Return the approach that a model's network was trained for, with a learner in place of an output layer."""
    made: str = provenance["approach"]
    return Approach("fl") if made == "nn" else Approach.parse(made)


def network_origin(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the provenance of the model that a model's network was trained for: another one, if it was transferred."""
    found: Mapping[str, Any] = provenance.get("network_from", provenance)
    return found


@dataclass(frozen=True)
class SavedNetwork:
    """The network of a saved model.

    Attributes
    ----------
    folder : pathlib.Path
        Of the model.
    features : FeaturesInfo
        What its frames are.
    recordings : frozenset of str
        Those that it was trained on.
    provenance : mapping
        See `mirembed.models.model.Model`.
    """

    folder: Path
    features: FeaturesInfo
    recordings: frozenset[str]
    provenance: Mapping[str, Any]

    @classmethod
    def open(cls, models: Path, name: str) -> SavedNetwork:
        """Read the model with this folder, or this name in ``models``.

        Raises
        ------
        ModelError
            If there is none, it is damaged, or it is not a model of one network.
        """
        folder = find_model(models, name)
        with reading_model(folder):
            manifest = checked_manifest(folder)
            if manifest.get("network") is None:
                raise ModelError(f"--from {name}: {_no_network(folder, manifest)}")
            [features] = features_in(manifest)
            provenance = {**manifest["provenance"], **identity(folder)}
            return cls(folder, features, frozenset(manifest["recordings"]), provenance)

    def reference(self, models: Path) -> str:
        """Return what finds the model again from any folder: its name in ``models``, or its absolute path."""
        inside = self.folder.parent.resolve() == models.resolve()
        return self.folder.name if inside else str(self.folder.absolute())

    @property
    def learned(self) -> Approach:
        """See `learned_approach`."""
        return learned_approach(self.provenance)

    def described(self) -> dict[str, Any]:
        """Return what identifies the network, as JSON."""
        origin = network_origin(self.provenance)
        return {
            "name": self.folder.name,
            "digest": self.provenance["digest"],
            "dataset": origin["dataset"]["spec"],
            "fold": origin.get("fold"),
            "approach": self.learned.name,
        }

    def check_stored(self, store: Store, registry: Registry) -> None:
        """Check that a store has the features of the model, or that they can still be extracted.

        Raises
        ------
        MismatchError
            If the store lacks them, and here they would be computed by other code.
        PluginError
            If the store lacks them, and so does this installation.
        """
        if all(store.features(part).exists for part in self.features.parts):
            return
        if resolve_features(registry, self.features.spec).digests != self.features.digests:
            raise MismatchError(
                f"the model {self.folder} was trained on {self.features.spec} computed by other code, and the store "
                f"{store.root} does not have those frames; fit it again"
            )

    def overlap_warning(self, tracks: Tracks, method: str) -> str | None:
        """Return a warning if the network was trained on recordings of these tracks."""
        n = sum(recording in self.recordings for recording in tracks.recordings)
        if not n:
            return None
        are = "is a recording" if n == 1 else "are recordings"
        return (
            f"warning: {n} of {counted(len(tracks.ids), 'track')} of {tracks.info.spec} {are} that the model "
            f"{self.folder.name} was trained on, which inflates the scores of {method}"
        )


def _no_network(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Say why the network of a model cannot be reused, and what to do instead."""
    approach = manifest["provenance"]["approach"]
    if "members" not in manifest:
        return f"a model of {approach} has no network; use `--approach {approach}` instead"
    members = [folder / one["folder"] for one in manifest["members"]]
    named = [str(member) for member in members if read_manifest(member)["network"] is not None]
    if not named:
        return "neither the combined model nor any of its members has a network"
    return f"a combined model has no network of its own; give one of its members ({', '.join(named)})"


def open_saved(approaches: Sequence[Approach], store: Store, registry: Registry) -> dict[str, SavedNetwork]:
    """Read the models of the approaches that use one; return them by the approach's name.

    Raises
    ------
    MirembedError
        See `SavedNetwork.open` and `SavedNetwork.check_stored`.
    """
    named = {approach.name: approach.model for approach in approaches if approach.model is not None}
    found = {name: SavedNetwork.open(store.models, model) for name, model in named.items()}
    for network in found.values():
        network.check_stored(store, registry)
    return found


def with_saved(methods: Sequence[Method], saved: Mapping[str, SavedNetwork]) -> tuple[Method, ...]:
    """Return methods with the features, the folder and the learned similarity of their saved networks."""

    def resolved(method: Method) -> Method:
        network = saved.get(method.approach.name)
        if network is None:
            return method
        approach = replace(method.approach, model=str(network.folder), similarity=network.learned.similarity)
        return replace(method, features=network.features.spec, approach=approach)

    return tuple(map(resolved, methods))


def needed_features(
    features: Sequence[FeaturesInfo], methods: Sequence[Method], saved: Mapping[str, SavedNetwork]
) -> list[FeaturesInfo]:
    """Return the features that methods use, each once; the first where only ``chance`` is left.

    Parameters
    ----------
    features : sequence of FeaturesInfo
        Those of the settings.
    methods : sequence of Method
    saved : mapping of str to SavedNetwork
        By the name of the approach.

    Raises
    ------
    MismatchError
        If a model has other features of the same name.
    """
    used = {method.features for method in methods if method.approach.model is None}
    needed = {one.spec: one for one in features if one.spec in used}
    for network in saved.values():
        known = needed.setdefault(network.features.spec, network.features)
        if known.digests != network.features.digests:
            raise MismatchError(
                f"the model {network.folder} was trained on {known.spec} with other code or parameters than "
                f"{known.spec} has here; fit it again"
            )
    return list(needed.values()) or list(features[:1])
