"""Worker processes: how one starts, from scratch or forked, and the loop in which it works.

Importing torch and scikit-learn takes seconds and 260 MiB per process. For trainings, and with other imports for
extractions, the fork server does it once, in parallel, while the program still reads and plans, and forks the workers,
which start at once and share its memory.
Linux only: elsewhere, system libraries do not survive a fork, and every worker starts from scratch.

Why not `multiprocessing.forkserver`? It starts a worker just as fast (medians 4.8 s and 5.2 s on a busy machine) with
as much memory (263 MiB, all but 4 shared). But ``Process.start`` blocks until the preload ends, every worker runs the
caller's ``__main__`` again, ctrl-C while it loads raises in it, one failed fork ends it, and it cannot be closed.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import math
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, NoReturn

from mirembed.errors import JOBLIB_WARNINGS, SystemWarning

READY = "ready"
"""The first message of a worker."""

GRACE = 10
"""Seconds that a worker may take to exit, and may overrun its time limit if its parent is gone."""

# One thread per worker: the workers share the cores among themselves.
_ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_ENVIRONMENT["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # required by torch's deterministic algorithms on CUDA
# glibc keeps freed arrays of up to 16 MiB, 64 MiB in all, for the next ones: asking the system for each block of
# samples and each batch of spectra takes 5 % of the time of an extraction.
_ENVIRONMENT |= {"MALLOC_MMAP_THRESHOLD_": str(16 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}

_PR_SET_PDEATHSIG = 1

_CURRENT: ContextVar[ForkServer | None] = ContextVar("forkserver", default=None)


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


def work(descriptor: int, parent: int) -> None:
    """Run the worker loop: call a function on every argument that arrives, until the pipe is closed.

    The first message is the function; every other is ``(argument, time limit or None)``.

    Parameters
    ----------
    descriptor : int
        File descriptor of the pipe.
    parent : int
        Process id of the parent. The worker ends with it, even in the middle of a task.
    """
    _ignore_warnings()
    connection = Connection(descriptor)
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    try:
        try:
            function = connection.recv()
        except Exception as error:  # the function cannot be imported here
            connection.send((False, error))
            return
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


def _ignore_warnings() -> None:
    """Ignore what the program says itself, and what no user has to know."""
    warnings.simplefilter("ignore", SystemWarning)
    warnings.filterwarnings("ignore", module=JOBLIB_WARNINGS)


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


@contextlib.contextmanager
def forkserver(load: str) -> Iterator[ForkServer | None]:
    """Start a fork server for the ``with`` block; a block inside one with the same ``load`` shares its server.

    Parameters
    ----------
    load : str
        ``module:function``, called without arguments in the fork server. It is a name so that this process need not
        import it. The function must not touch CUDA or torch's autograd and must leave no thread running: they do not
        survive a fork. (OpenBLAS and OpenMP are told to start no threads; the thread of Arrow's allocator is idle and
        prepared for forks.)

    Yields
    ------
    ForkServer or None
        None except on Linux.
    """
    if sys.platform != "linux":
        yield None
        return
    outer = _CURRENT.get()
    if outer is not None and outer.load == load:
        yield outer
        return
    server = ForkServer(load)
    _CURRENT.set(server)
    try:
        yield server
    finally:
        _CURRENT.set(outer)
        server.close()


class ForkServer:
    """The program's side of a fork server.

    Parameters
    ----------
    load : str
        See `forkserver`.

    Attributes
    ----------
    load : str
    process : subprocess.Popen
    """

    def __init__(self, load: str) -> None:
        self.load = load
        self._control, there = socket.socketpair()
        with there:
            self.process = start_python(f"{__name__}:serve", there.fileno(), load)

    def fork(self, descriptor: int) -> Forked:
        """Request a worker that serves the pipe ``descriptor``; return without waiting for it to start."""
        here, there = Pipe(duplex=False)
        # If the server has died, the closed status pipe tells.
        with there, contextlib.suppress(OSError):
            socket.send_fds(self._control, [b"\0"], [descriptor, there.fileno()])
        return Forked(here)

    def close(self) -> None:
        """End the process. Its workers must have ended."""
        self.process.kill()
        self.process.wait()
        self._control.close()


class Forked:
    """A forked worker process, with the methods of `subprocess.Popen` that a pool needs.

    Parameters
    ----------
    status : multiprocessing.connection.Connection
        Receives the process id when the worker starts, and its exit code when it ends.

    Attributes
    ----------
    is_orphan : bool
        Whether the fork server died before it could report the exit code.
    """

    def __init__(self, status: Connection) -> None:
        self.is_orphan = False
        self._status = status
        self._pid: int | None = None
        self._code: int | None = None

    @property
    def pid(self) -> int | None:
        """Process id; None until the worker starts."""
        self._receive()
        return self._pid

    def kill(self) -> None:
        """Kill the worker. One that has not started ends as soon as it does."""
        self._receive()
        if self._code is not None:
            return
        if self._pid is None:
            self._end(-signal.SIGKILL)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the worker to end and return its exit code: ``-N`` if signal ``N`` ended it.

        Raises
        ------
        subprocess.TimeoutExpired
            If nothing is heard of it for ``timeout`` seconds.
        """
        while self._code is None:
            if not self._status.poll(timeout):
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            self._receive()
        return self._code

    def _receive(self) -> None:
        """Receive what the server has sent."""
        while self._code is None and self._status.poll():
            try:
                self._pid, code = self._status.recv()
            except (EOFError, OSError):  # the workers die with the server
                self.is_orphan = True
                code = -signal.SIGKILL
            if code is not None:
                self._end(code)

    def _end(self, code: int) -> None:
        self._code = code
        self._status.close()


def serve(descriptor: int, load: str) -> None:
    """Run the fork server: import, then fork a worker per request, until the other end of the socket is closed."""
    _ignore_warnings()
    control = socket.socket(fileno=descriptor)
    _end_with_parent()  # even while it imports; the socket tells of an end before this
    ended, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup)
    gc.disable()
    # The worker that needs it will meet the same error, and report it.
    with contextlib.suppress(Exception):
        pkgutil.resolve_name(load)()
    gc.freeze()  # a garbage collection in a worker would write to shared pages
    gc.enable()
    statuses: dict[int, Connection] = {}
    while True:
        for ready in wait([control, ended]):
            if ready is control:
                _, descriptors, _, _ = socket.recv_fds(control, 1, 2)
                if not descriptors:  # the program is gone; the workers end with this process
                    os._exit(0)
                descriptor, status = descriptors
                _fork(descriptor, Connection(status), control, statuses)
            else:
                os.read(ended, 4096)
                _report_ended(statuses)


def _fork(descriptor: int, status: Connection, control: socket.socket, statuses: dict[int, Connection]) -> None:
    server = os.getpid()
    try:
        with warnings.catch_warnings():
            # Python warns about threads; `forkserver` says which ones there may be.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except OSError as error:  # out of memory, or too many processes
        _send(status, None, error.errno or 1)
    else:
        if pid == 0:
            control.close()
            _run_worker(descriptor, status, server)
        statuses[pid] = status
    os.close(descriptor)


def _run_worker(descriptor: int, status: Connection, server: int) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _end_with_parent()
        if os.getppid() == server:
            status.send((os.getpid(), None))  # before the worker is ready: who may kill it knows its pid
            work(descriptor, server)
        code = 0
    except BrokenPipeError:  # it was killed before it started
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)  # skips exit handlers, which belong to the server


def _end_with_parent() -> None:
    """Let this process end with its parent, even while native code holds the interpreter lock."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _report_ended(statuses: dict[int, Connection]) -> None:
    for pid in list(statuses):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _send(statuses.pop(pid), pid, os.waitstatus_to_exitcode(status))


def _send(status: Connection, pid: int | None, code: int) -> None:
    with status, contextlib.suppress(OSError):  # the program may have lost interest
        status.send((pid, code))
