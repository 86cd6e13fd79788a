"""Adadelta (Zeiler, arXiv:1212.5701)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adadelta import adadelta

_adadelta = functools.partial(adadelta, lr=1.0, rho=0.95, eps=1e-6, weight_decay=0.0, maximize=False)


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
        flat = torch.cat([parameter.detach().ravel() for parameter in self._parameters])
        self._flat_square_avg, self._flat_acc_delta = torch.zeros_like(flat), torch.zeros_like(flat)
        self._square_avgs = self._like_parameters(self._flat_square_avg)
        self._acc_deltas = self._like_parameters(self._flat_acc_delta)
        self._flat_steps = torch.zeros(len(self._parameters))
        self._steps = list(self._flat_steps.unbind())
        self._flat: Tensor | None = None

    def _like_parameters(self, flat: Tensor) -> list[Tensor]:
        """Return views of a flat tensor, in the shapes of the parameters."""
        parts = torch.split(flat, [parameter.numel() for parameter in self._parameters])
        return [part.view_as(parameter) for part, parameter in zip(parts, self._parameters, strict=True)]

    @torch.no_grad()
    def step(self, loss: Tensor) -> None:
        """Take a step down the gradient of ``loss``.

        The parameters become views of one flat tensor: an operation on all of them costs less than one on each.
        """
        if self._flat is None:
            self._flat = torch.cat([parameter.detach().ravel() for parameter in self._parameters])
            for parameter, view in zip(self._parameters, self._like_parameters(self._flat), strict=True):
                parameter.data = view
        gradient = torch.cat([part.ravel() for part in torch.autograd.grad(loss, self._parameters)])
        _adadelta(
            [self._flat], [gradient], [self._flat_square_avg], [self._flat_acc_delta], [self._flat_steps], foreach=False
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
            raise ValueError(f"the optimizer's state has {len(state)} tensors; expected {len(own)}")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise ValueError(f"{name} of the optimizer has the shape {tuple(state[name].shape)}")
            tensor.copy_(state[name])
