"""Tags from the store to models: labels, training, learners, predictions and the tables of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import write_tones
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from small_store import (
    CLASSES,
    TAGS,
    Notes,
    class_frames,
    experiment,
    job,
    open_tracks,
    workers_run,
    write_classes,
    write_store,
    write_tags,
)

from mirembed import Classification, Listing, Tags, Track
from mirembed.config import Approach
from mirembed.errors import EvaluationError, PluginError, StoreError
from mirembed.evaluate.fold import FoldTraining, train_fold
from mirembed.extract import extract
from mirembed.extract.summary import Summary
from mirembed.features import resolve_features
from mirembed.fit import fit
from mirembed.fit.job import fit_models
from mirembed.inventory import verify
from mirembed.models.learners import fit_learner
from mirembed.models.model import Model, named_predictions
from mirembed.models.outputs import LEARNED, predictions, tag_scores
from mirembed.registry import Plugin, Registry
from mirembed.runs.folder import PartFolder
from mirembed.runs.tables import Predictions, predictions_table
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.files import read_table
from mirembed.store.rows import task_from_json, task_to_json
from mirembed.training.labels import label_vectors

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()


def registry_with(estimator: Any, **attributes: Any) -> Registry:
    """Return a registry with the learner ``own``, whose estimator is always a copy of this one."""
    from sklearn.base import clone

    class Own:
        def estimator(self, task: Any) -> Any:
            return clone(estimator)

    for name, value in attributes.items():
        setattr(Own, name, value)
    return Registry([*REGISTRY.plugins, Plugin("learner", "own", Own, "", "mirembed", "")])


@pytest.fixture(scope="module")
def problem() -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of 48 tracks with any of three tags, and these tags."""
    rng = np.random.default_rng(0)
    tags = np.arange(48)[:, None] >> np.arange(3) & 1
    X = tags @ rng.uniform(-1, 1, (3, 8)) + rng.normal(0, 0.1, (48, 8))
    return X.astype(np.float32), tags


# In the store


def test_tags_are_a_list_in_the_order_of_the_task(tmp_path):
    store = write_tags(tmp_path)
    dataset = store.find(None)
    table = read_table(dataset.folder / "tracks.parquet")
    assert table.schema.field("label").type == pa.list_(pa.string())
    assert table["label"].to_pylist()[5:9] == [["high", "middle"], ["low", "middle"], ["high", "low", "middle"], []]
    assert [track.label for track in dataset.tracks()][5:8] == [
        frozenset({"high", "middle"}),
        frozenset({"low", "middle"}),
        frozenset({"high", "low", "middle"}),
    ]
    assert dataset.info().task == TAGS
    assert task_from_json(task_to_json(TAGS)) == TAGS


def test_opened_tracks_have_a_0_or_1_for_each_tag(tmp_path):
    tracks = open_tracks(write_tags(tmp_path, 12))
    assert tracks.task == TAGS
    assert tracks.label_array.dtype == np.int64
    np.testing.assert_array_equal(tracks.label_array, np.arange(12)[:, None] % 8 >> np.arange(3) & 1)


def test_tags_of_no_track_are_left_out_and_noted(tmp_path):
    task = Tags(("unused", "high", "low", "other"))
    labels = [frozenset({"high"}), frozenset({"high", "low"}), frozenset({"high"})] * 3 + [frozenset()]
    progress = Notes()
    tracks = open_tracks(write_store(tmp_path, task, labels, class_frames(["high"] * 10)), progress)
    assert tracks.task == Tags(("high", "low"))
    assert tracks.label_array.shape == (10, 2)
    assert any("other, unused" in note for note in progress.notes)
    assert any(note.startswith("1 of 10 tracks without a tag") for note in progress.notes)
    fewer = tracks.without(dict.fromkeys(("001", "004", "007"), "quiet"))
    assert (fewer.task, fewer.label_array.tolist()) == (Tags(("high",)), [[1]] * 6 + [[0]])


def test_tags_of_every_track_are_noted(tmp_path):
    labels = [frozenset({"high", "low"}), frozenset({"high"})] * 3
    progress = Notes()
    open_tracks(write_store(tmp_path, TAGS, labels, class_frames(["high"] * 6)), progress)
    assert any("every track" in note and note.endswith(": high") for note in progress.notes)


def test_other_tags_make_another_digest(tmp_path):
    one, other = (open_tracks(write_tags(tmp_path / str(n), 8 + n)) for n in range(2))
    assert one.digest != other.digest
    changed = write_tags(tmp_path / "changed", 8)
    dataset = changed.find(None)
    tracks = dataset.tracks()
    dataset.write_tracks([replace(tracks[0], label=frozenset({"low"})), *tracks[1:]], dataset.info())
    assert open_tracks(changed).digest != one.digest


@pytest.mark.parametrize(("write", "task"), [(write_classes, TAGS), (write_tags, CLASSES)])
def test_a_table_of_classes_is_not_read_as_tags_nor_the_other_way_around(tmp_path, write, task):
    dataset = write(tmp_path).find(None)
    dataset.write_info(replace(dataset.info(), task=task))
    with pytest.raises(StoreError, match=r"tracks\.parquet"):
        dataset.tracks()


# Extracting


def extract_tags(store: Store, audio: Path, labels: dict[str, Any], task: Any = TAGS) -> Summary:
    """Extract the files of a folder that have labels."""
    store.create()
    tracks = [Track(name, audio / name, label) for name, label in labels.items()]
    features = [resolve_features(REGISTRY, "logmel")]
    return extract(store, Listing(task, tracks), spec="own", plugin={}, audio=audio, features=features, jobs=1)


def test_new_tags_of_known_files_are_stored_without_decoding(tmp_path):
    audio, store = write_tones(tmp_path / "audio", n_tracks=1, seconds=0.3), Store(tmp_path / "store")
    names = sorted(path.relative_to(audio).as_posix() for path in audio.rglob("*.wav"))
    first, second, third = names
    extract_tags(store, audio, {first: frozenset({"low"}), second: frozenset(), third: frozenset({"low", "high"})})
    summary = extract_tags(
        store, audio, {first: frozenset({"low"}), second: frozenset({"high"})}, Tags(("low", "high"))
    )
    assert (summary.extracted, summary.relabeled, summary.unlisted) == (0, 1, 1)
    dataset = store.find(None)
    assert {track.id: track.label for track in dataset.tracks()} == {
        first: {"low"},
        second: {"high"},
        third: {"low", "high"},
    }
    extract_tags(store, audio, {first: frozenset(), second: frozenset()}, Tags(("other",)))
    assert dataset.info().task == Tags(("other", "high", "low"))
    assert verify(store) == []


def test_classes_do_not_replace_tags(tmp_path):
    audio, store = write_tones(tmp_path / "audio", n_tracks=1, seconds=0.3), Store(tmp_path / "store")
    names = sorted(path.relative_to(audio).as_posix() for path in audio.rglob("*.wav"))
    extract_tags(store, audio, dict.fromkeys(names, frozenset({"low"})))
    with pytest.raises(StoreError, match=r"classes.*tags.*\n?.*store rm dataset:own"):
        extract_tags(store, audio, dict.fromkeys(names, "low"), Classification(("low", "high")))


# Label vectors


def test_label_vectors_are_0_or_1_for_each_tag():
    vectors = label_vectors(TAGS, np.array([[1, 0, 1], [0, 0, 0]]), None)
    assert (vectors.dtype, vectors.tolist()) == (np.float32, [[1, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("similarity", "expected"), [("rbf", [1, np.exp(-2)]), ("cosine", [0, 0]), ("polynomial", [0, 0])]
)
def test_the_similarities_of_a_track_without_tags_are_finite(similarity, expected):
    import torch

    from mirembed.training.similarity import PluginSimilarity

    vectors = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 1]])
    found = PluginSimilarity.create(REGISTRY, Spec(similarity))(vectors)
    np.testing.assert_allclose(found[0, 1:].numpy(), expected, atol=1e-6)


# Learners


@pytest.mark.parametrize(
    "estimator",
    [
        KNeighborsClassifier(3),
        RandomForestClassifier(10, random_state=0),
        RidgeClassifier(),
        MultiOutputClassifier(LogisticRegression()),
        MLPClassifier((8,), max_iter=500, random_state=0, solver="lbfgs"),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("n_tags", [1, 3])
@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_scikit_learns_estimators_of_several_outputs_predict_and_score_tags(problem, estimator, n_tags):
    X, tags = problem
    y, task = tags[:, :n_tags], Tags(TAGS.classes[:n_tags])
    fitted = estimator.fit(X, y)
    predicted, scores = predictions(fitted, "it", task, X), tag_scores(fitted, "it", task, X)
    assert predicted.shape == scores.shape == y.shape
    assert (predicted == y).mean() > 0.95
    for column in range(n_tags):
        assert scores[y[:, column] == 1, column].min() > scores[y[:, column] == 0, column].mean()


def test_an_estimator_without_scores_ranks_by_its_predictions(problem):
    X, tags = problem

    class Plain:
        def predict(self, X: np.ndarray) -> np.ndarray:
            return tags

    np.testing.assert_array_equal(tag_scores(Plain(), "it", TAGS, X), tags)


@pytest.mark.parametrize("wrong", [2, -1, 0.5])
def test_predictions_other_than_0_and_1_are_refused(problem, wrong):
    X, tags = problem

    class Wrong:
        def predict(self, X: np.ndarray) -> np.ndarray:
            return np.where(np.arange(48)[:, None] == 7, wrong, tags)

    with pytest.raises(PluginError, match=rf"predicted {wrong:g}\D.* track 7"):
        predictions(Wrong(), "it", TAGS, X)


@pytest.mark.parametrize("scores", [np.zeros(48), np.zeros((48, 2)), np.full((48, 3), np.nan)])
def test_scores_of_another_shape_or_not_finite_are_refused(problem, scores):
    class Wrong:
        def decision_function(self, X: np.ndarray) -> np.ndarray:
            return scores

    with pytest.raises(PluginError, match="decision_function of it"):
        tag_scores(Wrong(), "it", TAGS, problem[0])


def fitted_model(
    tracks: Any, X: np.ndarray, tags: np.ndarray, registry: Registry, learner: str, **options: Any
) -> Model:
    """Return a model whose learner is fitted to embeddings and tags."""
    approach = Approach.parse("rbf-sl")
    fitted = fit_learner(registry, Spec.parse(learner), approach, TAGS, X, tags, None, seed=(0, 0), **options)
    [model] = fit_models(job(tracks, "rbf-sl", epochs=1), REGISTRY).models.values()
    model = replace(model, task=TAGS)
    model.use(fitted)
    return model


@pytest.fixture(scope="module")
def tracks(tmp_path_factory) -> Any:
    return open_tracks(write_tags(tmp_path_factory.mktemp("store"), 24))


@pytest.mark.parametrize("learner", ["svm", "svm:kernel=match", "own"])
def test_tags_that_all_or_no_training_tracks_have_are_predicted_as_they_were(problem, tracks, learner):
    X, tags = problem
    tags = np.stack([tags[:, 0], np.ones(48, int), np.zeros(48, int)], axis=1)
    registry = registry_with(MultiOutputClassifier(LogisticRegression()))
    model = fitted_model(tracks, X, tags, registry, learner)
    assert model.constant_tags is not None
    assert model.constant_tags.tolist() == [LEARNED, 1, 0]
    np.testing.assert_array_equal(model.predict(X), tags)
    scores = model.scores(X)
    low = 0 if learner == "own" else -1
    assert set(scores[:, 1]) == {1}
    assert set(scores[:, 2]) == {low}
    assert len(set(scores[:, 0])) > 10


def test_a_learner_is_not_asked_for_tags_that_are_the_same_everywhere(problem, tracks):
    X, tags = problem
    with pytest.raises(EvaluationError, match="same tags"):
        fitted_model(tracks, X, np.tile(tags[5], (48, 1)), REGISTRY, "svm")


def test_a_learner_may_take_groups(problem):
    X, tags = problem
    groups = np.arange(48) // 4
    seen = []

    class Splitter(GroupKFold):
        def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
            seen.append(groups)
            return super().split(X, y, groups)

    search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 5]}, cv=Splitter(3))
    approach = Approach.parse("rbf-sl")
    registry = registry_with(search, takes_groups=True)
    fit_learner(registry, Spec("own"), approach, TAGS, X, tags, None, seed=(0, 0), groups=groups)
    fit_learner(registry, Spec("own"), approach, TAGS, X, tags, None, seed=(0, 0))
    np.testing.assert_array_equal(seen[0], groups)
    assert len(set(seen[1])) == 48


def test_groups_reach_a_learner_with_a_precomputed_kernel(problem):
    X, tags = problem
    search = GridSearchCV(SVC(kernel="precomputed"), {"C": [0.1, 1, 10]}, cv=GroupKFold(4))
    registry = registry_with(search, takes_groups=True, kernel_similarity="rbf")
    task, y, groups = Classification(("a", "b")), tags[:, 0], np.arange(48) // 4
    approach = Approach.parse("rbf-sl")
    fitted = fit_learner(registry, Spec("own"), approach, task, X, y, None, seed=(0, 0), groups=groups)
    gram = np.exp(-np.square(X[:, None] - X).sum(axis=2))
    expected = search.fit(gram, y, groups=groups)
    assert fitted.chosen == expected.best_params_


# Models


@pytest.mark.parametrize("approach", ["nn", "fl", "rbf-sl", "cosine-sl", "stats", "untrained", "chance"])
def test_every_approach_predicts_and_scores_tags(tracks, approach):
    [model] = fit_models(job(tracks, approach, epochs=30, excerpt=20), REGISTRY).models.values()
    frames = tracks.frames["logmel"]
    embeddings = model.embed(frames.open(), frames.starts, frames.lengths)
    predicted, scores = model.predict(embeddings), model.scores(embeddings)
    assert predicted.shape == scores.shape == (24, 3)
    assert predicted.dtype == np.int64
    assert set(predicted.ravel()) <= {0, 1}
    assert model.predict(embeddings[:0]).shape == model.scores(embeddings[:0]).shape == (0, 3)
    if approach in ("fl", "rbf-sl", "stats"):
        assert (predicted == tracks.label_array).mean() > 0.8
    if approach == "nn":
        np.testing.assert_array_equal(predicted, scores > 0)


def test_chance_predicts_the_majority_of_each_tag(tracks):
    rows = np.array([1, 3, 5, 7, 2, 0])
    [model] = fit_models(job(tracks, "chance", rows=rows), REGISTRY).models.values()
    expected = DummyClassifier(strategy="most_frequent").fit(np.zeros((6, 1)), tracks.label_array[rows])
    np.testing.assert_array_equal(model.predict(np.zeros((3, 1))), expected.predict(np.zeros((3, 1))))


def test_classes_have_no_scores(tmp_path):
    [model] = fit_models(job(open_tracks(write_classes(tmp_path)), "chance"), REGISTRY).models.values()
    with pytest.raises(TypeError):
        model.scores(np.zeros((2, 1), np.float32))


def test_a_saved_model_predicts_and_scores_the_same(tmp_path):
    store = write_tags(tmp_path)
    dataset = store.find(None)
    stored = [replace(track, label=track.label | {"middle"}) for track in dataset.tracks()]
    dataset.write_tracks(stored, dataset.info())
    tracks = open_tracks(store)
    settings = experiment("fl", "rbf-sl", learner=("svm", "svm:kernel=match", "svm:class_weight=balanced"), epochs=2)
    settings = replace(settings, approach=("rbf-sl",))
    with workers_run():
        found = fit(tracks, store, settings, REGISTRY, store.models, seed=0, jobs=1)
    assert len(found) == 3
    for entry in found:
        model = Model.load(entry.folder, REGISTRY)
        frames = tracks.frames["logmel"]
        embeddings = model.embed(frames.open(), frames.starts, frames.lengths)
        assert model.task == TAGS
        assert model.predict(embeddings)[:, 2].tolist() == [1] * 24
        model.save(tmp_path / "again" / entry.folder.name)
        again = Model.load(tmp_path / "again" / entry.folder.name, REGISTRY)
        np.testing.assert_array_equal(again.predict(embeddings), model.predict(embeddings))
        np.testing.assert_array_equal(again.scores(embeddings), model.scores(embeddings))


def test_a_prediction_is_named_by_its_tags():
    found = named_predictions(TAGS, np.array([[1, 0, 1], [0, 0, 0]]))
    assert found == [{"label": ["high", "middle"]}, {"label": []}]


# Tables of runs


def test_predictions_and_scores_are_read_as_they_were_written():
    method = experiment("rbf-sl").methods[0]
    rng = np.random.default_rng(0)
    truth, predicted, scores = rng.integers(0, 2, (5, 3)), rng.integers(0, 2, (5, 3)), rng.normal(size=(5, 3))
    truth[0] = 0
    table = predictions_table(TAGS, method, 0, 1, list("abcde"), truth, predicted, scores)
    start = table.column_names.index("label")
    assert table.column_names[start : start + 5] == ["label", "prediction", "score_high", "score_low", "score_middle"]
    assert table["label"].type == table["prediction"].type == pa.list_(pa.string())
    read = Predictions.from_table(table, TAGS)
    np.testing.assert_array_equal(read.truth, truth)
    np.testing.assert_array_equal(read.predicted, predicted)
    np.testing.assert_array_equal(read.scores, scores)
    np.testing.assert_array_equal(read.take(np.array([3, 1])).scores, scores[[3, 1]])


def test_a_fold_writes_predictions_with_scores_at_every_checkpoint(tracks, tmp_path):
    rows = np.arange(24)
    training = FoldTraining(
        job=job(tracks, "nn", "fl", rows=rows[6:], epochs=2, checkpoint_every=1),
        test=rows[:6],
        ids=tracks.ids,
        part=PartFolder(tmp_path / "part", tmp_path / "unfinished"),
        models=None,
        keep_embeddings="none",
    )
    train_fold(training, lambda epoch: None)
    for name in ("predictions", "checkpoints"):
        found = Predictions.by_method(read_table(Path(training.part.folder, f"{name}.parquet")), TAGS)
        for one in found.values():
            np.testing.assert_array_equal(one.truth[:6], tracks.label_array[:6])
            assert one.scores is not None
            assert np.isfinite(one.scores).all()
