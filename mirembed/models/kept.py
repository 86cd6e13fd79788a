"""Embeddings of files outside the store, kept until the command that computes them has finished.

They are in shards in the cache of the store, so that the same command does not decode these files again after it was
interrupted or killed.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import file_stamp
from mirembed.errors import StoreError, StoreWriteError
from mirembed.extract import ExtractedFile
from mirembed.interruption import RESUMES, STARTS_OVER, say_when_interrupted
from mirembed.store import Store
from mirembed.store.embeddings import vector_column, vectors
from mirembed.store.files import delete, read_table, write_table
from mirembed.store.recordings import absolute, real_path

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS = 256
SHARD_SECONDS = 15.0
"""A shard of embeddings is written when it has this many or is this old, so that a killed process loses little."""


@dataclass(frozen=True)
class KeptEmbedding:
    """The embedding of a file.

    Attributes
    ----------
    recording : str
    audio_hash : str or None
        Digest of the decoded samples.
    notes : str
        Warnings about the file.
    vector : ndarray [units], float32
    """

    recording: str
    audio_hash: str | None
    notes: str
    vector: NDArray[np.float32]


@contextlib.contextmanager
def keeping_embeddings(store: Store, digest: str | None) -> Iterator[KeptEmbeddings]:
    """Keep embeddings if the ``with`` block ends with an exception, such as ctrl-C; drop them if it ends without.

    Parameters
    ----------
    store : Store
        Need not exist, nor be writable: then nothing is kept, and what is said after ctrl-C says so.
    digest : str or None
        Of the network that makes the embeddings. None: it is not saved, and nothing is kept.
    """
    before = say_when_interrupted(STARTS_OVER if digest is None else RESUMES)
    kept = KeptEmbeddings(store, digest)
    try:
        yield kept
    except BrokenPipeError:  # the reader of the output has enough
        kept.remove()
        raise
    except BaseException:
        kept.write()
        raise
    kept.remove()
    say_when_interrupted(before)


class KeptEmbeddings:
    """The embeddings by one network that were kept; see `keeping_embeddings`.

    Parameters
    ----------
    store : Store
    digest : str or None
    """

    def __init__(self, store: Store, digest: str | None) -> None:
        self._store = store
        self._found: dict[tuple[str, int, int], tuple[KeptEmbedding, Path]] = {}
        self._used: set[tuple[str, int, int]] = set()
        self._shards: set[Path] = set()
        self._waiting: dict[tuple[str, int, int], KeptEmbedding] = {}
        self._written_at = time.monotonic()
        self._start = "" if digest is None else f"embedded-{digest.rpartition(':')[2][:16]}-"
        for shard in store.cache.glob(f"{self._start}*.parquet") if self._start else ():
            with contextlib.suppress(StoreError):
                self._read(shard)

    def of(self, path: Path) -> KeptEmbedding | None:
        """Return the embedding of a file, if it was kept and the file has not changed."""
        key = (absolute(path), *file_stamp(path)) if self._found else ("", -1, -1)
        if (found := self._found.get(key)) is None:
            return None
        self._used.add(key)
        return found[0]

    def add(self, path: Path, file: ExtractedFile, vector: NDArray[np.float32]) -> None:
        """Add the embedding of a file, and write a shard from time to time."""
        key = (absolute(path), file.file_size, file.file_mtime_ns)
        self._waiting[key] = KeptEmbedding(file.recording, file.audio_hash, "; ".join(file.notes), vector)
        if len(self._waiting) >= SHARD_ROWS or time.monotonic() - self._written_at > SHARD_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what has been added; if that is impossible, nothing more is kept."""
        waiting, self._waiting = self._waiting, {}
        self._written_at = time.monotonic()
        if not waiting or not self._start:
            return
        shard = self._store.cache / f"{self._start}{uuid.uuid4().hex[:8]}.parquet"
        try:
            write_table(shard, _table(waiting))
            self._shards.add(shard)
        except StoreWriteError:
            self._start = ""
            say_when_interrupted(STARTS_OVER)

    def remove(self) -> None:
        """Delete all shards but those with embeddings of other files, and the folders that are empty then."""
        waiting = {
            shard
            for key, (_, shard) in self._found.items()
            if key not in self._used and file_stamp(real_path(key[0])) == key[1:]
        }
        for shard in self._shards - waiting:
            with contextlib.suppress(StoreWriteError):
                delete(shard)
        if self._shards:
            with contextlib.suppress(OSError):
                self._store.cache.rmdir()
                self._store.root.rmdir()

    def _read(self, shard: Path) -> None:
        table = read_table(shard)
        keys = zip(*(table[name].to_pylist() for name in ("path", "file_size", "file_mtime_ns")), strict=True)
        facts = zip(*(table[name].to_pylist() for name in ("recording", "audio_hash", "notes")), strict=True)
        # A copy, because Arrow's memory is read-only and torch warns about that.
        for key, (recording, audio_hash, notes), vector in zip(keys, facts, np.array(vectors(table)), strict=True):
            self._found[key] = KeptEmbedding(recording, audio_hash, notes, vector), shard
        self._shards.add(shard)


def _table(rows: dict[tuple[str, int, int], KeptEmbedding]) -> pa.Table:
    import pyarrow as pa

    names, sizes, times = zip(*rows, strict=True)
    columns = {
        "path": pa.array(names, pa.string()),
        "file_size": pa.array(sizes, pa.int64()),
        "file_mtime_ns": pa.array(times, pa.int64()),
        **{
            name: pa.array([getattr(row, name) for row in rows.values()], pa.string())
            for name in ("recording", "audio_hash", "notes")
        },
        "vector": vector_column(np.array([row.vector for row in rows.values()])),
    }
    return pa.table(columns)
