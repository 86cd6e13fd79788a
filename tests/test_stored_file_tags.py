"""File tags in the store: `extract` writes them for every dataset, and reads only those of new and changed files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_store import write_classes
from tagged_files import tagged, write_sound

import mirembed.store.file_tags as known
from mirembed import FileTags, Tags, read_file_tags
from mirembed.errors import StoreError
from mirembed.inventory import verify
from mirembed.specs import Spec
from mirembed.store import Store, StoredFileTags
from mirembed.store.file_tags import KnownFileTags
from mirembed.store.rows import stored_file_tags

ANN = FileTags("One", ("Ann", "Bob"), "Ten", "Ann", ("Rock",), (), 1999, 0.8, 1, 2)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    folder = tmp_path / "audio"
    tagged(folder / "low" / "a.flac", title="One", genre=["Rock", "Jazz"], artist="Ann")
    tagged(folder / "low" / "b.ogg", title="Two", genre="Rock", artist="Bob")
    tagged(folder / "high" / "c.flac", title="Three", genre="Jazz")
    write_sound(folder / "high" / "d.wav")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the files whose tags are read."""
    names: list[str] = []

    def spy(path: Path) -> FileTags:
        names.append(path.name)
        return read_file_tags(path)

    monkeypatch.setattr(known, "read_file_tags", spy)
    return names


def titles(store: Store, spec: str) -> dict[str, str | None]:
    rows = stored_file_tags(store.dataset(Spec.parse(spec)).file_tags())
    return {row.id: row.tags.title for row in rows}


@pytest.mark.slow
class TestExtract:
    @pytest.fixture
    def extract(self, mirembed: Any, audio: Path, store: Store) -> Any:
        def run(spec: str = "folder", *arguments: str, code: int = 0) -> Any:
            command = ("extract", "--dataset", spec, "--audio", str(audio), "--store", str(store.root), *arguments)
            return mirembed(*command, code=code)

        return run

    def test_the_file_tags_of_every_dataset_are_stored(self, extract, store):
        extract()
        expected = {"high/c.flac": "Three", "high/d.wav": None, "low/a.flac": "One", "low/b.ogg": "Two"}
        assert titles(store, "folder") == expected
        assert list(expected) == store.dataset(Spec("folder")).file_tags()["id"].to_pylist()

    def test_a_file_is_read_once_whatever_the_datasets(self, extract, read):
        extract("library:label=genre,min_tracks=1")
        assert sorted(read) == ["a.flac", "b.ogg", "c.flac", "d.wav"]
        extract("library:label=genre,min_tracks=1")
        extract("library:label=artist,min_tracks=1")
        extract()
        assert len(read) == 4

    def test_changed_and_new_files_are_read(self, extract, audio, store, read):
        extract()
        del read[:]
        tagged(audio / "low" / "a.flac", title="New title")
        os.utime(audio / "low" / "a.flac", ns=(0, 10**18))
        tagged(audio / "low" / "e.flac", title="Five")
        extract()
        assert sorted(read) == ["a.flac", "e.flac"]
        found = titles(store, "folder")
        assert (found["low/a.flac"], found["low/e.flac"]) == ("New title", "Five")

    def test_an_unchanged_table_is_not_written_again(self, extract, store):
        extract()
        table = store.dataset(Spec("folder")).folder / "file_tags.parquet"
        before = table.stat().st_ino
        extract()
        assert table.stat().st_ino == before

    def test_tracks_that_are_no_longer_listed_keep_theirs_until_they_are_pruned(self, extract, audio, store):
        extract()
        (audio / "low" / "b.ogg").unlink()
        extract()
        assert titles(store, "folder")["low/b.ogg"] == "Two"
        extract("folder", "--prune", "--yes")
        assert "low/b.ogg" not in titles(store, "folder")

    def test_a_file_that_cannot_be_decoded_has_tags_too(self, extract, audio, store):
        path = audio / "low" / "a.flac"
        path.write_bytes(path.read_bytes()[:-200])
        extract(code=2)
        assert titles(store, "folder")["low/a.flac"] == "One"

    def test_a_library_is_extracted_with_its_labels(self, extract, store):
        result = extract("library:label=genre,min_tracks=1")
        dataset = store.dataset(Spec.parse("library:label=genre,min_tracks=1"))
        assert dataset.info().task == Tags(("Jazz", "Rock"))
        assert {track.id: track.label for track in dataset.tracks()} == {
            "high/c.flac": {"Jazz"},
            "high/d.wav": None,
            "low/a.flac": {"Jazz", "Rock"},
            "low/b.ogg": {"Rock"},
        }
        assert "1 track unlabeled" in result.stderr

    def test_labels_change_with_the_tags_of_files(self, extract, audio, store):
        extract("library:label=genre,min_tracks=1")
        tagged(audio / "high" / "c.flac", genre="Rock", title="other length")
        extract("library:label=genre,min_tracks=1")
        tracks = store.dataset(Spec.parse("library:label=genre,min_tracks=1")).tracks()
        assert {track.id: track.label for track in tracks}["high/c.flac"] == {"Rock"}

    def test_a_damaged_table_is_a_fault_and_is_written_again(self, extract, store):
        extract()
        table = store.dataset(Spec("folder")).folder / "file_tags.parquet"
        table.write_bytes(table.read_bytes()[:-50])
        assert [fault.path for fault in verify(store)] == [str(table)]
        extract()
        assert verify(store) == []
        assert titles(store, "folder")["low/a.flac"] == "One"


class TestTable:
    def dataset(self, small: Store) -> Any:
        return small.find(None)

    def test_file_tags_are_read_as_written(self, tmp_path):
        dataset = self.dataset(write_classes(tmp_path / "store"))
        assert len(dataset.file_tags()) == 0
        rows = [StoredFileTags("b", 7, 8, ANN), StoredFileTags("a", 9, 10, FileTags())]
        dataset.write_file_tags(rows)
        assert list(stored_file_tags(dataset.file_tags())) == rows[::-1]
        table = dataset.file_tags()
        assert table["year"].to_pylist() == [None, 1999]
        assert table["artists"].to_pylist() == [[], ["Ann", "Bob"]]

    def test_a_damaged_table_is_an_error_that_names_it(self, tmp_path):
        dataset = self.dataset(write_classes(tmp_path / "store"))
        (dataset.folder / "file_tags.parquet").write_text("x")
        with pytest.raises(StoreError, match=r"file_tags\.parquet"):
            dataset.file_tags()
        dataset.write_file_tags([])
        assert len(dataset.file_tags()) == 0


def test_a_reader_without_a_store_reads_each_file_once(audio, store, read):
    reader = KnownFileTags(store)
    path = audio / "low" / "a.flac"
    assert reader(path) == reader(path) == read_file_tags(path)
    assert read == ["a.flac"]
    shutil.copy(path, audio / "copy.flac")
    assert reader(audio / "copy.flac").title == "One"
    assert reader(audio / "nothing.flac") == FileTags()
    assert [row.id for row in reader.of_tracks({"x": path, "y": audio / "copy.flac"})] == ["x", "y"]
    assert read == ["a.flac", "copy.flac", "nothing.flac"]
