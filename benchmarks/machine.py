"""The machine: in words, how fast it multiplies matrices, and how much memory processes take on it."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

SGEMM_SIZE = 512
_REPEATS = 50
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
    """Return the FLOP/s of float32 matrix products on one thread, and on as many as there are cores, together.

    Of the libraries of torch and of NumPy the faster counts; which one that is depends on the processor.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1), ThreadPoolExecutor(cores) as pool:
        one = max(_multiply(product) for product in _PRODUCTS)
        together = max(sum(pool.map(_multiply, [product] * cores)) for product in _PRODUCTS)
    torch.set_num_threads(threads)
    return one, together


def _multiply_by_torch() -> Callable[[], object]:
    a, out = torch.ones(SGEMM_SIZE, SGEMM_SIZE), torch.empty(SGEMM_SIZE, SGEMM_SIZE)
    return lambda: torch.mm(a, a, out=out)


def _multiply_by_numpy() -> Callable[[], object]:
    a, out = np.ones((SGEMM_SIZE, SGEMM_SIZE), np.float32), np.empty((SGEMM_SIZE, SGEMM_SIZE), np.float32)
    return lambda: np.matmul(a, a, out=out)


_PRODUCTS = (_multiply_by_torch, _multiply_by_numpy)


def _multiply(make_product: Callable[[], Callable[[], object]]) -> float:
    """Return the FLOP/s of one thread: of the fastest tenth of the products, for the machine may do other things."""
    product = make_product()
    times = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        product()
        times.append(time.perf_counter() - begin)
    return float(2 * SGEMM_SIZE**3 / np.quantile(times, 0.1))


class _Watcher:
    """Does something again and again in a thread, for as long as a ``with`` block takes."""

    interval = 1.0  # seconds; a look takes some 30 ms of a core

    def __enter__(self) -> Self:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        self.look()
        while not self._done.wait(self.interval):
            self.look()

    def look(self) -> None:
        """Do it once."""
        raise NotImplementedError


class PeakMemory(_Watcher):
    """The most memory, in bytes, that this process's children took together: `peak`.

    Memory that processes share is divided among them (the proportional set size of Linux).

    Parameters
    ----------
    of_all : bool
        Count this process too.
    """

    def __init__(self, of_all: bool = False) -> None:
        self.peak = 0
        self._of_all = of_all

    def look(self) -> None:
        """Add up what the processes take now."""
        own = psutil.Process()
        total = 0
        for process in [*([own] if self._of_all else []), *own.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        self.peak = max(self.peak, total)


class EvictedFile(_Watcher):
    """A file whose pages leave the system's cache again and again; `peak` is the most, in bytes, that were in it.

    Parameters
    ----------
    path : pathlib.Path
    """

    def __init__(self, path: Path) -> None:
        self.peak = 0
        self._path = path

    def __enter__(self) -> Self:
        self._file = self._path.open("rb")
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        os.fsync(self._file.fileno())  # only what is on the disk can leave
        self._evict()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._map.close()
        self._file.close()

    def look(self) -> None:
        """Count the pages in the cache, then let them go."""
        address = np.frombuffer(self._map, np.uint8).ctypes.data
        pages = np.zeros(-(-len(self._map) // mmap.PAGESIZE), np.uint8)
        length = ctypes.c_size_t(len(self._map))
        if _libc().mincore(ctypes.c_void_p(address), length, pages.ctypes.data_as(ctypes.c_void_p)) != 0:
            raise OSError(ctypes.get_errno(), "mincore failed")
        self.peak = max(self.peak, int((pages & 1).sum()) * mmap.PAGESIZE)
        self._evict()

    def _evict(self) -> None:
        os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
