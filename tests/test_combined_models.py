"""Combined models: one model on disk whose members predict together; and models of the baseline ``stats``."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import write_tones
from made_once import made_once
from pages import invoke
from small_store import (
    LOGMEL,
    evaluate,
    experiment,
    open_tracks,
    run_here,
    workers_run,
    write_classes,
    write_frames,
    write_tags,
    write_targets,
)

from mirembed import Regression, Task, load, workers
from mirembed.errors import ModelError, SpecError
from mirembed.features import resolve_features
from mirembed.fit import fit as run_fit
from mirembed.fit.saved import SavedNetwork
from mirembed.model_card import write_card
from mirembed.models import combined
from mirembed.models.averaging import Outputs, average, equal_weights
from mirembed.models.combined import CombinedModel, load_model, outputs_of
from mirembed.models.inference import embed_recordings
from mirembed.models.model import Model, named_predictions
from mirembed.models.onnx import export_onnx
from mirembed.models.saved import model_faults
from mirembed.progress import NO_PROGRESS, Silent
from mirembed.registry import Registry
from mirembed.removal import plan_removals
from mirembed.runs.tables import PREDICTED, PROBABILITY
from mirembed.store import Store
from mirembed.store.files import read_json, write_json
from mirembed.store.tracks import Tracks

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()
CHROMA, BOTH = (resolve_features(REGISTRY, spec) for spec in ("chroma", "logmel+chroma"))
MEMBERS = {"rbf-sl": "logmel", "nn": "logmel", "stats@logmel+chroma": "logmel+chroma"}
COMBINE = "both=" + "|".join(MEMBERS)
WRITE: dict[str, Callable[[Path], Store]] = {"classes": write_classes, "tags": write_tags, "targets": write_targets}


def add_chroma(store: Store) -> None:
    """Add features that are a little shorter than ``logmel``, so that stacking both cuts frames off."""
    frames = {}
    for name, logmel in store.features(LOGMEL.parts[0]).frames_of(store.features(LOGMEL.parts[0]).columns()):
        frames[name] = np.ascontiguousarray(logmel[:-3, :12] / 60 + 1)
    write_frames(store, CHROMA, frames)


def both(store: Store) -> Tracks:
    return open_tracks(store, features=[LOGMEL, BOTH])


def run_pickled(
    function: Callable[[Any], Any], arguments: Sequence[Any], *rest: Any, **options: Any
) -> Iterator[workers.Done[Any]]:
    """Work in this process, with what a worker process would be sent and send back."""
    for done in run_here(function, pickle.loads(pickle.dumps(arguments)), *rest, **options):
        yield pickle.loads(pickle.dumps(done))


def fit(tracks: Tracks, store: Store, models: Path, *approaches: str, **settings: Any) -> list[Any]:
    described = experiment(*approaches, **{"epochs": 1, "network": ("mlp",), "excerpt": 20, **settings})
    with workers_run(run_pickled):
        return run_fit(tracks, store, described, REGISTRY, models, seed=0, jobs=1)


class Fitted:
    """A store with the combined model ``folder-both``, and the folder ``alone`` with each member, fitted by itself."""

    def __init__(self, folder: Path) -> None:
        self.root, self.store = folder, Store(folder / "store")
        self.folder = self.store.models / "folder-both"
        self.models = folder / "alone"

    def make(self, write: Callable[[Path], Store]) -> None:
        store = write(self.store.root)
        add_chroma(store)
        tracks = both(store)
        other = Store(Path(shutil.copytree(store.root, self.root / "other")))
        fit(tracks, store, store.models, combine=(COMBINE,))
        fit(tracks, other, self.models, "rbf-sl", "nn")
        fit(tracks, other, self.models, "stats", features=("logmel+chroma",))

    @property
    def model(self) -> CombinedModel:
        return CombinedModel.load(self.folder, REGISTRY)

    @property
    def alone(self) -> dict[str, Model]:
        return {name: Model.load(self.models / f"folder-{name.partition('@')[0]}", REGISTRY) for name in MEMBERS}

    @property
    def tracks(self) -> Tracks:
        return both(self.store)

    def embed_alone(self) -> list[np.ndarray]:
        frames = self.tracks.frames
        return [
            model.embed(frames[MEMBERS[name]].open(), frames[MEMBERS[name]].starts, frames[MEMBERS[name]].lengths)
            for name, model in self.alone.items()
        ]


@pytest.fixture(scope="module", params=list(WRITE))
def fitted(request, tmp_path_factory) -> Fitted:
    name = request.param
    return Fitted(made_once(tmp_path_factory, f"combined-{name}", lambda folder: Fitted(folder).make(WRITE[name])))


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Fitted:
    return Fitted(made_once(tmp_path_factory, "combined-classes", lambda folder: Fitted(folder).make(write_classes)))


@pytest.fixture
def copied(classes, tmp_path) -> Path:
    """A copy of the combined model to tamper with."""
    return Path(shutil.copytree(classes.folder, tmp_path / "folder-both"))


def test_it_predicts_the_mean_of_what_its_members_fitted_alone_predict_to_the_bit(fitted):
    model, vectors = fitted.model, fitted.embed_alone()
    of_members = [outputs_of(one, of_one) for one, of_one in zip(fitted.alone.values(), vectors, strict=True)]
    expected = average(model.task, of_members, equal_weights(3))
    embeddings = model.join(vectors)
    np.testing.assert_array_equal(model.predict(embeddings), expected.predicted)
    assert np.ptp(expected.predicted) > 0
    for name in ("scores", "probabilities"):
        if (wanted := getattr(expected, name)) is not None:
            np.testing.assert_array_equal(getattr(model, name)(embeddings), wanted)
    assert model.has_probabilities == (expected.probabilities is not None)
    assert list(model.members) == list(MEMBERS)


def test_its_embedding_is_that_of_its_members_side_by_side_scaled_by_powers_of_two(fitted):
    model, vectors = fitted.model, fitted.embed_alone()
    stored = fitted.store.embeddings("folder-both").read(model.provenance["digest"])
    embeddings = np.array([stored[name] for name in fitted.tracks.recordings])
    np.testing.assert_array_equal(embeddings, model.join(vectors))
    parts = model.split(embeddings), vectors, _columns(model, embeddings)
    for name, back, of_one, scaled in zip(model.members, *parts, strict=True):
        np.testing.assert_array_equal(back, of_one)
        assert np.log2(np.unique(np.abs(scaled[of_one != 0] / of_one[of_one != 0]))) % 1 == 0
        spread = np.sqrt(scaled.var(axis=0, dtype=np.float64).sum())
        assert 0.7 < (8 * spread if name.startswith("stats") else spread) < 1.42  # statistics hardly count
    assert embeddings.shape[1] == model.units == sum(one.shape[1] for one in vectors)


def _columns(model: CombinedModel, embeddings: np.ndarray) -> Iterator[np.ndarray]:
    ends = np.cumsum([member.units for member in model.members.values()])
    yield from np.split(embeddings, ends[:-1], axis=1)


def test_stored_frames_are_not_cut_to_the_length_of_other_members_features(classes):
    model, vectors = classes.model, classes.embed_alone()
    recordings = classes.tracks.recordings
    unsaved = replace(model, provenance={})  # its embeddings are not looked up in the store
    found = embed_recordings(unsaved, classes.store, recordings, NO_PROGRESS)
    np.testing.assert_array_equal([found[name] for name in recordings], model.join(vectors))


@pytest.mark.parametrize("write", [write_classes, write_targets])
def test_fitted_to_the_training_tracks_of_a_fold_it_predicts_what_the_evaluation_did(tmp_path, write):
    store = write(tmp_path / "store")
    add_chroma(store)
    tracks = both(store)
    stacked = "weighted=stacked:rbf-sl|stats@logmel+chroma"
    settings = {"network": ("mlp",), "epochs": 1, "excerpt": 20, "combine": (COMBINE, stacked), "inner_cv": 2}
    with workers_run():
        run, _ = evaluate(tracks, experiment(cv=2, **settings), REGISTRY, tmp_path / "runs")
    rows = [row for row in run.read_predictions().to_pylist() if row["fold"] == 0]
    tested = {row["id"] for row in rows}
    by_id = dict(zip(tracks.ids, tracks.recordings, strict=True))
    for entry in fit(tracks.without(dict.fromkeys(tested, "tested")), store, store.models, **settings):
        model = CombinedModel.load(entry.folder, REGISTRY)
        found = embed_recordings(model, store, [by_id[track] for track in tested], NO_PROGRESS)
        for name in (entry.approach, *model.members):
            of_method = {row["id"]: row for row in rows if row["method"] == name}
            assert of_method.keys() == tested
            vectors = np.array([found[by_id[track]] for track in of_method])
            split = dict(zip(model.members, model.split(vectors), strict=True))
            of_one = (model, vectors) if name == entry.approach else (model.members[name], split[name])
            check_predictions(model.task, outputs_of(*of_one), list(of_method.values()))
    assert entry.approach == "weighted"
    assert len(set(entry.weights.values())) == 2


def check_predictions(task: Task, found: Outputs, rows: list[dict[str, Any]]) -> None:
    """Check that the rows of a run are these predictions."""
    if isinstance(task, Regression):
        wanted = [[row[PREDICTED + target.name] for target in task.targets] for row in rows]
        np.testing.assert_array_equal(found.predicted, wanted)
        return
    labels = [row["label"] for row in named_predictions(task, found.predicted)]
    assert labels == [row["prediction"] for row in rows]
    if found.probabilities is not None:
        wanted = [[row[PROBABILITY + name] for name in task.classes] for row in rows]
        np.testing.assert_array_equal(found.probabilities, wanted)


def test_a_damaged_member_is_a_fault_and_refused(copied):
    assert not list(model_faults(copied))
    [member] = copied.glob("members/*rbf-sl*")
    for name in ("network.safetensors", "learner.skops", "model.json"):
        content = (member / name).read_bytes()
        (member / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert [fault.path for fault in model_faults(copied)] == [str(member / name)]
        with pytest.raises(ModelError, match=f"{name} has changed"):
            load_model(copied, REGISTRY)
        (member / name).write_bytes(content)
    shutil.rmtree(member)
    assert len(list(model_faults(copied))) == 3
    with pytest.raises(ModelError, match="damaged"):
        load_model(copied, REGISTRY)


def test_a_damaged_manifest_is_an_error(copied):
    whole = read_json(copied / "model.json")
    for key in whole:
        write_json(copied / "model.json", {name: value for name, value in whole.items() if name != key})
        with pytest.raises(ModelError, match="model"):
            load_model(copied, REGISTRY)
    write_json(copied / "model.json", {**whole, "members": whole["members"][:2]})
    with pytest.raises(ModelError, match="damaged"):
        load_model(copied, REGISTRY)


def test_nothing_but_the_combined_model_is_left_of_a_fit(classes):
    models = classes.store.models
    assert [path.name for path in models.iterdir() if not path.name.startswith(".")] == ["folder-both"]
    assert {path.name for path in (models / ".checkpoints").iterdir()} <= {".lock"}
    assert [one.folder.name for one in classes.store.all_embeddings()] == ["folder-both"]


def test_an_interrupted_fit_keeps_the_finished_members(classes, tmp_path, monkeypatch):
    calls = []
    original = Model.save

    def saving(model: Model, folder: Path) -> None:
        calls.append(folder.name)
        original(model, folder)

    def interrupt(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    store = Store(Path(shutil.copytree(classes.store.root, tmp_path / "store")))
    monkeypatch.setattr(Model, "save", saving)
    with monkeypatch.context() as patch:
        patch.setattr(CombinedModel, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(classes.tracks, store, tmp_path / "models", combine=(COMBINE,))
    fitted = [name for name in calls if name.endswith(".member")]
    assert len(fitted) == 3
    [entry] = fit(classes.tracks, store, tmp_path / "models", combine=(COMBINE,))
    assert [name for name in calls if name.endswith(".member")] == fitted
    assert load_model(entry.folder, REGISTRY).trained_on == classes.model.trained_on
    assert not list((tmp_path / "models" / ".checkpoints").glob("*.member"))


def test_a_fit_counts_only_the_networks_that_it_trains(classes, tmp_path):
    stages: list[str] = []

    class Stages(Silent):
        def start(self, description: str, total: float) -> None:
            stages.append(description)

    described = experiment(epochs=1, network=("mlp",), excerpt=20, ensemble=2, combine=(COMBINE,))
    store = Store(Path(shutil.copytree(classes.store.root, tmp_path / "store")))
    with workers_run(run_pickled):
        run_fit(classes.tracks, store, described, REGISTRY, tmp_path / "models", seed=0, jobs=1, progress=Stages())
    assert "training 4 networks for 1 epoch" in stages


def test_features_of_its_members_count_as_used(classes, tmp_path):
    store = Store(Path(shutil.copytree(classes.store.root, tmp_path / "store")))
    dataset = store.find(None)
    dataset.write_info(replace(dataset.info(), features={}))
    assert plan_removals(store, ["unused"]) == []
    shutil.rmtree(store.models)
    assert {one.what.partition(" (")[0].partition("-")[0] for one in plan_removals(store, ["unused"])} >= {
        "the features logmel",
        "the features chroma",
    }


def test_it_is_exported_with_an_input_for_each_of_the_features(classes, tmp_path):
    model = classes.model
    written = export_onnx(model, tmp_path / "both.onnx")
    assert written.difference <= 1e-5 * 100
    assert written.inputs == {"frames_1": "logmel", "frames_2": "logmel+chroma"}
    session = onnxruntime.InferenceSession(written.path, providers=["CPUExecutionProvider"])
    tracks, given = classes.tracks, {}
    for number, spec in enumerate(written.inputs.values(), 1):
        frames = tracks.frames[spec]
        whole = np.zeros((2, max(frames.lengths[:2]), frames.shape[1]), np.float32)
        for row in range(2):
            start, length = frames.starts[row], frames.lengths[row]
            whole[row, :length] = frames.open()[start : start + length]
        given |= {f"frames_{number}": whole, f"lengths_{number}": frames.lengths[:2].astype(np.int64)}
    expected = model.join(classes.embed_alone())[:2]
    np.testing.assert_allclose(session.run(None, given)[0], expected, rtol=1e-5, atol=1e-5)


def test_its_card_lists_the_members_and_the_score_of_the_same_method(classes, tmp_path):
    settings = experiment(cv=2, network=("mlp",), epochs=1, excerpt=20, combine=(COMBINE,))
    with workers_run():
        evaluate(classes.tracks, settings, REGISTRY, classes.store.runs)
    text = write_card(classes.folder, classes.store, REGISTRY, tmp_path / "card.md").read_text()
    for member in MEMBERS:
        assert f"| `{member}` | 0.333 |" in text
    [run] = classes.store.runs.iterdir()
    assert f"| {run.name} |" in text
    of_stats = write_card(classes.models / "folder-stats", classes.store, REGISTRY, tmp_path / "card.md").read_text()
    assert f"| {run.name} |" in of_stats


def test_its_network_is_not_reused_but_that_of_a_member_is(classes):
    [member] = classes.folder.glob("members/*rbf-sl*")
    with pytest.raises(ModelError, match=str(member)):
        SavedNetwork.open(classes.store.models, "folder-both")
    assert SavedNetwork.open(classes.store.models, str(member)).learned.name == "rbf-sl"
    with pytest.raises(ModelError, match="--approach stats"):
        SavedNetwork.open(classes.models, "folder-stats")


def test_probabilities_say_which_members_are_not_calibrated(classes):
    assert "nn" in (classes.model.uncalibrated or "")
    members = {name: one for name, one in classes.model.members.items() if name != "nn"}
    assert CombinedModel.of(members, equal_weights(2), np.zeros(2, np.int64)).uncalibrated is None


def test_chance_has_no_model(classes, tmp_path):
    with pytest.raises(SpecError, match="--approach chance"):
        fit(classes.tracks, classes.store, tmp_path, "chance")


def test_constant_embeddings_have_no_scale():
    assert combined.equalizing([np.ones((3, 2), np.float32)], [True]).tolist() == [0]


# ---- Commands


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """Nine files, all but the last of each class in the store ``s``, and the combined model ``both``."""

    def make(folder: Path) -> None:
        write_tones(folder / "music", 3, 1.0)
        (folder / "new").mkdir()
        for path in sorted((folder / "music").glob("*/*-2.wav")):
            path.rename(folder / "new" / path.name)
        with pytest.MonkeyPatch.context() as patch, workers_run():
            patch.chdir(folder)
            features = ["--features", "logmel", "--features", "logmel+chroma"]
            invoke("extract", "--dataset", "folder", "--audio", "music", "--store", "s", *features)
            methods = ["--combine", "rbf-sl@logmel|stats@logmel+chroma", "--epochs", "1", "--network", "mlp"]
            invoke("fit", "--store", "s", *methods, "--name", "both", "--jobs", "1")

    return made_once(tmp_path_factory, "combined-library", make)


@pytest.fixture
def here(library, tmp_path, monkeypatch) -> Path:
    shutil.copytree(library, tmp_path / "library")
    monkeypatch.chdir(tmp_path / "library")
    return tmp_path / "library"


def test_files_are_embedded_and_predicted_as_the_stored_frames_to_the_bit(here):
    model, elsewhere = load("both", store="s"), load(here / "s" / "models" / "both", store="empty")
    assert model.member_weights == dict.fromkeys(model.loaded.members, pytest.approx(1 / len(model.loaded.members)))
    with workers_run():
        known, decoded = (one.embed("music", progress=False) for one in (model, elsewhere))
        np.testing.assert_array_equal(known.vectors, decoded.vectors)
        np.testing.assert_array_equal(sorted(known.vectors.tolist()), sorted(model.embeddings.vectors.tolist()))
        predictions = [one.predict("music", top=2, progress=False) for one in (model, elsewhere)]
    assert predictions[0].table.equals(predictions[1].table)
    assert set(predictions[0].table["known"].to_pylist()) == {True}
    assert (model.approach, model.learner, model.features) == ("combined", None, "logmel, logmel+chroma")


def test_every_command_that_takes_a_model_takes_a_combined_one(here, capsys):
    def run(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        with workers_run():
            invoke(*words, "--store", "s", "--json")
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    for path in (here / "new").iterdir():
        path.rename(here / "music" / path.name.partition("-")[0] / path.name)
    updated = run("update", "both", "--audio", "music", "--jobs", "1")
    assert (updated["embedded"], updated["with_embeddings"], updated["failures"]) == (3, 9, [])
    assert len(run("predict", "both", "music")["predictions"]) == 9
    assert len(next(iter(run("embed", "both", "music/low")["embeddings"].values()))) == load("both", store="s").units
    assert len(run("similar", "both", "low/low-2.wav", "--top", "3")["neighbors"]) == 3
    assert len(run("playlist", "both", "--seed", "low/low-2.wav", "--length", "4")["tracks"]) == 4
    assert run("tag", "both", "--field", "mood")["written"] is None
    run("map", "both", "--out", "map.parquet")
    run("duplicates", "both")
    [listed] = run("store", "info")["models"]
    assert (listed["model"], listed["approach"], listed["state"]) == ("both", "combined", "complete")
    assert run("store", "verify")["faults"] == []
    run("export", "both", "--card", "card.md")


def test_a_model_of_stats_embeds_and_predicts(here):
    with workers_run():
        invoke("fit", "--store", "s", "--approach", "stats", "--name", "statistics", "--jobs", "1")
        model = load("statistics", store="s")
        found = model.predict("music", progress=False)
    assert set(found.labels) == {"low", "middle", "high"}
    assert model.units == 160
