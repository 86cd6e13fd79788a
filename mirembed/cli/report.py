"""``mirembed report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli.options import DEFAULT_STORE, Json, StoreFolder


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="The folder of a run or experiment, or its name in the store, or how that begins."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write it. Default: the folder report of the run.")
    ] = None,
    store: StoreFolder = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Write the report of a run: one HTML page, figures as PNG and SVG, tables as CSV and LaTeX.

    A run that is still going on is shown as far as it has come.
    """
    from mirembed.cli.console import ConsoleProgress, print_json
    from mirembed.cli.options import discover
    from mirembed.reports import write_report
    from mirembed.runs import find_run
    from mirembed.store import Store

    folder = find_run(Store(store).runs, run).folder
    with ConsoleProgress() as progress:
        written = write_report(folder, out, discover(), progress)
    for line in written.progress:
        typer.echo(line, err=True)
    if json:
        print_json(written.to_json())
        return
    typer.echo(f"report: {written.page}")
    typer.echo(f"{len(written.figures) // 2} figures and {len(written.tables) // 2} tables beside it")
