"""Files on their way into the shards of a store."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from mirembed.audio.files import file_stamp, printable
from mirembed.errors import DatasetError
from mirembed.extract.batches import SHARD_FRAMES, SHARD_ROWS, extract_batches
from mirembed.extract.files import ExtractedFile, Handling, extract_files
from mirembed.extract.max_failures import MaxFailures
from mirembed.extract.summary import Summary
from mirembed.hookspecs import Track
from mirembed.progress import Progress, counted
from mirembed.store import DatasetInfo, Failure, FeatureStore, SpectrogramRow
from mirembed.workers.executor import is_cluster

SHARD_SECONDS = 20.0
"""A shard is written when it is full or this old: what a killed process loses."""


class Extraction:
    """Decodes tracks, and writes their spectrograms shard by shard.

    Parameters
    ----------
    store : FeatureStore
    info : DatasetInfo
    tracks : sequence of Track
    audio : pathlib.Path
        The folder that they are in.
    summary : Summary
        What is done is counted here.
    progress : Progress
    max_failures : MaxFailures or None
    """

    def __init__(
        self,
        store: FeatureStore,
        info: DatasetInfo,
        tracks: Sequence[Track],
        audio: Path,
        summary: Summary,
        progress: Progress,
        max_failures: MaxFailures | None,
    ) -> None:
        self._store = store
        self._info = info
        self._tracks = tracks
        self._audio = audio
        self._summary = summary
        self._progress = progress
        self._max_failures = max_failures
        self._failures = {failure.id: failure for failure in summary.failures}
        self._n_failed = 0
        self._seconds = 0.0
        self._pending: list[SpectrogramRow] = []
        self._n_frames = 0
        self._written_at = time.monotonic()

    def run(self, jobs: int, handling: Handling) -> None:
        """Extract the tracks, here or on a cluster; what is done when this ends by an exception is kept too.

        Raises
        ------
        WorkerError
            If the cluster cannot be used.
        DatasetError
            If more files fail than may, or the audio folder vanishes.
        StoreWriteError
            If the store cannot be written.
        """
        self._progress.start("extracting", len(self._tracks))
        try:
            if is_cluster():
                self._run_on_cluster(handling)
            else:
                self._run_here(jobs, handling)
        finally:
            self._write()

    def _run_here(self, jobs: int, handling: Handling) -> None:
        for outcome in extract_files([track.path for track in self._tracks], jobs, handling, self._audio):
            track = self._tracks[outcome.index]
            if isinstance(outcome.result, str):
                self._fail(track, outcome.result)
            else:
                self._add(track, outcome.result)
            self._progress.update(outcome.number, failed=self._n_failed, audio_seconds=self._seconds)
            if self._is_due():
                self._write()

    def _run_on_cluster(self, handling: Handling) -> None:
        completed = 0
        for tracks, done in extract_batches(self._store, self._info, self._tracks, self._audio, handling):
            self._summary.extracted += done.extracted
            self._summary.chatter += done.chatter
            self._seconds += done.seconds
            for track in tracks:
                self._failures.pop(track.id, None)
            for index, reason in done.failed:
                self._fail(tracks[index], reason)
            completed += len(tracks)
            self._progress.update(completed, failed=self._n_failed, audio_seconds=self._seconds)
            if self._is_due():
                self._write()

    def _add(self, track: Track, file: ExtractedFile) -> None:
        self._failures.pop(track.id, None)
        self._summary.chatter += file.chatter
        self._seconds += file.duration
        self._n_frames += len(file.frames)
        self._pending.append(file.row_of(track))

    def _fail(self, track: Track, reason: str) -> None:
        size, mtime = file_stamp(track.path)
        if size < 0 and not _holds_anything(self._audio):
            raise DatasetError(
                f"the audio folder {self._audio} has vanished; bring it back and run the same command again: "
                "what is extracted is kept"
            )
        retry = (
            "mend or replace the file and run the same command again, or try it as it is with --retry-failed, "
            "and more --timeout where it took too long"
        )
        self._n_failed += 1
        self._failures[track.id] = Failure(track.id, printable(track.path), reason, retry, size, mtime)
        n_listed = self._summary.listed
        if self._max_failures is not None and self._max_failures.exceeded_by(self._n_failed, n_listed):
            raise DatasetError(
                f"{self._n_failed} of {counted(n_listed, 'file')} failed, more than --max-failures "
                f"{self._max_failures}; the last: {printable(track.path)}: {reason}"
            )

    def _is_due(self) -> bool:
        full = len(self._pending) >= SHARD_ROWS or self._n_frames >= SHARD_FRAMES
        return full or time.monotonic() - self._written_at > SHARD_SECONDS

    def _write(self) -> None:
        """Write the pending rows as a shard, and the failures."""
        rows, self._pending, self._n_frames = self._pending, [], 0
        # Emptied first: a shard that could not be written is not tried a second time on the way out.
        if rows:
            self._store.append(rows, self._info)
            self._summary.extracted += len(rows)
        self._summary.failures = sorted(self._failures.values(), key=lambda failure: failure.id)
        self._store.write_failures(self._summary.failures)
        self._written_at = time.monotonic()


def _holds_anything(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entries)
    except OSError:
        return False
