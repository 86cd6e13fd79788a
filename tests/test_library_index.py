"""The index of a library: the same as the tables that it is made from, whatever happens to it."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_library import At, write_library

from mirembed.library.collection import Collection
from mirembed.library.index import folded, make_index, open_index
from mirembed.registry import Registry
from mirembed.store import Store

TRACKS = {
    "a/one.mp3": At((0.0, 0.0), title="Jóga", artists=("Björk",), album="Homogenic", audio_hash="x", seconds=12.5),
    "a/two.mp3": At((1.0, 0.0), title="Hunter", artists=("Björk", "Mark Bell")),
    os.fsdecode(b"b/caf\xe9.mp3"): At((0.0, 2.0)),
}


@pytest.fixture
def library(tmp_path):
    return write_library(tmp_path, TRACKS)


def opened(library) -> Collection:
    return Collection.open(Store(library.folder / "store"), Registry.discover(), "model")


def index_file(library):
    [path] = (library.folder / "store" / "cache").glob("library-*.arrow")
    return path


def content(collection: Collection) -> list[object]:
    tags = [collection.tags(row) for row in range(len(collection))]
    columns = [collection.ids, collection.recordings, collection.paths, collection.stamps, collection.audio_hashes]
    return [*columns, collection.durations.tolist(), collection.labels, collection.vectors.tolist(), tags]


def test_columns_and_single_values_agree(library):
    collection = opened(library)
    row = collection.ids.index("a/two.mp3")
    assert collection.index.values("artists")[row] == collection.tags(row).artists == ("Björk", "Mark Bell")
    assert collection.index.values("title")[row] == collection.tags(row).title == "Hunter"
    assert collection.vectors[row].tolist() == [1.0, 0.0]
    assert collection.durations[collection.ids.index("a/one.mp3")] == 12.5


def test_an_index_from_the_cache_equals_the_one_that_was_built(library):
    made = content(opened(library))
    stamp = index_file(library).stat()
    assert content(opened(library)) == made
    assert index_file(library).stat().st_mtime_ns == stamp.st_mtime_ns


@pytest.mark.parametrize("damage", [b"", b"ARROW1\0\0", bytes(range(200)) * 2])
def test_a_damaged_index_is_built_again(library, damage):
    made = content(opened(library))
    index_file(library).write_bytes(damage)
    assert content(opened(library)) == made
    assert index_file(library).stat().st_size > 400


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_single_wrong_byte_in_an_index_is_noticed(library, share):
    made = content(opened(library))
    sound = index_file(library).read_bytes()
    damaged = bytearray(sound)
    damaged[int(share * len(damaged))] ^= 1
    index_file(library).write_bytes(damaged)
    assert content(opened(library)) == made
    assert index_file(library).read_bytes() == sound


def test_an_index_follows_the_tables(library):
    assert len(opened(library)) == 3
    store = Store(library.folder / "store")
    [dataset] = store.datasets()
    tracks = [track for track in dataset.tracks() if track.id != "a/two.mp3"]
    dataset.write_tracks(tracks, dataset.info())
    assert "a/two.mp3" not in opened(library).ids
    assert len(opened(library)) == 2


def test_an_index_without_labels_is_not_read_where_there_are_some(library):
    """As when another process labels the tracks after this one has read the task, and before it reads the tracks."""
    store = Store(library.folder / "store")
    [dataset] = store.datasets()
    open_index(store, dataset, None, "model", "digest")
    assert opened(library).labels == ["jazz"] * 3


def test_a_file_that_cannot_be_looked_for_is_not_present(library, monkeypatch):
    collection = opened(library)
    monkeypatch.setattr(os, "stat", fail)
    assert not collection.is_present(0)
    assert not collection.is_unchanged(0)


def fail(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.EIO, "the drive fails")


def test_a_store_that_cannot_be_written_is_read_without_an_index(library):
    cache = library.folder / "store" / "cache"
    cache.write_text("no folder")
    assert len(opened(library)) == 3


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=12),
    words=st.lists(st.text("ab é", min_size=1, max_size=3).map(folded).filter(str.strip), min_size=1, max_size=3),
)
def test_words_are_found_where_a_track_has_them_all(texts, words):
    index = make_index({"id": texts}, np.zeros((len(texts), 2), np.float32))
    expected = [row for row, text in enumerate(texts) if all(word in folded(text) for word in words)]
    assert index.rows_with(words) == expected


@given(
    texts=st.lists(st.none() | st.text("abé", max_size=3), min_size=1, max_size=12),
    wanted=st.sets(st.text("abé", max_size=3), max_size=20),
)
def test_texts_are_found_in_the_columns_that_have_them(texts, wanted):
    index = make_index({"title": texts}, np.zeros((len(texts), 2), np.float32))
    assert index.rows_of("title", wanted) == [row for row, text in enumerate(texts) if text in wanted]


@given(st.lists(st.none() | st.floats(0, 1e6), min_size=1, max_size=20))
def test_numbers_that_are_missing_are_nan(values):
    index = make_index({"duration": values}, np.zeros((len(values), 2), np.float32))
    expected = [np.nan if value is None else value for value in values]
    np.testing.assert_array_equal(index.numbers("duration"), expected)
