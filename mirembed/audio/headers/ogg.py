"""Ogg: pages of one stream or several, side by side or one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO

from mirembed.audio.headers.header import Header, Part, id3_end, read_at, size_of

_FIRST, _LAST, _CONTINUED = 2, 4, 1
_SEARCHED = 64 * 10**6


@dataclass
class _Stream:
    codec: str
    rate: int
    channels: int
    skip: int = 0
    granules: list[int] = field(default_factory=list)
    """The first two and the last."""
    n_pages: int = 0
    missing: int = 0
    repeated: int = 0
    next_page: int = 0
    ended: bool = False
    last_page: tuple[int, int] = (0, 0)
    """Where it begins and ends."""

    @property
    def seconds(self) -> float:
        """Length by the positions on the pages, which need not begin at 0."""
        if not self.rate or not self.granules:
            return 0.0
        return max(0, self.granules[-1] - self.skip - self.start) / self.rate

    @property
    def start(self) -> int:
        """Where the first page begins, in samples. Its length is unknown, and taken to be that of the second."""
        if len(self.granules) < 3:
            return 0
        first, second = self.granules[:2]
        start = first - 2 * (second - first)
        return start if start > 10 * self.rate else 0


@dataclass
class _Link:
    """A piece of a file that could be a file: streams that begin together."""

    start: int
    end: int
    streams: dict[bytes, _Stream] = field(default_factory=dict)

    @property
    def audio(self) -> list[_Stream]:
        return [stream for stream in self.streams.values() if stream.rate]


def ogg_header(file: IO[bytes]) -> Header:
    """Read the pages of an Ogg file."""
    links, cut, damage = _walk(file)
    if not links:
        return Header()
    room = sum(max((stream.seconds for stream in link.audio), default=0.0) for link in links)
    first = links[0].audio[0] if links[0].audio else None
    kind = first.codec if first else ""
    refusal = _refusal(links, room)
    notes: list[str] = []
    parts: tuple[Part, ...] = ()
    ends = [stream for link in links for stream in link.audio]
    missing = sum(stream.missing for stream in ends)
    if damage:
        refusal = refusal or f"damaged: {damage}; copy or download the file again"
    elif missing:
        refusal = refusal or (
            f"damaged: {missing} of {missing + sum(stream.n_pages for stream in ends)} pages "
            f"{'is' if missing == 1 else 'are'} missing; copy or download the file again"
        )
    elif cut:
        refusal = refusal or (
            f"truncated: the last page is incomplete, with {room:.1f} s in the others; copy or download the file again"
        )
    elif not all(stream.ended for stream in ends):
        notes.append("no end flag: the file may be cut")
    if repeated := sum(stream.repeated for stream in ends):
        notes.append(f"{repeated} pages repeat earlier ones or are out of order: the file may be damaged")
    unended = any(stream.codec == "Opus" and not stream.ended for stream in ends)
    if len(links) > 1 or links[0].start or links[-1].end < size_of(file) or unended:
        parts = tuple(Part(link.start, link.end, _end_flag(file, link)) for link in links)
    slack = 0.05 if first is None or not first.start else 0.05 + (first.granules[1] - first.granules[0]) / first.rate
    return Header(room=room, slack=slack, refusal=refusal, kind=kind, parts=parts, notes=tuple(notes))


def _end_flag(file: IO[bytes], link: _Link) -> tuple[tuple[int, bytes], ...]:
    """Return the bytes that mark the last page of a stream as the last: libsndfile fails on an Opus stream without."""
    patches: list[tuple[int, bytes]] = []
    for stream in link.audio:
        if stream.codec == "Opus" and not stream.ended:
            start, end = stream.last_page
            page = bytearray(read_at(file, start, end - start))
            page[5] |= _LAST
            page[22:26] = bytes(4)
            patches += [
                (start - link.start + 5, bytes(page[5:6])),
                (start - link.start + 22, _crc32(page).to_bytes(4, "little")),
            ]
    return tuple(patches)


def _crc32(data: bytes | bytearray) -> int:
    """Return the checksum of a page, whose own field is 0."""
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x104C11DB7) if value & 0x80000000 else value << 1
        table.append(value)
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ table[crc >> 24 ^ byte]
    return crc


def _refusal(links: list[_Link], room: float) -> str:
    """Return why several streams cannot be read as one; empty if they can."""
    if any(len(link.audio) > 1 for link in links):
        n_streams = max(len(link.audio) for link in links)
        return f"{n_streams} audio streams side by side in one Ogg file; keep one of them in a file of its own"
    heard = [link.audio[0] for link in links if link.audio]
    kinds = list(dict.fromkeys(f"{s.codec} at {s.rate} Hz with {s.channels} channels" for s in heard))
    if len(kinds) > 1:
        listed = ", then ".join(kinds[:3])
        return f"{len(heard)} streams one after the other ({listed}), {room:.1f} s in all; split the file"
    if len(heard) > 1 and heard[0].codec not in ("Vorbis", "Opus"):
        return f"{len(heard)} streams of {heard[0].codec} one after the other, {room:.1f} s in all; split the file"
    return ""


def _walk(file: IO[bytes]) -> tuple[list[_Link], bool, str]:
    """Return the links of a file, whether its last page is incomplete, and what is wrong with another page."""
    size, at = size_of(file), id3_end(file, 0)
    links: list[_Link] = []
    beginning, damage = False, ""
    while at < size:
        page = read_at(file, at, 27 + 255 + 128)
        if page[:4] != b"OggS" or len(page) < 27:
            following = _next_page(file, at + 1, size)
            if following is None:
                return links, size - at < 27 and b"OggS".startswith(page[:4]), damage
            at = following
            continue
        flags, serial, n_segments = page[5], page[14:18], page[26]
        body = 27 + n_segments
        end = at + body + sum(page[27:body])
        if end != size and read_at(file, end, 4) != b"OggS":
            if (inner := read_at(file, at + 4, end - at).find(b"OggS\0")) >= 0:
                damage = damage or f"another page begins within the page at byte {at}"
                at += 4 + inner
                continue
            if end > size:
                return links, True, damage
        if flags & _FIRST:
            if not beginning:
                links.append(_Link(at, end))
            beginning = True
            links[-1].streams[serial] = _stream(page[body:])
        else:
            beginning = False
        if links and (stream := links[-1].streams.get(serial)):
            if stream.n_pages and _number(page) != stream.next_page and not _is_intact(read_at(file, at, end - at)):
                damage = damage or f"the checksum of the page at byte {at} is wrong"
                page = page[:18] + stream.next_page.to_bytes(4, "little") + page[22:]
            _add_page(stream, page)
            stream.last_page = at, end
            links[-1].end = end
        at = end
    return links, False, damage


def _number(page: bytes) -> int:
    return int.from_bytes(page[18:22], "little")


def _is_intact(page: bytes) -> bool:
    return _crc32(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")


def _add_page(stream: _Stream, page: bytes) -> None:
    granule, number = int.from_bytes(page[6:14], "little", signed=True), _number(page)
    if stream.n_pages:
        stream.missing += max(0, number - stream.next_page)
        stream.repeated += number < stream.next_page
    stream.next_page = max(stream.next_page, number + 1)
    stream.n_pages += 1
    stream.ended = bool(page[5] & _LAST)
    if granule > 0:
        if len(stream.granules) == 3:
            stream.granules[2] = granule
        else:
            stream.granules.append(granule)


def _next_page(file: IO[bytes], at: int, size: int) -> int | None:
    stop = min(size, at + _SEARCHED)
    while at < stop:
        window = read_at(file, at, 2**20)
        if (found := window.find(b"OggS\0")) >= 0:
            return at + found
        at += max(1, len(window) - 4)
    return None


def _stream(head: bytes) -> _Stream:
    """Return the stream that a first packet begins; its rate is 0 if it is not audio."""

    def number(at: int, n_bytes: int) -> int:
        return int.from_bytes(head[at : at + n_bytes], "little")

    if head[:7] == b"\x01vorbis":
        return _Stream("Vorbis", number(12, 4), number(11, 1))
    if head[:8] == b"OpusHead":
        return _Stream("Opus", 48_000, number(9, 1), number(10, 2))
    if head[:5] == b"\x7fFLAC":
        packed = int.from_bytes(head[27:31], "big")  # 20 bits of rate, 3 of channels
        return _Stream("FLAC", packed >> 12, (packed >> 9 & 7) + 1)
    if head[:8] == b"Speex   ":
        return _Stream("Speex", number(36, 4), number(48, 4))
    return _Stream("", 0, 0)
