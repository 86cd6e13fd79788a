"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.errors import StoreBusyError, StoreError, StoreWriteError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

TEMPORARY = ".tmp-"
"""Prefix of what is being written; the host and the process that write it follow."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well.

    Works for files and folders. The content reaches the disk before the name does.

    Raises
    ------
    StoreWriteError
        If the disk is full or the folder cannot be written; the message says which.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{platform.node()}-{os.getpid()}-", dir=path.parent))
        yield temporary / path.name
        _sync(temporary / path.name)
        (temporary / path.name).replace(path)
        _sync_file(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_error(path: Path, error: OSError) -> StoreWriteError:
    """Turn an operating system's error into one that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = "free some space and run the same command again: what is in the store is kept"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "choose another place (--store, --out), or ask for permission to write there"
    else:
        advice = "check the folder, or choose another place (--store, --out)"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StoreWriteError(f"cannot write {path}: {reason}; {advice}")


def remove_leftovers(folder: Path) -> None:
    """Delete what processes of this host were writing into ``folder`` when they were killed."""
    for leftover in folder.glob(f"{TEMPORARY}{platform.node()}-*"):
        if not being_written(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


def being_written(temporary: Path) -> bool:
    """Return whether the process that made a temporary folder may still be there; of other hosts nothing is known."""
    mine = f"{TEMPORARY}{platform.node()}-"
    process = temporary.name.removeprefix(mine).partition("-")[0]
    return not temporary.name.startswith(mine) or not process.isdigit() or _is_running(int(process))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


@contextlib.contextmanager
def exclusive(folder: Path, busy: str) -> Iterator[None]:
    """Hold the only right to write into ``folder``; it ends with the process, however that ends.

    Raises
    ------
    StoreBusyError
        With the text ``busy``, if another process holds it.
    StoreWriteError
        If the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise StoreBusyError(busy) from None
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Return whether a process has the right of `exclusive` to ``folder`` at this moment."""
    import fcntl

    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody ever held it, or it may not be read
        return False
    return False


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
        If the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(
            f"{path} is damaged: {error}; restore it, or delete it and run the command that wrote it again"
        ) from error


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, compressed and with page checksums."""
    with table_writer(path, table.schema) as writer:
        writer.write_table(table)


@contextlib.contextmanager
def table_writer(path: Path, schema: pa.Schema, **encoding: Any) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of a Parquet file, compressed and with page checksums; it appears when the block ends well.

    Parameters
    ----------
    path : pathlib.Path
    schema : pyarrow.Schema
    encoding
        Further options of ``pyarrow.parquet.ParquetWriter``.
    """
    import pyarrow.parquet as pq

    with (
        writing(path) as temporary,
        temporary.open("wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True, **encoding) as writer,
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
            "delete it and run the command that wrote it again: what it held is made anew"
        ) from error


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file, checking its checksums.

    Raises
    ------
    StoreError
        If it is missing, truncated or damaged.
    """
    import pyarrow.parquet as pq

    # A ParquetFile and not a dataset: nothing is to be read from the names of folders.
    with reading_parquet(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns=columns)


def _sync(path: Path) -> None:
    for entry in [path, *path.rglob("*")] if path.is_dir() else [path]:
        _sync_file(entry)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
