"""A process that has loaded what workers need, and forks them: they begin at once, and share its memory.

Importing torch and scikit-learn takes seconds and 300 MB in every process that does it. One process does it for all
workers, on a core of its own while the program still reads and plans. Only on Linux: elsewhere system libraries do not
survive a fork, and workers start from scratch.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, NoReturn

from mirembed.workers.processes import start_python

_LOADED = "loaded"
_FORK, _KILL = "fork", "kill"
_POLL = 0.25
"""Seconds for which one thread listens while another may want to."""

_PR_SET_PDEATHSIG = 1

_CURRENT: ContextVar[ForkServer | None] = ContextVar("forkserver", default=None)


@contextlib.contextmanager
def forkserver_ahead(load: str) -> Iterator[None]:
    """Start a fork server for the calls of `forkserver` in a ``with`` block, before they need it."""
    if sys.platform != "linux":
        yield
        return
    server = ForkServer(load)
    token = _CURRENT.set(server)
    try:
        yield
    finally:
        try:
            _CURRENT.reset(token)
        finally:
            server.close()


@contextlib.contextmanager
def forkserver(load: str) -> Iterator[ForkServer | None]:
    """Yield the fork server that was started ahead, or one for the length of a ``with`` block.

    Parameters
    ----------
    load : str
        ``module:function``, called without arguments in the new process. By name, so that this process need not import
        it. It must leave CUDA and torch's autograd alone and no thread at work: they do not survive a fork. (OpenBLAS
        and OpenMP are told to start none; that of Arrow's allocator waits, and is prepared for forks.)

    Yields
    ------
    ForkServer or None
        None where there can be none.
    """
    if sys.platform != "linux" or _CURRENT.get() is not None:
        yield _CURRENT.get()
        return
    server = ForkServer(load)
    try:
        yield server
    finally:
        server.close()


class ForkServer:
    """The program's side of the process that forks.

    Parameters
    ----------
    load : str
        As for `forkserver`.

    Attributes
    ----------
    process : subprocess.Popen
    """

    def __init__(self, load: str) -> None:
        self._control, there = Pipe()
        with there, _interrupts_held():
            self.process = start_python(f"{__name__}:tend", there.fileno())
        self._lock = threading.Lock()
        self._loaded = False
        self._count = 0
        self._pids: dict[int, int] = {}
        self._codes: dict[int, int] = {}
        self._send(load)

    @property
    def is_alive(self) -> bool:
        """Whether it can fork."""
        return self.process.poll() is None

    def fork(self, descriptor: int) -> Forked:
        """Have a worker forked, which answers at the other end of a pipe; it need not have begun on return."""
        with self._lock:
            self._count += 1
            self._send((_FORK, self._count))
            with contextlib.suppress(OSError):
                send_handle(self._control, descriptor, self.process.pid)
            return Forked(self, self._count)

    def pid(self, number: int) -> int | None:
        """Return the process of a worker, None before it is known."""
        self._listen(0)
        return self._pids.get(number)

    def kill(self, number: int) -> None:
        """Kill a worker; by its parent, so that no other process can have its number."""
        self._listen(0)
        if not self._loaded:
            self.process.kill()  # nobody waits until what no one needs is loaded
        with self._lock:
            self._send((_KILL, number))

    def wait(self, number: int, timeout: float | None) -> int:
        """Return the exit code of a worker when it has ended: negative for a signal.

        Raises
        ------
        subprocess.TimeoutExpired
            If it has not, after so many seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while number not in self._codes:
            if end is not None and timeout is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout)
            if not self._listen(_POLL):
                return self.process.wait() or -signal.SIGKILL  # its children end with it
        return self._codes[number]

    def close(self) -> None:
        """End the process, whose workers have ended."""
        self.process.kill()
        self.process.wait()
        self._control.close()

    def _send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # it has died, and its workers with it; who waits for them finds that
            self._control.send(message)

    def _listen(self, timeout: float) -> bool:
        """Take in what it says, waiting for up to ``timeout`` seconds; return False when it has died."""
        with self._lock:
            try:
                while self._control.poll(timeout):
                    answer = self._control.recv()
                    if answer == _LOADED:
                        self._loaded = True
                    else:
                        number, pid, code = answer
                        self._pids[number] = pid
                        if code is not None:
                            self._codes[number] = code
                    timeout = 0
            except (EOFError, OSError):
                return False
        return True


class Forked:
    """A worker that was forked, as `subprocess.Popen` is one that was not."""

    def __init__(self, server: ForkServer, number: int) -> None:
        self._server, self._number = server, number

    @property
    def pid(self) -> int | None:
        """Its process; None before it is known."""
        return self._server.pid(self._number)

    @property
    def is_orphan(self) -> bool:
        """Whether the process that forked it, or was to, has ended."""
        return not self._server.is_alive

    def kill(self) -> None:
        """Kill it."""
        self._server.kill(self._number)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code when it has ended; see `ForkServer.wait`."""
        return self._server.wait(self._number, timeout)


def tend(descriptor: int) -> None:
    """Be the process that forks, until the other end of the pipe is closed."""
    control = Connection(descriptor)
    ended, end = os.pipe()
    os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(end)
    children: dict[int, int] = {}
    gc.disable()
    # Whatever is wrong, the worker that needs it meets it again, and says so.
    with contextlib.suppress(Exception):
        pkgutil.resolve_name(control.recv())()
    gc.freeze()  # a collection in a worker would write to pages that are shared
    gc.enable()
    try:
        control.send(_LOADED)
        while True:
            for ready in wait([control, ended]):
                if ready is control:
                    _obey(control, children)
                else:
                    os.read(ended, 4096)
                    _tell_ended(control, children)
    except (EOFError, ConnectionError):  # the program is gone; the workers end with this process
        os._exit(0)


def _obey(control: Connection, children: dict[int, int]) -> None:
    what, number = control.recv()
    if what == _KILL:
        for pid, child in children.items():
            if child == number:
                os.kill(pid, signal.SIGKILL)
        return
    descriptor = recv_handle(control)
    server = os.getpid()
    try:
        with warnings.catch_warnings():
            # Python warns of threads; see `forkserver` for those that there may be.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except OSError as error:  # too little memory, or too many processes
        control.send((number, 0, error.errno))
        return
    finally:
        if os.getpid() == server:
            os.close(descriptor)
    if pid == 0:
        _be_worker(descriptor, control, server)
    children[pid] = number
    control.send((number, pid, None))


def _be_worker(descriptor: int, control: Connection, server: int) -> NoReturn:
    from mirembed.workers.worker import serve

    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        # Even while native code holds the interpreter, and no thread of this process can look for its parent.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == server:
            serve(descriptor)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)  # what else would end now belongs to the process that forked


def _tell_ended(control: Connection, children: dict[int, int]) -> None:
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            control.send((children.pop(pid), pid, os.waitstatus_to_exitcode(status)))


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep ctrl-C, which reaches every process of the terminal, from a process that starts: it is not its affair."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
