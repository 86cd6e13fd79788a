"""Files of chunks: WAV (RIFF, RF64, W64), AIFF, AU and CAF, whose size fields may be wrong."""

from __future__ import annotations

import functools
import itertools
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import IO

from mirembed.audio.headers.header import SLACK, Header, Part, id3_end, read_at, size_of, tags_start
from mirembed.audio.headers.mpeg import mpeg_header

_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_MPEG = (0x50, 0x55)
_VARIABLE = (0xFF, 0x1600, 0x1602, 0x1610, 0x674F, 0x6750, 0x6751, 0x676F, 0x6770, 0x6771, 0x706D, 0xF1AC)
"""WAV format tags of codecs whose bytes per second say nothing: AAC, Vorbis, FLAC."""

_BLOCKS = (2, 0x11, 0x31)
"""WAV format tags of codecs whose header states the samples in a block: MS and IMA ADPCM, GSM."""

_AFTER = re.compile(
    rb"LIST|list|id3 |ID3 |fact|cue |smpl|inst|PEAK|bext|iXML|_PMX|JUNK|junk|FLLR|PAD |plst|acid|levl|DISP|AFAn|NAME"
    rb"|AUTH|ANNO|\(c\) |MARK|COMT|INST|APPL|MIDI|COMM|free|info|chan|umid|axml|chna|dbmd"
)
"""Names of chunks that may follow the samples, for files in which the end of the last one is missing."""

_FILES = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b"data", b"SSND")
"""Names of chunks that can follow the samples only if there are more samples."""

_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
"""Bytes per sample, by the encoding in the header of an AU file."""

_LARGEST = 2**32 - 2**12
"""Bytes of samples: more do not fit the sizes of a WAV."""

_AIFF_BYTES = {b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1}


@dataclass(frozen=True)
class _Content:
    """The samples in a file of chunks.

    Attributes
    ----------
    start : int
        Offset of the first byte.
    stated : int or None
        Bytes; None if the header says that it does not know.
    block_bytes, block_samples : int
        Samples of all channels that stand together.
    rate : int
        Hz.
    patches : tuple of (int, str)
        Where sizes stand, and what belongs there, see `_packed`.
    """

    start: int
    stated: int | None
    block_bytes: int
    block_samples: int
    rate: float
    patches: tuple[tuple[int, str], ...] = ()

    def seconds(self, n_bytes: int) -> float:
        return n_bytes / self.block_bytes * self.block_samples / self.rate


def _is_unknown(size: int) -> bool:
    """Whether a program that wrote a WAV to a pipe stated this size: 2 or 4 GiB."""
    return size >= 2**32 - 2**12 or 2**31 - 2**16 <= size <= 2**31 + 2**12


def _header(file: IO[bytes], found: _Content, begin: int, *, align: int = 2, clip: bool = False) -> Header | None:
    """Compare the stated size of the samples with what follows them.

    With ``clip``, a decoder that opens no file of more stated than there is gets what there is.
    """
    if found.block_bytes < 1 or found.rate <= 0 or found.block_samples < 1:
        return None
    size = size_of(file)
    end = tags_start(file, size)
    held = _held(file, found, end, align)
    stated = 0.0 if found.stated is None else found.seconds(found.stated)
    notes: tuple[str, ...] = ()
    parts = (Part(begin, end),) if end < size or begin else ()
    if (not found.stated and held) or (clip and (found.stated or 0) > held):
        values = {"bytes": held, "samples": held // found.block_bytes * found.block_samples}
        parts = (Part(begin, end, tuple((at - begin, _packed(code, values)) for at, code in found.patches)),)
    if not found.stated and held:
        notes = ("the header states no length: the file was read to its end",)
    slack = max(SLACK, 2 * found.block_samples / found.rate)
    return Header(stated=stated, room=found.seconds(held), slack=slack, strict=True, parts=parts, notes=notes)


def _packed(code: str, values: dict[str, int]) -> bytes:
    """Return a number as bytes: ``<I bytes`` is the number of bytes as 32 bits, at most the largest."""
    pattern, _, name = code.partition(" ")
    name, _, more = name.partition("+")
    limit = 2 ** (8 * struct.calcsize(pattern)) - 1
    return struct.pack(pattern, min(limit, values[name] + int(more or 0)))


def _held(file: IO[bytes], found: _Content, end: int, align: int) -> int:
    """Return the bytes of samples that a file has room for.

    They are what the header states if chunks, tags or little follow; otherwise all to the end.
    """
    rest = max(0, end - found.start)
    if found.stated is None or found.stated >= rest:
        return rest
    at = found.start + found.stated
    at += -at % align
    if end - at <= 64 or found.seconds(end - at) <= SLACK:
        return found.stated
    for start in dict.fromkeys((at, found.start + found.stated)):
        if _only_chunks(file, start, end, found):
            return found.stated
    return rest


def _only_chunks(file: IO[bytes], at: int, end: int, found: _Content) -> bool:
    """Whether chunks without samples follow."""
    first = True
    for _ in range(1000):
        if (after := id3_end(file, at)) > at:
            at, first = after, False
        head = read_at(file, at, 24)
        if len(head) < 8 or at >= end:
            return not first or end - at < 8
        name = head[:4]
        if name in _FILES or name == b"riff":
            return False
        size = int.from_bytes(head[4:8], "little" if _is_little(file) else "big")
        if _is_wide(file):
            size = int.from_bytes(head[16:], "little") - 8
        if not all(32 <= byte < 127 for byte in name):
            return not first and found.seconds(end - at) < 1
        if at + 8 + size > end and not _AFTER.fullmatch(name):
            return False
        at += 8 + size + (-size % 8 if _is_wide(file) else size % 2)
        first = False
    return True


def _is_wide(file: IO[bytes]) -> bool:
    return read_at(file, id3_end(file, 0), 4) == b"riff"


def _is_little(file: IO[bytes]) -> bool:
    return read_at(file, id3_end(file, 0), 4) not in (b"FORM", b"RIFX")


@dataclass
class _Wave:
    """What comes before the samples of a WAV or Wave64 file.

    Attributes
    ----------
    begin : int
        Where the file begins.
    order : {"<", ">"}
        Order of the bytes in numbers.
    pad : int
        Chunks begin at multiples of so many bytes.
    fmt : bytes
        Content of the chunk of this name.
    n_samples : int
        As the chunk fact states; 0 if it does not.
    start : int
        Offset of the first byte of the samples.
    stated : int or None
        Bytes of the samples; None if the header says that it does not know.
    patches : tuple of (int, str)
        See `_Content`.
    wrapped : bool
        Whether the header states what is left of the size beyond a multiple of 4 GiB.
    """

    begin: int
    order: str = "<"
    pad: int = 2
    fmt: bytes = b""
    n_samples: int = 0
    start: int = 0
    stated: int | None = None
    patches: tuple[tuple[int, str], ...] = ()
    wrapped: bool = False


def wave_header(file: IO[bytes], begin: int) -> Header | None:
    """Read a WAV file: RIFF, RIFX, RF64 or BW64; None if it is damaged."""
    wave = _Wave(begin, ">" if read_at(file, begin, 4) == b"RIFX" else "<")
    order, at, size = wave.order, begin + 12, size_of(file)
    large: tuple[int, int] | None = None
    while at + 8 <= size:
        name, length = struct.unpack(f"{order}4sI", read_at(file, at, 8))
        content = read_at(file, at + 8, min(length, 64))
        if name == b"data":
            wave.start, wave.stated = at + 8, length
            wave.patches = (at + 4, f"{order}I bytes"), (begin + 4, f"{order}I bytes+{at + 8 - begin}")
            if large is not None and length == 2**32 - 1:
                wave.stated, large_at = large
                wave.patches = (large_at, "<Q bytes"), (large_at - 8, f"<Q bytes+{at - begin}")
            elif _is_unknown(length) and at + 8 + length > size:
                wave.stated, wave.patches = None, ()
            elif large is None and size - at > _LARGEST and (size - at - 8 - length) % 2**32 <= 64:
                wave.stated, wave.wrapped = length + (size - at - 8 - length) // 2**32 * 2**32, True
            return _wave_data(file, wave)
        if name == b"fmt " and len(content) >= 16:
            if wave.fmt and wave.fmt[:16] != content[:16]:
                return Header(refusal="two fmt chunks that contradict each other; export the file again")
            wave.fmt = content
        elif name == b"fact" and len(content) >= 4:
            wave.n_samples = struct.unpack(f"{order}I", content[:4])[0]
        elif name == b"ds64" and len(content) >= 16:
            large = struct.unpack("<Q", content[8:16])[0], at + 16
        at += 8 + length + length % 2
    return None


def w64_header(file: IO[bytes], begin: int) -> Header | None:
    """Read a Wave64 file; None if it is damaged."""
    wave = _Wave(begin, pad=8)
    at, size = begin + 40, size_of(file)
    while at + 24 <= size:
        head = read_at(file, at, 24)
        length = int.from_bytes(head[16:], "little")
        if head[:4] == b"data":
            wave.start, wave.patches = at + 24, ((at + 16, "<Q bytes+24"),)
            wave.stated = None if length >= 2**62 else max(0, length - 24)
            return _wave_data(file, wave)
        if head[:4] == b"fmt ":
            wave.fmt = read_at(file, at + 24, 64)
        elif head[:4] == b"fact":
            wave.n_samples = int.from_bytes(read_at(file, at + 24, 8), "little")
        at += max(24, length + -length % 8)
    return None


def _wave_data(file: IO[bytes], wave: _Wave) -> Header | None:
    fmt, order, start, stated = wave.fmt, wave.order, wave.start, wave.stated
    if len(fmt) < 16:
        return None
    tag, channels, rate, per_second, align, bits = struct.unpack(f"{order}HHIIHH", fmt[:16])
    if tag == _EXTENSIBLE and len(fmt) >= 26:
        tag, valid = int.from_bytes(fmt[24:26], "little"), int.from_bytes(fmt[18:20], "little")
        if tag in (_PCM, _FLOAT) and valid > bits:
            return Header(refusal=f"the header states {valid} valid bits in samples of {bits} bits; export it again")
    content = functools.partial(_Content, start, stated, rate=rate, patches=wave.patches)
    if tag in (_PCM, _FLOAT, _A_LAW, _MU_LAW):
        width = channels * ((bits + 7) // 8)
        if align and align != width and tag in (_PCM, _FLOAT):
            refusal = (
                f"the header contradicts itself: {channels} channels of {bits} bits take {width} bytes, but it states "
                f"{align}; export the file again"
            )
            return Header(refusal=refusal)
        found = _header(file, content(block_bytes=width, block_samples=1), wave.begin, align=wave.pad)
        return found and _sliced(file, found, wave, round(found.room * rate) * width, width)
    if tag in _BLOCKS and len(fmt) >= 20 and align:
        samples = int.from_bytes(fmt[18:20], "little" if order == "<" else "big")
        return _header(file, content(block_bytes=align, block_samples=samples), wave.begin, align=wave.pad)
    if tag in _MPEG:
        end = size_of(file) if stated is None else min(size_of(file), start + stated)
        mpeg = mpeg_header(file, start, end, bare=False)
        if mpeg is None:
            return None
        found = _header(file, content(block_bytes=stated or 1, block_samples=1000 * rate), wave.begin, align=wave.pad)
        share = found.stated / found.room if found and stated and found.room else 1.0  # of what it has room for
        return replace(
            mpeg,
            stated=mpeg.room * max(1.0, share) if stated else 0.0,
            room=mpeg.room / min(1.0, share),
            slack=mpeg.slack + 0.1,
            mpeg=False,
            strict=True,
            parts=(),
            notes=(),
        )
    # A codec whose frames are not known here: its length is that in the chunk fact, or that by its bytes per second.
    kind = f"codec 0x{tag:04x} in WAV"
    if stated and 0 < wave.n_samples < 2**32 - 1:
        found = _header(file, content(block_bytes=stated, block_samples=wave.n_samples), wave.begin, align=wave.pad)
    elif per_second and tag not in _VARIABLE:
        found = _header(file, _Content(start, stated, per_second, 1, 1), wave.begin, align=wave.pad)
    else:
        return Header(kind=kind)
    return found and replace(found, slack=0.25, kind=kind)


def _sliced(file: IO[bytes], found: Header, wave: _Wave, held: int, width: int) -> Header:
    """Let more samples than the sizes of a WAV can state be read as several files."""
    disagrees = bool(found.stated) and abs(found.stated - found.room) > found.slack
    if held <= _LARGEST or disagrees or read_at(file, wave.begin, 4) not in (b"RIFF", b"RIFX"):
        return found
    step = _LARGEST // 2 // width * width
    parts = [
        Part(wave.start + at, wave.start + end, head=wav_head(wave.fmt, end - at, wave.order))
        for at in range(0, held, step)
        for end in [min(held, at + step)]
    ]
    notes = ("the size in the header wrapped at 4 GiB: the file was read to its end",) if wave.wrapped else found.notes
    return replace(found, parts=tuple(parts), notes=notes)


def wav_head(fmt: bytes, n_bytes: int, order: str = "<") -> bytes:
    """Return the beginning of a WAV file, up to its samples.

    Parameters
    ----------
    fmt : bytes
        Content of the chunk of this name.
    n_bytes : int
        Of the samples.
    order : {"<", ">"}
    """
    size = struct.pack(f"{order}I", 20 + len(fmt) + n_bytes)
    chunk = struct.pack(f"{order}4sI", b"fmt ", len(fmt)) + fmt
    return (
        (b"RIFF" if order == "<" else b"RIFX") + size + b"WAVE" + chunk + struct.pack(f"{order}4sI", b"data", n_bytes)
    )


def aiff_header(file: IO[bytes], begin: int) -> Header | None:
    """Read an AIFF or AIFF-C file; None if it is damaged."""
    at, size = begin + 12, size_of(file)
    common, common_at = b"", 0
    sound: tuple[int, int] | None = None
    while at + 8 <= size and not (common and sound):
        name, length = struct.unpack(">4sI", read_at(file, at, 8))
        if name == b"COMM":
            common, common_at = read_at(file, at + 8, min(length, 64)), at
        elif name == b"SSND":
            sound = at, length
        at += 8 + length + length % 2
    if len(common) < 18 or sound is None:
        return None
    channels, n_samples, bits = struct.unpack(">HIH", common[:8])
    rate = _extended(common[8:18])
    compression = common[18:22] or b"NONE"
    block, block_samples = channels * _AIFF_BYTES.get(compression, (bits + 7) // 8), 1
    if compression == b"ima4":
        block, block_samples, n_samples = channels * 34, 64, n_samples * 64
    elif compression not in {*_AIFF_BYTES, b"NONE", b"sowt", b"twos", b"in24", b"in32", b"raw ", b"23ni", b"42ni"}:
        return Header(stated=n_samples / rate if rate else 0.0)
    if not block or rate <= 0:
        return None
    at, length = sound
    offset = int.from_bytes(read_at(file, at + 8, 4), "big")
    patches = (
        (at + 4, ">I bytes+8"),
        (common_at + 10, ">I samples"),
        (begin + 4, f">I bytes+{at + 8 - begin}"),
    )
    stated = max(0, length - 8 - offset)
    found = _header(file, _Content(at + 16 + offset, stated, block, block_samples, rate, patches), begin)
    if found is None:
        return None
    told = n_samples / rate
    if abs(told - found.stated) <= found.slack or (not told and found.notes) or (not n_samples and not found.room):
        return found
    if not found.notes and abs(found.stated - found.room) > found.slack:
        return found
    return Header(stated=told, stated_by="the chunk COMM", room=found.room, slack=found.slack, parts=found.parts)


def _extended(data: bytes) -> float:
    """Return a number of 80 bits."""
    exponent, mantissa = struct.unpack(">HQ", data)
    try:
        return float(mantissa * 2.0 ** ((exponent & 0x7FFF) - 16_383 - 63))
    except OverflowError:
        return 0.0


def au_header(file: IO[bytes], begin: int) -> Header | None:
    """Read an AU file; None if its encoding is unknown."""
    head = read_at(file, begin, 24)
    order = ">" if head[:4] == b".snd" else "<"
    if len(head) < 24:
        return None
    _, start, size, encoding, rate, channels = struct.unpack(f"{order}4s5I", head)
    width = channels * _AU_BYTES.get(encoding, 0)
    if not width:
        return None
    stated = None if _is_unknown(size) and size > size_of(file) else size
    return _header(file, _Content(begin + start, stated, width, 1, rate, ((begin + 8, f"{order}I bytes"),)), begin)


def caf_header(file: IO[bytes], begin: int) -> Header | None:
    """Read a CAF file; None if it is damaged."""
    at, size = begin + 8, size_of(file)
    description, table, sizes = b"", b"", (0, 0)
    data: tuple[int, int] | None = None
    while at + 12 <= size:
        name, length = struct.unpack(">4sq", read_at(file, at, 12))
        if name == b"desc":
            description = read_at(file, at + 12, 32)
        elif name == b"pakt":
            table, sizes = read_at(file, at + 12, 24), (at + 36, min(size, max(0, length - 24)))
        elif name == b"data":
            data = at, length
        if length < 0:
            break
        at += 12 + length
    if len(description) < 32 or data is None:
        return None
    rate, codec, _, block, block_samples, channels, bits = struct.unpack(">d4sIIIII", description)
    at, length = data
    if codec != b"lpcm" and not block:
        if len(table) < 24:
            return Header(
                refusal="no table of packets (chunk pakt), as if the file was cut or never finished; copy it again"
            )
        _, valid, delay, _ = struct.unpack(">qqii", table)
        if rate <= 0 or valid <= 0:
            return Header()
        kind = f"{codec.decode('latin-1').strip()} in CAF"
        if codec == b"alac" and block_samples:
            number = max(0, int.from_bytes(table[:8], "big", signed=True))
            packets = itertools.islice(_packets(read_at(file, *sizes)), number)  # padding may follow
            packet = _damaged_packet(file, at + 16, packets, channels)
            if packet is not None:
                wrong = (
                    f"damaged: what follows {packet * block_samples / rate:.1f} s is not ALAC; copy or export it again"
                )
                return Header(refusal=wrong)
        return Header(stated=(valid + max(0, delay)) / rate, skip=max(0, delay) / rate, keep=valid / rate, kind=kind)
    if codec == b"lpcm" and block and bits and block not in (channels * ((bits + 7) // 8), channels * 4):
        return Header(
            refusal=f"the header contradicts itself: {channels} channels of {bits} bits take "
            f"{channels * ((bits + 7) // 8)} bytes, but it states {block}; export the file again"
        )
    stated = None if length < 0 else max(0, length - 4)
    content = _Content(at + 16, stated, block, block_samples, rate, ((at + 4, ">Q bytes+4"),))
    return _caf_content(file, content, begin)


def _packets(table: bytes) -> Iterator[int]:
    """Yield the sizes in a table of packets: seven bits in each byte, with the eighth set in all but the last."""
    size = 0
    for byte in table:
        size = size << 7 | byte & 127
        if byte < 128:
            yield size
            size = 0


def _damaged_packet(file: IO[bytes], at: int, sizes: Iterable[int], channels: int) -> int | None:
    """Return the number of the first ALAC packet that does not begin or end like one; None if all do.

    libsndfile does not report errors of its decoder and returns whatever is in memory.
    """
    end_of_file = size_of(file)
    element = channels == 2  # a pair; other numbers of channels begin with a single one
    for number, size in enumerate(sizes):
        if at + size > end_of_file:  # the file was cut
            return None
        packet = read_at(file, at, size)
        at += size
        if int.from_bytes(packet[:3], "big") >> 5 != element << 16:  # 7 bits, and 12 that are 0
            return number
        end = int.from_bytes(packet[-2:], "big")
        if not end or end // (end & -end) & 7 != 7:  # an element of three bits that are 1
            return number
    return None


def _caf_content(file: IO[bytes], content: _Content, begin: int) -> Header | None:
    size = size_of(file)
    after = content.start + (content.stated or 0)
    if content.stated and after + 12 <= size:
        name, length = struct.unpack(">4sq", read_at(file, after, 12))
        if name not in _FILES and all(32 <= byte < 127 for byte in name) and 0 <= length <= size - after:
            seconds = content.seconds(content.stated)
            return Header(stated=seconds, room=seconds, parts=(Part(begin, size),) if begin else ())
    return _header(file, content, begin, clip=True)
