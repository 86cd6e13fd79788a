"""Evaluate on one dataset: plan the trainings, run those that are missing, gather the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mirembed.config import Experiment
from mirembed.evaluate.choices import Evaluation
from mirembed.evaluate.parts import (
    CHECKPOINTS,
    EMBEDDINGS,
    PREDICTIONS,
    Part,
    read_losses,
    read_notes,
)
from mirembed.evaluate.planning import draw_folds, folds_table, label_array, plan
from mirembed.evaluate.sizes import Folds, Sizes, chance
from mirembed.evaluate.work import run_parts
from mirembed.models.estimators import check_storable
from mirembed.models.learners import new_estimator
from mirembed.progress import Progress, Silent
from mirembed.provenance import versions
from mirembed.registry import Registry
from mirembed.runs.folder import Run
from mirembed.runs.scores import Scores, score, without_width
from mirembed.runs.tables import CURVES, losses_by_epoch
from mirembed.store.files import read_table, write_json, write_table
from mirembed.store.frames import Tracks
from mirembed.store.root import slug
from mirembed.store.rows import task_to_json
from mirembed.training.labels import undeclared


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
    folder: Path | None = None,
    repeats: Run | None = None,
    experiment_file: str = "",
) -> tuple[Run, list[Scores]]:
    """Evaluate every method on the same folds.

    Network, normalization and learner are fitted inside each fold, on its training tracks alone. A run that was
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
    folder : pathlib.Path or None
        The run's own folder, where it is not to be chosen: a finished run there is not repeated.
    repeats : Run or None
        A run that is to be repeated: what is not as it was then is said.
    experiment_file : str
        The text of the experiment file that repeats the run.

    Returns
    -------
    run : Run
    scores : list of Scores
        One for each method.

    Raises
    ------
    EvaluationError
        If the tracks cannot be split, or a training diverges.
    ModelError
        If models are to be kept, and one with the learner could not be loaded again.
    StoreError
        If the run cannot be written, or is running elsewhere.
    """
    progress = progress or Silent()
    described = experiment.describe(registry)
    if evaluation.keep_models:
        for learner in experiment.learners:
            check_storable(new_estimator(registry, learner, tracks.task), learner, registry)
    folds, of_folds = draw_folds(tracks, evaluation)
    notes = [*tracks.notes, *of_folds]  # those of the tracks were told when the store was opened
    configuration = _configuration(tracks, experiment, evaluation, folds, described)
    if repeats is not None:
        for difference in repeats.differences(configuration):
            progress.note(f"warning: {repeats.folder.name} may not come out again: {difference}")
    if folder is None:
        run = Run.open(runs, slug(tracks.info.spec.partition(":")[0]), configuration, command)
    else:
        run = Run.at(folder, configuration, command)
    with run.lock():
        if not run.manifest["finished"]:
            for note in [*of_folds, *_not_kept(experiment, evaluation)]:
                progress.note(note)
            write_json(run.folder / "notes.json", notes)
            write_table(run.folder / "folds.parquet", folds_table(tracks, folds))
            if experiment_file:
                run.write_experiment(experiment_file)
            parts = plan(tracks, experiment, evaluation, folds, run, described)
            done = sum(part.folder.exists() for part in parts)
            if done:
                progress.note(f"going on with {run.folder}: {done} of {len(parts)} trainings are done")
            if undeclared(tracks.task):
                names = ", ".join(undeclared(tracks.task))
                progress.note(f"no range is declared for {names}: that of each fold's training tracks is taken")
            with tracks.frames.in_use():
                run_parts(parts, jobs, progress)
            _gather(run, parts, experiment)
            notes += _tell_notes(parts, progress)
        scores = score(
            read_table(run.folder / PREDICTIONS),
            tracks.task,
            configuration["n_train"],
            official=evaluation.official is not None,
        )
        if not run.manifest["finished"]:
            without = without_width(scores)
            for note in without:
                progress.note(note)
            write_json(run.folder / "notes.json", [*notes, *without])
        write_json(run.folder / "scores.json", {s.method: s.to_json() for s in scores})
        run.finish()
    return run, scores


def _not_kept(experiment: Experiment, evaluation: Evaluation) -> list[str]:
    without = [approach.name for approach in experiment.approaches if approach.name in ("chance", "mel")]
    if not (evaluation.keep_models and without):
        return []
    return [f"--keep-models keeps no model of {', '.join(without)}: there is no network to keep"]


def _configuration(
    tracks: Tracks, experiment: Experiment, evaluation: Evaluation, folds: Folds, described: dict[str, Any]
) -> dict[str, Any]:
    """Return all that decides the numbers, and what follows from the folds alone."""
    repeated = evaluation.n_splits is not None
    sizes = Sizes.of(folds, len(tracks.ids))
    return {
        "dataset": {"spec": tracks.info.spec, "plugin": dict(tracks.info.plugin), "digest": tracks.digest},
        "task": task_to_json(tracks.task),
        "n_tracks": len(tracks.ids),
        "spectrogram": dict(tracks.info.parameters),
        **described,
        "folds": evaluation.scheme,
        "n_used": sizes.n_used,
        "n_train": sizes.n_train,
        "n_test": sizes.n_test,
        "chance": chance(tracks.task, label_array(tracks), folds),
        "cv": evaluation.n_folds if evaluation.cross_validates else None,
        "splits": evaluation.n_splits,
        "test_size": evaluation.test_size if repeated else None,
        "excluded": dict(tracks.excluded),
        "seeds": list(evaluation.seeds),
        "checkpoint_every": evaluation.checkpoint_every,
        "keep_models": evaluation.keep_models,
        "keep_embeddings": evaluation.keep_embeddings,
        "versions": versions(),
    }


def _tell_notes(parts: Sequence[Part], progress: Progress) -> list[str]:
    """Return what should be said of the models of the run; say the first thing of each method."""
    by_method: dict[str, list[str]] = {}
    for part in parts:
        for method, told in read_notes(part).items():
            by_method.setdefault(method, []).extend(told)
    for notes in by_method.values():
        if notes:
            more = f"; the run's notes.json has {len(notes) - 1} more of these" if len(notes) > 1 else ""
            progress.note(f"warning: {notes[0]}{more}")
    return [note for notes in by_method.values() for note in notes]


def _gather(run: Run, parts: Sequence[Part], experiment: Experiment) -> None:
    """Put the parts together in the run's tables, each sorted by method, seed and fold."""
    import pyarrow as pa

    order = {method.name: position for position, method in enumerate(experiment.methods)}
    for name in (PREDICTIONS, CHECKPOINTS):
        tables = [read_table(path) for part in parts if (path := part.folder / name).exists()]
        if tables:
            table = pa.concat_tables(tables)
            places = np.array([order[method] for method in table["method"].to_pylist()])
            write_table(run.folder / name, table.take(pa.array(np.argsort(places, kind="stable"))))
    for part in parts:
        if (path := part.folder / EMBEDDINGS).exists():
            write_table(run.folder / "embeddings" / f"{part.folder.name}.parquet", read_table(path))
    curves = []
    for part in parts:
        approaches = list(dict.fromkeys(method.approach.name for method in part.job.methods))
        curves += losses_by_epoch(approaches, {"seed": part.seed, "fold": part.fold}, read_losses(part.folder))
    columns = {
        "approach": pa.string(),
        "seed": pa.int64(),
        "fold": pa.int64(),
        "epoch": pa.int64(),
        "loss": pa.float64(),
    }
    write_table(run.folder / CURVES, pa.Table.from_pylist(curves, schema=pa.schema(columns)))
