"""`mirembed.fit`, and what it has in common with the command ``mirembed fit``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mirembed.api.models import Model
from mirembed.api.progress import RESUMES, reporting
from mirembed.api.words import (
    PathLike,
    StoreLike,
    as_call,
    dataset_of,
    discover,
    given_words,
    number_of,
    plain,
    store_of,
    task_kind,
    text_of,
    words_of,
)
from mirembed.config import Settings, read_preset
from mirembed.config.approaches import learners_of
from mirembed.errors import SpecError
from mirembed.progress import Progress, counted, joined
from mirembed.specs import Spec

if TYPE_CHECKING:
    from mirembed.fit import FittedModel
    from mirembed.registry import Registry
    from mirembed.store import Store
    from mirembed.store.tracks import Tracks

NO_SETTINGS = ("name", "dataset", "exclude", "from_", "preset", "store", "jobs", "progress", "command")
"""Arguments of a fit that are not settings of training or learner."""


@dataclass(frozen=True)
class Fits:
    """The result of a fit.

    Attributes
    ----------
    tracks : Tracks
        Those that the models were fitted to.
    models : list of FittedModel
    """

    tracks: Tracks
    models: list[FittedModel]


def fit_settings(
    given: Mapping[str, Any], where: str, *, transfers: bool, preset: str | None = None, kind: str | None = None
) -> Settings:
    """Return the settings of a fit, checked.

    Parameters
    ----------
    given : mapping of str to object
        The arguments that were given, by their keys in experiment files.
    where : str
        Where they come from, for errors.
    transfers : bool
        Whether the network of a saved model is used, so that only a learner is fitted.
    preset : str or None
        Settings that come with mirembed, which ``given`` overrides.
    kind : str or None
        Of the task, see `mirembed.config.files.read_preset`.

    Raises
    ------
    SpecError
        If an argument is invalid, or has no effect; or the preset is unknown, or consists of several evaluations.
    """
    training = [f"--{name}" for name in (["preset"] if preset else []) + [*given] if name != "learner"]
    if transfers and training:
        raise SpecError(f"--from uses a network that is already trained; omit {', '.join(training)}")
    first, *others = [Settings()] if preset is None else read_preset(preset, kind)
    if others:
        raise SpecError(
            f"--preset {preset}: it consists of several evaluations, not of one model; use `mirembed evaluate`"
        )
    settings = first.updated(given, where)
    settings.check()
    stacks = any(method.approach.stacked for method in settings.methods)
    for names, is_used, needed in (
        (("metric", "checkpoint-every"), bool(settings.select), "--select"),
        (("folds", "inner-cv"), bool(settings.select) or stacks, "--select or --combine stacked"),
    ):
        if not is_used and (unused := [f"--{name}" for name in names if name in given]):
            raise SpecError(f"{', '.join(unused)}: used only with {needed}; add that, or omit {joined(unused)}")
    return settings


def fit_models(
    settings: Settings,
    store: Store,
    registry: Registry,
    *,
    dataset: Spec | None,
    from_: str | None,
    name: str | None,
    exclude: str | None,
    jobs: int | None,
    command: str,
    progress: Progress,
) -> Fits:
    """Fit all models of some settings to a dataset; or, with ``from_``, only a learner.

    Raises
    ------
    MirembedError
        See `mirembed.fit.fit` and `mirembed.fit.transfer`.
    """
    from mirembed.datasets.catalog import exclude_tracks
    from mirembed.datasets.changes import noting_changes
    from mirembed.fit import fit as run
    from mirembed.fit import transfer
    from mirembed.fit.combining import saved_methods
    from mirembed.fit.names import check_name
    from mirembed.fit.resolve import resolve_settings
    from mirembed.fit.saved import SavedNetwork, needed_features
    from mirembed.model_card import write_card
    from mirembed.models.learners import check_learners
    from mirembed.store.tracks import open_tracks
    from mirembed.workers import available_jobs

    if from_ is None:
        settings, given_features = resolve_settings(settings, registry)
        check_name(store.models, name, [method.name for method in saved_methods(settings.methods)])
        needed = needed_features(given_features, settings.methods, {})
    else:
        saved = SavedNetwork.open(store.models, from_)
        check_name(store.models, name, [from_])
        saved.check_stored(store, registry)
        needed = [saved.features]
    stored = store.find(dataset)
    # Before the frames are gathered, which takes long for a large dataset.
    check_learners(registry, learners_of(settings.methods), stored.info().task, saved=True)
    opened = noting_changes(registry, store, open_tracks(store, stored, needed, progress), progress)
    tracks = exclude_tracks(registry, opened, exclude, progress)
    if from_ is not None:
        [spec] = settings.learners
        made = transfer(
            tracks, store, saved.folder, spec, registry, store.models, name=name, command=command, progress=progress
        )
        models = [made]
    else:
        models = run(
            tracks,
            store,
            settings,
            registry,
            store.models,
            seed=settings.seed[0],
            jobs=jobs or available_jobs(),
            name=name,
            command=command,
            progress=progress,
        )
    for model in models:
        write_card(model.folder, store, registry)
    _prepare_queries(store, registry, Spec.parse(tracks.info.spec), models)
    return Fits(tracks, models)


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


def what_is_left(model: FittedModel) -> list[str]:
    """Say how many tracks of the dataset have no embedding, and how to compute it; nothing if all have one."""
    if not model.without_embeddings:
        return []
    verb = "has" if model.without_embeddings == 1 else "have"
    return [
        f"{counted(model.without_embeddings, 'track')} of the dataset {verb} no embedding yet: run "
        f"`mirembed update {model.folder.name}`"
    ]


def fit(
    dataset: str | None = None,
    *,
    store: StoreLike = None,
    preset: str | None = None,
    features: str | Sequence[str] | None = None,
    network: str | Sequence[str] | None = None,
    similarity: str | Sequence[str] | None = None,
    approach: str | Sequence[str] | None = None,
    label_similarity: str | None = None,
    learner: str | None = None,
    from_: PathLike | None = None,
    combine: str | Sequence[str | Sequence[str]] | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    optimizer: str | None = None,
    excerpt: int | None = None,
    deltas: bool | None = None,
    ensemble: int | None = None,
    seed: int | None = None,
    normalize: str | None = None,
    select: str | Sequence[str] | None = None,
    inner_cv: int | None = None,
    folds: str | None = None,
    metric: str | None = None,
    checkpoint_every: int | None = None,
    name: str | None = None,
    exclude: str | None = None,
    jobs: int | None = None,
    device: str | None = None,
    engine: str | None = None,
    progress: bool | Progress = True,
    command: str | None = None,
) -> Model:
    """Train on all tracks of a dataset; save the model, and the embeddings of the tracks, in the store.

    If interrupted, the same call resumes from the last checkpoint. Unlike the command, a call fits only one model; for
    several approaches, call it once for each.

    Parameters
    ----------
    dataset : str, optional
        A dataset of the store. Default: the only one.
    store : path or Store, optional
        Default: the environment variable MIREMBED_STORE, or else ``mirembed-store`` in the current folder.
    features : str or sequence of str, optional
        Default: ``"logmel"``. Several features, networks, similarities or approaches need ``combine``.
    network : str or sequence of str, optional
        Default: ``"gru"``.
    similarity : str or sequence of str, optional
        The similarity to learn, such as ``"rbf"`` (default) or ``"rbf:gamma=2"``.
    approach : str or sequence of str, optional
        Instead of a similarity: ``"nn"``, ``"fl"``, ``"SPEC-sl"``, or a baseline without training, such as ``"stats"``.
    label_similarity : str, optional
        Similarity of the labels, if it differs from that of the embeddings.
    learner : str, optional
        Default: ``"svm"``.
    from_ : path, optional
        Reuse the network of this model (a folder, or a name in the store); fit only a learner.
    combine : str or sequence, optional
        Methods whose predictions the model averages, such as ``"rbf-sl|stats"`` or ``[["rbf-sl", "stats"]]``;
        see `mirembed.evaluate`.
    epochs : int, optional
        Passes over the training tracks. Default: 400.
    batch : int, optional
        Excerpts per training step. Default: 32.
    optimizer : str, optional
        A torch optimizer, such as ``"adam:lr=0.001"``. Default: ``"adadelta"``.
    excerpt : int, optional
        Frames that each epoch takes from a track. Default: 100.
    deltas : bool, optional
        Append the differences of consecutive frames. Default: for features with several frames.
    ensemble : int, optional
        Networks to train from different seeds; their embeddings are concatenated. Default: 1.
    seed : int, optional
        Seed of the initial weights and the excerpts. Default: 0.
    normalize : {"training", "dataset"}, optional
        Tracks whose statistics normalize the input. Default: ``"training"``.
    select : str or sequence of str, optional
        What to choose in inner folds: ``"learner.C=0.1|1|10"``, ``"epoch"``.
    inner_cv, folds, metric, checkpoint_every : optional
        With ``select``: the number of inner folds and how they are drawn, the metric that decides, and the epochs
        between checkpoints.
    name : str, optional
        Name of the model, not taken yet. Default: DATASET-APPROACH, with a number if that is taken.
    exclude : {"known-faults"}, optional
        Leave out the tracks with known faults.
    jobs : int, optional
        Worker processes; the numbers do not depend on it. Default: one per core.
    device : {"auto", "cpu", "cuda"}, optional
    engine : {"auto", "numba", "torch"}, optional
    progress : bool
        Show a line of text.
    command : str, optional
        Command that the model records. Default: this call.

    Returns
    -------
    Model

    Raises
    ------
    MirembedError
        An argument is invalid, the store lacks the dataset or its features, a plugin fails, or the name is taken.
    """
    from mirembed.fit.combining import saved_methods
    from mirembed.workers.executor import prepare_trainings

    words = words_of(fit, locals())
    number_of("seed", seed, least=0)  # an evaluation takes several
    spec, workers = dataset_of(dataset), number_of("jobs", jobs)
    texts = {"preset": preset, "name": name, "exclude": exclude, "command": command}
    for word, text in texts.items():
        if text is not None:
            text_of(word, text)
    kind = None if preset is None else task_kind(store_of(store), spec)
    given, transfers = given_words(words, NO_SETTINGS), from_ is not None
    settings = fit_settings(given, "fit()", transfers=transfers, preset=preset, kind=kind)
    saved = saved_methods(settings.methods)
    if len(saved) > 1:
        named = ", ".join(method.name for method in saved)
        raise SpecError(
            f"fit() fits one model, and this would fit {len(saved)} ({named}); call it once for each, or combine them"
        )
    with prepare_trainings(), reporting(progress, RESUMES) as reported:
        registry, place = discover(reported.note), store_of(store, writable=True)
        fits = fit_models(
            settings,
            place,
            registry,
            dataset=spec,
            from_=None if from_ is None else str(plain(from_)),
            name=name,
            exclude=exclude,
            jobs=workers,
            command=command or as_call(fit, words),
            progress=reported,
        )
        [made] = fits.models
        for note in [*(f"warning: {made.approach}: {note}" for note in made.notes), *what_is_left(made)]:
            reported.note(note)
    return Model.open(made.folder, place, registry)
