"""Thousands of damaged audio files: extraction survives them and accounts for each.

``python tests/fuzz.py --files 4000 --seed 1`` makes files of every format that can be synthesized, damages headers and
bodies, extracts the files and prints what became of them. The exit code is 1 if a file is not accounted for, a worker
exceeded its memory limit, or a reason is not a clear error. ``tests/test_fuzz.py`` is a small version.
"""

from __future__ import annotations

import argparse
import signal
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import psutil
import soundfile
from audio_files import flash_bytes, loud_then_quiet, mp4_bytes, wav_bytes, write_mp3
from test_audio_lengths import ID3V1, ac3_frames, ape_tag, ogg_checksum, tta_file, wavpack_blocks

from mirembed.audio.headers import read_header
from mirembed.config import defaults
from mirembed.extract import ExtractOptions, FileToExtract, extract_files
from mirembed.extract.file_features import WORKER_MEMORY
from mirembed.features import resolve_features
from mirembed.registry import Registry

WRITTEN = {
    "pcm8.wav": ("WAV", "PCM_U8", "FILE"),
    "pcm16.wav": ("WAV", "PCM_16", "FILE"),
    "pcm24.wav": ("WAVEX", "PCM_24", "FILE"),
    "float.wav": ("WAV", "FLOAT", "FILE"),
    "alaw.wav": ("WAV", "ALAW", "FILE"),
    "ima.wav": ("WAV", "IMA_ADPCM", "FILE"),
    "ms.wav": ("WAV", "MS_ADPCM", "FILE"),
    "rifx.wav": ("WAV", "PCM_16", "BIG"),
    "rf64.wav": ("RF64", "PCM_16", "FILE"),
    "a.w64": ("W64", "PCM_16", "FILE"),
    "a.caf": ("CAF", "PCM_16", "FILE"),
    "alac.caf": ("CAF", "ALAC_16", "FILE"),
    "a.aiff": ("AIFF", "PCM_16", "FILE"),
    "float.aiff": ("AIFF", "FLOAT", "FILE"),
    "ima4.aiff": ("AIFF", "IMA_ADPCM", "FILE"),
    "sowt.aiff": ("AIFF", "PCM_16", "LITTLE"),
    "a.au": ("AU", "PCM_16", "FILE"),
    "little.au": ("AU", "PCM_16", "LITTLE"),
    "a.voc": ("VOC", "PCM_16", "FILE"),
    "a.flac": ("FLAC", "PCM_16", "FILE"),
    "a.ogg": ("OGG", "VORBIS", "FILE"),
    "a.opus": ("OGG", "OPUS", "FILE"),
}
"""Container, codec and order of bytes of the samples that soundfile writes, by file name."""

SIZES = [
    *(b"RIFF", b"fmt ", b"fact", b"data", b"ds64", b"FORM", b"COMM", b"SSND", b"desc", b"pakt"),  # chunks
    *(b"moov", b"mvhd", b"tkhd", b"mdhd", b"stts", b"stsz", b"stsc", b"stco", b"elst", b"moof", b"tfhd", b"trun"),
    *(b"Info", b"Xing", b"TLEN", b"ID3", b"APETAGEX", b"LYRICS200", b"TAG"),
    *(b"OggS", b"OpusHead", b"vorbis", b"Speex", b"FLAC", b"fLaC"),
    *(b"wvpk", b"TTA1", b"Creative", b"\x16\x54\xae\x6b", b"\x15\x49\xa9\x66", b"\x1f\x43\xb6\x75", b"\xa1\xdc\xab"),
]
"""Marks that sizes, rates and lengths follow."""

SLOW = 60
"""Seconds that no header of a file of this size may take, on any machine."""

EXTREMES = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1", b"\1\0\0\0"]


def samples(folder: Path) -> dict[str, bytes]:
    """Write sound files of one second, and return their contents by name.

    Of formats without an encoder here, only the structure is right; no decoder reads them.
    """
    sound = loud_then_quiet(1, 48_000)
    for name, (container, codec, endian) in WRITTEN.items():
        soundfile.write(folder / name, sound, 48_000, format=container, subtype=codec, endian=endian)
    for mode in ("CONSTANT", "VARIABLE"):
        write_mp3(folder / f"{mode.lower()}.mp3", sound, 48_000, mode)
    plain = write_mp3(folder / "plain.mp3", sound, 48_000, "CONSTANT", header=False).read_bytes()
    ogg, flac = (folder / "a.ogg").read_bytes(), (folder / "a.flac").read_bytes()
    length = b"TLEN" + struct.pack(">IH", 5, 0) + b"\x001000"
    lyrics = b"LYRICSBEGIN" + bytes(90) + b"000101LYRICS200"
    made = {
        "mp3.wav": wav_bytes(plain, tag=0x55, rate=48_000),
        "tags.mp3": b"ID3\3\0\0\0\0\0" + bytes([len(length)]) + length + plain + ape_tag() + lyrics + ID3V1,
        "chained.ogg": ogg + (folder / "a.ogg").read_bytes(),
        "flac.ogg": ogg_pages([b"\x7fFLAC\1\0\0\1" + flac[:42], flac[42:86], *[flac[86:4000]] * 3]),
        "speex.ogg": ogg_pages([b"Speex   " + bytes(28) + struct.pack("<4I", 48_000, 0, 0, 2), *[bytes(500)] * 5]),
        "joined.flac": flac + flac,
        "a.m4a": mp4_bytes(plain, 48_000),
        "edits.m4a": mp4_bytes(plain, 48_000, [(40_000, 1105)], n_tracks=2),
        "fragments.m4a": mp4_bytes(plain, 48_000) + fragment(40) + fragment(2),
        "a.flv": flash_bytes(plain),
        "a.mka": matroska(sound),
        "a.wma": asf(8),
        "a.aac": adts(50),
        "a.ac3": ac3_frames(30),
        "a.wv": wavpack_blocks(3),
        "a.tta": tta_file(2),
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def ogg_pages(packets: Sequence[bytes]) -> bytes:
    """Return an Ogg file with a page for each packet."""
    pages = []
    for number, packet in enumerate(packets):
        flags = 2 * (number == 0) + 4 * (number == len(packets) - 1)
        lengths = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
        page = bytearray(b"OggS\0" + bytes([flags]) + struct.pack("<qIII", 4096 * max(0, number - 1), 7, number, 0))
        page += bytes([len(lengths)]) + lengths + packet
        page[22:26] = struct.pack("<I", ogg_checksum(page))
        pages.append(bytes(page))
    return b"".join(pages)


def fragment(n_samples: int) -> bytes:
    """Return a fragment of an MP4 file."""

    def box(name: bytes, *content: bytes) -> bytes:
        body = b"".join(content)
        return struct.pack(">I", 8 + len(body)) + name + body

    track = box(b"tfhd", struct.pack(">III", 8, 1, 1152))
    run = box(b"trun", struct.pack(">II", 0x100, n_samples), struct.pack(">I", 1152) * n_samples)
    return box(b"moof", box(b"traf", track, run)) + box(b"mdat", bytes(100))


def matroska(sound: np.ndarray) -> bytes:
    """Return a Matroska file of 16-bit samples."""

    def element(name: str, content: bytes) -> bytes:
        return bytes.fromhex(name) + (1 << 56 | len(content)).to_bytes(8, "big") + content

    def number(value: int) -> bytes:
        return value.to_bytes(4, "big")

    samples = (32_767 * sound).astype("<i2").tobytes()
    audio = element("e1", element("b5", struct.pack(">d", 48_000)) + element("9f", b"\2") + element("6264", b"\x10"))
    track = (
        element("d7", b"\1") + element("73c5", b"\1") + element("83", b"\2") + element("86", b"A_PCM/INT/LIT") + audio
    )
    length = element("2ad7b1", number(1_000_000)) + element("4489", struct.pack(">d", 1000.0))
    step = len(samples) // 10
    blocks = [
        element("a3", b"\x81" + struct.pack(">hB", 100 * n, 0x80) + samples[n * step : (n + 1) * step])
        for n in range(10)
    ]
    cluster = element("1f43b675", element("e7", b"\0") + b"".join(blocks))
    segment = element("1549a966", length) + element("1654ae6b", element("ae", track)) + cluster
    return element("1a45dfa3", element("4282", b"matroska")) + element("18538067", segment)


def asf(n_packets: int) -> bytes:
    """Return the structure of an ASF file."""
    properties = bytes(16) + struct.pack("<QQQQQQII", 0, 0, n_packets, 40_000_000, 40_000_000, 3000, 2, 500)
    inside = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365") + struct.pack("<Q", 24 + len(properties)) + properties
    head = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + struct.pack("<QIH", 30 + len(inside), 1, 0x201)
    data = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c") + struct.pack("<Q", 50 + 500 * n_packets) + bytes(26)
    return head + inside + data + bytes(500 * n_packets)


def adts(n_frames: int) -> bytes:
    """Return the frames of an AAC file."""
    length = 200
    head = bytes([0xFF, 0xF1, 1 << 6 | 3 << 2, 2 << 6 | length >> 11, length >> 3 & 255, (length & 7) << 5 | 31, 0xFC])
    return (head + bytes(length - 7)) * n_frames


Mutation = Callable[[bytearray, np.random.Generator], None]


def flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    for position in rng.integers(0, len(data), rng.integers(1, 50)):
        data[position] ^= 1 << int(rng.integers(8))


def damage_header(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 4)):
        position = int(rng.integers(0, min(len(data) - 4, 200)))
        data[position : position + 4] = EXTREMES[rng.integers(len(EXTREMES))]


def cut_off(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(1, len(data))) :]


def cut_out(data: bytearray, rng: np.random.Generator) -> None:
    first, last = sorted(rng.integers(0, len(data), 2).tolist())
    del data[first : max(first + 1, last)]


def insert_junk(data: bytearray, rng: np.random.Generator) -> None:
    position = int(rng.integers(0, len(data)))
    data[position:position] = rng.bytes(int(rng.integers(1, 5000)))


def repeat_part(data: bytearray, rng: np.random.Generator) -> None:
    first, last = sorted(rng.integers(0, len(data), 2).tolist())
    data[last:last] = data[first:last] * int(rng.integers(1, 4))


def change_size(data: bytearray, rng: np.random.Generator) -> None:
    """Put another number behind a mark: small, large or extreme, of either byte order."""
    present = [mark for mark in SIZES if mark in data]
    if not present:
        return
    position = data.index(present[rng.integers(len(present))]) + int(rng.integers(4, 24))
    numbers = [int(rng.integers(0, 100_000)).to_bytes(4, order) for order in ("little", "big")]
    choices = [*EXTREMES, *numbers]
    data[position : position + 4] = choices[rng.integers(len(choices))]


def append_itself(data: bytearray, _: np.random.Generator) -> None:
    data += bytes(data)


MUTATIONS: list[Mutation] = [
    *(change_size, change_size, append_itself, flip_bits, damage_header, damage_header, cut_off, cut_out, insert_junk),
    repeat_part,
]


def damaged(originals: dict[str, bytes], n_files: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents, one format after the other; one file in twenty stays intact."""
    rng = np.random.default_rng(seed)
    names = list(originals)
    for number in range(n_files):
        name = names[number % len(names)]
        data = bytearray(originals[name])
        for _ in range(rng.integers(1, 4) if rng.random() > 0.05 else 0):
            MUTATIONS[rng.integers(len(MUTATIONS))](data, rng)
            if len(data) < 8:
                break
        if rng.random() < 0.02:  # two files in one
            data += originals[names[rng.integers(len(names))]]
        yield f"{number:06d}-{name}", bytes(data)


@dataclass
class Report:
    """What became of the files.

    Attributes
    ----------
    outcomes : dict of str to Counter
        For each sample, how many files were extracted, refused with a clear error, or lost with their worker.
    unaccounted : list of str
        Files with no outcome, or more than one.
    unclear : list of str
        Files whose reason is an exception instead of words, whose spectrogram is not finite, or whose bytes take
        seconds to look at.
    peak : int
        Peak memory of a worker in bytes.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    unaccounted: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    peak: int = 0

    @property
    def sound(self) -> bool:
        return not self.unaccounted and not self.unclear and self.peak < WORKER_MEMORY


def fuzz(folder: Path, n_files: int, seed: int, jobs: int) -> Report:
    """Damage files, extract them and return what became of them."""
    (folder / "samples").mkdir()
    (folder / "damaged").mkdir()
    paths = []
    for name, content in damaged(samples(folder / "samples"), n_files, seed):
        paths.append(folder / "damaged" / name)
        paths[-1].write_bytes(content)
    report = Report()
    report.unclear += [f"{path.name}: its header takes more than {SLOW} s" for path in paths if not ends(path)]
    seen: Counter[int] = Counter()
    with watching(report):
        parts = resolve_features(Registry.discover(), defaults.FEATURES).parts
        files = [FileToExtract(path, (), parts) for path in paths]
        for outcome in extract_files(files, jobs, ExtractOptions(timeout=60)):
            seen[outcome.index] += 1
            path, result = paths[outcome.index], outcome.result
            if not isinstance(result, str) and result.failures:
                (result,) = result.failures.values()
            if not isinstance(result, str):
                kind = "extracted"
                if not all(np.isfinite(frames).all() for frames in result.frames.values()):
                    report.unclear.append(f"{path.name}: not finite")
            elif "worker process" in result or "was stopped" in result:
                kind = "lost: " + result
            else:
                kind = "refused"
                if "Error:" in result:
                    report.unclear.append(f"{path.name}: {result}")
            report.outcomes.setdefault(path.name[7:], Counter())[kind] += 1
    report.unaccounted = [path.name for index, path in enumerate(paths) if seen[index] != 1]
    return report


def ends(path: Path) -> bool:
    """Whether the header of a file is read in time; it raises nothing."""

    def interrupt(*_: object) -> NoReturn:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(SLOW)
    try:
        read_header(path)
    except TimeoutError:
        return False
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return True


class watching:  # noqa: N801
    """Records the peak memory of this process's children while the block runs."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            for child in psutil.Process().children():
                try:
                    self._report.peak = max(self._report.peak, child.memory_info().rss)
                except psutil.Error:
                    continue


def main() -> int:
    parser = argparse.ArgumentParser(description="Extract thousands of damaged audio files.")
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mirembed-fuzz-") as folder:
        report = fuzz(Path(folder), arguments.files, arguments.seed, arguments.jobs)
    for name, kinds in report.outcomes.items():
        print(f"{name}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    for line in (*report.unclear, *(f"not accounted for: {name}" for name in report.unaccounted)):
        print(line)
    print(
        f"{arguments.files} files in {time.monotonic() - began:.0f} s; peak memory of a worker: {report.peak >> 20} MiB"
    )
    return 0 if report.sound else 1


if __name__ == "__main__":
    sys.exit(main())
