"""What a run found: which method is best, and whether the data can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from small_runs import FOLDS, LABELS, N_FOLDS, N_TEST, OTHER, RIGHT, TARGETS, answers, write_run

from mirembed.compare.answer import Answer, answer
from mirembed.compare.families import run_families
from mirembed.compare.misses import Miss, missed_by_all
from mirembed.config.approaches import Approach
from mirembed.runs.record import read_run
from mirembed.store.files import read_table, write_table

HIGH, CLOSE, LOW = (answers(RIGHT[name]) for name in ("rbf-sl", "fl", "nn"))


def found(folder: Path, predictions: dict[str, list[Any]], **options: Any) -> Answer:
    """Write a run of one seed and return what it found."""
    options = {"chance": 0.5, **options}
    run = read_run(write_run(folder, {name: [values] for name, values in predictions.items()}, **options))
    return answer(run, run_families(run) if run.finished else ())


def text(one: Answer) -> str:
    return " ".join([one.verdict, *one.evidence])


@pytest.mark.parametrize(
    ("predictions", "best", "better"),
    [
        ({"nn": LOW, "fl": CLOSE, "rbf-sl": HIGH}, ("rbf-sl",), ("rbf-sl", "fl")),
        ({"nn": CLOSE, "rbf-sl": HIGH}, ("rbf-sl",), ()),
        ({"nn": HIGH, "rbf-sl": LOW, "fl": CLOSE}, ("nn",), ("nn",)),
        ({"nn": HIGH, "rbf-sl": CLOSE}, ("nn",), ()),
        ({"nn": LOW, "stats": HIGH}, ("stats",), ("stats",)),
        ({"stats": HIGH, "chance": LOW}, ("stats",), ("stats",)),
        ({"rbf-sl": HIGH, "nn": HIGH, "chance": LOW}, ("rbf-sl", "nn"), ("rbf-sl",)),
    ],
)
def test_the_best_method_beats_another_only_if_a_declared_test_says_so(predictions, best, better, tmp_path):
    one = found(tmp_path / "run", predictions)
    assert (one.reference, one.best, one.better) == (next(iter(predictions)), best, better)
    assert ("beat" in one.verdict) == bool(better) or "tell whether" in one.verdict
    assert set(best[:1] if better else ()) <= set(one.verdict.replace(",", "").split())


def test_the_evidence_has_score_difference_interval_and_corrected_p(tmp_path):
    one = found(tmp_path / "run", {"nn": LOW, "fl": CLOSE, "rbf-sl": HIGH})
    p_values, intervals = {}, {}
    for name in ("fl", "rbf-sl"):
        values = (np.array(RIGHT[name]) - np.array(RIGHT["nn"])) / N_TEST
        error = values.std(ddof=1) * np.sqrt(1 / N_FOLDS + 1 / (N_FOLDS - 1))
        p_values[name] = 2 * scipy.stats.t(N_FOLDS - 1).sf(values.mean() / error)
        half = scipy.stats.t.ppf(0.975, N_FOLDS - 1) * error
        intervals[name] = values.mean() - half, values.mean() + half
    smaller, larger = sorted(p_values.values())
    holm = {smaller: 2 * smaller, larger: max(larger, 2 * smaller)}
    low, high = intervals["rbf-sl"]
    p = holm[p_values["rbf-sl"]]
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    assert "0.930" in one.evidence[0]
    assert f"0.410 above the reference nn (95 % interval {low:.3f} to {high:.3f}; {shown}" in one.evidence[0]
    assert "Holm-corrected over the 2 tests" in one.evidence[0]


def test_a_difference_that_may_be_chance_is_said_to_be_open(tmp_path):
    one = found(tmp_path / "run", {"nn": CLOSE, "rbf-sl": HIGH})
    assert {"rbf-sl", "nn"} <= set(one.verdict.split())
    assert one.better == ()
    assert "\N{MINUS SIGN}" in one.evidence[0]  # the interval of the difference includes 0


@pytest.mark.parametrize(
    ("predictions", "options", "best", "words"),
    [
        ({"rbf-sl": HIGH}, {}, ("rbf-sl",), ["0.930", "0.500"]),
        ({"nn": LOW, "rbf-sl": HIGH}, {"finished": None}, ("rbf-sl",), ["unfinished", "0.930"]),
        (
            {"nn": LOW, "rbf-sl": HIGH},
            {"places": ([0] * len(FOLDS),), "cv": None, "folds": "official"},
            ("rbf-sl",),
            ["single split"],
        ),
    ],
)
def test_without_tests_nothing_is_better(predictions, options, best, words, tmp_path):
    one = found(tmp_path / "run", predictions, **options)
    assert (one.best, one.better) == (best, ())
    assert [word for word in words if word not in text(one)] == []


def test_pairs_that_were_declared_instead_of_a_reference_decide(tmp_path):
    methods = {"nn": LOW, "fl": CLOSE, "rbf-sl": HIGH}
    pairs = {"reference": None, "primary": [["rbf-sl", "nn"], ["fl", "rbf-sl"]], "baselines": []}
    one = found(tmp_path / "pairs", methods, comparisons=pairs)
    assert (one.reference, one.best, one.better) == (None, ("rbf-sl",), ("rbf-sl",))
    assert "rbf-sl beats nn" in one.verdict
    without = {"reference": None, "primary": [["fl", "nn"]], "baselines": []}
    other = found(tmp_path / "without", methods, comparisons=without)
    assert (other.best, other.better) == (("rbf-sl",), ("fl",))
    assert "fl is significantly better than nn" in text(other)


def test_the_lowest_error_is_best(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 9, (len(FOLDS), 2))
    near, far = (np.clip(truth + rng.normal(0, sd, truth.shape), 1, 9).tolist() for sd in (0.1, 3))
    options = {"task": TARGETS, "truth": truth.tolist(), "metric": "rmse"}
    one = found(tmp_path / "run", {"nn": far, "rbf-sl": near}, **options)
    assert (one.best, one.better) == (("rbf-sl",), ("rbf-sl",))
    assert one.ranked == ("rbf-sl", "nn")
    assert "below the reference nn" in one.evidence[0]


def test_methods_without_a_score_take_no_part(tmp_path):
    truth = np.random.default_rng(0).uniform(1, 9, (len(FOLDS), 2)).tolist()
    constant = [[5.0, 5.0]] * len(FOLDS)
    options = {"task": TARGETS, "truth": truth, "chance": None}
    nothing = found(tmp_path / "nothing", {"nn": constant, "rbf-sl": constant}, **options)
    assert (nothing.best, nothing.better) == ((), ())
    assert "undefined" in nothing.verdict
    one = found(tmp_path / "one", {"nn": constant, "rbf-sl": truth}, **options)
    assert (one.best, one.better) == (("rbf-sl",), ())
    assert one.ranked == ("rbf-sl", "nn")
    assert "could not be tested" in text(one)


def test_the_score_of_a_constant_guess_inside_the_interval_is_said(tmp_path):
    assert "(0.500)" in text(found(tmp_path / "near", {"nn": answers([8, 9, 10, 9, 8]), "rbf-sl": LOW}))
    assert "(0.500)" not in text(found(tmp_path / "far", {"nn": LOW, "rbf-sl": HIGH}))


def test_what_was_compared_names_dataset_tracks_folds_seeds_epochs_and_groups(tmp_path):
    folder = write_run(tmp_path / "run", {"nn": [LOW, LOW]}, places=(FOLDS, FOLDS), chance=0.5)
    compared = answer(read_run(folder), ()).compared
    for words in ("1 method on folder", "2 classes", "100 tracks", "5 stratified folds, 2 seeds", "80 train, 20 test"):
        assert words in compared
    assert "400 epochs" in compared
    assert "not known" in compared
    table = read_table(folder / "folds.parquet")
    groups = [f"artist {number % 7}" for number in range(len(table))]
    write_table(folder / "folds.parquet", table.append_column("group", [groups]))
    assert "both sides of a split, which" in answer(read_run(folder), ()).compared
    kept = write_run(tmp_path / "kept", {"nn": [LOW]}, chance=0.5, bootstrap="groups")
    assert "No group" in answer(read_run(kept), ()).compared


def test_every_approach_is_explained_in_a_line():
    approaches = [Approach.parse(name) for name in ("nn", "fl", "stats", "untrained", "chance", "cosine-sl")]
    lines = [one.explain() for one in [*approaches, Approach.of_model("models/mine")]]
    assert len(set(lines)) == len(lines)
    assert all(len(line) < 110 for line in lines)
    assert "cosine" in lines[5]


def test_tracks_that_every_method_but_chance_misses(tmp_path):
    right = list(LABELS)
    nn, rbf = list(right), list(right)
    for track in (3, 8, 9):
        nn[track] = OTHER[right[track]]
    for track in (8, 9, 20):
        rbf[track] = OTHER[right[track]]
    run = read_run(write_run(tmp_path / "run", {"chance": [right], "nn": [nn], "rbf-sl": [rbf]}))
    assert missed_by_all(run) == [
        Miss("008", "class", "blues", "jazz (2)"),
        Miss("009", "class", "jazz", "blues (2)"),
    ]
    twice = read_run(write_run(tmp_path / "twice", {"nn": [nn, rbf]}, places=(FOLDS, FOLDS)))
    assert [miss.track for miss in missed_by_all(twice)] == ["008", "009"]


def test_targets_that_every_method_misses_by_more_than_a_standard_deviation(tmp_path):
    truth = np.random.default_rng(0).uniform(3, 7, (len(FOLDS), 2))
    one, other = truth.copy(), truth.copy()
    one[4, 0] += 4
    other[4, 0] += 3
    one[5, 1] += 4
    run = read_run(
        write_run(
            tmp_path / "run", {"nn": [one.tolist()], "rbf-sl": [other.tolist()]}, task=TARGETS, truth=truth.tolist()
        )
    )
    (miss,) = missed_by_all(run)
    assert (miss.track, miss.what, miss.truth) == ("004", "valence", f"{truth[4, 0]:.3g}")
    assert miss.predicted == f"{truth[4, 0] + 3:.3g}"
