"""``mirembed compare``: paired tests between approaches, and the tracks on which they disagree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from conftest import Command, clean_environment
from small_runs import FOLDS, LABELS, N_FOLDS, N_TEST, OTHER, RIGHT, TARGETS, answers, write_run

from mirembed import Regression, Target
from mirembed.compare.comparison import Comparison, LargerError, Mistake, compare
from mirembed.compare.paired_tests import best_of, corrected, paired_tests
from mirembed.errors import EvaluationError, StoreError
from mirembed.runs.record import RunRecord, open_run
from mirembed.statistics.metrics import METRICS
from mirembed.store.files import read_table, write_json, write_table


def opened(folder: Path) -> RunRecord:
    return open_run(folder.parent, folder.name)


def verdicts(comparison: Comparison, metric: str = "accuracy") -> dict[tuple[str, str], str]:
    return {(test.a, test.b): test.verdict for test in comparison.tests if test.metric == metric}


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


def test_a_row_is_the_corrected_paired_t_test_of_the_scores_of_the_folds(run):
    tests = {test.metric: test for test in compare(opened(run), approaches=["rbf-sl", "nn"]).tests}
    assert list(tests) == ["accuracy", "macro_f1"]
    scores: dict[str, list[list[float]]] = {"accuracy": [], "macro_f1": []}
    for approach in ("rbf-sl", "nn"):
        parts = [(LABELS[i : i + N_TEST], answers(RIGHT[approach])[i : i + N_TEST]) for i in range(0, 100, N_TEST)]
        scores["accuracy"].append([sklearn.metrics.accuracy_score(*part) for part in parts])
        scores["macro_f1"].append([sklearn.metrics.f1_score(*part, average="macro") for part in parts])
    for metric, (one, other) in scores.items():
        test, differences = tests[metric], np.subtract(one, other)
        t, p, half_width = corrected_t(differences, n_train=80, n_test=20)
        assert (test.mean_a, test.mean_b) == pytest.approx((np.mean(one), np.mean(other)))
        assert (test.t_test.statistic, test.t_test.p) == pytest.approx((t, p))
        interval = test.t_test.difference
        assert (interval.low, interval.high) == pytest.approx(
            (differences.mean() - half_width, differences.mean() + half_width)
        )


def test_all_pairs_of_a_run_are_compared_or_the_named_ones(run):
    assert list(verdicts(compare(opened(run)))) == [("rbf-sl", "nn"), ("rbf-sl", "fl"), ("nn", "fl")]
    assert list(verdicts(compare(opened(run), approaches=["fl", "rbf-sl"]))) == [("fl", "rbf-sl")]


def test_the_verdict_names_the_higher_only_if_it_is_significant(run):
    assert verdicts(compare(opened(run))) == {
        ("rbf-sl", "nn"): "A is higher",
        ("rbf-sl", "fl"): "not significant",
        ("nn", "fl"): "B is higher",
    }


def test_the_lowest_method_is_the_best_by_a_metric_of_which_less_is_better(run, monkeypatch):
    record = opened(run)
    tests = corrected(paired_tests(record, record, [("rbf-sl", "nn")]))
    assert best_of(tests, 2)["accuracy", None] == "rbf-sl"
    less = [replace(metric, higher_is_better=False) if metric.name == "accuracy" else metric for metric in METRICS]
    monkeypatch.setattr("mirembed.statistics.metrics.METRICS", tuple(less))
    assert best_of(tests, 2)["accuracy", None] == "nn"


def test_p_values_are_corrected_over_all_tests_of_the_table(tmp_path):
    right = {"rbf-sl": [18, 19, 18, 20, 18], "nn": [13, 15, 17, 13, 14]}
    folder = write_run(tmp_path / "run", {name: [answers(counts)] for name, counts in right.items()})
    accuracy, macro_f1 = compare(opened(folder)).tests
    small, large = sorted([accuracy.t_test.p, macro_f1.t_test.p])
    assert small < large < 0.05 < 2 * small
    assert {accuracy.p_holm, macro_f1.p_holm} == {2 * small}
    assert accuracy.verdict == macro_f1.verdict == "not significant"


def test_p_values_of_chosen_pairs_are_corrected_over_all_pairs_of_the_run(run):
    every, chosen = compare(opened(run)), compare(opened(run), approaches=["fl", "rbf-sl"])
    assert {(test.a, test.b) for test in chosen.tests} == {("fl", "rbf-sl")}
    corrected = {test.metric: test.p_holm for test in every.tests if (test.a, test.b) == ("rbf-sl", "fl")}
    assert {test.metric: test.p_holm for test in chosen.tests} == pytest.approx(corrected)
    assert (chosen.n_pairs, chosen.n_tested) == (every.n_pairs, every.n_tested) == (3, 6)
    assert chosen.to_json()["family"] == {"pairs": 3, "tests": 6}


def test_chosen_pairs_of_a_single_split_are_corrected_over_all_pairs_of_the_run(tmp_path):
    right = {"rbf-sl": 17, "nn": 10, "fl": 5}
    predictions = {name: [LABELS[:n] + [OTHER[label] for label in LABELS[n:20]]] for name, n in right.items()}
    folder = write_run(tmp_path / "run", predictions, truth=LABELS[:20], places=[[0] * 20], cv=None)
    every = {(found.a, found.b): found.mcnemar_p for found in compare(opened(folder)).disagreements}
    (chosen,) = compare(opened(folder), approaches=["rbf-sl", "nn"]).disagreements
    assert chosen.mcnemar_p == every["rbf-sl", "nn"] == pytest.approx(2 * scipy.stats.binomtest(7, 7).pvalue)


def test_all_seeds_of_repeated_cross_validation_count(tmp_path):
    counts = {
        "rbf-sl": [[18, 19, 18, 20, 18], [19, 17, 18, 18, 19]],
        "nn": [[15, 17, 15, 18, 14], [16, 17, 15, 17, 18]],
    }
    predictions = {approach: [answers(right) for right in by_seed] for approach, by_seed in counts.items()}
    comparison = compare(opened(write_run(tmp_path / "run", predictions, places=[FOLDS, FOLDS])))
    assert comparison.n_folds == 10
    differences = np.subtract(np.ravel(counts["rbf-sl"]), np.ravel(counts["nn"])) / N_TEST
    t, p, _ = corrected_t(differences, n_train=80, n_test=20)
    accuracy = comparison.tests[0].t_test
    assert (accuracy.statistic, accuracy.df, accuracy.p) == pytest.approx((t, 9, p))


def test_a_difference_that_does_not_vary_is_not_tested(tmp_path):
    predictions = {
        "rbf-sl": [answers([18] * N_FOLDS)],
        "nn": [answers([16] * N_FOLDS)],
        "fl": [answers([18, 17, 19, 18, 20])],
    }
    comparison = compare(opened(write_run(tmp_path / "run", predictions)))
    [note] = comparison.notes
    assert "not tested" in note
    assert "variance" in note
    verdicts = {(test.a, test.b): test.verdict for test in comparison.tests if test.metric == "accuracy"}
    assert verdicts[("rbf-sl", "nn")] == "not tested"
    assert verdicts[("rbf-sl", "fl")] == "not significant"
    assert json.loads(json.dumps(comparison.to_json(), allow_nan=False))["tests"][0]["t"] is None


def test_a_single_split_is_not_tested_but_its_tracks_are(tmp_path):
    truth = LABELS[:20]
    predictions = {
        "rbf-sl": [truth[:17] + [OTHER[label] for label in truth[17:]]],
        "nn": [[OTHER[label] for label in truth[:10]] + truth[10:]],
    }
    folder = write_run(tmp_path / "run", predictions, truth=truth, places=[[0] * 20], folds="kereliuk", cv=None)
    comparison = compare(opened(folder))
    assert {test.verdict for test in comparison.tests} == {"not tested"}
    [note] = comparison.notes
    assert "not tested" in note
    assert "single split" in note
    (found,) = comparison.disagreements
    assert (found.count_a, found.count_b) == (10, 3)
    assert found.mcnemar_p == pytest.approx(scipy.stats.binomtest(3, 13).pvalue)


def test_the_seeds_of_a_single_split_are_not_tested(tmp_path):
    predictions = {approach: [LABELS[:20], LABELS[1:21]] for approach in ("rbf-sl", "nn")}
    folder = write_run(tmp_path / "run", predictions, truth=LABELS[:20], places=[[0] * 20] * 2, cv=None)
    comparison = compare(opened(folder))
    assert {test.t_test for test in comparison.tests} == {None}
    assert comparison.disagreements[0].mcnemar_p is None


def test_tracks_that_only_one_approach_gets_right_are_listed(run):
    (found,) = compare(opened(run), approaches=["rbf-sl", "fl"], top=2).disagreements
    # rbf-sl: 18, 19, 18, 20, 18 of 20; fl: 18, 17, 19, 18, 19; whoever has fewer is wrong on the last of these
    assert (found.count_a, found.count_b) == (2 + 2, 1 + 1)
    assert found.better_a == (Mistake("037", "jazz", "jazz", "blues", 1), Mistake("038", "blues", "blues", "jazz", 1))
    assert found.better_b == (Mistake("058", "blues", "jazz", "blues", 1), Mistake("098", "blues", "jazz", "blues", 1))


def test_a_mistake_in_several_seeds_stands_first(tmp_path):
    truth, folds = ["blues"] * 6, [0, 0, 1, 1, 2, 2]
    often, once = ["blues"] * 5 + ["jazz"], ["jazz"] + ["blues"] * 4 + ["jazz"]
    predictions = {"rbf-sl": [truth, truth], "nn": [once, often]}
    comparison = compare(opened(write_run(tmp_path / "run", predictions, truth=truth, places=[folds, folds])))
    (found,) = comparison.disagreements
    assert found.count_a == 3
    assert [(one.track, one.times) for one in found.better_a] == [("005", 2), ("000", 1)]


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


def test_regression_is_tested_on_r_and_on_the_r_of_each_target(emotions):
    folder, truth, predicted = emotions
    comparison = compare(opened(folder))
    assert [(test.metric, test.target) for test in comparison.tests] == [
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
    for test, rows in zip(comparison.tests, [np.nanmean(r, axis=2), r[:, :, 0], r[:, :, 1]], strict=True):
        one, other = (row[~np.isnan(row)] for row in rows)
        assert (test.mean_a, test.mean_b) == pytest.approx((one.mean(), other.mean()))
        t, p, _ = corrected_t(one - other, n_train=80, n_test=20)
        assert (test.t_test.statistic, test.t_test.p) == pytest.approx((t, p))


def test_an_undefined_r_is_counted_and_reported(emotions):
    [note] = compare(opened(emotions[0])).notes
    assert note.startswith("nn in emotions: r is undefined in 1 ")


def test_a_single_target_is_tested_once(tmp_path):
    truth = [[float(value)] for value in range(100)]
    predictions = {"rbf-sl": [truth], "nn": [[[value % 7] for [value] in truth]]}
    folder = write_run(tmp_path / "run", predictions, task=Regression((Target("valence"),)), truth=truth)
    assert [(test.metric, test.target) for test in compare(opened(folder)).tests] == [("r", None)]


def test_tracks_whose_errors_differ_most_are_listed(emotions):
    folder, truth, predicted = emotions
    (found,) = compare(opened(folder), top=3).disagreements
    errors = {name: np.abs(values - truth) for name, values in predicted.items()}
    gain = errors["nn"] - errors["rbf-sl"]
    assert (found.count_a, found.count_b) == ((gain > 0).sum(), (gain < 0).sum())
    track, target = np.unravel_index(gain.argmax(), gain.shape)
    name, real = ("valence", "arousal")[target], truth[track, target]
    at = errors["rbf-sl"][track, target], errors["nn"][track, target]
    assert found.better_a[0] == LargerError(f"{track:03d}", name, real, *map(pytest.approx, at))
    gains = [one.error_a - one.error_b for one in found.better_b]
    assert gains == pytest.approx(np.sort(-gain, axis=None)[::-1][:3])


def test_two_runs_are_compared_on_the_approaches_that_both_have(run, tmp_path):
    predictions = {"nn": [answers([20] * N_FOLDS)], "cosine-sl": [answers([19] * N_FOLDS)]}
    other = opened(write_run(tmp_path / "runs" / "folder-2", predictions, epochs=100))
    comparison = compare(opened(run), other)
    assert verdicts(comparison) == {("nn", "nn"): "B is higher"}
    assert (comparison.a.name, comparison.b.name) == ("folder-1", "folder-2")
    assert comparison.settings == {"epochs": (400, 100)}
    assert list(verdicts(compare(opened(run), other, ["rbf-sl", "cosine-sl"]))) == [("rbf-sl", "cosine-sl")]


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
        compare(opened(run), opened(other))
    for flag in ("--seed", "--folds", "--cv", "--exclude"):
        assert flag in str(error.value)


def test_runs_on_other_tasks_cannot_be_paired(run, emotions):
    with pytest.raises(EvaluationError, match=r"cannot be paired: .*tracks, labels"):
        compare(opened(run), opened(emotions[0]), ["nn"])


def test_runs_whose_tracks_are_in_other_folds_cannot_be_paired(run, tmp_path):
    moved = [FOLDS[-1], *FOLDS[1:-1], FOLDS[0]]
    other = write_run(tmp_path / "runs" / "folder-2", places=[moved])
    with pytest.raises(EvaluationError, match=r"cannot be paired: .*2 of 100 test tracks"):
        compare(opened(run), opened(other))


@pytest.mark.parametrize(
    ("approaches", "message"),
    [
        (["rbf-sl", "rbf"], "folder-1 .*'rbf'.* rbf-sl, nn, fl"),
        (["nn", "nn"], "nn .*folder-1 has rbf-sl, nn, fl.*--approach"),
    ],
)
def test_an_approach_that_a_run_does_not_have_and_a_single_one_are_an_error(run, approaches, message):
    with pytest.raises(EvaluationError, match=message):
        compare(opened(run), approaches=approaches)


def test_approaches_that_two_runs_do_not_have_are_an_error(run, tmp_path):
    other = opened(write_run(tmp_path / "runs" / "other", {"cosine-sl": [answers(RIGHT["nn"])]}))
    with pytest.raises(EvaluationError, match=r"folder-1 has rbf-sl, nn, fl; other has cosine-sl.*--approach"):
        compare(opened(run), other)
    with pytest.raises(EvaluationError, match=r"other .*'nn'.* cosine-sl"):
        compare(opened(run), other, ["nn"])
    with pytest.raises(EvaluationError, match=r"^3 methods.*nn, fl, cosine-sl"):
        compare(opened(run), other, ["nn", "fl", "cosine-sl"])


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


def test_the_command_prints_the_table_and_the_tracks(mirembed, store):
    printed = mirembed("compare", "folder", "--approach", "rbf-sl", "--approach", "nn", "--top", 1).stdout
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    accuracy, macro_f1, track = lines
    assert accuracy[:5] == ["rbf-sl", "nn", "accuracy", "0.930", "0.520"]
    assert accuracy[5].startswith("0.410 [0.")
    assert accuracy[-1] == "A is higher"
    assert macro_f1[2] == "macro-F1"
    assert re.search("1 of 3 pairs.*Holm.* 6 tests", printed)
    assert re.search(r"rbf-sl \(A\).* nn \(B\).* 41; .*: 0\n", printed)
    assert track == ["A", "010", "blues", "blues", "jazz", "1"]


@pytest.mark.slow
def test_the_command_lists_the_tracks_of_a_single_pair_and_of_several_on_request(mirembed, store):
    lists = [
        mirembed("compare", "folder", *flags).stdout.count(" (B) wrong: ")
        for flags in ([], ["--top", 1], ["--approach", "rbf-sl", "--approach", "nn"])
    ]
    assert lists == [0, 3, 1]
    printed = mirembed("compare", "folder").stdout.splitlines()
    assert any("Holm" in line and "6 tests" in line for line in printed)
    assert printed[-1].startswith("--top 10 ")
    assert len(json.loads(mirembed("compare", "folder", "--json").stdout)["disagreements"][0]["better_a"]) == 10


def test_repeated_random_splits_are_not_called_folds(mirembed, store):
    write_run(store / "runs" / "splits-1", cv=None, splits=5, test_size=0.2)
    assert mirembed("compare", "splits").stdout.startswith("splits-1: 5 random splits\n")


def test_a_run_is_not_compared_with_itself(run):
    with pytest.raises(EvaluationError, match=r"folder-1.*twice"):
        compare(opened(run), opened(run), ["rbf-sl", "fl"])


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
    assert [line[2] for line in lines[:3]] == ["r", "r valence", "r arousal"]
    assert {line[-1] for line in lines[:3]} == {"not tested"}
    assert lines[3:] == [
        ["A", "000", "valence", "1.000", "1.000", "2.000"],
        ["B", "002", "arousal", "8.000", "1.500", "0.500"],
    ]
    assert "A: run-1, B: run-2: 1 fold\n" in printed
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
    pairs = [("nn", "rbf-sl"), ("nn", "fl"), ("rbf-sl", "fl")]
    assert [(test["a"], test["b"]) for test in one["tests"]] == [pair for pair in pairs for _ in range(2)]
    assert [test["metric"] for test in one["tests"]] == ["accuracy", "macro_f1"] * 3
    assert [(found["a"], found["b"]) for found in one["disagreements"]] == pairs
    for test in one["tests"]:
        for side in "ab":
            printed = runs[0]["approaches"][test[side]][test["metric"]]
            assert test[f"mean_{side}"] == pytest.approx(printed["mean"])

    both = json.loads(mirembed("compare", *(run["run"] for run in runs), "--json").stdout)
    assert both["settings"] == {"epochs": [3, 2]}
    assert [(test["a"], test["b"]) for test in both["tests"]] == [("nn", "nn")] * 2


def test_comparing_imports_neither_torch_nor_numba_nor_scikit_learn(run):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mirembed.compare.comparison import compare\n"
        "from mirembed.runs.record import open_run\n"
        "print(compare(open_run(Path(), sys.argv[1])).n_tested)\n"
        "print(*sorted({'torch', 'numba', 'sklearn', 'matplotlib'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True, env=clean_environment()
    )
    assert done.stdout == "6\n\n"
