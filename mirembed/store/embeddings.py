"""The embeddings from one model: one row per recording, in Parquet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mirembed.errors import StoreError
from mirembed.store.files import read_table, reading_parquet, write_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DIGEST = b"mirembed.network"
"""Key of the digest of the network in the metadata of the table."""


class StoredEmbeddings:
    """The embeddings of recordings by one model.

    Parameters
    ----------
    folder : pathlib.Path
        With the name of the model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "embeddings.parquet"

    def write(
        self, digest: str, recordings: Sequence[str], vectors: NDArray[np.float32], trained_on: Collection[str]
    ) -> None:
        """Write the embeddings in place of those that are there.

        Parameters
        ----------
        digest : str
            Of the network that made them; `read` asks for it.
        recordings : sequence of str
            A recording may occur several times, with the same vector.
        vectors : ndarray [n_recordings, units]
        trained_on : collection of str
            The recordings that the network was trained on: they get True in the column ``in_sample``.
        """
        import numpy as np
        import pyarrow as pa

        of_recording = {recording: row for row, recording in enumerate(recordings)}
        names, rows, known = list(of_recording), list(of_recording.values()), set(trained_on)
        flat = pa.array(np.ascontiguousarray(vectors[rows]).reshape(-1), pa.float32())
        columns = {
            "recording": pa.array(names, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            "in_sample": pa.array([name in known for name in names], pa.bool_()),
        }
        write_table(self.path, pa.table(columns).replace_schema_metadata({_DIGEST: digest}))

    def digest(self) -> str | None:
        """Return the digest of the network that made the embeddings; None if there are none.

        Raises
        ------
        StoreError
            The table cannot be read, or is no table of embeddings.
        """
        import pyarrow.parquet as pq

        if not self.path.exists():
            return None
        with reading_parquet(self.path):
            metadata = pq.read_schema(self.path).metadata or {}
        if _DIGEST not in metadata:
            raise StoreError(f"{self.path} is not a table of embeddings; move it out of the store")
        return bytes(metadata[_DIGEST]).decode()

    def read(self, digest: str) -> dict[str, NDArray[np.float32]]:
        """Return the vectors ``[units]`` by recording; none if another network than that with ``digest`` made them.

        Raises
        ------
        StoreError
            The table is damaged.
        """
        import numpy as np

        if self.digest() != digest:
            return {}
        table = read_table(self.path)
        # Not `flatten` or `to_numpy`, which import pyarrow.compute, and pandas where that is installed.
        flat = np.from_dlpack(table["vector"].combine_chunks().values)
        # A copy, because Arrow's memory is read-only and torch warns about that.
        vectors = np.array(flat, np.float32).reshape(len(table), -1)
        return dict(zip(table["recording"].to_pylist(), vectors, strict=True))
