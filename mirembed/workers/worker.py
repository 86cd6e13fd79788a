"""A worker process: how it is started, and the loop in which it calls a function on each argument it receives."""

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
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

READY = "ready"
"""The first message of a worker."""

GRACE = 10
"""Seconds that a worker may take to exit, and may overrun its time limit if its parent is gone."""

# One thread per worker: the workers share the cores among themselves.
_ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_ENVIRONMENT["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # required by torch's deterministic algorithms on CUDA


def start_python(function: str, descriptor: int, argument: str | int) -> subprocess.Popen[bytes]:
    """Start a Python process that calls ``function(descriptor, argument)`` with this process's ``sys.path``.

    SIGINT is blocked in it: ctrl-C reaches every process of the terminal, and only the program handles it.

    Parameters
    ----------
    function : str
        ``module:function``
    descriptor : int
        An open file descriptor, which the process inherits.
    """
    call = f"pkgutil.resolve_name({function!r})({descriptor}, {argument!r})"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(  # noqa: S603, this Python and our own code
            [sys.executable, "-c", f"import pkgutil, sys; sys.path[:] = sys.argv[1:]; {call}", *sys.path],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(descriptor: int, parent: int) -> None:
    """Run the worker loop: call a function on every argument that arrives, until the pipe is closed.

    The first message is the function; every other is ``(argument, time limit or None)``.

    Parameters
    ----------
    descriptor : int
        File descriptor of the pipe.
    parent : int
        Process id of the parent. The worker ends with it, even in the middle of a task.
    """
    connection = Connection(descriptor)
    try:
        try:
            function = connection.recv()
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
    """Exit soon after the parent, even if the parent was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
