"""Workers compute all features of a file at once, and account for each file and each of its features."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import music, spectrogram

from mirembed.audio.decoding import decode
from mirembed.errors import MismatchError, PluginError
from mirembed.extract import ExtractedFile, ExtractOptions, FileToExtract, extract_files
from mirembed.features import resolve_features
from mirembed.registry import Registry

pytestmark = pytest.mark.slow

RATE = 22_050

PLUGIN = """
import numpy as np
from mirembed import AudioError, hookimpl

class Ids:
    values, hop, backend = 1, None, "counting"

    def extract(self, audio):
        if "calm" in audio.ids:
            raise AudioError("too calm")
        return np.full((1, 1), len(audio.ids), np.float32)

@hookimpl
def mirembed_register_features(register):
    register("ids", Ids)
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch) -> Path:
    """Features of one file, which workers find too."""
    path = tmp_path / "plugins" / "counter.py"
    path.parent.mkdir()
    path.write_text(PLUGIN)
    monkeypatch.setenv("MIREMBED_PLUGINS_DIR", str(path.parent))
    return path


@pytest.fixture
def clips(tmp_path) -> list[Path]:
    folder = tmp_path / "audio"
    folder.mkdir()
    for name in ("a.wav", "b.wav", "c.wav"):
        soundfile.write(folder / name, music(0.5, RATE), RATE)
    (folder / "b.wav").write_bytes(b"no music")
    return sorted(folder.iterdir())


def extracted(paths: list[Path], *specs: str, ids: tuple[str, ...] = (), **options: object):
    """Extract features in one worker; return the results by file name, and the digests of the features."""
    parts = tuple(part for spec in specs for part in resolve_features(Registry.discover(), spec).parts)
    files = [FileToExtract(path, ids, parts) for path in paths]
    outcomes = extract_files(files, 1, ExtractOptions(**options), paths[0].parent)
    return {paths[outcome.index].name: outcome.result for outcome in outcomes}, [part.digest for part in parts]


def test_a_file_has_the_frames_of_all_features_and_its_facts(clips, plugin):
    found, digests = extracted([clips[0]], "logmel", "ids", ids=("one", "two"))
    result = found["a.wav"]
    assert isinstance(result, ExtractedFile)
    np.testing.assert_array_equal(result.frames[digests[0]], spectrogram(clips[0]))
    assert result.frames[digests[1]].tolist() == [[2]]
    assert result.backends == {digests[0]: "essentia", digests[1]: "counting"}
    assert result.recording == hashlib.blake2b(clips[0].read_bytes(), digest_size=16).hexdigest()
    assert (result.audio_hash, result.duration, result.rate, result.channels) == (
        decode(clips[0]).audio_hash,
        0.5,
        RATE,
        1,
    )
    assert (result.file_size, result.failures) == (clips[0].stat().st_size, {})


def test_a_file_that_no_features_hear_has_no_facts_about_its_sound(clips, plugin):
    found, _ = extracted(clips, "ids")
    assert {name: (one.audio_hash, one.duration, one.rate) for name, one in found.items()} == dict.fromkeys(
        ("a.wav", "b.wav", "c.wav"), (None, 0, 0)
    )


def test_features_that_fail_do_not_take_others_with_them(clips, plugin):
    found, (logmel, ids) = extracted(clips, "logmel", "ids", ids=("calm",))
    assert found["a.wav"].failures == {ids: "too calm"}
    assert list(found["a.wav"].frames) == [logmel]
    assert "neither soundfile nor Essentia" in found["b.wav"], "all of its features failed"


def test_a_file_outside_the_folder_is_refused(clips, tmp_path):
    outside = tmp_path / "outside.wav"
    outside.write_bytes(clips[0].read_bytes())
    clips[2].unlink()
    clips[2].symlink_to(outside)
    found, _ = extracted([clips[2]], "logmel")
    assert str(outside) in found["c.wav"]


def test_the_backend_reaches_the_features_that_have_a_choice_and_did_not_make_it(clips, plugin):
    found, digests = extracted([clips[0]], "logmel", "logmel:backend=essentia,bands=20", "ids", backend="scipy")
    assert [found["a.wav"].backends[digest] for digest in digests] == ["scipy", "essentia", "counting"]
    with pytest.raises(PluginError, match="librosa"):
        extracted(clips, "logmel", backend="librosa")


def test_a_plugin_that_was_edited_meanwhile_ends_the_work(clips, plugin):
    parts = resolve_features(Registry.discover(), "ids").parts
    plugin.write_text(PLUGIN + "\n# another version\n")
    with pytest.raises(MismatchError, match=r"features ids of counter\.py"):
        list(extract_files([FileToExtract(clips[0], (), parts)], 1))
