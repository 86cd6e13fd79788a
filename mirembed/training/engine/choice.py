"""Which engine computes on the CPU, and why."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirembed.errors import SpecError
from mirembed.store.frame_file import Moments
from mirembed.training.engine.plain import PlainEngine
from mirembed.training.excerpts import Normalization
from mirembed.training.network import UNITS, EmbeddingNetwork, one_thread, seeded_network

TOLERANCE = 1e-4
"""Largest difference between the engines in the self-check, relative to the largest value of its kind."""


class Engine(Protocol):
    """Embeds with a network; see `make_engine`."""

    def embed_excerpts(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        offsets: NDArray[np.int64],
        normalization: Normalization,
    ) -> Tensor:
        """Embed one excerpt of each track: Tensor ``[batch, units]``, with gradients for the network's parameters.

        Parameters
        ----------
        frames : ndarray [total_frames, n_bands], dB
        starts, lengths : ndarray [batch]
            First row and number of frames of each track.
        offsets : ndarray [batch]
            First frame of each excerpt, counted from the track's start.
        normalization : Normalization
        """

    def embed_tracks(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        normalization: Normalization,
    ) -> NDArray[np.float32]:
        """Embed full tracks: ndarray ``[n_tracks, units]``. None depends on its companions, to the bit."""


def make_engine(engine: str, network: EmbeddingNetwork) -> Engine:
    """Return an engine for a network.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
        ``auto`` chooses in silence; where that may take long, `prepare_engine` comes first.
    network : EmbeddingNetwork
        Its weights are read anew at each call.
    """
    if engine == "torch" or (engine == "auto" and reason_against_numba() is not None):
        return PlainEngine(network)
    from mirembed.training.engine.fused import FusedEngine, supports

    return FusedEngine(network) if supports(network) else PlainEngine(network)


def prepare_engine(note: Callable[[str], None]) -> None:
    """Compile or load what ``auto`` stands for, before work whose progress is shown."""
    with _telling_of_compilation(note):
        reason_against_numba()


def import_engine() -> None:
    """Import what ``auto`` stands for, but compile nothing: for a process whose forks may use it."""
    if _reason_without_trying() is None:
        from mirembed.training.engine import fused  # noqa: F401


def choose_engine(engine: str, note: Callable[[str], None]) -> str:
    """Resolve ``auto``: ``numba`` where it runs and agrees with torch, else ``torch``.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
    note : callable
        Told the choice and its reason, and that the kernel is being compiled.

    Raises
    ------
    SpecError
        If ``engine`` is none of these, or ``numba`` cannot run here.
    """
    if engine not in ("auto", "numba", "torch"):
        raise SpecError(f"--engine {engine}: expected auto, numba or torch")
    if engine == "torch":
        return "torch"
    prepare_engine(note)
    reason = reason_against_numba()
    if reason is None:
        if engine == "auto":
            note("engine: numba, which agrees with torch")
        return "numba"
    if engine == "numba":
        raise SpecError(f"--engine numba: {reason}; use --engine torch")
    note(f"engine: torch, the slower one: {reason}")
    return "torch"


@functools.cache
def reason_against_numba() -> str | None:
    """Return why the kernel cannot be used here, or None. The answer is found once; it takes a second or more."""
    if (reason := _reason_without_trying()) is not None:
        return reason
    try:
        with one_thread():
            difference = _largest_difference()
    except Exception as error:  # whatever Numba and LLVM may say of a system that they do not know
        message = str(error).strip().partition("\n")[0]
        return f"the kernel does not compile ({type(error).__name__}: {message})"
    if not difference < TOLERANCE:
        return f"the kernel differs from torch by {difference:.1g}, more than {TOLERANCE:g}"
    return None


def _reason_without_trying() -> str | None:
    try:
        import numba
        from llvmlite.binding import get_host_cpu_features
    except Exception as error:  # a missing or broken Numba, or one that is too old for this Python or NumPy
        return f"numba cannot be imported ({type(error).__name__}: {error})"
    if numba.config.DISABLE_JIT:
        return "NUMBA_DISABLE_JIT is set"
    if platform.machine() in ("x86_64", "AMD64") and not get_host_cpu_features().get("avx2"):
        return "this processor has no AVX2"
    return None


def _largest_difference() -> float:
    """Compare embeddings and gradients of the kernel with those of `torch.nn.GRU`; return the largest difference."""
    from mirembed.training.engine.fused import FusedEngine

    n_bands = 40
    rng = np.random.default_rng(0)
    lengths = np.array([9, 40, 1, 25] * 5)  # more than a tile, and tracks that are shorter than an excerpt
    starts = np.cumsum(lengths) - lengths
    frames = rng.normal(-50, 10, (int(lengths.sum()), n_bands)).astype(np.float32)
    normalization = Normalization.fit(Moments.of(frames, starts, lengths))
    batch = (frames, starts, lengths, np.zeros_like(starts), normalization)
    network = seeded_network(2 * n_bands, (0, 0))
    direction = torch.from_numpy(rng.normal(size=(20, UNITS)).astype(np.float32))
    values = []
    for engine in (PlainEngine(network), FusedEngine(network)):
        embeddings = engine.embed_excerpts(*batch)
        # Not by `grad_outputs`, with which torch imports its compiler.
        gradients = torch.autograd.grad((embeddings * direction).sum(), list(network.parameters()))
        values.append([embeddings.detach(), *gradients])
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for theirs, ours in zip(*values, strict=True))


@contextmanager
def _telling_of_compilation(note: Callable[[str], None]) -> Iterator[None]:
    """Say so when Numba begins to compile: it takes a while, and looks like a program that hangs."""
    try:
        from numba.core import event
    except Exception:  # `reason_against_numba` says why
        yield
        return

    class Listener(event.Listener):  # type: ignore[misc]
        told = False

        def on_start(self, _event: Any) -> None:
            if not self.told:
                self.told = True
                note("compiling the training kernel for this processor, once: 5 to 20 s ...")

        def on_end(self, _event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
