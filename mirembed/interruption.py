"""Ctrl-C: a flag that work checks between its steps, so that it never stops in the middle of a write.

An exception may not come at any moment: it would be lost inside a ``__del__``, and between the creation of a temporary
folder and the ``try`` that removes it, it would leave the folder behind. SIGINT therefore only sets a flag. Work calls
`raise_if_interrupted` between its steps, and declares what may stop anywhere as `interruptible`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

RESUMES = "interrupted; finished work is kept, and the same command resumes from there"
STARTS_OVER = "interrupted; the same command starts from the beginning"

_REPEATED = 0.3
"""Seconds within which a second SIGINT is the same ctrl-C: the terminal and a parent program may both send it."""

_INSIDE_INTERRUPTIBLE, _ELSEWHERE, _INSIDE_UNINTERRUPTIBLE = 2.0, 4.0, float("inf")
"""Seconds after ctrl-C at which the program ends in the middle of what it does, by where it is."""


class InterruptHandler:
    """Handler of SIGINT.

    Attributes
    ----------
    interrupted : bool
        Whether ctrl-C was pressed.
    patience : float
        How many seconds after ctrl-C the program ends where the main thread is now. Inside `interruptible`, ctrl-C also
        raises `KeyboardInterrupt`.
    message : str
        What the user is told at the end; empty once it has been said.
    code : int
        The exit code.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self.patience = _ELSEWHERE
        self.message = "interrupted"
        self.code = 1

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        """Set the flag; Python calls this in the main thread, once native code has returned."""
        first, self.interrupted = not self.interrupted, True
        if first and self.patience == _INSIDE_INTERRUPTIBLE:
            raise KeyboardInterrupt

    def take_message(self) -> str:
        """Return the message; the next call returns nothing."""
        message, self.message = self.message, ""
        return message

    def watch(self, signals: int) -> None:
        """End the program at once if ctrl-C is pressed twice, or if it has not ended some seconds later.

        Native code may keep the main thread busy for minutes, a drive may not answer, and foreign code may swallow the
        exception: therefore this runs in a thread of its own. The store survives this end as it survives SIGKILL.

        Parameters
        ----------
        signals : int
            File descriptor of a pipe from which the number of each signal arrives.
        """
        while os.read(signals, 1)[0] != signal.SIGINT:
            pass
        pressed = time.monotonic()
        while True:
            again = bool(select.select([signals], [], [], 0.1)[0]) and os.read(signals, 1)[0] == signal.SIGINT
            seconds = time.monotonic() - pressed
            if again and seconds > _REPEATED:
                self._end()
            if seconds > self.patience:
                self._end()

    def _end(self) -> NoReturn:
        message = self.take_message()
        has_bar = os.isatty(2) and os.environ.get("TERM") not in ("dumb", "unknown")
        show_cursor = "\x1b[?25h" if has_bar else ""  # a progress bar hides it
        with contextlib.suppress(OSError):
            if message and select.select([], [2], [], 0)[1]:  # otherwise nobody reads what is written
                os.write(2, f"{show_cursor}{message}\n".encode())
        os._exit(self.code)


def handle_interrupts() -> None:
    """Install an `InterruptHandler`, unless the program was started with SIGINT ignored (``nohup``, ``&``)."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    handler = InterruptHandler()
    signals, arrived = os.pipe()
    os.set_blocking(arrived, False)
    signal.signal(signal.SIGINT, handler)
    signal.set_wakeup_fd(arrived, warn_on_full_buffer=False)
    threading.Thread(target=handler.watch, args=(signals,), daemon=True).start()
    report = sys.unraisablehook

    def report_unless_interrupted(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            report(unraisable)

    sys.unraisablehook = report_unless_interrupted


def raise_if_interrupted() -> None:
    """Raise `KeyboardInterrupt` if ctrl-C was pressed, even if an earlier `KeyboardInterrupt` was swallowed.

    Does nothing in other threads than the main one, and unless `handle_interrupts` was called.
    """
    if was_interrupted():
        raise KeyboardInterrupt


def was_interrupted() -> bool:
    """Whether the next `raise_if_interrupted` raises."""
    handler = _handler()
    return handler is not None and handler.interrupted


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let ctrl-C raise `KeyboardInterrupt` anywhere in the ``with`` block, or in the function that this decorates.

    For computing, reading and waiting that cannot check for ctrl-C, such as the code of plugins. If the block does not
    end within two seconds, because native code does not return or the exception is lost, the program ends there.
    Nothing that must be cleaned up may be in the block, except inside `uninterruptible`.

    Raises
    ------
    KeyboardInterrupt
        After ctrl-C, also in place of any other exception: it is what foreign code made of ctrl-C.
    """
    with _waiting(_INSIDE_INTERRUPTIBLE):
        yield


@contextlib.contextmanager
def uninterruptible() -> Iterator[None]:
    """Let ctrl-C wait until the ``with`` block ends, or the function that this decorates.

    mirembed runs the code of plugins so that ctrl-C raises `KeyboardInterrupt` in it at once. A plugin that writes a
    file puts the writing into this block, so that no half of it is left.

    >>> with uninterruptible():
    ...     pass
    """
    with _waiting(_INSIDE_UNINTERRUPTIBLE):
        yield


@contextlib.contextmanager
def _waiting(patience: float) -> Iterator[None]:
    handler = _handler()
    if handler is None:
        yield
        return
    before, handler.patience = handler.patience, patience
    raises = _INSIDE_INTERRUPTIBLE in (before, patience)
    try:
        if patience == _INSIDE_INTERRUPTIBLE:
            raise_if_interrupted()
        yield
    except (Exception, SystemExit):
        if raises:
            raise_if_interrupted()  # it is what foreign code made of ctrl-C
        raise
    finally:
        handler.patience = before
    if raises:
        raise_if_interrupted()


def say_when_interrupted(message: str) -> str:
    """Set what the user is told if ctrl-C ends the program: what is kept, and how to go on.

    Returns
    -------
    str
        What was to be said before.
    """
    if (handler := _handler()) is None:
        return message
    before, handler.message = handler.message, message
    return before


def take_interruption_message() -> str:
    """Return what the user is told after ctrl-C; from now on, there is nothing left to say."""
    return InterruptHandler().message if (handler := _handler()) is None else handler.take_message()


def end_quietly(code: int) -> None:
    """Let ctrl-C end the program with this exit code, saying nothing, from now on: its work is done."""
    handler = signal.getsignal(signal.SIGINT)
    if handler == signal.SIG_IGN:
        return
    if isinstance(handler, InterruptHandler):  # if ctrl-C was pressed, its thread ends a shutdown that hangs
        handler.message, handler.code = "", code
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, lambda *_: os._exit(code))


def _handler() -> InterruptHandler | None:
    """Return the handler, in the main thread of a program that has one."""
    handler = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    return handler if in_main_thread and isinstance(handler, InterruptHandler) else None
