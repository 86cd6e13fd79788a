"""Independent trainings side by side, with one progress over all of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from mirembed import workers
from mirembed.errors import WorkerError
from mirembed.progress import Progress

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Call(Generic[Task, Result]):
    """A task on its way to a worker, and where it counts its epochs."""

    function: Callable[[Task, Callable[[int], None]], Result]
    task: Task
    counters: Path
    index: int


def run_trainings(
    function: Callable[[Task, Callable[[int], None]], Result],
    tasks: Sequence[Task],
    epochs: int,
    jobs: int,
    progress: Progress,
    description: str,
) -> Iterator[tuple[int, Result]]:
    """Call ``function(task, on_epoch)`` for every task in worker processes and yield ``(index, result)`` as they end.

    Parameters
    ----------
    function : callable
        A module-level function; it calls ``on_epoch`` with the number of epochs done.
    tasks : sequence
    epochs : int
        Of each task, for the progress.
    jobs : int
        Worker processes; the results do not depend on their number.

    Raises
    ------
    WorkerError
        If a worker was killed, for want of memory say.
    """
    progress.start(description, len(tasks) * epochs)
    with tempfile.TemporaryDirectory(prefix="mirembed-") as folder:
        path = Path(folder) / "epochs.i32"
        counters = np.memmap(path, np.int32, "w+", shape=max(1, len(tasks)))

        def tick() -> None:
            progress.update(float(counters.sum()))

        calls = [_Call(function, task, path, index) for index, task in enumerate(tasks)]
        for outcome in workers.run(_call, calls, jobs, tick):
            if isinstance(outcome, workers.Crashed):
                raise WorkerError(
                    "a training process was killed, perhaps because memory ran out; use fewer --jobs and run the "
                    "same command again: it goes on where it stopped"
                )
            tick()
            yield outcome.index, outcome.result


def _call(call: _Call[Task, Result]) -> Result:
    counters = np.memmap(call.counters, np.int32, "r+")

    def on_epoch(epoch: int) -> None:
        counters[call.index] = epoch

    return call.function(call.task, on_epoch)
