"""Progress for programs: one JSON object a line on standard output."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from mirembed.cli.console import ConsoleProgress

EVERY = 5.0
"""Seconds between two events; work that is done earlier prints none."""


class EventProgress(ConsoleProgress):
    """Prints how far long work is; notes go to standard error, as everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self._stage = ""
        self._stage_began = self._printed_at = 0.0

    def start(self, description: str, total: float) -> None:
        """Begin a stage."""
        self._total = total
        self._stage = description
        self._stage_began = self._printed_at = time.monotonic()
        if total:
            self.note(f"{description} ...")

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        """Print an event, if the last is some seconds ago."""
        now = time.monotonic()
        if now - self._printed_at < EVERY:
            return
        self._printed_at = now
        elapsed = now - self._stage_began
        left = elapsed * (self._total - completed) / completed if completed else None
        print_event(
            {
                "event": "progress",
                "stage": self._stage,
                "done": completed,
                "total": self._total,
                "failed": failed,
                "hours_per_second": audio_seconds / 3600 / elapsed,
                "seconds_elapsed": elapsed,
                "seconds_left": left,
            }
        )


def print_event(content: dict[str, Any]) -> None:
    """Print one line, at once: a program waits for it."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
    sys.stdout.flush()
