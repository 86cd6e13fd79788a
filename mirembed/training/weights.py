"""The weights of a network as arrays, as a model keeps them. Neither reading nor using them needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import ModelError, PluginError
from mirembed.registry import Registry
from mirembed.training.network import NetworkChoice, PluginNetwork

if TYPE_CHECKING:
    from torch import nn

    from mirembed.training.network import EmbeddingModule


@dataclass(frozen=True)
class NetworkWeights:
    """The weights of a network.

    Attributes
    ----------
    choice : NetworkChoice
        Which network it is.
    inputs, units : int
        Values per frame of its input, and of an embedding.
    arrays : mapping of str to ndarray
        Parameters and buffers by torch's names, in torch's order.
    registry : Registry
        Has the plugin that creates the module, where one is needed.
    """

    choice: NetworkChoice
    inputs: int
    units: int
    arrays: Mapping[str, NDArray[Any]]
    registry: Registry = field(repr=False, compare=False)

    @classmethod
    def of(cls, module: EmbeddingModule, choice: NetworkChoice, inputs: int, registry: Registry) -> NetworkWeights:
        """Copy the weights of a network on any device."""
        arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}
        return cls(choice, inputs, module.units, arrays, registry)

    def module(self) -> EmbeddingModule:
        """Return a torch module with these weights, on the CPU, for embedding.

        Raises
        ------
        UnknownNameError
            If the network's plugin is missing.
        ModelError
            If the plugin creates another network now.
        """
        import torch

        network = PluginNetwork.recorded(self.registry, self.choice)
        try:
            module = network.module(self.inputs)
            module.load_state_dict({name: torch.tensor(array) for name, array in self.arrays.items()})
        except (PluginError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise ModelError(
                f"the weights do not fit the {network.name}, which has changed since ({reason}); install the version "
                "that the model was fitted with, or fit the model again"
            ) from error
        module.eval()
        return module


@dataclass(frozen=True)
class Ensemble:
    """Networks that are used as one, with their embeddings side by side.

    Attributes
    ----------
    members : tuple of NetworkWeights
        The same network, trained from different seeds.
    """

    members: tuple[NetworkWeights, ...]

    @property
    def units(self) -> int:
        """Values of an embedding."""
        return sum(member.units for member in self.members)


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

    @classmethod
    def mean(cls, layers: Sequence[OutputLayer]) -> OutputLayer:
        """Return the layer whose outputs, for embeddings side by side, are the mean of the outputs of layers."""
        if len(layers) == 1:
            return layers[0]
        weight = np.concatenate([layer.weight for layer in layers], axis=1) / len(layers)
        return cls(weight.astype(np.float32), np.mean([layer.bias for layer in layers], axis=0).astype(np.float32))

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs ``[n, n_outputs]`` for ``embeddings [n, units]``."""
        # One track at a time: the rounding of a matrix product may depend on its number of rows.
        outputs = [self.weight @ embedding + self.bias for embedding in embeddings]
        return np.array(outputs, np.float32).reshape(-1, len(self.bias))
