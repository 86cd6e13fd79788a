"""Finding plugins and loading them one by one: one that fails costs its own names and nothing else."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy

from mirembed import hookspecs
from mirembed.errors import MirembedError, PluginError
from mirembed.registry.isolation import one_line
from mirembed.registry.plugins import HOOKS, HOST, BrokenPlugin, Kind, LeftOut, Plugin
from mirembed.registry.selection import FOLDER, Selection, canonical
from mirembed.specs import Spec


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from: an entry point of a distribution, or a file of ``--plugins-dir``."""

    entry_point: str
    distribution: str
    version: str
    load: Callable[[], Any]
    file_hash: str = ""


@dataclass(frozen=True)
class Discovered:
    """What there is."""

    plugins: list[Plugin]
    broken: list[BrokenPlugin]
    left_out: list[LeftOut]


def discover(selection: Selection) -> Discovered:
    """Load the built-in plugins, and those of third parties that the user wants.

    Raises
    ------
    UnknownNameError
        If the selection names a plugin that is not there.
    PluginError
        If the folder of one-file plugins is none.
    """
    found = Discovered([], [], [])
    sources = [*_installed(found.broken), *_files(selection.folder)]
    theirs = [source for source in sources if source.distribution != HOST]
    selection.check({name for source in theirs for name in (source.distribution, source.entry_point)})
    for source in sorted(sources, key=lambda source: (source.distribution, source.entry_point)):
        reason = None
        if source.distribution != HOST:
            reason = selection.why_not(source.distribution, source.entry_point, installed=not source.file_hash)
        if reason is not None:
            found.left_out.append(LeftOut(source.entry_point, source.distribution, reason))
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found.plugins.extend(_load(source, found.plugins))
        except KeyboardInterrupt:  # ctrl-C is the user's
            raise
        except BaseException as error:  # a plugin may raise anything, and may even try to leave the program
            found.broken.append(_broken(source, error))
    return found


def _installed(broken: list[BrokenPlugin]) -> Iterator[Source]:
    """Yield the entry points of the group ``mirembed``, of each distribution as Python finds it first."""
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            points = distribution.entry_points.select(group=hookspecs.PROJECT)
            if not points or canonical(distribution.name) in seen:
                continue
            seen.add(canonical(distribution.name))
            for point in points:
                yield Source(point.name, distribution.name, distribution.version, point.load)
        except Exception as error:  # metadata that no installer would write
            nameless = Source("entry_points.txt", str(getattr(distribution, "_path", "unknown")), "", lambda: None)
            broken.append(_broken(nameless, error))


def _files(folder: Path | None) -> Iterator[Source]:
    """Yield the Python files of a folder, but for those that begin with ``_``, ``.`` or ``test_``."""
    if folder is None:
        return
    if not folder.is_dir():
        raise PluginError(f"{folder} is not a folder; give one with one-file plugins (--plugins-dir or {FOLDER})")
    for path in sorted(folder.glob("*.py")):
        if not path.name.startswith(("_", ".", "test_")):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            yield Source(path.stem, path.name, f"sha256:{digest[:12]}", _file_loader(path), f"sha256:{digest}")


def _file_loader(path: Path) -> Callable[[], Any]:
    # A name of its own, so that a file called random.py is in nobody's way. Saved estimators bear it.
    name = "mirembed_file_" + re.sub(r"\W", "_", path.stem)

    def load() -> Any:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return load


def _load(source: Source, earlier: list[Plugin]) -> list[Plugin]:
    """Load one plugin, and return what its hooks register."""
    module = source.load()
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    _check_hook_names(manager, module)
    plugins: list[Plugin] = []
    for kind, hook in HOOKS.items():
        try:
            getattr(manager.hook, hook)(register=_collector(kind, source, plugins))
        except MirembedError:
            raise
        except Exception as error:
            raise PluginError(f"{hook} raises {one_line(error)}") from error
    if not plugins:
        raise PluginError(f"registers nothing; it needs one of the hooks {', '.join(HOOKS.values())}")
    for plugin in plugins:
        if any((p.kind, p.full_name) == (plugin.kind, plugin.full_name) for p in earlier):
            raise PluginError(
                f"{plugin.kind} {plugin.name!r} is registered by another entry point of {source.distribution} already"
            )
    return plugins


def _collector(kind: Kind, source: Source, plugins: list[Plugin]) -> Callable[..., None]:
    def register(name: str, factory: Callable[..., Any], *, summary: str = "") -> None:
        if not isinstance(name, str) or "/" in name or Spec.parse(name).parameters:
            raise PluginError(f"{name!r} cannot be a name: letters, digits, '.', '_' and '-' only")
        if not callable(factory):
            raise PluginError(f"the factory of {kind} {name!r} is {factory!r}, which cannot be called")
        if not isinstance(summary, str):
            raise PluginError(f"the summary of {kind} {name!r} is {summary!r}; expected a line of text")
        if any(p.kind == kind and p.name == name for p in plugins):
            raise PluginError(f"{kind} {name!r} is registered twice")
        origin = (source.distribution, source.version, source.entry_point, source.file_hash)
        plugins.append(Plugin(kind, name, factory, summary, *origin))

    return register


def _check_hook_names(manager: pluggy.PluginManager, module: Any) -> None:
    """Refuse functions that are meant to be hooks and are none: pluggy passes over them in silence."""
    known = list(HOOKS.values())
    for name in dir(module):
        member = getattr(module, name, None)
        if not inspect.isroutine(member):
            continue
        options = getattr(member, f"{hookspecs.PROJECT}_impl", None)
        hook = (options or {}).get("specname") or name
        if hook in known and options is None:
            raise PluginError(f"{name} lacks the decorator @hookimpl (from mirembed import hookimpl)")
        if hook not in known and (options is not None or hook.startswith("mirembed_")):
            near = difflib.get_close_matches(hook, known, n=1, cutoff=0.0)
            raise PluginError(f"there is no hook {hook!r}; {near[0]!r} was probably meant")


def _broken(source: Source, error: BaseException) -> BrokenPlugin:
    details = "".join(traceback.format_exception(error))
    return BrokenPlugin(source.entry_point, source.distribution, source.version, one_line(error), details)
