"""Measure how time and memory of ``mirembed evaluate`` grow with tracks, folds, networks, values and workers.

Each point is the whole command, including its start. The column ``line`` is a straight line fitted to all points (least
squares); ``MiB`` is the peak memory of all its processes.
"""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.engine import evaluate_command, run_command
from benchmarks.machine import MEBIBYTE, PeakMemory, describe
from benchmarks.problem import add_arguments, make_problem, opened_store, positive, run
from mirembed.config import defaults
from mirembed.store import Store
from mirembed.store.tracks import Tracks


@dataclass(frozen=True)
class Cost:
    """Of an evaluation: the least of all rounds, in seconds and bytes."""

    seconds: float
    memory: int


Costs = dict[int, Cost]


def main(words: Sequence[str] | None = None) -> None:
    """Measure according to the command line, and print a table for each quantity."""
    arguments = _parse(words)
    print(describe())
    print(f"evaluate, {arguments.epochs} epochs, scored every {arguments.checkpoint_every}; best of {arguments.rounds}")
    workers = f"{arguments.jobs} workers"
    few = _changed(arguments, folds=2)
    if arguments.store is None:
        tracks = {n: _changed(few, tracks=n) for n in _multiples(arguments.tracks, (1, 2, 5, 10))}
        _print_line(f"tracks, 2 folds, {workers}", _measure(tracks, arguments.rounds))
        bands = {n: _changed(few, features=f"{defaults.FEATURES}:bands={n}") for n in (20, 40, 80, 120)}
        _print_line(f"values per frame, 2 folds, {workers}", _measure(bands, arguments.rounds))
    networks = {n: _changed(few, ensemble=n) for n in (1, 2, 5, 10)}
    _print_line(f"networks per fold, 2 folds, {workers}", _measure(networks, arguments.rounds))
    folds = {n: _changed(arguments, folds=n) for n in _multiples(arguments.folds, (0.2, 0.5, 1, 2))}
    _print_line(f"folds, {workers}", _measure(folds, arguments.rounds))
    jobs = {n: _changed(arguments, jobs=n) for n in range(1, arguments.jobs + 1)}
    _print_speedup(f"workers, {arguments.folds} folds", _measure(jobs, arguments.rounds))


def _multiples(size: int, factors: Sequence[float]) -> list[int]:
    return sorted({max(2, round(size * factor)) for factor in factors})


def _changed(arguments: Namespace, **values: int | str) -> Namespace:
    return Namespace(**{**vars(arguments), **values})


def _measure(points: Mapping[int, Namespace], rounds: int) -> Costs:
    """Return the cost of the evaluation at each point: the least of all rounds, in which the points take turns."""
    least: Costs = {}
    stores: dict[tuple[int, str], tuple[Store, Tracks]] = {}
    with contextlib.ExitStack() as stack:
        commands = {}
        for point, arguments in points.items():
            key = arguments.tracks, arguments.features
            if key not in stores:
                stores[key] = stack.enter_context(opened_store(arguments, arguments.features))
            store, tracks = stores[key]
            problem = make_problem(tracks, arguments, arguments.epochs)
            words = evaluate_command(
                store, tracks, problem, jobs=arguments.jobs, engine=arguments.engine, every=arguments.checkpoint_every
            )
            commands[point] = [*words, "--features", arguments.features, "--ensemble", str(arguments.ensemble)]
        for _ in range(rounds):
            for point, command in commands.items():
                with PeakMemory() as memory:
                    seconds, _ = run_command(command)
                best = least.get(point, Cost(seconds, memory.peak))
                least[point] = Cost(min(seconds, best.seconds), min(memory.peak, best.memory))
    return least


def _print_line(title: str, measured: Costs) -> None:
    points, seconds = np.array(list(measured)), np.array([cost.seconds for cost in measured.values()])
    slope, start = np.polyfit(points, seconds, 1)
    print(f"\n{title}: {start:.2f} s + {1000 * slope:.2f} ms each")
    print(f"{'':>8}{'seconds':>9}{'line':>9}{'off by':>9}{'MiB':>7}")
    for point, cost in measured.items():
        line = start + slope * point
        print(
            f"{point:8}{cost.seconds:9.2f}{line:9.2f}{cost.seconds / line - 1:9.1%}{cost.memory / MEBIBYTE:7.0f}",
            flush=True,
        )


def _print_speedup(title: str, measured: Costs) -> None:
    print(f"\n{title}")
    print(f"{'':>8}{'seconds':>9}{'speed-up':>10}{'MiB':>7}")
    for point, cost in measured.items():
        speedup = measured[1].seconds / cost.seconds
        print(f"{point:8}{cost.seconds:9.2f}{speedup:10.2f}{cost.memory / MEBIBYTE:7.0f}", flush=True)


def _parse(words: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser("python -m benchmarks.scaling", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--epochs", type=positive, default=10, metavar="N", help="default: 10")
    parser.add_argument(
        "--checkpoint-every", type=int, default=10, metavar="N", help="score after every N epochs; default: 10"
    )
    parser.add_argument("--engine", choices=["numba", "torch"], default="numba", help="default: numba")
    parser.add_argument("--rounds", type=positive, default=2, metavar="N", help="runs of each point; default: 2")
    parser.set_defaults(features=defaults.FEATURES, ensemble=1)
    return parser.parse_args(words)


if __name__ == "__main__":
    run(main)
