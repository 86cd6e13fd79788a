"""Selecting plugins and loading them one by one, so that one that fails takes nothing else down.

The selection is kept in the environment, because worker processes inherit it and discover plugins again.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from mirembed import hookspecs
from mirembed.errors import MirembedError, PluginError, UnknownNameError
from mirembed.interruption import interruptible
from mirembed.registry.plugins import (
    COMMANDS_HOOK,
    HOOKS,
    HOST,
    BrokenPlugin,
    CommandHook,
    Kind,
    LeftOut,
    Plugin,
    one_line,
)
from mirembed.specs import Spec, near_names

if TYPE_CHECKING:
    import typer

ALLOWED, REFUSED, FOLDER = "MIREMBED_PLUGINS", "MIREMBED_NO_PLUGINS", "MIREMBED_PLUGINS_DIR"


@dataclass(frozen=True)
class Selection:
    """Which plugins to load besides the built-in ones, by distribution or entry point.

    Attributes
    ----------
    allowed : tuple of str or None
        The only installed plugins to load; None for all.
    refused : tuple of str
        Plugins not to load, even if allowed.
    folder : pathlib.Path or None
        A folder whose files are loaded as plugins, whether or not they are allowed.
    """

    allowed: tuple[str, ...] | None = None
    refused: tuple[str, ...] = ()
    folder: Path | None = None

    @classmethod
    def from_environment(cls) -> Selection:
        """Read ``MIREMBED_PLUGINS``, ``MIREMBED_NO_PLUGINS`` and ``MIREMBED_PLUGINS_DIR``."""
        allowed, folder = os.environ.get(ALLOWED), os.environ.get(FOLDER)
        return cls(
            None if allowed is None else _split(allowed),
            _split(os.environ.get(REFUSED, "")),
            Path(folder) if folder else None,
        )

    def reason_left_out(self, source: Source) -> str:
        """Return why a plugin is not loaded; empty if it is."""
        known = {_canonical(source.distribution), _canonical(source.entry_point)}
        if source.distribution == HOST:
            return ""
        if known & set(map(_canonical, self.refused)):
            return "--no-plugin"
        if not source.file_hash and self.allowed is not None and not known & set(map(_canonical, self.allowed)):
            return f"not in {ALLOWED}"
        return ""

    def check(self, known: Collection[str]) -> None:
        """Check that every name in the selection matches a plugin.

        Parameters
        ----------
        known : collection of str
            Third-party distributions and entry points.

        Raises
        ------
        UnknownNameError
            If a name matches none of them.
        """
        canonical_names = set(map(_canonical, known))
        for source, names in ((ALLOWED, self.allowed or ()), ("--no-plugin", self.refused)):
            for name in names:
                if _canonical(name) not in canonical_names:
                    near = near_names(name, known) or sorted(known) or ["none"]
                    raise UnknownNameError(f"{source} {name}: no such third-party plugin; available: {', '.join(near)}")


@contextlib.contextmanager
def selecting(refused: Sequence[str], folder: Path | None) -> Iterator[None]:
    """Leave plugins out, and add those in a folder, for this process and its workers until the block ends."""
    before = {name: os.environ.get(name) for name in (REFUSED, FOLDER)}
    if refused:
        os.environ[REFUSED] = ",".join([*_split(before[REFUSED] or ""), *refused])
    if folder is not None:
        os.environ[FOLDER] = str(folder.absolute())
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _canonical(name: str) -> str:
    """Normalize a distribution's name for comparison (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _split(text: str) -> tuple[str, ...]:
    return tuple(name for name in map(str.strip, text.split(",")) if name)


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from: an entry point of a distribution, or a file in ``--plugins-dir``."""

    entry_point: str
    distribution: str
    version: str
    load: Callable[[], Any]
    file_hash: str = ""

    def broken(self, error: BaseException) -> BrokenPlugin:
        """Record why it failed to load."""
        details = "".join(traceback.format_exception(error))
        return BrokenPlugin(self.entry_point, self.distribution, self.version, one_line(error), details)


class Found(NamedTuple):
    """What `discover` finds."""

    plugins: list[Plugin]
    broken: list[BrokenPlugin]
    left_out: list[LeftOut]
    command_hooks: list[CommandHook]


def discover(selection: Selection, *, built_in: bool = True) -> Found:
    """Load the built-in plugins, unless they are not wanted, and the selected third-party ones.

    Raises
    ------
    UnknownNameError
        If the selection names a plugin that does not exist.
    PluginError
        If the folder of one-file plugins does not exist.
    """
    found = Found([], [], [], [])
    sources = [*_installed(found.broken), *_files(selection.folder)]
    third_party = [source for source in sources if source.distribution != HOST]
    selection.check({name for source in third_party for name in (source.distribution, source.entry_point)})
    wanted = sources if built_in else third_party
    for source in sorted(wanted, key=lambda source: (source.distribution, source.entry_point)):
        if reason := selection.reason_left_out(source):
            found.left_out.append(LeftOut(source.entry_point, source.distribution, reason))
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr), interruptible():
                plugins, command_hooks = _load(source, found.plugins)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything, even SystemExit
            found.broken.append(source.broken(error))
        else:
            found.plugins.extend(plugins)
            found.command_hooks.extend(command_hooks)
    return found


def _installed(broken: list[BrokenPlugin]) -> Iterator[Source]:
    """Yield the entry points in the group ``mirembed``; only the first if a distribution is installed twice."""
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            if hookspecs.PROJECT not in (distribution.read_text("entry_points.txt") or ""):
                continue  # parsing them all would take longer than everything else here
            points = distribution.entry_points.select(group=hookspecs.PROJECT)
            if not points or _canonical(name := distribution.name) in seen:  # the name is parsed anew by every access
                continue
            seen.add(_canonical(name))
            version = distribution.version
            for point in points:
                yield Source(point.name, name, version, point.load)
        except Exception as error:  # metadata that no installer would write
            unnamed = Source("entry_points.txt", str(getattr(distribution, "_path", "unknown")), "", lambda: None)
            broken.append(unnamed.broken(error))


def _files(folder: Path | None) -> Iterator[Source]:
    """Yield the Python files in a folder, except those that start with ``_``, ``.`` or ``test_``."""
    if folder is None:
        return
    if not folder.is_dir():
        raise PluginError(f"no folder {folder}; --plugins-dir and {FOLDER} take a folder of one-file plugins")
    for path in sorted(folder.glob("*.py")):
        if not path.name.startswith(("_", ".", "test_")):
            source = path.read_bytes()
            digest = hashlib.sha256(source).hexdigest()
            load = partial(_load_file, path, source)
            yield Source(path.stem, path.name, f"sha256:{digest[:12]}", load, f"sha256:{digest}")


class _Loader(SourceFileLoader):
    """Runs the source that was hashed: the file, or Python's bytecode of it, may be newer or older."""

    def __init__(self, name: str, path: Path, source: bytes) -> None:
        super().__init__(name, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the module."""
        code: CodeType = self.source_to_code(self._source, self.path)
        return code


def _load_file(path: Path, source: bytes) -> Any:
    # The prefix keeps a file called random.py from hiding the module of that name. Saved estimators refer to it.
    name = "mirembed_file_" + re.sub(r"\W", "_", path.stem)
    loader = _Loader(name, path, source)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _load(source: Source, earlier: list[Plugin]) -> tuple[list[Plugin], list[CommandHook]]:
    """Load one plugin and return what its hooks register, and its hook for commands if it has one."""
    module = source.load()
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    _check_hook_names(module)
    plugins: list[Plugin] = []
    name = str(getattr(module, "__name__", type(module).__module__))
    for kind, hook in HOOKS.items():
        try:
            getattr(manager.hook, hook)(register=_collector(kind, source, name, plugins))
        except MirembedError:
            raise
        except Exception as error:
            raise PluginError(f"{hook} raised {one_line(error)}") from error
    hook_of_commands = getattr(manager.hook, COMMANDS_HOOK)
    call = partial(_add_commands, hook_of_commands)
    command_hooks = [CommandHook(source.entry_point, source.distribution, source.version, call)]
    if not hook_of_commands.get_hookimpls():
        command_hooks = []
    if not plugins and not command_hooks:
        hooks = ", ".join([*HOOKS.values(), COMMANDS_HOOK])
        raise PluginError(f"registers nothing; it needs at least one of the hooks {hooks}")
    for plugin in plugins:
        if any((p.kind, p.full_name) == (plugin.kind, plugin.full_name) for p in earlier):
            raise PluginError(
                f"{plugin.kind} {plugin.name!r} is already registered by another entry point of {source.distribution}"
            )
    return plugins, command_hooks


def _add_commands(hook: pluggy.HookCaller, app: typer.Typer) -> None:
    hook(app=app)


def _collector(kind: Kind, source: Source, module: str, plugins: list[Plugin]) -> Callable[..., None]:
    def register(name: str, factory: Callable[..., Any], *, summary: str = "") -> None:
        if not isinstance(name, str) or "/" in name or Spec.parse(name).parameters:
            raise PluginError(f"invalid name {name!r}; use only letters, digits, '.', '_' and '-'")
        if not callable(factory):
            raise PluginError(f"the factory of {kind} {name!r} is {factory!r}, which is not callable")
        if not isinstance(summary, str):
            raise PluginError(f"the summary of {kind} {name!r} is {summary!r}; expected a line of text")
        if any(p.kind == kind and p.name == name for p in plugins):
            raise PluginError(f"{kind} {name!r} is registered twice")
        origin = (source.distribution, source.version, source.entry_point, source.file_hash, module)
        plugins.append(Plugin(kind, name, factory, summary, *origin))

    return register


def _check_hook_names(module: Any) -> None:
    """Reject functions that are meant to be hooks but are not: pluggy ignores them silently."""
    known = [*HOOKS.values(), COMMANDS_HOOK]
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
            raise PluginError(f"unknown hook {hook!r} (did you mean {near[0]!r}?)")
