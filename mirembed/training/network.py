"""Networks of plugins: what describes them, and their torch modules with seeded weights.

Importing this module imports no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import ParameterError, PluginError
from mirembed.hookspecs import Network
from mirembed.registry import HOST, Registry, plugin_code
from mirembed.specs import Spec
from mirembed.training.excerpts import Stream

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    class EmbeddingModule(nn.Module):
        """What a `mirembed.hookspecs.NetworkModule` is to the type checker."""

        units: int


@dataclass(frozen=True)
class NetworkChoice:
    """A network with all its parameters. It is small, and is kept with a model.

    Attributes
    ----------
    spec : str
        As given: ``gru:hidden=200``.
    plugin : mapping
        See `mirembed.registry.Registry.provenance`.
    fused : (int, int) or None
        Sizes of the two layers, if the plugin says that the fused engine may compute it; see
        `mirembed.hookspecs.Network`.
    """

    spec: str
    plugin: Mapping[str, Any]
    fused: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """Its name in error messages: ``network gru of mirembed 0.1.0``."""
        return f"network {self.spec} of {self.plugin['distribution']} {self.plugin['version']}"

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        fused = None if self.fused is None else list(self.fused)
        return {**asdict(self), "plugin": dict(self.plugin), "fused": fused}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> NetworkChoice:
        """Read what `to_json` returned."""
        fused = content["fused"]
        return cls(content["spec"], content["plugin"], None if fused is None else (int(fused[0]), int(fused[1])))


def resolve_network(registry: Registry, text: str) -> NetworkChoice:
    """Create the network that a spec names, which checks its parameters, and describe it.

    Raises
    ------
    SpecError
        If the spec is malformed.
    PluginError
        If the plugin is unknown, or rejects its parameters.
    """
    return PluginNetwork.create(registry, Spec.parse(text)).choice


@dataclass(frozen=True)
class PluginNetwork:
    """A network whose plugin is named in errors.

    Attributes
    ----------
    network : Network
    choice : NetworkChoice
    """

    network: Network
    choice: NetworkChoice

    @property
    def name(self) -> str:
        """Its name in error messages."""
        return self.choice.name

    @classmethod
    def create(cls, registry: Registry, spec: Spec) -> PluginNetwork:
        """Create the network that a spec names.

        Raises
        ------
        PluginError
            If the plugin is unknown, rejects its parameters, or has a wrong ``fused``.
        """
        network: Network = registry.create("network", spec)
        fused = getattr(network, "fused", None)
        choice = NetworkChoice(str(spec), registry.provenance("network", spec), fused)
        if fused is not None and not (
            isinstance(fused, tuple) and len(fused) == 2 and all(isinstance(size, int) and size > 0 for size in fused)
        ):
            raise PluginError(f"{choice.name}: fused is {fused!r}; expected the sizes of two layers, or None")
        return cls(network, choice)

    @classmethod
    def recorded(cls, registry: Registry, choice: NetworkChoice) -> PluginNetwork:
        """Create the network that a model was fitted with.

        Raises
        ------
        UnknownNameError
            If its plugin is missing; the message says what to install.
        PluginError
            If it is a third-party plugin whose code has changed: the weights belong to the code that trained them.
        """
        plugin = registry.require("network", choice.plugin, "this model")
        if plugin.distribution != HOST and plugin.code != choice.plugin["code"]:
            raise PluginError(
                f"this model was fitted with other code of {choice.name}, which has changed since; restore that code, "
                "or fit the model again"
            )
        return cls(registry.create("network", Spec(plugin.full_name, Spec.parse(choice.spec).parameters)), choice)

    def module(self, inputs: int) -> EmbeddingModule:
        """Return a new module, with whatever weights the plugin gives it.

        Raises
        ------
        PluginError
            If the plugin fails, or returns anything but a `torch.nn.Module` with ``units``.
        """
        from torch import nn

        with plugin_code(f"{self.name} fails for frames of {inputs} values"):
            try:
                module = self.network.module(inputs)
            except ValueError as error:
                raise ParameterError(f"network {self.choice.spec}: {error}") from error
        if not isinstance(module, nn.Module):
            raise PluginError(f"{self.name} returned {type(module).__name__}; expected a torch.nn.Module")
        units = getattr(module, "units", None)
        if not isinstance(units, int) or isinstance(units, bool) or units < 1:
            raise PluginError(
                f"the module of {self.name} has units={units!r}; expected the size of an embedding, 1 or more"
            )
        return cast("EmbeddingModule", module)

    def seeded(self, inputs: int, seed: Sequence[int]) -> EmbeddingModule:
        """Return a new module whose initial weights depend on ``seed`` alone; see `module`."""
        with torch_draws([*seed, Stream.NETWORK]):
            module = self.module(inputs)
            initialize = getattr(self.network, "initialize", None)
            if initialize is not None:
                with plugin_code(f"{self.name} fails to draw its initial weights"):
                    initialize(module, np.random.default_rng([*seed, Stream.NETWORK]))
        return module


def seeded_head(units: int, outputs: int, seed: Sequence[int]) -> nn.Linear:
    """Return a linear output layer whose initial weights depend on ``seed`` alone: uniform from ±1/√units."""
    import torch
    from torch import nn

    with torch_draws([*seed, Stream.HEAD]):
        head = nn.Linear(units, outputs)
    rng = np.random.default_rng([*seed, Stream.HEAD])
    for parameter in head.parameters():
        values = rng.uniform(-(units**-0.5), units**-0.5, parameter.shape).astype(np.float32)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values))
    return head


def seed_torch(seed: Sequence[int], device: str = "cpu") -> None:
    """Seed torch's generators of the CPU and of a device."""
    import torch

    number = int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0] >> np.uint64(1))
    # Not by torch.manual_seed, which seeds the generators of all devices.
    torch.default_generator.manual_seed(number)
    if device.startswith("cuda"):
        torch.cuda.manual_seed_all(number)


@contextlib.contextmanager
def torch_draws(seed: Sequence[int], device: str = "cpu") -> Iterator[None]:
    """Let torch draw from a seed in a ``with`` block; afterwards its generator goes on as if nothing had happened."""
    import torch

    state = torch.default_generator.get_state()
    try:
        seed_torch(seed, device)
        yield
    finally:
        torch.default_generator.set_state(state)


class one_thread:  # noqa: N801 - used as a function
    """Run torch on one thread within a ``with`` block: sums keep one order, and processes share the cores."""

    def __enter__(self) -> None:
        import torch

        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        import torch

        torch.set_num_threads(self._threads)


def to_device(array: NDArray[np.generic], device: str | torch.device) -> Tensor:
    """Return an array as a tensor on a device."""
    import torch

    return torch.from_numpy(array).to(device)
