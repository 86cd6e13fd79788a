"""Recognize the files whose recordings a store has, so that they need not be decoded."""

from __future__ import annotations

import os
from pathlib import Path

from mirembed.audio.files import file_hash, file_stamp, printable
from mirembed.store.root import Store


def durations(store: Store) -> dict[str, float]:
    """Return the seconds of every recording that a store has frames of.

    Raises
    ------
    StoreError
        A shard is damaged.
    """
    found: dict[str, float] = {}
    for shards in store.all_features():
        if len(index := shards.index()):
            found |= dict(zip(index["recording"].to_pylist(), index["duration"].to_pylist(), strict=True))
    return found


def absolute(path: Path) -> str:
    """Return a path as tables hold it: absolute, and with bytes that are not UTF-8 escaped; links are not followed."""
    return printable(Path(os.path.abspath(path)))  # noqa: PTH100


class KnownRecordings:
    """The recordings that a store has frames or tracks of.

    Parameters
    ----------
    store : Store

    Raises
    ------
    StoreError
        A table is damaged.
    """

    def __init__(self, store: Store) -> None:
        self._by_stamp: dict[tuple[str, int, int], str] = {}
        self._sizes: dict[int, set[str]] = {}
        for dataset in store.datasets():
            for track in dataset.tracks():
                if track.recording is not None:
                    self._by_stamp[track.path, track.file_size, track.file_mtime_ns] = track.recording
                    self._sizes.setdefault(track.file_size, set()).add(track.recording)
        for shards in store.all_features():
            index = shards.index()
            for size, recording in zip(index["file_size"].to_pylist(), index["recording"].to_pylist(), strict=True):
                self._sizes.setdefault(size, set()).add(recording)

    def of(self, path: Path) -> str | None:
        """Return the recording of a file, or None if the store does not have it.

        A file is read only if its path or its modification time is new, and a recording of the same size is known.
        """
        size, mtime = file_stamp(path)
        known = self._by_stamp.get((absolute(path), size, mtime))
        if known is not None or size not in self._sizes:
            return known
        recording = file_hash(path)
        return recording if recording in self._sizes[size] else None
