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

from mirembed.approaches import Method
from mirembed.estimators import check_storable
from mirembed.fitting import Fitted, Job, fit_models, fit_stack
from mirembed.hookspecs import Classification
from mirembed.models import Model, class_names
from mirembed.network import EmbeddingNetwork
from mirembed.registry import Registry
from mirembed.stacked import in_stacks
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


def evaluate_stack(parts: Sequence[Part], on_epoch: Callable[[int], None]) -> None:
    """Do what `evaluate_part` does for several parts, whose networks are trained together.

    Parameters
    ----------
    parts : sequence of Part
        One of `make_stacks`. A part that is written already keeps its place, so that the others' numbers do not
        depend on it.
    on_epoch : callable
        Told the number of epochs done, those of all networks added up.
    """
    if not parts[0].job.approach.trains:
        for part in parts:
            evaluate_part(part, on_epoch)
        return
    registry = Registry.discover()
    missing = [part for part in parts if not part.folder.exists()]

    def on_checkpoint(position: int, epoch: int, fitted: Fitted) -> None:
        _keep_checkpoint(missing[position], epoch, fitted)

    every = parts[0].job.settings.checkpoint_every
    together = fit_stack(
        [part.job for part in missing], len(parts), registry, on_epoch, on_checkpoint if every else None
    )
    for part, fitted in zip(missing, together, strict=True):
        _finish(part, fitted, registry)


def make_stacks(parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """Divide the parts of a run into those whose networks are trained together; a part without training is alone.

    Parts that are done are among them, and stacks of nothing else are left out.
    """
    stacks = in_stacks([part for part in parts if part.job.approach.trains])
    stacks += [(part,) for part in parts if not part.job.approach.trains]
    return [stack for stack in stacks if not all(part.folder.exists() for part in stack)]


def _keep_checkpoint(part: Part, epoch: int, fitted: Fitted) -> None:
    if part.keep_embeddings == "all":
        write_table(part.unfinished / f"{epoch:06d}-{EMBEDDINGS}", _embeddings(part, fitted, epoch))
    write_table(part.unfinished / f"{epoch:06d}-{PREDICTIONS}", _predictions(part, fitted))


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
    predictions = _predictions(part, fitted)
    checkpoints = [(epoch, read_table(path)) for epoch, path in _waiting(part, PREDICTIONS)] + [(last, predictions)]
    embeddings = [read_table(path) for _, path in _waiting(part, EMBEDDINGS)]
    if part.keep_embeddings != "none":
        embeddings.append(_embeddings(part, fitted, last))
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


def _predictions(part: Part, fitted: Fitted) -> pa.Table:
    import pyarrow as pa

    places = part.job.frames
    frames = places.open()
    embeddings: NDArray[np.float32] | None = None
    tables = []
    for method in part.job.methods:
        model = fitted.models[method.name]
        if embeddings is None:
            embeddings = model.embed(frames, places.starts[part.test], places.lengths[part.test])
        tables.append(_answers(part, method, model, model.predict(embeddings)))
    return pa.concat_tables(tables)


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


def _embeddings(part: Part, fitted: Fitted, epoch: int) -> pa.Table:
    """Return the embeddings of all tracks, those of the training part marked."""
    import pyarrow as pa

    places = part.job.frames
    [model, *_] = fitted.models.values()
    vectors = model.embed(places.open(), places.starts, places.lengths)  # [n_tracks, units]
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
