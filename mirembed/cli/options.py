"""The flags that several commands share, each defined once, and functions that read them."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from mirembed.audio.files import printable
from mirembed.config import Settings, defaults
from mirembed.config.settings import key
from mirembed.errors import SpecError
from mirembed.progress import joined
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store.exports import TABLE_SUFFIXES
from mirembed.store.files import check_output

Dataset: TypeAlias = Annotated[
    Spec | None,
    typer.Option(
        metavar="SPEC",
        parser=Spec.parse,
        help="Dataset: NAME or NAME:PARAM=VALUE. Default: the only one in the store; demo if the store is empty.",
    ),
]
AudioFolder: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The dataset's audio folder. The demo synthesizes its own.")
]
StoreFolder: TypeAlias = Annotated[
    Path, typer.Option("--store", metavar="DIR", envvar="MIREMBED_STORE", help="Folder for features, models and runs.")
]
Features: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPEC",
        help=f"Features, such as logmel:bands=80; A+B stacks two; repeatable. Default: {defaults.FEATURES}.",
    ),
]
Networks: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="SPEC", help=f"Network, such as gru:hidden=200; repeatable. Default: {defaults.NETWORK}."),
]
Similarities: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--similarity",
        metavar="SPEC",
        help="Similarity to learn, such as rbf:gamma=2 (approach SPEC-sl); repeatable.",
    ),
]
Approaches: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--approach",
        metavar="NAME",
        help=f"Approach: nn, fl, SPEC-sl, stats or untrained; in evaluate, also chance; repeatable. Default: "
        f"{defaults.APPROACH}.",
    ),
]
Combine: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[METHODS]",
        help="Average predictions: all (default), A|B, or stacked (all, with weights from inner folds); repeatable.",
    ),
]
LabelSimilarity: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SPEC", help="Similarity of the labels. Default: the similarity to learn."),
]
Epochs: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help=f"Passes over the training tracks. Default: {defaults.EPOCHS}.")
]
Batch: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help=f"Excerpts per training step. Default: {defaults.BATCH}.")
]
Optimizer: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SPEC", help=f"Optimizer, such as adam:lr=0.001. Default: {defaults.OPTIMIZER}."),
]
Excerpt: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="FRAMES",
        help=f"Frames per excerpt; an epoch draws one from each track. Default: {defaults.EXCERPT}.",
    ),
]
Deltas: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--deltas/--no-deltas",
        help="Append the differences of consecutive frames to the input. Default: for features with several frames.",
    ),
]
Preset: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Use built-in settings, which flags override: best (the most accurate affordable method) or paper.",
    ),
]
Ensemble: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help=f"Train N networks from different seeds and concatenate their embeddings. Default: {defaults.ENSEMBLE}.",
    ),
]
Normalize: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TRACKS",
        help="Tracks whose statistics normalize the input: training (default), or dataset (all, as in the paper).",
    ),
]
Metric: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Headline metric, such as macro_f1, rmse or average_precision. Default: accuracy for classes, roc_auc for "
        "tags, r for targets.",
    ),
]
Select: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CHOICE",
        help="Choose in inner folds of the training tracks: learner.C=0.1|1|10, similarity.gamma=0.5|1|2, epoch; "
        "repeatable.",
    ),
]
InnerCv: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help=f"Inner folds of --select and stacked. Default: {defaults.INNER_FOLDS}.")
]
Exclude: TypeAlias = Annotated[str | None, typer.Option(metavar="WHAT", help="Tracks to leave out: known-faults.")]
RetryFailed: TypeAlias = Annotated[bool, typer.Option("--retry-failed", help="Retry files that failed before.")]
AcceptFailures: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--accept-failures/--no-accept-failures",
        help="Accept the files that fail: until they change, they no longer lead to exit code 2. "
        "--no-accept-failures undoes this.",
    ),
]
Timeout: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=1,
        help="Time limit per file. Default: 5 minutes plus 1 second per megabyte, at most 1 hour.",
    ),
]
Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Worker processes. Default: one per core. Results do not depend on it."),
]
Executor: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Where the work runs: local, or dask for a Dask cluster (pip install 'mirembed[dask]')."
    ),
]
Scheduler: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler, such as tcp://HOST:8786.")
]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, cuda or auto (default): cuda if there is one."),
]
Engine: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What computes the network: numba (the fused engine), torch, or auto (default): numba where it works.",
    ),
]
Out: TypeAlias = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write a .csv or .parquet file instead of printing a table."),
]
Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace the --out file if it exists.")]
Bom: TypeAlias = Annotated[
    bool, typer.Option("--bom", help="Begin the CSV file with a byte order mark, so that Excel reads it as UTF-8.")
]
MaxPerArtist: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="At most N tracks by one artist, according to the file tags; 0: no limit."),
]
MaxPerAlbum: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="At most N tracks from one album; 0: no limit.")
]
ExcludeTracks: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="WHAT",
        help="Leave out a track, an artist, an album, a folder, or the tracks of a playlist file; repeatable.",
    ),
]
Library: TypeAlias = Annotated[
    Spec | None,
    typer.Option(
        "--dataset",
        metavar="SPEC",
        parser=Spec.parse,
        help="Dataset: NAME or NAME:PARAM=VALUE. Default: the one that the model was fitted to.",
    ),
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
DatasetName: TypeAlias = Annotated[
    Spec, typer.Argument(metavar="NAME", parser=Spec.parse, help="Dataset: NAME or NAME:PARAM=VALUE.")
]
ModelName: TypeAlias = Annotated[str, typer.Argument(metavar="MODEL", help="Model: a folder, or a name in the store.")]
AudioPaths: TypeAlias = Annotated[list[Path], typer.Argument(metavar="PATH", help="Audio files, or folders of them.")]

DEFAULT_STORE = Path(defaults.STORE)


def command_line() -> str:
    """Return the command as it was typed, for provenance."""
    return shlex.join(["mirembed", *sys.argv[1:]])


def given_settings(context: typer.Context, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Return the flags that were given and are settings, by their keys in experiment files."""
    names = {field.name for field in dataclasses.fields(Settings)} - set(leave_out)
    return {key(name): value for name, value in context.params.items() if name in names and value not in (None, [], ())}


def shares(given: list[str] | None) -> list[float] | None:
    """Parse shares that are separated by ``|``.

    >>> shares(["0.25|0.5", "1"])
    [0.25, 0.5, 1.0]

    Raises
    ------
    SpecError
        If one is not a number.
    """
    if given is None:
        return None
    try:
        return [float(text) for several in given for text in several.split("|")]
    except ValueError as error:
        raise SpecError(f"--train-size {'|'.join(given)}: expected shares such as 0.25|0.5|1") from error


def discover() -> Registry:
    """Load the plugins and warn about broken ones."""
    registry = Registry.discover()
    for broken in registry.broken:
        typer.echo(f"warning: {broken}; not loaded; {broken.remedy}", err=True)
    return registry


def train_soon(context: typer.Context) -> None:
    """Start importing what trainings need in the background. Call it before any heavy import."""
    from mirembed.workers.executor import prepare_trainings

    context.with_resource(prepare_trainings())


def jobs_or_cores(jobs: int | None) -> int:
    """Return ``--jobs``, by default the number of usable cores."""
    from mirembed.workers import available_jobs

    return jobs or available_jobs()


def check_out(
    out: Path | None,
    suffixes: Sequence[str] = TABLE_SUFFIXES,
    *,
    force: bool = False,
    bom: bool = False,
    flag: str = "--out",
) -> None:
    """Refuse a file to write with another suffix, that exists, or that cannot be written, before any work is done.

    Raises
    ------
    SpecError
        The suffix is not one of ``suffixes``, or ``--bom`` is given for a file that is not CSV.
    StoreWriteError
        The file exists, or cannot be written.
    """
    if out is None:
        if bom:
            raise SpecError("--bom needs --out FILE.csv")
        return
    if out.suffix.lower() not in suffixes:
        raise SpecError(f"{flag} {out}: expected a file name ending in {joined(suffixes, 'or')}")
    if bom and out.suffix.lower() != ".csv":
        raise SpecError(f"--bom: {out} is not a CSV file; leave out --bom, or give --out FILE.csv")
    check_output(out, force=force, flag=flag)


def exit_with_failures(failures: Sequence[tuple[Path, str]]) -> None:
    """Name the files that failed and exit: with code 2 if there are any."""
    for path, reason in failures:
        typer.echo(f"failed: {printable(path)}: {reason}", err=True)
    raise typer.Exit(2 if failures else 0)
