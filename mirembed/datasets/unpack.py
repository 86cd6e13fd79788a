"""Unpacking archives that nobody vouches for."""

from __future__ import annotations

import contextlib
import filecmp
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from mirembed.datasets.fetch_files import CHUNK, MEGABYTE, disk_errors
from mirembed.errors import DatasetError
from mirembed.progress import Progress

# The members are read by the standard library but written here. extractall() has had its "data" filter since Python
# 3.11.4 only, and links have got round that filter more than once; here no link is ever made.

MAX_RATIO = 100
"""An archive may unpack to this many times its size ..."""
MIN_ALLOWANCE = 10_000_000
"""... or to this many bytes, if that is more: short texts compress well."""
MAX_MEMBERS = 250_000
MAX_DEPTH = 32
"""Folders within folders."""

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ZIP = (".zip",)
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    KeyError,  # a hard link to nothing
    ValueError,
    RuntimeError,  # encrypted, or an unknown compression
)


class _Member(NamedTuple):
    name: str
    is_folder: bool
    content: Iterator[bytes]


def unpack(archive: Path, name: str, folder: Path, max_bytes: float | None, progress: Progress) -> dict[str, int]:
    """Unpack a tar or zip archive; copy any other file.

    Everything is unpacked beside its place and then moved there, so that an interruption leaves no half file and no
    half folder. What exists already is never changed.

    Parameters
    ----------
    archive : pathlib.Path
    name : str
        What the file is called where it was published; it tells the format where ``archive`` has no telling suffix.
    folder : pathlib.Path
        Where the content goes.
    max_bytes : float or None
        How much may be unpacked; None: `MAX_RATIO` times the size of the archive.
    progress : Progress

    Returns
    -------
    dict of str to int
        The files, as paths relative to ``folder``, and their sizes in bytes.

    Raises
    ------
    DatasetError
        If the archive is damaged or would write outside of ``folder``, brings anything but files and folders, or is
        larger than allowed; or if other files are in its place. Nothing is unpacked then.
    StoreWriteError
        If the disk is full or the folder cannot be written.
    """
    size = archive.stat().st_size
    allowance = max(MAX_RATIO * size, MIN_ALLOWANCE) if max_bytes is None else max_bytes
    staging = folder / f".{name}.unpacking"
    try:
        with disk_errors(staging):
            shutil.rmtree(staging, ignore_errors=True)  # left by a killed process
            staging.mkdir(parents=True)
        with archive.open("rb") as raw:
            progress.start(f"unpacking {name} (MB)", size / MEGABYTE)
            staged = _Staging(archive, staging, allowance)
            for member in _members(archive, name, raw):
                staged.add(member)
                progress.update(raw.tell() / MEGABYTE)
        if not staged.files:
            raise DatasetError(f"{archive} holds no files; get another copy")
        _refuse_conflicts(staging, folder)
        with disk_errors(folder):
            _move_in(staging, folder)
        return staged.files
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def is_archive(name: str) -> bool:
    """Tell whether a file of this name is unpacked, and not taken as it is."""
    return name.lower().endswith(_TAR + _ZIP)


def _members(archive: Path, name: str, raw: IO[bytes]) -> Iterator[_Member]:
    telling = (archive.name if is_archive(archive.name) else name).lower()
    with _reading(archive):
        if telling.endswith(_TAR):
            yield from _tar_members(archive, raw)
        elif telling.endswith(_ZIP):
            yield from _zip_members(archive, raw)
        else:
            yield _Member(name, False, iter(partial(raw.read, CHUNK), b""))


def _tar_members(archive: Path, raw: IO[bytes]) -> Iterator[_Member]:
    with tarfile.open(fileobj=raw) as tar:
        for entry in tar:
            # The content of a hard link is that of the earlier member that it names: it becomes a copy.
            if not (entry.isreg() or entry.isdir() or entry.islnk()):
                kind = "symbolic link" if entry.issym() else "device or other special file"
                raise _unsafe(archive, f"{entry.name!r} is a {kind}")
            yield _Member(entry.name, entry.isdir(), _content(archive, partial(tar.extractfile, entry)))


def _zip_members(archive: Path, raw: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(raw) as bundle:
        for entry in bundle.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the archive was not made on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(archive, f"{entry.filename!r} is a {'symbolic link' if stat.S_ISLNK(kind) else 'device'}")
            yield _Member(entry.filename, entry.is_dir(), _content(archive, partial(bundle.open, entry)))


def _content(archive: Path, opening: Callable[[], IO[bytes] | None]) -> Iterator[bytes]:
    with _reading(archive):
        stream = opening()
        if stream is None:
            raise ValueError("a hard link names a folder")
        with stream:
            while chunk := stream.read(CHUNK):
                yield chunk


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn what the standard library raises about an archive into a `DatasetError` that names it."""
    try:
        yield
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"{archive} cannot be unpacked ({reason}); nothing was; get another copy, or unpack it yourself"
        ) from error


class _Staging:
    """A folder beside the place of the content, and what has been written into it.

    Attributes
    ----------
    files : dict of str to int
        Relative paths, and sizes in bytes.
    """

    def __init__(self, archive: Path, folder: Path, allowance: float) -> None:
        self.files: dict[str, int] = {}
        self._archive, self._folder, self._allowance = archive, folder, allowance
        self._members = self._bytes = 0

    def add(self, member: _Member) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise _unsafe(self._archive, f"it has more than {MAX_MEMBERS} members")
        path = _relative(member.name, self._archive)
        target = self._folder / path
        with disk_errors(target):
            try:
                (target if member.is_folder else target.parent).mkdir(parents=True, exist_ok=True)
                file = None if member.is_folder else target.open("xb")
            except (FileExistsError, NotADirectoryError):
                raise _unsafe(self._archive, f"it brings {member.name!r} twice") from None
            if file is not None:
                with file:
                    self.files[str(path)] = self._copy(member, file)

    def _copy(self, member: _Member, file: IO[bytes]) -> int:
        """Write the content of a member, counting what really comes: sizes in an archive may lie."""
        size = 0
        for chunk in member.content:
            size += len(chunk)
            if self._bytes + size > self._allowance:
                megabytes = f"{self._allowance / MEGABYTE:g} MB"
                raise _unsafe(self._archive, f"it unpacks to more than {megabytes}; if it should, give --max-size GB")
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        self._bytes += size
        return size


def _relative(name: str, archive: Path) -> PurePosixPath:
    """Return the path of a member, if it is one that stays below its folder wherever it is unpacked."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or re.match("[A-Za-z]:", name):
        raise _unsafe(archive, f"{name!r} may leave the folder")
    if re.search(r"[\x00-\x1f\ud800-\udfff]", name) or len(path.parts) > MAX_DEPTH:
        raise _unsafe(archive, f"{name[:200]!r} is no name for a file")
    return path


def _unsafe(archive: Path, reason: str) -> DatasetError:
    return DatasetError(f"{archive} is not safe to unpack, and nothing was unpacked: {reason}")


def _refuse_conflicts(staging: Path, folder: Path) -> None:
    conflicts = list(_conflicts(staging, folder))
    if conflicts:
        more = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
        raise DatasetError(
            f"{conflicts[0]}{more} would be overwritten with something else, and nothing was unpacked; "
            "move what is there away, or choose another folder with --audio"
        )


def _conflicts(source: Path, target: Path) -> Iterator[Path]:
    """Yield what is in the way: other content, a folder for a file, a file for a folder, a link for a folder."""
    for entry in sorted(source.iterdir()):
        there = target / entry.name
        if not os.path.lexists(there):
            continue
        if entry.is_dir() and there.is_dir() and not there.is_symlink():
            yield from _conflicts(entry, there)
        elif not (entry.is_file() and there.is_file() and filecmp.cmp(entry, there, shallow=False)):
            yield there


def _move_in(source: Path, target: Path) -> None:
    """Move what is not there yet, a whole folder where that is possible."""
    for entry in sorted(source.iterdir()):
        there = target / entry.name
        if not there.exists():
            entry.rename(there)
        elif entry.is_dir():
            _move_in(entry, there)
