"""``mirembed embed`` and ``predict``: apply a saved model to audio files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirembed.audio.files import audio_files, failures_json, printable, require_existing
from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, Table, print_result
from mirembed.interruption import RESUMES, interruptible, say_when_interrupted
from mirembed.progress import counted
from mirembed.store import Store

if TYPE_CHECKING:
    from mirembed.models.base import AnyModel
    from mirembed.models.inference import EmbeddedFiles
    from mirembed.registry import Registry

_SHOWN = 6
"""Values of an embedding to print."""


def embed(
    model: options.ModelName,
    paths: options.AudioPaths,
    store: options.StoreFolder = options.DEFAULT_STORE,
    out: options.Out = None,
    force: options.Force = False,
    bom: options.Bom = False,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Compute the embeddings of audio files. They need no labels."""
    options.check_out(out, force=force, bom=bom)
    with interruptible():
        from mirembed.models.inference import write_embedded

    registry = options.discover()
    loaded = _load(model, paths, registry, store)
    with _embedding(loaded, registry, paths, store, jobs) as result:
        vectors = dict(zip(map(printable, result.paths), result.embeddings, strict=True))
        if out is not None:
            write_embedded(out, result, loaded, bom=bom)
        columns = ["path", f"embedding (first {_SHOWN} of {loaded.units} values; all with --out or --json)"]
        rows = [[path, " ".join(f"{value: .4f}" for value in vector[:_SHOWN])] for path, vector in vectors.items()]
        content = {"embeddings": {path: vector.tolist() for path, vector in vectors.items()}}
        _print(json, content, Table(columns, rows), result, out)
    options.exit_with_failures(result.failures)


def predict(
    model: options.ModelName,
    paths: options.AudioPaths,
    store: options.StoreFolder = options.DEFAULT_STORE,
    top: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Name the N most probable classes or tags, with their probabilities."),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(metavar="P", help="Name only classes or tags of at least this probability, from 0 to 1."),
    ] = None,
    skip_known: Annotated[
        bool, typer.Option("--skip-known", help="Leave out the recordings that the model was fitted to.")
    ] = False,
    out: options.Out = None,
    force: options.Force = False,
    bom: options.Bom = False,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Predict the class, the tags or the targets of audio files. They need no labels."""
    options.check_out(out, force=force, bom=bom)
    with interruptible():
        from mirembed.models.predictions import (
            Ranking,
            in_words,
            prediction_columns,
            prediction_notes,
            prediction_rows,
            write_predictions,
        )

    registry = options.discover()
    loaded = _load(model, paths, registry, store)
    ranking = Ranking.of(loaded, top, min_score)
    with _embedding(loaded, registry, paths, store, jobs) as found:
        result = found.without(loaded.trained_on) if skip_known else found
        rows, columns = prediction_rows(loaded, result, ranking), prediction_columns(loaded.task, ranking)
        if out is not None:
            write_predictions(out, rows, loaded.task, columns, bom=bom)
        n_skipped = len(found.paths) - len(rows) if skip_known else None
        for note in prediction_notes(loaded, ranking, n_skipped):
            typer.echo(note, err=True)
        content: dict[str, Any] = {"predictions": rows}
        if ranking is not None:
            content["calibrated"] = loaded.uncalibrated is None
        if skip_known:
            content["skipped"] = n_skipped
        table = Table(columns, [in_words(row, ranking) for row in rows])
        _print(json, content, table, result, out)
    options.exit_with_failures(result.failures)


@contextlib.contextmanager
def _embedding(
    model: AnyModel, registry: Registry, paths: list[Path], store: Path, jobs: int | None
) -> Iterator[EmbeddedFiles]:
    """Embed audio files and folders, and keep the embeddings until their results have been written."""
    from mirembed.models.inference import embedding_files

    files, notes = audio_files(paths)
    with contextlib.ExitStack() as stack:
        with ConsoleProgress() as progress:
            for note in notes:
                progress.note(note)
            embedding = embedding_files(model, files, registry, Store(store), options.jobs_or_cores(jobs), progress)
            embedded = stack.enter_context(embedding)
        yield embedded


def _load(model: str, paths: list[Path], registry: Registry, store: Path) -> AnyModel:
    """Load a model, if it and the files to apply it to exist."""
    from mirembed.models.combined import load_model
    from mirembed.models.saved import find_model

    say_when_interrupted(RESUMES)
    folder = find_model(Store(store).models, model)
    require_existing(paths)
    return load_model(folder, registry)


def _print(json: bool, content: dict[str, Any], table: Table, result: EmbeddedFiles, out: Path | None) -> None:
    shown = [table] if table.rows and out is None else []
    print_result(json, lambda: {**content, "failures": failures_json(result.failures)}, shown)
    if out is not None:
        typer.echo(f"wrote {counted(len(result.paths), 'row')} to {out}", err=True)
