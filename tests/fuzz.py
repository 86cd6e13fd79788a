"""Thousands of damaged audio files: extraction survives them and accounts for each.

``python tests/fuzz.py --files 4000 --seed 1`` makes files of every format that can be synthesized, damages headers and
bodies, extracts the files and prints what became of them. The exit code is 1 if a file is not accounted for, a worker
exceeded its memory limit, or a reason is not a clear error. ``tests/test_fuzz.py`` is a small version.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import soundfile
from audio_files import flash_bytes, loud_then_quiet, mp4_bytes, write_mp3

from mirembed.config import defaults
from mirembed.extract import ExtractOptions, FileToExtract, extract_files
from mirembed.extract.file_features import WORKER_MEMORY
from mirembed.features import resolve_features
from mirembed.registry import Registry

WRITTEN = {
    "pcm8.wav": ("WAV", "PCM_U8"),
    "pcm16.wav": ("WAV", "PCM_16"),
    "pcm24.wav": ("WAVEX", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "ima.wav": ("WAV", "IMA_ADPCM"),
    "ms.wav": ("WAV", "MS_ADPCM"),
    "rf64.wav": ("RF64", "PCM_16"),
    "a.w64": ("W64", "PCM_16"),
    "a.caf": ("CAF", "PCM_16"),
    "a.aiff": ("AIFF", "PCM_16"),
    "float.aiff": ("AIFF", "FLOAT"),
    "a.au": ("AU", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.opus": ("OGG", "OPUS"),
}
"""Containers and codecs of the samples that soundfile writes, by file name."""

SIZES = [
    b"data",
    b"ds64",
    b"SSND",
    b"COMM",
    b"fmt ",
    b"desc",
    b"Info",
    b"Xing",
    b"OggS",
    b"fLaC",
    b"mdhd",
    b"stts",
    b"stsz",
]
"""Marks that sizes, rates and lengths follow."""

EXTREMES = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1", b"\1\0\0\0"]


def samples(folder: Path) -> dict[str, bytes]:
    """Write sound files of one second, and return their contents by name."""
    sound = loud_then_quiet(1, 48_000)
    for name, (container, codec) in WRITTEN.items():
        soundfile.write(folder / name, sound, 48_000, format=container, subtype=codec)
    for mode in ("CONSTANT", "VARIABLE"):
        write_mp3(folder / f"{mode.lower()}.mp3", sound, 48_000, mode)
    plain = write_mp3(folder / "plain.mp3", sound, 48_000, "CONSTANT", header=False).read_bytes()
    (folder / "a.m4a").write_bytes(mp4_bytes(plain, 48_000))
    (folder / "a.flv").write_bytes(flash_bytes(plain))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


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
        Files whose reason is an exception instead of words, or whose spectrogram is not finite.
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
