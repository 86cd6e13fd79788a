"""Merge the small shards of stored features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirembed.interruption import raise_if_interrupted
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.store.features import ROWS_PER_GROUP, FeatureShards, check_digest, read_rows

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 256 * 2**20
"""Shards are merged up to this size; shards of at least half of it stay as they are."""

GROUP_BYTES = 64 * 2**20
"""A row group is written when it is full or this large, which bounds memory."""


@dataclass(frozen=True)
class Compaction:
    """The shards of stored features before and after merging.

    Attributes
    ----------
    shards_before, shards_after, bytes_before, bytes_after : int
    """

    shards_before: int
    shards_after: int
    bytes_before: int
    bytes_after: int


def compact(features: FeatureShards, progress: Progress = NO_PROGRESS) -> Compaction:
    """Merge small shards; rows that later ones have replaced are dropped.

    A merged shard is complete and in place before its sources are deleted. If the program is killed, nothing is lost
    and the next call continues; programs that read at the same time find every recording.

    Raises
    ------
    StoreBusyError
        Another process is writing to the features.
    StoreError
        A shard cannot be read or holds other features, or there is no space for a merged one.
    """
    with features.lock():
        part = features.part()
        before = features.shards()
        for shard in before:
            check_digest(shard, part.digest)
        bytes_before = _size(before)
        rows = features.current_rows(before)
        for shard in before:
            if not rows[shard]:
                shard.unlink()  # a merged shard has all its rows
        groups = list(_groups([shard for shard in before if rows[shard]]))
        progress.start("merging", len(groups))
        for number, shards in enumerate(groups, 1):
            raise_if_interrupted()
            with features.shard_writer(features.next_shard(), part) as writer:
                for table in _regrouped(table for shard in shards for table in read_rows(shard, rows[shard])):
                    writer.write_table(table, row_group_size=ROWS_PER_GROUP)
            for shard in shards:
                shard.unlink()
            progress.update(number)
        after = features.shards()
        return Compaction(len(before), len(after), bytes_before, _size(after))


def _size(shards: Iterable[Path]) -> int:
    return sum(shard.stat().st_size for shard in shards)


def _groups(shards: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield groups of shards to merge, each into one, in order."""
    group: list[Path] = []
    for shard in shards:
        size = shard.stat().st_size
        if size >= SHARD_BYTES / 2:
            continue
        if _size(group) + size > SHARD_BYTES:
            if len(group) > 1:
                yield group
            group = []
        group.append(shard)
    if len(group) > 1:
        yield group


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join tables until they fill a row group or reach `GROUP_BYTES`."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= ROWS_PER_GROUP or sum(one.nbytes for one in waiting) >= GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
