"""What can be told of a plugin without calling it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from mirembed.errors import SpecError
from mirembed.registry.isolation import one_line
from mirembed.registry.names import Registry
from mirembed.registry.plugins import HOOKS, BrokenPlugin, Kind, Plugin
from mirembed.specs import parameters_of


@dataclass(frozen=True)
class ParameterDescription:
    """A parameter that a spec may set.

    Attributes
    ----------
    name, type : str
    default : str or None
        None: it has to be given.
    doc : str
        From the ``Parameters`` section of the factory's docstring; empty where there is none.
    """

    name: str
    type: str
    default: str | None
    doc: str


@dataclass(frozen=True)
class Description:
    """A registered name.

    Attributes
    ----------
    kind, hook, name, summary, distribution, version, entry_point : str
    module, file : str
        Where the factory is defined.
    file_hash : str
        Of a one-file plugin; see `Plugin`.
    parameters : list of ParameterDescription
    problem : str
        Why the parameters cannot be told; empty if they can.
    """

    kind: Kind
    hook: str
    name: str
    summary: str
    distribution: str
    version: str
    entry_point: str
    module: str
    file: str
    file_hash: str
    parameters: list[ParameterDescription]
    problem: str

    def to_json(self) -> dict[str, Any]:
        """Return the description as JSON."""
        return asdict(self)


def describe(registry: Registry, plugin: Plugin) -> Description:
    """Return what a plugin tells of itself, under the shortest name by which it is reached."""
    parameters: list[ParameterDescription] = []
    problem = ""
    try:
        docs = parameter_docs(plugin.factory)
        for parameter in parameters_of(plugin.factory):
            default = None if parameter.required else str(parameter.default)
            doc = docs.get(parameter.name, "")
            parameters.append(ParameterDescription(parameter.name, parameter.type_name, default, doc))
    except Exception as error:
        problem = one_line(error)
    return Description(
        kind=plugin.kind,
        hook=HOOKS[plugin.kind],
        name=registry.shown_name(plugin),
        summary=plugin.summary,
        distribution=plugin.distribution,
        version=plugin.version,
        entry_point=plugin.entry_point,
        module=plugin.module,
        file=plugin.file,
        file_hash=plugin.file_hash,
        parameters=parameters,
        problem=problem,
    )


def of_hook(registry: Registry, hook: str | None) -> list[Plugin]:
    """Return the plugins of a kind (``similarity``) or hook (``mirembed_register_similarities``); None: all.

    Raises
    ------
    SpecError
        If there is no such hook.
    """
    kinds = {kind for kind, name in HOOKS.items() if hook in (kind, name, None)}
    if not kinds:
        raise SpecError(f"--hook {hook}: expected {', '.join(HOOKS)}, or one of {', '.join(HOOKS.values())}")
    return [plugin for plugin in registry.plugins if plugin.kind in kinds]


def matching(registry: Registry, name: str) -> tuple[list[Plugin], list[BrokenPlugin]]:
    """Return the plugins that a bare name, a full name, a distribution or an entry point stands for.

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    plugins = [p for p in registry.plugins if name in (p.name, p.full_name, p.distribution)]
    broken = [b for b in registry.broken if name in (b.entry_point, b.distribution)]
    if not plugins and not broken:
        registry.find_any(name)
    return plugins, broken


def parameter_docs(factory: Callable[..., Any]) -> dict[str, str]:
    """Return what a factory's docstring says of each parameter, one line each.

    Read is the section ``Parameters`` of numpydoc, of the class or else of its ``__init__``.
    """
    for documented in (factory, getattr(factory, "__init__", None)):
        section = re.search(
            r"^Parameters\n-{3,}\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)",
            inspect.getdoc(documented) or "",
            re.MULTILINE | re.DOTALL,
        )
        if section is not None:
            entries = re.findall(r"^(\S.*)\n((?:[ \t]+\S.*\n?|\s*\n)*)", section[1] + "\n", re.MULTILINE)
            return {
                name.strip(" *"): " ".join(text.split())
                for names, text in entries
                for name in names.partition(":")[0].split(",")
            }
    return {}
