"""Fingerprints recognize a recording whatever was done to it, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from mirembed.audio.decoding import decode
from mirembed.datasets import duplicates
from mirembed.datasets.duplicates import SAME, Match, fingerprint, same_recordings
from mirembed_datasets.synthesis.composition import draw_clip
from mirembed_datasets.synthesis.synthesizer import render

pytestmark = pytest.mark.slow

RATE = 22_050
SECONDS = 16
N_OTHERS = 8
SCALE = (0, 2, 4, 5, 7, 9, 11, 12, 14, 16)


def recording(seed: int, seconds: float = SECONDS) -> np.ndarray:
    """Return two voices and drums in noise, different for each seed: float32 [n]."""
    rng = np.random.default_rng(seed)
    samples = np.zeros(round(seconds * RATE))
    beat, key = 60 / rng.uniform(80, 160), rng.integers(36, 60)
    for number, start in enumerate(np.arange(0, seconds, beat / 2)):
        for octave in (0, 2):
            pitch = 440 * 2 ** ((key + 12 * octave + rng.choice(SCALE) - 69) / 12)
            add(samples, start, note(pitch, beat * rng.choice([0.5, 1, 2]), brightness=rng.uniform(0.8, 1.5)))
        add(samples, start, snare(rng) if number % 2 else note(60, 0.2, brightness=3))
    return (0.2 * samples + 0.003 * rng.standard_normal(len(samples))).clip(-1, 1).astype(np.float32)


def note(pitch: float, seconds: float, brightness: float) -> np.ndarray:
    time_ = np.arange(round(seconds * RATE)) / RATE
    partials = sum(np.sin(2 * np.pi * h * pitch * time_) / h**brightness for h in range(1, 8))
    return partials * np.minimum(1, time_ / 0.01) * np.exp(-3 * time_)


def snare(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(RATE // 5) * np.exp(-30 * np.arange(RATE // 5) / RATE)


def add(samples: np.ndarray, start: float, sound: np.ndarray) -> None:
    first = round(start * RATE)
    samples[first : first + len(sound)] += sound[: len(samples) - first]


def tone(frequency: float, seconds: float = SECONDS) -> np.ndarray:
    """Return a steady tone, quantized to 16 bits."""
    samples = 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)
    return (np.round(samples * 2**15) / 2**15).astype(np.float32)


def silence(seconds: float = SECONDS) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def noise(seed: int, seconds: float = SECONDS) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


def words(samples: np.ndarray, rate: int = RATE) -> np.ndarray:
    return fingerprint(np.asarray(samples, np.float32), rate)


def search(*recordings: np.ndarray) -> list[Match]:
    return same_recordings([words(samples) for samples in recordings])


@pytest.fixture(scope="module")
def others() -> list[np.ndarray]:
    """Fingerprints of unrelated music."""
    return [words(recording(seed)) for seed in range(1, 1 + N_OTHERS)]


# Copies are found


def quieter(samples: np.ndarray) -> np.ndarray:
    return samples * 10 ** (-12 / 20)


def as_mp3(samples: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.7)
    return soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0]


def noisy(samples: np.ndarray) -> np.ndarray:
    """Add noise at a signal-to-noise ratio of 20 dB."""
    hiss = np.random.default_rng(0).standard_normal(len(samples))
    return samples + hiss * np.sqrt(np.mean(samples**2) / np.mean(hiss**2)) / 10


def dull(samples: np.ndarray) -> np.ndarray:
    return scipy.signal.lfilter(*scipy.signal.butter(1, 800, fs=RATE), samples)


def thin(samples: np.ndarray) -> np.ndarray:
    return scipy.signal.lfilter(*scipy.signal.butter(1, 1500, "highpass", fs=RATE), samples)


def shifted(samples: np.ndarray) -> np.ndarray:
    """Remove 62.274 steps at the beginning."""
    return samples[round(3.1137 * RATE) :]


def first_half(samples: np.ndarray) -> np.ndarray:
    return samples[: len(samples) // 2]


def second_half(samples: np.ndarray) -> np.ndarray:
    return samples[len(samples) // 2 :]


@pytest.mark.parametrize(
    ("change", "offset"),
    [
        (np.copy, 0),
        (quieter, 0),
        (as_mp3, 0),
        (noisy, 0),
        (dull, 0),
        (thin, 0),
        (shifted, 3.1137),
        (first_half, 0),
        (second_half, SECONDS / 2),
    ],
)
def test_a_changed_copy_is_found_with_its_offset(
    others: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray], offset: float
) -> None:
    original = recording(0)
    prints = [words(original), *others, words(change(original))]
    (match,) = same_recordings(prints)
    assert (match.first, match.second) == (0, len(prints) - 1)
    assert match.offset == pytest.approx(offset, abs=0.1)
    (reverse,) = same_recordings(prints[::-1])
    assert (reverse.first, reverse.second) == (0, len(prints) - 1)
    assert reverse.offset == pytest.approx(-offset, abs=0.1)
    assert reverse.difference == match.difference


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_copy_at_another_sampling_rate_is_found(others: list[np.ndarray], rate: int) -> None:
    original = recording(0)
    copy = scipy.signal.resample(original, SECONDS * rate)
    (match,) = same_recordings([words(original), *others, words(copy, rate)])
    assert (match.first, match.second) == (0, 1 + N_OTHERS)
    assert match.offset == pytest.approx(0, abs=0.1)


def test_an_unchanged_copy_has_no_differing_bits_and_comes_first(others: list[np.ndarray]) -> None:
    original = recording(0)
    prints = [words(noisy(original)), *others, words(original), words(original)]
    matches = same_recordings(prints)
    assert [(match.first, match.second) for match in matches] == [(9, 10), (0, 9), (0, 10)]
    assert matches[0] == Match(9, 10, 0, 0)
    assert 0 < matches[1].difference <= SAME


def test_a_copy_between_silences_is_found_at_its_offset(others: list[np.ndarray]) -> None:
    original = recording(0, 10)
    first = np.concatenate([silence(9), original, silence(4)])
    second = np.concatenate([silence(2), original, silence(20)])
    (match,) = same_recordings([words(first), *others, words(second)])
    assert (match.first, match.second) == (0, 1 + N_OTHERS)
    assert match.offset == pytest.approx(7, abs=0.1)


@pytest.mark.parametrize("period", [0.5, 2.0])
def test_in_a_loop_the_smallest_of_equal_offsets_is_chosen(period: float) -> None:
    loop = np.tile(recording(3, period), round(20 / period))
    assert search(loop, loop) == [Match(0, 1, 0, 0)]


# Nothing else is found


def test_unrelated_recordings_never_match(others: list[np.ndarray]) -> None:
    assert same_recordings(others) == []


@pytest.mark.parametrize("seconds", [0, 0.01, 1.6, 3, 4.99])
def test_a_recording_shorter_than_five_seconds_never_matches(seconds: float) -> None:
    original = recording(0)
    short = original[: round(seconds * RATE)]
    assert search(short, short, original) == []


def test_seven_seconds_are_enough() -> None:
    original = recording(0)
    (match,) = search(original, original[5 * RATE : 12 * RATE])
    assert match.offset == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize(
    "sounds",
    [
        pytest.param([silence(), silence()], id="silence"),
        pytest.param([silence(), silence(SECONDS + 0.3), silence(30)], id="silence of several lengths"),
        pytest.param([silence() + 0.1, silence() + 0.2], id="an offset"),
        pytest.param([tone(440), tone(440), -tone(440) / 3], id="one steady tone"),
        pytest.param([tone(frequency) for frequency in np.linspace(200, 2000, 20)], id="steady tones"),
        pytest.param([noise(seed) for seed in range(10)], id="noise"),
        pytest.param([np.round(noise(seed) * 10) / 2**15 for seed in range(5)], id="dither"),
    ],
)
def test_sounds_without_information_never_match(sounds: list[np.ndarray]) -> None:
    assert search(*sounds) == []


@pytest.mark.parametrize("before", [14, 0, 7])
def test_shared_silence_does_not_make_music_match(before: float) -> None:
    """Each track is three seconds of music and fourteen of silence, which they share."""
    assert search(*[np.concatenate([silence(before), recording(s, 3), silence(14 - before)]) for s in range(8)]) == []


def test_shared_tones_in_pauses_do_not_make_music_match() -> None:
    assert search(*[np.concatenate([tone(1000, 8), recording(seed, 4), tone(1000, 8)]) for seed in range(8)]) == []


def test_two_pieces_in_one_style_and_tempo_do_not_match() -> None:
    waltzes = [render(draw_clip(0, number)) / 2**15 for number in (6, 14)]
    assert search(*waltzes) == []


# Edge cases


def test_nothing_is_found_without_fingerprints() -> None:
    assert same_recordings([]) == []
    assert same_recordings([np.zeros(0, np.uint32)] * 2) == []
    assert same_recordings([words(recording(0))]) == []


def test_a_sampling_rate_without_the_highest_band_has_no_fingerprint() -> None:
    assert len(words(recording(0), rate=8000)) == 0
    assert len(words(recording(0), rate=9000)) > 0


def test_a_fingerprint_has_24_bits_every_50_ms() -> None:
    prints = words(recording(0))
    assert prints.dtype == np.uint32
    assert prints.max() < 2**24
    assert len(prints) == pytest.approx((SECONDS - 1.6) / 0.05, abs=2)


def test_silence_and_tones_have_empty_words() -> None:
    assert not words(silence()).any()
    assert not words(tone(440)).any()
    assert np.count_nonzero(words(recording(0))) > 250


def test_the_search_is_deterministic(others: list[np.ndarray]) -> None:
    original = recording(0)
    prints = [words(original), *others, words(noisy(original)), words(shifted(original))]
    np.testing.assert_array_equal(words(original), prints[0])
    assert same_recordings(prints) == same_recordings(prints)


def test_many_silent_tracks_and_many_copies_give_few_matches() -> None:
    """Comparing all pairs at all offsets would find, and cost, a hundred times as much."""
    quiet, music = words(silence(30)), words(recording(0))
    assert same_recordings([quiet] * 400) == []
    matches = same_recordings([music] * 200)
    assert {track for match in matches for track in (match.first, match.second)} == set(range(200))
    assert len(matches) < 2000


# Real music


def test_no_two_clips_of_real_music_match(real_data: Path) -> None:
    clips = sorted(real_data.glob("gtzan_mini/genres/*/*.wav"))[::2]
    clips += sorted(real_data.glob("emotify_mini/emotifymusic/*/*.mp3"))[::2]
    assert len(clips) == 60
    assert same_recordings([real_words(clip) for clip in clips]) == []


def test_copies_of_real_music_are_found(real_data: Path) -> None:
    clips = sorted(real_data.glob("gtzan_mini/genres/*/*.wav"))[::10]
    copies = []
    for clip in clips:
        audio = decode(clip)
        copies.append(fingerprint(as_mp3(shifted(audio.samples)), audio.rate))
    matches = same_recordings([*(real_words(clip) for clip in clips), *copies])
    assert sorted((match.first, match.second) for match in matches) == [(i, i + len(clips)) for i in range(len(clips))]
    assert all(match.offset == pytest.approx(3.1137, abs=0.1) for match in matches)


def real_words(clip: Path) -> np.ndarray:
    audio = decode(clip)
    return fingerprint(audio.samples, audio.rate)


# Large libraries


def library_of_words(n_tracks: int, values: int, length: int = 300) -> list[np.ndarray]:
    """Fingerprints of few values, so that many words are shared by chance, with copies: shifted, damaged, looped."""
    rng = np.random.default_rng(n_tracks)
    vocabulary = rng.integers(0, 2**24, values).astype(np.uint32)
    tracks = [rng.choice(vocabulary, rng.integers(length // 2, length)) for _ in range(n_tracks)]
    for source in range(0, n_tracks, 5):
        flips = np.where(rng.random((24, len(tracks[source]))) < rng.uniform(0, 0.26), 1, 0)
        damaged = tracks[source] ^ (flips << np.arange(24)[:, None]).sum(axis=0).astype(np.uint32)
        tracks.append(np.concatenate([rng.choice(vocabulary, rng.integers(0, 50)), damaged[rng.integers(0, 20) :]]))
    loop = rng.choice(vocabulary, 40)
    tracks += [np.tile(loop, 5), np.tile(loop, 4)[7:], np.zeros(200, np.uint32), np.zeros(0, np.uint32)]
    for track in tracks:
        track[rng.random(len(track)) < 0.05] = 0
    return tracks


def reference(fingerprints: list[np.ndarray]) -> list[Match]:
    """What the search must find, by plain loops: words are equal to the next 8 at most, by position, then by track."""
    places = [(int(word), place, track) for track, words in enumerate(fingerprints) for place, word in enumerate(words)]
    places = sorted(place for place in places if place[0])
    best: dict[tuple[int, int], tuple[float, ...]] = {}
    for number, (word, place, track) in enumerate(places):
        for other_word, other_place, other in places[number + 1 : number + 9]:
            if word != other_word or track == other:
                continue
            first, second = min(track, other), max(track, other)
            offset = place - other_place if track == first else other_place - place
            pairs = [
                (int(fingerprints[first][at]), int(fingerprints[second][at - offset]))
                for at in range(len(fingerprints[first]))
                if 0 <= at - offset < len(fingerprints[second])
            ]
            pairs = [(a, b) for a, b in pairs if a and b]
            difference = sum((a ^ b).bit_count() for a, b in pairs) / max(1, 24 * len(pairs))
            if len(pairs) >= 100 and difference <= SAME:
                found = (difference, abs(offset), -offset)
                best[first, second] = min(found, best.get((first, second), found))
    ranked = sorted((difference, size, pair, -negative) for pair, (difference, size, negative) in best.items())
    return [Match(*pair, offset * duplicates.STEP, difference) for difference, _, pair, offset in ranked]


@pytest.mark.parametrize(("n_tracks", "values"), [(20, 30), (40, 5000)])
def test_comparing_words_in_parts_finds_what_plain_loops_find(monkeypatch, n_tracks, values):
    monkeypatch.setattr(duplicates, "_COMPARED", 100)
    fingerprints = library_of_words(n_tracks, values)
    expected = reference(fingerprints)
    assert len(expected) >= 3
    for share in (2**19, 256):
        monkeypatch.setattr(duplicates, "_SHARE", share)
        assert same_recordings(fingerprints) == expected
