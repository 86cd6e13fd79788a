"""Files on their way into the shards of a store."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from mirembed.audio_files import file_stamp, printable
from mirembed.errors import DatasetError
from mirembed.extract.files import ExtractedFile, Handling, extract_files
from mirembed.extract.max_failures import MaxFailures
from mirembed.extract.summary import Summary
from mirembed.hookspecs import Track
from mirembed.progress import Progress, counted
from mirembed.store import DatasetInfo, Failure, FeatureStore, SpectrogramRow

SHARD_ROWS = 128
SHARD_FRAMES = 400_000
"""A shard is full at this many tracks or frames: about 60 MB, whatever the length of the tracks."""

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
        """Extract the tracks; what is done when this ends by an exception is kept too.

        Raises
        ------
        DatasetError
            If more files fail than may, or the audio folder vanishes.
        StoreWriteError
            If the store cannot be written.
        """
        self._progress.start("extracting", len(self._tracks))
        try:
            for outcome in extract_files([track.path for track in self._tracks], jobs, handling, self._audio):
                track = self._tracks[outcome.index]
                if isinstance(outcome.result, str):
                    self._fail(track, outcome.result)
                else:
                    self._add(track, outcome.result)
                self._progress.update(outcome.number, failed=self._n_failed, audio_seconds=self._seconds)
                if self._is_due():
                    self._write()
        finally:
            self._write()

    def _add(self, track: Track, file: ExtractedFile) -> None:
        self._failures.pop(track.id, None)
        self._summary.chatter += file.chatter
        self._seconds += file.duration
        self._n_frames += len(file.frames)
        self._pending.append(
            SpectrogramRow(
                id=track.id,
                label=track.label,
                group=track.group,
                path=printable(track.path),
                duration=file.duration,
                file_hash=file.file_hash,
                audio_hash=file.audio_hash,
                backend=file.backend,
                file_size=file.file_size,
                file_mtime_ns=file.file_mtime_ns,
                frames=file.frames,
            )
        )

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
