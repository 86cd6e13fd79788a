"""The embeddings by one model: one row per recording, in Parquet.

All are in one table. While a library is updated, new ones are added in shards beside it, each of which appears whole or
not at all; at the end, they are merged into the table. Of several rows of a recording, the last one counts.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.errors import StoreError
from mirembed.store.files import only_writer, read_table, reading_parquet, table_writer

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_DIGEST = b"mirembed.network"
"""Key of the digest of the network in the metadata of a table."""


@dataclass(frozen=True)
class RecordingFacts:
    """What is known about a recording besides its embedding; None where something is not known.

    Attributes
    ----------
    audio_hash : str or None
        Digest of the decoded samples.
    duration : float or None
        Seconds.
    file_size : int or None
        Bytes of the file, by which a file that may hold the recording is recognized.
    """

    audio_hash: str | None = None
    duration: float | None = None
    file_size: int | None = None


@dataclass(frozen=True)
class EmbeddingRows:
    """Embeddings of recordings, with facts about these.

    Attributes
    ----------
    recordings : sequence of str
    vectors : ndarray [n_recordings, units], float32
    in_sample : sequence of bool or None
        Whether the network was trained on the recording; None or nothing at all where it is not known.
    facts : sequence of RecordingFacts
    """

    recordings: Sequence[str]
    vectors: NDArray[np.float32]
    in_sample: Sequence[bool | None] = ()
    facts: Sequence[RecordingFacts] = ()

    @classmethod
    def of(
        cls,
        vectors: Mapping[str, NDArray[np.float32]],
        facts: Mapping[str, RecordingFacts],
        trained_on: Collection[str],
    ) -> EmbeddingRows:
        """Return the rows of some recordings.

        Parameters
        ----------
        vectors : mapping of str to ndarray [units]
            At least one.
        facts : mapping of str to RecordingFacts
        trained_on : collection of str
            The recordings that the network was trained on, or digests of their decoded samples.
        """
        import numpy as np

        known, of_each = frozenset(trained_on), [facts.get(recording, RecordingFacts()) for recording in vectors]
        return cls(
            list(vectors),
            np.array(list(vectors.values()), np.float32),
            [name in known or one.audio_hash in known for name, one in zip(vectors, of_each, strict=True)],
            of_each,
        )


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

    def lock(self) -> AbstractContextManager[None]:
        """Hold the exclusive right to write, which ends with the process at the latest.

        Raises
        ------
        StoreBusyError
            Another process holds it.
        """
        return only_writer(self.folder)

    def shards(self) -> list[Path]:
        """Return the shards that have not been merged into the table, oldest first."""
        return sorted(self.folder.glob("[0-9]*-*.parquet"))

    def files(self) -> list[Path]:
        """Return the table, if there is one, and the shards, oldest first."""
        return [*([self.path] if self.path.exists() else []), *self.shards()]

    def write(self, digest: str, rows: EmbeddingRows) -> None:
        """Write the embeddings in place of all that are there.

        Parameters
        ----------
        digest : str
            Of the network that made them; `read` asks for it.
        rows : EmbeddingRows
            A recording may occur several times, with the same vector.

        Raises
        ------
        StoreWriteError
        """
        shards = self.shards()
        self._write(self.path, digest, _table(rows))
        for shard in shards:
            shard.unlink()

    def append(self, digest: str, rows: EmbeddingRows) -> None:
        """Add embeddings by the network with ``digest`` as a shard, later than all others.

        Raises
        ------
        StoreWriteError
        """
        shards = self.shards()
        number = int(shards[-1].stem.partition("-")[0]) + 1 if shards else 1
        # The random part keeps names unique when stores are copied into one folder.
        self._write(self.folder / f"{number:06d}-{uuid.uuid4().hex[:8]}.parquet", digest, _table(rows))

    def merge(self, digest: str, keep: Collection[str] | None = None) -> int:
        """Merge the shards into the table, and drop the rows of other networks and those that later rows replace.

        Does nothing if there is nothing to merge or to drop. Needs the `lock`.

        Parameters
        ----------
        digest : str
        keep : collection of str, optional
            Recordings whose embeddings are kept; default: all.

        Returns
        -------
        int
            How many embeddings were dropped because ``keep`` does not have their recordings.
        """
        import pyarrow as pa

        shards, before = self.shards(), self.digest()
        recordings = self.table(digest, ["recording"])["recording"].to_pylist()
        last = {recording: row for row, recording in enumerate(recordings)}
        rows = [row for recording, row in last.items() if keep is None or recording in keep]
        if shards or len(rows) < len(recordings) or before not in (None, digest):
            self._write(self.path, digest, self.table(digest).take(pa.array(rows, pa.int64())))
            for shard in shards:
                shard.unlink()
        return len(last) - len(rows)

    def digest(self) -> str | None:
        """Return the digest of the network that made the embeddings; None if there are none.

        Raises
        ------
        StoreError
            The last file cannot be read, or is no table of embeddings.
        """
        files = self.files()
        return _digest(files[-1]) if files else None

    def table(self, digest: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the embeddings by the network with ``digest``; of several rows of a recording, the last one counts.

        Parameters
        ----------
        digest : str
        columns : sequence of str, optional
            Those to read: ``recording``, which is always read, ``vector``, ``in_sample``, ``audio_hash``, ``duration``
            and ``file_size``; default: all. What an earlier version did not store is null.

        Raises
        ------
        StoreError
            A file is damaged.
        """
        import pyarrow as pa

        types = {"recording": pa.string(), "vector": pa.list_(pa.float32(), 1), **_facts()}
        names = ["recording", *(name for name in columns or types if name != "recording")]
        while True:
            files = self.files()
            try:
                tables = [_read(path, names) for path in files if _digest(path) == digest]
                break
            except StoreError:
                if files == self.files():  # otherwise they have just been merged
                    raise
        return pa.concat_tables(tables) if tables else pa.schema([(name, types[name]) for name in names]).empty_table()

    def read(self, digest: str) -> dict[str, NDArray[np.float32]]:
        """Return the vectors ``[units]`` by recording; none if another network than that with ``digest`` made them.

        Raises
        ------
        StoreError
            A file is damaged.
        """
        import numpy as np

        table = self.table(digest, ["vector"])
        # A copy, because Arrow's memory is read-only and torch warns about that.
        return dict(zip(table["recording"].to_pylist(), np.array(vectors(table)), strict=True))

    def _write(self, path: Path, digest: str, table: pa.Table) -> None:
        table = table.replace_schema_metadata({_DIGEST: digest})
        # Vectors hardly shrink; a dictionary of them would cost more than they do.
        compression = {name: "none" if name == "vector" else "zstd" for name in table.schema.names}
        compression["vector.list.element"] = compression.pop("vector")
        with table_writer(path, table.schema, compression=compression, use_dictionary=False) as writer:
            writer.write_table(table)


def vectors(table: pa.Table) -> NDArray[np.float32]:
    """Return the vectors of a table of embeddings: ndarray ``[n, units]``, read-only."""
    import numpy as np

    column = table["vector"].combine_chunks()
    # Not `flatten` or `to_numpy`, which import pyarrow.compute, and pandas where that is installed.
    return np.asarray(np.from_dlpack(column.values), np.float32).reshape(len(table), column.type.list_size)


def vector_column(vectors: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Return vectors ``[n, units]`` as the column of a table."""
    import numpy as np
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def _facts() -> dict[str, pa.DataType]:
    """Return the types of the columns besides recording and vector."""
    import pyarrow as pa

    return {"in_sample": pa.bool_(), "audio_hash": pa.string(), "duration": pa.float64(), "file_size": pa.int64()}


def _table(rows: EmbeddingRows) -> pa.Table:
    """Return rows as a table in which each recording has one row, the last."""
    import pyarrow as pa

    last = {recording: row for row, recording in enumerate(rows.recordings)}
    facts = [rows.facts[row] if rows.facts else RecordingFacts() for row in last.values()]
    columns: dict[str, list[Any]] = {
        "in_sample": [rows.in_sample[row] if rows.in_sample else None for row in last.values()],
        "audio_hash": [one.audio_hash for one in facts],
        "duration": [one.duration for one in facts],
        "file_size": [one.file_size for one in facts],
    }
    return pa.table(
        {
            "recording": pa.array(last, pa.string()),
            "vector": vector_column(rows.vectors[list(last.values())]),
            **{name: pa.array(columns[name], kind) for name, kind in _facts().items()},
        }
    )


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    """Read a table of embeddings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading_parquet(path):
        known = pq.read_schema(path).names
    table = read_table(path, [name for name in columns if name in known])
    for name in columns:
        if name not in known:
            table = table.append_column(name, pa.nulls(len(table), _facts()[name]))
    return table.select(columns).replace_schema_metadata(None)


def _digest(path: Path) -> str:
    """Return the digest of the network that made the embeddings in a file."""
    import pyarrow.parquet as pq

    with reading_parquet(path):
        metadata = pq.read_schema(path).metadata or {}
    if _DIGEST not in metadata:
        raise StoreError(f"{path} is not a table of embeddings; move it out of the store")
    return bytes(metadata[_DIGEST]).decode()
