"""``mirembed similar``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options


def similar(
    model: options.ModelName,
    track: Annotated[str, typer.Argument(metavar="TRACK", help="Track: an id in the store, or an audio file.")],
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Number of neighbors.")] = 10,
    inside: Annotated[
        Path | None,
        typer.Option("--in", metavar="DIR", help="Search this folder of audio files instead of the store."),
    ] = None,
    dataset: options.Dataset = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """List the tracks most similar to one, by the similarity that the model learned."""
    from mirembed.cli.output import ConsoleProgress, print_json, print_table
    from mirembed.models.neighbors import neighbors
    from mirembed.store import Store

    registry = options.discover()
    with ConsoleProgress() as progress:
        found = neighbors(
            Store(store),
            registry,
            model,
            track,
            top=top,
            inside=inside,
            dataset=options.parse_dataset(dataset),
            jobs=options.jobs_or_cores(jobs),
            progress=progress,
        )
    if json:
        print_json(found.to_json())
    else:
        print_table(
            ["rank", "track", found.similarity],
            [[str(rank), name, f"{value:.4f}"] for rank, (name, value) in enumerate(found.tracks, 1)],
            f"most similar to {track}",
        )
    for path, reason in found.failures:
        typer.echo(f"failed: {path}: {reason}", err=True)
    raise typer.Exit(2 if found.failures else 0)
