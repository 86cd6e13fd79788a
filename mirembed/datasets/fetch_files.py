"""What downloading and unpacking share: checksums, and what to say when the disk refuses."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirembed.errors import DatasetError, SpecError, StoreWriteError
from mirembed.progress import Progress

CHUNK = 1 << 18
"""Bytes that are held in memory at a time."""
MEGABYTE = 1e6

_HEX_DIGITS = {"sha256": 64, "md5": 32}


@dataclass(frozen=True)
class Checksum:
    """A checksum, written ``sha256:...`` or ``md5:...``.

    Attributes
    ----------
    algorithm : str
        ``sha256`` or ``md5``.
    digest : str
        Hexadecimal digits, in lower case.
    """

    algorithm: str
    digest: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """Read a checksum.

        Raises
        ------
        SpecError
            If the text is no checksum.
        """
        algorithm, _, digest = text.strip().lower().partition(":")
        if len(digest) != _HEX_DIGITS.get(algorithm) or not re.fullmatch("[0-9a-f]+", digest):
            raise SpecError(
                f"{text!r} is not a checksum; write sha256: and 64 hexadecimal digits, or md5: and 32 of them"
            )
        return cls(algorithm, digest)

    def of(self, path: Path, progress: Progress) -> Checksum:
        """Return the checksum of a file, by the same algorithm.

        Raises
        ------
        DatasetError
            If the file cannot be read.
        """
        # MD5 is what some datasets were published with; it tells a damaged copy from a sound one.
        digest = hashlib.new(self.algorithm, usedforsecurity=False)
        try:
            progress.start(f"checking {path.name} (MB)", path.stat().st_size / MEGABYTE)
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    progress.update(file.tell() / MEGABYTE)
        except OSError as error:
            raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
        return Checksum(self.algorithm, digest.hexdigest())


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's error about writing ``path`` into a `StoreWriteError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "free some space and run the same command again: it goes on from there"
        else:
            advice = "check the folder, or choose another one with --audio"
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StoreWriteError(f"cannot write {path}: {reason}; {advice}") from error
