"""``mirembed plugins``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirembed.cli.options import Json


def list_all(
    context: typer.Context,
    hook: Annotated[
        str | None, typer.Option(metavar="HOOK", help="Only these: dataset, similarity, learner, or the hook's name.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show the parameters, and the traceback of what is broken.")
    ] = False,
    json: Json = False,
) -> None:
    """List the plugins, where they come from, and what is broken; show, check or write one."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from mirembed.cli.console import print_json, print_table
    from mirembed.registry import Registry
    from mirembed.registry.descriptions import describe

    registry = Registry.discover()
    plugins = registry.of_hook(hook)
    if json:
        print_json(
            {
                "plugins": [describe(registry, plugin).to_json() for plugin in plugins],
                "broken": [asdict(broken) for broken in registry.broken],
                "left_out": [asdict(left_out) for left_out in registry.left_out],
                "clashes": [str(clash) for clash in registry.clashes()],
            }
        )
        return
    columns = ["hook", "name", "what it is", "distribution", "version"]
    rows = [[p.kind, registry.shown_name(p), p.summary, p.distribution, p.version] for p in plugins]
    if verbose:
        columns.append("parameters")
        for row, plugin in zip(rows, plugins, strict=True):
            row.append(plugin.parameters)
    print_table(columns, rows)
    for clash in registry.clashes():
        typer.echo(f"clash: {clash}")
    for left_out in registry.left_out:
        typer.echo(f"left out: {left_out}")
    for broken in registry.broken:
        typer.echo(f"broken: {broken}; {broken.remedy}")
        if verbose:
            typer.echo(broken.details)
