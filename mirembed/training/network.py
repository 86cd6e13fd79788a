"""The recurrent network in torch, frames to embedding, and the engine that computes it with torch's own layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirembed.store.frame_file import reading_ahead
from mirembed.training.excerpts import EXCERPT_FRAMES, Normalization, Stream, gather

HIDDEN = 100
UNITS = 50
"""Sizes of the two recurrent layers; the second is the size of the embedding."""

EMBED_BATCH = 32


class one_thread:  # noqa: N801 - used as a function
    """Run torch on one thread within a ``with`` block: sums keep one order, and processes share the cores."""

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)


class EmbeddingNetwork(nn.Module):
    """Two recurrent layers and the mean over time: GRU 80→100, GRU 100→50.

    The gates have torch's form: the reset gate is applied after the matrix product.

    Parameters
    ----------
    inputs : int
        Values per frame: twice the number of bands.
    hidden, units : int
        Sizes of the layers.
    """

    def __init__(self, inputs: int, hidden: int = HIDDEN, units: int = UNITS) -> None:
        super().__init__()
        self.inputs, self.hidden, self.units = inputs, hidden, units
        self.first = nn.GRU(inputs, hidden, batch_first=True)
        self.second = nn.GRU(hidden, units, batch_first=True)

    @property
    def device(self) -> torch.device:
        """The device of all parameters."""
        return next(self.parameters()).device

    @property
    def on_cpu(self) -> bool:
        """Whether numpy can read the parameters where they are."""
        return self.device.type == "cpu"

    @property
    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """The parameters as arrays by name, in torch's order, without a copy; on the CPU only."""
        return {name: parameter.detach().numpy() for name, parameter in self.named_parameters()}

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        """Embed whole sequences.

        Parameters
        ----------
        frames : Tensor [batch, time, inputs]
        inside : Tensor [batch, time]
            1 for frames that count, 0 for the padding at the end of a short sequence.

        Returns
        -------
        Tensor [batch, units]
        """
        hidden, _ = self.first(frames)  # [batch, time, hidden]
        output, _ = self.second(hidden)  # [batch, time, units]
        weights = inside / inside.sum(dim=1, keepdim=True)  # [batch, time]
        embedding: Tensor = (output * weights[:, :, None]).sum(dim=1)  # [batch, units]
        return embedding


def seeded_network(inputs: int, seed: Sequence[int]) -> EmbeddingNetwork:
    """Return a network whose initial weights depend on ``seed`` alone."""
    network = EmbeddingNetwork(inputs)
    _seed_weights(network, [*seed, Stream.NETWORK])
    return network


def seeded_head(units: int, outputs: int, seed: Sequence[int]) -> nn.Linear:
    """Return a linear output layer whose initial weights depend on ``seed`` alone."""
    head = nn.Linear(units, outputs)
    _seed_weights(head, [*seed, Stream.HEAD])
    return head


def _seed_weights(module: nn.Module, seed: Sequence[int]) -> None:
    """Draw every parameter uniformly from ±1/√n, as torch does.

    For a GRU n is its number of units, for a linear layer its number of inputs.
    """
    rng = np.random.default_rng(list(seed))
    for layer in module.modules():
        if isinstance(layer, nn.GRU):
            bound = layer.hidden_size**-0.5
        elif isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
        else:
            continue
        for parameter in layer.parameters(recurse=False):
            values = rng.uniform(-bound, bound, parameter.shape).astype(np.float32)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(values))


def to_device(array: NDArray[np.generic], device: str | torch.device) -> Tensor:
    """Return an array as a tensor on a device."""
    return torch.from_numpy(array).to(device)


class TorchEngine:
    """Computes the network with torch's own layers, on any processor and device; an `Engine`.

    Parameters
    ----------
    network : EmbeddingNetwork
    """

    def __init__(self, network: EmbeddingNetwork) -> None:
        self._network = network

    def embed_excerpts(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        offsets: NDArray[np.int64],
        normalization: Normalization,
    ) -> Tensor:
        """See `mirembed.training.engine.Engine`."""
        device = self._network.device
        inputs, inside = gather(frames, starts, lengths, offsets, EXCERPT_FRAMES, normalization)
        embeddings: Tensor = self._network(to_device(inputs, device), to_device(inside, device))
        return embeddings

    @torch.inference_mode()
    def embed_tracks(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        normalization: Normalization,
    ) -> NDArray[np.float32]:
        """See `mirembed.training.engine.Engine`.

        Every matrix product has the same shape, whatever the number and lengths of the tracks: blocks of 100 frames
        of 32 tracks, with the state carried from block to block. That is why a track's embedding does not depend on
        its companions.
        """
        network, device = self._network, self._network.device
        embeddings = np.zeros((len(starts), network.units), np.float32)
        by_length = np.argsort(lengths, kind="stable")
        batches = [by_length[first : first + EMBED_BATCH] for first in range(0, len(starts), EMBED_BATCH)]
        with one_thread():
            for number in reading_ahead(frames, [(starts[rows], lengths[rows]) for rows in batches]):
                rows = batches[number]
                filled = np.resize(rows, EMBED_BATCH)
                first_state = second_state = None
                total = torch.zeros(EMBED_BATCH, network.units, device=device)
                for offset in range(0, int(lengths[filled].max()), EXCERPT_FRAMES):
                    offsets = np.full(EMBED_BATCH, offset, np.int64)
                    inputs, inside = gather(
                        frames, starts[filled], lengths[filled], offsets, EXCERPT_FRAMES, normalization
                    )
                    hidden, first_state = network.first(to_device(inputs, device), first_state)
                    output, second_state = network.second(hidden, second_state)
                    total += (output * to_device(inside, device)[:, :, None]).sum(dim=1)
                embeddings[rows] = total.cpu().numpy()[: len(rows)] / lengths[rows, None].astype(np.float32)
        return embeddings
