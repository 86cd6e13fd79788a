"""Merging the small shards of a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.progress import Progress, Silent
from mirembed.store.features import ROWS_PER_GROUP, FeatureStore, row_groups
from mirembed.store.rows import DatasetInfo, as_stored

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 256 * 2**20
"""Shards are merged up to this size; those of at least half of it stay as they are."""

GROUP_BYTES = 64 * 2**20
"""A row group is written when it is full or holds this much, so that memory stays bounded."""


@dataclass(frozen=True)
class Compaction:
    """What became of the shards of a dataset.

    Attributes
    ----------
    shards_before, shards_after, bytes_before, bytes_after : int
    """

    shards_before: int
    shards_after: int
    bytes_before: int
    bytes_after: int

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON."""
        return asdict(self)


def compact(features: FeatureStore, progress: Progress | None = None) -> Compaction:
    """Merge small shards; rows that later ones have replaced are left behind.

    A merged shard is whole and in its place before those that it is made of are deleted. Whatever ends the program,
    nothing is lost, and the next call goes on; who reads meanwhile finds every track.

    Raises
    ------
    StoreBusyError
        If another process writes to the dataset.
    StoreError
        If a shard cannot be read, was made with other parameters, or there is no room for a merged one.
    """
    progress = progress or Silent()
    with features.lock():
        info = features.info()
        features.check_fingerprint(info.parameters, "the rest of the store")
        before = features.shards()
        n_bytes = _bytes(before)
        rows = _rows_that_count(features)
        for shard in [shard for shard in before if not rows[shard]]:
            shard.unlink()  # a merged one has all its rows
        groups = list(_groups([shard for shard in before if rows[shard]]))
        progress.start("merging", len(groups))
        for number, shards in enumerate(groups, 1):
            merged = (_rows(shard, rows[shard], info) for shard in shards)
            _write(features, (table for tables in merged for table in tables), info)
            for shard in shards:
                shard.unlink()
            progress.update(number)
        after = features.shards()
        return Compaction(len(before), len(after), n_bytes, _bytes(after))


def _bytes(shards: Iterable[Path]) -> int:
    return sum(shard.stat().st_size for shard in shards)


def _rows_that_count(features: FeatureStore) -> dict[Path, set[int]]:
    """Return, for each shard, its rows that no later one has replaced."""
    shards = features.shards()
    rows: dict[Path, set[int]] = {shard: set() for shard in shards}
    index = features.index()
    if len(index):
        for number, row in zip(index["shard"].to_pylist(), index["row"].to_pylist(), strict=True):
            rows[shards[number]].add(row)
    return rows


def _groups(shards: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield the shards that are to become one, in their order."""
    group: list[Path] = []
    held = 0
    for shard in shards:
        size = shard.stat().st_size
        if size >= SHARD_BYTES / 2:
            continue
        if group and held + size > SHARD_BYTES:
            if len(group) > 1:
                yield group
            group, held = [], 0
        group.append(shard)
        held += size
    if len(group) > 1:
        yield group


def _rows(shard: Path, wanted: set[int], info: DatasetInfo) -> Iterator[pa.Table]:
    """Yield the wanted rows of a shard, row group by row group."""
    import pyarrow as pa

    first = 0
    for table in row_groups(shard):
        places = [row for row in range(len(table)) if first + row in wanted]
        first += len(table)
        yield as_stored(table.take(pa.array(places, pa.int64())), info)


def _write(features: FeatureStore, tables: Iterator[pa.Table], info: DatasetInfo) -> None:
    import pyarrow as pa

    with features.shard_writer(features.next_shard(), info) as writer:
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(table)
            if sum(map(len, waiting)) >= ROWS_PER_GROUP or sum(one.nbytes for one in waiting) >= GROUP_BYTES:
                writer.write_table(pa.concat_tables(waiting), row_group_size=ROWS_PER_GROUP)
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=ROWS_PER_GROUP)
