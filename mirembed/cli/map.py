"""``mirembed map``: a map of a library, as a page or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, print_result
from mirembed.interruption import STARTS_OVER, interruptible, say_when_interrupted
from mirembed.progress import counted, size
from mirembed.store import Store

_SUFFIXES = (".html", ".parquet")


def map(  # noqa: A001
    model: options.ModelName,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The .html or .parquet file to write.")],
    dataset: options.Library = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How to place the tracks: pca, or umap, which is slower (pip install 'mirembed[map]').",
        ),
    ] = "pca",
    random_seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the random numbers of UMAP.")] = 0,
    color: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What colors the tracks at first: label, prediction, artist, album, genre, mood, year, rating or "
            "folder. The page can change it.",
        ),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Draw a map of a library: one HTML page that works offline, or a Parquet file for embedding-atlas.

    On the page you can search, color, play and select tracks, and save a selection as a playlist.
    """
    options.check_out(out, _SUFFIXES, force=force)
    with interruptible():
        from mirembed.library.collection import Collection
        from mirembed.library.map import draw_map, write_map_table
        from mirembed.library.map_page import write_page
        from mirembed.library.projection import check_method

    say_when_interrupted(STARTS_OVER)
    check_method(method)
    with ConsoleProgress() as progress:
        with interruptible():
            collection = Collection.open(Store(store), options.discover(), model, dataset, progress)
        drawn = draw_map(collection, method=method, seed=random_seed, color=color, progress=progress)
        (write_map_table if out.suffix.lower() == ".parquet" else write_page)(out, drawn)
    n_bytes = out.stat().st_size
    lines = [f"map: {out} ({counted(len(drawn), 'track')}, {size(n_bytes)})", *drawn.notes()[1:3]]
    print_result(json, lambda: {"path": str(out), "bytes": n_bytes, **drawn.to_json()}, lines)
