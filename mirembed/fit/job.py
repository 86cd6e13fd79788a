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

from mirembed.config.approaches import Approach, Method
from mirembed.hookspecs import Classification, Task
from mirembed.models.baselines import MelStatistics, NoFeatures, chance_estimator
from mirembed.models.learners import FittedLearner, describe_learner, fit_learner, learner_targets
from mirembed.models.model import Model
from mirembed.provenance import versions
from mirembed.registry import Registry
from mirembed.store.frame_file import FrameFile
from mirembed.store.frames import Tracks
from mirembed.training.engine import import_engine
from mirembed.training.excerpts import Normalization
from mirembed.training.labels import TargetScale, one_hot
from mirembed.training.loop import Settings, Trained, TrainingData, train
from mirembed.training.network import one_thread, seeded_network
from mirembed.training.similarity import PluginSimilarity
from mirembed.training.weights import NetworkWeights, OutputLayer


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
    normalize : {"training", "dataset"}
        Whose frames the band statistics come from. ``dataset`` is the paper's choice, and lets the test tracks'
        audio, though no label, into the network's input.
    methods : tuple of Method
        All with the same training.
    settings : Settings
    parameters : mapping
        Of the spectrogram.
    provenance : mapping
        What the models' manifests say, besides approach and learner.
    checkpoint : pathlib.Path or None
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


@dataclass(frozen=True)
class Fitted:
    """What comes of a job, at its end or at a checkpoint.

    Attributes
    ----------
    models : dict of str to Model
        By the method's name.
    losses : list of float
        Mean loss a track, one an epoch; empty where nothing is trained.
    embeddings : ndarray [n_train, units], float32, or None
        Of the training tracks, where a learner was fitted to them.
    """

    models: dict[str, Model]
    losses: list[float]
    embeddings: NDArray[np.float32] | None = None

    @property
    def notes(self) -> list[str]:
        """What the user should be told of the models."""
        return [f"{name}: {note}" for name, model in self.models.items() for note in model.provenance["notes"]]


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
    """Train the network of a job on its training tracks and fit the learners.

    Nothing of any other track is read, but for ``normalize="dataset"``.

    Parameters
    ----------
    on_epoch : callable
        Told the number of epochs done.
    on_checkpoint : callable or None
        Given the number of epochs done and models of the network as it is then, with learners fitted from scratch;
        see `mirembed.training.loop.train`.

    Raises
    ------
    MirembedError
        If a plugin fails, the training diverges, or the labels cannot be learned.
    """
    fitter = Fitter.of(job, registry)
    if not job.approach.trains:
        return fitter.fit(_untrained(job, fitter), None, [])

    def snapshot(epoch: int, trained: Trained) -> None:
        if on_checkpoint is not None:
            on_checkpoint(epoch, fitter.fit_to(trained, notes=False))

    similarities = _similarities(job, registry)
    with _repeatable(job.settings.device):
        trained = train(fitter.training_data(), job.settings, *similarities, job.checkpoint, on_epoch, snapshot)
    return fitter.fit_to(trained)


@dataclass(frozen=True)
class Fitter:
    """The training tracks of a job, ready for a network and for learners; see `Fitter.of`."""

    job: Job
    registry: Registry
    frames: NDArray[np.float32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    labels: NDArray[Any]
    normalization: Normalization
    scale: TargetScale | None

    @classmethod
    def of(cls, job: Job, registry: Registry) -> Fitter:
        """Open the frames of a job."""
        training = job.frames.take(job.rows)
        measured = training if job.normalize == "training" else job.frames
        labels = job.labels[job.rows]
        return cls(
            job=job,
            registry=registry,
            frames=training.open(),
            starts=training.starts,
            lengths=training.lengths,
            labels=labels,
            normalization=Normalization.fit(measured.moments()),
            scale=None if isinstance(job.task, Classification) else TargetScale.fit(job.task, labels),
        )

    def training_data(self) -> TrainingData:
        """Return what a network is trained on."""
        return TrainingData(
            frames=self.frames,
            starts=self.starts,
            lengths=self.lengths,
            label_vectors=_label_vectors(self.job.task, self.labels, self.scale),
            classes=self.labels if isinstance(self.job.task, Classification) else None,
            normalization=self.normalization,
        )

    def fit_to(self, trained: Trained, *, notes: bool = True) -> Fitted:
        """Fit the learners to a trained network."""
        head = None if trained.head is None else OutputLayer.of(trained.head)
        return self.fit(NetworkWeights.of(trained.network), head, trained.losses, notes=notes)

    def fit(
        self,
        network: NetworkWeights | MelStatistics | NoFeatures,
        head: OutputLayer | None,
        losses: list[float],
        *,
        notes: bool = True,
    ) -> Fitted:
        """Fit the learners from scratch to the embeddings of the training tracks."""
        job = self.job
        models = {}
        embeddings: NDArray[np.float32] | None = None
        for method in job.methods:
            model = Model(
                task=job.task,
                network=network,
                normalization=self.normalization,
                head=head if method.learner is None else None,
                estimator=None,
                scale=self.scale,
                parameters=job.parameters,
                engine=job.settings.engine,
                provenance={
                    **job.provenance,
                    **_made_by(method, self.registry),
                    "loss": losses[-1] if losses else None,
                },
            )
            if model.head is None:
                if embeddings is None:
                    embeddings = model.embed(self.frames, self.starts, self.lengths)
                self._learn(method, embeddings).put_into(model, notes=notes)
            models[method.name] = model
        return Fitted(models, list(losses), embeddings)

    def _learn(self, method: Method, embeddings: NDArray[np.float32]) -> FittedLearner:
        if method.learner is None:
            estimator = chance_estimator(self.job.task)
            estimator.fit(embeddings, learner_targets(self.labels, self.scale))
            return FittedLearner(estimator)
        return fit_learner(
            self.registry,
            method.learner,
            method.approach,
            self.job.task,
            embeddings,
            self.labels,
            self.scale,
            seed=(self.job.settings.seed, self.job.settings.fold),
        )


def _untrained(job: Job, fitter: Fitter) -> NetworkWeights | MelStatistics | NoFeatures:
    """Return what takes the place of a trained network."""
    if job.approach.name == "chance":
        return NoFeatures()
    if job.approach.name == "mel":
        return MelStatistics.fit(fitter.frames, fitter.starts, fitter.lengths)
    return NetworkWeights.of(seeded_network(2 * fitter.frames.shape[1], (job.settings.seed, job.settings.fold)))


def _made_by(method: Method, registry: Registry) -> dict[str, Any]:
    learner = None if method.learner is None else describe_learner(registry, method.learner, [method.approach])
    return {"approach": method.approach.name, "learner": learner, "notes": []}


def provenance(tracks: Tracks, described: Mapping[str, Any], seed: int, command: str) -> dict[str, Any]:
    """Return what the manifest of a model says of how it was made, besides its approach and learner.

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
        "seed": seed,
        "command": command,
        "versions": versions(),
    }


@contextlib.contextmanager
def _repeatable(device: str) -> Iterator[None]:
    """Let torch compute the same numbers each time."""
    if device.startswith("cuda"):
        torch.use_deterministic_algorithms(True)
    with one_thread():
        yield


def _label_vectors(task: Task, labels: NDArray[Any], scale: TargetScale | None) -> NDArray[np.float32]:
    if isinstance(task, Classification):
        return one_hot(labels, len(task.classes))
    assert scale is not None  # noqa: S101
    return scale.scale(labels).astype(np.float32)


def _similarities(job: Job, registry: Registry) -> tuple[PluginSimilarity | None, PluginSimilarity | None]:
    """Create the similarities of embeddings and of labels, if the job learns one."""
    approach, device = job.approach, job.settings.device
    if approach.similarity is None or approach.label_similarity is None:
        return None, None
    return (
        PluginSimilarity.create(registry, approach.similarity, device),
        PluginSimilarity.create(registry, approach.label_similarity, device),
    )
