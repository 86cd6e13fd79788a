"""The machine: its description, the speed of matrix products and disk reads, and the memory that processes use."""

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
import psutil
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

SGEMM_SIZE = 512
SGEMM_REPEATS = 50
MEBIBYTE = 2**20
CACHESTAT = 451
"""Number of the system call that counts the cached pages of a file (Linux 6.5 and later)."""


def describe() -> str:
    """Return the processor, memory and versions in one line."""
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
    """Return the FLOP/s of float32 matrix products on one thread, and on one thread per core together.

    The faster of torch and NumPy counts; which one that is depends on the processor.
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
    """Return the FLOP/s of one thread in the fastest tenth of the products, because other programs may disturb it."""
    product = make_product()
    times = []
    for _ in range(SGEMM_REPEATS):
        begin = time.perf_counter()
        product()
        times.append(time.perf_counter() - begin)
    return float(2 * SGEMM_SIZE**3 / np.quantile(times, 0.1))


def random_reads(path: Path, size: int, depth: int, seconds: float = 2.0) -> float:
    """Return the random reads per second of ``size`` bytes from a file, ``depth`` at a time.

    The file is evicted from the system's cache first, and no place is read twice.
    """
    places = np.random.default_rng(depth).permutation(path.stat().st_size // size)
    with path.open("rb") as file, ThreadPoolExecutor(depth) as pool:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        begin = time.perf_counter()

        def read(own: list[int]) -> int:
            for count, place in enumerate(own):
                if time.perf_counter() - begin > seconds:
                    return count
                os.pread(file.fileno(), size, place * size)
            return len(own)

        reads = sum(pool.map(read, [places[first::depth].tolist() for first in range(depth)]))
        return reads / (time.perf_counter() - begin)


class _Watcher:
    """Calls `look` at regular intervals in a thread during a ``with`` block."""

    interval = 1.0  # seconds; `look` takes about 30 ms of a core

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
        """Do the work once."""
        raise NotImplementedError


class PeakMemory(_Watcher):
    """Measures `peak`: the most memory, in bytes, that this process's children used together.

    Shared memory is divided among the processes that share it (Linux's proportional set size).

    Parameters
    ----------
    of_all : bool
        Count this process, too.
    """

    def __init__(self, of_all: bool = False) -> None:
        self.peak = 0
        self._of_all = of_all

    def look(self) -> None:
        """Add up the memory of the processes."""
        own = psutil.Process()
        total = 0
        for process in [*([own] if self._of_all else []), *own.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        self.peak = max(self.peak, total)


class EvictedFile(_Watcher):
    """Evicts a file from the system's cache at regular intervals; `peak` is the most of it, in bytes, that was cached.

    Parameters
    ----------
    path : pathlib.Path
    """

    def __init__(self, path: Path) -> None:
        self.peak = 0
        self._path = path

    def __enter__(self) -> Self:
        self._file = self._path.open("rb")
        os.fsync(self._file.fileno())  # only pages that are on the disk can be evicted
        self._evict()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._file.close()

    def look(self) -> None:
        """Count the cached pages, then evict them."""
        self.peak = max(self.peak, _cached_pages(self._file.fileno()) * mmap.PAGESIZE)
        self._evict()

    def _evict(self) -> None:
        os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _cached_pages(descriptor: int) -> int:
    """Return the number of cached pages of an open file."""
    libc = ctypes.CDLL(None, use_errno=True)
    from_to, counts = np.zeros(2, np.uint64), np.zeros(5, np.uint64)  # length 0: to the end of the file
    if (
        libc.syscall(
            CACHESTAT, descriptor, ctypes.c_void_p(from_to.ctypes.data), ctypes.c_void_p(counts.ctypes.data), 0
        )
        == 0
    ):
        return int(counts[0])
    # Older systems: ask for every page of the file, which takes 15 ms of a core per GiB.
    mapping = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    address = np.frombuffer(mapping, np.uint8).ctypes.data
    pages = np.zeros(-(-len(mapping) // mmap.PAGESIZE), np.uint8)
    length = ctypes.c_size_t(len(mapping))
    if libc.mincore(ctypes.c_void_p(address), length, ctypes.c_void_p(pages.ctypes.data)) != 0:
        raise OSError(ctypes.get_errno(), "mincore failed")
    return int((pages & 1).sum())
