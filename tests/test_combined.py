"""Combined methods in an evaluation: their predictions are the means of those of their members, which train once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
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
from mirembed.evaluate.estimate import estimate
from mirembed.evaluate.plan import plan_run
from mirembed.fit.resolve import describe_plugins
from mirembed.registry import Registry
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
            if len(arguments) == 4 and number == 1:  # stats and chance in the first fold
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
