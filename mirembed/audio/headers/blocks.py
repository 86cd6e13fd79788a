"""Files of blocks that state their own lengths: WavPack, TTA and VOC."""

from __future__ import annotations

from typing import IO

from mirembed.audio.headers.header import Header, ape_end, read_at, size_of, tags_start

_WAVPACK_RATES = (
    *(6000, 8000, 9600, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000),
    192_000,
)
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
    while len(head := read_at(file, at := ape_end(file, at), 32)) == 32 and head[:4] == b"wvpk" and at < end:
        after, n_samples, its_flags = at + 8 + _number(head, 4, 4), _number(head, 20, 4), _number(head, 24, 4)
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


def tta_header(file: IO[bytes], at: int) -> Header | None:
    """Read a TTA file that begins at an offset; None if it is damaged."""
    head = read_at(file, at, 22)
    rate, total = _number(head, 10, 4), _number(head, 14, 4)
    if not rate:
        return None
    length = rate * 256 // 245
    n_frames = -(-total // length)
    table = read_at(file, at + 22, 4 * n_frames)
    place, held, end = at + 22 + 4 * n_frames + 4, 0, tags_start(file, size_of(file))
    for frame in range(len(table) // 4):
        place += _number(table, 4 * frame, 4)
        if place > end:
            break
        held += min(length, total - held)
    if read_at(file, ape_end(file, place), 4) == b"TTA1":
        return Header(refusal="TTA files joined to one, of which decoders read the first; split the file")
    return Header(stated=total / rate, room=held / rate)


def voc_header(file: IO[bytes], begin: int) -> Header | None:
    """Read a Creative Voice file that begins at an offset; None if it holds no samples of a known kind."""
    size, at = size_of(file), begin + _number(read_at(file, begin + 20, 2), 0, 2)
    stated, held, n_blocks, width, rate = 0, 0, 0, 0, 0
    while at + 4 <= size and (head := read_at(file, at, 16))[0]:
        kind, length = head[0], _number(head, 1, 3)
        start = {1: 6, 2: 4, 9: 16}.get(kind, 0)
        if kind == 1 and not rate:
            rate, width = 1_000_000 // (256 - head[4]), _VOC_BYTES.get(head[5], 0)
        elif kind == 9:
            rate, width = _number(head, 4, 4), head[9] * _VOC_BYTES.get(_number(head, 10, 2), 0)
        elif kind == 8:
            return None
        if start:
            n_blocks += 1
            stated += length + 4 - start
            held += max(0, min(size, at + 4 + length) - at - start)
        at += 4 + length
    if not width or not rate:
        return None
    if n_blocks > 1:
        return Header(
            refusal=f"a VOC file of {n_blocks} blocks of sound, which the decoder takes for one; convert it to WAV"
        )
    after = max(0, size - at - 1)
    return Header(stated=stated / width / rate, room=(held + after) / width / rate, strict=True)
