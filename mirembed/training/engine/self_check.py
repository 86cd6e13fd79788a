"""Checks that the fused engine computes what numpy and torch compute, and that a network is what it says to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import PluginError
from mirembed.store.frame_file import Moments
from mirembed.training.excerpts import InputForm, Normalization, gather

if TYPE_CHECKING:
    from mirembed.training.network import EmbeddingModule, PluginNetwork

TOLERANCE = 1e-4
"""Largest difference that is accepted, relative to the largest value of its kind."""

VALUES, SIZES = 40, (100, 50)


def embedding_difference() -> float:
    """Compare embeddings of full tracks by the fused engine with numpy's; return the largest relative difference."""
    from mirembed.training.engine.fused import FusedEngine

    parameters = _parameters()
    frames, starts, lengths, normalization = _example(n_tracks=3, values=VALUES)
    ours = FusedEngine(parameters, SIZES).embed_tracks(frames, starts, lengths, normalization)
    inputs, _ = gather(frames, starts, lengths, np.zeros_like(starts), int(lengths.max()), normalization)
    outputs = _gru(_gru(inputs.astype(np.float64), parameters[:4]), parameters[4:])  # [n_tracks, time, units]
    theirs = np.array([of_track[:length].mean(axis=0) for of_track, length in zip(outputs, lengths, strict=True)])
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def gradient_difference() -> float:
    """Compare embeddings and gradients of excerpts with torch's; return the largest relative difference."""
    return _difference_from_torch(_reference(), SIZES, VALUES, InputForm(), n_tracks=20)  # more than a tile


def check_claim(network: PluginNetwork, inputs: int) -> None:
    """Check that a network computes what the fused engine does in its place.

    Raises
    ------
    PluginError
        If its parameters or its numbers differ.
    """
    from mirembed.training.engine.fused import parameter_shapes

    sizes = network.choice.fused
    assert sizes is not None  # noqa: S101
    module = network.seeded(inputs, [0])
    says = f"{network.name} says fused={sizes}"
    expected = parameter_shapes(inputs, *sizes)
    for found in (module.parameters(), module.state_dict().values()):
        shapes = [tuple(tensor.shape) for tensor in found]
        if shapes != expected:
            raise PluginError(f"{says}, but its module has the parameters {shapes}; expected {expected}")
    difference = _difference_from_torch(module, sizes, inputs // 2, InputForm(excerpt=12), n_tracks=3)
    if not difference < TOLERANCE:
        raise PluginError(
            f"{says}, but its module differs from two GRU layers and the mean over time by {difference:.1g}, more than "
            f"{TOLERANCE:g}; remove its attribute fused"
        )


def _example(
    n_tracks: int, values: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], Normalization]:
    """Return frames, starts and lengths of tracks, and their normalization."""
    rng = np.random.default_rng(0)
    lengths = np.resize([9, 40, 1, 25], n_tracks)  # shorter than an excerpt
    starts = np.cumsum(lengths) - lengths
    frames = rng.normal(-50, 10, (int(lengths.sum()), values)).astype(np.float32)
    return frames, starts, lengths, Normalization.fit(Moments.of(frames, starts, lengths))


def _parameters() -> list[NDArray[np.float32]]:
    """Return random parameters of both layers, in torch's order."""
    from mirembed.training.engine.fused import parameter_shapes

    rng = np.random.default_rng(1)
    return [rng.uniform(-0.12, 0.12, shape).astype(np.float32) for shape in parameter_shapes(2 * VALUES, *SIZES)]


def _gru(inputs: NDArray[np.float64], parameters: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Compute one layer by numpy: states ``[n, time, units]`` from ``inputs [n, time, n_in]``."""
    w_i, w_h, b_i, b_h = parameters
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


def _reference() -> EmbeddingModule:
    """Return two GRU layers and the mean over time, in torch."""
    import torch
    from torch import Tensor, nn

    class Reference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.GRU(2 * VALUES, SIZES[0], batch_first=True)
            self.second = nn.GRU(SIZES[0], SIZES[1], batch_first=True)
            self.units = SIZES[1]

        def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
            outputs, _ = self.second(self.first(frames)[0])
            weights = inside / inside.sum(dim=1, keepdim=True)
            embeddings: Tensor = (outputs * weights[:, :, None]).sum(dim=1)
            return embeddings

    module = Reference()
    with torch.no_grad():
        for parameter, values in zip(module.parameters(), _parameters(), strict=True):
            parameter.copy_(torch.from_numpy(values))
    return cast("EmbeddingModule", module)


def _difference_from_torch(
    module: EmbeddingModule, sizes: tuple[int, int], values: int, form: InputForm, n_tracks: int
) -> float:
    """Compare embeddings and gradients of excerpts by both engines; return the largest relative difference."""
    import torch

    from mirembed.training.engine.by_torch import TorchEngine
    from mirembed.training.engine.fused import FusedEngine
    from mirembed.training.network import one_thread

    frames, starts, lengths, normalization = _example(n_tracks, values)
    direction = torch.from_numpy(np.random.default_rng(1).normal(size=(n_tracks, sizes[1])).astype(np.float32))
    results = []
    with one_thread():
        for engine in (TorchEngine(module, form), FusedEngine(module, sizes, form)):
            embeddings = engine.embed_excerpts(frames, starts, lengths, np.zeros_like(starts), normalization)
            # Not by `grad_outputs`, which makes torch import its compiler.
            gradients = torch.autograd.grad((embeddings * direction).sum(), list(module.parameters()))
            results.append([embeddings.detach(), *gradients])
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for theirs, ours in zip(*results, strict=True))
