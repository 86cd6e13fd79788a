"""The frames of recordings by one features plugin: Parquet shards, one row per recording, and ``_features.json``.

Shards are only ever added, or replaced whole. If two hold the same recording, the later one counts. Several processes
may add shards at the same time.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.errors import MismatchError, StoreBusyError, StoreError
from mirembed.features.info import FeaturesPart
from mirembed.interruption import raise_if_interrupted
from mirembed.store.files import (
    busy_message,
    only_writer,
    read_json,
    read_table,
    reading_parquet,
    require_present,
    shared,
    table_writer,
    write_json,
)
from mirembed.store.rows import PART, RecordingRow, recordings_schema, recordings_table

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

INFO = "_features.json"
"""pandas, pyarrow and others that read the folder ignore a file with this beginning."""

ROWS_PER_GROUP = 32
"""Recordings in a row group: about 6 MB of 30-s clips, small enough to stream."""


class FeatureShards:
    """The stored features of recordings, computed by one plugin with one set of parameters.

    Parameters
    ----------
    folder : pathlib.Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._info = folder / INFO

    @property
    def name(self) -> str:
        """The name of the folder: that of the plugin, and the first digits of `FeaturesPart.digest`."""
        return self.folder.name

    @property
    def exists(self) -> bool:
        """Whether anything has been extracted here."""
        return self._info.exists()

    def part(self) -> FeaturesPart:
        """Read ``_features.json``.

        Raises
        ------
        StoreError
            It is missing or damaged.
        """
        try:
            return FeaturesPart(**read_json(self._info))
        except TypeError as error:
            raise StoreError(
                f"{self._info} is damaged ({error}); delete it and run `mirembed extract` again: the frames are kept"
            ) from error

    def create(self, part: FeaturesPart) -> None:
        """Write ``_features.json`` unless it is there."""
        if not self.exists:
            write_json(self._info, part.to_json())

    def adding(self) -> AbstractContextManager[None]:
        """Hold the right to add shards, as other processes may at the same time.

        Raises
        ------
        StoreBusyError
            Another process holds the `lock`.
        """
        return shared(self.folder, busy_message(self.folder))

    def lock(self) -> AbstractContextManager[None]:
        """Hold the exclusive right to write, which ends with the process at the latest.

        Raises
        ------
        StoreBusyError
            Another process is writing.
        """
        return only_writer(self.folder)

    def shards(self) -> list[Path]:
        """Return the shard files, oldest first."""
        return sorted(self.folder.glob("[0-9]*-*.parquet"))

    def n_rows(self, shard: Path) -> int:
        """Return the number of rows of a shard, including those that a later shard replaces."""
        import pyarrow.parquet as pq

        with reading_parquet(shard):
            return int(pq.read_metadata(shard).num_rows)

    def recordings(self, shard: Path) -> list[str]:
        """Return the recording of each row of a shard."""
        return [str(name) for name in read_table(shard, columns=["recording"])["recording"].to_pylist()]

    def append(self, rows: Sequence[RecordingRow], part: FeaturesPart) -> None:
        """Write rows as a new shard, later than all others.

        Raises
        ------
        StoreWriteError
            The shard cannot be written, or the folder has vanished.
        """
        require_present(self._info)
        with self.shard_writer(self.next_shard(), part) as writer:
            writer.write_table(recordings_table(rows, part), row_group_size=ROWS_PER_GROUP)

    def next_shard(self) -> Path:
        """Return the path of a new shard, later than all others."""
        shards = self.shards()
        number = int(shards[-1].stem.split("-")[0]) + 1 if shards else 1
        # The random part keeps names unique when several processes write, or stores are copied into one folder.
        return self.folder / f"{number:06d}-{uuid.uuid4().hex[:8]}.parquet"

    @staticmethod
    def shard_writer(shard: Path, part: FeaturesPart) -> AbstractContextManager[pq.ParquetWriter]:
        """Return a writer of a shard, which appears when the ``with`` block ends without an error."""
        schema = recordings_schema(part)
        # Frames hardly repeat: a dictionary of them takes more room than they do, and four times as long to make.
        # Storing their first bytes together, then their second and so on, lets decibels shrink to 60 % of that.
        names = [name for name in schema.names if name != "frames"]
        split = ["frames.list.element.list.element"]
        return table_writer(shard, schema, use_dictionary=names, use_byte_stream_split=split)

    def keep(self, shard: Path, rows: Collection[int], part: FeaturesPart) -> None:
        """Keep only some rows of a shard; if none is kept, delete it. Needs the `lock`."""
        if not rows:
            shard.unlink()
        elif len(rows) < self.n_rows(shard):
            with self.shard_writer(shard, part) as writer:
                for table in read_rows(shard, rows):
                    writer.write_table(table, row_group_size=ROWS_PER_GROUP)

    def drop_replaced(self) -> None:
        """Remove the rows that later shards replace, unless another process is writing."""
        try:
            if len(self.columns()) == sum(map(self.n_rows, self.shards())):
                return
        except StoreError:  # another process is merging them, and will drop those rows
            return
        with contextlib.suppress(StoreBusyError), self.lock():
            part, shards = self.part(), self.shards()
            for shard, rows in self.current_rows(shards).items():
                self.keep(shard, rows, part)

    def current_rows(self, shards: Sequence[Path]) -> dict[Path, list[int]]:
        """Return the rows of each shard that no later one replaces."""
        latest = {name: (shard, row) for shard in shards for row, name in enumerate(self.recordings(shard))}
        rows: dict[Path, list[int]] = {shard: [] for shard in shards}
        for shard, row in latest.values():
            rows[shard].append(row)
        return rows

    def set_aside_damaged(self) -> list[Path]:
        """Rename shards that cannot be read to ``*.damaged`` and return them."""
        damaged = []
        for shard in self.shards():
            try:
                read_table(shard, columns=["recording"])
            except StoreError:
                with contextlib.suppress(FileNotFoundError):  # another process was faster, or merged it
                    damaged.append(shard.rename(shard.with_suffix(".parquet.damaged")))
        return damaged

    def columns(self, *names: str) -> dict[str, tuple[Any, ...]]:
        """Return the values of some columns for each recording, sorted by recording; with no names, only these.

        Raises
        ------
        StoreError
            A shard is damaged, or is not a shard.
        MismatchError
            A shard holds other features.
        """
        while True:
            shards = self.shards()
            try:
                digest = self.part().digest if shards else ""
                for shard in shards:
                    check_digest(shard, digest)
                return _read_columns(shards, names)
            except StoreError:
                if shards == self.shards():  # otherwise they have just been merged
                    raise

    def frames_of(self, recordings: Collection[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield recordings with their frames ``[n_frames, values]``, each once and in any order.

        Only the row groups that hold them are read, one after the other. Recordings that are not stored are left out.
        """
        import pyarrow.parquet as pq

        left, read = set(recordings), set[Path]()
        # If shards are merged in the meantime, the merged ones are read too.
        while left and (shards := [shard for shard in self.shards() if shard not in read]):
            read.update(shards)
            for shard in reversed(shards):  # the latest row of a recording counts
                try:
                    with reading_parquet(shard), pq.ParquetFile(shard, page_checksum_verification=True) as file:
                        names = file.read(columns=["recording"])["recording"].to_pylist()
                        first = 0
                        for group in range(file.num_row_groups):
                            n_rows = file.metadata.row_group(group).num_rows
                            wanted = [row for row in range(n_rows) if names[first + row] in left]
                            if wanted:
                                values = file.read_row_group(group, columns=["frames"])["frames"]
                                for row in wanted:
                                    if names[first + row] in left:
                                        left.remove(names[first + row])
                                        yield names[first + row], _frames(values[row])
                            first += n_rows
                except StoreError:
                    if shard.exists():
                        raise


def _frames(value: pa.ListScalar) -> NDArray[np.float32]:
    frames = value.values
    return frames.flatten().to_numpy().reshape(len(frames), -1)  # type: ignore[no-any-return]


def _read_columns(shards: Sequence[Path], names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    # With Python's own types: Arrow's would import pyarrow.compute, and pandas where that is installed.
    rows: dict[str, tuple[Any, ...]] = {}
    for shard in shards:
        raise_if_interrupted()
        columns = read_table(shard, columns=["recording", *names]).to_pydict()
        recordings = columns.pop("recording")
        values = zip(*columns.values(), strict=True) if names else [()] * len(recordings)
        rows |= dict(zip(recordings, values, strict=True))
    return {recording: rows[recording] for recording in sorted(rows)}


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
            raise_if_interrupted()
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


def check_digest(shard: Path, digest: str) -> None:
    """Refuse a shard that holds other features than those with ``digest``.

    Raises
    ------
    StoreError
        It cannot be read, or is not a shard of mirembed.
    MismatchError
        It holds other features.
    """
    import pyarrow.parquet as pq

    with reading_parquet(shard):
        schema = pq.read_schema(shard)
    try:
        part = FeaturesPart(**json.loads((schema.metadata or {})[PART]))
        is_shard = schema.equals(recordings_schema(part))
    except (KeyError, TypeError, ValueError):
        is_shard = False
    if not is_shard:
        raise StoreError(f"{shard} is not a shard of mirembed; move it out of the store")
    if part.digest != digest:
        raise MismatchError(
            f"{shard} holds other features ({part.spec}, digest {part.digest}); move it out of the store"
        )
