"""Cross-validation: plan the trainings, run those that are missing, gather the predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mirembed.approaches import Approach
from mirembed.config import Experiment
from mirembed.evaluate.choices import Evaluation
from mirembed.evaluate.runs import Run
from mirembed.evaluate.scores import PREDICTED, Scores, score
from mirembed.fitting import Job, fit_models, provenance
from mirembed.folds import Fold, Scheme, groups_on_both_sides, make_folds, official_folds
from mirembed.hookspecs import Classification
from mirembed.labels import undeclared
from mirembed.models import Model, class_names
from mirembed.progress import Progress, Silent, counted
from mirembed.provenance import versions
from mirembed.registry import Registry
from mirembed.schedule import run_trainings
from mirembed.store.files import read_table, write_json, write_table, writing
from mirembed.store.frames import Tracks
from mirembed.store.root import slug
from mirembed.store.rows import task_to_json
from mirembed.train import Settings

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class _Part:
    """One training of the run, with the tracks whose labels it is asked to predict."""

    job: Job
    seed: int
    fold: int
    test: NDArray[np.int64]
    ids: list[str]
    folder: Path
    models: Path | None


def evaluate(
    tracks: Tracks,
    experiment: Experiment,
    evaluation: Evaluation,
    registry: Registry,
    runs: Path,
    *,
    jobs: int,
    command: str = "",
    progress: Progress | None = None,
) -> tuple[Run, list[Scores]]:
    """Cross-validate every approach on the same folds.

    Network, normalisation and learner are fitted inside each fold, on its training tracks alone. A run that was
    interrupted goes on where it stopped, and its numbers are those of an uninterrupted one.

    Parameters
    ----------
    tracks : Tracks
    experiment : Experiment
    evaluation : Evaluation
    registry : Registry
    runs : pathlib.Path
        The folder in which the run gets a folder of its own.
    jobs : int
        Trainings side by side; the numbers do not depend on it.
    command : str
        As it was typed, for the manifest.

    Returns
    -------
    run : Run
    scores : list of Scores
        One for each approach.

    Raises
    ------
    EvaluationError
        If the tracks cannot be split, or a training diverges.
    StoreError
        If the run cannot be written, or is running elsewhere.
    """
    progress = progress or Silent()
    described = experiment.describe(registry)
    folds = _folds(tracks, evaluation, progress)
    configuration = {
        "dataset": {"spec": tracks.info.spec, "plugin": dict(tracks.info.plugin), "digest": tracks.digest},
        "task": task_to_json(tracks.task),
        "n_tracks": len(tracks.ids),
        "spectrogram": dict(tracks.info.parameters),
        **described,
        "folds": evaluation.scheme,
        "n_train": float(np.mean([len(fold.train) for of_seed in folds.values() for fold in of_seed])),
        "cv": None if evaluation.splits is not None else evaluation.n_folds,
        "excluded": dict(tracks.excluded),
        "seeds": list(evaluation.seeds),
        "keep_models": evaluation.keep_models,
        "versions": versions(),
    }
    run = Run.open(runs, slug(tracks.info.spec.partition(":")[0]), configuration, command)
    with run.lock():
        write_table(run.folder / "folds.parquet", _folds_table(tracks, folds))
        parts = _plan(tracks, experiment, evaluation, folds, run, described)
        missing = [part for part in parts if not part.folder.exists()]
        if len(missing) < len(parts):
            progress.note(f"going on with {run.folder}: {len(parts) - len(missing)} of {len(parts)} trainings are done")
        if undeclared(tracks.task):
            names = ", ".join(undeclared(tracks.task))
            progress.note(f"no range is declared for {names}: that of each fold's training tracks is taken")
        description = f"training {counted(len(missing), 'network')} for {counted(experiment.epochs, 'epoch')}"
        with tracks.frames.in_use():
            for _ in run_trainings(_evaluate_part, missing, experiment.epochs, jobs, progress, description):
                pass
        predictions = _gather(run, parts, experiment)
        scores = score(predictions, tracks.task, configuration["n_train"], official=evaluation.splits is not None)
        write_json(run.folder / "scores.json", {s.approach: s.to_json() for s in scores})
        run.finish()
    return run, scores


def _folds(tracks: Tracks, evaluation: Evaluation, progress: Progress) -> dict[int, list[Fold]]:
    """Return the folds of every seed, and tell what a user should know of them, once."""
    labels = _label_array(tracks)
    folds: dict[int, list[Fold]] = {}
    notes: dict[str, None] = {}
    for seed in evaluation.seeds:
        if evaluation.splits is not None:
            folds[seed], told = official_folds(tracks.task, labels, evaluation.splits, tracks.ids)
        else:
            folds[seed], told = make_folds(
                tracks.task,
                labels,
                scheme=cast(Scheme, evaluation.scheme),
                n_folds=evaluation.n_folds,
                seed=seed,
                groups=tracks.groups,
            )
        notes |= dict.fromkeys(told)
    some = folds[evaluation.seeds[0]]
    if crossing := groups_on_both_sides(some, tracks.groups):
        notes[
            f"warning: {crossing} of {sum(len(fold.test) for fold in some)} test tracks share their group (artist) "
            "with a training track of their fold, which flatters the scores; --folds grouped keeps groups apart"
        ] = None
    if copies := groups_on_both_sides(some, tracks.audio_hashes):
        notes[
            f"warning: {copies} test tracks have the very same audio as a training track of their fold; "
            "`mirembed datasets check` lists such copies"
        ] = None
    for note in notes:
        progress.note(note)
    return folds


def _label_array(tracks: Tracks) -> NDArray[Any]:
    return tracks.class_indices if isinstance(tracks.task, Classification) else np.asarray(tracks.labels)


def _plan(
    tracks: Tracks,
    experiment: Experiment,
    evaluation: Evaluation,
    folds: Mapping[int, Sequence[Fold]],
    run: Run,
    described: Mapping[str, Any],
) -> list[_Part]:
    """Return every training of the run, in an order that does not depend on what is done already."""
    command = run.manifest["command"]
    parts = []
    for seed, of_seed in folds.items():
        for fold in of_seed:
            for approaches in experiment.trainings:
                key = f"{slug(approaches[0].training)}-seed{seed}-fold{fold.index}"
                settings = Settings(experiment.epochs, experiment.batch, seed, fold.index, experiment.device)
                job = Job(
                    frames=tracks.frames,
                    task=tracks.task,
                    labels=_label_array(tracks),
                    rows=fold.train,
                    normalise=experiment.normalise,
                    approaches=approaches,
                    learner=experiment.learner,
                    settings=settings,
                    parameters=tracks.info.parameters,
                    provenance={**provenance(tracks, described, seed, command), "fold": fold.index},
                    checkpoint=run.checkpoints / f"{key}.safetensors",
                )
                ids = [tracks.ids[row] for row in fold.test]
                models = run.folder / "models" if evaluation.keep_models else None
                parts.append(_Part(job, seed, fold.index, fold.test, ids, run.parts / key, models))
    return parts


def _evaluate_part(part: _Part, on_epoch: Callable[[int], None]) -> None:
    """Fit the models of one training, predict its test tracks, and write the part."""
    import pyarrow as pa

    job = part.job
    fitted = fit_models(job, Registry.discover(), on_epoch)
    frames = job.frames.open()
    tables = []
    embeddings: NDArray[np.float32] | None = None
    for approach in job.approaches:
        model = fitted.models[approach.name]
        if embeddings is None:
            embeddings = model.embed(frames, job.frames.starts[part.test], job.frames.lengths[part.test])
        tables.append(_predictions(part, approach, model, model.predict(embeddings)))
        if part.models is not None:
            folder = part.models / f"{slug(approach.name)}-seed{part.seed}-fold{part.fold}"
            if not folder.exists():
                model.save(folder)
    with writing(part.folder) as temporary:
        temporary.mkdir()
        write_table(temporary / "predictions.parquet", pa.concat_tables(tables))
        (temporary / "losses.json").write_text(json.dumps(fitted.losses))
    if job.checkpoint is not None:
        job.checkpoint.unlink(missing_ok=True)


def _predictions(part: _Part, approach: Approach, model: Model, outputs: NDArray[Any]) -> pa.Table:
    import pyarrow as pa

    n = len(part.ids)
    columns: dict[str, Any] = {
        "approach": [approach.name] * n,
        "seed": pa.array([part.seed] * n, pa.int64()),
        "fold": pa.array([part.fold] * n, pa.int64()),
        "id": part.ids,
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


def _gather(run: Run, parts: Sequence[_Part], experiment: Experiment) -> pa.Table:
    """Put the parts together: ``predictions.parquet`` sorted by approach, seed, fold, and ``curves.parquet``."""
    import pyarrow as pa

    tables = [read_table(part.folder / "predictions.parquet") for part in parts]
    predictions = pa.concat_tables(tables)
    names = predictions["approach"].to_pylist()
    order = [i for approach in experiment.approaches for i, name in enumerate(names) if name == approach.name]
    predictions = predictions.take(pa.array(order, pa.int64()))
    write_table(run.folder / "predictions.parquet", predictions)
    curves = [
        {"approach": approach.name, "seed": part.seed, "fold": part.fold, "epoch": epoch, "loss": loss}
        for part in parts
        for approach in part.job.approaches
        for epoch, loss in enumerate(json.loads((part.folder / "losses.json").read_text()), 1)
    ]
    write_table(run.folder / "curves.parquet", pa.Table.from_pylist(curves))
    return predictions


def _folds_table(tracks: Tracks, folds: Mapping[int, Sequence[Fold]]) -> pa.Table:
    import pyarrow as pa

    rows = [
        {"seed": seed, "id": tracks.ids[row], "fold": fold.index}
        for seed, of_seed in folds.items()
        for fold in of_seed
        for row in fold.test
    ]
    return pa.Table.from_pylist(rows)
