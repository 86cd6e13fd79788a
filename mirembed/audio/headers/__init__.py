"""The length of a file according to its own bytes: what its header states, and what it has room for.

Decoders believe headers, stop early, or read the first of several streams without a word. So the structure of a file is
read here as well, frame by frame, page by page or chunk by chunk, and compared with what was decoded.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from mirembed.audio.headers.blocks import tta_header, voc_header, wavpack_header
from mirembed.audio.headers.boxes import asf_header, matroska_header, mp4_header
from mirembed.audio.headers.flac import flac_header
from mirembed.audio.headers.header import Header, Part, ape_end, id3_end, read_at, size_of
from mirembed.audio.headers.mpeg import ac3_frame, ac3_header, adts_frame, adts_header, mpeg_header
from mirembed.audio.headers.ogg import ogg_header
from mirembed.audio.headers.riff import aiff_header, au_header, caf_header, w64_header, wave_header

__all__ = ["Header", "Part", "read_header"]

_FRAMES = frozenset({".aac", ".mp1", ".mp2", ".mp3", ".mpga"})
"""Suffixes of files that may begin with something other than a frame."""

_MOST_BYTES, _SPARE_BYTES = 50 * 10**6, 64 * 10**6
"""The most bytes per second of audio, which even films do not exceed, and bytes beside it; larger files are refused."""


def read_header(path: Path) -> Header:
    """Read what the bytes of a file say about its length; one of an unknown or damaged format says nothing.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        try:
            found = _by_content(file, path.suffix.lower())
        # Damaged files may contain any number anywhere. Leave them to the decoders.
        except (struct.error, ValueError, IndexError, KeyError, OverflowError, ZeroDivisionError, RecursionError):
            found = None
        size = size_of(file)
    found = found or _by_mutagen(path)
    seconds = max(found.stated, found.room)
    if seconds and not found.refusal and size > _SPARE_BYTES + _MOST_BYTES * seconds:
        wrong = f"{size / 1e9:.1f} GB contain only {seconds:.1f} s of audio; cut off the rest, or export the file again"
        return replace(found, refusal=wrong)
    return found


def _by_content(file: IO[bytes], suffix: str) -> Header | None:
    start = ape_end(file, id3_end(file, 0))
    head = read_at(file, start, 16)
    if len(head) < 12 and start:  # the tag claims to be all of the file
        start, head = 0, read_at(file, 0, 16)
    name, kind = head[:4], head[8:12]
    if name in (b"RIFF", b"RIFX", b"RF64", b"BW64") and kind == b"WAVE":
        return wave_header(file, start)
    if head[:16] == b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00":
        return w64_header(file, start)
    if name == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return aiff_header(file, start)
    if name in (b".snd", b"dns."):
        return au_header(file, start)
    if name == b"caff":
        return caf_header(file, start)
    if name == b"fLaC":
        return flac_header(file, start)
    if name == b"OggS":
        return ogg_header(file)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"pnot"):
        return mp4_header(file, start)
    if name == b"wvpk":
        return wavpack_header(file, start)
    if name == b"TTA1":
        return tta_header(file, start)
    if head[:16] == b"Creative Voice F":
        return voc_header(file, start)
    if name == b"\x1a\x45\xdf\xa3":
        return matroska_header(file, start)
    if head[:16] == bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"):
        return asf_header(file, start)
    if adts_frame(head, 0) and (found := adts_header(file, start)):
        return found
    if ac3_frame(head, 0) and (found := ac3_header(file, start)):
        return found
    if suffix in _FRAMES or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        # From the beginning, because a tag may state more than its real size.
        return mpeg_header(file, 0, size_of(file)) or (adts_header(file, 0) if suffix == ".aac" else None)
    return None


def _by_mutagen(path: Path) -> Header:
    """Return the length that other formats state, such as Monkey's Audio."""
    import mutagen
    from mutagen.aac import AACInfo
    from mutagen.ac3 import AC3Info
    from mutagen.mp3 import MPEGInfo

    info: Any = None
    # Damaged tags make mutagen raise almost anything. The audio may be fine: only the stated length is lost.
    with contextlib.suppress(Exception):
        info = getattr(mutagen.File(os.fsencode(path)), "info", None)
    if info is None or isinstance(info, AACInfo | AC3Info | MPEGInfo):  # no length, or an estimate by the file's size
        return Header()
    return Header(stated=getattr(info, "length", 0.0) or 0.0, slack=0.25)
