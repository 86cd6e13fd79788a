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
    Learner,
    Normalize,
    Seed,
    Similarities,
    StoreFolder,
)

_TRAINING = (
    *("similarity", "approach", "label_similarity", "epochs", "batch", "seed", "normalize", "device", "engine"),
)
"""Parameters that only matter to a new training, not with ``--network``."""


def fit(
    context: typer.Context,
    dataset: Dataset = None,
    store: StoreFolder = DEFAULT_STORE,
    similarity: Similarities = None,
    approach: Approaches = None,
    label_similarity: LabelSimilarity = None,
    learner: Learner = "svm",
    network: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Reuse the network of this model, and fit only a learner to this dataset."),
    ] = None,
    epochs: Epochs = 400,
    batch: Batch = 32,
    seed: Seed = 0,
    normalize: Normalize = "training",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model. Default: DATASET-APPROACH.")
    ] = None,
    exclude: Exclude = None,
    jobs: Jobs = None,
    device: Device = "auto",
    engine: Engine = "auto",
    json: Json = False,
) -> None:
    """Train on all tracks of a dataset; save the model and the embeddings of the tracks."""
    if network is None:
        options.train_soon(context)
    from mirembed.cli.output import ConsoleProgress, print_json
    from mirembed.config import Experiment, check_normalize, choose_approaches, choose_device, on_engine
    from mirembed.datasets.catalog import exclude_tracks
    from mirembed.errors import SpecError
    from mirembed.fit import fit as run
    from mirembed.fit import transfer
    from mirembed.models.model import find_model
    from mirembed.progress import counted
    from mirembed.specs import Spec
    from mirembed.store import Store
    from mirembed.store.frames import open_tracks

    given = [f"--{name.replace('_', '-')}" for name in _TRAINING if _is_given(context, name)]
    if network is not None and given:
        raise SpecError(f"--network reuses a network as it was trained; omit {', '.join(given)}")
    registry = options.discover()
    place = Store(store)
    features = place.find(options.parse_dataset(dataset))
    approaches = choose_approaches(approach or [], similarity or [], label_similarity)
    command = options.command_line()
    with ConsoleProgress() as progress:
        tracks = exclude_tracks(registry, open_tracks(features, progress), exclude, progress)
        if network is not None:
            path = find_model(place.models, network)
            models = place.models
            fitted = [
                transfer(tracks, features, path, Spec.parse(learner), registry, models, name=name, command=command)
            ]
        else:
            learners, whose = (Spec.parse(learner),), check_normalize(normalize)
            experiment = Experiment(approaches, learners, epochs, batch, whose, choose_device(device))
            fitted = run(
                tracks,
                features,
                on_engine(experiment, engine, registry, progress.note),
                registry,
                place.models,
                seed=seed,
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


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
