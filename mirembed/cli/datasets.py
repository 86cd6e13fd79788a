"""``mirembed datasets``: list, show, check and fetch datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options

app = typer.Typer(help="List the datasets; show, check or fetch one.", invoke_without_command=True)

_SHOWN = 5
"""Tracks of a finding to name."""


@app.callback()
def list_all(
    context: typer.Context, store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False
) -> None:
    """List the datasets; show, check or fetch one."""
    if context.invoked_subcommand is not None:
        return
    from mirembed.cli.output import print_json, print_table
    from mirembed.datasets.catalog import overview
    from mirembed.store import Store

    rows = overview(options.discover(), Store(store))
    if json:
        print_json([row.to_json() for row in rows])
        return
    print_table(
        ["name", "title", "tracks", "labels", "license", "in the store"],
        [[r.name, r.card.title, str(r.card.n_tracks or ""), r.card.labels, r.card.license, r.stored] for r in rows],
    )
    typer.echo("mirembed datasets show NAME: where to get one, how to cite it, and the files it consists of.")


@app.command("show")
def show(name: options.DatasetName, json: options.Json = False) -> None:
    """Show a dataset: where to get it, license, citation, expected files, official folds and known faults."""
    from dataclasses import asdict

    from mirembed.cli.output import print_json
    from mirembed.datasets.catalog import describe
    from mirembed.specs import Spec

    description = describe(options.discover(), Spec.parse(name))
    if json:
        print_json(asdict(description))
        return
    for heading, text in description.paragraphs():
        typer.secho(heading, bold=True)
        typer.echo("\n".join(f"  {line}" for line in text.splitlines()) + "\n")


@app.command("check")
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
    from mirembed.cli.output import ConsoleProgress, print_json, print_table
    from mirembed.datasets.catalog import card_of, list_dataset, official_splits
    from mirembed.datasets.check import check as run
    from mirembed.progress import counted, first_names
    from mirembed.specs import Spec
    from mirembed.store import Store
    from mirembed.store.root import slug

    registry = options.discover()
    spec = Spec.parse(name)
    place = Store(store)
    with ConsoleProgress() as progress:
        listing, folder = list_dataset(registry, spec, audio, place, progress)
        report = run(
            listing,
            folder,
            card=card_of(registry, spec),
            schemes=official_splits(registry, spec),
            cache=place.root / "cache" / f"checks-{slug(str(spec))}.parquet",
            jobs=options.jobs_or_cores(jobs),
            progress=progress,
        )
    if json:
        print_json({"dataset": str(spec), "audio": str(folder), **report.to_json()})
    else:
        if report.findings:
            rows = [[f.level, f.kind, first_names(f.tracks, _SHOWN), f.text] for f in report.findings]
            print_table(["level", "kind", "tracks", "finding"], rows)
        n_errors = sum(finding.level == "error" for finding in report.findings)
        n_warnings = len(report.findings) - n_errors
        typer.echo(
            f"{spec}: checked {counted(report.n_tracks, 'track')}: {counted(n_errors, 'error')}, "
            f"{counted(n_warnings, 'warning')}"
        )
    raise typer.Exit(0 if report.sound else 1)


@app.command("fetch")
def fetch(
    name: options.DatasetName,
    audio: Annotated[Path, typer.Option(metavar="DIR", help="The dataset's audio folder; it is created if necessary.")],
    url: Annotated[
        list[str] | None,
        typer.Option(metavar="URL|FILE", help="Get an archive from this address or file; repeatable."),
    ] = None,
    archive: Annotated[str | None, typer.Option(metavar="FILE", help="Fetch only the archive with this name.")] = None,
    checksum: Annotated[
        str | None,
        typer.Option(metavar="SUM", help="Expected checksum (sha256:... or md5:...) instead of the dataset's own."),
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(metavar="GB", min=0, help="Limit of an archive's unpacked size. Default: 100 times its own size."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Download, verify and unpack a dataset, or unpack your own copy of its archives.

    If interrupted, the same command resumes. Existing files are neither fetched again nor changed.
    """
    from dataclasses import asdict

    from mirembed.cli.output import ConsoleProgress, print_json
    from mirembed.datasets.catalog import card_of
    from mirembed.datasets.fetch import FetchOptions
    from mirembed.datasets.fetch import fetch as run
    from mirembed.progress import counted
    from mirembed.specs import Spec

    card = card_of(options.discover(), Spec.parse(name))
    choices = FetchOptions(archive, tuple(url or ()), checksum, None if max_size is None else max_size * 1e9)
    with ConsoleProgress() as progress:
        fetched = run(name, card, audio, choices, progress)
    if json:
        print_json({"dataset": name, "audio": str(audio), "archives": [asdict(one) for one in fetched]})
    else:
        n_files = sum(one.n_files for one in fetched)
        typer.echo(
            f"{counted(n_files, 'file')} of {name} in {audio}; next: mirembed datasets check {name} --audio {audio}"
        )
