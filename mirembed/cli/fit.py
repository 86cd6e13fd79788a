"""``mirembed fit``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, print_result
from mirembed.config import Settings, defaults
from mirembed.errors import SpecError
from mirembed.interruption import RESUMES, STARTS_OVER, interruptible, say_when_interrupted
from mirembed.progress import counted
from mirembed.specs import Spec
from mirembed.store import Store

if TYPE_CHECKING:
    from mirembed.fit import FittedModel
    from mirembed.registry import Registry


def fit(
    context: typer.Context,
    dataset: options.Dataset = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
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
        typer.Option(metavar="NAME", help="How --select draws its inner folds: stratified, random or grouped."),
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
        from mirembed.datasets.catalog import exclude_tracks
        from mirembed.datasets.changes import noting_changes
        from mirembed.fit import fit as run
        from mirembed.fit import transfer
        from mirembed.fit.names import check_name
        from mirembed.fit.resolve import resolve_settings
        from mirembed.fit.saved import SavedNetwork, needed_features
        from mirembed.runs.selection import describe_values
        from mirembed.store.tracks import open_tracks

    given = options.given_settings(context, leave_out=("name", "dataset", "exclude", "from_"))
    if from_ is not None and (training := [f"--{key}" for key in given if key != "learner"]):
        raise SpecError(f"--from uses a network that is already trained; omit {', '.join(training)}")
    settings = Settings().updated(given, "the command line")
    settings.check()
    if not settings.select and (
        unused := [f"--{key}" for key in ("folds", "metric", "checkpoint-every", "inner-cv") if key in given]
    ):
        raise SpecError(f"{', '.join(unused)}: used only with --select; add --select, or omit it")
    registry = options.discover()
    place = options.writable_store(store)
    command = options.command_line()
    with ConsoleProgress() as progress:
        if from_ is None:
            settings, given_features = resolve_settings(settings, registry)
            check_name(place.models, name, [method.name for method in settings.methods])
            needed = needed_features(given_features, settings.methods, {})
        else:
            saved = SavedNetwork.open(place.models, from_)
            check_name(place.models, name, [from_])
            saved.check_stored(place, registry)
            needed = [saved.features]
        opened = noting_changes(registry, place, open_tracks(place, place.find(dataset), needed, progress), progress)
        tracks = exclude_tracks(registry, opened, exclude, progress)
        if from_ is not None:
            [spec] = settings.learners
            path = saved.folder
            fitted = [
                transfer(
                    tracks, place, path, spec, registry, place.models, name=name, command=command, progress=progress
                )
            ]
        else:
            fitted = run(
                tracks,
                place,
                settings,
                registry,
                place.models,
                seed=settings.seed[0],
                jobs=options.jobs_or_cores(jobs),
                name=name,
                command=command,
                progress=progress,
            )
        _prepare_queries(place, registry, Spec.parse(tracks.info.spec), fitted)
    lines = []
    for model in fitted:
        for note in model.notes:
            typer.echo(f"warning: {model.approach}: {note}", err=True)
        loss = "" if model.loss is None else f", loss {model.loss:.4g} per track"
        lines += [
            f"{model.approach}: fitted to {counted(len(tracks.ids), 'track')}{loss}",
            f"  model       {model.folder}",
            f"  embeddings  {model.embeddings}",
            *([f"  chosen      {describe_values(model.chosen)}"] if model.chosen else []),
            *([_left(model)] if model.without_embeddings else []),
        ]
    print_result(json, lambda: {"dataset": tracks.info.spec, "models": [model.to_json() for model in fitted]}, lines)


def _prepare_queries(store: Store, registry: Registry, dataset: Spec, fitted: Sequence[FittedModel]) -> None:
    """Make the indexes of a music library, so that its first query takes no longer than the others."""
    from mirembed.library.index import open_index
    from mirembed.models.saved import read_identity

    if not getattr(registry.find("dataset", dataset.name).factory, "takes_file_tags", False):
        return
    tracks = store.dataset(dataset)
    for model in fitted:
        folder, provenance = read_identity(store.models, str(model.folder))
        open_index(store, tracks, tracks.info().task, folder.name, provenance["digest"])


def _left(model: FittedModel) -> str:
    """Say how many tracks of the dataset have no embedding, and how they get one."""
    verb = "has" if model.without_embeddings == 1 else "have"
    return (
        f"  {counted(model.without_embeddings, 'track')} of the dataset {verb} no embedding yet: run "
        f"`mirembed update {model.folder.name}`"
    )
