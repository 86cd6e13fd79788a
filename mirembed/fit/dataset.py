"""Fit models on all tracks of a dataset, and keep them and the embeddings of the tracks in the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from mirembed.config import Method, Settings
from mirembed.config.approaches import learners_of
from mirembed.datasets.splits import Fold, Scheme, default_scheme
from mirembed.differences import describe
from mirembed.errors import EvaluationError, MismatchError, SpecError
from mirembed.features.info import distinct_parts
from mirembed.fit.calibrate import calibrated
from mirembed.fit.candidates import Selection, draw_inner_folds, plan_candidates
from mirembed.fit.combining import combine_saved, member_folders, saved_methods, stacked_members
from mirembed.fit.job import Job, train_network, training_provenance
from mirembed.fit.names import checkpoint, obstacles, reserving, wanted_names
from mirembed.fit.parallel import networks_apart, run_in_parallel
from mirembed.fit.resolve import (
    choose_device,
    choose_engine_for,
    describe_plugins,
    describe_settings,
    resolve_settings,
)
from mirembed.fit.saved import learned_approach, network_origin
from mirembed.fit.selection import fit_selected, is_resumed, total_epochs
from mirembed.fit.stacking import Stacking, check_stacked, out_of_fold
from mirembed.hookspecs import Classification, Tags
from mirembed.models.averaging import Outputs, equal_weights, stacked_weights
from mirembed.models.base import AnyModel
from mirembed.models.combined import CombinedModel, load_model
from mirembed.models.estimators import check_storable
from mirembed.models.inference import embed_frames
from mirembed.models.learners import check_learners, describe_learner, fit_learner
from mirembed.models.model import Model
from mirembed.models.saved import features_in, read_identity, read_manifest
from mirembed.progress import NO_PROGRESS, Progress, counted, joined
from mirembed.provenance import content_digest, environment
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.statistics.metrics import headline
from mirembed.store import EmbeddingRows, RecordingFacts, Store
from mirembed.store.recordings import facts_of_frames
from mirembed.store.tracks import Tracks
from mirembed.training.labels import scale_for, undeclared


@dataclass(frozen=True)
class FittedModel:
    """A fitted model on disk, and its embeddings.

    Attributes
    ----------
    approach : str
    folder : pathlib.Path
    embeddings : pathlib.Path
        Parquet table of the embeddings of all recordings.
    loss : float or None
        Mean loss per track in the last epoch; None if nothing was trained.
    notes : list of str
        Warnings about the model.
    chosen : mapping of str to str
        What was chosen for it, by the name of the choice.
    without_embeddings : int
        Listed tracks of the dataset that it has not embedded, because the store does not have their frames; without
        those whose files failed.
    weights : mapping of str to float
        Of a combined model: the weights of its members.
    """

    approach: str
    folder: Path
    embeddings: Path
    loss: float | None
    notes: list[str]
    chosen: Mapping[str, str] = field(default_factory=dict)
    without_embeddings: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON."""
        return {
            "approach": self.approach,
            "model": str(self.folder),
            "embeddings": str(self.embeddings),
            "loss": self.loss,
            "notes": self.notes,
            "chosen": dict(self.chosen),
            "without_embeddings": self.without_embeddings,
            "weights": dict(self.weights),
        }


@dataclass(frozen=True)
class _Training:
    """A network to train, the folders of its models by method, the store for their embeddings, and what is chosen.

    ``members`` are the methods whose models become part of combined ones; their embeddings are not stored. What its
    methods predict in the inner folds of ``stacking`` gives their weights.
    """

    job: Job
    tracks: Tracks
    folders: Mapping[str, Path]
    members: Collection[str]
    store: Path
    selection: Selection | None = None
    stacking: Stacking | None = None

    @property
    def epochs(self) -> int:
        """How many epochs it trains for, those of inner folds included."""
        n_folds = 0 if self.stacking is None else self.stacking.n_folds
        return total_epochs(self.job, self.selection) + n_folds * self.job.epochs

    @property
    def networks(self) -> list[Job]:
        """The networks to train before it; see `mirembed.fit.parallel`."""
        final = replace(self.job, settings=replace(self.job.settings, checkpoint_every=0))  # nothing is scored
        return networks_apart(None if self.is_saved else final, self.job, self.selection, self.stacking)

    def train_network(self, network: Job, on_epoch: Callable[[int], None]) -> None:
        """Train one of them."""
        train_network(network, Registry.discover(), on_epoch)

    @property
    def is_saved(self) -> bool:
        """Whether all models are saved already, by a fit that was interrupted."""
        return all(self.folders[method.name].exists() for method in self.job.methods)

    @property
    def is_resumed(self) -> bool:
        """Whether an interrupted fit has done part of it."""
        stacks = self.stacking is not None and self.stacking.is_resumed(self.job)
        return self.is_saved or stacks or is_resumed(self.job)


def fit(
    tracks: Tracks,
    store: Store,
    settings: Settings,
    registry: Registry,
    models: Path,
    *,
    seed: int,
    jobs: int,
    name: str | None = None,
    command: str = "",
    progress: Progress = NO_PROGRESS,
) -> list[FittedModel]:
    """Train on all tracks and save one model for each method; a combined method and its members are one model.

    The same call resumes an interrupted fit from its last checkpoint.

    Parameters
    ----------
    tracks : Tracks
    store : Store
        Gets the embeddings of the tracks.
    settings : Settings
        Those of an evaluation (number of folds, seeds and so on) are ignored; ``folds`` says how the inner folds of
        ``select`` are drawn.
    registry : Registry
    models : pathlib.Path
        The folder in which each model gets a folder of its own; none is overwritten.
    seed : int
    jobs : int
        Worker processes; the numbers do not depend on it.
    name : str or None
        Of the model; None: from dataset and approach.
    command : str
        As typed, for the provenance.

    Raises
    ------
    EvaluationError
        If there are too few tracks or classes.
    SpecError
        If a setting or ``name`` is invalid, or an approach is ``chance``.
    PluginError
        If a similarity or a learner is unknown, or rejects its parameters.
    ModelError
        If ``name`` is taken, or a model with the learner could not be loaded again.
    StoreBusyError
        If another process is running the same fit.
    """
    settings, features = resolve_settings(replace(settings, device=choose_device(settings.device)), registry)
    plugins = describe_plugins(settings, registry, features=features)
    _check_trainable(tracks)
    if any(method.approach.name == "chance" for method in settings.methods):
        raise SpecError(
            "--approach chance uses no audio, so there is no model to save; use `mirembed evaluate` to score it"
        )
    methods: Sequence[Method] = [method for some in settings.trainings for method in some]
    stacked = stacked_members(settings.methods)
    inner = _inner_folds(settings, tracks, seed) if settings.select or stacked else None
    selection = None
    if settings.select and inner is not None:
        metric, choices = headline(tracks.task, settings.metric).name, tuple(one.name for one in settings.choices)
        candidates = plan_candidates(settings, methods, registry, describe_settings(settings, plugins))
        check_stacked(settings, candidates, stacked, int(inner.max()) + 1)
        selection = Selection(metric, choices, candidates, inner)
        methods = [one.method for some in selection.candidates.values() for one in some]
    check_learners(registry, learners_of(methods), tracks.task, saved=True)
    # Only now, as the choice takes a second.
    engine = choose_engine_for(settings, registry, methods, tracks.features, progress.note)
    settings = replace(settings, engine=engine)
    described = describe_settings(settings, plugins)
    if undeclared(tracks.task):
        progress.note(
            f"no range is declared for {', '.join(undeclared(tracks.task))}; using the range of the tracks' labels"
        )
    dataset = {"spec": tracks.info.spec, "digest": tracks.digest}
    selected: dict[str, Any] = {} if inner is None else {"inner": content_digest(inner.tolist())}
    if selection is not None:
        selected |= {"select": list(settings.select), "metric": selection.metric}
        selected |= {"checkpoint_every": settings.checkpoint_every}
    made = {"dataset": dataset, "seed": seed, "name": name, **environment(settings.device)}
    configuration = {**described, **selected, **made}
    digest = content_digest(configuration)
    saved = saved_methods(settings.methods)
    wanted = wanted_names(tracks.info.spec, [method.name for method in saved], name)
    provenance = {**training_provenance(tracks, described, seed, command), "fit": digest}
    if changed := obstacles(models, configuration):
        progress.note(f"fitting from the start, because the interrupted fit cannot be resumed: {describe(changed)}")
    with reserving(models, configuration, wanted, exact=name is not None) as reserved, tracks.in_use():
        for key, folder in reserved.items():
            if folder.name != wanted[key]:
                progress.note(f"the name {wanted[key]} is taken; saving this model as {folder.name}")
        members = member_folders(models, settings.methods, digest)
        folders = {**reserved, **members}
        trainings = [
            _Training(
                Job.of(
                    tracks,
                    rows=np.arange(len(tracks.ids)),
                    methods=methods,
                    settings=settings,
                    seed=seed,
                    fold=0,
                    provenance=provenance,
                    checkpoint=checkpoint(models, methods[0].training_name, digest),
                    grouped=_has_groups(tracks),
                ),
                tracks,
                folders,
                frozenset(members),
                store.root,
                None if selection is None else selection.of(methods),
                Stacking.of(methods, stacked, inner),
            )
            for methods in settings.trainings
        ]
        if any(training.is_resumed for training in trainings):
            progress.note("resuming the interrupted fit")
        n_networks = sum(training.job.ensemble for training in trainings if training.job.approach.trains)
        networks = "" if n_networks == 1 else f" {counted(n_networks, 'network')}"
        description = f"training{networks} for {counted(settings.epochs, 'epoch')}" if n_networks else "fitting"
        done = _Trained([], {}, {})
        for one in run_in_parallel(_fit_training, trainings, jobs, progress, description):
            done.add(one)
        fitted = {model.approach: model for model in done.models}
        for method in saved:
            if method.approach.members:
                weights = _weights(method, tracks, done, inner)
                fitted[method.name] = _save_combined(
                    method, folders, done.embeddings, weights, provenance, tracks, store, registry
                )
        return [_embed_others(fitted[method.name], tracks, store, registry, progress) for method in saved]


@dataclass(frozen=True)
class _Trained:
    """The models of a training.

    For members of combined models, by method, also their embeddings of all tracks; if they are stacked, what they
    predict in inner folds.
    """

    models: list[FittedModel]
    embeddings: dict[str, NDArray[np.float32]]
    outputs: dict[str, Outputs]

    def add(self, other: _Trained) -> None:
        """Add what another training has made."""
        self.models.extend(other.models)
        self.embeddings.update(other.embeddings)
        self.outputs.update(other.outputs)


def _fit_training(training: _Training, on_epoch: Callable[[int], None]) -> _Trained:
    """Train a network, and save its models and their embeddings; runs in a worker.

    Models that an interrupted fit has saved are kept. All tracks are embedded once for all models.
    """
    registry, job = Registry.discover(), training.job
    outputs: dict[str, Outputs] = {}
    before = training.epochs - total_epochs(job, training.selection)
    if training.stacking is not None:
        outputs = out_of_fold(job, training.stacking, registry, on_epoch, training.selection)
    models: dict[str, Model] = {}
    embeddings: dict[tuple[tuple[str, str], ...], NDArray[np.float32]] = {}
    if not training.is_saved:
        selected = fit_selected(job, training.selection, registry, lambda epoch: on_epoch(before + epoch))
        for _, fitted in selected.trainings:
            models |= fitted.models
            if fitted.embeddings is not None:
                embeddings[_of_network(next(iter(fitted.models.values())))] = fitted.embeddings
    on_epoch(training.epochs)
    trained = _Trained([], {}, outputs)
    for method in job.methods:
        folder = training.folders[method.name]
        model = _save_model(models.get(method.name), folder, method.learner, registry, Store(training.store))
        network = _of_network(model)
        if network not in embeddings:
            embeddings[network] = model.embed(job.frames.open(), job.frames.starts, job.frames.lengths)
        if method.name in training.members:
            trained.embeddings[method.name] = embeddings[network]
            continue
        path = _save_embeddings(model, Store(training.store), training.tracks, embeddings[network])
        trained.models.append(_fitted(method, model, folder, path))
    return trained


def _weights(method: Method, tracks: Tracks, trained: _Trained, inner: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return the weights of the members of a combined method: ndarray ``[n_members]``."""
    names = method.approach.members
    if not method.approach.stacked or inner is None:
        return equal_weights(len(names))
    outputs = [trained.outputs[name] for name in names]
    return stacked_weights(tracks.task, tracks.label_array[inner >= 0], outputs)


def _save_combined(
    method: Method,
    folders: Mapping[str, Path],
    embeddings: Mapping[str, NDArray[np.float32]],
    weights: NDArray[np.float64],
    provenance: Mapping[str, Any],
    tracks: Tracks,
    store: Store,
    registry: Registry,
) -> FittedModel:
    """Save the model of a combined method, unless an interrupted fit has saved it already, and its embeddings."""
    folder, names = folders[method.name], method.approach.members
    if not folder.exists():
        combine_saved(method, folders, embeddings, weights, provenance, registry).save(folder)
    model = CombinedModel.load(folder, registry)
    path = _save_embeddings(model, store, tracks, model.join([embeddings[name] for name in names]))
    return _fitted(method, model, folder, path)


def _fitted(method: Method, model: AnyModel, folder: Path, path: Path) -> FittedModel:
    made = model.provenance
    weights = model.member_weights
    return FittedModel(method.name, folder, path, made["loss"], made["notes"], model.chosen, weights=weights)


def _of_network(model: Model) -> tuple[tuple[str, str], ...]:
    """Return what was chosen for the network of a model: models of a training with the same value share it."""
    return tuple((name, value) for name, value in model.chosen.items() if not name.startswith("learner."))


def _inner_folds(settings: Settings, tracks: Tracks, seed: int) -> NDArray[np.int64]:
    """Return the inner folds of all tracks: ndarray ``[n_tracks]``.

    Raises
    ------
    MirembedError
        If the tracks cannot be split this way.
    """
    everything = Fold(0, np.arange(len(tracks.ids)), np.zeros(0, np.int64))
    scheme = default_scheme(tracks.task) if settings.folds is None else settings.folds
    if scheme not in get_args(Scheme):
        schemes = joined(get_args(Scheme), "or")
        raise SpecError(f"--folds {scheme}: expected {schemes}, for the inner folds")
    return draw_inner_folds(
        tracks.task,
        tracks.label_array,
        tracks.groups,
        everything,
        scheme=cast(Scheme, scheme),
        n_folds=settings.inner_cv,
        seed=seed,
    )


def transfer(
    tracks: Tracks,
    store: Store,
    network: Path,
    learner: Spec,
    registry: Registry,
    models: Path,
    *,
    name: str | None = None,
    command: str = "",
    progress: Progress = NO_PROGRESS,
) -> FittedModel:
    """Fit only a learner to a dataset, on the embeddings of a network that was trained on another dataset.

    The network and its normalization stay as they are.

    Parameters
    ----------
    tracks, store, registry, models, name, command, progress
        As for `fit`.
    network : pathlib.Path
        The folder of the model whose network is used.
    learner : Spec

    Raises
    ------
    SpecError
        If ``name`` is invalid, or the learner's kernel should match a similarity where none was learned.
    ModelError
        If ``name`` is taken, or a model with the learner could not be loaded again.
    MismatchError
        If the network was trained on other features.
    """
    base = Model.load(network, registry)
    made = base.provenance
    features = tracks.features.get(base.features.spec)
    if features is None or features.digests != base.features.digests:
        raise MismatchError(
            f"the model {network} needs the features {base.features.spec}, not {', '.join(tracks.features)}; open the "
            "tracks with the features of the model"
        )
    frames = tracks.frames[features.spec]
    _check_trainable(tracks)
    check_learners(registry, [learner], tracks.task, saved=True)
    approach = learned_approach(made)
    described = describe_learner(registry, learner, [approach])
    settings = {**made["settings"], "learners": {str(learner): described}}
    dataset = {"spec": tracks.info.spec, "digest": tracks.digest}
    configuration = {**settings, "network": made["digest"], "dataset": dataset, "name": name, **environment()}
    digest = content_digest(configuration)
    origin = network_origin(made)
    provenance = {
        **training_provenance(tracks, settings, made["seed"], command),
        "fit": digest,
        "approach": approach.name,
        "learner": described,
        "network_from": {
            "model": network.name,
            "digest": made["digest"],
            "dataset": origin["dataset"],
            "fold": origin.get("fold"),
        },
    }
    labels, groups, seed = tracks.label_array, tracks.group_codes, (made["seed"], 0)
    scale = scale_for(tracks.task, labels)
    model = replace(
        base.without_learner(tracks.task, scale),
        provenance=provenance,
        learner_recordings=tuple(tracks.recordings),
    )
    embeddings = base.embed(frames.open(), frames.starts, frames.lengths)
    fitted = fit_learner(registry, learner, approach, tracks.task, embeddings, labels, scale, seed=seed, groups=groups)
    known = tracks.task, fitted, embeddings, labels, groups
    fitted = calibrated(registry, learner, *known, grouped=_has_groups(tracks), seed=seed)
    model.use(fitted)
    wanted = wanted_names(tracks.info.spec, [f"from-{network.name}"], name)
    with reserving(models, configuration, wanted, exact=name is not None) as folders:
        [folder] = folders.values()
        model = _save_model(model, folder, learner, registry, store)
        path = _save_embeddings(model, store, tracks, embeddings)
        made_now = FittedModel(approach.name, folder, path, None, fitted.notes)
        return _embed_others(made_now, tracks, store, registry, progress)


def _has_groups(tracks: Tracks) -> bool:
    """Whether any track has a group, so that inner folds keep groups apart."""
    return any(group is not None for group in tracks.groups)


def _check_trainable(tracks: Tracks) -> None:
    """Refuse tracks that nothing can be learned from.

    Raises
    ------
    EvaluationError
        If there are fewer than two tracks or classes, or all tracks have the same tags or the same value of a target.
    """
    if len(tracks.ids) < 2:
        raise EvaluationError(f"{tracks.info.spec} has {counted(len(tracks.ids), 'track')}: at least two are needed")
    if isinstance(tracks.task, Classification) and len(tracks.task.classes) < 2:
        raise EvaluationError(
            f"all {len(tracks.ids)} tracks of {tracks.info.spec} are of class {tracks.task.classes[0]!r}: at least two "
            "classes are needed"
        )
    if isinstance(tracks.task, Tags) and len(np.unique(tracks.label_array, axis=0)) < 2:
        raise EvaluationError(
            f"all {len(tracks.ids)} tracks of {tracks.info.spec} have the same tags, so there is nothing to learn"
        )
    scale_for(tracks.task, tracks.label_array)


def _save_model(model: Model | None, folder: Path, learner: Spec | None, registry: Registry, store: Store) -> Model:
    """Save a model, unless an interrupted fit has saved it already; return it as it is on disk."""
    if model is None or folder.exists():
        return Model.load(folder, registry)
    if model.estimator is not None and learner is not None:
        check_storable(model.estimator, learner, registry)
    facts = facts_of_frames(store, model.parts)
    model.audio_hashes = model.audio_hashes or _audio_hashes(model.recordings, facts)
    model.learner_audio_hashes = _audio_hashes(model.learner_recordings, facts)
    model.save(folder)
    return model


def _audio_hashes(recordings: Iterable[str], facts: Mapping[str, RecordingFacts]) -> list[str]:
    """Return the digests of the decoded samples of recordings, as far as they are known."""
    return [audio_hash for name in recordings if name in facts and (audio_hash := facts[name].audio_hash)]


def _save_embeddings(model: AnyModel, store: Store, tracks: Tracks, embeddings: NDArray[np.float32]) -> Path:
    stored = store.embeddings(model.provenance["name"])
    vectors = dict(zip(tracks.recordings, embeddings, strict=True))
    facts = facts_of_frames(store, model.parts)
    rows = EmbeddingRows.of(vectors, facts, {*model.recordings, *model.audio_hashes})
    with stored.lock():
        stored.write(model.provenance["digest"], rows)
    return stored.path


def _embed_others(
    fitted: FittedModel, tracks: Tracks, store: Store, registry: Registry, progress: Progress
) -> FittedModel:
    """Embed the tracks of the dataset that the model was not fitted to, as far as the store has their frames."""
    folder, provenance = read_identity(store.models, str(fitted.folder))
    stored, digest = store.embeddings(folder.name), provenance["digest"]
    dataset = store.dataset(Spec.parse(tracks.info.spec))
    rows = zip(*(dataset.columns("id", "recording", "listed").to_pydict().values()), strict=True)
    listed = {track: recording for track, recording, is_listed in rows if is_listed}
    embedded = set(stored.table(digest, ["recording"])["recording"].to_pylist())
    facts = facts_of_frames(store, distinct_parts(features_in(read_manifest(folder))))
    others = {recording for recording in listed.values() if recording in facts} - embedded
    if others:
        progress.start("embedding the other tracks", len(others))
        model, n_done = load_model(folder, registry), 0
        with stored.lock():
            for vectors in embed_frames(model, store, others, progress):
                stored.append(digest, EmbeddingRows.of(vectors, facts, {*model.recordings, *model.audio_hashes}))
                embedded |= vectors.keys()
                n_done += len(vectors)
                progress.update(n_done)
            stored.merge(digest)
    lacking = {track for track, recording in listed.items() if recording not in embedded}
    failed = {failure.id for failure in dataset.failures()}
    return replace(fitted, without_embeddings=len(lacking - failed))
