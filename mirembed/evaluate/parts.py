"""One training of a run, in a worker process: models of its fold, and what they predict for its test tracks."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.config.approaches import Method
from mirembed.fit.job import Fitted, Fitter, Job, fit_models, train_together
from mirembed.hookspecs import Classification
from mirembed.models.estimators import check_storable
from mirembed.models.model import Model, class_names
from mirembed.registry import Registry
from mirembed.store.files import read_table, write_table, writing
from mirembed.store.root import slug
from mirembed.training.checkpoints import save_checkpoint
from mirembed.training.loop import Trained
from mirembed.training.network import EmbeddingNetwork
from mirembed.training.stacked import in_stacks

if TYPE_CHECKING:
    import pyarrow as pa

PREDICTED = "predicted_"
"""Before a target's name: the column of its predictions."""

PREDICTIONS, CHECKPOINTS, EMBEDDINGS = "predictions.parquet", "checkpoints.parquet", "embeddings.parquet"
LOSSES, NOTES = "losses.json", "notes.json"


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
    folder : pathlib.Path
        Where the finished part goes.
    unfinished : pathlib.Path
        Where its checkpoints wait until then.
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
    folder: Path
    unfinished: Path
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
        return self.folder.exists() or self.network(self.job.settings.epochs).exists()

    def network(self, epoch: int) -> Path:
        """Return the file in which a network that was trained in a stack waits to be scored."""
        return self.unfinished / f"{epoch:06d}-network.safetensors"


def evaluate_part(part: Part, on_epoch: Callable[[int], None]) -> None:
    """Fit the models of one training, predict its test tracks at every checkpoint, and write the part.

    A part that is written is left as it is: of two workers of a cluster, one of which was lost, both may write it.
    """
    if part.folder.exists():
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
    if part.folder.exists():
        return
    registry = Registry.discover()
    fitter = Fitter.of(part.job, registry)
    *before, last = part.scored_epochs
    scored = {epoch for epoch, _ in _waiting(part, PREDICTIONS)}
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
    predictions, embeddings = _score(part, fitted, epoch, part.keep_embeddings == "all")
    if embeddings is not None:
        write_table(part.unfinished / f"{epoch:06d}-{EMBEDDINGS}", embeddings)
    write_table(part.unfinished / f"{epoch:06d}-{PREDICTIONS}", predictions)


def _finish(part: Part, fitted: Fitted, registry: Registry) -> None:
    if part.models is not None:
        _save_models(part, fitted, part.models, registry)
    _write(part, fitted)
    if part.job.checkpoint is not None:
        part.job.checkpoint.unlink(missing_ok=True)
    shutil.rmtree(part.unfinished, ignore_errors=True)


def _write(part: Part, fitted: Fitted) -> None:
    import pyarrow as pa

    last = part.job.settings.epochs if part.job.approach.trains else 0
    predictions, of_last = _score(part, fitted, last, part.keep_embeddings != "none")
    checkpoints = [(epoch, read_table(path)) for epoch, path in _waiting(part, PREDICTIONS)] + [(last, predictions)]
    embeddings = [read_table(path) for _, path in _waiting(part, EMBEDDINGS)]
    if of_last is not None:
        embeddings.append(of_last)
    with writing(part.folder) as temporary:
        temporary.mkdir()
        write_table(temporary / PREDICTIONS, predictions)
        if part.job.settings.checkpoint_every and part.job.approach.trains:
            numbered = [with_epoch(table, epoch) for epoch, table in checkpoints]
            write_table(temporary / CHECKPOINTS, pa.concat_tables(numbered))
        if embeddings:
            write_table(temporary / EMBEDDINGS, pa.concat_tables(embeddings))
        (temporary / LOSSES).write_text(json.dumps(fitted.losses))
        (temporary / NOTES).write_text(json.dumps({name: m.provenance["notes"] for name, m in fitted.models.items()}))


def _waiting(part: Part, ending: str) -> list[tuple[int, Path]]:
    """Return the epochs and files that the checkpoints left."""
    paths = sorted(part.unfinished.glob(f"[0-9]*-{ending}"))
    return [(int(path.name.partition("-")[0]), path) for path in paths]


def with_epoch(table: pa.Table, epoch: int) -> pa.Table:
    """Return a table of predictions with the column ``epoch`` after ``fold``."""
    import pyarrow as pa

    place = table.column_names.index("fold") + 1
    return table.add_column(place, "epoch", pa.array([epoch] * len(table), pa.int64()))


def _score(part: Part, fitted: Fitted, epoch: int, keep: bool) -> tuple[pa.Table, pa.Table | None]:
    """Return the predictions for the test tracks and, if they are to be kept, the embeddings of all tracks."""
    import pyarrow as pa

    tracks = np.arange(len(part.ids)) if keep else part.test
    vectors = _embed(part, fitted, tracks)  # [n_tracks or n_test, units]
    of_test = vectors[part.test] if keep else vectors
    tables = []
    for method in part.job.methods:
        model = fitted.models[method.name]
        tables.append(_answers(part, method, model, model.predict(of_test)))
    return pa.concat_tables(tables), _embeddings(part, vectors, epoch) if keep else None


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


def _answers(part: Part, method: Method, model: Model, outputs: NDArray[Any]) -> pa.Table:
    import pyarrow as pa

    n = len(part.test)
    columns: dict[str, Any] = {
        "method": [method.name] * n,
        "approach": [method.approach.name] * n,
        "learner": pa.array([None if method.learner is None else str(method.learner)] * n, pa.string()),
        "seed": pa.array([part.seed] * n, pa.int64()),
        "fold": pa.array([part.fold] * n, pa.int64()),
        "id": [part.ids[row] for row in part.test],
    }
    truth = part.job.labels[part.test]
    if isinstance(model.task, Classification):
        columns["label"] = class_names(model.task, truth)
        columns["prediction"] = class_names(model.task, outputs)
    else:
        for position, target in enumerate(model.task.targets):
            columns[target.name] = truth[:, position]
            columns[PREDICTED + target.name] = outputs[:, position]
    return pa.table(columns)


def _embeddings(part: Part, vectors: NDArray[np.float32], epoch: int) -> pa.Table:
    """Return the embeddings ``[n_tracks, units]`` of all tracks as a table, those of the training part marked."""
    import pyarrow as pa

    n, units = vectors.shape
    trained = np.isin(np.arange(n), part.job.rows)
    return pa.table(
        {
            "approach": [part.job.approach.name] * n,
            "seed": pa.array([part.seed] * n, pa.int64()),
            "fold": pa.array([part.fold] * n, pa.int64()),
            "epoch": pa.array([epoch] * n, pa.int64()),
            "id": part.ids,
            "in_sample": pa.array(trained, pa.bool_()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), units),
        }
    )


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
    notes: dict[str, list[str]] = json.loads((part.folder / NOTES).read_text())
    return {
        method: [f"{method}: {note} (seed {part.seed}, fold {part.fold})" for note in told]
        for method, told in notes.items()
    }


def read_losses(folder: Path) -> Sequence[float]:
    """Return the losses of a finished part, one an epoch."""
    losses: list[float] = json.loads((folder / LOSSES).read_text())
    return losses
