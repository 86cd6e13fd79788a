"""Plugins: finding them, choosing among them, and looking them up by name.

``plugins`` defines and describes a plugin, and runs its code; ``source`` finds its source; ``discovery`` selects and
loads plugins; the registry knows which plugin a name refers to, and the rest of mirembed asks it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirembed.errors import NameClashError, ParameterError, PluginError, SpecError, UnknownNameError
from mirembed.provenance import file_digest, recorded_plugins
from mirembed.registry.discovery import Selection, discover
from mirembed.registry.plugins import (
    COMMANDS_HOOK,
    HOOKS,
    HOST,
    BrokenPlugin,
    CommandHook,
    Kind,
    LeftOut,
    Plugin,
    plugin_code,
)
from mirembed.specs import Spec, bind, near_names, parameters_of

__all__ = ["HOOKS", "HOST", "BrokenPlugin", "Kind", "LeftOut", "Plugin", "Registry", "plugin_code"]


@dataclass(frozen=True, eq=False)
class Registry:
    """All names that plugins have registered."""

    plugins: Sequence[Plugin]
    broken: Sequence[BrokenPlugin] = ()
    left_out: Sequence[LeftOut] = ()
    command_hooks: Sequence[CommandHook] = ()

    @classmethod
    def discover(cls) -> Registry:
        """Load the plugins in the entry-point group ``mirembed`` that the environment selects; see `Selection`.

        Raises
        ------
        PluginError
            If a plugin is broken and ``MIREMBED_STRICT_PLUGINS=1`` is set, or the environment selects a plugin that
            does not exist.
        """
        registry = cls(*discover(Selection.from_environment()))
        if registry.broken and os.environ.get("MIREMBED_STRICT_PLUGINS") == "1":
            raise PluginError(f"{registry.broken[0]}; fix or uninstall it, or unset MIREMBED_STRICT_PLUGINS")
        return registry

    def find(self, kind: Kind, name: str) -> Plugin:
        """Return the plugin with a bare or full name.

        Raises
        ------
        UnknownNameError
            If there is none; the message lists similar names, and which plugins are broken or left out.
        NameClashError
            If several third-party distributions register the bare name.
        """
        candidates = [p for p in self.plugins if p.kind == kind and name in (p.name, p.full_name)]
        for plugin in candidates:
            if plugin.distribution == HOST or len(candidates) == 1:
                return plugin
        if candidates:
            raise NameClashError(_clash(candidates))
        raise UnknownNameError(self._unknown(kind, name))

    def find_any(self, name: str) -> list[Plugin]:
        """Return the plugins of every kind with a bare or full name.

        Raises
        ------
        UnknownNameError
            If there are none.
        """
        found = [plugin for plugin in self.plugins if name in (plugin.name, plugin.full_name)]
        if not found:
            raise UnknownNameError(self._unknown(None, name))
        return found

    def of_hook(self, hook: str | None) -> list[Plugin]:
        """Return the plugins of a kind (``similarity``) or hook (``mirembed_register_similarities``); all for None.

        Raises
        ------
        SpecError
            If there is no such hook.
        """
        kinds = {kind for kind, name in HOOKS.items() if hook in (kind, name, None)}
        if not kinds and not self.has_commands(hook):
            known = f"{', '.join(HOOKS)}, command, or one of {', '.join([*HOOKS.values(), COMMANDS_HOOK])}"
            raise SpecError(f"unknown --hook {hook}; expected {known}")
        return [plugin for plugin in self.plugins if plugin.kind in kinds]

    @staticmethod
    def has_commands(hook: str | None) -> bool:
        """Whether a kind or hook is that of commands, which are not registered with a factory; None means all kinds."""
        return hook in ("command", COMMANDS_HOOK, None)

    def matching(self, name: str) -> tuple[list[Plugin], list[BrokenPlugin]]:
        """Return the plugins that match a bare name, full name, distribution or entry point.

        Raises
        ------
        UnknownNameError
            If there are none.
        """
        plugins = [p for p in self.plugins if name in (p.name, p.full_name, p.distribution)]
        broken = [b for b in self.broken if name in (b.entry_point, b.distribution)]
        if not plugins and not broken:
            raise UnknownNameError(self._unknown(None, name))
        return plugins, broken

    def require(self, kind: Kind, recorded: Mapping[str, Any], user: str) -> Plugin:
        """Return the plugin that a model, run or dataset was made with.

        Parameters
        ----------
        kind : {"dataset", "features", "network", "similarity", "learner"}
        recorded : mapping
            What `provenance` returned when it was made.
        user : str
            What needs the plugin: ``the model demo-rbf-sl``.

        Raises
        ------
        UnknownNameError
            If the plugin is missing; the message says what to install.
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
            raise UnknownNameError(f"{message}missing; give the folder of this file with --plugins-dir")
        raise UnknownNameError(f"{message}not installed; install {distribution}=={version}")

    def require_code(self, content: Any, kinds: Collection[Kind], user: str) -> None:
        """Check that plugins in recorded settings are here, and have the code that was recorded.

        Parameters
        ----------
        content : JSON
            With what `provenance` returned anywhere in it.
        kinds : collection of {"dataset", "features", "network", "similarity", "learner"}
            Those to check.
        user : str
            What needs the plugins: ``this training``.

        Raises
        ------
        UnknownNameError
            If a plugin is missing.
        PluginError
            If the code of one, or a file that it reads, has changed.
        """
        for recorded in recorded_plugins(content):
            if recorded["kind"] not in kinds:
                continue
            plugin = self.require(recorded["kind"], recorded, user)
            if plugin.code != recorded["code"]:
                other = "other code"
            elif "files" in recorded and self._files_now(plugin, recorded["spec"]) != recorded["files"]:
                other = "another file"
            else:
                continue
            raise PluginError(
                f"{user} was planned with {other} of the {plugin.kind} {plugin.full_name}, which has changed "
                "since or differs on this machine; run the same command again"
            )

    def _files_now(self, plugin: Plugin, spec: str) -> Any:
        return self.provenance(plugin.kind, Spec(plugin.full_name, Spec.parse(spec).parameters)).get("files")

    def files(self, content: Any) -> dict[str, bytes]:
        """Return the files in ``--plugins-dir`` that recorded settings use, by name.

        A file that is missing, or has changed since it was used, is left out.
        """
        files: dict[str, bytes] = {}
        paths = {plugin.distribution: Path(plugin.hook_file) for plugin in self.plugins if plugin.file_hash}
        for recorded in recorded_plugins(content):
            path = paths.get(recorded["distribution"])
            if path is not None and "file_hash" in recorded and path.is_file():
                source = path.read_bytes()
                if f"sha256:{hashlib.sha256(source).hexdigest()}" == recorded["file_hash"]:
                    files[path.name] = source
        return files

    def create(self, kind: Kind, spec: Spec) -> Any:
        """Call the factory that a spec names, with its parameters.

        Raises
        ------
        UnknownNameError, NameClashError
            See `find`.
        ParameterError
            If a parameter is unknown, or the factory rejects its value.
        PluginError
            If the factory fails; the message names its distribution.
        """
        plugin = self.find(kind, spec.name)
        with plugin_code(f"{plugin.with_origin(spec)} fails"):
            try:
                return plugin.factory(**bind(spec, plugin.factory))
            except ValueError as error:
                raise ParameterError(f"{kind} {spec}: {error}") from error

    def provenance(self, kind: Kind, spec: Spec) -> dict[str, Any]:
        """Return what a spec resolves to: distribution, version, code, and the values of all parameters.

        ``files`` has the digests of files that parameters name, except for datasets, whose listing says what they read,
        and for parameters that features call neutral.
        """
        plugin = self.find(kind, spec.name)
        given = bind(spec, plugin.factory)
        values = {p.name: given.get(p.name, p.default) for p in parameters_of(plugin.factory)}
        return {
            "kind": kind,
            "spec": str(spec),
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "code": plugin.code,
            **({"file_hash": plugin.file_hash} if plugin.file_hash else {}),
            "parameters": {
                key: value if isinstance(value, bool | int | float | str | None) else str(value)
                for key, value in values.items()
            },
            **({"files": files} if (files := _files(plugin, values)) else {}),
        }

    def shown_name(self, plugin: Plugin) -> str:
        """Return the shortest unambiguous name of a plugin."""
        others = [p for p in self.plugins if (p.kind, p.name) == (plugin.kind, plugin.name) and p != plugin]
        return plugin.name if plugin.distribution == HOST or not others else plugin.full_name

    def clashes(self) -> list[str]:
        """Describe the names that several distributions register."""
        names: dict[tuple[Kind, str], list[Plugin]] = {}
        for plugin in self.plugins:
            names.setdefault((plugin.kind, plugin.name), []).append(plugin)
        return [_clash(plugins) for plugins in names.values() if len(plugins) > 1]

    def _unknown(self, kind: Kind | None, name: str) -> str:
        names = sorted({p.name for p in self.plugins if kind in (p.kind, None)})
        near = near_names(name, names)
        message = f"no {kind or 'plugin'} {'are' if kind == 'features' else 'is'} called {name!r}; "
        message += f"did you mean {' or '.join(near)}?" if near else f"available: {', '.join(names) or 'none'}"
        if self.broken:
            message += f". Some plugins failed to load: {'; '.join(map(str, self.broken))}"
        if self.left_out:
            message += f". Some plugins were left out: {'; '.join(map(str, self.left_out))}"
        return message


def _files(plugin: Plugin, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of the files that parameters name, by parameter."""
    neutral = getattr(plugin.factory, "neutral", ())
    return {
        name: file_digest(value)
        for name, value in values.items()
        if plugin.kind != "dataset" and isinstance(value, Path) and name not in neutral and value.is_file()
    }


def _clash(plugins: Sequence[Plugin]) -> str:
    """Say that several plugins have one name, and how to choose one of them."""
    kind, name = plugins[0].kind, plugins[0].name
    third_party = [plugin.full_name for plugin in plugins if plugin.distribution != HOST]
    if len(third_party) < len(plugins):
        return f"{kind} {name!r} is built in; for the other one write {' or '.join(third_party)}"
    return f"{kind} {name!r} is registered more than once; write {' or '.join(third_party)}"
