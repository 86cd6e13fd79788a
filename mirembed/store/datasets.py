"""One dataset of a store: tracks and their file tags, official folds, failures, ``dataset.json``; no frames."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mirembed.audio.folders import FolderState
from mirembed.errors import StoreError
from mirembed.hookspecs import Split
from mirembed.store.files import only_writer, read_json, read_table, require_present, write_json, write_table
from mirembed.store.rows import (
    DatasetInfo,
    Failure,
    StoredFileTags,
    StoredTrack,
    file_tags_table,
    label_names,
    schemes_table,
    stored_schemes,
    stored_tracks,
    task_from_json,
    task_to_json,
    tracks_table,
)

if TYPE_CHECKING:
    import pyarrow as pa

INFO, TRACKS, FAILURES, SCHEMES = "dataset.json", "tracks.parquet", "failures.parquet", "schemes.parquet"
FILE_TAGS, FOLDERS = "file_tags.parquet", "folders.parquet"


class DatasetStore:
    """The tracks of one dataset.

    Parameters
    ----------
    folder : pathlib.Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._info, self._tracks, self._failures = (folder / name for name in (INFO, TRACKS, FAILURES))
        self._schemes = folder / SCHEMES
        self._file_tags, self._folders = folder / FILE_TAGS, folder / FOLDERS

    @property
    def exists(self) -> bool:
        """Whether the dataset has been extracted."""
        return self._info.exists()

    def lock(self) -> AbstractContextManager[None]:
        """Hold the exclusive right to write, which ends with the process at the latest.

        Raises
        ------
        StoreBusyError
            Another process holds it.
        """
        return only_writer(self.folder)

    def info(self) -> DatasetInfo:
        """Read ``dataset.json``.

        Raises
        ------
        StoreError
            It is missing or damaged.
        """
        content = read_json(self._info)
        try:
            task = None if content["task"] is None else task_from_json(content["task"])
            return DatasetInfo(**{**content, "task": task})
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{self._info} is damaged ({error}); delete it and run `mirembed extract` again with --dataset and "
                "--audio: nothing is decoded again"
            ) from error

    def write_info(self, info: DatasetInfo) -> None:
        """Write ``dataset.json``."""
        task = None if info.task is None else task_to_json(info.task)
        write_json(self._info, {**asdict(info), "task": task})

    def tracks(self) -> list[StoredTrack]:
        """Return the tracks, sorted by id.

        Raises
        ------
        StoreError
            The table is damaged, or has other label columns than ``dataset.json`` says.
        """
        if not self._tracks.exists():
            return []
        task, table = self.info().task, read_table(self._tracks)
        try:
            return stored_tracks(table, task)
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{self._tracks} does not have the labels {', '.join(label_names(task)) or '(none)'} of {INFO}; delete "
                "both and run `mirembed extract` again with --dataset and --audio: nothing is decoded again"
            ) from error

    def columns(self, *names: str) -> pa.Table:
        """Return columns of the table of tracks, sorted by id; no rows if there is no table.

        Raises
        ------
        StoreError
            The table is damaged, or lacks a column.
        """
        import pyarrow as pa

        if not self._tracks.exists():
            return pa.table({name: pa.nulls(0) for name in names})
        table = read_table(self._tracks, list(names))
        if absent := [name for name in names if name not in table.column_names]:
            raise StoreError(
                f"{self._tracks} does not have the column {absent[0]}; delete it and run `mirembed extract` again with "
                "--dataset and --audio: nothing is decoded again"
            )
        return table

    def paths(self) -> dict[str, str]:
        """Return the path of the file of each track, as `StoredTrack` has it, by id.

        Raises
        ------
        StoreError
            The table is damaged.
        """
        table = self.columns("id", "path")
        return dict(zip(table["id"].to_pylist(), table["path"].to_pylist(), strict=True))

    def n_listed(self) -> int:
        """Return the number of tracks that have a recording and are still listed."""
        return sum(track.listed and track.recording is not None for track in self.tracks())

    def write_tracks(self, tracks: Iterable[StoredTrack], info: DatasetInfo) -> None:
        """Replace the tracks.

        Raises
        ------
        StoreWriteError
            The table cannot be written, or the folder has vanished.
        """
        require_present(self._info)
        write_table(self._tracks, tracks_table(tracks, info.task))

    def schemes(self) -> dict[str, list[Split]]:
        """Return the official folds that came with the audio, by their names for ``--folds``.

        Raises
        ------
        StoreError
            The table is damaged.
        """
        return stored_schemes(read_table(self._schemes)) if self._schemes.exists() else {}

    def write_schemes(self, schemes: Mapping[str, Sequence[Split]]) -> None:
        """Replace the official folds that came with the audio.

        Raises
        ------
        StoreWriteError
            The table cannot be written, or the folder has vanished.
        """
        require_present(self._info)
        if schemes:
            write_table(self._schemes, schemes_table(schemes))
        else:
            self._schemes.unlink(missing_ok=True)

    def file_tags(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return what the files of the tracks say about themselves, sorted by id; see `StoredFileTags` for the columns.

        Parameters
        ----------
        columns : sequence of str, optional
            Those to read; default: all.

        Raises
        ------
        StoreError
            The table is damaged.
        """
        names = None if columns is None else list(columns)
        if not self._file_tags.exists():
            return file_tags_table([]) if names is None else file_tags_table([]).select(names)
        return read_table(self._file_tags, names)

    def write_file_tags(self, rows: Iterable[StoredFileTags]) -> None:
        """Replace the file tags, unless they are there already.

        Raises
        ------
        StoreWriteError
            The table cannot be written, or the folder has vanished.
        """
        require_present(self._info)
        table = file_tags_table(rows)
        with contextlib.suppress(StoreError):
            if self._file_tags.exists() and self.file_tags().equals(table):
                return
        write_table(self._file_tags, table)

    def folders(self) -> dict[str, FolderState]:
        """Return the folders of the audio as they were when the dataset was last listed, by path relative to it.

        None if they are not known.

        Raises
        ------
        StoreError
            The table is damaged.
        """
        if not self._folders.exists():
            return {}
        names, *states = read_table(self._folders, ["path", "mtime_ns", "is_mount"]).to_pydict().values()
        return dict(zip(map(os.fsdecode, names), map(FolderState, *states), strict=True))

    def folder_times(self) -> list[tuple[bytes, int]]:
        """Return the paths of the folders of the audio, as bytes, and their modification times; see `folders`."""
        if not self._folders.exists():
            return []
        return list(zip(*read_table(self._folders, ["path", "mtime_ns"]).to_pydict().values(), strict=True))

    def write_folders(self, folders: Mapping[str, FolderState]) -> None:
        """Replace the folders of the audio, by path relative to it.

        Raises
        ------
        StoreWriteError
            The table cannot be written, or the folder has vanished.
        """
        import pyarrow as pa

        require_present(self._info)
        columns = {
            # Bytes, as the names of folders need not be text.
            "path": pa.array([os.fsencode(name) for name in folders], pa.binary()),
            "mtime_ns": pa.array([state.mtime_ns for state in folders.values()], pa.int64()),
            "is_mount": pa.array([state.is_mount for state in folders.values()], pa.bool_()),
        }
        write_table(self._folders, pa.table(columns))

    def failures(self) -> list[Failure]:
        """Return the files that failed."""
        return [Failure(**row) for row in read_table(self._failures).to_pylist()] if self._failures.exists() else []

    def write_failures(self, failures: Iterable[Failure]) -> None:
        """Replace the table of failures.

        Raises
        ------
        StoreWriteError
            The table cannot be written, or the folder has vanished.
        """
        import pyarrow as pa

        require_present(self._info)
        texts = [(name, pa.string()) for name in ("id", "path", "features", "reason", "retry")]
        numbers = [(name, pa.int64()) for name in ("file_size", "file_mtime_ns")]
        schema = pa.schema([*texts, *numbers, ("reported", pa.bool_()), ("accepted", pa.bool_())])
        write_table(self._failures, pa.Table.from_pylist([asdict(failure) for failure in failures], schema=schema))
