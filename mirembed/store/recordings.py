"""Recognize the files whose recordings a store has, so that they need not be decoded."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from mirembed.audio.files import file_hash, file_stamp, printable
from mirembed.errors import StoreError
from mirembed.features.info import FeaturesPart
from mirembed.store.embeddings import RecordingFacts
from mirembed.store.root import Store

_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f])")
"""A byte of a file name that is not UTF-8, as `mirembed.audio.files.printable` writes it."""


def durations(store: Store) -> dict[str, float]:
    """Return the duration, in seconds, of every recording for which a store has frames or embeddings.

    Raises
    ------
    StoreError
        A shard or a table of embeddings is damaged.
    """
    found: dict[str, float] = {}
    for stored in store.all_embeddings():
        table = stored.table(stored.digest() or "", ["duration"])
        pairs = zip(table["recording"].to_pylist(), table["duration"].to_pylist(), strict=True)
        found |= {name: seconds for name, seconds in pairs if seconds is not None}
    for shards in store.all_features():
        for name, (seconds,) in shards.columns("duration").items():
            found[name] = max(seconds, found.get(name, 0.0))  # 0 where the features did not need the audio
    return found


def facts_of_frames(store: Store, parts: Sequence[FeaturesPart]) -> dict[str, RecordingFacts]:
    """Return the recordings for which a store has all of some features, with what is known about them.

    Raises
    ------
    StoreError
        A shard is damaged.
    """
    shards = [store.features(part) for part in parts]
    if not all(one.exists for one in shards):
        return {}
    first, *others = (one.columns("audio_hash", "duration", "file_size") for one in shards)
    return {
        recording: RecordingFacts(audio_hash, seconds or None, size)
        for recording, (audio_hash, seconds, size) in first.items()
        if all(recording in one for one in others)
    }


def absolute(path: Path) -> str:
    """Return a path as tables hold it: absolute, and with bytes that are not UTF-8 escaped; links are not followed."""
    return printable(os.path.abspath(path))  # noqa: PTH100


def real_path(text: str) -> Path:
    r"""Return the path that `absolute` or `mirembed.audio.files.printable` turned into text.

    A name may contain ``\xe9`` as such: if there is a file with that name, it is the one.
    """
    path = Path(text)
    if _ESCAPED.search(text) is None or os.path.lexists(text):
        return path
    return Path(os.fsdecode(_ESCAPED.sub(_byte, text).encode("utf-8", "surrogateescape")))


def _byte(found: re.Match[str]) -> str:
    return chr(0xDC00 + int(found[1], 16))


class KnownRecordings:
    """The recordings for which a store has frames, embeddings or tracks.

    Parameters
    ----------
    store : Store
        What is damaged in it is left out.
    """

    def __init__(self, store: Store) -> None:
        self._by_stamp: dict[tuple[str, int, int], str] = {}
        self._by_size: dict[int, set[str]] = {}
        for dataset in store.datasets():
            with contextlib.suppress(StoreError):
                columns = dataset.columns("recording", "path", "file_size", "file_mtime_ns").to_pydict()
                for recording, path, size, mtime in zip(*columns.values(), strict=True):
                    if recording is not None:
                        self._by_stamp[path, size, mtime] = recording
                        self._by_size.setdefault(size, set()).add(recording)
        for shards in store.all_features():
            with contextlib.suppress(StoreError):
                for name, (size,) in shards.columns("file_size").items():
                    self._by_size.setdefault(size, set()).add(name)

        for stored in store.all_embeddings():
            with contextlib.suppress(StoreError):
                table = stored.table(stored.digest() or "", ["file_size"])
                for name, size in zip(table["recording"].to_pylist(), table["file_size"].to_pylist(), strict=True):
                    if size is not None:
                        self._by_size.setdefault(size, set()).add(name)

    def of(self, path: Path) -> str | None:
        """Return the recording of a file, or None if the store does not have it."""
        stamp = file_stamp(path)
        return self.by_stamp(path, stamp) or (self.by_content(path, stamp) if self.has_size(stamp) else None)

    def by_stamp(self, path: Path, stamp: tuple[int, int]) -> str | None:
        """Return the recording that a dataset found in a file of this path, size and modification time."""
        return self._by_stamp.get((absolute(path), *stamp))

    def has_size(self, stamp: tuple[int, int]) -> bool:
        """Whether a recording has the size of a file, so that it is worth reading."""
        return stamp[0] in self._by_size

    def by_content(self, path: Path, stamp: tuple[int, int]) -> str | None:
        """Return the recording with the bytes of a file, which is read."""
        recording = file_hash(path)
        return recording if recording in self._by_size.get(stamp[0], ()) else None
