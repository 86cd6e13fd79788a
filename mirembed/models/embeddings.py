"""Tables of embeddings in Parquet, one row per track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import StoreError
from mirembed.hookspecs import Classification, Task
from mirembed.store.files import read_table, write_table
from mirembed.store.rows import label_names

_METADATA = "mirembed.model"


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
