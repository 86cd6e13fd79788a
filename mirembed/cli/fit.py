"""``mirembed fit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, print_result
from mirembed.config import defaults
from mirembed.interruption import RESUMES, STARTS_OVER, interruptible, say_when_interrupted
from mirembed.progress import counted


def fit(
    context: typer.Context,
    dataset: options.Dataset = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    preset: options.Preset = None,
    features: options.Features = None,
    network: options.Networks = None,
    similarity: options.Similarities = None,
    approach: options.Approaches = None,
    label_similarity: options.LabelSimilarity = None,
    learner: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help=f"Learner, such as svm, svm:C=10 or svm:kernel=match. Default: {defaults.LEARNER}."
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MODEL", help="Reuse the network of this model; fit only a learner to this dataset."
        ),
    ] = None,
    combine: options.Combine = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    optimizer: options.Optimizer = None,
    excerpt: options.Excerpt = None,
    deltas: options.Deltas = None,
    ensemble: options.Ensemble = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help=f"Seed of the initial weights and the excerpts. Default: {defaults.SEED}."
        ),
    ] = None,
    normalize: options.Normalize = None,
    select: options.Select = None,
    inner_cv: options.InnerCv = None,
    folds: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How inner folds are drawn: stratified, random or grouped."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Metric that decides in --select. Default: as in evaluate.")
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Epochs between the checkpoints of --select epoch. Default: {defaults.CHECKPOINT_EVERY}.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model. Default: DATASET-APPROACH.")
    ] = None,
    exclude: options.Exclude = None,
    jobs: options.Jobs = None,
    device: options.Device = None,
    engine: options.Engine = None,
    json: options.Json = False,
) -> None:
    """Train on all tracks of a dataset; save the model and the embeddings of the tracks."""
    say_when_interrupted(RESUMES if from_ is None else STARTS_OVER)
    if from_ is None:
        options.train_soon(context)
    with interruptible():
        from mirembed.api.fitting import NO_SETTINGS, fit_models, fit_settings, what_is_left
        from mirembed.api.words import task_kind
        from mirembed.runs.selection import describe_values
        from mirembed.store import Store

    given = options.given_settings(context, leave_out=NO_SETTINGS)
    place = Store.writable(store)
    kind = None if preset is None else task_kind(place, dataset)
    settings = fit_settings(given, "the command line", transfers=from_ is not None, preset=preset, kind=kind)
    registry = options.discover()
    with ConsoleProgress() as progress:
        fits = fit_models(
            settings,
            place,
            registry,
            dataset=dataset,
            from_=from_,
            name=name,
            exclude=exclude,
            jobs=jobs,
            command=options.command_line(),
            progress=progress,
        )
    tracks, fitted = fits.tracks, fits.models
    lines = []
    for model in fitted:
        for note in model.notes:
            typer.echo(f"warning: {model.approach}: {note}", err=True)
        loss = "" if model.loss is None else f", loss {model.loss:.4g} per track"
        lines += [
            f"{model.approach}: fitted to {counted(len(tracks.ids), 'track')}{loss}",
            f"  model       {model.folder}",
            f"  embeddings  {model.embeddings}",
            *([f"  weights     {describe_values(shown)}"] if (shown := _rounded(model.weights)) else []),
            *([f"  chosen      {describe_values(model.chosen)}"] if model.chosen else []),
            *(f"  {line}" for line in what_is_left(model)),
        ]
    print_result(json, lambda: {"dataset": tracks.info.spec, "models": [model.to_json() for model in fitted]}, lines)


def _rounded(weights: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{weight:.3g}" for name, weight in weights.items()}
