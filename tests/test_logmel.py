"""The features ``logmel`` agree with their definition, at every sampling rate and with every parameter."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import soundfile
from audio_files import log_mel, music, spectrogram
from hypothesis import given
from hypothesis import strategies as st

from mirembed import SamplesAudio, essentia_algorithm
from mirembed.errors import AudioError, ParameterError
from mirembed.features import resolve_features
from mirembed.registry import Registry
from mirembed_features.logmel import LogMel

RATES = [16_000, 22_050, 32_000, 44_100, 48_000, 96_000]
BACKENDS = ["essentia", "scipy"]
DEFINITION = LogMel().definition

POSITIONS = {
    "htk": lambda f: 2595 * np.log10(1 + f / 700),
    "bark": lambda f: 26.81 / (1 + 1960 / f) - 0.53,
    "erb": lambda f: 21.4 * np.log10(4.37 * f / 1000 + 1),
}


def slaneys_edges() -> list[float]:
    edges = [133.3333 + 66.6667 * step for step in range(13)]
    while len(edges) < 42:
        edges.append(edges[-1] * 1.0711703)
    return edges


def edges_between(low: float, high: float, bands: int, scale: str) -> np.ndarray:
    """Return edges at equal distances on a scale, found in a table of the scale's positions."""
    frequencies = np.linspace(low, high, 2_000_001)
    with np.errstate(divide="ignore"):
        positions = POSITIONS[scale](frequencies)
    return np.interp(np.linspace(positions[0], positions[-1], bands + 2), positions, frequencies)


def definition(samples: np.ndarray, rate: int, edges=None, frame="0.05", hop="0.025") -> np.ndarray:
    """Return the spectrogram in float64 numpy, following the definition."""
    edges = slaneys_edges() if edges is None else edges
    length = int(Fraction(frame) * rate)
    step = Fraction(hop) * rate
    n_frames = int((len(samples) - length) / step) + 1
    fft_size = 1
    while fft_size < length or rate / fft_size > np.diff(edges).min():
        fft_size *= 2

    turns = np.arange(length) / (length - 1)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * turns)
    window /= window.sum()

    frequencies = np.arange(fft_size // 2 + 1) * rate / fft_size
    filters = []
    for low, center, high in zip(edges, edges[1:], edges[2:], strict=False):
        rising, falling = (frequencies - low) / (center - low), (high - frequencies) / (high - center)
        height = 2 / (high - low)
        filters.append(height * np.clip(np.minimum(rising, falling), 0, None) * rate / fft_size)

    decibels = []
    for number in range(n_frames):
        start = int(number * step)
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
    assert_agrees(spectrogram(tmp_path / "a.wav", backend=backend), definition((left + right) / 2, rate))


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
    audio = SamplesAudio(samples, 22_050)
    audio.blocks = lambda: iter(np.split(samples, np.clip(np.cumsum(lengths), 0, len(samples))))
    features = LogMel(backend=backend)
    np.testing.assert_allclose(features.extract(audio), log_mel(samples, 22_050, backend=backend), rtol=0, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seconds", [0.3, 4])
@pytest.mark.parametrize("frame", [0.05, 0.2])
def test_spectra_of_many_frames_are_to_the_bit_those_of_each_frame_alone(frame, seconds, backend):
    rate = 22_050
    samples = noise(seconds, rate).astype(np.float32)
    features = LogMel(frame=frame, backend=backend)
    found, definition = features.extract(SamplesAudio(samples, rate)), features.definition
    length, size = definition.frame_length(rate), definition.fft_size(rate)
    bins, filters = definition.filters(rate)
    frames = [samples[start : start + length] for start in (i * 2205 // 4 for i in range(len(found)))]
    if backend == "essentia":
        padding = {"zeroPadding": size - length, "zeroPhase": False}
        hamming = {"type": "hamming", "normalized": False, "constantsDecimals": 2}
        window = essentia_algorithm("Windowing", size=length, **padding, **hamming).__compute__
        spectrum = essentia_algorithm("Spectrum", size=size).__compute__
        powers = np.array([np.square(spectrum(window(frame))[bins]) for frame in frames])
        total = window(np.ones(length, np.float32)).sum(dtype=np.float64)
    else:
        weights = np.hamming(length)
        spectra = [scipy.fft.rfft(frame * weights.astype(np.float32), size)[bins] for frame in frames]
        powers = np.array([np.square(spectrum.real) + np.square(spectrum.imag) for spectrum in spectra])
        total = weights.sum()
    scaled = (filters / total**2).astype(np.float32)
    # How a product of matrices is rounded depends on the number of rows.
    rows = [powers[first : first + 64] @ scaled for first in range(0, len(powers), 64)]
    bands = np.concatenate(rows).astype(np.float64)
    np.testing.assert_array_equal(found, (10 * np.log10(np.maximum(bands, 1e-10))).astype(np.float32))


def test_the_backend_is_essentia_where_it_is_installed():
    assert (LogMel().backend, LogMel(backend="scipy").backend) == ("essentia", "scipy")


def test_any_float_array_is_accepted():
    samples = music(0.5, 44_100)
    strided = np.stack([samples, samples], axis=1)[:, 0]
    np.testing.assert_array_equal(log_mel(strided, 44_100), log_mel(samples.astype(np.float32), 44_100))


# Frames and bands


@given(st.integers(13_800, 400_000))
def test_30_seconds_are_1199_frames_at_every_rate(rate):
    assert DEFINITION.count_frames(30 * rate, rate) == 1199


@given(st.integers(13_800, 192_000), st.integers(0, 10**9))
def test_the_last_frame_is_the_last_full_one(rate, n_samples):
    def end(frame: int) -> int:
        return frame * rate // 40 + rate // 20

    n_frames = DEFINITION.count_frames(n_samples, rate)
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
    edges = DEFINITION.edges()
    assert edges.shape == (42,)
    np.testing.assert_allclose(edges, slaneys_edges(), rtol=1e-12)
    np.testing.assert_allclose(edges[[0, 1, 12, 13, 41]], [133.3333, 200, 933.3337, 999.7594, 6853.8422], atol=1e-3)


# Parameters


@pytest.mark.parametrize(
    ("given", "edges"),
    [
        ({"bands": 20, "high": 933.3337}, np.linspace(133.3333, 933.3337, 22)),
        ({"bands": 13, "low": 933.3337}, slaneys_edges()[12] * 1.0711703 ** np.linspace(0, 29, 15)),
        ({"bands": 128, "low": 0, "high": 8000, "scale": "htk"}, edges_between(0, 8000, 128, "htk")),
        ({"bands": 24, "low": 20, "high": 7700, "scale": "bark"}, edges_between(20, 7700, 24, "bark")),
        ({"bands": 64, "low": 50, "high": 8000, "scale": "erb"}, edges_between(50, 8000, 64, "erb")),
        ({"bands": 1, "low": 300, "high": 500, "scale": "htk"}, edges_between(300, 500, 1, "htk")),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_bands_range_and_scale_agree_with_the_definition(given, edges, backend):
    samples = noise(0.5, 16_000).astype(np.float32)
    assert_agrees(log_mel(samples, 16_000, backend=backend, **given), definition(samples, 16_000, edges))


@pytest.mark.parametrize(("frame", "hop"), [("0.1", "0.01"), ("0.004", "0.0025"), ("0.032", "0.1")])
@pytest.mark.parametrize("backend", BACKENDS)
def test_frame_and_hop_agree_with_the_definition(frame, hop, backend):
    samples = noise(0.5, 22_050).astype(np.float32)
    frames = log_mel(samples, 22_050, backend=backend, frame=float(frame), hop=float(hop))
    assert_agrees(frames, definition(samples, 22_050, frame=frame, hop=hop))


def test_the_positions_on_the_scales_are_those_of_the_literature():
    middle = {scale: float(edges_of(1, 0, 2000, scale)[1]) for scale in ("htk", "bark", "erb")}
    # Half of 1521.4 mel, of -0.53 to 13.01 bark, and of 21.1 on the ERB-rate scale.
    assert middle == pytest.approx({"htk": 674.8, "bark": 662.2, "erb": 485.1}, rel=1e-3)


def edges_of(bands: int, low: float, high: float, scale: str) -> np.ndarray:
    return LogMel(bands=bands, low=low, high=high, scale=scale).definition.edges()


def test_many_narrow_bands_all_hear_noise():
    frames = log_mel(noise(0.5, 44_100), 44_100, bands=512, low=0, high=20_000)
    assert frames.shape == (19, 512)
    assert (frames[:, 1:] > -90).all()


@pytest.mark.parametrize(
    "given",
    [
        *(
            "bands=0",
            "bands=1025",
            "bands=500,high=200",
            "frame=0",
            "frame=nan",
            "frame=0.001,high=500",
            "hop=-1",
            "hop=1e9",
        ),
        *("low=-1", "low=7000", "low=nan", "high=inf", "high=1e9", "scale=mel", "backend=librosa"),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(given):
    with pytest.raises(ParameterError, match=given.partition("=")[0]):
        resolve_features(Registry.discover(), f"logmel:{given}")


def test_the_rate_that_is_too_low_follows_from_the_highest_edge():
    with pytest.raises(AudioError, match=r"22049 Hz.* 11025 Hz.* 22050"):
        log_mel(noise(1, 22_049), 22_049, high=11_025)
    assert log_mel(noise(1, 22_050), 22_050, high=11_025).shape == (39, 40)
    assert log_mel(noise(1, 8000), 8000, high=4000).shape == (39, 40)


# Refused audio


def test_a_rate_too_low_for_the_bands_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 8000), 8000)
    with pytest.raises(AudioError, match=r"8000 Hz.* 6854 Hz.* 13708"):
        spectrogram(tmp_path / "a.wav")
    assert log_mel(noise(1, 13_708), 13_708).shape == (39, 40)


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


# Real files


@pytest.mark.skipif("MIREMBED_REAL_DATA" not in os.environ, reason="needs real data: set MIREMBED_REAL_DATA")
@pytest.mark.parametrize("clips", ["gtzan_mini/**/*.wav", "emotify_mini/**/*.mp3"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_real_clips_agree_with_the_definition(clips, backend):
    paths = sorted(Path(os.environ["MIREMBED_REAL_DATA"]).glob(clips))
    for path in (paths[0], paths[-1]):
        samples, rate = soundfile.read(path, always_2d=True)
        assert_agrees(spectrogram(path, backend=backend), definition(samples.mean(axis=1), rate))
