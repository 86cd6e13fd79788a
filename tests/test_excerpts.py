"""The input of the network: random excerpts of normalized frames with first differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mirembed.config.defaults import EXCERPT
from mirembed.store.frame_file import Moments
from mirembed.training.excerpts import Normalization, draw_offsets, epoch_batches, gather

track_lengths = st.lists(st.integers(1, 250), min_size=1, max_size=40).map(np.array)
decibels = st.floats(-100, 40, width=32)


def random_tracks(*lengths: int, n_bands: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frames, starts and lengths of tracks of noise."""
    frames = np.random.default_rng(0).normal(-50, 10, (sum(lengths), n_bands)).astype(np.float32)
    return frames, np.cumsum([0, *lengths[:-1]]), np.array(lengths)


def expected_inputs(track: np.ndarray, normalization: Normalization) -> np.ndarray:
    """Return bands and first differences of a whole track in float64: [n_frames, 2 * n_bands]."""
    normalized = (track.astype(np.float64) - normalization.mean) / normalization.std
    return np.hstack([normalized, np.diff(normalized, axis=0, prepend=normalized[:1])])


@st.composite
def spectrograms(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=6))
    return draw(arrays(np.float32, (sum(lengths), 3), elements=decibels)), lengths


@given(spectrograms(), st.data())
def test_statistics_are_those_of_all_frames_of_the_given_tracks(spectrogram, data):
    frames, lengths = spectrogram
    starts = np.cumsum([0, *lengths[:-1]])
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, unique=True))
    normalization = Normalization.fit(Moments.of(frames, starts[rows], np.array(lengths)[rows]))

    together = np.concatenate([frames[starts[row] : starts[row] + lengths[row]] for row in rows]).astype(np.float64)
    std = together.std(axis=0)
    np.testing.assert_allclose(normalization.mean, together.mean(axis=0), rtol=1e-6, atol=1e-6)
    certain = (std > 1e-3) | (std == 0)
    np.testing.assert_allclose(normalization.std[certain], np.where(std > 0, std, 1)[certain], rtol=1e-4)
    assert normalization.mean.dtype == normalization.std.dtype == np.float32


def test_statistics_of_many_frames_far_from_zero_are_exact():
    frames, starts, lengths = random_tracks(20_000, 30_000)
    normalization = Normalization.fit(Moments.of(frames, starts, lengths))
    np.testing.assert_allclose(normalization.mean, frames.mean(axis=0, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(normalization.std, frames.std(axis=0, dtype=np.float64), rtol=1e-7)


def test_a_frame_outside_the_given_tracks_changes_nothing():
    frames, starts, lengths = random_tracks(30, 20, 10)
    before = Normalization.fit(Moments.of(frames, starts[[0, 2]], lengths[[0, 2]]))
    frames[30:50] = 1000
    after = Normalization.fit(Moments.of(frames, starts[[0, 2]], lengths[[0, 2]]))
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.std, after.std)


@pytest.mark.parametrize("level", [0.0, -100.0, -33.3])
def test_a_constant_band_becomes_zero(level):
    frames, starts, lengths = random_tracks(50, 70)
    frames[:, 1] = level
    normalization = Normalization.fit(Moments.of(frames, starts, lengths))
    assert normalization.std[1] == 1
    inputs, _ = gather(frames, starts, lengths, np.array([0, 0]), 50, normalization)
    np.testing.assert_allclose(inputs[:, :, [1, 5]], 0, atol=1e-5)


@given(st.integers(0, 80), st.integers(1, 40))
def test_an_excerpt_is_part_of_the_whole_track(offset, n_frames):
    frames, starts, lengths = random_tracks(7, 120, 9)
    normalization = Normalization.fit(Moments.of(frames, starts, lengths))
    inputs, inside = gather(frames, starts[[1]], lengths[[1]], np.array([offset]), n_frames, normalization)

    whole = expected_inputs(frames[7:127], normalization)
    assert inputs.dtype == inside.dtype == np.float32
    assert (inputs.shape, inside.tolist()) == ((1, n_frames, 8), [[1] * n_frames])
    # Also at the excerpt's first frame the difference is that to the true frame before.
    np.testing.assert_allclose(inputs[0], whole[offset : offset + n_frames], rtol=1e-4, atol=1e-5)


def test_the_first_difference_of_a_track_is_zero_whatever_precedes_it():
    frames, starts, lengths = random_tracks(20, 30, 40)
    normalization = Normalization.fit(Moments.of(frames, starts, lengths))
    inputs, _ = gather(frames, starts, lengths, np.zeros(3, np.int64), 20, normalization)
    np.testing.assert_array_equal(inputs[:, 0, 4:], 0)
    assert (inputs[:, 1:, 4:] != 0).all()


def test_a_short_track_is_used_whole_and_its_padding_is_marked():
    frames, starts, lengths = random_tracks(30, 130)
    normalization = Normalization.fit(Moments.of(frames, starts, lengths))
    inputs, inside = gather(frames, starts, lengths, np.array([0, 12]), EXCERPT, normalization)
    np.testing.assert_array_equal(inside, [[1] * 30 + [0] * 70, [1] * 100])
    np.testing.assert_allclose(inputs[0, :30], expected_inputs(frames[:30], normalization), rtol=1e-4, atol=1e-5)
    assert np.isfinite(inputs).all()


def test_an_excerpt_beyond_the_end_of_a_track_holds_nothing_of_the_next_track():
    frames, starts, lengths = random_tracks(30, 130)
    normalization = Normalization.fit(Moments.of(frames, starts, lengths))
    frames[30:] = 1e6
    inputs, inside = gather(frames, starts[:1], lengths[:1], np.array([100]), EXCERPT, normalization)
    np.testing.assert_array_equal(inside, 0)
    assert np.abs(inputs).max() < 100


@given(track_lengths, st.integers(0, 2**32))
def test_an_excerpt_lies_inside_its_track(lengths, seed):
    offsets = draw_offsets(np.random.default_rng(seed), lengths, EXCERPT)
    assert (offsets >= 0).all()
    assert (offsets <= np.maximum(lengths - EXCERPT, 0)).all()


def test_all_positions_of_an_excerpt_are_equally_likely():
    lengths = np.full(20_000, EXCERPT + 3)
    counts = np.bincount(draw_offsets(np.random.default_rng(0), lengths, EXCERPT))
    np.testing.assert_allclose(counts, 5_000, rtol=0.05)


@given(track_lengths, st.integers(1, 50), st.integers(0, 1000), st.integers(0, 9), st.integers(0, 400))
def test_an_epoch_takes_one_excerpt_of_every_track(lengths, batch, seed, fold, epoch):
    batches = list(epoch_batches((seed, fold), epoch, lengths, batch))
    rows = np.concatenate([rows for rows, _ in batches])
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(lengths)))
    sizes = [len(rows) for rows, _ in batches]
    assert sizes[:-1] == [batch] * (len(sizes) - 1)
    assert 1 <= sizes[-1] <= batch
    for rows, offsets in batches:
        assert (offsets <= np.maximum(lengths[rows] - EXCERPT, 0)).all()


def drawn(seed: int, fold: int, epoch: int) -> list[list[list[int]]]:
    lengths = np.arange(150, 190)
    return [[rows.tolist(), offsets.tolist()] for rows, offsets in epoch_batches((seed, fold), epoch, lengths, 32)]


def test_draws_depend_on_seed_fold_and_epoch_alone():
    np.random.seed(3)
    first = drawn(1, 2, 3)
    np.random.seed(4)
    assert drawn(1, 2, 3) == first
    others = [drawn(0, 2, 3), drawn(1, 0, 3), drawn(1, 2, 0), drawn(2, 1, 3), drawn(1, 3, 2)]
    assert first not in others


def test_the_batch_size_does_not_change_the_excerpts():
    lengths = np.arange(150, 190)
    by_batch = [
        {
            int(row): int(offset)
            for rows, offsets in epoch_batches((0, 0), 0, lengths, batch)
            for row, offset in zip(rows, offsets, strict=True)
        }
        for batch in (1, 7, 40)
    ]
    assert by_batch[0] == by_batch[1] == by_batch[2]
