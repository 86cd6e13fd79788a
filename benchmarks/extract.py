"""Measure extraction: mirembed and librosa take turns on the same files (``make bench-extract``).

Both use the same number of worker processes, FFT size, hop and bands. librosa's pool is warmed up before it is timed,
and keeps its spectrograms in memory; mirembed's time includes starting its workers, hashing, and writing the store.
"decoding" only decodes the files, with libsndfile.
``--steps`` measures the steps of an extraction one by one, on one file of each kind. ``--memory N`` extracts N files
instead and prints how much memory the processes use over time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mirembed import Classification, Listing, SamplesAudio, Track
from mirembed.audio.decode_state import BLOCK_VALUES, DecodeState, mix
from mirembed.audio.files import file_hash
from mirembed.audio.headers import read_header
from mirembed.config import defaults
from mirembed.extract import ExtractOptions, FileToExtract, extract, extract_files
from mirembed.features import FeaturesPart, resolve_features
from mirembed.features.compute import compute
from mirembed.progress import Silent, counted
from mirembed.registry import Registry
from mirembed.store import Store
from mirembed_features.logmel import LogMel

DISTINCT = 40
"""Clips to synthesize; further files are hard links to them."""

FORMATS = {"wav": (22_050, 1), "mp3": (44_100, 2), "flac": (44_100, 2)}
"""Sampling rate (Hz) and channels of each kind of file."""

GOALS = {("essentia", "wav"): 2.0, ("essentia", "mp3"): 1.3, ("scipy", "wav"): 3.0}
"""How many times faster than librosa each backend should be."""

MEBIBYTE = 2**20


def write_clips(folder: Path, kind: str, n_files: int, seconds: float) -> list[Path]:
    """Write clips of chords with noise: 16-bit WAV or FLAC, or MP3 at 128 kbit/s or more."""
    import soundfile

    rate, channels = FORMATS[kind]
    time_axis = np.arange(round(seconds * rate)) / rate
    paths = []
    for number in range(n_files):
        path = folder / f"{number:05d}.{kind}"
        if number < DISTINCT:
            rng = np.random.default_rng(number)
            pitches = 110 * 2 ** (rng.integers(0, 60, 8) / 12)
            chord = sum(np.sin(2 * np.pi * pitch * time_axis) for pitch in pitches) / 20
            swell = 0.6 + 0.4 * np.sin(2 * np.pi * time_axis * rng.uniform(0.5, 3))
            samples = (chord * swell)[:, None] + 0.03 * rng.standard_normal((len(time_axis), channels))
            soundfile.write(path, samples, rate, subtype=None if kind == "mp3" else "PCM_16")
        else:
            path.hardlink_to(paths[number % DISTINCT])
        paths.append(path)
    return paths


def by_librosa(path: Path) -> np.ndarray:
    """Compute a log-mel spectrogram with the FFT, hop and bands that mirembed uses at this rate, in a worker."""
    import librosa

    samples, rate = librosa.load(path, sr=None)
    definition = LogMel().definition
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=rate,
        n_fft=definition.fft_size(rate),
        win_length=definition.frame_length(rate),
        hop_length=int(definition.hop_length(rate)),
        window="hamming",
        n_mels=definition.bands,
        fmin=definition.low,
        fmax=definition.high,
    )
    return librosa.power_to_db(power)


def only_decode(path: Path) -> int:
    """Decode a file with libsndfile, and do nothing with its samples, in a worker."""
    import soundfile

    with soundfile.SoundFile(path) as file:
        return sum(len(block) for block in file.blocks(blocksize=2**16, dtype="float32"))


def run_mirembed(paths: Sequence[Path], jobs: int, backend: str) -> None:
    """Extract the files into a new store."""
    tracks = [Track(path.name, path, "music") for path in paths]
    with tempfile.TemporaryDirectory(prefix="mirembed-bench-") as store:
        place = Store(Path(store))
        place.create()
        summary = extract(
            place,
            Listing(Classification(("music",)), tracks),
            spec="folder",
            plugin={},
            audio=paths[0].parent,
            features=[resolve_features(Registry.discover(), defaults.FEATURES)],
            jobs=jobs,
            options=ExtractOptions(backend),
            progress=Silent(),
        )
    assert summary.extracted == len(paths), summary.failures[:3]


class Took(NamedTuple):
    """Elapsed seconds, and processor seconds of this process and its workers."""

    wall: float
    cpu: float


def took(work: Callable[[], object]) -> Took:
    """Time a call."""
    wall, cpu = time.perf_counter(), processor_seconds()
    work()
    return Took(time.perf_counter() - wall, processor_seconds() - cpu)


def processor_seconds() -> float:
    """Return the processor time of this process and all its workers, ended ones included."""
    import psutil

    this = psutil.Process()
    own = this.cpu_times()
    living = [child.cpu_times() for child in this.children(recursive=True)]
    return sum((own.user, own.system, own.children_user, own.children_system, *(t.user + t.system for t in living)))


def compare(kind: str, n_files: int, seconds: float, jobs: int, rounds: int) -> list[str]:
    """Extract the same files with each program in turn; return the lines to print."""
    runs: dict[str, list[Took]] = {"librosa": [], "decoding": [], "essentia": [], "scipy": []}
    with tempfile.TemporaryDirectory(prefix="mirembed-bench-") as folder:
        paths = write_clips(Path(folder), kind, n_files, seconds)
        with ProcessPoolExecutor(jobs) as pool:
            list(pool.map(by_librosa, paths[: 4 * jobs]))
            for _ in range(rounds):
                runs["librosa"].append(took(lambda: list(pool.map(by_librosa, paths))))
                runs["decoding"].append(took(lambda: list(pool.map(only_decode, paths))))
                for backend in ("essentia", "scipy"):
                    runs[backend].append(took(lambda: run_mirembed(paths, jobs, backend)))  # noqa: B023
    rate, channels = FORMATS[kind]
    lines = [f"{kind}, {rate} Hz, {counted(channels, 'channel')}: {n_files} files of {seconds:g} s, {jobs} workers"]
    for name, times in runs.items():
        wall, cpu = (
            statistics.median(theirs[unit] / ours[unit] for ours, theirs in zip(times, runs["librosa"], strict=True))
            for unit in (0, 1)
        )
        best = min(times)
        alone = statistics.median(ours.cpu / its.cpu for ours, its in zip(times, runs["decoding"], strict=True))
        line = f"  {name:<9}{best.wall:7.2f} s  {n_files * seconds / 3600 / best.wall:5.2f} h/s  "
        line += f"{1000 * best.cpu / n_files:6.1f} ms of processor time per file  "
        line += f"{wall:5.2f} x librosa in elapsed time, {cpu:5.2f} x in processor time, "
        line += f"{alone:4.2f} x the processor time of decoding"
        goal = GOALS.get((name, kind))
        lines.append(line + (f" (goal {goal:g})" if goal else ""))
    return lines


def steps(kind: str, seconds: float) -> list[str]:
    """Measure what is done with one file, each step by itself; return the lines to print."""
    import soundfile
    from threadpoolctl import threadpool_limits

    parts = resolve_features(Registry.discover(), defaults.FEATURES).parts
    with tempfile.TemporaryDirectory(prefix="mirembed-bench-") as folder, threadpool_limits(1):
        [path] = write_clips(Path(folder), kind, 1, seconds)
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        length = BLOCK_VALUES // samples.shape[1]
        blocks = [np.ascontiguousarray(samples[at : at + length]) for at in range(0, len(samples), length)]
        audio = SamplesAudio(np.concatenate([mix(block) for block in blocks]), rate)
        by_backend = {name: LogMel(backend=name) for name in ("essentia", "scipy")}
        things: dict[str, Callable[[], object]] = {
            "decoding by libsndfile": lambda: only_decode(path),
            "the decoded samples checked, hashed and mixed": lambda: take(rate, blocks),
            "of which the hash": lambda: hash_samples(blocks),
            "the header": lambda: read_header(path),
            "the hash of the file": lambda: file_hash(path),
            "logmel by Essentia": lambda: by_backend["essentia"].extract(audio),
            "logmel by scipy": lambda: by_backend["scipy"].extract(audio),
            "all of it, by Essentia": lambda: whole(path, parts[0], by_backend["essentia"]),
            "all of it, by scipy": lambda: whole(path, parts[0], by_backend["scipy"]),
        }
        took = {name: min(cpu_seconds(thing) for _ in range(5)) for name, thing in things.items()}
    first = took["decoding by libsndfile"]
    lines = [f"{kind}, one file of {seconds:g} s, one thread: processor time, and its ratio to decoding alone"]
    return lines + [f"  {name:<48}{1000 * value:7.1f} ms  {value / first:5.2f}" for name, value in took.items()]


def take(rate: int, blocks: Sequence[np.ndarray]) -> str:
    """Do with decoded blocks ``[n_samples, channels]`` what every extraction does."""
    state = DecodeState(rate, blocks[0].shape[1])
    for block in blocks:
        state.add(block)
    return state.finish()


def hash_samples(blocks: Sequence[np.ndarray]) -> str:
    """Hash decoded blocks."""
    hasher = hashlib.blake2b(digest_size=16)
    for block in blocks:
        hasher.update(block.data.cast("B"))
    return hasher.hexdigest()


def whole(path: Path, part: FeaturesPart, plugin: LogMel) -> tuple[object, str]:
    """Do with a file what a worker does."""
    return compute([(part, plugin)], path), file_hash(path)


def cpu_seconds(thing: Callable[[], object]) -> float:
    """Return the processor seconds that a call takes."""
    before = time.process_time()
    thing()
    return time.process_time() - before


def start_up(backend: str) -> float:
    """Return the seconds from starting a worker to its first spectrogram of a 1-s clip."""
    with tempfile.TemporaryDirectory(prefix="mirembed-bench-") as folder:
        paths = write_clips(Path(folder), "wav", 1, 1.0)
        parts = resolve_features(Registry.discover(), defaults.FEATURES).parts
        files = [FileToExtract(path, (), parts) for path in paths]
        return min(took(lambda: list(extract_files(files, 1, ExtractOptions(backend)))).wall for _ in range(5))


class MemoryWatch(threading.Thread):
    """Samples the memory of this process and its workers several times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[int, int]] = []
        self._ended = threading.Event()

    def run(self) -> None:
        """Sample until `end` is called."""
        import psutil

        parent = psutil.Process(os.getpid())
        while not self._ended.wait(0.2):
            workers = []
            for child in parent.children(recursive=True):
                try:
                    workers.append(child.memory_info().rss)
                except psutil.Error:
                    continue
            self.samples.append((parent.memory_info().rss, max(workers, default=0)))

    def end(self) -> list[str]:
        """Return a line with the peak memory for each tenth of the time."""
        self._ended.set()
        self.join()
        tenths = np.array_split(np.array(self.samples), min(10, len(self.samples)))
        rows = [(int(part[:, 0].max()) // MEBIBYTE, int(part[:, 1].max()) // MEBIBYTE) for part in tenths]
        return [
            f"  {10 * n:3d} %: parent {parent} MiB, largest worker {worker} MiB"
            for n, (parent, worker) in enumerate(rows, 1)
        ]


def measure_memory(kind: str, n_files: int, seconds: float, jobs: int, backend: str) -> list[str]:
    """Extract many files; return lines with the peak memory for each tenth of the time."""
    with tempfile.TemporaryDirectory(prefix="mirembed-bench-") as folder:
        paths = write_clips(Path(folder), kind, n_files, seconds)
        watch = MemoryWatch()
        watch.start()
        run_mirembed(paths, jobs, backend)
        return [f"{backend}, {n_files} {kind} files of {seconds:g} s, {jobs} workers:", *watch.end()]


def main() -> None:
    """Measure according to the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300, help="number of files of each kind")
    parser.add_argument("--seconds", type=float, default=30.0, help="duration of each file")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each program; the median ratio is printed")
    parser.add_argument("--kind", choices=sorted(FORMATS), action="append")
    parser.add_argument("--steps", action="store_true", help="measure the steps of an extraction one by one")
    parser.add_argument("--memory", type=int, metavar="N", help="extract N files, such as 10000, and print the memory")
    arguments = parser.parse_args()
    kinds = arguments.kind or ["wav", "mp3"]
    if arguments.steps:
        for kind in kinds:
            print("\n".join(steps(kind, arguments.seconds)), flush=True)
        return
    for backend in ("essentia", "scipy"):
        print(f"{backend}: {start_up(backend):.2f} s from starting a worker to its first spectrogram", flush=True)
    for kind in kinds:
        if arguments.memory:
            for backend in ("essentia", "scipy"):
                report = measure_memory(kind, arguments.memory, arguments.seconds, arguments.jobs, backend)
                print("\n".join(report), flush=True)
        else:
            report = compare(kind, arguments.files, arguments.seconds, arguments.jobs, arguments.rounds)
            print("\n".join(report), flush=True)


if __name__ == "__main__":
    main()
