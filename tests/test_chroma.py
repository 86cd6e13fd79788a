"""The features ``chroma`` hear pitch classes, whatever the octave, the sampling rate and the lengths of the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mirembed
from mirembed import AudioError, SamplesAudio
from mirembed.errors import ParameterError, SpecError
from mirembed.features import resolve_features
from mirembed.registry import Registry
from mirembed_features.chroma import Chroma
from mirembed_features.logmel import LogMel

RATES = [22_050, 44_100, 48_000]
A, C, E, G = 440.0, 261.6256, 329.6276, 391.9954


def tones(*frequencies: float, rate: int = 22_050, seconds: float = 1.0) -> SamplesAudio:
    time = np.arange(round(seconds * rate)) / rate
    return SamplesAudio(sum(0.2 * np.sin(2 * np.pi * f * time) for f in frequencies), rate)


@pytest.mark.parametrize("rate", RATES)
def test_the_first_value_is_a(rate: int) -> None:
    frames = Chroma().extract(tones(A, rate=rate))
    assert frames.dtype == np.float32
    assert set(frames.argmax(axis=1)) == {0}
    np.testing.assert_array_equal(frames[:, 0], 1)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("semitones", range(-12, 24))
def test_every_semitone_is_heard_in_its_class(rate: int, semitones: int) -> None:
    frames = Chroma().extract(tones(A * 2 ** (semitones / 12), rate=rate, seconds=0.3))
    assert set(frames[5:-5].argmax(axis=1)) == {semitones % 12}


@pytest.mark.parametrize("rate", RATES)
def test_a_major_triad_is_its_three_classes(rate: int) -> None:
    mean = Chroma().extract(tones(C, E, G, rate=rate)).mean(axis=0)
    assert set(np.argsort(mean)[-3:]) == {3, 7, 10}


def test_octaves_have_the_same_profile() -> None:
    low, high = (Chroma().extract(tones(*(f * octave for f in (C, E, G)))) for octave in (1, 2))
    np.testing.assert_allclose(low[10:-10].mean(axis=0), high[10:-10].mean(axis=0), atol=0.05)


def test_all_sampling_rates_give_the_same_profiles() -> None:
    expected = Chroma().extract(tones(C, E, G))
    for rate in RATES:
        np.testing.assert_allclose(Chroma().extract(tones(C, E, G, rate=rate)), expected, atol=0.05)


def test_thirty_six_values_tell_thirds_of_a_semitone() -> None:
    for third in range(36):
        frames = Chroma(size=36).extract(tones(A * 2 ** (third / 36), seconds=0.3))
        assert set(frames[5:-5].argmax(axis=1)) == {third}


@pytest.mark.parametrize("amplitude", [0, 2**-15])
def test_silence_and_dither_are_zeros(amplitude: float) -> None:
    noise = amplitude * np.random.default_rng(0).uniform(-1, 1, 22_050)
    assert not Chroma().extract(SamplesAudio(noise, 22_050)).any()


@given(rate=st.sampled_from([16_000, 22_050, 44_100, 48_000]), n_samples=st.integers(2_400, 40_000))
def test_there_are_as_many_frames_as_of_logmel(rate: int, n_samples: int) -> None:
    audio = SamplesAudio(np.random.default_rng(n_samples).normal(0, 0.1, n_samples), rate)
    assert len(Chroma().extract(audio)) == len(LogMel().extract(audio))


def test_a_note_begins_in_the_frame_where_logmel_hears_it() -> None:
    rate = 44_100
    samples = np.concatenate([np.zeros(rate), 0.3 * np.sin(2 * np.pi * A * np.arange(rate) / rate)])
    audio = SamplesAudio(samples, rate)
    power = 10 ** (LogMel().extract(audio) / 10)
    begin = int(np.argmax(power.max(axis=1) > power.max() / 4))  # half of the frame's window is in the note
    heard = int(np.argmax(Chroma().extract(audio).any(axis=1)))
    assert 0 <= begin - heard <= 4  # its frames reach 75 ms farther to both sides


@pytest.mark.parametrize("block", [1, 777, 22_050])
def test_the_lengths_of_blocks_do_not_matter(block: int) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 9_000)
    whole = Chroma().extract(SamplesAudio(samples, 22_050))
    np.testing.assert_array_equal(Chroma().extract(SamplesAudio(samples, 22_050, block=block)), whole)


def test_it_stacks_with_logmel_if_the_hop_is_the_same() -> None:
    info = resolve_features(Registry.discover(), "logmel+chroma")
    assert (info.values, info.hop) == (52, 0.025)
    with pytest.raises(SpecError):
        resolve_features(Registry.discover(), "logmel+chroma:hop=0.05")


def test_audio_without_a_frame_or_harmonics_is_refused() -> None:
    with pytest.raises(AudioError, match=r"0\.05"):
        Chroma().extract(SamplesAudio(np.zeros(1_000), 22_050))
    with pytest.raises(AudioError, match="4000"):
        Chroma().extract(SamplesAudio(np.zeros(4_000), 4_000))


@pytest.mark.parametrize("parameters", ["size=24", "frame=0.01", "frame=3", "frame=nan", "hop=0", "hop=nan"])
def test_a_parameter_out_of_range_is_refused(parameters: str) -> None:
    with pytest.raises(ParameterError, match=parameters.partition("=")[2]):
        resolve_features(Registry.discover(), f"chroma:{parameters}")


@pytest.mark.parametrize("name", ["chroma", "descriptors"])
def test_without_essentia_it_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirembed, "essentia_error", lambda: "No module named 'essentia'", raising=False)
    with pytest.raises(ParameterError, match="No module named 'essentia'"):
        resolve_features(Registry.discover(), name)
