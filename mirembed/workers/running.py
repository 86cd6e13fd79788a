"""Handing tasks to worker processes."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from mirembed.workers.forkserver import ForkServer
from mirembed.workers.outcomes import NO_LIMITS, Crashed, Done, Limits
from mirembed.workers.pool import Pool

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def available_jobs() -> int:
    """Return the number of cores that this process may use: affinity and container limits are respected."""
    import joblib

    return int(joblib.cpu_count())


def run(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    jobs: int,
    tick: Callable[[], None] = lambda: None,
    *,
    per_worker: int = 1,
    limits: Limits = NO_LIMITS,
    server: ForkServer | None = None,
) -> Iterator[Done[Result] | Crashed]:
    """Call ``function`` on every argument in worker processes and yield the outcomes as they come.

    Parameters
    ----------
    function : callable
        A module-level function; its name and its argument travel to the worker.
    arguments : sequence
    jobs : int
        Worker processes.
    tick : callable
        Called about four times a second while waiting.
    per_worker : int
        Tasks handed out per worker: several keep it busy while the caller is.
    limits : Limits
    server : ForkServer or None
        The process that forks the workers; None: each starts from scratch.

    Raises
    ------
    WorkerError
        If no worker can be started.
    Exception
        Whatever ``function`` raises; the other tasks are given up.
    """
    pool = Pool(function, arguments, jobs, per_worker, limits, server)
    pool.start()
    try:
        left = len(arguments)
        while left:
            try:
                outcome: Any = pool.outcomes.get(timeout=0.25)
            except queue.Empty:
                tick()
                continue
            tick()
            if isinstance(outcome, Exception):
                raise outcome
            left -= 1
            yield outcome
    finally:
        pool.stop()
