"""Evaluations: learners, checkpoints, embeddings, baselines and repeated splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from small_store import (
    CLASSES,
    Notes,
    class_frames,
    experiment,
    open_tracks,
    workers_run,
    write_classes,
    write_store,
    write_targets,
)
from small_store import evaluate as run_evaluation

from mirembed.compare.comparison import compare
from mirembed.datasets.splits import make_splits
from mirembed.errors import EvaluationError, SpecError
from mirembed.evaluate.plan import choose_splits
from mirembed.hookspecs import Classification, Split
from mirembed.registry import Plugin, Registry
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import open_run
from mirembed.runs.scores import Scores
from mirembed.store.tracks import Tracks

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()
LEARNERS = ("svm", "svm:C=10")
FOLDS = {"folds": "stratified", "cv": 3}


def evaluate(tracks: Tracks, runs: Path, *approaches: str, **settings: Any) -> RunFolder:
    return evaluate_and_score(tracks, runs, *approaches, **settings)[0]


def evaluate_and_score(
    tracks: Tracks,
    runs: Path,
    *approaches: str,
    official: Mapping[str, Sequence[Split]] | None = None,
    **settings: Any,
) -> tuple[RunFolder, list[Scores]]:
    with workers_run():
        return run_evaluation(tracks, experiment(*approaches, **settings), REGISTRY, runs, official=official)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Tracks:
    return open_tracks(write_classes(tmp_path_factory.mktemp("classes")))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Tracks:
    return open_tracks(write_targets(tmp_path_factory.mktemp("targets")))


@pytest.fixture(scope="module")
def run(tracks: Tracks, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Trained and untrained approaches with two learners, scored every second epoch of five."""
    approaches = ("nn", "fl", "rbf-sl", "chance", "stats", "untrained")
    settings = {**FOLDS, "checkpoint_every": 2, "learner": LEARNERS, "epochs": 5}
    return evaluate(tracks, tmp_path_factory.mktemp("runs"), *approaches, **settings)


def table(run: RunFolder, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.folder / name)


# Methods


def test_every_approach_that_needs_a_learner_is_combined_with_each(run):
    rows = run.read_predictions().to_pylist()
    found = {row["method"]: (row["approach"], row["learner"]) for row in rows}
    assert found == {
        "nn": ("nn", None),
        "fl+svm": ("fl", "svm"),
        "fl+svm:C=10": ("fl", "svm:C=10"),
        "rbf-sl+svm": ("rbf-sl", "svm"),
        "rbf-sl+svm:C=10": ("rbf-sl", "svm:C=10"),
        "chance": ("chance", None),
        "stats+svm": ("stats", "svm"),
        "stats+svm:C=10": ("stats", "svm:C=10"),
        "untrained+svm": ("untrained", "svm"),
        "untrained+svm:C=10": ("untrained", "svm:C=10"),
    }


def test_with_one_learner_a_method_has_the_name_of_its_approach(tracks, run, tmp_path):
    alone = evaluate(tracks, tmp_path, "rbf-sl", **FOLDS, epochs=5)
    predictions, beside = table(alone, "predictions.parquet"), table(run, "predictions.parquet")
    assert predictions["method"].unique().tolist() == ["rbf-sl"]
    same = beside[beside["method"] == "rbf-sl+svm"]
    assert predictions["prediction"].tolist() == same["prediction"].tolist()


# Checkpoints


def test_checkpoints_are_scored_during_training_and_at_the_end(run):
    checkpoints = table(run, "checkpoints.parquet")
    trained = {"nn", "fl+svm", "fl+svm:C=10", "rbf-sl+svm", "rbf-sl+svm:C=10"}
    assert set(checkpoints["method"]) == trained
    for _, rows in checkpoints.groupby("method"):
        assert sorted(rows["epoch"].unique()) == [2, 4, 5]
        assert (rows.groupby("epoch").size() == 18).all()


def test_the_last_checkpoint_is_the_run_s_result(run):
    checkpoints, predictions = table(run, "checkpoints.parquet"), table(run, "predictions.parquet")
    last = checkpoints[checkpoints["epoch"] == 5].drop(columns="epoch").reset_index(drop=True)
    expected = predictions[predictions["method"].isin(last["method"])].reset_index(drop=True)
    expected = expected.drop(columns=[name for name in expected if name.startswith(("probability_", "retrieval_"))])
    pd.testing.assert_frame_equal(last, expected)


def test_a_checkpoint_is_what_a_shorter_training_predicts(tracks, run, tmp_path):
    """The learner is fitted from scratch at a checkpoint, which does not affect the training."""
    short = table(evaluate(tracks, tmp_path, "nn", "rbf-sl", **FOLDS, epochs=4), "predictions.parquet")
    checkpoints = table(run, "checkpoints.parquet")
    for method, name in (("nn", "nn"), ("rbf-sl+svm", "rbf-sl")):
        at_four = checkpoints[(checkpoints["method"] == method) & (checkpoints["epoch"] == 4)]
        assert at_four["prediction"].tolist() == short[short["method"] == name]["prediction"].tolist()


def test_scoring_checkpoints_changes_no_result(tracks, tmp_path):
    one, other = (
        evaluate(tracks, tmp_path / str(every), "fl", **FOLDS, epochs=3, checkpoint_every=every) for every in (1, 0)
    )
    pd.testing.assert_frame_equal(table(one, "curves.parquet"), table(other, "curves.parquet"))
    pd.testing.assert_frame_equal(table(one, "predictions.parquet"), table(other, "predictions.parquet"))
    assert other.read_checkpoints() is None


# Embeddings


def test_the_embeddings_of_the_first_fold_are_kept(run, tracks):
    folds = table(run, "folds.parquet")
    tested = set(folds[folds["fold"] == 0]["id"])
    names = {path.stem for path in run.embedding_files()}
    assert names == {f"{name}-seed0-fold0" for name in ("baseline", "stats", "untrained")} | {
        path.stem for path in run.embedding_files() if path.stem.startswith("rbf")
    }
    for path in run.embedding_files():
        rows = pd.read_parquet(path)
        assert rows["id"].tolist() == tracks.ids
        assert set(rows[~rows["in_sample"]]["id"]) == tested
        assert set(rows["epoch"]) == ({5} if rows["approach"][0] in ("nn", "rbf-sl") else {0})


def test_all_embeddings_are_kept_when_asked(tracks, tmp_path):
    run = evaluate(tracks, tmp_path, "rbf-sl", **FOLDS, epochs=4, checkpoint_every=2, keep_embeddings=True)
    rows = pd.concat([pd.read_parquet(path) for path in run.embedding_files()])
    assert sorted(rows.groupby(["fold", "epoch"]).size().items()) == [
        ((fold, epoch), 18) for fold in range(3) for epoch in (2, 4)
    ]
    assert {len(vector) for vector in rows["embedding"]} == {50}


# Baselines


def frames_of(tracks: Tracks, row: int) -> np.ndarray:
    start, length = tracks.frames["logmel"].starts[row], tracks.frames["logmel"].lengths[row]
    return np.asarray(tracks.frames["logmel"].open()[start : start + length], np.float64)


def test_chance_predicts_the_most_frequent_class_of_the_training_tracks(tracks, run):
    predictions, folds = table(run, "predictions.parquet"), table(run, "folds.parquet")
    labels = np.array(tracks.labels)
    for fold in range(3):
        tested = np.isin(tracks.ids, folds[folds["fold"] == fold]["id"])
        dummy = DummyClassifier(strategy="most_frequent").fit(labels[~tested][:, None], labels[~tested])
        rows = predictions[(predictions["method"] == "chance") & (predictions["fold"] == fold)]
        assert rows["prediction"].tolist() == dummy.predict(labels[tested][:, None]).tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {"folds": "stratified", "cv": 4},
        {"folds": "random", "cv": 5, "seed": (0, 1)},
        {"folds": "random", "splits": 6, "test_size": 0.3},
    ],
    ids=["stratified", "random", "splits"],
)
def test_the_recorded_chance_is_the_score_of_the_approach_chance_on_the_same_folds(tracks, tmp_path, settings):
    run, [chance] = evaluate_and_score(tracks, tmp_path, "chance", **settings)
    assert run.manifest["configuration"]["chance"] == pytest.approx(chance.intervals["accuracy", None].mean)


def test_tracks_outside_an_official_split_do_not_affect_chance(tracks, tmp_path):
    one, other, left_out = ([tracks.ids[i] for i in np.flatnonzero(tracks.label_array == k)] for k in range(3))
    split = Split(frozenset([*one[:2], other[0]]), frozenset([*other[1:5], one[2]]))
    run, [chance] = evaluate_and_score(tracks, tmp_path, "chance", folds="halves", official={"halves": [split]})
    configuration = run.manifest["configuration"]
    assert configuration["chance"] == chance.intervals["accuracy", None].mean == 1 / 5
    sizes = [configuration[name] for name in ("n_tracks", "n_used", "n_train", "n_test")]
    assert sizes == [len(tracks.ids), 8, 3, 5]
    assert not {*split.train, *split.test} & set(left_out)


def test_mel_is_an_svm_on_standardized_means_and_deviations_of_the_bands(tracks, run):
    predictions, folds = table(run, "predictions.parquet"), table(run, "folds.parquet")
    features = np.array([[*(f := frames_of(tracks, row)).mean(axis=0), *f.std(axis=0)] for row in range(18)])
    labels = np.array(tracks.labels)
    for fold in range(3):
        tested = np.isin(tracks.ids, folds[folds["fold"] == fold]["id"])
        pipeline = make_pipeline(StandardScaler(), SVC(C=10)).fit(features[~tested], labels[~tested])
        rows = predictions[(predictions["method"] == "stats+svm:C=10") & (predictions["fold"] == fold)]
        assert rows["prediction"].tolist() == pipeline.predict(features[tested]).tolist()


def test_the_mean_of_the_training_tracks_has_no_correlation(targets, tmp_path):
    run, [chance, stats] = evaluate_and_score(targets, tmp_path, "chance", "stats", folds="random", cv=3)
    assert chance.intervals["r", None].mean is None
    assert chance.undefined["r"] == {"constant prediction": 6}
    assert stats.by_column["height"].mean > 0.9
    assert run.read_curves().num_rows == 0
    assert run.read_checkpoints() is None


def test_a_baseline_without_audio_cannot_be_saved_as_a_model(mirembed, tones):
    mirembed("extract", "--dataset", "folder", "--audio", str(tones))
    result = mirembed("fit", "--approach", "chance", code=1)
    assert "error: --approach chance " in result.stderr
    assert "evaluate" in result.stderr


# Repeated splits


def test_splits_have_the_requested_size_and_differ():
    labels = np.arange(40) % 3
    folds, notes = make_splits(
        Classification(("a", "b", "c")), labels, scheme="random", n_splits=20, test_size=0.1, seed=0
    )
    assert [len(fold.test) for fold in folds] == [4] * 20
    assert all(sorted([*fold.train, *fold.test]) == list(range(40)) for fold in folds)
    assert len({tuple(fold.test) for fold in folds}) > 15
    assert notes == []


def test_grouped_splits_keep_groups_apart():
    groups = [str(row // 4) for row in range(40)]
    task, labels = Classification(("a", "b")), np.arange(40) % 2
    folds, _ = make_splits(task, labels, scheme="grouped", n_splits=5, test_size=0.2, seed=0, groups=groups)
    for fold in folds:
        assert not {groups[row] for row in fold.train} & {groups[row] for row in fold.test}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_size": 1.5}, "--test-size is 1.5: "),
        ({"n_splits": 0}, "--splits is 0: "),
        (
            {"scheme": "stratified", "test_size": 0.01},
            "40 tracks with --folds stratified --test-size 0.01: ",
        ),
    ],
)
def test_impossible_splits_are_an_error(settings, message):
    wanted = {"scheme": "random", "n_splits": 3, "test_size": 0.1, "seed": 0, **settings}
    with pytest.raises(EvaluationError) as error:
        make_splits(Classification(("a", "b")), np.arange(40) % 2, **wanted)
    assert message in str(error.value)


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[Scores]]:
    """Six splits of tracks of which every fourth has a wrong label."""
    folder = tmp_path_factory.mktemp("splits")
    labels = [CLASSES.classes[number % 3] for number in range(18)]
    wrong = [CLASSES.classes[(number + (number % 4 == 0)) % 3] for number in range(18)]
    tracks = open_tracks(write_store(folder / "store", CLASSES, wrong, class_frames(labels)))
    return evaluate_and_score(tracks, folder, "untrained", "stats", "chance", splits=6, test_size=0.25)


def test_a_split_is_scored_like_a_fold(repeated):
    run, scores = repeated
    predictions = table(run, "predictions.parquet")
    by_split = [
        accuracy_score(rows["label"], rows["prediction"])
        for _, rows in predictions[predictions["method"] == "untrained"].groupby("fold")
    ]
    assert len(by_split) == 6
    assert scores[0].intervals["accuracy", None].mean == pytest.approx(np.mean(by_split))
    spread = np.std(by_split, ddof=1) * np.sqrt(1 / 6 + 5 / 13)
    interval, half = scores[0].intervals["accuracy", None], 2.570581835636314 * spread  # t(0.975, 5)
    expected = max(interval.mean - half, 0), min(interval.mean + half, 1)
    assert (interval.low, interval.high) == pytest.approx(expected)


def test_pooled_scores_of_splits_draw_tracks_and_not_rows(repeated):
    run, [untrained, *_] = repeated
    predictions = table(run, "predictions.parquet")
    rows = predictions[predictions["method"] == "untrained"]
    assert untrained.pooled["accuracy", None].mean == pytest.approx(accuracy_score(rows["label"], rows["prediction"]))
    right = {name: (of["label"] == of["prediction"]).to_numpy() for name, of in rows.groupby("id")}
    rng = np.random.default_rng(1)
    names = sorted(right)
    drawn = [np.concatenate([right[name] for name in rng.choice(names, len(names))]).mean() for _ in range(4000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (untrained.pooled["accuracy", None].low, untrained.pooled["accuracy", None].high) == pytest.approx(
        (low, high), abs=0.03
    )


def test_compare_shows_welch_s_test_beside_the_corrected_one(repeated):
    run, _ = repeated
    report = compare([open_run(run.folder.parent, run.folder.name)], methods=["untrained", "chance"])
    test = next(one for family in report.families for one in family.tests if one.metric == "accuracy")
    predictions = table(run, "predictions.parquet")
    right = predictions.assign(right=predictions["label"] == predictions["prediction"])
    a, b = (right[right["method"] == name].groupby("fold")["right"].mean() for name in ("untrained", "chance"))
    assert test.p_welch == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue)
    assert test.p_holm > test.p_welch


def test_folds_have_no_welch_test(run):
    report = compare([open_run(run.folder.parent, run.folder.name)], methods=["nn", "chance"])
    assert {test.p_welch for family in report.families for test in family.tests} == {None}


def test_two_ways_of_splitting_are_an_error():
    task = Classification(("a", "b"))
    with pytest.raises(SpecError, match=r"--cv 3 and --splits 4"):
        choose_splits(experiment(cv=3, splits=4), task, {})
    with pytest.raises(SpecError, match=r"--test-size 0\.2 .*--splits"):
        choose_splits(experiment(test_size=0.2), task, {})
    assert choose_splits(experiment(splits=4), task, {}).folds == "random"


# Reading an unfinished run


def test_the_finished_trainings_of_an_unfinished_run_can_be_read(tracks, tmp_path, monkeypatch):
    from mirembed.evaluate import experiment as module

    done = []

    def stop_after_two(part: Any, on_epoch: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        train_one(part, on_epoch)
        done.append(part)

    train_one = module.train_fold
    monkeypatch.setattr(module, "train_fold", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tracks, tmp_path, "rbf-sl", **FOLDS, epochs=2, checkpoint_every=1)
    [folder] = tmp_path.iterdir()
    run = RunFolder(folder)
    assert run.manifest["finished"] is None
    predictions, checkpoints, curves = run.read_predictions(), run.read_checkpoints(), run.read_curves()
    assert set(predictions["fold"].to_pylist()) == {0, 1}
    assert checkpoints.num_rows == 2 * predictions.num_rows
    assert len(curves) == 4
    assert len(run.embedding_files()) == 1
    monkeypatch.setattr(module, "train_fold", train_one)
    again = evaluate(tracks, tmp_path, "rbf-sl", **FOLDS, epochs=2, checkpoint_every=1)
    assert again.folder == folder
    assert again.read_predictions().num_rows == 18


def test_a_resample_without_a_track_of_one_seed_is_scored_by_the_others(tracks, tmp_path):
    _, [chance] = evaluate_and_score(tracks, tmp_path, "chance", splits=1, test_size=0.06, seed=(0, 1, 2))
    assert 0 <= chance.pooled["accuracy", None].low <= chance.pooled["accuracy", None].high <= 1


def test_a_learner_that_uses_the_global_generator_repeats_its_numbers(tracks, tmp_path):
    class Drawing(DummyClassifier):
        def predict(self, X: Any) -> Any:
            return self.drawn_[: len(X)]

        def fit(self, X: Any, y: Any) -> Any:
            self.drawn_ = np.random.randint(0, 3, 100)
            return super().fit(X, y)

    class Unseeded:
        def estimator(self, task: Any) -> Any:
            return Drawing()

    registry = Registry([*REGISTRY.plugins, Plugin("learner", "unseeded", Unseeded, "", "mirembed-odd", "1.0")])
    settings = experiment("stats", learner="unseeded", **FOLDS)
    tables = []
    for place in ("a", "b"):
        with workers_run(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(Registry, "discover", lambda: registry)
            run, _ = run_evaluation(tracks, settings, registry, tmp_path / place)
        tables.append(run.read_predictions())
        np.random.random(7)
    assert tables[0].equals(tables[1])
    assert len(set(tables[0]["prediction"].to_pylist())) > 1


def test_an_unused_label_similarity_is_an_error():
    with pytest.raises(SpecError, match=r"--label-similarity cosine: .*nn, stats"):
        experiment("nn", "stats", label_similarity="cosine").check()


def test_approaches_without_a_model_to_keep_are_named(tracks, tmp_path):
    notes = Notes()
    with workers_run():
        settings = experiment("stats", "untrained", **FOLDS, keep_models=True)
        run_evaluation(tracks, settings, REGISTRY, tmp_path, progress=notes)
    [note] = [note for note in notes.notes if "--keep-models" in note]
    assert "stats" in note
    assert "untrained" not in note
    assert len(list(tmp_path.glob("*/models/untrained-*"))) == 3
