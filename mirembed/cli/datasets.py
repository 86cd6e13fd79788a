"""``mirembed datasets``: list, show, check and fetch datasets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.app import App
from mirembed.cli.output import ConsoleProgress, Table, heading, print_result
from mirembed.interruption import RESUMES, interruptible, say_when_interrupted
from mirembed.progress import counted, first_names
from mirembed.store import Store

app = App(help="List the datasets; show, check or fetch one.", invoke_without_command=True)

_SHOWN = 5
"""Tracks to name in a finding."""


@app.callback()
def list_all(
    context: typer.Context, store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False
) -> None:
    """List the datasets; show, check or fetch one."""
    if context.invoked_subcommand is not None:
        return
    from mirembed.datasets.catalog import overview

    datasets = overview(options.discover(), Store(store))
    columns = ["name", "title", "tracks", "labels", "license", "in the store"]
    rows = [[d.name, d.card.title, d.card.n_tracks or "", d.card.labels, d.card.license, d.stored] for d in datasets]
    hint = "`mirembed datasets show NAME` says where to get a dataset, how to cite it, and which files it has."
    print_result(json, lambda: [dataset.to_json() for dataset in datasets], [Table(columns, rows), hint])


@app.command("show", epilog="Example: mirembed datasets show gtzan")
def show(name: options.DatasetName, json: options.Json = False) -> None:
    """Show a dataset: where to get it, license, citation, expected files, official folds and known faults."""
    from mirembed.datasets.catalog import describe

    description = describe(options.discover(), name)
    paragraphs = [f"{heading(title)}\n{indent(text, '  ')}\n" for title, text in description.paragraphs()]
    print_result(json, lambda: asdict(description), paragraphs)


@app.command("check", epilog="Example: mirembed datasets check gtzan --audio GTZAN")
def check(
    name: options.DatasetName,
    audio: options.AudioFolder = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Check a copy of a dataset: files, audio, duplicates, labels, balance, groups.

    Exit code 1 if there are errors; warnings alone give exit code 0.
    """
    with interruptible():
        from mirembed.datasets.catalog import card_of, list_dataset, official_splits
        from mirembed.datasets.check import check as run
        from mirembed.store.root import slug

    say_when_interrupted(RESUMES)
    registry = options.discover()
    place = Store(store)
    with ConsoleProgress() as progress:
        listing, folder = list_dataset(registry, name, audio, place, progress)
        report = run(
            listing,
            folder,
            card=card_of(registry, name),
            schemes={**official_splits(registry, name), **listing.schemes},
            cache=place.root / "cache" / f"checks-{slug(str(name))}.parquet",
            jobs=options.jobs_or_cores(jobs),
            failures=place.dataset(name).failures(),
            progress=progress,
        )
    n_errors = sum(finding.level == "error" for finding in report.findings)
    n_warnings = len(report.findings) - n_errors
    counts = f"{counted(n_errors, 'error')}, {counted(n_warnings, 'warning')}"
    rows = [[f.level, f.kind, first_names(f.tracks, _SHOWN), f.text] for f in report.findings]
    print_result(
        json,
        lambda: {"dataset": str(name), "audio": str(folder), **report.to_json()},
        [
            *([Table(["level", "kind", "tracks", "finding"], rows)] if rows else []),
            f"{name}: checked {counted(report.n_tracks, 'track')}: {counts}",
        ],
    )
    raise typer.Exit(0 if report.sound else 1)


@app.command("fetch", epilog="Example: mirembed datasets fetch ballroom --audio Ballroom")
def fetch(
    name: options.DatasetName,
    audio: Annotated[Path, typer.Option(metavar="DIR", help="The dataset's audio folder; it is created if necessary.")],
    url: Annotated[
        list[str] | None, typer.Option(metavar="URL|FILE", help="Get an archive from this address or file; repeatable.")
    ] = None,
    archive: Annotated[str | None, typer.Option(metavar="FILE", help="Fetch only the archive with this name.")] = None,
    checksum: Annotated[
        str | None,
        typer.Option(metavar="SUM", help="Expected checksum (sha256:... or md5:...) instead of the dataset's own."),
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(
            metavar="GB", min=0, help="Limit for the unpacked size of an archive. Default: 100 times its size."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Download, verify and unpack a dataset, or unpack your own copy of its archives.

    If interrupted, the same command resumes. Existing files are neither fetched again nor changed.
    """
    from mirembed.datasets.catalog import card_of
    from mirembed.datasets.fetch import FetchOptions
    from mirembed.datasets.fetch import fetch as run

    say_when_interrupted(RESUMES)
    card = card_of(options.discover(), name)
    choices = FetchOptions(archive, tuple(url or ()), checksum, None if max_size is None else max_size * 1e9)
    with ConsoleProgress() as progress:
        fetched = run(str(name), card, audio, choices, progress)
    n_files = sum(one.n_files for one in fetched)
    print_result(
        json,
        lambda: {"dataset": str(name), "audio": str(audio), "archives": [asdict(one) for one in fetched]},
        [f"{counted(n_files, 'file')} of {name} in {audio}; next: mirembed datasets check {name} --audio {audio}"],
    )
