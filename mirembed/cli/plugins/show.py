"""``mirembed plugins show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli.options import Json

if TYPE_CHECKING:
    from mirembed.registry.descriptions import Description


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin, distribution/plugin, or a distribution.")],
    json: Json = False,
) -> None:
    """Show a plugin: its parameters with types, defaults and meaning, and where it comes from."""
    from dataclasses import asdict

    from mirembed.cli.console import print_json
    from mirembed.registry import Registry
    from mirembed.registry.descriptions import describe

    registry = Registry.discover()
    plugins, broken = registry.matching(name)
    descriptions = [describe(registry, plugin) for plugin in plugins]
    if json:
        print_json({"plugins": [d.to_json() for d in descriptions], "broken": [asdict(b) for b in broken]})
        return
    for description in descriptions:
        _print(description)
    for one in broken:
        typer.echo(f"broken: {one}; {one.remedy}")
        typer.echo(one.details)


def _print(description: Description) -> None:
    from mirembed.cli.console import print_table

    typer.secho(f"{description.kind} {description.name}", bold=True)
    if description.summary:
        typer.echo(f"  {description.summary}")
    typer.echo(f"  from    {description.distribution} {description.version}, {description.hook}")
    typer.echo(f"  module  {description.module}")
    typer.echo(f"  file    {description.file}")
    if description.problem:
        typer.echo(f"  its parameters cannot be read: {description.problem}")
    if description.parameters:
        rows = [[p.name, p.type, "required" if p.default is None else p.default, p.doc] for p in description.parameters]
        print_table(["parameter", "type", "default", "meaning"], rows)
    elif not description.problem:
        typer.echo("  no parameters")
