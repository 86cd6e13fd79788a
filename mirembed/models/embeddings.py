"""Tables of embeddings in Parquet, one row per track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import StoreError
from mirembed.hookspecs import Classification, Task
from mirembed.models.model import Model
from mirembed.store.files import read_table, write_table
from mirembed.store.rows import label_names

_METADATA = "mirembed.model"


@dataclass(frozen=True)
class EmbeddingRows:
    """Embeddings of tracks.

    Attributes
    ----------
    ids : sequence of str
    embeddings : ndarray [n_tracks, units], float32
    task : Classification or Regression or None
        None if the tracks have no labels.
    labels : list of str, or ndarray [n_tracks, n_targets], or None
    epoch : int or None
        Number of epochs that the network was trained for.
    in_sample : bool or None
        Whether the network was trained on these tracks; None if unknown.
    """

    ids: Sequence[str]
    embeddings: NDArray[np.float32]
    task: Task | None = None
    labels: Any = None
    epoch: int | None = None
    in_sample: bool | None = None


@dataclass(frozen=True)
class ModelKey:
    """Identifies the model that made an embedding: its name, and the digest of its network's file."""

    name: str
    digest: str

    @classmethod
    def of(cls, model: Model) -> ModelKey:
        """Return the key of a model that was saved or loaded."""
        return cls(model.provenance["name"], model.provenance["digest"])


def write_embeddings(path: Path, rows: EmbeddingRows, model: ModelKey) -> None:
    """Write a table with the columns id, those of the labels, model, epoch, fold, in_sample and embedding.

    The metadata holds the digest of the model's network, which `read_embeddings` checks.
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
    table = pa.table(columns).replace_schema_metadata({_METADATA: model.digest})
    write_table(path, table)


def read_embeddings(path: Path, model: ModelKey) -> tuple[list[str], NDArray[np.float32]]:
    """Read the ids and embeddings ``[n_tracks, units]`` that ``model`` made.

    Raises
    ------
    StoreError
        If there is no such table, or another model made it.
    """
    if not path.exists():
        raise StoreError(
            f"no embeddings of the model {model.name} in the store ({path} is missing); "
            f"search a folder with --in DIR, or fit the model on this store"
        )
    table = read_table(path)
    if (table.schema.metadata or {}).get(_METADATA.encode()) != model.digest.encode():
        raise StoreError(f"{path} holds embeddings of another model than {model.name}; fit the model again")
    vectors = table["embedding"].combine_chunks().flatten().to_numpy()
    # A copy, because Arrow's memory is read-only and torch warns about that.
    return table["id"].to_pylist(), np.array(vectors, np.float32).reshape(len(table), -1)
