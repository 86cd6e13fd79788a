"""``mirembed report``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, print_result
from mirembed.progress import counted


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Run or experiment: a folder, or an unambiguous prefix of a name in the store."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Output folder. Default: the folder report inside the run.")
    ] = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    json: options.Json = False,
) -> None:
    """Write the report of a run: an HTML page, figures (PNG, SVG) and tables (CSV, LaTeX).

    For an unfinished run, it covers the folds finished so far.
    """
    from mirembed.reports import write_report
    from mirembed.runs import find_run
    from mirembed.store import Store

    folder = find_run(Store(store).runs, run).folder
    with ConsoleProgress() as progress:
        written = write_report(folder, out, options.discover(), progress)
    for line in written.progress:
        typer.echo(line, err=True)
    beside = f"{counted(written.n_figures, 'figure')} and {counted(written.n_tables, 'table')} beside it"
    print_result(json, lambda: asdict(written), [f"report: {written.page}", beside])
