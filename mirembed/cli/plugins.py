"""``mirembed plugins``: list, show, check and write plugins."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli import options
from mirembed.cli.app import App
from mirembed.cli.output import Table, heading, print_result
from mirembed.cli.plugin_commands import load_commands
from mirembed.progress import counted
from mirembed.registry import BrokenPlugin, Registry
from mirembed.registry.plugins import Description, describe
from mirembed.specs import Spec

if TYPE_CHECKING:
    from mirembed.testing import Outcome

app = App(help="List the plugins; show, check or write one.", invoke_without_command=True)


@app.callback()
def list_all(
    context: typer.Context,
    hook: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Only plugins of this kind: dataset, features, network, similarity, learner or command.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show parameters, and the tracebacks of broken plugins.")
    ] = False,
    json: options.Json = False,
) -> None:
    """List the plugins, where they come from and which are broken; show, check or write one."""
    if context.invoked_subcommand is not None:
        return

    registry = Registry.discover()
    plugins = registry.of_hook(hook)
    own = [*getattr(context.find_root().command, "commands", ())]
    of_plugins = load_commands(registry.command_hooks if registry.has_commands(hook) else (), own)
    commands = list(of_plugins.commands.values())
    columns = ["kind", "name", "summary", "distribution", "version", *["parameters"] * verbose]
    rows = [
        [p.kind, registry.shown_name(p), p.summary, p.distribution, p.version, *([p.parameters] if verbose else [])]
        for p in plugins
    ]
    rows += [["command", c.name, c.summary, c.distribution, c.version, *[""] * verbose] for c in commands]
    clashes = [*registry.clashes(), *of_plugins.taken]
    broken = [*registry.broken, *of_plugins.broken]
    print_result(
        json,
        lambda: {
            "plugins": [describe(plugin, registry.shown_name(plugin)).to_json() for plugin in plugins],
            "commands": [command.to_json() for command in commands],
            "broken": [asdict(one) for one in broken],
            "left_out": [asdict(left_out) for left_out in registry.left_out],
            "clashes": clashes,
        },
        [
            Table(columns, rows),
            *(f"clash: {clash}" for clash in clashes),
            *(f"left out: {left_out}" for left_out in registry.left_out),
            *(_broken_text(one, verbose) for one in broken),
        ],
    )


def _broken_text(broken: BrokenPlugin, verbose: bool) -> str:
    return f"broken: {broken}; {broken.remedy}" + f"\n{broken.details}" * verbose


@app.command("show", epilog="Example: mirembed plugins show gru")
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A plugin, DISTRIBUTION/PLUGIN, or a whole distribution.")
    ],
    json: options.Json = False,
) -> None:
    """Show a plugin: its parameters with types, defaults and meaning, and where it comes from."""
    registry = Registry.discover()
    plugins, broken = registry.matching(name)
    descriptions = [describe(plugin, registry.shown_name(plugin)) for plugin in plugins]
    print_result(
        json,
        lambda: {"plugins": [d.to_json() for d in descriptions], "broken": [asdict(b) for b in broken]},
        [
            *(block for description in descriptions for block in _text(description)),
            *(_broken_text(one, verbose=True) for one in broken),
        ],
    )


def _text(description: Description) -> Iterator[str | Table]:
    plugin = description.plugin
    yield heading(f"{plugin.kind} {description.name}")
    if plugin.summary:
        yield f"  {plugin.summary}"
    yield f"  from    {plugin.distribution} {plugin.version}, {plugin.hook}"
    yield f"  module  {plugin.module}"
    yield f"  file    {plugin.file}"
    if description.problem:
        yield f"  unreadable parameters: {description.problem}"
    if description.parameters:
        rows = [[p.name, p.type, "required" if p.default is None else p.default, p.doc] for p in description.parameters]
        yield Table(["parameter", "type", "default", "meaning"], rows)
    elif not description.problem:
        yield "  no parameters"


@app.command("check", epilog="Example: mirembed plugins check my_network")
def check(
    spec: Annotated[
        Spec, typer.Argument(metavar="NAME", parser=Spec.parse, help="A plugin: NAME or NAME:PARAM=VALUE.")
    ],
    audio: options.AudioFolder = None,
    json: options.Json = False,
) -> None:
    """Check that a plugin does everything that its hook requires; exit code 1 if it does not.

    If several plugins of different kinds have this name, all of them are checked.
    """
    from mirembed.testing import run_checks

    registry = Registry.discover()
    kinds = dict.fromkeys(plugin.kind for plugin in registry.find_any(spec.name))
    with contextlib.redirect_stdout(sys.stderr):  # what plugins print is not a result
        outcomes = {kind: run_checks(kind, registry, spec, audio) for kind in kinds}
    flat = [outcome for of_kind in outcomes.values() for outcome in of_kind]
    n_failed = sum(outcome.status == "failed" for outcome in flat)
    text: list[str | Table] = []
    for kind, of_kind in outcomes.items():
        text.append(
            Table(["check", "", "promise"], [[o.check, o.status, o.promise] for o in of_kind], f"{kind} {spec}")
        )
        text += [_failure(outcome) for outcome in of_kind if outcome.status == "failed"]
    text.append(f"{spec}: {counted(len(flat), 'check')}, {n_failed} failed")
    print_result(json, lambda: {kind: [asdict(one) for one in of_kind] for kind, of_kind in outcomes.items()}, text)
    raise typer.Exit(1 if n_failed else 0)


def _failure(outcome: Outcome) -> str:
    details = {"given": outcome.given, "usual cause": outcome.cause}
    return f"{outcome.check}: {outcome.reason}" + "".join(f"\n  {key}: {text}" for key, text in details.items() if text)


@app.command("new", epilog="Example: mirembed plugins new network tcn")
def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="dataset, features, network, similarity or learner.")],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the plugin: lower-case letters, digits and '-'.")
    ],
    inside: Annotated[
        Path, typer.Option("--in", metavar="DIR", help="Create the plugin's folder in this folder.")
    ] = Path(),
) -> None:
    """Write a distribution with one plugin, ready to install: module, metadata, test and README."""
    from mirembed.scaffold import write_plugin

    written = write_plugin(kind, name, inside, Registry.discover())
    for path in written.files:
        typer.echo(path)
    typer.echo(f"next: pip install --editable {written.folder}; run its tests: pytest {written.folder}; then edit")
    typer.echo(f"{written.module}. The README beside it shows the commands that use the plugin.")
