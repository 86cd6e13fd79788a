"""The engines that compute embeddings and their gradients, and the choice between them.

``numba`` is the fused engine, compiled for this processor, which computes two GRU layers and the mean over time; torch
computes all other networks. Both take the same weights, excerpts and loss; their numbers differ by rounding. Nothing in
the store depends on the engine, but a run is never finished with another engine than the one it was started with.

Importing this module imports neither torch nor Numba.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import SpecError
from mirembed.interruption import interruptible
from mirembed.training.engine.self_check import TOLERANCE, embedding_difference, gradient_difference
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.network import NetworkChoice
from mirembed.training.weights import NetworkWeights

if TYPE_CHECKING:
    from torch import Tensor

    from mirembed.training.network import EmbeddingModule


@dataclass(frozen=True)
class NetworkUse:
    """A network, and the features that it is used with.

    Attributes
    ----------
    choice : NetworkChoice
    features : str
        Their spec.
    values : int
        Values per frame.
    form : InputForm
    """

    choice: NetworkChoice
    features: str
    values: int
    form: InputForm

    @property
    def reason_for_torch(self) -> str | None:
        """Why torch has to compute it, or None if the fused engine can."""
        return reason_against_fusing(self.choice, self.values, self.form)


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
        frames : ndarray [total_frames, values]
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


def make_engine(
    engine: str, network: EmbeddingModule | NetworkWeights, form: InputForm, choice: NetworkChoice | None = None
) -> Engine:
    """Return an engine for a module, or for weights; with weights it can embed full tracks only.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
        ``auto`` is for embedding: ``numba`` if it works here, else ``torch``. The choice is silent; call
        `prepare_engine` first to announce a compilation. With ``numba`` torch computes what the fused engine cannot.
    network : EmbeddingModule or NetworkWeights
    form : InputForm
    choice : NetworkChoice or None
        Which network a module is; None if nothing is known. Weights say it themselves.
    """
    weights = network if isinstance(network, NetworkWeights) else None
    choice = choice if weights is None else weights.choice
    known = choice is not None and choice.fused is not None
    works = engine == "numba" or (engine == "auto" and known and reason_against_numba() is None)
    if works and fuses(network, choice, form):
        from mirembed.training.engine.fused import FusedEngine

        assert choice is not None and choice.fused is not None  # noqa: S101
        parameters = network if weights is None else list(weights.arrays.values())
        return FusedEngine(parameters, choice.fused, form)  # type: ignore[arg-type]
    from mirembed.training.engine.by_torch import TorchEngine

    module = network if weights is None else weights.module()
    return TorchEngine(module, form, "the network" if choice is None else choice.name)  # type: ignore[arg-type]


def reason_against_fusing(choice: NetworkChoice, values: int, form: InputForm) -> str | None:
    """Return why torch has to compute a network for features of so many values, or None if the fused engine can.

    Call it only where the fused engine works at all.
    """
    if choice.fused is None:
        return "the fused engine computes only two GRU layers and their mean over time"
    if not form.deltas:
        return "the input has no differences"
    from mirembed.training.engine.vectors import WIDTH

    return f"frames of {values} values are too small; it takes {WIDTH} or more" if values < WIDTH else None


def fuses(network: EmbeddingModule | NetworkWeights, choice: NetworkChoice | None, form: InputForm) -> bool:
    """Return whether the fused engine can compute a network where it is."""
    if choice is None or choice.fused is None:
        return False
    if isinstance(network, NetworkWeights):
        return reason_against_fusing(choice, network.inputs // 2, form) is None
    first = next(iter(network.parameters()))
    return first.device.type == "cpu" and reason_against_fusing(choice, first.shape[-1] // 2, form) is None


def prepare_engine(note: Callable[[str], None]) -> None:
    """Compile or load the engine that ``auto`` chooses, before a progress bar starts."""
    with _announcing_compilation(note):
        reason_against_numba()


def import_engine() -> None:
    """Import what ``auto`` may choose, without compiling it, in a process that workers are forked from."""
    import mirembed.training.engine.by_torch

    if _reason_against_importing_numba() is None:
        import mirembed.training.engine.fused  # noqa: F401


def choose_engine(engine: str, device: str, note: Callable[[str], None], uses: Sequence[NetworkUse] = ()) -> str:
    """Resolve the engine of trainings: ``auto`` is ``numba`` if it works here and agrees with torch, else ``torch``.

    ``numba`` means that the fused engine computes the networks that it can, and torch the others.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
    device : str
        Where the networks are trained: ``cpu``, or a device that only torch computes on.
    note : callable
        Receives the choice with its reason, and a notice when the engine has to be compiled.
    uses : sequence of NetworkUse
        The networks that will be computed; none if that is not known.

    Raises
    ------
    SpecError
        If ``engine`` is unknown, or is ``numba`` and cannot run here or on the device, or can compute none of the
        networks.
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
    if (reason := _reason_against_importing_numba()) is None:
        by_torch = _computed_by_torch(uses)
        if uses and all(use.reason_for_torch for use in uses):  # nothing to compile
            if engine == "numba":
                raise SpecError(f"--engine numba: it cannot compute {by_torch[0]}; use --engine torch")
            for some in by_torch:
                note(f"engine: torch (slower) for {some}")
            return "torch"
        with _announcing_compilation(note):
            reason = reason_against_numba(gradients=True)
    if reason is None:
        if engine == "auto":
            note("engine: numba, which agrees with torch")
        for some in by_torch:
            note(f"engine: torch for {some}")
        return "numba"
    if engine == "numba":
        raise SpecError(f"--engine numba: {reason}; use --engine torch")
    note(f"engine: torch (slower), because {reason}")
    return "torch"


def _computed_by_torch(uses: Sequence[NetworkUse]) -> list[str]:
    """Return the networks that only torch computes, each with its features and the reason."""
    features: dict[tuple[str, str], list[str]] = {}
    for use in uses:
        if reason := use.reason_for_torch:
            features.setdefault((use.choice.spec, reason), []).append(use.features)
    return [f"{spec} on {', '.join(some)}, because {reason}" for (spec, reason), some in features.items()]


@functools.cache
@interruptible()
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
        difference = gradient_difference() if gradients else embedding_difference()
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
                note("compiling the training engine for this processor, once: 5 to 10 s ...")

        def on_end(self, _event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
