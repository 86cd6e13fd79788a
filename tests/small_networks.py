"""Networks for tests: the built-in ones by their specs, and those of a plugin that only a test has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec
from mirembed.training.network import PluginNetwork

REGISTRY = Registry.discover()


def network(spec: str = "gru") -> PluginNetwork:
    """Return a built-in network."""
    return PluginNetwork.create(REGISTRY, Spec.parse(spec))


def seeded(spec: str, inputs: int, seed: Sequence[int]) -> Any:
    """Return a module of a built-in network with seeded weights."""
    return network(spec).seeded(inputs, seed)


def with_network(factory: Callable[[], Any], name: str = "odd") -> Registry:
    """Return a registry that has one more network, of the distribution mirembed-odd 1.0."""
    return Registry([*REGISTRY.plugins, Plugin("network", name, factory, "", "mirembed-odd", "1.0")])


class Odd:
    """A network of a plugin: it returns whatever ``module`` returns, and has the other attributes."""

    def __init__(self, module: Callable[[int], Any], **attributes: Any) -> None:
        self.module = module
        vars(self).update(attributes)


def odd(module: Callable[[int], Any], **attributes: Any) -> PluginNetwork:
    """Return the network of a plugin that only a test has."""
    registry = with_network(lambda: Odd(module, **attributes))
    return PluginNetwork.create(registry, Spec("odd"))
