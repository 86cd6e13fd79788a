"""Ensembles and inner folds on all cores: each network is a task of its own, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_store import evaluate, experiment, job, open_tracks, run_here, workers_run, write_classes

from mirembed import workers
from mirembed.evaluate import fold
from mirembed.evaluate.estimate import estimate
from mirembed.evaluate.experiment import plan_experiment
from mirembed.fit import dataset, fit
from mirembed.fit.job import Fitted, fit_models, train_network
from mirembed.progress import Silent
from mirembed.registry import Registry
from mirembed.runs.folder import RunFolder
from mirembed.store import Store
from mirembed.store.files import read_table
from mirembed.store.tracks import Tracks

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()
EVALUATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "ensembles": (2 * (2 + 1 + 1), {"ensemble": 2, "approach": ("rbf-sl", "stats")}),
    "checkpoints": (2 * (3 + 1), {"ensemble": 3, "epochs": 12, "checkpoint_every": 5, "approach": ("nn", "fl")}),
    "stacked": (2 * (4 + 1 + 1), {"combine": ("stacked:fl|stats",), "inner_cv": 3}),
    "choices": (2 * (6 + 1), {"select": ("optimizer.lr=0.1|1", "epoch"), "checkpoint_every": 2, "ensemble": 1}),
    "single networks": (2 * 2, {"approach": ("fl", "stats")}),
}
"""How many tasks there are in two folds, and the settings."""

TABLES = ("predictions", "checkpoints", "curves", "selection", "weights")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return write_classes(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def tracks(store) -> Tracks:
    return open_tracks(store)


def settings(name: str) -> Any:
    _, changes = EVALUATIONS[name]
    approaches = changes.get("approach", ("fl",) if "combine" not in changes else ())
    others = {key: value for key, value in changes.items() if key != "approach"}
    return experiment(*approaches, **{"epochs": 4, "cv": 2, "inner_cv": 3, **others})


def tables(run: RunFolder) -> dict[str, Any]:
    return {name: read_table(path) for name in TABLES if (path := run.folder / f"{name}.parquet").exists()}


@pytest.fixture(scope="module")
def undivided(tracks, tmp_path_factory) -> Callable[[str], dict[str, Any]]:
    """The tables of a run whose trainings are not divided."""
    found: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        if name not in found:
            with pytest.MonkeyPatch.context() as patch, workers_run():
                patch.setattr(fold, "networks_apart", lambda *_: [])
                run, _ = evaluate(tracks, settings(name), REGISTRY, tmp_path_factory.mktemp("undivided"))
            found[name] = tables(run)
        return found[name]

    return of


class Tasks:
    """Runs tasks here, and records how many there are; stops before task number ``stop``."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.n_tasks = 0
        self.after: dict[int, list[int]] = {}

    def __call__(
        self, function: Any, arguments: Sequence[Any], *others: Any, after: Any, **options: Any
    ) -> Iterator[Any]:
        self.n_tasks = len(arguments)
        self.after = {task: [*before] for task, before in after.items() if before}
        yield from run_here(function, arguments[: self.stop], *others, **options)
        if self.stop is not None:
            raise KeyboardInterrupt


def test_networks_trained_alone_are_to_the_bit_those_that_are_trained_together(tracks, tmp_path):
    described = job(tracks, "nn", "fl", ensemble=3, epochs=21, checkpoint_every=7)
    together: dict[int, Fitted] = {}
    alone: dict[int, Fitted] = {}
    whole = fit_models(described, REGISTRY, on_checkpoint=together.__setitem__)
    kept = replace(described, checkpoint=tmp_path / "kept.safetensors")
    first, *others = kept.networks

    def interrupt(epoch: int) -> None:
        if epoch == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_network(first, REGISTRY, interrupt)
    for network in [*others, first]:
        train_network(network, REGISTRY)
    epochs: list[int] = []
    found = fit_models(kept, REGISTRY, epochs.append, alone.__setitem__)
    assert min(epochs) == 3 * 21, "nothing is trained again"
    assert together.keys() == alone.keys() == {7, 14}
    for one, other in [(found, whole), *((alone[epoch], together[epoch]) for epoch in together)]:
        assert one.losses == other.losses
        np.testing.assert_array_equal(one.embeddings, other.embeddings)
        vectors = one.embeddings
        for name in ("nn", "fl"):
            np.testing.assert_array_equal(one.models[name].predict(vectors), other.models[name].predict(vectors))
    assert alone[7].models["fl"].estimator is not None
    kept.delete_checkpoints()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_network_that_waits_for_no_other_is_a_task(tracks, tmp_path, undivided, name):
    expected, _ = EVALUATIONS[name]
    tasks = Tasks()
    with workers_run(tasks):
        run, _ = evaluate(tracks, settings(name), REGISTRY, tmp_path)
    assert tasks.n_tasks == expected
    assert all(before == [*range(before[0], task)] for task, before in tasks.after.items())
    assert tables(run) == undivided(name)


@pytest.mark.parametrize("name", ["checkpoints", "stacked", "choices"])
def test_a_run_interrupted_after_any_task_is_resumed_to_the_bit(tracks, tmp_path, undivided, name):
    n_tasks, _ = EVALUATIONS[name]
    for stop in range(1, n_tasks, 2):
        runs = tmp_path / str(stop)
        with workers_run(Tasks(stop)), pytest.raises(KeyboardInterrupt):
            evaluate(tracks, settings(name), REGISTRY, runs)
        with workers_run():
            run, _ = evaluate(tracks, settings(name), REGISTRY, runs)
        assert [path.name for path in runs.iterdir()] == [run.folder.name]
        assert tables(run) == undivided(name)


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_numbers_do_not_depend_on_the_number_of_workers(tracks, tmp_path, undivided, jobs):
    with workers_run(workers.run):
        run, _ = evaluate(tracks, settings("checkpoints"), REGISTRY, tmp_path, jobs=jobs)
    assert tables(run) == undivided("checkpoints")


@pytest.mark.parametrize("name", ["ensembles", "stacked", "choices"])
@pytest.mark.parametrize("stop", [None, 1, 3, 4])
def test_a_fit_saves_the_models_that_one_task_would_make(store, tracks, tmp_path, name, stop):
    def models(folder: Path) -> dict[str, tuple[Any, list[float]]]:
        found = fit(tracks, store, settings(name), REGISTRY, folder, seed=0, jobs=2)
        return {one.approach: (one.loss, read_table(one.embeddings)["vector"].to_pylist()) for one in found}

    with pytest.MonkeyPatch.context() as patch, workers_run():
        patch.setattr(dataset, "networks_apart", lambda *_: [])
        expected = models(tmp_path / "undivided")
    tasks = Tasks(stop)
    with workers_run(tasks):
        if stop is None:
            assert models(tmp_path / "models") == expected
            n_finals = {"ensembles": 2, "stacked": 2, "choices": 1}[name]
            assert tasks.n_tasks - n_finals == {"ensembles": 2, "stacked": 4, "choices": 6}[name]
            return
        with pytest.raises(KeyboardInterrupt):
            models(tmp_path / "models")
    with workers_run():
        assert models(tmp_path / "models") == expected
    assert {path.name for path in (tmp_path / "models" / ".checkpoints").iterdir()} == {".lock"}


def test_the_progress_counts_the_epochs_of_all_networks_and_never_goes_back(tracks, tmp_path):
    class Counting(Silent):
        def __init__(self) -> None:
            self.total = 0.0
            self.counts: list[float] = []

        def start(self, description: str, total: float) -> None:
            self.total = total

        def update(self, done: float) -> None:
            self.counts.append(done)

    progress = Counting()
    with workers_run():
        evaluate(tracks, settings("choices"), REGISTRY, tmp_path, progress=progress)
    assert progress.total == progress.counts[-1] == 2 * (6 + 1) * 4
    assert progress.counts == sorted(progress.counts)


def test_the_cost_of_a_training_is_that_of_its_networks_and_of_what_follows(tracks, tmp_path):
    noted: list[dict[str, float]] = []

    def noting(*arguments: Any, **options: Any) -> Iterator[Any]:
        for outcome in run_here(*arguments, **options):
            [folder] = tmp_path.iterdir()
            noted.append({path.name: path.stat().st_size for path in folder.glob("checkpoints/*/*-cost.json")})
            yield outcome

    with workers_run(noting):
        run, _ = evaluate(tracks, settings("ensembles"), REGISTRY, tmp_path)
    assert [len(one) for one in noted] == [1, 2, 0, 1, 2, 0, 0, 0]
    rows = read_table(run.folder / "cost.parquet").to_pylist()
    assert [row["sessions"] for row in rows] == [1] * 4
    assert min(row["wall_seconds"] for row in rows if row["network"]) > 0
    assert min(row["cpu_seconds"] for row in rows) > 0


def test_a_training_interrupted_between_two_of_its_networks_counts_as_resumed(tracks, tmp_path):
    for stop in (1, 4):  # then after the first network of the second fold
        with workers_run(Tasks(stop)), pytest.raises(KeyboardInterrupt):
            evaluate(tracks, settings("ensembles"), REGISTRY, tmp_path)
    with workers_run():
        run, _ = evaluate(tracks, settings("ensembles"), REGISTRY, tmp_path)
    rows = read_table(run.folder / "cost.parquet").to_pylist()
    assert [(row["network"], row["sessions"]) for row in rows] == [("mlp", 2), (None, 1), ("mlp", 2), (None, 1)]


def test_an_estimate_expects_as_many_busy_workers_as_there_are_tasks(store):
    with workers_run():
        planned = plan_experiment([experiment("fl", "stats", cv=3, ensemble=4)], store, REGISTRY)
        [cost] = estimate(planned, jobs=100).costs
    assert cost.seconds == pytest.approx(sum(part.seconds * part.trainings for part in cost.parts) / (3 * 4 + 3))
