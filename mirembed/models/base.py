"""What a model of one network and a combined model have in common, and how a model is written to disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed.features.info import FeaturesInfo, FeaturesPart, distinct_parts
from mirembed.hookspecs import Task
from mirembed.models.saved import checked_manifest, identity, reading_model, write_manifest
from mirembed.registry import Registry
from mirembed.store.files import writing
from mirembed.store.rows import task_to_json

TrackFrames: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]
"""Frames ``[total_frames, values]``, and the first row and the number of frames of each track, both ``[n_tracks]``."""


RECORDINGS = ("recordings", "learner_recordings", "audio_hashes", "learner_audio_hashes")
"""Attributes of a model, and keys of its manifest, that say what it was fitted to."""


class AnyModel(ABC):
    """Everything between the frames of a track and a prediction: a `Model` or a `CombinedModel`.

    Attributes
    ----------
    task : Classification, Tags or Regression
    recordings : sequence of str
        Those that its networks were trained on.
    learner_recordings : sequence of str
        Those that its learners were fitted to, if they are not those of the networks.
    audio_hashes, learner_audio_hashes : sequence of str
        Digests of the decoded samples of these recordings, as far as they are known: by them, files whose tags have
        changed are recognized.
    provenance : mapping
        Approach, plugins, seed, versions and command; once the model is saved or loaded, also its name and digest.
    """

    task: Task
    recordings: Sequence[str]
    learner_recordings: Sequence[str]
    audio_hashes: Sequence[str]
    learner_audio_hashes: Sequence[str]
    provenance: Mapping[str, Any]

    @property
    @abstractmethod
    def feature_sets(self) -> tuple[FeaturesInfo, ...]:
        """The features that it takes; a combined model may take several, which are not stacked."""

    @property
    def parts(self) -> tuple[FeaturesPart, ...]:
        """What has to be extracted for all its features, each once."""
        return distinct_parts(self.feature_sets)

    @property
    @abstractmethod
    def units(self) -> int:
        """The number of values of an embedding."""

    @property
    @abstractmethod
    def may_fuse(self) -> bool:
        """Whether the fused engine may compute its embeddings."""

    @property
    def member_weights(self) -> dict[str, float]:
        """The weights of the members' predictions, by the members' names; empty unless the model is combined."""
        return {}

    @property
    def trained_on(self) -> frozenset[str]:
        """The recordings that a network or a learner was fitted to, and the digests of their decoded samples."""
        return frozenset(one for name in RECORDINGS for one in getattr(self, name))

    @abstractmethod
    def embed_sets(self, sets: Sequence[TrackFrames]) -> NDArray[np.float32]:
        """Embed full tracks: ndarray ``[n_tracks, units]``. To the bit, none depends on the other tracks.

        Parameters
        ----------
        sets : sequence of TrackFrames
            The same tracks by each of the `feature_sets`.

        Raises
        ------
        ModelError
            If torch has to compute a network, and its plugin is missing or creates another network now.
        PluginError
            If a network fails.
        """

    @abstractmethod
    def predict(self, embeddings: NDArray[np.float32]) -> NDArray[Any]:
        """Predict from embeddings ``[n_tracks, units]``.

        Returns
        -------
        ndarray
            Classification: ``[n_tracks]`` int64, class indices. Tags: ``[n_tracks, n_tags]`` int64, 0 or 1.
            Regression: ``[n_tracks, n_targets]`` float64, original units.

        Raises
        ------
        PluginError
            If a learner's estimator fails, or predicts anything but classes, tags or finite values.
        """

    @abstractmethod
    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the scores that rank tracks by each tag: ndarray ``[n_tracks, n_tags]``; larger is more likely.

        Raises
        ------
        TypeError
            If the task is not `Tags`.
        PluginError
            If a learner's estimator fails, or returns anything but finite values.
        """

    @property
    @abstractmethod
    def has_probabilities(self) -> bool:
        """Whether `probabilities` returns any."""

    @property
    @abstractmethod
    def uncalibrated(self) -> str | None:
        """Why its probabilities are not calibrated; None if they are, or if it has none."""

    @abstractmethod
    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Return the probability of each class or tag ``[n_tracks, n_classes]``. Those of classes sum to 1.

        None for targets, and if there is nothing to calibrate.

        Raises
        ------
        PluginError
            If a learner's estimator fails.
        """

    @property
    def chosen(self) -> dict[str, str]:
        """What was chosen for it in inner folds, by the name of the choice."""
        return dict(self.provenance.get("selection", {}).get("chosen", {}))

    def save(self, folder: Path) -> None:
        """Write the model as a new folder.

        Raises
        ------
        StoreWriteError
            If the disk is full or the folder cannot be written.
        ModelError
            If skops cannot store a learner's estimator.
        """
        with writing(folder) as temporary:
            temporary.mkdir()
            content = {
                "task": task_to_json(self.task),
                "features": [one.to_json() for one in self.feature_sets],
                "units": self.units,
                **self._write(temporary),
                **{name: list(getattr(self, name)) for name in RECORDINGS},
                "provenance": dict(self.provenance),
            }
            write_manifest(temporary, content)
        self.provenance = {**self.provenance, **identity(folder)}

    @classmethod
    def load(cls, folder: Path, registry: Registry) -> Self:
        """Read a model of this kind; `mirembed.models.combined.load_model` reads any.

        Parameters
        ----------
        folder : pathlib.Path
        registry : Registry
            Only types of scikit-learn, numpy, scipy and the installed plugins of the model's learners are loaded.

        Raises
        ------
        ModelError
            If the folder is not a model, is damaged, has another format, or holds a learner of types that are not
            allowed.
        """
        with reading_model(folder):
            return cls.assemble(folder, checked_manifest(folder), registry)

    @classmethod
    @abstractmethod
    def assemble(cls, folder: Path, manifest: Mapping[str, Any], registry: Registry) -> Self:
        """Read a model whose manifest has been read and checked; see `load`."""

    @abstractmethod
    def _write(self, folder: Path) -> Mapping[str, Any]:
        """Write all files but the manifest, and return what only this kind of model has in the manifest."""
