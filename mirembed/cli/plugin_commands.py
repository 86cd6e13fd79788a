"""Commands of plugins: loaded only if a command may be one of them; their errors name the plugin."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from mirembed.cli.app import App, Group
from mirembed.errors import MirembedError, PluginError
from mirembed.hookspecs import PROJECT
from mirembed.interruption import interruptible

if TYPE_CHECKING:
    from mirembed.registry.plugins import BrokenPlugin, CommandHook

Command: TypeAlias = TyperCommand | TyperGroup
T = TypeVar("T")

_LOADED = "mirembed.plugin_commands"
_OUR_OWN = (MirembedError, BrokenPipeError, typer.Exit, typer.TyperException)
"""What `mirembed.cli.main` reports: an error that the user can fix, and what Typer raises."""


@dataclass(frozen=True)
class PluginCommand:
    """A command of a plugin.

    Attributes
    ----------
    name, summary, distribution, version : str
    command : Command
    """

    name: str
    summary: str
    distribution: str
    version: str
    command: Command = field(repr=False)

    def to_json(self) -> dict[str, str]:
        """Return the facts as JSON."""
        return {name: getattr(self, name) for name in ("name", "summary", "distribution", "version")}


@dataclass(frozen=True)
class PluginCommands:
    """The commands of all plugins, by name.

    Attributes
    ----------
    commands : dict of str to PluginCommand
    taken : list of str
        Why commands are left out: their names are taken.
    broken : list of BrokenPlugin
        Hooks that failed.
    """

    commands: dict[str, PluginCommand]
    taken: list[str]
    broken: list[BrokenPlugin]


class CommandGroup(Group):
    """mirembed's own commands, followed by those of plugins."""

    def list_commands(self, context: Any) -> list[str]:
        """Return the names of all commands for the help, and warn about those of plugins that are left out."""
        return [*super().list_commands(context), *self._of_plugins(context, warn=True)]

    def get_command(self, context: Any, name: str) -> Any:
        """Return a command; plugins are loaded only if mirembed has none of this name."""
        own = super().get_command(context, name)
        if own is not None:
            return own
        found = self._of_plugins(context, warn=False).get(name) or self._of_plugins(context, warn=True).get(name)
        return None if found is None else found.command

    def _of_plugins(self, context: Any, *, warn: bool) -> dict[str, PluginCommand]:
        """Return the commands of plugins, loaded once, as the options before the command select them."""
        if _LOADED not in context.meta:
            context.meta[_LOADED] = self._load(context.params)
        loaded: PluginCommands = context.meta[_LOADED]
        if warn:
            for broken in loaded.broken:
                typer.echo(f"warning: {broken}; its commands are not available; {broken.remedy}", err=True)
            for reason in loaded.taken:
                typer.echo(f"warning: {reason}", err=True)
            context.meta[_LOADED] = PluginCommands(loaded.commands, [], [])  # each is reported once
        return loaded.commands

    def _load(self, parameters: dict[str, Any]) -> PluginCommands:
        folder: Path | None = parameters.get("plugins_dir")
        if folder is None and not os.environ.get("MIREMBED_PLUGINS_DIR") and not _may_have_plugins():
            return PluginCommands({}, [], [])
        from mirembed.registry.discovery import Selection, discover, selecting

        with selecting(parameters.get("no_plugin") or [], folder):
            plugins = discover(Selection.from_environment(), built_in=False)
        loaded = load_commands(plugins.command_hooks, self.commands)
        return PluginCommands(loaded.commands, loaded.taken, [*plugins.broken, *loaded.broken])


def _may_have_plugins() -> bool:
    """Whether a third-party plugin is installed; finding that out is much quicker than loading the registry."""
    try:
        points = importlib.metadata.entry_points(group=PROJECT)
        return any(point.dist is None or point.dist.name != PROJECT for point in points)
    except Exception:  # metadata that no installer would write; discovery reports it
        return True


def load_commands(hooks: Iterable[CommandHook], own: Collection[str]) -> PluginCommands:
    """Call the hooks of plugins, and make their commands.

    A hook that fails, or adds anything but commands, does not affect the others.

    Parameters
    ----------
    hooks : iterable of CommandHook
    own : collection of str
        The names of mirembed's own commands.
    """
    found = PluginCommands({}, [], [])
    for hook in hooks:
        try:
            with interruptible():
                added = _call(hook)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything, even SystemExit
            found.broken.append(hook.broken(error))
            continue
        origin = f"{hook.distribution} {hook.version}"
        for name, command in added.items():
            if name in own or name in found.commands:
                other = "mirembed" if name in own else found.commands[name].distribution
                found.taken.append(
                    f"the command {name} of {origin} is left out, because {other} already has one with this name"
                )
                continue
            _prepare(command, f"the command {name} of {origin}", hook.distribution)
            summary = command.get_short_help_str(limit=80)
            found.commands[name] = PluginCommand(name, summary, hook.distribution, hook.version, command)
    return found


def _call(hook: CommandHook) -> dict[str, Any]:
    app = App()
    with contextlib.redirect_stdout(sys.stderr):  # what the hook prints is no command's result
        hook.call(app)
    if app.registered_callback is not None:
        raise PluginError("it defines a callback; add commands only, or a typer.Typer of its own with add_typer")
    added = dict(typer.main.get_group(app).commands)
    if not added:
        raise PluginError("it adds no command; expected @app.command()")
    return added


def _prepare(command: Any, origin: str, distribution: str) -> None:
    """Show a command in a panel of its own in the help, and let its errors name the plugin."""
    if not isinstance(command.rich_help_panel, str):
        command.rich_help_panel = f"Commands of {distribution}"
    make_context, invoke = command.make_context, command.invoke

    def guarded_context(*arguments: Any, **options: Any) -> Any:
        return _blaming(origin, lambda: make_context(*arguments, **options))

    def guarded_invoke(context: Any) -> None:  # a command's return value is not an exit code
        _blaming(origin, lambda: invoke(context))

    command.make_context, command.invoke = guarded_context, guarded_invoke


def _blaming(origin: str, step: Callable[[], T]) -> T:
    """Call ``step``; errors that are not meant for the user become a `PluginError` that names the command."""
    try:
        with interruptible():
            return step()
    except _OUR_OWN:
        raise
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        raise typer.Exit(1) from None
    except SystemExit as end:
        if isinstance(end.code, str):
            raise MirembedError(end.code) from end
        raise typer.Exit(end.code or 0) from end
    except BaseException as error:
        if os.environ.get("MIREMBED_DEBUG"):
            traceback.print_exception(error)
        from mirembed.registry.plugins import one_line

        raise PluginError(
            f"{origin} fails: {one_line(error)}\n"
            "report it to that plugin's authors, with the output under MIREMBED_DEBUG=1"
        ) from error
