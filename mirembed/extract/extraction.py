"""Compute the features of files, here or on a cluster, and write them to the store shard by shard."""

from __future__ import annotations

import contextlib
import math
import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirembed.audio.files import printable
from mirembed.errors import DatasetError, SpecError, StoreError
from mirembed.extract.failures import Failures, failures_of
from mirembed.extract.file_features import ExtractedFile, ExtractOptions, FileToExtract, extract_files
from mirembed.extract.summary import Summary
from mirembed.features.info import FeaturesPart
from mirembed.progress import Progress, counted
from mirembed.store import DatasetStore, Failure, RecordingRow, Store, StoredTrack
from mirembed.workers.executor import is_cluster, n_threads, run_on_cluster

SHARD_ROWS = 128
SHARD_BYTES = 64_000_000
"""A shard is full at this many recordings or bytes of frames, however long the recordings are."""

SHARD_SECONDS = 20.0
"""A shard is written when it is full or this old, so that a killed process loses little."""

TRACKS_SECONDS = 60.0
"""How often the table of tracks is written. After a kill, later recordings are found by reading the files."""

_BATCHES_PER_THREAD = 4
"""Batches for each thread of a cluster, at least, so that all threads end at about the same time."""


@dataclass(frozen=True)
class MaxFailures:
    """How many files may fail before an extraction stops.

    Attributes
    ----------
    value : float
        Files, or percent of the files that the dataset lists, without those that a limit leaves for later.
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
class Features:
    """Features that an extraction computes.

    Attributes
    ----------
    part : FeaturesPart
    name : str
        Under which they are stored.
    having : set of str
        The recordings for which the store has them.
    """

    part: FeaturesPart
    name: str
    having: set[str]

    @classmethod
    def of(cls, part: FeaturesPart, store: Store) -> Features:
        """Read for which recordings the store has the features."""
        shards = store.features(part)
        return cls(part, shards.name, set(shards.columns()))


@dataclass
class _Shards:
    """Rows that are waiting to be written, as one shard for each set of features."""

    store: Store
    parts: Sequence[FeaturesPart]
    rows: dict[str, dict[str, RecordingRow]] = field(default_factory=dict)

    def add(self, file: ExtractedFile) -> None:
        """Add the frames of a file, unless its recording is already waiting."""
        for digest, frames in file.frames.items():
            self.rows.setdefault(digest, {})[file.recording] = RecordingRow(
                recording=file.recording,
                audio_hash=file.audio_hash,
                duration=file.duration,
                rate=file.rate,
                backend=file.backends[digest],
                file_size=file.file_size,
                frames=frames,
            )

    @property
    def are_full(self) -> bool:
        return any(
            len(rows) >= SHARD_ROWS or sum(row.frames.nbytes for row in rows.values()) >= SHARD_BYTES
            for rows in self.rows.values()
        )

    def write(self) -> None:
        # Emptied first: a shard that could not be written is not tried a second time on the way out.
        waiting, self.rows = self.rows, {}
        for part in self.parts:
            if rows := waiting.get(part.digest):
                self.store.features(part).append(list(rows.values()), part)


@dataclass
class Extraction:
    """Computes the features of files, and writes them to the store shard by shard.

    Parameters
    ----------
    store : Store
    dataset : DatasetStore
    features : sequence of Features
    files : sequence of FileToExtract
    tracks : dict of str to StoredTrack
        All tracks of the dataset by id; they get their recordings.
    failures : Failures
        Updated as the work proceeds.
    audio : pathlib.Path
        The folder that holds the files.
    options : ExtractOptions
    summary : Summary
        Updated as the work proceeds.
    progress : Progress
    max_failures : MaxFailures or None
        Accepted failures do not count.
    accept_failures : bool or None
        See `Failures.report`.
    """

    store: Store
    dataset: DatasetStore
    features: Sequence[Features]
    files: Sequence[FileToExtract]
    tracks: dict[str, StoredTrack]
    failures: Failures
    audio: Path
    options: ExtractOptions
    summary: Summary
    progress: Progress
    max_failures: MaxFailures | None
    accept_failures: bool | None = None

    def __post_init__(self) -> None:
        self._n_failed = 0
        self._names = {one.name for one in self.features}
        self._written_failures: list[Failure] | None = None
        self._seconds = 0.0
        self._shards = _Shards(self.store, [one.part for one in self.features])
        self._written_at = self._tracks_written_at = time.monotonic()

    def run(self, jobs: int) -> None:
        """Extract the files. Even if this ends with an exception, what has been done is kept.

        Raises
        ------
        WorkerError
            The cluster cannot be used.
        DatasetError
            Too many files fail, or the audio folder vanishes.
        StoreError
            The store cannot be written, or a worker of the cluster does not see it.
        """
        self.progress.start("extracting", len(self.files))
        try:
            if is_cluster():
                self._run_on_cluster()
            else:
                self._run_here(jobs)
        finally:
            self._write()
            if self.files:
                self._write_tracks()
        self.summary.new_failures = self.failures.report(self._names, self.accept_failures)
        self._write_failures()
        self._summarize()

    def _run_here(self, jobs: int) -> None:
        with contextlib.closing(extract_files(self.files, jobs, self.options, self.audio)) as outcomes:
            for completed, outcome in enumerate(outcomes, 1):
                file, result = self.files[outcome.index], outcome.result
                if isinstance(result, str):
                    self._take(file, result)
                else:
                    self._shards.add(result)
                    self._take(file, result.without_frames())
                self._update(completed)

    def _run_on_cluster(self) -> None:
        """Extract in batches, whose shards the workers write themselves.

        A batch that is lost with its worker is given to another. If the first one had already written its shards, the
        rows are there twice, and the last ones count.
        """
        size = max(1, min(SHARD_ROWS, math.ceil(len(self.files) / (_BATCHES_PER_THREAD * n_threads()))))
        files = [replace(file, path=file.path.absolute()) for file in self.files]
        root, audio = self.store.root.absolute(), self.audio.absolute()
        parts = tuple(one.part for one in self.features)
        batches = [
            _Batch(root, parts, tuple(files[first : first + size]), audio, self.options)
            for first in range(0, len(files), size)
        ]
        completed = 0
        for outcome in run_on_cluster(_extract_batch, batches):
            batch = batches[outcome.index].files
            for index, result in outcome.result:
                self._take(batch[index], result)
            completed += len(batch)
            self._update(completed)

    def _take(self, file: FileToExtract, result: ExtractedFile | str) -> None:
        """Record the result for a file whose frames are stored or will be."""
        wanted = [one for one in self.features if one.part in file.features]
        if isinstance(result, str):
            self._fail(file, {one.name: result for one in wanted})
            return
        self.summary.decoder_messages += result.decoder_messages
        if result.notes:
            self.summary.notes[printable(file.path)] = "; ".join(result.notes)
        self._seconds += result.duration
        for one in wanted:
            if one.part.digest in result.frames:
                one.having.add(result.recording)
                for track in file.ids:
                    self.failures.discard(track, one.name)
        if result.frames:
            for track in file.ids:
                self.tracks[track] = replace(
                    self.tracks[track],
                    recording=result.recording,
                    file_size=result.file_size,
                    file_mtime_ns=result.file_mtime_ns,
                )
            self.summary.extracted += len(file.ids)
        if reasons := {one.name: why for one in wanted if (why := result.failures.get(one.part.digest))}:
            self._fail(file, reasons)

    def _fail(self, file: FileToExtract, reasons: Mapping[str, str]) -> None:
        for failure in failures_of(file, reasons, self.audio):
            self.failures.add(failure)
        self._n_failed += not self.failures.are_accepted(file.ids, reasons)
        n_files = self.summary.listed - self.summary.left
        if self.max_failures is not None and self.max_failures.exceeded_by(self._n_failed, n_files):
            raise DatasetError(
                f"{self._n_failed} of {counted(n_files, 'file')} failed, more than --max-failures "
                f"{self.max_failures}; the last one: {printable(file.path)}: {next(iter(reasons.values()))}"
            )

    def _update(self, completed: int) -> None:
        self.progress.update(completed, failed=self._n_failed, audio_seconds=self._seconds)
        if self._shards.are_full or time.monotonic() - self._written_at > SHARD_SECONDS:
            self._write()
            if time.monotonic() - self._tracks_written_at > TRACKS_SECONDS:
                self._write_tracks()

    def _write(self) -> None:
        """Write the rows that are waiting, and the failures."""
        self._shards.write()
        self._write_failures()
        self._written_at = time.monotonic()

    def _write_failures(self) -> None:
        failures = list(self.failures)
        if failures != self._written_failures:
            self.dataset.write_failures(failures)
        self._written_failures = failures
        self.summary.failures = [one for one in failures if one.features in self._names]

    def _write_tracks(self) -> None:
        self.dataset.write_tracks(self.tracks.values(), self.dataset.info())
        self._tracks_written_at = time.monotonic()

    def _summarize(self) -> None:
        """Count the listed tracks that the store has, and those whose file has changed and cannot be read."""
        failed = {one.id: (one.file_size, one.file_mtime_ns) for one in self.summary.failures}
        self.summary.having = {one.part.spec: 0 for one in self.features}
        for track in self.tracks.values():
            had = [one.part.spec for one in self.features if track.recording in one.having]
            if track.listed and had:
                self.summary.stored += 1
                for spec in had:
                    self.summary.having[spec] += 1
                self.summary.kept += failed.get(track.id, (track.file_size, track.file_mtime_ns)) != (
                    track.file_size,
                    track.file_mtime_ns,
                )


@dataclass(frozen=True)
class _Batch:
    """Files for one worker of a cluster, and where their rows go. Paths are absolute, the same on every machine."""

    store: Path
    parts: tuple[FeaturesPart, ...]
    files: tuple[FileToExtract, ...]
    audio: Path
    options: ExtractOptions


def _extract_batch(batch: _Batch) -> list[tuple[int, ExtractedFile | str]]:
    """Extract a batch on a worker of the cluster, in a process of its own, which a broken file may crash.

    Return the result for each file, by its index, after the shards have been written.
    """
    shards = _Shards(Store(batch.store), batch.parts)
    if not all(shards.store.features(part).exists for part in batch.parts):
        raise StoreError(
            f"the worker on {platform.node()} does not see {batch.store}; keep the store where all machines see it "
            "under the same path, and give that path as --store"
        )
    done: list[tuple[int, ExtractedFile | str]] = []
    for outcome in extract_files(batch.files, 1, batch.options, batch.audio):
        if isinstance(outcome.result, str):
            done.append((outcome.index, outcome.result))
            continue
        shards.add(outcome.result)
        done.append((outcome.index, outcome.result.without_frames()))
        if shards.are_full:
            shards.write()
    shards.write()
    return done
