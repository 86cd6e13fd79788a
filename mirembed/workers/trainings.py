"""Independent trainings side by side, on this machine or a cluster, under one progress bar."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from mirembed import workers
from mirembed.errors import WorkerError
from mirembed.progress import Progress
from mirembed.workers.executor import is_cluster, run_on_cluster
from mirembed.workers.processes import ForkServer, forkserver

Argument = TypeVar("Argument")
Result = TypeVar("Result")

_LOAD = "mirembed.fit.job:load"
"""Imports what trainings need, in the process that forks their workers. By name: not in this process."""


@dataclass(frozen=True)
class _Call(Generic[Argument, Result]):
    """A training to run in a worker.

    Attributes
    ----------
    counters : pathlib.Path or None
        File of int32, where the training counts its epochs at ``index``. None on a cluster.
    folder : pathlib.Path or None
        The working directory on a cluster.
    """

    function: Callable[[Argument, Callable[[int], None]], Result]
    argument: Argument
    index: int
    counters: Path | None
    folder: Path | None = None


def prepare_trainings() -> contextlib.AbstractContextManager[ForkServer | None]:
    """Start the process that forks the workers of `run_trainings`, while the caller still plans in a ``with`` block."""
    return forkserver(_LOAD)


def run_trainings(
    function: Callable[[Argument, Callable[[int], None]], Result],
    arguments: Sequence[Argument],
    epochs: Sequence[int],
    jobs: int,
    progress: Progress,
    description: str,
) -> Iterator[tuple[int, Result]]:
    """Call ``function(argument, on_epoch)`` for each argument in worker processes, and yield ``(index, result)``.

    The results arrive in the order in which the trainings finish. On a cluster (see `mirembed.workers.executor`), each
    training has its own process on a machine that sees the store and the current folder under the same paths.

    Parameters
    ----------
    function : callable
        A module-level function. It calls ``on_epoch`` with the number of finished epochs.
    arguments : sequence
    epochs : sequence of int
        Number of epochs of each training, for the progress.
    jobs : int
        Number of worker processes; the results do not depend on it.
    progress : Progress
    description : str

    Raises
    ------
    WorkerError
        If a training killed its worker.
    """
    progress.start(description, sum(epochs))
    with contextlib.ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirembed-"))) / "epochs.i32"
        counters = np.memmap(path, np.int32, "w+", shape=max(1, len(arguments)))

        def tick() -> None:
            progress.update(float(counters.sum()))

        calls = [_Call(function, argument, index, path) for index, argument in enumerate(arguments)]
        if is_cluster():
            outcomes = _run_on_cluster(calls)
        else:
            outcomes = workers.run(_train, calls, jobs, tick, server=stack.enter_context(forkserver(_LOAD)))
        # Closed first: the workers end before the process that forked them.
        for outcome in stack.enter_context(contextlib.closing(outcomes)):
            if isinstance(outcome, workers.Crashed):
                raise WorkerError(
                    f"a training was lost: {outcome.reason}; use fewer --jobs if memory is short, leave out a plugin "
                    "that may be to blame, and run the same command again: it resumes where it stopped"
                )
            counters[outcome.index] = epochs[outcome.index]
            tick()
            yield outcome.index, outcome.result


def _train(call: _Call[Argument, Result]) -> Result:
    if call.folder is not None:
        os.chdir(call.folder)
    counters = None if call.counters is None else np.memmap(call.counters, np.int32, "r+")

    def on_epoch(epoch: int) -> None:
        if counters is not None:
            counters[call.index] = epoch

    return call.function(call.argument, on_epoch)


def _run_on_cluster(
    calls: Sequence[_Call[Argument, Result]],
) -> Generator[workers.Done[Result] | workers.Crashed, None, None]:
    remote = [replace(call, counters=None, folder=Path.cwd()) for call in calls]
    for done in run_on_cluster(_train_isolated, remote):
        yield replace(done.result, index=done.index)


def _train_isolated(call: _Call[Argument, Result]) -> workers.Done[Result] | workers.Crashed:
    """Train in a worker of the cluster, in a process of its own that is set up as every worker process."""
    [outcome] = workers.run(_train, [call], jobs=1)
    return outcome
