"""Independent trainings side by side, with one progress over all of them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from mirembed import workers
from mirembed.errors import WorkerError
from mirembed.progress import Progress
from mirembed.workers.cluster import is_cluster, run_on_cluster
from mirembed.workers.forkserver import ForkServer, forkserver, forkserver_ahead

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Call(Generic[Argument, Result]):
    """A training on its way to a worker, and where it counts its epochs.

    On a cluster they are not counted, and ``folder`` is the one that relative paths begin in.
    """

    function: Callable[[Argument, Callable[[int], None]], Result]
    argument: Argument
    counters: Path | None
    index: int
    folder: Path | None = None


_LOAD = "mirembed.fit.job:load"


def prepare_trainings() -> contextlib.AbstractContextManager[None]:
    """Start what trainings are forked from, for the length of a ``with`` block.

    It loads what they need while the caller still plans them. Without such a block each `run_trainings` does so itself.
    """
    return forkserver_ahead(_LOAD)


def run_trainings(
    function: Callable[[Argument, Callable[[int], None]], Result],
    arguments: Sequence[Argument],
    epochs: Sequence[int],
    jobs: int,
    progress: Progress,
    description: str,
) -> Iterator[tuple[int, Result]]:
    """Call ``function(argument, on_epoch)`` for each argument in worker processes; yield ``(index, result)``.

    The results come in the order in which the trainings end. On a cluster (see `mirembed.workers.cluster`) each
    training has a process of its own on one of its machines, which see the store and the current folder.

    Parameters
    ----------
    function : callable
        A module-level function; it calls ``on_epoch`` with the number of epochs done.
    arguments : sequence
    epochs : sequence of int
        Of each training, for the progress.
    jobs : int
        Worker processes; the results do not depend on their number.

    Raises
    ------
    WorkerError
        If a worker was killed, for want of memory say.
    """
    progress.start(description, sum(epochs))
    with tempfile.TemporaryDirectory(prefix="mirembed-") as folder, _forkserver() as server:
        path = Path(folder) / "epochs.i32"
        counters = np.memmap(path, np.int32, "w+", shape=max(1, len(arguments)))

        def tick() -> None:
            progress.update(float(counters.sum()))

        calls = [_Call(function, argument, path, index) for index, argument in enumerate(arguments)]
        outcomes: Iterator[workers.Done[Result] | workers.Crashed] = (
            _run_on_cluster(calls) if is_cluster() else workers.run(_call, calls, jobs, tick, server=server)
        )
        for outcome in outcomes:
            if isinstance(outcome, workers.Crashed):
                raise WorkerError(
                    f"a training was lost: {outcome.reason}; use fewer --jobs if memory is short, leave out a plugin "
                    "that may be to blame, and run the same command again: it goes on where it stopped"
                )
            counters[outcome.index] = epochs[outcome.index]
            tick()
            yield outcome.index, outcome.result


def _forkserver() -> contextlib.AbstractContextManager[ForkServer | None]:
    return contextlib.nullcontext() if is_cluster() else forkserver(_LOAD)


def _call(call: _Call[Argument, Result]) -> Result:
    if call.folder is not None:
        os.chdir(call.folder)
    counters = None if call.counters is None else np.memmap(call.counters, np.int32, "r+")

    def on_epoch(epoch: int) -> None:
        if counters is not None:
            counters[call.index] = epoch

    return call.function(call.argument, on_epoch)


def _run_on_cluster(calls: Sequence[_Call[Argument, Result]]) -> Iterator[workers.Done[Result] | workers.Crashed]:
    remote = [replace(call, counters=None, folder=Path.cwd()) for call in calls]
    for done in run_on_cluster(_call_apart, remote):
        yield replace(done.result, index=done.index)


def _call_apart(call: _Call[Argument, Result]) -> workers.Done[Result] | workers.Crashed:
    """In a worker of the cluster: train in a process of its own, set up as every worker process is."""
    [outcome] = workers.run(_call, [call], jobs=1)
    return outcome
