"""``mirembed plugins new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="similarity, dataset or learner.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the plugin: lower-case letters, digits and '-'.")],
    inside: Annotated[Path, typer.Option("--in", metavar="DIR", help="Where the folder of the plugin goes.")] = Path(),
) -> None:
    """Write a distribution with one plugin, ready to install: module, metadata, test and README."""
    from mirembed.registry import Registry
    from mirembed.scaffold import write_plugin

    written = write_plugin(kind, name, inside, Registry.discover())
    for path in written.files:
        typer.echo(path)
    typer.echo(f"next: pip install --editable {written.folder}, run its tests (pytest {written.folder}), then edit")
    typer.echo(f"{written.module}; the README beside it has the commands that use it")
