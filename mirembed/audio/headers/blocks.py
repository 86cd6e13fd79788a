"""Files of blocks that state their own lengths: WavPack, TTA and VOC."""

from __future__ import annotations

import struct
import zlib
from typing import IO, NamedTuple

from mirembed.audio.headers.header import Header, Part, ape_end, read_at, size_of, tags_start
from mirembed.audio.headers.riff import wav_head

_WAVPACK_RATES = (
    *(6000, 8000, 9600, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000),
    192_000,
)
_SEARCHED = 64 * 10**6
"""Bytes that are searched for the next WavPack block."""

_FRAME = 2**26
"""Bytes that no TTA frame, which is about a second long, exceeds."""

_INITIAL = 0x800
"""Flag of the first of the WavPack blocks that hold the channels of one stretch."""

_VOC_BYTES = {0: 1, 4: 2, 6: 1, 7: 1}
"""Bytes per sample, by the codec of a VOC file."""


def _number(data: bytes, at: int, n_bytes: int) -> int:
    return int.from_bytes(data[at : at + n_bytes], "little")


def wavpack_header(file: IO[bytes], at: int) -> Header | None:
    """Read a WavPack file that begins at an offset; None if it holds no samples or has an unusual sampling rate."""
    end = tags_start(file, size_of(file))
    total, held, flags, missing = 0, 0, 0, 0
    while (at := _wavpack_block(file, ape_end(file, at), end)) < end:
        head = read_at(file, at, 32)
        after, n_samples, its_flags = at + 8 + _number(head, 4, 4), _number(head, 20, 4), _number(head, 24, 4)
        if after > end and _wavpack_block(file, at + 32, end) < end:  # its size is wrong
            at += 32
            continue
        if after > end:
            missing = after - end
        elif n_samples and its_flags & _INITIAL:
            if not flags:
                total, flags = _number(head, 12, 4), its_flags
            elif (its_flags ^ flags) >> 23 & 15:
                return Header(refusal=f"the sampling rate changes after sample {held}; split the file there")
            held += n_samples
        at = after
    if not flags or flags >> 23 & 15 >= len(_WAVPACK_RATES):
        return None
    rate = _WAVPACK_RATES[flags >> 23 & 15]
    refusal = ""
    if missing:
        refusal = (
            f"truncated after {held / rate:.1f} s: the last block lacks {missing} bytes; copy or download it again"
        )
    return Header(stated=0.0 if total == 2**32 - 1 else total / rate, room=held / rate, strict=True, refusal=refusal)


def _wavpack_block(file: IO[bytes], at: int, end: int) -> int:
    """Return where the first block at or after an offset begins; the end if there is none."""
    first, step = at, 32  # nearly always, it begins right there
    while at + 32 <= end and at - first <= _SEARCHED:
        window = read_at(file, at, min(step + 32, end - at))
        place = window.find(b"wvpk")
        while 0 <= place <= len(window) - 32:
            version = _number(window, place + 8, 2)
            if 0x400 <= version <= 0x4FF and 24 <= _number(window, place + 4, 4) < 2**24:
                return at + place
            place = window.find(b"wvpk", place + 4)
        at, step = at + step, 2**20
    return end


def tta_header(file: IO[bytes], at: int) -> Header | None:
    """Read a TTA file that begins at an offset; None if it is damaged."""
    head = read_at(file, at, 22)
    rate, total = _number(head, 10, 4), _number(head, 14, 4)
    if not rate:
        return None
    length = rate * 256 // 245
    n_frames = -(-total // length)
    table = read_at(file, at + 22, 4 * n_frames)
    place, held, wrong, end = at + 22 + 4 * n_frames + 4, 0, "", tags_start(file, size_of(file))
    for frame in range(len(table) // 4):
        start, place = place, place + _number(table, 4 * frame, 4)
        if place > min(end, start + _FRAME):
            break
        content = read_at(file, start, place - start)  # decoders do not compare the checksums
        if zlib.crc32(content[:-4]) != _number(content, len(content) - 4, 4):
            wrong = wrong or f"damaged: the checksum of the frame after {held / rate:.1f} s is wrong"
        held += min(length, total - held)
    if read_at(file, ape_end(file, place), 4) == b"TTA1":
        return Header(
            refusal="TTA files joined into one, of which the available decoders read only the first; split the file"
        )
    refusal = f"{wrong}; copy or download it again" if wrong and held == total else ""  # else lengths tell more
    return Header(stated=total / rate, room=held / rate, refusal=refusal)


class _VocFormat(NamedTuple):
    """Format of the samples in a VOC file: rate in Hz, channels, and the codec by its number in these files."""

    rate: int
    channels: int
    codec: int

    @property
    def width(self) -> int:
        """Bytes of all channels at a time; 0 for an unknown codec."""
        return self.channels * _VOC_BYTES.get(self.codec, 0)

    def head(self, n_bytes: int) -> bytes:
        """Return the beginning of a WAV file with such samples."""
        tag, bits = {0: (1, 8), 4: (1, 16), 6: (6, 8), 7: (7, 8)}[self.codec]
        fmt = struct.pack("<HHIIHH", tag, self.channels, self.rate, self.rate * self.width, self.width, bits)
        return wav_head(fmt, n_bytes)


def voc_header(file: IO[bytes], begin: int) -> Header | None:
    """Read a Creative Voice file that begins at an offset; None if it holds no samples of a known kind."""
    size, at = size_of(file), begin + _number(read_at(file, begin + 20, 2), 0, 2)
    stated, held = 0, 0
    formats: list[_VocFormat] = []
    pieces: list[tuple[int, int, float]] = []  # begin and end of samples, or of nothing; seconds of silence
    while at + 4 <= size and (head := read_at(file, at, 16))[0]:
        kind, length = head[0], _number(head, 1, 3)
        start = {1: 6, 2: 4, 9: 16}.get(kind, 0)
        if kind == 1:
            formats.append(_VocFormat(1_000_000 // (256 - head[4]), 1, head[5]))
        elif kind == 9:
            formats.append(_VocFormat(_number(head, 4, 4), head[9], _number(head, 10, 2)))
        elif kind == 3:
            pieces.append((at, at, (_number(head, 4, 2) + 1) * (256 - head[6]) / 1e6))
        elif kind in (6, 8):  # the next blocks are repeated, or in stereo
            return None
        if start:
            end = min(size, at + 4 + length)
            stated += length + 4 - start
            held += max(0, end - at - start)
            pieces.append((at + start, max(at + start, end), 0))
        at += 4 + length
    if not formats or not formats[0].width or not formats[0].rate:
        return None
    form = formats[0]
    if other := next((one for one in formats if one != form), None):
        return Header(refusal=f"blocks of different kinds ({_named(form)}, then {_named(other)}); convert it to WAV")
    silence = b"\x80" if form.codec == 0 else b"\xd5" if form.codec == 6 else b"\xff" if form.codec == 7 else b"\0"
    n_silent = [form.width * round(form.rate * seconds) for *_, seconds in pieces]
    parts = [
        Part(first, end, head=form.head(end - first + n) + silence * n)
        for (first, end, _), n in zip(pieces, n_silent, strict=True)
    ]
    after = max(0, size - at - 1)
    return Header(
        stated=(stated + sum(n_silent)) / form.width / form.rate,
        room=(held + sum(n_silent) + after) / form.width / form.rate,
        strict=True,
        parts=tuple(parts) if len(parts) > 1 else (),
    )


def _named(form: _VocFormat) -> str:
    return f"{form.rate} Hz, {form.channels} channels, codec {form.codec}"
