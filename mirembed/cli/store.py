"""``mirembed store``: show, verify and compact a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mirembed.cli import options
from mirembed.cli.app import App
from mirembed.cli.output import ConsoleProgress, Table, print_result
from mirembed.errors import StoreError
from mirembed.progress import counted, size
from mirembed.store import Store

if TYPE_CHECKING:
    from mirembed.inventory import Contents, DatasetSummary
    from mirembed.runs.summary import RunSummary

app = App(name="store", help="Show what is in a store, verify it, or merge its small files.", no_args_is_help=True)


@app.command("info")
def info(store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False) -> None:
    """List the datasets, models and runs of a store."""
    from mirembed.inventory import contents

    found = contents(_existing(store))
    print_result(json, lambda: asdict(found), _tables(found))


@app.command("verify")
def verify(store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False) -> None:
    """Read everything in a store, and report what is damaged and what to do. Nothing is changed.

    Exit code 1 if anything is damaged.
    """
    from mirembed.inventory import verify as run

    place = _existing(store)
    with ConsoleProgress() as progress:
        faults = run(place, progress)
    lines = [f"{fault.path} {fault.what}; {fault.advice}" for fault in faults]
    lines.append(f"{store}: {counted(len(faults), 'fault') if faults else 'no faults'}")
    print_result(json, lambda: {"sound": not faults, "faults": [asdict(fault) for fault in faults]}, lines)
    raise typer.Exit(1 if faults else 0)


@app.command("compact")
def compact(
    dataset: options.Dataset = None, store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False
) -> None:
    """Merge the small shards of a dataset, or of all datasets in the store."""
    from mirembed.store.compact import compact as run

    place = _existing(store)
    done, lines = [], []
    for features in place.datasets() if dataset is None else [place.find(dataset)]:
        name = features.info().spec
        with ConsoleProgress() as progress:
            result = run(features, progress)
        done.append({"dataset": name, **asdict(result)})
        before, after = counted(result.shards_before, "shard"), counted(result.shards_after, "shard")
        lines.append(f"{name}: {before} ({size(result.bytes_before)}) -> {after} ({size(result.bytes_after)})")
    print_result(json, lambda: done, lines)


def _existing(store: Path) -> Store:

    if not any((store / name).exists() for name in ("store.json", "datasets", "models", "runs")):
        raise StoreError(f"there is no store in {store}; create one with `mirembed extract`, or choose another --store")
    return Store(store)


def _tables(found: Contents) -> Iterator[Table]:
    yield Table(
        ["dataset", "state", "tracks", "failed", "hours", "size", "shards", "computed by"],
        [
            [
                one.dataset,
                one.state,
                _tracks(one),
                one.failures,
                f"{one.hours:.2f}",
                size(one.bytes),
                one.shards,
                ", ".join(f"{backend} ({count})" for backend, count in one.backends.items()),
            ]
            for one in found.datasets
        ],
        "Datasets",
    )
    if found.models:
        yield Table(
            ["model", "state", "dataset", "approach", "tracks", "size"],
            [[m.model, m.state, m.dataset, m.approach, m.tracks, size(m.bytes)] for m in found.models],
            "Models",
        )
    if found.runs:
        runs = [line for run in found.runs for line in (run, *run.members)]
        headlines = " or ".join(dict.fromkeys(run.metric for run in runs if run.metric)) or "score"
        yield Table(
            ["run", "state", "dataset", "folds", "epochs", "seeds", f"mean {headlines}", "started (UTC)", "size"],
            [_run_row(run) for run in runs],
            "Runs",
        )


def _tracks(one: DatasetSummary) -> str:
    """Return the tracks in the store and those listed (``24 of 24``), and any that only one of them has."""
    absent = f", {one.absent} without audio" * bool(one.absent)
    unlisted = f", {one.unlisted} no longer listed" * bool(one.unlisted)
    return f"{one.tracks - one.unlisted} of {one.listed}{absent}{unlisted}"


def _run_row(run: RunSummary) -> list[object]:
    scores = run.describe_scores() or f"experiment of {len(run.members)}" * bool(run.members)
    seeds, started = ", ".join(map(str, run.seeds)), run.started[:16].replace("T", " ")
    return [run.run, run.state, run.dataset, run.folds, run.epochs, seeds, scores, started, size(run.bytes)]
