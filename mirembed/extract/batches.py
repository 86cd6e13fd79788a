"""Extraction on the machines of a cluster: whole batches of files, whose shards the workers write themselves."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mirembed.errors import StoreError
from mirembed.extract.files import Handling, extract_files
from mirembed.hookspecs import Track
from mirembed.store import DatasetInfo, FeatureStore, SpectrogramRow
from mirembed.workers.executor import n_threads, run_on_cluster

SHARD_ROWS = 128
SHARD_FRAMES = 400_000
"""A shard is full at this many tracks or frames: about 60 MB, whatever the length of the tracks."""

_TURNS = 4
"""Batches for each thread of the cluster, at least, so that all end at about the same time."""


@dataclass(frozen=True)
class Batch:
    """Files that one worker extracts, and where to. Paths are absolute, and the same on every machine."""

    store: Path
    info: DatasetInfo
    tracks: tuple[Track, ...]
    audio: Path
    handling: Handling


@dataclass(frozen=True)
class BatchDone:
    """What became of a batch, whose shards are written.

    Attributes
    ----------
    extracted : int
    failed : list of (int, str)
        Places in the batch, and reasons.
    seconds : float
        Of music.
    chatter : int
        Lines that decoders wrote.
    """

    extracted: int
    failed: list[tuple[int, str]]
    seconds: float
    chatter: int


def extract_batches(
    store: FeatureStore, info: DatasetInfo, tracks: Sequence[Track], audio: Path, handling: Handling
) -> Iterator[tuple[Sequence[Track], BatchDone]]:
    """Extract tracks in batches on the cluster; yield the tracks of each batch when its shards are written.

    A batch that is lost with its worker is done again by another. Should the first have written its shards, the rows
    stand twice, and the last count.

    Raises
    ------
    WorkerError
        See `mirembed.workers.executor.run_on_cluster`.
    StoreError
        If a worker does not see the store, or cannot write to it.
    """
    size = max(1, min(SHARD_ROWS, math.ceil(len(tracks) / (_TURNS * n_threads()))))
    absolute = [replace(track, path=track.path.absolute()) for track in tracks]
    batches = [
        Batch(store.folder.absolute(), info, tuple(absolute[first : first + size]), audio.absolute(), handling)
        for first in range(0, len(absolute), size)
    ]
    for outcome in run_on_cluster(_extract_batch, batches):
        yield batches[outcome.index].tracks, outcome.result


def _extract_batch(batch: Batch) -> BatchDone:
    """In a worker of the cluster: extract in a process of its own, which a broken file may kill."""
    store = FeatureStore(batch.store)
    if not store.exists:
        raise StoreError(
            f"the worker on {platform.node()} does not see {batch.store}; keep the store where all machines see it "
            "under one path, and give that path as --store"
        )
    rows: list[SpectrogramRow] = []
    failed: list[tuple[int, str]] = []
    extracted, seconds, chatter = 0, 0.0, 0
    for outcome in extract_files([track.path for track in batch.tracks], 1, batch.handling, batch.audio):
        if isinstance(outcome.result, str):
            failed.append((outcome.index, outcome.result))
            continue
        rows.append(outcome.result.row_of(batch.tracks[outcome.index]))
        extracted += 1
        seconds += outcome.result.duration
        chatter += outcome.result.chatter
        if sum(len(row.frames) for row in rows) >= SHARD_FRAMES:
            store.append(rows, batch.info)
            rows = []
    if rows:
        store.append(rows, batch.info)
    return BatchDone(extracted, failed, seconds, chatter)
