"""Measure how the time of ``mirembed evaluate`` grows with tracks and folds, and shrinks with workers.

Each point is the whole command, including its start. The column ``line`` is a straight line fitted to all points (least
squares).
"""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.engine import evaluate_command, run_command
from benchmarks.machine import describe
from benchmarks.problem import add_arguments, make_problem, opened_store, positive, run
from mirembed.store import Store
from mirembed.store.tracks import Tracks

Seconds = dict[int, float]


def main(words: Sequence[str] | None = None) -> None:
    """Measure according to the command line, and print a table for each quantity."""
    arguments = _parse(words)
    print(describe())
    print(f"evaluate, {arguments.epochs} epochs, scored every {arguments.checkpoint_every}; best of {arguments.rounds}")
    if arguments.store is None:
        tracks = {n: _changed(arguments, tracks=n, folds=2) for n in _multiples(arguments.tracks, (1, 2, 5, 10))}
        _print_line(f"tracks, 2 folds, {arguments.jobs} workers", _measure(tracks, arguments.rounds))
    folds = {n: _changed(arguments, folds=n) for n in _multiples(arguments.folds, (0.2, 0.5, 1, 2))}
    _print_line(f"folds, {arguments.jobs} workers", _measure(folds, arguments.rounds))
    jobs = {n: _changed(arguments, jobs=n) for n in range(1, arguments.jobs + 1)}
    _print_speedup(f"workers, {arguments.folds} folds", _measure(jobs, arguments.rounds))


def _multiples(size: int, factors: Sequence[float]) -> list[int]:
    return sorted({max(2, round(size * factor)) for factor in factors})


def _changed(arguments: Namespace, **values: int) -> Namespace:
    return Namespace(**{**vars(arguments), **values})


def _measure(points: Mapping[int, Namespace], rounds: int) -> Seconds:
    """Return the seconds of the evaluation at each point: the best of all rounds, in which the points take turns."""
    best: Seconds = {}
    stores: dict[int, tuple[Store, Tracks]] = {}
    with contextlib.ExitStack() as stack:
        commands = {}
        for point, arguments in points.items():
            if arguments.tracks not in stores:
                stores[arguments.tracks] = stack.enter_context(opened_store(arguments))
            store, tracks = stores[arguments.tracks]
            problem = make_problem(tracks, arguments, arguments.epochs)
            commands[point] = evaluate_command(
                store, tracks, problem, jobs=arguments.jobs, engine=arguments.engine, every=arguments.checkpoint_every
            )
        for _ in range(rounds):
            for point, command in commands.items():
                seconds, _ = run_command(command)
                best[point] = min(seconds, best.get(point, seconds))
    return best


def _print_line(title: str, measured: Seconds) -> None:
    points, seconds = np.array(list(measured)), np.array(list(measured.values()))
    slope, start = np.polyfit(points, seconds, 1)
    print(f"\n{title}: {start:.2f} s + {1000 * slope:.2f} ms each")
    print(f"{'':>8}{'seconds':>9}{'line':>9}{'off by':>9}")
    for point, second in measured.items():
        line = start + slope * point
        print(f"{point:8}{second:9.2f}{line:9.2f}{second / line - 1:9.1%}", flush=True)


def _print_speedup(title: str, measured: Seconds) -> None:
    print(f"\n{title}")
    print(f"{'':>8}{'seconds':>9}{'speed-up':>10}")
    for point, second in measured.items():
        print(f"{point:8}{second:9.2f}{measured[1] / second:10.2f}", flush=True)


def _parse(words: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser("python -m benchmarks.scaling", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--epochs", type=positive, default=10, metavar="N", help="default: 10")
    parser.add_argument(
        "--checkpoint-every", type=int, default=10, metavar="N", help="score after every N epochs; default: 10"
    )
    parser.add_argument("--engine", choices=["numba", "torch"], default="numba", help="default: numba")
    parser.add_argument("--rounds", type=positive, default=2, metavar="N", help="runs of each point; default: 2")
    return parser.parse_args(words)


if __name__ == "__main__":
    run(main)
