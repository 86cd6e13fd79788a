"""Metrics, against scikit-learn, scipy and their definitions; and where they are undefined, and why."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mirembed import Classification, Regression, Target
from mirembed.errors import EvaluationError, SpecError
from mirembed.hookspecs import Tags
from mirembed.statistics.class_metrics import accuracy, balanced_accuracy, macro_f1, recall
from mirembed.statistics.metrics import METRICS, headline, metric_named, metrics_for
from mirembed.statistics.tag_metrics import average_precision, roc_auc
from mirembed.statistics.target_metrics import ccc, mae, pearson_r, r2_score, r_squared, rmse, spearman

OF_PREDICTIONS = [metric for metric in METRICS if metric.source == "predictions"]
TASKS = {Classification: Classification(("blues", "jazz")), Tags: Tags(("calm", "loud"))}
TASKS |= {Regression: Regression((Target("valence"),))}

class_pairs = st.integers(1, 40).flatmap(lambda n: arrays(np.int64, (2, n), elements=st.integers(0, 5)))
# steps of 0.01 as of a rating scale: two values are equal or well apart
target_pairs = st.integers(2, 40).flatmap(
    lambda n: arrays(np.int64, (2, n), elements=st.integers(-500, 500)).map(lambda steps: steps / 100)
)
# few different scores, so that many are tied
tag_pairs = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        arrays(np.int64, n, elements=st.integers(0, 1)), arrays(np.int64, n, elements=st.integers(0, 9))
    )
)


def columns_of(metric, classes, tags, targets):
    """Return truth and prediction ``[n, 1]`` for a metric of any task."""
    pair = {Classification: classes, Tags: tags, Regression: targets}[metric.task]
    if metric.column == "class":
        pair = [values == 2 for values in pair]
    return [np.asarray(values, np.float64)[:, None] for values in pair]


@given(class_pairs)
def test_class_metrics_are_those_of_scikit_learn(pair):
    truth, prediction = pair
    assert accuracy(truth, prediction) == pytest.approx(sklearn.metrics.accuracy_score(truth, prediction))
    expected = sklearn.metrics.f1_score(truth, prediction, average="macro", zero_division=0)
    assert macro_f1(truth, prediction) == pytest.approx(expected)
    recalls = sklearn.metrics.recall_score(truth, prediction, labels=range(6), average=None, zero_division=np.nan)
    columns = truth[:, None] == np.arange(6), prediction[:, None] == np.arange(6)
    np.testing.assert_allclose(recall(*columns), recalls)
    assert balanced_accuracy(truth, prediction) == pytest.approx(np.nanmean(recalls))


def test_balanced_accuracy_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 4, (2, 100))
    expected = sklearn.metrics.balanced_accuracy_score(truth, prediction)
    assert balanced_accuracy(truth, prediction) == pytest.approx(expected)


def test_macro_f1_worked_by_hand():
    # class 0: 2*1/(2+1); class 1: 2*1/(1+2); class 3, predicted only: 0; class 2, in neither, does not count
    assert macro_f1([0, 0, 1], [0, 1, 1]) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert macro_f1([0, 0, 1], [0, 3, 1]) == pytest.approx((2 / 3 + 1 + 0) / 3)


@given(tag_pairs)
def test_tag_metrics_are_those_of_scikit_learn(pair):
    truth, scores = pair
    assume(truth.any())
    assert average_precision(truth, scores) == pytest.approx(sklearn.metrics.average_precision_score(truth, scores))
    assume(not truth.all())
    assert roc_auc(truth, scores) == pytest.approx(sklearn.metrics.roc_auc_score(truth, scores))


def test_equal_scores_have_a_roc_auc_of_one_half_and_the_share_of_the_tag_as_average_precision():
    assert roc_auc([1, 0, 0, 0], [0.3] * 4) == 0.5
    assert average_precision([1, 0, 0, 0], [0.3] * 4) == 0.25


@given(target_pairs)
def test_correlations_are_those_of_scipy(pair):
    truth, prediction = pair
    assume(np.ptp(truth) and np.ptp(prediction))
    expected = scipy.stats.pearsonr(truth, prediction).statistic
    assert pearson_r(truth, prediction) == pytest.approx(expected, abs=1e-12)
    assert r_squared(truth, prediction) == pytest.approx(expected**2, abs=1e-12)
    expected = scipy.stats.spearmanr(truth, prediction).statistic
    assert spearman(truth, prediction) == pytest.approx(expected, abs=1e-12)


@given(target_pairs)
def test_errors_are_those_of_scikit_learn(pair):
    truth, prediction = pair
    assert rmse(truth, prediction) == pytest.approx(sklearn.metrics.root_mean_squared_error(truth, prediction))
    assert mae(truth, prediction) == pytest.approx(sklearn.metrics.mean_absolute_error(truth, prediction))
    assume(np.ptp(truth))
    expected = sklearn.metrics.r2_score(truth, prediction)
    assert r2_score(truth, prediction) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(target_pairs)
def test_ccc_is_r_times_lins_bias_correction(pair):
    truth, prediction = pair
    assume(np.ptp(truth) and np.ptp(prediction))
    # Lin (1989): C_b = 2 / (v + 1/v + u^2), v the ratio of the deviations, u the shift in units of their geometric mean
    v = truth.std() / prediction.std()
    u = (truth.mean() - prediction.mean()) / np.sqrt(truth.std() * prediction.std())
    expected = scipy.stats.pearsonr(truth, prediction).statistic * 2 / (v + 1 / v + u**2)
    assert ccc(truth, prediction) == pytest.approx(expected, abs=1e-9)


def test_ccc_worked_by_hand():
    # means 2 and 3, variances 2/3 and 2/3, covariance 2/3: 2 (2/3) / (2/3 + 2/3 + 1)
    assert ccc([1, 2, 3], [2, 3, 4]) == pytest.approx(4 / 7)
    assert ccc([1, 2, 3], [1, 2, 3]) == pytest.approx(1)
    assert ccc([1, 2, 3], [5, 5, 5]) == 0


@given(target_pairs, st.floats(0.1, 10), st.floats(-10, 10))
def test_r_ignores_scale_and_offset_and_r_squared_ignores_sign_too(pair, scale, offset):
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


def test_metrics_of_tiny_numbers_are_defined():
    tiny = np.array([1.0, 2.0, 3.0]) * 1e-200
    assert pearson_r(tiny, [1.0, 2.0, 3.0]) == spearman(tiny, [1.0, 2.0, 3.0]) == pytest.approx(1)
    assert ccc(tiny, tiny) == pytest.approx(1)


# The table


def test_each_task_has_its_metrics_the_headline_first():
    names = {task: [metric.name for metric in metrics_for(of_task)] for task, of_task in TASKS.items()}
    assert names == {
        Classification: [
            *("accuracy", "macro_f1", "balanced_accuracy", "recall"),
            *("precision_at_5", "map", "r_precision", "hubness"),
        ],
        Tags: ["roc_auc", "average_precision", "precision_at_5", "map", "r_precision", "ndcg_at_5", "hubness"],
        Regression: ["r", "r_squared", "r2", "spearman", "rmse", "mae", "ccc", "ndcg_at_5", "hubness"],
    }
    assert [headline(task).name for task in TASKS.values()] == ["accuracy", "roc_auc", "r"]
    assert {metric.name: metric for metric in METRICS} == {metric.name: metric_named(metric.name) for metric in METRICS}


def test_the_headline_can_be_chosen():
    assert headline(TASKS[Regression], "rmse").name == "rmse"
    assert [one.name for one in metrics_for(TASKS[Tags], "average_precision")][:2] == ["average_precision", "roc_auc"]


@pytest.mark.parametrize(
    ("task", "metric", "said"),
    [
        (Classification, "rmse", r"--metric rmse .*classes.*accuracy, macro_f1 or balanced_accuracy"),
        (Classification, "recall", r"--metric recall .*accuracy, macro_f1 or balanced_accuracy"),
        (Classification, "map", r"--metric map .*accuracy, macro_f1 or balanced_accuracy"),
        (Tags, "accuracy", r"--metric accuracy .*tags.*roc_auc or average_precision"),
        (Regression, "macrof1", r"--metric macrof1: .*macro_f1"),
        (Regression, "volume", r"--metric volume: .*roc_auc"),
    ],
)
def test_a_metric_that_a_task_does_not_have_is_an_error(task, metric, said):
    with pytest.raises(SpecError, match=said):
        headline(TASKS[task], metric)


@given(class_pairs, tag_pairs, target_pairs)
@pytest.mark.parametrize("metric", OF_PREDICTIONS, ids=lambda metric: metric.name)
def test_no_score_is_outside_the_range_of_its_metric_and_undefined_ones_have_a_reason(metric, classes, tags, targets):
    truth, prediction = columns_of(metric, classes, tags, targets)
    low, high = metric.range
    value = metric.function(*((truth, prediction) if metric.column else (truth[:, 0], prediction[:, 0])))
    assert np.isnan(value) or low <= value <= high
    assert np.isnan(value) == bool(metric.why_undefined(truth, prediction))


@pytest.mark.parametrize("metric", [m for m in METRICS if m.column], ids=lambda metric: metric.name)
def test_columns_are_scored_as_each_is_alone(metric):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (30, 4)) if metric.task is not Regression else rng.integers(0, 9, (30, 4)) / 2
    prediction = rng.integers(0, 2, (30, 4)) if metric.task is Classification else rng.integers(0, 9, (30, 4)) / 2
    truth[:, 1], prediction[:, 2] = 1, 0
    alone = [metric.function(truth[:, column], prediction[:, column]) for column in range(4)]
    np.testing.assert_allclose(metric.function(truth, prediction), alone, rtol=1e-12, equal_nan=True)


# Undefined


@pytest.mark.parametrize(
    ("truth", "prediction", "reason"),
    [
        ([1.0, 2.0, 3.0], [0.1, 0.1, 0.1], "constant prediction"),
        ([0.1, 0.1, 0.1], [1.0, 2.0, 3.0], "constant truth"),
        ([0.0, 0.0], [0.0, 0.0], "constant truth"),
        ([1.0, 2.0, 3.0], [0.3, 0.1 + 0.2, 0.3], "constant prediction"),  # equal up to rounding
        ([1.0], [2.0], "constant truth"),
    ],
)
def test_correlation_with_a_constant_is_undefined_and_says_which_is_constant(truth, prediction, reason):
    for name in ("r", "r_squared", "spearman"):
        metric = metric_named(name)
        assert np.isnan(metric.function(truth, prediction))
        assert metric.why_undefined(np.array([truth]).T, np.array([prediction]).T) == [reason]
    assert np.isnan(r2_score(truth, prediction)) == np.isnan(ccc(truth, prediction)) == (reason == "constant truth")


@pytest.mark.parametrize(
    ("truth", "reasons"),
    [
        ([0, 0, 0], {"roc_auc": ["no positive"], "average_precision": ["no positive"]}),
        ([1, 1, 1], {"roc_auc": ["no negative"]}),
    ],
)
def test_a_tag_that_no_track_or_every_track_has_cannot_be_ranked(truth, reasons):
    truth, scores = np.array([truth]).T, np.array([[0.1, 0.5, 0.3]]).T
    found = {metric.name: metric.why_undefined(truth, scores) for metric in metrics_for(TASKS[Tags])[:2]}
    assert {name: why for name, why in found.items() if why} == reasons
    undefined = [
        metric.name for metric in metrics_for(TASKS[Tags])[:2] if np.isnan(metric.function(truth, scores)).all()
    ]
    assert undefined == list(reasons)


def test_a_class_without_a_track_has_no_recall_and_does_not_count_in_balanced_accuracy():
    assert np.isnan(recall([0, 0], [1, 0]))
    assert balanced_accuracy([0, 0, 1], [0, 2, 1]) == 0.75


@pytest.mark.parametrize("metric", [metric.function for metric in OF_PREDICTIONS])
@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([], [], r"\(0,\)"),
        ([1, 2], [1], r"\(2,\).*\(1,\)"),
        ([[[1]], [[2]]], [[[1]], [[2]]], r"\(2, 1, 1\)"),
        ([1, 2, 3], [1, np.nan, np.inf], "prediction.* 2 of 3 "),
    ],
)
def test_arrays_that_cannot_be_scored_are_an_error(metric, truth, prediction, message):
    with pytest.raises(EvaluationError, match=message):
        metric(truth, prediction)
