"""Cross-validation: every score can be recomputed from the predictions, and a resumed run has the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import pearsonr
from scipy.stats import t as student
from sklearn.metrics import accuracy_score, f1_score, r2_score
from small_store import (
    CLASSES,
    TARGETS,
    Notes,
    experiment,
    noise_with_peak,
    open_tracks,
    run_here,
    workers_run,
    write_classes,
    write_store,
    write_targets,
)
from small_store import evaluate as run_evaluation
from third_party import install

from mirembed import workers
from mirembed.config import Settings
from mirembed.errors import EvaluationError
from mirembed.fit import fit
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.registry import Registry
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import open_run
from mirembed.runs.scores import Scores
from mirembed.statistics.intervals import Interval
from mirembed.store.files import read_json, read_table
from mirembed.store.tracks import Tracks

pytestmark = pytest.mark.slow


def three_folds(*approaches: str, **settings: Any) -> Settings:
    return experiment(*approaches, **{"cv": 3, "engine": "auto", **settings})


def evaluate(
    tracks: Tracks,
    runs: Path,
    settings: Settings | None = None,
    *,
    run: Callable[..., Any] = run_here,
    jobs: int = 1,
    progress: Progress = NO_PROGRESS,
) -> tuple[RunFolder, list[Scores]]:
    """Evaluate without worker processes, unless ``run`` starts them."""
    settings = settings or three_folds()
    with workers_run(run):
        return run_evaluation(tracks, settings, Registry.discover(), runs, jobs=jobs, progress=progress)


def columns(run: RunFolder, table: str) -> dict[str, list[Any]]:
    return read_table(run.folder / f"{table}.parquet").to_pydict()


def by_approach(run: RunFolder, table: str, column: str) -> dict[str, list[Any]]:
    """Return a column of a table for each approach."""
    values: dict[str, list[Any]] = {}
    for row in read_table(run.folder / f"{table}.parquet").to_pylist():
        values.setdefault(row["approach"], []).append(row[column])
    return values


def rows_of(predictions: pa.Table, approach: str, seed: int, fold: int) -> dict[str, np.ndarray]:
    chosen = [r for r in predictions.to_pylist() if (r["approach"], r["seed"], r["fold"]) == (approach, seed, fold)]
    return {name: np.array([row[name] for row in chosen]) for name in predictions.column_names}


def corrected_interval(
    scores: list[float], n_train: float, n_test: float, lowest: float = 0
) -> tuple[float, float, float]:
    """Return mean and 95 % interval after Nadeau & Bengio, cut to the range of a metric that is at most 1."""
    half = student.ppf(0.975, len(scores) - 1) * np.sqrt((1 / len(scores) + n_test / n_train) * np.var(scores, ddof=1))
    return np.mean(scores), max(np.mean(scores) - half, lowest), min(np.mean(scores) + half, 1)


def shown(interval: Mapping[str, float]) -> tuple[float, float, float]:
    return interval["mean"], interval["low"], interval["high"]


@pytest.fixture(scope="module")
def tracks(tmp_path_factory) -> Tracks:
    """Eighteen tracks of three classes, by six artists of three tracks each."""
    groups = [f"artist {number // 3}" for number in range(18)]
    return open_tracks(write_classes(tmp_path_factory.mktemp("classes"), groups=groups))


@pytest.fixture(scope="module")
def target_tracks(tmp_path_factory) -> Tracks:
    """Twenty-four tracks with a target of declared range, in the sound, and one of undeclared range that is noise."""
    return open_tracks(write_targets(tmp_path_factory.mktemp("targets")))


@pytest.fixture(scope="module")
def classified(tracks, tmp_path_factory) -> tuple[RunFolder, list[Scores]]:
    """A run of three approaches and two seeds."""
    settings = three_folds("rbf-sl", "nn", "fl", epochs=3, seed=(0, 7))
    return evaluate(tracks, tmp_path_factory.mktemp("runs"), settings)


@pytest.fixture(scope="module")
def regressed(target_tracks, tmp_path_factory) -> tuple[RunFolder, list[Scores], list[str]]:
    """A run of two approaches on two targets, and its notes."""
    notes, settings = Notes(), three_folds("rbf-sl", "nn", epochs=15)
    run, scores = evaluate(target_tracks, tmp_path_factory.mktemp("runs"), settings, progress=notes)
    return run, scores, notes.notes


def test_every_track_is_predicted_once_by_every_approach_and_seed(classified, tracks):
    predictions = columns(classified[0], "predictions")
    times = Counter(zip(predictions["approach"], predictions["seed"], predictions["id"], strict=True))
    assert times == {(a, s, i): 1 for a in ("rbf-sl", "nn", "fl") for s in (0, 7) for i in tracks.ids}
    truth = dict(zip(tracks.ids, tracks.labels, strict=True))
    assert predictions["label"] == [truth[track] for track in predictions["id"]]
    assert set(predictions["prediction"]) <= set(CLASSES.classes)


def test_approaches_share_their_folds_and_each_seed_has_its_own(classified):
    run = classified[0]
    folds = columns(run, "folds")
    place = {(s, i): f for s, i, f in zip(folds["seed"], folds["id"], folds["fold"], strict=True)}
    predictions = columns(run, "predictions")
    assert predictions["fold"] == [place[key] for key in zip(predictions["seed"], predictions["id"], strict=True)]
    ids = {track for _, track in place}
    assert [place[0, track] for track in sorted(ids)] != [place[7, track] for track in sorted(ids)]


def test_classification_scores_are_those_of_the_predictions(classified):
    run, scores = classified
    predictions = read_table(run.folder / "predictions.parquet")
    written = read_json(run.folder / "scores.json")
    assert list(written) == [s.method for s in scores] == ["rbf-sl", "nn", "fl"]
    for approach, score in written.items():
        parts = [rows_of(predictions, approach, seed, fold) for seed in (0, 7) for fold in range(3)]
        accuracy = [accuracy_score(p["label"], p["prediction"]) for p in parts]
        f1 = [f1_score(p["label"], p["prediction"], average="macro") for p in parts]
        assert shown(score["accuracy"]) == pytest.approx(corrected_interval(accuracy, 12, 6))
        assert shown(score["macro_f1"]) == pytest.approx(corrected_interval(f1, 12, 6))
        assert score["pooled"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracy))


def test_regression_scores_are_those_of_the_predictions(regressed):
    run, scores, _ = regressed
    predictions = read_table(run.folder / "predictions.parquet")
    written = read_json(run.folder / "scores.json")
    assert list(written) == [s.method for s in scores] == ["rbf-sl", "nn"]
    for approach, score in written.items():
        parts = [rows_of(predictions, approach, 0, fold) for fold in range(3)]
        pairs = [[(p[name], p[f"predicted_{name}"]) for name in ("height", "depth")] for p in parts]
        r = np.array([[pearsonr(truth, predicted).statistic for truth, predicted in part] for part in pairs])
        r2 = [np.mean([r2_score(truth, predicted) for truth, predicted in part]) for part in pairs]
        assert shown(score["r"]) == pytest.approx(corrected_interval(r.mean(axis=1), 16, 8, -1))
        assert shown(score["r_squared"]) == pytest.approx(corrected_interval((r**2).mean(axis=1), 16, 8))
        assert shown(score["r2"]) == pytest.approx(corrected_interval(r2, 16, 8, -np.inf))
        assert shown(score["by_target"]["r"]["height"]) == pytest.approx(corrected_interval(r[:, 0], 16, 8, -1))
        assert shown(score["by_target"]["r"]["depth"]) == pytest.approx(corrected_interval(r[:, 1], 16, 8, -1))
        whole = [np.concatenate([part[column] for part in pairs], axis=1) for column in (0, 1)]
        expected = np.mean([pearsonr(*target).statistic for target in whole])
        assert score["pooled"]["r"]["mean"] == pytest.approx(expected)
        assert score["undefined"] == {}


def test_predictions_and_labels_of_targets_are_in_original_units(regressed, target_tracks):
    predictions = columns(regressed[0], "predictions")
    truth = dict(zip(target_tracks.ids, target_tracks.labels.tolist(), strict=True))
    labels = zip(predictions["height"], predictions["depth"], strict=True)
    assert [list(label) for label in labels] == [truth[track] for track in predictions["id"]]
    height, predicted = np.array(predictions["height"]), np.array(predictions["predicted_height"])
    assert np.abs(predicted - height).mean() < 80
    assert np.abs(np.array(predictions["predicted_depth"]) - 5).mean() < 3


def test_an_undeclared_range_is_noted(regressed):
    [note] = [note for note in regressed[2] if "range" in note]
    assert "depth" in note
    assert "height" not in note


def test_a_target_in_the_sound_is_learned_and_noise_is_not(regressed):
    for score in regressed[1]:
        assert score.by_column["height"].mean > 0.8
        assert abs(score.by_column["depth"].mean) < 0.6


def test_constant_predictions_have_no_r_and_are_counted(target_tracks, tmp_path, monkeypatch):
    source = """
        from mirembed import hookimpl

        class Constant:
            def estimator(self, task):
                from sklearn.dummy import DummyRegressor
                return DummyRegressor()

        @hookimpl
        def mirembed_register_learners(register):
            register("constant", Constant)
    """
    install(tmp_path / "site", "mirembed-constant", source)
    monkeypatch.syspath_prepend(tmp_path / "site")
    settings = three_folds("fl", epochs=1, learner="constant")
    _, [score] = evaluate(target_tracks, tmp_path / "runs", settings)
    assert score.intervals["r", None] == Interval(None, None, None)
    assert score.undefined == {name: {"constant prediction": 6} for name in ("r", "r_squared", "spearman")}
    assert score.to_json()["undefined"]["r"] == {"constant prediction": 6}


def test_different_sounds_are_told_apart(classified):
    assert all(score.intervals["accuracy", None].mean > 0.7 for score in classified[1])


def test_labels_unrelated_to_the_sound_are_not_learned(tmp_path):
    tracks = open_tracks(write_classes(tmp_path, n_tracks=30))
    shuffled = replace(tracks, labels=np.random.default_rng(1).permutation(tracks.labels).tolist())
    _, scores = evaluate(shuffled, tmp_path / "runs", three_folds("rbf-sl", "nn", epochs=8))
    assert all(score.intervals["accuracy", None].mean < 0.6 for score in scores)


def test_approaches_are_paired(tracks, tmp_path):
    """Two names of one similarity: the same initial weights and excerpts give the same numbers to the bit."""
    settings = three_folds("rbf-sl", "mirembed/rbf-sl", "rbf:gamma=1-sl", epochs=2)
    run, _ = evaluate(tracks, tmp_path, settings)
    losses, predictions = by_approach(run, "curves", "loss"), by_approach(run, "predictions", "prediction")
    assert losses["rbf-sl"] == losses["mirembed/rbf-sl"] == losses["rbf:gamma=1-sl"]
    assert predictions["rbf-sl"] == predictions["mirembed/rbf-sl"] == predictions["rbf:gamma=1-sl"]
    beside_others, _ = evaluate(tracks, tmp_path, three_folds("nn", "rbf-sl", epochs=2))
    assert by_approach(beside_others, "curves", "loss")["rbf-sl"] == losses["rbf-sl"]


def test_labels_may_have_a_similarity_of_their_own(tracks, tmp_path):
    def losses(label_similarity: str | None) -> list[float]:
        settings = three_folds(epochs=2, label_similarity=label_similarity)
        return columns(evaluate(tracks, tmp_path, settings)[0], "curves")["loss"]

    assert losses(None) == losses("rbf")
    assert losses(None) != losses("cosine")


def test_grouped_folds_share_no_group(tracks, tmp_path):
    notes = Notes()
    run, _ = evaluate(tracks, tmp_path, three_folds(epochs=1, folds="grouped"), progress=notes)
    folds = columns(run, "folds")
    groups = dict(zip(tracks.ids, tracks.groups, strict=True))
    places = {(groups[track], fold) for track, fold in zip(folds["id"], folds["fold"], strict=True)}
    assert len(places) == len(set(tracks.groups))
    assert not [note for note in notes.notes if "group" in note]
    assert run.manifest["configuration"]["bootstrap"] == "groups"
    assert open_run(tmp_path, run.folder.name).groups == groups
    crossing, _ = evaluate(tracks, tmp_path, three_folds(epochs=1), progress=notes)
    assert crossing.manifest["configuration"]["bootstrap"] == "tracks"
    assert len([note for note in notes.notes if note.startswith("warning: ") and "--folds grouped" in note]) == 1


def test_a_seed_draws_its_own_folds_weights_and_excerpts(classified, tracks, tmp_path):
    only, [score] = evaluate(tracks, tmp_path, three_folds(epochs=3, seed=(7,)))
    both = [row for row in read_table(classified[0].folder / "curves.parquet").to_pylist() if row["seed"] == 7]
    assert read_table(only.folder / "curves.parquet").to_pylist() == [r for r in both if r["approach"] == "rbf-sl"]
    assert score.method == "rbf-sl"


def test_an_interrupted_run_is_resumed_to_the_bit_and_says_so(tracks, tmp_path):
    settings = three_folds("rbf-sl", "nn", "fl", epochs=2)
    whole, _ = evaluate(tracks, tmp_path / "whole", settings)

    def interrupted(function, arguments, *_, **options):
        for index, argument in enumerate(arguments[:4]):
            yield workers.Done(index, function(argument))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(tracks, tmp_path / "runs", settings, run=interrupted)
    [unfinished] = (tmp_path / "runs").iterdir()
    notes = Notes()
    run, _ = evaluate(tracks, tmp_path / "runs", settings, progress=notes)
    assert [note for note in notes.notes if str(unfinished) in note and "4 of 6 trainings" in note]
    assert run.folder == unfinished
    for table in ("predictions", "curves", "folds"):
        assert columns(run, table) == columns(whole, table)
    assert not run.parts.exists()

    again, _ = evaluate(tracks, tmp_path / "runs", settings)
    assert again.folder != run.folder


def test_other_settings_do_not_resume_an_unfinished_run(tracks, tmp_path):
    def interrupted(function, arguments, *_, **options):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(tracks, tmp_path, three_folds(epochs=1), run=interrupted)
    evaluate(tracks, tmp_path, three_folds(epochs=1, batch=31))
    finished = [RunFolder(folder).manifest["finished"] for folder in tmp_path.iterdir()]
    assert len(finished) == 2
    assert finished.count(None) == 1


def test_the_numbers_do_not_depend_on_worker_processes(tracks, tmp_path):
    settings = three_folds("nn", epochs=2, engine="torch")
    here, _ = evaluate(tracks, tmp_path / "here", settings)
    there, _ = evaluate(tracks, tmp_path / "there", settings, run=workers.run, jobs=2)
    for table in ("predictions", "curves", "folds"):
        assert columns(there, table) == columns(here, table)


def test_impossible_folds_are_an_error_and_leave_no_run(tracks, tmp_path):
    with pytest.raises(EvaluationError, match="cannot split 18 tracks into 19 folds"):
        evaluate(tracks, tmp_path, three_folds(folds="random", cv=19))
    assert not list(tmp_path.iterdir())


def test_a_target_that_is_constant_in_the_training_tracks_is_refused_before_any_training(tmp_path):
    frames = [noise_with_peak(0.5, 20, seed=n) for n in range(6)]
    tracks = open_tracks(write_store(tmp_path / "a", TARGETS, [(n, 5.0 + (n == 3)) for n in range(6)], frames))
    for settings in (experiment(cv=3), experiment(cv=3, train_size=(0.5,))):  # depth differs in one track
        with pytest.raises(EvaluationError, match=r"fold \d: depth is 5 .*--folds"):
            run_evaluation(tracks, settings, Registry.discover(), tmp_path / "runs")
    store = write_store(tmp_path / "b", TARGETS, [(n, 5.0) for n in range(6)], frames)
    with pytest.raises(EvaluationError, match="depth is 5"):
        fit(open_tracks(store), store, experiment(), Registry.discover(), tmp_path / "models", seed=0, jobs=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
