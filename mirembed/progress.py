"""Progress of long work, and numbers in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


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


class TimeLeft:
    """Estimates how long the rest of a stage takes.

    It is counted from the first finished unit, so that starting processes and importing torch does not distort it.

    Parameters
    ----------
    total : float
        Units of the stage.
    """

    def __init__(self, total: float) -> None:
        self._total = total
        self._first: tuple[float, float] | None = None

    def seconds(self, now: float, completed: float, after: float) -> float | None:
        """Return the seconds left; None until units have been finished for ``after`` seconds.

        Parameters
        ----------
        now : float
            Seconds on a clock.
        completed : float
            Units done.
        after : float
        """
        if self._first is None:
            self._first = (now, completed) if completed > 0 else None
            return None
        elapsed, done = now - self._first[0], completed - self._first[1]
        return elapsed * (self._total - completed) / done if elapsed > after and done > 0 else None


def counted(number: int, thing: str) -> str:
    """Return a number with its noun, in the plural where needed.

    >>> counted(1, "epoch"), counted(2, "epoch"), counted(2, "class")
    ('1 epoch', '2 epochs', '2 classes')
    """
    plural = "es" if thing.endswith("s") else "s"
    return f"{number} {thing}{'' if number == 1 else plural}"


def decimals(value: float) -> str:
    """Return a number with three decimals, as text has it: with a minus sign instead of a hyphen.

    >>> decimals(0.25), decimals(-0.25)
    ('0.250', '\N{MINUS SIGN}0.250')
    """
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def first_names(names: Sequence[str], most: int) -> str:
    """Return the first of several names, and how many more there are.

    >>> first_names(["blues", "jazz", "pop", "rock"], 2)
    'blues, jazz and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def joined(names: Sequence[str], word: str = "and") -> str:
    """Return names as a sentence lists them.

    >>> joined(["fl"]), joined(["fl", "nn"]), joined(["fl", "nn", "stats"], "or")
    ('fl', 'fl and nn', 'fl, nn or stats')
    """
    *first, last = names or [""]
    return f"{', '.join(first)} {word} {last}" if first else last


def duration(seconds: float) -> str:
    """Return a rounded duration.

    >>> duration(0.032), duration(40.2), duration(720), duration(12000)
    ('0.03 s', '40 s', '12 min', '3 h 20 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1g} s"
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
