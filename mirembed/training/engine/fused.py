"""The fused engine: the way that the rest of mirembed uses it.

The compiled code of `mirembed.training.engine.gru` checks nothing, so all its arguments are checked here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.store.frame_file import Runs, reading_ahead
from mirembed.training.engine import gru
from mirembed.training.engine.gru import CHUNK, Gradient, Layer, Tape
from mirembed.training.engine.vectors import LANES, ROWS
from mirembed.training.excerpts import EXCERPT_FRAMES, Normalization
from mirembed.training.weights import NetworkWeights, parameter_shapes

if TYPE_CHECKING:
    from torch import Tensor
    from torch.autograd import Function

    from mirembed.training.network import EmbeddingNetwork

_ALIGNMENT = 64


def supports(network: EmbeddingNetwork | NetworkWeights) -> bool:
    """Return whether the fused engine can compute a network of this size on this device."""
    sizes = (network.inputs, network.hidden, network.units)
    return network.on_cpu and all(size % ROWS == 0 for size in sizes) and network.inputs // 2 >= LANES


class FusedEngine:
    """Computes the network with code compiled for this processor; an `Engine`.

    Parameters
    ----------
    network : EmbeddingNetwork or NetworkWeights
        One that this engine `supports`. Only an EmbeddingNetwork can embed excerpts, for its gradients.
    """

    def __init__(self, network: EmbeddingNetwork | NetworkWeights) -> None:
        self._network = network
        self._packing = Packing(network.inputs, network.hidden, network.units)
        self._gradients = self._packing.gradients()
        self._tapes: list[tuple[Tape, Tape]] = []
        self._on_tape: _Tiles | None = None

    def embed_excerpts(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        offsets: NDArray[np.int64],
        normalization: Normalization,
    ) -> Tensor:
        """See `mirembed.training.engine.Engine`."""
        assert not isinstance(self._network, NetworkWeights)  # noqa: S101
        tiles = _tiles(frames, starts, lengths, offsets, EXCERPT_FRAMES, normalization)
        while len(self._tapes) < len(tiles.n_frames):
            self._tapes.append(self._packing.tapes(EXCERPT_FRAMES + 1, EXCERPT_FRAMES))
        function: Any = _autograd_function()
        embeddings: Tensor = function.apply(self, tiles, *self._network.parameters())
        return embeddings

    def embed_tracks(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        normalization: Normalization,
    ) -> NDArray[np.float32]:
        """See `mirembed.training.engine.Engine`."""
        embeddings = np.zeros((len(starts), self._network.units), np.float32)
        if len(starts) == 0:
            return embeddings
        order = np.argsort(lengths, kind="stable")
        tiles = _tiles(frames, starts[order], lengths[order], np.zeros_like(order), None, normalization)
        layers = self._layers()
        tapes = self._packing.tapes(2, 1)
        out = tiles.room(self._network.units)
        for tile in reading_ahead(frames, tiles.runs()):
            gru.forward(tiles.sequences, tile, tiles.n_frames[tile], *layers, *tapes, out)
        embeddings[order] = tiles.by_track(out)
        return embeddings

    def _layers(self) -> tuple[Layer, Layer]:
        return self._packing.layers(list(self._network.arrays.values()))

    def _forward(self, tiles: _Tiles) -> NDArray[np.float32]:
        self._layers_of_forward = self._layers()
        self._on_tape = tiles
        out = tiles.room(self._network.units)
        for tile, n_frames in enumerate(tiles.n_frames):
            gru.forward(tiles.sequences, tile, n_frames, *self._layers_of_forward, *self._tapes[tile], out)
        return tiles.by_track(out)

    def _backward(self, tiles: _Tiles, gradient: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if self._on_tape is not tiles:
            raise RuntimeError("take the gradient of an excerpt once, and before embedding the next")
        self._on_tape = None  # the backward pass overwrites the tape
        for layer in self._gradients:
            layer.weights[:] = 0
            layer.biases[:] = 0
        room = tiles.in_lanes(gradient)
        for tile, n_frames in enumerate(tiles.n_frames):
            gru.backward(
                tiles.sequences, tile, n_frames, *self._layers_of_forward, *self._tapes[tile], room, *self._gradients
            )
        return self._packing.parameter_gradients(self._gradients)


@functools.cache
def _autograd_function() -> type[Function]:
    """Define the engine as a node of torch's graph. Only training needs this, so only training imports torch."""
    import torch

    class Excerpts(torch.autograd.Function):
        """The inputs of the node are the parameters of the network."""

        @staticmethod
        def forward(ctx: Any, engine: FusedEngine, tiles: _Tiles, *_parameters: Tensor) -> Tensor:
            ctx.engine, ctx.tiles = engine, tiles
            return torch.from_numpy(engine._forward(tiles))

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Any:
            gradients = ctx.engine._backward(ctx.tiles, gradient.numpy())
            return None, None, *map(torch.from_numpy, gradients)

    return Excerpts


@dataclass(frozen=True)
class _Tiles:
    """A batch in tiles of LANES sequences; the last tile is padded with sequences of weight 0."""

    sequences: gru.Sequences
    n_frames: list[int]
    n_tracks: int

    def runs(self) -> list[Runs]:
        """Return the rows of each tile's tracks or excerpts."""
        return list(zip(self.sequences.first + self.sequences.offset, self.sequences.length, strict=True))

    def room(self, n_units: int) -> NDArray[np.float32]:
        """Return an array for embeddings in lanes: ``[n_tiles, n_units, LANES]``."""
        return _aligned(len(self.n_frames), n_units, LANES)

    def by_track(self, in_lanes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rearrange ``[n_tiles, n_units, LANES]`` to ``[n_tracks, n_units]``."""
        return np.ascontiguousarray(in_lanes.transpose(0, 2, 1).reshape(-1, in_lanes.shape[1])[: self.n_tracks])

    def in_lanes(self, by_track: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rearrange ``[n_tracks, n_units]`` to ``[n_tiles, n_units, LANES]``, with zeros in unused lanes."""
        n_units = by_track.shape[1]
        filled = np.zeros((len(self.n_frames) * LANES, n_units), np.float32)
        filled[: self.n_tracks] = by_track
        lanes = self.room(n_units)
        lanes[:] = filled.reshape(-1, LANES, n_units).transpose(0, 2, 1)
        return lanes


def _tiles(
    frames: NDArray[np.float32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    offsets: NDArray[np.int64],
    n_frames: int | None,
    normalization: Normalization,
) -> _Tiles:
    """Check a batch and lay it out, with up to ``n_frames`` frames of each track from its offset on."""
    n_bands = len(normalization.mean)
    if frames.dtype != np.float32 or frames.ndim != 2 or frames.shape[1] != n_bands or not frames.flags.c_contiguous:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; expected float32 [total frames, {n_bands}]")
    if len(starts) == 0:
        raise ValueError("there is no track to embed")
    outside = (starts < 0) | (starts + lengths > len(frames)) | (offsets < 0) | (offsets >= lengths)
    if np.any(outside):
        raise ValueError("a track or an excerpt lies outside the frames")
    left = lengths - offsets
    used = left if n_frames is None else np.minimum(left, n_frames)
    weights = (1 / used).astype(np.float32)
    read_only = np.asarray(frames).view()
    read_only.flags.writeable = False  # the code is compiled for one kind of array
    sequences = gru.Sequences(
        frames=read_only,
        first=_in_tiles(starts, starts[0]),
        offset=_in_tiles(offsets, 0),
        length=_in_tiles(used, 1),
        weight=_in_tiles(weights, 0),
        mean=np.ascontiguousarray(normalization.mean, np.float32),
        scale=(1 / normalization.std).astype(np.float32),
    )
    return _Tiles(sequences, sequences.length.max(axis=1).tolist(), len(starts))


def _in_tiles(values: NDArray[Any], filling: Any) -> NDArray[Any]:
    """Reshape values ``[n]`` to ``[n_tiles, LANES]``, padded with ``filling``."""
    filled = np.full((-(-len(values) // LANES), LANES), filling, values.dtype)
    filled.ravel()[: len(values)] = values
    return filled


class Packing:
    """The weights in the order in which the compiled code reads them, and its gradients in torch's order.

    Both orders are permutations. They are found once, by arranging the indices of the elements in place of the
    elements; a step of training then costs one `numpy.take` each way.

    Parameters
    ----------
    n_in, n_hidden, n_units : int
        Sizes of the input and of the two layers: multiples of ROWS.
    """

    def __init__(self, n_in: int, n_hidden: int, n_units: int) -> None:
        self.sizes = [(n_in, n_hidden), (n_hidden, n_units)]
        self.shapes = list(parameter_shapes(n_in, n_hidden, n_units).values())
        # The compiled code adds up two biases. Where there is one, the other is the zero after all parameters.
        zero = sum(math.prod(shape) for shape in self.shapes)
        indices = _split(np.arange(zero), self.shapes)
        packed = [_panels(indices[first], indices[first + 1]) for first in (0, 4)]
        self._packed_shapes = [[panels.shape for panels in layer] for layer in packed]
        self._weights = np.concatenate([panels.ravel() for layer in packed for panels in layer])
        self._biases = [_biases(indices[first], indices[first + 1], zero) for first in (2, 6)]
        self._gradient = self._gradient_order()
        self._flat = np.zeros(zero + 1, np.float32)
        self._packed = np.zeros(len(self._weights), np.float32)

    def layers(self, parameters: Sequence[NDArray[np.float32]]) -> tuple[Layer, Layer]:
        """Pack ``parameters``, which are in torch's order. The next call overwrites the result."""
        np.concatenate([parameter.ravel() for parameter in parameters], out=self._flat[:-1])
        np.take(self._flat, self._weights, out=self._packed, mode="clip")
        views = _split(self._packed, [shape for layer in self._packed_shapes for shape in layer])
        biases = [self._flat[first] + self._flat[second] for first, second in self._biases]
        return _layer(views[:5], biases[0]), _layer(views[5:], biases[1])

    def tapes(self, n_inputs: int, n_gates: int) -> tuple[Tape, Tape]:
        """Return the tapes of a tile, with room for ``n_inputs`` frames of inputs and ``n_gates`` frames of gates."""
        first, second = (
            Tape(_aligned(n_inputs, i + n, LANES), _aligned(n_gates, _filled(4 * n), LANES)) for i, n in self.sizes
        )
        return first, second

    def gradients(self) -> tuple[Gradient, Gradient]:
        """Return memory for the gradients of both layers."""
        first, second = (
            Gradient(
                weights=_aligned(i + n, _filled(3 * n)),
                biases=_aligned(4 * n, LANES),
                state=_aligned(n, LANES),
                transposed=_aligned(CHUNK, LANES, _filled(4 * n + LANES)),
            )
            for i, n in self.sizes
        )
        return first, second

    def parameter_gradients(self, gradients: Sequence[Gradient]) -> list[NDArray[np.float32]]:
        """Return the gradients of the parameters in torch's order."""
        parts = [part for g in gradients for part in (g.weights.ravel(), g.biases.sum(axis=1))]
        return _split(np.take(np.concatenate(parts), self._gradient, mode="clip"), self.shapes)

    def _gradient_order(self) -> NDArray[np.int64]:
        order = []
        start = 0
        for i, n in self.sizes:
            columns = _filled(3 * n)
            weights = start + np.arange((i + n) * columns).reshape(i + n, columns)
            biases = start + weights.size + np.arange(4 * n)
            from_inputs, from_state = weights[:i, : 3 * n].T, weights[i:, : 3 * n].T  # gates n, r, z; gates r, z, c
            order += [np.roll(from_inputs, -n, axis=0), from_state, np.roll(biases[: 3 * n], -n), biases[n:]]
            start += weights.size + biases.size
        return np.concatenate([part.ravel() for part in order])


def _filled(size: int) -> int:
    """Round up to a multiple of LANES."""
    return -(-size // LANES) * LANES


def _aligned(*shape: int) -> NDArray[np.float32]:
    """Return float32 zeros that begin at a cache line, so that no vector lies across two of them."""
    size = 4 * math.prod(shape)
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def _panels(w_i: NDArray[np.int64], w_h: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Arrange the weights ``[3 n, n_in]`` and ``[3 n, n]`` of a layer as in `Layer`, without biases."""
    n = w_h.shape[1]
    both = np.concatenate([w_i, w_h], axis=1)
    outputs = [w_i[2 * n :], both[: 2 * n], w_h[2 * n :], w_h.T, np.roll(w_i, n, axis=0).T]
    return [w.reshape(-1, ROWS, w.shape[1]).transpose(0, 2, 1) for w in outputs]


def _biases(b_i: NDArray[np.int64], b_h: NDArray[np.int64], zero: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the two summands of the packed biases, gates n, r, z, c."""
    n = len(b_i) // 3
    nothing = np.full(n, zero)
    return np.concatenate([np.roll(b_i, n), nothing]), np.concatenate([nothing, b_h])


def _layer(panels: Sequence[NDArray[np.float32]], biases: NDArray[np.float32]) -> Layer:
    new, reset_update, candidate, to_state, to_inputs = panels
    return Layer(new, reset_update, candidate, biases, to_state, to_inputs)


def _split(flat: NDArray[Any], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
    """Split a flat array into consecutive parts of these shapes."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat[: ends[-1]], ends[:-1]), shapes, strict=True)]
