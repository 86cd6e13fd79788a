"""The built-in networks."""

from __future__ import annotations

from mirembed import Register, hookimpl
from mirembed_networks.networks import Crnn, Gru, Mlp


@hookimpl
def mirembed_register_networks(register: Register) -> None:
    """Register the built-in networks."""
    register("gru", Gru, summary="Recurrent layers, GRU or LSTM, and the mean over time")
    register("crnn", Crnn, summary="Convolutions over frames and values, then recurrent layers")
    register("mlp", Mlp, summary="Fully connected layers for each frame, and the mean over time")
