"""Models on disk: a loaded model predicts as the saved one, and cannot run code."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.preprocessing import FunctionTransformer
from small_store import LOGMEL, experiment, job, open_tracks, workers_run, write_classes, write_frames, write_targets
from third_party import install

from mirembed import Task
from mirembed.errors import MirembedError, MismatchError, ModelError, PluginError
from mirembed.features import FeaturesInfo
from mirembed.fit import FittedModel, transfer
from mirembed.fit import fit as run_fit
from mirembed.fit.job import fit_models
from mirembed.models.model import Model
from mirembed.models.saved import find_model
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.files import read_json, read_table, write_json
from mirembed.store.tracks import Tracks

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Store:
    return write_classes(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> Store:
    return write_targets(tmp_path_factory.mktemp("targets"))


def fit(store: Store, models: Path, *approaches: str, name: str | None = None, **settings: Any) -> list[FittedModel]:
    with workers_run():
        described = experiment(*approaches, **{"epochs": 2, "excerpt": 20, **settings})
        return run_fit(
            open_tracks(store), store, described, Registry.discover(), models, seed=3, jobs=1, name=name, command="test"
        )


@pytest.fixture(scope="module")
def fitted(classes, tmp_path_factory) -> list[FittedModel]:
    """Models of the three approaches."""
    return fit(classes, tmp_path_factory.mktemp("models"), "rbf-sl", "nn", "fl")


@pytest.fixture
def model(fitted, tmp_path) -> Path:
    """A copy of the model of rbf-sl to tamper with."""
    return Path(shutil.copytree(fitted[0].folder, tmp_path / "model"))


def replace_learner(model: Path, content: bytes) -> None:
    """Put another learner into a model, and make the manifest match, as an attacker would."""
    (model / "learner.skops").write_bytes(content)
    manifest = read_json(model / "model.json")
    manifest["files"]["learner.skops"] = hashlib.sha256(content).hexdigest()
    write_json(model / "model.json", manifest)


def embeddings_of(model: Model, tracks: Tracks) -> np.ndarray:
    return model.embed(tracks.frames["logmel"].open(), tracks.frames["logmel"].starts, tracks.frames["logmel"].lengths)


@pytest.mark.parametrize("approaches", [["rbf-sl"], ["nn", "fl"]], ids=["similarity", "baselines"])
@pytest.mark.parametrize("task", ["classes", "targets"])
def test_a_loaded_model_embeds_and_predicts_as_the_saved_one_to_the_bit(request, tmp_path, task, approaches):
    tracks = open_tracks(request.getfixturevalue(task))
    for name, model in fit_models(job(tracks, *approaches), REGISTRY).models.items():
        model.save(tmp_path / name)
        loaded = Model.load(tmp_path / name, REGISTRY)
        embeddings = embeddings_of(model, tracks)
        np.testing.assert_array_equal(embeddings_of(loaded, tracks), embeddings)
        predicted = model.predict(embeddings)
        np.testing.assert_array_equal(loaded.predict(embeddings), predicted)
        assert np.ptp(predicted) > 0
        assert (loaded.task, loaded.features, loaded.form, loaded.recordings) == (
            model.task,
            model.features,
            model.form,
            model.recordings,
        )
        assert loaded.provenance["approach"] == name


def test_a_prediction_is_the_same_to_the_bit_alone_and_among_others(fitted, classes):
    embeddings = embeddings_of(Model.load(fitted[0].folder, REGISTRY), open_tracks(classes))
    for entry in fitted:
        model = Model.load(entry.folder, REGISTRY)
        np.testing.assert_array_equal(model.predict(embeddings[5:6]), model.predict(embeddings)[5:6])


def test_classes_are_predicted_as_indices_and_targets_in_original_units(classes, targets):
    for store, dtype, shape in [(classes, np.int64, (18,)), (targets, np.float64, (24, 2))]:
        tracks = open_tracks(store)
        for model in fit_models(job(tracks, "nn", "fl"), REGISTRY).models.values():
            predicted = model.predict(embeddings_of(model, tracks))
            assert (predicted.dtype, predicted.shape) == (dtype, shape)
    assert 0 < predicted[:, 1].mean() < 10  # of numbers about 5, which are scaled to [0, 1] for the learner


def test_a_model_holds_only_arrays_and_json(fitted):
    for entry in fitted:
        files = {path.name for path in entry.folder.iterdir()}
        learner = set() if entry.approach == "nn" else {"learner.skops"}
        assert files == {"model.json", "network.safetensors"} | learner
        for name in learner:
            archive = zipfile.ZipFile(entry.folder / name)
            json.loads(archive.read("schema.json"))
            for member in set(archive.namelist()) - {"schema.json"}:
                np.load(io.BytesIO(archive.read(member)), allow_pickle=False)


def test_loading_uses_no_pickle(fitted, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert [Model.load(entry.folder, REGISTRY).provenance["approach"] for entry in fitted] == ["rbf-sl", "nn", "fl"]


def test_the_error_names_the_types_that_are_refused(model):
    replace_learner(model, skops.io.dumps(FunctionTransformer(func=os.system)))
    with pytest.raises(ModelError, match=r"not loaded.* posix\.system\b") as error:
        Model.load(model, REGISTRY)
    assert str(model / "learner.skops") in str(error.value)
    assert "FunctionTransformer" not in str(error.value)


class Malicious:
    """Makes a folder when it is unpickled or reconstructed."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("write", [pickle.dumps, skops.io.dumps], ids=["pickle", "skops"])
def test_a_malicious_learner_is_refused_and_does_nothing(model, tmp_path, write):
    replace_learner(model, write(Malicious(tmp_path / "attacked")))
    with pytest.raises(ModelError, match="not loaded"):
        Model.load(model, REGISTRY)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("name", ["network.safetensors", "learner.skops"])
def test_a_file_that_is_not_the_saved_one_is_refused(model, name):
    path = model / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} has changed.*fit the model again"):
        Model.load(model, REGISTRY)
    path.unlink()
    with pytest.raises(ModelError, match="is damaged"):
        Model.load(model, REGISTRY)


def test_a_damaged_manifest_is_an_error(model):
    whole = read_json(model / "model.json")
    for key in whole:
        write_json(model / "model.json", {name: value for name, value in whole.items() if name != key})
        with pytest.raises(ModelError, match="model"):
            Model.load(model, REGISTRY)
    write_json(model / "model.json", {**whole, "network": {**whole["network"], "members": 0}})
    with pytest.raises(ModelError, match="is damaged"):
        Model.load(model, REGISTRY)
    for content in ("", "{", "[]", "3", "null"):
        (model / "model.json").write_text(content)
        with pytest.raises(ModelError, match="model"):
            Model.load(model, REGISTRY)


def test_a_model_of_another_format_is_refused(model):
    write_json(model / "model.json", {**read_json(model / "model.json"), "format": 1})
    with pytest.raises(ModelError, match=r"format 1\b.* format 7\b"):
        Model.load(model, REGISTRY)


def test_the_error_about_a_missing_learner_says_what_to_install(tmp_path, monkeypatch):
    source = """
        import numpy as np
        from mirembed import hookimpl
        from sklearn.base import BaseEstimator

        class First(BaseEstimator):
            def fit(self, X, y):
                self.answer_ = np.asarray(y[0])
                return self

            def predict(self, X):
                return np.repeat(self.answer_, len(X))

        class Learner:
            def estimator(self, task):
                return First()

        @hookimpl
        def mirembed_register_learners(register):
            register("first", Learner)
    """
    install(tmp_path / "site", "mirembed-first", source)
    monkeypatch.syspath_prepend(tmp_path / "site")
    [entry] = fit(write_classes(tmp_path / "store"), tmp_path / "models", "fl", learner="first")
    loaded = Model.load(entry.folder, Registry.discover())
    assert loaded.predict(np.zeros((2, 50), np.float32)).tolist() == [0, 0]
    with pytest.raises(ModelError, match=f"{entry.folder} needs the learner 'first' .*mirembed-first==1.0"):
        Model.load(entry.folder, REGISTRY)


class Unsound:
    """A learner whose estimator predicts, and fits, by the given functions."""

    def __init__(self, predict: Callable[[np.ndarray], Any], fit: Callable[..., Any] = lambda X, y: None) -> None:
        self.predict, self.fit = predict, fit
        self.unsavable = (number for number in range(3))

    def estimator(self, task: Task) -> Unsound:
        return self


def predict_with(learner: Unsound, store: Store) -> None:
    registry = Registry([*REGISTRY.plugins, Plugin("learner", "unsound", lambda: learner, "", "mirembed-odd", "1.0")])
    model = fit_models(job(open_tracks(store), "fl", learner="unsound", epochs=1), registry).models["fl"]
    model.predict(np.zeros((4, 50), np.float32))


@pytest.mark.parametrize(
    ("predicted", "shown"),
    [
        (
            np.zeros((4, 1), int),
            r"shape \(4, 1\) .*int64.* 0 to 2 .*\(4,\)",
        ),
        (np.zeros(3, int), r"shape \(3,\) .*int64"),
        (np.array(["low"] * 4), r"shape \(4,\) .*<U3"),
        (np.array([0, 1, 3, 3]), r"predicted 3 for track 2 \(2 such values .* 0 to 2"),
        (np.array([0, np.nan, 1, 1]), r"predicted nan for track 1 \(1 such value .* 0 to 2"),
    ],
)
def test_predictions_other_than_class_indices_are_an_error_of_the_learner(classes, predicted, shown):
    with pytest.raises(PluginError, match=rf"Unsound of learner unsound of mirembed-odd 1\.0 .*{shown}"):
        predict_with(Unsound(lambda X: predicted), classes)


def test_predictions_of_the_wrong_shape_are_an_error_of_the_learner(targets):
    with pytest.raises(PluginError, match=r"expected finite values .*\(4, 2\)"):
        predict_with(Unsound(lambda X: np.zeros(4)), targets)


def test_the_error_names_a_learner_that_raises(classes):
    def fail(*_: object) -> None:
        raise MemoryError("too many tracks")

    with pytest.raises(PluginError, match=r"learner unsound of mirembed-odd 1\.0 .*18 tracks.* too many tracks"):
        predict_with(Unsound(fail, fit=fail), classes)
    with pytest.raises(PluginError, match=r"Unsound of learner unsound .*4 tracks.* MemoryError"):
        predict_with(Unsound(fail), classes)


def test_an_estimator_that_cannot_be_saved_leaves_no_model(fitted, tmp_path):
    model = Model.load(fitted[2].folder, REGISTRY)
    model.estimator = Unsound(len)
    with pytest.raises(ModelError, match=r"Unsound.* pickle"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_of_a_model_says_how_it_was_made(fitted, classes):
    tracks = open_tracks(classes)
    for entry in fitted:
        provenance = read_json(entry.folder / "model.json")["provenance"]
        assert provenance["approach"] == entry.approach
        assert (provenance["seed"], provenance["command"]) == (3, "test")
        assert provenance["dataset"]["digest"] == tracks.digest
        assert provenance["settings"]["epochs"] == 2
        if entry.approach == "nn":
            assert provenance["learner"] is None
        else:
            assert provenance["learner"]["parameters"]["C"] == 1.0
        assert {"mirembed", "torch", "numpy", "scikit-learn"} <= provenance["versions"].keys()


def test_the_table_of_embeddings_has_the_models_embedding_of_each_recording(fitted, classes):
    tracks = open_tracks(classes)
    for entry in fitted:
        table = read_table(entry.embeddings)
        assert table.column_names == ["recording", "vector", "in_sample", "audio_hash", "duration", "file_size"]
        assert table.schema.field("vector").type == pa.list_(pa.float32(), 50)
        assert set(table["in_sample"].to_pylist()) == {True}
        assert table["audio_hash"].to_pylist() == tracks.audio_hashes
        model = Model.load(entry.folder, REGISTRY)
        stored = classes.embeddings(entry.folder.name).read(model.provenance["digest"])
        assert list(stored) == tracks.recordings
        np.testing.assert_array_equal(list(stored.values()), embeddings_of(model, tracks))


def test_embeddings_of_another_model_are_not_taken_for_its_own(fitted, classes):
    other = Model.load(fitted[1].folder, REGISTRY).provenance
    assert classes.embeddings(fitted[0].folder.name).read(other["digest"]) == {}
    assert classes.embeddings("nothing").read(other["digest"]) == {}


@pytest.mark.parametrize("approach", ["rbf-sl", "nn", "fl"])
def test_a_reused_network_is_the_same_to_the_bit_and_gets_a_new_learner(fitted, targets, tmp_path, approach):
    source = next(entry for entry in fitted if entry.approach == approach)
    base, tracks = Model.load(source.folder, REGISTRY), open_tracks(targets)
    taken = transfer(tracks, targets, source.folder, Spec.parse("svm:C=2"), REGISTRY, tmp_path, command="again")
    model = Model.load(taken.folder, REGISTRY)

    for name, array in base.network.arrays.items():
        np.testing.assert_array_equal(model.network.arrays[name], array)
    np.testing.assert_array_equal(model.normalization.mean, base.normalization.mean)
    np.testing.assert_array_equal(model.normalization.std, base.normalization.std)
    assert model.task == tracks.task
    assert model.estimator.estimators_[0].get_params()["C"] == 2
    assert model.predict(embeddings_of(model, tracks)).shape == (24, 2)
    assert model.head is None
    assert model.provenance["approach"] == ("fl" if approach == "nn" else approach)
    assert model.provenance["network_from"]["model"] == source.folder.name
    assert model.provenance["network_from"]["digest"] == base.provenance["digest"]
    assert model.provenance["learner"]["parameters"]["C"] == 2
    assert set(read_table(taken.embeddings)["in_sample"].to_pylist()) == {False}


def test_embeddings_of_a_reused_network_are_in_sample_on_its_own_training_tracks(fitted, classes, targets, tmp_path):
    tracks, other = open_tracks(classes), open_tracks(targets)
    same = transfer(tracks, classes, fitted[0].folder, Spec("svm"), REGISTRY, tmp_path)
    assert set(read_table(same.embeddings)["in_sample"].to_pylist()) == {True}
    away = transfer(other, targets, fitted[0].folder, Spec("svm"), REGISTRY, tmp_path, name="away")
    back = transfer(tracks, classes, away.folder, Spec("svm"), REGISTRY, tmp_path, name="back")
    assert set(read_table(back.embeddings)["in_sample"].to_pylist()) == {True}


def test_a_network_for_other_features_is_refused(fitted, classes, tmp_path):
    [part] = LOGMEL.parts
    finer = FeaturesInfo("logmel:hop=0.01", (replace(part, spec="logmel:hop=0.01", digest="1" * 32),))
    tracks = open_tracks(classes)
    write_frames(classes, finer, dict.fromkeys(tracks.recordings, np.zeros((9, 40), np.float32)))
    with pytest.raises(MismatchError, match=r"logmel, not logmel:hop=0\.01"):
        transfer(open_tracks(classes, features=[finer]), classes, fitted[0].folder, Spec("svm"), REGISTRY, tmp_path)


def test_models_get_free_names(classes, tmp_path):
    names = [fit(classes, tmp_path, "fl", epochs=1)[0].folder.name for _ in range(3)]
    assert names == ["folder-fl", "folder-fl-2", "folder-fl-3"]
    several = fit(classes, tmp_path, "fl", "nn", name="mine", epochs=1)
    assert [entry.folder.name for entry in several] == ["mine-fl", "mine-nn"]
    [one] = fit(classes, tmp_path, "fl", name="mine", epochs=1)
    assert one.folder == tmp_path / "mine"
    with pytest.raises(ModelError, match=f"{one.folder} .*--name"):
        fit(classes, tmp_path, "fl", name="mine", epochs=1)


def test_a_model_is_found_by_its_folder_or_by_its_name(fitted):
    folder = fitted[0].folder
    assert find_model(folder.parent, str(folder)) == folder
    assert find_model(folder.parent, folder.name) == folder
    with pytest.raises(ModelError, match=r"'folder-sbf-sl'.*folder-fl, folder-nn, folder-rbf-sl"):
        find_model(folder.parent, "folder-sbf-sl")
    with pytest.raises(MirembedError, match="none yet"):
        find_model(folder / "nothing", "x")
