"""Saved models, without loading them: the names of their files, their manifests, summaries, and faults."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mirembed.errors import ModelError, StoreError
from mirembed.features.info import FeaturesInfo, distinct_parts
from mirembed.provenance import file_digest
from mirembed.store.files import Fault, read_json, write_json

FORMAT = 7
"""Version of the layout of a model; a model of another version is refused."""

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


def find_model(models: Path, name: str) -> Path:
    """Return the folder of a model, given as a path or by its name in the store.

    Raises
    ------
    ModelError
        If there is none; the message lists the models in the store.
    """
    for folder in (Path(name), models / name):
        if (folder / MANIFEST).is_file():
            return folder
    known = [folder.name for folder in list_models(models)]
    raise ModelError(
        f"no model {name!r}; give the folder of a model, or the name of one in the store "
        f"({', '.join(known) or 'none yet'}); create a model with `mirembed fit`"
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read ``model.json``. The other files are not looked at.

    Raises
    ------
    ModelError
        The folder is not a model, or has another format.
    """
    try:
        manifest: dict[str, Any] = read_json(folder / MANIFEST)
    except StoreError as error:
        raise ModelError(f"{folder} is not a model: {error}") from error
    if not isinstance(manifest, dict):
        raise ModelError(f"the model {folder} is damaged: {MANIFEST} is not a JSON object; fit it again")
    if manifest.get("format") != FORMAT:
        raise ModelError(
            f"the model {folder} has format {manifest.get('format')}, and this mirembed reads format {FORMAT}; "
            "use the version of mirembed that wrote it, or fit it again"
        )
    return manifest


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``model.json``, the last file of a model, with the digests of all others."""
    files = {path.relative_to(folder).as_posix(): file_digest(path) for path in folder.rglob("*") if path.is_file()}
    write_json(folder / MANIFEST, {"format": FORMAT, **content, "files": dict(sorted(files.items()))})


def checked_manifest(folder: Path) -> dict[str, Any]:
    """Read ``model.json``, and check the digests of the other files.

    Raises
    ------
    ModelError
        See `read_manifest`, or a file has changed.
    """
    manifest = read_manifest(folder)
    for name in (NETWORK, *manifest["files"]):
        if file_digest(folder / name) != manifest["files"][name]:
            raise ModelError(f"{folder / name} has changed since it was saved; fit the model again")
    return manifest


@contextlib.contextmanager
def reading_model(folder: Path) -> Iterator[None]:
    """Report whatever reading a damaged model raises as a `ModelError`."""
    try:
        yield
    except (OSError, AttributeError, LookupError, TypeError, ValueError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(f"the model {folder} is damaged ({reason}); fit it again") from error


def identity(folder: Path) -> dict[str, str]:
    """Return what identifies a model on disk: the name of its folder and the digest of its network."""
    return {"name": folder.name, "digest": file_digest(folder / NETWORK)}


def features_in(manifest: Mapping[str, Any]) -> tuple[FeaturesInfo, ...]:
    """Return the features that a model takes; a combined model may take several."""
    return tuple(map(FeaturesInfo.from_json, manifest["features"]))


def read_identity(models: Path, name: str) -> tuple[Path, Mapping[str, Any]]:
    """Find a model, and read how it was made, without loading it and without checking its files.

    Parameters
    ----------
    models : pathlib.Path
        The folder of the models in the store.
    name : str
        The folder of a model, or its name in the store.

    Returns
    -------
    folder : pathlib.Path
    provenance : mapping
        With the name of the model and the digest of its network.

    Raises
    ------
    ModelError
        If there is no such model, it is damaged, or has another format.
    """
    folder = find_model(models, name)
    manifest = read_manifest(folder)
    try:
        return folder, {**manifest["provenance"], "name": folder.name, "digest": manifest["files"][NETWORK]}
    except (KeyError, TypeError) as error:
        raise ModelError(f"the model {folder} is damaged ({type(error).__name__}: {error}); fit it again") from error


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
        features = manifest["features"]
        if isinstance(features, Mapping):  # up to format 6: such a model cannot be used here, but where it was fitted
            manifest = {"features": [features]}
        return [part.digest for part in distinct_parts(features_in(manifest))]
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
