"""Fingerprints of recordings, computed in worker processes and kept in the cache of the store.

They are kept by recording, so that moved and renamed files are not decoded again. Files are only added to the cache,
and each appears whole or not at all: an interrupted search loses at most a minute of decoding.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirembed import workers
from mirembed.audio.files import default_timeout, file_hash
from mirembed.errors import AudioError, StoreError
from mirembed.interruption import raise_if_interrupted
from mirembed.progress import Progress
from mirembed.store import Store
from mirembed.store.files import check_writable, reading_parquet, table_writer

VERSION = 1
"""Version of the fingerprints; cached ones of another version are ignored."""

RATE = 11_025
"""Hz. Recordings with a higher rate are resampled, so that hours of music fit in memory."""

_VERSION_KEY = b"mirembed.fingerprints"
_WRITE_SECONDS, _WRITE_BYTES = 60.0, 64 * 2**20
"""A file of the cache is written this often, or when the fingerprints take this much memory."""

_GROUP_ROWS = 500
"""Fingerprints in a row group: about 10 MB for four-minute tracks."""

_WORKER_MEMORY = 5 * 2**30
"""Bytes. Twelve hours of music take two fifths of this."""


@dataclass(frozen=True)
class _Task:
    path: Path
    recording: str


class FingerprintCache:
    """The fingerprints in the cache of a store.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._folder = store.cache

    def recordings(self) -> set[str]:
        """Return the recordings that have a fingerprint."""
        return {name for path in self._files() for name, _ in _rows(path, None)}

    def read(self, recordings: Collection[str]) -> dict[str, NDArray[np.uint32]]:
        """Return the fingerprints ``[n_words]`` of those recordings that have one."""
        rows = (row for path in self._files() for row in _rows(path, recordings))
        return {name: np.frombuffer(words, np.uint32) for name, words in rows}

    def add(self, words: Mapping[str, bytes]) -> None:
        """Write fingerprints, by recording.

        Raises
        ------
        StoreWriteError
        """
        import pyarrow as pa

        table = pa.table({"recording": pa.array(words, pa.string()), "words": pa.array(words.values(), pa.binary())})
        table = table.replace_schema_metadata({_VERSION_KEY: str(VERSION).encode()})
        with table_writer(self._folder / f"fingerprints-{uuid.uuid4().hex[:12]}.parquet", table.schema) as writer:
            writer.write_table(table, row_group_size=_GROUP_ROWS)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("fingerprints-*.parquet"))


def _rows(path: Path, recordings: Collection[str] | None) -> Iterator[tuple[str, bytes]]:
    """Yield the given recordings in a file with their fingerprints; for None, all recordings, with empty fingerprints.

    Stops where the file is damaged. Yields nothing if the file has another version.
    """
    import pyarrow.parquet as pq

    with (
        contextlib.suppress(StoreError),
        reading_parquet(path),
        pq.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        known = (file.schema_arrow.metadata or {}).get(_VERSION_KEY) == str(VERSION).encode()
        for group in range(file.num_row_groups if known else 0):
            raise_if_interrupted()
            names = file.read_row_group(group, ["recording"])["recording"].to_pylist()
            if recordings is None:
                yield from ((name, b"") for name in names)
            elif wanted := [row for row, name in enumerate(names) if name in recordings]:
                words = file.read_row_group(group, ["words"])["words"]
                yield from ((names[row], words[row].as_py()) for row in wanted)


def fingerprint_files(store: Store, files: Mapping[str, Path], jobs: int, progress: Progress) -> dict[str, str]:
    """Compute the fingerprints that are not in the cache.

    Parameters
    ----------
    store : Store
    files : mapping of str to pathlib.Path
        One file per recording.
    jobs : int
        Worker processes.
    progress : Progress

    Returns
    -------
    dict of str to str
        The reason for each recording without a fingerprint.
    """
    cache = FingerprintCache(store)
    known = cache.recordings()
    tasks = [_Task(path, recording) for recording, path in files.items() if recording not in known]
    if tasks:
        check_writable(cache._folder / "fingerprints", "--store")
    progress.start("fingerprinting", len(tasks))
    waiting: dict[str, bytes] = {}
    failures: dict[str, str] = {}
    written_at = time.monotonic()
    limits = workers.Limits(lambda task: default_timeout(task.path), _WORKER_MEMORY)
    try:
        with contextlib.closing(workers.run(_fingerprint, tasks, jobs, limits=limits)) as outcomes:
            for number, outcome in enumerate(outcomes, 1):
                found = outcome.reason if isinstance(outcome, workers.Crashed) else outcome.result
                recording = tasks[outcome.index].recording
                if isinstance(found, bytes):
                    waiting[recording] = found
                else:
                    failures[recording] = found
                progress.update(number, failed=len(failures))
                full = sum(map(len, waiting.values())) > _WRITE_BYTES
                if full or time.monotonic() - written_at > _WRITE_SECONDS:
                    _write(cache, waiting)
                    written_at = time.monotonic()
    finally:
        _write(cache, waiting)
    return failures


def _write(cache: FingerprintCache, waiting: dict[str, bytes]) -> None:
    if waiting:
        cache.add(waiting)
        waiting.clear()


def _fingerprint(task: _Task) -> bytes | str:
    """Return the fingerprint of a file, or the reason why there is none."""
    from mirembed.audio.decoding import FileAudio, read_recording
    from mirembed.datasets.duplicates import fingerprint

    def words(audio: FileAudio) -> bytes:
        rate = min(RATE, audio.rate)
        samples = np.concatenate(list(audio.blocks(None if rate == audio.rate else rate)))
        return fingerprint(samples, rate).tobytes()

    try:
        found, _ = read_recording(task.path, words)
        if file_hash(task.path) != task.recording:
            return "changed since the last update, or while it was read"
        return found
    except AudioError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except MemoryError:
        return "not enough memory to decode it"
    # A single file must not end the work on all others, whatever it makes a decoder do.
    except Exception as error:
        return f"cannot be read: {type(error).__name__}: {error}"
