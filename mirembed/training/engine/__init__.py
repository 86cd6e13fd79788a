"""The engines that compute embeddings and their gradients, and the choice between them.

``numba`` is the fused engine, compiled for this processor; ``torch`` uses torch's own `torch.nn.GRU`. Both take the
same weights, excerpts and loss; their numbers differ by rounding. Nothing in the store depends on the engine, but a run
is never finished with another engine than the one it was started with.

Importing this module imports neither torch nor Numba.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import SpecError
from mirembed.store.frame_file import Moments
from mirembed.training.excerpts import Normalization, gather
from mirembed.training.weights import NetworkWeights, parameter_shapes

if TYPE_CHECKING:
    from torch import Tensor

    from mirembed.training.network import EmbeddingNetwork

TOLERANCE = 1e-4
"""Largest difference that the self-check accepts, relative to the largest value of its kind."""


class Engine(Protocol):
    """Embeds with one network, whose weights it reads anew at each call; see `make_engine`."""

    def embed_excerpts(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        offsets: NDArray[np.int64],
        normalization: Normalization,
    ) -> Tensor:
        """Embed one excerpt of each track: Tensor ``[batch, units]``, with gradients for the network's parameters.

        Take the gradient before the next call, and once only.

        Parameters
        ----------
        frames : ndarray [total_frames, n_bands], dB
        starts, lengths : ndarray [batch]
            First row and number of frames of each track.
        offsets : ndarray [batch]
            First frame of each excerpt, counted from the start of its track.
        normalization : Normalization
        """

    def embed_tracks(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        normalization: Normalization,
    ) -> NDArray[np.float32]:
        """Embed full tracks: ndarray ``[n_tracks, units]``. To the bit, none depends on the other tracks."""


def make_engine(engine: str, network: EmbeddingNetwork | NetworkWeights) -> Engine:
    """Return an engine for a network, or for weights; with weights it can embed full tracks only.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
        ``auto`` is for embedding: ``numba`` if it works here, else ``torch``. The choice is silent; call
        `prepare_engine` first to announce a compilation.
    network : EmbeddingNetwork or NetworkWeights
    """
    if engine == "numba" or (engine == "auto" and reason_against_numba() is None):
        from mirembed.training.engine.fused import FusedEngine, supports

        if supports(network):
            return FusedEngine(network)
    from mirembed.training.network import TorchEngine

    return TorchEngine(network.module() if isinstance(network, NetworkWeights) else network)


def prepare_engine(note: Callable[[str], None]) -> None:
    """Compile or load the engine that ``auto`` chooses, before a progress bar starts."""
    with _announcing_compilation(note):
        reason_against_numba()


def import_engine() -> None:
    """Import what ``auto`` may choose, without compiling it, in a process that workers are forked from."""
    import mirembed.training.network

    if _reason_against_importing_numba() is None:
        import mirembed.training.engine.fused  # noqa: F401


def choose_engine(engine: str, device: str, note: Callable[[str], None]) -> str:
    """Resolve the engine of a training: ``auto`` is ``numba`` if it works here and agrees with torch, else ``torch``.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
    device : str
        Where the network is trained: ``cpu``, or a device that only torch computes on.
    note : callable
        Receives the choice with its reason, and a notice when the engine has to be compiled.

    Raises
    ------
    SpecError
        If ``engine`` is unknown, or is ``numba`` and cannot run here or on the device.
    """
    if engine not in ("auto", "numba", "torch"):
        raise SpecError(f"--engine {engine}: expected auto, numba or torch")
    if engine == "torch":
        return "torch"
    if device != "cpu":
        if engine == "numba":
            raise SpecError(f"--engine numba: it computes on the CPU only, not on {device}; use --engine torch")
        note(f"engine: torch, which computes on {device}")
        return "torch"
    with _announcing_compilation(note):
        reason = reason_against_numba(gradients=True)
    if reason is None:
        if engine == "auto":
            note("engine: numba, which agrees with torch")
        return "numba"
    if engine == "numba":
        raise SpecError(f"--engine numba: {reason}; use --engine torch")
    note(f"engine: torch (slower), because {reason}")
    return "torch"


@functools.cache
def reason_against_numba(*, gradients: bool = False) -> str | None:
    """Return why the fused engine cannot be used here, or None if it can.

    The engine is compiled and checked once per process, which takes a second or more.

    Parameters
    ----------
    gradients : bool
        Whether to check gradients too, against torch; else embeddings alone are checked, without importing torch.
    """
    if (reason := _reason_against_importing_numba()) is not None:
        return reason
    try:
        difference = _gradient_difference() if gradients else _embedding_difference()
    except Exception as error:  # whatever Numba and LLVM raise on a system that they do not support
        message = str(error).strip().partition("\n")[0]
        return f"the fused engine does not compile ({type(error).__name__}: {message})"
    if not difference < TOLERANCE:
        other = "torch" if gradients else "numpy"
        return f"the fused engine differs from {other} by {difference:.1g}, more than {TOLERANCE:g}"
    return None


def _reason_against_importing_numba() -> str | None:
    try:
        import numba
        from llvmlite.binding import get_host_cpu_features
    except Exception as error:  # Numba is missing, broken, or too old for this Python or NumPy
        return f"numba cannot be imported ({type(error).__name__}: {error})"
    if numba.config.DISABLE_JIT:
        return "NUMBA_DISABLE_JIT is set"
    if platform.machine() in ("x86_64", "AMD64") and not get_host_cpu_features().get("avx2"):
        return "this processor has no AVX2"
    return None


def _example(n_tracks: int) -> tuple[NetworkWeights, tuple[Any, ...], Normalization]:
    """Return random weights, and frames, starts, lengths and normalization of tracks to check an engine with."""
    n_bands = 40
    rng = np.random.default_rng(0)
    lengths = np.resize([9, 40, 1, 25], n_tracks)  # shorter than an excerpt
    starts = np.cumsum(lengths) - lengths
    frames = rng.normal(-50, 10, (int(lengths.sum()), n_bands)).astype(np.float32)
    sizes = (2 * n_bands, 100, 50)
    arrays = {
        name: rng.uniform(-0.12, 0.12, shape).astype(np.float32) for name, shape in parameter_shapes(*sizes).items()
    }
    normalization = Normalization.fit(Moments.of(frames, starts, lengths))
    return NetworkWeights(*sizes, arrays), (frames, starts, lengths), normalization


def _embedding_difference() -> float:
    """Compare embeddings of full tracks by the fused engine with numpy's; return the largest relative difference."""
    from mirembed.training.engine.fused import FusedEngine

    weights, (frames, starts, lengths), normalization = _example(n_tracks=3)
    ours = FusedEngine(weights).embed_tracks(frames, starts, lengths, normalization)
    inputs, _ = gather(frames, starts, lengths, np.zeros_like(starts), int(lengths.max()), normalization)
    outputs = _gru(_gru(inputs.astype(np.float64), weights, "first"), weights, "second")  # [n_tracks, time, units]
    theirs = np.array([of_track[:length].mean(axis=0) for of_track, length in zip(outputs, lengths, strict=True)])
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def _gru(inputs: NDArray[np.float64], weights: NetworkWeights, layer: str) -> NDArray[np.float64]:
    """Compute one layer by numpy: states ``[n, time, units]`` from ``inputs [n, time, n_in]``."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    w_i, w_h, b_i, b_h = (weights.arrays[f"{layer}.{name}_l0"] for name in names)
    state = np.zeros((len(inputs), w_h.shape[1]))
    states = []
    for frame in inputs.swapaxes(0, 1):
        r_i, z_i, n_i = np.split(frame @ w_i.T + b_i, 3, axis=1)
        r_h, z_h, n_h = np.split(state @ w_h.T + b_h, 3, axis=1)
        reset, update = 1 / (1 + np.exp(-r_i - r_h)), 1 / (1 + np.exp(-z_i - z_h))
        new = np.tanh(n_i + reset * n_h)
        state = new + update * (state - new)
        states.append(state)
    return np.stack(states, axis=1)


def _gradient_difference() -> float:
    """Compare embeddings and gradients of excerpts with torch's; return the largest relative difference."""
    import torch

    from mirembed.training.engine.fused import FusedEngine
    from mirembed.training.network import TorchEngine, one_thread

    weights, (frames, starts, lengths), normalization = _example(n_tracks=20)  # more than a tile
    network = weights.module()
    direction = torch.from_numpy(np.random.default_rng(1).normal(size=(20, weights.units)).astype(np.float32))
    values = []
    with one_thread():
        for engine in (TorchEngine(network), FusedEngine(network)):
            embeddings = engine.embed_excerpts(frames, starts, lengths, np.zeros_like(starts), normalization)
            # Not by `grad_outputs`, which makes torch import its compiler.
            gradients = torch.autograd.grad((embeddings * direction).sum(), list(network.parameters()))
            values.append([embeddings.detach(), *gradients])
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for theirs, ours in zip(*values, strict=True))


@contextmanager
def _announcing_compilation(note: Callable[[str], None]) -> Iterator[None]:
    """Send a note when Numba starts to compile, which takes a while and would look like a hang."""
    try:
        from numba.core import event
    except Exception:  # `reason_against_numba` reports it
        yield
        return

    class Listener(event.Listener):  # type: ignore[misc]
        announced = False

        def on_start(self, _event: Any) -> None:
            if not self.announced:
                self.announced = True
                note("compiling the training engine for this processor, once: 5 to 20 s ...")

        def on_end(self, _event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
