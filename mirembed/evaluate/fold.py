"""One training of a fold, in a worker process: its models, and what they predict for the test tracks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mirembed.fit.candidates import Selection
from mirembed.fit.job import Fitted, Job, train_network
from mirembed.fit.parallel import networks_apart
from mirembed.fit.selection import fit_selected, inner_results, is_resumed, total_epochs
from mirembed.fit.stacking import Stacking, out_of_fold
from mirembed.hookspecs import Tags
from mirembed.models.estimators import check_storable
from mirembed.models.model import Model
from mirembed.provenance import processor
from mirembed.registry import Registry
from mirembed.runs.folder import Output, PartFolder
from mirembed.runs.tables import embeddings_table, predictions_table
from mirembed.statistics.retrieval import retrieve
from mirembed.store.files import writing
from mirembed.store.root import slug
from mirembed.training.similarity import UNLEARNED, PluginSimilarity
from mirembed.workers.cost import Meter

_COST_INTERVAL = 5.0
"""Seconds between two notes of the cost of an unfinished training."""


@dataclass(frozen=True)
class SavedEmbeddings:
    """The embeddings of all tracks by a saved network, which are the same in all folds.

    Attributes
    ----------
    model : pathlib.Path
        Its folder.
    path : pathlib.Path
        Where `embed_saved` puts the embeddings.
    trained_on : ndarray, int64
        Rows of the tracks that the network was trained on.
    """

    model: Path
    path: Path
    trained_on: NDArray[np.int64]

    def read(self) -> NDArray[np.float32]:
        """Return the embeddings: ndarray ``[n_tracks, units]``."""
        from safetensors.numpy import load_file

        found: NDArray[np.float32] = load_file(self.path)["embeddings"]
        return found


@dataclass(frozen=True)
class FoldTraining:
    """One training of a fold, and the test tracks whose labels its models predict.

    Attributes
    ----------
    job : Job
    test : ndarray [n_test], int64
        Rows of the test tracks.
    ids : list of str
        Of all tracks.
    part : PartFolder
        Where its predictions go.
    models : pathlib.Path or None
        Where its models go, if they are kept.
    keep_embeddings : {"all", "last", "none"}
        The checkpoints at which the embeddings of all tracks are kept.
    saved : SavedEmbeddings or None
        Of a network that is not trained but used as it is.
    selection : Selection or None
        What is chosen for its methods; None if nothing is.
    stacking : Stacking or None
        Inner folds that predict the training tracks; None if none of its methods is a member of a stacked one.
    session : int
        1, or more if it was interrupted and resumed.
    """

    job: Job
    test: NDArray[np.int64]
    ids: list[str]
    part: PartFolder
    models: Path | None
    keep_embeddings: Literal["all", "last", "none"]
    saved: SavedEmbeddings | None = None
    selection: Selection | None = None
    stacking: Stacking | None = None
    session: int = 1

    @property
    def epochs(self) -> int:
        """How many epochs it trains for, those of inner folds included."""
        return total_epochs(self.job, self.selection) + self.n_stacking_folds * self.job.epochs

    @property
    def n_stacking_folds(self) -> int:
        """Number of inner folds that predict the training tracks."""
        return 0 if self.stacking is None else self.stacking.n_folds

    @property
    def n_inner_networks(self) -> int:
        """How many networks are trained in inner folds."""
        chosen = 0 if self.selection is None else self.selection.n_inner_networks
        return self.job.ensemble * (chosen + (self.n_stacking_folds if self.job.approach.trains else 0))

    @property
    def is_resumed(self) -> bool:
        """Whether an interrupted run has done part of it."""
        return is_resumed(self.job) or (self.stacking is not None and self.stacking.is_resumed(self.job))

    @property
    def networks(self) -> list[Job]:
        """The networks to train before it; see `mirembed.fit.parallel`."""
        return networks_apart(self.job, self.job, self.selection, self.stacking)

    def train_network(self, network: Job, on_epoch: Callable[[int], None]) -> None:
        """Train one of them, and note its cost."""
        assert network.checkpoint is not None  # noqa: S101
        costs = _Costs(self, network.checkpoint.name, on_epoch)
        train_network(network, Registry.discover(), costs.note_epoch)
        costs.note()


class _Costs:
    """Notes every few seconds what a task of a training costs, in case it is interrupted."""

    def __init__(self, training: FoldTraining, task: str, on_epoch: Callable[[int], None]) -> None:
        self._part, self._task, self._meter, self._on_epoch = training.part, task, Meter(), on_epoch
        self._before = self._part.read_cost(task)
        self._session = max(training.session, self._before.sessions + 1)
        self._noted = self._meter.read()

    def note_epoch(self, epoch: int) -> None:
        if self._meter.read().wall_seconds - self._noted.wall_seconds > _COST_INTERVAL:
            self.note()
        self._on_epoch(epoch)

    def note(self) -> None:
        self._noted = self._meter.read()
        self._part.write_cost(self._task, replace(self._before + self._noted, sessions=self._session))


def train_fold(training: FoldTraining, on_epoch: Callable[[int], None]) -> None:
    """Fit the models of a training, predict its test tracks at every checkpoint, and write its part of the run.

    A part that exists is left as it is: if a cluster loses a worker and trains again, both may write it.
    """
    if training.part.exists:
        return
    registry, job, part, stacking = Registry.discover(), training.job, training.part, training.stacking
    costs = _Costs(training, "fold", on_epoch)

    def write_checkpoint(final: Job, epoch: int, fitted: Fitted) -> None:
        keep = training.keep_embeddings == "all"
        part.write_checkpoint(epoch, *_predict(training, final, fitted, epoch, keep_embeddings=keep))

    scores_checkpoints = bool(job.settings.checkpoint_every) and job.approach.trains
    saved = None if training.saved is None else (Model.load(training.saved.model, registry), training.saved.read())
    inner = None if stacking is None else _out_of_fold(training, stacking, registry, costs.note_epoch, saved)
    selected = fit_selected(
        job,
        training.selection,
        registry,
        lambda epoch: costs.note_epoch(training.n_stacking_folds * job.epochs + epoch),
        write_checkpoint if scores_checkpoints else None,
        saved,
    )
    outputs: list[Output] = []
    for final, fitted in selected.trainings:
        _save_models(training, fitted, registry)
        last = final.settings.epochs if job.approach.trains else 0
        keep = training.keep_embeddings != "none"
        predictions, embeddings = _predict(training, final, fitted, last, keep_embeddings=keep, registry=registry)
        checkpoint_epoch = last if scores_checkpoints else None
        outputs.append(Output(predictions, embeddings, fitted.losses, fitted.notes, checkpoint_epoch))
    costs.note()
    part.write(outputs, part.read_cost(), processor(job.settings.device), list(selected.rows()), inner)
    for final, _ in selected.trainings:
        final.delete_checkpoints()
    for path in [inner_results(job), *([] if stacking is None else stacking.results(job))]:
        if path is not None:
            path.unlink(missing_ok=True)


def _out_of_fold(
    training: FoldTraining,
    stacking: Stacking,
    registry: Registry,
    on_epoch: Callable[[int], None],
    saved: tuple[Model, NDArray[np.float32]] | None,
) -> pa.Table:
    """Return what the stacked methods of a training predict for its training tracks in inner folds."""
    job = training.job
    outputs = out_of_fold(job, stacking, registry, on_epoch, training.selection, saved)
    rows = job.rows[stacking.inner >= 0]
    ids, labels = [training.ids[row] for row in rows], job.labels[rows]
    tables = []
    for method in stacking.methods:
        one = outputs[method.name]
        made = job.task, method, *job.seed, ids, labels, one.predicted, one.scores, one.probabilities
        tables.append(predictions_table(*made))
    return pa.concat_tables(tables)


def embed_saved(training: FoldTraining, on_epoch: Callable[[int], None]) -> None:
    """Embed all tracks with the saved network of a training, and keep the embeddings for all folds."""
    from safetensors.numpy import save

    saved, frames = training.saved, training.job.frames
    assert saved is not None  # noqa: S101
    model = Model.load(saved.model, Registry.discover())
    vectors = model.embed(frames.open(), frames.starts, frames.lengths)
    with writing(saved.path) as temporary:
        temporary.write_bytes(save({"embeddings": vectors}))
    on_epoch(1)


def _predict(
    training: FoldTraining,
    final: Job,
    fitted: Fitted,
    epoch: int,
    *,
    keep_embeddings: bool,
    registry: Registry | None = None,
) -> tuple[pa.Table, pa.Table | None]:
    """Return the predictions for the test tracks and, if they are kept, the embeddings of all tracks.

    The methods of ``final`` share a network. In the tables they are what they were before anything was chosen. With
    ``registry``, the neighbors of the test tracks are scored too.
    """
    job, test, ids = training.job, training.test, training.ids
    seed, fold = job.seed
    names = {method.name for method in final.methods}
    methods = [method for method in job.methods if method.name in names]
    wanted = np.arange(len(ids)) if keep_embeddings else test
    saved = training.saved
    vectors = _embed(job, fitted, wanted) if saved is None else saved.read()  # [n_tracks, units]
    tested = [ids[row] for row in test]
    retrieval = None if registry is None else _retrieve(final, fitted, test, vectors[test], registry)
    predictions = []
    for method in methods:
        model = fitted.models[method.name]
        predicted, probabilities = model.predict(vectors[test]), model.probabilities(vectors[test])
        scores = model.scores(vectors[test]) if isinstance(job.task, Tags) else None
        made = job.task, method, seed, fold, tested, job.labels[test], predicted, scores, probabilities
        predictions.append(predictions_table(*made, retrieval))
    embeddings = None
    if keep_embeddings:
        in_sample = np.isin(wanted, job.rows if saved is None else saved.trained_on)
        embeddings = embeddings_table(methods[0], seed, fold, epoch, ids, in_sample, vectors)
    return pa.concat_tables(predictions), embeddings


def _retrieve(
    job: Job, fitted: Fitted, test: NDArray[np.int64], vectors: NDArray[np.float32], registry: Registry
) -> dict[str, NDArray[np.float64]] | None:
    """Score the neighbors of the test tracks ``[n_test, units]``, ranked as ``mirembed similar`` ranks them.

    Distance decides where similarities are equal, as those of an RBF may be that rounds to 1 or 0. None for an approach
    without an embedding.
    """
    if job.approach.name == "chance":
        return None
    similarity = PluginSimilarity.create(registry, job.approach.similarity or UNLEARNED)
    exact = vectors.astype(np.float64)

    def similarities_to(query: int) -> NDArray[np.floating[Any]]:
        closeness: NDArray[np.floating[Any]] = -np.linalg.norm(exact - exact[query], axis=1)
        return np.stack([similarity.ranking_similarities(vectors[query], vectors), closeness])

    [model, *_] = fitted.models.values()
    labels = job.labels[test] if model.scale is None else model.scale.scale(job.labels[test])
    return retrieve(similarities_to, labels, job.groups[test])


def _embed(job: Job, fitted: Fitted, wanted: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return an array of embeddings ``[n_tracks, units]`` in which only the rows ``wanted`` need be valid.

    The embeddings that a learner was fitted to are known already.
    """
    frames = job.frames
    [model, *_] = fitted.models.values()
    unknown = wanted if fitted.embeddings is None else np.setdiff1d(wanted, job.rows)
    embedded = model.embed(frames.open(), frames.starts[unknown], frames.lengths[unknown])
    vectors = np.zeros((len(frames.starts), embedded.shape[1]), np.float32)
    if fitted.embeddings is not None:
        vectors[job.rows] = fitted.embeddings
    vectors[unknown] = embedded
    return vectors


def _save_models(training: FoldTraining, fitted: Fitted, registry: Registry) -> None:
    """Save the models that have a network, if models are kept."""
    if training.models is None or training.saved is not None:
        return
    seed, fold = training.job.seed
    for method in training.job.methods:
        if method.name not in fitted.models:
            continue
        folder = training.models / f"{slug(method.name)}-seed{seed}-fold{fold}"
        model = fitted.models[method.name]
        if folder.exists() or not model.members:
            continue
        if method.learner is not None and model.estimator is not None:
            check_storable(model.estimator, method.learner, registry)
        model.save(folder)
