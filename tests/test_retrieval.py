"""The metrics of retrieval, against scikit-learn, scipy and rankings counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine, euclidean
from scipy.stats import skew
from sklearn.metrics import average_precision_score, ndcg_score
from small_store import evaluate, experiment, open_tracks, run_here, workers_run, write_tags

from mirembed.registry import Registry
from mirembed.statistics.metrics import metric_named
from mirembed.statistics.retrieval import (
    average_precision,
    hubness,
    label_gains,
    ndcg_at_k,
    precision_at_k,
    query_sums,
    r_precision,
    resampled_hubness,
    resampled_mean,
    retrieve,
)
from mirembed.store.files import read_table

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


def test_hubness_is_undefined_if_no_query_can_choose_among_its_candidates():
    """With at most 5 candidates all are among the nearest 5, so that only the sizes of groups would count."""
    groups = np.array([0, 0, 0, 1, 2, 3])
    found = retrieve(by_distance(range(6)), np.zeros(6, int), groups)
    assert np.isnan(found["k_occurrence"]).all()
    assert metric_named("hubness").why_undefined(np.zeros((6, 1)), np.zeros((6, 1))) == [
        "no query with enough candidates"
    ]


def test_only_queries_with_more_than_k_candidates_count_for_hubness():
    groups = np.array([0, 0, 0, 1])
    found = retrieve(by_distance(range(4)), np.zeros(4, int), groups, k=1)
    assert found["k_occurrence"].tolist() == [0, 0, 1, 0]  # the last has three candidates, each other only one


def test_hubness_is_undefined_if_all_tracks_occur_equally_often():
    assert np.isnan(hubness(np.full(6, 5)))


def test_gains_of_classes_tags_and_targets():
    assert label_gains(np.array([0, 1, 0]))(0).tolist() == [1, 0, 1]
    tags = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]])
    assert label_gains(tags)(0) == pytest.approx([1, 1 / 2, 1 / 3, 0])
    assert label_gains(tags)(3).tolist() == [0, 0, 0, 0]
    targets = np.array([[0.0, 1.0], [0.5, 1.0], [1.0, 0.0], [3.0, 0.0]])
    assert label_gains(targets)(0).tolist() == [1, 0.75, 0, 0]


def test_embeddings_that_copy_the_labels_are_perfect():
    labels = np.repeat([0, 1, 2], 6)
    found = retrieve(by_distance(labels * 10.0), labels, k=5)
    for name in ("precision_at_5", "map", "r_precision", "ndcg_at_5"):
        assert (found[name] == 1).all(), name


def test_the_query_is_no_candidate_and_its_group_is_left_out():
    labels, points = np.array([0, 0, 1, 1, 1, 0, 0]), [0, 1, 2.1, 3.5, 5, 6.2, 7]
    groups = np.array([0, 0, 1, 1, 2, 3, 4])
    plain = retrieve(by_distance(points), labels, k=1)
    filtered = retrieve(by_distance(points), labels, groups, k=1)
    assert plain["precision_at_5"].tolist() == [1, 1, 0, 1, 0, 1, 1]
    assert filtered["precision_at_5"].tolist() == [0, 0, 0, 1, 0, 1, 1]
    # The nearest are 2, 2, 1, 4, 5, 6 and 5.
    assert filtered["k_occurrence"].tolist() == [0, 1, 2, 0, 1, 2, 1]


def test_equal_similarities_are_ranked_in_the_order_of_the_tracks():
    found = retrieve(lambda query: np.zeros(4), np.array([0, 1, 0, 1]), k=1)
    assert found["k_occurrence"].tolist() == [3, 1, 0, 0]


def test_a_second_kind_of_similarity_decides_between_equal_ones():
    found = retrieve(lambda query: np.array([[1, 1, 1, 0], [0, 0, 1, 9]]), np.array([0, 1, 0, 1]), k=1)
    assert found["k_occurrence"].tolist() == [1, 0, 3, 0]


def test_targets_have_gains_but_no_relevant_tracks():
    rng = np.random.default_rng(0)
    labels = rng.random((8, 2))
    found = retrieve(by_distance(labels[:, 0]), labels)
    assert np.isnan(found["map"]).all() and np.isnan(found["precision_at_5"]).all()
    assert (found["ndcg_at_5"] > 0).all()
    order = [candidate for candidate in np.argsort(np.abs(labels[:, 0] - labels[3, 0])) if candidate != 3]
    gains = 1 - np.abs(labels - labels[3]).mean(axis=1)[order]
    assert found["ndcg_at_5"][3] == pytest.approx(ndcg_score([gains], [-np.arange(7)], k=5))


def test_random_neighbors_score_the_share_of_relevant_tracks():
    rng = np.random.default_rng(1)
    labels, points = rng.integers(0, 4, 400), rng.random(400)
    found = retrieve(by_distance(points), labels)
    assert np.nanmean(found["precision_at_5"]) == pytest.approx(1 / 4, abs=0.03)
    assert found["k_occurrence"].sum() == 5 * 400


def test_resamples_of_means_and_hubness():
    """A resample that draws each track a number of times is the array with each that number of times."""
    rng = np.random.default_rng(2)
    scores, occurrences = rng.random((30, 1)), rng.integers(0, 9, (30, 1)).astype(float)
    defined = (rng.random((30, 1)) < 0.7).astype(float)
    units = np.arange(30)
    counts = rng.multinomial(30, np.full(30, 1 / 30), size=4).astype(float)
    means = resampled_mean(query_sums(defined, scores * defined, units, 30)(counts))
    skews = resampled_hubness(query_sums(np.ones((30, 1)), occurrences, units, 30)(counts))
    for row, times in enumerate(counts.astype(int)):
        drawn = np.repeat(units, times)
        assert means[row] == pytest.approx(scores[drawn][defined[drawn] > 0].mean())
        assert skews[row] == pytest.approx(skew(occurrences[drawn, 0]))
    assert np.isnan(resampled_mean(query_sums(np.zeros((30, 1)), np.zeros((30, 1)), units, 30)(counts))).all()


# In a run


@pytest.mark.slow
def test_a_run_scores_the_neighbors_of_its_test_tracks_by_their_embeddings(tmp_path):
    """Recomputed from the embeddings that the run kept, with scikit-learn; tracks of an artist are no candidates."""
    groups = [f"artist {number // 4}" for number in range(24)]
    tracks = open_tracks(write_tags(tmp_path / "store", groups=groups))
    settings = experiment("rbf-sl", "stats", "chance", cv=2, epochs=2, folds="random", keep_embeddings=True)
    with workers_run(run_here):
        run, scores = evaluate(tracks, settings, Registry.discover(), tmp_path / "runs", jobs=1)
    group_of = dict(zip(tracks.ids, groups, strict=True))
    label_of = {track: set(np.flatnonzero(tags)) for track, tags in zip(tracks.ids, tracks.label_array, strict=True)}
    rows = read_table(run.folder / "predictions.parquet").to_pylist()
    embedded = [row for path in run.embedding_files() for row in read_table(path).to_pylist()]
    for one in scores:
        of_method = {(row["fold"], row["id"]): row for row in rows if row["method"] == one.method}
        if one.method == "chance":
            assert {row["retrieval_map"] for row in of_method.values()} == {None}
            assert one.intervals["map", None].mean is None
            continue
        vectors = {(row["fold"], row["id"]): row["embedding"] for row in embedded if row["approach"] == one.method}
        by_fold = {}
        for (fold, query), row in of_method.items():
            others = [other for of_fold, other in of_method if of_fold == fold and group_of[other] != group_of[query]]
            ranked_by = euclidean if one.method == "rbf-sl" else cosine  # which ranks where nothing was learned
            distance = [ranked_by(vectors[fold, other], vectors[fold, query]) for other in others]
            shared = [len(label_of[other] & label_of[query]) for other in others]
            gains = [n / (len(label_of[other] | label_of[query]) or 1) for n, other in zip(shared, others, strict=True)]
            relevant = np.array(shared) > 0
            if not relevant.any():
                assert row["retrieval_map"] is None
                continue
            nearest = np.argsort(distance)[:5]
            assert row["retrieval_map"] == pytest.approx(average_precision_score(relevant, np.negative(distance)))
            assert row["retrieval_precision_at_5"] == pytest.approx(relevant[nearest].mean())
            assert row["retrieval_ndcg_at_5"] == pytest.approx(ndcg_score([gains], [np.negative(distance)], k=5))
            by_fold.setdefault(fold, []).append(row["retrieval_map"])
        assert one.intervals["map", None].mean == pytest.approx(np.mean([np.mean(fold) for fold in by_fold.values()]))
        every = [value for of_fold in by_fold.values() for value in of_fold]
        assert one.pooled["map", None].mean == pytest.approx(np.mean(every))
        assert one.pooled["map", None].low < np.mean(every) < one.pooled["map", None].high
        counts = [
            [row["retrieval_k_occurrence"] for (of, _), row in of_method.items() if of == fold] for fold in (0, 1)
        ]
        assert one.intervals["hubness", None].mean == pytest.approx(np.mean([skew(fold) for fold in counts]))
