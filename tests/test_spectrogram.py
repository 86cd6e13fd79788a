"""The log-mel spectrogram agrees with its definition, at every sampling rate."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import music
from hypothesis import given
from hypothesis import strategies as st

from mirembed.errors import AudioError, MismatchError, SpecError
from mirembed.spectrogram import (
    SpectrogramParameters,
    band_edges,
    choose_backend,
    count_frames,
    log_mel,
    spectrogram,
)
from mirembed.spectrogram.log_mel import LogMel
from mirembed.store.features import compare_parameters

RATES = [16_000, 22_050, 32_000, 44_100, 48_000, 96_000]
BACKENDS = ["essentia", "scipy"]


def definition(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the spectrogram in float64 numpy, following the definition."""
    length = rate * 50 // 1000
    n_frames = (len(samples) - length) * 1000 // (rate * 25) + 1
    fft_size = 1
    while fft_size < length:
        fft_size *= 2

    turns = np.arange(length) / (length - 1)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * turns)
    window /= window.sum()

    edges = [133.3333 + 66.6667 * step for step in range(13)]
    while len(edges) < 42:
        edges.append(edges[-1] * 1.0711703)
    frequencies = np.arange(fft_size // 2 + 1) * rate / fft_size
    filters = []
    for low, center, high in zip(edges, edges[1:], edges[2:], strict=False):
        rising, falling = (frequencies - low) / (center - low), (high - frequencies) / (high - center)
        height = 2 / (high - low)
        filters.append(height * np.clip(np.minimum(rising, falling), 0, None) * rate / fft_size)

    decibels = []
    for frame in range(n_frames):
        start = frame * rate * 25 // 1000
        spectrum = np.fft.rfft(samples[start : start + length].astype(np.float64) * window, fft_size)
        decibels.append(10 * np.log10(np.maximum(np.array(filters) @ np.abs(spectrum) ** 2, 1e-10)))
    return np.array(decibels)


def noise(seconds: float, rate: int) -> np.ndarray:
    return 0.2 * np.random.default_rng(4).standard_normal(round(seconds * rate))


def chirp(seconds: float, rate: int) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return 0.9 * np.sin(2 * np.pi * (50 * time + 3500 / seconds * time**2))


def tone_over_a_whisper(seconds: float, rate: int) -> np.ndarray:
    """Return a loud tone and, 90 dB below it, noise in all bands, which an imprecise computation loses."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.9 * np.sin(2 * np.pi * 200 * time) + 2e-5 * noise(seconds, rate)


def assert_agrees(frames: np.ndarray, expected: np.ndarray) -> None:
    assert frames.shape == expected.shape
    audible = expected > expected.max() - 100
    np.testing.assert_allclose(frames[audible], expected[audible], rtol=0, atol=0.01)


# Agreement with the definition


@pytest.mark.parametrize("sound", [noise, chirp, music, tone_over_a_whisper])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mono_clip_agrees_with_the_definition(rate, sound, backend):
    samples = sound(1.1, rate).astype(np.float32)
    frames = log_mel(samples, rate, backend=backend)
    assert frames.dtype == np.float32
    assert_agrees(frames, definition(samples, rate))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stereo_file_agrees_with_the_definition_for_its_mean(tmp_path, rate, backend):
    left, right = chirp(1, rate), music(1, rate)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), rate, subtype="FLOAT")
    result = spectrogram(tmp_path / "a.wav", backend=backend)
    assert_agrees(result.frames, definition((left + right) / 2, rate))
    assert (result.duration, result.decoder, result.decoder_messages) == (1.0, "soundfile", 0)
    assert result.backend == backend
    assert len(bytes.fromhex(result.audio_hash)) == 16


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_music_has_nearly_the_same_spectrogram_at_another_rate(backend):
    low, high = (log_mel(music(4, rate), rate, backend=backend) for rate in (22_050, 44_100))
    audible = high > high.max() - 40
    difference = (low - high)[audible]
    assert abs(difference.mean()) < 0.02
    assert np.quantile(np.abs(difference), 0.99) < 0.1


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_silence_is_minus_100_decibels(rate, backend):
    assert (log_mel(np.zeros(rate), rate, backend=backend) == -100).all()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("sound", [chirp, music])
def test_the_backends_agree(rate, sound):
    samples = sound(1.1, rate)
    assert_agrees(log_mel(samples, rate, backend="scipy"), log_mel(samples, rate, backend="essentia"))


@given(st.lists(st.integers(0, 5000), max_size=30), st.sampled_from(BACKENDS))
def test_samples_may_come_in_pieces_of_any_length(lengths, backend):
    samples = chirp(1, 22_050).astype(np.float32)
    stream = LogMel(22_050, SpectrogramParameters(), backend)
    for piece in np.split(samples, np.clip(np.cumsum(lengths), 0, len(samples))):
        stream.add(piece)
    np.testing.assert_allclose(stream.frames(), log_mel(samples, 22_050, backend=backend), rtol=0, atol=1e-3)


def test_an_unknown_backend_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(SpecError, match=r"librosa.*auto, essentia or scipy"):
        choose_backend("librosa")


def test_any_float_array_is_accepted():
    samples = music(0.5, 44_100)
    strided = np.stack([samples, samples], axis=1)[:, 0]
    np.testing.assert_array_equal(log_mel(strided, 44_100), log_mel(samples.astype(np.float32), 44_100))


# Frames and bands


@given(st.integers(13_800, 400_000))
def test_30_seconds_are_1199_frames_at_every_rate(rate):
    assert count_frames(30 * rate, rate) == 1199


@given(st.integers(13_800, 192_000), st.integers(0, 10**9))
def test_the_last_frame_is_the_last_full_one(rate, n_samples):
    def end(frame: int) -> int:
        return frame * rate // 40 + rate // 20

    n_frames = count_frames(n_samples, rate)
    assert n_frames == 0 or end(n_frames - 1) <= n_samples
    assert n_samples < end(n_frames) + (rate % 40 > 0)


def test_the_hop_is_not_rounded_to_samples():
    rate, last = 22_050, 1198
    first_sample = 660_397  # floor(1198 * 551.25)
    for position, heard in ((first_sample - 1, False), (first_sample, True)):
        samples = np.zeros(30 * rate)
        samples[position] = 1
        assert (log_mel(samples, rate)[last].max() > -100) == heard


def test_the_edges_of_the_bands_are_slaneys():
    edges = band_edges()
    assert edges.shape == (42,)
    np.testing.assert_allclose(edges[[0, 1, 12, 13, 41]], [133.3333, 200, 933.3337, 999.7594, 6853.8422], atol=1e-3)


# Refused audio


def test_a_rate_too_low_for_the_bands_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 8000), 8000)
    with pytest.raises(AudioError, match=r"8000 Hz.* 6854 Hz.* 13800"):
        spectrogram(tmp_path / "a.wav")
    assert log_mel(noise(1, 13_800), 13_800).shape == (39, 40)


def test_a_clip_shorter_than_one_frame_is_refused(tmp_path):
    samples = noise(0.05, 16_000)
    assert len(log_mel(samples, 16_000)) == 1
    with pytest.raises(AudioError, match=r"0\.050 s.* 0\.05 s"):
        log_mel(samples[:-1], 16_000)


@pytest.mark.parametrize("value", [np.nan, 1e30, 1e60])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_power_that_is_not_finite_is_refused(value, backend):
    with pytest.raises(AudioError, match="NaN or too large"):
        log_mel(np.full(16_000, value), 16_000, backend=backend)


# Parameters


@pytest.mark.parametrize("field", [field.name for field in fields(SpectrogramParameters)])
def test_spectrograms_made_with_another_value_of_any_field_are_refused(field):
    default = SpectrogramParameters()
    value = getattr(default, field)
    other = replace(default, **{field: value + 1 if isinstance(value, int | float) else "hann"})
    with pytest.raises(MismatchError, match=f"{field}={getattr(other, field)}"):
        compare_parameters(other.to_json(), default.to_json(), "the store", "this version")


def test_parameters_survive_a_round_trip_through_json():
    default = SpectrogramParameters()
    assert SpectrogramParameters(**json.loads(json.dumps(default.to_json()))) == default


@pytest.mark.parametrize(
    ("field", "value", "shape"),
    [("bands", 30, (39, 30)), ("hop_seconds", 0.05, (20, 40)), ("frame_seconds", 0.1, (37, 40))],
)
def test_other_parameters_are_used(field, value, shape):
    parameters = replace(SpectrogramParameters(), **{field: value})
    assert log_mel(noise(1, 22_050), 22_050, parameters).shape == shape


# Real files


@pytest.mark.skipif("MIREMBED_REAL_DATA" not in os.environ, reason="needs real data: set MIREMBED_REAL_DATA")
@pytest.mark.parametrize("clips", ["gtzan_mini/**/*.wav", "emotify_mini/**/*.mp3"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_real_clips_agree_with_the_definition(clips, backend):
    paths = sorted(Path(os.environ["MIREMBED_REAL_DATA"]).glob(clips))
    for path in paths[:: len(paths) // 4]:
        samples, rate = soundfile.read(path, always_2d=True)
        assert_agrees(spectrogram(path, backend=backend).frames, definition(samples.mean(axis=1), rate))
