"""`mirembed.evaluate`, and what it has in common with the command ``mirembed evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.api.progress import RESUMES, reporting
from mirembed.api.runs import Run
from mirembed.api.words import (
    PathLike,
    StoreLike,
    as_call,
    discover,
    given_words,
    number_of,
    path_of,
    store_of,
    task_kind,
    text_of,
    words_of,
)
from mirembed.config import Settings, read_experiment, read_preset
from mirembed.errors import SpecError
from mirembed.progress import Progress
from mirembed.specs import Spec

if TYPE_CHECKING:
    from mirembed.evaluate.estimate import Estimate
    from mirembed.evaluate.experiment import Result
    from mirembed.evaluate.plan import PlannedRun
    from mirembed.registry import Registry
    from mirembed.runs.folder import RunFolder
    from mirembed.store import Store

_OF_TRAINING = (
    *("features", "network", "epochs", "batch", "optimizer", "excerpt", "deltas", "ensemble", "normalize", "engine"),
)
"""Settings of training, which a saved network does not need."""

NO_SETTINGS = ("store", "config", "preset", "jobs", "executor", "scheduler", "progress", "command")
"""Arguments of an evaluation that do not affect its numbers."""


@dataclass(frozen=True)
class Plan:
    """Evaluations that are ready to run.

    Attributes
    ----------
    store : Store
    registry : Registry
    runs : list of PlannedRun
    repeats : RunFolder or None
        The run whose settings were given.
    """

    store: Store
    registry: Registry
    runs: list[PlannedRun]
    repeats: RunFolder | None

    def run(self, *, jobs: int, command: str, progress: Progress) -> tuple[Path, list[Result]]:
        """Run them, and write the cards of the models that are kept.

        See `mirembed.evaluate.experiment.run_experiment`.
        """
        from mirembed.evaluate.experiment import run_experiment
        from mirembed.model_card import write_card
        from mirembed.models.saved import list_models

        folder, results = run_experiment(
            self.runs, self.store, jobs=jobs, command=command, repeats=self.repeats, progress=progress
        )
        for result in results:
            for kept in list_models(result.run.models):
                write_card(kept, self.store, self.registry)
        return folder, results

    def estimate(self, *, jobs: int, progress: Progress) -> Estimate:
        """Estimate what they cost; see `mirembed.evaluate.estimate.estimate`."""
        from mirembed.evaluate.estimate import estimate

        return estimate(self.runs, jobs=jobs, progress=progress)


def plan(
    given: Mapping[str, Any],
    where: str,
    store: Store,
    registry: Registry,
    *,
    config: Path | None,
    preset: str | None,
    progress: Progress,
) -> Plan:
    """Check the arguments of an evaluation, open its datasets and draw its folds, before anything is trained.

    Parameters
    ----------
    given : mapping of str to object
        The settings that were given, by their keys in experiment files.
    where : str
        Where they come from, for errors.
    store : Store
    registry : Registry
    config : pathlib.Path or None
        An experiment file or a run, whose settings ``given`` overrides.
    preset : str or None
        The name of an experiment that comes with mirembed, likewise.
    progress : Progress

    Raises
    ------
    MirembedError
        If an argument is invalid, or a dataset is missing.
    """
    from mirembed.evaluate.experiment import plan_experiment
    from mirembed.runs.summary import find_run

    is_file = config is not None and (config.is_file() or config.suffix == ".toml")
    repeats = None if config is None or is_file else find_run(store.runs, str(config))
    settings = _settings(given, where, config, repeats, preset, store)
    of_preset = preset is not None and not given.get("dataset") and any(one.dataset for one in settings)
    runs = plan_experiment(settings, store, registry, all_needed=not of_preset, progress=progress)
    return Plan(store, registry, runs, repeats)


def _settings(
    given: Mapping[str, Any],
    where: str,
    config: Path | None,
    repeats: RunFolder | None,
    preset: str | None,
    store: Store,
) -> list[Settings]:
    """Return the settings of the experiment file, overridden by the arguments that were given."""
    if config is not None and preset is not None:
        raise SpecError(f"--config {config} and --preset {preset} exclude each other; give one of them")
    if preset is not None:
        updated = _preset(preset, given, where, store)
    elif config is not None:
        updated = [one.updated(given, where) for one in read_experiment(repeats.folder if repeats else config)]
    else:
        updated = [Settings().updated(given, where)]
    of_training = [f"--{key}" for key in given if key in _OF_TRAINING]
    if of_training and not any(approach.model is None for one in updated for approach in one.used_approaches):
        raise SpecError(
            f"--from uses a network that is already trained; omit {', '.join(of_training)}, or also give an "
            "--approach to train"
        )
    return updated


def _preset(name: str, given: Mapping[str, Any], where: str, store: Store) -> list[Settings]:
    """Return the settings of a preset for the tasks of the datasets, overridden by the arguments that were given."""
    datasets = given.get("dataset") or ("",)
    by_settings: dict[tuple[Settings, ...], list[str]] = {}
    for dataset in [datasets] if isinstance(datasets, str) else datasets:
        kind = task_kind(store, Spec.parse(dataset) if dataset else None)
        by_settings.setdefault(tuple(read_preset(name, kind)), []).append(dataset)
    if len(by_settings) == 1:
        [settings] = by_settings
        return [one.updated(given, where) for one in settings]
    return [
        one.updated({**given, "dataset": some}, where) for settings, some in by_settings.items() for one in settings
    ]


def evaluate(
    dataset: str | Sequence[str] | None = None,
    *,
    store: StoreLike = None,
    config: PathLike | Run | None = None,
    preset: str | None = None,
    cv: int | None = None,
    folds: PathLike | None = None,
    splits: int | None = None,
    test_size: float | None = None,
    against: str | None = None,
    train_size: float | Sequence[float] | None = None,
    features: str | Sequence[str] | None = None,
    network: str | Sequence[str] | None = None,
    similarity: str | Sequence[str] | None = None,
    approach: str | Sequence[str] | None = None,
    label_similarity: str | None = None,
    learner: str | Sequence[str] | None = None,
    from_: PathLike | Sequence[PathLike] | None = None,
    combine: str | Sequence[str | Sequence[str]] | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    optimizer: str | None = None,
    excerpt: int | None = None,
    deltas: bool | None = None,
    ensemble: int | None = None,
    seed: int | Sequence[int] | None = None,
    metric: str | None = None,
    normalize: str | None = None,
    select: str | Sequence[str] | None = None,
    inner_cv: int | None = None,
    checkpoint_every: int | None = None,
    keep_models: bool | None = None,
    keep_embeddings: bool | None = None,
    exclude: str | None = None,
    jobs: int | None = None,
    executor: str = "local",
    scheduler: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    progress: bool | Progress = True,
    command: str | None = None,
) -> Run:
    """Cross-validate: fit network, normalization and learner inside every fold.

    All methods are evaluated on the same folds, and everything is saved in the store. If interrupted, the same call
    resumes.

    Parameters
    ----------
    dataset : str or sequence of str, optional
        Datasets of the store. Default: the only one.
    store : path or Store, optional
        Default: the environment variable MIREMBED_STORE, or else ``mirembed-store`` in the current folder.
    config : path or Run, optional
        Use the settings of an experiment file or of a run; other arguments override them.
    preset : {"best", "paper"}, optional
        Settings that come with mirembed, which the other arguments override: ``"best"``, the most accurate affordable
        method, or ``"paper"``, the experiments of the paper.
    cv : int, optional
        Number of folds. Default: 10.
    folds : str or path, optional
        ``"stratified"`` (default for classes and tags), ``"random"`` (default for targets), ``"grouped"``, official
        folds, or a table with the columns id and fold.
    splits, test_size : int and float, optional
        Number of random splits, instead of cross-validation, and the share of the tracks that each tests (0.1).
    against : str, optional
        Method to compare the others with. Default: the first combined one, else the first trained one.
    train_size : float or sequence of float, optional
        Shares of each fold's training tracks to train on, with one evaluation for each.
    features, network, similarity, approach, learner : str or sequence of str, optional
        See `mirembed.fit`; several are combined. ``approach`` may also be ``"chance"``, ``"stats"`` or ``"untrained"``.
    label_similarity : str, optional
        Similarity of the labels, if it differs from that of the embeddings.
    from_ : path or sequence of path, optional
        Also evaluate the networks of these models; only a learner is fitted in each fold.
    combine : str or sequence, optional
        Also average the predictions of methods, which are trained only once: ``"all"``, ``"stacked"`` (with weights
        from inner folds), ``"rbf-sl|stats"``, ``[["rbf-sl", "stats"], ["nn", "stats"]]``.
    epochs, batch, optimizer, excerpt, deltas, ensemble, normalize, device, engine : optional
        See `mirembed.fit`.
    seed : int or sequence of int, optional
        Of folds, weights and excerpts. Default: 0.
    metric : str, optional
        Headline metric. Default: ``accuracy`` for classes, ``roc_auc`` for tags, ``r`` for targets.
    select : str or sequence of str, optional
        What to choose in inner folds of the training tracks: ``"learner.C=0.1|1|10"``, ``"epoch"``.
    inner_cv : int, optional
        Number of these folds. Default: 3.
    checkpoint_every : int, optional
        Also score every so many epochs, for learning curves; 0: never. Default: 10.
    keep_models, keep_embeddings : bool, optional
        Save the models of all folds, and the embeddings at every checkpoint, in the run.
    exclude : {"known-faults"}, optional
        Leave out the tracks with known faults.
    jobs : int, optional
        Worker processes; the numbers do not depend on it. Default: one per core.
    executor, scheduler : str, optional
        See `mirembed.extract`.
    progress : bool
        Show a line of text.
    command : str, optional
        Command that the run records. Default: this call.

    Returns
    -------
    Run

    Raises
    ------
    MirembedError
        An argument is invalid, the store lacks a dataset or its features, the tracks cannot be split this way, or a
        plugin fails.
    """
    from mirembed.workers import available_jobs
    from mirembed.workers.executor import executor as on_executor
    from mirembed.workers.executor import prepare_trainings

    words = words_of(evaluate, locals())
    if isinstance(config, Run):
        config = words["config"] = config.path
    given = given_words(words, NO_SETTINGS)
    workers = number_of("jobs", jobs)
    file = None if config is None else path_of("config", config)
    for word, text in (("preset", preset), ("command", command)):
        if text is not None:
            text_of(word, text)
    with prepare_trainings(), reporting(progress, RESUMES) as reported, on_executor(executor, scheduler, workers):
        registry, place = discover(reported.note), store_of(store, writable=True)
        planned = plan(given, "evaluate()", place, registry, config=file, preset=preset, progress=reported)
        call = command or as_call(evaluate, words)
        folder, _ = planned.run(jobs=workers or available_jobs(), command=call, progress=reported)
    return Run(folder)
