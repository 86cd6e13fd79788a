"""``mirembed extract``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, EventProgress, confirm, print_event
from mirembed.config import defaults
from mirembed.interruption import RESUMES, say_when_interrupted


def extract(
    dataset: options.Dataset = None,
    audio: options.AudioFolder = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Features, such as logmel:bands=80; A+B computes both; repeatable. Default: those that the dataset "
            f"was extracted with before; if there are none, {defaults.FEATURES}.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Extract at most N tracks, counting those already extracted: labeled tracks first, evenly over "
            "classes, tags or folders. The choice is always the same. The other tracks are left for later.",
        ),
    ] = None,
    jobs: options.Jobs = None,
    executor: options.Executor = "local",
    scheduler: options.Scheduler = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Library that computes the spectra: essentia, scipy, or auto, which is essentia if it is installed. "
            "Their results are interchangeable.",
        ),
    ] = "auto",
    timeout: options.Timeout = None,
    max_failures: Annotated[
        str | None, typer.Option(metavar="N|P%", help="Stop if more than N files, or more than P % of them, fail.")
    ] = None,
    retry_failed: options.RetryFailed = False,
    accept_failures: options.AcceptFailures = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove tracks from the store that the dataset no longer lists.")
    ] = False,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Compute the features of a dataset and save them in the store.

    Computes only what is missing or has changed.
    Recordings that the store knows are not decoded again, whatever their names.
    Exit code 2: finished, but some files failed that you have not accepted.
    With --json, progress and result are printed as JSON, one object per line.
    """
    from mirembed.api.extraction import extract as run

    say_when_interrupted(RESUMES)
    with EventProgress() if json else ConsoleProgress() as progress:
        done = run(
            None if dataset is None else str(dataset),
            audio=audio,
            store=store,
            features=features,
            limit=limit,
            jobs=jobs,
            executor=executor,
            scheduler=scheduler,
            backend=backend,
            timeout=timeout,
            max_failures=max_failures,
            retry_failed=retry_failed,
            accept_failures=accept_failures,
            prune=prune,
            yes=lambda what: confirm(what, yes),
            progress=progress,
        )
    summary = done.summary
    if json:
        print_event({"event": "done", **summary.to_json(done.dataset)})
    else:
        for line in summary.lines(done.dataset):
            typer.echo(line)
    raise typer.Exit(2 if summary.has_failures else 0)
