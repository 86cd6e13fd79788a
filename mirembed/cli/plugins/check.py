"""``mirembed plugins check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli.options import Json


def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin: name or name:param=value.")],
    audio: Annotated[Path | None, typer.Option(metavar="DIR", help="The audio folder of a dataset.")] = None,
    json: Json = False,
) -> None:
    """Check that a plugin keeps its promises; exit code 1 when it does not.

    A name that several kinds of plugin have is checked in each.
    """
    import contextlib
    import sys

    from mirembed.cli.console import print_json, print_table
    from mirembed.progress import counted
    from mirembed.registry import Registry
    from mirembed.specs import Spec
    from mirembed.testing.suites import run_checks

    registry = Registry.discover()
    spec = Spec.parse(name)
    kinds = dict.fromkeys(plugin.kind for plugin in registry.find_any(spec.name))
    with contextlib.redirect_stdout(sys.stderr):  # what plugins print is no result
        outcomes = {kind: run_checks(kind, registry, spec, audio) for kind in kinds}
    n_failed = sum(outcome.status == "failed" for of_kind in outcomes.values() for outcome in of_kind)
    if json:
        print_json({kind: [outcome.to_json() for outcome in of_kind] for kind, of_kind in outcomes.items()})
        raise typer.Exit(1 if n_failed else 0)
    for kind, of_kind in outcomes.items():
        print_table(["check", "", "promise"], [[o.check, o.status, o.promise] for o in of_kind], f"{kind} {spec}")
        for outcome in of_kind:
            if outcome.status == "failed":
                typer.echo(f"{outcome.check}: {outcome.reason}")
                for label, text in (("given", outcome.given), ("usual cause", outcome.cause)):
                    if text:
                        typer.echo(f"  {label}: {text}")
    n_checks = sum(map(len, outcomes.values()))
    typer.echo(f"{spec}: {counted(n_checks, 'check')}, {n_failed} failed")
    raise typer.Exit(1 if n_failed else 0)
