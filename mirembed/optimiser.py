"""Adadelta (Zeiler, arXiv:1212.5701)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adadelta import adadelta


class Adadelta:
    """Learning rate 1, rho 0.95, epsilon 1e-6; the numbers are those of `torch.optim.Adadelta`, to the bit.

    That class imports torch's compiler when the first object is made: a second and 90 MB in every worker process.
    The function beneath it does not.

    Parameters
    ----------
    parameters : iterable of Tensor
        Changed in place.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = list(parameters)
        self._square_avgs = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._acc_deltas = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._steps = [torch.zeros(()) for _ in self._parameters]

    def step(self, loss: Tensor) -> None:
        """Take a step down the gradient of ``loss``."""
        gradients = torch.autograd.grad(loss, self._parameters)
        with torch.no_grad():
            adadelta(
                self._parameters,
                list(gradients),
                self._square_avgs,
                self._acc_deltas,
                self._steps,
                foreach=False,
                lr=1.0,
                rho=0.95,
                eps=1e-6,
                weight_decay=0.0,
                maximize=False,
            )

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint has to keep: tensors by name."""
        kinds = {"square_avg": self._square_avgs, "acc_delta": self._acc_deltas, "step": self._steps}
        return {f"{number}.{kind}": tensor for kind, of_kind in kinds.items() for number, tensor in enumerate(of_kind)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`.

        Raises
        ------
        ValueError
            If it is the state of other parameters.
        """
        own = self.state()
        if state.keys() != own.keys():
            raise ValueError(f"the optimiser's state has {len(state)} tensors; expected {len(own)}")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise ValueError(f"{name} of the optimiser has the shape {tuple(state[name].shape)}")
            tensor.copy_(state[name])
