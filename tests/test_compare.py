"""``mirembed compare``: paired tests of methods in families, and the tracks on which the methods disagree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from conftest import Command, clean_environment
from small_runs import FOLDS, LABELS, N_FOLDS, N_TEST, OTHER, RIGHT, TARGETS, answers, write_run

from mirembed import Regression, Target
from mirembed.compare.comparison import Comparison
from mirembed.compare.comparison import compare as compare_runs
from mirembed.compare.disagreements import LargerError, Mistake
from mirembed.compare.families import Family, describe_best, run_families
from mirembed.compare.paired_tests import PairedTest, RunMethod, best_of, corrected, paired_test
from mirembed.config.comparisons import Comparisons
from mirembed.errors import EvaluationError, StoreError
from mirembed.runs.record import RunRecord, open_run
from mirembed.statistics.metrics import METRICS
from mirembed.store.files import read_table, write_json, write_table


def opened(folder: Path) -> RunRecord:
    return open_run(folder.parent, folder.name)


def compare(*folders: Path, **options: Any) -> Comparison:
    return compare_runs([opened(folder) for folder in folders], **options)


def verdicts(comparison: Comparison, metric: str = "accuracy") -> dict[tuple[str, str], str]:
    return {(test.a, test.b): test.verdict for test in comparison.tests if test.metric == metric}


def family(comparison: Comparison, name: str = "primary") -> Family:
    return next(one for one in comparison.families if one.name == name)


def pairs(of: Family) -> list[tuple[str, str]]:
    return [(test.a, test.b) for test in of.tests]


def one_test(folder: Path, a: str, b: str, metric: str = "accuracy") -> PairedTest:
    record = opened(folder)
    return paired_test(RunMethod(record, a), RunMethod(record, b), (metric, None))


def corrected_t(differences: np.ndarray, n_train: int, n_test: int) -> tuple[float, float, float]:
    """Return t, p and half the width of the 95 % interval, after Nadeau & Bengio."""
    n_folds = len(differences)
    error = np.sqrt((1 / n_folds + n_test / n_train) * differences.var(ddof=1))
    t, student = differences.mean() / error, scipy.stats.t(n_folds - 1)
    return t, 2 * student.sf(abs(t)), student.ppf(0.975) * error


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three approaches; nn is right less often, rbf-sl and fl are about as good."""
    return write_run(tmp_path / "runs" / "folder-1")


def test_a_test_is_the_corrected_paired_t_test_of_the_scores_of_the_folds(run):
    scores: dict[str, list[list[float]]] = {"accuracy": [], "macro_f1": []}
    for approach in ("rbf-sl", "nn"):
        parts = [(LABELS[i : i + N_TEST], answers(RIGHT[approach])[i : i + N_TEST]) for i in range(0, 100, N_TEST)]
        scores["accuracy"].append([sklearn.metrics.accuracy_score(*part) for part in parts])
        scores["macro_f1"].append([sklearn.metrics.f1_score(*part, average="macro") for part in parts])
    for metric, (one, other) in scores.items():
        test, differences = one_test(run, "rbf-sl", "nn", metric), np.subtract(one, other)
        t, p, half_width = corrected_t(differences, n_train=80, n_test=20)
        assert (test.mean_a, test.mean_b) == pytest.approx((np.mean(one), np.mean(other)))
        assert (test.t_test.statistic, test.t_test.p) == pytest.approx((t, p))
        interval = test.t_test.difference
        assert (interval.low, interval.high) == pytest.approx(
            (differences.mean() - half_width, differences.mean() + half_width)
        )


def test_methods_are_compared_with_the_first_and_everything_else_is_exploratory(run):
    comparison = compare(run)
    assert {one.name: pairs(one) for one in comparison.families if one.name in ("primary", "other pairs")} == {
        "primary": [("nn", "rbf-sl"), ("fl", "rbf-sl")],
        "other pairs": [("fl", "nn")],
    }
    assert {test.metric for one in ("primary", "other pairs") for test in family(comparison, one).tests} == {"accuracy"}
    assert {test.metric for test in family(comparison, "other metrics").tests} >= {"macro_f1"}
    assert {test.metric for test in family(comparison, "classes").tests} == {"recall"}
    assert {one.name for one in comparison.families if not one.exploratory} == {"primary"}
    assert {one.name for one in comparison.families if one.declared} == {"primary"}


def test_baselines_without_training_are_a_family_of_their_own(tmp_path):
    wrong = [answers([10] * N_FOLDS), answers([11, 9, 10, 12, 10])]
    predictions = {
        "chance": [wrong[0]],
        **{name: [answers(right)] for name, right in RIGHT.items()},
        "stats": [wrong[1]],
    }
    comparison = compare(write_run(tmp_path / "run", predictions))
    assert pairs(family(comparison)) == [("nn", "rbf-sl"), ("fl", "rbf-sl")]
    assert pairs(family(comparison, "baselines")) == [("rbf-sl", "chance"), ("rbf-sl", "stats")]
    assert family(comparison, "baselines").n_tested == 2


def test_a_run_is_compared_as_it_declared(tmp_path):
    declared = Comparisons(None, (("fl", "nn"),), ())
    comparison = compare(write_run(tmp_path / "run", comparisons=declared.to_json()))
    assert pairs(family(comparison)) == [("fl", "nn")]
    assert family(comparison).declared
    assert pairs(family(comparison, "other pairs")) == [("nn", "rbf-sl"), ("fl", "rbf-sl")]


def test_another_reference_is_said_not_to_have_been_declared(run):
    comparison = compare(run, against="fl")
    assert pairs(family(comparison)) == [("rbf-sl", "fl"), ("nn", "fl")]
    assert not family(comparison).declared
    assert not comparison.to_json()["families"][0]["declared"]
    assert any("rbf-sl" in note and "declared" in note for note in comparison.notes)
    same = compare(run, against="rbf-sl")
    assert family(same).declared
    assert not any("declared" in note for note in same.notes)


def test_only_the_pairs_of_named_methods_are_shown(run):
    comparison = compare(run, methods=["fl", "rbf-sl"])
    assert {pair for one in comparison.families for pair in pairs(one)} == {("fl", "rbf-sl")}
    assert [(found.a, found.b) for found in comparison.disagreements] == [("fl", "rbf-sl")]


def test_the_verdict_names_the_higher_only_if_it_is_significant(run):
    assert verdicts(compare(run)) == {
        ("nn", "rbf-sl"): "B is higher",
        ("fl", "rbf-sl"): "not significant",
        ("fl", "nn"): "A is higher",
    }


def test_the_lowest_method_is_the_best_by_a_metric_of_which_less_is_better(run, monkeypatch):
    tests = corrected([one_test(run, "nn", "rbf-sl")])
    assert best_of(tests) == {"rbf-sl"}
    less = [replace(metric, higher_is_better=False) if metric.name == "accuracy" else metric for metric in METRICS]
    monkeypatch.setattr("mirembed.statistics.metrics.METRICS", tuple(less))
    assert best_of(tests) == {"nn"}


def test_a_method_is_best_only_if_it_is_better_in_all_of_its_tests(run):
    [primary, *_] = run_families(opened(run))
    assert [test.better for test in primary.tests] == ["rbf-sl", None]
    assert best_of(primary.tests) == set()
    assert best_of(primary.tests[:1]) == {"rbf-sl"}


def test_the_best_score_is_named_with_what_the_declared_tests_say(run):
    record = opened(run)
    found = describe_best(record, run_families(record))
    assert "rbf-sl (0.930)" in found
    assert found.index("better than nn") < found.index("not significantly better than fl")


def test_a_method_without_a_score_is_named_as_not_tested(tmp_path):
    truth = [[float(value)] for value in range(100)]
    predictions = {"nn": [[[value % 7] for [value] in truth]], "chance": [[[5.0]] * 100]}
    record = opened(write_run(tmp_path / "run", predictions, task=Regression((Target("valence"),)), truth=truth))
    found = describe_best(record, run_families(record))
    assert "not tested against chance" in found
    assert "significantly" not in found


def test_p_values_are_corrected_over_all_tests_of_a_family_and_no_others(tmp_path):
    right = {"rbf-sl": [18, 19, 18, 20, 18], "nn": [13, 15, 17, 13, 14], "fl": [14, 15, 17, 15, 15]}
    folder = write_run(tmp_path / "run", {name: [answers(counts)] for name, counts in right.items()})
    for one in compare(folder).families:
        tested = [test for test in one.tests if test.p is not None]
        assert len(tested) == one.n_tested
        smallest = min(test.p for test in tested)
        assert min(test.p_holm for test in tested) == pytest.approx(min(1, len(tested) * smallest))
    primary = family(compare(folder))
    small, large = sorted(test.p for test in primary.tests)
    assert [test.p_holm for test in sorted(primary.tests, key=lambda test: test.p)] == pytest.approx(
        [2 * small, max(2 * small, large)]
    )


def test_p_values_of_chosen_methods_are_corrected_over_the_whole_family(run):
    every, chosen = family(compare(run)), family(compare(run, methods=["fl", "rbf-sl"]))
    [shown] = chosen.tests
    assert shown in every.tests
    assert (chosen.n_tests, chosen.n_tested) == (every.n_tests, every.n_tested) == (2, 2)
    assert "1 of 2" in chosen.describe()


def test_chosen_pairs_of_a_single_split_are_corrected_over_their_family(tmp_path):
    right = {"rbf-sl": 17, "nn": 10, "fl": 5}
    predictions = {name: [LABELS[:n] + [OTHER[label] for label in LABELS[n:20]]] for name, n in right.items()}
    folder = write_run(tmp_path / "run", predictions, truth=LABELS[:20], places=[[0] * 20], cv=None)
    every = {(found.a, found.b): found.mcnemar_p for found in compare(folder).disagreements}
    (chosen,) = compare(folder, methods=["rbf-sl", "nn"]).disagreements
    assert chosen.mcnemar_p == every["nn", "rbf-sl"] == pytest.approx(scipy.stats.binomtest(7, 7).pvalue)
    assert every["fl", "rbf-sl"] == pytest.approx(2 * scipy.stats.binomtest(12, 12).pvalue)
    assert every["fl", "nn"] == pytest.approx(scipy.stats.binomtest(5, 5).pvalue)


def test_all_seeds_of_repeated_cross_validation_count(tmp_path):
    counts = {
        "rbf-sl": [[18, 19, 18, 20, 18], [19, 17, 18, 18, 19]],
        "nn": [[15, 17, 15, 18, 14], [16, 17, 15, 17, 18]],
    }
    predictions = {approach: [answers(right) for right in by_seed] for approach, by_seed in counts.items()}
    comparison = compare(write_run(tmp_path / "run", predictions, places=[FOLDS, FOLDS]))
    assert comparison.n_folds == 10
    differences = np.subtract(np.ravel(counts["nn"]), np.ravel(counts["rbf-sl"])) / N_TEST
    t, p, _ = corrected_t(differences, n_train=80, n_test=20)
    accuracy = comparison.tests[0].t_test
    assert (accuracy.statistic, accuracy.df, accuracy.p) == pytest.approx((t, 9, p))


def test_a_difference_that_does_not_vary_is_not_tested(tmp_path):
    predictions = {
        "rbf-sl": [answers([18] * N_FOLDS)],
        "nn": [answers([16] * N_FOLDS)],
        "fl": [answers([18, 17, 19, 18, 20])],
    }
    comparison = compare(write_run(tmp_path / "run", predictions))
    [note] = comparison.notes
    assert "not tested" in note
    assert "variance" in note
    assert verdicts(comparison)["nn", "rbf-sl"] == "not tested"
    assert verdicts(comparison)["fl", "rbf-sl"] == "not significant"
    assert (family(comparison).n_tests, family(comparison).n_tested) == (2, 1)
    assert json.loads(json.dumps(comparison.to_json(), allow_nan=False))["families"][0]["tests"][0]["t"] is None


def test_a_single_split_is_not_tested_but_its_tracks_are(tmp_path):
    truth = LABELS[:20]
    predictions = {
        "rbf-sl": [truth[:17] + [OTHER[label] for label in truth[17:]]],
        "nn": [[OTHER[label] for label in truth[:10]] + truth[10:]],
    }
    folder = write_run(tmp_path / "run", predictions, truth=truth, places=[[0] * 20], folds="kereliuk", cv=None)
    comparison = compare(folder)
    assert {test.verdict for test in comparison.tests} == {"not tested"}
    [note] = comparison.notes
    assert "not tested" in note
    assert "single split" in note
    (found,) = comparison.disagreements
    assert (found.count_a, found.count_b) == (3, 10)
    assert found.mcnemar_p == pytest.approx(scipy.stats.binomtest(3, 13).pvalue)


def test_the_seeds_of_a_single_split_are_not_tested(tmp_path):
    predictions = {approach: [LABELS[:20], LABELS[1:21]] for approach in ("rbf-sl", "nn")}
    folder = write_run(tmp_path / "run", predictions, truth=LABELS[:20], places=[[0] * 20] * 2, cv=None)
    comparison = compare(folder)
    assert {test.t_test for test in comparison.tests} == {None}
    assert comparison.disagreements[0].mcnemar_p is None


def test_tracks_that_only_one_approach_gets_right_are_listed(run):
    (found,) = compare(run, methods=["rbf-sl", "fl"], top=2).disagreements
    # rbf-sl: 18, 19, 18, 20, 18 of 20; fl: 18, 17, 19, 18, 19; whoever has fewer is wrong on the last of these
    assert (found.a, found.b, found.count_a, found.count_b) == ("fl", "rbf-sl", 1 + 1, 2 + 2)
    assert found.better_a == (Mistake("058", "blues", "blues", "jazz", 1), Mistake("098", "blues", "blues", "jazz", 1))
    assert found.better_b == (Mistake("037", "jazz", "blues", "jazz", 1), Mistake("038", "blues", "jazz", "blues", 1))


def test_a_mistake_in_several_seeds_stands_first(tmp_path):
    truth, folds = ["blues"] * 6, [0, 0, 1, 1, 2, 2]
    often, once = ["blues"] * 5 + ["jazz"], ["jazz"] + ["blues"] * 4 + ["jazz"]
    predictions = {"rbf-sl": [truth, truth], "nn": [once, often]}
    comparison = compare(write_run(tmp_path / "run", predictions, truth=truth, places=[folds, folds]))
    (found,) = comparison.disagreements
    assert found.count_b == 3
    assert [(one.track, one.times) for one in found.better_b] == [("005", 2), ("000", 1)]


@pytest.fixture
def emotions(tmp_path: Path) -> tuple[Path, np.ndarray, dict[str, np.ndarray]]:
    """A run on two targets, its truth and its predictions; nn predicts a constant arousal in the first fold."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 9, (100, 2))
    predicted = {name: truth + rng.normal(0, noise, (100, 2)) for name, noise in (("rbf-sl", 1), ("nn", 3))}
    predicted["nn"][:N_TEST, 1] = 5
    predictions = {name: [values.tolist()] for name, values in predicted.items()}
    folder = write_run(tmp_path / "runs" / "emotions", predictions, task=TARGETS, truth=truth.tolist(), folds="random")
    return folder, truth, predicted


def test_the_mean_over_targets_is_the_headline_and_each_target_is_exploratory(emotions):
    folder, truth, predicted = emotions
    comparison = compare(folder)
    [mean], by_target = (family(comparison, name).tests for name in ("primary", "targets"))
    assert [(test.metric, test.target) for test in (mean, *by_target)] == [
        ("r", None),
        ("r", "valence"),
        ("r", "arousal"),
    ]
    r = np.full((2, N_FOLDS, 2), np.nan)
    for row, name in enumerate(("rbf-sl", "nn")):
        for fold in range(N_FOLDS):
            part = slice(fold * N_TEST, (fold + 1) * N_TEST)
            for column in range(2):
                if np.ptp(predicted[name][part, column]):
                    r[row, fold, column] = np.corrcoef(truth[part, column], predicted[name][part, column])[0, 1]
    r[:, np.isnan(r).any(axis=0)] = np.nan  # what is undefined for either is left out for both
    for test, rows in zip((mean, *by_target), [np.nanmean(r, axis=2), r[:, :, 0], r[:, :, 1]], strict=True):
        other, one = (row[~np.isnan(row)] for row in rows)  # A is nn, and B the reference rbf-sl
        assert (test.mean_a, test.mean_b) == pytest.approx((one.mean(), other.mean()))
        t, p, _ = corrected_t(one - other, n_train=80, n_test=20)
        assert (test.t_test.statistic, test.t_test.p) == pytest.approx((t, p))


def test_an_undefined_r_is_counted_and_reported(emotions):
    [note] = [note for note in compare(emotions[0]).notes if "r is undefined in" in note]
    assert note.startswith("nn in emotions: r is undefined in 1 ")


def test_a_single_target_is_tested_once(tmp_path):
    truth = [[float(value)] for value in range(100)]
    predictions = {"rbf-sl": [truth], "nn": [[[value % 7] for [value] in truth]]}
    folder = write_run(tmp_path / "run", predictions, task=Regression((Target("valence"),)), truth=truth)
    comparison = compare(folder)
    assert [(test.metric, test.target) for test in family(comparison).tests] == [("r", None)]
    assert {one.name for one in comparison.families} == {"primary", "other metrics"}


def test_tracks_whose_errors_differ_most_are_listed(emotions):
    folder, truth, predicted = emotions
    (found,) = compare(folder, top=3).disagreements
    errors = {name: np.abs(values - truth) for name, values in predicted.items()}
    gain = errors["rbf-sl"] - errors["nn"]
    assert (found.count_a, found.count_b) == ((gain > 0).sum(), (gain < 0).sum())
    track, target = np.unravel_index(gain.argmax(), gain.shape)
    name, real = ("valence", "arousal")[target], truth[track, target]
    at = errors["nn"][track, target], errors["rbf-sl"][track, target]
    assert found.better_a[0] == LargerError(f"{track:03d}", name, real, *map(pytest.approx, at))
    gains = [one.error_a - one.error_b for one in found.better_b]
    assert gains == pytest.approx(np.sort(-gain, axis=None)[::-1][:3])


def test_methods_of_a_second_run_are_compared_with_those_of_the_same_name_or_with_the_reference(run, tmp_path):
    predictions = {"nn": [answers([20] * N_FOLDS)], "cosine-sl": [answers([19, 18, 19, 19, 20])]}
    other = write_run(tmp_path / "runs" / "folder-2", predictions, epochs=100)
    comparison = compare(run, other)
    primary = family(comparison)
    assert [(test.a, test.run_a, test.b, test.run_b) for test in primary.tests] == [
        ("nn", 2, "nn", 1),
        ("cosine-sl", 2, "rbf-sl", 1),
    ]
    assert primary.tests[0].verdict == "A is higher"
    assert not primary.declared
    assert [folder.name for folder in comparison.runs] == ["folder-1", "folder-2"]
    assert comparison.settings == {"epochs": (400, 100)}
    chosen = compare(run, other, methods=["rbf-sl", "cosine-sl"])
    assert pairs(family(chosen)) == [("cosine-sl", "rbf-sl")]
    assert pairs(family(compare(run, other, methods=["fl", "cosine-sl"]), "other pairs")) == [("cosine-sl", "fl")]


def test_any_number_of_runs_is_compared(run, tmp_path):
    others = [
        write_run(tmp_path / "runs" / f"folder-{n}", {"fl": [answers(right)]}, epochs=epochs)
        for n, right, epochs in [(2, [17, 18, 18, 17, 18], 400), (3, [12, 14, 12, 13, 12], 50)]
    ]
    comparison = compare(run, *others)
    assert [(test.a, test.run_a, test.b, test.run_b) for test in family(comparison).tests] == [
        ("fl", 2, "fl", 1),
        ("fl", 3, "fl", 1),
    ]
    assert comparison.settings == {"epochs": (400, 400, 50)}
    assert comparison.label("fl", 3) == "run 3: fl"
    against = compare(run, *others, against="nn")
    assert [(test.a, test.run_a) for test in family(against).tests] == [
        ("rbf-sl", 1),
        ("fl", 1),
        ("fl", 2),
        ("fl", 3),
    ]
    assert {(test.b, test.run_b) for test in family(against).tests} == {("nn", 1)}


def test_runs_with_fewer_training_tracks_are_compared_with_the_larger_variance(run, tmp_path):
    less = write_run(tmp_path / "runs" / "less", {"rbf-sl": [answers([15, 17, 14, 16, 15])]}, n_train=40)
    [test] = family(compare(run, less)).tests
    differences = np.subtract([15, 17, 14, 16, 15], RIGHT["rbf-sl"]) / N_TEST
    assert test.p == pytest.approx(corrected_t(differences, n_train=40, n_test=20)[1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"dataset": {"spec": "folder", "digest": "4567", "tracks": "4567"}, "n_tracks": 99},
            "tracks.* 100 tracks.* 99",
        ),
        ({"seeds": [1]}, r"seeds \(0 and 1\)"),
        ({"folds": "grouped", "cv": 10}, r"folds \(5 stratified folds and 10 grouped folds\)"),
        ({"cv": None, "splits": 5, "test_size": 0.25}, r"folds .* 5 stratified splits, test size 0.25\)"),
    ],
)
def test_runs_on_other_data_seeds_or_folds_cannot_be_paired(run, tmp_path, change, reason):
    other = write_run(tmp_path / "runs" / "folder-2", **change)
    with pytest.raises(EvaluationError, match=f"folder-1 and folder-2 cannot be paired: .*{reason}") as error:
        compare(run, other)
    for flag in ("--seed", "--folds", "--cv", "--exclude"):
        assert flag in str(error.value)


def test_runs_on_other_tasks_cannot_be_paired(run, emotions):
    with pytest.raises(EvaluationError, match=r"cannot be paired: .*tracks, labels"):
        compare(run, emotions[0], methods=["nn"])


def test_runs_whose_tracks_are_in_other_folds_cannot_be_paired(run, tmp_path):
    moved = [FOLDS[-1], *FOLDS[1:-1], FOLDS[0]]
    other = write_run(tmp_path / "runs" / "folder-2", places=[moved])
    with pytest.raises(EvaluationError, match=r"cannot be paired: .*2 of 100 test tracks"):
        compare(run, other)


@pytest.mark.parametrize(
    ("approaches", "message"),
    [
        (["rbf-sl", "rbf"], "'rbf'.*folder-1 has rbf-sl, nn, fl"),
        (["nn", "nn"], "nn .*folder-1 has rbf-sl, nn, fl.*--approach"),
    ],
)
def test_an_approach_that_a_run_does_not_have_and_a_single_one_are_an_error(run, approaches, message):
    with pytest.raises(EvaluationError, match=message):
        compare(run, methods=approaches)


def test_methods_that_no_run_has_are_an_error(run, tmp_path):
    other = write_run(tmp_path / "runs" / "other", {"cosine-sl": [answers(RIGHT["nn"])]})
    with pytest.raises(EvaluationError, match=r"'stats'.*folder-1 has rbf-sl, nn, fl; other has cosine-sl"):
        compare(run, other, methods=["stats"])
    with pytest.raises(EvaluationError, match=r"'stats'.*folder-1 has rbf-sl, nn, fl"):
        compare(run, against="stats")
    with pytest.raises(EvaluationError, match=r"cosine-sl.*--against cosine-sl"):
        compare(run, other, methods=["cosine-sl"])


def test_runs_that_are_scored_by_different_metrics_cannot_be_paired(run, tmp_path):
    other = write_run(tmp_path / "runs" / "other", metric="macro_f1")
    with pytest.raises(EvaluationError, match=r"accuracy and macro_f1.*"):
        compare(run, other)


def test_a_run_is_found_by_its_folder_its_name_or_a_prefix(run, tmp_path, monkeypatch):
    write_run(run.parent / "gtzan-1")
    write_run(run.parent / "gtzan-12")
    runs = run.parent
    monkeypatch.chdir(tmp_path)
    for name, found in [("fold", run), ("gtzan-1", runs / "gtzan-1"), ("runs/gtzan-12", Path("runs/gtzan-12"))]:
        assert open_run(runs, name).folder == found
    write_run(runs / "gtzan-2", epochs=20, cv=None, splits=5, finished=None)
    write_json(runs / "gtzan-12" / "scores.json", {"nn": {"accuracy": {"mean": 0.52}}})
    with pytest.raises(StoreError) as error:
        open_run(runs, "gtz")
    first, *runs_found = str(error.value).splitlines()
    assert first.startswith("3 runs")
    assert "'gtz'" in first
    assert runs_found == [
        "  gtzan-1: 5 stratified folds, 400 epochs, finished",
        "  gtzan-12: 5 stratified folds, 400 epochs, accuracy nn 0.520",
        "  gtzan-2: 5 stratified splits, 20 epochs, interrupted",
    ]
    with pytest.raises(StoreError, match=r"'demo'.*\(folder-1, gtzan-1, gtzan-12, gtzan-2\)"):
        open_run(runs, "demo")


def test_an_unfinished_run_cannot_be_compared(tmp_path):
    folder = write_run(tmp_path / "run", finished=None)
    with pytest.raises(EvaluationError, match=r"not finished.*mirembed evaluate --cv 5"):
        opened(folder)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "predictions",
            lambda table: table.slice(1),
            "99 predictions of fl.* 100 ",
        ),
        ("folds", lambda table: table.drop_columns("seed"), "evaluate again"),
    ],
)
def test_a_damaged_run_cannot_be_compared(tmp_path, file, change, message):
    path = write_run(tmp_path / "run") / f"{file}.parquet"
    write_table(path, change(read_table(path)))
    with pytest.raises(StoreError, match=f"run is damaged.*{message}"):
        opened(path.parent)


@pytest.fixture
def store(mirembed: Command, run: Path) -> Path:
    """The store of the command's own folder, with the run in it."""
    store = mirembed.folder / "mirembed-store"
    store.mkdir()
    run.parent.rename(store / "runs")
    return store


def test_the_command_prints_the_families_and_the_tracks(mirembed, store):
    printed = mirembed("compare", "folder", "--approach", "rbf-sl", "--approach", "nn", "--top", 1).stdout
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    accuracy, track = lines[0], lines[-1]
    assert accuracy[:5] == ["nn", "rbf-sl", "accuracy", "0.520", "0.930"]
    assert accuracy[5].startswith("-0.410 [-0.")
    assert accuracy[-1].startswith("B is")
    assert "macro-F1" in [line[2] for line in lines]
    assert re.search(r"^primary: declared .*Holm.* 2 tests, 1 of 2 ", printed, re.MULTILINE)
    assert re.search(r"^classes: exploratory, ", printed, re.MULTILINE)
    assert re.search(r"nn \(A\).* rbf-sl \(B\).* 0; .*: 41\n", printed)
    assert track == ["B", "010", "blues", "jazz", "blues", "1"]


def test_the_command_says_that_a_reference_was_not_declared(mirembed, store):
    printed = mirembed("compare", "folder", "--against", "fl").stdout
    assert re.search(r"^primary: not declared ", printed, re.MULTILINE)
    assert re.search(r"^the run declared .* rbf-sl$", printed, re.MULTILINE)


@pytest.mark.slow
def test_the_command_lists_the_tracks_of_a_single_pair_and_of_several_on_request(mirembed, store):
    lists = [
        mirembed("compare", "folder", *flags).stdout.count(" (B) wrong: ")
        for flags in ([], ["--top", 1], ["--approach", "rbf-sl", "--approach", "nn"])
    ]
    assert lists == [0, 3, 1]
    printed = mirembed("compare", "folder").stdout.splitlines()
    assert any("Holm" in line and "2 tests" in line for line in printed)
    assert printed[-1].startswith("--top 10 ")
    assert len(json.loads(mirembed("compare", "folder", "--json").stdout)["disagreements"][0]["better_b"]) == 10


def test_repeated_random_splits_are_not_called_folds(mirembed, store):
    write_run(store / "runs" / "splits-1", cv=None, splits=5, test_size=0.2)
    assert mirembed("compare", "splits").stdout.startswith("splits-1: 5 random splits\n")


def test_a_run_is_not_compared_with_itself(run):
    with pytest.raises(EvaluationError, match=r"folder-1.*twice"):
        compare(run, run, methods=["rbf-sl", "fl"])


def test_the_command_prints_two_runs_of_a_single_split_on_targets(mirembed):
    truth = [[1.0, 9.0], [2.0, 7.0], [4.0, 8.0]]
    runs = [
        write_run(
            mirembed.folder / f"run-{number}",
            {"nn": [[[1.0 + number, 9.0], [2.0, 7.0], [4.0, 5.5 + number]]]},
            task=TARGETS,
            truth=truth,
            places=[[0, 0, 0]],
            folds="mediaeval",
            cv=None,
            epochs=number,
        )
        for number in (1, 2)
    ]
    printed = mirembed("compare", *runs).stdout
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    assert lines[0][:3] == ["run 2: nn", "run 1: nn", "r"]
    assert {line[2] for line in lines} >= {"r", "r valence", "r arousal"}
    assert {line[-1] for line in lines[:-2]} == {"not tested"}
    assert lines[-2:] == [
        ["A", "002", "arousal", "8.000", "0.500", "1.500"],
        ["B", "000", "valence", "1.000", "2.000", "1.000"],
    ]
    assert "2 runs: 1 fold\nrun 1: run-1\nrun 2: run-2\n" in printed
    assert re.search("epochs.* 1 and 2", printed)
    assert "Hedges" not in printed
    assert re.search("not tested: .*single split", printed)


def test_the_command_explains_in_two_lines_why_runs_cannot_be_compared(mirembed, store):
    write_run(store / "runs" / "grouped-1", folds="grouped")
    said = mirembed("compare", "folder", "grouped", code=1).stderr.splitlines()
    assert len(said) == 2
    assert "(5 stratified folds and 5 grouped folds)" in said[0]


@pytest.mark.slow
def test_real_runs_are_compared_on_the_scores_that_evaluate_printed(mirembed, tones):
    mirembed("extract", "--dataset", "folder", "--audio", tones)
    evaluate = ["evaluate", "--cv", 3, "--jobs", 1, "--json", "--approach", "nn"]
    runs = [
        json.loads(mirembed(*evaluate, "--epochs", 3, "--approach", "rbf-sl", "--approach", "fl").stdout),
        json.loads(mirembed(*evaluate, "--epochs", 2).stdout),
    ]
    one = json.loads(mirembed("compare", runs[0]["run"], "--json").stdout)
    declared = runs[0]["comparisons"]
    assert [one["family"] for one in declared] == ["primary"]
    assert [(test["a"], test["b"]) for test in declared[0]["tests"]] == [("rbf-sl", "nn"), ("fl", "nn")]
    assert one["families"][0] == declared[0]
    for test in one["families"][0]["tests"]:
        for side in "ab":
            printed = runs[0]["approaches"][test[side]][test["metric"]]
            assert test[f"mean_{side}"] == pytest.approx(printed["mean"])

    both = json.loads(mirembed("compare", *(run["run"] for run in runs), "--json").stdout)
    assert both["settings"] == {"epochs": [3, 2]}
    assert [(test["a"], test["b"]) for test in both["families"][0]["tests"]] == [("nn", "nn")]


def test_comparing_imports_neither_torch_nor_numba_nor_scikit_learn(run):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mirembed.compare.comparison import compare\n"
        "from mirembed.runs.record import open_run\n"
        "print(len(compare([open_run(Path(), sys.argv[1])]).families))\n"
        "print(*sorted({'torch', 'numba', 'sklearn', 'matplotlib'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True, env=clean_environment()
    )
    assert done.stdout == "4\n\n"
