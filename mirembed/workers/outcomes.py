"""What becomes of a task, and what it may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Result]):
    """Task number ``index`` returned ``result``."""

    index: int
    result: Result


@dataclass(frozen=True)
class Crashed:
    """Task number ``index`` killed its worker, or was killed; ``reason`` says how, in plain words."""

    index: int
    reason: str


@dataclass(frozen=True)
class Limits:
    """What one task may take; a worker that takes more is killed.

    Attributes
    ----------
    seconds : callable or None
        From the argument of a task to the seconds that it may take.
    memory : int or None
        Bytes of a worker.
    kept : int or None
        Bytes of a worker between two tasks. One that holds on to more, because something leaks, is replaced.
    """

    seconds: Callable[[Any], float] | None = None
    memory: int | None = None
    kept: int | None = None


NO_LIMITS = Limits()
