"""The class of the program and its command groups: Typer, with help that names no Python types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption


class App(typer.Typer):
    """A Typer that shows a flag without a value (not ``--json <bool>``) and an argument without its Python type."""

    def __init__(self, cls: type[TyperGroup] | None = None, **settings: Any) -> None:
        super().__init__(cls=cls or Group, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Return a decorator that adds a command."""
        return super().command(name, cls=_Command, **settings)


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """The class of command groups."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, without the types of flags and arguments."""
        return _without_types(super().get_params(ctx))


def _without_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if isinstance(parameter, TyperOption) and parameter.is_flag:
            parameter.metavar = ""
        elif isinstance(parameter, TyperArgument):
            # Its name is its metavar, and Typer has no setting for the type.
            parameter.display_type_rich = _no_type  # type: ignore[method-assign]
    return parameters


def _no_type(ctx: Any) -> None:
    return None
