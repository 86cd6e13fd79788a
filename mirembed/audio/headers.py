"""The length that a file states in its header, independent of any decoder."""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

PADDING = 0.25
"""Seconds by which the decoded and the stated length may differ: encoders add some before and after the music."""

_UNKNOWN = 2**31 - 2**16
"""Bytes. A program that writes a WAV to a pipe does not know its size yet and states 2 or 4 GiB."""

_PCM = (1, 3, 0xFFFE)
"""WAV format tags whose bytes per second follow from the other fields: integer, float, extensible."""

_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
"""Bytes per sample, by the encoding in the header of an AU file."""


@dataclass(frozen=True)
class Header:
    """The length of a file according to its own header.

    Attributes
    ----------
    stated : float
        Length in seconds; 0 if none is stated.
    by_size : float
        MPEG only, otherwise 0: length in seconds of all the file's bytes at the bit rate of its header or, without
        one, of its first frame.
    cut : bool
        Whether the end of the file is missing, as far as the format shows it.
    """

    stated: float = 0.0
    by_size: float = 0.0
    cut: bool = False


def read_header(path: Path) -> Header:
    """Read the header of a file; one that cannot be read states no length."""
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] in (b"RIFF", b"RF64") and start[8:] == b"WAVE":
            return Header(_wave_seconds(file))
        if start[:4] == b".snd":
            return Header(_au_seconds(start + file.read(12)))
        if start[:4] == b"OggS":
            return Header(cut=not _has_last_page(file))
    return _by_mutagen(path)


def _by_mutagen(path: Path) -> Header:
    import mutagen
    from mutagen.aac import AACInfo
    from mutagen.ac3 import AC3Info
    from mutagen.mp3 import BitrateMode, MPEGInfo

    info: Any = None
    # Damaged tags make mutagen raise almost anything. The sound may be fine: only the stated length is lost.
    with contextlib.suppress(Exception):
        info = getattr(mutagen.File(os.fsencode(path)), "info", None)
    match info:
        # No length, or an estimate from the file's size.
        case None | AACInfo() | AC3Info():
            return Header()
        case MPEGInfo():
            stated = 0.0 if info.bitrate_mode is BitrateMode.UNKNOWN else info.length
            return Header(stated, 8 * (path.stat().st_size - info.frame_offset) / (info.bitrate or 1))
    return Header(getattr(info, "length", 0.0))


def _wave_seconds(file: IO[bytes]) -> float:
    """Return the length stated by the header of a WAV or RF64 file: the size of its data over the bytes per second."""
    bytes_per_second, large = 0, 0
    while len(chunk := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", chunk)
        if name == b"data":
            size = large if size == 2**32 - 1 and large else size
            known = large > 0 or size <= _UNKNOWN
            return size / bytes_per_second if known and bytes_per_second else 0.0
        content = file.read(min(size, 64))
        if name == b"fmt " and len(content) >= 16:
            tag, n_channels, rate, bytes_per_second, _, bits = struct.unpack("<HHIIHH", content[:16])
            if tag in _PCM:
                bytes_per_second = rate * n_channels * ((bits + 7) // 8)
        elif name == b"ds64" and len(content) >= 16:
            large = struct.unpack("<Q", content[8:16])[0]
        file.seek(size - len(content) + size % 2, os.SEEK_CUR)
    return 0.0


def _au_seconds(header: bytes) -> float:
    """Return the length stated by the header of an AU file."""
    if len(header) < 24:
        return 0.0
    _, _, size, encoding, rate, n_channels = struct.unpack(">4s5I", header)
    bytes_per_second = rate * n_channels * _AU_BYTES.get(encoding, 0)
    return size / bytes_per_second if size <= _UNKNOWN and bytes_per_second else 0.0


def _has_last_page(file: IO[bytes]) -> bool:
    """Whether an Ogg file ends with a page marked as the last."""
    largest_page = 27 + 255 + 255 * 255
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2 * largest_page))
    end = file.read()
    page = end.rfind(b"OggS\0")
    end_of_stream = 4
    return page >= 0 and len(end) > page + 5 and bool(end[page + 5] & end_of_stream)
