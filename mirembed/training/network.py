"""The recurrent network: frames → embedding.

GRU 80→100, GRU 100→50, mean over time. The gates are torch's, with the reset gate after the matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirembed.store.frame_file import reading_ahead
from mirembed.training.excerpts import EXCERPT_FRAMES, Normalization, Stream, gather

if TYPE_CHECKING:
    from collections.abc import Sequence

HIDDEN = 100
UNITS = 50
"""Sizes of the two recurrent layers; the second is the size of the embedding."""

EMBED_BATCH = 32


class one_thread:  # noqa: N801 - used as a function
    """Run torch on one thread within a ``with`` block: sums then have one order, and processes share cores."""

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)


class EmbeddingNetwork(nn.Module):
    """Two recurrent layers and the mean over time.

    Parameters
    ----------
    inputs : int
        Values a frame: twice the number of bands.
    hidden, units : int
        Sizes of the layers.
    """

    def __init__(self, inputs: int, hidden: int = HIDDEN, units: int = UNITS) -> None:
        super().__init__()
        self.inputs, self.hidden, self.units = inputs, hidden, units
        self.first = nn.GRU(inputs, hidden, batch_first=True)
        self.second = nn.GRU(hidden, units, batch_first=True)

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        """Embed whole sequences.

        Parameters
        ----------
        frames : Tensor [batch, time, inputs]
        inside : Tensor [batch, time]
            1 for frames that count, 0 for what fills a short sequence up, which stands at its end.

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
    """Return a network whose weights depend on ``seed`` alone, drawn as torch draws them for a GRU."""
    network = EmbeddingNetwork(inputs)
    seed_weights(network, [*seed, Stream.NETWORK])
    return network


def seeded_head(units: int, outputs: int, seed: Sequence[int]) -> nn.Linear:
    """Return the linear output layer of the baselines, its weights depending on ``seed`` alone."""
    head = nn.Linear(units, outputs)
    seed_weights(head, [*seed, Stream.HEAD])
    return head


def seed_weights(module: nn.Module, seed: Sequence[int]) -> None:
    """Draw every parameter uniformly from ±1/√n.

    For a GRU n is its units, for a linear layer its inputs: the ranges of torch's own initialization.
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


@torch.inference_mode()
def embed(
    network: EmbeddingNetwork,
    frames: NDArray[np.float32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    normalization: Normalization,
) -> NDArray[np.float32]:
    """Embed full tracks.

    Every matrix product has the same shape, whatever the number and the lengths of the tracks: blocks of 100
    frames of 32 tracks, the state carried from block to block. So a track's embedding does not depend on its
    companions, to the bit.

    Parameters
    ----------
    network : EmbeddingNetwork
    frames : ndarray [total_frames, n_bands], dB
    starts, lengths : ndarray [n_tracks]
        First row and number of frames of each track.
    normalization : Normalization

    Returns
    -------
    ndarray [n_tracks, units], float32
    """
    embeddings = np.zeros((len(starts), network.units), np.float32)
    by_length = np.argsort(lengths, kind="stable")
    batches = [by_length[first : first + EMBED_BATCH] for first in range(0, len(starts), EMBED_BATCH)]
    for number in reading_ahead(frames, [(starts[rows], lengths[rows]) for rows in batches]):
        rows = batches[number]
        filled = np.resize(rows, EMBED_BATCH)
        sums = _sum_outputs(network, frames, starts[filled], lengths[filled], normalization)
        embeddings[rows] = sums[: len(rows)] / lengths[rows, None].astype(np.float32)
    return embeddings


def _sum_outputs(
    network: EmbeddingNetwork,
    frames: NDArray[np.float32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    normalization: Normalization,
) -> NDArray[np.float32]:
    """Return the sums over time of the last layer's outputs: ndarray ``[EMBED_BATCH, units]``."""
    device = next(network.parameters()).device
    first_state = second_state = None
    total = torch.zeros(EMBED_BATCH, network.units, device=device)
    for offset in range(0, int(lengths.max()), EXCERPT_FRAMES):
        offsets = np.full(EMBED_BATCH, offset, np.int64)
        inputs, inside = gather(frames, starts, lengths, offsets, EXCERPT_FRAMES, normalization)
        hidden, first_state = network.first(torch.from_numpy(inputs).to(device), first_state)
        output, second_state = network.second(hidden, second_state)
        total += (output * torch.from_numpy(inside).to(device)[:, :, None]).sum(dim=1)
    return np.asarray(total.cpu().numpy())
