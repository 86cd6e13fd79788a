"""Fit models on all tracks of a dataset, and keep them and their embeddings in the store."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.config import Experiment
from mirembed.config.approaches import Approach
from mirembed.errors import EvaluationError, SpecError
from mirembed.fit.job import Job, fit_models, provenance
from mirembed.fit.names import checkpoint, reserving
from mirembed.hookspecs import Classification, Regression
from mirembed.models.embeddings import EmbeddingRows, ModelKey, write_embeddings
from mirembed.models.estimators import check_storable
from mirembed.models.learners import describe_learner, fit_learner, new_estimator
from mirembed.models.model import Model
from mirembed.progress import Progress, Silent, counted
from mirembed.provenance import versions
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import FeatureStore
from mirembed.store.features import compare_parameters
from mirembed.store.frames import Tracks
from mirembed.store.root import slug
from mirembed.training.labels import TargetScale, undeclared
from mirembed.training.loop import Settings
from mirembed.workers.trainings import run_trainings


@dataclass(frozen=True)
class FittedModel:
    """Where a fitted model and its embeddings are.

    Attributes
    ----------
    approach : str
    folder : pathlib.Path
    embeddings : pathlib.Path
        Parquet table of the embeddings of all tracks.
    loss : float or None
        Mean loss a track in the last epoch; None when nothing was trained.
    notes : list of str
        What the user should be told of the model.
    """

    approach: str
    folder: Path
    embeddings: Path
    loss: float | None
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the paths as JSON."""
        return {
            "approach": self.approach,
            "model": str(self.folder),
            "embeddings": str(self.embeddings),
            "loss": self.loss,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class _Training:
    """One network to fit, and where its models go."""

    job: Job
    folders: Mapping[str, Path]
    embeddings: Path
    tracks: Tracks


def fit(
    tracks: Tracks,
    store: FeatureStore,
    experiment: Experiment,
    registry: Registry,
    models: Path,
    *,
    seed: int,
    jobs: int,
    name: str | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> list[FittedModel]:
    """Train on all tracks and save one model for each approach.

    An interrupted fit goes on from its last checkpoint when the same call is made again.

    Parameters
    ----------
    tracks, store
        The dataset and its place.
    experiment : Experiment
    registry : Registry
    models : pathlib.Path
        The folder in which each model gets a folder of its own; none is overwritten.
    seed : int
    jobs : int
    name : str or None
        Of the model; chosen from dataset and approach when None.
    command : str
        As it was typed, for the provenance.

    Raises
    ------
    EvaluationError
        If there are too few tracks or classes.
    SpecError
        If ``name`` cannot be a folder's name, or the learner's kernel should match where no similarity is learned.
    ModelError
        If ``name`` is taken, or a model with the learner could not be loaded again.
    StoreBusyError
        If the same fit is going on in another process.
    """
    progress = progress or Silent()
    labels = check_trainable(tracks)
    for approach in experiment.approaches:
        if not approach.trains:
            raise SpecError(
                f"--approach {approach.name} trains nothing: there is no model to save; `mirembed evaluate` scores it"
            )
    described = experiment.describe(registry)
    for method in experiment.methods:
        if method.learner is not None:
            check_storable(new_estimator(registry, method.learner, tracks.task), method.learner, registry)
    if undeclared(tracks.task):
        progress.note(f"no range is declared for {', '.join(undeclared(tracks.task))}: that of the tracks is taken")
    digest = _digest({**described, "seed": seed, "data": tracks.digest, "name": name, "versions": versions()})
    wanted = _wanted_names(tracks, [method.name for method in experiment.methods], name)
    fitted: dict[str, FittedModel] = {}
    with reserving(models, digest, wanted, exact=name is not None) as folders, tracks.frames.in_use():
        trainings = []
        for methods in experiment.trainings:
            job = Job(
                frames=tracks.frames,
                task=tracks.task,
                labels=labels,
                rows=np.arange(len(tracks.ids)),
                normalize=experiment.normalize,
                methods=methods,
                settings=Settings(experiment.epochs, experiment.batch, seed, 0, experiment.device, experiment.engine),
                parameters=tracks.info.parameters,
                provenance={**provenance(tracks, described, seed, command), "fit": digest},
                checkpoint=checkpoint(models, methods[0].approach.training, digest),
            )
            trainings.append(_Training(job, folders, store.embeddings, tracks))
        _tell_names(folders, wanted, progress)
        begun = (training.job.checkpoint for training in trainings if training.job.checkpoint is not None)
        if any(map(_is_saved, trainings)) or any(path.exists() for path in begun):
            progress.note("going on where the same fit was interrupted")
        description = f"training for {counted(experiment.epochs, 'epoch')}"
        epochs = [experiment.epochs] * len(trainings)
        for _, result in run_trainings(_fit_one, trainings, epochs, jobs, progress, description):
            fitted |= {model.approach: model for model in result}
    return [fitted[method.name] for method in experiment.methods]


def transfer(
    tracks: Tracks,
    store: FeatureStore,
    network: Path,
    learner: Spec,
    registry: Registry,
    models: Path,
    *,
    name: str | None = None,
    command: str = "",
) -> FittedModel:
    """Fit only a learner to a dataset, on the embeddings of a network that another dataset trained.

    The network and its normalization stay as they are.

    Raises
    ------
    SpecError
        If ``name`` cannot be a folder's name, or the learner's kernel should match where no similarity is learned.
    ModelError
        If ``name`` is taken, or a model with the learner could not be loaded again.
    FingerprintError
        If the network was trained on spectrograms with other parameters.
    """
    base = Model.load(network, registry)
    compare_parameters(base.parameters, tracks.info.parameters, f"the model {network}", tracks.info.spec)
    labels = check_trainable(tracks)
    approach = Approach("fl") if base.provenance["approach"] == "nn" else Approach.parse(base.provenance["approach"])
    check_storable(new_estimator(registry, learner, tracks.task), learner, registry)
    embeddings = base.embed(tracks.frames.open(), tracks.frames.starts, tracks.frames.lengths)
    scale = TargetScale.fit(tracks.task, labels) if isinstance(tracks.task, Regression) else None
    made_with = describe_learner(registry, learner, [approach])
    described = {**base.provenance["settings"], "learners": {str(learner): made_with}}
    origin = base.provenance.get("network_from", base.provenance)
    digest = _digest(
        {**described, "network": base.provenance["digest"], "data": tracks.digest, "name": name, "versions": versions()}
    )
    model = replace(
        base,
        task=tracks.task,
        head=None,
        estimator=None,
        scale=scale,
        provenance={
            **provenance(tracks, described, base.provenance["seed"], command),
            "fit": digest,
            "approach": approach.name,
            "learner": made_with,
            "network_from": {
                "model": network.name,
                "digest": base.provenance["digest"],
                "dataset": origin["dataset"],
                "fold": origin.get("fold"),
            },
        },
    )
    seed = (base.provenance["seed"], 0)
    fitted = fit_learner(registry, learner, approach, tracks.task, embeddings, labels, scale, seed=seed)
    fitted.put_into(model)
    # Of other tracks, and of a fold's, nobody knows whether the network was trained on them.
    in_sample = True if origin["dataset"]["digest"] == tracks.digest and origin.get("fold") is None else None
    wanted = _wanted_names(tracks, [f"from-{network.name}"], name)
    with reserving(models, digest, wanted, exact=name is not None) as folders:
        [folder] = folders.values()
        model = _keep(model, folder, learner, registry)
        path = _save_embeddings(
            model, store.embeddings, tracks, embeddings, epoch=described["epochs"], in_sample=in_sample
        )
    return FittedModel(approach.name, folder, path, None, fitted.notes)


def check_trainable(tracks: Tracks) -> NDArray[Any]:
    """Return the labels as `Job` wants them.

    Raises
    ------
    EvaluationError
        If there are fewer than two tracks or classes.
    """
    if len(tracks.ids) < 2:
        raise EvaluationError(f"{tracks.info.spec} has {len(tracks.ids)} track; at least two are needed")
    if isinstance(tracks.task, Classification):
        if len(tracks.task.classes) < 2:
            raise EvaluationError(
                f"all {len(tracks.ids)} tracks of {tracks.info.spec} are of the class {tracks.task.classes[0]!r}; "
                "at least two classes are needed"
            )
        return tracks.class_indices
    return np.asarray(tracks.labels)


def _tell_names(folders: Mapping[str, Path], wanted: Mapping[str, str], progress: Progress) -> None:
    """Say which models get another name than they would have, because there is one of that name."""
    for ending, folder in folders.items():
        if folder.name != wanted[ending]:
            progress.note(f"there is a model {wanted[ending]} already, which is kept; this one is {folder.name}")


def _fit_one(training: _Training, on_epoch: Callable[[int], None]) -> list[FittedModel]:
    """Train one network; save its models and their embeddings. Runs in a worker.

    What an interrupted fit has saved is kept.
    """
    registry = Registry.discover()
    models: Mapping[str, Model] = {}
    if not _is_saved(training):
        models = fit_models(training.job, registry, on_epoch).models
    on_epoch(training.job.settings.epochs)
    return _keep_all(training, models, registry)


def _is_saved(training: _Training) -> bool:
    return all(training.folders[method.name].exists() for method in training.job.methods)


def _keep_all(training: _Training, models: Mapping[str, Model], registry: Registry) -> list[FittedModel]:
    """Save the models of a training, but for those that are saved already, and the embeddings of all."""
    job, tracks = training.job, training.tracks
    frames = job.frames.open()
    result = []
    for method in job.methods:
        name, folder = method.name, training.folders[method.name]
        model = (
            Model.load(folder, registry) if folder.exists() else _keep(models[name], folder, method.learner, registry)
        )
        embeddings = model.embed(frames, job.frames.starts, job.frames.lengths)
        path = _save_embeddings(
            model, training.embeddings, tracks, embeddings, epoch=job.settings.epochs, in_sample=True
        )
        result.append(FittedModel(name, folder, path, model.provenance["loss"], model.provenance["notes"]))
    return result


def _keep(model: Model, folder: Path, learner: Spec | None, registry: Registry) -> Model:
    """Save a model, unless that was done before an interruption, and return it as it is on disk."""
    if folder.exists():
        return Model.load(folder, registry)
    if model.estimator is not None and learner is not None:
        check_storable(model.estimator, learner, registry)
    model.save(folder)
    return model


def _save_embeddings(
    model: Model, folder: Path, tracks: Tracks, embeddings: NDArray[np.float32], *, epoch: int, in_sample: bool | None
) -> Path:
    key = ModelKey.of(model)
    path = folder / f"{key.name}.parquet"
    rows = EmbeddingRows(tracks.ids, embeddings, tracks.task, tracks.labels, epoch, in_sample)
    write_embeddings(path, rows, key)
    return path


def _wanted_names(tracks: Tracks, endings: Sequence[str], name: str | None) -> dict[str, str]:
    """Return the name that the model with each ending should have."""
    if name is not None:
        if not re.fullmatch(r"[^\W_][\w.-]{0,59}", name):
            raise SpecError(
                f"--name {name}: expected a letter or digit, and after it at most 59 letters, digits, '.', '_' and '-'"
            )
        return {ending: name if len(endings) == 1 else f"{name}-{slug(ending)}" for ending in endings}
    return {ending: f"{slug(tracks.info.spec.partition(':')[0])}-{slug(ending)}" for ending in endings}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
