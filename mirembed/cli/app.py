"""The class of the program and its command groups: Typer, with help of its own, and a quick start.

A program with many commands builds the parameters of all of them to run one, and imports pydantic to read a string.
That takes a third of the time of a short command, so both are left out where they change nothing.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from mirembed.cli.help import with_hint, write_help
from mirembed.config.combinations import ALL


class App(typer.Typer):
    """A Typer whose help has two columns, and whose errors name the flag that was probably meant."""

    def __init__(self, cls: type[TyperGroup] | None = None, **settings: Any) -> None:
        super().__init__(cls=cls or Group, rich_markup_mode=None, pretty_exceptions_enable=False, **settings)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """Run the command that the command line names; no other is built if it comes first there."""
        first = sys.argv[1] if len(sys.argv) > 1 and not args and "args" not in settings else ""
        of_that_name = [one for one in self.registered_commands if one.name == first]
        if not of_that_name:
            return super().__call__(*args, **settings)
        only = copy.copy(self)
        only.registered_commands, only.registered_groups = of_that_name, []
        return super(App, only).__call__(*args, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Return a decorator that adds a command."""
        return super().command(name, cls=_Command, **settings)


class _Command(TyperCommand):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        write_help(self, ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return with_hint(self, lambda: super(_Command, self).parse_args(ctx, with_values(args)))

    def get_params(self, ctx: Any) -> list[Any]:
        return _prepared(super().get_params(ctx))


def with_values(args: list[str]) -> list[str]:
    """Complete each ``--combine`` that has no value.

    >>> with_values(["--approach", "nn", "--combine", "--cv", "5"])
    ['--approach', 'nn', '--combine', 'all', '--cv', '5']
    """
    return [
        text
        for arg, after in zip(args, [*args, "--"][1:], strict=True)
        for text in ([arg, ALL] if arg == "--combine" and after.startswith("-") else [arg])
    ]


class Group(TyperGroup):
    """The class of command groups."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        write_help(self, ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; the error of an unknown flag names the one that was probably meant."""
        return with_hint(self, lambda: super(Group, self).parse_args(ctx, args))

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, which read plain values themselves."""
        return _prepared(super().get_params(ctx))


def _prepared(parameters: list[Any]) -> list[Any]:
    """Let parameters read plain values themselves."""
    for parameter in parameters:
        if isinstance(parameter, TyperOption | TyperArgument) and "process_value" not in vars(parameter):
            parameter.process_value = functools.partial(_value, parameter)  # type: ignore[method-assign]
    return parameters


def _value(parameter: Any, context: Any, value: Any) -> Any:
    """Return what ``parameter.process_value(context, value)`` returns, without pydantic where that changes nothing."""
    if value is None and not parameter.required:
        nothing = () if parameter.multiple or parameter.nargs == -1 else None
        return nothing if parameter.callback is None else parameter.callback(context, parameter, nothing)
    described = getattr(parameter, "type_descriptor", None)
    if described is not None and parameter.callback is None:
        given, annotation = described.parameter_info, described.annotation
        if isinstance(value, str):
            if given.parser is not None:
                with contextlib.suppress(ValueError):  # it is raised again, and becomes a usage error
                    return given.parser(value)
            elif annotation is str:
                return value
        elif annotation == list[str] and value and all(isinstance(one, str) for one in value):
            return list(value)
        elif annotation is int and value is parameter.default:
            return value
        if annotation is Path and isinstance(value, str | Path) and _is_any_path(given) and _is_readable(value):
            return Path(value)
    return type(parameter).process_value(parameter, context, value)


def _is_any_path(given: Any) -> bool:
    """Whether a parameter takes any path that is missing or can be read."""
    checks = ("exists", "writable", "resolve_path", "allow_dash", "path_type", "parser")
    return given.file_okay and given.dir_okay and not any(getattr(given, name) for name in checks)


def _is_readable(path: str | Path) -> bool:
    return not os.path.exists(path) or os.access(path, os.R_OK)  # noqa: PTH110 (it never raises)
