"""Choosing inside the folds: against scikit-learn, out of reach of the test tracks, and resumed after a kill."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, mean_absolute_error, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.multioutput import MultiOutputRegressor
from sklearn.svm import SVC, SVR
from small_store import (
    BANDS,
    CLASSES,
    evaluate,
    open_tracks,
    workers_run,
    write_store,
    write_tags,
    write_targets,
)
from small_store import experiment as whole_experiment
from small_store import job as whole_job
from third_party import install

from mirembed import Split
from mirembed.config import Settings
from mirembed.config.selection import Choice
from mirembed.datasets.splits import Fold
from mirembed.errors import EvaluationError, ModelError, PluginError, SpecError
from mirembed.evaluate.estimate import estimate
from mirembed.evaluate.fold import FoldTraining
from mirembed.evaluate.plan import PlannedRun, plan_run
from mirembed.fit import FittedModel, fit
from mirembed.fit import selection as selecting
from mirembed.fit.candidates import draw_inner_folds, inner_scheme
from mirembed.fit.job import Job, fit_models
from mirembed.fit.resolve import describe_plugins
from mirembed.fit.selection import Decision, Selected, fit_selected
from mirembed.models.model import Model
from mirembed.registry import Registry
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import read_run, run_faults
from mirembed.store import Store
from mirembed.store.files import read_table
from mirembed.store.tracks import Tracks
from mirembed.training.labels import TargetScale

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()
ARTISTS = [f"artist {number // 4}" for number in range(36)]
SHORT = {"epochs": 2, "excerpt": 20}


def experiment(*approaches: str, **settings: Any) -> Settings:
    return whole_experiment(*approaches, **{**SHORT, **settings})


def job(tracks: Tracks, *approaches: str, **settings: Any) -> Job:
    return whole_job(tracks, *approaches, **{**SHORT, **settings})


def noisy_frames(labels: list[str], seed: int = 0) -> list[np.ndarray]:
    """Return spectrograms in which a class is hard to hear, so that candidates get different scores."""
    rng = np.random.default_rng(seed)
    places = {"low": 10, "middle": 20, "high": 30}
    frames = []
    for number, label in enumerate(labels):
        one = rng.normal(-60, 3, (30 + number, BANDS))
        one[:, places[label] - 3 : places[label] + 3] += rng.normal(0.6, 1.2)
        frames.append(one.astype(np.float32))
    return frames


def write_noisy(root: Path, n_tracks: int = 36, groups: list[str] | None = None) -> Store:
    labels = [CLASSES.classes[number % 3] for number in range(n_tracks)]
    return write_store(root, CLASSES, labels, noisy_frames(labels), groups)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return write_noisy(tmp_path_factory.mktemp("noisy"), groups=ARTISTS)


@pytest.fixture(scope="module")
def tracks(store) -> Tracks:
    """Thirty-six tracks of three classes, by nine artists."""
    return open_tracks(store)


def planned(
    tracks: Tracks,
    *approaches: str,
    registry: Registry = REGISTRY,
    official: Mapping[str, Sequence[Split]] | None = None,
    **settings: Any,
) -> PlannedRun:
    described = experiment(*approaches, **{"cv": 3, **settings})
    return plan_run(described, tracks, registry, describe_plugins(described, registry), official)


def run(tracks: Tracks, runs: Path, *approaches: str, registry: Registry = REGISTRY, **settings: Any) -> RunFolder:
    with workers_run():
        described = experiment(*approaches, **{"cv": 3, **settings})
        return evaluate(tracks, described, registry, runs)[0]


def rows(run: RunFolder) -> list[dict[str, Any]]:
    return read_table(run.folder / "selection.parquet").to_pylist()


def training_of(plan: PlannedRun, number: int) -> FoldTraining:
    """Return one training of a plan, which keeps nothing on disk."""
    with tempfile.TemporaryDirectory() as folder:
        training = plan.trainings(RunFolder.resume_at(Path(folder), {}, ""))[number]
    return replace(training, job=replace(training.job, checkpoint=None))


def select_once(plan: PlannedRun, number: int = 0) -> Selected:
    """Run one training of a plan."""
    training = training_of(plan, number)
    return fit_selected(training.job, training.selection, REGISTRY)


# What is asked


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("learner.C", ["learner.C", "VALUE"]),
        ("learner=1|2", ["learner"]),
        ("learner.C=1", ["learner.C=1", "--learner"]),
        ("learner.C=1|", ["learner.C"]),
        ("learner.C=1|2|1", ["1", "2 times"]),
        ("laerner.C=1|2", ["learner"]),
        ("batch=16|32", ["batch", "epoch", "similarity"]),
        ("epoch=1|2", ["epoch"]),
    ],
)
def test_a_malformed_choice_is_refused(text, facts):
    with pytest.raises(SpecError) as error:
        Settings(select=(text,)).check()
    assert all(fact in str(error.value) for fact in ["--select", *facts])


def test_values_may_hold_whatever_a_spec_holds():
    choice = Choice.parse("learner.kernel=rbf|match|polynomial:c=1:d=3")
    assert choice.values == ("rbf", "match", "polynomial:c=1:d=3")


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"select": ("learner.C=1|2", "learner.C=3|4")}, ["learner.C", "2 times"]),
        ({"select": ("epoch",), "epochs": 10}, ["epoch", "10", "--checkpoint-every"]),
        ({"select": ("epoch",), "checkpoint_every": 0}, ["epoch", "--checkpoint-every"]),
        ({"inner_cv": 5}, ["--inner-cv 5", "--select"]),
        ({"inner_cv": 1, "select": ("learner.C=1|2",)}, ["--inner-cv", "1", "2"]),
    ],
)
def test_settings_that_leave_nothing_to_choose_are_refused(settings, facts):
    with pytest.raises(SpecError) as error:
        Settings(**settings).check()
    assert all(fact in str(error.value) for fact in facts)


@pytest.mark.parametrize(
    ("approaches", "choice", "error", "facts"),
    [
        (["rbf-sl"], "learner.D=1|2", SpecError, ["learner.D", "svm", "C: float"]),
        (["rbf-sl"], "learner.C=1|-1", PluginError, ["C is -1"]),
        (["rbf-sl"], "learner.C=1|many", PluginError, ["C=many"]),
        (["cosine-sl"], "similarity.gamma=1|2", SpecError, ["similarity.gamma", "cosine"]),
        (["nn", "fl"], "similarity.gamma=1|2", SpecError, ["similarity.gamma", "nn, fl"]),
        (["stats", "untrained"], "epoch", SpecError, ["epoch", "stats, untrained"]),
        (["stats"], "network.hidden=1|2", SpecError, ["network.hidden", "stats"]),
        (["fl"], "network.width=1|2", SpecError, ["network.width", "mlp", "hidden"]),
        (["fl"], "optimizer.speed=1|2", SpecError, ["speed", "adadelta"]),
        (["fl"], "learner.kernel=rbf|match", SpecError, ["match", "fl"]),
        (["chance"], "learner.C=1|2", SpecError, ["learner.C", "chance"]),
        (["rbf:gamma=3-sl"], "similarity.gamma=1|2", SpecError, ["similarity.gamma", "rbf:gamma=3"]),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused_before_any_training(tracks, approaches, choice, error, facts):
    with pytest.raises(error) as raised:
        planned(tracks, *approaches, select=(choice,), checkpoint_every=1)
    assert all(fact in str(raised.value) for fact in facts)


def test_a_choice_applies_to_every_method_that_has_the_parameter(tracks):
    choices = ("similarity.gamma=0.5|2", "learner.C=1|10", "network.hidden=8|16", "optimizer.lr=0.5|1", "epoch")
    plan = planned(
        tracks, "rbf-sl", "cosine-sl", "nn", "fl", "stats", "untrained", "chance", select=choices, checkpoint_every=1
    )
    counts = {name: len(some) for name, some in plan.candidates.items()}
    expected = {"rbf-sl": 2**5, "cosine-sl": 2**4, "nn": 2**3, "fl": 2**4, "stats": 2, "untrained": 2**2, "chance": 1}
    assert counts == expected


def test_labels_are_compared_as_embeddings_are_unless_the_command_says_otherwise(tracks):
    def gammas(**settings: Any) -> list[tuple[str, str]]:
        candidates = planned(tracks, "rbf-sl", **settings).candidates["rbf-sl"]
        return [(str(one.method.approach.similarity), str(one.method.approach.label_similarity)) for one in candidates]

    both = ("similarity.gamma=0.5|2",)
    assert gammas(select=both) == [("rbf:gamma=0.5", "rbf:gamma=0.5"), ("rbf:gamma=2", "rbf:gamma=2")]
    assert gammas(select=both, label_similarity="rbf") == [("rbf:gamma=0.5", "rbf"), ("rbf:gamma=2", "rbf")]
    labels = ("label-similarity.gamma=0.5|2",)
    assert gammas(select=labels) == [("rbf", "rbf:gamma=0.5"), ("rbf", "rbf:gamma=2")]


# Inner folds


def test_inner_folds_split_the_training_tracks_by_the_outer_scheme(tracks):
    plan = planned(tracks, "stats", select=("learner.C=1|10",), folds="grouped")
    for fold in plan.folds[0]:
        inner = plan.inner[0, fold.index]
        assert set(inner) == {0, 1, 2}
        for number in range(3):
            tested, trained = fold.train[inner == number], fold.train[inner != number]
            artists = {tracks.groups[row] for row in tested}
            assert artists
            assert not artists & {tracks.groups[row] for row in trained}
    stratified = planned(tracks, "stats", select=("learner.C=1|10",))
    for fold in stratified.folds[0]:
        for number in range(3):
            tested = tracks.label_array[fold.train][stratified.inner[0, fold.index] == number]
            assert np.ptp(np.bincount(tested, minlength=3)) <= 1


def test_inner_folds_depend_on_seed_and_fold_alone(tracks):
    def inner(**settings: Any) -> dict[tuple[int, int], list[int]]:
        plan = planned(tracks, "stats", seed=(0, 1), **settings)
        return {place: found.tolist() for place, found in plan.inner.items()}

    first = inner(select=("learner.C=1|10",))
    assert inner(select=("learner.gamma=1|10",), epochs=9) == first
    assert len({tuple(one) for one in first.values()}) == len(first) == 6


def test_official_folds_keep_groups_apart_inside_if_they_do_outside(tracks):
    train, test = np.arange(20), np.arange(20, 36)
    assert inner_scheme("official", tracks.task, [Fold(0, train, test)], tracks.groups) == "grouped"
    crossing = Fold(0, train, np.arange(18, 36))
    assert inner_scheme("official", tracks.task, [crossing], tracks.groups) == "stratified"
    assert inner_scheme("random", tracks.task, [Fold(0, train, test)], tracks.groups) == "random"


def test_inner_folds_that_cannot_be_made_are_refused_before_any_training(tracks):
    with pytest.raises(EvaluationError, match=r"--inner-cv 9.*fold 0.*6 groups"):
        planned(tracks, "stats", select=("learner.C=1|10",), folds="grouped", inner_cv=9)


def test_the_inner_folds_of_a_fit_that_cannot_be_made_are_not_blamed_on_a_fold(tracks):
    everything = Fold(0, np.arange(4), np.zeros(0, np.int64))
    with pytest.raises(EvaluationError, match="4 training tracks") as raised:
        draw_inner_folds(tracks.task, tracks.label_array, tracks.groups, everything, scheme="random", n_folds=9, seed=0)
    assert "fold 0" not in str(raised.value)


def test_a_parameter_that_was_given_a_value_is_not_chosen(tracks):
    """The method would be named after a value that it does not use."""
    for part, settings in {
        "learner.C": {"learner": ("svm:C=3",)},
        "network.hidden": {"network": ("mlp:hidden=8",)},
        "optimizer.lr": {"optimizer": "adam:lr=0.1"},
        "label-similarity.gamma": {"label_similarity": "rbf:gamma=2"},
    }.items():
        with pytest.raises(SpecError, match=f"--select {part}: .*already has a value"):
            planned(tracks, "rbf-sl", select=(f"{part}=1|2",), **settings)


def test_a_choice_leaves_alone_the_methods_that_were_given_a_value(tracks):
    plan = planned(tracks, "fl", "stats", select=("learner.C=1|10",), learner=("svm", "svm:C=3"))
    counts = {name: len(some) for name, some in plan.candidates.items()}
    assert counts == {"fl+svm": 2, "fl+svm:C=3": 1, "stats+svm": 2, "stats+svm:C=3": 1}


# What is chosen


def test_learners_are_chosen_as_by_scikit_learn(tracks, tmp_path):
    """``stats`` has embeddings that scikit-learn can be given."""
    values = [0.001, 0.1, 1.0, 100.0]
    made = run(tracks, tmp_path, "stats", select=(f"learner.C={'|'.join(map(str, values))}",), folds="stratified")
    plan = planned(tracks, "stats", select=("learner.C=0.001|0.1|1.0|100.0",), folds="stratified")
    chosen = []
    for fold in plan.folds[0]:
        model = fit_models(job(tracks, "stats", rows=fold.train), REGISTRY).models["stats"]
        frames = tracks.frames["logmel"].take(fold.train)
        X, y = model.embed(frames.open(), frames.starts, frames.lengths), tracks.label_array[fold.train]
        inner = plan.inner[0, fold.index]
        splits = [(np.flatnonzero(inner != number), np.flatnonzero(inner == number)) for number in range(3)]
        search = GridSearchCV(SVC(), {"C": values}, cv=splits, scoring="accuracy").fit(X, y)
        expected = np.column_stack([search.cv_results_[f"split{number}_test_score"] for number in range(3)])
        found = [row for row in rows(made) if row["fold"] == fold.index]
        scores = {(row["candidate"], row["inner_fold"]): row["score"] for row in found}
        np.testing.assert_allclose([[scores[c, k] for k in range(3)] for c in range(4)], expected, rtol=1e-12)
        assert {row["learner.C"] for row in found if row["chosen"]} == {str(search.best_params_["C"])}
        chosen.append(str(search.best_params_["C"]))
    assert len(set(expected.mean(axis=1))) > 1
    record = read_run(made.folder)
    assert [one.values["learner.C"] for one in record.selection] == chosen
    assert list(run_faults(made)) == []


def test_the_first_of_equals_is_chosen(tracks):
    for values in ("1|1.0|1.00", "1.00|1|1.0"):
        selected = select_once(planned(tracks, "stats", select=(f"learner.C={values}",)))
        assert selected.decisions["stats"].candidate.values == {"learner.C": values.partition("|")[0]}


def test_networks_are_trained_in_inner_folds_and_the_best_on_all_training_tracks(tracks):
    plan = planned(tracks, "rbf-sl", select=("similarity.gamma=0.1|5", "learner.C=0.1|10"))
    selected = select_once(plan)
    fold, inner = plan.folds[0][0], plan.inner[0, 0]
    chosen = selected.decisions["rbf-sl"]
    for one in chosen.scored:
        values = one.candidate.values
        by_hand = []
        for number in range(3):
            train, test = fold.train[inner != number], fold.train[inner == number]
            alone = job(
                tracks,
                f"rbf:gamma={values['similarity.gamma']}-sl",
                rows=train,
                learner=f"svm:C={values['learner.C']}",
            )
            [model] = fit_models(alone, REGISTRY).models.values()
            frames = tracks.frames["logmel"].take(test)
            predicted = model.predict(model.embed(frames.open(), frames.starts, frames.lengths))
            by_hand.append(accuracy_score(tracks.label_array[test], predicted))
        assert list(one.scores) == pytest.approx(by_hand, rel=1e-12)
    means = [np.mean(one.scores) for one in chosen.scored]
    assert len(set(means)) > 1
    best = chosen.scored[int(np.argmax(means))].candidate
    assert chosen.candidate is best
    [(_, fitted)] = selected.trainings
    [model] = fitted.models.values()
    alone = job(tracks, best.method.approach.name, rows=fold.train, learner=str(best.method.learner))
    [expected] = fit_models(alone, REGISTRY).models.values()
    for name, array in expected.network.arrays.items():
        np.testing.assert_array_equal(model.network.arrays[name], array)
    assert model.provenance["approach"] == best.method.approach.name
    assert model.provenance["learner"]["parameters"]["C"] == float(best.values["learner.C"])
    assert model.provenance["selection"]["chosen"] == best.values


def test_the_final_network_is_trained_for_the_chosen_number_of_epochs(tracks, tmp_path):
    made = run(tracks, tmp_path, "nn", "fl", select=("epoch",), epochs=3, checkpoint_every=1, keep_models=True)
    losses = read_table(made.folder / "curves.parquet").to_pylist()
    for one in read_run(made.folder).selection:
        chosen = int(one.values["epoch"])
        assert chosen in (1, 2, 3)
        assert one.n_candidates == 3
        trained = [row["epoch"] for row in losses if (row["approach"], row["fold"]) == (one.method, one.fold)]
        assert trained == list(range(1, chosen + 1))
        saved = Model.load(made.models / f"{one.method}-seed0-fold{one.fold}", REGISTRY)
        fold = planned(tracks, "nn").folds[0][one.fold]
        alone = replace(job(tracks, one.method, rows=fold.train, epochs=chosen))
        alone = replace(alone, settings=replace(alone.settings, fold=one.fold))
        expected = fit_models(alone, REGISTRY).models[one.method]
        for name, array in expected.network.arrays.items():
            np.testing.assert_array_equal(saved.network.arrays[name], array)
        assert saved.provenance["settings"]["epochs"] == chosen
    assert list(run_faults(made)) == []
    assert list(read_run(made.folder).predictions) == ["nn", "fl"]


def test_the_best_epoch_is_that_of_the_inner_curves(tracks, tmp_path):
    made = run(tracks, tmp_path, "rbf-sl", select=("epoch",), epochs=3, checkpoint_every=1)
    for fold in range(3):
        means = {
            epoch: np.mean([row["score"] for row in rows(made) if (row["fold"], row["epoch"]) == (fold, epoch)])
            for epoch in (1, 2, 3)
        }
        [chosen] = {row["epoch"] for row in rows(made) if row["fold"] == fold and row["chosen"]}
        assert chosen == max(means, key=lambda epoch: (means[epoch], -epoch))


def stats_of(tracks: Tracks, rows: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Return the embeddings of ``stats`` of some tracks, standardized on the tracks ``trained_on``."""
    model = fit_models(job(tracks, "stats", rows=trained_on), REGISTRY).models["stats"]
    frames = tracks.frames["logmel"].take(rows)
    return model.embed(frames.open(), frames.starts, frames.lengths)


def means_of(decision: Decision) -> list[float]:
    return [one.mean for one in decision.scored]


@pytest.mark.parametrize(("metric", "best"), [("r", np.argmax), ("rmse", np.argmin), ("mae", np.argmin)])
def test_targets_are_compared_by_the_main_metric(tmp_path, metric, best):
    tracks = open_tracks(write_targets(tmp_path / "store"))
    plan = planned(tracks, "stats", select=("learner.C=0.001|1", "learner.epsilon=0.05|0.2"), metric=metric)
    decision = select_once(plan).decisions["stats"]
    fold, inner = plan.folds[0][0], plan.inner[0, 0]
    X = stats_of(tracks, fold.train, fold.train)
    for one in decision.scored:
        parameters = {name.removeprefix("learner."): float(value) for name, value in one.candidate.values.items()}
        by_hand = []
        for number in range(3):
            train, test = np.flatnonzero(inner != number), np.flatnonzero(inner == number)
            y = tracks.label_array[fold.train]
            scale = TargetScale.fit(tracks.task, y[train])
            machine = MultiOutputRegressor(SVR(**parameters)).fit(X[train], scale.scale(y[train]))
            predicted = scale.unscale(machine.predict(X[test]))
            function = {
                "r": lambda a, b: pearsonr(a, b)[0],
                "rmse": root_mean_squared_error,
                "mae": mean_absolute_error,
            }
            pairs = zip(y[test].T, predicted.T, strict=True)
            by_hand.append(np.mean([function[metric](truth, guess) for truth, guess in pairs]))
        assert list(one.scores) == pytest.approx(by_hand, rel=1e-9)
    means = means_of(decision)
    assert len(set(means)) > 1
    assert decision.candidate is decision.scored[int(best(means))].candidate


def test_tags_are_compared_by_their_scores(tmp_path):
    tracks = open_tracks(write_tags(tmp_path / "store"))
    plan = planned(tracks, "stats", select=("learner.C=0.001|10",), cv=2, inner_cv=2)
    decision = select_once(plan).decisions["stats"]
    fold, inner = plan.folds[0][0], plan.inner[0, 0]
    X, y = stats_of(tracks, fold.train, fold.train), tracks.label_array[fold.train]
    for one in decision.scored:
        by_hand = []
        for number in range(2):
            train, test = np.flatnonzero(inner != number), np.flatnonzero(inner == number)
            machines = [SVC(C=float(one.candidate.values["learner.C"])).fit(X[train], tag) for tag in y[train].T]
            scores = [machine.decision_function(X[test]) for machine in machines]
            by_hand.append(np.mean([roc_auc_score(tag, score) for tag, score in zip(y[test].T, scores, strict=True)]))
        assert list(one.scores) == pytest.approx(by_hand, rel=1e-9)


CONSTANT = """
    import numpy as np
    from mirembed import hookimpl
    from sklearn.dummy import DummyRegressor
    from sklearn.base import BaseEstimator

    class Sloped(BaseEstimator):
        def __init__(self, slope=0.0):
            self.slope = slope

        def fit(self, X, y):
            self.n_targets_ = y.shape[1]
            return self

        def predict(self, X):
            return np.repeat(self.slope * np.mean(X, axis=1, keepdims=True, dtype=float), self.n_targets_, axis=1)

    class Learner:
        def __init__(self, slope: float = 0.0):
            self.slope = slope

        def estimator(self, task):
            return Sloped(self.slope)

    @hookimpl
    def mirembed_register_learners(register):
        register("sloped", Learner)
"""


def test_a_constant_prediction_counts_as_no_correlation_and_a_constant_truth_as_nothing(tmp_path, monkeypatch):
    install(tmp_path / "site", "mirembed-sloped", CONSTANT)
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry = Registry.discover()
    tracks = open_tracks(write_targets(tmp_path / "store"))
    labels = tracks.labels.copy()
    labels[:, 0] = 100
    tracks = replace(tracks, labels=labels)
    settings = {"learner": "sloped", "select": ("learner.slope=0|1|-1",)}
    plan = planned(tracks, "stats", registry=registry, **settings)
    training = training_of(plan, 0)
    found = fit_selected(training.job, training.selection, registry).decisions["stats"]
    constant, rising, falling = (one.scores for one in found.scored)
    assert list(constant) == [0, 0, 0]
    assert list(rising) == pytest.approx([-score for score in falling])
    assert found.candidate.values["learner.slope"] == ("1" if np.mean(rising) > 0 else "-1")
    fold, inner = plan.folds[0][0], plan.inner[0, 0]
    for number, score in enumerate(rising):
        test = fold.train[inner == number]
        guess = stats_of(tracks, test, fold.train).mean(axis=1, dtype=float)
        varying = [truth for truth in tracks.label_array[test].T if np.ptp(truth) > 0]
        assert score == pytest.approx(np.mean([pearsonr(truth, guess)[0] for truth in varying]), rel=1e-6)


def test_inner_folds_of_a_table_are_used(tracks, tmp_path):
    table = tmp_path / "folds.csv"
    inner = {track: number % 2 for number, track in enumerate(tracks.ids)}
    lines = [f"{track},{row // 4 % 2},{inner[track]}" for row, track in enumerate(tracks.ids)]
    table.write_text("\n".join(["id,fold,inner_fold", *lines]) + "\n")
    settings = {"folds": str(table), "cv": None, "select": ("learner.C=1|10",)}
    plan = planned(tracks, "stats", **settings)
    for fold in plan.folds[0]:
        assert plan.inner[0, fold.index].tolist() == [inner[tracks.ids[row]] for row in fold.train]
    with pytest.raises(SpecError, match="--inner-cv 4"):
        planned(tracks, "stats", **settings, inner_cv=4)
    table.write_text("\n".join(["id,fold,inner_fold", *(line[:-1] + "0" for line in lines)]) + "\n")
    with pytest.raises(EvaluationError, match="inner fold 0 of fold 0"):
        planned(tracks, "stats", **settings)


def test_inner_folds_that_train_on_the_same_tags_only_are_refused_before_any_training(tmp_path):
    tracks = open_tracks(write_tags(tmp_path / "store"))
    first = tuple(tracks.labels[0])
    table = tmp_path / "folds.csv"
    inner = [int(tuple(label) == first) for label in tracks.labels]  # inner fold 0 trains on tracks like the first
    lines = [f"{track},{int(row >= 8)},{inner[row]}" for row, track in enumerate(tracks.ids)]
    table.write_text("\n".join(["id,fold,inner_fold", *lines]) + "\n")
    with pytest.raises(EvaluationError, match="inner fold 0 of fold 0 leaves 2 tracks"):
        planned(tracks, "stats", folds=str(table), cv=None, select=("learner.C=1|10",))


def test_inner_folds_in_which_a_target_is_constant_are_refused_before_any_training(tmp_path):
    tracks = open_tracks(write_targets(tmp_path / "store"))
    labels = tracks.labels.copy()
    labels[:, 1] = np.arange(len(labels)) == 0  # whatever tests the first track trains on zeros alone
    with pytest.raises(EvaluationError, match="depth"):
        planned(replace(tracks, labels=labels), "stats", select=("learner.C=1|10",))


def test_nothing_is_chosen_for_methods_without_the_parameter(tracks, tmp_path):
    made = run(tracks, tmp_path, "stats", "chance", "nn", select=("learner.C=1|10",))
    assert {row["method"] for row in rows(made)} == {"stats"}
    plain = run(tracks, tmp_path, "nn")
    scores = [RunFolder(one.folder).read_scores()["nn"] for one in (made, plain)]
    assert scores[0] == scores[1]


# No test track is seen


PARTS = [frozenset(f"{row:03d}" for row in range(36) if row // 4 % 3 == part) for part in range(3)]
BY_ARTIST = {"official": {"artist": [Split(frozenset().union(*PARTS) - part, part) for part in PARTS]}}
BY_ARTIST |= {"folds": "artist", "cv": None}
"""Folds that do not depend on the labels, as those that are drawn may."""


def replaced_tracks(tmp_path: Path, row: int) -> Tracks:
    """Return the tracks with another label and other audio for one of them."""
    labels = [CLASSES.classes[number % 3] for number in range(36)]
    frames = noisy_frames(labels)
    labels[row] = next(name for name in CLASSES.classes if name != labels[row])
    frames[row] = np.random.default_rng(9).normal(-20, 9, frames[row].shape).astype(np.float32)
    return open_tracks(
        write_store(tmp_path, CLASSES, labels, frames, [f"artist {number // 4}" for number in range(36)])
    )


@pytest.mark.parametrize(
    ("approach", "choices"),
    [("stats", ["learner.C=0.01|1|100"]), ("rbf-sl", ["learner.C=0.1|10", "similarity.gamma=0.1|5", "epoch"])],
)
def test_a_test_track_changes_no_choice_of_its_fold(tracks, tmp_path, approach, choices):
    settings = {"select": tuple(choices), "checkpoint_every": 1, **BY_ARTIST}
    before = planned(tracks, approach, **settings)
    [number] = [fold.index for fold in before.folds[0] if 5 in fold.test]
    after = planned(replaced_tracks(tmp_path, 5), approach, **settings)
    assert before.inner[0, number].tolist() == after.inner[0, number].tolist()

    def choose(plan: PlannedRun, fold: int) -> list[dict[str, Any]]:
        return list(select_once(plan, fold).rows())

    assert choose(before, number) == choose(after, number)
    # Where the track trains, its replacement is seen: so a leak would be.
    assert choose(before, (number + 1) % 3) != choose(after, (number + 1) % 3)


def test_a_planted_leak_is_caught(tracks, tmp_path):
    """An inner fold that trains on a test track of the outer fold gives other scores when that track is replaced."""
    settings = {"select": ("learner.C=0.01|1|100",), **BY_ARTIST}
    plans = [planned(one, "stats", **settings) for one in (tracks, replaced_tracks(tmp_path, 5))]
    [number] = [fold.index for fold in plans[0].folds[0] if 5 in fold.test]
    found = []
    for plan in plans:
        training = training_of(plan, number)
        recordings = (*training.job.recordings, plan.tracks.recordings[5])
        leaking = replace(training.job, rows=np.append(training.job.rows, 5), recordings=recordings)
        selection = replace(training.selection, inner=np.append(training.selection.inner, -1))
        found.append(list(fit_selected(leaking, selection, REGISTRY).rows()))
    assert found[0] != found[1]


# Interrupted


def test_a_resumed_run_does_not_repeat_inner_trainings(tracks, tmp_path, monkeypatch):
    settings = {"select": ("similarity.gamma=0.1|5", "epoch"), "checkpoint_every": 1, "cv": 2, "inner_cv": 2}
    whole = run(tracks, tmp_path / "whole", "rbf-sl", **settings)
    trained: list[tuple[int, ...]] = []
    original = selecting.fit_models

    def counting(job: Any, *arguments: Any, **options: Any) -> Any:
        if len(trained) == 3:
            raise KeyboardInterrupt
        result = original(job, *arguments, **options)
        trained.append(tuple(job.rows))
        return result

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(selecting, "fit_models", counting)
        run(tracks, tmp_path / "runs", "rbf-sl", **settings)
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(selecting, "fit_models", lambda *a, **o: calls.append(a[0]) or original(*a, **o))
        resumed = run(tracks, tmp_path / "runs", "rbf-sl", **settings)
    assert len(calls) == 2 * (2 * 2 + 1) - 3
    for name in ("selection", "predictions", "curves", "checkpoints"):
        assert read_table(resumed.folder / f"{name}.parquet") == read_table(whole.folder / f"{name}.parquet")
    assert not resumed.checkpoints.exists()


def fit_here(
    store: Store, models: Path, *approaches: str, registry: Registry = REGISTRY, **settings: Any
) -> list[FittedModel]:
    with workers_run():
        described = experiment(*approaches, **settings)
        return fit(open_tracks(store), store, described, registry, models, seed=0, jobs=1)


def test_fit_chooses_in_the_same_way(store, tmp_path, monkeypatch):
    settings = {"select": ("learner.C=0.01|1", "epoch"), "checkpoint_every": 1, "folds": "grouped"}
    fitted = fit_here(store, tmp_path / "models", "nn", "fl", **settings)
    tracks = open_tracks(store)
    inner = draw_inner_folds(
        tracks.task,
        tracks.label_array,
        tracks.groups,
        Fold(0, np.arange(36), np.arange(0)),
        scheme="grouped",
        n_folds=3,
        seed=0,
    )
    for entry in fitted:
        model = Model.load(entry.folder, REGISTRY)
        recorded = model.provenance["selection"]
        assert recorded["chosen"] == dict(entry.chosen)
        for one in recorded["candidates"]:
            scores = []
            for number in range(3):
                train, test = np.flatnonzero(inner != number), np.flatnonzero(inner == number)
                learner = f"svm:C={one['learner.C']}" if "learner.C" in one else "svm"
                alone = job(tracks, entry.approach, rows=train, epochs=int(one["epoch"]), learner=learner)
                [by_hand] = fit_models(alone, REGISTRY).models.values()
                frames = tracks.frames["logmel"].take(test)
                predicted = by_hand.predict(by_hand.embed(frames.open(), frames.starts, frames.lengths))
                scores.append(accuracy_score(tracks.label_array[test], predicted))
            assert one["scores"] == pytest.approx(scores, rel=1e-12)
    assert {path.name for path in (tmp_path / "models" / ".checkpoints").iterdir()} == {".lock"}


def test_an_interrupted_fit_keeps_its_inner_trainings(store, tmp_path, monkeypatch):
    settings = {"select": ("optimizer.lr=0.1|1",)}
    [whole] = fit_here(store, tmp_path / "whole", "fl", **settings)
    original, calls = selecting.fit_models, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(arguments)
        return original(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(selecting, "fit_models", interrupted)
        fit_here(store, tmp_path / "models", "fl", **settings)
    again = []
    monkeypatch.setattr(selecting, "fit_models", lambda *a, **o: again.append(a) or original(*a, **o))
    [resumed] = fit_here(store, tmp_path / "models", "fl", **settings)
    assert len(again) == 3
    models = [Model.load(one.folder, REGISTRY) for one in (whole, resumed)]
    assert models[0].provenance["selection"] == models[1].provenance["selection"]
    assert models[0].provenance["digest"] == models[1].provenance["digest"]


# Learners that choose by themselves

SEARCHING = """
    from mirembed import hookimpl
    from sklearn.metrics import accuracy_score, make_scorer
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC


    class Searching:
        takes_groups = True

        def estimator(self, task):
            scoring = make_scorer(accuracy_score)
            return GridSearchCV(SVC(), {"C": [0.01, 1.0, 100.0]}, scoring=scoring, cv=GroupKFold(2))


    class Nested:
        def estimator(self, task):
            return make_pipeline(GridSearchCV(SVC(), {"C": [1.0, 10.0]}, scoring=make_scorer(accuracy_score), cv=2))


    @hookimpl
    def mirembed_register_learners(register):
        register("searching", Searching)
        register("nested", Nested)
"""


@pytest.fixture
def searching(tmp_path, monkeypatch) -> Registry:
    install(tmp_path / "site", "mirembed-searching", SEARCHING)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return Registry.discover()


def test_what_a_search_found_is_kept_in_the_model(store, tmp_path, searching):
    [entry] = fit_here(store, tmp_path / "models", "fl", registry=searching, learner="searching")
    model = Model.load(entry.folder, searching)
    assert type(model.estimator).__name__ == "SVC"
    assert model.provenance["chosen_by_learner"] == {"C": model.estimator.C}
    tracks = open_tracks(store)
    frames = tracks.frames["logmel"]
    X = model.embed(frames.open(), frames.starts, frames.lengths)
    search = GridSearchCV(SVC(), {"C": [0.01, 1.0, 100.0]}, cv=GroupKFold(2))
    search.fit(X, tracks.label_array, groups=tracks.groups)
    assert search.best_params_["C"] == model.estimator.C
    np.testing.assert_array_equal(model.predict(X), search.predict(X))


def test_a_search_works_with_keep_models(tracks, tmp_path, searching):
    made = run(tracks, tmp_path / "runs", "fl", registry=searching, learner="searching", keep_models=True)
    assert type(Model.load(made.models / "fl-seed0-fold0", searching).estimator).__name__ == "SVC"


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_a_search_that_cannot_be_saved_is_refused_before_any_training(store, tracks, tmp_path, searching, command):
    with pytest.raises(ModelError, match="nested"):
        if command == "fit":
            fit_here(store, tmp_path / "models", "fl", registry=searching, learner="nested")
        else:
            planned(tracks, "fl", registry=searching, learner="nested", keep_models=True)
    assert not (tmp_path / "models").exists()


# The commands


def test_the_estimate_counts_the_inner_trainings(tracks):
    def cost(**settings: Any) -> Any:
        with workers_run():
            return estimate([planned(tracks, "rbf-sl", "stats", **settings)], jobs=1).costs[0]

    plain, learners = cost(), cost(select=("learner.C=1|10",))
    assert plain.trainings == learners.trainings == 3
    networks = cost(select=("network.hidden=8|16|32", "learner.C=1|10"), inner_cv=2)
    assert networks.trainings == 3 + 3 * 3 * 2
    inner = {part.network: part.trainings for part in networks.parts if part.inner}
    assert inner == {"mlp:hidden=8": 6, "mlp:hidden=16": 6, "mlp:hidden=32": 6}
    assert networks.scorings > learners.scorings


def test_the_commands_show_what_was_chosen(mirembed):
    write_noisy(mirembed.folder / "mirembed-store")
    network = ("--network", "mlp")
    flags = ["--approach", "stats", "--approach", "rbf-sl", *network, "--cv", 2, "--epochs", 2, "--inner-cv", 2]
    flags += ["--select", "learner.C=0.1|10"]
    content = json.loads(mirembed("evaluate", *flags, "--json").stdout)
    assert {(one["method"], one["fold"]) for one in content["selection"]} == {
        (method, fold) for method in ("stats", "rbf-sl") for fold in (0, 1)
    }
    assert all(one["values"]["learner.C"] in ("0.1", "10") for one in content["selection"])
    text = mirembed("evaluate", "--config", content["run"]).stdout
    assert "learner.C=" in text
    assert "of 2 folds" in text
    fitted = json.loads(
        mirembed("fit", *network, "--epochs", 2, "--select", "learner.C=0.1|10", "--inner-cv", 2, "--json").stdout
    )
    assert fitted["models"][0]["chosen"].keys() == {"learner.C"}
    flags = ["--from", fitted["models"][0]["model"], "--cv", 2, "--select", "learner.C=0.1|10", "--inner-cv", 2]
    content = json.loads(mirembed("evaluate", *flags, "--json").stdout)
    assert [(one["method"], one["n_candidates"]) for one in content["selection"]] == [("from-folder-rbf-sl", 2)] * 2


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["evaluate", "--cv", 2, "--select", "learner.D=1|2"], ["learner.D", "C: float"]),
        (["evaluate", "--cv", 2, "--select", "learner.C=1|2", "--inner-cv", 50], ["--inner-cv 50"]),
        (["fit", "--select", "learner.C=1|0"], ["C is 0"]),
        (["fit", "--folds", "grouped"], ["--folds", "--select"]),
        (["fit", "--select", "learner.C=1|2", "--folds", "official"], ["official"]),
    ],
)
def test_a_choice_that_cannot_be_made_ends_the_command_at_once(mirembed, arguments, facts):
    write_noisy(mirembed.folder / "mirembed-store")
    refused = mirembed(*arguments, code=1)
    assert all(fact in refused.stderr for fact in facts)
    assert not list((mirembed.folder / "mirembed-store" / "runs").glob("*"))
