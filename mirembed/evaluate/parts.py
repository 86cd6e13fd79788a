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
from mirembed.fit.job import Fitted, Job, fit_models
from mirembed.hookspecs import Classification
from mirembed.models.estimators import check_storable
from mirembed.models.model import Model, class_names
from mirembed.registry import Registry
from mirembed.store.files import read_table, write_table, writing
from mirembed.store.root import slug

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


def evaluate_part(part: Part, on_epoch: Callable[[int], None]) -> None:
    """Fit the models of one training, predict its test tracks at every checkpoint, and write the part.

    A part that is written is left as it is: of two workers of a cluster, one of which was lost, both may write it.
    """
    if part.folder.exists():
        return
    registry = Registry.discover()
    on_checkpoint = functools.partial(_keep_checkpoint, part) if part.job.settings.checkpoint_every else None
    _finish(part, fit_models(part.job, registry, on_epoch, on_checkpoint), registry)


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
        if folder.exists() or not model.savable:
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
