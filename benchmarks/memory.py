"""Measure memory: mirembed and the naive program, and training on frames larger than memory.

Memory is that of all processes together, with shared memory counted once (Linux's proportional set size). A memory
limit would need privileges that few have. Instead, the file of frames is evicted from the system's cache every second:
every read comes from the disk, pages read ahead are evicted with the others, and cached pages count as used memory.
``CPU ms`` is the processor time per excerpt; if other programs run, elapsed time means little.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.engine import evaluate_command, run_command, train_folds
from benchmarks.machine import MEBIBYTE, EvictedFile, PeakMemory, describe, random_reads
from benchmarks.problem import (
    N_BANDS,
    N_CLASSES,
    Problem,
    add_arguments,
    make_problem,
    opened_store,
    positive,
    run,
    synthetic_frames,
)
from benchmarks.speed import NAIVE, evaluate_naively
from mirembed import Classification
from mirembed.datasets.splits import Fold
from mirembed.store.frame_file import FrameFile
from mirembed.training.labels import one_hot

REPEATED_TRACKS = 500
"""Synthetic tracks, repeated to fill a large file."""
EXCERPT_BYTES = 2**14
"""Size of the frames of an excerpt, in whole pages."""
PARTS = 10
"""One of this many parts of the large file is trained on in memory."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure according to the command line, and print a table for each part."""
    arguments = _parse(words)
    print(describe())
    if "evaluate" in arguments.parts:
        print(f"\nevaluate, {arguments.epochs} epochs, {arguments.folds} folds, {arguments.jobs} workers: peak memory")
        print(f"{'tracks':>8}{'frames':>12}{NAIVE:>12}{'mirembed':>12}")
        for n_tracks in arguments.sizes if arguments.store is None else [arguments.tracks]:
            measure_evaluate(Namespace(**{**vars(arguments), "tracks": n_tracks}))
    if "large" in arguments.parts:
        with tempfile.TemporaryDirectory(prefix="mirembed-benchmark-", dir=arguments.folder) as folder:
            measure_large(Path(folder) / "frames.f32", arguments)


def measure_evaluate(arguments: Namespace) -> None:
    """Measure the peak memory of both programs."""
    with opened_store(arguments) as (store, tracks):
        problem = make_problem(tracks, arguments, arguments.epochs)
        command = evaluate_command(store, tracks, problem, jobs=arguments.jobs, engine=arguments.engine, every=0)
        with PeakMemory() as of_naive:
            process = multiprocessing.get_context("spawn").Process(target=evaluate_naively, args=(problem, 0))
            process.start()
            process.join()
        with PeakMemory() as of_mirembed:
            run_command(command)
        sizes = (int(np.prod(problem.frames.shape)) * 4, of_naive.peak, of_mirembed.peak)
        print(f"{len(tracks.ids):8}" + "".join(f"{_mebibytes(size):>12}" for size in sizes), flush=True)


def measure_large(path: Path, arguments: Namespace) -> None:
    """Train on frames in memory and on frames read from the disk, in turn."""
    n_frames = arguments.frames
    n_tracks = max(PARTS, arguments.size * MEBIBYTE // (n_frames * N_BANDS * 4))
    frames = write_frames(path, n_tracks, n_frames)
    whole = _problem(frames, n_tracks, arguments)
    tenth = replace(_problem(frames, n_tracks // PARTS, arguments), epochs=PARTS * arguments.epochs)
    programs = {
        "a tenth, in memory": (tenth, True),
        "a tenth, from disk": (tenth, False),
        "all, from disk": (whole, False),
    }
    print(f"\ntraining on {n_tracks} tracks, {_mebibytes(path.stat().st_size)} of frames, {arguments.jobs} workers")
    print(_describe_disk(path))
    turns: dict[str, list[_Turn]] = {name: [] for name in programs}
    for _ in range(arguments.rounds):
        for name, (problem, in_memory) in programs.items():
            turns[name].append(_train(path, problem, in_memory, arguments))
    print(f"{'':20}{'excerpts/s':>12}{'(from - to)':>17}{'of memory':>11}{'CPU ms':>8}{'peak memory':>13}{'loss':>9}")
    references = np.array([turn.rate for turn in turns["a tenth, in memory"]])
    for name, of_program in turns.items():
        rates = np.array([turn.rate for turn in of_program])
        # Per round: the load of the machine changes from one round to the next.
        share = np.median(rates / references)
        processor = np.median([turn.processor for turn in of_program])
        largest = max(of_program, key=lambda turn: turn.peak)
        print(
            f"{name:20}{np.median(rates):12.0f}{f'({rates.min():.0f} - {rates.max():.0f})':>17}"
            f"{share:11.0%}{processor:8.3f}{_mebibytes(largest.peak):>13}{largest.loss:9.5f}"
            f"   (processes {_mebibytes(largest.processes)}, file in the system's cache {_mebibytes(largest.cached)})"
        )
    print(f"all frames / peak memory: {path.stat().st_size / largest.peak:.1f}")


@dataclass(frozen=True)
class _Turn:
    """Excerpts per second, milliseconds of processor time per excerpt, mean loss, and peak memory in bytes."""

    rate: float
    processor: float
    loss: float
    processes: int
    cached: int

    @property
    def peak(self) -> int:
        return self.processes + self.cached


def _train(path: Path, problem: Problem, in_memory: bool, arguments: Namespace) -> _Turn:
    with EvictedFile(path) as file, PeakMemory(of_all=True) as memory:
        measured = train_folds(problem, arguments.engine, arguments.jobs, in_memory=in_memory)
    excerpts = problem.epochs * sum(len(fold.train) for fold in problem.folds)
    processor = 1000 * measured.processor / excerpts
    return _Turn(excerpts / measured.seconds, processor, measured.loss, memory.peak, file.peak)


def _describe_disk(path: Path) -> str:
    """Describe how fast excerpts could be read if nothing else were done."""
    one, many = (random_reads(path, EXCERPT_BYTES, depth) for depth in (1, 32))
    return f"disk: {one:.0f} excerpts/s by random reads, one at a time; {many:.0f}/s, 32 at a time"


def write_frames(path: Path, n_tracks: int, n_frames: int) -> FrameFile:
    """Write the flat file of frames of a large dataset, without its store."""
    n_bands = N_BANDS
    repeated = [synthetic_frames(number, n_frames, n_bands) for number in range(min(n_tracks, REPEATED_TRACKS))]
    frames = FrameFile.at(path, np.full(n_tracks, n_frames), n_bands)
    frames.write((number, 0, repeated[number % len(repeated)]) for number in range(n_tracks))
    return frames


def _problem(frames: FrameFile, n_tracks: int, arguments: Namespace) -> Problem:
    """Return a problem in which every worker trains one network on the first ``n_tracks`` tracks."""
    classes = np.arange(n_tracks) % N_CLASSES
    rows = np.arange(n_tracks)
    return Problem(
        frames=frames.take(rows),
        task=Classification(tuple(map(str, range(N_CLASSES)))),
        label_vectors=one_hot(classes, N_CLASSES),
        folds=[Fold(index, rows, rows[:0]) for index in range(arguments.jobs)],
        approach=arguments.approach,
        epochs=arguments.epochs,
        batch=arguments.batch,
        seed=arguments.seed,
    )


def _mebibytes(size: int) -> str:
    return f"{size / MEBIBYTE:.0f} MiB"


def _parse(words: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser("python -m benchmarks.memory", description=__doc__)
    add_arguments(parser)
    parser.set_defaults(folds=2)
    parser.add_argument("--epochs", type=positive, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--engine", choices=["numba", "torch"], default="numba", help="default: numba")
    parser.add_argument(
        "--sizes",
        type=positive,
        nargs="+",
        default=[400, 4000],
        metavar="N",
        help="synthetic tracks; default: 400 4000",
    )
    parser.add_argument(
        "--size", type=positive, default=12288, metavar="MIB", help="size of the large file; default: 12288"
    )
    parser.add_argument(
        "--rounds", type=positive, default=3, metavar="N", help="turns of each training on that file; default: 3"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="folder of the large file; on a disk, not in memory")
    parser.add_argument(
        "--part",
        dest="parts",
        action="append",
        choices=["evaluate", "large"],
        help="what to measure; repeatable; default: both",
    )
    arguments = parser.parse_args(words)
    arguments.parts = arguments.parts or ["evaluate", "large"]
    return arguments


if __name__ == "__main__":
    run(main)
