"""The features ``descriptors`` are those of Essentia's MusicExtractor, with a name each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mirembed import AudioError, SamplesAudio, essentia_algorithm
from mirembed_features.descriptors import NAMES, Descriptors

RATE = 44_100


def piece(seconds: float = 8.0, tempo: float = 120.0) -> np.ndarray:
    """A C major cadence over clicks at a tempo, in noise."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * RATE)) / RATE
    chords = [(60, 64, 67), (65, 69, 72), (67, 71, 74), (60, 64, 67)]
    which = np.minimum((4 * time / seconds).astype(int), 3)
    voices = [sum(np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * time) for note in chord) for chord in chords]
    clicks = np.exp(-40 * (time % (60 / tempo))) * rng.standard_normal(len(time))
    return 0.1 * np.choose(which, voices) + 0.3 * clicks + 0.001 * rng.standard_normal(len(time))


@pytest.fixture(scope="module")
def described() -> dict[str, float]:
    return dict(zip(NAMES, Descriptors().extract(SamplesAudio(piece(), RATE))[0].tolist(), strict=True))


def test_names_and_values_agree() -> None:
    features = Descriptors()
    frames = features.extract(SamplesAudio(piece(3), RATE))
    assert (frames.shape, frames.dtype, features.hop) == ((1, features.values), np.float32, None)
    assert len(set(NAMES)) == len(NAMES) == features.values
    assert np.isfinite(frames).all()


def test_they_say_what_is_heard(described: dict[str, float]) -> None:
    assert described["rhythm.bpm"] == pytest.approx(120, rel=0.03)
    assert described["tonal.key_edma.fifths_cos"] == pytest.approx(1)  # C
    assert described["tonal.key_edma.fifths_sin"] == pytest.approx(0, abs=1e-6)
    assert described["tonal.key_edma.major"] == 1
    assert described["tonal.tuning_frequency"] == pytest.approx(440, rel=0.01)


def test_they_are_what_the_extractor_finds_in_the_file(described: dict[str, float], tmp_path: Path) -> None:
    file = tmp_path / "piece.wav"
    soundfile.write(file, piece(), RATE, subtype="FLOAT")
    pool, _ = essentia_algorithm("MusicExtractor").__compute__(str(file))
    for name in ("lowlevel.spectral_centroid.mean", "lowlevel.dissonance.dmean", "rhythm.onset_rate"):
        assert described[name] == pytest.approx(pool.__value__(name, "REAL"), rel=1e-6)
    hpcp = [described[f"tonal.hpcp.mean[{index}]"] for index in range(36)]
    np.testing.assert_allclose(hpcp, pool.__value__("tonal.hpcp.mean", "VECTOR_REAL"), rtol=1e-6)


def test_neither_blocks_nor_repetitions_matter() -> None:
    whole = Descriptors().extract(SamplesAudio(piece(2), RATE))
    np.testing.assert_array_equal(Descriptors().extract(SamplesAudio(piece(2), RATE, block=1000)), whole)


def test_it_is_silent_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    Descriptors().extract(SamplesAudio(piece(1), RATE))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seconds", [1.0, 1.7])
def test_short_audio_has_them(seconds: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE))
    assert np.isfinite(Descriptors().extract(SamplesAudio(noise, RATE))).all()


@pytest.mark.parametrize(
    ("samples", "fact"), [(np.zeros(3 * RATE), "silent"), (piece(1)[: RATE // 2], "0.500 s")], ids=["silent", "short"]
)
def test_audio_that_says_too_little_is_refused(samples: np.ndarray, fact: str) -> None:
    with pytest.raises(AudioError, match=fact):
        Descriptors().extract(SamplesAudio(samples, RATE))


def test_audio_that_needs_too_much_memory_is_refused() -> None:
    audio = SamplesAudio(np.zeros(RATE), RATE)
    audio.duration = 2 * 3600.0
    with pytest.raises(AudioError, match="30 min"):
        Descriptors().extract(audio)
