"""The estimator `mirembed.sklearn.SimilarityEmbedding`: what scikit-learn expects, and what `mirembed fit` trains."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from conftest import write_tones
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from small_store import class_frames, experiment, open_tracks, workers_run, write_classes, write_tags

import mirembed
from mirembed.errors import AudioError, SpecError, StoreError, UnknownNameError
from mirembed.fit import fit
from mirembed.registry import Registry
from mirembed.sklearn import SimilarityEmbedding

pytestmark = pytest.mark.slow

TINY = {"network": "gru:hidden=4,units=3", "epochs": 1, "excerpt": 10, "engine": "torch", "device": "cpu"}
LABELS = [("high", "low", "middle")[number % 3] for number in range(12)]


def embedding(**parameters: Any) -> SimilarityEmbedding:
    return SimilarityEmbedding(**{**TINY, **parameters})


@pytest.fixture(scope="module", name="X")
def spectrograms() -> list[np.ndarray]:
    """Spectrograms of different lengths."""
    return class_frames(LABELS, n_frames=30)


# Of tables of vectors: scikit-learn has no checks for other input.
@parametrize_with_checks([SimilarityEmbedding(network="mlp:hidden=4,units=3", epochs=1, engine="torch", device="cpu")])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.mark.parametrize("write", [write_classes, write_tags])
def test_it_trains_what_fit_trains(write, tmp_path):
    store = write(tmp_path / "store")
    tracks = open_tracks(store)
    frames = dict(mirembed.Store(store.root).features().stream())
    settings = experiment("rbf-sl", epochs=2, excerpt=10, network=(TINY["network"],), seed=(3,))
    with workers_run():
        [made] = fit(tracks, store, settings, Registry.discover(), store.models, seed=3, jobs=1)
    trained = mirembed.load(made.folder, store=store.root)
    found = embedding(epochs=2, random_state=3).fit([frames[track] for track in tracks.ids], tracks.label_array)
    np.testing.assert_array_equal(found.transform(list(frames.values())), trained.embeddings.vectors)
    assert found.losses_[0, -1] == trained.loss


def test_it_works_in_a_grid_search_with_groups(X):
    pipeline = make_pipeline(embedding(), SVC())
    groups = [number // 3 for number in range(12)]
    grid = {"similarityembedding__similarity": ["rbf", "cosine"], "svc__C": [1, 10]}
    search = GridSearchCV(pipeline, grid, cv=GroupKFold(2), error_score="raise").fit(X, LABELS, groups=groups)
    assert search.best_estimator_.predict(X).shape == (12,)
    scores = cross_val_score(pipeline, X, LABELS, groups=groups, cv=GroupKFold(4), error_score="raise")
    assert scores.shape == (4,)


def test_the_labels_may_be_classes_tags_or_targets(X):
    rng = np.random.default_rng(0)
    kinds = {"Classification": LABELS, "Tags": rng.integers(0, 2, (12, 3)), "Regression": rng.normal(size=(12, 2))}
    for kind, y in kinds.items():
        found = embedding().fit(X, y)
        assert type(found.task_).__name__ == kind
        assert found.transform(X).shape == (12, 3)
    stars = rng.integers(1, 6, 12)
    assert type(embedding(task="regression").fit(X, stars).task_).__name__ == "Regression"


def test_a_copy_and_a_pickle_embed_the_same(X):
    found = embedding(ensemble=2).fit(X, LABELS)
    vectors = found.transform(X)
    assert vectors.shape == (12, 6) and vectors.dtype == np.float32
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).transform(X), vectors)
    np.testing.assert_array_equal(clone(found).fit_transform(X, LABELS), vectors)
    assert list(found.get_feature_names_out())[:2] == ["similarityembedding0", "similarityembedding1"]


def test_every_parameter_has_an_effect(X):
    plain = embedding().fit(X, LABELS).transform(X)
    for changed in (
        {"similarity": "cosine"},
        {"label_similarity": "cosine"},
        {"batch": 4},
        {"excerpt": 20},
        {"optimizer": "adam:lr=0.1"},
        {"optimizer": "adadelta:clip=0.001"},
        {"normalize": None},
        {"deltas": False},
        {"random_state": 1},
        {"epochs": 2},
        {"network": "gru:hidden=4,units=3,cell=lstm"},
    ):
        assert not np.array_equal(embedding(**changed).fit(X, LABELS).transform(X), plain), changed


def test_excerpts_of_one_frame_do_not_limit_the_length_of_tracks(X):
    assert embedding(deltas=False, excerpt=1).fit(X, LABELS).transform(X).shape == (12, 3)


def test_audio_files_are_decoded_or_taken_from_a_store(tmp_path):
    root = write_tones(tmp_path / "tones", n_tracks=2, seconds=0.5)
    paths = sorted(root.rglob("*.wav"))
    y = [path.parent.name for path in paths]
    with workers_run():
        decoded = embedding(n_jobs=1).fit(paths, y).transform(paths)
        mirembed.extract("folder", audio=root, store=tmp_path / "store", jobs=1, progress=False)
    stored = embedding(store=tmp_path / "store").fit(list(map(str, paths)), y).transform(paths)
    np.testing.assert_array_equal(stored, decoded)
    with pytest.raises(StoreError, match="nowhere"):
        embedding(store=tmp_path / "nowhere").fit(paths, y)
    (root / "broken.wav").write_bytes(b"no audio")
    with workers_run(), pytest.raises(AudioError, match="broken"):
        embedding(n_jobs=1).fit([*paths, root / "broken.wav"], [*y, "low"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda X: [], "empty"),
        (lambda X: [*X[:11], X[0][:0]], "track 11"),
        (lambda X: [*X[:11], X[0][:, :5]], "track 11 .* 5 values"),
        (lambda X: [*X[:11], X[0][0]], "track 11"),
        (lambda X: [*X[:11], np.full_like(X[0], np.nan)], "track 11 .* NaN"),
        (lambda X: [*X[:11], "a.wav"], "audio files and frames"),
        (lambda X: X[:11], r"\[11, 12\]"),
        (lambda X: "music/a.wav", "music/a.wav"),
    ],
)
def test_ragged_and_empty_input_is_refused(X, change, said):
    with pytest.raises(ValueError, match=said):
        embedding().fit(change(X), LABELS)


def test_the_number_of_processes_is_that_of_scikit_learn(tmp_path):
    root = write_tones(tmp_path / "tones", n_tracks=2, seconds=0.5)
    paths = sorted(root.rglob("*.wav"))
    y = [path.parent.name for path in paths]
    with workers_run():
        found = [embedding(n_jobs=jobs).fit_transform(paths, y) for jobs in (-1, np.int64(1))]
    np.testing.assert_array_equal(*found)
    for wrong in (0, "2", 1.5):
        with pytest.raises(SpecError, match="n_jobs"):
            embedding(n_jobs=wrong).fit(paths, y)


def test_frames_may_be_nested_lists(X):
    expected = embedding().fit(X, LABELS).transform(X)
    nested = [one.tolist() for one in X]
    np.testing.assert_array_equal(embedding().fit(nested, LABELS).transform(nested), expected)


def test_what_transform_gets_must_be_like_what_fit_got(X):
    found = embedding().fit(X, LABELS)
    with pytest.raises(ValueError, match="5 features, but SimilarityEmbedding is expecting 40"):
        found.transform([X[0][:, :5]])
    with pytest.raises(ValueError, match="30 frames"):
        embedding().fit(np.array([one[0] for one in X]), LABELS).transform(X[:1])


def test_labels_that_say_nothing_are_refused(X):
    with pytest.raises(ValueError, match="one class"):
        embedding().fit(X, ["low"] * 12)
    with pytest.raises(ValueError, match="0 and 1"):
        embedding(task="tags").fit(X, np.full((12, 2), 3))


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"epochs": "3"}, SpecError),
        ({"epochs": 0}, SpecError),
        ({"epochs": None}, SpecError),
        ({"similarity": None}, SpecError),
        ({"normalize": "dataset"}, SpecError),
        ({"task": "genres"}, SpecError),
        ({"similarity": "rbff"}, UnknownNameError),
        ({"random_state": -1}, ValueError),
    ],
)
def test_wrong_parameters_raise_what_the_commands_say(X, parameters, error):
    with pytest.raises(error):
        embedding(**parameters).fit(X, LABELS)
