"""``mirembed plugins``: list, show, check and write plugins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli import options

if TYPE_CHECKING:
    from mirembed.registry.plugins import Description

app = typer.Typer(help="List the plugins; show, check or write one.", invoke_without_command=True)


@app.callback()
def list_all(
    context: typer.Context,
    hook: Annotated[
        str | None, typer.Option(metavar="KIND", help="Only dataset, similarity or learner plugins.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show parameters, and the tracebacks of broken plugins.")
    ] = False,
    json: options.Json = False,
) -> None:
    """List the plugins with their origin, and those that are broken; show, check or write one."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from mirembed.cli.output import print_json, print_table
    from mirembed.registry import Registry
    from mirembed.registry.plugins import describe

    registry = Registry.discover()
    plugins = registry.of_hook(hook)
    if json:
        print_json(
            {
                "plugins": [describe(plugin, registry.shown_name(plugin)).to_json() for plugin in plugins],
                "broken": [asdict(broken) for broken in registry.broken],
                "left_out": [asdict(left_out) for left_out in registry.left_out],
                "clashes": registry.clashes(),
            }
        )
        return
    columns = ["kind", "name", "summary", "distribution", "version"]
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


@app.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A plugin, DISTRIBUTION/PLUGIN, or a whole distribution.")
    ],
    json: options.Json = False,
) -> None:
    """Show a plugin: its parameters with types, defaults and meaning, and where it comes from."""
    from dataclasses import asdict

    from mirembed.cli.output import print_json
    from mirembed.registry import Registry
    from mirembed.registry.plugins import describe

    registry = Registry.discover()
    plugins, broken = registry.matching(name)
    descriptions = [describe(plugin, registry.shown_name(plugin)) for plugin in plugins]
    if json:
        print_json({"plugins": [d.to_json() for d in descriptions], "broken": [asdict(b) for b in broken]})
        return
    for description in descriptions:
        _print(description)
    for one in broken:
        typer.echo(f"broken: {one}; {one.remedy}")
        typer.echo(one.details)


def _print(description: Description) -> None:
    from mirembed.cli.output import print_table

    plugin = description.plugin
    typer.secho(f"{plugin.kind} {description.name}", bold=True)
    if plugin.summary:
        typer.echo(f"  {plugin.summary}")
    typer.echo(f"  from    {plugin.distribution} {plugin.version}, {plugin.hook}")
    typer.echo(f"  module  {plugin.module}")
    typer.echo(f"  file    {plugin.file}")
    if description.problem:
        typer.echo(f"  unreadable parameters: {description.problem}")
    if description.parameters:
        rows = [[p.name, p.type, "required" if p.default is None else p.default, p.doc] for p in description.parameters]
        print_table(["parameter", "type", "default", "meaning"], rows)
    elif not description.problem:
        typer.echo("  no parameters")


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin: NAME or NAME:PARAM=VALUE.")],
    audio: Annotated[Path | None, typer.Option(metavar="DIR", help="The audio folder of a dataset.")] = None,
    json: options.Json = False,
) -> None:
    """Check that a plugin does what its hook promises; exit code 1 if it does not.

    If plugins of several kinds have the name, all of them are checked.
    """
    import contextlib
    import sys
    from dataclasses import asdict

    from mirembed.cli.output import print_json, print_table
    from mirembed.progress import counted
    from mirembed.registry import Registry
    from mirembed.specs import Spec
    from mirembed.testing.checks import run_checks

    registry = Registry.discover()
    spec = Spec.parse(name)
    kinds = dict.fromkeys(plugin.kind for plugin in registry.find_any(spec.name))
    with contextlib.redirect_stdout(sys.stderr):  # what plugins print is not a result
        outcomes = {kind: run_checks(kind, registry, spec, audio) for kind in kinds}
    flat = [outcome for of_kind in outcomes.values() for outcome in of_kind]
    n_failed = sum(outcome.status == "failed" for outcome in flat)
    if json:
        print_json({kind: [asdict(outcome) for outcome in of_kind] for kind, of_kind in outcomes.items()})
        raise typer.Exit(1 if n_failed else 0)
    for kind, of_kind in outcomes.items():
        print_table(["check", "", "promise"], [[o.check, o.status, o.promise] for o in of_kind], f"{kind} {spec}")
        for outcome in of_kind:
            if outcome.status == "failed":
                typer.echo(f"{outcome.check}: {outcome.reason}")
                for label, text in (("given", outcome.given), ("usual cause", outcome.cause)):
                    if text:
                        typer.echo(f"  {label}: {text}")
    typer.echo(f"{spec}: {counted(len(flat), 'check')}, {n_failed} failed")
    raise typer.Exit(1 if n_failed else 0)


@app.command("new")
def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="similarity, dataset or learner.")],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the plugin: lower-case letters, digits and '-'.")
    ],
    inside: Annotated[
        Path, typer.Option("--in", metavar="DIR", help="Create the plugin's folder in this folder.")
    ] = Path(),
) -> None:
    """Write a distribution with one plugin, ready to install: module, metadata, test and README."""
    from mirembed.registry import Registry
    from mirembed.scaffold import write_plugin

    written = write_plugin(kind, name, inside, Registry.discover())
    for path in written.files:
        typer.echo(path)
    typer.echo(f"next: pip install --editable {written.folder}; run its tests: pytest {written.folder}; then edit")
    typer.echo(f"{written.module}. The README beside it shows the commands that use the plugin.")
