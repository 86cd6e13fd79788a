"""The embeddings that one model made: one row a recording, in Parquet."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import StoreError
from mirembed.store.files import read_table, reading_parquet, write_table

_DIGEST = b"mirembed.network"
"""Key of the digest of the network in the metadata of a table."""


class StoredEmbeddings:
    """The embeddings of recordings by one model.

    Parameters
    ----------
    folder : pathlib.Path
        With the name of the model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tables(self) -> list[Path]:
        """Return the files, oldest first."""
        return sorted(self.folder.glob("[0-9]*-*.parquet"))

    def write(
        self, digest: str, recordings: Sequence[str], vectors: NDArray[np.float32], in_sample: bool | None
    ) -> None:
        """Replace the embeddings.

        Parameters
        ----------
        digest : str
            Of the network that made them; `read` asks for it.
        recordings : sequence of str
            A recording may occur several times, with the same vector.
        vectors : ndarray [n_recordings, units]
        in_sample : bool or None
            Whether the network was trained on these recordings; None if unknown.
        """
        import pyarrow as pa

        rows = list({recording: row for row, recording in enumerate(recordings)}.values())
        n, units = len(rows), vectors.shape[1]
        flat = pa.array(np.ascontiguousarray(vectors[rows]).reshape(-1), pa.float32())
        columns = {
            "recording": pa.array([recordings[row] for row in rows], pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, units),
            "in_sample": pa.array([in_sample] * n, pa.bool_()),
        }
        before = self.tables()
        number = int(before[-1].stem.split("-")[0]) + 1 if before else 1
        table = pa.table(columns).replace_schema_metadata({_DIGEST: digest})
        write_table(self.folder / f"{number:06d}-{uuid.uuid4().hex[:8]}.parquet", table)
        for path in before:
            path.unlink(missing_ok=True)

    def read(self, digest: str) -> dict[str, NDArray[np.float32]]:
        """Return the vectors ``[units]`` by recording that the network with ``digest`` made; those of others are not.

        Raises
        ------
        StoreError
            A table is damaged.
        """
        found: dict[str, NDArray[np.float32]] = {}
        for path in self.tables():
            if network_digest(path) == digest:
                table = read_table(path)
                flat = table["vector"].combine_chunks().flatten().to_numpy()
                # A copy, because Arrow's memory is read-only and torch warns about that.
                vectors = np.array(flat, np.float32).reshape(len(table), -1)
                found |= dict(zip(table["recording"].to_pylist(), vectors, strict=True))
        return found


def network_digest(path: Path) -> str:
    """Return the digest of the network that made a table of embeddings.

    Raises
    ------
    StoreError
        It cannot be read, or is not such a table.
    """
    import pyarrow.parquet as pq

    with reading_parquet(path):
        metadata = pq.read_schema(path).metadata or {}
    if _DIGEST not in metadata:
        raise StoreError(f"{path} is not a table of embeddings; move it out of the store")
    return bytes(metadata[_DIGEST]).decode()
