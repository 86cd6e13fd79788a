"""The demo dataset: what it lists, what it writes, and that its music matches its parameters."""

from __future__ import annotations

import subprocess
import sys
import wave
from collections import Counter, defaultdict
from dataclasses import replace
from math import log2

import numpy as np
import pytest

from mirembed import Classification, DatasetError, Regression, Tags, Target
from mirembed_datasets.demo import Demo
from mirembed_datasets.synthesis.composition import CLIP_SECONDS, TIMING, compose, draw_clip, draw_clips
from mirembed_datasets.synthesis.styles import PARTS, STYLES
from mirembed_datasets.synthesis.synthesizer import DRUMS, INSTRUMENTS, SAMPLE_RATE, render

NAMES = ("waltz", "jig", "swing", "bossa", "house", "trance", "rock", "reggae")
CLIPS = draw_clips()


@pytest.fixture
def audio(tmp_path):
    """A folder with an empty file for every clip: listing does not read the audio."""
    for clip in CLIPS:
        (tmp_path / clip.id).parent.mkdir(exist_ok=True)
        (tmp_path / clip.id).touch()
    return tmp_path


def decibels(samples):
    return 10 * np.log10(np.mean((samples / 32768) ** 2))


def first_of(style):
    return draw_clip(NAMES.index(style), 0)


# What it lists


def test_there_are_fifteen_clips_of_each_of_eight_styles(audio):
    listing = Demo().listing(audio)
    assert listing.task == Classification(NAMES)
    assert Counter(track.label for track in listing.tracks) == dict.fromkeys(NAMES, 15)
    assert listing.absent == 0


def test_an_id_is_the_path_below_the_audio_folder(audio):
    tracks = Demo().listing(audio).tracks
    assert tracks[3].id == "waltz/waltz-03.wav"
    assert all(track.path == audio / track.id for track in tracks)
    assert len({track.id for track in tracks}) == 120


def test_a_band_plays_three_clips_of_one_style(audio):
    labels = defaultdict(list)
    for track in Demo().listing(audio).tracks:
        labels[track.group].append(track.label)
    assert len(labels) == 40
    assert all(len(played) == 3 and len(set(played)) == 1 for played in labels.values())


def test_missing_clips_are_counted_as_absent(audio):
    (audio / "jig/jig-00.wav").unlink()
    listing = Demo().listing(audio)
    assert (len(listing.tracks), listing.absent) == (119, 1)
    assert "jig/jig-00.wav" not in {track.id for track in listing.tracks}


@pytest.mark.parametrize("folder", ["", "not-there"])
def test_a_folder_without_clips_is_an_error_that_says_how_to_synthesize_them(tmp_path, folder):
    with pytest.raises(DatasetError, match=r"waltz/waltz-00\.wav.*\n?.*mirembed extract --dataset demo"):
        Demo().listing(tmp_path / folder)


def test_the_regression_task_lists_the_same_tracks_with_arousal_and_valence(audio):
    styles, emotions = Demo().listing(audio), Demo(task="regression").listing(audio)
    assert emotions.task == Regression((Target("arousal", 1, 9), Target("valence", 1, 9)))
    assert [track.id for track in emotions.tracks] == [track.id for track in styles.tracks]
    assert [track.group for track in emotions.tracks] == [track.group for track in styles.tracks]


def test_the_tags_are_the_instruments_and_four_traits(audio):
    styles, tagged = Demo().listing(audio), Demo(task="tags").listing(audio)
    assert isinstance(tagged.task, Tags)
    assert len(tagged.task.classes) == 20
    assert tagged.task.classes[-4:] == ("fast", "minor", "bright", "loud")
    assert [track.id for track in tagged.tracks] == [track.id for track in styles.tracks]
    for clip, track in zip(CLIPS, tagged.tracks, strict=True):
        instruments = {clip.band.instruments[part] for part in ("bass", "chords", "lead")}
        assert track.label - {"fast", "minor", "bright", "loud"} == instruments
        assert ("fast" in track.label) == (clip.tempo >= 120)
        assert ("minor" in track.label) == (clip.mode in ("minor", "dorian"))
        assert ("bright" in track.label, "loud" in track.label) == (clip.brightness > 0.3, clip.loudness > 0.3)


def test_every_tag_is_of_several_bands_and_of_no_majority(audio):
    tracks = Demo(task="tags").listing(audio).tracks
    bands = defaultdict(set)
    for track in tracks:
        for tag in track.label:
            bands[tag].add(track.group)
    assert min(map(len, bands.values())) >= 3
    assert max(Counter(tag for track in tracks for tag in track.label).values()) < 60


def test_emotions_follow_the_stated_formula(audio):
    mode = {"major": 1, "mixolydian": 0.5, "dorian": -0.5, "minor": -1}
    for clip, track in zip(CLIPS, Demo(task="regression").listing(audio).tracks, strict=True):
        pace = log2(clip.tempo / 110) / 0.75
        ornaments = 2 * clip.density - 1
        assert track.label == pytest.approx(
            (
                5 + 4 * (0.45 * pace + 0.2 * ornaments + 0.2 * clip.loudness + 0.15 * clip.brightness),
                5 + 4 * (0.4 * mode[clip.mode] + 0.25 * pace + 0.35 * clip.brightness),
            )
        )


def test_emotions_cover_the_scale_from_1_to_9_and_stay_within_it(audio):
    values = np.array([track.label for track in Demo(task="regression").listing(audio).tracks])
    assert values.min() >= 1
    assert values.max() <= 9
    assert (values.std(axis=0) > 0.8).all()


def test_importing_the_plugin_does_not_import_the_synthesizer():
    code = "import sys, mirembed_datasets.demo; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "mirembed_datasets.demo" in loaded
    assert not {"scipy", "mirembed_datasets.synthesis"} & set(loaded)


# What it writes


def test_only_missing_clips_are_written(audio):
    for missing in ("waltz/waltz-00.wav", "rock/rock-14.wav"):
        (audio / missing).unlink()
    assert Demo().synthesize(audio) == 2
    assert Demo().synthesize(audio) == 0
    assert (audio / "waltz/waltz-01.wav").stat().st_size == 0
    assert sum(1 for path in audio.rglob("*") if path.is_file()) == 120


def test_a_clip_is_ten_seconds_of_16_bit_mono_at_22050_hz(audio):
    (audio / "bossa/bossa-07.wav").unlink()
    Demo(task="regression").synthesize(audio)
    with wave.open(str(audio / "bossa/bossa-07.wav")) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (1, 2, 22050)
        assert wav.getnframes() == 220500
        assert wav.readframes(220500) == render(draw_clip(NAMES.index("bossa"), 7)).tobytes()


def test_a_folder_that_cannot_be_written_is_an_error_that_names_the_clip(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"cannot write .*waltz-00\.wav"):
        Demo().synthesize(tmp_path / "file")


def test_a_write_that_fails_leaves_no_file_behind(audio, monkeypatch):
    def fail(wav, data):
        raise OSError(28, "No space left on device")

    (audio / "waltz/waltz-00.wav").unlink()
    monkeypatch.setattr(wave.Wave_write, "writeframes", fail)
    with pytest.raises(DatasetError, match="No space left"):
        Demo().synthesize(audio)
    assert len(list((audio / "waltz").iterdir())) == 14


# Reproducibility


def test_a_clip_does_not_depend_on_what_was_rendered_before():
    alone = render(first_of("trance"))
    render(first_of("reggae"))
    assert render(first_of("trance")).tobytes() == alone.tobytes()


@pytest.mark.parametrize(
    ("style", "tempo", "level", "roughness"),
    [
        ("waltz", 104.19, -18.99, -25.07),
        ("jig", 96.47, -24.23, -31.62),
        ("swing", 128.90, -21.72, -28.93),
        ("bossa", 136.14, -22.30, -37.34),
        ("house", 116.85, -24.29, -32.11),
        ("trance", 121.92, -18.80, -25.67),
        ("rock", 104.19, -15.43, -23.79),
        ("reggae", 94.32, -22.44, -30.47),
    ],
)
def test_the_first_clip_of_each_style_is_the_published_one(style, tempo, level, roughness):
    """Tempo, level in dB, and level of the differences of successive samples, which must never change."""
    clip = first_of(style)
    samples = render(clip).astype(float)
    assert clip.tempo == pytest.approx(tempo, abs=0.01)
    assert decibels(samples) == pytest.approx(level, abs=0.02)
    assert decibels(np.diff(samples)) == pytest.approx(roughness, abs=0.02)


# The music matches its parameters


def test_every_style_has_instruments_and_as_many_patterns_for_every_part():
    sounds = set(INSTRUMENTS) | set(DRUMS)
    for style in STYLES:
        assert set(style.instruments) == set(style.grooves) == set(PARTS)
        assert len({len(patterns) for patterns in style.grooves.values()}) == 1
        assert sounds >= {name for names in style.instruments.values() for name in names}


def test_every_note_belongs_to_the_scale_of_its_clip():
    semitones = {
        "major": {0, 2, 4, 5, 7, 9, 11},
        "mixolydian": {0, 2, 4, 5, 7, 9, 10},
        "dorian": {0, 2, 3, 5, 7, 9, 10},
        "minor": {0, 2, 3, 5, 7, 8, 10},
    }
    for clip in CLIPS:
        notes = [note for part in compose(clip).notes.values() for note in part]
        played = {round(note.pitch - clip.band.tuning / 100 - clip.tonic) % 12 for note in notes}
        assert played <= semitones[clip.mode]


def test_every_part_sounds_throughout_the_clip():
    for clip in CLIPS:
        score = compose(clip)
        for sounds in (*score.notes.values(), *score.hits.values()):
            assert all(0 <= sound.start <= CLIP_SECONDS + 1 for sound in sounds)
        assert min(notes[-1].start for notes in score.notes.values()) > CLIP_SECONDS / 2


@pytest.mark.parametrize(("style", "beats"), [("waltz", 3), ("jig", 2), ("house", 1), ("trance", 1)])
def test_the_low_drum_follows_the_meter(style, beats):
    clip = replace(first_of(style), density=0.0)
    period = 60 / clip.tempo * beats
    starts = {round(hit.start / period) for hit in compose(clip).hits["low"]}
    assert starts == set(range(len(starts)))
    assert len(starts) == pytest.approx(CLIP_SECONDS / period, abs=1)


def test_swing_plays_the_second_quaver_late_and_bossa_does_not():
    def place_of_second_quaver(clip):
        beat = 60 / clip.tempo
        return [hit.start % beat / beat for hit in compose(clip).hits["high"] if hit.step % 2]

    late = TIMING * 184 / 60
    for index in range(15):
        assert all(0.61 - late <= place <= 0.68 + late for place in place_of_second_quaver(draw_clip(2, index)))
        assert all(0.5 - late <= place <= 0.5 + late for place in place_of_second_quaver(draw_clip(3, index)))


def test_density_adds_ornaments_and_nothing_else():
    def hits(density):
        drums = compose(replace(first_of("swing"), density=density)).hits
        return [(drum, hit.step, hit.symbol) for drum, played in drums.items() for hit in played]

    bare, full = hits(0.0), hits(1.0)
    assert {symbol for _, _, symbol in full} == {"x", "o"}
    assert [hit for hit in full if hit[2] == "x"] == bare


def test_loudness_changes_the_level():
    quiet, loud = (decibels(render(replace(first_of("jig"), loudness=loudness))) for loudness in (-1.0, 1.0))
    assert loud - quiet == pytest.approx(10, abs=1)


def test_brightness_changes_the_spectrum():
    def share_above_1_khz(clip):
        power = np.abs(np.fft.rfft(render(clip))) ** 2
        return power[round(1000 * CLIP_SECONDS) :].sum() / power.sum()

    dark, bright = (replace(first_of("house"), brightness=brightness) for brightness in (-1.0, 1.0))
    assert share_above_1_khz(bright) > 3 * share_above_1_khz(dark)


def test_the_tempo_is_audible():
    """With the other parts turned down, the kick makes beats similar, and different from half a beat later."""
    drums_alone = {"bass": -60.0, "chords": -60.0, "lead": -60.0, "drums": 0.0}
    clip = replace(first_of("house"), balance=drums_alone)
    hop = 210
    envelope = np.abs(render(clip).astype(float)).reshape(-1, hop).mean(axis=1)
    beat = 60 / clip.tempo * SAMPLE_RATE / hop

    def likeness(beats):
        lag = round(beats * beat)
        return np.corrcoef(envelope[lag:], envelope[:-lag])[0, 1]

    assert likeness(1.0) > 0.5
    assert likeness(2.0) > 0.5
    assert likeness(1.5) < 0.2
