"""FLAC: what its header states, and the frames that follow."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import IO, NamedTuple

from mirembed.audio.headers.header import Header, Part, read_at, size_of, tags_start

_WINDOW, _SAMPLE = 2**16, 2**16
_SCANNED = 4 * 2**30
"""Bytes. Longer files are not searched for a second stream."""

_TAIL = 2**24
"""Bytes at the end of a file that are searched for the last frame."""

_MARK = b"fLaC"

_RATES = (0, 88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)


def flac_header(file: IO[bytes], start: int) -> Header | None:
    """Read a FLAC file that begins at an offset, or several that were joined; None if it is damaged."""
    size = size_of(file)
    end = tags_start(file, size)
    starts = [start, *_more(file, start + 42, end)]
    streams = [_stream(file, one, stop) for one, stop in zip(starts, [*starts[1:], end], strict=True)]
    first = streams[0]
    if first is None or None in streams:
        return None
    same = {stream[:3] for stream in streams if stream}
    refusal = next((stream.refusal for stream in streams if stream and stream.refusal), "")
    if len(same) > 1:
        kinds = " and ".join(f"{rate} Hz, {channels} channels, {bits} bits" for rate, channels, bits in sorted(same))
        refusal = f"{len(streams)} FLAC files of different kinds joined into one ({kinds}); split the file"
    parts = tuple(Part(one, stop) for one, stop in zip(starts, [*starts[1:], end], strict=True))
    known = all(stream.total for stream in streams if stream)
    return Header(
        stated=sum(stream.total for stream in streams if stream) / first.rate if known else 0.0,
        room=sum(stream.held for stream in streams if stream) / first.rate,
        refusal=refusal,
        parts=parts if len(parts) > 1 or end < size or start else (),
        kind=f"FLAC of {first.bits} bits per sample" if first.bits > 24 else "",
        count=functools.partial(_count, parts=parts),
        frame=min(stream.block for stream in streams if stream),
    )


class _Stream(NamedTuple):
    """One FLAC file: what its header states, the samples that its frames state, and those of the shortest frame."""

    rate: int
    channels: int
    bits: int
    total: int
    held: int
    block: int
    refusal: str


def _stream(file: IO[bytes], start: int, end: int) -> _Stream | None:
    head = read_at(file, start, 42)
    if len(head) < 42 or head[4] & 127:
        return None
    packed = int.from_bytes(head[18:26], "big")
    rate, channels, bits = packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    first = _first_frame(file, start)
    if not rate or first is None or first >= end:
        return None
    found = _frames(file, first, end, int.from_bytes(head[8:10], "big"))
    refusal = ""
    if found.rate and found.rate != rate:
        refusal = f"the header states {rate} Hz, but frames state {found.rate} Hz; encode the file again"
    elif found.channels and found.channels != channels:
        refusal = f"the header states {channels} channels, but frames state {found.channels}; encode the file again"
    elif found.bits and found.bits != bits:
        refusal = f"the header states {bits} bits per sample, but frames state {found.bits}; encode the file again"
    elif found.restart:
        refusal = f"frame numbers start again before byte {found.restart}, as if files were joined; split the file"
    elif found.last == 0 and end - first > _TAIL:
        refusal = (
            f"the last {_TAIL // 10**6} MB hold no FLAC frame; cut off what is not sound, or export the file again"
        )
    block = max(1, int.from_bytes(head[8:10], "big"))
    return _Stream(rate, channels, bits, packed & (1 << 36) - 1, found.held, block, refusal)


def _more(file: IO[bytes], at: int, end: int) -> list[int]:
    """Return where more FLAC files begin between two offsets."""
    found: list[int] = []
    stop, n_zeros = min(end, at + _SCANNED), 0
    while at < stop and n_zeros < 2 * _TAIL:  # padding is shorter
        window = read_at(file, at, min(_WINDOW + 7, end - at))
        n_zeros = 0 if window.strip(b"\0") else n_zeros + len(window)
        place = window.rfind(_MARK)  # twice as fast as find
        while place >= 0:
            if window[place + 4 : place + 8] in (b"\0\0\0\x22", b"\x80\0\0\x22"):
                found.append(at + place)
            place = window.rfind(_MARK, 0, place)
        at += _WINDOW
    return sorted(found)


def _first_frame(file: IO[bytes], start: int) -> int | None:
    """Return the offset after the blocks of metadata."""
    at = start + 4
    for _ in range(1000):
        block = read_at(file, at, 4)
        if len(block) < 4:
            return None
        at += 4 + int.from_bytes(block[1:], "big")
        if block[0] & 128:
            return at
    return None


class _Frame(NamedTuple):
    """The header of a frame: its first sample, the one after its last, and its kind (0: as the file's header says)."""

    begin: int
    end: int
    rate: int
    channels: int
    bits: int


class _Frames(NamedTuple):
    """What the headers of frames tell.

    Attributes
    ----------
    held : int
        Samples from the first frame to the end of the last one; 0 if either was not found.
    rate, channels, bits : int
        Of the first frame of another kind than the first one; those of the first one if there is none; 0 where they
        are not stated.
    restart : int
        Offset of a frame whose number is less than that of a frame before it; 0 if there is none.
    last : int or None
        End of the last frame in samples; 0 if the end of the file holds none, None if the first frame is damaged.
    """

    held: int = 0
    rate: int = 0
    channels: int = 0
    bits: int = 0
    restart: int = 0
    last: int | None = None


def _frames(file: IO[bytes], first: int, end: int, block: int) -> _Frames:
    """Read the headers of frames between two offsets."""
    head = read_at(file, first, 20)
    reference = _frame(head, block)
    if reference is None:
        return _Frames()
    other, restart, at, sync = reference, 0, first, head[:2]
    before, latest = reference, reference.begin  # latest: the beginning of a frame that begins where another ends
    step = min(16 * _SAMPLE, max(_SAMPLE, (end - first) // 16))
    while at < min(end, first + _SCANNED) and other is reference and not restart:
        window = read_at(file, at, min(_SAMPLE, end - at))  # what changes stays changed: a sample is enough
        if not window.strip(b"\0"):
            break
        for place in _places(window, sync):
            found = _frame(window[place : place + 20], block)
            if found is None:
                continue
            if found[2:] == reference[2:] and found.begin >= latest:
                latest, before = found.begin if found.begin == before.end else latest, found
            elif _is_followed(file, at + place + 1, end, found, block):
                other, restart = (found, 0) if found[2:] != reference[2:] else (other, at + place)
                break
        at += step
    last = _last_sample(file, first, end, sync, block)
    if 0 < last < latest and not restart:
        restart = end
    return _Frames(max(0, last - reference.begin), *other[2:], restart, last)


def _is_followed(file: IO[bytes], at: int, end: int, frame: _Frame, block: int) -> bool:
    """Whether another frame begins where one ends: about every 100th megabyte of sound looks like a frame somewhere."""
    window = read_at(file, at, min(_WINDOW, end - at))
    place = window.find(b"\xff")
    while place >= 0:
        found = _frame(window[place : place + 20], block)
        if found and found.begin == frame.end and found[2:] == frame[2:]:
            return True
        place = window.find(b"\xff", place + 1)
    return False


def _last_sample(file: IO[bytes], first: int, end: int, sync: bytes, block: int) -> int:
    """Return the end of the last frame that another one precedes; else of the last frame, or 0 if there is none."""
    at, ends = end, dict[int, int]()  # by their first samples
    while at > first and end - at < _TAIL:
        at = max(first, at - 2**16)
        window = read_at(file, at, min(end - at, 2**16 + 64))
        place = window.rfind(sync, 0, 2**16 + len(sync) - 1)
        while place >= 0:
            if found := _frame(window[place : place + 20], block):
                if found.end in ends:
                    return ends[found.end]
                ends[found.begin] = found.end
            place = window.rfind(sync, 0, place + 1)
    return next(iter(ends.values()), 0)


def _places(window: bytes, sync: bytes) -> list[int]:
    """Return where frames may begin."""
    places, place = [], window.find(sync)
    while place >= 0:
        places.append(place)
        place = window.find(sync, place + 1)
    return places


def _count(file: IO[bytes], parts: tuple[Part, ...]) -> tuple[float, float | None]:
    """Return the seconds of all frames, one by one, and after how many one does not begin where another ends."""
    seconds, hole = 0.0, None
    for part in parts:
        head = read_at(file, part.start, 42)
        first = _first_frame(file, part.start)
        if first is None:
            continue
        rate, block = int.from_bytes(head[18:21], "big") >> 4, int.from_bytes(head[8:10], "big")
        frames = list(_all_frames(file, first, part.end, block))
        if not frames:
            continue
        n_samples, latest = 0, frames[0][1].begin
        ends = {latest}
        for at, found in frames:
            if (
                found.begin not in ends
                and at < frames[-1][0]
                and not _is_followed(file, at + 1, part.end, found, block)
            ):
                continue  # sound that looks like a frame
            if found.begin != latest and hole is None:
                hole = seconds + n_samples / rate
            n_samples, latest = n_samples + found.end - found.begin, found.end
            ends.add(latest)
        seconds += n_samples / rate
    return seconds, hole


def _all_frames(file: IO[bytes], first: int, end: int, block: int) -> Iterator[tuple[int, _Frame]]:
    """Yield the offset and the header of each frame, and of sound that looks like one."""
    at, sync = first, read_at(file, first, 2)
    while at < min(end, first + _SCANNED):
        window = read_at(file, at, min(_WINDOW + 20, end - at))
        for place in _places(window[: _WINDOW + 1], sync):
            if found := _frame(window[place : place + 20], block):
                yield at + place, found
        at += _WINDOW


def _frame(head: bytes, block: int) -> _Frame | None:
    """Read the header of a frame."""
    if len(head) < 6 or head[3] & 1 or head[3] >> 4 > 10:
        return None
    size_code, rate_code, at = head[2] >> 4, head[2] & 15, 4
    lead = head[4]
    n_more = 0 if lead < 0x80 else 8 - (lead ^ 0xFF).bit_length() - 1
    if size_code == 0 or rate_code == 15 or (lead >= 0x80 and not 1 <= n_more <= 6):
        return None
    number = lead if not n_more else lead & (1 << (6 - n_more)) - 1
    for byte in head[5 : 5 + n_more]:
        number = number << 6 | byte & 63
    at += 1 + n_more
    n_size, n_rate = {6: 1, 7: 2}.get(size_code, 0), {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    coded = int.from_bytes(head[at : at + n_size], "big") + 1
    samples = coded if n_size else 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 1 << size_code
    at += n_size
    rate = int.from_bytes(head[at : at + n_rate], "big") * {12: 1000, 14: 10}.get(rate_code, 1)
    at += n_rate
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    begin = number if head[1] & 1 else number * block
    bits = (0, 8, 12, 0, 16, 20, 24, 32)[head[3] >> 1 & 7]
    channels = (head[3] >> 4) + 1 if head[3] >> 4 < 8 else 2  # beyond, codes of stereo
    return _Frame(begin, begin + samples, rate if n_rate else _RATES[rate_code], channels, bits)


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ 0x107 if crc & 128 else crc << 1
    return crc
