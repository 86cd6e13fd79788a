"""The network as a torch module."""

from __future__ import annotations

from torch import Tensor, nn


class Convolutions(nn.Module):
    """Convolutions of three frames that lie 1, 2, 4, ... frames apart; see `mirembed_tcn.Tcn` for the parameters."""

    def __init__(self, inputs: int, channels: int, layers: int, units: int) -> None:
        super().__init__()
        sizes = [inputs, *[channels] * layers]
        self.layers = nn.ModuleList(
            nn.Conv1d(sizes[number], channels, kernel_size=3, padding=2**number, dilation=2**number)
            for number in range(layers)
        )
        self.output = nn.Linear(channels, units)
        self.units = units

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        """Embed sequences: from ``[batch, time, inputs]`` to ``[batch, units]``."""
        mask = inside[:, None, :]  # [batch, 1, time]
        outputs = frames.mT  # [batch, inputs, time]
        for layer in self.layers:
            # After the end of a track there must be zeros, as there are after the end of the batch.
            outputs = layer(outputs * mask).relu()  # [batch, channels, time]
        mean = (outputs * mask).sum(dim=2) / mask.sum(dim=2)  # [batch, channels]
        embedding: Tensor = self.output(mean)
        return embedding
