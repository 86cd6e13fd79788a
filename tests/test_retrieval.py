"""The metrics of retrieval, against scikit-learn, scipy and rankings counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import skew
from sklearn.metrics import average_precision_score, ndcg_score

from mirembed.statistics.retrieval import (
    average_precision,
    hubness,
    label_gains,
    ndcg_at_k,
    precision_at_k,
    r_precision,
    retrieve,
)

RELEVANT = np.array([True, False, True, True, False, False, True])


def by_distance(points):
    """The similarities of points on a line: the closer, the more similar."""
    points = np.asarray(points, float)
    return lambda query: -np.abs(points - points[query])


def test_a_ranking_counted_by_hand():
    assert precision_at_k(RELEVANT) == 3 / 5
    assert r_precision(RELEVANT) == 3 / 4  # four are relevant, three of them are among the first four
    assert average_precision(RELEVANT) == pytest.approx((1 / 1 + 2 / 3 + 3 / 4 + 4 / 7) / 4)


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_average_precision_is_that_of_scikit_learn(relevant):
    order = -np.arange(len(relevant))
    assert average_precision(np.array(relevant)) == pytest.approx(average_precision_score(relevant, order))


@given(st.lists(st.floats(0, 1).map(lambda gain: round(gain, 3)), min_size=5, max_size=40).filter(any))
def test_ndcg_is_that_of_scikit_learn(gains):
    reference = ndcg_score([gains], [-np.arange(len(gains))], k=5)
    assert ndcg_at_k(np.array(gains)) == pytest.approx(reference)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=40).filter(lambda counts: len(set(counts)) > 1))
def test_hubness_is_the_skewness_of_scipy(counts):
    assert hubness(np.array(counts)) == pytest.approx(float(skew(counts)), abs=1e-9)


@pytest.mark.parametrize("score", [precision_at_k, average_precision, r_precision, ndcg_at_k])
def test_without_a_relevant_candidate_nothing_is_defined(score):
    assert np.isnan(score(np.zeros(8, bool) if score is not ndcg_at_k else np.zeros(8)))
    assert np.isnan(score(np.zeros(0, bool) if score is not ndcg_at_k else np.zeros(0)))


def test_precision_and_ndcg_at_5_need_5_candidates():
    assert np.isnan(precision_at_k(np.ones(4, bool)))
    assert np.isnan(ndcg_at_k(np.ones(4)))
    assert precision_at_k(np.ones(5, bool)) == ndcg_at_k(np.ones(5)) == 1


def test_hubness_is_undefined_if_all_tracks_occur_equally_often():
    assert np.isnan(hubness(np.full(6, 5)))


def test_gains_of_classes_tags_and_targets():
    assert label_gains(np.array([0, 1, 0]), 0).tolist() == [1, 0, 1]
    tags = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]])
    assert label_gains(tags, 0) == pytest.approx([1, 1 / 2, 1 / 3, 0])
    assert label_gains(tags, 3).tolist() == [0, 0, 0, 0]
    targets = np.array([[0.0, 1.0], [0.5, 1.0], [1.0, 0.0], [3.0, 0.0]])
    assert label_gains(targets, 0).tolist() == [1, 0.75, 0, 0]


def test_embeddings_that_copy_the_labels_are_perfect():
    labels = np.repeat([0, 1, 2], 6)
    found = retrieve(by_distance(labels * 10.0), labels, k=5)
    for name in ("precision_at_k", "map", "r_precision", "ndcg"):
        assert (found[name] == 1).all(), name


def test_the_query_is_no_candidate_and_its_group_is_left_out():
    labels, points = np.array([0, 0, 1, 1, 1, 0, 0]), [0, 1, 2.1, 3.5, 5, 6.2, 7]
    groups = ["x", "x", "y", "y", None, None, "z"]
    plain = retrieve(by_distance(points), labels, k=1)
    filtered = retrieve(by_distance(points), labels, groups, k=1)
    assert plain["precision_at_k"].tolist() == [1, 1, 0, 1, 0, 1, 1]
    assert filtered["precision_at_k"].tolist() == [0, 0, 0, 1, 0, 1, 1]
    # The nearest are 2, 2, 1, 4, 5, 6 and 5: without a group, two tracks are not of the same one.
    assert filtered["k_occurrence"].tolist() == [0, 1, 2, 0, 1, 2, 1]


def test_equal_similarities_are_ranked_in_the_order_of_the_tracks():
    found = retrieve(lambda query: np.zeros(4), np.array([0, 1, 0, 1]), k=1)
    assert found["k_occurrence"].tolist() == [3, 1, 0, 0]


def test_targets_have_gains_but_no_relevant_tracks():
    rng = np.random.default_rng(0)
    labels = rng.random((8, 2))
    found = retrieve(by_distance(labels[:, 0]), labels)
    assert np.isnan(found["map"]).all() and np.isnan(found["precision_at_k"]).all()
    assert (found["ndcg"] > 0).all()
    order = [candidate for candidate in np.argsort(np.abs(labels[:, 0] - labels[3, 0])) if candidate != 3]
    gains = 1 - np.abs(labels - labels[3]).mean(axis=1)[order]
    assert found["ndcg"][3] == pytest.approx(ndcg_score([gains], [-np.arange(7)], k=5))


def test_random_neighbors_score_the_share_of_relevant_tracks():
    rng = np.random.default_rng(1)
    labels, points = rng.integers(0, 4, 400), rng.random(400)
    found = retrieve(by_distance(points), labels)
    assert np.nanmean(found["precision_at_k"]) == pytest.approx(1 / 4, abs=0.03)
    assert found["k_occurrence"].sum() == 5 * 400
