"""One worker process, from both ends of its pipe."""

from __future__ import annotations

import copy
import math
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

READY = "ready"
"""The first message of a worker."""

GRACE = 10
"""Seconds that a worker may take to exit, and may overrun its time limit if its parent is gone."""

# One thread per worker: the workers share the cores among themselves.
_ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_ENVIRONMENT["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # required by torch's deterministic algorithms on CUDA


class Process(Protocol):
    """The part of `subprocess.Popen` that a worker needs."""

    @property
    def pid(self) -> int | None:
        """Process id; None if it is not known yet."""

    def kill(self) -> None:
        """Send SIGKILL."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end and return its exit code: ``-N`` if signal ``N`` ended it."""


def start_python(function: str, descriptor: int, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python process that calls ``function(descriptor, *arguments)`` with this process's ``sys.path``.

    Parameters
    ----------
    function : str
        ``module:function``
    descriptor : int
        An open file descriptor, which the process inherits.
    """
    call = f"pkgutil.resolve_name({function!r})(*{(descriptor, *arguments)!r})"
    return subprocess.Popen(  # noqa: S603, this Python and our own code
        [sys.executable, "-c", f"import pkgutil, sys; sys.path[:] = sys.argv[1:]; {call}", *sys.path],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
    )


@dataclass
class Worker:
    """A worker as its parent sees it.

    Attributes
    ----------
    process : Process
    connection : multiprocessing.connection.Connection
        The parent's end of the pipe.
    tasks : deque of (int, float or None)
        Tasks sent to the worker and not finished, each with its time limit in seconds; the first one is running.
    ready : bool
        Whether the worker has started.
    since : float
        When the running task started, at the latest: seconds of the monotonic clock.
    """

    process: Process
    connection: Connection
    tasks: deque[tuple[int, float | None]] = field(default_factory=deque)
    ready: bool = False
    since: float = 0.0

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

        if (pid := self.process.pid) is None:
            return 0
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0


def serve(descriptor: int) -> None:
    """Run the worker loop: call a function on every argument that arrives, until the pipe is closed.

    The first message is ``(function, pid of the parent)``; every other is ``(argument, time limit or None)``.
    """
    connection = Connection(descriptor)
    try:
        try:
            function, parent = connection.recv()
        except Exception as error:  # the function cannot be imported here
            connection.send((False, error))
            return
        threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        connection.send(READY)
        while True:
            argument, seconds = connection.recv()
            # The parent enforces the limit. The alarm ends a worker that hangs in native code without a parent.
            signal.alarm(0 if seconds is None else math.ceil(seconds) + GRACE)
            result = _call(function, argument)
            signal.alarm(0)
            connection.send(result)
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return


def _call(function: Callable[[Any], Any], argument: Any) -> tuple[bool, Any]:
    """Return ``(True, result)`` or ``(False, exception)``."""
    try:
        return True, function(argument)
    except Exception as error:
        error.add_note(traceback.format_exc())
        return False, _picklable(error)


def _picklable(error: Exception) -> Exception:
    """Return the exception, or a `RuntimeError` with its text if it does not survive pickling."""
    try:
        ForkingPickler.dumps(error)
        copy.copy(error)  # rebuilds it as unpickling does
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _exit_with(parent: int) -> None:
    """Exit soon after the parent, which may be killed without a chance to say so."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
