"""The file tags of audio files: those that a dataset of the store knows are not read again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from mirembed.audio.file_tags import FileTags, read_file_tags
from mirembed.audio.files import file_stamp
from mirembed.errors import StoreError
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.store.datasets import DatasetStore
from mirembed.store.recordings import absolute
from mirembed.store.root import Store
from mirembed.store.rows import StoredFileTags, stored_file_tags

READ_QUIETLY = 1000
"""Files whose tags are read so fast that it is not worth a message."""


class KnownFileTags:
    """A function that returns the file tags of an audio file.

    It answers from the tables of the store if a dataset has a file of this path, size and modification time. Each other
    file is read once, and each file is looked at once: one that changes later is found by the next command.

    Parameters
    ----------
    store : Store
        What is damaged in it is read again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: dict[str, tuple[str, int, int]] = {}

    def __call__(self, path: Path) -> FileTags:
        """Return the file tags of a file; empty if it cannot be read."""
        return self._of(path, self.key(path))

    def key(self, path: Path) -> tuple[str, int, int]:
        """Return the absolute path, size and modification time of a file, as they were when it was first asked for."""
        name = os.fspath(path)
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = (absolute(path), *file_stamp(path))
        return key

    def are_in(self, dataset: DatasetStore, paths: Mapping[str, Path]) -> bool:
        """Whether a dataset has the file tags of these tracks, whose paths are given by id, and of no others."""
        if not dataset.exists:
            return False
        with contextlib.suppress(StoreError, KeyError):
            names = dataset.paths()
            rows = zip(*dataset.file_tags(["id", "file_size", "file_mtime_ns"]).to_pydict().values(), strict=True)
            stored = {track: (names.get(track), size, mtime) for track, size, mtime in rows}
            return stored == {track: self.key(path) for track, path in paths.items()}
        return False

    def of_tracks(self, paths: Mapping[str, Path], progress: Progress = NO_PROGRESS) -> list[StoredFileTags]:
        """Return the file tags of tracks, whose paths are given by id."""
        keys = {track: self.key(path) for track, path in paths.items()}
        unread = sum(key not in self._known for key in keys.values())
        if unread < READ_QUIETLY:
            progress = NO_PROGRESS
        progress.start("reading file tags", unread)
        rows, n_read = [], 0
        for track, key in keys.items():
            n_read += key not in self._known
            rows.append(StoredFileTags(track, *key[1:], self._of(paths[track], key)))
            progress.update(n_read)
        return rows

    def _of(self, path: Path, key: tuple[str, int, int]) -> FileTags:
        if key not in self._known:
            self._known[key] = read_file_tags(path)
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[str, int, int], FileTags]:
        """By absolute path, size and modification time."""
        known = {}
        for dataset in self._store.datasets():
            with contextlib.suppress(StoreError, KeyError):
                paths = dataset.paths()
                for row in stored_file_tags(dataset.file_tags()):
                    if (path := paths.get(row.id)) is not None:
                        known[path, row.file_size, row.file_mtime_ns] = row.tags
        return known
