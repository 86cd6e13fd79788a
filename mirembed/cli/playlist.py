"""``mirembed playlist``: playlists from the tracks of a library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, Table, ask_which, print_result
from mirembed.config import defaults
from mirembed.errors import SpecError
from mirembed.progress import counted, first_names
from mirembed.store import Store


def playlist(
    model: options.ModelName,
    dataset: options.Library = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    seeds: Annotated[
        list[str] | None,
        typer.Option(
            "--seed",
            metavar="SEED",
            help="Track to start from: an audio file, a track id, or words from artist and title; repeatable.",
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="SEED", help="First track of a path in even steps to --to.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="SEED", help="Last track of that path.")] = None,
    extend: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Playlist to continue with similar tracks: .m3u8, .m3u, .pls or .xspf."),
    ] = None,
    length: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of tracks; with --extend, the number to add.")
    ] = 25,
    max_per_artist: options.MaxPerArtist = defaults.MAX_PER_ARTIST,
    max_per_album: options.MaxPerAlbum = None,
    exclude: options.ExcludeTracks = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write a .m3u8 or .m3u file (UTF-8) instead of printing a table."),
    ] = None,
    paths: Annotated[
        Literal["relative", "absolute"] | None,
        typer.Option(
            metavar="KIND",
            help="Paths in the file: relative to its folder (the default, which VLC, Navidrome, beets and phones read, "
            "even after the playlist and the music have moved together), or absolute.",
        ),
    ] = None,
    relative_to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Write paths relative to this folder instead, such as the music_directory of MPD.",
        ),
    ] = None,
    force: options.Force = False,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Make a playlist from seeds, along a path from one track to another, or by continuing a playlist.

    A playlist from seeds begins with the first seed, and each track is similar to the one before it.
    Each track comes with the reason it was chosen; in a file, as a comment.
    """
    from mirembed.audio.playlists import M3U_SUFFIXES
    from mirembed.library.playlist import Plan, make_playlist, write_playlist

    options.check_out(out, M3U_SUFFIXES, force=force)
    if relative_to is not None and paths is not None:
        raise SpecError("give either --paths or --relative-to, not both")
    if (relative_to or paths) and out is None:
        raise SpecError("--paths and --relative-to need --out FILE")
    if (start is None) != (end is None):
        raise SpecError("--from and --to belong together; give both")
    ends = None if start is None or end is None else (start, end)
    plan = Plan(tuple(seeds or ()), ends, extend, length)
    registry = options.discover()
    with ConsoleProgress() as progress:
        made = make_playlist(
            Store(store),
            registry,
            model,
            plan,
            choose=ask_which,
            progress=progress,
            exclude=exclude or [],
            max_per_artist=max_per_artist,
            max_per_album=max_per_album,
            writable=out is not None,
            dataset=dataset,
            jobs=jobs,
        )
    if out is not None:
        folder = None if paths == "absolute" else relative_to or out.parent
        tracks = [(item.track, item.why) for item in made.items]
        unwritable = write_playlist(out, tracks, folder=folder, inside=relative_to is not None)
        if unwritable:
            left_out = f"left out {counted(len(unwritable), 'track')}: a playlist cannot contain the file name"
            typer.echo(f"{left_out} of {first_names([track.id for track in unwritable], 3)}", err=True)
        typer.echo(f"wrote {counted(len(tracks) - len(unwritable), 'track')} to {out}", err=True)
    rows = [(number, item.track.name, item.why) for number, item in enumerate(made.items, 1)]
    print_result(json, made.to_json, [Table(["position", "track", "why"], rows)] if out is None else [])
