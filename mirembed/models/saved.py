"""Saved models, without loading them: the names of their files, summaries, and faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirembed.errors import StoreError
from mirembed.features.info import FeaturesInfo
from mirembed.provenance import file_digest
from mirembed.store.files import Fault, read_json

MANIFEST, NETWORK, LEARNER = "model.json", "network.safetensors", "learner.skops"

_FIT_AGAIN = "restore it, or fit the model again"


@dataclass(frozen=True)
class ModelSummary:
    """One model of a store.

    Attributes
    ----------
    model : str
        Its name.
    state : {"complete", "damaged"}
    dataset, approach : str
    tracks : int
        Number of tracks that it was fitted to.
    bytes : int
    """

    model: str
    state: str
    dataset: str = ""
    approach: str = ""
    tracks: int = 0
    bytes: int = 0


def list_models(models: Path) -> list[Path]:
    """Return the folders of the models in a folder, by name."""
    return sorted(path.parent for path in models.glob(f"[!.]*/{MANIFEST}"))


def summarize_model(folder: Path) -> ModelSummary:
    """Summarize a model; one that cannot be read is damaged."""
    try:
        provenance = read_json(folder / MANIFEST)["provenance"]
        dataset = provenance["dataset"]
        return ModelSummary(
            folder.name,
            "complete",
            dataset=dataset["spec"],
            approach=provenance["approach"],
            tracks=dataset["n_tracks"],
            bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        )
    except (StoreError, KeyError, TypeError):
        return ModelSummary(folder.name, "damaged")


def features_of(folder: Path) -> list[str]:
    """Return the digests of the features that a model takes; none if it cannot be read."""
    try:
        manifest = read_json(folder / MANIFEST)
        return FeaturesInfo.from_json(manifest["features"]).digests
    except (StoreError, KeyError, TypeError):
        return []


def is_network_of(folder: Path, digest: str | None) -> bool:
    """Whether the network of a model has a digest, by its manifest or by its file; true if the manifest is damaged."""
    try:
        recorded = read_json(folder / MANIFEST)["files"][NETWORK]
    except (StoreError, KeyError, TypeError):
        return True
    return digest == recorded or ((folder / NETWORK).exists() and digest == file_digest(folder / NETWORK))


def model_faults(folder: Path) -> Iterator[Fault]:
    """Yield the faults of a model, whose files must have the digests in its manifest."""
    try:
        digests = list(read_json(folder / MANIFEST)["files"].items())
    except (StoreError, KeyError, TypeError, AttributeError) as error:
        yield Fault.of(folder, f"is not a model: {error}", "delete it and run `mirembed fit` again")
        return
    for name, digest in digests:
        try:
            found = file_digest(folder / name)
        except OSError as error:
            yield Fault(str(folder / name), f"cannot be read: {error.strerror}", _FIT_AGAIN)
            continue
        if digest != found:
            yield Fault(str(folder / name), "has changed since it was fitted", _FIT_AGAIN)
