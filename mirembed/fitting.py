"""One network, trained on given tracks, and the models made of it.

`fit` and every fold of `evaluate` come through here, so that what is evaluated is what is saved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mirembed.approaches import Approach
from mirembed.errors import EvaluationError
from mirembed.excerpts import Normalisation
from mirembed.hookspecs import Classification, Estimator, Task
from mirembed.labels import TargetScale, one_hot
from mirembed.models import Model, one_thread
from mirembed.provenance import versions
from mirembed.registry import Registry, plugin_code
from mirembed.specs import Spec
from mirembed.store.frames import FrameFile, Tracks
from mirembed.train import PluginSimilarity, Settings, Trained, TrainingData, train


@dataclass(frozen=True)
class Job:
    """One network to train, and the models to make of it. Small: it travels to a worker process.

    Attributes
    ----------
    frames : FrameFile
    task : Classification or Regression
    labels : ndarray [n_tracks] int64 class indices, or [n_tracks, n_targets] float64 in original units
    rows : ndarray [n_train], int64
        The training tracks.
    normalise : {"training", "dataset"}
        Whose frames the band statistics come from. ``dataset`` is the paper's choice, and lets the test tracks'
        audio, though no label, into the network's input.
    approaches : tuple of Approach
        All with the same training.
    learner : Spec
    settings : Settings
    parameters : mapping
        Of the spectrogram.
    provenance : mapping
        What the models' manifests say, besides the approach.
    checkpoint : pathlib.Path or None
    """

    frames: FrameFile
    task: Task
    labels: NDArray[Any]
    rows: NDArray[np.int64]
    normalise: str
    approaches: tuple[Approach, ...]
    learner: Spec
    settings: Settings
    parameters: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Fitted:
    """What comes of a job.

    Attributes
    ----------
    models : dict of str to Model
        By the approach's name.
    losses : list of float
        Mean loss a track, one an epoch.
    """

    models: dict[str, Model]
    losses: list[float]


def fit_models(job: Job, registry: Registry, on_epoch: Callable[[int], None] = lambda epoch: None) -> Fitted:
    """Train the network of a job on its training tracks and fit the learners.

    Nothing of any other track is read, but for ``normalise="dataset"``.

    Raises
    ------
    MirembedError
        If a plugin fails, the training diverges, or the labels cannot be learned.
    """
    frames = job.frames.open()
    starts, lengths = job.frames.starts[job.rows], job.frames.lengths[job.rows]
    labels = job.labels[job.rows]
    statistics = job.rows if job.normalise == "training" else np.arange(len(job.frames.starts))
    normalisation = Normalisation.fit(frames, job.frames.starts, job.frames.lengths, statistics)
    scale = None if isinstance(job.task, Classification) else TargetScale.fit(job.task, labels)
    data = TrainingData(
        frames=frames,
        starts=starts,
        lengths=lengths,
        label_vectors=_label_vectors(job.task, labels, scale),
        classes=labels if isinstance(job.task, Classification) else None,
        normalisation=normalisation,
    )
    with one_thread():
        trained = _train(job, data, registry, on_epoch)
    embeddings: NDArray[np.float32] | None = None
    models = {}
    for approach in job.approaches:
        model = _model(job, approach, trained, normalisation, scale)
        if approach.learns:
            if embeddings is None:
                embeddings = model.embed(frames, starts, lengths)
            model.estimator = fit_learner(registry, job.learner, job.task, embeddings, labels, scale)
        models[approach.name] = model
    return Fitted(models, trained.losses)


def fit_learner(
    registry: Registry,
    learner: Spec,
    task: Task,
    embeddings: NDArray[np.float32],
    labels: NDArray[Any],
    scale: TargetScale | None,
) -> Estimator:
    """Fit a learner to the embeddings and labels of the training tracks.

    Parameters
    ----------
    embeddings : ndarray [n_train, units]
    labels : ndarray [n_train] int64 class indices, or [n_train, n_targets] float64 in original units
    scale : TargetScale or None
        None for classification.
    """
    if isinstance(task, Classification) and len(np.unique(labels)) < 2:
        raise EvaluationError("the training tracks have one class only; a learner needs at least two")
    y = labels if scale is None else scale.scale(labels)
    estimator = new_estimator(registry, learner, task)
    with _blaming(registry, learner, f"fit {len(embeddings)} tracks"):
        estimator.fit(embeddings, y)
    return estimator


def new_estimator(registry: Registry, learner: Spec, task: Task) -> Estimator:
    """Return the unfitted estimator of a learner."""
    with _blaming(registry, learner, "make an estimator"):
        estimator: Estimator = registry.create("learner", learner).estimator(task)
    return estimator


@contextlib.contextmanager
def _blaming(registry: Registry, learner: Spec, purpose: str) -> Iterator[None]:
    with plugin_code(f"{registry.find('learner', learner.name).blame(learner)} fails to {purpose}"):
        yield


def provenance(tracks: Tracks, described: Mapping[str, Any], seed: int, command: str) -> dict[str, Any]:
    """Return what the manifest of a model says of how it was made, besides its approach.

    Parameters
    ----------
    described : mapping
        The settings, with all plugins.
    command : str
        As it was typed.
    """
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


def _label_vectors(task: Task, labels: NDArray[Any], scale: TargetScale | None) -> NDArray[np.float32]:
    if isinstance(task, Classification):
        return one_hot(labels, len(task.classes))
    assert scale is not None  # noqa: S101
    return scale.scale(labels).astype(np.float32)


def _train(job: Job, data: TrainingData, registry: Registry, on_epoch: Callable[[int], None]) -> Trained:
    similarity = label_similarity = None
    approach = job.approaches[0]
    if approach.similarity is not None and approach.label_similarity is not None:
        device = job.settings.device
        similarity = PluginSimilarity.create(registry, approach.similarity, device)
        label_similarity = PluginSimilarity.create(registry, approach.label_similarity, device)
    if job.settings.device.startswith("cuda"):
        torch.use_deterministic_algorithms(True)
    return train(data, job.settings, similarity, label_similarity, job.checkpoint, on_epoch)


def _model(
    job: Job, approach: Approach, trained: Trained, normalisation: Normalisation, scale: TargetScale | None
) -> Model:
    # Embedding and prediction happen where the model will be used: on the CPU.
    return Model(
        task=job.task,
        network=trained.network.cpu().eval(),
        normalisation=normalisation,
        head=trained.head.cpu() if trained.head is not None and not approach.learns else None,
        estimator=None,
        scale=scale,
        parameters=job.parameters,
        provenance={**job.provenance, "approach": approach.name, "loss": trained.losses[-1]},
    )
