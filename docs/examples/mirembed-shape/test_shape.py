import numpy as np
import pytest
from scipy import signal, stats

from mirembed import AudioError, SamplesAudio
from mirembed.testing import features_checks
from mirembed_shape import RATE, Shape

NOISE = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)


@features_checks(Shape)
def test_it_passes_every_check_of_features(check):
    check()


def test_its_values_match_scipy():
    window = np.hanning(800)
    frames = np.lib.stride_tricks.sliding_window_view(NOISE, 800)[::400]
    frequencies, power = signal.periodogram(frames, RATE, window, detrend=False, scaling="spectrum")
    power[:, 1:-1] /= 2  # of one side only
    weights = power / power.sum(axis=1, keepdims=True)
    found = Shape().extract(SamplesAudio(NOISE, RATE))
    for row, (values, share) in enumerate(zip(found, weights, strict=True)):
        distribution = stats.rv_discrete(values=(np.arange(len(share)), share))
        step = frequencies[1]
        np.testing.assert_allclose(values[0], step * distribution.mean(), rtol=1e-3)
        np.testing.assert_allclose(values[1], step * distribution.std(), rtol=1e-3)
        np.testing.assert_allclose(values[2], stats.gmean(power[row]) / power[row].mean(), rtol=1e-3)


def test_a_tone_is_sharp_and_noise_is_flat():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    centroid, spread, flatness = Shape().extract(SamplesAudio(tone, RATE)).T
    np.testing.assert_allclose(centroid, 1000, atol=1)
    assert spread.max() < 30
    assert flatness.max() < 1e-4
    assert Shape().extract(SamplesAudio(NOISE, RATE))[:, 2].min() > 0.3


def test_audio_shorter_than_a_frame_is_refused():
    with pytest.raises(AudioError, match=r"0\.05 s"):
        Shape().extract(SamplesAudio(np.zeros(700), RATE))


@pytest.mark.parametrize(("parameters", "fact"), [({"hop": 0.01003}, "hop is 0.01003"), ({"frame": 0.01}, "frame is")])
def test_an_invalid_parameter_is_refused(parameters, fact):
    with pytest.raises(ValueError, match=fact):
        Shape(**parameters)
