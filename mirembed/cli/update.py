"""``mirembed update``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, EventProgress, confirm, print_event
from mirembed.errors import SpecError
from mirembed.interruption import RESUMES, say_when_interrupted
from mirembed.specs import Spec
from mirembed.store import Store


def update(
    model: options.ModelName,
    dataset: Annotated[
        Spec | None,
        typer.Option(
            metavar="SPEC",
            parser=Spec.parse,
            help="Dataset, NAME or NAME:PARAM=VALUE. Default: the one that the model was fitted to.",
        ),
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The dataset's audio folder, if it has another place now.")
    ] = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    keep: Annotated[
        str | None, typer.Option(metavar="WHAT", help="features: keep the features of what is embedded in the store.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry files that failed before.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=1, help="Time limit per file. Default: 5 minutes plus 1 second per megabyte."
        ),
    ] = None,
    jobs: options.Jobs = None,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Embed what is new in a library, follow what was renamed, and drop what is gone.

    Recordings that the model has embedded are not decoded again, whatever the names of their files.
    Exit code 2 means: done, but some files failed.
    With --json, progress and result are printed as JSON, one object per line.
    """
    from mirembed.extract import ExtractOptions
    from mirembed.library.update import update as run

    say_when_interrupted(RESUMES)
    if keep not in (None, "features"):
        raise SpecError(f"--keep {keep}: expected features")
    registry = options.discover()
    with EventProgress() if json else ConsoleProgress() as progress:
        updated = run(
            Store(store),
            registry,
            model,
            dataset=dataset,
            audio=audio,
            keep_features=keep == "features",
            retry_failed=retry_failed,
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
    raise typer.Exit(2 if updated.failures else 0)
