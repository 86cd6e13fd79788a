"""The built-in networks as torch modules: from frames ``[batch, time, inputs]`` to embeddings ``[batch, units]``.

All take ``inside [batch, time]``, which is 1 for the frames of a track and 0 for the padding after its end. Whatever
the padding holds, the embedding is the one that the track would have without it.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


def draw_weights(module: nn.Module, rng: np.random.Generator) -> None:
    """Draw every parameter of recurrent and linear layers uniformly from ±1/√n.

    n is the number of units of a recurrent layer, and the number of inputs of a linear one.
    """
    for layer in module.modules():
        if isinstance(layer, nn.GRU | nn.LSTM):
            bound = layer.hidden_size**-0.5
        elif isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
        else:
            continue
        for parameter in layer.parameters(recurse=False):
            values = rng.uniform(-bound, bound, parameter.shape).astype(np.float32)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(values))


# ---- pooling: outputs [batch, time, n] to one vector, at once or piece by piece -----------------------------------


class Mean(nn.Module):
    """The mean over time: ``[batch, n]``."""

    factor = 1

    def forward(self, outputs: Tensor, inside: Tensor) -> Tensor:
        """Pool whole sequences."""
        weights = inside / inside.sum(dim=1, keepdim=True)  # [batch, time]
        return (outputs * weights[:, :, None]).sum(dim=1)

    def add(self, outputs: Tensor, inside: Tensor, state: Any) -> Any:
        """Add the next piece; the first state is None."""
        total, count = (outputs * inside[:, :, None]).sum(dim=1), inside.sum(dim=1)
        return (total, count) if state is None else (state[0] + total, state[1] + count)

    def finish(self, state: Any) -> Tensor:
        """Return what `forward` returns for all pieces in one."""
        total, count = state
        pooled: Tensor = total / count[:, None]
        return pooled


class MeanAndDeviation(nn.Module):
    """Mean and standard deviation over time: ``[batch, 2 n]``."""

    factor = 2
    tiny = 1e-8
    """Added to the variance, so that the gradient of the deviation is finite for a constant."""

    def forward(self, outputs: Tensor, inside: Tensor) -> Tensor:
        """Pool whole sequences."""
        return self.finish(self.add(outputs, inside, None))

    def add(self, outputs: Tensor, inside: Tensor, state: Any) -> Any:
        """Add the next piece; the first state is None. Chan, Golub & LeVeque, The American Statistician 37 (1983)."""
        count = inside.sum(dim=1)[:, None]  # [batch, 1]
        mean = (outputs * inside[:, :, None]).sum(dim=1) / count.clamp(min=1)  # [batch, n]
        squares = ((outputs - mean[:, None]).square() * inside[:, :, None]).sum(dim=1)
        if state is None:
            return count, mean, squares
        count_before, mean_before, squares_before = state
        both, step = count_before + count, mean - mean_before
        return (
            both,
            mean_before + step * count / both,
            squares_before + squares + step.square() * count_before * count / both,
        )

    def finish(self, state: Any) -> Tensor:
        """Return what `forward` returns for all pieces in one."""
        count, mean, squares = state
        return torch.cat([mean, (squares / count + self.tiny).sqrt()], dim=1)


class Attention(nn.Module):
    """A mean over time with learned weights, the softmax of a linear function of each output: ``[batch, n]``."""

    factor = 1
    lowest = -1e30

    def __init__(self, n: int) -> None:
        super().__init__()
        self.score = nn.Linear(n, 1)

    def forward(self, outputs: Tensor, inside: Tensor) -> Tensor:
        """Pool whole sequences."""
        return self.finish(self.add(outputs, inside, None))

    def add(self, outputs: Tensor, inside: Tensor, state: Any) -> Any:
        """Add the next piece; the first state is None. The largest score so far keeps the exponentials small."""
        scores = self.score(outputs)[:, :, 0].masked_fill(inside == 0, self.lowest)  # [batch, time]
        top = scores.amax(dim=1, keepdim=True)  # [batch, 1]
        if state is not None:
            top = torch.maximum(top, state[0])
        weights = (scores - top).exp()
        total, weight = (outputs * weights[:, :, None]).sum(dim=1), weights.sum(dim=1, keepdim=True)
        if state is None:
            return top, total, weight
        top_before, total_before, weight_before = state
        shrink = (top_before - top).exp()
        return top, total_before * shrink + total, weight_before * shrink + weight

    def finish(self, state: Any) -> Tensor:
        """Return what `forward` returns for all pieces in one."""
        _, total, weight = state
        pooled: Tensor = total / weight
        return pooled


def make_pooling(name: str, n: int) -> Mean | MeanAndDeviation | Attention:
    """Return the pooling of outputs of ``n`` values."""
    if name == "attention":
        return Attention(n)
    return Mean() if name == "mean" else MeanAndDeviation()


# ---- the networks -------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """Recurrent layers and a pooling; see `mirembed_networks.networks.Gru` for the parameters."""

    directions = 1

    def __init__(
        self, inputs: int, hidden: int, units: int, layers: int, cell: str, pooling: str, dropout: float
    ) -> None:
        super().__init__()
        sizes = [*[hidden] * (layers - 1), units]
        widths = [inputs, *(self.directions * size for size in sizes)]
        self.layers = nn.ModuleList(self._layer(cell, width, size) for width, size in zip(widths, sizes, strict=False))
        self.dropout = nn.Dropout(dropout)
        self.pooling = make_pooling(pooling, widths[-1])
        self.units = widths[-1] * self.pooling.factor

    def _layer(self, cell: str, inputs: int, units: int) -> nn.Module:
        return CELLS[cell](inputs, units, batch_first=True)

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        """Embed whole sequences: ``[batch, units]``."""
        outputs, _ = self._recur(frames, inside, [None] * len(self.layers))
        embeddings: Tensor = self.pooling(outputs, inside)
        return embeddings

    def _recur(self, frames: Tensor, inside: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
        """Run the layers: outputs ``[batch, time, n]`` of the last one, and the states after the last frame."""
        outputs, after = frames, []
        for number, layer in enumerate(self.layers):
            if number:
                outputs = self.dropout(outputs)
            outputs, state = self._run(layer, outputs, inside, states[number])
            after.append(state)
        return outputs, after

    def _run(self, layer: nn.Module, frames: Tensor, inside: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, after = layer(frames, state)
        return outputs, after


class StreamedRecurrent(Recurrent):
    """Layers that run forward in time, so that a track of any length can be embedded piece by piece."""

    def stream(self, frames: Tensor, inside: Tensor, state: Any) -> Any:
        """Process the next frames; the first state is None."""
        states, pooled = ([None] * len(self.layers), None) if state is None else state
        outputs, states = self._recur(frames, inside, states)
        return states, self.pooling.add(outputs, inside, pooled)

    def finish(self, state: Any) -> Tensor:
        """Return the embeddings ``[batch, units]``."""
        return self.pooling.finish(state[1])


class BidirectionalRecurrent(Recurrent):
    """Layers that run in both directions; their outputs lie side by side."""

    directions = 2

    def _layer(self, cell: str, inputs: int, units: int) -> nn.Module:
        return nn.ModuleList(CELLS[cell](inputs, units, batch_first=True) for _ in range(2))

    def _run(self, layer: nn.Module, frames: Tensor, inside: Tensor, state: Any) -> tuple[Tensor, Any]:
        assert isinstance(layer, nn.ModuleList)  # noqa: S101
        forward, _ = layer[0](frames)
        backward, _ = layer[1](_turned(frames, inside))
        return torch.cat([forward, _turned(backward, inside)], dim=2), None


def _turned(frames: Tensor, inside: Tensor) -> Tensor:
    """Reverse each sequence in time; its padding stays after it."""
    time = torch.arange(frames.shape[1], device=frames.device)
    last = inside.sum(dim=1, keepdim=True).long() - 1  # [batch, 1]
    index = torch.where(time <= last, last - time, time)  # [batch, time]
    return frames.gather(1, index[:, :, None].expand_as(frames))


class InsideBatchNorm(nn.Module):
    """Batch normalization of feature maps ``[batch, maps, time, values]``, with statistics of no padding."""

    epsilon = 1e-5
    momentum = 0.1
    mean: Tensor
    variance: Tensor

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(maps)), nn.Parameter(torch.zeros(maps))
        self.register_buffer("mean", torch.zeros(maps))
        self.register_buffer("variance", torch.ones(maps))

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        """Normalize ``x`` with ``inside [batch, 1, time, 1]``; None if there is no padding."""
        if inside is None or not self.training:
            statistics = self.mean, self.variance, self.weight, self.bias
            return functional.batch_norm(x, *statistics, self.training, self.momentum, self.epsilon)
        count = inside.sum() * x.shape[3]
        mean = (x * inside).sum(dim=(0, 2, 3)) / count
        variance = ((x - mean[:, None, None]).square() * inside).sum(dim=(0, 2, 3)) / count
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance * count / (count - 1).clamp(min=1), self.momentum)
        scale = self.weight / (variance + self.epsilon).sqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None])


class ConvolutionalRecurrent(nn.Module):
    """Convolutional blocks, then recurrent layers; see `mirembed_networks.networks.Crnn` for the parameters."""

    def __init__(
        self,
        inputs: int,
        maps: int,
        blocks: int,
        planes: int,
        pool_frames: int,
        pool_values: int,
        hidden: int,
        units: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.planes, self.pool = planes, (pool_frames, pool_values)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(maps if number else planes, maps, 3, padding=1) for number in range(blocks)
        )
        self.norms = nn.ModuleList(InsideBatchNorm(maps) for _ in range(blocks))
        self.dropout = nn.Dropout(dropout)
        values = inputs // planes
        for _ in range(blocks):
            values = -(-values // pool_values)
        self.recurrent = Recurrent(maps * values, hidden, units, 2, "gru", "mean", 0.0)
        self.units = self.recurrent.units

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        """Embed whole sequences: ``[batch, units]``."""
        x = frames.view(*frames.shape[:2], self.planes, -1).transpose(1, 2)  # [batch, planes, time, values]
        mask = None if inside.all() else inside[:, None, :, None]  # [batch, 1, time, 1]
        x = _filled(x, mask, 0)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = functional.elu(norm(convolution(x), mask))
            x = functional.max_pool2d(_filled(x, mask, -torch.inf), self.pool, ceil_mode=True)
            if mask is not None:
                mask = functional.max_pool2d(mask, (self.pool[0], 1), ceil_mode=True)
            # The next convolution sees zeros beyond the last frame, whether or not there is padding.
            x = self.dropout(_filled(x, mask, 0))
        sequences = x.transpose(1, 2).flatten(2)  # [batch, time, maps * values]
        inside = torch.ones(sequences.shape[:2], device=x.device) if mask is None else mask[:, 0, :, 0]
        embeddings: Tensor = self.recurrent(sequences, inside)
        return embeddings


def _filled(x: Tensor, mask: Tensor | None, value: float) -> Tensor:
    """Replace what lies outside a mask; None if nothing does."""
    return x if mask is None else x.masked_fill(mask == 0, value)


class PerFrame(nn.Module):
    """Fully connected layers for each frame, and the mean over time."""

    def __init__(self, inputs: int, hidden: int, units: int, layers: int, dropout: float) -> None:
        super().__init__()
        sizes = [inputs, *[hidden] * (layers - 1), units]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.dropout = nn.Dropout(dropout)
        self.pooling = Mean()
        self.units = units

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        """Embed whole sequences: ``[batch, units]``."""
        outputs = frames
        for number, layer in enumerate(self.layers):
            outputs = layer(self.dropout(outputs.relu()) if number else outputs)
        embeddings: Tensor = self.pooling(outputs, inside)
        return embeddings
