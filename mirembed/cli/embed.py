"""``mirembed embed``, and what ``mirembed predict`` shares with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli import options

if TYPE_CHECKING:
    from mirembed.models.inference import EmbeddedFiles
    from mirembed.models.model import Model

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write a .csv or .parquet file instead.", dir_okay=False),
]

_SHOWN = 6
"""Values of an embedding to print."""


def embed(
    model: options.ModelName,
    paths: options.AudioPaths,
    store: options.StoreFolder = options.DEFAULT_STORE,
    out: Out = None,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Compute the embeddings of audio files. They need no labels."""
    from mirembed.audio.files import printable
    from mirembed.cli.output import print_json, print_table
    from mirembed.models.inference import check_suffix, write_embedded

    check_suffix(out)
    loaded, result = embed_paths(model, paths, store, jobs)
    vectors = dict(zip(map(printable, result.paths), result.embeddings, strict=True))
    if out is not None:
        write_embedded(out, result, loaded)
    if json:
        embeddings = {path: vector.tolist() for path, vector in vectors.items()}
        print_json({"embeddings": embeddings, "failures": failures_json(result)})
    elif out is None:
        units = result.embeddings.shape[1]
        print_table(
            ["path", f"embedding (first {_SHOWN} of {units} values; all with --out or --json)"],
            [[path, " ".join(f"{value: .4f}" for value in vector[:_SHOWN])] for path, vector in vectors.items()],
        )
    finish(result, out)


def embed_paths(model: str, paths: list[Path], store: Path, jobs: int | None) -> tuple[Model, EmbeddedFiles]:
    """Load a model and embed audio files and folders with it."""
    from mirembed.audio.files import audio_files
    from mirembed.cli.output import ConsoleProgress
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
    """Report what was written and what failed, and exit with the fitting code."""
    from mirembed.progress import counted

    if out is not None:
        typer.echo(f"wrote {counted(len(result.paths), 'row')} to {out}", err=True)
    for failure in failures_json(result):
        typer.echo(f"failed: {failure['path']}: {failure['reason']}", err=True)
    raise typer.Exit(2 if result.failures else 0)
