"""What features are, how their plugins hear a recording, and what becomes of plugins that break their promises."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
import soxr
from audio_files import loud_then_quiet, music, spectrogram, write_mp3

from mirembed import AudioError, SamplesAudio
from mirembed.audio import decoding
from mirembed.audio.decoding import decode, read_recording
from mirembed.errors import MismatchError, PluginError, SpecError
from mirembed.features import FeaturesInfo, resolve_features, split_spec
from mirembed.features.compute import compute, create_features
from mirembed.registry import Plugin, Registry

RATE = 22_050


class Levels:
    """Peak and mean level in frames of 0.1 s."""

    values: Any = 2
    hop: Any = 0.1

    def extract(self, audio):
        samples = np.concatenate(list(audio.blocks()))
        frames = samples[: len(samples) // (audio.rate // 10) * (audio.rate // 10)].reshape(-1, audio.rate // 10)
        return np.stack([np.abs(frames).max(axis=1), np.abs(frames).mean(axis=1)], axis=1)


class Lookup:
    """One vector per recording, without its sound."""

    values, hop = 3, None

    def extract(self, audio):
        return np.full((1, 3), len(audio.ids), np.float32)


def registry(**factories: Any) -> Registry:
    """The built-in plugins, and features of the distribution ``mirembed-test``."""
    others = [Plugin("features", name, factory, "", "mirembed-test", "2.1") for name, factory in factories.items()]
    return Registry([*Registry.discover().plugins, *others])


def computed(plugins: Registry, spec: str, path: Path, ids: tuple[str, ...] = ()):
    """Compute features; return their frames or reasons by spec, and the sound."""
    parts = resolve_features(plugins, spec).parts
    found = compute([(part, create_features(plugins, part)) for part in parts], path, ids)
    results = {**found.frames, **found.failures}
    return {part.spec: results[part.digest] for part in parts}, found.sound


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", music(2, RATE), RATE)
    return tmp_path / "a.wav"


@pytest.fixture
def decodings(monkeypatch) -> list[Path]:
    """The files that soundfile has decoded, or begun to."""
    seen: list[Path] = []
    original = decoding._blocks_by_soundfile

    def noted(path, mpeg):
        seen.append(path)
        yield from original(path, mpeg)

    monkeypatch.setattr(decoding, "_blocks_by_soundfile", noted)
    return seen


# Which features are the same


def digest(spec: str, plugins: Registry | None = None) -> str:
    return resolve_features(plugins or Registry.discover(), spec).parts[0].digest


def test_the_digest_depends_on_the_values_of_parameters_and_not_on_how_they_are_written():
    assert digest("logmel") == digest("logmel:bands=40") == digest("mirembed/logmel:hop=0.025,frame=0.05")
    assert digest("logmel") == digest("logmel:backend=scipy")
    others = ["bands=80", "frame=0.1", "hop=0.05", "low=20", "high=6000", "scale=htk"]
    assert len({digest("logmel"), *(digest(f"logmel:{other}") for other in others)}) == 7


def test_a_change_of_the_code_makes_other_features_unless_the_version_promises_the_same():
    class Promised(Levels):
        version = "1"

    class OfCode(Plugin):
        code = ""

    def of(factory, code):
        OfCode.code = code
        return digest("x", Registry([OfCode("features", "x", factory, "", "x.py", "1")]))

    assert of(Levels, "sha256:1") != of(Levels, "sha256:2")
    assert of(Promised, "sha256:1") == of(Promised, "sha256:2")


def test_the_content_that_a_plugin_reads_makes_other_features():
    class Reading(Levels):
        def __init__(self, content: str):
            self.digest = content

    assert digest("x:content=a", registry(x=Reading)) != digest("x:content=b", registry(x=Reading))


def test_a_file_that_a_parameter_names_makes_other_features_when_its_content_changes(tmp_path):
    class Reading(Levels):
        def __init__(self, model: Path):
            pass

    class Neutral(Reading):
        neutral = ("model",)

    found = {}
    for content in ("a", "b"):
        (tmp_path / "model").write_text(content)
        for factory in (Reading, Neutral):
            found[factory, content] = digest(f"x:model={tmp_path / 'model'}", registry(x=factory))
    assert found[Reading, "a"] != found[Reading, "b"]
    assert found[Neutral, "a"] == found[Neutral, "b"]


def test_stacked_features_are_described_together_and_survive_json():
    info = resolve_features(registry(), "logmel:bands=80+logmel")
    assert (info.spec, info.values, info.hop, len(info.digests)) == ("logmel:bands=80+logmel", 120, 0.025, 2)
    assert FeaturesInfo.from_json(info.to_json()) == info


def test_a_plus_in_a_value_does_not_stack():
    assert [str(spec) for spec in split_spec("vectors:file=a+b.csv+logmel")] == ["vectors:file=a+b.csv", "logmel"]


@pytest.mark.parametrize(
    ("spec", "named"), [("logmel+levels", "hop of 0.1 s"), ("logmel+lookup", "one vector"), ("logmel+logmel", "twice")]
)
def test_features_that_cannot_be_stacked_are_refused_by_name(spec, named):
    with pytest.raises(SpecError, match=f"{spec.split('+')[1]}.*{named}".replace("+", r"\+")):
        resolve_features(registry(levels=Levels, lookup=Lookup), spec)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("values", None),
        ("values", 0),
        ("values", 2.0),
        ("hop", 0),
        ("hop", -1.0),
        ("hop", "0.1"),
        ("hop", float("nan")),
    ],
)
def test_a_plugin_that_does_not_say_its_values_or_hop_is_named(attribute, value):
    wrong = type("Wrong", (Levels,), {attribute: value})
    with pytest.raises(PluginError, match=f"features x of mirembed-test 2.1: {attribute}"):
        resolve_features(registry(x=wrong), "x")


def test_a_plugin_that_changes_while_files_are_extracted_is_noticed():
    before = resolve_features(registry(x=Levels), "x").parts[0]
    changed = type("Changed", (Levels,), {"values": 2, "version": "2"})
    with pytest.raises(MismatchError, match="features x of mirembed-test"):
        create_features(registry(x=changed), before)


def test_another_backend_is_chosen_only_where_it_does_not_change_the_frames():
    class Neutral(Levels):
        neutral = ("backend",)

        def __init__(self, backend: str = "auto"):
            self.backend = backend

    class Deciding(Neutral):
        neutral = ()

    for factory, chosen in ((Neutral, "other"), (Deciding, "auto"), (Levels, None)):
        plugins = registry(x=factory)
        features = create_features(plugins, resolve_features(plugins, "x").parts[0], "other")
        assert getattr(features, "backend", None) == chosen


# Hearing a recording


def test_one_file_is_decoded_once_for_several_features(clip, decodings):
    found, sound = computed(registry(), "logmel:bands=80+logmel", clip)
    assert decodings == [clip]
    np.testing.assert_array_equal(found["logmel"], spectrogram(clip))
    np.testing.assert_array_equal(found["logmel:bands=80"], spectrogram(clip, bands=80))
    assert (sound.rate, sound.channels, sound.duration) == (RATE, 1, 2.0)


def test_a_file_that_is_too_long_to_keep_is_decoded_again_with_the_same_result(clip, decodings, monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 5000)
    monkeypatch.setattr(decoding, "KEPT_SAMPLES", 12_000)
    found, sound = computed(registry(), "logmel:bands=80+logmel", clip)
    assert decodings == [clip, clip]
    np.testing.assert_allclose(found["logmel"], spectrogram(clip), atol=1e-3)
    assert sound.audio_hash == decode(clip).audio_hash


def test_two_readers_may_take_turns(clip, monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 5000)
    monkeypatch.setattr(decoding, "KEPT_SAMPLES", 12_000)

    def in_turns(audio):
        pairs = list(zip(audio.blocks(), audio.blocks(), strict=True))
        return [np.concatenate(blocks) for blocks in zip(*pairs, strict=True)]

    (first, second), _ = read_recording(clip, in_turns, keep=True)
    np.testing.assert_array_equal(first, decode(clip).samples)
    np.testing.assert_array_equal(second, first)


def test_a_file_that_nobody_reads_is_not_decoded(tmp_path, clip, decodings):
    found, sound = computed(registry(lookup=Lookup), "lookup", clip, ("one", "two"))
    assert (found["lookup"].tolist(), sound, decodings) == ([[2, 2, 2]], None, [])
    (tmp_path / "broken.mp3").write_bytes(b"no music")
    assert computed(registry(lookup=Lookup), "lookup", tmp_path / "broken.mp3")[0]["lookup"].shape == (1, 3)


def test_the_facts_of_a_file_are_known_before_it_is_decoded(tmp_path, decodings):
    soundfile.write(tmp_path / "a.flac", np.zeros((RATE, 2)), RATE)

    def look(audio):
        return audio.path, audio.ids, audio.rate, audio.channels, audio.duration

    facts, sound = read_recording(tmp_path / "a.flac", look, ("an id",))
    assert facts == (tmp_path / "a.flac", ("an id",), RATE, 2, 1.0)
    assert (sound, decodings) == (None, [])


class Beginning(Levels):
    """Reads one block only."""

    def extract(self, audio):
        next(audio.blocks())
        return np.zeros((1, 2), np.float32)


def test_what_a_plugin_does_not_read_is_checked_and_hashed_all_the_same(clip, monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 5000)
    _, sound = computed(registry(x=Beginning), "x", clip)
    assert (sound.duration, sound.audio_hash) == (2.0, decode(clip).audio_hash)
    clip.write_bytes(clip.read_bytes()[:-RATE])
    with pytest.raises(AudioError, match=r"states 2\.0 s, .* room for 1\.5 s, but 1\.5 s"):
        computed(registry(x=Beginning), "x", clip)


def test_an_mp3_that_soundfile_cuts_short_is_heard_completely(tmp_path):
    samples = loud_then_quiet(8, 44_100)
    path = write_mp3(tmp_path / "a.mp3", samples, 44_100, "VARIABLE", header=False)
    found, sound = computed(registry(levels=Levels, x=Beginning), "levels+x", path)
    assert sound.decoder == "essentia"
    assert len(found["levels"]) == pytest.approx(80, abs=3)


@pytest.mark.parametrize("wanted", [8000, 16_000, 44_100])
def test_blocks_are_resampled_as_in_one_piece(clip, wanted, monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 5000)
    expected = soxr.resample(decode(clip).samples, RATE, wanted, quality="HQ")
    resampled, _ = read_recording(clip, lambda audio: np.concatenate(list(audio.blocks(rate=wanted))))
    np.testing.assert_array_equal(resampled, expected)
    in_memory = SamplesAudio(decode(clip).samples, RATE, block=777)
    np.testing.assert_array_equal(np.concatenate(list(in_memory.blocks(rate=wanted))), expected)


def test_the_blocks_cannot_be_changed(clip):
    class Changing(Levels):
        def extract(self, audio):
            for samples in audio.blocks():
                samples *= 2

    found, _ = computed(registry(x=Changing), "x", clip)
    assert "read-only" in found["x"]


# Broken promises


def returning(result: Any, base: type = Levels) -> type:
    return type("Returning", (base,), {"extract": lambda self, audio: result})


FRAMES = np.ones((5, 2), np.float32)


@pytest.mark.parametrize(
    ("result", "named"),
    [
        (None, "NoneType"),
        ([[1.0, 2.0]], "list"),
        (np.ones((5, 3), np.float32), r"\[5, 3\].*\[n_frames, 2\]"),
        (np.ones(2, np.float32), r"\[2\].*\[n_frames, 2\]"),
        (np.ones((0, 2), np.float32), "no frames"),
        (np.ones((5, 2), np.int16), "int16"),
        (np.ones((5, 2), complex), "complex"),
        (np.array([[1, "x"]], object), "object"),
        (np.where(np.eye(5, 2), np.nan, FRAMES), "2 of 10"),
        (np.full((5, 2), 1e300), "10 of 10"),
    ],
)
def test_a_wrong_result_fails_its_features_alone_and_names_the_plugin(clip, result, named):
    found, _ = computed(registry(x=returning(result), levels=Levels), "x+levels", clip)
    assert isinstance(found["levels"], np.ndarray)
    with pytest.raises(AssertionError, match=rf"features x of mirembed-test 2\.1 .*{named}"):
        raise AssertionError(found["x"])


def test_several_frames_are_refused_where_one_was_declared(clip):
    found, _ = computed(registry(x=returning(np.ones((2, 3), np.float32), Lookup)), "x", clip)
    assert "[2, 3]" in found["x"]
    assert "[1, 3]" in found["x"]


def test_frames_become_float32(clip):
    found, _ = computed(registry(x=returning(np.asfortranarray(np.ones((5, 2))))), "x", clip)
    assert (found["x"].dtype, found["x"].flags.c_contiguous) == (np.float32, True)


@dataclass
class Raising(Levels):
    error: ClassVar[BaseException]

    def extract(self, audio):
        raise self.error


@pytest.mark.parametrize("error", [KeyError("chunk"), SystemExit(3), AssertionError(), MemoryError()])
def test_an_exception_fails_the_features_of_that_file_and_names_the_plugin(clip, error):
    raising = functools.partial(type("R", (Raising,), {"error": error}))
    found, _ = computed(registry(x=raising, levels=Levels), "x+levels", clip)
    assert found["x"].startswith("features x of mirembed-test 2.1 ")
    assert "memory" in found["x"] if isinstance(error, MemoryError) else type(error).__name__ in found["x"]
    assert isinstance(found["levels"], np.ndarray)


def test_the_reason_of_an_audio_error_is_that_of_the_file(clip):
    found, sound = computed(registry(x=type("R", (Raising,), {"error": AudioError("too calm")})), "x", clip)
    assert (found["x"], sound) == ("too calm", None)


def test_features_that_do_not_hear_a_broken_file_are_kept(clip):
    clip.write_bytes(clip.read_bytes()[:-RATE])
    plugins = registry(lookup=Lookup, x=type("Vector", (Levels,), {"hop": None}))
    found, sound = computed(plugins, "lookup+x", clip)
    assert (found["lookup"].shape, sound) == ((1, 3), None)
    assert "part of it is missing" in found["x"]


def test_a_plugin_cannot_hide_that_a_file_is_broken(clip):
    class Hiding(Levels):
        def extract(self, audio):
            try:
                return super().extract(audio)
            except Exception:
                return FRAMES

    clip.write_bytes(clip.read_bytes()[:-RATE])
    with pytest.raises(AudioError, match="part of it is missing"):
        computed(registry(x=Hiding), "x", clip)
