"""Metrics of many resamples at once equal those of each resample on its own, and make percentile intervals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mirembed import Classification, Regression
from mirembed.statistics.intervals import Interval, percentile_interval
from mirembed.statistics.metrics import METRICS, metric_named
from mirembed.statistics.resampling import resample_counts

OF_PREDICTIONS = [metric for metric in METRICS if metric.source == "predictions"]


def rows_drawn(units, counts):
    """Return the rows of a resample, each as often as its unit is drawn."""
    return np.repeat(np.arange(len(units)), counts[units].astype(int))


def one_by_one(metric, truth, prediction, units, counts):
    """Compute the metric of the rows of each resample, one after another: ``[n_resamples, n_columns]``."""
    values = []
    for of_resample in counts:
        rows = rows_drawn(units, of_resample)
        if metric.column:
            values.append(metric.function(truth[rows], prediction[rows]))
        else:
            values.append([metric.function(truth[rows].argmax(axis=1), prediction[rows].argmax(axis=1))])
    return np.array(values)


def at_once(metric, truth, prediction, units, counts):
    statistics = metric.resampled.prepare(truth, prediction, units, counts.shape[1])(counts)
    return metric.resampled.metric(statistics).reshape(len(counts), -1)


def random_columns(metric, rng, n):
    """Return truth and prediction of three columns; the last target has few different values."""
    if metric.task is Classification:
        return (np.eye(3)[rng.integers(0, 3, n)] for _ in range(2))
    if metric.task is Regression:
        truth = rng.normal(rng.normal(0, 100), 10.0 ** rng.integers(-6, 7), (n, 3))
        prediction = truth * rng.normal() + rng.normal(0, 1, (n, 3)) * np.abs(truth).max()
        truth[:, 2], prediction[:, 2] = rng.integers(0, 4, (2, n))
        return truth, prediction
    return (rng.random((n, 3)) < 0.4).astype(float), rng.integers(0, 6, (n, 3)) / 3


@given(seed=st.integers(0, 2**32 - 1), n_units=st.integers(1, 12), rows_of_unit=st.integers(1, 3))
@pytest.mark.parametrize("metric", OF_PREDICTIONS, ids=lambda metric: metric.name)
def test_a_resample_has_the_metric_of_its_rows(metric, seed, n_units, rows_of_unit):
    rng = np.random.default_rng(seed)
    units = np.concatenate([np.arange(n_units), rng.integers(0, n_units, n_units * (rows_of_unit - 1))])
    truth, prediction = random_columns(metric, rng, len(units))
    counts = np.array([np.bincount(rng.integers(0, n_units, n_units), minlength=n_units) for _ in range(5)], float)
    expected = one_by_one(metric, truth, prediction, units, counts)
    np.testing.assert_allclose(at_once(metric, truth, prediction, units, counts), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("metric", [m for m in METRICS if m.task is Regression], ids=lambda metric: metric.name)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_constants_are_undefined_either_way(metric, value):
    varied, constant = np.arange(6.0)[:, None], np.full((6, 1), value)
    units, counts = np.arange(6), np.array([[1, 1, 1, 1, 1, 1], [0, 0, 6, 0, 0, 0]], float)
    for truth, prediction in ((varied, constant), (constant, varied), (varied, varied)):
        expected = one_by_one(metric, truth, prediction, units, counts)
        found = at_once(metric, truth, prediction, units, counts)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_a_resample_without_rows_has_no_score():
    units, counts = np.array([0, 0, 0]), np.array([[2.0, 0.0], [0.0, 2.0]])
    for metric in OF_PREDICTIONS:
        truth, prediction = (np.array(columns) for columns in ([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]],) * 2)
        found = at_once(metric, truth, prediction, units, counts)
        assert np.isfinite(found[0]).all()
        assert np.isnan(found[1]).all()


# Resamples and intervals


def test_each_resample_draws_as_many_units_as_there_are():
    chunks = list(resample_counts(300))
    counts = np.concatenate(chunks)
    assert counts.shape == (1000, 300)
    assert len(chunks) > 1
    assert (counts.sum(axis=1) == 300).all()
    assert counts.min() == 0
    np.testing.assert_array_equal(np.concatenate(list(resample_counts(300))), counts)


def test_the_interval_is_the_percentile_interval_of_scipy():
    values = np.random.default_rng(3).normal(size=30)
    counts = np.concatenate(list(resample_counts(30)))
    interval = percentile_interval(values.mean(), counts @ values / 30)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=1000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert interval.mean == values.mean()
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(
    "name", ["accuracy", "balanced_accuracy", "roc_auc", "average_precision", "r", "spearman", "mae"]
)
def test_the_interval_of_a_metric_is_the_percentile_interval_over_tracks(name, confidence):
    rng, metric, tracks = np.random.default_rng(0), metric_named(name), np.arange(60)
    truth = np.eye(3)[rng.integers(0, 3, 60)]
    prediction = np.where(rng.random((60, 1)) < 0.7, truth, np.eye(3)[rng.integers(0, 3, 60)])
    counts = np.concatenate(list(resample_counts(60)))
    interval = percentile_interval(0.5, at_once(metric, truth, prediction, tracks, counts)[:, 0], confidence)
    other = np.array([np.bincount(rng.integers(0, 60, 60), minlength=60) for _ in range(3000)], float)
    values = one_by_one(metric, truth, prediction, tracks, other)[:, 0]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.2 * (high - low))


def test_the_interval_of_a_mean_is_near_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(5, 2, 400)
    counts = np.concatenate(list(resample_counts(400, resamples=4000)))
    interval = percentile_interval(values.mean(), counts @ values / 400)
    error = values.std() / np.sqrt(400)
    expected = (values.mean() - 1.96 * error, values.mean() + 1.96 * error)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=0.1 * error)


def test_resamples_in_which_a_metric_is_undefined_are_left_out_of_its_interval():
    assert percentile_interval(0.5, np.array([0.2, np.nan, 0.2, np.nan])) == Interval(0.5, 0.2, 0.2)
    assert percentile_interval(0.5, np.full(3, np.nan)) == Interval(0.5, None, None)
    assert percentile_interval(None, np.array([0.2, 0.4])) == Interval(None, None, None)
