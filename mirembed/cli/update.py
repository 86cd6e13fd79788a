"""``mirembed update``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, EventProgress, confirm, print_event
from mirembed.errors import SpecError
from mirembed.interruption import RESUMES, say_when_interrupted


def update(
    model: options.ModelName,
    dataset: options.Library = None,
    audio: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The dataset's audio folder, if it has moved.")
    ] = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    keep: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="What else to keep in the store: features, those of new recordings."),
    ] = None,
    retry_failed: options.RetryFailed = False,
    accept_failures: options.AcceptFailures = None,
    timeout: options.Timeout = None,
    jobs: options.Jobs = None,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Bring the embeddings of a library up to date with its files: new, changed, renamed and deleted ones.

    Recordings that have an embedding are not decoded again, whatever their file names.
    Exit code 2: finished, but some files failed that you have not accepted.
    With --json, progress and result are printed as JSON, one object per line.
    """
    from mirembed.extract import ExtractOptions
    from mirembed.library.update import update as run
    from mirembed.store import Store

    say_when_interrupted(RESUMES)
    if keep not in (None, "features"):
        raise SpecError(f"--keep {keep}: expected features")
    registry = options.discover()
    with EventProgress() if json else ConsoleProgress() as progress:
        updated = run(
            Store.writable(store),
            registry,
            model,
            dataset=dataset,
            audio=audio,
            keep_features=keep == "features",
            retry_failed=retry_failed,
            accept_failures=accept_failures,
            confirm=lambda what: confirm(what, yes),
            jobs=options.jobs_or_cores(jobs),
            options=ExtractOptions(timeout=timeout),
            progress=progress,
        )
    if json:
        print_event({"event": "done", **updated.to_json()})
    else:
        for line in updated.lines():
            typer.echo(line)
    raise typer.Exit(2 if updated.has_failures else 0)
