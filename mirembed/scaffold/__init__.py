"""Writes a distribution with one plugin to begin with.

The templates stand beside this file; ``$name`` and its like are filled in.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template

import mirembed
from mirembed.errors import PluginError, SpecError
from mirembed.registry import HOOKS, Registry
from mirembed.store.files import writing

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Written:
    """A distribution that was written.

    Attributes
    ----------
    folder, module : pathlib.Path
        The distribution's folder, and the file with the plugin.
    files : list of pathlib.Path
        All files.
    """

    folder: Path
    module: Path
    files: list[Path]


def write_plugin(kind: str, name: str, inside: Path, registry: Registry) -> Written:
    """Write ``inside/mirembed-NAME``: metadata, module, test and README.

    Parameters
    ----------
    kind : {"similarity", "dataset", "learner"}
    name : str
        Under which the plugin registers.
    inside : pathlib.Path
        Made if it is not there.
    registry : Registry
        Whose names are taken.

    Raises
    ------
    SpecError
        If the kind is none, or the name cannot be one.
    PluginError
        If the name, its module or the folder is taken.
    StoreWriteError
        If the files cannot be written.
    """
    module = f"mirembed_{name.replace('-', '_')}"
    _check(kind, name, module, registry)
    folder = inside / f"mirembed-{name}"
    if folder.exists():
        raise PluginError(f"{folder} is there already, and is left as it is; choose another NAME, or another --in")
    values = {"kind": kind, "name": name, "module": module, "class_name": _class_name(kind, name)}
    contents = {
        "pyproject.toml": "pyproject.toml.in",
        f"{module}.py": f"{kind}.py.in",
        f"test_{name.replace('-', '_')}.py": f"test_{kind}.py.in",
        "README.md": f"README-{kind}.md.in",
    }
    with writing(folder) as temporary:
        temporary.mkdir()
        for file, template in contents.items():
            text = Template((_TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)
            (temporary / file).write_text(text, encoding="utf-8")
    return Written(folder, folder / f"{module}.py", [folder / file for file in contents])


def _check(kind: str, name: str, module: str, registry: Registry) -> None:
    if kind not in HOOKS:
        raise SpecError(f"{kind!r} is no kind of plugin; expected {', '.join(HOOKS)}")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 50:
        raise SpecError(
            f"{name!r} cannot be a plugin's name; write lower-case letters, digits and '-', as in my-{kind}"
        )
    if name.startswith("mirembed"):
        raise SpecError(f"{name!r}: leave 'mirembed' out; the distribution of NAME is called mirembed-NAME")
    for plugin in registry.plugins:
        if (plugin.kind, plugin.name) == (kind, name):
            raise PluginError(f"{plugin.distribution} has a {kind} {name!r} already; choose another name")
    if importlib.util.find_spec(module) is not None:
        raise PluginError(f"there is a module {module} already; choose another name than {name!r}")


def _class_name(kind: str, name: str) -> str:
    plain = "".join(part.capitalize() for part in name.split("-"))
    taken = {*mirembed.__all__, "None", "True", "False", "Path"}
    return f"{plain}{kind.capitalize()}" if plain in taken else plain
