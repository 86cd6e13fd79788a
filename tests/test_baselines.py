"""The baseline ``stats``: mean and deviation over time of what a network sees, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirembed.models import baselines
from mirembed.models.baselines import InputStatistics
from mirembed.store.frame_file import Moments
from mirembed.training.excerpts import Normalization

LENGTHS = np.array([30, 1, 250, 99, 2, 70])
STARTS = np.cumsum(LENGTHS) - LENGTHS
TRAINING = np.array([0, 2, 3, 5])


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).normal(-50, 10, (LENGTHS.sum(), 5)).astype(np.float32)


def fit(frames: np.ndarray, rows: np.ndarray = TRAINING, **options: Any) -> InputStatistics:
    places = frames, STARTS[rows], LENGTHS[rows]
    return InputStatistics.fit(*places, Normalization.fit(Moments.of(*places)), **options)


def expected(frames: np.ndarray, *, deltas: bool) -> np.ndarray:
    """Statistics of all tracks by numpy in float64, standardized on the training tracks."""
    tracks = np.split(frames.astype(np.float64), STARTS[1:])
    raw = []
    for track in tracks:
        seen = np.hstack([track, np.diff(track, axis=0, prepend=track[:1])]) if deltas else track
        raw.append(np.concatenate([seen.mean(axis=0), seen.std(axis=0)]))
    training = np.array(raw)[TRAINING]
    return (np.array(raw) - training.mean(axis=0)) / training.std(axis=0)


@pytest.mark.parametrize("deltas", [True, False])
@pytest.mark.parametrize("block", [10_000, 40, 1])
def test_they_are_mean_and_deviation_of_values_and_differences(frames, monkeypatch, deltas, block):
    monkeypatch.setattr(baselines, "BLOCK", block)
    statistics = fit(frames, deltas=deltas, one_frame=False)
    embedded = statistics.embed(frames, STARTS, LENGTHS)
    assert (embedded.dtype, embedded.shape) == (np.float32, (6, statistics.units))
    assert statistics.units == (20 if deltas else 10)
    np.testing.assert_allclose(embedded, expected(frames, deltas=deltas), rtol=1e-4, atol=1e-4)


def test_features_of_one_frame_are_taken_as_they_are():
    rng = np.random.default_rng(0)
    frames = rng.normal(7, 3, (40, 6)).astype(np.float32)
    frames[:, 2] = 5
    places = frames, np.arange(40), np.ones(40, np.int64)
    training = tuple(each[:30] for each in places[1:])
    normalization = Normalization.fit(Moments.of(frames, *training))
    statistics = InputStatistics.fit(frames, *training, normalization, deltas=False, one_frame=True)
    embedded = statistics.embed(*places)
    known = frames[:30].astype(np.float64)
    deviation = known.std(axis=0)
    deviation[2] = 1
    np.testing.assert_allclose(embedded, (frames - known.mean(axis=0)) / deviation, rtol=1e-4, atol=1e-5)
    assert np.abs(embedded[:, 2]).max() < 1e-6


def test_a_constant_value_is_not_blown_up_to_noise(frames):
    frames[:, 1] = -33.3
    embedded = fit(frames, deltas=True, one_frame=False).embed(frames, STARTS, LENGTHS)
    np.testing.assert_allclose(embedded[:, [1, 6, 11, 16]], 0, atol=1e-4)


@given(st.integers(0, 5))
def test_a_track_is_described_alone_as_among_others(row):
    frames = np.random.default_rng(0).normal(-50, 10, (LENGTHS.sum(), 5)).astype(np.float32)
    statistics = fit(frames, deltas=True, one_frame=False)
    alone = statistics.embed(frames, STARTS[[row]], LENGTHS[[row]])
    np.testing.assert_array_equal(alone, statistics.embed(frames, STARTS, LENGTHS)[[row]])


def test_nothing_but_the_training_tracks_decides_the_scale(frames):
    before = fit(frames, deltas=True, one_frame=False)
    frames[STARTS[4] : STARTS[5]] = 1000
    after = fit(frames, deltas=True, one_frame=False)
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.std, after.std)
