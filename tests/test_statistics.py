"""Metrics and intervals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mirembed.errors import EvaluationError
from mirembed.statistics import (
    Interval,
    accuracy,
    bootstrap_interval,
    macro_f1,
    nadeau_bengio_interval,
    pearson_r,
    pearson_r_defined,
    r2_score,
    r_squared,
)

METRICS = [accuracy, macro_f1, pearson_r, pearson_r_defined, r_squared, r2_score]

class_pairs = st.integers(1, 40).flatmap(lambda n: arrays(np.int64, (2, n), elements=st.integers(0, 5)))
# steps of 0.01 as of a rating scale: two values are equal or well apart
target_pairs = st.integers(2, 40).flatmap(
    lambda n: arrays(np.int64, (2, n), elements=st.integers(-500, 500)).map(lambda steps: steps / 100)
)


@given(class_pairs)
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(pair):
    truth, prediction = pair
    assert accuracy(truth, prediction) == pytest.approx(sklearn.metrics.accuracy_score(truth, prediction))
    expected = sklearn.metrics.f1_score(truth, prediction, average="macro", zero_division=0)
    assert macro_f1(truth, prediction) == pytest.approx(expected)


def test_macro_f1_worked_by_hand():
    # class 0: 2*1/(2+1); class 1: 2*1/(1+2); class 3, predicted only: 0; class 2, in neither, does not count
    assert macro_f1([0, 0, 1], [0, 1, 1]) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert macro_f1([0, 0, 1], [0, 3, 1]) == pytest.approx((2 / 3 + 1 + 0) / 3)


@given(target_pairs)
def test_pearson_r_is_that_of_scipy(pair):
    truth, prediction = pair
    assume(np.ptp(truth) and np.ptp(prediction))
    assert pearson_r_defined(truth, prediction)
    expected = scipy.stats.pearsonr(truth, prediction).statistic
    assert pearson_r(truth, prediction) == pytest.approx(expected, abs=1e-12)
    assert r_squared(truth, prediction) == pytest.approx(expected**2, abs=1e-12)


@given(target_pairs)
def test_r2_is_that_of_scikit_learn(pair):
    truth, prediction = pair
    assume(np.ptp(truth))
    expected = sklearn.metrics.r2_score(truth, prediction)
    assert r2_score(truth, prediction) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(target_pairs, st.floats(0.1, 10), st.floats(-10, 10))
def test_r_does_not_see_scale_and_offset_and_r_squared_not_even_sign(pair, scale, offset):
    truth, prediction = pair
    assume(np.ptp(truth) and np.ptp(prediction))
    moved = scale * prediction + offset
    assert pearson_r(truth, moved) == pytest.approx(pearson_r(truth, prediction), abs=1e-9)
    assert r_squared(truth, -moved) == pytest.approx(r_squared(truth, prediction), abs=1e-9)


def test_a_perfect_but_shifted_prediction_has_r_1_and_r2_below_0():
    truth = np.array([0.0, 1.0, 2.0])
    assert pearson_r(truth, truth + 3) == pytest.approx(1)
    assert r2_score(truth, truth + 3) == pytest.approx(1 - 27 / 2)
    assert r2_score(truth, truth) == 1


@pytest.mark.parametrize(
    ("truth", "prediction"),
    [
        ([1.0, 2.0, 3.0], [0.1, 0.1, 0.1]),
        ([0.1, 0.1, 0.1], [1.0, 2.0, 3.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([1.0, 2.0, 3.0], [0.3, 0.1 + 0.2, 0.3]),  # differ by rounding only
        ([1.0], [2.0]),
    ],
)
def test_r_of_a_constant_is_undefined_and_scores_0(truth, prediction):
    assert not pearson_r_defined(truth, prediction)
    assert pearson_r(truth, prediction) == 0
    assert r_squared(truth, prediction) == 0


def test_r2_of_a_constant_truth_is_0_whatever_the_prediction():
    assert r2_score([2.0, 2.0], [2.0, 2.0]) == 0
    assert r2_score([2.0, 2.0], [1.0, 5.0]) == 0


def test_r_of_tiny_numbers_is_defined():
    assert pearson_r(np.array([1.0, 2.0, 3.0]) * 1e-200, [1.0, 2.0, 3.0]) == pytest.approx(1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([], [], "expected one value for each track"),
        ([1, 2], [1], r"truth has shape \(2,\), prediction \(1,\)"),
        ([[1], [2]], [[1], [2]], "expected one value for each track"),
        ([1, 2, 3], [1, np.nan, np.inf], "prediction holds 2 values that are not finite numbers, of 3"),
    ],
)
def test_arrays_that_cannot_be_scored_are_an_error(metric, truth, prediction, message):
    with pytest.raises(EvaluationError, match=message):
        metric(truth, prediction)


def test_the_interval_worked_by_hand():
    # mean 0.7, s^2 = 0.01, variance (1/5 + 20/80) * 0.01, t = 2.776445 at 4 degrees of freedom
    interval = nadeau_bengio_interval([0.6, 0.6, 0.7, 0.8, 0.8], n_train=80, n_test=20)
    assert interval.mean == pytest.approx(0.7)
    assert interval.high - interval.mean == pytest.approx(2.776445 * np.sqrt(0.45 * 0.01), rel=1e-6)
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)


@given(scores=arrays(np.float64, st.integers(2, 20), elements=st.floats(0, 1)))
def test_without_a_test_part_to_speak_of_the_interval_is_students(scores):
    assume(np.ptp(scores) > 1e-3)
    interval = nadeau_bengio_interval(scores, n_train=1e12, n_test=1)
    low, high = scipy.stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-6)


@given(scores=arrays(np.float64, st.integers(2, 20), elements=st.floats(-1, 1)))
def test_more_confidence_needs_a_wider_interval(scores):
    assume(np.ptp(scores) > 1e-3)
    narrow = nadeau_bengio_interval(scores, 90, 10, confidence=0.9)
    wide = nadeau_bengio_interval(scores, 90, 10, confidence=0.99)
    assert wide.low < narrow.low < narrow.mean == wide.mean < narrow.high < wide.high


def test_equal_scores_have_an_interval_of_no_width():
    assert nadeau_bengio_interval([0.5, 0.5, 0.5], 90, 10) == Interval(0.5, 0.5, 0.5)


def test_a_single_score_has_no_interval():
    assert nadeau_bengio_interval([0.5], 90, 10) == Interval(0.5, None, None)


@pytest.mark.parametrize("scores", [[], [0.5, np.nan], [[0.5, 0.6]]])
def test_scores_that_are_no_numbers_are_an_error(scores):
    with pytest.raises(EvaluationError, match="expected one finite number for each fold"):
        nadeau_bengio_interval(scores, 90, 10)


@pytest.mark.parametrize("sizes", [(0, 10), (90, 0)])
def test_an_empty_part_has_no_interval(sizes):
    with pytest.raises(ValueError, match="out of range"):
        nadeau_bengio_interval([0.5, 0.6], *sizes)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_lies_between_0_and_1(confidence):
    with pytest.raises(ValueError, match="out of range"):
        nadeau_bengio_interval([0.5, 0.6], 90, 10, confidence)


def by_hand(metric, n_tracks, confidence=0.95):
    """Return the percentile bootstrap interval of another generator, of more resamples."""
    rng = np.random.default_rng(7)
    values = [metric(rng.integers(0, n_tracks, n_tracks)) for _ in range(5000)]
    return np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("measure", [accuracy, macro_f1, pearson_r, r2_score])
def test_the_bootstrap_interval_is_the_percentile_interval_over_tracks(measure, confidence):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    prediction = np.where(rng.random(60) < 0.7, truth, rng.integers(0, 3, 60))

    def metric(drawn):
        return measure(truth[drawn], prediction[drawn])

    interval = bootstrap_interval(metric, 60, confidence)
    low, high = by_hand(metric, 60, confidence)
    assert interval.mean == measure(truth, prediction)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.12 * (high - low))


def test_the_bootstrap_interval_of_a_mean_is_near_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(5, 2, 400)
    interval = bootstrap_interval(lambda drawn: values[drawn].mean(), 400, resamples=4000)
    error = values.std() / np.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    expected = (values.mean() - 1.96 * error, values.mean() + 1.96 * error)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=0.1 * error)


def test_the_same_call_gives_the_same_bootstrap_interval():
    values = np.random.default_rng(2).random(30)
    one, other = (bootstrap_interval(lambda drawn: values[drawn].mean(), 30) for _ in range(2))
    assert one == other
    assert one.low < one.mean < one.high


def test_a_resample_draws_as_many_tracks_as_there_are():
    seen = []

    def metric(drawn):
        seen.append(drawn)
        return 0.0

    assert bootstrap_interval(metric, 12, resamples=50) == Interval(0, 0, 0)
    assert all(len(drawn) == 12 and drawn.min() >= 0 and drawn.max() < 12 for drawn in seen)
    np.testing.assert_array_equal(seen[0], np.arange(12))
    assert any(len(np.unique(drawn)) < 12 for drawn in seen)


def test_a_single_track_has_no_bootstrap_interval():
    assert bootstrap_interval(lambda drawn: float(len(drawn)), 1) == Interval(1, None, None)


def test_two_tracks_have_the_bootstrap_interval_of_four_outcomes():
    assert bootstrap_interval(lambda drawn: float(np.mean(drawn)), 2) == Interval(0.5, 0, 1)
