"""A temporal convolutional network for mirembed.

Every `mirembed` command imports this module, so torch is imported only in `mirembed_tcn.module`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirembed import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirembed import NetworkModule


class Tcn:
    """Dilated convolutions over time, and the mean of their outputs.

    Parameters
    ----------
    channels : int
        Outputs of each layer, 1 or more.
    layers : int
        Number of convolutions, 1 or more. Each looks twice as far as the one before.
    units : int
        Size of the embedding, 1 or more.
    """

    def __init__(self, channels: int = 64, layers: int = 4, units: int = 50) -> None:
        for name, value in (("channels", channels), ("layers", layers), ("units", units)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        self.channels = channels
        self.layers = layers
        self.units = units

    def module(self, inputs: int) -> NetworkModule:
        """Return a new network."""
        from mirembed_tcn.module import Convolutions

        return Convolutions(inputs, self.channels, self.layers, self.units)


@hookimpl
def mirembed_register_networks(register: Callable[..., None]) -> None:
    """Register the network."""
    register("tcn", Tcn, summary="Dilated convolutions over time, and the mean of their outputs")
