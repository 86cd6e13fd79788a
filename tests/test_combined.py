"""Combined methods in an evaluation: their predictions are the means of those of their members, which train once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from report_pages import records, report
from small_store import (
    CLASSES,
    TAGS,
    TARGETS,
    evaluate,
    experiment,
    open_tracks,
    run_here,
    workers_run,
    write_classes,
    write_tags,
    write_targets,
)

from mirembed.compare.families import run_families
from mirembed.errors import SpecError
from mirembed.evaluate.estimate import estimate
from mirembed.evaluate.plan import plan_run
from mirembed.fit import stacking
from mirembed.fit.resolve import describe_plugins
from mirembed.hookspecs import Regression, Target
from mirembed.models.averaging import Outputs, stacked_weights
from mirembed.registry import Registry
from mirembed.reports.methods import describe_methods
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import open_run, read_run
from mirembed.runs.scores import Scores
from mirembed.store.files import read_table
from mirembed.store.tracks import Tracks

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()
MEMBERS = ("nn", "fl", "stats")


def settings(*approaches: str, **changes: Any):
    return experiment(*(approaches or (*MEMBERS, "chance")), **{"epochs": 2, "cv": 2, "combine": ("all",), **changes})


def run_here_with(tracks: Tracks, folder: Path, given=None, **options: Any) -> tuple[RunFolder, list[Scores]]:
    with workers_run():
        return evaluate(tracks, given or settings(), REGISTRY, folder, **options)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory) -> dict[str, Tracks]:
    write = {"classes": write_classes, "tags": write_tags, "targets": write_targets}
    return {name: open_tracks(one(tmp_path_factory.mktemp(name))) for name, one in write.items()}


@pytest.fixture(scope="module")
def runs(tracks, tmp_path_factory) -> dict[str, tuple[RunFolder, list[Scores]]]:
    return {name: run_here_with(one, tmp_path_factory.mktemp("runs")) for name, one in tracks.items()}


def rows_of(table: pa.Table, method: str, prefix: str, names: tuple[str, ...]) -> np.ndarray:
    """The columns of a method, rows in the order of the table: every method has its tracks in the same one."""
    rows = table.filter(pa.array(np.array(table["method"].to_pylist()) == method))
    return np.stack([rows[prefix + name].to_numpy() for name in names], axis=1)


def mean_of(table: pa.Table, prefix: str, names: tuple[str, ...]) -> np.ndarray:
    return np.mean([rows_of(table, member, prefix, names) for member in MEMBERS], axis=0)


def predicted(table: pa.Table, method: str) -> list[Any]:
    return table.filter(pa.array(np.array(table["method"].to_pylist()) == method))["prediction"].to_pylist()


def test_targets_are_the_means_of_those_of_the_members(runs):
    table = read_table(runs["targets"][0].folder / "predictions.parquet")
    names = tuple(target.name for target in TARGETS.targets)
    np.testing.assert_allclose(
        rows_of(table, "combined", "predicted_", names), mean_of(table, "predicted_", names), rtol=1e-12
    )
    np.testing.assert_array_equal(rows_of(table, "combined", "", names), rows_of(table, "nn", "", names))


def test_classes_are_those_with_the_highest_mean_probability(runs):
    table = read_table(runs["classes"][0].folder / "predictions.parquet")
    mean = mean_of(table, "probability_", CLASSES.classes)
    np.testing.assert_allclose(rows_of(table, "combined", "probability_", CLASSES.classes), mean, rtol=1e-12)
    assert predicted(table, "combined") == [CLASSES.classes[number] for number in mean.argmax(axis=1)]


def test_tags_are_those_with_a_mean_probability_of_a_half(runs):
    table = read_table(runs["tags"][0].folder / "predictions.parquet")
    mean = mean_of(table, "probability_", TAGS.classes)
    for prefix in ("probability_", "score_"):
        np.testing.assert_allclose(rows_of(table, "combined", prefix, TAGS.classes), mean, rtol=1e-12)
    wanted = [[tag for tag, value in zip(TAGS.classes, row, strict=True) if value >= 0.5] for row in mean]
    assert [sorted(one) for one in predicted(table, "combined")] == wanted


@pytest.mark.parametrize("name", ["classes", "tags", "targets"])
def test_a_combined_method_is_scored_and_tested_like_the_others(runs, name):
    run, scores = runs[name]
    assert [one.method for one in scores] == [*MEMBERS, "chance", "combined"]
    record = open_run(run.folder.parent, str(run.folder))
    assert record.methods[-1].approach.members == MEMBERS
    assert record.comparisons.reference == "combined"
    primary = next(family for family in run_families(record) if family.name == "primary")
    assert [(test.a, test.b) for test in primary.tests] == [("combined", member) for member in MEMBERS]
    assert set(record.predictions["combined"].tests) == set(record.predictions["nn"].tests)


def test_no_network_is_trained_for_it(tracks, tmp_path):
    without, with_it = (
        plan_run(one, tracks["classes"], REGISTRY, describe_plugins(one, REGISTRY))
        for one in (settings(combine=()), settings(combine=("all", "x=nn|fl")))
    )
    trained = [
        len(planned.trainings(RunFolder.resume_at(tmp_path / name, {}, "")))
        for name, planned in (("a", without), ("b", with_it))
    ]
    assert trained == [6, 6]
    with workers_run():
        assert estimate([with_it], jobs=1).costs[0].trainings == 2


def test_members_in_full_have_features_of_their_own(tracks, tmp_path):
    given = experiment(combine=("x=stats+svm:C=3|fl@mlp",), network=("mlp", "gru"), epochs=1, cv=2)
    _, scores = run_here_with(tracks["classes"], tmp_path, given)
    assert [one.method for one in scores] == ["stats+svm:C=3", "fl@mlp", "x"]


def test_a_member_without_probabilities_counts_with_its_predictions_and_is_noted(tmp_path):
    few = open_tracks(write_classes(tmp_path / "store", n_tracks=6))  # a fold trains on one track of each class
    run, _ = run_here_with(few, tmp_path / "runs", settings("nn", "stats"))
    assert any("stats has no probabilities in 2 of 2 folds" in note for note in run.read_notes())
    table = read_table(run.folder / "predictions.parquet")
    votes = np.array(predicted(table, "stats"))[:, None] == np.array(CLASSES.classes)
    mean = (rows_of(table, "nn", "probability_", CLASSES.classes) + votes) / 2
    np.testing.assert_allclose(rows_of(table, "combined", "probability_", CLASSES.classes), mean, rtol=1e-12)


def test_an_interrupted_run_is_read_as_far_as_it_got_and_resumed_to_the_bit(tracks, runs, tmp_path):
    def interrupted(function, arguments, *_, **options):
        for number, done in enumerate(run_here(function, arguments, 1)):
            yield done
            if number == 3:  # the networks of both folds, then stats and chance in the first
                raise KeyboardInterrupt

    whole = runs["targets"][0].folder / "predictions.parquet"
    with pytest.raises(KeyboardInterrupt), workers_run(interrupted):
        evaluate(tracks["targets"], settings(), REGISTRY, tmp_path)
    [folder] = tmp_path.glob("folder-*")
    unfinished = read_run(folder).predictions
    assert [len(one.parts) for one in unfinished.values()] == [1] * 5
    first = read_run(runs["targets"][0].folder).predictions["combined"]
    np.testing.assert_array_equal(unfinished["combined"].predicted, first.predicted[first.parts[0]])
    resumed, _ = run_here_with(tracks["targets"], tmp_path)
    assert resumed.folder == folder
    assert read_table(folder / "predictions.parquet").equals(read_table(whole))


def test_a_run_that_is_interrupted_after_its_trainings_has_each_combined_prediction_once(
    tracks, runs, tmp_path, monkeypatch
):
    def interrupted(run: RunFolder) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_here_with(tracks["targets"], tmp_path)
    [folder] = tmp_path.glob("folder-*")
    unfinished, finished = (read_run(one).predictions["combined"] for one in (folder, runs["targets"][0].folder))
    assert unfinished.tests == finished.tests
    np.testing.assert_array_equal(unfinished.predicted, finished.predicted)


# Stacked weights


def stacked(**changes: Any):
    return settings("nn", "fl", "stats", **{"combine": ("stacked",), **changes})


@pytest.fixture(scope="module")
def weighted(tracks, tmp_path_factory) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("stacked")
    return {name: run_here_with(tracks[name], folder, stacked())[0] for name in ("classes", "targets")}


def weights_of(run: RunFolder) -> dict[tuple[str, int], float]:
    return {
        (row["member"], row["fold"]): row["weight"] for row in read_table(run.folder / "weights.parquet").to_pylist()
    }


def test_weights_are_not_negative_and_have_the_sum_1_in_each_fold(weighted):
    for run in weighted.values():
        found = weights_of(run)
        assert set(found) == {(member, fold) for member in MEMBERS for fold in (0, 1)}
        assert min(found.values()) >= 0
        for fold in (0, 1):
            assert sum(found[member, fold] for member in MEMBERS) == pytest.approx(1)


def test_the_members_are_averaged_with_the_weights_of_the_fold(weighted):
    table, found = read_table(weighted["targets"].folder / "predictions.parquet"), weights_of(weighted["targets"])
    names = tuple(target.name for target in TARGETS.targets)
    folds = table.filter(pa.array(np.array(table["method"].to_pylist()) == "combined"))["fold"].to_pylist()
    mean = sum(
        np.array([found[member, fold] for fold in folds])[:, None] * rows_of(table, member, "predicted_", names)
        for member in MEMBERS
    )
    np.testing.assert_allclose(rows_of(table, "combined", "predicted_", names), mean, rtol=1e-12)


def test_labels_of_test_tracks_do_not_affect_the_weights(tracks, weighted, tmp_path):
    record = open_run(weighted["targets"].folder.parent, str(weighted["targets"].folder))
    tested = [int(one) for one in record.predictions["nn"].take(record.predictions["nn"].parts[0]).ids]
    labels = [
        (400.0 - label[0] if row in tested else label[0], label[1])
        for row, label in enumerate(tracks["targets"].labels)
    ]
    run, _ = run_here_with(replace(tracks["targets"], labels=labels), tmp_path, stacked())
    ours, theirs = weights_of(run), weights_of(weighted["targets"])
    assert [ours[member, 0] for member in MEMBERS] == [theirs[member, 0] for member in MEMBERS]
    assert [ours[member, 1] for member in MEMBERS] != [theirs[member, 1] for member in MEMBERS]


def test_networks_are_trained_anew_in_inner_folds(tracks, tmp_path):
    given = stacked(inner_cv=2)
    planned = plan_run(given, tracks["classes"], REGISTRY, describe_plugins(given, REGISTRY))
    trainings = planned.trainings(RunFolder.resume_at(tmp_path, {}, ""))
    assert sum(one.n_inner_networks for one in trainings) == 4
    assert [one.epochs for one in trainings if one.job.approach.trains] == [6, 6]


def test_learners_of_stacked_members_are_chosen_in_the_other_inner_folds(tracks, tmp_path):
    given = experiment(combine=("stacked:fl|stats",), epochs=1, cv=2, select=("learner.C=0.1|10",))
    run, _ = run_here_with(tracks["classes"], tmp_path, given)
    assert sum(weights_of(run).values()) == pytest.approx(2)
    assert set(read_table(run.folder / "selection.parquet")["method"].to_pylist()) == {"fl", "stats"}


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"select": ("epoch",), "epochs": 4, "checkpoint_every": 2}, ["--select epoch", "nn"]),
        ({"select": ("learner.C=1|2",), "inner_cv": 2}, ["2 inner folds", "3", "--inner-cv"]),
    ],
)
def test_what_would_need_inner_folds_of_inner_folds_is_refused(tracks, changes, facts):
    given = stacked(**changes)
    with pytest.raises(SpecError) as error:
        plan_run(given, tracks["classes"], REGISTRY, describe_plugins(given, REGISTRY))
    assert [fact for fact in facts if fact not in str(error.value)] == []


def test_two_inner_folds_of_a_table_leave_none_to_choose_learners_in(tracks, tmp_path):
    lines = [f"{one},{row % 2},{row // 2 % 2}" for row, one in enumerate(tracks["targets"].ids)]
    (tmp_path / "mine.csv").write_text("\n".join(["id,fold,inner_fold", *lines]))
    changes: dict[str, Any] = {"cv": None, "folds": str(tmp_path / "mine.csv")}
    given = stacked(**changes)
    assert plan_run(given, tracks["targets"], REGISTRY, describe_plugins(given, REGISTRY)).n_inner == 2
    given = stacked(**changes, select=("learner.C=1|2",))
    with pytest.raises(SpecError) as error:
        plan_run(given, tracks["targets"], REGISTRY, describe_plugins(given, REGISTRY))
    assert [fact for fact in ("2 inner folds", "3") if fact not in str(error.value)] == []


def test_an_interrupted_stacked_run_is_resumed_to_the_bit(tracks, weighted, tmp_path, monkeypatch):
    kept = stacking._keep
    calls: list[Path] = []

    def interrupted(path, outputs):
        kept(path, outputs)
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(stacking, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_here_with(tracks["targets"], tmp_path, stacked())
    planned = plan_run(stacked(), tracks["targets"], REGISTRY, describe_plugins(stacked(), REGISTRY))
    [folder] = tmp_path.iterdir()
    assert [one.is_resumed for one in planned.trainings(RunFolder(folder))].count(True) == 1
    again, _ = run_here_with(tracks["targets"], tmp_path, stacked())
    assert (
        len(calls) == len(set(calls)) == 12
    )  # two folds of three members, two of which share a network, and 3 inner ones
    for name in ("predictions", "weights"):
        ours, theirs = (read_table(run.folder / f"{name}.parquet") for run in (again, weighted["targets"]))
        assert ours.equals(theirs)


def test_the_weights_of_two_models_are_those_of_a_grid_search():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 1, (40, 2))
    task = Regression((Target("x", 0, 1), Target("y", 0, 1)))
    parts = [truth + rng.normal(0, spread, truth.shape) for spread in (0.1, 0.2, 0.8)]
    found = stacked_weights(task, truth, [Outputs(one) for one in parts])

    def error(a: float, b: float) -> float:
        return float(np.square(a * parts[0] + b * parts[1] + (1 - a - b) * parts[2] - truth).sum())

    steps = np.arange(0, 1.0001, 0.01)
    best = min(((a, b) for a in steps for b in steps if a + b <= 1), key=lambda pair: error(*pair))
    np.testing.assert_allclose(found[:2], best, atol=0.011)
    assert error(*found[:2]) <= error(*best)


# The report


def test_a_report_shows_what_each_member_adds(runs, tmp_path):
    run, _ = runs["classes"]
    written = report(run.folder, tmp_path / "report")
    table = read_table(run.folder / "predictions.parquet")
    labels = table.filter(pa.array(np.array(table["method"].to_pylist()) == "nn"))
    folds, truth = np.array(labels["fold"].to_pylist()), np.array(labels["label"].to_pylist())

    def score(right: np.ndarray) -> float:
        return float(np.mean([right[folds == fold].mean() for fold in (0, 1)]))

    whole = score(np.array(predicted(table, "combined")) == truth)
    for row in records(written, "members-combined"):
        others = [member for member in MEMBERS if member != row["member"]]
        mean = sum(rows_of(table, other, "probability_", CLASSES.classes) for other in others)
        without = score(np.array(CLASSES.classes)[mean.argmax(axis=1)] == truth)
        alone = score(np.array(predicted(table, row["member"])) == truth)
        assert float(row["score_mean"]) == pytest.approx(alone)
        assert float(row["combined_minus_member_mean"]) == pytest.approx(whole - alone)
        assert float(row["without_mean"]) == pytest.approx(without)
        assert float(row["combined_minus_without_mean"]) == pytest.approx(whole - without)
    text = (written.page.parent / "methods.md").read_text()
    assert "`combined` averages the predictions of `nn`, `fl` and `stats`" in text


def test_the_methods_section_names_a_learner_once_and_the_methods_that_chose(tracks, tmp_path):
    given = experiment(combine=("fl+svm:C=1|stats",), network=("mlp",), epochs=1, cv=2, select=("learner.C=0.1|10",))
    run, _ = run_here_with(tracks["classes"], tmp_path, given)
    text = describe_methods(open_run(tmp_path, run.folder.name), REGISTRY).to_markdown()
    assert text.count("support vector machine") == 1
    assert "`learner.C` of `stats`" in text


def test_a_report_shows_the_weights_of_stacked_methods(weighted, tmp_path):
    written = report(weighted["targets"].folder, tmp_path / "report")
    found = weights_of(weighted["targets"])
    for row in records(written, "members-combined"):
        assert float(row["weight_mean"]) == pytest.approx(np.mean([found[row["member"], fold] for fold in (0, 1)]))
    assert "breiman1996" in (written.page.parent / "references.bib").read_text()
