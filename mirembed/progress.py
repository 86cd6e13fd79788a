"""Progress of long work and its interruption by ctrl-C, and numbers in words."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Protocol

INTERRUPTED = "interrupted; finished work is kept, and the same command resumes from there"

_REPEATED = 0.3
"""Seconds within which a second SIGINT is the same ctrl-C: the terminal and a parent program may both send it."""


class Progress(Protocol):
    """Reports the progress of long work to the user."""

    def start(self, description: str, total: float) -> None:
        """Start a stage of ``total`` units, which replaces the previous stage."""

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        """Report how many units of the stage are done, how many failed, and how much audio was decoded."""

    def note(self, text: str) -> None:
        """Show a message that stays on the screen."""


class Silent:
    """Discards all progress."""

    def start(self, description: str, total: float) -> None:
        """Do nothing."""

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


NO_PROGRESS = Silent()


class InterruptHandler:
    """Handler of SIGINT that raises `KeyboardInterrupt` and remembers it.

    Python swallows exceptions raised inside a ``__del__`` or a callback, and the program would run on. Long work
    therefore calls `raise_if_interrupted` between its steps. A second ctrl-C ends the program at once; the store
    survives that as it survives SIGKILL.

    Attributes
    ----------
    interrupted_at : float or None
        When ctrl-C was pressed first: seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self.interrupted_at: float | None = None

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        """Raise `KeyboardInterrupt` the first time, and exit the second time."""
        now = time.monotonic()
        if self.interrupted_at is None:
            self.interrupted_at = now
            raise KeyboardInterrupt
        if now - self.interrupted_at > _REPEATED:
            show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
            os.write(2, f"{show_cursor}{INTERRUPTED}\n".encode())
            os._exit(1)


def handle_interrupts() -> None:
    """Install an `InterruptHandler`, unless the program was started with SIGINT ignored (``nohup``, ``&``)."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    signal.signal(signal.SIGINT, InterruptHandler())
    report = sys.unraisablehook

    def report_unless_interrupted(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            report(unraisable)

    sys.unraisablehook = report_unless_interrupted


def raise_if_interrupted() -> None:
    """Raise `KeyboardInterrupt` if ctrl-C was pressed, even if an earlier `KeyboardInterrupt` was swallowed.

    Does nothing unless `handle_interrupts` was called.
    """
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, InterruptHandler) and handler.interrupted_at is not None:
        raise KeyboardInterrupt


def counted(number: int, thing: str) -> str:
    """Return a number with its noun, in the plural where needed.

    >>> counted(1, "epoch"), counted(2, "epoch")
    ('1 epoch', '2 epochs')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def first_names(names: Sequence[str], most: int) -> str:
    """Return the first of several names, and how many more there are.

    >>> first_names(["blues", "jazz", "pop", "rock"], 2)
    'blues, jazz and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def duration(seconds: float) -> str:
    """Return a rounded duration.

    >>> duration(40.2), duration(720), duration(12000)
    ('40 s', '12 min', '3 h 20 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def size(n_bytes: int) -> str:
    """Return a rounded size of memory or of a file.

    >>> size(12 * 2**10), size(3_565_158), size(1_288_490_189)
    ('12 KiB', '3.4 MiB', '1.2 GiB')
    """
    if n_bytes < 2**20:
        return f"{n_bytes / 2**10:.0f} KiB"
    return f"{n_bytes / 2**20:.1f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:.1f} GiB"
