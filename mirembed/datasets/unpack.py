"""Unpack archives from untrusted sources."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from mirembed.datasets.download import CHUNK, MEGABYTE, disk_errors
from mirembed.errors import DatasetError
from mirembed.interruption import interruptible, raise_if_interrupted
from mirembed.progress import Progress, counted, first_names

# The standard library only reads the members here. Its extract() creates links, which have bypassed the "data" filter
# more than once, strips what should be refused, trusts the sizes that an archive states, and raises the same OSError
# for a damaged archive and for a full disk.

MAX_RATIO = 100
"""Largest size of an archive's content, relative to the archive."""
MIN_ALLOWANCE = 10_000_000
"""This many bytes are allowed in any case, because short texts compress well."""
MAX_MEMBERS = 250_000
MAX_DEPTH = 32
"""Deepest nesting of folders."""

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ZIP = (".zip",)


def unpack(archive: Path, name: str, folder: Path, max_bytes: float | None, progress: Progress) -> dict[str, int]:
    """Unpack a tar or zip archive into a folder; copy any other file there.

    Everything is unpacked next to its final location and then moved there, so that an interruption leaves no partial
    files. Existing files are never changed.

    Parameters
    ----------
    archive : pathlib.Path
    name : str
        The file name under which the archive was published; it decides the format if that of ``archive`` does not.
    folder : pathlib.Path
        Where the content goes.
    max_bytes : float or None
        Largest size of the content. None: `MAX_RATIO` times the size of the archive.
    progress : Progress

    Returns
    -------
    dict of str to int
        Sizes in bytes of the files, by path relative to ``folder``.

    Raises
    ------
    DatasetError
        If the archive is damaged, would write outside of ``folder``, contains anything but files and folders or is
        too large, or if a different file exists already. Nothing is unpacked then.
    StoreWriteError
        If the disk is full or the folder is not writable.
    """
    size = archive.stat().st_size
    allowance = max(MAX_RATIO * size, MIN_ALLOWANCE) if max_bytes is None else max_bytes
    staging = folder / f".{name}.unpacking"
    try:
        with disk_errors(staging):
            shutil.rmtree(staging, ignore_errors=True)  # left by a killed process
            staging.mkdir(parents=True)
        progress.start(f"unpacking {name} (MB)", size / MEGABYTE)
        files = _unpack_to(staging, archive, name, allowance, progress)
        if not files:
            raise DatasetError(f"{archive} contains no files; get another copy")
        with interruptible():
            conflicts = list(map(str, _conflicts(staging, folder)))
        if conflicts:
            raise DatasetError(
                f"{first_names(conflicts, 1)} would be overwritten with different content; nothing was unpacked\n"
                "move what is there out of the way, or choose another folder with --audio"
            )
        with disk_errors(folder):
            _move_in(staging, folder)
        return files
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked rather than copied."""
    return name.lower().endswith(_TAR + _ZIP)


def _unpack_to(folder: Path, archive: Path, name: str, allowance: float, progress: Progress) -> dict[str, int]:
    """Write the members of an archive into an empty folder, and return their sizes by relative path."""
    files: dict[str, int] = {}
    unpacked = 0
    with archive.open("rb") as raw:
        for number, (member, is_folder, content) in enumerate(_members(archive, name, raw), 1):
            if number > MAX_MEMBERS:
                raise _refusal(archive, f"it has more than {counted(MAX_MEMBERS, 'member')}")
            path = _safe_path(archive, member)
            target = folder / path
            with disk_errors(target):
                try:
                    (target if is_folder else target.parent).mkdir(parents=True, exist_ok=True)
                    file = None if is_folder else target.open("xb")
                except (FileExistsError, NotADirectoryError):
                    raise _refusal(archive, f"it contains {member!r} twice") from None
                if file is None:
                    continue
                with file:
                    for chunk in content:
                        raise_if_interrupted()
                        unpacked += len(chunk)  # what really comes, since an archive may state wrong sizes
                        if unpacked > allowance:
                            limit = f"{allowance / MEGABYTE:g} MB"
                            raise _refusal(
                                archive, f"it unpacks to more than {limit}; if that is right, give --max-size GB"
                            )
                        file.write(chunk)
                    files[str(path)] = file.tell()
                    file.flush()
                    os.fsync(file.fileno())
            progress.update(raw.tell() / MEGABYTE)
    return files


def _members(archive: Path, name: str, raw: IO[bytes]) -> Iterator[tuple[str, bool, Iterator[bytes]]]:
    """Yield the name of each member, whether it is a folder, and its content."""
    decisive = (archive.name if is_archive(archive.name) else name).lower()
    with _reading(archive):
        if decisive.endswith(_TAR):
            with tarfile.open(fileobj=raw) as tar:
                for entry in tar:
                    # A hard link has the content of the earlier member that it names: it becomes a copy.
                    if not (entry.isreg() or entry.isdir() or entry.islnk()):
                        raise _special(archive, entry.name, entry.issym())
                    yield entry.name, entry.isdir(), _content(archive, partial(tar.extractfile, entry))
        elif decisive.endswith(_ZIP):
            with zipfile.ZipFile(raw) as bundle:
                for info in bundle.infolist():
                    mode = stat.S_IFMT(info.external_attr >> 16)  # 0 if the archive was not made on Unix
                    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                        raise _special(archive, info.filename, stat.S_ISLNK(mode))
                    yield info.filename, info.is_dir(), _content(archive, partial(bundle.open, info))
        else:
            yield name, False, iter(partial(raw.read, CHUNK), b"")


def _content(archive: Path, open_member: Callable[[], IO[bytes] | None]) -> Iterator[bytes]:
    with _reading(archive):
        stream = open_member()
        if stream is None:
            raise ValueError("a hard link to a folder")
        with stream:
            yield from iter(partial(stream.read, CHUNK), b"")


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn whatever the standard library raises about an archive into a `DatasetError` that names it."""
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(f"cannot unpack {archive}: {reason}; get another copy, or unpack it yourself") from error


def _safe_path(archive: Path, name: str) -> PurePosixPath:
    """Return the path of a member if it stays inside its folder on any system."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or re.match("[A-Za-z]:", name):
        raise _refusal(archive, f"{name!r} may be outside of its folder")
    if re.search(r"[\x00-\x1f\ud800-\udfff]", name) or len(path.parts) > MAX_DEPTH:
        raise _refusal(archive, f"{name[:200]!r} is not a valid file name")
    return path


def _special(archive: Path, name: str, is_link: bool) -> DatasetError:
    return _refusal(archive, f"{name!r} is a {'symbolic link' if is_link else 'device or other special file'}")


def _refusal(archive: Path, reason: str) -> DatasetError:
    return DatasetError(f"{archive} is not safe to unpack, and nothing was unpacked: {reason}")


def _conflicts(source: Path, target: Path) -> Iterator[Path]:
    """Yield existing paths that are in the way: files with other content, or anything of another type."""
    for entry in sorted(source.iterdir()):
        existing = target / entry.name
        if not os.path.lexists(existing):
            continue
        if entry.is_dir() and existing.is_dir() and not existing.is_symlink():
            yield from _conflicts(entry, existing)
        elif not (entry.is_file() and existing.is_file() and filecmp.cmp(entry, existing, shallow=False)):
            yield existing


def _move_in(source: Path, target: Path) -> None:
    """Move what does not exist yet, whole folders where possible."""
    for entry in sorted(source.iterdir()):
        existing = target / entry.name
        if not existing.exists():
            entry.rename(existing)
        elif entry.is_dir():
            _move_in(entry, existing)
