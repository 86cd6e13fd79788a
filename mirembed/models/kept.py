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
from mirembed.store.embeddings import vectors
from mirembed.store.files import delete, read_table, write_table
from mirembed.store.recordings import absolute

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS = 256
SHARD_SECONDS = 15.0
"""A shard is written when it has this many embeddings or is this old, so that a killed process loses little."""


@dataclass(frozen=True)
class KeptEmbedding:
    """The embedding of a file.

    Attributes
    ----------
    recording : str
    vector : ndarray [units], float32
    audio_hash : str or None
        Digest of the decoded samples.
    """

    recording: str
    vector: NDArray[np.float32]
    audio_hash: str | None


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
        self._used: set[Path] = set()
        self._waiting: dict[tuple[str, int, int], KeptEmbedding] = {}
        self._written_at = time.monotonic()
        self._start = "" if digest is None else f"embedded-{digest.rpartition(':')[2][:16]}-"
        for shard in store.cache.glob(f"{self._start}*.parquet") if self._start else ():
            with contextlib.suppress(StoreError):
                self._read(shard)

    def of(self, path: Path) -> KeptEmbedding | None:
        """Return the embedding of a file, if it was kept and the file has not changed."""
        if not self._found or (found := self._found.get((absolute(path), *file_stamp(path)))) is None:
            return None
        self._used.add(found[1])
        return found[0]

    def add(self, path: Path, file: ExtractedFile, vector: NDArray[np.float32]) -> None:
        """Add the embedding of a file, and write a shard from time to time."""
        key = (absolute(path), file.file_size, file.file_mtime_ns)
        self._waiting[key] = KeptEmbedding(file.recording, vector, file.audio_hash)
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
            self._used.add(shard)
        except StoreWriteError:
            self._start = ""
            say_when_interrupted(STARTS_OVER)

    def remove(self) -> None:
        """Delete the shards that this object has written or has used, and folders that are empty then."""
        for shard in self._used:
            with contextlib.suppress(StoreWriteError):
                delete(shard)
        if self._used:
            with contextlib.suppress(OSError):
                self._store.cache.rmdir()
                self._store.root.rmdir()
        self._used.clear()

    def _read(self, shard: Path) -> None:
        table = read_table(shard)
        keys = zip(*(table[name].to_pylist() for name in ("path", "file_size", "file_mtime_ns")), strict=True)
        # A copy, because Arrow's memory is read-only and torch warns about that.
        columns = table["recording"].to_pylist(), np.array(vectors(table)), table["audio_hash"].to_pylist()
        for key, embedding in zip(keys, map(KeptEmbedding, *columns), strict=True):
            self._found[key] = embedding, shard


def _table(rows: dict[tuple[str, int, int], KeptEmbedding]) -> pa.Table:
    import pyarrow as pa

    names, sizes, times = zip(*rows, strict=True)
    stacked = np.array([row.vector for row in rows.values()], np.float32)
    columns = {
        "path": pa.array(names, pa.string()),
        "file_size": pa.array(sizes, pa.int64()),
        "file_mtime_ns": pa.array(times, pa.int64()),
        "recording": pa.array([row.recording for row in rows.values()], pa.string()),
        "audio_hash": pa.array([row.audio_hash for row in rows.values()], pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(stacked.reshape(-1)), stacked.shape[1]),
    }
    return pa.table(columns)
