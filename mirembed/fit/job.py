"""One training: a network trained on given tracks, the learners fitted to its embeddings, and the models of both.

`mirembed.fit.fit` and every fold of `mirembed.evaluate` use `fit_models`, so what is evaluated is what is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mirembed.config import Approach, Method, Settings
from mirembed.config.selection import checkpoints
from mirembed.features.info import FeaturesInfo
from mirembed.fit.calibrate import calibrated
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
from mirembed.training.loop import Training, TrainingData, TrainingSettings, train_together
from mirembed.training.network import PluginNetwork, one_thread
from mirembed.training.network_checks import check_with_engine
from mirembed.training.similarity import PluginSimilarity
from mirembed.training.weights import Ensemble, NetworkWeights, OutputLayer


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
        Where an interrupted training resumes from; see `checkpoints`.
    ensemble : int
        Number of networks to train, which are used as one.
    grouped : bool
        Whether inner folds keep groups apart.
    calibrate : bool
        Whether the models at the end get probabilities, for which every learner is fitted a few more times.
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
    ensemble: int = 1
    grouped: bool = False
    calibrate: bool = True

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
        *,
        grouped: bool = False,
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
            ensemble=settings.ensemble if methods[0].network is not None else 1,
            grouped=grouped,
        )

    @property
    def epochs(self) -> int:
        """Epochs of all networks that are trained."""
        return self.settings.epochs * self.ensemble if self.approach.trains else 0

    @property
    def members(self) -> list[TrainingSettings]:
        """The settings of each network."""
        first = self.settings.member
        return [replace(self.settings, member=number) for number in range(first, first + self.ensemble)]

    @property
    def checkpoints(self) -> list[Path | None]:
        """Where each network resumes from."""
        first = self.checkpoint
        if first is None:
            return [None] * self.ensemble
        return [first, *(first.with_name(f"{first.stem}.{n}{first.suffix}") for n in range(1, self.ensemble))]

    @property
    def networks(self) -> list[Job]:
        """The training of each network alone, from the same checkpoint; see `train_network`."""
        each = zip(self.members, self.checkpoints, strict=True)
        return [replace(self, settings=settings, checkpoint=path, ensemble=1) for settings, path in each]

    @property
    def earlier(self) -> list[Job]:
        """A job for each checkpoint before the last: it ends there."""
        first, found = self.checkpoint, []
        for epoch in checkpoints(self.settings.epochs, self.settings.checkpoint_every)[:-1]:
            path = None if first is None else first.with_suffix(f"{first.suffix}-{epoch}")
            found.append(replace(self, settings=replace(self.settings, epochs=epoch), checkpoint=path))
        return found

    @property
    def kept(self) -> list[Job]:
        """Those of `earlier` whose networks `train_network` has kept."""
        return [one for one in self.earlier if all(path is not None and path.exists() for path in one.checkpoints)]

    def delete_checkpoints(self) -> None:
        """Delete the checkpoints of all networks, and what `train_network` has kept."""
        for path in (path for one in [self, *self.earlier] for path in one.checkpoints):
            if path is not None:
                path.unlink(missing_ok=True)

    @property
    def is_resumed(self) -> bool:
        """Whether an interrupted training has done part of it."""
        return any(path is not None and path.exists() for path in self.checkpoints)

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


ChooseMethods: TypeAlias = Callable[[Model, NDArray[np.float32]], Sequence[Method]]
"""Returns the methods of a job with their learners, from a model without one and the embeddings ``[n_train, units]``
of the training tracks."""


def load() -> None:
    """Import what nearly every job needs, in the process that workers are forked from."""
    import sklearn.svm  # noqa: F401

    import_engine()


def fit_models(
    job: Job,
    registry: Registry,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    on_checkpoint: Callable[[int, Fitted], None] | None = None,
    choose: ChooseMethods | None = None,
) -> Fitted:
    """Train the network of a job on its training tracks and fit the learners to its embeddings.

    No other track is read, except for the moments of all frames with ``normalize="dataset"``.

    Parameters
    ----------
    on_epoch : callable
        Called with the number of finished epochs, over all networks.
    on_checkpoint : callable or None
        Called with the number of finished epochs of each network and the models at that point, with learners fitted
        from scratch; see `mirembed.training.loop.train_together`.
    choose : callable or None
        Chooses the learners; None: they are those of the job.

    Raises
    ------
    MirembedError
        If a plugin fails or has other code than the job was planned with, the training diverges, or the labels cannot
        be learned.
    """
    _require_code(job, registry)
    data, scale = _read_training_tracks(job)
    if not job.approach.trains:
        model = _new_model(job, data, scale, _untrained_features(job, registry, data))
        vectors = partial(model.embed, data.frames, data.starts, data.lengths)
        return fit_learners(job, registry, model, vectors, choose=choose)
    plugin = _network(job, registry)

    def fit_trained(trainings: Sequence[Training], *, last: bool) -> Fitted:
        # To copies of the networks, with which training may continue.
        members = [one.trained for one in trainings]
        network = _together([NetworkWeights.of(one.network, plugin.choice, job.inputs, registry) for one in members])
        heads = [OutputLayer.of(one.head) for one in members if one.head is not None]
        model = _new_model(job, data, scale, network, OutputLayer.mean(heads) if heads else None)
        vectors = partial(model.embed, data.frames, data.starts, data.lengths)
        losses = [float(np.mean(of_epoch)) for of_epoch in zip(*(one.losses for one in members), strict=True)]
        return fit_learners(job, registry, model, vectors, losses, last=last, choose=choose)

    def fit_checkpoint(trainings: Sequence[Training], epoch: int) -> None:
        if on_checkpoint is not None:
            on_checkpoint(epoch, fit_trained(trainings, last=False))

    with one_thread():
        for earlier in job.kept:
            fit_checkpoint(_trainings(earlier, registry, data, plugin), earlier.settings.epochs)
        trainings = _trainings(job, registry, data, plugin)
        train_together(trainings, job.settings, on_epoch, partial(fit_checkpoint, trainings))
    fitted = fit_trained(trainings, last=True)
    notes = [note for one in trainings if (note := one.trained.note)]
    for trained in fitted.models.values():
        trained.provenance = {**trained.provenance, "notes": [*notes[:1], *trained.provenance["notes"]]}
    return fitted


def train_network(job: Job, registry: Registry, on_epoch: Callable[[int], None] = lambda epoch: None) -> None:
    """Train the network of a job alone, and keep it at each checkpoint, so that `fit_models` need not train it.

    Parameters
    ----------
    job : Job
        One of `Job.networks`.
    on_epoch : callable
        Called with the number of finished epochs.

    Raises
    ------
    MirembedError
        See `fit_models`.
    """
    _require_code(job, registry)
    data, _ = _read_training_tracks(job)
    kept = {earlier.settings.epochs: earlier.checkpoint for earlier in job.earlier}
    with one_thread():
        [training] = _trainings(job, registry, data, _network(job, registry))
        train_together([training], job.settings, on_epoch, lambda epoch: training.keep(kept[epoch]))


def _trainings(job: Job, registry: Registry, data: TrainingData, network: PluginNetwork) -> list[Training]:
    """Return the trainings of the networks of a job, each as its checkpoint left it."""
    device = job.settings.device
    similarities = PluginSimilarity.of_approach(registry, job.approach, device)
    if device.startswith("cuda"):
        torch.use_deterministic_algorithms(True)
    return [
        Training(data, network, settings, *similarities, checkpoint)
        for settings, checkpoint in zip(job.members, job.checkpoints, strict=True)
    ]


def _together(networks: Sequence[NetworkWeights]) -> NetworkWeights | Ensemble:
    return networks[0] if len(networks) == 1 else Ensemble(tuple(networks))


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
    network = PluginNetwork.create(registry, Spec.parse(job.network))
    settings = job.settings
    check_with_engine(network, job.inputs, settings.form, settings.engine, trained=job.approach.trains)
    return network


def _untrained_features(
    job: Job, registry: Registry, data: TrainingData
) -> NetworkWeights | Ensemble | InputStatistics | NoFeatures:
    """Return the features of a baseline without training."""
    form = job.settings.form
    if job.approach.name == "chance":
        return NoFeatures()
    if job.approach.name == "stats":
        one_frame = job.features.hop is None
        tracks = data.frames, data.starts, data.lengths
        return InputStatistics.fit(*tracks, data.normalization, deltas=form.deltas, one_frame=one_frame)
    network = _network(job, registry)
    modules = [network.seeded(job.inputs, settings.entropy) for settings in job.members]
    return _together([NetworkWeights.of(module, network.choice, job.inputs, registry) for module in modules])


def _new_model(
    job: Job,
    data: TrainingData,
    scale: TargetScale | None,
    network: NetworkWeights | Ensemble | InputStatistics | NoFeatures,
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


def fit_to_saved(
    job: Job,
    saved: Model,
    embeddings: NDArray[np.float32],
    registry: Registry,
    choose: ChooseMethods | None = None,
) -> Fitted:
    """Fit only learners: to the embeddings of the training tracks by the network of a saved model.

    Parameters
    ----------
    saved : Model
    embeddings : ndarray [n_tracks, units]
        Of all tracks, by its network.
    choose : callable or None
        See `fit_models`.

    Raises
    ------
    MirembedError
        If a plugin fails or has other code than the job was planned with, or the labels cannot be learned.
    """
    _require_code(job, registry)
    model = saved.without_learner(job.task, scale_for(job.task, job.labels[job.rows]))
    return fit_learners(job, registry, model, lambda: embeddings[job.rows], choose=choose)


def fit_learners(
    job: Job,
    registry: Registry,
    model: Model,
    embed: Callable[[], NDArray[np.float32]],
    losses: Sequence[float] = (),
    *,
    last: bool = True,
    choose: ChooseMethods | None = None,
) -> Fitted:
    """Fit the learners from scratch to the embeddings of the training tracks, which are computed once.

    Parameters
    ----------
    model : Model
        Without a learner; each method gets a copy.
    embed : callable
        Returns the embeddings ``[n_train, units]``.
    losses : sequence of float
        Of the training of the network.
    last : bool
        Whether training has ended: only then are the learners calibrated, and notes about them made.
    choose : callable or None
        See `fit_models`.
    """
    labels, scale = job.labels[job.rows], model.scale
    models: dict[str, Model] = {}
    embeddings = None if choose is None else embed()
    for method in job.methods if choose is None or embeddings is None else choose(model, embeddings):
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
            if last and job.calibrate:
                known = job.task, fitted, embeddings, labels, groups
                fitted = calibrated(registry, learner, *known, grouped=job.grouped, seed=job.seed)
            copy.use(fitted, notes=last)
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
