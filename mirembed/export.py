"""Tables for other programs: CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mirembed.embeddings import EmbeddingRows, ModelKey, write_embeddings
from mirembed.errors import SpecError
from mirembed.inference import EmbeddedFiles
from mirembed.models import Model
from mirembed.store.files import write_table, writing

SUFFIXES = (".csv", ".parquet")


def check_suffix(path: Path | None) -> None:
    """Refuse a file whose ending does not say what to write, before any work is done.

    Raises
    ------
    SpecError
    """
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise SpecError(f"--out {path}: expected a name that ends in {' or '.join(SUFFIXES)}")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, all with the same keys; in CSV a vector becomes numbered columns.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa

        write_table(path, pa.Table.from_pylist([dict(row) for row in rows]))
        return
    flat = [_flatten(row) for row in rows]
    with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(flat[0]) if flat else [])
        writer.writeheader()
        writer.writerows(flat)


def write_embedded(path: Path, embedded: EmbeddedFiles, model: Model) -> None:
    """Write embeddings of files: in Parquet the table that `fit` writes too, in CSV id and numbered columns.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    names = [str(file) for file in embedded.paths]
    if path.suffix.lower() == ".parquet":
        rows = EmbeddingRows(names, embedded.embeddings, epoch=model.provenance["settings"]["epochs"])
        write_embeddings(path, rows, ModelKey.of(model))
        return
    write_rows(
        path,
        [{"id": name, "embedding": vector.tolist()} for name, vector in zip(names, embedded.embeddings, strict=True)],
    )


def _flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, list):
            flat |= {f"{name}_{position}": item for position, item in enumerate(value)}
        else:
            flat[name] = value
    return flat
