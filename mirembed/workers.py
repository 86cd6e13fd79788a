"""Worker processes: many independent tasks, side by side, whatever happens to one of them.

A task runs in a process of its own pool, so that native code that crashes takes one task down and not the program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, Generic, TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Result]):
    """Task number ``index`` returned ``result``."""

    index: int
    result: Result


@dataclass(frozen=True)
class Crashed:
    """Task number ``index`` killed its worker; ``reason`` says how, in plain words."""

    index: int
    reason: str


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
) -> Iterator[Done[Result] | Crashed]:
    """Call ``function`` on every argument in worker processes and yield the outcomes as they come.

    Parameters
    ----------
    function : callable
        A module-level function; it and its argument travel to the worker.
    arguments : sequence
    jobs : int
        Worker processes.
    tick : callable
        Called about four times a second while waiting.
    per_worker : int
        Tasks handed out per worker: several keep it busy while the caller is, but after a crash all of them are
        repeated one by one.

    Raises
    ------
    Exception
        Whatever ``function`` raises; the other tasks are given up.
    """
    from joblib.externals.loky import BrokenProcessPool

    waiting = list(range(len(arguments)))[::-1]
    while waiting:
        in_flight: dict[Any, int] = {}
        try:
            with contextlib.closing(
                _run_pool(function, arguments, waiting, in_flight, jobs, tick, per_worker)
            ) as finished:
                for future, index in finished:
                    yield Done(index, future.result())
                    del in_flight[future]
        except BrokenProcessPool:
            # The pool does not tell which task killed the worker: each that was in flight gets a pool of its own.
            for index in sorted(in_flight.values()):
                yield _run_alone(function, arguments[index], index, tick)


def _run_pool(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    waiting: list[int],
    in_flight: dict[Any, int],
    jobs: int,
    tick: Callable[[], None],
    per_worker: int,
) -> Generator[tuple[Any, int], None, None]:
    """Keep the pool busy from ``waiting``, note what is ``in_flight``, yield finished futures."""
    from concurrent.futures import FIRST_COMPLETED, wait

    executor = _start_pool(jobs)
    finished = False
    try:
        while waiting or in_flight:
            while waiting and len(in_flight) < per_worker * jobs:
                index = waiting.pop()
                try:
                    with _interrupt_held():
                        in_flight[executor.submit(function, arguments[index])] = index
                except BaseException:
                    waiting.append(index)
                    raise
            done, _ = wait(in_flight, timeout=0.25, return_when=FIRST_COMPLETED)
            tick()
            for future in done:
                yield future, in_flight[future]
        finished = True
    finally:
        if not finished:
            _kill_workers(executor)
        executor.shutdown()


def _run_alone(
    function: Callable[[Argument], Result], argument: Argument, index: int, tick: Callable[[], None]
) -> Done[Result] | Crashed:
    from concurrent.futures import wait

    from joblib.externals.loky import BrokenProcessPool

    executor = _start_pool(1)
    try:
        with _interrupt_held():
            future = executor.submit(function, argument)
        while not wait([future], timeout=0.25).done:
            tick()
        return Done(index, future.result())
    except BrokenProcessPool as error:
        return Crashed(index, _crash_reason(str(error)))
    finally:
        _kill_workers(executor)
        executor.shutdown()


def _start_pool(jobs: int) -> Any:
    from joblib.externals.loky import ProcessPoolExecutor

    # One thread a worker: they share the cores among themselves.
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # torch's deterministic algorithms on CUDA need it
    return ProcessPoolExecutor(max_workers=jobs, initializer=_prepare_worker, initargs=(os.getpid(),), env=environment)


@contextlib.contextmanager
def _interrupt_held() -> Iterator[None]:
    """Deliver ctrl-C after the block, and never to the workers that are started in it: they inherit this.

    Ctrl-C reaches every process of the terminal; only the parent answers it.
    """
    resource_tracker.ensure_running()  # which would let signals through again if it started inside the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_workers(executor: Any) -> None:
    # Not by shutdown(kill_workers=True): it prints a traceback when tasks are waiting that no worker has taken yet.
    for process in list(executor._processes.values()):
        process.terminate()


def _prepare_worker(parent: int) -> None:
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """End this process soon after its parent, which may be killed without a chance to say so."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _crash_reason(message: str) -> str:
    for number in signal.Signals:
        if f"{number.name}(-{number.value})" in message:
            return f"the decoder killed its worker process ({number.name})"
    return "its worker process was killed"
