"""Measure the speed of mirembed and the naive program: training, the whole of ``evaluate``, and embedding.

The programs take turns, and each does the same work in each round, so that a temporary load of the machine affects all
of them. The median of the rounds counts.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks import naive
from benchmarks.engine import embed_on_cores, evaluate_command, run_command, train_folds
from benchmarks.machine import describe, sgemm_rates
from benchmarks.problem import Problem, add_arguments, make_problem, opened_store, positive, run
from mirembed import Classification
from mirembed.datasets.splits import Fold
from mirembed.store import Store
from mirembed.store.tracks import Tracks
from mirembed.training.engine import choose_engine

NAIVE = "naive"
ENGINES = ("numba", "torch")
ONE_CORE = ", 1 core"


@dataclass(frozen=True)
class Turn:
    """The time of one program in one round, and a result that shows that it did the same work as the others."""

    seconds: float
    result: str


def main(words: Sequence[str] | None = None) -> None:
    """Measure according to the command line, and print a table for each part."""
    arguments = _parse(words)
    print(describe())
    _prepare(arguments.engine)
    with opened_store(arguments) as (store, tracks):
        problem = make_problem(tracks, arguments, arguments.epochs)
        print(
            f"{tracks.info.spec}: {len(tracks.ids)} tracks, {problem.frames.shape[0]} frames; {arguments.folds} folds, "
            f"{arguments.approach}, batch {arguments.batch}, {arguments.jobs} workers"
        )
        if "training" in arguments.parts:
            measure_training(problem, arguments)
        if "evaluate" in arguments.parts:
            measure_evaluate(replace(problem, epochs=arguments.evaluate_epochs), store, tracks, arguments)
        if "embedding" in arguments.parts:
            measure_embedding(problem, arguments)


def measure_training(problem: Problem, arguments: Namespace) -> None:
    """Train the networks of all folds; embed no full track and fit no SVM."""

    def by_naive() -> Turn:
        tracks, seconds, losses = problem.tracks(), 0.0, []
        # Warm up, as mirembed does when it loads its engine: torch imports its compiler for the first optimizer.
        few = replace(problem.folds[0], train=problem.folds[0].train[: problem.batch])
        next(_train_naively(problem, naive.features(tracks, few.train), few))
        for fold in problem.folds:
            features = naive.features(tracks, fold.train)
            begin = time.perf_counter()
            *_, (_, loss) = _train_naively(problem, features, fold)
            seconds += time.perf_counter() - begin
            losses.append(loss)
        return Turn(seconds, f"loss {np.mean(losses):.3f}")

    def by(engine: str) -> Turn:
        measured = train_folds(problem, engine, arguments.jobs)
        return Turn(measured.seconds, f"loss {measured.loss:.3f}, everything else {measured.others:.1f} s")

    title = f"training, {problem.epochs} epochs of {len(problem.folds)} networks, without preparation"
    _measure(title, _programs(by_naive, by, arguments), problem.training_flop(), arguments)


def measure_evaluate(problem: Problem, store: Store, tracks: Tracks, arguments: Namespace) -> None:
    """Run the whole evaluation as a program of its own, including its start and, for mirembed, writing its files."""
    every = arguments.checkpoint_every

    def by_naive() -> Turn:
        begin = time.perf_counter()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            score = pool.submit(evaluate_naively, problem, every).result()
        return Turn(time.perf_counter() - begin, f"score {score:.3f}")

    def by(engine: str) -> Turn:
        words = evaluate_command(store, tracks, problem, jobs=arguments.jobs, engine=engine, every=every)
        seconds, printed = run_command(words)
        scores = json.loads(printed)["approaches"][problem.approach]
        return Turn(
            seconds, f"score {scores['accuracy' if isinstance(problem.task, Classification) else 'r']['mean']:.3f}"
        )

    epochs = range(1, problem.epochs + 1)
    scored = sum(epoch == problem.epochs or (every > 0 and epoch % every == 0) for epoch in epochs)
    flop = problem.training_flop() + len(problem.folds) * scored * problem.embedding_flop()
    title = f"evaluate, {problem.epochs} epochs of {len(problem.folds)} networks, each scored {scored} times"
    _measure(title, _programs(by_naive, by, arguments), flop, arguments)


def measure_embedding(problem: Problem, arguments: Namespace) -> None:
    """Embed every track. mirembed embeds them once on each core, as the folds of ``evaluate`` do."""
    tracks = naive.features(problem.tracks(), np.arange(len(problem.frames.starts)))
    network = naive.Network(tracks[0].shape[1])
    n = len(tracks)

    def by_naive() -> Turn:
        begin = time.perf_counter()
        naive.embed(network, tracks)
        seconds = time.perf_counter() - begin
        return Turn(seconds, f"{1000 * seconds / n:.2f} ms per track")

    def by(engine: str, jobs: int) -> Turn:
        seconds = embed_on_cores(problem, engine, jobs).seconds / jobs
        return Turn(seconds, f"{1000 * seconds / n:.2f} ms per track")

    programs: dict[str, Callable[[], Turn]] = {NAIVE: by_naive}
    for engine in arguments.engine:
        programs[f"{engine}{ONE_CORE}"] = partial(by, engine, 1)
        programs[f"{engine}, {arguments.jobs} cores"] = partial(by, engine, arguments.jobs)
    _measure(f"embedding {n} full tracks", programs, problem.embedding_flop(), arguments)


def evaluate_naively(problem: Problem, every: int) -> float:
    """Train and score one fold after the other; return the mean score of the last epoch."""
    labels = problem.labels
    scores = []
    for fold in problem.folds:
        tracks = naive.features(problem.tracks(), fold.train)
        for epoch, (network, _) in enumerate(_train_naively(problem, tracks, fold), 1):
            if epoch == problem.epochs or (every and epoch % every == 0):
                predictions = naive.predict(network, tracks, labels, fold.train, fold.test)
        scores.append(naive.score(labels[fold.test], predictions))
    return float(np.mean(scores))


def _train_naively(problem: Problem, tracks: Sequence[Tensor], fold: Fold) -> Iterator[tuple[naive.Network, float]]:
    return naive.train(
        [tracks[row] for row in fold.train],
        torch.from_numpy(problem.label_vectors[fold.train]),
        approach=problem.approach,
        classification=isinstance(problem.task, Classification),
        epochs=problem.epochs,
        batch=problem.batch,
        seed=problem.seed + fold.index,
    )


def _programs(
    by_naive: Callable[[], Turn], by: Callable[[str], Turn], arguments: Namespace
) -> dict[str, Callable[[], Turn]]:
    return {NAIVE: by_naive} | {engine: partial(by, engine) for engine in arguments.engine}


def _measure(title: str, programs: Mapping[str, Callable[[], Turn]], flop: float, arguments: Namespace) -> None:
    """Let the programs take turns, and print their times."""
    turns: dict[str, list[Turn]] = {name: [] for name in programs}
    rates = []
    for _ in range(arguments.rounds):
        for name, program in programs.items():
            rates.append(sgemm_rates(arguments.jobs))
            turns[name].append(program())
    one, together = np.median(rates, axis=0)
    print(f"\n{title}: {flop / 1e12:.2f} TFLOP, median of {arguments.rounds}")
    print(
        f"SGEMM {one / 1e9:.0f} GFLOP/s on one thread, {together / 1e9:.0f} on {arguments.jobs} at once"
        f" (median of {len(rates)}, between the turns)"
    )
    print(f"{'':16}{'seconds':>9}{'(from - to)':>18}{'ratio':>8}{'GFLOP/s':>9}{'of SGEMM':>10}")
    reference = np.median([turn.seconds for turn in turns[NAIVE]])
    for name, of_program in turns.items():
        times = np.array([turn.seconds for turn in of_program])
        seconds = np.median(times)
        rate = flop / seconds
        # The naive program may use the whole machine, with as many threads as torch chooses.
        share = rate / one / (1 if name.endswith(ONE_CORE) else arguments.jobs)
        span = f"({times.min():.2f} - {times.max():.2f})"
        numbers = f"{seconds:9.2f}{span:>18}{reference / seconds:8.2f}{rate / 1e9:9.1f}{share:10.0%}"
        print(f"{name:16}{numbers}   {of_program[-1].result}", flush=True)


def _prepare(engines: Sequence[str]) -> None:
    """Compile or load the fused engine, and print the time."""
    if "numba" in engines:
        begin = time.perf_counter()
        choose_engine("numba", "cpu", print)
        print(f"fused engine compiled or loaded, and checked against torch: {time.perf_counter() - begin:.1f} s")


def _parse(words: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser("python -m benchmarks.speed", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--epochs", type=positive, default=5, metavar="N", help="epochs of training; default: 5")
    parser.add_argument(
        "--evaluate-epochs", type=positive, default=20, metavar="N", help="epochs of evaluate; default: 20"
    )
    parser.add_argument(
        "--checkpoint-every", type=int, default=10, metavar="N", help="score after every N epochs; default: 10"
    )
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="turns of each program; default: 3")
    parser.add_argument(
        "--engine", action="append", choices=ENGINES, help="mirembed's engines; repeatable; default: both"
    )
    parser.add_argument(
        "--part",
        dest="parts",
        action="append",
        choices=["training", "evaluate", "embedding"],
        help="what to measure; repeatable; default: all",
    )
    arguments = parser.parse_args(words)
    arguments.engine = arguments.engine or list(ENGINES)
    arguments.parts = arguments.parts or ["training", "evaluate", "embedding"]
    return arguments


if __name__ == "__main__":
    run(main)
