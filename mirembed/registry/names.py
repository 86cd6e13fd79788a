"""The names that plugins registered, and what they stand for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mirembed.errors import NameClashError, ParameterError, PluginError, UnknownNameError
from mirembed.registry.discovery import discover
from mirembed.registry.isolation import plugin_code
from mirembed.registry.plugins import HOST, BrokenPlugin, Kind, LeftOut, Plugin
from mirembed.registry.selection import Selection
from mirembed.specs import Spec, bind, near_names, parameters_of


@dataclass(frozen=True)
class Clash:
    """A name that several distributions register."""

    kind: Kind
    name: str
    plugins: tuple[Plugin, ...]

    def __str__(self) -> str:
        theirs = [plugin for plugin in self.plugins if plugin.distribution != HOST]
        full_names = " or ".join(plugin.full_name for plugin in theirs)
        if len(theirs) < len(self.plugins):
            return f"{self.kind} {self.name!r} is built in; for the other one write {full_names}"
        return f"{self.kind} {self.name!r} is registered more than once; write {full_names}"


class Registry:
    """All names that plugins registered.

    Parameters
    ----------
    plugins : iterable of Plugin
    broken : iterable of BrokenPlugin
    left_out : iterable of LeftOut
    """

    def __init__(
        self, plugins: Iterable[Plugin], broken: Iterable[BrokenPlugin] = (), left_out: Iterable[LeftOut] = ()
    ) -> None:
        self.plugins = tuple(plugins)
        self.broken = tuple(broken)
        self.left_out = tuple(left_out)

    @classmethod
    def discover(cls) -> Registry:
        """Load the plugins of the entry-point group ``mirembed`` that the environment selects; see `Selection`.

        Raises
        ------
        PluginError
            If a plugin is broken and the environment says ``MIREMBED_STRICT_PLUGINS=1``, or selects what is not there.
        """
        found = discover(Selection.from_environment())
        if found.broken and os.environ.get("MIREMBED_STRICT_PLUGINS") == "1":
            raise PluginError(f"{found.broken[0]}; mend or uninstall it, or unset MIREMBED_STRICT_PLUGINS")
        return cls(found.plugins, found.broken, found.left_out)

    def find(self, kind: Kind, name: str) -> Plugin:
        """Return the plugin that a bare or full name stands for.

        Raises
        ------
        UnknownNameError
            If there is none; the message lists near names, and what is broken or left out.
        NameClashError
            If a bare name is registered by several third-party distributions.
        """
        candidates = [p for p in self.plugins if p.kind == kind and name in (p.name, p.full_name)]
        own = [p for p in candidates if p.distribution == HOST]
        if own:
            return own[0]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise NameClashError(str(Clash(kind, name, tuple(candidates))))
        raise UnknownNameError(self._unknown(kind, name))

    def find_any(self, name: str) -> list[Plugin]:
        """Return the plugins of all kinds that a bare or full name stands for.

        Raises
        ------
        UnknownNameError
            If there is none.
        """
        found = [plugin for plugin in self.plugins if name in (plugin.name, plugin.full_name)]
        if not found:
            raise UnknownNameError(self._unknown(None, name))
        return found

    def require(self, kind: Kind, recorded: Mapping[str, Any], user: str) -> Plugin:
        """Return the plugin that a model, run or dataset was made with, by what `provenance` said then.

        Parameters
        ----------
        recorded : mapping
        user : str
            What needs it: ``the model demo-rbf-sl``.

        Raises
        ------
        UnknownNameError
            If it is not there; the message says what to install.
        """
        name, distribution, version = recorded["name"], recorded["distribution"], recorded["version"]
        for plugin in self.plugins:
            if (plugin.kind, plugin.full_name) == (kind, f"{distribution}/{name}"):
                return plugin
        message = f"{user} needs the {kind} {name!r} of {distribution} {version}, which is "
        problems: list[BrokenPlugin | LeftOut] = [*self.broken, *self.left_out]
        for problem in problems:
            if problem.distribution == distribution:
                raise UnknownNameError(f"{message}not usable here: {problem}")
        if "file_hash" in recorded:
            raise UnknownNameError(f"{message}not here; give the folder of this file with --plugins-dir")
        raise UnknownNameError(f"{message}not installed here; install {distribution}=={version}")

    def create(self, kind: Kind, spec: Spec) -> Any:
        """Call the factory that a spec names, with its parameters.

        Raises
        ------
        UnknownNameError, NameClashError
            See `find`.
        ParameterError
            If a parameter is unknown or its value is refused.
        PluginError
            If the factory fails; the message names the distribution to blame.
        """
        plugin = self.find(kind, spec.name)
        with plugin_code(f"{plugin.blame(spec)} fails"):
            try:
                return plugin.factory(**bind(spec, plugin.factory))
            except ValueError as error:
                raise ParameterError(f"{kind} {spec}: {error}") from error

    def provenance(self, kind: Kind, spec: Spec) -> dict[str, Any]:
        """Say what a spec resolves to: distribution, version and all parameters with their values."""
        plugin = self.find(kind, spec.name)
        given = bind(spec, plugin.factory)
        values = {p.name: given.get(p.name, p.default) for p in parameters_of(plugin.factory)}
        return {
            "spec": str(spec),
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            **({"file_hash": plugin.file_hash} if plugin.file_hash else {}),
            "parameters": {
                key: value if isinstance(value, bool | int | float | str | None) else str(value)
                for key, value in values.items()
            },
        }

    def shown_name(self, plugin: Plugin) -> str:
        """Return the shortest name by which a plugin is reached."""
        others = [p for p in self.plugins if (p.kind, p.name) == (plugin.kind, plugin.name) and p != plugin]
        return plugin.name if plugin.distribution == HOST or not others else plugin.full_name

    def clashes(self) -> list[Clash]:
        """Return the names that several distributions register."""
        names: dict[tuple[Kind, str], list[Plugin]] = {}
        for plugin in self.plugins:
            names.setdefault((plugin.kind, plugin.name), []).append(plugin)
        return [Clash(kind, name, tuple(several)) for (kind, name), several in names.items() if len(several) > 1]

    def _unknown(self, kind: Kind | None, name: str) -> str:
        names = sorted({p.name for p in self.plugins if kind in (p.kind, None)})
        near = near_names(name, names)
        message = f"no {kind or 'plugin'} is called {name!r}; "
        message += f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}"
        if self.broken:
            message += f". Broken, and so not looked in: {'; '.join(map(str, self.broken))}"
        if self.left_out:
            message += f". Left out: {'; '.join(map(str, self.left_out))}"
        return message
