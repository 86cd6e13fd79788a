"""``mirembed similar``: the tracks of a library that are most similar to some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, Table, ask_which, print_result
from mirembed.progress import counted
from mirembed.store import Store
from mirembed.store.exports import TABLE_SUFFIXES


def similar(
    model: options.ModelName,
    seeds: Annotated[
        list[str],
        typer.Argument(metavar="SEED", help="Seeds: audio files, track ids, or words from artist and title."),
    ],
    dataset: options.Library = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Number of neighbors.")] = 10,
    max_per_artist: options.MaxPerArtist = None,
    max_per_album: options.MaxPerAlbum = None,
    exclude: options.ExcludeTracks = None,
    inside: Annotated[
        Path | None,
        typer.Option("--in", metavar="DIR", help="Search this folder of audio files instead of the library."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write a .csv or .parquet file, or a .m3u8 playlist, instead of printing a table.",
        ),
    ] = None,
    force: options.Force = False,
    bom: options.Bom = False,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """List the tracks most similar to one or more seeds, by the similarity that the model learned.

    With several seeds, a track is ranked by its similarity to the seed that it is least similar to.
    The seeds themselves, copies of a recording and missing files are left out.
    """
    from mirembed.audio.playlists import M3U_SUFFIXES
    from mirembed.library.neighbors import neighbors, write_neighbors

    options.check_out(out, (*TABLE_SUFFIXES, *M3U_SUFFIXES), force=force, bom=bom)
    is_playlist = out is not None and out.suffix.lower() in M3U_SUFFIXES
    registry = options.discover()
    with ConsoleProgress() as progress:
        found = neighbors(
            Store(store),
            registry,
            model,
            seeds,
            top=top,
            choose=ask_which,
            progress=progress,
            exclude=exclude or [],
            max_per_artist=max_per_artist,
            max_per_album=max_per_album,
            writable=is_playlist,
            inside=inside,
            dataset=dataset,
            jobs=jobs,
        )
    if out is not None and is_playlist:
        from mirembed.library.playlist import write_playlist

        names = ", ".join(seed.track.name for seed in found.seeds)
        tracks = [(one.track, f"similar to {names} ({one.similarity:.3f})") for one in found.tracks]
        write_playlist(out, tracks, folder=out.parent)
    elif out is not None:
        write_neighbors(out, found, bom=bom)
    rows = [(rank, one.track.name, f"{one.similarity:.4f}") for rank, one in enumerate(found.tracks, 1)]
    title = f"most similar to {', '.join(seed.track.name for seed in found.seeds)}"
    table = Table(["rank", "track", "similarity"], rows, title)
    print_result(json, found.to_json, [table] if out is None else [])
    if out is not None:
        typer.echo(f"wrote {counted(len(rows), 'track')} to {out}", err=True)
    options.exit_with_failures(found.failures)
