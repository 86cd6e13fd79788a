"""A fitted model: network, normalization, learner and provenance; in memory and on disk.

On disk a model is a folder::

    model.json             task, approach, learner, features, network, provenance, digests of the files
    network.safetensors    weights (of stats: means and deviations of the statistics), normalization, target scale,
                           constant tags, calibration, the training tracks' embeddings for a kernel
    learner.skops          the scikit-learn estimator; absent for the approach nn

Nothing in it can run code when it is loaded. With the fused engine a model embeds and predicts without torch, and
without the plugin of its network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from mirembed.errors import ModelError, PluginError, UnknownNameError
from mirembed.features.info import FeaturesInfo
from mirembed.hookspecs import Classification, Estimator, Regression, Tags, Task
from mirembed.models.base import RECORDINGS, AnyModel, TrackFrames
from mirembed.models.baselines import InputStatistics, NoFeatures
from mirembed.models.calibration import Calibration, decision_values, sigmoid, softmax
from mirembed.models.estimators import dump_estimator, load_estimator
from mirembed.models.learners import FittedLearner, Kernel
from mirembed.models.outputs import predictions, tag_scores
from mirembed.models.saved import LEARNER, NETWORK, features_in, identity
from mirembed.registry import Registry
from mirembed.store.rows import tags_of, task_from_json
from mirembed.training.engine import make_engine
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.labels import TargetScale
from mirembed.training.network import NetworkChoice
from mirembed.training.weights import Ensemble, NetworkWeights, OutputLayer


@dataclass
class Model(AnyModel):
    """A model of one network, or of one baseline; see `AnyModel` for the attributes that are not listed.

    Attributes
    ----------
    network : NetworkWeights, Ensemble, InputStatistics or NoFeatures
        The latter two stand in for the network of a baseline.
    normalization : Normalization
    form : InputForm
        How frames become the network's input.
    head : OutputLayer or None
        The network's own output layer, for the approach ``nn``.
    estimator : Estimator or None
        The fitted learner, for all other approaches.
    scale : TargetScale or None
        For regression.
    features : FeaturesInfo
    kernel : Kernel or None
        The similarity whose Gram matrix the estimator takes; None if it takes embeddings.
    calibration : Calibration or None
        What turns the learner's decision values into probabilities.
    constant_tags : ndarray [n_tags], int64, or None
        What the model predicts for tags that all training tracks had (1) or none (0), which the estimator does not
        know; -1 for the others. None: the estimator knows all, or the task has no tags.
    engine : {"auto", "numba", "torch"}
        The engine that computes embeddings. A loaded model uses the engine it was trained with, if that works here, so
        that its embeddings are the same to the bit.
    """

    task: Task
    network: NetworkWeights | Ensemble | InputStatistics | NoFeatures
    normalization: Normalization
    form: InputForm
    head: OutputLayer | None
    estimator: Estimator | None
    scale: TargetScale | None
    features: FeaturesInfo
    recordings: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    learner_recordings: Sequence[str] = ()
    audio_hashes: Sequence[str] = ()
    learner_audio_hashes: Sequence[str] = ()
    kernel: Kernel | None = None
    calibration: Calibration | None = None
    constant_tags: NDArray[np.int64] | None = None
    engine: str = "torch"

    @property
    def members(self) -> tuple[NetworkWeights, ...]:
        """The networks of an ensemble, or the only network; empty for a baseline without one."""
        if isinstance(self.network, Ensemble):
            return self.network.members
        return (self.network,) if isinstance(self.network, NetworkWeights) else ()

    @property
    def feature_sets(self) -> tuple[FeaturesInfo, ...]:
        """See `AnyModel`."""
        return (self.features,)

    @property
    def units(self) -> int:
        """See `AnyModel`."""
        return self.network.units

    @property
    def may_fuse(self) -> bool:
        """See `AnyModel`."""
        return self.engine == "auto" and bool(self.members)

    def embed_sets(self, sets: Sequence[TrackFrames]) -> NDArray[np.float32]:
        """See `AnyModel`."""
        [tracks] = sets
        return self.embed(*tracks)

    def embed(
        self, frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Embed full tracks, see `AnyModel.embed_sets`.

        Models with the same network give the same embeddings: embed once and pass the result to each model's `predict`.

        Parameters
        ----------
        frames : ndarray [total_frames, values]
        starts, lengths : ndarray [n_tracks]
            First row and number of frames of each track.
        """
        if isinstance(self.network, InputStatistics | NoFeatures):
            return self.network.embed(frames, starts, lengths)
        try:
            engines = [make_engine(self.engine, member, self.form) for member in self.members]
        except UnknownNameError as error:
            raise ModelError(str(error)) from error
        vectors = [engine.embed_tracks(frames, starts, lengths, self.normalization) for engine in engines]
        return vectors[0] if len(vectors) == 1 else np.concatenate(vectors, axis=1)

    def predict(self, embeddings: NDArray[np.float32]) -> NDArray[Any]:
        """See `AnyModel`."""
        if self.estimator is not None:
            X = self._estimator_inputs(embeddings)
            outputs = predictions(self.estimator, self._estimator_name(), self.task, X, self.constant_tags)
        else:
            outputs = self._head_outputs(embeddings)
            if isinstance(self.task, Classification):
                outputs = outputs.argmax(axis=1)
            elif isinstance(self.task, Tags):
                outputs = outputs > 0
        if not isinstance(self.task, Regression):
            return np.asarray(outputs, np.int64)
        assert self.scale is not None  # noqa: S101
        return self.scale.unscale(outputs)

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `AnyModel`.

        For the approach ``nn``, these are the logits. For the others, see `mirembed.models.outputs.tag_scores`.
        """
        if not isinstance(self.task, Tags):
            raise TypeError(f"scores are of tags, and the task is {self.task!r}")
        if self.estimator is None:
            return self._head_outputs(embeddings).astype(np.float64)
        X = self._estimator_inputs(embeddings)
        return tag_scores(self.estimator, self._estimator_name(), self.task, X, self.constant_tags)

    @property
    def has_probabilities(self) -> bool:
        """See `AnyModel`."""
        return not isinstance(self.task, Regression) and (self.head is not None or self.calibration is not None)

    @property
    def uncalibrated(self) -> str | None:
        """See `AnyModel`."""
        calibrated = self.calibration is not None or not self.has_probabilities
        return None if calibrated else "these probabilities are the network's own outputs, which are not calibrated"

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """See `AnyModel`.

        Those of a learner are calibrated on training tracks that it was not fitted to; the most probable class is the
        one with the largest decision value, but a tag may be predicted with less than 0.5. Those of the approach ``nn``
        are the softmax, or for tags the sigmoid, of its outputs, and are not calibrated.
        """
        if isinstance(self.task, Regression) or not self.has_probabilities:
            return None
        if self.calibration is None or self.estimator is None:
            outputs = self._head_outputs(embeddings)
            return softmax(outputs) if isinstance(self.task, Classification) else sigmoid(outputs)
        if len(embeddings) == 0:  # scikit-learn refuses an empty array
            return np.zeros((0, len(self.task.classes)))
        name, X = self._estimator_name(), self._estimator_inputs(embeddings)
        values = decision_values(self.estimator, name, self.task, X, self.constant_tags)
        if values is None:
            raise PluginError(f"{name} has no finite decision value for each of its classes; fit the model again")
        return self.calibration(values)

    def without_learner(self, task: Task, scale: TargetScale | None) -> Model:
        """Return a model with the same network, which lacks a learner for another task."""
        nothing: dict[str, Any] = dict.fromkeys(("head", "estimator", "kernel", "constant_tags", "calibration"))
        return replace(self, task=task, scale=scale, **nothing)

    def use(self, learner: FittedLearner, *, notes: bool = True) -> None:
        """Predict with a learner from now on."""
        self.estimator, self.kernel, self.constant_tags = learner.estimator, learner.kernel, learner.constant
        self.calibration = learner.calibration
        by_search = {} if learner.chosen is None else {"chosen_by_learner": dict(learner.chosen)}
        self.provenance = {**self.provenance, **by_search, "notes": learner.notes if notes else []}

    def _head_outputs(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.head is not None  # noqa: S101
        return self.head(embeddings)

    def _estimator_inputs(self, embeddings: NDArray[np.float32]) -> NDArray[Any]:
        """Return what the estimator takes: embeddings, or their similarities to the training tracks."""
        return embeddings if self.kernel is None or not len(embeddings) else self.kernel.gram(embeddings)

    def _estimator_name(self) -> str:
        name = type(self.estimator).__name__
        learner = self.provenance.get("learner") or {}
        if "distribution" not in learner:
            return f"the learner's {name}"
        return f"the {name} of learner {learner['name']} of {learner['distribution']} {learner['version']}"

    def _write(self, folder: Path) -> Mapping[str, Any]:
        if isinstance(self.network, NoFeatures):
            raise ModelError("a model without audio cannot be saved; evaluate chance instead")
        (folder / NETWORK).write_bytes(save(self._arrays()))
        if self.estimator is not None:
            (folder / LEARNER).write_bytes(dump_estimator(self.estimator))
        return {
            "input": asdict(self.form),
            "network": None if not self.members else _described(self.members),
            "kernel": None if self.kernel is None else dict(self.kernel.described),
        }

    @classmethod
    def assemble(cls, folder: Path, manifest: Mapping[str, Any], registry: Registry) -> Self:
        """See `AnyModel`."""
        arrays = load_file(folder / NETWORK)

        def part(prefix: str) -> dict[str, NDArray[Any]]:
            start = f"{prefix}."
            return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}

        provenance = {**manifest["provenance"], **identity(folder)}
        has_learner = LEARNER in manifest["files"]
        if not (has_learner or part("head")):
            raise KeyError(LEARNER)
        kernel = None
        if (described := manifest["kernel"]) is not None:
            try:
                kernel = Kernel.create(registry, described, arrays["kernel.embeddings"])
            except PluginError as error:
                raise ModelError(
                    f"the model {folder} needs the similarity {described['name']!r} as the kernel of its learner "
                    f"({error}); install {described['distribution']}=={described['version']}"
                ) from error
        form = InputForm(**manifest["input"])
        normalization = Normalization(**part("normalization"))
        [features] = features_in(manifest)
        network: NetworkWeights | Ensemble | InputStatistics
        fused = False
        if (described := manifest["network"]) is None:
            one_frame = features.hop is None
            network = InputStatistics(normalization, form.deltas, one_frame, **part("statistics"))
        else:
            first, *others = (
                _read_network(described, part(_prefix(number)), registry) for number in range(described["members"])
            )
            network = Ensemble((first, *others)) if others else first
            fused = provenance["settings"].get("engine") == "numba" and first.choice.fused is not None
        if network.units != manifest["units"]:
            raise ValueError(f"{network.units} units, not {manifest['units']}")
        fitted_to: dict[str, Any] = {name: tuple(manifest[name]) for name in RECORDINGS}
        return cls(
            task=task_from_json(manifest["task"]),
            network=network,
            normalization=normalization,
            form=form,
            head=OutputLayer(**part("head")) if part("head") else None,
            estimator=load_estimator(folder / LEARNER, provenance["learner"], registry) if has_learner else None,
            scale=TargetScale(**part("scale")) if part("scale") else None,
            features=features,
            **fitted_to,
            provenance=provenance,
            kernel=kernel,
            calibration=Calibration(**part("calibration")) if part("calibration") else None,
            constant_tags=arrays.get("tags.constant"),
            engine="auto" if fused and form.deltas else "torch",
        )

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that goes into the safetensors file."""
        parts: dict[str, Mapping[str, NDArray[Any]]] = {
            **{_prefix(number): member.arrays for number, member in enumerate(self.members)},
            "statistics": _statistics(self.network),
            "head": {} if self.head is None else vars(self.head),
            "normalization": vars(self.normalization),
            "scale": {} if self.scale is None else vars(self.scale),
            "calibration": {} if self.calibration is None else vars(self.calibration),
            "kernel": {} if self.kernel is None else {"embeddings": self.kernel.embeddings},
            "tags": {} if self.constant_tags is None else {"constant": self.constant_tags},
        }
        return {
            f"{part}.{name}": np.asarray(array, order="C")
            for part, arrays in parts.items()
            for name, array in arrays.items()
        }


def _prefix(member: int) -> str:
    """Return what the names of a network's weights begin with in the safetensors file."""
    return f"network{member}" if member else "network"


def _statistics(network: object) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of a baseline that only its statistics have."""
    return {"mean": network.mean, "std": network.std} if isinstance(network, InputStatistics) else {}


def _described(members: Sequence[NetworkWeights]) -> Mapping[str, Any]:
    """Return what the manifest says about networks that are used as one."""
    first = members[0]
    shape = {"inputs": first.inputs, "units": first.units, "arrays": list(first.arrays), "members": len(members)}
    return {**first.choice.to_json(), **shape}


def _read_network(
    described: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], registry: Registry
) -> NetworkWeights:
    ordered = {name: arrays[name] for name in described["arrays"]}
    return NetworkWeights(
        NetworkChoice.from_json(described), int(described["inputs"]), int(described["units"]), ordered, registry
    )


def named_predictions(task: Task, outputs: NDArray[Any]) -> list[dict[str, Any]]:
    """Turn the result of `Model.predict` into one mapping per track, from ``label`` or target names to values.

    The label of tags is the list of those that are predicted.

    >>> named_predictions(Classification(("jazz", "rock")), np.array([1, 0]))
    [{'label': 'rock'}, {'label': 'jazz'}]
    """
    if isinstance(task, Classification):
        return [{"label": task.classes[index]} for index in outputs]
    if isinstance(task, Tags):
        return [{"label": tags_of(row, task)} for row in outputs]
    names = [target.name for target in task.targets]
    return [dict(zip(names, row, strict=True)) for row in outputs.tolist()]
