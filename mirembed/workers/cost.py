"""What a task costs in its worker process: time and memory."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """The cost of a task.

    Attributes
    ----------
    wall_seconds : float
        Time on the clock.
    cpu_seconds : float
        Time of all threads of the process on the cores.
    peak_memory : int
        Bytes: the most physical memory that the process held during the task, with what it shares with other
        processes, such as libraries and mapped files. Where the system cannot tell (other than Linux), during its life.
    sessions : int
        Processes that worked on the task: more than one if it was interrupted.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    sessions: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.wall_seconds + other.wall_seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_memory, other.peak_memory),
            self.sessions + other.sessions,
        )


@dataclass(frozen=True)
class Meter:
    """Measures the cost of the task that this process is working on, from the moment of its creation."""

    _wall: float = field(default_factory=time.perf_counter)
    _cpu: float = field(default_factory=time.process_time)

    def __post_init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak of the memory begins anew

    def read(self) -> Cost:
        """Return the cost so far."""
        return Cost(time.perf_counter() - self._wall, time.process_time() - self._cpu, _peak_memory(), sessions=1)


def _peak_memory() -> int:
    """Return the peak of the resident memory in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
