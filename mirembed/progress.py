"""How long work tells what it is doing, without knowing who listens; and the words for numbers."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What the command line shows of long work."""

    def start(self, description: str, total: float) -> None:
        """Begin a stage of ``total`` units; it replaces the stage before it."""

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        """Say how many units of the stage are done, how many failed, and how much music was decoded."""

    def note(self, text: str) -> None:
        """Tell the user something that stays on the screen."""


class Silent:
    """Nobody listens."""

    def start(self, description: str, total: float) -> None:
        """Do nothing."""

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


def counted(number: int, thing: str) -> str:
    """Return ``1 epoch``, ``2 epochs``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def duration(seconds: float) -> str:
    """Return a time for people: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
