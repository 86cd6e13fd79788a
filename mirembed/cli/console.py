"""What the user sees: progress and notes on standard error, tables and JSON on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any
from unicodedata import category

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Table

from mirembed.progress import duration

_ESTIMATE_AFTER = 8.0
"""Seconds of work after which an estimate of the rest is worth saying."""


class ConsoleProgress:
    """Progress as a bar on a terminal, and as a few lines elsewhere. Use it in a ``with`` block."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._total = 0.0
        self._began = 0.0
        self._first: tuple[float, float] | None = None
        self._estimated = False

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def start(self, description: str, total: float) -> None:
        """Begin a stage."""
        self._stop()
        self._total, self._first, self._estimated = total, None, False
        self._began = time.monotonic()
        if total == 0:
            return
        if not self._console.is_terminal:
            self.note(f"{description} ...")
            return
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(description, total=total, told="")

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        """Say how much is done; once, when it can be told, how long the rest will take."""
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            told = [f"{audio_seconds / 3600 / max(now - self._began, 1e-3):.2f} h/s"] if audio_seconds else []
            told += [f"{failed} failed"] if failed else []
            self._bar.update(self._task, completed=completed, told=", ".join(told))
        # The clock starts with the first unit done: starting processes and importing torch is no measure.
        if completed > 0 and self._first is None:
            self._first = (now, completed)
        if self._first is None or self._estimated:
            return
        elapsed, done = now - self._first[0], completed - self._first[1]
        if elapsed > _ESTIMATE_AFTER and done > 0:
            self._estimated = True
            left = elapsed * (self._total - completed) / done
            if left > _ESTIMATE_AFTER:
                self.note(f"this will take about {duration(left)} more")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, markup=False)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def print_json(content: Any) -> None:
    """Print JSON on standard output."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on standard output; numbers are aligned to the right, control characters are escaped."""
    rows = [[escaped(cell) for cell in row] for row in rows]
    table = Table()
    for position, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[position]) for row in rows)
        table.add_column(escaped(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width: nothing is to be folded there.
    width = None if sys.stdout.isatty() else 200
    console = Console(highlight=False, markup=False, width=width)
    if title is not None:
        console.print(escaped(title), style="bold", soft_wrap=True)
    console.print(table)


def escaped(text: str) -> str:
    r"""Return text in one line: ``\n`` and ``\x1b``, which names of files may hold, are written so."""
    return "".join(
        character.encode("unicode_escape").decode() if category(character) in ("Cc", "Zl", "Zp") else character
        for character in text
    )


def _is_number(text: str) -> bool:
    return bool(text) and all(character in "0123456789.,-+[] %" for character in text)
