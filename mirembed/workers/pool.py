"""Many independent tasks in worker processes: `run`, and the thread behind it that keeps the workers busy."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

from mirembed.errors import WorkerError
from mirembed.progress import raise_if_interrupted
from mirembed.workers.forkserver import Forked, ForkServer
from mirembed.workers.worker import READY, Process, Worker, start_python

Argument = TypeVar("Argument")
Result = TypeVar("Result")

_POLL = 0.25
"""Seconds between two checks of the time and memory limits."""

_MAX_FAILED_STARTS = 3
"""Workers in a row that may end before they are ready."""


@dataclass(frozen=True)
class Done(Generic[Result]):
    """Task number ``index`` returned ``result``."""

    index: int
    result: Result


@dataclass(frozen=True)
class Crashed:
    """Task number ``index`` ended its worker process, or was stopped; ``reason`` says why, in plain words."""

    index: int
    reason: str


@dataclass(frozen=True)
class Limits:
    """Limits of one task; a worker that exceeds them is killed.

    Attributes
    ----------
    seconds : callable or None
        Maps the argument of a task to its time limit in seconds.
    memory : int or None
        Memory of a worker while a task runs, in bytes.
    kept : int or None
        Memory of a worker after a task, in bytes. A worker that keeps more, because something leaks, is replaced.
    """

    seconds: Callable[[Any], float] | None = None
    memory: int | None = None
    kept: int | None = None


def available_jobs() -> int:
    """Return the number of cores that this process may use; it respects CPU affinity and container limits."""
    import joblib

    return int(joblib.cpu_count())


def run(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    jobs: int,
    tick: Callable[[], None] = lambda: None,
    *,
    per_worker: int = 1,
    limits: Limits | None = None,
    server: ForkServer | None = None,
) -> Generator[Done[Result] | Crashed, None, None]:
    """Call ``function`` on every argument in worker processes, and yield the outcomes as they arrive.

    Parameters
    ----------
    function : callable
        A module-level function. Its name and its argument are pickled.
    arguments : sequence
    jobs : int
        Number of worker processes.
    tick : callable
        Called about four times a second while waiting.
    per_worker : int
        Tasks sent to a worker ahead of time; more than one keeps the workers busy while the caller is busy.
    limits : Limits or None
    server : ForkServer or None
        Forks the workers. None: each starts from scratch.

    Raises
    ------
    WorkerError
        If no worker can be started.
    Exception
        Whatever ``function`` raises; the remaining tasks are abandoned.
    """
    pool = _Pool(function, arguments, jobs, per_worker, limits or Limits(), server)
    try:
        pool.start()
        left = len(arguments)
        while left:
            raise_if_interrupted()
            try:
                outcome: Any = pool.outcomes.get(timeout=_POLL)
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


class _Pool(threading.Thread):
    """Calls a function on arguments in worker processes; the parameters are those of `run`.

    Attributes
    ----------
    outcomes : queue.SimpleQueue of Done, Crashed or Exception
        Its size is bounded: results wait in the workers until the caller takes them. Nothing follows an exception.
        (Not a `queue.Queue`, because ctrl-C inside its ``get`` may corrupt its lock.)
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        arguments: Sequence[Any],
        jobs: int,
        per_worker: int,
        limits: Limits,
        server: ForkServer | None,
    ) -> None:
        super().__init__(daemon=True)
        self.outcomes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._function = function
        self._arguments = arguments
        self._jobs = jobs
        self._per_worker = per_worker
        self._limits = limits
        self._server = server
        self._waiting = list(range(len(arguments)))[::-1]
        self._suspects: list[int] = []
        self._workers: list[Worker] = []
        self._failed_starts = 0
        self._stopped = False

    def stop(self) -> None:
        """Kill the workers and end the thread."""
        self._stopped = True
        if self.ident is not None:
            self.join()

    def run(self) -> None:
        """Keep the workers busy until every task has an outcome. Called by ``start``."""
        # Inherited by the workers: ctrl-C reaches every process of the terminal, and only the program handles it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            while not self._stopped and self._is_unfinished():
                self._send_tasks()
                self._receive()
                self._enforce_limits()
        except Exception as error:
            self._put(error)
        finally:
            if self._is_unfinished():
                for worker in self._workers:
                    worker.kill()
            else:
                for worker in self._workers:
                    worker.connection.close()
                for worker in self._workers:
                    worker.finish()

    def _put(self, outcome: Done[Any] | Crashed | Exception) -> None:
        while self.outcomes.qsize() >= max(2, self._per_worker * self._jobs) and not self._stopped:
            time.sleep(0.01)
        self.outcomes.put(outcome)

    def _is_unfinished(self) -> bool:
        return bool(self._waiting or self._suspects or self._busy())

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.tasks]

    def _send_tasks(self) -> None:
        if not self._waiting and self._suspects and not self._busy():
            # One at a time: memory may have run out because of another task.
            self._waiting.append(self._suspects.pop())
            while len(self._workers) > 1:
                self._workers.pop().kill()
        while len(self._workers) < min(self._jobs, len(self._waiting) + len(self._busy())):
            self._start_worker()
        for depth in range(self._per_worker):
            for worker in self._workers:
                if worker.ready and self._waiting and len(worker.tasks) == depth:
                    self._send(worker, self._waiting.pop())

    def _start_worker(self) -> None:
        here, there = Pipe()
        with there:
            process: Process
            if self._server is not None and self._server.is_alive:
                process, parent = self._server.fork(there.fileno()), self._server.process.pid
            else:
                process, parent = start_python("mirembed.workers.worker:serve", there.fileno()), os.getpid()
        worker = Worker(process, here)
        self._workers.append(worker)
        with contextlib.suppress(OSError):  # a worker that has died is found by `_receive`
            here.send((self._function, parent))

    def _send(self, worker: Worker, task: int) -> None:
        if not worker.tasks:
            worker.since = time.monotonic()
        argument = self._arguments[task]
        seconds = None if self._limits.seconds is None else self._limits.seconds(argument)
        worker.tasks.append((task, seconds))
        with contextlib.suppress(OSError):
            worker.connection.send((argument, seconds))

    def _receive(self) -> None:
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout=_POLL):
            worker = by_connection[connection]  # type: ignore[index]
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._handle_death(worker)
                continue
            if message == READY:
                worker.ready, self._failed_starts = True, 0
            else:
                self._handle_result(worker, *message)

    def _handle_result(self, worker: Worker, succeeded: bool, result: Any) -> None:
        if not succeeded:
            raise result
        task, _ = worker.tasks.popleft()
        self._put(Done(task, result))
        worker.since = time.monotonic()
        if self._limits.kept is not None and worker.resident_memory() > self._limits.kept:
            self._remove(worker)

    def _handle_death(self, worker: Worker) -> None:
        """Find out why a worker has died and whether its task is to blame."""
        code = worker.process.wait()
        if not worker.ready:
            # Workers whose fork server died start again from scratch, and may not need what it failed to load.
            self._failed_starts += not (isinstance(worker.process, Forked) and worker.process.is_orphan)
            if self._failed_starts == _MAX_FAILED_STARTS:
                raise WorkerError(f"worker processes end before they start (exit code {code}); free some memory")
        elif worker.tasks:
            task, _ = worker.tasks.popleft()
            # The system sends SIGKILL when memory runs out, and not always to the culprit: retry the task alone.
            if code == -signal.SIGKILL and not self._is_alone():
                self._suspects.insert(0, task)
            else:
                self._put(Crashed(task, _crash_reason(code)))
        self._remove(worker)

    def _is_alone(self) -> bool:
        return not self._waiting and len(self._busy()) == 0 and len(self._workers) == 1

    def _enforce_limits(self) -> None:
        """Kill workers whose running task takes too much time or memory."""
        for worker in self._busy():
            (task, seconds), memory = worker.tasks[0], self._limits.memory
            if worker.connection.poll():
                continue  # it has just finished
            if seconds is not None and time.monotonic() - worker.since > seconds:
                reason = f"took longer than {seconds:.0f} s and was stopped"
            elif memory is not None and worker.resident_memory() > memory:
                reason = f"took more than {memory / 2**30:.1f} GiB of memory and was stopped"
            else:
                continue
            worker.tasks.popleft()
            self._put(Crashed(task, reason))
            self._remove(worker)

    def _remove(self, worker: Worker) -> None:
        """Kill a worker and put the tasks that it has not started back in the queue."""
        self._waiting += [task for task, _ in reversed(worker.tasks)]
        self._workers.remove(worker)
        worker.kill()


def _crash_reason(code: int) -> str:
    if code == -signal.SIGKILL:
        return "its worker process was killed (SIGKILL), perhaps because memory ran out"
    if code < 0:
        return f"its worker process crashed in native code ({signal.Signals(-code).name})"
    return f"its worker process exited with code {code}"
