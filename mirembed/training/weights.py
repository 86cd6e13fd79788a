"""The weights of a network as arrays, as a model keeps them. Neither reading nor using them needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from mirembed.training.network import EmbeddingNetwork


def parameter_shapes(inputs: int, hidden: int, units: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the network's parameters by torch's names, in torch's order.

    The rows of each hold the gates r, z and n.
    """
    return {
        f"{layer}.{name}_l0": shape
        for layer, n_in, n in (("first", inputs, hidden), ("second", hidden, units))
        for name, shape in (
            ("weight_ih", (3 * n, n_in)),
            ("weight_hh", (3 * n, n)),
            ("bias_ih", (3 * n,)),
            ("bias_hh", (3 * n,)),
        )
    }


@dataclass(frozen=True)
class NetworkWeights:
    """The weights of an `mirembed.training.network.EmbeddingNetwork`.

    Attributes
    ----------
    inputs, hidden, units : int
        Values per frame, and the sizes of the two layers.
    arrays : dict of str to ndarray, float32
        The parameters by torch's names, in torch's order.
    """

    inputs: int
    hidden: int
    units: int
    arrays: Mapping[str, NDArray[np.float32]]

    on_cpu = True

    def __post_init__(self) -> None:
        expected = parameter_shapes(self.inputs, self.hidden, self.units)
        found = {name: array.shape for name, array in self.arrays.items()}
        if found != expected:
            raise ValueError(f"the network's arrays have the shapes {found}; expected {expected}")
        object.__setattr__(self, "arrays", {name: self.arrays[name] for name in expected})

    @classmethod
    def of(cls, network: EmbeddingNetwork) -> NetworkWeights:
        """Copy the weights of a network on any device."""
        arrays = {name: parameter.detach().cpu().numpy().copy() for name, parameter in network.named_parameters()}
        return cls(network.inputs, network.hidden, network.units, arrays)

    def module(self) -> EmbeddingNetwork:
        """Return a torch module with these weights, on the CPU."""
        import torch

        from mirembed.training.network import EmbeddingNetwork

        network = EmbeddingNetwork(self.inputs, self.hidden, self.units)
        network.load_state_dict({name: torch.tensor(array) for name, array in self.arrays.items()})
        return network.eval()


@dataclass(frozen=True)
class OutputLayer:
    """The linear output layer of the approach ``nn``.

    Attributes
    ----------
    weight : ndarray [n_outputs, units], float32
    bias : ndarray [n_outputs], float32
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def of(cls, layer: nn.Linear) -> OutputLayer:
        """Copy the weights of a layer on any device."""
        return cls(*(parameter.detach().cpu().numpy().copy() for parameter in (layer.weight, layer.bias)))

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs ``[n, n_outputs]`` for ``embeddings [n, units]``."""
        # One track at a time: the rounding of a matrix product may depend on its number of rows.
        outputs = [self.weight @ embedding + self.bias for embedding in embeddings]
        return np.array(outputs, np.float32).reshape(-1, len(self.bias))
