"""The undo file of ``mirembed tag``: JSON Lines that say how to restore each file, written before the file is changed.

The first line identifies the format. Each other line has the path of a file, its hashes before and after, the old and
new values of the fields, and how to assemble the old bytes from those of the new file and the few that are lost.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mirembed.errors import MirembedError
from mirembed.store.files import sync, write_error

FORMAT = 1

_BLOCK = 4096
_COPIED = 2**20
"""Bytes to copy at a time."""

_MAX_LOST = 2**20
"""Bytes. If a file loses more, like an Ogg file whose pages are renumbered, only the old values are kept."""

Piece: TypeAlias = tuple[int, int] | str
"""Offset and length in the new file, or bytes in base64."""


@dataclass(frozen=True)
class Undo:
    """How to restore one file.

    Attributes
    ----------
    path : str
        Absolute; bytes that are not UTF-8 are escaped as `os.fsdecode` does.
    before, after : str
        Hashes of the bytes, that is, the recordings.
    old, new : mapping of str to sequence of str
        Values of each field; empty if the file does not have it.
    pieces : sequence or None
        Pieces of the old bytes, in order; None if only the values are kept.
    """

    path: str
    before: str
    after: str
    old: Mapping[str, Sequence[str]]
    new: Mapping[str, Sequence[str]]
    pieces: Sequence[Piece] | None


@contextlib.contextmanager
def undo_log(path: Path, command: str) -> Iterator[UndoLog]:
    """Yield a new undo file; it is deleted in the end if nothing was added.

    Raises
    ------
    StoreWriteError
        It exists, or cannot be written.
    """
    log = UndoLog(path, command)
    try:
        yield log
    finally:
        log.close()


class UndoLog:
    """An undo file that is being written: see `undo_log`."""

    def __init__(self, path: Path, command: str) -> None:
        self.path, self._n = path, 0
        try:
            self._file = path.open("x", encoding="ascii")
        except OSError as error:
            raise write_error(path, error, "--undo-file") from error
        try:
            self._write({"format": f"mirembed tag undo {FORMAT}", "command": command})
            sync(path.absolute().parent)
        except OSError as error:
            self.close()
            raise write_error(path, error, "--undo-file") from error

    def add(self, undo: Undo) -> None:
        """Write how to restore a file; the line is on the disk when this returns.

        Raises
        ------
        StoreWriteError
        """
        try:
            self._write(vars(undo))
        except OSError as error:
            # Without a cause, which would be taken for an error of the file that is rewritten.
            raise write_error(self.path, error, "--undo-file") from None
        self._n += 1

    def _write(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, and delete it if it restores nothing."""
        with contextlib.suppress(OSError):  # on a full disk, what could not be written fails once more
            self._file.close()
        if self._n == 0:
            self.path.unlink(missing_ok=True)


def read_undo(path: Path) -> list[Undo]:
    """Read an undo file, in the order in which it was written.

    An incomplete last line is left out, because its file has not been changed.

    Raises
    ------
    MirembedError
        The file cannot be read, or is not an undo file.
    """
    try:
        lines = path.read_text(encoding="ascii").split("\n")
    except OSError as error:
        raise MirembedError(
            f"cannot read {path}: {error.strerror}; expected the undo file that `mirembed tag --write` named"
        ) from error
    except ValueError:
        lines = [""]
    try:
        is_undo = json.loads(lines[0])["format"] == f"mirembed tag undo {FORMAT}"
    except (ValueError, KeyError, TypeError):
        is_undo = False
    if not is_undo:
        raise MirembedError(f"{path} is not an undo file; expected one written by `mirembed tag --write`")
    found = []
    for number, line in enumerate(lines[1:-1], 2):
        try:
            found.append(_checked(Undo(**json.loads(line))))
        except (ValueError, TypeError) as error:
            raise MirembedError(f"{path} is damaged on line {number}; restore it from a backup") from error
    return found


def _checked(undo: Undo) -> Undo:
    """Refuse values of other types than those that `Undo` names: people edit files.

    Raises
    ------
    TypeError, ValueError
    """
    lists: list[Any] = []
    for values in (undo.old, undo.new):
        if not isinstance(values, dict):
            raise TypeError("no values of fields")
        lists += values.values()
    texts = [undo.path, undo.before, undo.after, *(text for one in lists for text in one)]
    if not (all(isinstance(one, list) for one in lists) and all(isinstance(text, str) for text in texts)):
        raise TypeError("a value is not text")
    if not Path(undo.path).is_absolute() or "\0" in undo.path or undo.old.keys() != undo.new.keys():
        raise ValueError("no path, or other fields before than after")
    for piece in undo.pieces or ():
        if isinstance(piece, str):
            base64.b64decode(piece, validate=True)
        elif len(piece) != 2 or not all(type(number) is int and number >= 0 for number in piece):
            raise ValueError("no piece of a file")
    return undo


def difference(old: Path, new: Path) -> list[Piece] | None:
    """Return how to assemble the bytes of ``old`` from those of ``new``; None if too many are lost.

    Writing tags changes a few bytes in place, and inserts or removes some at one place. All other bytes are at the same
    distance from the beginning or from the end.
    """
    shift = new.stat().st_size - old.stat().st_size
    pieces: list[Piece] = []
    lost, n_lost = bytearray(), 0
    with old.open("rb") as one, new.open("rb") as other:
        offset = 0
        while block := one.read(_BLOCK):
            places = (at for at in (offset, offset + shift) if at >= 0 and _at(other, at, len(block)) == block)
            place = next(places, None)
            if place is None:
                lost += block
                n_lost += len(block)
                if n_lost > _MAX_LOST:
                    return None
            else:
                if lost:
                    pieces.append(base64.b64encode(lost).decode())
                    lost.clear()
                last = pieces[-1] if pieces else ""
                if isinstance(last, tuple) and sum(last) == place:
                    pieces[-1] = last[0], last[1] + len(block)
                else:
                    pieces.append((place, len(block)))
            offset += len(block)
    if lost:
        pieces.append(base64.b64encode(lost).decode())
    return pieces


def restore(new: Path, pieces: Sequence[Piece], target: Path) -> str:
    """Write the old bytes to a file; return their hash, as computed by `mirembed.audio.files.file_hash`."""
    digest = hashlib.blake2b(digest_size=16)
    with new.open("rb") as source, target.open("wb") as file:
        for piece in pieces:
            if isinstance(piece, str):
                blocks: Iterable[bytes] = [base64.b64decode(piece)]
            else:
                start, end = piece[0], sum(piece)
                blocks = (_at(source, at, min(_COPIED, end - at)) for at in range(start, end, _COPIED))
            for block in blocks:
                digest.update(block)
                file.write(block)
    return digest.hexdigest()


def _at(file: Any, offset: int, size: int) -> bytes:
    file.seek(offset)
    return bytes(file.read(size))
