"""Evaluate on one dataset: run the missing trainings in worker processes, and score their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mirembed.config import write_experiment
from mirembed.evaluate.fold import FoldTraining, train_fold
from mirembed.evaluate.plan import PlannedRun
from mirembed.progress import Progress, Silent, counted
from mirembed.runs.folder import RunFolder
from mirembed.runs.scores import Scores, score, zero_width_warnings
from mirembed.runs.tables import Predictions, folds_table
from mirembed.store.root import slug
from mirembed.training.labels import undeclared
from mirembed.workers.trainings import run_trainings

if TYPE_CHECKING:
    import pyarrow as pa


def evaluate(
    planned: PlannedRun,
    runs: Path,
    *,
    jobs: int,
    command: str = "",
    folder: Path | None = None,
    repeats: RunFolder | None = None,
    progress: Progress | None = None,
) -> tuple[RunFolder, list[Scores]]:
    """Evaluate every method on the same folds.

    Network, normalization and learner are fitted inside each fold, on its training tracks alone. An interrupted run is
    resumed, and gets the numbers of an uninterrupted one.

    Parameters
    ----------
    planned : PlannedRun
    runs : pathlib.Path
        The folder in which the run gets a folder of its own.
    jobs : int
        Worker processes; the numbers do not depend on it.
    command : str
        As typed, for the manifest.
    folder : pathlib.Path or None
        The run's folder; by default a folder in ``runs``. A finished run in it is not run again.
    repeats : RunFolder or None
        The run that is repeated: differences that may change its numbers are noted.

    Returns
    -------
    run : RunFolder
    scores : list of Scores
        One for each method.

    Raises
    ------
    MirembedError
        If a plugin or a training fails.
    StoreError
        If the run cannot be written, or another process is running it.
    """
    progress = progress or Silent()
    configuration = planned.configuration()
    if repeats is not None:
        for difference in repeats.differences(configuration):
            progress.note(f"warning: {repeats.folder.name} may not be reproduced: {difference}")
    if folder is None:
        name = slug(planned.tracks.info.spec.partition(":")[0])
        run = RunFolder.resume(runs, name, configuration, command, progress.note)
    else:
        run = RunFolder.resume_at(folder, configuration, command)
    with run.lock():
        if run.finished:
            scores = _score(planned, run.read_predictions())
        else:
            scores = _train_and_score(planned, run, jobs, progress)
        run.finish()
    return run, scores


def _train_and_score(planned: PlannedRun, run: RunFolder, jobs: int, progress: Progress) -> list[Scores]:
    """Run the missing trainings, and write the whole run except the mark that it is finished."""
    for note in planned.fold_notes:
        progress.note(note)
    without = [approach.name for approach in planned.settings.approaches if approach.name in ("chance", "stats")]
    if planned.settings.keep_models and without:
        progress.note(f"--keep-models keeps no model of {', '.join(without)}: there is no network to keep")
    notes = [*planned.tracks.notes, *planned.fold_notes]  # those of the tracks were shown when they were opened
    run.write_notes(notes)
    run.write_folds(folds_table(planned.tracks.ids, planned.folds))
    run.write_experiment(write_experiment([planned.settings]))
    run.write_plugins(planned.plugin_files)
    trainings = planned.trainings(run)
    if n_finished := sum(training.part.exists for training in trainings):
        progress.note(f"resuming {run.folder}: {n_finished} of {counted(len(trainings), 'training')} finished")
    if names := undeclared(planned.tracks.task):
        progress.note(f"no range is declared for {', '.join(names)}; using the range of each fold's training tracks")
    with planned.tracks.in_use():
        _run_missing(trainings, jobs, progress)
    methods = [method.name for method in planned.settings.methods]
    predictions = run.merge_parts([training.part for training in trainings], methods)
    notes += _model_notes(trainings, progress)
    scores = _score(planned, predictions)
    for warning in zero_width_warnings(scores):
        progress.note(warning)
        notes.append(warning)
    run.write_notes(notes)
    run.write_scores({one.method: one.to_json() for one in scores})
    return scores


def _run_missing(trainings: Sequence[FoldTraining], jobs: int, progress: Progress) -> None:
    """Run the trainings that are not finished, those without a network last."""
    missing = [training for training in trainings if not training.part.exists]
    for trains in (True, False):
        group = [training for training in missing if training.job.approach.trains == trains]
        if group:
            epochs, description = 1, "scoring untrained baselines"
            if trains:
                epochs = group[0].job.settings.epochs
                description = f"training {counted(len(group), 'network')} for {counted(epochs, 'epoch')}"
            for _ in run_trainings(train_fold, group, [epochs] * len(group), jobs, progress, description):
                pass


def _score(planned: PlannedRun, predictions: pa.Table) -> list[Scores]:
    task = planned.tracks.task
    by_method = Predictions.by_method(predictions, task)
    return score(by_method, task, planned.sizes.n_train, official=planned.official)


def _model_notes(trainings: Sequence[FoldTraining], progress: Progress) -> list[str]:
    """Return the warnings about the models of a run; show the first of each method."""
    by_method: dict[str, list[str]] = {}
    for training in trainings:
        where = f"(seed {training.job.settings.seed}, fold {training.job.settings.fold})"
        for method, notes in training.part.read_notes().items():
            by_method.setdefault(method, []).extend(f"{method}: {note} {where}" for note in notes)
    for notes in by_method.values():
        if notes:
            more = f"; the run's notes.json has {len(notes) - 1} more of these" if len(notes) > 1 else ""
            progress.note(f"warning: {notes[0]}{more}")
    return [note for notes in by_method.values() for note in notes]
