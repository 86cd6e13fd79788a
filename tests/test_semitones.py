"""The features ``semitones`` hear notes where they are, as a direct sum over the spectrum does, aligned with logmel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirembed import AudioError, SamplesAudio
from mirembed_features.logmel import LogMel
from mirembed_features.semitones import Semitones

RATES = [22_050, 44_100, 48_000]


def tone(frequency: float, rate: int = 22_050, seconds: float = 0.4) -> SamplesAudio:
    time = np.arange(round(seconds * rate)) / rate
    return SamplesAudio((0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32), rate)


@pytest.mark.parametrize("rate", RATES)
def test_every_note_is_loudest_in_its_band(rate):
    semitones = Semitones(backend="scipy")
    for band in range(0, 84, 7):
        frames = semitones.extract(tone(32.70319566 * 2 ** (band / 12), rate))
        assert frames.dtype == np.float32
        assert set(frames[5:-5].argmax(axis=1)) == {band}


def test_a_band_is_the_mean_power_under_its_triangle():
    """Computed from scratch: the spectrum at many more frequencies than an FFT has, and the triangle sampled there."""
    rate, length, fine = 22_050, 4410, 1 << 20
    samples = np.random.default_rng(0).normal(0, 0.1, rate).astype(np.float32)
    window = np.hamming(length)
    middle = Semitones(backend="scipy").extract(SamplesAudio(samples, rate))[10]
    start = math.floor(10 * 0.025 * rate) - (length - math.floor(0.05 * rate)) // 2
    power = np.abs(np.fft.rfft(samples[start : start + length] * window / window.sum(), fine)) ** 2
    frequencies = np.arange(len(power)) * rate / fine
    for band in range(48, 84):  # wide enough for the FFT's bins to sample the spectrum well
        low, peak, high = (440 * 2 ** ((24 + band + step - 69) / 12) for step in (-1, 0, 1))
        triangle = np.interp(frequencies, [low, peak, high], [0, 1, 0])
        assert middle[band] == pytest.approx(10 * np.log10((power * triangle).sum() / triangle.sum()), abs=0.2)


def test_the_weights_of_every_band_sum_to_one():
    for rate in (8373, 11_025, *RATES, 192_000):
        _, filters = Semitones().definition.filters(rate)
        np.testing.assert_allclose(filters.sum(axis=0), 1, atol=1e-12)
        assert filters.min() >= 0


def test_the_backends_and_the_sampling_rates_agree():
    frames = {backend: Semitones(backend=backend).extract(tone(440)) for backend in ("essentia", "scipy")}
    np.testing.assert_allclose(frames["essentia"], frames["scipy"], atol=0.01)
    for rate in RATES:
        other = Semitones(backend="scipy").extract(tone(440, rate))
        np.testing.assert_allclose(other[5:-5, 40:50], frames["scipy"][5:-5, 40:50], atol=0.1)


@settings(max_examples=20)
@given(rate=st.sampled_from([16_000, 22_050, 44_100]), n_samples=st.integers(2_400, 20_000))
def test_there_are_as_many_frames_as_of_logmel(rate, n_samples):
    audio = SamplesAudio(np.random.default_rng(n_samples).normal(0, 0.1, n_samples).astype(np.float32), rate)
    assert len(Semitones(backend="scipy").extract(audio)) == len(LogMel(backend="scipy").extract(audio))


def test_a_note_begins_in_the_frame_where_logmel_hears_it():
    samples = np.concatenate([np.zeros(22_050, np.float32), next(tone(440).blocks())])
    audio = SamplesAudio(samples, 22_050)
    heard = Semitones(backend="scipy").extract(audio)[:, 45]
    loud = LogMel(backend="scipy").extract(audio).max(axis=1)
    half = [np.argmax(10 ** (level / 10) > 0.5 * 10 ** (level.max() / 10)) for level in (heard, loud)]
    assert abs(half[0] - half[1]) <= 2


def test_recordings_that_are_too_short_or_have_too_low_a_rate_are_refused():
    with pytest.raises(AudioError, match=r"8000.*8373"):
        Semitones().extract(tone(440, 8000))
    with pytest.raises(AudioError, match=r"shorter than one frame of 0\.05"):
        Semitones().extract(tone(440, seconds=0.049))
    assert Semitones(bands=36).extract(tone(110, 8000)).shape[1] == 36


@pytest.mark.parametrize(
    "wrong", [{"bands": 0}, {"bands": 121}, {"frame": 0.04}, {"frame": 3}, {"hop": 0}, {"frame": math.nan}]
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        Semitones(**wrong)
