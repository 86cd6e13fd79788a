"""``mirembed fit``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.options import (
    DEFAULT_STORE,
    Approaches,
    Batch,
    Dataset,
    Device,
    Engine,
    Epochs,
    Exclude,
    Jobs,
    Json,
    LabelSimilarity,
    Normalize,
    Similarities,
    StoreFolder,
)
from mirembed.config import defaults


def fit(
    context: typer.Context,
    dataset: Dataset = None,
    store: StoreFolder = DEFAULT_STORE,
    similarity: Similarities = None,
    approach: Approaches = None,
    label_similarity: LabelSimilarity = None,
    learner: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help=f"Learner, such as svm, svm:C=10 or svm:kernel=match. Default: {defaults.LEARNER}.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Reuse the network of this model, and fit only a learner to this dataset."),
    ] = None,
    epochs: Epochs = None,
    batch: Batch = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help=f"Seed of the initial weights and the excerpts. Default: {defaults.SEED}."
        ),
    ] = None,
    normalize: Normalize = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model. Default: DATASET-APPROACH.")
    ] = None,
    exclude: Exclude = None,
    jobs: Jobs = None,
    device: Device = None,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Train on all tracks of a dataset; save the model and the embeddings of the tracks."""
    if network is None:
        options.train_soon(context)
    from mirembed.cli.output import ConsoleProgress, print_json
    from mirembed.config import Settings
    from mirembed.datasets.catalog import exclude_tracks
    from mirembed.errors import SpecError
    from mirembed.fit import fit as run
    from mirembed.fit import transfer
    from mirembed.models.model import find_model
    from mirembed.progress import counted
    from mirembed.store import Store
    from mirembed.store.tracks import open_tracks

    given = options.given_settings(context, leave_out=("name", "dataset", "exclude"))
    if network is not None and (training := [f"--{key}" for key in given if key != "learner"]):
        raise SpecError(f"--network reuses a network as it was trained; omit {', '.join(training)}")
    settings = Settings().updated(given, "the command line")
    settings.check()
    registry = options.discover()
    place = Store(store)
    features = place.find(options.parse_dataset(dataset))
    command = options.command_line()
    with ConsoleProgress() as progress:
        tracks = exclude_tracks(registry, open_tracks(features, progress), exclude, progress)
        if network is not None:
            path = find_model(place.models, network)
            [spec] = settings.learners
            fitted = [transfer(tracks, features, path, spec, registry, place.models, name=name, command=command)]
        else:
            fitted = run(
                tracks,
                features,
                settings,
                registry,
                place.models,
                seed=settings.seed[0],
                jobs=options.jobs_or_cores(jobs),
                name=name,
                command=command,
                progress=progress,
            )
    for model in fitted:
        for note in model.notes:
            typer.echo(f"warning: {model.approach}: {note}", err=True)
    if json:
        print_json({"dataset": tracks.info.spec, "models": [model.to_json() for model in fitted]})
        return
    for model in fitted:
        loss = "" if model.loss is None else f", loss {model.loss:.4g} per track"
        typer.echo(f"{model.approach}: fitted to {counted(len(tracks.ids), 'track')}{loss}")
        typer.echo(f"  model       {model.folder}")
        typer.echo(f"  embeddings  {model.embeddings}")
