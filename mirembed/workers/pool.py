"""The workers of one call, kept busy by a thread of the program."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any

from mirembed.errors import WorkerError
from mirembed.workers.forkserver import Forked, ForkServer
from mirembed.workers.outcomes import Crashed, Done, Limits
from mirembed.workers.worker import READY, Worker

_POLL = 0.25
"""Seconds between two looks at the clock and at the memory."""

_STARTS = 3
"""How often in a row a worker may end before it has begun."""


class Pool(threading.Thread):
    """Calls a function on arguments in worker processes.

    Parameters
    ----------
    function, arguments, jobs, per_worker, limits, server
        As in `mirembed.workers.run`.

    Attributes
    ----------
    outcomes : queue.SimpleQueue of Done, Crashed or Exception
        Bounded, so that results wait with the workers while nobody takes them. After an exception nothing follows.
        Not a ``Queue``: ctrl-C inside its ``get`` may leave its lock in disorder.
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
        """Kill the workers."""
        self._stopped = True
        self.join()

    def run(self) -> None:
        """Keep the workers busy until everything is answered; called by ``start``."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for the workers, see `Worker.start`
        try:
            while not self._stopped and self._is_unfinished():
                self._hand_out()
                self._collect()
                self._watch()
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
                    worker.leave()

    def _put(self, outcome: Done[Any] | Crashed | Exception) -> None:
        while self.outcomes.qsize() >= max(2, self._per_worker * self._jobs) and not self._stopped:
            time.sleep(0.01)
        self.outcomes.put(outcome)

    def _is_unfinished(self) -> bool:
        return bool(self._waiting or self._suspects or self._busy())

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.tasks]

    def _hand_out(self) -> None:
        if not self._waiting and self._suspects and not self._busy():
            # Each alone: memory may have run out because of another.
            self._waiting.append(self._suspects.pop())
            while len(self._workers) > 1:
                self._workers.pop().kill()
        while len(self._workers) < min(self._jobs, len(self._waiting) + len(self._busy())):
            self._workers.append(Worker.start(self._function, self._server))
        for depth in range(self._per_worker):
            for worker in self._workers:
                if worker.ready and self._waiting and len(worker.tasks) == depth:
                    self._send(worker, self._waiting.pop())

    def _send(self, worker: Worker, task: int) -> None:
        if not worker.tasks:
            worker.since = time.monotonic()
        argument = self._arguments[task]
        seconds = None if self._limits.seconds is None else self._limits.seconds(argument)
        worker.tasks.append((task, seconds))
        # One that has just died is found when its answers are collected.
        with contextlib.suppress(OSError):
            worker.connection.send((argument, seconds))

    def _collect(self) -> None:
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout=_POLL):
            worker = by_connection[connection]  # type: ignore[index]
            try:
                answer = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            if answer == READY:
                worker.ready, self._failed_starts = True, 0
            else:
                self._take(worker, *answer)

    def _take(self, worker: Worker, well: bool, result: Any) -> None:
        if not well:
            raise result
        task, _ = worker.tasks.popleft()
        self._put(Done(task, result))
        worker.since = time.monotonic()
        if self._limits.kept is not None and worker.resident() > self._limits.kept:
            self._replace(worker)

    def _watch(self) -> None:
        """Kill the workers that took too long, or too much memory, for the task in hand."""
        for worker in self._busy():
            (_, seconds), memory = worker.tasks[0], self._limits.memory
            if worker.connection.poll():
                continue  # it has just answered
            if seconds is not None and time.monotonic() - worker.since > seconds:
                self._give_up(worker, f"took longer than {seconds:.0f} s and was stopped")
            elif memory is not None and worker.resident() > memory:
                self._give_up(worker, f"took more than {memory / 2**30:.1f} GiB of memory and was stopped")

    def _give_up(self, worker: Worker, reason: str) -> None:
        task, _ = worker.tasks.popleft()
        self._put(Crashed(task, reason))
        self._replace(worker)

    def _bury(self, worker: Worker) -> None:
        """Find out why a worker has died, and whose fault it was."""
        code = worker.process.wait()
        if not worker.ready:
            # What ended with the process that was to fork it begins again from scratch, and may not need what that
            # process failed to load.
            self._failed_starts += not (isinstance(worker.process, Forked) and worker.process.is_orphan)
            if self._failed_starts == _STARTS:
                raise WorkerError(f"worker processes end before they begin (exit code {code}); free some memory")
        elif worker.tasks:
            task, _ = worker.tasks.popleft()
            # The system kills so when memory runs out, and not always the one that took it: a second try, alone.
            if code == -signal.SIGKILL and not self._alone():
                self._suspects.insert(0, task)
            else:
                self._put(Crashed(task, _crash_reason(code)))
        self._replace(worker)

    def _alone(self) -> bool:
        return not self._waiting and len(self._busy()) == 0 and len(self._workers) == 1

    def _replace(self, worker: Worker) -> None:
        self._waiting += [task for task, _ in reversed(worker.tasks)]
        self._workers.remove(worker)
        worker.kill()


def _crash_reason(code: int) -> str:
    if code == -signal.SIGKILL:
        return "its worker process was killed (SIGKILL), perhaps because memory ran out"
    if code < 0:
        return f"native code ended its worker process ({signal.Signals(-code).name})"
    return f"its worker process ended itself (exit code {code})"
