"""Containers of nested boxes: MP4 (M4A, MOV), Matroska (MKA, WebM) and ASF (WMA)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from mirembed.audio.headers.header import Header, read_at, size_of

_INDEX_BYTES = 2**28
"""A larger index is not read."""


@dataclass
class _Track:
    """An audio track of an MP4 file."""

    kind: bytes = b""
    number: int = 0
    scale: int = 0
    stated: int = 0
    duration: int = 0
    codec: str = ""
    edits: list[tuple[int, int]] = field(default_factory=list)
    """Length in the units of the movie, and beginning in those of the track."""
    missing: float = 0.0
    entries: tuple[int, ...] = ()
    default: int = 0
    first: int | None = None
    """Offset of the first sample in the file."""
    fragments: int = 0


_KNOWN = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp", b"sidx", b"mfra", b"meta", b"uuid")


def mp4_header(file: IO[bytes], begin: int) -> Header:
    """Read the boxes of an MP4 file that begins at an offset."""
    size = size_of(file)
    index, scale, cut, at, n_indexes = b"", 0, "", begin, 0
    tracks: list[_Track] = []
    found: dict[int, _Track] = {}
    data: list[tuple[int, int]] = []
    before: list[int] = []
    for name, start, end in _top_boxes(file, begin, size):
        if end > size and name not in _KNOWN:
            break
        at = end
        n_indexes += name == b"moov"
        if end > size:
            name_of, missing = name.decode("latin-1"), end - size
            cut = f"the box {name_of} states {missing} bytes more than the file has"
        elif name == b"moov" and n_indexes == 1:
            if end - start > _INDEX_BYTES:
                return Header()
            index = read_at(file, start, end - start)
            scale, tracks = _movie(index, size)
            found = {track.number: track for track in tracks}
        elif name == b"moof" and end - start <= _INDEX_BYTES:
            before = [track.duration for track in tracks]
            _add_fragment(read_at(file, start, end - start), found)
        elif name == b"mdat":
            data.append((start, end))
            before = []
    if n_indexes > 1:
        return Header(refusal=f"{n_indexes} indexes (boxes moov), as if MP4 files were joined; split the file")
    if not index:
        return Header(refusal=f"{cut or _without_index(at, size)}; copy or export the file again")
    sounding = [track for track in tracks if track.kind == b"soun"]
    if not sounding:
        return Header(refusal="no audio track in this MP4 file")
    track = sounding[0]
    if begin and (wrong := _why_not_tagged(file, track, data)):
        return Header(refusal=f"{wrong}; remove the tag")
    if not track.scale:
        return Header(refusal="damaged: its audio track states no time scale; copy or export the file again")
    if track.fragments and not cut and (follows := _fragment_after(file, at)):
        return Header(
            refusal=f"damaged: no box begins at byte {at}, but a fragment (box moof) does at byte {follows}; "
            "copy or download the file again"
        )
    if cut and before:  # the fragment whose data is cut
        track.duration = before[tracks.index(track)]
    notes = (f"{len(sounding)} audio tracks: only the first was read",) if len(sounding) > 1 else ()
    pieces = [edit for edit in track.edits if edit[1] >= 0]
    room = track.duration / track.scale * (1 - track.missing)
    stated = (
        max(track.stated, track.duration) / track.scale
        if track.missing or not track.duration
        else track.stated / track.scale
    )
    refusal = ""
    if len(pieces) > 1:
        refusal = f"an edit list of {len(pieces)} pieces, which no available decoder supports; export the file again"
    elif cut and not track.missing:
        refusal = f"truncated after {room:.1f} s: {cut}; copy or download the file again"
    skip, keep = 0.0, 0.0
    if pieces:
        skip, keep = pieces[0][1] / track.scale, pieces[0][0] / scale if scale else 0.0
    elif smoothed := _itunes_gapless(index):
        rate = track.entries[1] if len(track.entries) > 1 and track.entries[1] else track.scale
        skip, keep = smoothed[0] / rate, smoothed[1] / rate
    if room > skip:
        keep = min(keep or room, room - skip)  # the last frame may be longer than the music
    kind = f"{track.codec} in MP4" if track.codec else ""
    return Header(stated=stated, room=room, slack=0.1, refusal=refusal, kind=kind, skip=skip, keep=keep, notes=notes)


def _why_not_tagged(file: IO[bytes], track: _Track, data: list[tuple[int, int]]) -> str:
    """Return why a file with a tag before its first box cannot be read; empty if it can."""
    if read_at(file, 0, 3) != b"ID3":
        return "an APE tag before the MP4 data, which no available decoder skips"
    if track.first is None or not any(start <= track.first < end for start, end in data):
        return "an ID3 tag before the MP4 data, which is not where its index (box moov) says"
    return ""


def _fragment_after(file: IO[bytes], at: int) -> int:
    """Return where a fragment begins after an offset; 0 if there is none."""
    stop = at + _INDEX_BYTES
    while at < stop and len(window := read_at(file, at, 2**20)) > 8:
        place = window.find(b"moof")
        if place >= 4 and window[place + 8 : place + 12] == b"mfhd":
            return at + place - 4
        at += len(window) - 16 if len(window) > 16 else len(window)
    return 0


def _without_index(at: int, size: int) -> str:
    if at < size:
        return f"damaged: no box begins at byte {at}, and there is no index (box moov) before it"
    return "no index (box moov), as if the recording was never finished"


def _top_boxes(file: IO[bytes], at: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the content of each box from an offset on."""
    while at + 8 <= size:
        head = read_at(file, at, 16)
        length, name, body = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1 and len(head) == 16:
            length, body = int.from_bytes(head[8:], "big"), 16
        elif length == 0:
            length = size - at
        if length < body or not all(32 <= byte < 127 or byte == 0xA9 for byte in name):
            return
        yield name, at + body, at + length
        at += length


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each box in a box."""
    at = 0
    while at + 8 <= len(data):
        length, name, body = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:
            length, body = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif length == 0:
            length = len(data) - at
        if length < body:
            return
        yield name, data[at + body : at + length]
        at += length


def _movie(data: bytes, size: int) -> tuple[int, list[_Track]]:
    """Return the time scale of a movie, and its tracks."""
    scale, tracks, defaults = 0, [], {}
    for name, content in _boxes(data):
        if name == b"mvhd" and len(content) >= 24:
            scale = int.from_bytes(content[20:24] if content[0] else content[12:16], "big")
        elif name == b"trak":
            track = _Track()
            _read_track(content, track, size)
            tracks.append(track)
        elif name == b"mvex":
            for kind, one in _boxes(content):
                if kind == b"trex" and len(one) >= 16:
                    defaults[int.from_bytes(one[4:8], "big")] = int.from_bytes(one[12:16], "big")
    for track in tracks:
        track.default = defaults.get(track.number, 0)
    return scale, tracks


def _read_track(data: bytes, track: _Track, size: int) -> None:
    tables: dict[bytes, bytes] = {}
    for name, content in _boxes(data):
        if name in (b"mdia", b"minf", b"edts"):
            _read_track(content, track, size)
        elif name == b"stbl":
            tables = dict(_boxes(content))
        elif name == b"tkhd" and len(content) >= 24:
            track.number = int.from_bytes(content[20:24] if content[0] else content[12:16], "big")
        elif name == b"mdhd" and len(content) >= 20:
            wide = bool(content[0])
            track.scale = int.from_bytes(content[20:24] if wide else content[12:16], "big")
            track.stated = int.from_bytes(content[24:32] if wide else content[16:20], "big")
            if track.stated >= (2**64 - 1 if wide else 2**32 - 1):
                track.stated = 0
        elif name == b"hdlr" and len(content) >= 12 and not track.kind:
            track.kind = content[8:12]
        elif name == b"elst" and len(content) >= 8:
            pattern = ">Qqi" if content[0] else ">Iii"
            step = struct.calcsize(pattern)
            number = min(int.from_bytes(content[4:8], "big"), (len(content) - 8) // step)
            entries = [struct.unpack_from(pattern, content, 8 + step * entry) for entry in range(number)]
            track.edits = [(length, begin) for length, begin, _ in entries]
    if tables:
        _read_tables(tables, track, size)


def _read_tables(tables: dict[bytes, bytes], track: _Track, size: int) -> None:
    times = tables.get(b"stts", b"")
    pairs = list(struct.iter_unpack(">II", times[8 : 8 + (len(times) - 8) // 8 * 8])) if len(times) > 8 else []
    track.duration = sum(number * length for number, length in pairs)
    description = tables.get(b"stsd", b"")
    if len(description) >= 44:
        channels, bits = struct.unpack(">HH", description[32:36])
        track.codec = description[12:16].decode("latin-1")
        track.entries = channels, int.from_bytes(description[40:42], "big"), bits
    n_samples = sum(number for number, _ in pairs)
    fitting = _fitting_samples(tables, size)
    places = tables.get(b"stco", b"")[8:12] or tables.get(b"co64", b"")[8:16]
    track.first = int.from_bytes(places, "big") if places else None
    if n_samples and fitting is not None and fitting < n_samples:
        track.missing = 1 - fitting / n_samples


def _fitting_samples(tables: dict[bytes, bytes], size: int) -> int | None:
    """Return how many samples lie within a file of some size, in the order of the file; None if unknown."""
    wide = b"co64" in tables
    places, sizes, groups = (
        tables.get(b"co64" if wide else b"stco", b""),
        tables.get(b"stsz", b""),
        tables.get(b"stsc", b""),
    )
    if len(places) < 12 or len(sizes) < 12 or len(groups) < 20:
        return None
    code, width = ("Q", 8) if wide else ("I", 4)
    number = min(int.from_bytes(places[4:8], "big"), (len(places) - 8) // width)
    offsets = struct.unpack_from(f">{number}{code}", places, 8)
    common, n_samples = struct.unpack(">II", sizes[4:12])
    n_samples = min(n_samples, (len(sizes) - 12) // 4) if not common else n_samples
    listed = () if common else struct.unpack_from(f">{n_samples}I", sizes, 12)
    runs = [run[:2] for run in struct.iter_unpack(">III", groups[8 : 8 + (len(groups) - 8) // 12 * 12])]
    per_chunk = [0] * len(offsets)
    for (first, count), (following, _) in zip(runs, [*runs[1:], (len(offsets) + 1, 0)], strict=True):
        for chunk in range(max(0, first - 1), min(len(offsets), following - 1)):
            per_chunk[chunk] = count
    sample, fitting = 0, 0
    for offset, count in zip(offsets, per_chunk, strict=True):
        count = min(count, n_samples - sample)
        length = common * count if common else sum(listed[sample : sample + count])
        if offset + length <= size:
            fitting += count
        elif common:
            fitting += max(0, (size - offset) // common)
        else:
            at = offset
            for one in listed[sample : sample + count]:
                at += one
                fitting += at <= size
        sample += count
    return fitting


def _add_fragment(data: bytes, tracks: dict[int, _Track]) -> None:
    """Add the length of a fragment to its tracks."""
    for name, content in _boxes(data):
        if name != b"traf":
            continue
        track, default = None, 0
        for kind, box in _boxes(content):
            flags = int.from_bytes(box[1:4], "big")
            if kind == b"tfhd" and len(box) >= 8:
                track = tracks.get(int.from_bytes(box[4:8], "big"))
                at = 8 + 8 * bool(flags & 1) + 4 * bool(flags & 2)
                default = int.from_bytes(box[at : at + 4], "big") if flags & 8 else track.default if track else 0
            elif kind == b"trun" and track is not None and len(box) >= 8:
                number = int.from_bytes(box[4:8], "big")
                track.fragments += 1
                at = 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4)
                width = 4 * sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
                if flags & 0x100:
                    places = range(at, min(len(box) - 3, at + width * number), width)
                    track.duration += sum(int.from_bytes(box[place : place + 4], "big") for place in places)
                else:
                    track.duration += number * default


def _itunes_gapless(index: bytes) -> tuple[int, int] | None:
    """Return the delay and the length in samples that iTunes wrote into a tag."""
    at = index.find(b"iTunSMPB")
    data = index.find(b"data", at, at + 64) if at >= 0 else -1
    if data < 0:
        return None
    numbers = index[data + 12 : data + 12 + 120].split()
    try:
        return int(numbers[1], 16), int(numbers[3], 16)
    except (IndexError, ValueError):
        return None


# Matroska

_EBML, _SEGMENT, _CLUSTER, _INFO, _TRACKS = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1549A966, 0x1654AE6B


def _element(data: bytes, at: int) -> tuple[int, int | None, int] | None:
    """Return the id of the element at a position, the size of its content (None: unknown), and where that begins."""
    if at >= len(data) or not data[at]:
        return None
    n_id = 9 - data[at].bit_length()
    place = at + n_id
    if n_id > 4 or place >= len(data) or not data[place]:
        return None
    n_size = 9 - data[place].bit_length()
    if place + n_size > len(data):
        return None
    size = int.from_bytes(data[place : place + n_size], "big") & (1 << 7 * n_size) - 1
    name = int.from_bytes(data[at:place], "big")
    return name, None if size == (1 << 7 * n_size) - 1 else size, place + n_size


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while found := _element(data, at):
        name, size, start = found
        at = len(data) if size is None else start + size
        yield name, data[start:at]


def matroska_header(file: IO[bytes], at: int) -> Header:
    """Read the elements of a Matroska or WebM file that begins at an offset."""
    size = size_of(file)
    scale, duration, n_audio, delay, codec, wrong = 1_000_000, 0.0, 0, 0.0, "", ""
    cluster, last, end, n_segments = 0.0, 0.0, size, 0
    while at < size and (found := _element(read_at(file, at, 16), 0)):
        name, length, start = found[0], found[1], at + found[2]
        if at >= end and name not in (_EBML, _SEGMENT):
            break  # what follows the segment is not part of it
        if name == _SEGMENT:
            n_segments += 1
            end = size if length is None else start + length
        if length is not None and start + length > size:
            wrong = f"the element at byte {at} states {start + length - size} bytes more than the file has"
            if name not in (_SEGMENT, _CLUSTER):
                break
        if name == _INFO and length is not None and length < _INDEX_BYTES:
            for kind, value in _elements(read_at(file, start, length)):
                if kind == 0x2AD7B1:
                    scale = int.from_bytes(value, "big") or scale
                elif kind == 0x4489 and len(value) in (4, 8):
                    duration = struct.unpack(">f" if len(value) == 4 else ">d", value)[0]
        elif name == _TRACKS and length is not None and length < _INDEX_BYTES:
            for kind, value in _elements(read_at(file, start, length)):
                track = dict(_elements(value)) if kind == 0xAE else {}
                if track.get(0x83) == b"\2":
                    n_audio += 1
                    if n_audio == 1:
                        delay = int.from_bytes(track.get(0x56AA, b""), "big") / 1e9
                        codec = track.get(0x86, b"").decode("latin-1")
        elif name == 0xE7 and length is not None:
            cluster = int.from_bytes(read_at(file, start, min(8, length)), "big")
        elif name in (0xA3, 0xA1) and length is not None:
            block = read_at(file, start, 12)
            n_number = 9 - block[0].bit_length() if block and block[0] else 1
            last = max(last, cluster + int.from_bytes(block[n_number : n_number + 2], "big", signed=True))
        inside = name in (_SEGMENT, _CLUSTER, 0xA0)
        at = start if inside or length is None else start + length
    stated, room = duration * scale / 1e9, last * scale / 1e9
    refusal = "" if n_audio else "no audio track in this Matroska file"
    if n_segments > 1:
        refusal = (
            f"{n_segments} Matroska files joined into one, of which the available decoders read only the first; "
            "split the file"
        )
    elif n_audio and wrong:
        refusal = f"damaged or cut after {room:.1f} s: {wrong}; copy or download the file again"
    notes = (f"{n_audio} audio tracks: only the first was read",) if n_audio > 1 else ()
    skip = delay if codec.startswith(("A_AAC", "A_MPEG")) else 0.0  # decoders of other codecs leave it out themselves
    holds = f"{codec} in Matroska" if codec else ""
    return Header(stated=stated, room=room, slack=0.3, refusal=refusal, kind=holds, skip=skip, notes=notes)


# ASF

_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


def asf_header(file: IO[bytes], begin: int) -> Header:
    """Read the objects of an ASF (WMA) file that begins at an offset."""
    size, stated, packet, n_packets = size_of(file), 0.0, 0, 0
    head = read_at(file, begin, 30)
    at, end = begin + 30, begin + int.from_bytes(head[16:24], "little")
    while at + 24 <= min(end, size):
        place = read_at(file, at, 104)
        length = int.from_bytes(place[16:24], "little")
        if place[:16] == _ASF_PROPERTIES and len(place) == 104:
            n_packets, play, _, preroll = struct.unpack("<QQQQ", place[56:88])
            flags, packet = struct.unpack("<II", place[88:96])
            stated = 0.0 if flags & 1 else max(0.0, play / 1e7 - preroll / 1e3)
        at += max(24, length)
    place = read_at(file, end, 50)
    room = 0.0
    after = end + int.from_bytes(place[16:24], "little")
    if place[:16] == _ASF_DATA and after < size and read_at(file, after, 16) == head[:16]:
        return Header(
            refusal="ASF files joined into one, of which the available decoders read only the first; split the file"
        )
    if place[:16] == _ASF_DATA and packet and n_packets and stated:
        room = stated * min(1.0, (size - end - 50) // packet / n_packets)
    return Header(stated=stated, room=room, slack=0.25)
