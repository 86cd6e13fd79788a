"""MPEG audio (MP3), ADTS (AAC) and AC-3: frames without a container, counted one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from mirembed.audio.headers.header import Header, Part, ape_end, id3_end, read_at, size_of, tags_start

MAX_JUNK = 64 * 10**6
"""Bytes between frames that are searched for the next one."""

_WINDOW = 2**20
_CHAIN = 3
"""Consecutive frames that are needed to recognize frames after something else."""

_KBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by version (2 is also 2.5) and layer; layers 2 and 3 of version 2 share them."""

_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350)
"""Sampling rates of ADTS."""

_ADTS_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8)

_AC3_RATES, _AC3_CHANNELS = (48_000, 44_100, 32_000), (2, 1, 2, 3, 3, 4, 4, 5)
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


class Kind(NamedTuple):
    """Properties that must not change from one frame to the next."""

    rate: int
    channels: int
    codec: str


class Frame(NamedTuple):
    """The header of one frame: its length in bytes, its samples, their kind, and 1000 bits per second (0: unknown)."""

    length: int
    samples: int
    kind: Kind
    kbits: int = 0


Parse = Callable[[bytes, int], Frame | None]
"""Returns the frame that begins at a position; None if there is none."""


@dataclass
class Walk:
    """The frames of a file.

    Attributes
    ----------
    seconds : float
    first : int
        Offset of the first frame.
    frame : Frame or None
        The first frame.
    changes : list of str
        What changes from one frame to a later one, and when.
    gaps : int
        How many times something other than a frame lies between frames.
    junk, gap : int, float
        Bytes between frames that are no tag either, and seconds of sound before the first of them.
    overrun : int
        Bytes that are missing of the last frame.
    gave_up : str
        Where more than `MAX_JUNK` bytes are not frames, after which the rest was not searched; empty if nowhere.
    """

    seconds: float = 0.0
    first: int = 0
    frame: Frame | None = None
    changes: list[str] = field(default_factory=list)
    gaps: int = 0
    junk: int = 0
    gap: float = 0.0
    overrun: int = 0
    gave_up: str = ""


def mpeg_parser() -> Parse:
    """Return a function that parses MPEG frame headers, and remembers those that it has met."""
    known: dict[bytes, Frame | None] = {}

    def parse(data: bytes, at: int) -> Frame | None:
        head = data[at : at + 4]
        try:
            return known[head]
        except KeyError:
            return known.setdefault(head, _mpeg_frame(head))

    return parse


def _mpeg_frame(head: bytes) -> Frame | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version = {0: 2.5, 2: 2, 3: 1}.get(head[1] >> 3 & 3)
    layer, row, column = 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version is None or layer == 4 or row in (0, 15) or column == 3:
        return None
    rate = (44_100, 48_000, 32_000)[column] // {1: 1, 2: 2, 2.5: 4}[version]
    kbits = _KBITS[min(2, int(version)), min(layer, 2) if version > 1 else layer][row - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and version > 1 else 1152
    slot = 4 if layer == 1 else 1
    length = (samples // 8 // slot * kbits * 1000 // rate + (head[2] >> 1 & 1)) * slot
    kind = Kind(rate, 1 if head[3] >> 6 == 3 else 2, f"MPEG-{version:g} layer {layer}")
    return Frame(length, samples, kind, kbits)


def adts_frame(data: bytes, at: int) -> Frame | None:
    """Return the ADTS frame that begins at a position, None if there is none."""
    head = data[at : at + 7]
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 >= len(_RATES):
        return None
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    channels = _ADTS_CHANNELS[(head[2] & 1) << 2 | head[3] >> 6]
    kind = Kind(_RATES[head[2] >> 2 & 15], channels, "AAC")
    return Frame(length, 1024 * ((head[6] & 3) + 1), kind) if length > 7 else None


def ac3_frame(data: bytes, at: int) -> Frame | None:
    """Return the AC-3 frame that begins at a position, None if there is none."""
    head = data[at : at + 8]
    if len(head) < 8 or head[:2] != b"\x0b\x77":
        return None
    version, code, row, mode = head[5] >> 3, head[4] >> 6, head[4] & 63, head[6] >> 5
    if version > 10 or code == 3 or row >= 2 * len(_AC3_KBITS):
        return None
    rate, kbits = _AC3_RATES[code], _AC3_KBITS[row // 2]
    words = kbits * 96_000 // rate + (code == 1 and row % 2)
    before_lfe = 3 + 2 * (mode & 1 and mode != 1) + 2 * bool(mode & 4) + 2 * (mode == 2)  # bits
    lfe = int.from_bytes(head[6:8], "big") >> (15 - before_lfe) & 1
    return Frame(2 * words, 1536, Kind(rate >> max(0, version - 8), _AC3_CHANNELS[mode] + lfe, "AC-3"), kbits)


def walk(file: IO[bytes], start: int, end: int, parse: Parse) -> Walk:
    """Count the frames between two offsets, reading a window at a time."""
    found, at, junk = Walk(), start, 0
    kind: Kind | None = None
    n_samples = 0
    while at < end:
        window = read_at(file, at, min(_WINDOW, end - at))
        last = len(window) - 16 if at + len(window) < end else len(window) - 1
        position = 0
        while position <= last:
            frame = parse(window, position)
            if frame is None:
                break
            length, samples, its_kind, _ = frame
            if its_kind != kind:
                found.seconds, n_samples = found.seconds + (n_samples / kind.rate if kind else 0), 0
                if not _take_change(found, frame, parse, window, position, at, end):
                    break
                kind = its_kind
            n_samples += samples
            position += length
        at += position
        if at >= end:
            found.overrun = at - end
        elif position <= last:
            following = _after(file, at, end, parse)
            if following is None or junk > MAX_JUNK:
                if end - at > MAX_JUNK:
                    found.gave_up = "after" if following is None else "within"
                break
            if found.frame is not None:
                found.gaps += 1
                if following != _tags_end(file, at):
                    found.gap = found.gap if found.junk else found.seconds + (n_samples / kind.rate if kind else 0)
                    found.junk += following - at
            junk += following - at
            at = following
    found.seconds += n_samples / kind.rate if kind else 0
    return found


def _take_change(found: Walk, frame: Frame, parse: Parse, window: bytes, position: int, base: int, end: int) -> bool:
    """Whether to accept a frame that is the first or of another kind than the one before; record what changes."""
    if not _is_chain(parse, window, position, end - base):
        return False
    if found.frame is None:
        found.frame, found.first = frame, base + position
        return True
    names = ("sampling rate", "number of channels", "codec")
    for name, before, now in zip(names, found.frame.kind, frame.kind, strict=True):
        change = f"the {name} changes from {before} to {now}"
        if now != before and not any(one.startswith(change) for one in found.changes):
            found.changes.append(f"{change} at {found.seconds:.1f} s")
    return True


def _is_chain(parse: Parse, window: bytes, position: int, end: int) -> bool:
    """Whether frames of one kind follow each other from a position on, or up to the end exactly."""
    first = parse(window, position)
    frame = first
    for _ in range(_CHAIN):
        if frame is None or first is None or frame.kind != first.kind:
            return False
        position += frame.length
        if position == end:
            return True
        frame = parse(window, position)
    return True


def _tags_end(file: IO[bytes], at: int) -> int:
    """Return where the tags end that begin at an offset, as they do where files were joined."""
    at = ape_end(file, at)
    return ape_end(file, id3_end(file, at + 128 * (read_at(file, at, 3) == b"TAG")))


def _after(file: IO[bytes], at: int, end: int, parse: Parse) -> int | None:
    """Return the offset of the next frames after something else; None if there are none."""
    tag = id3_end(file, at)
    if tag > at and (tag >= end or _is_chain(parse, read_at(file, tag, 2**15), 0, end - tag)):
        if tag < end:
            return tag
        at += 10  # the tag claims more than there is: look inside
    searched, sync = 0, b"\x0b" if parse is ac3_frame else b"\xff"
    while at < end and searched <= MAX_JUNK:
        window = read_at(file, at, min(_WINDOW, end - at))
        usable = len(window) - 2**15 if at + len(window) < end else len(window)
        position = window.find(sync, 0)
        while 0 <= position < usable:
            if _is_chain(parse, window, position, end - at):
                return at + position
            position = window.find(sync, position + 1)
        at, searched = at + usable, searched + usable
    return None


def mpeg_header(file: IO[bytes], start: int, end: int, *, bare: bool = True) -> Header | None:
    """Read a file of MPEG frames; None if it holds none.

    Parameters
    ----------
    file : binary file
    start, end : int
        Offsets between which the frames are.
    bare : bool
        Whether the frames are the file, and not the content of a WAV.
    """
    if bare:
        end = tags_start(file, end)
    found = walk(file, start, end, mpeg_parser())
    if found.frame is None:
        return None
    rate, samples = found.frame.kind.rate, found.frame.samples
    n_frames, trim = _xing(read_at(file, found.first, 1024), found.frame)
    room, stated = found.seconds, 0.0
    if n_frames is not None:
        room -= (samples + trim) / rate
        stated = (n_frames * samples - trim) / rate
    tag = id3_end(file, 0) if bare else 0
    # Not the file as it is if a tag claims more than it takes, or if tags follow that libsndfile does not know.
    parts = (Part(found.first, end),) if found.first < tag or tag >= end or (bare and end + 128 < size_of(file)) else ()
    notes = () if n_frames else _notes(found)
    if not stated and bare and (told := _told_by_tag(file)) > 1.01 * room + 1:  # programs copy tags to other files
        notes += (f"its tag TLEN states {told:.1f} s, but there are {room:.1f} s: the file may be cut",)
    return Header(
        stated=max(0.0, stated),
        room=max(0.0, room),
        slack=(1.01 + 2 * found.gaps) * samples / rate,
        refusal=_refusal(found),
        kind=found.frame.kind.codec,
        mpeg=True,
        by_bit_rate=(end - found.first) / 125 / found.frame.kbits,
        parts=parts,
        notes=notes,
    )


def _notes(found: Walk) -> tuple[str, ...]:
    """Return what is said of frames whose number no header states."""
    notes: tuple[str, ...] = ()
    if found.junk:
        notes = (f"from {found.gap:.1f} s on, {found.junk} bytes belong to no frame: sound may be missing",)
    if found.overrun:
        notes += ("the last frame is incomplete: the file may be cut",)
    return notes


def _refusal(found: Walk) -> str:
    if found.changes:
        return f"{found.changes[0]}; split the file there"
    if found.gave_up:
        return (
            f"{found.gave_up} {found.seconds:.1f} s of audio, more than {MAX_JUNK / 1e6:.0f} MB are not frames; "
            "export the file again"
        )
    return ""


def _xing(data: bytes, frame: Frame) -> tuple[int | None, int]:
    """Return the number of frames that a first frame named Xing, Info or VBRI states, and the samples to trim."""
    _, channels, codec = frame.kind
    offset = (36 if channels == 2 else 21) if codec.startswith("MPEG-1") else 21 if channels == 2 else 13
    if data[36:40] == b"VBRI":
        return int.from_bytes(data[50:54], "big"), 0
    if not codec.endswith("layer 3") or data[offset : offset + 4] not in (b"Xing", b"Info"):
        return None, 0
    flags = int.from_bytes(data[offset + 4 : offset + 8], "big")
    if not flags & 1:
        return 0, 0
    n_frames = int.from_bytes(data[offset + 8 : offset + 12], "big")
    lame = offset + 8 + 4 * bool(flags & 1) + 4 * bool(flags & 2) + 100 * bool(flags & 4) + 4 * bool(flags & 8)
    if data[lame : lame + 4] not in (b"LAME", b"Lavf", b"Lavc", b"GOGO", b"L3.9"):
        return n_frames, 0
    both = int.from_bytes(data[lame + 21 : lame + 24], "big")
    return n_frames, (both >> 12) + (both & 4095)


def _told_by_tag(file: IO[bytes]) -> float:
    """Return the length in an ID3v2 tag (TLEN), in seconds; 0 if it has none."""
    tag = read_at(file, 0, min(id3_end(file, 0), 2**16))
    at = tag.find(b"TLEN")
    if at < 0:
        return 0.0
    size = int.from_bytes(tag[at + 4 : at + 8], "big")
    text = tag[at + 10 : at + 10 + min(size, 40)].decode("latin-1")
    digits = "".join(letter for letter in text if letter.isdigit())
    return int(digits) / 1000 if digits else 0.0


def adts_header(file: IO[bytes], start: int) -> Header | None:
    """Read a file of ADTS frames; None if it holds none."""
    return _bare_header(file, start, adts_frame, 2048)


def ac3_header(file: IO[bytes], start: int) -> Header | None:
    """Read a file of AC-3 frames; None if it holds none."""
    return _bare_header(file, start, ac3_frame, 1536)


def _bare_header(file: IO[bytes], start: int, parse: Parse, frame: int) -> Header | None:
    end = tags_start(file, size_of(file))
    found = walk(file, start, end, parse)
    if found.frame is None:
        return None
    slack = (2 + 2 * found.gaps) * frame / found.frame.kind.rate
    codec = found.frame.kind.codec
    return Header(room=found.seconds, slack=slack, refusal=_refusal(found), kind=codec, notes=_notes(found))
