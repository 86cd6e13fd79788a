"""One worker process, from both sides of its pipe."""

from __future__ import annotations

import copy
import math
import os
import signal
import subprocess
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from mirembed.workers.processes import start_python

if TYPE_CHECKING:
    from mirembed.workers.forkserver import Forked, ForkServer

READY = "ready"
"""What a worker says first."""

GRACE = 10
"""Seconds after which a worker ends itself, should nobody be left to end it when its time is over."""


@dataclass
class Worker:
    """A worker as its parent sees it.

    Attributes
    ----------
    process : subprocess.Popen or Forked
    connection : multiprocessing.connection.Connection
    tasks : deque of (int, float or None)
        Handed out and not answered, with the seconds that each may take; the first is in hand.
    ready : bool
        Whether it has begun.
    since : float
        When it took the first of its tasks in hand, at the latest; seconds of the monotonic clock.
    """

    process: subprocess.Popen[bytes] | Forked
    connection: Connection
    tasks: deque[tuple[int, float | None]] = field(default_factory=deque)
    ready: bool = False
    since: float = 0.0

    @classmethod
    def start(cls, function: Callable[[Any], Any], server: ForkServer | None) -> Worker:
        """Start a process that calls ``function`` on whatever it is sent, or have it forked.

        Ctrl-C reaches every process of the terminal, and only the parent answers it: the caller's thread is to have
        SIGINT blocked, which its children inherit.
        """
        here, there = Pipe()
        with there:
            process: subprocess.Popen[bytes] | Forked
            if server is not None and server.is_alive:
                process, parent = server.fork(there.fileno()), server.process.pid
            else:
                process, parent = start_python(f"{__name__}:serve", there.fileno()), os.getpid()
        worker = cls(process, here)
        try:
            here.send((function, parent))
        except OSError:  # it has died; that is found when its answers are collected
            pass
        except BaseException:  # the function cannot travel
            worker.kill()
            raise
        return worker

    def kill(self) -> int:
        """End the process and return its exit code: negative for a signal."""
        self.process.kill()
        self.connection.close()
        return self.process.wait()

    def leave(self) -> None:
        """Wait until the process ends by itself, its connection being closed; for some seconds only."""
        try:
            self.process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            self.kill()

    def resident(self) -> int:
        """Return the memory that it holds, in bytes; 0 when it has ended."""
        import psutil

        if (pid := self.process.pid) is None:
            return 0
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0


def serve(descriptor: int) -> None:
    """Be a worker: answer what comes through the pipe until the other end is closed."""
    connection = Connection(descriptor)
    try:
        try:
            function, parent = connection.recv()
        except Exception as error:  # what it is to call cannot be imported
            connection.send((False, error))
            return
        threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        connection.send(READY)
        while True:
            argument, seconds = connection.recv()
            # The parent keeps the time. The alarm ends a worker that hangs in native code and has lost its parent.
            signal.alarm(0 if seconds is None else math.ceil(seconds) + GRACE)
            answer = _answer(function, argument)
            signal.alarm(0)
            connection.send(answer)
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return


def _answer(function: Callable[[Any], Any], argument: Any) -> tuple[bool, Any]:
    try:
        return True, function(argument)
    except Exception as error:
        error.add_note(traceback.format_exc())
        return False, _travelling(error)


def _travelling(error: Exception) -> Exception:
    """Return an exception, or what it says where it cannot travel through a pipe, as some of other libraries."""
    try:
        ForkingPickler.dumps(error)
        copy.copy(error)  # makes it as the other end would
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _leave_with(parent: int) -> None:
    """End this process soon after its parent, which may be killed without a chance to say so."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
