"""Adadelta (Zeiler, arXiv:1212.5701)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adadelta import adadelta


class Adadelta:
    """Adadelta with learning rate 1, rho 0.95 and epsilon 1e-6, to the bit as `torch.optim.Adadelta` computes it.

    The first object of that class imports torch's compiler, which costs every worker process a second and 90 MB. The
    function beneath it does not.

    Parameters
    ----------
    parameters : iterable of Tensor
        Changed in place.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = list(parameters)
        # The parameters become views of one flat tensor: one operation on all of them is cheaper than one on each.
        self._flat = torch.cat([parameter.detach().ravel() for parameter in self._parameters])
        for parameter, view in zip(self._parameters, self._like_parameters(self._flat), strict=True):
            parameter.data = view
        self._square_avg, self._acc_delta = torch.zeros_like(self._flat), torch.zeros_like(self._flat)
        self._steps = torch.zeros(len(self._parameters))

    def _like_parameters(self, flat: Tensor) -> list[Tensor]:
        """Return views of a flat tensor in the shapes of the parameters."""
        parts = torch.split(flat, [parameter.numel() for parameter in self._parameters])
        return [part.view_as(parameter) for part, parameter in zip(parts, self._parameters, strict=True)]

    @torch.no_grad()
    def step(self, loss: Tensor) -> None:
        """Take one step down the gradient of ``loss``."""
        gradient = torch.cat([part.ravel() for part in torch.autograd.grad(loss, self._parameters)])
        adadelta(
            [self._flat],
            [gradient],
            [self._square_avg],
            [self._acc_delta],
            [self._steps],
            foreach=False,
            lr=1.0,
            rho=0.95,
            eps=1e-6,
            weight_decay=0.0,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint needs, by name: views of the optimizer's own."""
        kinds = {
            "square_avg": self._like_parameters(self._square_avg),
            "acc_delta": self._like_parameters(self._acc_delta),
            "step": self._steps.unbind(),
        }
        return {f"{number}.{kind}": tensor for kind, tensors in kinds.items() for number, tensor in enumerate(tensors)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state`.

        Raises
        ------
        ValueError
            If it belongs to other parameters.
        """
        own = self.state()
        if state.keys() != own.keys():
            raise ValueError(f"the optimizer's state has {len(state)} tensors; expected {len(own)}")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise ValueError(f"{name} of the optimizer has the shape {tuple(state[name].shape)}")
            tensor.copy_(state[name])
