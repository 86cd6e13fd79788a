"""Sizes of folds, chance, and warnings about scores that look more certain than they are."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from mirembed import Classification, Regression, Target
from mirembed.datasets.splits import Fold
from mirembed.evaluate import plan
from mirembed.evaluate.estimate import Cost
from mirembed.evaluate.plan import chance, fold_sizes, small_test_parts
from mirembed.runs.scores import Scores, zero_width_warnings
from mirembed.runs.summary import Sizes, describe_chance
from mirembed.statistics.intervals import Interval

GENRES = Classification(("blues", "jazz", "rock"))


def fold(index: int, train: list[int], test: list[int]) -> Fold:
    return Fold(index, np.array(train), np.array(test))


@pytest.mark.parametrize(
    ("sizes", "described"),
    [
        (Sizes(120, 120, 108.0, 12.0), "120 tracks, 10 folds (108 train, 12 test)"),
        (Sizes(100, 100, 88.9, 11.1), "100 tracks, 10 folds (about 89 train, 11 test)"),
        (Sizes(100, 93, 89.0, 4.0), "93 of 100 tracks, 10 folds (89 train, 4 test)"),
    ],
)
def test_the_title_has_the_numbers_of_tracks_used_trained_on_and_tested(sizes, described):
    assert sizes.describe("10 folds") == described


def test_a_track_is_used_if_any_fold_of_any_seed_has_it():
    folds = {0: [fold(0, [0, 1], [2]), fold(1, [0, 2, 3], [1, 5, 6])], 1: [fold(0, [0, 1], [2])]}
    assert fold_sizes(folds, 9) == Sizes(9, 6, pytest.approx(7 / 3), pytest.approx(5 / 3))


def test_chance_takes_the_class_from_the_training_tracks_and_is_scored_on_the_test_tracks():
    """The largest class of all nine tracks is rock; of neither fold's training tracks."""
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    folds = {0: [fold(0, [0, 1, 2, 3, 5], [4, 6, 7, 8]), fold(1, [3, 4, 5], [0, 1, 6, 7])]}
    assert chance(GENRES, labels, folds) == 0
    folds = {0: [fold(0, [0, 1, 3], [2, 4, 5, 6]), fold(1, [5, 6, 3], [7, 8, 0, 1])]}
    assert chance(GENRES, labels, folds) == pytest.approx((1 / 4 + 2 / 4) / 2)


def test_chance_is_scored_with_the_estimator_of_the_approach_chance(monkeypatch):
    estimator = DummyClassifier(strategy="constant", constant=2)
    monkeypatch.setattr(plan, "chance_estimator", lambda task: estimator)
    assert chance(GENRES, np.array([0, 0, 2, 1, 2]), {0: [fold(0, [0, 1, 2], [3, 4])]}) == 0.5


def test_chance_is_the_majority_class_accuracy_or_no_correlation():
    targets = Regression((Target("valence"),))
    labels, folds = np.array([[1.0], [2.0], [4.0], [3.0], [5.0]]), {0: [fold(0, [0, 1], [2, 3, 4])]}
    assert describe_chance("accuracy", 0.0904).endswith(": 0.090")
    assert chance(targets, labels, folds) is None
    assert describe_chance("r", None).startswith("Chance: no r,")


def test_chance_has_the_error_of_the_mean_of_the_training_tracks():
    targets, folds = Regression((Target("valence"),)), {0: [fold(0, [0, 1], [2]), fold(1, [1, 2], [0])]}
    assert chance(targets, np.array([[1.0], [2.0], [4.0]]), folds, "mae") == pytest.approx((2.5 + 2) / 2)


def test_an_estimate_names_large_sizes_as_the_store_does():
    described = Cost("folder", 1, 2, 1, 60, memory=5 * 2**30, frames=3_565_158, disk=2**11, parts=()).describe()
    assert re.findall(r"[\d.]+ [KMG]iB", described) == ["5.0 GiB", "3.4 MiB", "2 KiB"]


@pytest.mark.parametrize(
    ("n_test", "warned"),
    [((10, 12), []), ((9, 10), ["a fold", "9 tracks"]), ((1,), ["the test part", "1 track;"])],
)
def test_a_test_part_with_fewer_than_ten_tracks_causes_a_warning(n_test, warned):
    warnings = small_test_parts([fold(index, [0], list(range(n))) for index, n in enumerate(n_test)])
    assert len(warnings) == bool(warned)
    assert all(warning.startswith("warning: ") for warning in warnings)
    assert all(fact in warning for warning in warnings for fact in warned)


def test_the_same_score_in_every_fold_causes_a_warning_except_for_chance():
    intervals = {"rbf-sl": (1.0, 1.0), "nn": (0.8, 1.2), "chance": (1.0, 1.0), "fl": (None, None)}
    scores = [Scores(name, {("accuracy", None): Interval(1.0, *ends)}, {}, {}) for name, ends in intervals.items()]
    [warning] = zero_width_warnings(scores)
    assert warning.startswith("warning: rbf-sl ")
    assert "accuracy 1.000" in warning
