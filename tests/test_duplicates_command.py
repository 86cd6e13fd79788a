"""``mirembed duplicates``: the files of a library that contain the same recording, and no others."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from kept_library import lent, make_model
from mutagen.flac import FLAC
from small_store import workers_run
from test_duplicates import RATE, recording

from mirembed.audio.files import file_hash
from mirembed.library.fingerprints import FingerprintCache, fingerprint_files
from mirembed.progress import NO_PROGRESS, Silent
from mirembed.store import Store

pytestmark = pytest.mark.slow

N_OTHERS = 10
COPIES = {"a.wav", "b.wav", "c.flac", "d.mp3", "e.ogg", "f.wav"}


def write_library(root: Path) -> Path:
    """Write different recordings in two folders, and copies of one of them, in ways that people's libraries have."""
    (root / "one").mkdir(parents=True)
    (root / "two").mkdir()
    for number in range(N_OTHERS):
        folder = root / ("one" if number % 2 else "two")
        soundfile.write(folder / f"other-{number}.wav", recording(number + 1), RATE)
    samples = np.round(recording(100) * 2**15) / 2**15
    soundfile.write(root / "one" / "a.wav", samples, RATE)
    shutil.copy2(root / "one" / "a.wav", root / "two" / "b.wav")
    soundfile.write(root / "two" / "c.flac", samples, RATE)
    soundfile.write(root / "two" / "d.mp3", samples, RATE)
    soundfile.write(root / "two" / "e.ogg", samples[: RATE * 15], RATE)
    soundfile.write(root / "two" / "f.wav", samples[RATE // 2 :], RATE)
    return root


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("library")
    write_library(root / "audio")
    return make_model(root, epochs=1)


@pytest.fixture
def audio(library, mirembed) -> Iterator[Path]:
    """The audio of the library. The store is ``s`` in the folder of the command."""
    yield from lent(library, mirembed.folder)


@pytest.fixture
def duplicates(mirembed):
    """The command, and its JSON."""

    def run(*arguments: object, code: int = 0) -> dict:
        return json.loads(mirembed("duplicates", "m", *arguments, "--store", "s", "--json", code=code).stdout)

    return run


def by_name(found: dict) -> dict[str, dict]:
    [group] = found["groups"]
    return {Path(file["path"]).name: file for file in group}


def test_copies_in_other_formats_and_trimmed_ones_are_one_group(audio, duplicates):
    found = duplicates()
    files = by_name(found)
    assert files.keys() == COPIES
    matches = {name: file["match"] for name, file in files.items()}
    assert matches == {
        **dict.fromkeys(("a.wav", "b.wav"), "file"),
        "c.flac": "audio",
        **dict.fromkeys(("d.mp3", "e.ogg", "f.wav"), "fingerprint"),
    }
    assert {name: file["format"] for name, file in files.items()} == {
        **dict.fromkeys(("a.wav", "b.wav", "f.wav"), "WAV"),
        "c.flac": "FLAC",
        "d.mp3": "MP3",
        "e.ogg": "VORBIS",
    }
    for file in files.values():
        assert file["size"] == Path(file["path"]).stat().st_size
        assert file["duration"] == pytest.approx(soundfile.info(file["path"]).duration, abs=0.1)
        assert 0.75 <= file["agreement"] <= 1
    assert files["a.wav"]["bit_rate"] == round(RATE * 16 / 1000)
    assert found["tracks"] == N_OTHERS + len(COPIES)
    sizes = sorted(file["size"] for file in files.values())
    assert found["extra_bytes"] == sum(sizes[:-1])


def test_nothing_is_decoded_a_second_time_or_deleted(mirembed, audio, duplicates):
    before = sorted(audio.rglob("*"))
    first = duplicates()
    cache = {path: path.stat().st_mtime_ns for path in (mirembed.folder / "s" / "cache").iterdir()}
    assert any(path.name.startswith("fingerprints") for path in cache)
    assert duplicates() == first
    assert {path: path.stat().st_mtime_ns for path in (mirembed.folder / "s" / "cache").iterdir()} == cache
    assert sorted(audio.rglob("*")) == before


def test_missing_changed_and_linked_files_are_counted_and_left_out(mirembed, audio, duplicates):
    (audio / "two" / "c.flac").unlink()
    (audio / "two" / "d.mp3").write_bytes(b"other")
    (audio / "two" / "b.wav").unlink()
    os.link(audio / "one" / "a.wav", audio / "two" / "b.wav")
    found = duplicates()
    assert by_name(found).keys() == {"a.wav", "e.ogg", "f.wav"}
    assert (found["missing"], found["changed"], found["links"]) == (1, 1, 1)
    errors = mirembed("duplicates", "m", "--store", "s").stderr
    assert "update" in errors


def test_a_file_that_cannot_be_read_as_it_was_is_a_failure(audio, duplicates):
    path = audio / "two" / "f.wav"
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:1000] + bytes(len(content) - 1000))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = duplicates(code=2)
    assert [failure["path"] for failure in found["failures"]] == [str(path)]
    assert by_name(found).keys() == COPIES - {"f.wav"}


def test_a_copy_of_another_level_is_found_by_its_file_tags(mirembed, tmp_path):
    audio = write_library(tmp_path / "audio")
    samples, _ = soundfile.read(audio / "one" / "a.wav")
    for path, factor in ((audio / "one" / "loud.flac", 1.0), (audio / "two" / "quiet.flac", 0.03)):
        soundfile.write(path, samples[RATE:] * factor, RATE, subtype="PCM_24")
        for number in range(N_OTHERS):
            (audio / "two" / f"other-{number}.wav").unlink(missing_ok=True)
        file = FLAC(path)
        file["title"], file["artist"] = ("Ten", "Ann") if factor == 1 else ("TEN", "ann")
        file.save()
    mirembed("extract", "--dataset", "folder", "--audio", audio, "--store", "t")
    mirembed("fit", "--approach", "nn", "--epochs", "1", "--name", "m", "--store", "t", "--engine", "torch")
    found = json.loads(mirembed("duplicates", "m", "--store", "t", "--json").stdout)
    groups = [{Path(file["path"]).name for file in group} for group in found["groups"]]
    assert any({"loud.flac", "quiet.flac"} <= group for group in groups)


def test_the_files_can_be_written_as_a_table(mirembed, audio, duplicates):
    mirembed("duplicates", "m", "--store", "s", "--out", "d.parquet")
    mirembed("duplicates", "m", "--store", "s", "--out", "d.csv")
    rows = pq.read_table(mirembed.folder / "d.parquet").to_pylist()
    lines = list(csv.DictReader((mirembed.folder / "d.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [line["path"] for line in lines]
    assert rows == [{"group": 1, **file} for file in duplicates()["groups"][0]]


def test_a_library_without_copies_has_none(mirembed, audio, duplicates):
    for name in COPIES - {"a.wav"}:
        (audio / "two" / name).unlink()
    assert duplicates()["groups"] == []
    assert "11" in mirembed("duplicates", "m", "--store", "s").stdout


class Interrupted(Silent):
    """Ctrl-C after three files."""

    def update(self, completed: float, **more: float) -> None:
        if completed == 3:
            raise KeyboardInterrupt


def test_interrupted_fingerprinting_resumes(tmp_path):
    store = Store(tmp_path / "s")
    audio = write_library(tmp_path / "audio")
    files = {file_hash(path): path for path in sorted(audio.rglob("*.wav"))}
    with workers_run():
        with pytest.raises(KeyboardInterrupt):
            fingerprint_files(store, files, 1, Interrupted())
        assert len(FingerprintCache(store).recordings()) == 3
        for name in FingerprintCache(store).recordings():
            files[name].unlink()  # it is not read again
        assert fingerprint_files(store, files, 1, NO_PROGRESS) == {}
    assert FingerprintCache(store).recordings() == files.keys()
