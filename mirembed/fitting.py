"""One network, trained on given tracks, and the models made of it.

`fit` and every fold of `evaluate` come through here, so that what is evaluated is what is saved.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mirembed.approaches import Approach, Method
from mirembed.baselines import MelStatistics, NoFeatures, chance_estimator
from mirembed.errors import EvaluationError
from mirembed.excerpts import Normalisation
from mirembed.hookspecs import Classification, Estimator, Task
from mirembed.kernels import Kernel, describe_kernels, describe_learner, indefinite_notes
from mirembed.labels import TargetScale, one_hot
from mirembed.models import Model
from mirembed.network import EmbeddingNetwork, one_thread, seeded_network
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
    normalise: str
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
    """

    models: dict[str, Model]
    losses: list[float]

    @property
    def notes(self) -> list[str]:
        """What the user should be told of the models."""
        return [f"{name}: {note}" for name, model in self.models.items() for note in model.provenance["notes"]]


@dataclass(frozen=True)
class FittedLearner:
    """What comes of a learner.

    Attributes
    ----------
    estimator : Estimator
    kernel : Kernel or None
        The similarity whose Gram matrix the estimator takes; None: it takes embeddings.
    gram : ndarray [n_train, n_train] or None
        Of the kernel.
    """

    estimator: Estimator
    kernel: Kernel | None = None
    gram: NDArray[np.float64] | None = None

    @property
    def notes(self) -> list[str]:
        """What the user should be told of it. To find that out takes the eigenvalues of the Gram matrix."""
        return [] if self.kernel is None or self.gram is None else indefinite_notes(self.kernel, self.gram)

    def put_into(self, model: Model, *, notes: bool = True) -> None:
        """Let a model predict with it."""
        model.estimator, model.kernel = self.estimator, self.kernel
        model.provenance = {**model.provenance, "notes": self.notes if notes else []}


def fit_models(
    job: Job,
    registry: Registry,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    on_checkpoint: Callable[[int, Fitted], None] | None = None,
) -> Fitted:
    """Train the network of a job on its training tracks and fit the learners.

    Nothing of any other track is read, but for ``normalise="dataset"``.

    Parameters
    ----------
    on_epoch : callable
        Told the number of epochs done.
    on_checkpoint : callable or None
        Given the number of epochs done and models of the network as it is then, with learners fitted from scratch;
        see `mirembed.train.train`.

    Raises
    ------
    MirembedError
        If a plugin fails, the training diverges, or the labels cannot be learned.
    """
    fitter = _Fitter.of(job, registry)
    if not job.approach.trains:
        return fitter.fit(_untrained(job, fitter), None, [])

    def snapshot(epoch: int, trained: Trained) -> None:
        if on_checkpoint is not None:
            network, head = copy.deepcopy((trained.network, trained.head))
            on_checkpoint(epoch, fitter.fit(network, head, trained.losses, notes=False))

    with one_thread():
        trained = _train(job, fitter.training_data(), registry, on_epoch, snapshot)
    return fitter.fit(trained.network, trained.head, trained.losses)


@dataclass(frozen=True)
class _Fitter:
    """The training tracks of a job, ready for a network and for learners."""

    job: Job
    registry: Registry
    frames: NDArray[np.float32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    labels: NDArray[Any]
    normalisation: Normalisation
    scale: TargetScale | None

    @classmethod
    def of(cls, job: Job, registry: Registry) -> _Fitter:
        frames, places = job.frames.open(), job.frames
        statistics = job.rows if job.normalise == "training" else np.arange(len(places.starts))
        labels = job.labels[job.rows]
        return cls(
            job=job,
            registry=registry,
            frames=frames,
            starts=places.starts[job.rows],
            lengths=places.lengths[job.rows],
            labels=labels,
            normalisation=Normalisation.fit(frames, places.starts, places.lengths, statistics),
            scale=None if isinstance(job.task, Classification) else TargetScale.fit(job.task, labels),
        )

    def training_data(self) -> TrainingData:
        return TrainingData(
            frames=self.frames,
            starts=self.starts,
            lengths=self.lengths,
            label_vectors=_label_vectors(self.job.task, self.labels, self.scale),
            classes=self.labels if isinstance(self.job.task, Classification) else None,
            normalisation=self.normalisation,
        )

    def fit(
        self,
        network: EmbeddingNetwork | MelStatistics | NoFeatures,
        head: nn.Linear | None,
        losses: list[float],
        *,
        notes: bool = True,
    ) -> Fitted:
        """Fit the learners from scratch to the embeddings of the training tracks."""
        job = self.job
        if isinstance(network, EmbeddingNetwork):
            # Embedding and prediction happen where the model will be used: on the CPU.
            network = network.cpu().eval()
        models = {}
        embeddings: NDArray[np.float32] | None = None
        for method in job.methods:
            model = Model(
                task=job.task,
                network=network,
                normalisation=self.normalisation,
                head=head.cpu() if head is not None and method.learner is None else None,
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
        return Fitted(models, losses)

    def _learn(self, method: Method, embeddings: NDArray[np.float32]) -> FittedLearner:
        if method.learner is None:
            estimator = chance_estimator(self.job.task)
            estimator.fit(embeddings, _answers(self.labels, self.scale))
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


def _untrained(job: Job, fitter: _Fitter) -> EmbeddingNetwork | MelStatistics | NoFeatures:
    """Return what takes the place of a trained network."""
    if job.approach.name == "chance":
        return NoFeatures()
    if job.approach.name == "mel":
        return MelStatistics.fit(fitter.frames, fitter.starts, fitter.lengths)
    return seeded_network(2 * fitter.frames.shape[1], (job.settings.seed, job.settings.fold))


def _made_by(method: Method, registry: Registry) -> dict[str, Any]:
    learner = None if method.learner is None else describe_learner(registry, method.learner, [method.approach])
    return {"approach": method.approach.name, "learner": learner, "notes": []}


def fit_learner(
    registry: Registry,
    learner: Spec,
    approach: Approach,
    task: Task,
    embeddings: NDArray[np.float32],
    labels: NDArray[Any],
    scale: TargetScale | None,
    *,
    seed: Sequence[int],
) -> FittedLearner:
    """Fit a learner to the embeddings and labels of the training tracks, or to the Gram matrix of its kernel.

    Parameters
    ----------
    approach : Approach
        What the embeddings come from: a kernel may be the similarity that it learnt.
    embeddings : ndarray [n_train, units]
    labels : ndarray [n_train] int64 class indices, or [n_train, n_targets] float64 in original units
    scale : TargetScale or None
        None for classification.
    seed : sequence of int
        Of the global generators while the estimator is fitted: one that was given no seed draws from them.
    """
    if isinstance(task, Classification) and len(np.unique(labels)) < 2:
        raise EvaluationError("the training tracks have one class only; a learner needs at least two")
    estimator = new_estimator(registry, learner, task)
    kernel: Kernel | None = None
    gram: NDArray[np.float64] | None = None
    if described := describe_kernels(registry, learner, [approach]):
        kernel = Kernel.create(registry, described[approach.name], embeddings)
        gram = kernel.training_gram()
    with _blaming(registry, learner, f"fit {len(embeddings)} tracks"), _seeded(seed):
        estimator.fit(embeddings if gram is None else gram, _answers(labels, scale))
    return FittedLearner(estimator, kernel, gram)


@contextlib.contextmanager
def _seeded(seed: Sequence[int]) -> Iterator[None]:
    """Seed the global generators of Python and numpy, and put them back."""
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    before = random.getstate(), np.random.get_state()
    random.seed(number)
    np.random.seed(number)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def _answers(labels: NDArray[Any], scale: TargetScale | None) -> NDArray[Any]:
    return labels if scale is None else scale.scale(labels)


def new_estimator(registry: Registry, learner: Spec, task: Task) -> Estimator:
    """Return the unfitted estimator of a learner."""
    with _blaming(registry, learner, "make an estimator"):
        estimator: Estimator = registry.create("learner", learner).estimator(task)
        if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
            raise TypeError(f"estimator() returned {estimator!r}, which has no fit and predict")
    return estimator


@contextlib.contextmanager
def _blaming(registry: Registry, learner: Spec, purpose: str) -> Iterator[None]:
    with plugin_code(f"{registry.find('learner', learner.name).blame(learner)} fails to {purpose}"):
        yield


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


def _label_vectors(task: Task, labels: NDArray[Any], scale: TargetScale | None) -> NDArray[np.float32]:
    if isinstance(task, Classification):
        return one_hot(labels, len(task.classes))
    assert scale is not None  # noqa: S101
    return scale.scale(labels).astype(np.float32)


def _train(
    job: Job,
    data: TrainingData,
    registry: Registry,
    on_epoch: Callable[[int], None],
    on_checkpoint: Callable[[int, Trained], None],
) -> Trained:
    similarity = label_similarity = None
    approach = job.approach
    if approach.similarity is not None and approach.label_similarity is not None:
        device = job.settings.device
        similarity = PluginSimilarity.create(registry, approach.similarity, device)
        label_similarity = PluginSimilarity.create(registry, approach.label_similarity, device)
    if job.settings.device.startswith("cuda"):
        torch.use_deterministic_algorithms(True)
    return train(data, job.settings, similarity, label_similarity, job.checkpoint, on_epoch, on_checkpoint)
