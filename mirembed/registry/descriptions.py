"""What is known about a plugin without calling it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from mirembed.registry.names import Registry
from mirembed.registry.plugins import HOOKS, Kind, Plugin, one_line
from mirembed.specs import parameters_of


@dataclass(frozen=True)
class ParameterDescription:
    """A parameter that a spec can set.

    Attributes
    ----------
    name, type : str
    default : str or None
        None if the parameter is required.
    doc : str
        From the ``Parameters`` section of the factory's docstring; empty if it has none.
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
        ``name`` is the shortest unambiguous name.
    module, file : str
        Where the factory is defined.
    file_hash : str
        For a one-file plugin; see `Plugin`.
    parameters : list of ParameterDescription
    problem : str
        Why the parameters cannot be read; empty if they can.
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
    """Describe a plugin without calling its factory."""
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


def parameter_docs(factory: Callable[..., Any]) -> dict[str, str]:
    """Return the documentation of each parameter of a factory, one line each.

    It is read from the numpydoc section ``Parameters`` of the class, or else of its ``__init__``.
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
