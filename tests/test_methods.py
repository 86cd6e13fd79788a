"""Evaluations and fits over several features and networks, and over networks of saved models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.svm import SVC
from small_runs import RIGHT, answers, write_run
from small_store import (
    CLASSES,
    Notes,
    class_frames,
    experiment,
    open_tracks,
    recording_of,
    workers_run,
    write_frames,
    write_store,
)

from mirembed.compare.comparison import compare
from mirembed.config import Settings
from mirembed.errors import MismatchError, SpecError, StoreError, UnknownNameError
from mirembed.evaluate.estimate import estimate
from mirembed.evaluate.experiment import Result, plan_experiment, run_experiment
from mirembed.features import FeaturesInfo, resolve_features
from mirembed.fit import fit, transfer
from mirembed.models.model import Model
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.registry import Registry
from mirembed.runs.record import open_run
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.files import read_json, write_json

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()
MEL40, MEL20 = (resolve_features(REGISTRY, spec) for spec in ("logmel", "logmel:bands=20"))
LABELS = [CLASSES.classes[number % 3] for number in range(18)]
FRAMES = class_frames(LABELS)


def write_both(root: Path, frames: Sequence[np.ndarray] = FRAMES, n_second: int = 18) -> Store:
    """Write a store of 18 tracks with 40 bands, the first ``n_second`` of which have 20 bands too."""
    store = write_store(root, CLASSES, LABELS, frames, features=MEL40)
    write_frames(store, MEL20, {recording_of(one): one[:, ::2] for one in frames[:n_second]})
    return store


def run(store: Store, *approaches: str, notes: Progress = NO_PROGRESS, **settings: Any) -> Result:
    """Evaluate in this process."""
    wanted = experiment(*approaches, **{"cv": 3, "epochs": 2, "excerpt": 20, **settings})
    with workers_run():
        planned = plan_experiment([wanted], store, REGISTRY, progress=notes)
        return run_experiment(planned, store, jobs=1, progress=notes)[1][0]


def predictions(result: Result) -> pd.DataFrame:
    return pd.read_parquet(result.run.folder / "predictions.parquet")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return write_both(tmp_path_factory.mktemp("methods") / "s")


@pytest.fixture(scope="module")
def result(store) -> Result:
    """Every approach with two features, two networks and two learners where it takes them."""
    return run(
        store,
        *("rbf-sl", "nn", "stats", "untrained", "chance"),
        features=("logmel", "logmel:bands=20"),
        network=("gru", "mlp"),
        learner=("svm", "svm:C=10"),
    )


def test_an_approach_is_combined_with_what_it_takes(result):
    rows = result.run.read_predictions().select(["method", "approach", "learner", "network", "features"]).to_pylist()
    found = {name: tuple(parts) for name, *parts in (row.values() for row in rows)}
    assert len(found) == 8 + 4 + 4 + 8 + 1
    assert found["rbf-sl+svm:C=10@mlp@logmel:bands=20"] == ("rbf-sl", "svm:C=10", "mlp", "logmel:bands=20")
    assert found["nn@gru@logmel"] == ("nn", None, "gru", "logmel")
    assert found["stats+svm@logmel"] == ("stats", "svm", None, "logmel")
    assert found["chance"] == ("chance", None, None, None)


def test_methods_are_paired_and_have_the_numbers_that_they_have_alone(store, result):
    whole = predictions(result)
    folds = whole.groupby("method").apply(lambda rows: tuple(sorted(zip(rows["fold"], rows["id"], strict=True))))
    assert folds.nunique() == 1
    for features, network in (("logmel", "gru"), ("logmel:bands=20", "mlp")):
        alone = predictions(run(store, "rbf-sl", "stats", features=(features,), network=(network,)))
        for approach, name in (("rbf-sl", f"rbf-sl+svm@{network}@{features}"), ("stats", f"stats+svm@{features}")):
            there = whole[whole["method"] == name]
            here = alone[alone["method"] == approach]
            assert here["prediction"].tolist() == there["prediction"].tolist()
    curves = pd.read_parquet(result.run.folder / "curves.parquet")
    assert set(curves.groupby(["approach", "learner", "network", "features"], dropna=False).size()) == {3 * 2}


def test_the_manifest_says_what_every_method_consists_of(result):
    configuration = result.run.manifest["configuration"]
    assert {name: one["parts"][0]["values"] for name, one in configuration["features"].items()} == {
        "logmel": 40,
        "logmel:bands=20": 20,
    }
    assert configuration["features"]["logmel"]["parts"][0]["digest"] == MEL40.parts[0].digest
    assert {name: one["plugin"]["name"] for name, one in configuration["networks"].items()} == {
        "gru": "gru",
        "mlp": "mlp",
    }
    assert (configuration["optimizer"], configuration["excerpt"], configuration["deltas"]) == ("adadelta", 20, None)
    [settings] = [one for one in [result.run.folder / "experiment.toml"] if one.exists()]
    assert 'network = [\n    "gru",\n    "mlp",\n]' in settings.read_text()
    assert [one["name"] for one in result.to_json()["methods"]] == list(result.to_json()["approaches"])


def test_tracks_are_those_with_all_features_and_the_others_are_counted(tmp_path):
    notes = Notes()
    some = run(write_both(tmp_path / "s", n_second=15), "stats", features=("logmel", "logmel:bands=20"), notes=notes)
    assert predictions(some)["id"].nunique() == 15
    [note] = [note for note in notes.notes if "15 of the 18 tracks" in note]
    assert "3 " in note
    assert "--features logmel:bands=20" in note
    assert [note for note in notes.notes if "18 have logmel, 15 have logmel:bands=20" in note]


def test_a_dry_run_gives_the_cost_of_each_network_on_each_features(store):
    settings = experiment("rbf-sl", "nn", "stats", features=("logmel", "logmel:bands=20"), network=("gru", "mlp"), cv=3)
    with workers_run():
        costs = estimate(plan_experiment([settings], store, REGISTRY), jobs=1)
    [cost] = costs.costs
    trained = {(part.network, part.features): part.trainings for part in cost.parts if part.trained}
    assert trained == {(network, one): 6 for network in ("gru", "mlp") for one in ("logmel", "logmel:bands=20")}
    assert {part.features: part.trainings for part in cost.parts if not part.trained} == {
        "logmel": 3,
        "logmel:bands=20": 3,
    }
    assert cost.trainings == 24
    assert cost.seconds == pytest.approx(sum(part.seconds * part.trainings for part in cost.parts))
    assert costs.to_json()["evaluations"][0]["parts"][0]["network"] == "gru"


# Networks of saved models


@pytest.fixture(scope="module")
def models(store) -> list[Path]:
    """Models of two networks, fitted to all tracks of the dataset with the second features."""
    with workers_run():
        tracks = open_tracks(store, features=[MEL20])
        settings = experiment("fl", features=("logmel:bands=20",), network=("gru", "mlp"), epochs=2, excerpt=20)
        fitted = fit(tracks, store, settings, REGISTRY, store.models, seed=0, jobs=1)
    return [one.folder for one in fitted]


def test_a_fit_with_several_networks_saves_one_model_for_each(models):
    assert [folder.name for folder in models] == ["folder-fl@gru", "folder-fl@mlp"]
    loaded = [Model.load(folder, REGISTRY) for folder in models]
    assert [model.network.choice.spec for model in loaded] == ["gru", "mlp"]
    assert [model.features.spec for model in loaded] == ["logmel:bands=20"] * 2


@pytest.fixture(scope="module")
def other(tmp_path_factory, models) -> Store:
    """Another store: tracks 000 to 005 are recordings that the models were fitted to."""
    new = class_frames(LABELS, n_frames=90)
    return write_both(tmp_path_factory.mktemp("other") / "s", [*FRAMES[:6], *new[6:]])


def test_a_saved_network_is_cross_validated_as_it_is(other, models):
    result = run(other, from_=[str(models[0])], learner="svm", keep_embeddings=True)
    [score] = result.scores
    assert score.method == "from-folder-fl@gru"
    assert not (result.run.folder / "checkpoints.parquet").exists()
    assert len(pd.read_parquet(result.run.folder / "curves.parquet")) == 0
    tracks = open_tracks(other, features=[MEL20])
    frames = tracks.frames["logmel:bands=20"]
    vectors = Model.load(models[0], REGISTRY).embed(frames.open(), frames.starts, frames.lengths)
    kept = pd.read_parquet(next((result.run.folder / "embeddings").glob("*fold0.parquet")))
    np.testing.assert_array_equal(np.stack(kept["embedding"]), vectors)
    rows = predictions(result)
    labels = np.array(tracks.labels)
    for _, tested in rows.groupby("fold"):
        inside = np.isin(tracks.ids, tested["id"])
        expected = SVC().fit(vectors[~inside], labels[~inside]).predict(vectors[inside])
        assert tested.sort_values("id")["prediction"].tolist() == expected.tolist()


def test_recordings_that_a_saved_network_was_trained_on_are_counted(other, models):
    notes = Notes()
    result = run(other, from_=[str(models[0])], keep_embeddings=True, notes=notes)
    [warning] = [note for note in notes.notes if "6 of 18 tracks" in note]
    assert warning.startswith("warning: ")
    assert all(name in warning for name in ("from-folder-fl@gru", str(models[0].name)))
    assert warning in result.run.read_notes()
    assert f'from = [\n    "{models[0]}",\n]' in (result.run.folder / "experiment.toml").read_text()
    kept = pd.read_parquet(next((result.run.folder / "embeddings").glob("*fold0.parquet")))
    assert kept["id"][kept["in_sample"]].tolist() == [f"{number:03d}" for number in range(6)]


def test_no_recordings_in_common_are_no_warning(tmp_path, models):
    notes = Notes()
    run(write_both(tmp_path / "s", class_frames(LABELS, n_frames=70)), from_=[str(models[0])], notes=notes)
    assert [note for note in notes.notes if "trained on" in note] == []


def test_saved_networks_stand_beside_other_approaches(store, models):
    notes = Notes()
    result = run(store, "rbf-sl", from_=[models[1].name], notes=notes, epochs=1)
    assert [score.method for score in result.scores] == ["rbf-sl", "from-folder-fl@mlp"]
    assert [note for note in notes.notes if note.startswith("warning: 18 of 18 tracks ")]
    embeddings = pd.read_parquet(result.run.folder / "embeddings")
    assert embeddings[embeddings["approach"] == "from-folder-fl@mlp"]["in_sample"].all()
    assert set(predictions(result)["features"]) == {"logmel", "logmel:bands=20"}
    assert 'from = [\n    "folder-fl@mlp",\n]' in (result.run.folder / "experiment.toml").read_text()
    record = open_run(result.run.folder.parent, result.run.folder.name)
    assert [method.label for method in record.first_methods] == ["rbf-sl", "from-folder-fl@mlp"]


def test_an_interrupted_evaluation_of_a_saved_network_is_resumed(other, models, monkeypatch):
    from mirembed.evaluate import experiment as module

    calls = []

    def stop_at_second(training: Any, on_epoch: Any) -> None:
        calls.append(training)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(training, on_epoch)

    original = module.train_fold
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "train_fold", stop_at_second)
        run(other, from_=[str(models[0])], seed=(5,))
    notes = Notes()
    resumed = run(other, from_=[str(models[0])], seed=(5,), notes=notes)
    assert [note for note in notes.notes if "1 of 3 trainings" in note]
    again = run(other, from_=[str(models[0])], seed=(5,))
    assert predictions(resumed).equals(predictions(again))


def test_only_the_recordings_of_the_network_count_for_a_transferred_model(other, models):
    with workers_run():
        tracks = open_tracks(other, features=[MEL20])
        taken = transfer(tracks, other, models[0], Spec("svm"), REGISTRY, other.models, name="taken")
    notes = Notes()
    result = run(other, from_=["taken"], notes=notes)
    assert [score.method for score in result.scores] == ["from-taken"]
    assert [note for note in notes.notes if note.startswith("warning: 6 of 18 tracks ")]
    assert read_json(taken.folder / "model.json")["recordings"] == read_json(models[0] / "model.json")["recordings"]


def test_a_kernel_matches_the_similarity_that_a_saved_network_learned(store, other):
    with workers_run():
        settings = experiment("polynomial-sl", features=("logmel:bands=20",), epochs=1)
        [model] = fit(open_tracks(store, features=[MEL20]), store, settings, REGISTRY, store.models, seed=0, jobs=1)
    result = run(other, from_=[str(model.folder)], learner="svm:kernel=match")
    [learner] = result.run.manifest["configuration"]["learners"].values()
    assert {name: kernel["name"] for name, kernel in learner["kernels"].items()} == {
        "from-folder-polynomial-sl": "polynomial"
    }


def test_a_model_of_features_that_the_store_lacks_is_an_error_with_the_command(tmp_path, models):
    lacking = write_store(tmp_path / "s", CLASSES, LABELS, FRAMES, features=MEL40)
    with pytest.raises(StoreError, match=r"mirembed extract --dataset folder --features logmel:bands=20"):
        run(lacking, from_=[str(models[0])])


def test_a_model_of_features_by_other_code_is_an_error(tmp_path, other, models):
    manifest = read_json(models[0] / "model.json")
    manifest["features"][0]["parts"][0]["digest"] = "f" * 32
    changed = tmp_path / "changed"
    changed.mkdir()
    for path in models[0].iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    write_json(changed / "model.json", manifest)
    with pytest.raises(MismatchError, match=r"changed .*logmel:bands=20"):
        run(other, from_=[str(changed)])


def test_evaluations_of_one_experiment_may_use_features_of_one_name_by_different_code(tmp_path):
    store = write_store(tmp_path / "s", CLASSES, LABELS, FRAMES, features=MEL40)
    with workers_run():
        [model] = fit(open_tracks(store), store, experiment(epochs=1), REGISTRY, store.models, seed=0, jobs=1)
    before = FeaturesInfo("logmel", (replace(MEL40.parts[0], digest="f" * 32),))
    write_frames(store, before, {recording_of(one): one + 1 for one in FRAMES})
    manifest = read_json(model.folder / "model.json")
    write_json(model.folder / "model.json", {**manifest, "features": [before.to_json()]})
    settings = [experiment("stats", name="now", cv=3), experiment(from_=(model.folder.name,), name="before", cv=3)]
    now, then = plan_experiment(settings, store, REGISTRY)
    assert now.tracks.features["logmel"] == MEL40
    assert then.tracks.features["logmel"] == before


# Errors before any work


@pytest.mark.parametrize(
    ("settings", "error", "facts"),
    [
        ({"features": ("logmell",)}, UnknownNameError, ["'logmell'", "logmel"]),
        ({"network": ("grux",)}, UnknownNameError, ["'grux'", "gru"]),
        ({"network": ("gru:hidden=x",)}, Exception, ["hidden=x", "int"]),
        ({"features": ("logmel:bands=30",)}, StoreError, ["--dataset folder --features logmel:bands=30"]),
        ({"features": ("logmel", "logmel")}, SpecError, ["--features logmel", "2 times"]),
        ({"approach": ("stats",), "network": ("mlp",)}, SpecError, ["--network mlp", "stats"]),
        ({"approach": ("chance",), "features": ("logmel:bands=20",)}, SpecError, ["--features", "chance"]),
        ({"optimizer": "adam:lr=x"}, SpecError, ["--optimizer adam:lr=x"]),
        ({"excerpt": 0}, SpecError, ["--excerpt is 0"]),
    ],
)
def test_what_cannot_be_evaluated_is_an_error_before_any_work(store, settings, error, facts):
    before = sorted(store.runs.glob("*"))
    with pytest.raises(error) as raised:
        plan_experiment([Settings(**{"approach": ("nn",), "cv": 3, "device": "cpu", **settings})], store, REGISTRY)
    assert [fact for fact in facts if fact not in str(raised.value)] == []
    assert sorted(store.runs.glob("*")) == before


# Comparing


def test_runs_with_other_features_are_compared_and_the_difference_is_named(tmp_path):
    _, b = (write_run(tmp_path / name) for name in ("run-a", "run-b"))
    content = json.loads((b / "manifest.json").read_text())
    content["configuration"]["dataset"]["digest"] = "other frames"
    for method in content["configuration"]["methods"]:
        method["features"] = "chroma"
    (b / "manifest.json").write_text(json.dumps(content))
    comparison = compare([open_run(tmp_path, "run-a"), open_run(tmp_path, "run-b")], methods=["nn"])
    assert comparison.settings["the features of nn"] == ("logmel", "chroma")


def test_a_difference_names_the_methods_in_the_order_of_their_runs(tmp_path):
    write_run(tmp_path / "run-a", {"rbf-sl": [answers(RIGHT["rbf-sl"])]})
    b = write_run(tmp_path / "run-b", {"stats": [answers(RIGHT["nn"])]})
    content = json.loads((b / "manifest.json").read_text())
    content["configuration"]["methods"][0]["features"] = "chroma"
    (b / "manifest.json").write_text(json.dumps(content))
    comparison = compare([open_run(tmp_path, "run-a"), open_run(tmp_path, "run-b")])
    [test] = [test for family in comparison.families for test in family.tests if not family.exploratory]
    assert (test.a, test.run_a) == ("rbf-sl", 1)
    assert comparison.settings["the features of rbf-sl and stats"] == ("logmel", "chroma")
