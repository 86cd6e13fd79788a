"""Experiments: one or several evaluations, each on one or several datasets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from mirembed.config import Settings, defaults, write_experiment
from mirembed.datasets.catalog import exclude_tracks, official_splits
from mirembed.errors import SpecError, StoreError, UnknownNameError
from mirembed.evaluate.plan import PlannedRun, plan_run
from mirembed.evaluate.run import evaluate
from mirembed.features import FeaturesInfo, resolve_features
from mirembed.fit.resolve import choose_device, describe_plugins
from mirembed.progress import Progress, Silent
from mirembed.provenance import environment, recorded_plugins
from mirembed.registry import Kind, Registry
from mirembed.runs.folder import RunFolder, list_runs
from mirembed.runs.scores import Scores
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.root import slug
from mirembed.store.tracks import Tracks, open_tracks
from mirembed.training.engine import choose_engine


@dataclass(frozen=True)
class Result:
    """A finished evaluation on one dataset."""

    planned: PlannedRun
    run: RunFolder
    scores: list[Scores]

    @property
    def chance(self) -> float:
        """The headline metric of the approach ``chance``, whether it was evaluated or not."""
        return float(self.run.manifest["configuration"]["chance"])

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
            "folds": settings.folds,
            "n_folds": self.planned.n_folds,
            "seeds": list(settings.seed),
            "epochs": settings.epochs,
            "chance": self.chance,
            "notes": self.run.read_notes(),
            "run": str(self.run.folder),
            "approaches": {one.method: one.to_json() for one in self.scores},
        }


def plan_experiment(
    settings: Sequence[Settings],
    store: Store,
    registry: Registry,
    *,
    all_needed: bool = True,
    progress: Progress | None = None,
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
    progress = progress or Silent()
    opened: dict[str, Tracks | None] = {}
    planned: list[PlannedRun] = []
    for one in settings:
        one.check()
        one = replace(one, device=choose_device(one.device))
        require_plugins(one, registry, store.runs)
        plugins = describe_plugins(one, registry)
        for dataset in dict.fromkeys(one.dataset or [""]):
            if dataset not in opened:
                features = [resolve_features(registry, defaults.FEATURES)]
                opened[dataset] = _open(dataset, store, features, all_needed, progress)
            tracks = opened[dataset]
            if tracks is not None:
                planned.append(_plan_dataset(one, tracks, registry, plugins, progress))
    if not planned:
        wanted = ", ".join(name for name in opened if name)
        raise StoreError(f"the store {store.root} has none of {wanted}; run `mirembed extract --dataset NAME` first")
    names = [run.name for run in planned]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"two evaluations are named {name}; give each table [[evaluation]] its own name")
    # Only now, as the choice takes a second.
    choose = cache(lambda engine, device: choose_engine(engine, device, progress.note))
    return [
        replace(run, settings=replace(run.settings, engine=choose(run.settings.engine, run.settings.device)))
        for run in planned
    ]


def _open(
    dataset: str, store: Store, features: Sequence[FeaturesInfo], needed: bool, progress: Progress
) -> Tracks | None:
    try:
        stored = store.find(Spec.parse(dataset) if dataset else None)
    except StoreError as error:
        if needed:
            raise
        progress.note(f"warning: skipping {dataset}: {error}")
        return None
    return open_tracks(store, stored, features, progress)


def _plan_dataset(
    settings: Settings, tracks: Tracks, registry: Registry, plugins: Mapping[str, Any], progress: Progress
) -> PlannedRun:
    spec = tracks.info.spec
    name = settings.name if settings.name and len(settings.dataset) < 2 else f"{settings.name}-{spec}".strip("-")
    official = official_splits(registry, Spec.parse(spec), tracks.info.plugin)
    tracks = exclude_tracks(registry, tracks, settings.exclude, progress)
    approaches = tuple(approach.name for approach in settings.approaches)
    settings = replace(settings, dataset=(spec,), approach=approaches, similarity=())
    return plan_run(settings, tracks, registry, plugins, official, slug(name))


def run_experiment(
    planned: Sequence[PlannedRun],
    store: Store,
    *,
    jobs: int,
    command: str = "",
    repeats: RunFolder | None = None,
    progress: Progress | None = None,
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
    progress = progress or Silent()

    def run(one: PlannedRun, folder: Path | None = None, repeated: RunFolder | None = None) -> Result:
        done = evaluate(one, store.runs, jobs=jobs, command=command, folder=folder, repeats=repeated, progress=progress)
        return Result(one, *done)

    if len(planned) == 1:
        result = run(planned[0], repeated=repeats)
        return result.run.folder, [result]
    text = write_experiment([replace(one.settings, name=one.name) for one in planned])
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


def require_plugins(settings: Settings, registry: Registry, runs: Path) -> None:
    """Report what to install if a plugin of the settings is missing that an earlier run used.

    Raises
    ------
    UnknownNameError
        If there is such a plugin. Missing plugins that no run knows are reported where they are used.
    """
    specs: list[tuple[Kind, str]] = [("learner", learner.name) for learner in settings.learners]
    for approach in settings.approaches:
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
