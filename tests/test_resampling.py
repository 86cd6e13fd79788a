"""Metrics of many resamples at once equal those of each resample on its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirembed.hookspecs import Classification, Regression
from mirembed.statistics.intervals import bootstrap_interval
from mirembed.statistics.metrics import METRICS, metric_named


def one_by_one(metric, truth, prediction, tracks, drawn):
    """Compute the metric of the rows of the drawn tracks, one resample after another."""
    values = []
    for tracks_of_resample in drawn:
        rows = np.concatenate([np.flatnonzero(tracks == track) for track in tracks_of_resample])
        values.append(metric.function(truth[rows], prediction[rows]))
    return values


@given(seed=st.integers(0, 2**32 - 1), n_tracks=st.integers(1, 12), rows_of_track=st.integers(1, 3))
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_resample_has_the_metric_of_its_rows(metric, seed, n_tracks, rows_of_track):
    rng = np.random.default_rng(seed)
    tracks = np.concatenate([np.arange(n_tracks), rng.integers(0, n_tracks, n_tracks * (rows_of_track - 1))])
    if metric.task is Classification:
        truth, prediction = rng.integers(0, 4, (2, len(tracks)))
    else:
        truth = rng.normal(rng.normal(0, 100), 10.0 ** rng.integers(-6, 7), len(tracks))
        prediction = truth * rng.normal() + rng.normal(0, 1, len(tracks)) * np.abs(truth).max()
    drawn = rng.integers(0, n_tracks, (5, n_tracks))
    at_once = metric.resampled.prepare(truth, prediction, tracks, n_tracks)(drawn)
    np.testing.assert_allclose(at_once, one_by_one(metric, truth, prediction, tracks, drawn), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("metric", [m for m in METRICS if m.task is Regression], ids=lambda metric: metric.name)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_constants_score_the_same_either_way(metric, value):
    varied, constant = np.arange(6.0), np.full(6, value)
    tracks, drawn = np.arange(6), np.array([[0, 1, 2, 3, 4, 5], [2, 2, 2, 2, 2, 2]])
    for truth, prediction in ((varied, constant), (constant, varied), (varied, varied)):
        expected = one_by_one(metric, truth, prediction, tracks, drawn)
        at_once = metric.resampled.prepare(truth, prediction, tracks, 6)(drawn)
        np.testing.assert_allclose(at_once, expected, rtol=1e-9, atol=1e-12)


def test_the_interval_equals_that_of_one_resample_after_another():
    rng = np.random.default_rng(0)
    truth, prediction = rng.normal(size=(2, 40))
    metric, tracks = metric_named("r"), np.arange(40)
    fast = bootstrap_interval(0.5, metric.resampled.prepare(truth, prediction, tracks, 40), 40)
    slow = bootstrap_interval(0.5, lambda drawn: np.array(one_by_one(metric, truth, prediction, tracks, drawn)), 40)
    assert (fast.mean, fast.low, fast.high) == pytest.approx((slow.mean, slow.low, slow.high), rel=1e-12)
