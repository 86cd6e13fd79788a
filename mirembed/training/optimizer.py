"""Optimizers: torch's, by the lower-case names of their classes, and Adadelta without the start-up cost of torch's.

All take ``clip``, the largest norm of the gradient, besides their own parameters.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.adadelta import adadelta

from mirembed.errors import SpecError
from mirembed.specs import Spec

_UNUSABLE = {
    "lbfgs": "computes its loss several times a step",
    "muon": "takes matrices only, and networks have other weights too",
    "sparseadam": "takes sparse gradients only",
}
_SWITCHES = ("foreach", "fused", "capturable", "differentiable", "maximize")
"""Parameters of torch's optimizers that affect only how a step is computed, or reverse it."""


CLIP = "clip"
"""The parameter that every optimizer takes: the largest norm of the gradient."""


class Optimizer(Protocol):
    """Changes parameters in place; see `make_optimizer`."""

    def step(self, loss: Tensor) -> None:
        """Take one step down the gradient of ``loss``."""

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint needs, by name; they may be the optimizer's own."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state`; raise `ValueError` if it belongs to other parameters."""


class Adadelta:
    """Adadelta (Zeiler, arXiv:1212.5701), to the bit as `torch.optim.Adadelta` computes it.

    The first object of that class imports torch's compiler, which costs every worker process a second and 90 MB. The
    function beneath it does not.

    Parameters
    ----------
    parameters : iterable of Tensor
        Changed in place.
    lr, rho, eps, weight_decay : float
        See `torch.optim.Adadelta`.
    clip : float
        See `clipped`.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1.0,
        rho: float = 0.95,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        clip: float = math.inf,
    ) -> None:
        self._options: dict[str, Any] = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}
        for name, value in self._options.items():
            if not 0 <= value <= (1 if name == "rho" else math.inf):
                raise ValueError(f"{name} is {value}; expected 0 or more{', up to 1' if name == 'rho' else ''}")
        self._parameters, self._clip = list(parameters), clip
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
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        adadelta(
            [self._flat],
            [torch.cat([part.ravel() for part in clipped(gradients, self._clip)])],
            [self._square_avg],
            [self._acc_delta],
            [self._steps],
            foreach=False,
            maximize=False,
            **self._options,
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


class TorchOptimizer:
    """An optimizer of torch; an `Optimizer`.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    clip : float
        See `clipped`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, clip: float = math.inf) -> None:
        self._optimizer, self._clip = optimizer, clip
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def step(self, loss: Tensor) -> None:
        """Take one step down the gradient of ``loss``."""
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        found = iter(clipped([gradient for gradient in gradients if gradient is not None], self._clip))
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else next(found)
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint needs, by name."""
        return {
            f"{number}.{name}": value
            for number, values in self._optimizer.state_dict()["state"].items()
            for name, value in values.items()
            if value is not None
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state`.

        Raises
        ------
        ValueError
            If it belongs to other parameters.
        """
        by_parameter: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            number, _, kind = name.partition(".")
            by_parameter.setdefault(int(number), {})[kind] = tensor
        if not set(by_parameter) <= set(range(len(self._parameters))):
            raise ValueError(
                f"the optimizer's state is for {len(by_parameter)} parameters, not {len(self._parameters)}"
            )
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": by_parameter, "param_groups": groups})


def clipped(gradients: Sequence[Tensor], clip: float) -> Sequence[Tensor]:
    """Scale gradients down to a norm of ``clip`` if theirs, taken over all of them together, is larger.

    Source: Pascanu, Mikolov & Bengio, On the difficulty of training recurrent neural networks, ICML 2013.

    Parameters
    ----------
    gradients : sequence of Tensor
    clip : float
        Above 0; infinity leaves all gradients as they are.
    """
    if clip == math.inf or not gradients:
        return gradients
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    factor = (clip / (norm + 1e-6)).clamp(max=1)  # 1e-6 as in torch
    return [gradient * factor for gradient in gradients]


def make_optimizer(text: str, parameters: Iterable[Tensor]) -> Optimizer:
    """Return the optimizer that a spec names: ``adadelta``, ``adam:lr=0.001,clip=10``, ``sgd:lr=0.01,momentum=0.9``.

    Parameters
    ----------
    text : str
    parameters : iterable of Tensor
        Changed in place.

    Raises
    ------
    SpecError
        See `resolve_optimizer`.
    """
    name, options = _parse(text)
    factory, clip = _factory(name), options.pop(CLIP, math.inf)
    if not clip > 0:
        raise SpecError(f"--optimizer {text}: clip is {clip:g}; expected a norm above 0, such as 10")
    try:
        if factory is Adadelta:
            return Adadelta(parameters, **options, clip=clip)
        return TorchOptimizer(factory(list(parameters), **options), clip)
    except (ValueError, TypeError, RuntimeError) as error:
        raise SpecError(f"--optimizer {text}: {error}") from error


def resolve_optimizer(text: str) -> dict[str, Any]:
    """Return the name of an optimizer and the values of all parameters that can be set.

    >>> resolve_optimizer("adadelta:lr=0.5")
    {'name': 'adadelta', 'parameters': {'lr': 0.5, 'rho': 0.95, 'eps': 1e-06, 'weight_decay': 0.0, 'clip': inf}}

    Raises
    ------
    SpecError
        If the optimizer is unknown or cannot be used, or does not take a parameter or its value; the message lists
        what there is.
    """
    make_optimizer(text, [torch.zeros(1, requires_grad=True)])  # it may reject a value
    name, options = _parse(text)
    return {"name": name, "parameters": {**_settable(_factory(name)), **options}}


def _names() -> dict[str, type]:
    """Return torch's optimizers by lower-case name."""
    found = {key.lower(): value for key, value in vars(torch.optim).items() if isinstance(value, type)}
    return {
        key: value
        for key, value in sorted(found.items())
        if issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }


def _factory(name: str) -> Any:
    return Adadelta if name == "adadelta" else _names()[name]


def _settable(factory: Any) -> dict[str, Any]:
    """Return the parameters that a spec can set, with their defaults: numbers, truth values and tuples of numbers."""
    own = {
        name: parameter.default
        for name, parameter in inspect.signature(factory).parameters.items()
        if name not in _SWITCHES and all(isinstance(value, bool | int | float) for value in _values(parameter.default))
    }
    return {**own, CLIP: math.inf}


def _values(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    """Return an optimizer's name, and the parameters given for it."""
    spec = Spec.parse(text)
    usable = [name for name in _names() if name not in _UNUSABLE]
    if spec.name in _UNUSABLE:
        raise SpecError(f"--optimizer {text}: {spec.name} {_UNUSABLE[spec.name]}; expected one of {', '.join(usable)}")
    if spec.name not in usable:
        raise SpecError(f"--optimizer {text}: no such optimizer; expected one of {', '.join(usable)}")
    settable = _settable(_factory(spec.name))
    listed = ", ".join(f"{name}={_written(value)}" for name, value in settable.items())
    options = {}
    for name, given in spec.parameters.items():
        if name not in settable:
            raise SpecError(f"--optimizer {text}: {spec.name} has no parameter {name!r}; its parameters: {listed}")
        try:
            options[name] = _convert(given, settable[name])
        except (KeyError, ValueError):
            raise SpecError(
                f"--optimizer {text}: invalid {name}={given}; expected a value like {_written(settable[name])}; "
                f"the parameters of {spec.name}: {listed}"
            ) from None
    return spec.name, options


def _convert(given: str, default: Any) -> Any:
    if isinstance(default, tuple):
        parts = given.split(",")
        if len(parts) != len(default):
            raise ValueError
        return tuple(_convert(part, value) for part, value in zip(parts, default, strict=True))
    if isinstance(default, bool):
        return {"true": True, "false": False}[given.lower()]
    number = float(given)
    if not math.isfinite(number) and number != default:
        raise ValueError
    return int(number) if isinstance(default, int) and number.is_integer() and "." not in given else number


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
