"""A part of a file that decoders read like a file of its own, with some bytes corrected."""

from __future__ import annotations

import io
import os
from pathlib import Path

from mirembed.audio.headers import Part


class PartFile(io.RawIOBase):
    """The bytes of a part of a file, for `soundfile.SoundFile`.

    Parameters
    ----------
    path : pathlib.Path
    part : Part
    """

    def __init__(self, path: Path, part: Part) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._part, self._position = part, 0
        self._size = len(part.head) + part.end - part.start

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position within the part."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the position within the part."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer, and return the number of bytes."""
        head = self._part.head
        length = max(0, min(len(buffer), self._size - self._position))
        data = bytearray(head[self._position : self._position + length])
        self._file.seek(self._part.start + max(0, self._position - len(head)))
        data += self._file.read(length - len(data))
        for offset, patch in self._part.patches:
            at = offset - self._position
            first, last = max(0, at), min(len(data), at + len(patch))
            if first < last:
                data[first:last] = patch[first - at : last - at]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
