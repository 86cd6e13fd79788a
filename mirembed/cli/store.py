"""``mirembed store``: show, verify, compact and clean up a store; list the files that failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli import options
from mirembed.cli.app import App
from mirembed.cli.output import ConsoleProgress, Table, confirm, print_result
from mirembed.interruption import RESUMES, raise_if_interrupted, say_when_interrupted
from mirembed.progress import counted, size
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.root import require_store

if TYPE_CHECKING:
    from mirembed.inventory import Contents, DatasetSummary
    from mirembed.runs.summary import RunSummary

app = App(
    help="Show what is in a store or which files failed, verify it, merge its small files, or remove something.",
    no_args_is_help=True,
)


@app.command("info", epilog="Example: mirembed store info")
def info(store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False) -> None:
    """List what is in a store, with the disk space that each item takes."""
    from mirembed.inventory import contents

    found = contents(_existing(store))
    print_result(json, lambda: asdict(found), _tables(found))


@app.command("failures", epilog="Example: mirembed store failures")
def failures(
    dataset: Annotated[
        Spec | None, typer.Option(metavar="SPEC", parser=Spec.parse, help="Only those of this dataset.")
    ] = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    json: options.Json = False,
) -> None:
    """List the files that failed in extract and update, why, and which failures you have accepted."""
    place = _existing(store)
    rows = [
        (one.info().spec, failure)
        for one in ([place.find(dataset)] if dataset is not None else place.datasets())
        for failure in one.failures()
    ]
    shown = [[spec, one.path, one.features, one.reason, "yes" if one.accepted else ""] for spec, one in rows]
    print_result(
        json,
        lambda: {"failures": [{"dataset": spec, **asdict(failure)} for spec, failure in rows]},
        [Table(["dataset", "path", "features", "reason", "accepted"], shown) if shown else "no file failed"],
    )


@app.command("verify", epilog="Example: mirembed store verify")
def verify(store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False) -> None:
    """Read everything in a store, and report what is damaged and what to do. Nothing is changed.

    Exit code 1 if anything is damaged.
    """
    from mirembed.inventory import verify as run

    place = _existing(store)
    with ConsoleProgress() as progress:
        faults = run(place, progress)
    lines = [f"{fault.path} {fault.what}; {fault.advice}" for fault in faults]
    lines.append(f"{store}: {counted(len(faults), 'problem') if faults else 'no problems'}")
    print_result(json, lambda: {"sound": not faults, "faults": [asdict(fault) for fault in faults]}, lines)
    raise typer.Exit(1 if faults else 0)


@app.command("compact", epilog="Example: mirembed store compact")
def compact(store: options.StoreFolder = options.DEFAULT_STORE, json: options.Json = False) -> None:
    """Merge the small files of a store's features."""
    from mirembed.store.compact import compact as run

    say_when_interrupted(RESUMES)
    done, lines = [], []
    for features in _existing(store).all_features():
        with ConsoleProgress() as progress:
            result = run(features, progress)
        done.append({"features": features.name, **asdict(result)})
        before, after = counted(result.shards_before, "shard"), counted(result.shards_after, "shard")
        lines.append(f"{features.name}: {before} ({size(result.bytes_before)}) -> {after} ({size(result.bytes_after)})")
    print_result(json, lambda: done, lines)


@app.command("rm", epilog="Example: mirembed store rm model:demo-rbf-sl")
def rm(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="model:NAME (with its embeddings), embeddings:NAME, run:NAME, dataset:SPEC, features:NAME, cache "
            "(what is rebuilt if missing), or unused (what no dataset or model refers to).",
        ),
    ],
    store: options.StoreFolder = options.DEFAULT_STORE,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Remove models, runs, datasets, features or caches from a store, after listing them with their sizes."""
    from mirembed.removal import plan_removals

    planned = plan_removals(_existing(store), names)
    total = size(sum(removal.bytes for removal in planned))
    for removal in planned:
        typer.echo(f"{removal.what}: {size(removal.bytes)}", err=True)
    if planned:
        confirm(f"remove {total} from {store}", yes)
    say_when_interrupted("interrupted; what was removed before stays removed, and the rest is unchanged")
    for removal in planned:
        raise_if_interrupted()
        removal.remove()
    removed = [{"what": removal.what, "bytes": removal.bytes} for removal in planned]
    print_result(json, lambda: {"removed": removed}, [f"removed {total}" if planned else "nothing to remove"])


def _existing(store: Path) -> Store:
    require_store(store)
    return Store(store)


def _tables(found: Contents) -> Iterator[Table | str]:
    from mirembed.statistics.metrics import metric_named

    yield Table(
        ["features", "state", "spec", "values", "recordings", "unused", "hours", "size", "shards", "computed by"],
        [
            [
                one.features,
                one.state,
                one.spec,
                one.values,
                one.recordings,
                one.unused,
                f"{one.hours:.2f}",
                size(one.bytes),
                one.shards,
                ", ".join(f"{backend} ({count})" for backend, count in one.backends.items()),
            ]
            for one in found.features
        ],
        "Features",
    )
    yield Table(
        ["dataset", "state", "tracks", "failed", "hours", "features", "size"],
        [
            [
                one.dataset,
                one.state,
                _tracks(one),
                f"{one.failures}, {one.accepted} accepted" if one.accepted else one.failures,
                f"{one.hours:.2f}",
                ", ".join(f"{spec} ({count})" for spec, count in one.features.items()),
                size(one.bytes),
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
    if found.embeddings:
        yield Table(
            ["embeddings of", "state", "recordings", "size"],
            [[one.model, one.state, one.recordings, size(one.bytes)] for one in found.embeddings],
            "Embeddings",
        )
    if found.runs:
        runs = [line for run in found.runs for line in (run, *run.members)]
        metrics = dict.fromkeys(run.metric for run in runs if run.metric)
        headlines = " or ".join(metric_named(metric).label for metric in metrics) or "score"
        yield Table(
            ["run", "state", "dataset", "folds", "epochs", "seeds", f"mean {headlines}", "started (UTC)", "size"],
            [_run_row(run) for run in runs],
            "Runs",
        )
    parts = {"cache": found.cache, "synthesized audio": found.audio}
    rest = ", ".join(f"{name} {size(n_bytes)}" for name, n_bytes in parts.items() if n_bytes)
    yield f"{size(found.bytes)} in total" + f" ({rest})" * bool(rest)


def _tracks(one: DatasetSummary) -> str:
    """Return the tracks in the store and those listed (``24 of 24``), and any that only one of them has."""
    absent = f", {one.absent} without audio" * bool(one.absent)
    unlisted = f", {one.unlisted} no longer listed" * bool(one.unlisted)
    return f"{one.tracks - one.unlisted} of {one.listed}{absent}{unlisted}"


def _run_row(run: RunSummary) -> list[object]:
    scores = run.describe_scores() or f"experiment of {len(run.members)}" * bool(run.members)
    seeds, started = ", ".join(map(str, run.seeds)), run.started[:16].replace("T", " ")
    return [run.run, run.state, run.dataset, run.folds, run.epochs, seeds, scores, started, size(run.bytes)]
