"""Progress in a notebook or a program: a line of text that is updated, and notes that stay."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from mirembed.audio.files import printable
from mirembed.errors import SpecError
from mirembed.interruption import raise_if_interrupted
from mirembed.progress import NO_PROGRESS, Progress, TimeLeft, counted, duration

RESUMES = "interrupted; finished work is kept, and the same call resumes from there"

_INTERVAL = 0.5
"""Seconds between two changes of the line."""

_NAMED = 10
"""Files that failed to name; the others are counted."""

_ESTIMATE_AFTER = 4.0
"""Seconds of work after which the remaining time is estimated."""


@contextlib.contextmanager
def reporting(progress: bool | Progress, interrupted: str = "") -> Iterator[Progress]:
    """Show the progress of a call.

    Parameters
    ----------
    progress : bool or Progress
        True: a line of text; False: nothing.
    interrupted : str
        What to say if the call is interrupted.

    Raises
    ------
    SpecError
        If ``progress`` is something else.
    """
    if not isinstance(progress, bool):
        if not all(hasattr(progress, name) for name in ("start", "update", "note")):
            raise SpecError(f"progress is {progress!r}: expected True or False")
        yield progress
    elif not progress:
        yield NO_PROGRESS
    else:
        with LineProgress() as line:
            try:
                yield line
            except KeyboardInterrupt:
                if interrupted:
                    line.note(interrupted)
                raise


class LineProgress:
    """Shows a stage as a line that moves in a notebook or on a terminal, and stands still elsewhere.

    Use it in a ``with`` block.

    Parameters
    ----------
    stream : file, optional
        Default: standard error; in a notebook, which would paint that red, standard output.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
        self._stream = stream or (sys.stdout if in_notebook else sys.stderr)
        self._moves = in_notebook or self._stream.isatty()
        self._description = ""
        self._shown = ""
        self._total = self._done = self._began = self._changed_at = 0.0
        self._left = TimeLeft(0)

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._end_stage()

    def start(self, description: str, total: float) -> None:
        """Start a stage."""
        raise_if_interrupted()
        self._end_stage()
        self._description, self._total, self._done, self._left = description, total, 0.0, TimeLeft(total)
        self._began = self._changed_at = time.monotonic()
        if not total:
            self._description = ""
        elif self._moves:
            self._show(f"{description} ...")
        else:
            self._print(f"{description} ...")

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        """Move the line, about twice a second."""
        raise_if_interrupted()
        now = time.monotonic()
        self._done, left = completed, self._left.seconds(now, completed, _ESTIMATE_AFTER)
        if self._moves and self._description and now - self._changed_at >= _INTERVAL:
            self._changed_at = now
            details = [f"{completed:.0f} of {self._total:.0f}", *([f"{failed} failed"] if failed else [])]
            details += [] if left is None else [f"about {duration(left)} left"]
            self._show(f"{self._description}: {', '.join(details)}")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        shown = self._shown
        self._show("")
        self._print(text)
        self._show(shown)

    def _end_stage(self) -> None:
        if self._shown:
            seconds = time.monotonic() - self._began
            finished = "" if self._done >= self._total else f"{self._done:.0f} of {self._total:.0f}, "
            self._show("")
            self._print(f"{self._description}: {finished}{duration(seconds)}")
        self._description = ""

    def _show(self, text: str) -> None:
        """Write a text over the line that moves."""
        if text == self._shown:
            return
        self._stream.write("\r" + text + " " * (len(self._shown) - len(text)) + ("" if text else "\r"))
        self._stream.flush()
        self._shown = text

    def _print(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def note_failures(failures: Sequence[tuple[Path, str]], progress: Progress) -> None:
    """Say which files failed: the first few, and how many more."""
    for path, reason in failures[:_NAMED]:
        progress.note(f"failed: {printable(path)}: {reason}")
    if len(failures) > _NAMED:
        progress.note(f"and {counted(len(failures) - _NAMED, 'more file')}")
