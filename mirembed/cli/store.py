"""``mirembed store``: show, verify and compact a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mirembed.cli import options

if TYPE_CHECKING:
    from mirembed.inventory import Contents, DatasetSummary
    from mirembed.runs.summary import RunSummary
    from mirembed.store import Store

app = typer.Typer(help="Show what is in a store, verify it, or merge its small files.", no_args_is_help=True)


@app.command("info")
def info(store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False) -> None:
    """List the datasets, models and runs of a store."""
    from mirembed.cli.output import print_json
    from mirembed.inventory import contents

    found = contents(_existing(store))
    if json:
        print_json(asdict(found))
    else:
        _print_contents(found)


@app.command("verify")
def verify(store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False) -> None:
    """Read everything in a store, and report what is damaged and what to do. Nothing is changed.

    Exit code 1 if anything is damaged.
    """
    from mirembed.cli.output import ConsoleProgress, print_json
    from mirembed.inventory import verify as run
    from mirembed.progress import counted

    place = _existing(store)
    with ConsoleProgress() as progress:
        faults = run(place, progress)
    if json:
        print_json({"sound": not faults, "faults": [asdict(fault) for fault in faults]})
    else:
        for fault in faults:
            typer.echo(f"{fault.path} {fault.what}; {fault.advice}")
        typer.echo(f"{store}: {counted(len(faults), 'fault')}" if faults else f"{store}: no faults")
    raise typer.Exit(1 if faults else 0)


@app.command("compact")
def compact(
    dataset: options.Dataset = None, store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False
) -> None:
    """Merge the small shards of a dataset, or of all datasets in the store."""
    from mirembed.cli.output import ConsoleProgress, print_json, size
    from mirembed.progress import counted
    from mirembed.store.compact import compact as run

    place = _existing(store)
    spec = options.parse_dataset(dataset)
    chosen = place.datasets() if spec is None else [place.find(spec)]
    done = []
    for features in chosen:
        name = features.info().spec
        with ConsoleProgress() as progress:
            result = run(features, progress)
        done.append({"dataset": name, **asdict(result)})
        if not json:
            before, after = counted(result.shards_before, "shard"), counted(result.shards_after, "shard")
            typer.echo(f"{name}: {before} ({size(result.bytes_before)}) -> {after} ({size(result.bytes_after)})")
    if json:
        print_json(done)


def _existing(store: Path) -> Store:
    from mirembed.errors import StoreError
    from mirembed.store import Store

    place = Store(store)
    if not any((store / name).exists() for name in ("store.json", "datasets", "models", "runs")):
        raise StoreError(f"there is no store in {store}; create one with `mirembed extract`, or choose another --store")
    return place


def _print_contents(found: Contents) -> None:
    from mirembed.cli.output import print_table, size

    print_table(
        ["dataset", "state", "tracks", "failed", "hours", "size", "shards", "computed by"],
        [
            [
                one.dataset,
                one.state,
                _tracks(one),
                str(one.failures),
                f"{one.hours:.2f}",
                size(one.bytes),
                str(one.shards),
                ", ".join(f"{backend} ({count})" for backend, count in one.backends.items()),
            ]
            for one in found.datasets
        ],
        title="Datasets",
    )
    if found.models:
        print_table(
            ["model", "state", "dataset", "approach", "tracks", "size"],
            [[m.model, m.state, m.dataset, m.approach, str(m.tracks), size(m.bytes)] for m in found.models],
            title="Models",
        )
    if found.runs:
        runs = [line for run in found.runs for line in (run, *run.members)]
        headlines = " or ".join(dict.fromkeys(run.metric for run in runs if run.metric)) or "score"
        print_table(
            ["run", "state", "dataset", "folds", "epochs", "seeds", f"mean {headlines}", "started (UTC)", "size"],
            [_run_row(run) for run in runs],
            title="Runs",
        )


def _tracks(one: DatasetSummary) -> str:
    """Return ``24 of 24``, with the tracks that the store or the dataset lacks."""
    absent = f", {one.absent} without audio" * bool(one.absent)
    unlisted = f", {one.unlisted} no longer listed" * bool(one.unlisted)
    return f"{one.tracks - one.unlisted} of {one.listed}{absent}{unlisted}"


def _run_row(run: RunSummary) -> list[str]:
    from mirembed.cli.output import size

    what = run.describe_scores() or f"experiment of {len(run.members)}" * bool(run.members)
    epochs, seeds = "" if run.epochs is None else str(run.epochs), ", ".join(map(str, run.seeds))
    started = run.started[:16].replace("T", " ")
    return [run.run, run.state, run.dataset, run.folds, epochs, seeds, what, started, size(run.bytes)]
