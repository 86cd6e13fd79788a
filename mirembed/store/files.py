"""Read and write files that appear whole or not at all: JSON, Parquet, folders; locks; faults."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mirembed.errors import StoreBusyError, StoreError, StoreWriteError, SystemWarning
from mirembed.interruption import uninterruptible

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

TEMPORARY = ".tmp-"
"""Prefix of the names of folders for unfinished files; the host and the process follow."""

_ATTEMPTS = 5
"""Of `shared`, a tenth of a second apart, because `is_held` may lock the folder for a moment."""

_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK, errno.EBADF)
"""What file systems answer that have no locks, or that cannot sync folders."""


@contextlib.contextmanager
def writing(path: Path, *, replace_folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path``, a file or folder, when the block ends without an error.

    The content reaches the disk before the name does. Ctrl-C waits until the block ends.

    Parameters
    ----------
    path : pathlib.Path
    replace_folder : bool
        Whether a folder that is not empty is replaced, too; otherwise this is an error.

    Raises
    ------
    StoreWriteError
        The disk is full or the folder cannot be written; the message says which.
    """
    temporary = None
    with uninterruptible():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{platform.node()}-{os.getpid()}-", dir=path.parent))
            new = temporary / path.name
            yield new
            for entry in (new, *new.rglob("*")):
                sync(entry)
            if replace_folder and path.is_dir():
                path.replace(temporary / f"{TEMPORARY}replaced")  # deleted with what is temporary
            new.replace(path)
            sync(path.parent)
        except OSError as error:
            raise write_error(path, error) from error
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)


def write_error(path: Path, error: OSError, flags: str = "--store, --out") -> StoreWriteError:
    """Turn an operating system error into one that says what to do; ``flags`` name the options for another folder."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = f"choose another folder ({flags}), or ask for permission to write there"
    elif error.errno == errno.ENAMETOOLONG:
        advice = f"choose a shorter name ({flags})"
    else:
        advice = advice_on(error) or f"check the folder, or choose another one ({flags})"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StoreWriteError(f"cannot write {path}: {reason}; {advice}")


def advice_on(error: OSError) -> str:
    """Return what to do about a system that is out of space or open files; empty for any other error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space and run the same command again; the store is intact"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (ulimit -n), or use fewer --jobs"
    return ""


def check_output(path: Path, *, force: bool | None = False, flag: str = "--out") -> None:
    """Refuse a file to write, before any work is done, if it exists or its folder cannot be written.

    Parameters
    ----------
    path : pathlib.Path
    force : bool or None
        An existing file is to be replaced. None: this is never possible.
    flag : str
        The option that gives the path.

    Raises
    ------
    StoreWriteError
    """
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        status = None
    except OSError as error:
        raise write_error(path, error, flag) from error
    if status is not None and path.is_dir():
        raise StoreWriteError(f"{path} is a folder; give the name of a file in it")
    if status is not None and not force:
        replace = "" if force is None else ", or replace it with --force"
        raise StoreWriteError(f"{path} already exists; choose another name{replace}")
    if status is not None and not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise StoreWriteError(f"{path} is not a regular file; choose another name")
    if not path.parent.is_dir():
        what = "is not a folder" if path.parent.exists() else "does not exist"
        raise StoreWriteError(f"cannot write {path}: {path.parent} {what}; create the folder or choose another one")
    check_writable(path, flag)


def check_writable(path: Path, flag: str = "--out") -> None:
    """Refuse a path, before any work is done, if nothing can be written in the nearest folder above that exists.

    Raises
    ------
    StoreWriteError
    """
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # fails if the name is too long
        above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{platform.node()}-{os.getpid()}-", dir=above)).rmdir()
    except OSError as error:
        raise write_error(path, error, flag) from error


def remove_leftovers(folder: Path) -> None:
    """Delete the unfinished files of killed processes of this host from ``folder``."""
    for leftover in folder.glob(f"{TEMPORARY}{platform.node()}-*"):
        if not being_written(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


def being_written(temporary: Path) -> bool:
    """Whether the process that made a temporary folder may still exist; on another host it always may."""
    import psutil

    mine = f"{TEMPORARY}{platform.node()}-"
    process = temporary.name.removeprefix(mine).partition("-")[0]
    return not temporary.name.startswith(mine) or not process.isdigit() or psutil.pid_exists(int(process))


@contextlib.contextmanager
def locked(path: Path, *, exclusive: bool = True, wait: bool = False) -> Iterator[bool]:
    """Hold a lock on a file, which is made if it is missing; it ends with the process at the latest.

    Where the file system has no locks, a warning says so and the block runs as if it held one.

    Parameters
    ----------
    path : pathlib.Path
    exclusive : bool
        Whether no other process may hold the lock; otherwise several may hold it together.
    wait : bool
        Whether to wait for other processes.

    Yields
    ------
    bool
        False if another process holds the lock.

    Raises
    ------
    StoreWriteError
        The file cannot be written.
    """
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_ATTEMPTS):
                path.parent.mkdir(parents=True, exist_ok=True)
                file = opened.enter_context(path.open("ab"))
                held = lock(file, exclusive=exclusive, wait=wait)
                if not held or os.fstat(file.fileno()).st_nlink:  # otherwise it has just been deleted
                    break
        except OSError as error:
            raise write_error(path.parent, error) from error
        yield held


def lock(file: IO[bytes], *, exclusive: bool = True, wait: bool = False) -> bool:
    """Lock an open file until it is closed; return False if another process holds the lock. See `locked`.

    Raises
    ------
    OSError
    """
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        warnings.warn(
            f"the file system has no locks ({error.strerror}); do not let two commands write to the same folder at the "
            "same time",
            SystemWarning,
            stacklevel=1,
        )
    return True


@contextlib.contextmanager
def exclusive(folder: Path, busy: str) -> Iterator[None]:
    """Hold the exclusive right to write into ``folder``, which ends with the process at the latest.

    Raises
    ------
    StoreBusyError
        Another process holds it; the message is ``busy``.
    StoreWriteError
        The folder cannot be written.
    """
    with locked(folder / ".lock") as held:
        if not held:
            raise StoreBusyError(busy)
        yield


@contextlib.contextmanager
def shared(folder: Path, busy: str) -> Iterator[None]:
    """Hold the right to add files to ``folder`` beside other processes; no process has exclusive access meanwhile.

    Raises
    ------
    StoreBusyError
        Another process has the `exclusive` right; the message is ``busy``.
    StoreWriteError
        The folder cannot be written.
    """
    for attempt in range(_ATTEMPTS):
        with locked(folder / ".lock", exclusive=False) as held:
            if held:
                yield
                return
        time.sleep(0.1 * (attempt + 1 < _ATTEMPTS))
    raise StoreBusyError(busy)


def busy_message(folder: Path) -> str:
    """Return what a second process is told about a folder of the store that another one is writing to."""
    return f"another process is writing to {folder}; wait until it ends, or use another --store"


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the `exclusive` right to write into a folder of the store, without the leftovers of killed processes.

    Raises
    ------
    StoreBusyError
        Another process is writing.
    StoreWriteError
        The folder cannot be written.
    """
    with exclusive(folder, busy_message(folder)):
        remove_leftovers(folder)
        try:
            yield
        finally:
            remove_leftovers(folder)


def require_present(marker: Path) -> None:
    """Refuse to begin a second store under the mount point of a drive that held the first, whose ``marker`` is gone.

    Raises
    ------
    StoreWriteError
    """
    if not marker.exists():
        raise StoreWriteError(
            f"{marker.parent} vanished while it was being written; bring it back and run the same command again"
        )


def is_held(folder: Path) -> bool:
    """Whether a process writes into ``folder`` at this moment; see `exclusive` and `shared`."""
    try:
        with (folder / ".lock").open("r+b") as file:  # NFS refuses an exclusive lock of a file that is only read
            return not lock(file)
    except OSError:  # nobody has ever held it, or this user cannot
        return False


@uninterruptible()
def delete(path: Path) -> None:
    """Delete a file or folder, which is there as a whole or not at all; a missing one is no error.

    Raises
    ------
    StoreWriteError
        It must not be deleted.
    """
    remove_leftovers(path.parent)
    try:
        if path.is_dir() and not path.is_symlink():
            aside = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{platform.node()}-{os.getpid()}-", dir=path.parent))
            path.replace(aside / path.name)
            shutil.rmtree(aside)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def size_of(*paths: Path) -> int:
    """Return the bytes of files and of all files in folders; a file with several names counts once."""
    found: dict[tuple[int, int], int] = {}
    for path in paths:
        for entry in (path, *path.rglob("*")):
            with contextlib.suppress(OSError):  # it may vanish in the meantime
                status = entry.lstat()
                if not stat.S_ISDIR(status.st_mode):
                    found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as readable JSON."""
    with writing(path) as temporary:
        # The path of a folder need not be valid text.
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    StoreError
        The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(
            f"{path} is damaged: {error}; restore it, or delete it and repeat the command that wrote it"
        ) from error


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, compressed and with page checksums."""
    with table_writer(path, table.schema) as writer:
        writer.write_table(table)


@contextlib.contextmanager
def table_writer(
    path: Path, schema: pa.Schema, *, compression: str | dict[str, str] = "zstd", **encoding: Any
) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of a Parquet file that appears when the block ends without an error.

    It has page checksums.

    Parameters
    ----------
    path : pathlib.Path
    schema : pyarrow.Schema
    compression : str or dict of str to str
        Of all columns, or by column.
    encoding
        Further options of ``pyarrow.parquet.ParquetWriter``.
    """
    import pyarrow.parquet as pq

    with (
        writing(path) as temporary,
        temporary.open("wb") as file,
        pq.ParquetWriter(file, schema, compression=compression, write_page_checksum=True, **encoding) as writer,
    ):
        yield writer


@contextlib.contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Turn Arrow's errors about a damaged file into a `StoreError` that names it."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"{path} cannot be read ({reason}); "
            "delete it and repeat the command that wrote it, which restores its content"
        ) from error


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file, verifying its checksums.

    Raises
    ------
    StoreError
        It is missing, truncated or damaged.
    """
    import pyarrow.parquet as pq

    # A ParquetFile, not a dataset, which would read columns from the names of folders.
    with reading_parquet(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns=columns)


@dataclass(frozen=True)
class Fault:
    """Something wrong with a file or folder of a store, as ``mirembed store verify`` lists it.

    Attributes
    ----------
    path : str
    what, advice : str
        The problem, and what to do about it.
    """

    path: str
    what: str
    advice: str

    @classmethod
    def of(cls, path: Path, error: Exception | str, advice: str) -> Fault:
        """Turn an error into a fault, with other advice than the error's own."""
        what = str(error).partition("; ")[0].removeprefix(f"{path} ")
        return cls(str(path), what, advice)


def unreadable(path: Path, advice: str) -> list[Fault]:
    """Read a Parquet or JSON file; return a fault if it is missing or damaged, else nothing."""
    try:
        (read_json if path.suffix == ".json" else read_table)(path)
    except StoreError as error:
        return [Fault.of(path, error if path.exists() else "is missing", advice)]
    return []


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk.

    Where the file system cannot tell, a warning says so.

    Raises
    ------
    OSError
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (*_UNSUPPORTED, errno.EACCES):  # a folder may be writable, but not readable
            raise
        warnings.warn(
            f"the file system cannot sync {'a folder' if path.is_dir() else 'a file'} ({error.strerror}); if the "
            "computer crashes, what was written last may be lost",
            SystemWarning,
            stacklevel=1,
        )
