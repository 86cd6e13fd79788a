"""What the bytes of a file say about the length of its audio, and whether the decoded length agrees."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import IO

SLACK = 0.05
"""Seconds by which lengths may differ, unless the format is more exact."""


@dataclass(frozen=True)
class Part:
    """A stretch of a file that is decoded as if it were a file of its own.

    Attributes
    ----------
    start, end : int
        Offsets in bytes.
    patches : tuple of (int, bytes)
        Bytes to read in place of those in the file, by their offset within the part.
    head : bytes
        To read before the first of these bytes: a header of their own.
    """

    start: int
    end: int
    patches: tuple[tuple[int, bytes], ...] = ()
    head: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The length of a file according to its bytes, and what decoders have to know of them.

    Attributes
    ----------
    stated : float
        Seconds that the header states; 0 if it states none.
    room : float
        Seconds that the file has room for, by its size or by the frames, pages or boxes in it; 0 if unknown.
    slack : float
        Seconds by which the decoded length may differ from either.
    stated_by : str
        What states the length.
    refusal : str
        Why no decoder would read the file right; empty if one may.
    kind : str
        The codec where it takes a look at the bytes to tell, otherwise empty.
    mpeg : bool
        Whether it is MPEG audio, whose end libsndfile may miss.
    by_bit_rate : float
        MPEG only: seconds that all the bytes take at the bit rate of the first frame.
    parts : tuple of Part
        What soundfile is to decode, one after the other; empty for the file as it is.
    strict : bool
        Whether the file is refused if it has room for more than is stated, even if all of it could be decoded: what
        follows the stated end may be anything.
    skip, keep : float
        Seconds at the beginning that are not to be heard, and seconds to be heard after them; ``keep`` is 0 for all.
    notes : tuple of str
        What a user should know of a file that can be read.
    count : callable or None
        Counts the seconds that an open file has room for, where ``room`` is only the position of its last frame, and
        returns them and ``hole``. It is slow: for files that may be damaged.
    frame : int
        Samples of the shortest frame, if a decoder may put silence in the place of frames that are missing; else 0.
    hole : float or None
        Seconds after which frames are known to be missing or out of order.
    """

    stated: float = 0.0
    room: float = 0.0
    slack: float = SLACK
    stated_by: str = "the header"
    refusal: str = ""
    kind: str = ""
    mpeg: bool = False
    by_bit_rate: float = 0.0
    parts: tuple[Part, ...] = ()
    strict: bool = False
    skip: float = 0.0
    keep: float = 0.0
    notes: tuple[str, ...] = ()
    count: Callable[[IO[bytes]], tuple[float, float | None]] | None = None
    frame: int = 0
    hole: float | None = None

    @property
    def longest(self) -> float:
        """Seconds that a decoder may find, as far as the bytes tell; 0 if they do not."""
        return min(self.stated, self.room) if self.stated and self.room else self.stated or self.room

    def counted(self, path: Path) -> Header:
        """Return a copy with the exact ``room`` and the ``hole`` of a file; see ``count``."""
        if self.count is None:
            return self
        with path.open("rb") as file:
            room, hole = self.count(file)
        return replace(self, room=room, hole=hole, count=None)

    def disagreement(self, decoded: float) -> str:
        """Compare the decoded length with those of the header and of the file's content, both ways.

        A file is in order if all that it has room for was decoded, and its header states no more than that.

        Parameters
        ----------
        decoded : float
            Seconds.

        Returns
        -------
        str
            What disagrees, what may be the cause and what to do; empty if nothing does.
        """
        short = self.stated > decoded + self.slack
        stale = 0 < self.stated < self.room - self.slack
        if self.room:
            partly, cut = decoded < self.room - self.slack, self.stated > self.room + self.slack
            more = decoded > self.room + self.slack
        else:
            partly, cut, more = False, False, bool(self.stated) and decoded > self.stated + 5 * self.slack
        if not (short or partly or cut or more or (stale and self.strict) or self.hole is not None):
            return ""
        if not decoded and self.kind.startswith("FLAC of"):  # it opens and yields nothing
            cause = f"no available decoder reads {self.kind}; convert it to 24-bit FLAC or leave it out"
        elif self.hole is not None:
            silence = ", where the decoder put silence" if more else ""
            cause = f"frames are missing or out of order after {self.hole:.1f} s{silence}; copy or download it again"
        elif cut or (short and not self.room):
            cause = f"part of it is missing, or {self.stated_by} is wrong; copy or download it again"
        elif stale:
            cause = f"{self.stated_by} is wrong or out of date, or something was added to the end; export it again"
        elif partly:
            cause = "the decoder skipped a part or stopped early, as it does in damaged files; export it again"
        else:
            cause = "the file is damaged or not what it seems; export it again"
        return f"{self.lengths(decoded)}: {cause}"

    def lengths(self, decoded: float) -> str:
        """Say all known lengths, with enough digits to tell apart those that disagree."""
        known = [length for length in (self.stated, self.room) if length]
        pairs = [pair for pair in combinations([*known, decoded], 2) if abs(pair[0] - pair[1]) > self.slack]
        digits = next((n for n in (1, 2) if all(f"{a:.{n}f}" != f"{b:.{n}f}" for a, b in pairs)), 3)
        said = [f"{self.stated_by} states {self.stated:.{digits}f} s"] if self.stated else []
        said += [f"the file has room for {self.room:.{digits}f} s"] if self.room else []
        return f"{', '.join(said)}, but {decoded:.{digits}f} s were decoded"


def size_of(file: IO[bytes]) -> int:
    """Return the size of an open file in bytes; its position changes."""
    return file.seek(0, os.SEEK_END)


def read_at(file: IO[bytes], offset: int, n_bytes: int) -> bytes:
    """Read bytes at an offset; fewer at the end of the file, none beyond it."""
    if not 0 <= offset < 2**62:  # a damaged header may state any number
        return b""
    try:
        file.seek(offset)
    except OSError as error:
        if error.errno != errno.EINVAL:  # more than a file of this file system can have
            raise
        return b""
    return file.read(n_bytes)


def id3_end(file: IO[bytes], offset: int) -> int:
    """Return where the ID3v2 tags that begin at an offset end: the offset itself if there is none."""
    while len(head := read_at(file, offset, 10)) == 10 and head[:3] == b"ID3" and max(head[6:]) < 128:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        offset += 10 + size + (10 if head[5] & 16 else 0)  # some have a footer
    return offset


def ape_end(file: IO[bytes], offset: int) -> int:
    """Return where the APE tag that begins at an offset ends: the offset itself if there is none."""
    head = read_at(file, offset, 24)
    if head[:8] != b"APETAGEX" or len(head) < 24:
        return offset
    return offset + 32 + (int.from_bytes(head[12:16], "little") if head[23] & 32 else 0)


def tags_start(file: IO[bytes], end: int) -> int:
    """Return where the tags at the end of a file begin (ID3, APE, Lyrics3): ``end`` itself if there are none."""
    while True:
        tail = read_at(file, max(0, end - 128), min(128, end))
        if tail.startswith(b"TAG") and len(tail) == 128:
            end -= 128
        elif tail[-32:-24] == b"APETAGEX":
            size = int.from_bytes(tail[-20:-16], "little")
            size += 32 * (read_at(file, end - size - 32, 8) == b"APETAGEX")  # a header, whatever the flags say
            if not 32 <= size <= end:
                return end
            end -= size
        elif tail[-10:-7] == b"3DI" and max(tail[-4:]) < 128:
            size = tail[-4] << 21 | tail[-3] << 14 | tail[-2] << 7 | tail[-1]
            end = max(0, end - 20 - size)
        elif tail[-9:] == b"LYRICSEND":
            lyrics = read_at(file, max(0, end - 5120), min(5120, end))
            begins = lyrics.find(b"LYRICSBEGIN")
            if begins < 0:
                return end
            end -= len(lyrics) - begins
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            end = max(0, end - 15 - int(tail[-15:-9]))
        else:
            return end
