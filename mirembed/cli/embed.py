"""``mirembed embed``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli import options
from mirembed.cli.options import DEFAULT_STORE, Jobs, Json, ModelName, Paths, StoreFolder

if TYPE_CHECKING:
    from mirembed.models.inference import EmbeddedFiles
    from mirembed.models.model import Model

Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write a file instead: .csv or .parquet.", dir_okay=False)
]


def embed(
    model: ModelName,
    paths: Paths,
    store: StoreFolder = DEFAULT_STORE,
    out: Out = None,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Compute the embeddings of audio files; no labels are needed."""
    from mirembed.audio.files import printable
    from mirembed.cli.console import print_json, print_table
    from mirembed.models.inference import check_suffix, write_embedded

    check_suffix(out)
    loaded, result = embed_paths(model, paths, store, jobs)
    if out is not None:
        write_embedded(out, result, loaded)
    if json:
        print_json(
            {
                "embeddings": {
                    printable(path): vector.tolist()
                    for path, vector in zip(result.paths, result.embeddings, strict=True)
                },
                "failures": failures_json(result),
            }
        )
    elif out is None:
        units = result.embeddings.shape[1]
        print_table(
            ["path", f"embedding (first 6 of {units}; all with --out or --json)"],
            [
                [printable(path), " ".join(f"{value: .4f}" for value in vector[:6])]
                for path, vector in zip(result.paths, result.embeddings, strict=True)
            ],
        )
    finish(result, out)


def embed_paths(model: str, paths: list[Path], store: Path, jobs: int | None) -> tuple[Model, EmbeddedFiles]:
    """Load a model and embed files and folders with it."""
    from mirembed.audio.files import audio_files
    from mirembed.cli.console import ConsoleProgress
    from mirembed.models.inference import embed_files
    from mirembed.models.model import Model, find_model
    from mirembed.store import Store

    registry = options.discover()
    loaded = Model.load(find_model(Store(store).models, model), registry)
    with ConsoleProgress() as progress:
        return loaded, embed_files(loaded, audio_files(paths), options.jobs_or_cores(jobs), progress)


def failures_json(result: EmbeddedFiles) -> list[dict[str, str]]:
    """Return the files that failed, as JSON."""
    from mirembed.audio.files import printable

    return [{"path": printable(path), "reason": reason} for path, reason in result.failures]


def finish(result: EmbeddedFiles, out: Path | None) -> None:
    """Say what was written and what failed, and leave with the fitting exit code."""
    from mirembed.audio.files import printable

    if out is not None:
        typer.echo(f"{len(result.paths)} rows written to {out}", err=True)
    for path, reason in result.failures:
        typer.echo(f"failed: {printable(path)}: {reason}", err=True)
    raise typer.Exit(2 if result.failures else 0)
