"""``mirembed embed``, ``predict`` and ``similar``: apply a saved model to audio files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from mirembed.audio.files import audio_files, printable
from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, Table, print_result
from mirembed.progress import counted
from mirembed.store import Store

if TYPE_CHECKING:
    from mirembed.models.inference import EmbeddedFiles
    from mirembed.models.model import Model

_Out: TypeAlias = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write a .csv or .parquet file instead.", dir_okay=False)
]

_SHOWN = 6
"""Values of an embedding to print."""


def embed(
    model: options.ModelName,
    paths: options.AudioPaths,
    store: options.StoreFolder = options.DEFAULT_STORE,
    out: _Out = None,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Compute the embeddings of audio files. They need no labels."""
    from mirembed.models.inference import check_suffix, write_embedded

    check_suffix(out)
    loaded, result = _embed(model, paths, store, jobs)
    vectors = dict(zip(map(printable, result.paths), result.embeddings, strict=True))
    if out is not None:
        write_embedded(out, result, loaded)
    columns = ["path", f"embedding (first {_SHOWN} of {loaded.network.units} values; all with --out or --json)"]
    rows = [[path, " ".join(f"{value: .4f}" for value in vector[:_SHOWN])] for path, vector in vectors.items()]
    content = {"embeddings": {path: vector.tolist() for path, vector in vectors.items()}}
    _print(json, content, Table(columns, rows), result, out)


def predict(
    model: options.ModelName,
    paths: options.AudioPaths,
    store: options.StoreFolder = options.DEFAULT_STORE,
    out: _Out = None,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Predict the class, the tags or the targets of audio files. They need no labels."""
    from mirembed.models.inference import check_suffix, in_words, write_predictions
    from mirembed.models.model import named_predictions

    check_suffix(out)
    loaded, result = _embed(model, paths, store, jobs)
    predictions = named_predictions(loaded.task, loaded.predict(result.embeddings))
    rows = [{"path": printable(path), **values} for path, values in zip(result.paths, predictions, strict=True)]
    if out is not None:
        write_predictions(out, rows, loaded.task)
    table = Table(list(rows[0]) if rows else [], [list(in_words(row).values()) for row in rows])
    _print(json, {"predictions": rows}, table, result, out)


def _embed(model: str, paths: list[Path], store: Path, jobs: int | None) -> tuple[Model, EmbeddedFiles]:
    """Load a model and embed audio files and folders with it."""
    from mirembed.models.inference import embed_files
    from mirembed.models.model import Model, find_model

    registry, place = options.discover(), Store(store)
    loaded = Model.load(find_model(place.models, model), registry)
    with ConsoleProgress() as progress:
        files = audio_files(paths)
        return loaded, embed_files(loaded, files, registry, place, options.jobs_or_cores(jobs), progress)


def _print(json: bool, content: dict[str, Any], table: Table, result: EmbeddedFiles, out: Path | None) -> None:
    failures = [{"path": printable(path), "reason": reason} for path, reason in result.failures]
    print_result(json, lambda: {**content, "failures": failures}, [table] if table.rows and out is None else [])
    if out is not None:
        typer.echo(f"wrote {counted(len(result.paths), 'row')} to {out}", err=True)
    _exit(failures)


def similar(
    model: options.ModelName,
    track: Annotated[str, typer.Argument(metavar="TRACK", help="Track: an id in the store, or an audio file.")],
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Number of neighbors.")] = 10,
    inside: Annotated[
        Path | None, typer.Option("--in", metavar="DIR", help="Search this folder of audio files instead of the store.")
    ] = None,
    dataset: options.Dataset = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """List the tracks most similar to one, by the similarity that the model learned."""
    from mirembed.models.neighbors import neighbors

    registry = options.discover()
    with ConsoleProgress() as progress:
        found = neighbors(
            Store(store),
            registry,
            model,
            track,
            top=top,
            inside=inside,
            dataset=dataset,
            jobs=jobs,
            progress=progress,
        )
    rows = [(rank, name, f"{value:.4f}") for rank, (name, value) in enumerate(found.tracks, 1)]
    print_result(json, found.to_json, [Table(["rank", "track", found.similarity], rows, f"most similar to {track}")])
    _exit(found.to_json()["failures"])


def _exit(failures: Sequence[dict[str, str]]) -> None:
    """Name the files that failed and exit: with code 2 if there are any."""
    for failure in failures:
        typer.echo(f"failed: {failure['path']}: {failure['reason']}", err=True)
    raise typer.Exit(2 if failures else 0)
