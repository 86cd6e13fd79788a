"""The flags that several commands share, each spelled and explained once, and how they are read."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from mirembed.config import defaults

if TYPE_CHECKING:
    from mirembed.registry import Registry
    from mirembed.specs import Spec

Dataset: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="Dataset: NAME or NAME:PARAM=VALUE. Default: the only one in the store; demo if the store is empty.",
    ),
]
AudioFolder: TypeAlias = Annotated[Path | None, typer.Option(metavar="DIR", help="The dataset's audio folder.")]
StoreFolder: TypeAlias = Annotated[
    Path,
    typer.Option("--store", metavar="DIR", envvar="MIREMBED_STORE", help="Folder for features, models and runs."),
]
Similarities: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--similarity",
        metavar="SPEC",
        help="Similarity to learn, such as rbf or rbf:gamma=2 (approach SPEC-sl); repeatable.",
    ),
]
Approaches: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--approach", metavar="NAME", help="Approach: nn, fl or SPEC-sl; repeatable. Default: rbf-sl."),
]
LabelSimilarity: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SPEC", help="Similarity of the labels. Default: the same as for the embeddings."),
]
Epochs: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help=f"Passes over the training tracks. Default: {defaults.EPOCHS}.")
]
Batch: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help=f"Excerpts per training step. Default: {defaults.BATCH}.")
]
Normalize: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TRACKS",
        help="Tracks whose statistics normalize the input: training (the default), or dataset (all, as in the paper).",
    ),
]
Exclude: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="WHAT", help="known-faults: leave out the tracks with known faults."),
]
Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Worker processes. Default: one per core. The results do not depend on it."),
]
Executor: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=r"Where the work runs: local, or dask for a Dask cluster (pip install 'mirembed\[dask]').",
    ),
]
Scheduler: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler, such as tcp://HOST:8786.")
]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, cuda, or auto (the default), which uses a CUDA device if there is one."),
]
Engine: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Computes the network: numba (fused, fast), torch, or auto (the default), which uses numba if it works.",
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
DatasetName: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Dataset: NAME or NAME:PARAM=VALUE.")]
ModelName: TypeAlias = Annotated[str, typer.Argument(metavar="MODEL", help="Model: a folder, or a name in the store.")]
AudioPaths: TypeAlias = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Audio files, or folders of them.")
]

DEFAULT_STORE = Path("mirembed-store")


def command_line() -> str:
    """Return the command as it was typed, for provenance."""
    return shlex.join(["mirembed", *sys.argv[1:]])


def parse_dataset(text: str | None) -> Spec | None:
    """Parse ``--dataset``."""
    from mirembed.specs import Spec

    return None if text is None else Spec.parse(text)


def given_settings(context: typer.Context, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Return the flags that were given and are settings, by their keys in experiment files."""
    from mirembed.config.settings import Settings, key

    names = {field.name for field in dataclasses.fields(Settings)} - set(leave_out)
    return {key(name): value for name, value in context.params.items() if name in names and value not in (None, [], ())}


def discover() -> Registry:
    """Load the plugins and warn about broken ones."""
    from mirembed.registry import Registry

    registry = Registry.discover()
    for broken in registry.broken:
        typer.echo(f"warning: {broken}; not loaded; {broken.remedy}", err=True)
    return registry


@contextlib.contextmanager
def on_executor(name: str, scheduler: str | None, jobs: int | None) -> Iterator[None]:
    """Run the work of the ``with`` block where ``--executor`` says."""
    from mirembed.errors import SpecError
    from mirembed.workers.executor import executor

    if name != "local" and jobs is not None:
        raise SpecError(f"--jobs {jobs} and --executor {name}: the cluster sets the number of workers; omit --jobs")
    with executor(name, scheduler):
        yield


def train_soon(context: typer.Context) -> None:
    """Start importing what trainings need in the background. Call it before any heavy import."""
    from mirembed.workers.trainings import prepare_trainings

    context.with_resource(prepare_trainings())


def jobs_or_cores(jobs: int | None) -> int:
    """Return ``--jobs``, by default the number of usable cores."""
    from mirembed.workers import available_jobs

    return jobs or available_jobs()
