"""Tables for other programs: CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mirembed.audio.files import printable
from mirembed.errors import SpecError
from mirembed.hookspecs import Classification, Task
from mirembed.models.embeddings import EmbeddingRows, ModelKey, write_embeddings
from mirembed.models.inference import EmbeddedFiles
from mirembed.models.model import Model
from mirembed.store.files import write_table, writing
from mirembed.store.rows import label_names

SUFFIXES = (".csv", ".parquet")


def check_suffix(path: Path | None) -> None:
    """Refuse a file whose ending does not say what to write, before any work is done.

    Raises
    ------
    SpecError
    """
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise SpecError(f"--out {path}: expected a name that ends in {' or '.join(SUFFIXES)}")


def write_predictions(path: Path, rows: Sequence[Mapping[str, Any]], task: Task) -> None:
    """Write one row a file: the path, and the predicted label or targets.

    Parameters
    ----------
    path : pathlib.Path
    rows : sequence of mapping
        With the key ``path``, and those of `mirembed.models.model.named_predictions`.
    task : Classification or Regression

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    names = label_names(task)
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa

        kind = pa.string() if isinstance(task, Classification) else pa.float64()
        schema = pa.schema([("path", pa.string()), *((name, kind) for name in names)])
        write_table(path, pa.Table.from_pylist([dict(row) for row in rows], schema=schema))
        return
    _write_csv(path, ["path", *names], [list(row.values()) for row in rows])


def write_embedded(path: Path, embedded: EmbeddedFiles, model: Model) -> None:
    """Write embeddings of files: in Parquet the table that `fit` writes too, in CSV id and numbered columns.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    names = [printable(file) for file in embedded.paths]
    if path.suffix.lower() == ".parquet":
        rows = EmbeddingRows(names, embedded.embeddings, epoch=model.provenance["settings"]["epochs"])
        write_embeddings(path, rows, ModelKey.of(model))
        return
    columns = ["id", *(f"embedding_{unit}" for unit in range(embedded.embeddings.shape[1]))]
    _write_csv(
        path, columns, [[name, *vector] for name, vector in zip(names, embedded.embeddings.tolist(), strict=True)]
    )


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
