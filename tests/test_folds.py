"""How tracks are split into folds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mirembed import Classification, Regression, Target
from mirembed.datasets.splits import Fold, choose_scheme, default_scheme, groups_on_both_sides, make_folds
from mirembed.errors import EvaluationError, SpecError

CLASSES = Classification(("blues", "jazz", "rock"))
TARGETS = Regression((Target("valence"),))


def class_labels(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def target_labels(n_tracks: int) -> np.ndarray:
    return np.linspace(0, 1, n_tracks)[:, None]


def contents(folds: list[Fold]) -> list[tuple[int, list[int], list[int]]]:
    return [(fold.index, fold.train.tolist(), fold.test.tolist()) for fold in folds]


@st.composite
def splits(draw: st.DrawFn) -> tuple[list[Fold], np.ndarray, list[str | None], str]:
    """Folds of any scheme with the labels and groups that they were made from."""
    task, scheme = draw(
        st.sampled_from([(CLASSES, "random"), (CLASSES, "stratified"), (CLASSES, "grouped")])
        | st.sampled_from([(TARGETS, "random"), (TARGETS, "grouped")])
    )
    n_tracks = draw(st.integers(4, 60))
    if task is CLASSES:
        labels = np.array(draw(st.lists(st.integers(0, 2), min_size=n_tracks, max_size=n_tracks)))
    else:
        labels = target_labels(n_tracks)
    group = st.none() | st.sampled_from([f"artist {index}" for index in range(8)])
    groups = draw(st.lists(group, min_size=n_tracks, max_size=n_tracks))
    n_folds, seed = draw(st.integers(2, 6)), draw(st.integers(0, 2**32 - 1))
    try:
        folds, _ = make_folds(task, labels, scheme=scheme, n_folds=n_folds, seed=seed, groups=groups)
    except EvaluationError:
        assume(False)
    assert len(folds) == n_folds
    return folds, labels, groups, scheme


@given(splits())
def test_each_track_is_tested_once_and_trains_in_all_other_folds(split):
    folds, labels, _, _ = split
    rows = np.arange(len(labels))
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.test for fold in folds])), rows)
    for index, fold in enumerate(folds):
        assert fold.index == index
        assert fold.train.dtype == fold.test.dtype == np.int64
        assert fold.train.size
        assert fold.test.size
        np.testing.assert_array_equal(fold.train, np.setdiff1d(rows, fold.test))
        np.testing.assert_array_equal(fold.test, np.unique(fold.test))


@given(splits())
def test_a_grouped_fold_has_no_group_on_both_sides(split):
    folds, _, groups, scheme = split
    assume(scheme == "grouped")
    for fold in folds:
        trained = {groups[row] for row in fold.train}
        assert all(groups[row] is None or groups[row] not in trained for row in fold.test)
    assert groups_on_both_sides(folds, groups) == 0


@given(splits())
def test_every_training_part_holds_two_classes_or_more(split):
    folds, labels, _, _ = split
    assume(labels.ndim == 1)
    assert all(len(set(labels[fold.train])) >= 2 for fold in folds)


@given(counts=st.lists(st.integers(5, 40), min_size=3, max_size=3), seed=st.integers(0, 1000))
def test_stratified_folds_share_each_class_out_evenly(counts, seed):
    labels = class_labels(*counts)
    folds, notes = make_folds(CLASSES, labels, scheme="stratified", n_folds=5, seed=seed)
    per_fold = np.array([np.bincount(labels[fold.test], minlength=3) for fold in folds])
    assert (per_fold.max(axis=0) - per_fold.min(axis=0) <= 1).all()
    assert notes == []


@pytest.mark.parametrize(
    ("task", "labels", "scheme"),
    [
        (CLASSES, class_labels(20, 20, 20), "random"),
        (CLASSES, class_labels(20, 20, 20), "stratified"),
        (CLASSES, class_labels(20, 20, 20), "grouped"),
        (TARGETS, target_labels(60), "random"),
        (TARGETS, target_labels(60), "grouped"),
    ],
)
def test_only_the_seed_decides(task, labels, scheme):
    groups = [f"artist {row // 2}" for row in range(60)]
    made = [
        contents(make_folds(task, labels, scheme=scheme, n_folds=10, seed=seed, groups=groups)[0]) for seed in (0, 0, 1)
    ]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_folds_are_stratified_for_classification_and_random_for_regression_by_default():
    assert default_scheme(CLASSES) == "stratified"
    assert default_scheme(TARGETS) == "random"


def test_grouped_folds_keep_class_proportions_where_groups_allow():
    labels = np.tile([0, 1], 20)
    groups = [f"artist {row // 4}" for row in range(40)]
    folds, _ = make_folds(CLASSES, labels, scheme="grouped", n_folds=5, seed=0, groups=groups)
    assert [np.bincount(labels[fold.test]).tolist() for fold in folds] == [[4, 4]] * 5


def test_tracks_without_a_group_are_groups_of_their_own_and_counted():
    groups = ["a", "a", "b", "b", None, None]
    folds, notes = make_folds(TARGETS, target_labels(6), scheme="grouped", n_folds=4, seed=0, groups=groups)
    assert sorted(fold.test.tolist() for fold in folds) == [[0, 1], [2, 3], [4], [5]]
    [note] = notes
    assert note.startswith("2 tracks without a group")


def test_classes_with_fewer_tracks_than_folds_are_noted():
    labels = class_labels(20, 4, 3)
    _, notes = make_folds(CLASSES, labels, scheme="stratified", n_folds=5, seed=0)
    [note] = notes
    assert note.endswith(": jazz (4), rock (3)")


def test_a_class_without_tracks_is_not_noted():
    assert make_folds(CLASSES, class_labels(10, 10), scheme="stratified", n_folds=5, seed=0)[1] == []


def test_a_class_in_a_single_test_part_is_noted():
    labels = class_labels(10, 10, 2)
    groups = [*(f"artist {row}" for row in range(20)), "band", "band"]
    folds, notes = make_folds(CLASSES, labels, scheme="grouped", n_folds=2, seed=0, groups=groups)
    [index] = [fold.index for fold in folds if 20 in fold.test]
    [note] = notes
    assert note.endswith(f": rock (fold {index})")


def test_groups_on_both_sides_counts_test_tracks():
    folds = [
        Fold(0, np.array([2, 3, 5]), np.array([0, 1, 4])),
        Fold(1, np.array([0, 1, 4]), np.array([2, 3, 5])),
    ]
    # fold 0: tracks 0 and 1 (a); fold 1: track 2 (a). Two tracks without a group share none.
    assert groups_on_both_sides(folds, ["a", "a", "a", "b", None, None]) == 3


def test_an_unknown_scheme_is_an_error_that_lists_the_known_ones():
    with pytest.raises(SpecError, match=r"by-artist.* random, stratified, grouped"):
        choose_scheme("by-artist", TARGETS)


@pytest.mark.parametrize(
    ("task", "labels", "options", "message"),
    [
        (CLASSES, class_labels(5, 5), {"n_folds": 1}, "--cv is 1: .*at least 2"),
        (TARGETS, target_labels(4), {"n_folds": 5}, "cannot split 4 tracks into 5 folds"),
        (TARGETS, target_labels(0), {"n_folds": 2}, "cannot split 0 tracks into 2 folds"),
        (TARGETS, target_labels(9), {"scheme": "stratified"}, "stratified .*--folds random"),
        (TARGETS, target_labels(9), {"scheme": "grouped"}, "grouped .*--folds"),
        (TARGETS, target_labels(9), {"scheme": "grouped", "groups": [None] * 9}, "grouped .*--folds"),
        (
            TARGETS,
            target_labels(9),
            {"scheme": "grouped", "groups": ["a"] * 5 + ["b"] * 4, "n_folds": 3},
            "cannot split 2 groups into 3 folds",
        ),
        (CLASSES, class_labels(0, 9), {}, "all 9 tracks are of class 'jazz'"),
        (CLASSES, class_labels(3, 2, 3), {"scheme": "stratified", "n_folds": 4}, "stratified .*4 tracks.* 3"),
        (
            CLASSES,
            class_labels(4, 4),
            {"scheme": "grouped", "groups": ["a"] * 4 + ["b"] * 4},
            "training part of fold [01] .*class",
        ),
        (CLASSES, class_labels(9, 1), {"n_folds": 5}, "training part of fold . .*class 'blues'"),
    ],
)
def test_impossible_folds_are_an_error_that_says_why(task, labels, options, message):
    with pytest.raises(EvaluationError, match=message):
        make_folds(task, labels, **({"scheme": "random", "n_folds": 2, "seed": 0} | options))
