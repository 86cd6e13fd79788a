"""Which files of a folder are audio files: one set of rules, and the same notes, for every command."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import mp4_bytes, music, write_mp3

from mirembed import AUDIO_SUFFIXES, DatasetError, find_audio
from mirembed.audio.decoding import decode
from mirembed.audio.files import audio_files
from mirembed.errors import MirembedError

RATE = 22_050


def make_files(root: Path, *names: str | bytes) -> Path:
    for name in names:
        file = root / os.fsdecode(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def found_by_both(root: Path) -> tuple[list[str], tuple[str, ...]]:
    """Return what `find_audio` and `audio_files` find, which is the same."""
    found = find_audio(root)
    paths, notes = audio_files([root])
    assert sorted(paths) == sorted(found.files.values())
    assert [note.replace(f"{root}/", "").replace(str(root), ".") for note in notes] == list(found.notes)
    return sorted(found.files), found.notes


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return make_files(tmp_path / "audio", "x/a.wav", "y/b.MP3")


FOUND = ["x/a.wav", "y/b.MP3"]


class TestRules:
    def test_nothing_is_noted_if_nothing_is_skipped(self, audio: Path) -> None:
        assert found_by_both(audio) == (FOUND, ())

    def test_other_files_are_counted_by_their_endings(self, audio: Path) -> None:
        make_files(audio, "x/cover.jpg", "y/COVER.JPG", "x/a.cue", "readme")
        files, (note,) = found_by_both(audio)
        assert files == FOUND
        assert "4 files" in note
        assert sorted(note.partition("): ")[2].split(", ")) == ["1 .cue", "1 without ending", "2 .jpg"]
        assert find_audio(audio).others == 4

    def test_hidden_folders_and_audio_files_are_named_and_other_hidden_files_are_not(self, audio: Path) -> None:
        make_files(audio, ".cache/c.wav", "x/._a.wav", "x/.DS_Store")
        files, (note,) = found_by_both(audio)
        assert files == FOUND
        assert note.endswith(": .cache, x/._a.wav")

    def test_a_name_that_begins_with_several_dots_is_not_hidden(self, audio: Path) -> None:
        make_files(audio, "...And Justice for All/01.wav", "x/...wait.wav", "..Baby/1.wav")
        files, notes = found_by_both(audio)
        assert {"...And Justice for All/01.wav", "x/...wait.wav", "..Baby/1.wav"} < set(files)
        assert not notes

    def test_links_are_followed_inside_the_folder_only_and_never_in_circles(self, audio: Path, tmp_path: Path) -> None:
        make_files(tmp_path, "outside/c.wav")
        targets = {
            "itself.wav": "itself.wav",
            "one.wav": "two.wav",
            "two.wav": "one.wav",
            "broken.wav": "nothing.wav",
            "up": "..",
            "here": ".",
            "out": tmp_path / "outside",
            "out.wav": tmp_path / "outside" / "c.wav",
        }
        for name, target in targets.items():
            (audio / "x" / name).symlink_to(target)
        (audio / "z").symlink_to("y")
        (audio / "x" / "same.wav").symlink_to("a.wav")
        files, (note,) = found_by_both(audio)
        assert files == ["x/a.wav", "x/same.wav", "y/b.MP3", "z/b.MP3"]
        assert "8 symbolic links" in note

    def test_folders_that_link_to_each_other_are_walked_quickly(self, tmp_path: Path) -> None:
        names = [f"{number:02}" for number in range(12)]
        make_files(tmp_path, *(f"{name}/a.wav" for name in names))
        for name in names:
            for other in names:
                if name != other:
                    (tmp_path / name / f"to {other}").symlink_to(f"../{other}")
        files, (note,) = found_by_both(tmp_path)
        assert len(files) == 12 + 12 * 11
        assert f"{12 * 11 * 11} symbolic links" in note

    def test_pipes_sockets_and_devices_are_not_audio(self, audio: Path) -> None:
        os.mkfifo(audio / "x" / "pipe.wav")
        (audio / "x" / "null.wav").symlink_to("/dev/null")
        files, notes = found_by_both(audio)
        assert files == FOUND
        assert any(note.endswith("x/pipe.wav") for note in notes)
        assert any(note.endswith("x/null.wav") for note in notes)

    def test_a_folder_with_the_ending_of_a_file_is_a_folder(self, audio: Path) -> None:
        make_files(audio, "x/album.wav/c.wav")
        assert found_by_both(audio) == (["x/a.wav", "x/album.wav/c.wav", "y/b.MP3"], ())

    @pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
    def test_a_folder_that_cannot_be_read_costs_only_itself(
        self, audio: Path, monkeypatch: pytest.MonkeyPatch, error: int
    ) -> None:
        scandir = os.scandir

        def failing(folder: Path) -> object:
            if Path(folder).name == "y":
                raise OSError(error, os.strerror(error), str(folder))
            return scandir(folder)

        monkeypatch.setattr(os, "scandir", failing)
        files, (note,) = found_by_both(audio)
        assert files == ["x/a.wav"]
        assert os.strerror(error) in note
        assert note.endswith(": y")

    def test_names_may_be_of_any_bytes_and_length(self, audio: Path) -> None:
        make_files(audio, b"x/caf\xe9.wav", b"x/a\nb.wav", "x/" + "n" * 251 + ".wav")
        files, notes = found_by_both(audio)
        assert {"x/caf\\xe9.wav", "x/a\nb.wav", "x/" + "n" * 251 + ".wav"} < set(files)
        assert not notes


class TestNames:
    def test_ids_are_in_composed_form_and_paths_as_on_disk(self, tmp_path: Path) -> None:
        decomposed = unicodedata.normalize("NFD", "Für/Élise.wav")
        make_files(tmp_path, decomposed)
        assert find_audio(tmp_path).files == {unicodedata.normalize("NFC", decomposed): tmp_path / decomposed}

    def test_two_files_that_differ_only_in_unicode_form_are_both_found(self, tmp_path: Path) -> None:
        composed, decomposed = (unicodedata.normalize(form, "é.wav") for form in ("NFC", "NFD"))
        make_files(tmp_path, decomposed, composed)
        assert find_audio(tmp_path).files == {composed: tmp_path / composed, decomposed: tmp_path / decomposed}

    def test_of_two_files_with_one_name_the_second_is_skipped_and_noted(self, tmp_path: Path) -> None:
        make_files(tmp_path, b"caf\xe9.wav", "caf\\xe9.wav")
        files, (note,) = found_by_both(tmp_path)
        assert files == ["caf\\xe9.wav"]
        assert "UTF-8" in note


class TestGivenPaths:
    def test_files_are_kept_as_given_and_each_once(self, audio: Path) -> None:
        paths, notes = audio_files([audio / "y" / "b.MP3", audio, audio / "x"])
        assert paths == [audio / "y" / "b.MP3", audio / "x" / "a.wav"]
        assert not notes

    def test_notes_on_several_folders_are_counted_together(self, audio: Path) -> None:
        make_files(audio, "x/c.jpg", "y/d.jpg")
        (note,) = audio_files([audio / "x", audio / "y"])[1]
        assert note.endswith(": 2 .jpg")

    @pytest.mark.parametrize("name", ["nothing", "n" * 300, "broken.wav"])
    def test_a_path_that_does_not_exist_is_an_error(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "broken.wav").symlink_to("nowhere.wav")
        with pytest.raises(MirembedError, match=f"{name} does not exist"):
            audio_files([tmp_path / name])

    def test_a_folder_without_audio_is_an_error_that_says_what_it_contains(self, tmp_path: Path) -> None:
        make_files(tmp_path, "a.jpg", "b.ape")
        with pytest.raises(MirembedError, match=re.escape(str(tmp_path)) + r".*1 \.(jpg|ape), 1 \.(jpg|ape).*\.wav"):
            audio_files([tmp_path])

    def test_a_dataset_needs_a_folder(self, audio: Path) -> None:
        with pytest.raises(DatasetError, match="is a file"):
            find_audio(audio / "x" / "a.wav")


FORMATS = {
    ".aif": ("AIFF", "PCM_16"),
    ".aifc": ("AIFF", "ALAW"),
    ".aiff": ("AIFF", "PCM_24"),
    ".au": ("AU", "PCM_16"),
    ".bwf": ("WAV", "PCM_24"),
    ".caf": ("CAF", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp2": ("MP3", "MPEG_LAYER_II"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".mpga": ("MP3", "MPEG_LAYER_III"),
    ".oga": ("OGG", "VORBIS"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".rf64": ("RF64", "PCM_16"),
    ".snd": ("AU", "PCM_16"),
    ".voc": ("VOC", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
    ".wav": ("WAV", "PCM_16"),
    ".wave": ("WAV", "FLOAT"),
}
"""By their ending, formats that soundfile writes."""


class TestEndings:
    @pytest.mark.parametrize("ending", sorted(FORMATS))
    def test_a_file_with_an_ending_of_the_list_is_decoded(self, tmp_path: Path, ending: str) -> None:
        kind, subtype = FORMATS[ending]
        path = tmp_path / f"a{ending}"
        rate = 48_000 if subtype == "OPUS" else RATE
        try:
            soundfile.write(path, music(2.0, rate), rate, format=kind, subtype=subtype)
        except soundfile.LibsndfileError:
            soundfile.write(path, music(2.0, rate), rate, format="MP3")  # it writes no Layer II
        assert decode(path).duration == pytest.approx(2.0, abs=0.06)
        assert find_audio(tmp_path).files == {f"a{ending}": path}

    @pytest.mark.parametrize("ending", [".m4a", ".m4b", ".m4r", ".mp4"])
    def test_mp4_files_are_decoded_whatever_their_ending(self, tmp_path: Path, ending: str) -> None:
        pytest.importorskip("essentia")
        mp3 = write_mp3(tmp_path / "a.mp3", np.tile(music(2.0, 44_100)[:, None], 2), 44_100, "CONSTANT").read_bytes()
        path = tmp_path / f"a{ending}"
        path.write_bytes(mp4_bytes(mp3, 44_100))
        assert decode(path).duration == pytest.approx(2.0, abs=0.1)
        assert f"a{ending}" in find_audio(tmp_path).files

    def test_all_other_known_endings_are_of_formats_that_only_essentia_reads(self) -> None:
        only_essentia = {".aac", ".ac3", ".m4a", ".m4b", ".m4r", ".mka", ".mp4", ".tta", ".wma", ".wv"}
        assert FORMATS.keys() | only_essentia == AUDIO_SUFFIXES
