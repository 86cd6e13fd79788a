"""``mirembed extract``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.options import DEFAULT_STORE, BackendJobs, Dataset, Jobs, Json, Scheduler, StoreFolder


def extract(
    dataset: Dataset = None,
    audio: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The dataset's audio folder. The demo makes its own.")
    ] = None,
    store: StoreFolder = DEFAULT_STORE,
    jobs: Jobs = None,
    backend_jobs: BackendJobs = "local",
    scheduler: Scheduler = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Who computes the spectra: essentia, scipy, or auto (essentia where it is installed). "
            "Their results are interchangeable.",
        ),
    ] = "auto",
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=1,
            help="Give a file up after this long. Default: 5 minutes, and one second more for each megabyte.",
        ),
    ] = None,
    max_failures: Annotated[
        str | None, typer.Option(metavar="N|P%", help="Stop when more files fail, or more than this share of them.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try files again that failed before.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove tracks from the store that the dataset no longer lists.")
    ] = False,
    json: Json = False,
) -> None:
    """Compute the log-mel spectrograms of a dataset and put them into the store.

    Only what is missing or changed is computed. Exit code 2: done, but some files failed.
    With --json, long work also prints its progress: one JSON object a line, the last is the result.
    """
    from mirembed.cli.console import ConsoleProgress
    from mirembed.cli.events import EventProgress, print_event
    from mirembed.datasets.catalog import list_dataset
    from mirembed.extract import ExtractOptions, MaxFailures
    from mirembed.extract import extract as run
    from mirembed.spectrogram import choose_backend
    from mirembed.store import Store

    registry = options.discover()
    limit = None if max_failures is None else MaxFailures.parse(max_failures)
    if backend != "auto":
        choose_backend(backend)
    place = Store(store)
    spec = options.parse_dataset(dataset) or place.only_spec()
    with (
        EventProgress() if json else ConsoleProgress() as progress,
        options.on_backend(backend_jobs, scheduler, jobs),
    ):
        listed = list_dataset(registry, spec, audio, place, progress)
        place.create()
        summary = run(
            place.dataset(spec),
            listed.listing,
            spec=str(spec),
            plugin=registry.provenance("dataset", spec),
            audio=listed.audio,
            jobs=options.jobs_or_cores(jobs),
            retry_failed=retry_failed,
            prune=prune,
            options=ExtractOptions(backend, timeout),
            max_failures=limit,
            progress=progress,
        )
    if json:
        print_event({"event": "done", **summary.to_json(str(spec))})
    else:
        for line in summary.lines(str(spec)):
            typer.echo(line)
    raise typer.Exit(2 if summary.failures else 0)
