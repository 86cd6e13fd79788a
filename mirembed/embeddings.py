"""Tables of embeddings: one row a track, in Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import StoreError
from mirembed.hookspecs import Classification, Task
from mirembed.store.features import label_names
from mirembed.store.files import read_json, read_table, write_table


@dataclass(frozen=True)
class EmbeddingRows:
    """Embeddings of tracks.

    Attributes
    ----------
    ids : sequence of str
    embeddings : ndarray [n_tracks, units], float32
    task : Classification or Regression or None
        None when the tracks have no labels.
    labels : list of str, or ndarray [n_tracks, n_targets], or None
    epoch : int or None
        How long the network was trained.
    in_sample : bool
        Whether the network was trained on these tracks.
    """

    ids: Sequence[str]
    embeddings: NDArray[np.float32]
    task: Task | None = None
    labels: Any = None
    epoch: int | None = None
    in_sample: bool = False


def write_embeddings(path: Path, rows: EmbeddingRows, model: Path) -> None:
    """Write a table with the columns id, the labels', model, epoch, fold, in_sample and embedding.

    The digest of the model's network stands in the metadata: `read_embeddings` refuses another's.
    """
    import pyarrow as pa

    n, units = rows.embeddings.shape
    columns: dict[str, Any] = {"id": pa.array(list(rows.ids), pa.string())}
    if isinstance(rows.task, Classification):
        columns["label"] = pa.array(list(rows.labels), pa.string())
    elif rows.task is not None:
        for position, name in enumerate(label_names(rows.task)):
            columns[name] = pa.array(rows.labels[:, position], pa.float64())
    columns |= {
        "model": pa.array([model.name] * n, pa.string()),
        "epoch": pa.array([rows.epoch] * n, pa.int64()),
        "fold": pa.array([None] * n, pa.int64()),
        "in_sample": pa.array([rows.in_sample] * n, pa.bool_()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.embeddings.reshape(-1), pa.float32()), units),
    }
    table = pa.table(columns).replace_schema_metadata({"mirembed.model": json.dumps(_model_digests(model))})
    write_table(path, table)


def read_embeddings(path: Path, model: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Read ids and embeddings ``[n_tracks, units]`` that were made with ``model``.

    Raises
    ------
    StoreError
        If there is no such table, or another model made it.
    """
    if not path.exists():
        raise StoreError(
            f"the store has no embeddings of the model {model.name} ({path} is missing); "
            f"search in a folder with --in DIR, or fit the model on this store"
        )
    table = read_table(path)
    made_with = json.loads((table.schema.metadata or {}).get(b"mirembed.model", b"null"))
    if made_with != _model_digests(model):
        raise StoreError(f"{path} holds embeddings of another model than {model}; fit the model again")
    vectors = table["embedding"].combine_chunks().flatten().to_numpy()
    return table["id"].to_pylist(), np.asarray(vectors, np.float32).reshape(len(table), -1)


def _model_digests(model: Path) -> dict[str, str]:
    digest: dict[str, str] = read_json(model / "model.json")["files"]
    return {"network": digest["network.safetensors"]}
