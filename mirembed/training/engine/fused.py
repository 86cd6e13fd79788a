"""The fused engine: the way that the rest of mirembed uses it.

The compiled code of `mirembed.training.engine.gru` checks nothing, so all its arguments are checked here.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mirembed.interruption import interruptible
from mirembed.store.frame_file import Runs, reading_ahead
from mirembed.training.engine import gru
from mirembed.training.engine.gru import CHUNK, Gradient, Layer, Tape, Work
from mirembed.training.engine.vectors import LANES, ROWS, WIDTH
from mirembed.training.excerpts import InputForm, Normalization

if TYPE_CHECKING:
    from torch import Tensor
    from torch.autograd import Function

    from mirembed.training.network import EmbeddingModule

_ALIGNMENT = 64


def parameter_shapes(inputs: int, hidden: int, units: int) -> list[tuple[int, ...]]:
    """Return the shapes of the parameters in torch's order: of each layer W_i, W_h, b_i and b_h.

    The rows of each hold the gates r, z and n.
    """
    return [
        shape
        for n_in, n in ((inputs, hidden), (hidden, units))
        for shape in ((3 * n, n_in), (3 * n, n), (3 * n,), (3 * n,))
    ]


class FusedEngine:
    """Computes two GRU layers and the mean over time with code compiled for this processor; an `Engine`.

    Parameters
    ----------
    network : EmbeddingModule, or sequence of ndarray
        With the parameters of `parameter_shapes`, on the CPU. Only a module can embed excerpts, for its gradients.
    sizes : (int, int)
        Units of the two layers.
    form : InputForm
        With differences.
    """

    def __init__(
        self,
        network: EmbeddingModule | Sequence[NDArray[np.float32]],
        sizes: tuple[int, int],
        form: InputForm | None = None,
    ) -> None:
        self._network, self._form = network, form or InputForm()
        self._units = sizes[1]
        self._packing = Packing(self._arrays()[0].shape[1], *sizes)
        self._gradients = self._packing.gradients()
        self._work = self._packing.work()
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
        assert not isinstance(self._network, Sequence)  # noqa: S101
        tiles = _tiles(frames, starts, lengths, offsets, self._form.excerpt, normalization)
        longest = self._form.padded(lengths)
        if self._tapes and len(self._tapes[0][0].gates) < longest:
            self._tapes.clear()
        while len(self._tapes) < len(tiles.n_frames):
            self._tapes.append(self._packing.tapes(longest + 1, longest))
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
        embeddings = np.zeros((len(starts), self._units), np.float32)
        if len(starts) == 0:
            return embeddings
        order = np.argsort(lengths, kind="stable")
        tiles = _tiles(frames, starts[order], lengths[order], np.zeros_like(order), None, normalization)
        layers = self._layers()
        tapes = self._packing.tapes(2, 1)
        out = tiles.room(self._packing.units)
        for tile in reading_ahead(frames, tiles.runs()):
            with interruptible():  # several hours of music take seconds
                gru.forward(tiles.sequences, tile, tiles.n_frames[tile], *layers, *tapes, out, self._work)
        embeddings[order] = tiles.by_track(out, self._units)
        return embeddings

    def _arrays(self) -> list[NDArray[np.float32]]:
        """Return the parameters in torch's order, without a copy."""
        if isinstance(self._network, Sequence):
            return list(self._network)
        return [parameter.detach().numpy() for parameter in self._network.parameters()]

    def _layers(self) -> tuple[Layer, Layer]:
        return self._packing.layers(self._arrays())

    def _forward(self, tiles: _Tiles) -> NDArray[np.float32]:
        self._layers_of_forward = self._layers()
        self._on_tape = tiles
        out = tiles.room(self._packing.units)
        for tile, n_frames in enumerate(tiles.n_frames):
            tapes = self._tapes[tile]
            gru.forward(tiles.sequences, tile, n_frames, *self._layers_of_forward, *tapes, out, self._work)
        return tiles.by_track(out, self._units)

    def _backward(self, tiles: _Tiles, gradient: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if self._on_tape is not tiles:
            raise RuntimeError("take the gradient of an excerpt once, and before embedding the next")
        self._on_tape = None  # the backward pass overwrites the tape
        self._gradients.flat[:] = 0
        self._gradients.biases[:] = 0
        room = tiles.in_lanes(gradient, self._packing.units)
        for tile, n_frames in enumerate(tiles.n_frames):
            given = *self._layers_of_forward, *self._tapes[tile], room
            gru.backward(tiles.sequences, tile, n_frames, *given, self._work, *self._gradients.of_layers)
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
        return np.zeros((len(self.n_frames), n_units, LANES), np.float32)

    def by_track(self, in_lanes: NDArray[np.float32], n_units: int) -> NDArray[np.float32]:
        """Rearrange ``[n_tiles, n_units or more, LANES]`` to ``[n_tracks, n_units]``."""
        rows = in_lanes.transpose(0, 2, 1).reshape(-1, in_lanes.shape[1])
        return np.ascontiguousarray(rows[: self.n_tracks, :n_units])

    def in_lanes(self, by_track: NDArray[np.float32], n_units: int) -> NDArray[np.float32]:
        """Rearrange ``[n_tracks, n_units or fewer]`` to ``[n_tiles, n_units, LANES]``, with zeros elsewhere."""
        filled = np.zeros((len(self.n_frames) * LANES, n_units), np.float32)
        filled[: self.n_tracks, : by_track.shape[1]] = by_track
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
    n_values = len(normalization.mean)
    if frames.dtype != np.float32 or frames.ndim != 2 or frames.shape[1] != n_values or not frames.flags.c_contiguous:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; expected float32 [total frames, {n_values}]")
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


class Gradients(NamedTuple):
    """Memory for the gradients of both layers."""

    flat: NDArray[np.float32]
    """The weights of both layers, and room for the biases summed over the lanes."""
    biases: NDArray[np.float32]  # [4 n of both layers, LANES]
    of_layers: tuple[Gradient, Gradient]
    """Their weights and biases are views of the above."""


class Packing:
    """The weights in the order in which the compiled code reads them, and its gradients in torch's order.

    Both orders are permutations. They are found once, by arranging the indices of the elements in place of the
    elements; a step of training then costs one `numpy.take` each way.

    The compiled code takes sizes that are multiples of ROWS. Others are filled up with inputs and units whose weights
    are 0: such a unit stays 0, and so do all gradients through it.

    Parameters
    ----------
    n_in, n_hidden, n_units : int
        Sizes of the input and of the two layers.

    Attributes
    ----------
    units : int
        ``n_units``, filled up.
    """

    def __init__(self, n_in: int, n_hidden: int, n_units: int) -> None:
        self.true_sizes = [(n_in, n_hidden), (n_hidden, n_units)]
        filled = [_filled(size, ROWS) for size in (n_in, n_hidden, n_units)]
        self.sizes = list(itertools.pairwise(filled))
        self.units = filled[-1]
        self.shapes = parameter_shapes(n_in, n_hidden, n_units)
        # The compiled code adds up two biases. Where there is one, the other is the zero after all parameters.
        zero = sum(math.prod(shape) for shape in self.shapes)
        filled_shapes = parameter_shapes(*filled)
        indices = [
            _fill_up(index, shape, zero)
            for index, shape in zip(_split(np.arange(zero), self.shapes), filled_shapes, strict=True)
        ]
        panels = [of_layer for first in (0, 4) for of_layer in _panels(indices[first], indices[first + 1])]
        biases = [_biases(indices[first], indices[first + 1], zero) for first in (2, 6)]
        summands = [np.concatenate(of_layers) for of_layers in zip(*biases, strict=True)]
        self._order = np.concatenate([part.ravel() for part in (*panels, *summands)])
        self._flat = np.zeros(zero + 1, np.float32)
        self._packed = np.zeros(len(self._order), np.float32)
        parts = _split(self._packed, [part.shape for part in (*panels, *summands)])
        self._summands = parts[-2:]
        biases1, biases2 = np.split(self._summands[0], [4 * filled[1]])
        self._layers = Layer(parts[0], biases1, *parts[1:3]), Layer(parts[3], biases2, *parts[4:6])
        self._gradient_order = self._find_gradient_order()

    def layers(self, parameters: Sequence[NDArray[np.float32]]) -> tuple[Layer, Layer]:
        """Pack ``parameters``, which are in torch's order. The next call overwrites the result."""
        np.concatenate([parameter.ravel() for parameter in parameters], out=self._flat[:-1])
        np.take(self._flat, self._order, out=self._packed, mode="clip")
        self._summands[0] += self._summands[1]
        return self._layers

    def tapes(self, n_inputs: int, n_gates: int) -> tuple[Tape, Tape]:
        """Return the tapes of a tile, with room for ``n_inputs`` frames of inputs and ``n_gates`` frames of gates."""
        shapes = [
            shape for i, n in self.sizes for shape in ((n_inputs, i + n, LANES), (n_gates, _filled(4 * n), LANES))
        ]
        inputs1, gates1, inputs2, gates2 = _aligned(*shapes)
        return Tape(inputs1, gates1), Tape(inputs2, gates2)

    def gradients(self) -> Gradients:
        """Return memory for the gradients of both layers."""
        blocks = [_filled(4 * n) // LANES for _, n in self.sizes]
        weights = [(block, i + n, LANES) for block, (i, n) in zip(blocks, self.sizes, strict=True)]
        n_weights, n_biases = sum(map(math.prod, weights)), sum(4 * n for _, n in self.sizes)
        states = [(n, LANES) for _, n in self.sizes]
        transposed = [(block, CHUNK * LANES, LANES) for block in blocks]
        flat, biases, *memory = _aligned((n_weights + n_biases,), (n_biases, LANES), *states, *transposed)
        of_layers = _split(flat, weights), np.split(biases, [4 * states[0][0]]), memory[:2], memory[2:]
        first, second = map(Gradient, *of_layers)
        return Gradients(flat, biases, (first, second))

    def work(self) -> Work:
        """Return working memory."""
        values = _filled(self.true_sizes[0][0] // 2, WIDTH)
        outputs = self.units, LANES
        return Work(*_aligned((LANES, values), (values, LANES), (values, LANES), (LANES,), (1, *outputs), outputs))

    def parameter_gradients(self, gradients: Gradients) -> list[NDArray[np.float32]]:
        """Return the gradients of the parameters in torch's order."""
        np.sum(gradients.biases, axis=1, out=gradients.flat[-len(gradients.biases) :])
        return _split(np.take(gradients.flat, self._gradient_order, mode="clip"), self.shapes)

    def _find_gradient_order(self) -> NDArray[np.int64]:
        sizes = [(_filled(4 * n) // LANES, i + n, LANES) for i, n in self.sizes]
        biases_of = [(4 * n,) for _, n in self.sizes]
        index = np.arange(sum(map(math.prod, [*sizes, *biases_of])))
        *weights_of_layers, biases1, biases2 = _split(index, [*sizes, *biases_of])
        order = []
        for (i, n), true, weights, biases in zip(
            self.sizes, self.true_sizes, weights_of_layers, (biases1, biases2), strict=True
        ):
            by_gate = weights.transpose(0, 2, 1).reshape(-1, i + n)  # [4 n (filled up), i + n]
            from_inputs, from_state = by_gate[: 3 * n, :i], by_gate[n : 4 * n, i:]  # gates n, r, z; gates r, z, c
            order += [
                _cut(np.roll(from_inputs, -n, axis=0), *true),
                _cut(from_state, true[1], true[1]),
                _cut(np.roll(biases[: 3 * n], -n), *true),
                _cut(biases[n:], *true),
            ]
        return np.concatenate([part.ravel() for part in order])


def _filled(size: int, unit: int = LANES) -> int:
    """Round up to a multiple of a unit."""
    return -(-size // unit) * unit


def _fill_up(index: NDArray[np.int64], shape: tuple[int, ...], filling: int) -> NDArray[np.int64]:
    """Fill up a parameter, ``[3 n]`` or ``[3 n, n_in]``, to a larger shape, gate by gate."""
    gates, larger = index.reshape(3, -1, *index.shape[1:]), (3, shape[0] // 3, *shape[1:])
    widths = [(0, new - old) for new, old in zip(larger, gates.shape, strict=True)]
    return np.pad(gates, widths, constant_values=filling).reshape(shape)


def _cut(index: NDArray[np.int64], n_in: int, n: int) -> NDArray[np.int64]:
    """Take what `_fill_up` has added from a parameter of a layer of ``n`` units."""
    gates = index.reshape(3, -1, *index.shape[1:])[:, :n]
    return gates if index.ndim == 1 else gates[:, :, :n_in]


def _aligned(*shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """Return float32 zeros in one piece of memory, each array from the start of a cache line on.

    So no vector lies across two lines, and the system can use huge pages for it.
    """
    sizes = [_filled(4 * math.prod(shape), _ALIGNMENT) for shape in shapes]
    memory = np.zeros(sum(sizes) + _ALIGNMENT, np.uint8)
    starts = np.cumsum([-memory.ctypes.data % _ALIGNMENT, *sizes])
    return [
        memory[start : start + 4 * math.prod(shape)].view(np.float32).reshape(shape)
        for start, shape in zip(starts, shapes, strict=False)
    ]


def _panels(w_i: NDArray[np.int64], w_h: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Arrange the weights ``[3 n, n_in]`` and ``[3 n, n]`` of a layer as in `Layer`, without biases."""
    i, h = (_in_panels(w).reshape(3, -1, w.shape[1], ROWS) for w in (w_i, w_h))  # [gate, panel, n_in or n, ROWS]
    gates = np.concatenate([i[2], i[0], h[0], i[1], h[1], h[2]], axis=1)
    return [gates, _in_panels(w_h.T), _in_panels(np.roll(w_i, len(w_i) // 3, axis=0).T)]


def _in_panels(w: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reshape ``[n_outputs, n_inputs]`` to ``[n_outputs / ROWS, n_inputs, ROWS]``."""
    return w.reshape(-1, ROWS, w.shape[1]).transpose(0, 2, 1)


def _biases(b_i: NDArray[np.int64], b_h: NDArray[np.int64], zero: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the two summands of the packed biases, gates n, r, z, c."""
    n = len(b_i) // 3
    nothing = np.full(n, zero)
    return np.concatenate([np.roll(b_i, n), nothing]), np.concatenate([nothing, b_h])


def _split(flat: NDArray[Any], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
    """Split a flat array into consecutive parts of these shapes."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat[: ends[-1]], ends[:-1]), shapes, strict=True)]
