"""The spectrograms of one dataset: a folder of Parquet shards, a table of failures, and what the dataset is.

Shards are only ever added, or replaced whole. Where two hold the same track, the later shard counts.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.audio.files import printable
from mirembed.errors import MismatchError, StoreError, StoreWriteError
from mirembed.hookspecs import Track
from mirembed.store.files import (
    exclusive,
    read_json,
    read_table,
    reading_parquet,
    remove_leftovers,
    table_writer,
    write_json,
    write_table,
)
from mirembed.store.rows import (
    DatasetInfo,
    Failure,
    SpectrogramRow,
    as_stored,
    label_columns,
    shard_encoding,
    spectrogram_schema,
    spectrogram_table,
    task_from_json,
    task_to_json,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS_PER_GROUP = 32
"""Tracks in a row group: about 6 MB of 30-s clips, so that reading streams."""


class FeatureStore:
    """The spectrograms of one dataset.

    Parameters
    ----------
    folder : pathlib.Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards = folder / "spectrograms"

    @property
    def exists(self) -> bool:
        """Whether anything was extracted here."""
        return (self.folder / "dataset.json").exists()

    @property
    def embeddings(self) -> Path:
        """The folder of the embedding tables."""
        return self.folder / "embeddings"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the only right to write; it ends with the process, however that ends.

        Raises
        ------
        StoreBusyError
            If another process holds it.
        """
        busy = f"another process is writing to {self.folder}; wait until it ends, or use another --store"
        with exclusive(self.folder, busy):
            self._remove_leftovers()
            try:
                yield
            finally:
                self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for folder in (self.folder, self._shards, self.embeddings, self.folder / "cache"):
            remove_leftovers(folder)

    def info(self) -> DatasetInfo:
        """Read ``dataset.json``."""
        path = self.folder / "dataset.json"
        content = read_json(path)
        try:
            return DatasetInfo(**{**content, "task": task_from_json(content["task"])})
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{path} is damaged ({error}); delete it and run `mirembed extract` again with --dataset and --audio: "
                "the spectrograms are kept"
            ) from error

    def write_info(self, info: DatasetInfo) -> None:
        """Write ``dataset.json``."""
        write_json(self.folder / "dataset.json", {**asdict(info), "task": task_to_json(info.task)})

    def shards(self) -> list[Path]:
        """Return the shard files, oldest first."""
        return sorted(self._shards.glob("[0-9]*-*.parquet"))

    def n_rows(self, shard: Path) -> int:
        """Return the number of rows of a shard, those included that a later shard replaced."""
        import pyarrow.parquet as pq

        with reading_parquet(shard):
            return int(pq.read_metadata(shard).num_rows)

    def append(self, rows: Sequence[SpectrogramRow], info: DatasetInfo) -> None:
        """Write ``rows`` as a new shard, later than all others."""
        self._require_there()
        with self.shard_writer(self.next_shard(), info) as writer:
            writer.write_table(spectrogram_table(rows, info), row_group_size=ROWS_PER_GROUP)

    @staticmethod
    def shard_writer(shard: Path, info: DatasetInfo) -> AbstractContextManager[pq.ParquetWriter]:
        """Return a writer of a shard, which appears when the ``with`` block ends well."""
        return table_writer(shard, spectrogram_schema(info), **shard_encoding(info))

    def next_shard(self) -> Path:
        """Return a new shard's path, later than all others."""
        shards = self.shards()
        number = int(shards[-1].stem.split("-")[0]) + 1 if shards else 1
        # The random part keeps apart what several processes write, and stores that are copied into one folder.
        return self._shards / f"{number:06d}-{uuid.uuid4().hex[:8]}.parquet"

    def index(self) -> pa.Table:
        """Return all columns but ``frames``, with ``shard`` and ``row``; one row a track, sorted by id.

        ``shard`` is the place in `shards`, and ``row`` the place in that shard.
        """
        shards = self.shards()
        try:
            return self._index(shards)
        except StoreError:
            if shards == self.shards():
                raise
        return self.index()  # shards were merged meanwhile

    def _index(self, shards: Sequence[Path]) -> pa.Table:
        import pyarrow as pa

        tables = []
        for number, path in enumerate(shards):
            table = read_table(path, columns=_without_frames(path))
            tables.append(
                table.append_column("shard", pa.array([number] * len(table), pa.int32())).append_column(
                    "row", pa.array(range(len(table)), pa.int64())
                )
            )
        if not tables:
            return pa.table({"id": pa.array([], pa.string())})
        merged = pa.concat_tables(tables, promote_options="default")  # old shards have no backend
        latest = {track: position for position, track in enumerate(merged["id"].to_pylist())}
        return merged.take(pa.array([latest[track] for track in sorted(latest)], pa.int64()))

    def read_frames(self, columns: Sequence[str] = ("id", "frames")) -> Iterator[pa.Table]:
        """Yield the row groups of all shards one after the other, so that memory stays bounded.

        Shards that are merged meanwhile are read in place of those that they were made of: a track may come twice.
        """
        read: set[Path] = set()
        while left := [shard for shard in self.shards() if shard not in read]:
            read.update(left)
            for shard in left:
                try:
                    yield from row_groups(shard, columns)
                except StoreError:
                    if shard.exists():
                        raise

    def rewrite(self, shard: Path, keep: Sequence[int], listed: Mapping[str, Track], info: DatasetInfo) -> None:
        """Replace a shard by its rows ``keep``, with what ``listed`` has for their track id: id, path, label, group.

        Frames are copied group by group and not decoded again. A shard of which nothing is kept is deleted.
        """
        import pyarrow as pa

        if not keep:
            shard.unlink()
            return
        kept = set(keep)
        with self.shard_writer(shard, info) as writer:
            first = 0
            for group in row_groups(shard):
                rows = [row for row in range(len(group)) if first + row in kept]
                first += len(group)
                table = group.take(pa.array(rows, pa.int64()))
                tracks = [listed[track] for track in table["id"].to_pylist()]
                columns = label_columns([(track.label, track.group) for track in tracks], info.task)
                columns["id"] = pa.array([track.id for track in tracks], pa.string())
                columns["path"] = pa.array([printable(track.path) for track in tracks], pa.string())
                writer.write_table(as_stored(table, info, columns), row_group_size=ROWS_PER_GROUP)

    def _require_there(self) -> None:
        """Refuse to begin a second store where a drive was mounted that holds the first."""
        if not self.exists:
            raise StoreWriteError(
                f"{self.folder} has vanished while it was written to; bring it back and run the same command again"
            )

    def set_aside_damaged(self) -> list[Path]:
        """Rename shards that cannot be read to ``*.damaged`` and return them."""
        damaged = []
        for shard in self.shards():
            try:
                read_table(shard, columns=["id"])
            except StoreError:
                damaged.append(shard.rename(shard.with_suffix(".parquet.damaged")))
        return damaged

    def check_fingerprint(self, parameters: Mapping[str, Any], wanted_by: str) -> None:
        """Refuse spectrograms made with other parameters, in ``dataset.json`` or in any shard.

        Raises
        ------
        MismatchError
            Naming the first field that differs.
        """
        compare_parameters(self.info().parameters, parameters, f"the store {self.folder}", wanted_by)
        for shard in self.shards():
            compare_parameters(shard_parameters(shard), parameters, str(shard), wanted_by)

    def failures(self) -> list[Failure]:
        """Return the files that failed."""
        path = self.folder / "failures.parquet"
        return [Failure(**row) for row in read_table(path).to_pylist()] if path.exists() else []

    def write_failures(self, failures: Iterable[Failure]) -> None:
        """Replace the table of failures."""
        import pyarrow as pa

        self._require_there()
        fields = [("id", pa.string()), ("path", pa.string()), ("reason", pa.string()), ("retry", pa.string())]
        schema = pa.schema([*fields, ("file_size", pa.int64()), ("file_mtime_ns", pa.int64())])
        rows = [asdict(failure) for failure in failures]
        write_table(self.folder / "failures.parquet", pa.Table.from_pylist(rows, schema=schema))


def row_groups(shard: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the row groups of a shard, checking its checksums.

    Raises
    ------
    StoreError
        If it is missing, truncated or damaged.
    """
    import pyarrow.parquet as pq

    with reading_parquet(shard), pq.ParquetFile(shard, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=None if columns is None else list(columns))


def compare_parameters(found: Mapping[str, Any], wanted: Mapping[str, Any], holder: str, wanted_by: str) -> None:
    """Raise `MismatchError` naming the first field in which two sets of parameters differ."""
    for name in {**wanted, **found}:
        if found.get(name) != wanted.get(name):
            raise MismatchError(
                f"{holder} was made with {name}={found.get(name)}, {wanted_by} needs {name}={wanted.get(name)}; "
                "extract into another --store"
            )


def _without_frames(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    with reading_parquet(path):
        return [name for name in pq.read_schema(path).names if name != "frames"]


def shard_parameters(path: Path) -> dict[str, Any]:
    """Return the parameters with which the spectrograms of a shard were made.

    Raises
    ------
    StoreError
        If it cannot be read, or is none of mirembed's.
    """
    import pyarrow.parquet as pq

    with reading_parquet(path):
        metadata = pq.read_schema(path).metadata or {}
    try:
        return dict(json.loads(metadata[b"mirembed.spectrogram"]))
    except (KeyError, ValueError):
        raise StoreError(f"{path} is not a spectrogram shard of mirembed; move it out of the store") from None
