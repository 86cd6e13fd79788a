"""Similarity learning as an estimator of scikit-learn: a transformer from frames or audio files to embeddings.

It trains what ``mirembed fit`` trains, without a store, and works in pipelines, grid searches and grouped
cross-validation.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from mirembed.api.progress import reporting
from mirembed.api.words import discover, given_words, store_of
from mirembed.audio.files import printable
from mirembed.config import Settings, defaults
from mirembed.errors import AudioError, SpecError
from mirembed.features.info import FeaturesInfo, resolve_features
from mirembed.hookspecs import Classification, Regression, Tags, Target, Task
from mirembed.progress import NO_PROGRESS
from mirembed.specs import Spec
from mirembed.store.frame_file import Moments
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.labels import label_vectors, scale_for
from mirembed.training.weights import NetworkWeights

if TYPE_CHECKING:
    from mirembed.registry import Registry
    from mirembed.training.loop import TrainingSettings

_OPTIONAL = ("label_similarity", "deltas")
"""Settings that None leaves to others."""

_TASKS = ("auto", "classification", "tags", "regression")


class SimilarityEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embeds tracks so that tracks with similar labels get similar embeddings.

    The parameters are the flags of ``mirembed fit``, with its defaults.

    Parameters
    ----------
    features : str
        What is computed from audio files; frames given as arrays are used as they are.
    network : str
        ``"gru"``, ``"gru:hidden=200"``, ``"crnn"``, ``"mlp"``.
    similarity : str
        The similarity to learn: ``"rbf"``, ``"rbf:gamma=2"``, ``"cosine"``, ``"polynomial"``.
    label_similarity : str or None
        Similarity of the labels; None: the similarity to learn.
    epochs, batch : int
        Passes over the tracks, and excerpts per training step.
    excerpt : int
        Frames that each epoch takes from a track.
    optimizer : str
        A torch optimizer: ``"adadelta"``, ``"adam:lr=0.001"``.
    normalize : {"training", None}
        Normalize each value by its mean and standard deviation over the frames in ``fit``; None: leave it as it is.
    deltas : bool or None
        Append the differences of consecutive frames; None: if any track has several frames.
    ensemble : int
        Networks to train from different seeds; their embeddings are concatenated.
    task : {"auto", "classification", "tags", "regression"}
        What ``y`` is. ``"auto"``: classes if it is a list of names or integers, tags if it is a matrix of 0 and 1 with
        several columns, and targets otherwise.
    random_state : int, RandomState or None
        Seed of weights and excerpts; an int gives the same network as ``--seed``.
    engine : {"auto", "numba", "torch"}
    device : {"auto", "cpu", "cuda"}
    n_jobs : int or None
        Worker processes that read audio files; None or -1: one per core.
    store : path or None
        A store that has the features of some of the audio files, which are then not decoded.
    verbose : bool
        Show progress.

    Attributes
    ----------
    task_ : Classification, Tags or Regression
        What ``y`` is.
    classes_ : ndarray
        The classes; only for classification.
    n_features_in_ : int
        Values per frame.
    losses_ : ndarray [ensemble, epochs], float64
        Mean loss per track in each epoch, of each network.
    n_tracks_ : int

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import SVC
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(label, 1, (30, 8)).astype(np.float32) for label in (0, 1, 0, 1)]
    >>> embedding = SimilarityEmbedding(network="gru:hidden=4,units=3", epochs=2, excerpt=10, engine="torch")
    >>> embedding.fit_transform(X, ["calm", "loud", "calm", "loud"]).shape
    (4, 3)
    >>> make_pipeline(embedding, SVC()).fit(X, ["calm", "loud", "calm", "loud"]).predict(X[:2]).shape
    (2,)
    """

    def __init__(
        self,
        *,
        features: str = defaults.FEATURES,
        network: str = defaults.NETWORK,
        similarity: str = "rbf",
        label_similarity: str | None = None,
        epochs: int = defaults.EPOCHS,
        batch: int = defaults.BATCH,
        excerpt: int = defaults.EXCERPT,
        optimizer: str = defaults.OPTIMIZER,
        normalize: str | None = defaults.NORMALIZE,
        deltas: bool | None = None,
        ensemble: int = defaults.ENSEMBLE,
        task: str = "auto",
        random_state: Any = defaults.SEED,
        engine: str = defaults.ENGINE,
        device: str = defaults.DEVICE,
        n_jobs: int | None = None,
        store: str | os.PathLike[str] | None = None,
        verbose: bool = False,
    ) -> None:
        self.features = features
        self.network = network
        self.similarity = similarity
        self.label_similarity = label_similarity
        self.epochs = epochs
        self.batch = batch
        self.excerpt = excerpt
        self.optimizer = optimizer
        self.normalize = normalize
        self.deltas = deltas
        self.ensemble = ensemble
        self.task = task
        self.random_state = random_state
        self.engine = engine
        self.device = device
        self.n_jobs = n_jobs
        self.store = store
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: Any, y: Any) -> SimilarityEmbedding:
        """Train the network.

        Parameters
        ----------
        X : sequence of ndarray [n_frames, n_values], or of path; or ndarray [n, n_frames, n_values] or [n, n_values]
            Tracks: frames, audio files, or vectors, which are tracks of one frame.
        y : sequence of class, ndarray [n, n_tags] of 0 and 1, or ndarray [n] or [n, n_targets]
            Classes, tags or targets.

        Returns
        -------
        SimilarityEmbedding
            This estimator.

        Raises
        ------
        ValueError
            If the tracks or the labels are empty, ragged, or not finite.
        MirembedError
            If a parameter is wrong, an audio file cannot be read, or the training diverges.
        """
        from mirembed.training.loop import TrainingData, train
        from mirembed.training.network import PluginNetwork, one_thread
        from mirembed.training.similarity import PluginSimilarity

        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        settings = self._settings()
        with reporting(bool(self.verbose)) as progress:
            registry = discover(progress.note)
            tracks, features = self._tracks(X, registry, fitting=True)
            check_consistent_length(tracks, y)
            self.task_, labels = self._labels(y)
            if len(tracks) < 2:
                raise ValueError("X has n_samples=1 track: learning a similarity takes at least two")
            self._one_frame = features.hop is None if features else all(len(one) == 1 for one in tracks)
            self._form = InputForm.of(None if self._one_frame else 1.0, settings.excerpt, settings.deltas)
            frames, starts, lengths = _flat(tracks)
            self._normalization = self._fit_normalization(frames, starts, lengths)
            network = PluginNetwork.create(registry, Spec.parse(settings.network[0]))
            training = self._training(settings, network, frames.shape[1], progress.note)
            [approach] = settings.approaches
            similarities = PluginSimilarity.of_approach(registry, approach, training.device)
            vectors = label_vectors(self.task_, labels, scale_for(self.task_, labels))
            data = TrainingData(frames, starts, lengths, self.task_, vectors, self._normalization)
            progress.start(f"training for {settings.epochs} epochs", settings.ensemble * settings.epochs)
            trained = []
            for member in range(settings.ensemble):
                done = member * settings.epochs

                def on_epoch(epoch: int, done: int = done) -> None:
                    progress.update(done + epoch)

                with one_thread():
                    one = replace(training, member=member)
                    trained.append(train(data, network, one, *similarities, on_epoch=on_epoch))
        for note in [one.note for one in trained if one.note][:1]:
            warnings.warn(note, ConvergenceWarning, stacklevel=2)
        inputs = self._form.inputs(frames.shape[1])
        weights = [NetworkWeights.of(one.network, network.choice, inputs, registry) for one in trained]
        # Without the registry, which cannot be pickled.
        self._choice, self._inputs = network.choice, inputs
        self._weights = [(one.units, dict(one.arrays)) for one in weights]
        self._engine = training.engine
        self._n_features_out = sum(units for units, _ in self._weights)
        self.losses_ = np.array([one.losses for one in trained])
        self.n_tracks_ = len(tracks)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed tracks. The embedding of a track is bit-identical, whatever the other tracks are.

        Parameters
        ----------
        X : sequence of ndarray [n_frames, n_values], or of path; or ndarray [n, n_frames, n_values] or [n, n_values]
            As in `fit`.

        Returns
        -------
        ndarray [n, units], float32

        Raises
        ------
        ValueError
            If the tracks are empty, ragged, not finite, or not like those of `fit`.
        MirembedError
            If an audio file cannot be read, or the network's plugin is missing.
        """
        from mirembed.training.engine import make_engine

        check_is_fitted(self)
        registry = discover(NO_PROGRESS.note)
        tracks, _ = self._tracks(X, registry, fitting=False)
        longest = max(map(len, tracks))
        if self._one_frame and longest > 1:
            raise ValueError(f"X has a track of {longest} frames, and the tracks in fit had a single one")
        frames, starts, lengths = _flat(tracks)
        found = [
            make_engine(
                self._engine, NetworkWeights(self._choice, self._inputs, units, arrays, registry), self._form
            ).embed_tracks(frames, starts, lengths, self._normalization)
            for units, arrays in self._weights
        ]
        return np.concatenate(found, axis=1)

    def _settings(self) -> Settings:
        """Return the parameters as the settings of a fit, checked."""
        if self.normalize not in ("training", None):
            raise SpecError(f"normalize is {self.normalize!r}: expected 'training' or None")
        if self.task not in _TASKS:
            raise SpecError(f"task is {self.task!r}: expected {', '.join(_TASKS[:-1])} or {_TASKS[-1]}")
        jobs = self.n_jobs
        if not (jobs is None or (isinstance(jobs, int | np.integer) and (jobs == -1 or jobs >= 1))):
            raise SpecError(f"n_jobs is {jobs!r}: expected a number of processes, or None or -1 for one per core")
        names = ("network", "similarity", "label_similarity", "epochs", "batch", "excerpt", "optimizer", "deltas")
        words = {name: getattr(self, name) for name in (*names, "ensemble", "engine", "device")}
        if missing := [name for name, value in words.items() if value is None and name not in _OPTIONAL]:
            raise SpecError(f"{missing[0]} is None: expected a value")
        settings = Settings().updated(given_words(words), type(self).__name__)
        settings.check()
        return settings

    def _training(self, settings: Settings, network: Any, n_values: int, note: Any) -> TrainingSettings:
        """Choose device and engine, and return the settings of the training."""
        from mirembed.fit.resolve import choose_device
        from mirembed.training.engine import NetworkUse, choose_engine
        from mirembed.training.loop import TrainingSettings
        from mirembed.training.network_checks import check_with_engine
        from mirembed.training.optimizer import resolve_optimizer

        resolve_optimizer(settings.optimizer)
        device = choose_device(settings.device)
        engine = choose_engine(
            settings.engine, device, note, [NetworkUse(network.choice, "frames", n_values, self._form)]
        )
        check_with_engine(network, self._form.inputs(n_values), self._form, engine)
        return TrainingSettings(
            epochs=settings.epochs,
            batch=settings.batch,
            optimizer=settings.optimizer,
            form=self._form,
            seed=self._seed(),
            device=device,
            engine=engine,
        )

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            if not 0 <= self.random_state < 2**32:
                raise ValueError(f"random_state is {self.random_state}: expected a number from 0 to {2**32 - 1}")
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def _fit_normalization(
        self, frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> Normalization:
        if self.normalize is None:
            n_values = frames.shape[1]
            return Normalization(np.zeros(n_values, np.float32), np.ones(n_values, np.float32))
        return Normalization.fit(Moments.of(frames, starts, lengths))

    def _labels(self, y: Any) -> tuple[Task, NDArray[Any]]:
        """Return the task and the labels as `mirembed.store.tracks.Tracks.label_array` has them."""
        array = check_array(y, ensure_2d=False, dtype=None, input_name="y", estimator=self)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        task = self.task
        if task == "auto":
            kinds = {"binary": "classification", "multiclass": "classification", "multilabel-indicator": "tags"}
            task = kinds.get(type_of_target(array, input_name="y"), "regression")
        if task == "classification":
            if array.ndim != 1:
                raise ValueError(f"y has shape {array.shape}: expected one class for each track")
            encoder = LabelEncoder().fit(array)
            self.classes_ = encoder.classes_
            if len(self.classes_) < 2:
                raise ValueError(
                    f"y has one class, {str(self.classes_[0])!r}: learning a similarity takes at least two"
                )
            return Classification(tuple(map(str, self.classes_))), encoder.transform(array).astype(np.int64)
        columns = array[:, None] if array.ndim == 1 else array
        if task == "tags":
            if not np.isin(columns, (0, 1)).all():
                raise ValueError("y has values other than 0 and 1, so it does not say which tracks have which tags")
            return Tags(tuple(f"tag {n}" for n in range(columns.shape[1]))), columns.astype(np.int64)
        names = tuple(Target(f"target {n}") for n in range(columns.shape[1]))
        return Regression(names), columns.astype(np.float64)

    def _tracks(
        self, X: Any, registry: Registry, *, fitting: bool
    ) -> tuple[list[NDArray[np.float32]], FeaturesInfo | None]:
        """Return the frames of tracks, and for audio files the features that they are."""
        one_by_one = _one_by_one(X)
        if one_by_one is None:
            array = validate_data(self, X, dtype=np.float32, reset=fitting)
            return [row[None, :] for row in array], None
        features = None
        if isinstance(one_by_one[0], str | os.PathLike):
            features = resolve_features(registry, self.features)
            tracks = self._frames_of_files(one_by_one, features, registry)
        else:
            tracks = [_checked_frames(one, number) for number, one in enumerate(one_by_one)]
        if fitting:
            self.n_features_in_: int = tracks[0].shape[1]
        n_values = self.n_features_in_
        for number, one in enumerate(tracks):
            if one.shape[1] != n_values:
                where = "the first" if fitting else "those in fit"
                raise ValueError(
                    f"track {number} of X has {one.shape[1]} values per frame, and {where} {n_values}: X has "
                    f"{one.shape[1]} features, but {type(self).__name__} is expecting {n_values} features as input"
                )
        return tracks, features

    def _frames_of_files(
        self, paths: Sequence[Any], features: FeaturesInfo, registry: Registry
    ) -> list[NDArray[np.float32]]:
        """Return the frames of audio files, from the store or by decoding them."""
        from mirembed.api.store import Store
        from mirembed.extract import FileToExtract, extract_files
        from mirembed.models.inference import stack
        from mirembed.store.recordings import KnownRecordings
        from mirembed.workers import available_jobs

        files = [Path(path) for path in paths]
        parts: dict[int, list[NDArray[np.float32]]] = {}
        if self.store is not None:
            place = store_of(Store(self.store))
            known = KnownRecordings(place)
            recordings = {number: name for number, path in enumerate(files) if (name := known.of(path)) is not None}
            shards = [place.features(part) for part in features.parts]
            if all(one.exists for one in shards):
                stored = [dict(one.frames_of(set(recordings.values()))) for one in shards]
                for number, name in recordings.items():
                    if all(name in one for one in stored):
                        parts[number] = [one[name] for one in stored]
        missing = [number for number in range(len(files)) if number not in parts]
        jobs = available_jobs() if self.n_jobs in (None, -1) else int(self.n_jobs)
        wanted = [FileToExtract(files[number], (), features.parts) for number in missing]
        with contextlib.closing(extract_files(wanted, jobs)) as outcomes:
            for outcome in outcomes:
                path, result = wanted[outcome.index].path, outcome.result
                if isinstance(result, str) or result.failures:
                    reason = result if isinstance(result, str) else next(iter(result.failures.values()))
                    raise AudioError(f"{printable(path)}: {reason}")
                parts[missing[outcome.index]] = [result.frames[digest] for digest in features.digests]
        return [stack(features, parts[number], printable(path)) for number, path in enumerate(files)]


def _one_by_one(X: Any) -> Sequence[Any] | None:
    """Return tracks that are given one by one; None if ``X`` is a table of vectors."""
    if isinstance(X, str | os.PathLike):
        raise ValueError(f"X is the path {printable(Path(X))}: expected a list of paths")
    if hasattr(X, "ndim") or hasattr(X, "shape"):
        if X.ndim != 3 and not (X.ndim == 1 and getattr(X.dtype, "kind", "O") in "OUT"):
            return None
        X = list(X)
    if not isinstance(X, list | tuple):
        return None
    if not len(X):
        raise ValueError("X is empty, found array with 0 sample(s): expected at least two tracks")
    kinds = {isinstance(one, str | os.PathLike) for one in X}
    if len(kinds) > 1:
        raise ValueError("X has audio files and frames: expected one or the other")
    if kinds == {True} or any(_is_frames(one) for one in X):
        return X
    return None


def _is_frames(one: Any) -> bool:
    """Whether a track is given as frames: an array, or rows in a list."""
    rows = one[:1] if isinstance(one, list | tuple) else ()
    return getattr(one, "ndim", 0) == 2 or any(isinstance(row, list | tuple | np.ndarray) for row in rows)


def _checked_frames(frames: Any, number: int) -> NDArray[np.float32]:
    """Return the frames of a track as float32, C-contiguous."""
    try:
        array = np.ascontiguousarray(frames, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"track {number} of X is no array [n_frames, n_values] of numbers: {error}") from error
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"track {number} of X has shape {array.shape}: expected [n_frames, n_values], with at least one frame"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"track {number} of X has values that are NaN or infinite")
    return array


def _flat(
    tracks: Sequence[NDArray[np.float32]],
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return all frames in one array, and the first row and the number of frames of each track."""
    lengths = np.array([len(one) for one in tracks], np.int64)
    return np.concatenate(tracks), np.cumsum(lengths) - lengths, lengths
