"""Saved models, without loading them: the names of their files, summaries, faults, and tables of embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import StoreError
from mirembed.hookspecs import Classification, Task
from mirembed.store.files import Fault, read_json, read_table, write_table
from mirembed.store.rows import label_names

MANIFEST, NETWORK, LEARNER = "model.json", "network.safetensors", "learner.skops"

_METADATA = "mirembed.model"
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


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def write_embeddings(
    path: Path,
    ids: Sequence[str],
    embeddings: NDArray[np.float32],
    model: Mapping[str, Any],
    *,
    task: Task | None = None,
    labels: Any = None,
    in_sample: bool | None = None,
) -> None:
    """Write a table with the columns id, those of the labels, model, epoch, fold, in_sample and embedding.

    The metadata holds the digest of the model's network, which `read_embeddings` checks.

    Parameters
    ----------
    ids : sequence of str
    embeddings : ndarray [n_tracks, units]
    model : mapping
        The provenance of the saved model that made them.
    task : Classification or Regression or None
        None if the tracks have no labels.
    labels : list of str, or ndarray [n_tracks, n_targets], or None
    in_sample : bool or None
        Whether the network was trained on these tracks; None if unknown.
    """
    import pyarrow as pa

    n, units = embeddings.shape
    columns: dict[str, Any] = {"id": pa.array(list(ids), pa.string())}
    if isinstance(task, Classification):
        columns["label"] = pa.array(list(labels), pa.string())
    elif task is not None:
        columns |= {
            name: pa.array(target, pa.float64()) for name, target in zip(label_names(task), labels.T, strict=True)
        }
    columns |= {
        "model": pa.array([model["name"]] * n, pa.string()),
        "epoch": pa.array([model["settings"]["epochs"]] * n, pa.int64()),
        "fold": pa.array([None] * n, pa.int64()),
        "in_sample": pa.array([in_sample] * n, pa.bool_()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1), pa.float32()), units),
    }
    write_table(path, pa.table(columns).replace_schema_metadata({_METADATA: model["digest"]}))


def read_embeddings(path: Path, model: Mapping[str, Any]) -> tuple[list[str], NDArray[np.float32]]:
    """Read ids and embeddings ``[n_tracks, units]``, which the model with this provenance must have made.

    Raises
    ------
    StoreError
        If there is no such table, or another model made it.
    """
    if not path.exists():
        raise StoreError(
            f"no embeddings of the model {model['name']} in the store ({path} is missing); "
            f"search a folder with --in DIR, or fit the model on this store"
        )
    table = read_table(path)
    if (table.schema.metadata or {}).get(_METADATA.encode()) != model["digest"].encode():
        raise StoreError(f"{path} holds embeddings of another model than {model['name']}; fit the model again")
    # Not `flatten` or `to_numpy`, which import pyarrow.compute, and pandas where that is installed.
    vectors = np.from_dlpack(table["embedding"].combine_chunks().values)
    # A copy, because Arrow's memory is read-only and torch warns about that.
    return table["id"].to_pylist(), np.array(vectors, np.float32).reshape(len(table), -1)
