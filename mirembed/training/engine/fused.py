"""The network by the fused kernel: what the rest of mirembed sees of it.

The kernel checks nothing, so everything that it is given is checked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirembed.store.frame_file import Runs, reading_ahead
from mirembed.training.engine import kernel
from mirembed.training.engine.packing import Packing, aligned
from mirembed.training.engine.vectors import LANES, ROWS
from mirembed.training.excerpts import EXCERPT_FRAMES, Normalization
from mirembed.training.network import EmbeddingNetwork


def supports(network: EmbeddingNetwork) -> bool:
    """Return whether the kernel can compute a network of this size, in this place."""
    sizes = (network.inputs, network.hidden, network.units)
    on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
    return on_cpu and all(size % ROWS == 0 for size in sizes) and network.inputs // 2 >= LANES


class FusedEngine:
    """Embeds excerpts, with gradients, and full tracks; see `mirembed.training.engine.Engine`.

    Parameters
    ----------
    network : EmbeddingNetwork
        On the CPU, of a size that the kernel `supports`. Its weights are read anew at each call.
    """

    def __init__(self, network: EmbeddingNetwork) -> None:
        self._network = network
        self._packing = Packing(network.inputs, network.hidden, network.units)
        self._gradients = self._packing.gradients()
        self._tapes: list[tuple[kernel.Tape, kernel.Tape]] = []
        self._on_tape: _Tiles | None = None

    def embed_excerpts(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        offsets: NDArray[np.int64],
        normalization: Normalization,
    ) -> Tensor:
        """Embed one excerpt of each track; the gradient has to be asked for before the next call."""
        tiles = _tiles(frames, starts, lengths, offsets, EXCERPT_FRAMES, normalization)
        while len(self._tapes) < len(tiles.n_frames):
            self._tapes.append(self._packing.tapes(EXCERPT_FRAMES + 1, EXCERPT_FRAMES))
        embeddings: Tensor = _Excerpts.apply(self, tiles, *self._network.parameters())  # type: ignore[no-untyped-call]
        return embeddings

    def embed_tracks(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        normalization: Normalization,
    ) -> NDArray[np.float32]:
        """Embed full tracks."""
        embeddings = np.zeros((len(starts), self._network.units), np.float32)
        if len(starts) == 0:
            return embeddings
        order = np.argsort(lengths, kind="stable")
        tiles = _tiles(frames, starts[order], lengths[order], np.zeros_like(order), None, normalization)
        layers = self._layers()
        tapes = self._packing.tapes(2, 1)
        out = tiles.room(self._network.units)
        for tile in reading_ahead(frames, tiles.runs()):
            kernel.forward(tiles.sequences, tile, tiles.n_frames[tile], *layers, *tapes, out)
        embeddings[order] = tiles.by_track(out)
        return embeddings

    def _layers(self) -> tuple[kernel.Layer, kernel.Layer]:
        return self._packing.layers([parameter.detach().numpy() for parameter in self._network.parameters()])

    def _forward(self, tiles: _Tiles) -> NDArray[np.float32]:
        self._layers_of_forward = self._layers()
        self._on_tape = tiles
        out = tiles.room(self._network.units)
        for tile, n_frames in enumerate(tiles.n_frames):
            kernel.forward(tiles.sequences, tile, n_frames, *self._layers_of_forward, *self._tapes[tile], out)
        return tiles.by_track(out)

    def _backward(self, tiles: _Tiles, gradient: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if self._on_tape is not tiles:
            raise RuntimeError("the gradient of an excerpt has to be asked for once, and before the next is embedded")
        self._on_tape = None  # the backward pass writes over it
        for layer in self._gradients:
            layer.weights[:] = 0
            layer.biases[:] = 0
        room = tiles.in_lanes(gradient)
        for tile, n_frames in enumerate(tiles.n_frames):
            kernel.backward(
                tiles.sequences, tile, n_frames, *self._layers_of_forward, *self._tapes[tile], room, *self._gradients
            )
        return self._packing.parameter_gradients(self._gradients)


class _Excerpts(torch.autograd.Function):
    """The kernel as a node of torch's graph, whose inputs are the network's parameters."""

    @staticmethod
    def forward(ctx: Any, engine: FusedEngine, tiles: _Tiles, *_parameters: Tensor) -> Tensor:
        ctx.engine, ctx.tiles = engine, tiles
        return torch.from_numpy(engine._forward(tiles))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        gradients = ctx.engine._backward(ctx.tiles, gradient.numpy())
        return None, None, *map(torch.from_numpy, gradients)


@dataclass(frozen=True)
class _Tiles:
    """A batch in tiles of LANES sequences. The last tile is filled up with sequences of weight 0."""

    sequences: kernel.Sequences
    n_frames: list[int]
    n_tracks: int

    def runs(self) -> list[Runs]:
        """Return the rows of each tile's tracks or excerpts."""
        return list(zip(self.sequences.first + self.sequences.offset, self.sequences.length, strict=True))

    def room(self, n_units: int) -> NDArray[np.float32]:
        """Return an array for embeddings in lanes: ``[n_tiles, n_units, LANES]``."""
        return aligned(len(self.n_frames), n_units, LANES)

    def by_track(self, in_lanes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the ``[n_tracks, n_units]`` of ``[n_tiles, n_units, LANES]``."""
        return np.ascontiguousarray(in_lanes.transpose(0, 2, 1).reshape(-1, in_lanes.shape[1])[: self.n_tracks])

    def in_lanes(self, by_track: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the ``[n_tiles, n_units, LANES]`` of ``[n_tracks, n_units]``, zeros where no track is."""
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
    """Check a batch and lay it out; of each track up to ``n_frames`` frames from its offset on."""
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
    read_only.flags.writeable = False  # the kernel is compiled for one kind of array
    sequences = kernel.Sequences(
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
    """Return values ``[n]`` as ``[n_tiles, LANES]``."""
    filled = np.full((-(-len(values) // LANES), LANES), filling, values.dtype)
    filled.ravel()[: len(values)] = values
    return filled
