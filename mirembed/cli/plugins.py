"""``mirembed plugins``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirembed.cli.options import Json


def plugins(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show the parameters, and the traceback of what is broken.")
    ] = False,
    json: Json = False,
) -> None:
    """List the datasets, similarities and learners there are, where they come from, and what is broken."""
    from mirembed.cli.console import print_json, print_table
    from mirembed.registry import Registry

    registry = Registry.discover()
    if json:
        print_json(registry.to_json())
        return
    columns = ["hook", "name", "what it is", "distribution", "version"]
    rows = [[p.kind, registry.shown_name(p), p.summary, p.distribution, p.version] for p in registry.plugins]
    if verbose:
        columns.append("parameters")
        for row, plugin in zip(rows, registry.plugins, strict=True):
            row.append(plugin.parameters)
    print_table(columns, rows)
    for broken in registry.broken:
        typer.echo(f"broken: {broken}")
        if verbose:
            typer.echo(broken.details)
