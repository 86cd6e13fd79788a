"""``mirembed extract``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.options import DEFAULT_STORE, Dataset, Jobs, Json, StoreFolder


def extract(
    dataset: Dataset = None,
    audio: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The dataset's audio folder. The demo makes its own.")
    ] = None,
    store: StoreFolder = DEFAULT_STORE,
    jobs: Jobs = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try files again that failed before.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove tracks from the store that the dataset no longer lists.")
    ] = False,
    json: Json = False,
) -> None:
    """Compute the log-mel spectrograms of a dataset and put them into the store.

    Only what is missing or changed is computed. Exit code 2: done, but some files failed.
    """
    from mirembed.cli.console import ConsoleProgress
    from mirembed.datasets import list_dataset
    from mirembed.extract import extract as run
    from mirembed.store import Store

    registry = options.discover()
    place = Store(store)
    spec = options.parse_dataset(dataset) or place.only_spec()
    with ConsoleProgress() as progress:
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
            progress=progress,
        )
    if json:
        from mirembed.cli.console import print_json

        print_json(summary.to_json(str(spec)))
    else:
        for line in summary.lines(str(spec)):
            typer.echo(line)
    raise typer.Exit(2 if summary.failures else 0)
