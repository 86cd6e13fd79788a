"""Adadelta (Zeiler, arXiv:1212.5701)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
        step_together([self], [torch.autograd.grad(loss, self._parameters)], foreach=False)

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


@torch.no_grad()
def step_together(
    optimisers: Sequence[Adadelta], gradients: Sequence[Sequence[Tensor]], *, foreach: bool = True
) -> None:
    """Let each of several optimisers take a step.

    Parameters
    ----------
    optimisers : sequence of Adadelta
    gradients : sequence of sequence of Tensor
        Of the parameters of each.
    foreach : bool
        Whether one operation on the device serves many parameters; the numbers are the same but for rounding.
    """
    adadelta(
        [tensor for optimiser in optimisers for tensor in optimiser._parameters],
        [tensor for of_one in gradients for tensor in of_one],
        [tensor for optimiser in optimisers for tensor in optimiser._square_avgs],
        [tensor for optimiser in optimisers for tensor in optimiser._acc_deltas],
        [tensor for optimiser in optimisers for tensor in optimiser._steps],
        foreach=foreach,
        lr=1.0,
        rho=0.95,
        eps=1e-6,
        weight_decay=0.0,
        maximize=False,
    )
