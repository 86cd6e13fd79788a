"""Metrics of many resamples at once are those of each resample on its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirembed import statistics
from mirembed.statistics import bootstrap_interval
from mirembed.statistics.resampling import resampled

METRICS = {
    "accuracy": statistics.accuracy,
    "macro_f1": statistics.macro_f1,
    "r": statistics.pearson_r,
    "r_squared": statistics.r_squared,
    "r2": statistics.r2_score,
}


def one_by_one(name, truth, prediction, tracks, drawn):
    """The metric of the rows of the drawn tracks, resample after resample."""
    values = []
    for tracks_of_resample in drawn:
        rows = np.concatenate([np.flatnonzero(tracks == track) for track in tracks_of_resample])
        values.append(METRICS[name](truth[rows], prediction[rows]))
    return values


@given(seed=st.integers(0, 2**32 - 1), n_tracks=st.integers(1, 12), rows_of_track=st.integers(1, 3))
@pytest.mark.parametrize("name", METRICS)
def test_a_resample_has_the_metric_of_its_rows(name, seed, n_tracks, rows_of_track):
    rng = np.random.default_rng(seed)
    tracks = np.concatenate([np.arange(n_tracks), rng.integers(0, n_tracks, n_tracks * (rows_of_track - 1))])
    if name in ("accuracy", "macro_f1"):
        truth, prediction = rng.integers(0, 4, (2, len(tracks)))
    else:
        truth = rng.normal(rng.normal(0, 100), 10.0 ** rng.integers(-6, 7), len(tracks))
        prediction = truth * rng.normal() + rng.normal(0, 1, len(tracks)) * np.abs(truth).max()
    drawn = rng.integers(0, n_tracks, (5, n_tracks))
    at_once = resampled(name, truth, prediction, tracks, n_tracks)(drawn)
    np.testing.assert_allclose(at_once, one_by_one(name, truth, prediction, tracks, drawn), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["r", "r_squared", "r2"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_a_constant_prediction_and_a_constant_truth_score_nothing(name, value):
    varied, constant = np.arange(6.0), np.full(6, value)
    tracks, drawn = np.arange(6), np.array([[0, 1, 2, 3, 4, 5], [2, 2, 2, 2, 2, 2]])
    for truth, prediction in ((varied, constant), (constant, varied), (varied, varied)):
        expected = one_by_one(name, truth, prediction, tracks, drawn)
        at_once = resampled(name, truth, prediction, tracks, 6)(drawn)
        np.testing.assert_allclose(at_once, expected, rtol=1e-9, atol=1e-12)


def test_the_interval_is_the_same_either_way():
    rng = np.random.default_rng(0)
    truth, prediction = rng.normal(size=(2, 40))
    fast = resampled("r", truth, prediction, np.arange(40), 40)
    slow = bootstrap_interval(lambda drawn: statistics.pearson_r(truth[drawn], prediction[drawn]), 40)
    quick = bootstrap_interval(
        lambda drawn: statistics.pearson_r(truth[drawn], prediction[drawn]), 40, of_resamples=fast
    )
    assert (quick.mean, quick.low, quick.high) == pytest.approx((slow.mean, slow.low, slow.high), rel=1e-12)
