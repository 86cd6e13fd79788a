"""Experiments: one or several evaluations, each on one or several datasets.

An evaluation on one dataset runs its trainings in worker processes, and scores their predictions.
"""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from mirembed.config import Settings, write_experiment
from mirembed.config.approaches import learners_of
from mirembed.config.settings import is_folds_file
from mirembed.datasets.catalog import exclude_tracks, official_splits
from mirembed.datasets.changes import noting_changes
from mirembed.datasets.folds_file import read_folds_file
from mirembed.datasets.splits import Scheme
from mirembed.errors import SpecError, StoreError, UnknownNameError
from mirembed.evaluate.fold import FoldTraining, embed_saved, train_fold
from mirembed.evaluate.plan import PlannedRun, plan_run
from mirembed.features.info import FeaturesInfo, split_spec
from mirembed.fit.parallel import run_in_parallel
from mirembed.fit.resolve import choose_device, choose_engine_for, describe_plugins, resolve_settings
from mirembed.fit.saved import SavedNetwork, needed_features, open_saved, with_saved
from mirembed.hookspecs import Split
from mirembed.models.learners import check_learners
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.provenance import environment, recorded_plugins
from mirembed.registry import Kind, Registry
from mirembed.runs.combined import MemberWeight, member_weights
from mirembed.runs.cost import MethodsCost, costs, costs_to_json
from mirembed.runs.folder import RunFolder, list_runs
from mirembed.runs.scores import Scores, score, zero_width_warnings
from mirembed.runs.selection import Chosen, read_chosen
from mirembed.runs.tables import Predictions, folds_table
from mirembed.specs import Spec
from mirembed.statistics.metrics import metric_named
from mirembed.store import Store
from mirembed.store.root import slug
from mirembed.store.tracks import Tracks, open_tracks
from mirembed.training.labels import undeclared
from mirembed.workers.executor import run_trainings


@dataclass(frozen=True)
class Result:
    """A finished evaluation on one dataset."""

    planned: PlannedRun
    run: RunFolder
    scores: list[Scores]

    @cached_property
    def selection(self) -> list[Chosen]:
        """What was chosen inside the folds."""
        return read_chosen(self.run.read_selection())

    @cached_property
    def weights(self) -> list[MemberWeight]:
        """The weights of the members of stacked methods."""
        return member_weights(self.run.read_weights())

    @property
    def chance(self) -> float | None:
        """The headline metric of the approach ``chance``, whether it was evaluated or not; None where undefined."""
        found: float | None = self.run.manifest["configuration"]["chance"]
        return found

    @cached_property
    def costs(self) -> list[MethodsCost]:
        """What the trainings cost, by the methods that share a network."""
        table = self.run.read_cost()
        return [] if table is None else costs(table)

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON, with the dataset, the folds and the run."""
        tracks, settings, sizes = self.planned.tracks, self.planned.settings, self.planned.sizes
        return {
            "dataset": tracks.info.spec,
            "n_tracks": len(tracks.ids),
            "excluded": dict(tracks.excluded),
            "n_used": sizes.n_used,
            "n_train": sizes.n_train,
            "n_test": sizes.n_test,
            "folds": self.planned.folds_name,
            "n_folds": self.planned.n_folds,
            "train_size": self.planned.train_size,
            "seeds": list(settings.seed),
            "epochs": settings.epochs,
            "metric": settings.metric,
            "chance": self.chance,
            "ensemble": settings.ensemble,
            "bootstrap": self.run.manifest["configuration"]["bootstrap"],
            **({"selection": [one.to_json() for one in self.selection]} if self.selection else {}),
            **({"weights": [one.to_json() for one in self.weights]} if self.weights else {}),
            "methods": self.run.manifest["configuration"]["methods"],
            "notes": self.run.read_notes(),
            "run": str(self.run.folder),
            "approaches": {one.method: one.to_json() for one in self.scores},
            "cost": costs_to_json(self.costs),
        }


def plan_experiment(
    settings: Sequence[Settings],
    store: Store,
    registry: Registry,
    *,
    all_needed: bool = True,
    progress: Progress = NO_PROGRESS,
) -> list[PlannedRun]:
    """Open the datasets of an experiment, check its settings and draw its folds, before anything is trained.

    Parameters
    ----------
    settings : sequence of Settings
        With different names.
    store : Store
    registry : Registry
    all_needed : bool
        Whether a dataset that is not in the store is an error; otherwise it is skipped with a note.

    Raises
    ------
    MirembedError
        If a setting is wrong, or a dataset is missing.
    """
    opened: dict[tuple[str, ...], Tracks | None] = {}
    planned: list[PlannedRun] = []
    for one in settings:
        one.check()
        if is_folds_file(one.folds):
            read_folds_file(Path(str(one.folds)))  # a mistake in it is reported before anything large is read
        if one.metric is not None:
            metric_named(one.metric)
        one = replace(one, device=choose_device(one.device))
        require_plugins(one, registry, store.runs)
        one, of_settings = resolve_settings(one, registry)
        saved = open_saved(one.approaches, store, registry)
        one = replace(one, from_=tuple(network.reference(store.models) for network in saved.values()))
        plugins = describe_plugins(one, registry, saved, of_settings)
        features = needed_features(of_settings, with_saved(one.methods, saved), saved)
        for dataset in dict.fromkeys(one.dataset or [""]):
            key = (dataset, *(name for info in features for name in (info.spec, *info.digests)))
            if key not in opened:
                opened[key] = _open(dataset, one, store, features, registry, all_needed, progress)
            tracks = opened[key]
            if tracks is not None:
                official = _official(one, tracks, store, registry)
                planned += _plan_dataset(one, tracks, registry, plugins, official, saved, progress)
    if not planned:
        wanted = ", ".join(dict.fromkeys(name for name, *_ in opened if name))
        raise StoreError(f"the store {store.root} has none of {wanted}; run `mirembed extract --dataset NAME` first")
    names = [run.name for run in planned]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"two evaluations are named {name}; give each table [[evaluation]] its own name")
    return _with_engines(planned, registry, progress)  # only now, as the choice takes a second


def _with_engines(planned: Sequence[PlannedRun], registry: Registry, progress: Progress) -> list[PlannedRun]:
    """Check the networks of runs, and choose their engines; each note about them is shown once."""
    shown: set[str] = set()

    def note(text: str) -> None:
        if text not in shown:
            shown.add(text)
            progress.note(text)

    chosen = []
    for run in planned:
        engine = choose_engine_for(run.settings, registry, run.all_methods, run.tracks.features, note)
        chosen.append(replace(run, settings=replace(run.settings, engine=engine)))
    return chosen


def _open(
    dataset: str,
    settings: Settings,
    store: Store,
    features: Sequence[FeaturesInfo],
    registry: Registry,
    needed: bool,
    progress: Progress,
) -> Tracks | None:
    """Open a dataset, unless a learner cannot learn its task: that is said before any frames are gathered."""
    try:
        stored = store.find(Spec.parse(dataset) if dataset else None)
    except StoreError as error:
        if needed:
            raise
        progress.note(f"warning: skipping {dataset}: {error}")
        return None
    check_learners(registry, learners_of(settings.methods), stored.info().task, saved=settings.keep_models)
    return noting_changes(registry, store, open_tracks(store, stored, features, progress), progress)


def _official(settings: Settings, tracks: Tracks, store: Store, registry: Registry) -> Mapping[str, Sequence[Split]]:
    """Return the official splits of a dataset; those that came with its audio only if the settings may name them."""
    spec = Spec.parse(tracks.info.spec)
    official = official_splits(registry, spec, tracks.info.plugin)
    known = (None, *typing.get_args(Scheme), *official)
    if settings.folds in known or is_folds_file(settings.folds):
        return official
    return {**official, **store.dataset(spec).schemes()}


def _plan_dataset(
    settings: Settings,
    tracks: Tracks,
    registry: Registry,
    plugins: Mapping[str, Any],
    official: Mapping[str, Sequence[Split]],
    saved: Mapping[str, SavedNetwork],
    progress: Progress,
) -> list[PlannedRun]:
    """Plan a run on one dataset, or one for each of several ``--train-size``."""
    spec = tracks.info.spec
    name = settings.name if settings.name and len(settings.dataset) < 2 else f"{settings.name}-{spec}".strip("-")
    tracks = exclude_tracks(registry, tracks, settings.exclude, progress)
    approaches = tuple(approach.name for approach in settings.approaches if approach.model is None)
    settings = replace(settings, dataset=(spec,), approach=approaches, similarity=())
    if len(settings.train_size) < 2:
        return [plan_run(settings, tracks, registry, plugins, official, slug(name), saved)]
    return [
        plan_run(
            replace(settings, train_size=(size,)),
            tracks,
            registry,
            plugins,
            official,
            slug(f"{name or spec}-train-{size:g}"),
            saved,
        )
        for size in settings.train_size
    ]


def run_experiment(
    planned: Sequence[PlannedRun],
    store: Store,
    *,
    jobs: int,
    command: str = "",
    repeats: RunFolder | None = None,
    progress: Progress = NO_PROGRESS,
) -> tuple[Path, list[Result]]:
    """Run evaluations one after the other; return the folder that holds them, and the results.

    A single evaluation is a run of its own. Several share one folder, which records what it consists of; an
    interrupted experiment is resumed.

    Parameters
    ----------
    planned : sequence of PlannedRun
    store : Store
    jobs : int
        Worker processes; the numbers do not depend on it.
    command : str
        As typed, for the manifests.
    repeats : RunFolder or None
        The run or experiment that is repeated: differences that may change its numbers are noted.

    Raises
    ------
    MirembedError
        If a training or a write fails.
    """

    def run(one: PlannedRun, folder: Path | None = None, repeated: RunFolder | None = None) -> Result:
        done = evaluate(one, store.runs, jobs=jobs, command=command, folder=folder, repeats=repeated, progress=progress)
        return Result(one, *done)

    if len(planned) == 1:
        result = run(planned[0], repeated=repeats)
        return result.run.folder, [result]
    text = write_experiment([replace(one.stored_settings(f"{one.name}/"), name=one.name) for one in planned])
    configuration = {
        "grid": [one.name for one in planned],
        "experiment": text,
        "evaluations": {one.name: one.configuration() for one in planned},
        **environment(),
    }
    whole = RunFolder.resume(store.runs, "experiment", configuration, command, progress.note)
    with whole.lock():
        whole.write_experiment(text)
        results = []
        for number, one in enumerate(planned, 1):
            progress.note(f"evaluation {number} of {len(planned)}: {one.describe()}")
            repeated = None if repeats is None else RunFolder(repeats.folder / one.name)
            results.append(run(one, whole.folder / one.name, repeated))
        whole.finish()
    return whole.folder, results


def evaluate(
    planned: PlannedRun,
    runs: Path,
    *,
    jobs: int,
    command: str = "",
    folder: Path | None = None,
    repeats: RunFolder | None = None,
    progress: Progress = NO_PROGRESS,
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
            scores = _score_all(planned, run.read_predictions())
        else:
            scores = _train_and_score(planned, run, jobs, progress)
        run.finish()
    return run, scores


def _train_and_score(planned: PlannedRun, run: RunFolder, jobs: int, progress: Progress) -> list[Scores]:
    """Run the missing trainings, and write the whole run except the mark that it is finished."""
    for note in planned.fold_notes:
        progress.note(note)
    unsaved = [one for one in planned.methods if one.approach.name in ("chance", "stats") or one.approach.model]
    if planned.settings.keep_models and unsaved:
        without = ", ".join(dict.fromkeys(method.label for method in unsaved))
        progress.note(f"--keep-models keeps no model of {without}: there is no new network to keep")
    notes = [*planned.tracks.notes, *planned.fold_notes]  # those of the tracks were shown when they were opened
    run.write_notes(notes)
    run.write_folds(folds_table(planned.tracks.ids, planned.folds, planned.tracks.groups))
    run.write_experiment(write_experiment([planned.stored_settings()]))
    run.write_plugins(planned.plugin_files)
    if planned.folds_file is not None:
        run.write_folds_file(planned.folds_file.name, planned.folds_file.content)
    trainings = planned.trainings(run)
    if n_finished := sum(training.part.exists for training in trainings):
        progress.note(f"resuming {run.folder}: {n_finished} of {counted(len(trainings), 'training')} finished")
    if names := undeclared(planned.tracks.task):
        progress.note(f"no range is declared for {', '.join(names)}; using the range of each fold's training tracks")
    with planned.tracks.in_use():
        embed_missing(trainings, jobs, progress)
        _run_missing(trainings, jobs, progress)
    parts = [training.part for training in trainings]
    predictions, about_combined = run.merge_parts(parts, planned.methods, planned.tracks.task)
    for note in about_combined:
        progress.note(note)
    notes += [*_model_notes(trainings, progress), *about_combined]
    scores = _score_all(planned, predictions)
    for warning in zero_width_warnings(scores):
        progress.note(warning)
        notes.append(warning)
    run.write_notes(notes)
    run.write_scores({one.method: one.to_json() for one in scores})
    return scores


def embed_missing(trainings: Sequence[FoldTraining], jobs: int, progress: Progress) -> None:
    """Embed all tracks once with each saved network that unfinished trainings use."""
    missing = {one.saved.path: one for one in trainings if one.saved is not None and not one.part.exists}
    todo = [training for path, training in missing.items() if not path.exists()]
    if todo:
        n_tracks = counted(len(todo[0].ids), "track")
        description = f"embedding {n_tracks} with {counted(len(todo), 'saved network')}"
        for _ in run_trainings(embed_saved, todo, [1] * len(todo), jobs, progress, description):
            pass


def _run_missing(trainings: Sequence[FoldTraining], jobs: int, progress: Progress) -> None:
    """Run the trainings that are not finished."""
    missing = [one for one in trainings if not one.part.exists]
    networks = [training for training in missing if training.job.approach.trains]
    description = "scoring methods without training"
    if networks:
        n_networks = counted(sum(training.job.ensemble for training in networks), "network")
        n_inner = sum(one.n_inner_networks for one in networks)
        inner = f" and {counted(n_inner, 'network')} in inner folds" if n_inner else ""
        length = counted(networks[0].job.settings.epochs, "epoch")
        description = f"training {n_networks}{inner} for {length}"
    if missing:
        resumed = [max(one.part.read_cost().sessions, int(one.is_resumed)) for one in missing]
        missing = [replace(one, session=before + 1) for one, before in zip(missing, resumed, strict=True)]
        for _ in run_in_parallel(train_fold, missing, jobs, progress, description):
            pass


def _score_all(planned: PlannedRun, predictions: pa.Table) -> list[Scores]:
    task = planned.tracks.task
    by_method = Predictions.by_method(predictions, task)
    return score(
        by_method,
        task,
        planned.sizes.n_train,
        metric=planned.settings.metric,
        official=planned.official,
        groups=planned.bootstrap_groups,
    )


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


def require_plugins(settings: Settings, registry: Registry, runs: Path) -> None:
    """Report what to install if a plugin of the settings is missing that an earlier run used.

    Raises
    ------
    UnknownNameError
        If there is such a plugin. Missing plugins that no run knows are reported where they are used.
    """
    methods = settings.methods
    learners = [*settings.learners, *(method.learner for method in methods if method.learner is not None)]
    networks = dict.fromkeys([*settings.network, *(method.network for method in methods if method.network is not None)])
    specs: list[tuple[Kind, str]] = [("learner", learner.name) for learner in learners]
    specs += [("features", spec.name) for features in settings.all_features for spec in split_spec(features)]
    specs += [("network", Spec.parse(network).name) for network in networks]
    for approach in settings.used_approaches:
        both = (approach.similarity, approach.label_similarity)
        specs += [("similarity", spec.name) for spec in both if spec is not None]
    for kind, name in specs:
        try:
            registry.find(kind, name)
        except UnknownNameError:
            for run, recorded in _recorded_plugins(runs, kind):
                if name in (recorded["name"], f"{recorded['distribution']}/{recorded['name']}"):
                    registry.require(kind, recorded, f"as in the run {run}, this")


def _recorded_plugins(runs: Path, kind: Kind) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the plugins of a kind that the manifests of runs record, and the name of each run; latest run first."""
    for folder in reversed(list_runs(runs)):
        with contextlib.suppress(StoreError, KeyError, AttributeError, TypeError):
            for run in folder.members or [folder]:
                found = recorded_plugins(run.manifest["configuration"])
                yield from ((run.folder.name, plugin) for plugin in found if plugin["kind"] == kind)
