"""One training of a run, in a worker process: models of its fold, and what they predict for its test tracks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mirembed.fit.job import Fitted, Fitter, Job, fit_models, train_together
from mirembed.models.estimators import check_storable
from mirembed.registry import Registry
from mirembed.runs.folder import PartFolder
from mirembed.runs.tables import embeddings_table, predictions_table
from mirembed.store.root import slug
from mirembed.training.checkpoints import save_checkpoint
from mirembed.training.loop import Trained
from mirembed.training.network import EmbeddingNetwork
from mirembed.training.stacked import in_stacks

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Part:
    """One training of a run, with the tracks whose labels it is asked to predict.

    Attributes
    ----------
    job : Job
    seed, fold : int
    test : ndarray [n_test], int64
        Rows of the test tracks.
    ids : list of str
        Of all tracks.
    on_disk : PartFolder
    models : pathlib.Path or None
        Where the models are kept, if they are.
    keep_embeddings : {"all", "last", "none"}
        At which checkpoints the embeddings of all tracks are kept.
    """

    job: Job
    seed: int
    fold: int
    test: NDArray[np.int64]
    ids: list[str]
    on_disk: PartFolder
    models: Path | None
    keep_embeddings: str

    @property
    def scored_epochs(self) -> list[int]:
        """After which epochs its network is scored, the last among them."""
        settings = self.job.settings
        every = settings.checkpoint_every or settings.epochs
        return [*range(every, settings.epochs, every), settings.epochs]

    @property
    def is_trained(self) -> bool:
        """Whether no network is left to train."""
        return self.on_disk.exists or self.network(self.job.settings.epochs).exists()

    def network(self, epoch: int) -> Path:
        """Return the file in which a network that was trained in a stack waits to be scored."""
        return self.on_disk.unfinished / f"{epoch:06d}-network.safetensors"


def evaluate_part(part: Part, on_epoch: Callable[[int], None]) -> None:
    """Fit the models of one training, predict its test tracks at every checkpoint, and write the part.

    A part that is written is left as it is: of two workers of a cluster, one of which was lost, both may write it.
    """
    if part.on_disk.exists:
        return
    registry = Registry.discover()
    on_checkpoint = functools.partial(_keep_checkpoint, part) if part.job.settings.checkpoint_every else None
    _finish(part, fit_models(part.job, registry, on_epoch, on_checkpoint), registry)


def train_stack(parts: Sequence[Part], on_epoch: Callable[[int], None]) -> None:
    """Train the networks of several parts together and leave them, as they are at every checkpoint, for `score_part`.

    Parameters
    ----------
    parts : sequence of Part
        One of `make_stacks`. Those that are trained already count among the places of the stack, so that the others'
        numbers do not depend on them.
    on_epoch : callable
        Told the number of epochs done, those of all networks added up.
    """
    missing = [part for part in parts if not part.is_trained]

    def keep(position: int, epoch: int, trained: Trained) -> None:
        save_checkpoint(missing[position].network(epoch), trained.modules, None, trained.losses)

    together = train_together([part.job for part in missing], len(parts), Registry.discover(), on_epoch, keep)
    for position, trained in enumerate(together):
        keep(position, missing[position].job.settings.epochs, trained)


def score_part(part: Part, on_score: Callable[[int], None]) -> None:
    """Fit the models to the networks that `train_stack` left, and write the part as `evaluate_part` does.

    What an interruption left is gone on with.

    Parameters
    ----------
    on_score : callable
        Told the number of checkpoints that are scored.
    """
    if part.on_disk.exists:
        return
    registry = Registry.discover()
    fitter = Fitter.of(part.job, registry)
    *before, last = part.scored_epochs
    scored = part.on_disk.scored_epochs()
    for number, epoch in enumerate(before, 1):
        if epoch not in scored:
            _keep_checkpoint(part, epoch, fitter.fit_to(fitter.restore(part.network(epoch)), notes=False))
        on_score(number)
    _finish(part, fitter.fit_to(fitter.restore(part.network(last))), registry)


def make_stacks(parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """Divide the parts of a run that train a network into those whose networks are trained together.

    Parts that are trained are among them, and stacks of nothing else are left out.
    """
    stacks = in_stacks([part for part in parts if part.job.approach.trains])
    return [stack for stack in stacks if not all(part.is_trained for part in stack)]


def _keep_checkpoint(part: Part, epoch: int, fitted: Fitted) -> None:
    part.on_disk.write_checkpoint(epoch, *_score(part, fitted, epoch, part.keep_embeddings == "all"))


def _finish(part: Part, fitted: Fitted, registry: Registry) -> None:
    if part.models is not None:
        _save_models(part, fitted, part.models, registry)
    last = part.job.settings.epochs if part.job.approach.trains else 0
    predictions, embeddings = _score(part, fitted, last, part.keep_embeddings != "none")
    part.on_disk.write(
        predictions,
        embeddings,
        fitted.losses,
        {name: model.provenance["notes"] for name, model in fitted.models.items()},
        checkpoint_epoch=last if part.job.settings.checkpoint_every and part.job.approach.trains else None,
    )
    if part.job.checkpoint is not None:
        part.job.checkpoint.unlink(missing_ok=True)


def _score(part: Part, fitted: Fitted, epoch: int, keep: bool) -> tuple[pa.Table, pa.Table | None]:
    """Return the predictions for the test tracks and, if they are to be kept, the embeddings of all tracks."""
    import pyarrow as pa

    tracks = np.arange(len(part.ids)) if keep else part.test
    vectors = _embed(part, fitted, tracks)  # [n_tracks or n_test, units]
    of_test = vectors[part.test] if keep else vectors
    tables = []
    for method in part.job.methods:
        model = fitted.models[method.name]
        ids = [part.ids[row] for row in part.test]
        truth, predicted = part.job.labels[part.test], model.predict(of_test)
        tables.append(predictions_table(model.task, method, part.seed, part.fold, ids, truth, predicted))
    embeddings = None
    if keep:
        trained = np.isin(np.arange(len(part.ids)), part.job.rows)
        place = (part.job.approach.name, part.seed, part.fold, epoch)
        embeddings = embeddings_table(*place, part.ids, trained, vectors)
    return pa.concat_tables(tables), embeddings


def _embed(part: Part, fitted: Fitted, tracks: NDArray[np.int64]) -> NDArray[np.float32]:
    """Embed tracks: ndarray ``[n_tracks, units]``. Those that the learner was fitted to are at hand."""
    job, places = part.job, part.job.frames
    [model, *_] = fitted.models.values()
    known = np.zeros(len(part.ids), bool)
    if fitted.embeddings is not None:
        known[job.rows] = True
    unknown = tracks[~known[tracks]]
    embedded = model.embed(places.open(), places.starts[unknown], places.lengths[unknown])
    vectors = np.empty((len(part.ids), embedded.shape[1]), np.float32)
    if fitted.embeddings is not None:
        vectors[job.rows] = fitted.embeddings
    vectors[unknown] = embedded
    return vectors[tracks]


def _save_models(part: Part, fitted: Fitted, models: Path, registry: Registry) -> None:
    for method in part.job.methods:
        folder = models / f"{slug(method.name)}-seed{part.seed}-fold{part.fold}"
        model = fitted.models[method.name]
        if folder.exists() or not isinstance(model.network, EmbeddingNetwork):
            continue
        if method.learner is not None and model.estimator is not None:
            check_storable(model.estimator, method.learner, registry)
        model.save(folder)


def read_notes(part: Part) -> dict[str, list[str]]:
    """Return what a user should be told of the models of a finished part, by method."""
    return {
        method: [f"{method}: {note} (seed {part.seed}, fold {part.fold})" for note in told]
        for method, told in part.on_disk.read_notes().items()
    }
