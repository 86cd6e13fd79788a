"""The checks of a network find what is wrong with it, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from broken_promises import assert_breaks, failures
from torch import Tensor, nn

from mirembed.testing import check_network, promises

pytestmark = pytest.mark.slow


def mean(outputs: Tensor, inside: Tensor) -> Tensor:
    return (outputs * inside[:, :, None]).sum(dim=1) / inside.sum(dim=1, keepdim=True)


class Module(nn.Module):
    """A linear layer and the mean over time: a sound network, which the others change."""

    units = 3

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, 3)

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        return mean(torch.tanh(self.layer(frames)), inside)


class Streamed(Module):
    def stream(self, frames: Tensor, inside: Tensor, state: Any) -> Any:
        outputs = torch.tanh(self.layer(frames)) * inside[:, :, None]
        total, count = (0, 0) if state is None else state
        return total + outputs.sum(dim=1), count + inside.sum(dim=1, keepdim=True)

    def finish(self, state: Any) -> Tensor:
        return state[0] / state[1]


def network(module: Callable[[int], object], **members: object) -> Callable[[], object]:
    """A factory of networks with this module."""
    return type("Network", (), {"module": lambda self, inputs: module(inputs), **members})


def changed(
    forward: Callable[..., object] | None = None, base: type = Module, **members: object
) -> Callable[[], object]:
    """A factory of networks whose module is changed."""
    return network(type("Changed", (base,), {**({"forward": forward} if forward else {}), **members}))


def after(change: Callable[[Tensor], object]) -> Callable[[], object]:
    return changed(lambda self, frames, inside: change(Module.forward(self, frames, inside)))


def before(change: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    return changed(lambda self, frames, inside: Module.forward(self, change(frames), inside))


class Shared:
    def __init__(self) -> None:
        self.made = Module(12)

    def module(self, inputs: int) -> nn.Module:
        if inputs != 12:
            raise ValueError("only 12 values")
        return self.made


class Scaled(Module):
    """A number that no state_dict holds."""

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs)
        self.scale = float(torch.rand(()))

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        return (1 + self.scale) * super().forward(frames, inside)


class Drawn(Module):
    """Weights of Python's random numbers, which no seed of a training reaches."""

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs)
        with torch.no_grad():
            self.layer.bias.fill_(random.uniform(1, 2))


class Counting(Module):
    calls = 0

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(frames, inside) + 1e-6 * self.calls


class Normed(Module):
    """The mean and deviation over the batch, even in evaluation mode."""

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        values = super().forward(frames, inside)
        return values - values.mean(dim=0)


class Leaking(Streamed):
    """Only its stream sees the other tracks."""

    def stream(self, frames: Tensor, inside: Tensor, state: Any) -> Any:
        total, count = super().stream(frames, inside, state)
        return total + 1e-5 * total.mean(dim=0), count


class Deviation(Module):
    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        outputs = torch.tanh(self.layer(frames))
        centered = (outputs - mean(outputs, inside)[:, None]) * inside[:, :, None]
        return (centered.square().sum(dim=1) / inside.sum(dim=1, keepdim=True)).sqrt()


class Unused(Module):
    def __init__(self, inputs: int) -> None:
        super().__init__(inputs)
        self.other = nn.Linear(inputs, 3)


class Forgetful(Streamed):
    def stream(self, frames: Tensor, inside: Tensor, state: Any) -> Any:
        return super().stream(frames, inside, None)


class WholePieces(Streamed):
    """Fails when a track has ended."""

    def stream(self, frames: Tensor, inside: Tensor, state: Any) -> Any:
        if not inside.sum(dim=1).all():
            raise ValueError("an empty sequence")
        return super().stream(frames, inside, state)


class Half(Streamed):
    finish = None


class Gru(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.GRU(inputs, 8, batch_first=True), nn.GRU(8, 4, batch_first=True)
        self.units = 4

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        return mean(self.second(self.first(frames)[0])[0], inside)


class LastOfGru(Gru):
    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        outputs = self.second(self.first(frames)[0])[0]
        return outputs[torch.arange(len(frames)), inside.sum(dim=1).long() - 1]


class Untyped:
    def __init__(self, units=3) -> None:
        self.units = units

    def module(self, inputs: int) -> nn.Module:
        return Module(inputs)


def on_cpu(self: Module, frames: Tensor, inside: Tensor) -> Tensor:
    return Module.forward(self, frames, inside) + torch.ones(3)


def lstm_by_time(self: Module, frames: Tensor, inside: Tensor) -> Tensor:
    """Takes the batch for the time."""
    return Module.forward(self, frames, inside) + 0 * frames.cumsum(dim=0).sum(dim=1)[:, :1]


def masked_in_place(self: Module, frames: Tensor, inside: Tensor) -> Tensor:
    frames *= inside[:, :, None]
    return Module.forward(self, frames, inside)


NO_MODULE = (
    "module units finite deterministic padding stream companions gradient gradient-finite state input-unchanged device"
)
BROKEN: dict[str, tuple[Callable[[], object], str, str]] = {
    "no module": (network(lambda inputs: None), NO_MODULE, "NoneType"),
    "one module for all": (Shared, "module deterministic", "the same module every time"),
    "made for one size that nobody has": (network(lambda inputs: 1 / 0), NO_MODULE, "ZeroDivisionError"),
    "parameter without annotation": (Untyped, "parameters", "units is '3'"),
    "other units than declared": (changed(units=4), "units companions", "float32 [3, 3], expected float32 [3, 4]"),
    "no batch dimension for one track": (
        after(lambda x: x.squeeze(0)),
        "units companions",
        "[3], expected float32 [1, 3]",
    ),
    "float64": (after(lambda x: x.double()), "units companions", "float64"),
    "an error for one frame": (
        before(lambda x: x + x.std(dim=1, keepdim=True) if x.shape[1] > 1 else x.reshape(-1, 7)),
        "units padding",
        "RuntimeError",
    ),
    "NaN for frames of zeros": (
        before(lambda x: x / (x.norm(dim=2, keepdim=True))),
        "finite gradient-finite",
        "nan in 12 of 12 places\n  given: frames of zeros",
    ),
    "the mean over the padding too": (
        changed(lambda self, frames, inside: torch.tanh(self.layer(frames)).mean(dim=1)),
        "padding",
        "other values in the padding",
    ),
    "as long as the padding": (
        changed(lambda self, frames, inside: (torch.tanh(self.layer(frames)) * inside[:, :, None]).mean(dim=1)),
        "padding",
        "the length of the padding",
    ),
    "a mean over the batch": (changed(base=Normed), "companions", "track 0 alone"),
    "full tracks that see each other": (changed(base=Leaking), "companions", "full tracks of 230 frames"),
    "a state that is forgotten": (changed(base=Forgetful), "stream companions", "in pieces of 20, 20 frames"),
    "an error when a track has ended": (changed(base=WholePieces), "stream companions", "an empty sequence"),
    "stream without finish": (changed(base=Half), "stream companions", "only the method stream"),
    "no gradient": (after(lambda x: x.detach().requires_grad_()), "gradient", "layer.weight"),
    "a layer that is not used": (changed(base=Unused), "gradient", "other.weight"),
    "no parameters": (
        network(lambda inputs: type("Fixed", (Module,), {"forward": fixed})(inputs).requires_grad_(False)),
        "gradient",
        "no parameter that requires a gradient",
    ),
    "an infinite slope": (changed(base=Deviation), "gradient-finite", "nan in"),
    "a number outside the state": (changed(base=Scaled), "state", "embeds differently"),
    "dropout in evaluation mode": (
        after(lambda x: x + 1e-3 * torch.rand_like(x)),
        "deterministic padding companions state",
        "a second call",
    ),
    "a state between calls": (changed(base=Counting), "deterministic companions", "a second call"),
    "random numbers of Python": (changed(base=Drawn), "deterministic", "a second module"),
    "frames changed in place": (changed(masked_in_place), "input-unchanged", "changes its input"),
    "a tensor on the CPU": (changed(on_cpu), "device", "frames.device"),
    "not what the fused engine computes": (network(LastOfGru, fused=(8, 4)), "fused", "fused=(8, 4)"),
    "fused of other sizes": (network(Gru, fused=(4, 8)), "fused", "fused=(4, 8)"),
}
"""Broken networks, the promises that they break, and a fact in the first message."""


def fixed(self: Module, frames: Tensor, inside: Tensor) -> Tensor:
    return Module.forward(self, frames, inside)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_found_and_nothing_else_is_reported(fault):
    factory, names, fragment = BROKEN[fault]
    assert_breaks(failures("network", factory), names, fragment)


def test_every_check_finds_a_fault():
    assert {names.split()[0] for _, names, _ in BROKEN.values()} == {p.name for p in promises("network")}


@pytest.mark.parametrize("correct", [network(Module), network(Streamed), network(Gru, fused=(8, 4))])
def test_a_correct_network_passes_every_check(correct):
    assert failures("network", correct) == {}
    check_network(correct)


def test_a_network_may_refuse_a_size():
    def module(inputs: int) -> nn.Module:
        if inputs % 2:
            raise ValueError("an odd number of values")
        return Module(inputs)

    assert failures("network", network(module)) == {}


def test_weights_drawn_by_initialize_count():
    def initialize(self: object, module: Module, rng: np.random.Generator) -> None:
        with torch.no_grad():
            module.layer.bias.copy_(torch.from_numpy(rng.normal(size=3).astype(np.float32)))

    assert failures("network", network(Drawn, initialize=initialize)) == {}
