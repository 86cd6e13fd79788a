"""Files whose bytes mirembed itself has changed: carry what the store has of their audio over to the new bytes.

A recording is the hash of a file's bytes. Without this, a file with new tags would be decoded again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mirembed.audio.file_tags import read_file_tags
from mirembed.library.fingerprints import FingerprintCache
from mirembed.store import Store
from mirembed.store.datasets import DatasetStore
from mirembed.store.embeddings import EmbeddingRows, RecordingFacts, StoredEmbeddings, vectors
from mirembed.store.features import FeatureShards
from mirembed.store.recordings import absolute
from mirembed.store.rows import RecordingRow, StoredFileTags, stored_file_tags

_HELD_BYTES = 64 * 2**20
"""Frames are held until they take this much memory, and then written as a shard."""


@dataclass(frozen=True)
class Rewritten:
    """A file with new bytes and the same audio.

    Attributes
    ----------
    path : pathlib.Path
    before, after : str
        The old and the new recording.
    size, mtime_ns : int
        Size and modification time of the file now.
    """

    path: Path
    before: str
    after: str
    size: int
    mtime_ns: int


@contextlib.contextmanager
def only_writer_of(store: Store) -> Iterator[None]:
    """Lock all datasets and embeddings of a store for writing.

    Raises
    ------
    StoreBusyError
        Another process is writing one of them.
    """
    with contextlib.ExitStack() as held:
        for dataset in store.datasets():
            held.enter_context(dataset.lock())
        for stored in _embeddings(store):
            held.enter_context(stored.lock())
        yield


def follow(store: Store, files: Sequence[Rewritten]) -> None:
    """Make the embeddings, frames, fingerprints, tracks and file tags of a store refer to the new bytes of files.

    Those of the old bytes stay, because another file may have them. Needs `only_writer_of`.

    Raises
    ------
    StoreError
        A table is damaged, or cannot be written.
    """
    if not files:
        return
    after = {file.before: file for file in files}
    # Tracks last: a track whose recording is not in the store would be decoded again.
    for stored in _embeddings(store):
        _follow_embeddings(stored, after)
    for shards in store.all_features():
        _follow_frames(shards, after)
    cache = FingerprintCache(store)
    if words := cache.read(after.keys()):
        cache.add({after[name].after: one.tobytes() for name, one in words.items()})
    for dataset in store.datasets():
        _follow_tracks(dataset, {(absolute(file.path), file.before): file for file in files})


def _embeddings(store: Store) -> list[StoredEmbeddings]:
    return [store.embeddings(folder.name) for folder in sorted(store.root.glob("embeddings/[!.]*")) if folder.is_dir()]


def _follow_embeddings(stored: StoredEmbeddings, after: Mapping[str, Rewritten]) -> None:
    if (digest := stored.digest()) is None:
        return
    table = stored.table(digest)
    recordings = table["recording"].to_pylist()
    rows = [row for row, name in enumerate(recordings) if name in after]
    if not rows:
        return
    in_sample, audio_hashes, durations = (
        [column[row] for row in rows]
        for column in (table[name].to_pylist() for name in ("in_sample", "audio_hash", "duration"))
    )
    files = [after[recordings[row]] for row in rows]
    facts = [
        RecordingFacts(audio_hash, duration, file.size)
        for audio_hash, duration, file in zip(audio_hashes, durations, files, strict=True)
    ]
    found = np.array(vectors(table)[rows])
    stored.append(digest, EmbeddingRows([file.after for file in files], found, in_sample, facts))
    stored.merge(digest)


def _follow_frames(shards: FeatureShards, after: Mapping[str, Rewritten]) -> None:
    names = ("audio_hash", "duration", "rate", "backend")
    with shards.adding():
        known = shards.columns(*names)
        # Restored bytes may have frames still.
        facts = {name: known[name] for name in known if name in after and after[name].after not in known}
        part, held, n_bytes = shards.part(), list[RecordingRow](), 0
        for name, frames in shards.frames_of(facts):
            audio_hash, duration, rate, backend = facts[name]
            held.append(
                RecordingRow(
                    recording=after[name].after,
                    audio_hash=audio_hash,
                    duration=duration,
                    rate=rate,
                    backend=backend,
                    file_size=after[name].size,
                    frames=frames,
                )
            )
            n_bytes += frames.nbytes
            if n_bytes >= _HELD_BYTES:
                shards.append(held, part)
                held, n_bytes = [], 0
        if held:
            shards.append(held, part)


def _follow_tracks(dataset: DatasetStore, files: Mapping[tuple[str, str], Rewritten]) -> None:
    changed: dict[str, Rewritten] = {}
    tracks = []
    for track in dataset.tracks():
        file = None if track.recording is None else files.get((track.path, track.recording))
        if file is not None:
            changed[track.id] = file
            track = replace(track, recording=file.after, file_size=file.size, file_mtime_ns=file.mtime_ns)
        tracks.append(track)
    if not changed:
        return
    dataset.write_tracks(tracks, dataset.info())
    rows = []
    for row in stored_file_tags(dataset.file_tags()):
        found = changed.get(row.id)
        if found is None:
            rows.append(row)
        else:
            rows.append(StoredFileTags(row.id, found.size, found.mtime_ns, read_file_tags(found.path)))
    if rows:
        dataset.write_file_tags(rows)
