"""The network by torch's own layers: on any processor and device, and what the kernel is measured against."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirembed.training.excerpts import EXCERPT_FRAMES, Normalization, gather
from mirembed.training.network import EmbeddingNetwork, embed


class PlainEngine:
    """Embeds excerpts, with gradients, and full tracks; see `mirembed.training.engine.Engine`.

    Parameters
    ----------
    network : EmbeddingNetwork
        On any device.
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
        """Embed one excerpt of each track."""
        device = next(self._network.parameters()).device
        inputs, inside = gather(frames, starts, lengths, offsets, EXCERPT_FRAMES, normalization)
        embeddings: Tensor = self._network(torch.from_numpy(inputs).to(device), torch.from_numpy(inside).to(device))
        return embeddings

    def embed_tracks(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        normalization: Normalization,
    ) -> NDArray[np.float32]:
        """Embed full tracks."""
        return embed(self._network, frames, starts, lengths, normalization)
