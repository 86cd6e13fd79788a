"""Checks of a plugin's network on a small example, before it is trained or used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mirembed.errors import PluginError
from mirembed.registry import plugin_code
from mirembed.training.engine import reason_against_fusing
from mirembed.training.engine.by_torch import checked_embeddings
from mirembed.training.engine.self_check import check_claim
from mirembed.training.excerpts import BLOCK, InputForm
from mirembed.training.network import PluginNetwork, one_thread, torch_draws

if TYPE_CHECKING:
    from mirembed.training.network import EmbeddingModule

TOLERANCE = 1e-4
"""Largest difference of embeddings that should be equal, relative to the largest value; rounding makes about 1e-6."""


def check_with_engine(
    network: PluginNetwork, inputs: int, form: InputForm, engine: str, *, trained: bool = True
) -> None:
    """Check a network as `check_network` does; if the fused engine computes it, check that the results are the same.

    Parameters
    ----------
    network : PluginNetwork
    inputs : int
        Values per frame of its input.
    form : InputForm
    engine : {"numba", "torch"}
        The fused engine computes the network if it can and the network says so: whether that is true is checked too.
    trained : bool
        Whether to check the gradient.

    Raises
    ------
    PluginError
        If a check fails.
    """
    check_network(network, inputs, form.excerpt, trained=trained)
    values = inputs // 2 if form.deltas else inputs
    if engine == "numba" and reason_against_fusing(network.choice, values, form) is None:
        check_claim(network, inputs)


def check_network(network: PluginNetwork, inputs: int, excerpt: int, *, trained: bool = True) -> None:
    """Check that the embeddings of a network are what they must be, and that it can be trained.

    Parameters
    ----------
    network : PluginNetwork
    inputs : int
        Values per frame of its input.
    excerpt : int
        Frames of an excerpt.
    trained : bool
        Whether to check its gradient.

    Raises
    ------
    PluginError
        If the network fails, returns a wrong type or shape or values that are not finite, sees the padding of a track
        or its companions in a batch, streams to another result, cannot be saved, or has no gradient.
    """
    module = network.seeded(inputs, [0])
    _check_state(network.name, module)
    example = _Example(network.name, module, inputs, min(excerpt, BLOCK))
    with one_thread(), torch_draws([0]):
        module.eval()
        with torch.no_grad():
            embeddings = example.check_embeddings()
            if hasattr(module, "stream"):
                example.check_stream(module, embeddings)
        if trained:
            module.train()
            example.check_gradient()


def _check_state(name: str, module: EmbeddingModule) -> None:
    for key, value in module.state_dict().items():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        if kind not in (torch.float32, torch.float64, torch.int64, torch.int32, torch.bool):
            raise PluginError(f"{name} has {key} of the type {kind}, which cannot be saved; expected float32")
    for key, parameter in module.named_parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            raise PluginError(f"{name} has the weights {key} of the type {parameter.dtype}; expected torch.float32")


class _Example:
    """Three sequences of different lengths, and what a network makes of them."""

    def __init__(self, name: str, module: EmbeddingModule, inputs: int, time: int) -> None:
        self.name, self.module = name, module
        self.lengths = [time, max(1, time // 3), max(1, time // 2)]
        self.frames = self._noise(time, inputs)  # [batch, time, inputs]
        self.inside = self._inside(time)

    def check_embeddings(self) -> Tensor:
        """Check type, shape and values, and that nothing but a track's own frames matters; return the embeddings."""
        embeddings = self._embed(self.frames, self.inside)
        if not embeddings.isfinite().all():
            raise PluginError(
                f"{self.name} returned values that are not finite for frames {tuple(self.frames.shape)} of normal noise"
            )
        self._check_same(
            self._embed(self.frames, self.inside),
            embeddings,
            "the same frames have another embedding the second time, even in evaluation mode",
        )
        alone = torch.cat([self._embed(self.frames[[row]], self.inside[[row]]) for row in (0, 1)])
        self._check_same(
            alone, embeddings[:2], "the other tracks of a batch change an embedding, even in evaluation mode"
        )
        time, inputs = self.frames.shape[1:]
        longer = 3 * self._noise(time + time // 2 + 1, inputs)
        longer[:, :time] = torch.where(self.inside[:, :, None] > 0, self.frames, longer[:, :time])
        self._check_same(
            self._embed(longer, self._inside(longer.shape[1])),
            embeddings,
            "the padding after a track changes its embedding; leave out the frames where inside is 0",
        )
        return embeddings

    def check_stream(self, module: Any, embeddings: Tensor) -> None:
        """Check that a sequence in two pieces has the embedding of the whole."""
        half = max(1, self.frames.shape[1] // 2)
        with plugin_code(f"{self.name} fails to stream frames {tuple(self.frames.shape)} in two pieces"):
            state = None
            for piece in (slice(None, half), slice(half, None)):
                if self.frames[:, piece].shape[1]:
                    state = module.stream(self.frames[:, piece], self.inside[:, piece], state)
            streamed = module.finish(state)
        streamed = checked_embeddings(self.name, streamed, embeddings.shape)
        self._check_same(streamed, embeddings, "the embedding of a stream is not that of the whole sequence")

    def check_gradient(self) -> None:
        """Check that a weight has a gradient."""
        weights = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        if not weights:
            raise PluginError(f"{self.name} has no weight to train: no parameter requires a gradient")
        embeddings = self._embed(self.frames, self.inside)
        if embeddings.requires_grad:
            loss = (embeddings * torch.linspace(1, 2, embeddings.numel()).view_as(embeddings)).sum()
            with plugin_code(f"the gradient of {self.name} fails for frames {tuple(self.frames.shape)}"):
                gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            found = [gradient for gradient in gradients if gradient is not None]
            if not all(gradient.isfinite().all() for gradient in found):
                raise PluginError(f"{self.name} has a gradient that is not finite for normal noise")
            if any(gradient.any() for gradient in found):
                return
        raise PluginError(
            f"{self.name} cannot be trained: no weight has a gradient; compute the embedding with torch alone, without "
            "detach() or numpy()"
        )

    def _noise(self, time: int, inputs: int) -> Tensor:
        return torch.randn(len(self.lengths), time, inputs, generator=torch.Generator().manual_seed(0))

    def _inside(self, time: int) -> Tensor:
        """Return ``[batch, time]``."""
        return (torch.arange(time) < torch.tensor(self.lengths)[:, None]).float()

    def _embed(self, frames: Tensor, inside: Tensor) -> Tensor:
        with plugin_code(f"{self.name} fails for frames {tuple(frames.shape)}"):
            embeddings = self.module(frames, inside)
        return checked_embeddings(self.name, embeddings, (len(frames), self.module.units))

    def _check_same(self, found: Tensor, expected: Tensor, problem: str) -> None:
        difference = float((found - expected).abs().max())
        if not difference <= TOLERANCE * float(expected.abs().max()):
            raise PluginError(f"{self.name}: {problem} (by {difference:.1g})")
