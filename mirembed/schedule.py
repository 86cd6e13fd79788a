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

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Call(Generic[Argument, Result]):
    """A training on its way to a worker, and where it counts its epochs."""

    function: Callable[[Argument, Callable[[int], None]], Result]
    argument: Argument
    counters: Path
    index: int


def run_trainings(
    function: Callable[[Argument, Callable[[int], None]], Result],
    arguments: Sequence[Argument],
    epochs: Sequence[int],
    jobs: int,
    progress: Progress,
    description: str,
) -> Iterator[tuple[int, Result]]:
    """Call ``function(argument, on_epoch)`` for each argument in worker processes; yield ``(index, result)``.

    The results come in the order in which the trainings end.

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
    with tempfile.TemporaryDirectory(prefix="mirembed-") as folder:
        path = Path(folder) / "epochs.i32"
        counters = np.memmap(path, np.int32, "w+", shape=max(1, len(arguments)))

        def tick() -> None:
            progress.update(float(counters.sum()))

        calls = [_Call(function, argument, path, index) for index, argument in enumerate(arguments)]
        for outcome in workers.run(_call, calls, jobs, tick):
            if isinstance(outcome, workers.Crashed):
                raise WorkerError(
                    "a training process was killed, perhaps because memory ran out; use fewer --jobs and run the "
                    "same command again: it goes on where it stopped"
                )
            tick()
            yield outcome.index, outcome.result


def _call(call: _Call[Argument, Result]) -> Result:
    counters = np.memmap(call.counters, np.int32, "r+")

    def on_epoch(epoch: int) -> None:
        counters[call.index] = epoch

    return call.function(call.argument, on_epoch)
