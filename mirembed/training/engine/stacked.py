"""Many networks of one size at once: their parameters stacked, so that one operation serves all of them.

A GPU is quick with large operations and slow with many small ones, and a single network of this size has only small
ones. Stacked, a layer's input projections are one batched matrix product over all networks and frames, a step in time
is a handful of operations, and the weight gradients are batched products again. What is left is the number of steps in
time; CUDA replays them from a graph, recorded once, without Python.

The gradients are written out and not left to autograd, which would add up the recurrent weights' gradients step by
step. In the shapes, K networks have T frames of B excerpts, and a layer U units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirembed.store.mapped import each_run
from mirembed.training.excerpts import EXCERPT_FRAMES, Normalization
from mirembed.training.network import EmbeddingNetwork

Result = TypeVar("Result")

COPIED_FRAMES = 2**14
"""Copied to the device at a time."""


class StackedEngine:
    """Embeds excerpts by many networks, each its own excerpts, with the gradients of all parameters.

    Parameters
    ----------
    networks : sequence of EmbeddingNetwork
        All of one size and on one device. From here on their parameters are views of the stack: what changes one
        changes the other.
    normalizations : sequence of Normalization
        One for each network.
    frames : ndarray [total_frames, n_bands], dB
        Of all tracks; copied to the device.
    places : int
        Networks that the stack has room for. A batched product may round otherwise for another number of matrices,
        so a stack keeps its size when fewer networks are left to train; the other places compute zeros.
    batch : int
        Excerpts that each network takes at once, at most.
    """

    def __init__(
        self,
        networks: Sequence[EmbeddingNetwork],
        normalizations: Sequence[Normalization],
        frames: NDArray[np.float32],
        places: int,
        batch: int,
    ) -> None:
        device = next(networks[0].parameters()).device
        self._layers = _stack(networks, places)
        self._frames = _copy(frames, device)
        self._mean = torch.zeros(places, 1, 1, frames.shape[1], device=device)
        self._std = torch.ones(places, 1, 1, frames.shape[1], device=device)
        for place, normalization in enumerate(normalizations):
            self._mean[place] = torch.from_numpy(normalization.mean)
            self._std[place] = torch.from_numpy(normalization.std)
        # A recorded graph reads its arguments here, at every replay.
        self._excerpts = torch.from_numpy(no_excerpts(places, batch)).to(device)
        self._gradient = torch.zeros(places, batch, networks[0].units, device=device)
        self._forward = _Recorded(self._compute_embeddings, device)
        self._backward = _Recorded(self._compute_gradients, device)

    def embed_excerpts(self, excerpts: Tensor) -> Tensor:
        """Embed a batch of each network: Tensor ``[K, B, units]``, without a gradient and good until the next call.

        Parameters
        ----------
        excerpts : Tensor [3, K, B], int64
            Of each excerpt the first row of its track, the track's number of frames, and the excerpt's first frame,
            counted from the track's start; see `no_excerpts`.
        """
        self._excerpts.copy_(excerpts)
        self._embedded = self._forward()
        return self._embedded.embeddings

    def gradients(self, gradient: Tensor) -> list[Tensor]:
        """Return the gradients of the parameters in the latest batch.

        Parameters
        ----------
        gradient : Tensor [K, B, units]
            Of the embeddings; 0 for what does not count.

        Returns
        -------
        list of Tensor [K, ...]
            In the order of a network's ``parameters()``; good until the next call.
        """
        self._gradient.copy_(gradient)
        return self._backward()

    def _compute_embeddings(self) -> _Embedded:
        inputs, weights = self._gather()
        first = _forward(inputs, self._layers[0])
        second = _forward(first.outputs, self._layers[1])
        return _Embedded((second.outputs * weights).sum(dim=1), weights, first, second)

    def _compute_gradients(self) -> list[Tensor]:
        _, weights, first, second = self._embedded
        outputs = self._gradient[:, None] * weights  # [K, T, B, units]
        inputs, of_second = _backward(second, self._layers[1], outputs)
        hidden = torch.bmm(inputs.flatten(1, 2), self._layers[1].input_weights)
        _, of_first = _backward(first, self._layers[0], hidden.view_as(first.outputs))
        return [*of_first, *of_second]

    def _gather(self) -> tuple[Tensor, Tensor]:
        """Cut out the excerpts as `gather` does: ``[K, T, B, inputs]`` and weights ``[K, T, B, 1]``.

        The weights make the sum over an excerpt's frames the mean over those that are inside the track.
        """
        starts, lengths, offsets = self._excerpts[:, :, None]  # [K, 1, B] each
        position = offsets + torch.arange(EXCERPT_FRAMES, device=offsets.device)[:, None]  # [K, T, B]
        inside = (position < lengths).float()
        position = torch.minimum(position, lengths - 1)
        now = self._frames[starts + position]  # [K, T, B, n_bands]
        before = self._frames[starts + (position - 1).clamp(min=0)]
        inputs = torch.cat([(now - self._mean) / self._std, (now - before) / self._std], dim=3)
        return inputs, (inside / inside.sum(dim=1, keepdim=True))[..., None]


def no_excerpts(*shape: int) -> NDArray[np.int64]:
    """Return excerpts of one frame, for the places of a stack where there are none: ndarray ``[3, *shape]``."""
    excerpts = np.zeros((3, *shape), np.int64)
    excerpts[1] = 1
    return excerpts


class _Layer(NamedTuple):
    """The parameters of a layer in the order of `torch.nn.GRU`; its gates are reset, update and candidate."""

    input_weights: Tensor  # [K, 3 U, inputs]
    hidden_weights: Tensor  # [K, 3 U, U]
    input_biases: Tensor  # [K, 3 U]
    hidden_biases: Tensor  # [K, 3 U]


class _Tape(NamedTuple):
    """What the backward pass needs of a layer's forward pass."""

    inputs: Tensor  # [K, T, B, inputs]
    states: Tensor  # [K, T + 1, B, U], those before the first frame being 0
    gates: Tensor  # [K, T, B, 2 U], reset and update
    candidates: Tensor  # [K, T, B, U]
    recurrent: Tensor  # [K, T, B, U], what the reset gate multiplies

    @property
    def outputs(self) -> Tensor:
        return self.states[:, 1:]


class _Embedded(NamedTuple):
    embeddings: Tensor  # [K, B, units]
    weights: Tensor  # [K, T, B, 1]
    first: _Tape
    second: _Tape


def _copy(frames: NDArray[np.float32], device: torch.device) -> Tensor:
    """Copy frames to a device, run by run, so that of a mapped file little is in memory at a time."""
    copied = torch.empty(frames.shape, device=device)
    first = np.arange(0, len(frames), COPIED_FRAMES)
    counts = np.minimum(len(frames) - first, COPIED_FRAMES)
    for start, run in zip(first.tolist(), each_run(frames, first, counts), strict=True):
        copied[start : start + len(run)] = torch.tensor(np.asarray(run))
    return copied


def _stack(networks: Sequence[EmbeddingNetwork], places: int) -> tuple[_Layer, _Layer]:
    """Copy the parameters into stacks, and make the networks' own parameters views of these."""
    stacks = []
    for same in zip(*(network.parameters() for network in networks), strict=True):
        stack = same[0].new_zeros(places, *same[0].shape, requires_grad=False)
        for place, parameter in enumerate(same):
            stack[place] = parameter.detach()
            parameter.data = stack[place]
        stacks.append(stack)
    return _Layer(*stacks[:4]), _Layer(*stacks[4:])


def _forward(inputs: Tensor, layer: _Layer) -> _Tape:
    """Run a layer over inputs ``[K, T, B, inputs]``."""
    n_networks, n_frames, batch, _ = inputs.shape
    units = layer.hidden_weights.shape[2]
    projected = torch.baddbmm(layer.input_biases[:, None], inputs.flatten(1, 2), layer.input_weights.mT)
    projected = projected.view(n_networks, n_frames, batch, 3 * units)
    state = inputs.new_zeros(n_networks, batch, units)
    states, gates, candidates, recurrent = [state], [], [], []
    for frame in projected.unbind(dim=1):  # [K, B, 3 U]
        hidden = torch.baddbmm(layer.hidden_biases[:, None], state, layer.hidden_weights.mT)  # [K, B, 3 U]
        gate = torch.sigmoid(frame[..., : 2 * units] + hidden[..., : 2 * units])
        reset, update = gate.chunk(2, dim=2)
        recurrent.append(hidden[..., 2 * units :])
        candidate = torch.tanh(torch.addcmul(frame[..., 2 * units :], reset, recurrent[-1]))
        state = torch.addcmul(candidate, update, state - candidate)
        states.append(state)
        gates.append(gate)
        candidates.append(candidate)
    return _Tape(inputs, *(torch.stack(values, dim=1) for values in (states, gates, candidates, recurrent)))


def _backward(tape: _Tape, layer: _Layer, gradient: Tensor) -> tuple[Tensor, _Layer]:
    """Return the gradients of a layer's input projections ``[K, T, B, 3 U]`` and of its parameters.

    Parameters
    ----------
    gradient : Tensor [K, T, B, U]
        Of the layer's outputs.
    """
    before, candidates = tape.states[:, :-1], tape.candidates
    reset, update = tape.gates.chunk(2, dim=3)
    # What a state's gradient is multiplied with on its way into the sums of each gate, for all frames at once.
    into_candidate = (1 - update) * (1 - candidates.square())
    into_reset = into_candidate * tape.recurrent * reset * (1 - reset)
    into_update = (before - candidates) * update * (1 - update)
    into_hidden = torch.stack([into_reset, into_update, into_candidate * reset], dim=3)  # [K, T, B, 3, U]
    of_state = gradient[:, -1]  # [K, B, U]
    of_states, of_hidden = [], []
    for frame in range(gradient.shape[1] - 1, -1, -1):
        of_states.append(of_state)
        of_hidden.append((into_hidden[:, frame] * of_state[:, :, None]).flatten(2))  # [K, B, 3 U]
        if frame > 0:
            passed_on = torch.addcmul(gradient[:, frame - 1], of_state, update[:, frame])
            of_state = torch.baddbmm(passed_on, of_hidden[-1], layer.hidden_weights)
    states = torch.stack(of_states[::-1], dim=1)  # [K, T, B, U]
    hidden = torch.stack(of_hidden[::-1], dim=1).flatten(1, 2)  # [K, T B, 3 U]
    inputs = torch.cat([states * into_reset, states * into_update, states * into_candidate], dim=3)
    projected = inputs.flatten(1, 2)  # [K, T B, 3 U]
    return inputs, _Layer(
        torch.bmm(projected.mT, tape.inputs.flatten(1, 2)),
        torch.bmm(hidden.mT, before.flatten(1, 2)),
        projected.sum(dim=1),
        hidden.sum(dim=1),
    )


class _Recorded(Generic[Result]):
    """A computation on tensors that stay where they are: on CUDA recorded in a graph and replayed, elsewhere called.

    Parameters
    ----------
    function : callable
        The same operations on the same tensors, of the same shapes, at each call.
    device : torch.device
    """

    def __init__(self, function: Callable[[], Result], device: torch.device) -> None:
        self._function = function
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None

    @torch.no_grad()
    def __call__(self) -> Result:
        if self._device.type != "cuda":
            return self._function()
        if self._graph is None:
            self._record()
        assert self._graph is not None  # noqa: S101
        self._graph.replay()
        return self._result

    def _record(self) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries prepare themselves at the first call, which no graph may hold
            self._function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._result = self._function()
        self._graph = graph
