"""The machine: in words, how fast it multiplies matrices, and how much memory processes take on it."""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import torch

SGEMM_SIZE = 512
_REPEATS = 200
MEBIBYTE = 2**20


def describe() -> str:
    """Return processor, memory and versions in a line."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "numba"))
    return (
        f"{model}, {psutil.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB; Python {platform.python_version()}, {versions}"
    )


def sgemm_rates(cores: int) -> tuple[float, float]:
    """Return the FLOP/s of float32 matrix products on one thread, and on as many as there are cores, together."""
    with ThreadPoolExecutor(cores) as pool:
        [one] = pool.map(lambda _: _multiply(), range(1))
        together = sum(pool.map(lambda _: _multiply(), range(cores)))
    return one, together


def _multiply() -> float:
    """Return the FLOP/s of one thread: of the fastest tenth of the products, for the machine may do other things."""
    torch.set_num_threads(1)
    a = torch.randn(SGEMM_SIZE, SGEMM_SIZE)
    out = torch.empty_like(a)
    times = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        torch.mm(a, a, out=out)
        times.append(time.perf_counter() - begin)
    return float(2 * SGEMM_SIZE**3 / np.quantile(times, 0.1))


def peak_memory(work: Callable[[], object], pid: int | None = None) -> int:
    """Return the most memory, in bytes, that this process's children took together while ``work`` ran.

    Memory that processes share is divided among them (the proportional set size of Linux).

    Parameters
    ----------
    pid : int or None
        Of another process, to be counted with its children in place of this one's children.
    """
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, _memory_of_children(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak


def _memory_of_children(pid: int | None) -> int:
    total = 0
    root = psutil.Process(pid)
    for process in [*([] if pid is None else [root]), *root.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total
