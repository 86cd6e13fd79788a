"""What the host requires of a dataset's listing; `test_dataset_checks` tests the same for the conformance checks."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mirembed import Classification, DatasetError, Listing, Regression, Split, Tags, Target, Track
from mirembed.errors import PluginError
from mirembed.listings import RESERVED_COLUMNS, check_listing
from mirembed.store.rows import tracks_schema

CLASSES = Classification(("a", "b"))
TAGS = Tags(("a", "b"))
VALENCE = Regression((Target("valence", 1, 9),))
TRACKS = (Track("good", Path("good.wav"), "a"), Track("x", Path("x.wav"), "b"))
NOT_UTF8 = os.fsdecode(b"caf\xe9.wav")
SPLIT = Split(frozenset("ab"), frozenset("c"), (frozenset("a"),))


def error_of(listing, error=DatasetError):
    with pytest.raises(error) as raised:
        check_listing(listing, "dataset test")
    assert type(raised.value) is error
    assert str(raised.value).startswith("dataset test ")
    return str(raised.value)


def test_sound_listings_pass():
    check_listing(Listing(CLASSES, TRACKS, absent=2, notes=["a note"]), "test")
    check_listing(Listing(Regression((Target("valence", 1, 9),)), [Track("x", Path("x.wav"), (5,))]), "test")


def test_a_track_may_have_any_tags_or_none():
    labels = (frozenset({"a", "b"}), frozenset({"b"}), frozenset())
    check_listing(Listing(TAGS, [Track(str(n), Path(f"{n}.wav"), label) for n, label in enumerate(labels)]), "test")


@pytest.mark.parametrize("label", ["a", ("a",), {"a"}, ["a", "a"], 1])
def test_tags_come_in_a_frozenset_which_has_none_twice(label):
    assert f"the label {label!r}, expected a frozenset" in error_of(Listing(TAGS, [Track("x", Path("x.wav"), label)]))


@pytest.mark.parametrize("tag", ["c", "A", "", 7])
def test_an_unknown_tag_is_refused(tag):
    message = error_of(Listing(TAGS, [Track("x", Path("x.wav"), frozenset({"a", tag}))]))
    assert f"{tag!r} is not one of" in message


def test_a_listing_without_tags_is_refused():
    assert "no tags" in error_of(Listing(Tags(()), [Track("x", Path("x.wav"), frozenset())]))


@pytest.mark.parametrize("tags", [("a", "a"), ("a", ""), "ab", ("a", 7)])
def test_tags_have_distinct_names(tags):
    error_of(Listing(Tags(tags), [Track("x", Path("x.wav"), frozenset())]), PluginError)


def test_a_listing_without_tracks_asks_for_another_folder():
    assert "--audio" in error_of(Listing(CLASSES, []))
    assert "--audio" in error_of(Listing(Classification(()), []))


@pytest.mark.parametrize(
    "change",
    [
        {"id": 7},
        {"id": ""},
        {"id": "/music/a.wav"},
        {"id": NOT_UTF8},
        {"group": 7},
        {"group": ""},
        {"group": NOT_UTF8},
        {"path": "a.wav"},
        {"label": 1},
        {"label": "c"},
        {"label": ["a"]},
    ],
)
def test_a_track_that_cannot_be_stored_is_refused(change):
    good, bad = TRACKS
    message = error_of(Listing(CLASSES, [good, replace(bad, **change)]))
    [(member, value)] = change.items()
    assert f"the {member} {value!r}" in message


def test_ids_are_unique():
    good, other = TRACKS
    message = error_of(Listing(CLASSES, [good, replace(other, id="good")]))
    assert all(text in message for text in ("'good' twice", "good.wav", "x.wav"))


@pytest.mark.parametrize("label", [3.0, "3", (), (3.0, 4.0)])
def test_a_label_has_one_value_for_each_target(label):
    message = error_of(Listing(VALENCE, [Track("x", Path("x.wav"), label)]))
    assert repr(label) in message
    assert "(valence)" in message


@pytest.mark.parametrize("value", ["3", None, 0.5, 9.5, float("nan"), float("inf")])
def test_values_that_are_not_numbers_in_the_range_are_refused(value):
    message = error_of(Listing(VALENCE, [Track("x", Path("x.wav"), (value,))]))
    assert f"valence is {value!r}" in message
    assert "from 1 to 9" in message


def test_numpy_numbers_are_values():
    check_listing(Listing(VALENCE, [Track("x", Path("x.wav"), (np.float32(3),))]), "test")


@pytest.mark.parametrize("name", [*sorted(RESERVED_COLUMNS), "predicted_mood"])
def test_a_target_cannot_be_named_like_another_column(name):
    assert repr(name) in error_of(Listing(Regression((Target(name),)), [Track("x", Path("x.wav"), (3.0,))]))


def test_all_columns_of_the_store_are_reserved():
    names = tracks_schema(Regression((Target("valence"),))).names
    assert set(names) - {"valence"} <= RESERVED_COLUMNS


@pytest.mark.parametrize(
    ("listing", "value"),
    [
        (None, "NoneType"),
        ([], "list"),
        (Listing(("a", "b"), []), "('a', 'b')"),
        (Listing(Classification("ab"), []), "'ab'"),
        (Listing(Classification(("a", "")), []), "''"),
        (Listing(Classification(("a", "b", "a")), []), "'a' twice"),
        (Listing(Regression(()), []), "()"),
        (Listing(Regression(("valence",)), []), "('valence',)"),
        (Listing(Regression((Target("valence"), Target("valence"))), []), "'valence' twice"),
        (Listing(Regression((Target("valence", 9, 1),)), []), "from 9 to 1"),
        (Listing(CLASSES, (track for track in TRACKS)), "generator"),
        (Listing(CLASSES, "tracks"), "str"),
        (Listing(CLASSES, [*TRACKS, "x.wav"]), "'x.wav'"),
        (Listing(CLASSES, TRACKS, absent=-1), "absent=-1"),
        (Listing(CLASSES, TRACKS, absent=None), "absent=None"),
        (Listing(CLASSES, TRACKS, notes="a note"), "'a note'"),
        (Listing(CLASSES, TRACKS, notes=[7]), "[7]"),
        (Listing(CLASSES, TRACKS, schemes=[SPLIT]), "schemes="),
        (Listing(CLASSES, TRACKS, schemes={"artists": SPLIT}), "sequence of Split"),
        (Listing(CLASSES, TRACKS, schemes={"artists": []}), "[]"),
        (Listing(CLASSES, TRACKS, schemes={"artists": [replace(SPLIT, test=frozenset("ab"))]}), "2 ids in both"),
        (Listing(CLASSES, TRACKS, schemes={"artists": [replace(SPLIT, inner=frozenset("a"))]}), "inner="),
        (Listing(CLASSES, TRACKS, schemes={"artists": [replace(SPLIT, inner=(frozenset("c"),))]}), "'c' in an inner"),
        (Listing(CLASSES, TRACKS, schemes={"artists": [replace(SPLIT, inner=(frozenset("a"),) * 2)]}), "two inner"),
    ],
)
def test_wrong_types_are_the_plugins_fault(listing, value):
    message = error_of(listing, PluginError)
    assert value in message
    assert "authors" in message
