"""Fit models on all tracks of a dataset, and keep them and their embeddings in the store."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.approaches import Approach
from mirembed.config import Experiment
from mirembed.embeddings import EmbeddingRows, ModelKey, write_embeddings
from mirembed.errors import EvaluationError, ModelError
from mirembed.fitting import Job, fit_learner, fit_models
from mirembed.hookspecs import Classification, Regression
from mirembed.labels import TargetScale, undeclared
from mirembed.models import Model
from mirembed.progress import Progress, Silent
from mirembed.provenance import versions
from mirembed.registry import Registry
from mirembed.schedule import run_trainings
from mirembed.specs import Spec
from mirembed.store import FeatureStore
from mirembed.store.features import compare_parameters
from mirembed.store.frames import Tracks
from mirembed.store.root import slug
from mirembed.train import Settings

CHECKPOINTS = ".checkpoints"
"""Beside the models: where interrupted trainings go on from."""


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
    """

    approach: str
    folder: Path
    embeddings: Path
    loss: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the paths as JSON."""
        return {
            "approach": self.approach,
            "model": str(self.folder),
            "embeddings": str(self.embeddings),
            "loss": self.loss,
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
    ModelError
        If ``name`` is taken.
    """
    progress = progress or Silent()
    labels = check_trainable(tracks)
    described = experiment.describe(registry)
    if undeclared(tracks.task):
        progress.note(f"no range is declared for {', '.join(undeclared(tracks.task))}: that of the tracks is taken")
    digest = _digest({**described, "seed": seed, "data": tracks.digest, "versions": versions()})
    folders = _model_folders(models, tracks, [a.name for a in experiment.approaches], name)
    trainings = []
    for approaches in experiment.trainings:
        provenance = _provenance(tracks, described, seed, command)
        job = Job(
            frames=tracks.frames,
            task=tracks.task,
            labels=labels,
            rows=np.arange(len(tracks.ids)),
            normalise=experiment.normalise,
            approaches=approaches,
            learner=experiment.learner,
            settings=Settings(experiment.epochs, experiment.batch, seed, 0, experiment.device),
            parameters=tracks.info.parameters,
            provenance=provenance,
            checkpoint=models / CHECKPOINTS / f"{slug(approaches[0].training)}-{digest}.safetensors",
        )
        trainings.append(_Training(job, folders, store.embeddings, tracks))
    fitted: dict[str, FittedModel] = {}
    description = f"training for {experiment.epochs} epochs"
    for _, result in run_trainings(_fit_one, trainings, experiment.epochs, jobs, progress, description):
        fitted |= {model.approach: model for model in result}
    with contextlib.suppress(OSError):  # of another fit that is going on
        (models / CHECKPOINTS).rmdir()
    return [fitted[approach.name] for approach in experiment.approaches]


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

    The network and its normalisation stay as they are.

    Raises
    ------
    ModelError
        If the network makes its predictions itself (``nn``) or ``name`` is taken.
    FingerprintError
        If the network was trained on spectrograms with other parameters.
    """
    base = Model.load(network, registry)
    compare_parameters(base.parameters, tracks.info.parameters, f"the model {network}", tracks.info.spec)
    labels = check_trainable(tracks)
    approach = Approach("fl") if base.provenance["approach"] == "nn" else Approach.parse(base.provenance["approach"])
    embeddings = base.embed(tracks.frames.open(), tracks.frames.starts, tracks.frames.lengths)
    scale = TargetScale.fit(tracks.task, labels) if isinstance(tracks.task, Regression) else None
    settings = {key: value for key, value in base.provenance["settings"].items() if key != "learner"}
    described = {**settings, "learner": registry.provenance("learner", learner)}
    trained_on = base.provenance.get("network_from", base.provenance)["dataset"]
    model = replace(
        base,
        task=tracks.task,
        head=None,
        estimator=fit_learner(registry, learner, tracks.task, embeddings, labels, scale),
        scale=scale,
        provenance={
            **_provenance(tracks, described, base.provenance["seed"], command),
            "approach": approach.name,
            "network_from": {
                "model": network.name,
                "digest": base.provenance["digest"],
                "dataset": trained_on,
            },
        },
    )
    folder = _model_folders(models, tracks, [f"from-{network.name}"], name)[f"from-{network.name}"]
    model.save(folder)
    path = _save_embeddings(
        model,
        store.embeddings,
        tracks,
        embeddings,
        epoch=described["epochs"],
        in_sample=trained_on["digest"] == tracks.digest,
    )
    return FittedModel(approach.name, folder, path, None)


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


def _fit_one(training: _Training, on_epoch: Callable[[int], None]) -> list[FittedModel]:
    """Train one network; save its models and their embeddings. Runs in a worker."""
    job, tracks = training.job, training.tracks
    fitted = fit_models(job, Registry.discover(), on_epoch)
    frames = job.frames.open()
    result = []
    for approach in job.approaches:
        model = fitted.models[approach.name]
        folder = training.folders[approach.name]
        model.save(folder)
        embeddings = model.embed(frames, job.frames.starts, job.frames.lengths)
        path = _save_embeddings(
            model, training.embeddings, tracks, embeddings, epoch=job.settings.epochs, in_sample=True
        )
        result.append(FittedModel(approach.name, folder, path, fitted.losses[-1]))
    if job.checkpoint is not None:
        job.checkpoint.unlink(missing_ok=True)
    return result


def _save_embeddings(
    model: Model, folder: Path, tracks: Tracks, embeddings: NDArray[np.float32], *, epoch: int, in_sample: bool
) -> Path:
    key = ModelKey.of(model)
    path = folder / f"{key.name}.parquet"
    rows = EmbeddingRows(tracks.ids, embeddings, tracks.task, tracks.labels, epoch, in_sample)
    write_embeddings(path, rows, key)
    return path


def _provenance(tracks: Tracks, described: Mapping[str, Any], seed: int, command: str) -> dict[str, Any]:
    return {
        "dataset": {
            "spec": tracks.info.spec,
            "plugin": dict(tracks.info.plugin),
            "digest": tracks.digest,
            "n_tracks": len(tracks.ids),
            "excluded": dict(tracks.excluded),
        },
        "settings": dict(described),
        "learner": described["learner"],
        "seed": seed,
        "command": command,
        "versions": versions(),
    }


def _model_folders(models: Path, tracks: Tracks, endings: Sequence[str], name: str | None) -> dict[str, Path]:
    """Return a folder that does not exist yet for each ending."""
    folders = {}
    for ending in endings:
        if name is not None:
            chosen = name if len(endings) == 1 else f"{name}-{slug(ending)}"
            if (models / chosen).exists():
                raise ModelError(f"there is a model {models / chosen} already; choose another --name or delete it")
        else:
            base = chosen = f"{slug(tracks.info.spec.partition(':')[0])}-{slug(ending)}"
            number = 2
            while (models / chosen).exists():
                chosen = f"{base}-{number}"
                number += 1
        folders[ending] = models / chosen
    return folders


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
