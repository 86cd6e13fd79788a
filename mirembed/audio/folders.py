"""The folders of a library: when each last changed, and which are mount points."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mirembed.audio.files import is_hidden_name
from mirembed.interruption import interruptible


class FolderState(NamedTuple):
    """The state of a folder at some moment.

    Attributes
    ----------
    mtime_ns : int
        Modification time in nanoseconds: when a name in it was last added, removed or changed.
    is_mount : bool
        Whether it is the mount point of a drive.
    """

    mtime_ns: int
    is_mount: bool


@interruptible()
def read_folders(root: Path) -> dict[str, FolderState]:
    """Return the state of a folder and of all folders in it, by path relative to ``root``, which itself is "".

    Hidden, unreadable and linked folders are skipped: a link leads out of ``root``, or to a folder that is found under
    its own name.
    """
    found: dict[str, FolderState] = {}
    pending = [(os.fspath(root), "", -1 if os.path.ismount(root) else os.stat(root).st_dev)]  # noqa: PTH116
    while pending:
        path, name, device_above = pending.pop()
        try:
            with os.scandir(path) as entries:
                status = os.stat(path)  # noqa: PTH116
                folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        found[name] = FolderState(status.st_mtime_ns, is_mount=status.st_dev != device_above)
        pending += [
            (entry.path, f"{name}/{entry.name}" if name else entry.name, status.st_dev)
            for entry in folders
            if not is_hidden_name(entry.name)
        ]
    return found


def changed_folders(root: Path, before: Iterable[tuple[bytes, int]]) -> list[str]:
    """Return the folders whose modification time has changed, or that are missing, without searching them.

    A new folder changes the folder that contains it.

    Parameters
    ----------
    root : pathlib.Path
    before : iterable of (bytes, int)
        Paths relative to ``root``, and modification times in nanoseconds.
    """
    top = os.fsencode(root) + b"/"
    return [os.fsdecode(name) for name, mtime_ns in before if _mtime(top + name) != mtime_ns]


def is_missing(folder: Path) -> bool:
    """Whether a folder is missing, unreadable, or empty like the mount point of a drive that is not connected."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def _mtime(folder: bytes) -> int:
    try:
        status = os.stat(folder)  # noqa: PTH116
    except OSError:
        return -1
    return status.st_mtime_ns if stat.S_ISDIR(status.st_mode) else -1
