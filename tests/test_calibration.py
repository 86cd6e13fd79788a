"""Calibrated probabilities: against scikit-learn, and only from tracks that the learner was not fitted to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, log_softmax
from scipy.special import softmax as softmax_of
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC
from small_store import (
    evaluate,
    experiment,
    job,
    open_tracks,
    workers_run,
    write_classes,
    write_tags,
    write_targets,
)

from mirembed import Classification, Tags, Task
from mirembed.config.approaches import Approach
from mirembed.errors import EvaluationError
from mirembed.fit.calibrate import calibrated, inner_folds
from mirembed.fit.job import Fitted, fit_models
from mirembed.models.calibration import decision_values, fit_sigmoid, fit_slope, of_pairs
from mirembed.models.learners import FittedLearner, fit_learner
from mirembed.models.model import Model
from mirembed.registry import Plugin, Registry
from mirembed.runs.record import open_run
from mirembed.specs import Spec
from mirembed.store.files import read_table
from mirembed.store.tracks import Tracks

pytestmark = pytest.mark.slow

SEED = (4, 2)


class Memorizing(ClassifierMixin, BaseEstimator):
    """Is certain about the tracks that it was fitted to, and guesses the class of others."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Memorizing:
        self.classes_ = np.unique(y)
        self.known_ = {row.tobytes(): label for row, label in zip(X, y, strict=True)}
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(0)
        guesses = [self.known_.get(row.tobytes(), rng.choice(self.classes_)) for row in X]
        return 10.0 * (np.array(guesses)[:, None] == self.classes_)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.decision_function(X).argmax(axis=1)]


class ByPairs(SVC):
    """Scikit-learn's SVC, whose decision value of a class is the mean of those of its pairs with other classes.

    The predicted class swaps its value with the largest.
    """

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        values = super().decision_function(X)
        if values.ndim == 1:
            return values
        n = len(self.classes_)
        of_pair = dict(zip(itertools.combinations(range(n), 2), values.T, strict=True))
        found = np.zeros((len(X), n))
        for a, b in itertools.permutations(range(n), 2):
            found[:, a] += (of_pair[a, b] if a < b else -of_pair[b, a]) / (n - 1)
        for row, predicted in zip(found, np.searchsorted(self.classes_, self.predict(X)), strict=True):
            row[[row.argmax(), predicted]] = row[[predicted, row.argmax()]]
        return found


class Predicting(BaseEstimator):
    """Has neither decision values nor probabilities."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Predicting:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.full(len(X), self.classes_[0])


class Demanding(Memorizing):
    """Cannot be fitted to few tracks."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Memorizing:
        if len(X) < 60:
            raise ValueError("too few tracks for me")
        return super().fit(X, y)


class Learner:
    def __init__(self, estimator: Any) -> None:
        self.made = estimator

    def estimator(self, task: Task) -> Any:
        return self.made()


LEARNERS = {
    "forest": lambda: RandomForestClassifier(n_estimators=20, random_state=0),
    "memorizing": Memorizing,
    "predicting": Predicting,
    "demanding": Demanding,
}
REGISTRY = Registry(
    [
        *Registry.discover().plugins,
        *(
            Plugin("learner", name, lambda made=made: Learner(made), "", f"mirembed-{name}", "1.0")
            for name, made in LEARNERS.items()
        ),
    ]
)


def draw(n: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings that say something about their classes, and the classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centers = np.random.default_rng(99).normal(size=(n_classes, 6))
    return (centers[labels] + 1.5 * rng.normal(size=(n, 6))).astype(np.float32), labels


def task_of(n_classes: int) -> Classification:
    return Classification(tuple(f"class {number}" for number in range(n_classes)))


def fit(learner: str, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> FittedLearner:
    """Fit and calibrate a learner."""
    task, spec = task_of(y.max() + 1), Spec.parse(learner)
    fitted = fit_learner(REGISTRY, spec, Approach("fl"), task, X, y, None, seed=SEED)
    codes = np.arange(len(y)) if groups is None else groups
    return calibrated(REGISTRY, spec, task, fitted, X, y, codes, grouped=groups is not None, seed=SEED)


def probabilities(fitted: FittedLearner, X: np.ndarray, n_classes: int) -> np.ndarray:
    inputs = X if fitted.kernel is None else fitted.kernel.gram(X)
    return fitted.calibration(decision_values(fitted.estimator, "it", task_of(n_classes), inputs))


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize(("learner", "C", "gamma"), [("svm", 1.0, "scale"), ("svm:C=0.3,gamma=0.2", 0.3, 0.2)])
def test_probabilities_agree_with_scikit_learn(learner, C, gamma, n_classes):
    """Its temperature has targets of 0 and 1, from which ours differ little where there are many tracks."""
    X, y = draw(1200, n_classes)
    folds = inner_folds(task_of(n_classes), y, None, 5, seed=SEED)
    machine = ByPairs(C=C, gamma=gamma, decision_function_shape="ovo")
    expected = CalibratedClassifierCV(machine, method="temperature", ensemble=False, cv=folds).fit(X, y)
    others, _ = draw(40, n_classes, seed=1)
    found = probabilities(fit(learner, X, y), others, n_classes)
    np.testing.assert_allclose(found, expected.predict_proba(others), rtol=0, atol=0.01)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_the_value_of_a_class_is_the_mean_of_those_of_svms_that_each_know_two_classes():
    X, y = draw(90, 4)
    others, _ = draw(40, 4, seed=1)
    fitted = fit("svm:gamma=0.2", X, y)
    expected = np.zeros((40, 4))
    for a, b in itertools.permutations(range(4), 2):
        pair = (y == a) | (y == b)
        expected[:, a] += SVC(gamma=0.2).fit(X[pair], y[pair] == a).decision_function(others) / 3
    agree = expected.argmax(axis=1) == fitted.estimator.predict(others)
    assert agree.mean() > 0.8
    found = decision_values(fitted.estimator, "it", task_of(4), others)
    np.testing.assert_allclose(found[agree], expected[agree], atol=2e-3)  # libsvm stops at a tolerance of 1e-3


def test_the_class_with_the_most_votes_swaps_its_value_with_the_largest():
    values = np.array([[0.1, 0.1, -3.0]])  # class 0 wins two weak votes; the means are 0.1, -1.55 and 1.45
    assert of_pairs(values, 3) == pytest.approx(np.array([[1.45, -1.55, 0.1]]))


def test_embeddings_between_classes_get_less_certain_probabilities():
    """Votes would be as sure of them as of all others."""
    X, y = draw(90, 5)
    fitted = fit("svm", X, y)
    centers = np.stack([X[y == number].mean(axis=0) for number in range(5)])
    between = (centers + np.roll(centers, 1, axis=0)) / 2
    certain, uncertain = (probabilities(fitted, inputs, 5).max(axis=1).mean() for inputs in (centers, between))
    assert certain > uncertain + 0.1


def test_a_precomputed_kernel_gives_the_probabilities_of_scikit_learns_own():
    X, y = draw(600, 3)
    others, _ = draw(30, 3, seed=1)
    folds = inner_folds(task_of(3), y, None, 5, seed=SEED)
    gram = rbf_kernel(X.astype(np.float64), gamma=0.5)
    machine = ByPairs(kernel="precomputed", decision_function_shape="ovo")
    expected = CalibratedClassifierCV(machine, method="temperature", ensemble=False, cv=folds).fit(gram, y)
    found = probabilities(fit("svm:kernel=rbf:gamma=0.5", X, y), others, 3)
    reference = expected.predict_proba(rbf_kernel(others.astype(np.float64), X.astype(np.float64), gamma=0.5))
    np.testing.assert_allclose(found, reference, rtol=0, atol=0.01)


@pytest.mark.parametrize("learner", ["svm", "forest"])
def test_the_most_probable_class_is_the_predicted_one(learner):
    X, y = draw(60, 5)  # so few that sigmoids for single classes would often disagree
    others, _ = draw(200, 5, seed=1)
    fitted = fit(learner, X, y)
    np.testing.assert_array_equal(probabilities(fitted, others, 5).argmax(axis=1), fitted.estimator.predict(others))


def test_a_slope_is_the_most_likely_one():
    X, y = draw(90, 4)
    values = X[:, :4].astype(np.float64)
    target = np.where(np.eye(4)[y] > 0, 91 / 92, 1 / 92 / 3)
    slopes = np.linspace(0, 2, 4001)
    losses = [-(target * log_softmax(slope * values, axis=1)).sum() for slope in slopes]
    assert fit_slope(values, y) == pytest.approx(slopes[np.argmin(losses)], abs=6e-4)


def test_values_that_tell_nothing_of_classes_or_the_contrary_make_all_equally_probable():
    values = np.eye(3)[np.arange(30) % 3]
    assert fit_slope(-values, np.arange(30) % 3) == 0
    assert fit_slope(np.ones((30, 3)), np.arange(30) % 3) == 0


def test_classes_that_are_told_apart_without_error_have_no_probability_of_one():
    values = np.eye(3)[np.arange(30) % 3]
    assert softmax_of(fit_slope(values, np.arange(30) % 3) * values, axis=1).max() == pytest.approx(31 / 32)


def test_a_class_that_a_learner_does_not_know_is_as_unlikely_as_the_least_likely():
    known = np.array([[3.0, 1.0, 2.0], [0.0, 1.0, 5.0]])
    labels = np.array([0, 2])
    missing = np.column_stack([known, [np.nan, np.nan]])
    assert fit_slope(missing, labels) == pytest.approx(fit_slope(np.column_stack([known, known.min(axis=1)]), labels))


def test_tracks_of_a_class_that_a_learner_did_not_know_say_nothing_of_its_slope():
    """Inner folds that keep groups apart may leave out a class whose tracks are all of one group."""
    X, y = draw(90, 4)
    values = X[:, :4].astype(np.float64)
    values[y == 3, 3] = np.nan
    rest = y != 3
    assert fit_slope(values, y) == fit_slope(values[rest], y[rest])


def test_probabilities_survive_inner_folds_without_a_class():
    X, y = draw(90, 3)
    groups = np.where(y == 2, 0, 1 + np.arange(90) // 6)  # one group has all tracks of the class
    fitted = fit("svm", X, y, groups)
    assert probabilities(fitted, X, 3).max(axis=1).mean() > 0.6


def test_a_sigmoid_is_the_most_likely_one():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 50, 4000)
    truth = rng.random(4000) < expit(0.04 * values - 1)
    slope, intercept = fit_sigmoid(values, truth)
    assert slope == pytest.approx(0.04, rel=0.1)
    assert intercept == pytest.approx(-1, rel=0.1)


@pytest.mark.parametrize(
    ("values", "truth", "expected"),
    [
        ([1.0, 2.0, 3.0], [False] * 3, 1 / 5),
        ([1.0, 2.0, 3.0], [True] * 3, 4 / 5),
        ([2.0] * 4, [True, False, True, False], 1 / 2),
        ([], [], 1 / 2),
    ],
    ids=["no positive", "no negative", "constant values", "nothing"],
)
def test_values_that_tell_nothing_of_a_tag_give_a_constant_probability(values, truth, expected):
    slope, intercept = fit_sigmoid(np.array(values), np.array(truth, bool))
    assert slope == 0
    assert expit(intercept) == pytest.approx(expected)


def test_probabilities_of_tags_that_are_told_apart_without_error_stay_below_one():
    slope, intercept = fit_sigmoid(np.repeat([-1.0, 1.0], 20), np.repeat([False, True], 20))
    assert expit(slope + intercept) == pytest.approx(21 / 22)
    assert expit(-slope + intercept) == pytest.approx(1 / 22)


def test_a_learner_that_memorizes_its_training_tracks_is_not_believed():
    X, _ = draw(90, 3)
    y = np.random.default_rng(5).permutation(np.arange(90) % 3)
    found = probabilities(fit("memorizing", X, y), X, 3)
    assert found.max() < 0.6


def test_inner_folds_keep_groups_apart_and_follow_seed_and_fold():
    _, y = draw(60, 3)
    groups = np.arange(60) // 4
    task = task_of(3)
    folds = inner_folds(task, y, groups, 5, seed=SEED)
    assert len(folds) == 5
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(60))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
    again, other = inner_folds(task, y, groups, 5, seed=SEED), inner_folds(task, y, groups, 5, seed=(4, 3))
    assert all(np.array_equal(ours[1], theirs[1]) for ours, theirs in zip(folds, again, strict=True))
    assert not all(np.array_equal(ours[1], theirs[1]) for ours, theirs in zip(folds, other, strict=True))


@pytest.mark.parametrize(
    ("y", "groups", "n_folds"),
    [([0, 1] * 3, None, 3), ([0, 1] * 10, [*range(4)] * 5, 4), ([0, 0, 0, 0, 1, 1], None, 4)],
    ids=["few tracks of each class", "few groups", "a rare class"],
)
def test_there_are_as_many_inner_folds_as_can_be_made(y, groups, n_folds):
    found = inner_folds(task_of(2), np.array(y), None if groups is None else np.array(groups), 5, seed=SEED)
    assert len(found) == n_folds


def test_inner_folds_that_cannot_be_made_are_an_error_and_leave_a_learner_without_probabilities():
    X, y = draw(8, 2)
    groups = np.arange(8) % 2  # each holds one class
    with pytest.raises(EvaluationError, match="inner folds"):
        inner_folds(task_of(2), y, groups, 5, seed=SEED)
    fitted = fit("svm", X, y, groups)
    assert fitted.calibration is None
    [note] = fitted.notes
    assert "probabilities" in note


def test_a_learner_that_fails_on_inner_folds_has_no_probabilities_but_a_note():
    fitted = fit("demanding", *draw(60, 3))
    assert fitted.calibration is None
    [note] = fitted.notes
    assert "too few tracks for me" in note


def test_a_learner_without_decision_values_has_no_probabilities():
    fitted = fit("predicting", *draw(60, 3))
    assert (fitted.calibration, fitted.notes) == (None, [])


def draw_tags(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings that say something about three tags, and the tags."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    return X, (X[:, :3] + rng.normal(size=(n, 3)) > [0, 0.5, 1]).astype(np.int64)


def fit_tags(X: np.ndarray, y: np.ndarray) -> tuple[Tags, FittedLearner]:
    task, spec = Tags(tuple(f"tag {number}" for number in range(y.shape[1]))), Spec("svm")
    fitted = fit_learner(REGISTRY, spec, Approach("fl"), task, X, y, None, seed=SEED)
    codes = np.arange(len(y))
    return task, calibrated(REGISTRY, spec, task, fitted, X, y, codes, grouped=False, seed=SEED)


def test_the_probability_of_each_tag_agrees_with_scikit_learn():
    (X, y), (others, _) = draw_tags(150), draw_tags(30, seed=1)
    task, fitted = fit_tags(X, y)
    found = fitted.calibration(decision_values(fitted.estimator, "it", task, others, fitted.constant))
    folds = inner_folds(task, y, None, 5, seed=SEED)
    for tag in range(3):
        expected = CalibratedClassifierCV(SVC(), ensemble=False, cv=folds).fit(X, y[:, tag])
        np.testing.assert_allclose(found[:, tag], expected.predict_proba(others)[:, 1], rtol=0, atol=1e-4)


def test_a_tag_that_no_or_every_training_track_has_gets_a_constant_probability():
    X, y = draw_tags(60)
    y[:, 0], y[:, 1] = 0, 1
    task, fitted = fit_tags(X, y)
    found = fitted.calibration(decision_values(fitted.estimator, "it", task, X, fitted.constant))
    np.testing.assert_allclose(found[:, 0], 1 / 62)
    np.testing.assert_allclose(found[:, 1], 61 / 62)
    assert np.ptp(found[:, 2]) > 0.1


# Models


@pytest.fixture(scope="module")
def tracks(tmp_path_factory) -> Tracks:
    groups = [f"artist {number // 3}" for number in range(30)]
    return open_tracks(write_classes(tmp_path_factory.mktemp("classes"), 30, groups))


def fitted_models(tracks: Tracks, *approaches: str, **settings: Any) -> Fitted:
    return fit_models(job(tracks, *approaches, **settings), Registry.discover())


def embeddings_of(model: Model, tracks: Tracks) -> np.ndarray:
    frames = tracks.frames["logmel"]
    return model.embed(frames.open(), frames.starts, frames.lengths)


@pytest.mark.parametrize("learner", ["svm", "svm:kernel=match"])
def test_a_loaded_model_has_the_probabilities_of_the_saved_one_to_the_bit_alone_and_among_others(
    tracks, tmp_path, learner
):
    model = fitted_models(tracks, learner=learner).models["rbf-sl"]
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", Registry.discover())
    embeddings = embeddings_of(model, tracks)
    found = model.probabilities(embeddings)
    assert (found.shape, found.dtype) == ((30, 3), np.float64)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(loaded.probabilities(embeddings), found)
    np.testing.assert_array_equal(loaded.probabilities(embeddings[7:8]), found[7:8])
    assert loaded.probabilities(embeddings[:0]).shape == (0, 3)


def test_the_probabilities_of_nn_are_the_softmax_of_its_outputs(tracks):
    model = fitted_models(tracks, "nn").models["nn"]
    embeddings = embeddings_of(model, tracks)
    found = model.probabilities(embeddings)
    np.testing.assert_allclose(found, softmax_of(model.head(embeddings).astype(np.float64), axis=1), rtol=1e-12)
    np.testing.assert_array_equal(found.argmax(axis=1), model.predict(embeddings))
    assert model.calibration is None


@pytest.mark.parametrize("approach", ["nn", "rbf-sl"])
def test_the_probabilities_of_tags_do_not_exclude_each_other(tmp_path, approach):
    tracks = open_tracks(write_tags(tmp_path))
    model = fitted_models(tracks, approach).models[approach]
    embeddings = embeddings_of(model, tracks)
    found = model.probabilities(embeddings)
    assert found.shape == tracks.label_array.shape
    assert ((found > 0) & (found < 1)).all()
    assert np.ptp(found.sum(axis=1)) > 0
    if approach == "nn":
        np.testing.assert_allclose(found, expit(model.scores(embeddings)), rtol=1e-12)


def test_targets_have_no_probabilities(tmp_path):
    tracks = open_tracks(write_targets(tmp_path))
    for model in fitted_models(tracks, "nn", "fl").models.values():
        assert model.probabilities(embeddings_of(model, tracks)) is None


def run(tracks: Tracks, runs: Any, approaches: Sequence[str], **settings: Any) -> Any:
    with workers_run():
        described = experiment(*approaches, **{"epochs": 2, "cv": 3, **settings})
        folder, _ = evaluate(tracks, described, Registry.discover(), runs)
    return folder


def test_a_run_keeps_the_probabilities_of_every_method_that_has_any(tracks, tmp_path):
    folder = run(tracks, tmp_path, ["chance", "stats", "nn", "fl"], checkpoint_every=1)
    names = [f"probability_{name}" for name in ("high", "low", "middle")]
    for row in read_table(folder.folder / "predictions.parquet").to_pylist():
        found = [row[name] for name in names]
        if row["approach"] == "chance":
            assert found == [None] * 3
        else:
            assert sum(found) == pytest.approx(1)
    assert not set(names) & set(read_table(folder.folder / "checkpoints.parquet").column_names)
    record = open_run(tmp_path, folder.folder.name)
    assert record.predictions["chance"].probabilities is None
    assert record.predictions["fl"].probabilities.shape == (30, 3)
    assert record.checkpoints["fl"][2].probabilities is None


def test_inner_folds_keep_groups_apart_where_the_folds_do(tracks, tmp_path, monkeypatch):
    from mirembed.fit import calibrate

    seen = []
    original = calibrate.inner_folds

    def spy(task, labels, groups, n_folds, *, seed):
        seen.append(groups)
        return original(task, labels, groups, n_folds, seed=seed)

    monkeypatch.setattr(calibrate, "inner_folds", spy)
    run(tracks, tmp_path / "apart", ["stats"], folds="grouped")
    assert [len(set(groups)) for groups in seen] == [len(groups) // 3 for groups in seen]
    seen.clear()
    run(tracks, tmp_path / "mixed", ["stats"])
    assert seen == [None] * 3
