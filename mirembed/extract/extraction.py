"""Compute the features of tracks, here or on a cluster, and write them to the store shard by shard."""

from __future__ import annotations

import math
import os
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirembed.audio.files import file_stamp, printable
from mirembed.config import defaults
from mirembed.errors import DatasetError, SpecError, StoreError
from mirembed.extract.file_features import ExtractedFile, ExtractOptions, FileToExtract, extract_files
from mirembed.extract.summary import Summary
from mirembed.features import resolve_features
from mirembed.hookspecs import Track
from mirembed.progress import Progress, counted
from mirembed.registry import Registry
from mirembed.store import DatasetInfo, Failure, FeatureStore, SpectrogramRow
from mirembed.workers.executor import is_cluster, n_threads, run_on_cluster

SHARD_ROWS = 128
SHARD_FRAMES = 400_000
"""A shard is full at this many tracks or frames: about 60 MB, however long the tracks are."""

SHARD_SECONDS = 20.0
"""A shard is written when it is full or this old, so that a killed process loses little."""

_BATCHES_PER_THREAD = 4
"""Batches for each thread of a cluster, at least, so that all threads end at about the same time."""


@dataclass(frozen=True)
class MaxFailures:
    """How many files may fail before an extraction stops.

    Attributes
    ----------
    value : float
        Files, or percent of the files that the dataset lists.
    percent : bool
    """

    value: float
    percent: bool

    @classmethod
    def parse(cls, text: str) -> MaxFailures:
        """Read ``10`` or ``5%``.

        >>> MaxFailures.parse("5%")
        MaxFailures(value=5.0, percent=True)

        Raises
        ------
        SpecError
        """
        found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*%", text.strip())
        if not found or (found[2] and float(found[2]) > 100):
            raise SpecError(f"--max-failures {text}: expected a number of files such as 10, or a share such as 5%")
        return cls(float(found[1] or found[2]), percent=found[2] is not None)

    def exceeded_by(self, n_failed: int, n_files: int) -> bool:
        """Whether ``n_failed`` of ``n_files`` are too many."""
        return n_failed > (self.value * n_files / 100 if self.percent else self.value)

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.percent else f"{self.value:g}"


@dataclass
class _Shard:
    """Rows that are waiting to be written as one shard."""

    store: FeatureStore
    info: DatasetInfo
    rows: list[SpectrogramRow] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.rows) >= SHARD_ROWS or sum(len(row.frames) for row in self.rows) >= SHARD_FRAMES

    def write(self) -> int:
        """Write the rows, and return their number."""
        # Emptied first: a shard that could not be written is not tried a second time on the way out.
        rows, self.rows = self.rows, []
        if rows:
            self.store.append(rows, self.info)
        return len(rows)


@dataclass
class Extraction:
    """Computes the features of tracks, and writes them to the store shard by shard.

    Parameters
    ----------
    store : FeatureStore
    info : DatasetInfo
    tracks : sequence of Track
    audio : pathlib.Path
        The folder that holds their files.
    options : ExtractOptions or None
    summary : Summary
        Updated as the work proceeds.
    progress : Progress
    max_failures : MaxFailures or None
    """

    store: FeatureStore
    info: DatasetInfo
    tracks: Sequence[Track]
    audio: Path
    options: ExtractOptions | None
    summary: Summary
    progress: Progress
    max_failures: MaxFailures | None

    def __post_init__(self) -> None:
        self._failures = {failure.id: failure for failure in self.summary.failures}
        self._n_failed = 0
        self._seconds = 0.0
        self._shard = _Shard(self.store, self.info)
        self._written_at = time.monotonic()

    def run(self, jobs: int) -> None:
        """Extract the tracks. Even if this ends with an exception, what has been done is kept.

        Raises
        ------
        WorkerError
            The cluster cannot be used.
        DatasetError
            Too many files fail, or the audio folder vanishes.
        StoreError
            The store cannot be written, or a worker of the cluster does not see it.
        """
        self.progress.start("extracting", len(self.tracks))
        try:
            if is_cluster():
                self._run_on_cluster()
            else:
                self._run_here(jobs)
        finally:
            self._write()

    def _run_here(self, jobs: int) -> None:
        outcomes = extract_files(_files(self.tracks), jobs, self.options, self.audio)
        for completed, outcome in enumerate(outcomes, 1):
            track, result = self.tracks[outcome.index], _row_or_reason(self.tracks[outcome.index], outcome.result)
            if isinstance(result, str):
                self._fail(track, result)
            else:
                self._failures.pop(track.id, None)
                self.summary.decoder_messages += outcome.result.decoder_messages
                self._seconds += result.duration
                self._shard.rows.append(result)
            self._update(completed)

    def _run_on_cluster(self) -> None:
        """Extract in batches, whose shards the workers write themselves.

        A batch that is lost with its worker is given to another. If the first one had already written its shards, the
        rows are there twice, and the last ones count.
        """
        size = max(1, min(SHARD_ROWS, math.ceil(len(self.tracks) / (_BATCHES_PER_THREAD * n_threads()))))
        tracks = [replace(track, path=track.path.absolute()) for track in self.tracks]
        store, audio = self.store.folder.absolute(), self.audio.absolute()
        batches = [
            _Batch(store, self.info, tuple(tracks[first : first + size]), audio, self.options)
            for first in range(0, len(tracks), size)
        ]
        completed = 0
        for outcome in run_on_cluster(_extract_batch, batches):
            batch, done = batches[outcome.index].tracks, outcome.result
            self.summary.extracted += done.extracted
            self.summary.decoder_messages += done.decoder_messages
            self._seconds += done.seconds
            for track in batch:
                self._failures.pop(track.id, None)
            for index, reason in done.failed:
                self._fail(batch[index], reason)
            completed += len(batch)
            self._update(completed)

    def _fail(self, track: Track, reason: str) -> None:
        size, mtime = file_stamp(track.path)
        if size < 0 and not _has_entries(self.audio):
            raise DatasetError(
                f"the audio folder {self.audio} has vanished; bring it back and run the same command again: "
                "what has been extracted is kept"
            )
        retry = (
            "repair or replace the file and run the same command again, or try it as it is with --retry-failed, "
            "with a larger --timeout if it took too long"
        )
        self._n_failed += 1
        self._failures[track.id] = Failure(track.id, printable(track.path), reason, retry, size, mtime)
        n_listed = self.summary.listed
        if self.max_failures is not None and self.max_failures.exceeded_by(self._n_failed, n_listed):
            raise DatasetError(
                f"{self._n_failed} of {counted(n_listed, 'file')} failed, more than --max-failures "
                f"{self.max_failures}; the last one: {printable(track.path)}: {reason}"
            )

    def _update(self, completed: int) -> None:
        self.progress.update(completed, failed=self._n_failed, audio_seconds=self._seconds)
        if self._shard.is_full or time.monotonic() - self._written_at > SHARD_SECONDS:
            self._write()

    def _write(self) -> None:
        """Write the rows that are waiting, and the failures."""
        self.summary.extracted += self._shard.write()
        self.summary.failures = sorted(self._failures.values(), key=lambda failure: failure.id)
        self.store.write_failures(self.summary.failures)
        self._written_at = time.monotonic()


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entries)
    except OSError:
        return False


@dataclass(frozen=True)
class _Batch:
    """Tracks for one worker of a cluster, and where their rows go. Paths are absolute, the same on every machine."""

    store: Path
    info: DatasetInfo
    tracks: tuple[Track, ...]
    audio: Path
    options: ExtractOptions | None


@dataclass
class _BatchResult:
    """The outcome of a batch, after its shards have been written.

    Attributes
    ----------
    extracted : int
    failed : list of (int, str)
        Indices in the batch, and reasons.
    seconds : float
        Of music.
    decoder_messages : int
        See `mirembed.audio.Sound`.
    """

    extracted: int = 0
    failed: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0
    decoder_messages: int = 0


def _extract_batch(batch: _Batch) -> _BatchResult:
    """Extract a batch on a worker of the cluster, in a process of its own, which a broken file may crash."""
    shard = _Shard(FeatureStore(batch.store), batch.info)
    if not shard.store.exists:
        raise StoreError(
            f"the worker on {platform.node()} does not see {batch.store}; keep the store where all machines see it "
            "under the same path, and give that path as --store"
        )
    done = _BatchResult()
    for outcome in extract_files(_files(batch.tracks), 1, batch.options, batch.audio):
        row = _row_or_reason(batch.tracks[outcome.index], outcome.result)
        if isinstance(row, str):
            done.failed.append((outcome.index, row))
            continue
        shard.rows.append(row)
        done.seconds += outcome.result.duration
        done.decoder_messages += outcome.result.decoder_messages
        if shard.is_full:
            done.extracted += shard.write()
    done.extracted += shard.write()
    return done


def _files(tracks: Sequence[Track]) -> list[FileToExtract]:
    parts = resolve_features(Registry.discover(), defaults.FEATURES).parts
    return [FileToExtract(track.path, (track.id,), parts) for track in tracks]


def _row_or_reason(track: Track, result: ExtractedFile | str) -> SpectrogramRow | str:
    if isinstance(result, str):
        return result
    for reason in result.failures.values():
        return reason
    (digest,) = result.frames
    return SpectrogramRow(
        id=track.id,
        label=track.label,
        group=track.group,
        path=printable(track.path),
        duration=result.duration,
        file_hash=result.recording,
        audio_hash=result.audio_hash or "",
        backend=result.backends[digest],
        file_size=result.file_size,
        file_mtime_ns=result.file_mtime_ns,
        frames=result.frames[digest],
    )
