"""The spectrograms of one dataset: Parquet shards, a table of failures, and ``dataset.json``.

Shards are only ever added, or replaced whole. If two hold the same track, the later shard counts.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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
    relabeled,
    spectrogram_schema,
    spectrogram_table,
    task_from_json,
    task_to_json,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Result = TypeVar("Result")

ROWS_PER_GROUP = 32
"""Tracks in a row group: about 6 MB of 30-s clips, small enough to stream."""


class FeatureStore:
    """The spectrograms of one dataset.

    Parameters
    ----------
    folder : pathlib.Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards = folder / "spectrograms"
        self._info = folder / "dataset.json"
        self._failures = folder / "failures.parquet"

    @property
    def exists(self) -> bool:
        """Whether anything has been extracted here."""
        return self._info.exists()

    @property
    def embeddings(self) -> Path:
        """The folder of the embedding tables."""
        return self.folder / "embeddings"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the exclusive right to write, which ends with the process at the latest.

        Raises
        ------
        StoreBusyError
            Another process holds it.
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
        content = read_json(self._info)
        try:
            return DatasetInfo(**{**content, "task": task_from_json(content["task"])})
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{self._info} is damaged ({error}); delete it and run `mirembed extract` again with --dataset and "
                "--audio: the spectrograms are kept"
            ) from error

    def write_info(self, info: DatasetInfo) -> None:
        """Write ``dataset.json``."""
        write_json(self._info, {**asdict(info), "task": task_to_json(info.task)})

    def failures(self) -> list[Failure]:
        """Return the files that failed."""
        return [Failure(**row) for row in read_table(self._failures).to_pylist()] if self._failures.exists() else []

    def write_failures(self, failures: Iterable[Failure]) -> None:
        """Replace the table of failures."""
        import pyarrow as pa

        self._require_present()
        fields = [("id", pa.string()), ("path", pa.string()), ("reason", pa.string()), ("retry", pa.string())]
        schema = pa.schema([*fields, ("file_size", pa.int64()), ("file_mtime_ns", pa.int64())])
        rows = [asdict(failure) for failure in failures]
        write_table(self._failures, pa.Table.from_pylist(rows, schema=schema))

    def shards(self) -> list[Path]:
        """Return the shard files, oldest first."""
        return sorted(self._shards.glob("[0-9]*-*.parquet"))

    def n_rows(self, shard: Path) -> int:
        """Return the number of rows of a shard, including those that a later shard replaces."""
        import pyarrow.parquet as pq

        with reading_parquet(shard):
            return int(pq.read_metadata(shard).num_rows)

    def append(self, rows: Sequence[SpectrogramRow], info: DatasetInfo) -> None:
        """Write rows as a new shard, later than all others."""
        self._require_present()
        with self.shard_writer(self.next_shard(), info) as writer:
            writer.write_table(spectrogram_table(rows, info), row_group_size=ROWS_PER_GROUP)

    def _require_present(self) -> None:
        """Refuse to begin a second store under the mount point of a drive that held the first."""
        if not self.exists:
            raise StoreWriteError(
                f"{self.folder} vanished while it was being written; bring it back and run the same command again"
            )

    def next_shard(self) -> Path:
        """Return the path of a new shard, later than all others."""
        shards = self.shards()
        number = int(shards[-1].stem.split("-")[0]) + 1 if shards else 1
        # The random part keeps names unique when several processes write, or stores are copied into one folder.
        return self._shards / f"{number:06d}-{uuid.uuid4().hex[:8]}.parquet"

    @staticmethod
    def shard_writer(shard: Path, info: DatasetInfo) -> AbstractContextManager[pq.ParquetWriter]:
        """Return a writer of a shard, which appears when the ``with`` block ends without an error."""
        schema = spectrogram_schema(info)
        # Decibels hardly repeat: a dictionary of them takes more room than they do, and four times as long to make.
        # Storing their first bytes together, then their second and so on, lets them shrink to 60 % of that.
        names = [name for name in schema.names if name != "frames"]
        split = ["frames.list.element.list.element"]
        return table_writer(shard, schema, use_dictionary=names, use_byte_stream_split=split)

    def rewrite(self, shard: Path, rows: Collection[int], tracks: Mapping[str, Track], info: DatasetInfo) -> None:
        """Keep only some rows of a shard, and give them ids, paths, labels and groups from ``tracks``.

        Frames are copied and not decoded again. If no row is kept, the shard is deleted.

        Parameters
        ----------
        shard : pathlib.Path
        rows : collection of int
            The rows to keep.
        tracks : mapping of str to Track
            By the ids in the shard.
        info : DatasetInfo
        """
        if not rows:
            shard.unlink()
            return
        with self.shard_writer(shard, info) as writer:
            for table in read_rows(shard, rows):
                new = [tracks[track] for track in table["id"].to_pylist()]
                writer.write_table(relabeled(table, new, info), row_group_size=ROWS_PER_GROUP)

    def set_aside_damaged(self) -> list[Path]:
        """Rename shards that cannot be read to ``*.damaged`` and return them."""
        damaged = []
        for shard in self.shards():
            try:
                read_table(shard, columns=["id"])
            except StoreError:
                damaged.append(shard.rename(shard.with_suffix(".parquet.damaged")))
        return damaged

    def check_parameters(self, parameters: Mapping[str, Any], needed_by: str) -> None:
        """Refuse spectrograms made with other parameters, in ``dataset.json`` or in any shard.

        Raises
        ------
        MismatchError
            Names the first parameter that differs.
        """
        compare_parameters(self.info().parameters, parameters, f"the store {self.folder}", needed_by)
        for shard in self.shards():
            compare_parameters(shard_parameters(shard), parameters, str(shard), needed_by)

    def index(self) -> pa.Table:
        """Return all columns but ``frames``, with ``shard`` and ``row``; one row per track, sorted by id.

        ``shard`` is the index in `shards`, and ``row`` the index in that shard.
        """
        return self._read_shards(_read_index)

    def columns(self, *names: str) -> dict[str, tuple[Any, ...]]:
        """Return the values of some columns for each track, by id; with no names, the ids alone.

        Faster than `index`: it does not import pyarrow.compute, or pandas where that is installed.
        """
        return self._read_shards(lambda shards: _read_columns(shards, names))

    def _read_shards(self, read: Callable[[Sequence[Path]], Result]) -> Result:
        while True:
            shards = self.shards()
            try:
                return read(shards)
            except StoreError:
                if shards == self.shards():  # otherwise they have just been merged
                    raise

    def read_frames(self, columns: list[str]) -> Iterator[pa.Table]:
        """Yield the row groups of all shards one after the other, which bounds memory.

        If shards are merged while this runs, the merged ones are read too, so a track may come twice.
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


def _read_index(shards: Sequence[Path]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for number, shard in enumerate(shards):
        with reading_parquet(shard):
            columns = [name for name in pq.read_schema(shard).names if name != "frames"]
        table = read_table(shard, columns=columns)
        table = table.append_column("shard", pa.array([number] * len(table), pa.int32()))
        tables.append(table.append_column("row", pa.array(range(len(table)), pa.int64())))
    if not tables:
        return pa.schema([("id", pa.string()), ("shard", pa.int32()), ("row", pa.int64())]).empty_table()
    merged = pa.concat_tables(tables, promote_options="default")
    latest = {track: position for position, track in enumerate(merged["id"].to_pylist())}
    return merged.take(pa.array([latest[track] for track in sorted(latest)], pa.int64()))


def _read_columns(shards: Sequence[Path], names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    values: dict[str, tuple[Any, ...]] = {}
    for shard in shards:
        table = read_table(shard, columns=["id", *names])
        ids, *others = (table[name].to_pylist() for name in ("id", *names))
        values |= zip(ids, zip(*others, strict=True) if others else [()] * len(ids), strict=True)
    return values


def row_groups(shard: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yield the row groups of a shard, verifying checksums.

    Raises
    ------
    StoreError
        It is missing, truncated or damaged.
    """
    import pyarrow.parquet as pq

    with reading_parquet(shard), pq.ParquetFile(shard, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns)


def read_rows(shard: Path, rows: Collection[int]) -> Iterator[pa.Table]:
    """Yield some rows of a shard, row group by row group."""
    import pyarrow as pa

    wanted = set(rows)
    first = 0
    for table in row_groups(shard):
        chosen = [row for row in range(len(table)) if first + row in wanted]
        first += len(table)
        yield table.take(pa.array(chosen, pa.int64()))


def shard_parameters(shard: Path) -> dict[str, Any]:
    """Return the parameters of the spectrograms in a shard.

    Raises
    ------
    StoreError
        It cannot be read, or is not a shard of mirembed.
    """
    import pyarrow.parquet as pq

    with reading_parquet(shard):
        metadata = pq.read_schema(shard).metadata or {}
    try:
        return dict(json.loads(metadata[b"mirembed.spectrogram"]))
    except (KeyError, ValueError):
        raise StoreError(f"{shard} is not a spectrogram shard of mirembed; move it out of the store") from None


def compare_parameters(found: Mapping[str, Any], needed: Mapping[str, Any], holder: str, needed_by: str) -> None:
    """Raise `MismatchError`, naming the first parameter that differs, unless two sets of parameters are equal."""
    for name in {**needed, **found}:
        if found.get(name) != needed.get(name):
            raise MismatchError(
                f"{holder} was made with {name}={found.get(name)}, {needed_by} needs {name}={needed.get(name)}; "
                "extract into another --store"
            )
