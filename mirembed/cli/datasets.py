"""``mirembed datasets``: what there is to work on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.datasets_fetch import fetch
from mirembed.cli.options import DEFAULT_STORE, Jobs, Json, StoreFolder

app = typer.Typer(help="List the datasets; show, check or fetch one.", invoke_without_command=True)
app.command("fetch")(fetch)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A dataset: name or name:param=value.")]


@app.callback()
def list_all(context: typer.Context, store: StoreFolder = DEFAULT_STORE, json: Json = False) -> None:
    """List the datasets; show, check or fetch one."""
    if context.invoked_subcommand is not None:
        return
    from mirembed.cli.console import print_json, print_table
    from mirembed.datasets.catalog import overview
    from mirembed.store import Store

    rows = overview(options.discover(), Store(store))
    if json:
        print_json([row.to_json() for row in rows])
        return
    print_table(
        ["name", "what it is", "tracks", "labels", "license", "in the store"],
        [[r.name, r.title, str(r.n_tracks or ""), r.labels, r.license, r.stored] for r in rows],
    )
    typer.echo("mirembed datasets show NAME tells where to get one, how to cite it, and which files are expected.")


@app.command("show")
def show(name: Name, json: Json = False) -> None:
    """Show a dataset: where to get it, its license, how to cite it, the expected files, folds and known faults."""
    from mirembed.cli.console import print_json
    from mirembed.datasets.catalog import describe
    from mirembed.specs import Spec

    description = describe(options.discover(), Spec.parse(name))
    if json:
        print_json(description.to_json())
        return
    for heading, text in description.paragraphs():
        typer.secho(heading, bold=True)
        typer.echo("\n".join(f"  {line}" for line in text.splitlines()) + "\n")


@app.command("check")
def check(
    name: Name,
    audio: Annotated[Path | None, typer.Option(metavar="DIR", help="The dataset's audio folder.")] = None,
    store: StoreFolder = DEFAULT_STORE,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Look for what is wrong with a copy: files, audio, duplicates, labels, balance, groups.

    Exit code 1 when something is wrong; warnings alone are exit code 0.
    """
    from mirembed.cli.console import ConsoleProgress, print_json, print_table
    from mirembed.datasets.catalog import card_of, list_dataset, official_splits
    from mirembed.datasets.check import check as run
    from mirembed.progress import counted
    from mirembed.specs import Spec
    from mirembed.store import Store
    from mirembed.store.root import slug

    registry = options.discover()
    spec = Spec.parse(name)
    place = Store(store)
    with ConsoleProgress() as progress:
        listed = list_dataset(registry, spec, audio, place, progress)
        report = run(
            listed.listing,
            listed.audio,
            card=card_of(registry, spec),
            schemes=official_splits(registry, spec),
            cache=place.root / "cache" / f"checks-{slug(str(spec))}.parquet",
            jobs=options.jobs_or_cores(jobs),
            progress=progress,
        )
    if json:
        print_json({"dataset": str(spec), "audio": str(listed.audio), **report.to_json()})
    else:
        if report.findings:
            rows = [[f.level, f.kind, _names(f.tracks), f.text] for f in report.findings]
            print_table(["level", "kind", "tracks", "what"], rows)
        n_errors = sum(finding.level == "error" for finding in report.findings)
        n_warnings = len(report.findings) - n_errors
        typer.echo(
            f"{spec}: {counted(report.n_tracks, 'track')} checked, {counted(n_errors, 'error')}, "
            f"{counted(n_warnings, 'warning')}"
        )
    raise typer.Exit(0 if report.sound else 1)


def _names(tracks: tuple[str, ...]) -> str:
    shown = ", ".join(tracks[:5])
    return f"{shown} and {len(tracks) - 5} more" if len(tracks) > 5 else shown
