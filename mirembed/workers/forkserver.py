"""A process that has loaded what workers need, and forks them: they begin at once, and share its memory.

Importing torch and scikit-learn takes seconds and 300 MB in every process that does it. One process does it for all
workers, on a core of its own while the program still reads and plans. Only on Linux: elsewhere system libraries do not
survive a fork, and workers start from scratch.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, NoReturn

from mirembed.workers.processes import start_python

_LOADED = "loaded"
_FORK, _KILL = "fork", "kill"


_CURRENT: ContextVar[ForkServer | None] = ContextVar("forkserver", default=None)


@contextlib.contextmanager
def forkserver(load: str) -> Iterator[ForkServer | None]:
    """Yield a fork server for the length of a ``with`` block: that of a block around it, if there is one.

    Parameters
    ----------
    load : str
        ``module:function``, called without arguments in the new process. By name, so that this process need not import
        it. It must start no thread and leave CUDA and torch's autograd alone: they do not survive a fork.

    Yields
    ------
    ForkServer or None
        None where there can be none.
    """
    if sys.platform != "linux" or (current := _CURRENT.get()) is not None:
        yield _CURRENT.get()
        return
    current = ForkServer(load)
    token = _CURRENT.set(current)
    try:
        yield current
    finally:
        _CURRENT.reset(token)
        current.close()


class ForkServer:
    """The program's side of the process that forks; used by one thread at a time.

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
        self._send(load)
        self._loaded = False
        self._count = 0
        self._pids: dict[int, int] = {}
        self._codes: dict[int, int] = {}
        self._lock = threading.Lock()

    def fork(self, descriptor: int) -> Forked:
        """Have a worker forked, which answers at the other end of a pipe; it need not have begun on return."""
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
            left = None if end is None else end - time.monotonic()
            if timeout is not None and left is not None and left < 0:
                raise subprocess.TimeoutExpired("worker", timeout)
            if not self._listen(left):
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

    def _listen(self, timeout: float | None) -> bool:
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
    except (EOFError, OSError):  # the workers notice that this process is gone
        os._exit(0)


def _obey(control: Connection, children: dict[int, int]) -> None:
    what, number = control.recv()
    if what == _KILL:
        for pid, child in children.items():
            if child == number:
                os.kill(pid, signal.SIGKILL)
        return
    descriptor = recv_handle(control)
    pid = os.fork()
    if pid == 0:
        _be_worker(descriptor, control)
    os.close(descriptor)
    children[pid] = number
    control.send((number, pid, None))


def _be_worker(descriptor: int, control: Connection) -> NoReturn:
    from mirembed.workers.worker import serve

    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        serve(descriptor)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # what would end now belongs to the process that forked


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
