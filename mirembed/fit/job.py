"""One training: a network trained on given tracks, the learners fitted to its embeddings, and the models of both.

`mirembed.fit.fit` and every fold of `mirembed.evaluate` use `fit_models`, so what is evaluated is what is saved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mirembed.config import Approach, Method
from mirembed.hookspecs import Classification, Task
from mirembed.models.baselines import MelStatistics, NoFeatures, chance_estimator
from mirembed.models.learners import FittedLearner, describe_learner, fit_learner, learner_targets
from mirembed.models.model import Model
from mirembed.provenance import versions
from mirembed.registry import Registry
from mirembed.store.frame_file import FrameFile
from mirembed.store.tracks import Tracks
from mirembed.training.engine import import_engine
from mirembed.training.excerpts import Normalization
from mirembed.training.labels import TargetScale, one_hot
from mirembed.training.loop import Settings, Trained, TrainingData, train
from mirembed.training.network import one_thread, seeded_network
from mirembed.training.similarity import PluginSimilarity
from mirembed.training.weights import NetworkWeights, OutputLayer


@dataclass(frozen=True)
class Job:
    """A network to train, and the models to make from it. It is small, and is sent to a worker process.

    Attributes
    ----------
    frames : FrameFile
    task : Classification or Regression
    labels : ndarray [n_tracks] int64 class indices, or [n_tracks, n_targets] float64 in original units
    rows : ndarray [n_train], int64
        The training tracks.
    normalize : {"training", "dataset"}
        Which tracks the band statistics come from. ``dataset`` is the paper's choice; it lets the test tracks' audio,
        but none of their labels, into the network's input.
    methods : tuple of Method
        They share the network.
    settings : Settings
    parameters : mapping
        Of the spectrogram.
    provenance : mapping
        For the models' manifests, besides approach and learner.
    checkpoint : pathlib.Path or None
        Where an interrupted training resumes from.
    """

    frames: FrameFile
    task: Task
    labels: NDArray[Any]
    rows: NDArray[np.int64]
    normalize: str
    methods: tuple[Method, ...]
    settings: Settings
    parameters: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None

    @property
    def approach(self) -> Approach:
        """The first of the approaches that share the network."""
        return self.methods[0].approach

    @property
    def seed(self) -> tuple[int, int]:
        """Seed and fold, which everything random depends on."""
        return self.settings.seed, self.settings.fold


@dataclass(frozen=True)
class Fitted:
    """The models of a job, at its end or at a checkpoint.

    Attributes
    ----------
    models : dict of str to Model
        By method.
    losses : list of float
        Mean loss per track of each epoch; empty for untrained baselines.
    embeddings : ndarray [n_train, units], float32, or None
        Of the training tracks; None if no learner was fitted to them.
    """

    models: dict[str, Model]
    losses: list[float]
    embeddings: NDArray[np.float32] | None = None

    @property
    def notes(self) -> dict[str, list[str]]:
        """Warnings about the models, by method."""
        return {name: model.provenance["notes"] for name, model in self.models.items()}


def load() -> None:
    """Import what nearly every job needs, in the process that workers are forked from."""
    import sklearn.svm  # noqa: F401

    import_engine()


def fit_models(
    job: Job,
    registry: Registry,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    on_checkpoint: Callable[[int, Fitted], None] | None = None,
) -> Fitted:
    """Train the network of a job on its training tracks and fit the learners to its embeddings.

    No other track is read, except for the band statistics of ``normalize="dataset"``.

    Parameters
    ----------
    on_epoch : callable
        Called with the number of finished epochs.
    on_checkpoint : callable or None
        Called with the number of finished epochs and the models at that point, with learners fitted from scratch; see
        `mirembed.training.loop.train`.

    Raises
    ------
    MirembedError
        If a plugin fails, the training diverges, or the labels cannot be learned.
    """
    tracks = _TrainingTracks.read(job)
    if not job.approach.trains:
        return _fit_learners(job, registry, tracks, _untrained_features(job, tracks.data))

    def fit_checkpoint(epoch: int, trained: Trained) -> None:
        if on_checkpoint is not None:
            on_checkpoint(epoch, _fit_trained(job, registry, tracks, trained, notes=False))

    similarities = _similarities(job, registry)
    with _repeatable(job.settings.device):
        trained = train(tracks.data, job.settings, *similarities, job.checkpoint, on_epoch, fit_checkpoint)
    return _fit_trained(job, registry, tracks, trained)


def _fit_trained(
    job: Job, registry: Registry, tracks: _TrainingTracks, trained: Trained, *, notes: bool = True
) -> Fitted:
    """Fit the learners to a copy of a network, with which training may continue."""
    head = None if trained.head is None else OutputLayer.of(trained.head)
    network = NetworkWeights.of(trained.network)
    return _fit_learners(job, registry, tracks, network, head, trained.losses, notes=notes)


@dataclass(frozen=True)
class _TrainingTracks:
    """The training tracks of a job.

    Attributes
    ----------
    data : TrainingData
        What the network is trained on.
    labels : ndarray [n_train, ...]
        As in `Job`.
    scale : TargetScale or None
        None for classification.
    """

    data: TrainingData
    labels: NDArray[Any]
    scale: TargetScale | None

    @classmethod
    def read(cls, job: Job) -> _TrainingTracks:
        frames, labels = job.frames.take(job.rows), job.labels[job.rows]
        scale = None if isinstance(job.task, Classification) else TargetScale.fit(job.task, labels)
        if isinstance(job.task, Classification):
            label_vectors = one_hot(labels, len(job.task.classes))
        else:
            label_vectors = learner_targets(labels, scale).astype(np.float32)
        data = TrainingData(
            frames=frames.open(),
            starts=frames.starts,
            lengths=frames.lengths,
            label_vectors=label_vectors,
            classes=labels if isinstance(job.task, Classification) else None,
            normalization=Normalization.fit((frames if job.normalize == "training" else job.frames).moments()),
        )
        return cls(data, labels, scale)


def _untrained_features(job: Job, data: TrainingData) -> NetworkWeights | MelStatistics | NoFeatures:
    """Return the features of a baseline without training."""
    if job.approach.name == "chance":
        return NoFeatures()
    if job.approach.name == "mel":
        return MelStatistics.fit(data.frames, data.starts, data.lengths)
    return NetworkWeights.of(seeded_network(2 * data.frames.shape[1], job.seed))


def _similarities(job: Job, registry: Registry) -> tuple[PluginSimilarity | None, PluginSimilarity | None]:
    """Create the similarities of embeddings and of labels, if the approach learns one."""
    approach, device = job.approach, job.settings.device
    if approach.similarity is None or approach.label_similarity is None:
        return None, None
    return (
        PluginSimilarity.create(registry, approach.similarity, device),
        PluginSimilarity.create(registry, approach.label_similarity, device),
    )


@contextlib.contextmanager
def _repeatable(device: str) -> Iterator[None]:
    """Make torch compute the same numbers each time."""
    if device.startswith("cuda"):
        torch.use_deterministic_algorithms(True)
    with one_thread():
        yield


def _fit_learners(
    job: Job,
    registry: Registry,
    tracks: _TrainingTracks,
    network: NetworkWeights | MelStatistics | NoFeatures,
    head: OutputLayer | None = None,
    losses: Sequence[float] = (),
    *,
    notes: bool = True,
) -> Fitted:
    """Fit the learners from scratch to the embeddings of the training tracks, which are computed once."""
    data = tracks.data
    models: dict[str, Model] = {}
    embeddings: NDArray[np.float32] | None = None
    for method in job.methods:
        own_head = head if method.learner is None else None
        learner = None if method.learner is None else describe_learner(registry, method.learner, [method.approach])
        model = models[method.name] = Model(
            task=job.task,
            network=network,
            normalization=data.normalization,
            head=own_head,
            estimator=None,
            scale=tracks.scale,
            parameters=job.parameters,
            engine=job.settings.engine,
            provenance={
                **job.provenance,
                "approach": method.approach.name,
                "learner": learner,
                "notes": [],
                "loss": losses[-1] if losses else None,
            },
        )
        if own_head is None:
            if embeddings is None:
                embeddings = model.embed(data.frames, data.starts, data.lengths)
            _fit_learner(job, registry, tracks, method, embeddings).put_into(model, notes=notes)
    return Fitted(models, list(losses), embeddings)


def _fit_learner(
    job: Job, registry: Registry, tracks: _TrainingTracks, method: Method, embeddings: NDArray[np.float32]
) -> FittedLearner:
    if method.learner is None:
        estimator = chance_estimator(job.task)
        estimator.fit(embeddings, learner_targets(tracks.labels, tracks.scale))
        return FittedLearner(estimator)
    return fit_learner(
        registry, method.learner, method.approach, job.task, embeddings, tracks.labels, tracks.scale, seed=job.seed
    )


def label_array(tracks: Tracks) -> NDArray[Any]:
    """Return class indices ``[n_tracks]``, or targets ``[n_tracks, n_targets]`` in original units."""
    return tracks.class_indices if isinstance(tracks.task, Classification) else np.asarray(tracks.labels)


def training_provenance(tracks: Tracks, settings: Mapping[str, Any], seed: int, command: str) -> dict[str, Any]:
    """Return what a model's manifest says about how it was made, besides its approach and learner.

    Parameters
    ----------
    settings : mapping
        See `mirembed.fit.resolve.describe_settings`.
    command : str
        As typed.
    """
    return {
        "dataset": {
            "spec": tracks.info.spec,
            "plugin": dict(tracks.info.plugin),
            "digest": tracks.digest,
            "n_tracks": len(tracks.ids),
            "excluded": dict(tracks.excluded),
        },
        "settings": dict(settings),
        "seed": seed,
        "command": command,
        "versions": versions(),
    }
