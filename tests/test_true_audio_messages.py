"""Each thing that is said of an audio file is provoked, and compared with the bytes or with other programs.

A message of the modules below that no case provokes fails the last test. Facts are taken from the bytes as the cases
wrote them, by a few lines of their own, and from ffmpeg and flac where these are installed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import resource
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import loud_then_quiet, mp4_bytes, wav_bytes, write_mp3
from said_in_code import never_said, templates
from test_audio_lengths import ape_tag, ogg_checksum, tta_file, wavpack_blocks, without_end_flag, written

from mirembed.audio import by_essentia, decoding, files
from mirembed.audio.decoding import decode
from mirembed.audio.files import audio_files, find_audio, require_folder, require_inside
from mirembed.audio.headers import flac, read_header
from mirembed.errors import AudioError, MirembedError

RATE = 44_100
AUDIO = Path(decoding.__file__).parent
MODULES = (
    *(AUDIO / f"{name}.py" for name in ("decoding", "decode_state", "by_essentia", "files")),
    *sorted((AUDIO / "headers").glob("*.py")),
)
NOT_SAID = {"does not exist"}
"""Texts in these modules that nobody sees: what soundfile says, and is recognized by."""


# Files, byte by byte


@functools.cache
def sound(name: str) -> bytes:
    """Return a second of a format as soundfile writes it."""
    return written(name, 1)


@functools.cache
def mp3(rate: int = RATE, *, mono: bool = False, variable: bool = False) -> bytes:
    samples = loud_then_quiet(2 if variable else 1, rate)
    with tempfile.TemporaryDirectory() as folder:
        mode = "VARIABLE" if variable else "CONSTANT"
        return write_mp3(Path(folder) / "a.mp3", samples[:, : 2 - mono], rate, mode, header=False).read_bytes()


def by_soundfile(samples: np.ndarray, container: str, codec: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        soundfile.write(Path(folder) / "a", samples, RATE, format=container, subtype=codec)
        return (Path(folder) / "a").read_bytes()


def flac_frames(first: int, stop: int, *, rate: int = RATE, channels: int = 1, bits: int = 16) -> list[bytes]:
    """Return FLAC frames of 4096 constant samples, by their numbers."""

    def crc(data: bytes, n_bits: int, polynomial: int) -> int:
        value, top = 0, 1 << n_bits - 1
        for byte in data:
            value ^= byte << n_bits - 8
            for _ in range(8):
                value = (value << 1 ^ (polynomial if value & top else 0)) & (1 << n_bits) - 1
        return value

    found = []
    for number in range(first, stop):
        codes = bytes([12 << 4 | {44_100: 9, 48_000: 10}[rate], channels - 1 << 4 | {16: 4, 24: 6, 32: 7}[bits] << 1])
        head = b"\xff\xf8" + codes + chr(number).encode()
        body = head + bytes([crc(head, 8, 0x07)])
        body += b"".join(b"\0" + (1000 + number).to_bytes(bits // 8, "big") for _ in range(channels))
        found.append(body + crc(body, 16, 0x8005).to_bytes(2, "big"))
    return found


def flac_head(total: int, *, rate: int = RATE, channels: int = 1, bits: int = 16) -> bytes:
    packed = rate << 44 | channels - 1 << 41 | bits - 1 << 36 | total
    return b"fLaC\x80\0\0\x22" + struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)


def flac_file(n_frames: int = 20, **kind: int) -> bytes:
    return flac_head(4096 * n_frames, **kind) + b"".join(flac_frames(0, n_frames, **kind))


def pages(data: bytes) -> list[bytes]:
    return [b"OggS\0" + page for page in data.split(b"OggS\0")[1:]]


def with_checksum(page: bytes, **changed: tuple[int, bytes]) -> bytes:
    content = bytearray(page)
    for at, value in changed.values():
        content[at : at + len(value)] = value
    content[22:26] = bytes(4)
    content[22:26] = struct.pack("<I", ogg_checksum(bytes(content)))
    return bytes(content)


@functools.cache
def long_ogg() -> list[bytes]:
    return pages(written("a.ogg", 20))


def side_by_side() -> bytes:
    two = [with_checksum(page, serial=(14, b"\1\2\3\4")) for page in pages(sound("a.ogg"))]
    return b"".join(first + second for first, second in zip(pages(sound("a.ogg")), two, strict=True))


def ogg_of_speex(serial: int) -> bytes:
    head = b"Speex   " + bytes(28) + struct.pack("<IIIII", 16_000, 1, 4, 1, 0) + bytes(24)
    found = []
    for number, (flags, granule, packet) in enumerate(((2, 0, head), (0, 0, b"\0" * 8), (4, 16_000, b"\0" * 40))):
        page = b"OggS\0" + bytes([flags]) + struct.pack("<qIIIB", granule, serial, number, 0, 1)
        found.append(with_checksum(page + bytes([len(packet)]) + packet))
    return b"".join(found)


def box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + name + body


def fragments(number: int) -> bytes:
    """Return an MP4 file of fragments, each with 43 frames of 1024 samples."""
    entry = box(b"mp4a", bytes(6), b"\0\1", bytes(8), b"\0\2\0\x10", bytes(4), struct.pack(">I", RATE << 16))
    empty = [box(name, bytes(8)) for name in (b"stts", b"stsc", b"stco")] + [box(b"stsz", bytes(12))]
    media = box(
        b"mdia",
        box(b"mdhd", struct.pack(">IIIIII", 0, 0, 0, RATE, 0, 0)),
        box(b"hdlr", bytes(8), b"soun", bytes(13)),
        box(b"minf", box(b"stbl", box(b"stsd", struct.pack(">II", 0, 1), entry), *empty)),
    )
    track = box(b"trak", box(b"tkhd", struct.pack(">IIII", 7, 0, 0, 1), bytes(68)), media)
    extends = box(b"mvex", box(b"trex", struct.pack(">IIIIII", 0, 1, 1, 1024, 0, 0)))
    head = box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, 0), bytes(80))
    moof = box(
        b"moof",
        box(b"mfhd", bytes(8)),
        box(b"traf", box(b"tfhd", struct.pack(">II", 0, 1)), box(b"trun", struct.pack(">II", 0, 43))),
    )
    return (
        box(b"ftyp", b"isom", bytes(4))
        + box(b"moov", head, track, extends)
        + number * (moof + box(b"mdat", bytes(4000)))
    )


@functools.cache
def m4a(**changes: object) -> bytes:
    return mp4_bytes(mp3(), RATE, **changes)


def moved(data: bytes, offset: int) -> bytes:
    """Return an MP4 file whose index says that the sound is ``offset`` bytes further."""
    at = data.index(b"stco") + 12
    return data[:at] + struct.pack(">I", int.from_bytes(data[at : at + 4], "big") + offset) + data[at + 4 :]


def replaced(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """Return data with other bytes at an offset from a mark."""
    at = data.index(mark) + offset
    return data[:at] + value + data[at + len(value) :]


def half_as_long(data: bytes) -> bytes:
    """Return an MP4 file that states half the length of each frame, and of all."""
    total = int.from_bytes(data[data.index(b"mdhd") + 20 :][:4], "big")
    data = replaced(data, b"mdhd", 20, struct.pack(">I", total // 2))
    return replaced(data, b"stts", 16, struct.pack(">I", 576))


def element(name: int, *content: bytes) -> bytes:
    body = b"".join(content)
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + (len(body) | 1 << 56).to_bytes(8, "big") + body


def matroska(*, kind: int = 2, n_tracks: int = 1) -> bytes:
    """Return a Matroska file with a second of 16-bit samples in ten blocks."""
    audio = element(0xE1, element(0xB5, struct.pack(">d", 8000.0)), element(0x9F, b"\1"), element(0x6264, b"\x10"))
    tracks = [
        element(
            0xAE, element(0xD7, bytes([n])), element(0x73C5, bytes([n])), element(0x83, bytes([kind])), codec, audio
        )
        for n in range(1, n_tracks + 1)
        for codec in [element(0x86, b"A_PCM/INT/LIT")]
    ]
    blocks = [element(0xA3, b"\x81" + struct.pack(">hB", 100 * n, 0x80) + bytes(1600)) for n in range(10)]
    info = element(0x1549A966, element(0x2AD7B1, struct.pack(">I", 10**6)), element(0x4489, struct.pack(">d", 1000.0)))
    cluster = element(0x1F43B675, element(0xE7, b"\0"), *blocks)
    return element(0x1A45DFA3, element(0x4282, b"matroska")) + element(
        0x18538067, info, element(0x1654AE6B, *tracks), cluster
    )


def asf() -> bytes:
    head = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + struct.pack("<QIH", 30, 0, 0x0201)
    return head + bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c") + struct.pack("<Q", 50) + bytes(26)


def caf(*, valid: int = RATE) -> bytes:
    data = bytearray(by_soundfile(loud_then_quiet(1, RATE), "CAF", "ALAC_16"))
    at = data.index(b"pakt") + 20
    data[at : at + 8] = struct.pack(">q", valid)
    return bytes(data)


def without_table() -> bytes:
    return caf().replace(b"pakt", b"free")


def wave(samples: np.ndarray, codec: str = "PCM_16", container: str = "WAV") -> bytes:
    return by_soundfile(samples, container, codec)


def stereo(second: float) -> np.ndarray:
    left = loud_then_quiet(1, RATE)[:, 0]
    return np.stack([left, second * left], axis=1)


def with_nan() -> bytes:
    samples = np.zeros(4000, np.float32)
    samples[5:8] = np.nan
    return wave(samples, "FLOAT")


def tagged(ms: int) -> bytes:
    frame = b"TLEN" + struct.pack(">I", len(str(ms)) + 1) + b"\0\0\0" + str(ms).encode()
    return b"ID3\x03\0\0\0\0\0" + bytes([len(frame)]) + frame + mp3()


ID3 = b"ID3\x03\0\0\0\0\x00\x76" + bytes(0x76)


# What is said of them, and the facts


@dataclass(frozen=True)
class Case:
    """A file, what is said of it, and whether that is so.

    Attributes
    ----------
    name : str
    data : callable
        Returns the bytes of the file.
    said : str
        Pattern of what is said; a group ``there`` is the seconds of sound in the file.
    so : callable
        Whether the groups of the pattern are true of the bytes.
    size : int
        Bytes to which the file is extended without taking disk space.
    """

    name: str
    data: Callable[[], bytes]
    said: str
    so: Callable[[bytes, Mapping[str, str]], bool]
    size: int = 0


def number(data: bytes, mark: bytes, offset: int, code: str) -> int:
    return struct.unpack_from(code, data, data.index(mark) + offset)[0]


def near(said: str, fact: float, slack: float = 0.06) -> bool:
    return abs(float(said) - fact) <= slack


def room(data: bytes) -> float:
    """Return the seconds that follow the header of a stereo WAV with 16 bits."""
    return (len(data) - data.index(b"data") - 8) / 4 / RATE


def page_at(data: bytes, at: str) -> bytes:
    start = int(at)
    return data[start : start + 27 + data[start + 26] + sum(data[start + 27 : start + 27 + data[start + 26]])]


def box_excess(data: bytes, name: str) -> int:
    at = data.index(name.encode()) - 4
    return at + int.from_bytes(data[at : at + 4], "big") - len(data)


LENGTHS = (
    r"states (?P<stated>[\d.]+) s, the file has room for (?P<there>[\d.]+) s, but (?P<decoded>[\d.]+) s were decoded"
)
CUT = sound("a.wav")[: 44 + 2 * RATE]
HOLE = (lambda data: data[: 2 * len(data) // 5] + data[3 * len(data) // 5 :])(sound("a.flac"))
CASES = {
    "cut": Case(
        "a.wav",
        lambda: CUT,
        f"{LENGTHS}: part of it is missing",
        lambda data, said: (
            near(said["stated"], number(data, b"data", 4, "<I") / 4 / RATE)
            and near(said["there"], room(data))
            and near(said["decoded"], room(data))
        ),
    ),
    "joined": Case(
        "a.wav",
        lambda: sound("a.wav") * 2,
        r"states (?P<stated>[\d.]+) s, the file has room for (?P<room>[\d.]+) s.*something was added to the end",
        lambda data, said: near(said["stated"], 1) and near(said["room"], room(data)),
    ),
    "COMM": Case(
        "a.aiff",
        lambda: replaced(sound("a.aiff"), b"COMM", 10, struct.pack(">I", 2 * RATE)),
        r"the chunk COMM states (?P<stated>[\d.]+) s, the file has room for (?P<there>[\d.]+) s",
        lambda data, said: (
            near(said["stated"], number(data, b"COMM", 10, ">I") / RATE)
            and near(said["there"], (number(data, b"SSND", 4, ">I") - 8) / 4 / RATE)
        ),
    ),
    "a page is damaged": Case(
        "a.ogg",
        lambda: b"".join([*long_ogg()[:-2], long_ogg()[-2][:-9] + bytes(9), long_ogg()[-1]]),
        r"the file has room for (?P<room>[\d.]+) s, but (?P<there>[\d.]+) s were decoded: the decoder skipped a part",
        lambda data, said: (
            near(said["room"], 20)
            and float(said["there"]) < 20
            and not is_intact(pages(data)[-2])
            and all(is_intact(page) for page in pages(data)[:-2])
        ),
    ),
    "more than it says": Case(
        "a.m4a",
        lambda: half_as_long(m4a()),
        r"the header states (?P<stated>[\d.]+) s.*room for (?P<room>[\d.]+) s, but (?P<decoded>[\d.]+) s were decoded: "
        "the file is damaged or not what it seems",
        lambda data, said: (
            near(said["stated"], number(data, b"mdhd", 20, ">I") / RATE)
            and near(said["room"], number(data, b"stts", 12, ">I") * number(data, b"stts", 16, ">I") / RATE)
            and near(said["decoded"], 1, 0.1)
        ),
    ),
    # FLAC
    "a hole": Case(
        "a.flac",
        lambda: HOLE,
        rf"soundfile fails \(.*\): the header {LENGTHS}; the file is damaged or was cut: copy",
        lambda data, said: (
            near(said["stated"], flac_total(data) / RATE)
            and near(said["there"], data.count(b"\xff\xf8\xc9") * 4096 / RATE, 0.1)
        ),
    ),
    "frames are missing": Case(
        "a.flac",
        lambda: flac_head(70 * 4096) + b"".join(flac_frames(0, 30) + flac_frames(40, 70)),
        rf"{LENGTHS}: frames are missing or out of order after (?P<at>[\d.]+) s, where the decoder put silence; copy",
        lambda data, said: (
            near(said["stated"], flac_total(data) / RATE)
            and near(said["there"], data.count(b"\xff\xf8\xc9") * 4096 / RATE)
            and near(said["decoded"], flac_total(data) / RATE)
            and near(said["at"], 30 * 4096 / RATE)
        ),
    ),
    "32 bits": Case(
        "a.flac",
        lambda: flac_file(bits=32),
        r"but 0\.0 s were decoded: no available decoder reads FLAC of (?P<bits>\d+) bits per sample; convert",
        lambda data, said: int(said["bits"]) == (int.from_bytes(data[20:22], "big") >> 4 & 31) + 1 == 32,
    ),
    "another kind": Case(
        "a.flac",
        lambda: flac_file() + flac_file(rate=48_000, channels=2),
        r"(?P<n>\d) FLAC files of different kinds .*\(44100 Hz, 1 channels, 16 bits and 48000 Hz, 2 channels",
        lambda data, said: data.count(b"fLaC") == int(said["n"]),
    ),
    "frames of another rate": Case(
        "a.flac",
        lambda: flac_head(40_960, rate=48_000) + b"".join(flac_frames(0, 10)),
        r"the header states (?P<header>\d+) Hz, but frames state (?P<frames>\d+) Hz",
        lambda data, said: (said["header"], said["frames"]) == ("48000", "44100") and data[18] << 12 >> 12 == 11,
    ),
    "frames of other channels": Case(
        "a.flac",
        lambda: flac_head(81_920) + b"".join(flac_frames(0, 10) + flac_frames(10, 20, channels=2)),
        r"the header states (?P<header>\d) channels, but frames state (?P<frames>\d)",
        lambda data, said: (int(said["header"]), int(said["frames"])) == ((data[20] >> 1 & 7) + 1, 2),
    ),
    "frames of other bits": Case(
        "a.flac",
        lambda: flac_head(40_960, bits=24) + b"".join(flac_frames(0, 10)),
        r"the header states (?P<header>\d+) bits per sample, but frames state (?P<frames>\d+)",
        lambda data, said: (said["header"], said["frames"]) == ("24", "16"),
    ),
    "numbered again": Case(
        "a.flac",
        lambda: flac_file() + b"".join(flac_frames(0, 20)),
        r"frame numbers start again before byte (?P<byte>\d+)",
        lambda data, said: int(said["byte"]) == data.rindex(flac_frames(0, 1)[0]),
    ),
    "nothing at the end": Case(
        "a.flac",
        flac_file,
        r"the last (?P<MB>\d+) MB hold no FLAC frame",
        lambda data, said: len(data) < 10_000 and int(said["MB"]) <= 20,
        size=20 * 10**6,
    ),
    # Ogg
    "the last page is cut": Case(
        "a.ogg",
        lambda: b"".join(long_ogg())[:-50],
        r"truncated: the last page is incomplete, with (?P<there>[\d.]+) s in the others",
        lambda data, said: (
            near(said["there"], int.from_bytes(long_ogg()[-2][6:14], "little") / RATE)
            and len(pages(data)[-1]) < len(page_at(b"".join(long_ogg()), str(data.rindex(b"OggS\0"))))
        ),
    ),
    "a page within a page": Case(
        "a.ogg",
        lambda: b"".join(long_ogg()[:5]) + long_ogg()[5][:-100] + b"".join(long_ogg()[6:]),
        r"damaged: another page begins within the page at byte (?P<byte>\d+)",
        lambda data, said: b"OggS\0" in page_at(data, said["byte"])[4:],
    ),
    "the number of a page is damaged": Case(
        "a.ogg",
        lambda: b"".join([*long_ogg()[:5], replaced(long_ogg()[5], b"OggS", 20, b"\7"), *long_ogg()[6:]]),
        r"damaged: the checksum of the page at byte (?P<byte>\d+) is wrong",
        lambda data, said: (
            int(said["byte"]) == len(b"".join(long_ogg()[:5])) and not is_intact(page_at(data, said["byte"]))
        ),
    ),
    "pages are missing": Case(
        "a.ogg",
        lambda: b"".join(long_ogg()[:4] + long_ogg()[6:]),
        r"damaged: (?P<missing>\d+) of (?P<all>\d+) pages are missing",
        lambda data, said: (int(said["missing"]), int(said["all"])) == (2, len(pages(data)) + 2),
    ),
    "pages twice": Case(
        "a.ogg",
        lambda: b"".join([*long_ogg()[:5], *long_ogg()[3:]]),
        r"(?P<n>\d+) pages repeat earlier ones",
        lambda data, said: int(said["n"]) == len(pages(data)) - len(set(pages(data))),
    ),
    "no end": Case(
        "a.ogg",
        lambda: without_end_flag(sound("a.ogg")),
        "no end flag: the file may be cut",
        lambda data, _: not any(page[5] & 4 for page in pages(data)),
    ),
    "side by side": Case(
        "a.ogg",
        side_by_side,
        r"(?P<n>\d) audio streams side by side in one Ogg file",
        lambda data, said: len({page[14:18] for page in pages(data)}) == int(said["n"]),
    ),
    "streams of two kinds": Case(
        "a.ogg",
        lambda: sound("a.ogg") + sound("a.opus"),
        r"(?P<n>\d) streams one after the other \(Vorbis at 44100 Hz.*, then Opus at 48000 Hz.*\), (?P<all>[\d.]+) s",
        lambda data, said: int(said["n"]) == sum(page[5] & 2 > 0 for page in pages(data)) and near(said["all"], 2),
    ),
    "streams of Speex": Case(
        "a.ogg",
        lambda: ogg_of_speex(1) + ogg_of_speex(2),
        r"(?P<n>\d) streams of Speex one after the other, (?P<seconds>[\d.]+) s in all",
        lambda data, said: data.count(b"Speex   ") == int(said["n"]) and near(said["seconds"], 2),
    ),
    # MPEG and other frames
    "another rate": Case(
        "a.mp3",
        lambda: mp3() + mp3(22_050),
        r"the sampling rate changes from 44100 to 22050 at (?P<at>[\d.]+) s; split the file there",
        lambda data, said: near(said["at"], data.index(mp3(22_050)) * 8 / bit_rate(data)),
    ),
    "other channels": Case(
        "a.mp3",
        lambda: mp3() + mp3(mono=True),
        r"the number of channels changes from 2 to 1 at",
        lambda data, _: data[3] >> 6 != 3 and data[len(mp3()) + 3] >> 6 == 3,
    ),
    "eight channels": Case(
        "a.aac",
        lambda: adts(2) * 50 + adts(7) * 50,
        r"the number of channels changes from 2 to (?P<now>\d) at",
        lambda _, said: int(said["now"]) == 8,  # what 7 stands for in ISO/IEC 14496-3
    ),
    "half a frame": Case(
        "a.mp3",
        lambda: mp3()[: mp3().index(mp3()[:2], 9999) + 100],
        "the last frame is incomplete: the file may be cut",
        lambda data, _: data[-100:-98] == data[:2] and frame_length(data) > 100,
    ),
    "bytes between frames": Case(
        "a.mp3",
        lambda: mp3() + b"\x12\x34" * 5000 + mp3(),
        r"from (?P<at>[\d.]+) s on, (?P<n>\d+) bytes belong to no frame: sound may be missing",
        lambda data, said: (
            near(said["at"], data.index(b"\x12\x34" * 9) * 8 / bit_rate(data))
            and int(said["n"]) == 2 * data.count(b"\x12\x34")
        ),
    ),
    "TLEN": Case(
        "a.mp3",
        lambda: tagged(20_000),
        r"its tag TLEN states (?P<told>[\d.]+) s, but there are (?P<there>[\d.]+) s",
        lambda data, said: near(said["told"], 20) and near(said["there"], len(mp3()) * 8 / bit_rate(mp3())),
    ),
    "much that is no frame": Case(
        "a.mp3",
        mp3,
        r"after (?P<there>[\d.]+) s of audio, more than (?P<MB>\d+) MB are not frames",
        lambda data, said: near(said["there"], len(data) * 8 / bit_rate(data)) and int(said["MB"]) < 70,
        size=70 * 10**6,
    ),
    # MP4
    "the sound is cut, no index": Case(
        "a.m4a",
        lambda: box(b"ftyp", b"M4A ", bytes(4)) + box(b"mdat", bytes(1000))[:-300],
        r"the box (?P<name>\w+) states (?P<more>\d+) bytes more than the file has; copy or export the file again",
        lambda data, said: box_excess(data, said["name"]) == int(said["more"]) == 300,
    ),
    "a fragment is cut": Case(
        "a.mp4",
        lambda: fragments(2)[:-1000],
        r"truncated after (?P<whole>[\d.]+) s: the box mdat states (?P<more>\d+) bytes more",
        lambda _, said: near(said["whole"], 43 * 1024 / RATE) and int(said["more"]) == 1000,
    ),
    "junk between fragments": Case(
        "a.mp4",
        lambda: fragments(1) + b"\0\0\0\1junk" + fragments(1)[fragments(1).index(b"moof") - 4 :],
        r"no box begins at byte (?P<at>\d+), but a fragment \(box moof\) does at byte (?P<moof>\d+)",
        lambda data, said: int(said["at"]) == len(fragments(1)) and int(said["moof"]) == data.rindex(b"moof") - 4,
    ),
    "two indexes": Case(
        "a.m4a",
        lambda: m4a() * 2,
        r"(?P<n>\d) indexes \(boxes moov\), as if MP4 files were joined",
        lambda data, said: data.count(b"moov") == int(said["n"]),
    ),
    "no index": Case(
        "a.m4a",
        lambda: m4a()[: m4a().index(b"moov") - 4] + m4a()[m4a().index(b"mdat") - 4 :],
        r"no index \(box moov\), as if the recording was never finished",
        lambda data, _: b"moov" not in data,
    ),
    "no index, no box": Case(
        "a.m4a",
        lambda: box(b"ftyp", b"M4A ", bytes(4)) + b"\0\0\0\1junk",
        r"damaged: no box begins at byte (?P<at>\d+), and there is no index",
        lambda data, said: int(said["at"]) == data[3] and b"moov" not in data,
    ),
    "a video": Case(
        "a.m4a",
        lambda: replaced(m4a(), b"hdlr", 12, b"vide"),
        "no audio track in this MP4 file",
        lambda data, _: b"soun" not in data,
    ),
    "no time scale": Case(
        "a.m4a",
        lambda: replaced(m4a(), b"mdhd", 16, bytes(4)),
        "its audio track states no time scale",
        lambda data, _: b"soun" in data and number(data, b"mdhd", 16, ">I") == 0,
    ),
    "two tracks": Case(
        "a.m4a",
        lambda: m4a(n_tracks=2),
        r"(?P<n>\d) audio tracks: only the first was read",
        lambda data, said: data.count(b"soun") == int(said["n"]),
    ),
    "an edit list": Case(
        "a.m4a",
        lambda: mp4_bytes(mp3(), RATE, [(1000, 0), (1000, 9000)]),
        r"an edit list of (?P<n>\d) pieces, which no available decoder supports",
        lambda data, said: number(data, b"elst", 8, ">I") == int(said["n"]),
    ),
    "a tag before": Case(
        "a.m4a",
        lambda: ID3 + m4a(),
        r"an ID3 tag before the MP4 data, which is not where its index \(box moov\) says; remove the tag",
        lambda data, _: data[:3] == b"ID3" and number(data, b"stco", 12, ">I") < data.index(b"mdat"),
    ),
    "an APE tag before": Case(
        "a.m4a",
        lambda: ape_tag() + m4a(),
        "an APE tag before the MP4 data, which no available decoder skips",
        lambda data, _: data.startswith(b"APETAGEX"),
    ),
    # Matroska and ASF
    "elements are cut": Case(
        "a.mka",
        lambda: matroska()[:-800],
        r"damaged or cut after (?P<there>[\d.]+) s: the element at byte (?P<at>\d+) states (?P<more>\d+) bytes more",
        lambda data, said: (
            0.8 <= float(said["there"]) <= 0.95
            and int(said["more"]) == 800
            and data[int(said["at"])] == matroska()[int(said["at"])]
        ),
    ),
    "no audio": Case(
        "a.mka",
        lambda: matroska(kind=1),
        "no audio track in this Matroska file",
        lambda data, _: data.count(b"\x83\1") == 1,
    ),
    "two Matroska files": Case(
        "a.mka",
        lambda: matroska() * 2,
        r"(?P<n>\d) Matroska files joined into one, of which the available decoders read only the first",
        lambda data, said: data.count(b"\x18\x53\x80\x67") == int(said["n"]) and by_essentia_alone(data, "a.mka") == 1,
    ),
    "two Matroska tracks": Case(
        "a.mka",
        lambda: matroska(n_tracks=2),
        r"(?P<n>\d) audio tracks: only the first was read",
        lambda data, said: data.count(b"A_PCM/INT/LIT") == int(said["n"]),
    ),
    "two ASF files": Case(
        "a.wma",
        lambda: asf() * 2,
        "ASF files joined into one",
        lambda data, _: data.count(bytes.fromhex("3026b2758e66cf11")) == 2,
    ),
    # Blocks
    "another rate of WavPack": Case(
        "a.wv",
        lambda: wavpack_blocks(3) + wavpack_blocks(1, rate_code=10),
        r"the sampling rate changes after sample (?P<n>\d+)",
        lambda _, said: int(said["n"]) == 3 * RATE,
    ),
    "WavPack is cut": Case(
        "a.wv",
        lambda: wavpack_blocks(3)[:-60],
        r"truncated after (?P<whole>[\d.]+) s: the last block lacks (?P<n>\d+) bytes",
        lambda _, said: near(said["whole"], 2) and int(said["n"]) == 60,
    ),
    "a size in WavPack is damaged": Case(
        "a.wv",
        lambda: replaced(wavpack_blocks(3), b"wvpk", 4, struct.pack("<I", 10**6)),
        r"neither|room for 2\.0 s",
        lambda data, _: data.count(b"wvpk") == 3,
    ),
    "two TTA files": Case(
        "a.tta", lambda: tta_file(1) * 2, "TTA files joined into one", lambda data, _: data.count(b"TTA1") == 2
    ),
    "a frame of TTA is damaged": Case(
        "a.tta",
        lambda: tta_file(4)[:-20] + b"\1" + tta_file(4)[-19:],
        r"damaged: the checksum of the frame after (?P<at>[\d.]+) s is wrong",
        lambda data, said: (
            near(said["at"], 3 * 256 / 245)
            and zlib.crc32(data[-50:-4]) != struct.unpack("<I", data[-4:])[0]
            and zlib.crc32(data[-100:-54]) == struct.unpack("<I", data[-54:-50])[0]
        ),
    ),
    "large for its sound": Case(
        "a.tta",
        lambda: tta_file(1),
        r"(?P<GB>[\d.]+) GB contain only (?P<s>[\d.]+) s of audio",
        lambda _, said: near(said["GB"], 0.2) and near(said["s"], 1),
        size=200 * 10**6,
    ),
    "blocks of VOC": Case(
        "a.voc",
        lambda: by_soundfile(stereo(1), "VOC", "PCM_16")[:-1] + b"\1\xea\3\0\xd3\0" + bytes(1000) + b"\0",
        r"blocks of different kinds \(44100 Hz, 2 channels, codec 4, then (?P<rate>\d+) Hz, 1 channels, codec 0\)",
        lambda _, said: int(said["rate"]) == 10**6 // (256 - 0xD3),
    ),
    # WAV and its relatives
    "no length": Case(
        "a.wav",
        lambda: replaced(sound("a.wav"), b"data", 4, bytes(4)),
        "the header states no length: the file was read to its end",
        lambda data, _: number(data, b"data", 4, "<I") == 0,
    ),
    "two chunks fmt": Case(
        "a.wav",
        lambda: wav_bytes(b"")[:36] + wav_bytes(b"", rate=8000)[12:36] + wav_bytes(bytes(999))[36:],
        "two fmt chunks that contradict each other",
        lambda data, _: data.count(b"fmt ") == 2 and data[20:36] != data[44:60],
    ),
    "valid bits": Case(
        "a.wav",
        lambda: replaced(wave(stereo(1), container="WAVEX"), b"fmt ", 26, struct.pack("<H", 20)),
        r"the header states (?P<valid>\d+) valid bits in samples of (?P<bits>\d+) bits",
        lambda data, said: (
            (int(said["valid"]), int(said["bits"]))
            == (number(data, b"fmt ", 26, "<H"), number(data, b"fmt ", 22, "<H"))
        ),
    ),
    "contradiction": Case(
        "a.wav",
        lambda: replaced(sound("a.wav"), b"fmt ", 20, struct.pack("<H", 6)),
        r"contradicts itself: (?P<c>\d) channels of (?P<b>\d+) bits take (?P<n>\d) bytes, but it states (?P<stated>\d)",
        lambda data, said: (
            number(data, b"fmt ", 10, "<H") * number(data, b"fmt ", 22, "<H") // 8 == int(said["n"])
            and number(data, b"fmt ", 20, "<H") == int(said["stated"])
        ),
    ),
    "contradiction in CAF": Case(
        "a.caf",
        lambda: replaced(sound("a.caf"), b"lpcm", 8, struct.pack(">I", 5)),
        r"contradicts itself: 2 channels of 16 bits take 4 bytes, but it states (?P<stated>\d)",
        lambda data, said: number(data, b"lpcm", 8, ">I") == int(said["stated"]),
    ),
    "no table": Case(
        "a.caf", without_table, r"no table of packets \(chunk pakt\), as if", lambda data, _: b"pakt" not in data
    ),
    "a packet of ALAC is damaged": Case(
        "a.caf",
        lambda: replaced(caf(), b"data", len(caf()) // 2, bytes(20_000)),
        r"damaged: what follows (?P<at>[\d.]+) s is not ALAC",
        lambda data, said: near(
            said["at"],
            (data.index(bytes(20_000)) - data.index(b"data")) / number(data, b"data", 4, ">q"),  # of a second
            4096 / RATE,
        ),
    ),
    "a codec": Case(
        "a.wav",
        lambda: wav_bytes(bytes(32_000), tag=0x42),
        r"neither soundfile nor Essentia can decode this file, which holds codec 0x(?P<tag>\w+) in WAV .*convert it",
        lambda data, said: number(data, b"fmt ", 8, "<H") == int(said["tag"], 16),
    ),
    # Samples
    "a high rate": Case(
        "a.wav",
        lambda: wav_bytes(bytes(32_000), rate=10**9),
        r"sampling rate (?P<rate>\d+) Hz, expected 1 to 768000",
        lambda data, said: number(data, b"fmt ", 12, "<I") == int(said["rate"]),
    ),
    "canceled": Case(
        "a.wav",
        lambda: wave(stereo(-1)),
        r"the channels cancel in (?P<share>\d+)% of the file",
        lambda data, said: near(said["share"], 100 * canceled(data), 3),
    ),
    "no samples": Case(
        "a.wav", lambda: wav_bytes(b""), "no samples: nothing was decoded", lambda data, _: len(data) == 44
    ),
    "NaN": Case(
        "a.wav",
        with_nan,
        r"(?P<bad>\d+) of (?P<all>\d+) samples are NaN or infinite",
        lambda data, said: (int(said["bad"]), int(said["all"])) == (data.count(struct.pack("<f", np.nan)), 4000),
    ),
    "too large": Case(
        "a.wav",
        lambda: wave(np.full((100, 2), 3e38, np.float32), "FLOAT"),
        r"samples of up to (?P<peak>[\de+.]+), where full scale is 1",
        lambda data, said: float(said["peak"]) == 3e38 and struct.pack("<f", 3e38) in data,
    ),
    "long": Case(
        "a.wav",
        lambda: wav_bytes(bytes(100_000), rate=1),
        r"at least (?P<hours>[\d.]+) hours long, and the limit is 12 hours",
        lambda data, said: near(said["hours"], number(data, b"data", 4, "<I") / 2 / 3600),
    ),
    "long, it says": Case(
        "a.caf",
        lambda: caf(valid=10**10),
        r"the header states (?P<hours>[\d.]+) hours, and the limit is 12 hours",
        lambda _, said: near(said["hours"], 10**10 / RATE / 3600),
    ),
    # No audio
    "nothing": Case("a.wav", lambda: b"", r"empty file \(0 bytes\)", lambda data, _: not data),
    "zeros": Case(
        "a.au",
        lambda: bytes(5000),
        r"the first (?P<n>\d+) bytes are zeros",
        lambda data, said: data[: int(said["n"])] == data,
    ),
    "a web page": Case(
        "a.mp3", lambda: b"<!DOCTYPE html><html>", "a playlist, web page or other text", lambda data, _: data.isascii()
    ),
    "no header": Case(
        "a.au",
        lambda: np.random.default_rng(3).bytes(5000),
        r"\(soundfile: no header that it knows; Essentia: .*\)",
        lambda data, _: b".snd" not in data,
    ),
    "raw": Case("a.raw", lambda: b"abc" * 99, r"\(soundfile: unknown format;", lambda data, _: data[:3] == b"abc"),
    "words": Case("a.mp3", lambda: b"no sound " * 99, r"\(soundfile: no sound found;", lambda data, _: data.isascii()),
}


def is_intact(page: bytes) -> bool:
    return struct.unpack("<I", page[22:26])[0] == ogg_checksum(page[:22] + bytes(4) + page[26:])


def flac_total(data: bytes) -> int:
    return int.from_bytes(data[18:26], "big") & (1 << 36) - 1


def bit_rate(data: bytes) -> int:
    return 1000 * (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[(data[2] >> 4) - 1]


def frame_length(data: bytes) -> int:
    return data.index(data[:2], 4)


def adts(channels: int) -> bytes:
    size = 100
    head = [0xFF, 0xF1, 1 << 6 | 4 << 2 | channels >> 2, (channels & 3) << 6, size >> 3, (size & 7) << 5 | 0x1F, 0xFC]
    return bytes(head) + bytes(size - 7)


def canceled(data: bytes) -> float:
    """Return the share of frames of a stereo WAV whose channels are loud and opposite."""
    left, right = np.frombuffer(data[data.index(b"data") + 8 :], "<i2").reshape(-1, 2).astype(float).T
    loud = np.convolve(left**2, np.ones(1000) / 1000, "same") > 1e-5 * 2**30
    return float(np.mean(loud & (np.abs(left + right) <= 1)))


def by_essentia_alone(data: bytes, name: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        file = by_essentia._decode_in_memory(str(Path(folder) / name))
        return sum(map(len, file.blocks())) / file.rate


@functools.cache
def answer(name: str) -> tuple[bytes, str]:
    """Return the bytes of a case, and what is said of them: the failure, or the notes."""
    case = CASES[name]
    data = case.data()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / case.name
        path.write_bytes(data)
        if case.size:
            os.truncate(path, case.size)
        try:
            return data, "\n".join(decode(path).notes)
        except AudioError as error:
            return data, str(error)


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_of_a_file_is_true_of_its_bytes(name):
    data, message = answer(name)
    found = re.search(CASES[name].said, message)
    assert found, message
    assert CASES[name].so(data, found.groupdict()), message


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "(?P<there>" in case.said])
def test_the_seconds_in_a_message_are_those_that_ffmpeg_finds(tmp_path, name):
    if not shutil.which("ffmpeg"):
        pytest.skip("needs ffmpeg")
    data, message = answer(name)
    (tmp_path / CASES[name].name).write_bytes(data)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", tmp_path / CASES[name].name, "-f", "f32le", "-ac", "1"]
    found = subprocess.run([*command, "-ar", "8000", "-"], capture_output=True, check=False).stdout
    slack = 0.2 if CASES[name].name == "a.flac" else 0.12  # two frames: ffmpeg drops those on both sides of a hole
    assert near(re.search(CASES[name].said, message)["there"], len(found) / 4 / 8000, slack)


def test_a_flac_of_32_bits_is_sound_for_flac(tmp_path):
    if not shutil.which("flac"):
        pytest.skip("needs flac")
    (tmp_path / "a.flac").write_bytes(flac_file(bits=32))
    subprocess.run(["flac", "-s", "-t", tmp_path / "a.flac"], check=True)


# What is not so is not said


def test_an_mp4_after_a_tag_that_its_index_counts_is_read(tmp_path):
    (tmp_path / "a.m4a").write_bytes(ID3 + moved(m4a(), len(ID3)))
    assert decode(tmp_path / "a.m4a").duration == pytest.approx(1, abs=0.06)


def test_a_flac_whose_first_frame_is_damaged_is_not_said_to_hold_none(tmp_path, monkeypatch):
    monkeypatch.setattr(flac, "_TAIL", 1000)
    data = bytearray(sound("a.flac"))
    data[data.index(b"\xff\xf8") + 4] ^= 0x55
    (tmp_path / "a.flac").write_bytes(data)
    assert not read_header(tmp_path / "a.flac").refusal


def test_silence_in_a_flac_is_not_taken_for_missing_frames(tmp_path):
    samples = loud_then_quiet(3, RATE)
    samples[RATE : 2 * RATE] = 0
    (tmp_path / "a.flac").write_bytes(by_soundfile(samples, "FLAC", "PCM_16"))
    assert decode(tmp_path / "a.flac").notes == ()


def test_frames_of_a_flac_in_the_wrong_order_are_found(tmp_path):
    frames = flac_frames(0, 60)
    frames[20:22] = frames[21], frames[20]
    (tmp_path / "a.flac").write_bytes(flac_head(60 * 4096) + b"".join(frames))
    with pytest.raises(AudioError, match=r"5\.6 s, but 5\.6 s were decoded: .* out of order after 1\.9 s;"):
        decode(tmp_path / "a.flac")


def test_tags_where_files_were_joined_are_not_called_junk(tmp_path):
    (tmp_path / "a.mp3").write_bytes(mp3() + b"TAG" + bytes(125) + ID3 + mp3())
    assert decode(tmp_path / "a.mp3").notes == ()


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_whole_packets_of_alac_are_not_called_damaged(tmp_path, channels):
    samples = np.repeat(loud_then_quiet(1, RATE)[:, :1], channels, axis=1)
    (tmp_path / "a.caf").write_bytes(by_soundfile(samples, "CAF", "ALAC_16"))
    assert decode(tmp_path / "a.caf").duration == 1


def test_wavpack_blocks_after_junk_count(tmp_path):
    block = len(wavpack_blocks(3)) // 3
    (tmp_path / "a.wv").write_bytes(wavpack_blocks(3)[:block] + b"junk" * 9 + wavpack_blocks(3)[block:])
    assert read_header(tmp_path / "a.wv").room == 3


# What no bytes provoke


def by_function() -> Iterator[str]:
    """Yield what is said where files are not at fault: the system, or a missing library, and of other paths."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        os.mkfifo(folder / "pipe.wav")
        (folder / "album").mkdir()
        whole = folder / "album" / "whole.wav"
        whole.write_bytes(sound("a.wav"))
        for path in (folder / "pipe.wav", folder / "album", folder / ("x" * 300), folder / "a\0b"):
            yield failure(lambda path=path: decode(path))
        (folder / "loop").symlink_to("loop")
        yield failure(lambda: require_inside(folder / "loop", folder))
        yield failure(lambda: require_inside(folder / "album" / ".." / "x", folder / "album" / "y"))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        audio = decoding.FileAudio(whole, (), stack, 0)
        yield failure(lambda: raise_within(audio, MemoryError()))
        # A header that wraps at 4 GiB takes long to decode.
        with whole.open("r+b") as file:
            file.truncate(2**32 + len(sound("a.wav")))
        yield from read_header(whole).notes
        whole.write_bytes(sound("a.wav"))
        # A disk is full.
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            yield failure(lambda: by_essentia._decode_to_disk(str(whole), stack))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        # Essentia is not installed.
        patch.setattr(by_essentia, "essentia_error", lambda: "No module named 'essentia'")
        for file, data in (
            ("a.flac", flac_file(bits=32)),
            ("b.mp3", mp3()[: 2 * frame_length(mp3())] + bytes(3000)),
            ("c.mp3", mp3(variable=True)),
        ):
            (folder / file).write_bytes(data)
            yield failure(lambda file=file: decode(folder / file))
        yield from of_folders(folder / "library", whole, patch)


def of_folders(folder: Path, whole: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    folder.mkdir()
    yield failure(lambda: audio_files([folder]))
    yield failure(lambda: audio_files([folder / "nothing"]))
    yield failure(lambda: require_folder(folder / "nothing"))
    yield failure(lambda: require_folder(whole))
    for name in ("notes.txt", "README", ".hidden.wav", "caf\udce9.wav", "caf\\xe9.wav"):
        (folder / name).write_bytes(b"x")
    os.mkfifo(folder / "pipe.wav")
    (folder / "broken.wav").symlink_to("nothing.wav")
    (folder / "closed").mkdir()
    notes = find_audio(folder).notes
    assert any(
        "1 file without ending" not in note and "1 .txt" in note and "1 without ending" in note for note in notes
    )
    yield from notes
    patch.setattr(files.os, "access", lambda path, mode: not str(path).endswith("closed"))  # nothing is closed to root
    yield from find_audio(folder).notes


def raise_within(audio: decoding.FileAudio, error: Exception) -> None:
    with audio._guarded():
        raise error


def failure(call: Callable[[], object]) -> str:
    with pytest.raises(MirembedError) as caught:
        call()
    return str(caught.value)


def test_every_message_about_a_file_is_provoked():
    said = [answer(name)[1] for name in CASES] + list(by_function())
    never = never_said(set(templates(MODULES)) - NOT_SAID, said)
    assert not never
