"""Experiments with several evaluations: files, repetition, interruption, estimates."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import clean_environment, wait_until, write_tones
from pages import invoke
from small_store import workers_run

from mirembed.config import Settings
from mirembed.datasets.splits import make_folds
from mirembed.evaluate import plan
from mirembed.evaluate.experiment import evaluate as evaluate_planned
from mirembed.evaluate.experiment import plan_experiment
from mirembed.fit import selection
from mirembed.registry import Registry
from mirembed.runs.folder import RunFolder
from mirembed.store import Store
from mirembed_similarities import Rbf

pytestmark = pytest.mark.slow

EXPERIMENT = """
epochs = 11
approach = ["rbf-sl", "stats"]
network = ["mlp"]

[[evaluation]]
name = "folds"
dataset = ["folder", "gtzan"]
cv = 3

[[evaluation]]
name = "splits"
dataset = "folder"
splits = 2
test-size = 0.3
checkpoint-every = 0
"""
TABLES = ("predictions.parquet", "curves.parquet", "folds.parquet", "scores.json")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment file, and a store with two small datasets."""
    folder = tmp_path_factory.mktemp("grid")
    write_tones(folder / "tones", n_tracks=4, seconds=0.5)
    for style, new in (("low", "blues"), ("high", "jazz")):
        (folder / "GTZAN" / new).mkdir(parents=True)
        for number, path in enumerate(sorted((folder / "tones" / style).iterdir())):
            shutil.copy(path, folder / "GTZAN" / new / f"{new}.{number:05d}.wav")
    (folder / "experiment.toml").write_text(EXPERIMENT)
    store = ("--store", folder / "s", "--jobs", 1)
    with workers_run():
        invoke("extract", "--dataset", "folder", "--audio", *map(str, (folder / "tones", *store)))
        invoke("extract", "--dataset", "gtzan", "--audio", *map(str, (folder / "GTZAN", *store)))
    return folder


def evaluate(work: Path, *words: object, code: int = 0, runs: str = "") -> None:
    """Run the command without worker processes."""
    with workers_run():
        invoke("evaluate", *map(str, words), "--store", str(work / "s"), "--jobs", "1", code=code)


def newest(work: Path, start: str = "experiment") -> Path:
    return max((work / "s" / "runs").glob(f"{start}-*"), key=lambda path: path.stat().st_mtime_ns)


def test_folds_are_drawn_once_and_similarities_created_once(work, tmp_path, monkeypatch):
    def counting(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*arguments, **options)

        return count

    calls: Counter[str] = Counter()
    registry, store = Registry.discover(), Store(work / "s")
    monkeypatch.setattr(plan, "make_folds", counting(make_folds, "folds"))
    monkeypatch.setattr(Rbf, "__init__", counting(Rbf.__init__, "similarity"))
    monkeypatch.setattr(RunFolder, "read_predictions", counting(RunFolder.read_predictions, "predictions"))
    settings = Settings(
        dataset=("folder",), similarity=("rbf",), network=("mlp",), cv=3, epochs=1, device="cpu", engine="torch"
    )
    [planned] = plan_experiment([settings], store, registry)
    assert calls == {"folds": 1, "similarity": 1}
    monkeypatch.setattr(selection, "fit_models", counting(selection.fit_models, "trainings"))
    with workers_run():
        evaluate_planned(planned, tmp_path, jobs=1)
    # Each training creates its similarities of embeddings and of labels, and one that ranks neighbors; the merged
    # predictions are scored as they are.
    assert calls == {"folds": 1, "similarity": 1 + 3 * 3, "trainings": 3}


@pytest.fixture(scope="module")
def grid(work: Path) -> Path:
    evaluate(work, "--config", work / "experiment.toml", "--json")
    return newest(work)


def test_each_evaluation_has_a_folder_in_the_folder_of_the_experiment(grid):
    members = ["folds-folder", "folds-gtzan", "splits"]
    manifest = json.loads((grid / "manifest.json").read_text())
    assert manifest["configuration"]["grid"] == members
    assert manifest["finished"]
    for member in members:
        assert set(pd.read_parquet(grid / member / "predictions.parquet")["method"]) == {"rbf-sl", "stats"}
    assert (grid / "folds-gtzan" / "checkpoints.parquet").exists()
    assert not (grid / "splits" / "checkpoints.parquet").exists()


def test_the_written_file_has_all_defaults_filled_in(grid):
    tables = tomllib.loads((grid / "experiment.toml").read_text())["evaluation"]
    assert [(t["name"], t["dataset"], t["folds"]) for t in tables] == [
        ("folds-folder", ["folder"], "stratified"),
        ("folds-gtzan", ["gtzan"], "stratified"),
        ("splits", ["folder"], "random"),
    ]
    assert tables[0]["learner"] == ["svm"]
    assert tables[0]["batch"] == 32
    assert (tables[2]["splits"], tables[2]["test-size"]) == (2, 0.3)


def test_repeating_an_experiment_by_its_folder_gives_the_same_numbers(work, grid):
    evaluate(work, "--config", grid)
    again = newest(work)
    assert again != grid
    for member in ("folds-folder", "folds-gtzan", "splits"):
        for name in TABLES:
            assert (again / member / name).read_bytes() == (grid / member / name).read_bytes()


def test_a_run_is_repeated_by_its_name_and_flags_override_its_settings(work, grid):
    evaluate(work, "--config", grid / "splits")
    run = newest(work, "folder")
    assert (run / "predictions.parquet").read_bytes() == (grid / "splits" / "predictions.parquet").read_bytes()
    evaluate(work, "--config", run.name, "--approach", "untrained", "--cv", 2)
    other = newest(work, "folder")
    settings = tomllib.loads((other / "experiment.toml").read_text())
    assert (settings["approach"], settings["cv"], settings.get("splits")) == (["untrained"], 2, None)


def test_an_experiment_cannot_be_compared_but_its_runs_can(work, grid, capsys):
    capsys.readouterr()
    invoke("compare", grid.name, "--store", str(work / "s"), code=1)
    assert f"{grid.name}/folds-folder," in capsys.readouterr().err
    invoke("compare", f"{grid.name}/splits", "--store", str(work / "s"))
    assert "Welch" in capsys.readouterr().out


def test_several_datasets_can_be_given_as_flags(work, capsys):
    capsys.readouterr()
    evaluate(work, "--dataset", "folder", "--dataset", "gtzan", "--approach", "stats", "--cv", 2, "--json")
    content = json.loads(capsys.readouterr().out)
    assert [one["dataset"] for one in content["evaluations"]] == ["folder", "gtzan"]
    assert [set(one["approaches"]) for one in content["evaluations"]] == [{"stats"}] * 2


def test_a_preset_skips_datasets_that_the_store_lacks_and_says_so(work, capsys):
    capsys.readouterr()
    evaluate(work, "--preset", "paper", "--approach", "stats", "--learner", "svm", "--cv", 2, "--json")
    captured = capsys.readouterr()
    assert [line for line in captured.err.splitlines() if line.startswith("warning: ") and "emotify" in line]
    assert [one["dataset"] for one in json.loads(captured.out)["evaluations"]] == ["gtzan", "gtzan"]


def test_a_requested_dataset_that_the_store_lacks_is_an_error(work, capsys):
    capsys.readouterr()
    evaluate(work, "--preset", "paper", "--dataset", "emotify", code=1)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "emotify" in error


def test_a_dry_run_estimates_the_costs_and_leaves_nothing(work, capsys):
    before = sorted((work / "s" / "runs").rglob("*"))
    capsys.readouterr()
    evaluate(work, "--config", work / "experiment.toml", "--dry-run", "--json")
    plan = json.loads(capsys.readouterr().out)
    costs = plan["evaluations"]
    # Three folds and two approaches, of which one is trained; after 11 epochs and at the tenth it is scored.
    assert [(cost["trainings"], cost["epochs"], cost["scorings"]) for cost in costs] == [
        (3, 11, 9),
        (3, 11, 9),
        (2, 11, 4),
    ]
    assert all(cost["seconds"] > 0 and cost["memory"] > 0 and cost["disk"] > 0 for cost in costs)
    assert plan["seconds"] == pytest.approx(sum(cost["seconds"] for cost in costs))
    assert sorted((work / "s" / "runs").rglob("*")) == before
    evaluate(work, "--dataset", "folder", "--cv", 3, "--epochs", 3, "--network", "mlp", "--dry-run")
    assert "with --jobs 1" in capsys.readouterr().out


def test_a_killed_experiment_is_finished_by_the_same_command_to_the_bit(work, grid, tmp_path):
    store = tmp_path / "s"
    for name in ("datasets", "features"):
        shutil.copytree(work / "s" / name, store / name)
    shutil.copy(work / "s" / "store.json", store)
    command = [sys.executable, "-m", "mirembed", "evaluate", "--config", "experiment.toml", "--store", str(store)]
    process = subprocess.Popen(
        [*command, "--jobs", "2"], cwd=work, env=clean_environment(), start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:  # some of the folds of the second evaluation are done, and none of the third
        wait_until(lambda: any(store.glob("runs/*/folds-gtzan/parts/*fold0*")) or process.poll() is not None)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with workers_run():
        invoke("evaluate", "--config", str(work / "experiment.toml"), "--store", str(store), "--jobs", "1")
    [finished] = store.glob("runs/experiment-*")
    for member in ("folds-folder", "folds-gtzan", "splits"):
        for name in TABLES:
            assert (finished / member / name).read_bytes() == (grid / member / name).read_bytes()


def test_impossible_folds_are_an_error_before_anything_is_trained(work, capsys):
    before = sorted((work / "s" / "runs").iterdir())
    capsys.readouterr()
    evaluate(work, "--dataset", "folder", "--dataset", "gtzan", "--approach", "stats", "--cv", 9, code=1)
    assert "(--cv)" in capsys.readouterr().err
    assert sorted((work / "s" / "runs").iterdir()) == before


def test_repeating_a_run_with_other_data_causes_a_warning(work, grid, capsys):
    manifest = grid / "splits" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["configuration"]["dataset"]["digest"] = "0123"
    manifest.write_text(json.dumps(content))
    capsys.readouterr()
    evaluate(work, "--config", grid / "splits", "--approach", "untrained")
    [warning] = [line for line in capsys.readouterr().err.splitlines() if "dataset.digest was 0123" in line]
    assert warning.startswith("warning: splits ")


def test_an_experiment_file_that_is_not_there_is_an_error(work, capsys):
    capsys.readouterr()
    evaluate(work, "--config", "nothere.toml", code=1)
    [error] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "--config nothere.toml" in error
    assert "No such file or directory" in error
