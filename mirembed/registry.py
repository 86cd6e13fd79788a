"""Plugin discovery, isolation and names.

Every plugin is loaded on its own: one that fails costs its own names and nothing else.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pluggy

from mirembed import hookspecs
from mirembed.errors import MirembedError, NameClashError, ParameterError, PluginError, UnknownNameError
from mirembed.specs import Spec, bind, parameters_of

Kind = Literal["dataset", "similarity", "learner"]

HOOKS: dict[Kind, str] = {
    "dataset": "mirembed_register_datasets",
    "similarity": "mirembed_register_similarities",
    "learner": "mirembed_register_learners",
}
HOST = "mirembed"
"""The distribution whose plugins keep their bare names."""


@dataclass(frozen=True)
class Plugin:
    """One registered name and where it comes from."""

    kind: Kind
    name: str
    factory: Callable[..., Any]
    summary: str
    distribution: str
    version: str

    @property
    def full_name(self) -> str:
        """``distribution/name``, which no other plugin has."""
        return f"{self.distribution}/{self.name}"

    @property
    def parameters(self) -> str:
        """The parameters that a spec may set, with types and defaults."""
        try:
            return ", ".join(map(str, parameters_of(self.factory)))
        except Exception as error:
            return f"unknown ({_one_line(error)})"


@dataclass(frozen=True)
class BrokenPlugin:
    """An entry point that could not be used.

    Attributes
    ----------
    entry_point, distribution, version : str
    error : str
        One line.
    details : str
        The traceback, for ``mirembed plugins --verbose``.
    """

    entry_point: str
    distribution: str
    version: str
    error: str
    details: str

    def __str__(self) -> str:
        return f"plugin {self.entry_point!r} of {self.distribution} {self.version}: {self.error}"


class Registry:
    """All names that plugins registered.

    Parameters
    ----------
    plugins : iterable of Plugin
    broken : iterable of BrokenPlugin
    """

    def __init__(self, plugins: Iterable[Plugin], broken: Iterable[BrokenPlugin] = ()) -> None:
        self.plugins = tuple(plugins)
        self.broken = tuple(broken)

    @classmethod
    def discover(cls) -> Registry:
        """Load every plugin of the entry-point group ``mirembed``.

        Raises
        ------
        PluginError
            If a plugin is broken and the environment says ``MIREMBED_STRICT_PLUGINS=1``.
        """
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        plugins: list[Plugin] = []
        broken: list[BrokenPlugin] = []
        points = importlib.metadata.entry_points(group=hookspecs.PROJECT)
        for point in sorted(points, key=lambda point: (_distribution(point), point.name)):
            try:
                with _stdout_kept():
                    plugins += _load(manager, point)
            # A plugin may raise anything, and may even try to leave the program.
            except (Exception, SystemExit) as error:
                broken.append(_broken(point, error))
        if broken and os.environ.get("MIREMBED_STRICT_PLUGINS") == "1":
            raise PluginError(f"{broken[0]}; mend or uninstall it, or unset MIREMBED_STRICT_PLUGINS")
        return cls(plugins, broken)

    def find(self, kind: Kind, name: str) -> Plugin:
        """Return the plugin that a bare or full name stands for.

        Raises
        ------
        UnknownNameError
            If there is none; the message lists near names, or what is broken.
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
            names = " or ".join(p.full_name for p in candidates)
            raise NameClashError(f"{kind} {name!r} is registered more than once; write {names}")
        raise UnknownNameError(self._unknown(kind, name))

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
        try:
            arguments = bind(spec, plugin.factory)
            with _stdout_kept():
                return plugin.factory(**arguments)
        except MirembedError:
            raise
        except ValueError as error:
            raise ParameterError(f"{kind} {spec}: {error}") from error
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{kind} {spec} of {plugin.distribution} {plugin.version} fails: {_one_line(error)}; "
                "report it to that plugin's authors"
            ) from error

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
            "parameters": {
                key: value if isinstance(value, bool | int | float | str | None) else str(value)
                for key, value in values.items()
            },
        }

    def shown_name(self, plugin: Plugin) -> str:
        """Return the shortest name by which a plugin is reached."""
        others = [p for p in self.plugins if (p.kind, p.name) == (plugin.kind, plugin.name) and p != plugin]
        return plugin.name if plugin.distribution == HOST or not others else plugin.full_name

    def to_json(self) -> dict[str, Any]:
        """Return all plugins, and what is broken, as JSON."""
        plugins = [
            {
                "kind": plugin.kind,
                "name": self.shown_name(plugin),
                "summary": plugin.summary,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "parameters": plugin.parameters,
            }
            for plugin in self.plugins
        ]
        return {"plugins": plugins, "broken": [asdict(broken) for broken in self.broken]}

    def _unknown(self, kind: Kind, name: str) -> str:
        names = sorted({p.name for p in self.plugins if p.kind == kind})
        near = difflib.get_close_matches(name, names, n=2)
        message = f"no {kind} is called {name!r}; "
        message += f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}"
        if self.broken:
            message += f". Broken, and so not looked in: {'; '.join(map(str, self.broken))}"
        return message


def _stdout_kept() -> contextlib.AbstractContextManager[Any]:
    """Send what a plugin prints to standard error, for standard output may be a command's JSON."""
    return contextlib.redirect_stdout(sys.stderr)


def _load(manager: pluggy.PluginManager, point: importlib.metadata.EntryPoint) -> list[Plugin]:
    """Load one entry point and collect what its hooks register; on any failure leave no trace of it."""
    module = point.load()
    key = f"{_distribution(point)}:{point.name}"
    try:
        manager.register(module, name=key)
        _check_hook_names(manager, module)
        plugins: list[Plugin] = []
        others = [plugin for plugin in manager.get_plugins() if plugin is not module]
        for kind, hook in HOOKS.items():
            call = manager.subset_hook_caller(hook, remove_plugins=others)
            call(register=_collector(kind, point, plugins))
        if not plugins:
            raise PluginError(f"registers nothing; it needs one of the hooks {', '.join(HOOKS.values())}")
        return plugins
    except BaseException:
        if manager.has_plugin(key):
            manager.unregister(name=key)
        raise


def _collector(kind: Kind, point: importlib.metadata.EntryPoint, plugins: list[Plugin]) -> Callable[..., None]:
    def register(name: str, factory: Callable[..., Any], *, summary: str = "") -> None:
        if "/" in name or Spec.parse(name).parameters:
            raise PluginError(f"{name!r} cannot be a name: letters, digits, '.', '_' and '-' only")
        if not callable(factory):
            raise PluginError(f"the factory of {kind} {name!r} is {factory!r}, which cannot be called")
        if any(p.kind == kind and p.name == name for p in plugins):
            raise PluginError(f"{kind} {name!r} is registered twice")
        plugins.append(Plugin(kind, name, factory, summary, _distribution(point), _version(point)))

    return register


def _check_hook_names(manager: pluggy.PluginManager, module: Any) -> None:
    known = list(HOOKS.values())
    for name in dir(module):
        if not name.startswith("mirembed_") or not inspect.isfunction(getattr(module, name)):
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise PluginError(f"there is no hook {name!r}; {near[0]!r} was probably meant")
        if manager.parse_hookimpl_opts(module, name) is None:
            raise PluginError(f"{name} lacks the decorator @hookimpl (from mirembed import hookimpl)")


def _broken(point: importlib.metadata.EntryPoint, error: BaseException) -> BrokenPlugin:
    return BrokenPlugin(
        point.name,
        _distribution(point),
        _version(point),
        _one_line(error),
        "".join(traceback.format_exception(error)),
    )


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, MirembedError) else f"{type(error).__name__}: {text}".rstrip(": ")


def _distribution(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown"


def _version(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.version if point.dist else "unknown"
