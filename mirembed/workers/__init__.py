"""Worker processes: independent tasks side by side, isolated from each other's crashes.

Every worker has its own pipe and runs its tasks in order. If native code crashes, hangs or takes all the memory, it is
known which task was running: that task is lost, and no other. `run` runs the tasks; a thread keeps the workers busy.
"""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mirembed.errors import WorkerError
from mirembed.interruption import raise_if_interrupted
from mirembed.workers.processes import GRACE, READY, Forked, ForkServer, start_python

if TYPE_CHECKING:
    import psutil

Argument = TypeVar("Argument")
Result = TypeVar("Result")

_POLL = 0.25
"""Seconds between two checks of the time and memory limits."""

_SPARE_FILES = 16
"""Files that this process may still open when all workers have started, each of which takes two."""

_MAX_FAILED_STARTS = 3
"""Workers in a row that may end before they are ready."""


@dataclass(frozen=True)
class Done(Generic[Result]):
    """Task number ``index`` returned ``result``."""

    index: int
    result: Result


@dataclass(frozen=True)
class Crashed:
    """Task number ``index`` ended its worker process or was stopped, for this ``reason``."""

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
        Memory of a worker after a task, in bytes. A worker that keeps more, because something leaks, is replaced,
        unless that is less than twice what it kept after another task, because it has loaded something large.
    """

    seconds: Callable[[Any], float] | None = None
    memory: int | None = None
    kept: int | None = None


def blocked_tasks(after: Mapping[int, Iterable[int]]) -> dict[int, set[int]]:
    """Return the tasks that cannot start yet, and for each the tasks that it waits for."""
    return {task: before for task, others in after.items() if (before := set(others))}


def unblock(blocked: dict[int, set[int]], done: int) -> list[int]:
    """Remove from ``blocked`` the tasks that wait for no other now that ``done`` is over, and return them."""
    for before in blocked.values():
        before.discard(done)
    free = [task for task, before in blocked.items() if not before]
    for task in free:
        del blocked[task]
    return free


def available_jobs() -> int:
    """Return the number of cores that this process may use; it respects CPU affinity and container limits."""
    from joblib.externals.loky import cpu_count  # joblib's own returns 1 without a writable /dev/shm

    return int(cpu_count())


def run(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    jobs: int,
    tick: Callable[[], None] = lambda: None,
    *,
    after: Mapping[int, Iterable[int]] = MappingProxyType({}),
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
        Number of worker processes; there are fewer if the limit of open files is low.
    tick : callable
        Called about four times a second while waiting.
    after : mapping of int to iterable of int
        Tasks that start only when those others are over; both are positions in ``arguments``.
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
    most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files != resource.RLIM_INFINITY:
        jobs = max(1, min(jobs, (most_files - len([*Path("/dev/fd").iterdir()]) - _SPARE_FILES) // 2))
    pool = _Pool(function, arguments, jobs, per_worker, limits or Limits(), server, blocked_tasks(after))
    thread = threading.Thread(target=pool.work, daemon=True)
    try:
        thread.start()
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
        pool.stopped = True
        if thread.ident is not None:
            thread.join()


@dataclass
class _Worker:
    """A worker as its parent sees it.

    Attributes
    ----------
    process : subprocess.Popen or Forked
    connection : multiprocessing.connection.Connection
        The parent's end of the pipe.
    tasks : deque of (int, float or None)
        Tasks sent to the worker and not finished, each with its time limit in seconds; the first one is running.
    ready : bool
        Whether the worker has started.
    since : float
        When the running task started, at the latest: seconds of the monotonic clock.
    least : int or None
        The least memory that it kept after a task, in bytes.
    measured : psutil.Process or None
        The process once its memory was measured: finding it takes three times as long as that.
    """

    process: subprocess.Popen[bytes] | Forked
    connection: Connection
    tasks: deque[tuple[int, float | None]] = field(default_factory=deque)
    ready: bool = False
    since: float = 0.0
    least: int | None = None
    measured: psutil.Process | None = None

    def keeps_too_much(self, kept: int) -> bool:
        """Whether it should be replaced after a task: see `Limits.kept`."""
        memory = self.resident_memory()
        self.least = memory if self.least is None else min(memory, self.least)
        return memory > max(kept, 2 * self.least)

    def kill(self) -> None:
        """Kill the process and wait for its end."""
        self.process.kill()
        self.connection.close()
        self.process.wait()

    def finish(self) -> None:
        """Wait for the process to exit after its connection was closed; kill it if it takes too long."""
        try:
            self.process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            self.kill()

    def resident_memory(self) -> int:
        """Return the resident memory of the process in bytes; 0 if it has ended."""
        import psutil

        try:
            if self.measured is None:
                if (pid := self.process.pid) is None:
                    return 0
                self.measured = psutil.Process(pid)
            return int(self.measured.memory_info().rss)
        except psutil.Error:
            return 0


@dataclass
class _Pool:
    """Calls a function on arguments in worker processes; the first parameters are those of `run`.

    Attributes
    ----------
    outcomes : queue.SimpleQueue of Done, Crashed or Exception
        Its size is bounded: results wait in the workers until the caller takes them. Nothing follows an exception.
    blocked : dict of int to set of int
        See `blocked_tasks`.
    suspects : list of int
        Tasks whose worker was killed, perhaps because of another task; they are retried alone.
    stopped : bool
        Set by the caller: kill the workers and return.
    """

    function: Callable[[Any], Any]
    arguments: Sequence[Any]
    jobs: int
    per_worker: int
    limits: Limits
    server: ForkServer | None
    blocked: dict[int, set[int]]
    outcomes: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    suspects: list[int] = field(default_factory=list)
    workers: list[_Worker] = field(default_factory=list)
    failed_starts: int = 0
    measured_at: float = 0.0
    stopped: bool = False

    def __post_init__(self) -> None:
        self.waiting = [task for task in range(len(self.arguments)) if task not in self.blocked][::-1]

    def work(self) -> None:
        """Keep the workers busy until every task has an outcome."""
        try:
            while not self.stopped and self._is_unfinished():
                self._send_tasks()
                self._receive()
                self._enforce_limits()
        except Exception as error:
            self._put(error)
        finally:
            if self._is_unfinished():
                for worker in self.workers:
                    worker.kill()
            else:
                for worker in self.workers:
                    worker.connection.close()
                for worker in self.workers:
                    worker.finish()

    def _put(self, outcome: Done[Any] | Crashed | Exception) -> None:
        if not isinstance(outcome, Exception):
            self.waiting += unblock(self.blocked, outcome.index)
        while self.outcomes.qsize() >= max(2, self.per_worker * self.jobs) and not self.stopped:
            time.sleep(0.01)
        self.outcomes.put(outcome)

    def _is_unfinished(self) -> bool:
        return bool(self.waiting or self.suspects or self._busy())

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.tasks]

    def _send_tasks(self) -> None:
        if not self.waiting and self.suspects and not self._busy():
            # One at a time: memory may have run out because of another task.
            self.waiting.append(self.suspects.pop())
            while len(self.workers) > 1:
                self.workers.pop().kill()
        while len(self.workers) < min(self.jobs, len(self.waiting) + len(self._busy())):
            self._start_worker()
        for depth in range(self.per_worker):
            for worker in self.workers:
                if worker.ready and self.waiting and len(worker.tasks) == depth:
                    self._send(worker, self.waiting.pop())

    def _start_worker(self) -> None:
        here, there = Pipe()
        with there:
            process: subprocess.Popen[bytes] | Forked
            if self.server is not None and self.server.process.poll() is None:
                process = self.server.fork(there.fileno())
            else:
                process = start_python("mirembed.workers.processes:work", there.fileno(), os.getpid())
        self.workers.append(_Worker(process, here))
        with contextlib.suppress(OSError):  # a worker that has died is found by `_receive`
            here.send(self.function)

    def _send(self, worker: _Worker, task: int) -> None:
        if not worker.tasks:
            worker.since = time.monotonic()
        argument = self.arguments[task]
        seconds = None if self.limits.seconds is None else self.limits.seconds(argument)
        worker.tasks.append((task, seconds))
        with contextlib.suppress(OSError):
            worker.connection.send((argument, seconds))

    def _receive(self) -> None:
        by_connection = {worker.connection: worker for worker in self.workers}
        for connection in wait(list(by_connection), timeout=_POLL):
            worker = by_connection[connection]  # type: ignore[index]
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._handle_death(worker)
                continue
            if message == READY:
                worker.ready, self.failed_starts = True, 0
                continue
            succeeded, result = message
            if not succeeded:
                raise result
            task, _ = worker.tasks.popleft()
            self._put(Done(task, result))
            worker.since = time.monotonic()
            if self.limits.kept is not None and worker.keeps_too_much(self.limits.kept):
                self._remove(worker)

    def _handle_death(self, worker: _Worker) -> None:
        """Find out why a worker has died and whether its task is to blame."""
        code = worker.process.wait()
        if not worker.ready:
            # Workers whose fork server died start again from scratch, and may not need what it failed to load.
            self.failed_starts += not (isinstance(worker.process, Forked) and worker.process.is_orphan)
            if self.failed_starts == _MAX_FAILED_STARTS:
                raise WorkerError(f"worker processes end before they start (exit code {code}); free some memory")
        elif worker.tasks:
            task, _ = worker.tasks.popleft()
            # The system sends SIGKILL when memory runs out, and not always to the culprit: retry the task alone.
            was_alone = not self.waiting and not self._busy() and len(self.workers) == 1
            if code == -signal.SIGKILL and not was_alone:
                self.suspects.insert(0, task)
            else:
                self._put(Crashed(task, _crash_reason(code)))
        self._remove(worker)

    def _enforce_limits(self) -> None:
        """Kill workers whose running task takes too much time or memory."""
        if time.monotonic() - self.measured_at < _POLL / 2:
            return
        self.measured_at = time.monotonic()
        for worker in self._busy():
            (task, seconds), memory = worker.tasks[0], self.limits.memory
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

    def _remove(self, worker: _Worker) -> None:
        """Kill a worker and put the tasks that it has not started back in the queue."""
        self.waiting += [task for task, _ in reversed(worker.tasks)]
        self.workers.remove(worker)
        worker.kill()


def _crash_reason(code: int) -> str:
    if code == -signal.SIGKILL:
        return "its worker process was killed (SIGKILL), perhaps because memory ran out"
    if code < 0:
        return f"its worker process crashed in native code ({signal.Signals(-code).name})"
    return f"its worker process exited with code {code}"
