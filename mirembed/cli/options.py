"""The flags that several commands share, spelled and explained once."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from mirembed.registry import Registry
    from mirembed.specs import Spec

Dataset: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="A dataset: name or name:param=value. Without it, the only one in the store; none there: demo.",
    ),
]
StoreFolder: TypeAlias = Annotated[
    Path,
    typer.Option("--store", metavar="DIR", envvar="MIREMBED_STORE", help="Holds spectrograms, models and runs."),
]
Similarities: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--similarity",
        metavar="SPEC",
        help="Learn this similarity: rbf, rbf:gamma=2 ... (approach SPEC-sl); repeatable.",
    ),
]
Approaches: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--approach", metavar="NAME", help="nn, fl or SPEC-sl; repeatable. Default: rbf-sl."),
]
LabelSimilarity: TypeAlias = Annotated[
    str | None, typer.Option(metavar="SPEC", help="Compare labels by another similarity than embeddings.")
]
Learner: TypeAlias = Annotated[
    str, typer.Option(metavar="SPEC", help="Predicts from embeddings: svm, svm:C=10, svm:kernel=match ...")
]
Epochs: TypeAlias = Annotated[int, typer.Option(metavar="N", min=1, help="Passes over the training tracks.")]
Batch: TypeAlias = Annotated[int, typer.Option(metavar="N", min=1, help="Excerpts in a training step.")]
Seed: TypeAlias = Annotated[int, typer.Option(metavar="N", min=0, help="Fixes weights, excerpts and their order.")]
NormalizeWith: TypeAlias = Annotated[
    str,
    typer.Option(
        "--normalize",
        metavar="WHOSE",
        help="Band statistics of the training tracks (training), or of the whole dataset as in the paper (dataset).",
    ),
]
Exclude: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="WHAT", help="known-faults: leave out the tracks that are known to be faulty, and say which."),
]
Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Worker processes; default: one a core. Results do not depend on it."),
]
BackendJobs: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Where the worker processes run: local, or dask for a cluster (pip install 'mirembed[dask]').",
    ),
]
Scheduler: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="The Dask scheduler, such as tcp://HOST:8786.")
]
Device: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu or cuda; auto takes a CUDA device when there is one.")
]
Engine: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto, numba (a fused kernel, fast) or torch (its own GRU); auto takes numba where it runs and agrees.",
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
ModelName: TypeAlias = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model's folder, or its name in the store.")
]
Paths: TypeAlias = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Audio files, or folders of them.")]

DEFAULT_STORE = Path("mirembed-store")


def command_line() -> str:
    """Return the command as it was typed, for provenance."""
    return shlex.join(["mirembed", *sys.argv[1:]])


def parse_dataset(text: str | None) -> Spec | None:
    """Read ``--dataset``."""
    from mirembed.specs import Spec

    return None if text is None else Spec.parse(text)


def discover() -> Registry:
    """Load the plugins, and say in one line each which are broken."""
    from mirembed.registry import Registry

    registry = Registry.discover()
    for broken in registry.broken:
        typer.echo(f"warning: {broken}; it is left out: {broken.remedy}", err=True)
    return registry


@contextlib.contextmanager
def on_backend(backend: str, scheduler: str | None, jobs: int | None) -> Iterator[None]:
    """Let ``--backend-jobs`` do the work for the length of a ``with`` block."""
    from mirembed.errors import SpecError
    from mirembed.workers.cluster import engine as use

    if backend != "local" and jobs is not None:
        raise SpecError(
            f"--jobs {jobs} and --backend-jobs {backend}: how many work, the cluster says; leave --jobs out"
        )
    with use(backend, scheduler):
        yield


def train_soon(context: typer.Context) -> None:
    """Have what trainings are forked from loaded while the command reads and plans; before any heavy import."""
    from mirembed.workers.trainings import prepare_trainings

    context.with_resource(prepare_trainings())


def jobs_or_cores(jobs: int | None) -> int:
    """Return ``--jobs``, by default the number of usable cores."""
    from mirembed.workers import available_jobs

    return jobs or available_jobs()
