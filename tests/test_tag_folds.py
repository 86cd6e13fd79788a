"""How tracks with tags are split into folds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold

from mirembed import Regression, Split, Tags, Target
from mirembed.datasets.splits import default_scheme, groups_on_both_sides, make_folds, make_splits, official_folds
from mirembed.datasets.tag_folds import distribute_groups, stratify_tags
from mirembed.errors import EvaluationError


def task(n_tags: int) -> Tags:
    return Tags(tuple(f"tag {number}" for number in range(n_tags)))


def drawn_tags(n_tracks: int, n_tags: int, seed: int = 0) -> np.ndarray:
    """Return tags of which the first is rare and each further one more frequent."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(size=(n_tracks, n_tags)) < np.linspace(0.04, 0.2, n_tags)).astype(np.int64)


def imbalance(tags: np.ndarray, fold_of: np.ndarray, n_folds: int) -> float:
    """Return the mean deviation of the share of positive tracks, as in section 5 of Sechidis et al."""
    shares = np.array([tags[fold_of == fold].mean(axis=0) for fold in range(n_folds)])
    return float(np.abs(shares - tags.mean(axis=0)).mean())


def test_the_rarest_tag_is_distributed_first_and_tracks_without_tags_fill_up_the_folds():
    tags = np.array([[1, 1]] * 2 + [[0, 1]] * 4 + [[0, 0]] * 4)
    for seed in range(20):
        fold_of = stratify_tags(tags, [0.5, 0.5], seed)
        for rows in (slice(0, 2), slice(2, 6), slice(6, 10)):
            assert np.bincount(fold_of[rows]).tolist() == [len(fold_of[rows]) // 2] * 2


def test_the_parts_have_the_shares_that_are_asked_for():
    tags = np.repeat([[1, 0], [0, 1]], [30, 70], axis=0)
    part = stratify_tags(tags, [0.8, 0.2], seed=3)
    assert [np.bincount(part[:30]).tolist(), np.bincount(part[30:]).tolist()] == [[24, 6], [56, 14]]


@given(
    n_tracks=st.integers(10, 80), n_tags=st.integers(1, 6), n_folds=st.integers(2, 10), seed=st.integers(0, 2**32 - 1)
)
def test_every_fold_tests_some_track_and_few_more_or_less_of_a_tag_than_its_share(n_tracks, n_tags, n_folds, seed):
    tags = drawn_tags(n_tracks, n_tags, seed)
    fold_of = stratify_tags(tags, [1 / n_folds] * n_folds, seed)
    assert set(fold_of) == set(range(n_folds))
    rarest = int(np.where(tags.any(axis=0), tags.sum(axis=0), n_tracks + 1).argmin())
    per_fold = np.bincount(fold_of[tags[:, rarest] > 0], minlength=n_folds)
    assert per_fold.max() - per_fold.min() <= 1


def test_stratified_folds_balance_tags_better_than_random_ones():
    tags = drawn_tags(500, 20)
    fold_of = stratify_tags(tags, [0.1] * 10, seed=0)
    by_chance = np.zeros(500, np.int64)
    for fold, (_, test) in enumerate(KFold(10, shuffle=True, random_state=0).split(tags)):
        by_chance[test] = fold
    assert imbalance(tags, fold_of, 10) < imbalance(tags, by_chance, 10) / 3
    sizes = np.bincount(fold_of)
    assert sizes.max() - sizes.min() <= 5


def test_grouped_folds_balance_tags_and_sizes_better_than_folds_that_ignore_them():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(100), rng.integers(1, 12, 100))
    of_group = drawn_tags(100, 20, seed=1)
    tags = np.where(rng.uniform(size=(len(groups), 20)) < 0.9, of_group[groups], 0)
    fold_of = distribute_groups(tags, groups, 5, seed=0)
    assert all(len(set(fold_of[groups == group])) == 1 for group in range(100))
    ignoring = np.zeros(len(groups), np.int64)
    for fold, (_, test) in enumerate(GroupKFold(5, shuffle=True, random_state=0).split(tags, groups=groups)):
        ignoring[test] = fold
    assert imbalance(tags, fold_of, 5) < imbalance(tags, ignoring, 5) / 1.5
    assert np.ptp(np.bincount(fold_of)) <= 0.1 * len(groups)


def test_tags_are_stratified_by_default():
    assert default_scheme(task(3)) == "stratified"
    assert default_scheme(Regression((Target("valence"),))) == "random"


@pytest.mark.parametrize("scheme", ["random", "stratified", "grouped"])
def test_each_track_is_tested_once_and_only_the_seed_decides(scheme):
    tags, groups = drawn_tags(60, 5), [f"artist {row // 3}" for row in range(60)]
    made = [make_folds(task(5), tags, scheme=scheme, n_folds=6, seed=seed, groups=groups)[0] for seed in (0, 0, 1)]
    for folds in made:
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(60))
        for fold in folds:
            np.testing.assert_array_equal(np.sort(np.concatenate([fold.train, fold.test])), np.arange(60))
        assert scheme != "grouped" or groups_on_both_sides(folds, groups) == 0
    first, same, other = [[fold.test.tolist() for fold in folds] for folds in made]
    assert first == same != other


def test_repeated_splits_are_stratified_and_differ():
    tags = np.repeat([[1, 0], [0, 1]], [30, 70], axis=0)
    folds, _ = make_splits(task(2), tags, scheme="stratified", n_splits=3, test_size=0.2, seed=0)
    assert [tags[fold.test].sum(axis=0).tolist() for fold in folds] == [[6, 14]] * 3
    assert len({tuple(fold.test.tolist()) for fold in folds}) == 3


def test_a_split_without_test_tracks_is_an_error():
    with pytest.raises(EvaluationError, match=r"--test-size 0\.01"):
        make_splits(task(2), drawn_tags(20, 2), scheme="stratified", n_splits=2, test_size=0.01, seed=0)


def test_tags_of_fewer_tracks_than_folds_are_noted():
    tags = drawn_tags(60, 5)
    tags[:, 0] = np.arange(60) < 3
    _, notes = make_folds(task(5), tags, scheme="stratified", n_folds=5, seed=0)
    assert any("tag 0 (3)" in note for note in notes)


def test_tags_that_a_fold_cannot_learn_or_score_are_noted():
    tags = np.zeros((12, 3), np.int64)
    tags[::2, 0] = 1
    tags[:4, 1] = 1
    tags[4:, 2] = 1
    ids = [f"{row:02d}" for row in range(12)]
    splits = [Split(frozenset(ids[4:]), frozenset(ids[:4]))]
    _, notes = official_folds(task(3), tags, splits, ids)
    absent, everywhere, untested = notes
    assert "tag 1 (fold 0)" in absent
    assert "tag 2 (fold 0)" in everywhere
    assert "tag 1 (fold 0), tag 2 (fold 0)" in untested


def test_tracks_that_all_have_the_same_tags_cannot_be_split():
    with pytest.raises(EvaluationError, match="same tags"):
        make_folds(task(2), np.tile([1, 0], (20, 1)), scheme="random", n_folds=2, seed=0)
    tags = np.zeros((10, 1), np.int64)
    tags[:5] = 1
    ids = [str(row) for row in range(10)]
    with pytest.raises(EvaluationError, match="fold 0"):
        official_folds(task(1), tags, [Split(frozenset(ids[:5]), frozenset(ids[5:]))], ids)
