"""The flat file of frames: reading it with little memory, and the statistics that need no reading."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_store import job, open_tracks, write_classes

from mirembed.fit.job import fit_models
from mirembed.registry import Registry
from mirembed.store.frame_file import KEPT_BYTES, FrameFile, Moments, each_run, reading_ahead

BANDS = 3


@st.composite
def tracks(draw: st.DrawFn) -> list[np.ndarray]:
    """Draw up to six tracks of up to eight frames each."""
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=6))
    return [draw(arrays(np.float32, (length, BANDS), elements=st.floats(-100, 40, width=32))) for length in lengths]


def laid_out(tracks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frames, starts and lengths."""
    lengths = np.array([len(track) for track in tracks])
    return np.concatenate(tracks), np.cumsum(lengths) - lengths, lengths


# ---- moments ------------------------------------------------------------------------------------------------------


@given(tracks())
def test_moments_are_computed_for_each_track_in_float64(tracks):
    moments = Moments.of(*laid_out(tracks))
    for row, track in enumerate(tracks):
        track = track.astype(np.float64)
        np.testing.assert_allclose(moments.means[row], track.mean(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moments.squares[row], track.var(axis=0) * len(track), rtol=1e-9, atol=1e-20)


@given(tracks(), st.data())
def test_combined_moments_are_the_statistics_of_all_frames(tracks, data):
    rows = data.draw(st.lists(st.integers(0, len(tracks) - 1), min_size=1, unique=True))
    frames, starts, lengths = laid_out(tracks)
    mean, variance = Moments.of(frames, starts[rows], lengths[rows]).together()
    frames = np.concatenate([tracks[row] for row in rows]).astype(np.float64)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(variance, frames.var(axis=0), rtol=1e-9, atol=1e-20)


def test_a_small_deviation_stays_precise_beside_a_large_mean():
    rng = np.random.default_rng(0)
    frames = (2.0**20 + rng.integers(0, 2, (5000, BANDS)) / 8).astype(
        np.float32
    )  # with sums of squares half of its digits are lost
    moments = Moments.of(frames, np.arange(0, 5000, 100), np.full(50, 100))
    expected = (frames.astype(np.float64) - 2.0**20).var(axis=0)
    np.testing.assert_allclose(moments.together()[1], expected, rtol=1e-9)


def test_no_tracks_have_no_moments():
    nothing = np.zeros(0, np.int64)
    assert Moments.of(np.zeros((5, BANDS), np.float32), nothing, nothing).means.shape == (0, BANDS)


# ---- the file -----------------------------------------------------------------------------------------------------


@given(tracks(), st.data())
def test_frames_and_moments_are_read_back_whatever_the_order_of_writing(tmp_path_factory, tracks, data):
    frames, starts, lengths = laid_out(tracks)
    file = FrameFile.at(tmp_path_factory.mktemp("cache") / "frames.f32", lengths, BANDS)
    assert not file.is_whole
    file.write((number, 0, tracks[number]) for number in data.draw(st.permutations(range(len(tracks)))))
    assert file.is_whole

    np.testing.assert_array_equal(file.open(), frames)
    np.testing.assert_array_equal(file.starts, starts)
    rows = data.draw(st.lists(st.integers(0, len(tracks) - 1), min_size=1, unique=True))
    chosen, expected = file.take(rows), Moments.of(frames, starts[rows], lengths[rows])
    for start, length, row in zip(chosen.starts, chosen.lengths, rows, strict=True):
        np.testing.assert_array_equal(chosen.open()[start : start + length], tracks[row])
    for name in ("counts", "means", "squares"):
        np.testing.assert_array_equal(getattr(chosen.moments(), name), getattr(expected, name))


def test_a_file_that_could_not_be_written_does_not_exist(tmp_path):
    file = FrameFile.at(tmp_path / "frames.f32", np.array([4, 4]), BANDS)

    def tracks():
        yield 0, 0, np.zeros((4, BANDS), np.float32)
        raise KeyError("the second track")

    with pytest.raises(KeyError):
        file.write(tracks())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("normalize", ["training", "dataset"])
def test_the_statistics_of_a_fold_need_no_frame_to_be_read(tmp_path, normalize):
    tracks = open_tracks(write_classes(tmp_path))
    rows = np.arange(3, len(tracks.ids))
    whole = tracks.frames["logmel"]
    measured = whole if normalize == "dataset" else whole.take(rows)
    frames = np.concatenate(list(each_run(whole.open(), measured.starts, measured.lengths))).astype(np.float64)
    with whole.path.open("r+b") as file:
        file.write(np.full(whole.shape, 1e6, np.float32).tobytes())  # but keep the moments

    model = fit_models(job(tracks, "stats", rows=rows, normalize=normalize), Registry.discover()).models["stats"]
    np.testing.assert_allclose(model.normalization.mean, frames.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(model.normalization.std, frames.std(axis=0), rtol=1e-6)


# ---- reading ------------------------------------------------------------------------------------------------------


class Advised:
    """Records the advice that a mapped file is given, in order."""

    def __init__(self, monkeypatch) -> None:
        self.asked: list[tuple[int, int]] = []
        self.released = 0
        advised = self

        class Mapping(mmap.mmap):
            def madvise(self, option, start=0, length=None):
                if option == mmap.MADV_WILLNEED:
                    advised.asked.append((start, start + length))
                    super().madvise(option, start, length)
                else:
                    advised.released += option == mmap.MADV_DONTNEED
                    super().madvise(option)

        monkeypatch.setattr(mmap, "mmap", Mapping)


def test_each_part_and_the_next_are_requested_ahead(tmp_path, monkeypatch):
    advised = Advised(monkeypatch)
    n_frames = 2**16
    file = FrameFile.at(tmp_path / "frames.f32", np.array([n_frames]), 32)  # rows of 128 bytes, 8 MiB
    file.write([(0, 0, np.random.default_rng(0).random((n_frames, 32), np.float32))])
    frames = file.open()
    parts = [(np.array([first, first + 100]), np.array([50, 60])) for first in range(0, n_frames, 2**13)]
    for expected, number in enumerate(reading_ahead(frames, parts)):
        assert number == expected
        runs = [run for part in parts[number : number + 2] for run in zip(*part, strict=True)]
        for (first, count), (begin, end) in zip(runs, advised.asked, strict=True):
            assert begin <= first * 128
            assert end == (first + count) * 128
        advised.asked.clear()
    assert number + 1 == len(parts)
    assert advised.released == 1


def test_what_was_read_leaves_the_memory_of_the_process_regularly(tmp_path, monkeypatch):
    advised = Advised(monkeypatch)
    n_frames = 3 * KEPT_BYTES // 128
    file = FrameFile.at(tmp_path / "frames.f32", np.array([n_frames]), 32)
    file.write([(0, 0, np.ones((n_frames, 32), np.float32))])
    first = np.arange(0, n_frames, 2**12)
    total = sum(float(run.sum()) for run in each_run(file.open(), first, np.full(len(first), 2**12)))
    assert total == n_frames * 32
    assert advised.released == 4


def test_frames_in_memory_need_no_advice():
    frames = np.random.default_rng(0).random((10, BANDS), np.float32)
    assert list(reading_ahead(frames, [(np.array([0]), np.array([5]))] * 3)) == [0, 1, 2]
    np.testing.assert_array_equal(
        np.concatenate(list(each_run(frames, np.array([4, 0]), np.array([2, 3])))), frames[[4, 5, 0, 1, 2]]
    )
