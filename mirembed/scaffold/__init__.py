"""Writes a working distribution with one plugin, for ``mirembed plugins new``.

The templates are beside this file, with placeholders such as ``$name``.
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
from mirembed.store.files import check_writable, writing

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Scaffold:
    """A distribution that was written.

    Attributes
    ----------
    folder, module : pathlib.Path
        The distribution's folder, and the file that contains the plugin.
    files : list of pathlib.Path
        All files.
    """

    folder: Path
    module: Path
    files: list[Path]


def write_plugin(kind: str, name: str, inside: Path, registry: Registry) -> Scaffold:
    """Write ``inside/mirembed-NAME``: metadata, module, test and README.

    Parameters
    ----------
    kind : {"dataset", "features", "network", "similarity", "learner"}
    name : str
        The name under which the plugin registers.
    inside : pathlib.Path
        Created if it does not exist.
    registry : Registry
        The plugins whose names are taken.

    Raises
    ------
    SpecError
        If the kind or the name is invalid.
    PluginError
        If the name, the module or the folder already exists.
    StoreWriteError
        If the files cannot be written.
    """
    module = f"mirembed_{name.replace('-', '_')}"
    _check(kind, name, module, registry)
    folder = inside / f"mirembed-{name}"
    check_writable(folder, "--in")
    if folder.exists():
        raise PluginError(f"{folder} already exists; choose another NAME or another folder with --in")
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
    return Scaffold(folder, folder / f"{module}.py", [folder / file for file in contents])


def _check(kind: str, name: str, module: str, registry: Registry) -> None:
    if kind not in HOOKS:
        raise SpecError(f"unknown kind of plugin {kind!r}; expected one of {', '.join(HOOKS)}")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 50:
        raise SpecError(f"invalid plugin name {name!r}; use lower-case letters, digits and '-', as in my-{kind}")
    if name.startswith("mirembed"):
        raise SpecError(f"invalid plugin name {name!r}; omit 'mirembed': the distribution will be called mirembed-NAME")
    for plugin in registry.plugins:
        if (plugin.kind, plugin.name) == (kind, name):
            raise PluginError(f"{plugin.distribution} already has the {kind} {name!r}; choose another name")
    if importlib.util.find_spec(module) is not None:
        raise PluginError(f"a module {module} already exists; choose a name other than {name!r}")


def _class_name(kind: str, name: str) -> str:
    plain = "".join(part.capitalize() for part in name.split("-"))
    taken = {*mirembed.__all__, "None", "True", "False", "Path"}
    return f"{plain}{kind.capitalize()}" if plain in taken else plain
