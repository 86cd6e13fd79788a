"""One training: a network trained on given tracks, the learners fitted to its embeddings, and the models of both.

`mirembed.fit.fit` and every fold of `mirembed.evaluate` use `fit_models`, so what is evaluated is what is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mirembed.config import Approach, Method, Settings
from mirembed.features.info import FeaturesInfo
from mirembed.hookspecs import Task
from mirembed.models.baselines import InputStatistics, NoFeatures, chance_estimator
from mirembed.models.learners import describe_learner, fit_learner, learner_targets
from mirembed.models.model import Model
from mirembed.provenance import environment
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store.frame_file import FrameFile
from mirembed.store.tracks import Tracks
from mirembed.training.engine import import_engine
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.labels import TargetScale, label_vectors, scale_for
from mirembed.training.loop import Trained, TrainingData, TrainingSettings, train
from mirembed.training.network import PluginNetwork, one_thread
from mirembed.training.network_checks import checked_module
from mirembed.training.similarity import PluginSimilarity
from mirembed.training.weights import NetworkWeights, OutputLayer


@dataclass(frozen=True)
class Job:
    """A network to train, and the models to make from it. It is small, and is sent to a worker process.

    Attributes
    ----------
    frames : FrameFile
    features : FeaturesInfo
        What the frames are.
    network : str or None
        The spec of the network; None for a baseline without one.
    task : Classification, Tags or Regression
    labels : ndarray
        See `mirembed.store.tracks.Tracks.label_array`.
    groups : ndarray [n_tracks], int64
        See `mirembed.store.tracks.Tracks.group_codes`.
    rows : ndarray [n_train], int64
        The training tracks.
    normalize : {"training", "dataset"}
        Which tracks the means and deviations of the input come from. ``dataset`` is the paper's choice; it lets the
        test tracks' audio, but none of their labels, into the network's input.
    methods : tuple of Method
        They share the features and the network.
    settings : TrainingSettings
    recordings : tuple of str
        Of the training tracks.
    provenance : mapping
        For the models' manifests, besides approach and learner.
    checkpoint : pathlib.Path or None
        Where an interrupted training resumes from.
    """

    frames: FrameFile
    features: FeaturesInfo
    network: str | None
    task: Task
    labels: NDArray[Any]
    groups: NDArray[np.int64]
    rows: NDArray[np.int64]
    normalize: str
    methods: tuple[Method, ...]
    settings: TrainingSettings
    recordings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None

    @classmethod
    def of(
        cls,
        tracks: Tracks,
        rows: NDArray[np.int64],
        methods: tuple[Method, ...],
        settings: Settings,
        seed: int,
        fold: int,
        provenance: Mapping[str, Any],
        checkpoint: Path | None,
    ) -> Job:
        """Return the job of training on some tracks of a dataset; ``settings`` have device and engine resolved."""
        # Chance has no features, so any will do.
        spec = methods[0].features or next(iter(tracks.features))
        features = tracks.features[spec]
        training = TrainingSettings(
            epochs=settings.epochs,
            batch=settings.batch,
            optimizer=settings.optimizer,
            form=InputForm.of(features.hop, settings.excerpt, settings.deltas),
            seed=seed,
            fold=fold,
            device=settings.device,
            engine=settings.engine,
            checkpoint_every=settings.checkpoint_every,
        )
        return cls(
            frames=tracks.frames[spec],
            features=features,
            network=methods[0].network,
            task=tracks.task,
            labels=tracks.label_array,
            groups=tracks.group_codes,
            rows=rows,
            normalize=settings.normalize,
            methods=methods,
            settings=training,
            recordings=tuple(tracks.recordings[row] for row in rows),
            provenance=provenance,
            checkpoint=checkpoint,
        )

    @property
    def inputs(self) -> int:
        """Values per frame of the network's input."""
        return self.settings.form.inputs(self.features.values)

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

    No other track is read, except for the moments of all frames with ``normalize="dataset"``.

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
        If a plugin fails or has other code than the job was planned with, the training diverges, or the labels cannot
        be learned.
    """
    _require_code(job, registry)
    data, scale = _read_training_tracks(job)
    approach, device = job.approach, job.settings.device
    if not approach.trains:
        model = _new_model(job, data, scale, _untrained_features(job, registry, data))
        return _fit_learners(job, registry, model, partial(model.embed, data.frames, data.starts, data.lengths))
    plugin = _network(job, registry)

    def fit_trained(trained: Trained, *, notes: bool) -> Fitted:
        # To a copy of the network, with which training may continue.
        network = NetworkWeights.of(trained.network, plugin.choice, job.inputs, registry)
        head = None if trained.head is None else OutputLayer.of(trained.head)
        model = _new_model(job, data, scale, network, head)
        vectors = partial(model.embed, data.frames, data.starts, data.lengths)
        return _fit_learners(job, registry, model, vectors, trained.losses, notes=notes)

    def fit_checkpoint(epoch: int, trained: Trained) -> None:
        if on_checkpoint is not None:
            on_checkpoint(epoch, fit_trained(trained, notes=False))

    similarity, label_similarity = (
        None if spec is None else PluginSimilarity.create(registry, spec, device)
        for spec in (approach.similarity, approach.label_similarity)
    )
    if device.startswith("cuda"):
        torch.use_deterministic_algorithms(True)
    with one_thread():
        trained = train(
            data, plugin, job.settings, similarity, label_similarity, job.checkpoint, on_epoch, fit_checkpoint
        )
    return fit_trained(trained, notes=True)


def _require_code(job: Job, registry: Registry) -> None:
    """Refuse plugins whose code has changed since the job was planned."""
    registry.require_code(job.provenance.get("settings"), ("network", "similarity", "learner"), "this training")


def _read_training_tracks(job: Job) -> tuple[TrainingData, TargetScale | None]:
    """Return what the network is trained on, and the scale of its targets, if it has any."""
    frames, labels = job.frames.take(job.rows), job.labels[job.rows]
    scale = scale_for(job.task, labels)
    data = TrainingData(
        frames=frames.open(),
        starts=frames.starts,
        lengths=frames.lengths,
        task=job.task,
        label_vectors=label_vectors(job.task, labels, scale),
        normalization=Normalization.fit((frames if job.normalize == "training" else job.frames).moments()),
    )
    return data, scale


def _network(job: Job, registry: Registry) -> PluginNetwork:
    assert job.network is not None  # noqa: S101
    return PluginNetwork.create(registry, Spec.parse(job.network))


def _untrained_features(
    job: Job, registry: Registry, data: TrainingData
) -> NetworkWeights | InputStatistics | NoFeatures:
    """Return the features of a baseline without training."""
    form = job.settings.form
    if job.approach.name == "chance":
        return NoFeatures()
    if job.approach.name == "stats":
        one_frame = job.features.hop is None
        tracks = data.frames, data.starts, data.lengths
        return InputStatistics.fit(*tracks, data.normalization, deltas=form.deltas, one_frame=one_frame)
    network = _network(job, registry)
    module = checked_module(network, job.inputs, job.seed, form, job.settings.engine, trained=False)
    return NetworkWeights.of(module, network.choice, job.inputs, registry)


def _new_model(
    job: Job,
    data: TrainingData,
    scale: TargetScale | None,
    network: NetworkWeights | InputStatistics | NoFeatures,
    head: OutputLayer | None = None,
) -> Model:
    """Return a model that lacks a learner."""
    return Model(
        task=job.task,
        network=network,
        normalization=data.normalization,
        form=job.settings.form,
        head=head,
        estimator=None,
        scale=scale,
        features=job.features,
        recordings=job.recordings,
        engine=job.settings.engine,
    )


def fit_to_saved(job: Job, saved: Model, embeddings: NDArray[np.float32], registry: Registry) -> Fitted:
    """Fit only learners: to the embeddings of the training tracks by the network of a saved model.

    Parameters
    ----------
    saved : Model
    embeddings : ndarray [n_tracks, units]
        Of all tracks, by its network.

    Raises
    ------
    MirembedError
        If a plugin fails or has other code than the job was planned with, or the labels cannot be learned.
    """
    _require_code(job, registry)
    scale = scale_for(job.task, job.labels[job.rows])
    model = replace(saved, task=job.task, head=None, estimator=None, kernel=None, constant_tags=None, scale=scale)
    return _fit_learners(job, registry, model, lambda: embeddings[job.rows])


def _fit_learners(
    job: Job,
    registry: Registry,
    model: Model,
    embed: Callable[[], NDArray[np.float32]],
    losses: Sequence[float] = (),
    *,
    notes: bool = True,
) -> Fitted:
    """Fit the learners from scratch to the embeddings of the training tracks, which are computed once.

    Parameters
    ----------
    model : Model
        Without a learner; each method gets a copy.
    embed : callable
        Returns the embeddings ``[n_train, units]``.
    """
    labels, scale = job.labels[job.rows], model.scale
    models: dict[str, Model] = {}
    embeddings: NDArray[np.float32] | None = None
    for method in job.methods:
        learner, approach = method.learner, method.approach
        copy = models[method.name] = replace(
            model,
            head=model.head if learner is None else None,
            provenance={
                **job.provenance,
                "approach": approach.name,
                "learner": None if learner is None else describe_learner(registry, learner, [approach]),
                "notes": [],
                "loss": losses[-1] if losses else None,
            },
        )
        if copy.head is not None:
            continue
        if embeddings is None:
            embeddings = embed()
        if learner is None:
            copy.estimator = chance_estimator(job.task)
            copy.estimator.fit(embeddings, learner_targets(labels, scale))
        else:
            groups = job.groups[job.rows]
            fitted = fit_learner(
                registry, learner, approach, job.task, embeddings, labels, scale, seed=job.seed, groups=groups
            )
            copy.use(fitted, notes=notes)
    return Fitted(models, list(losses), embeddings)


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
        **environment(settings.get("device", "cpu")),
    }
