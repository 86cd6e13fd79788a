"""`mirembed.testing` finds what is wrong with a dataset, and nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, ClassVar

import mutagen
import numpy as np
import pytest
import soundfile
from broken_promises import assert_breaks, failures
from pages import blocks, read

from mirembed import (
    Archive,
    Card,
    Classification,
    DatasetError,
    Listing,
    Regression,
    Split,
    Tags,
    Target,
    Task,
    Track,
    read_file_tags,
)
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec
from mirembed.testing import ConformanceError, check_dataset, promises, run_checks

SOUND_CARD = Card("Tones", 4, "2 classes", "CC0", "", "Make them.", "<class>/<number>.wav")
FILES = ("high/0.wav", "high/1.wav", "low/0.wav", "low/1.wav")


def write_copy(folder: Path) -> None:
    """Write empty files: listing does not read the audio."""
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


class Tones:
    """A sound dataset; the others override parts of it."""

    task: Task = Classification(("high", "low"))

    def listing(self, audio: Path) -> Listing:
        files = sorted(audio.rglob("*.wav"))
        if not files:
            raise DatasetError(f"{audio} holds no WAV file; give the folder with high/ and low/")
        return Listing(self.task, [Track(**self.track(audio, file)) for file in files])

    def track(self, audio: Path, file: Path) -> dict[str, Any]:
        label = file.parent.name if isinstance(self.task, Classification) else (0.5,)
        return {"id": file.relative_to(audio).as_posix(), "path": file, "label": label}


def with_task(task: Any) -> type:
    return type("WithTask", (Tones,), {"task": task})


def with_member(name: str, value: Any) -> type:
    return type("WithMember", (Tones,), {name: value})


def with_track(**changed: Any) -> type:
    """A dataset whose tracks have other members; functions are called with the folder and the file."""

    def track(self: Tones, audio: Path, file: Path) -> dict[str, Any]:
        values = {name: value(audio, file) if callable(value) else value for name, value in changed.items()}
        return Tones.track(self, audio, file) | values

    return type("WithTrack", (Tones,), {"track": track})


def with_label(label: Any, task: Task | None) -> type:
    return type("WithLabel", (with_track(label=label),), {"task": task})


def with_listing(**changed: Any) -> type:
    def listing(self: Tones, audio: Path) -> Listing:
        found = Tones.listing(self, audio)
        return Listing(**{"task": found.task, "tracks": found.tracks, **changed})

    return type("WithListing", (Tones,), {"listing": listing})


class Generator(Tones):
    def listing(self, audio: Path) -> Listing:
        found = super().listing(audio)
        return Listing(found.task, (track for track in found.tracks))


class Growing(Tones):
    """Keeps the tracks of earlier calls."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []

    def listing(self, audio: Path) -> Listing:
        self.tracks.extend(super().listing(audio).tracks)
        return Listing(self.task, self.tracks)


class Counting(Tones):
    numbers = itertools.count()

    def track(self, audio: Path, file: Path) -> dict[str, Any]:
        return super().track(audio, file) | {"id": str(next(self.numbers))}


class Silent(Tones):
    def listing(self, audio: Path) -> Listing:
        return Listing(self.task, [Track(**self.track(audio, file)) for file in sorted(audio.rglob("*.wav"))])


class Unguarded(Tones):
    def listing(self, audio: Path) -> Listing:
        next(iter((audio / "high").iterdir()))
        return super().listing(audio)


class Mute(Tones):
    def listing(self, audio: Path) -> Listing:
        try:
            return super().listing(audio)
        except DatasetError:
            raise DatasetError from None


class Caching(Tones):
    def listing(self, audio: Path) -> Listing:
        found = super().listing(audio)
        (audio / "index.json").write_text("{}")
        return found


class Untyped(Tones):
    def __init__(self, minimum=3) -> None:
        self.minimum = minimum


ONE_TARGET = Regression((Target("valence", 0, 1),))
BROKEN: dict[str, tuple[type, str, str]] = {
    "a generator of tracks": (Generator, "listing", "generator"),
    "parameter without annotation": (Untyped, "parameters", "minimum is '3'"),
    "a tag twice": (with_label(frozenset(), Tags(("calm", "calm"))), "task", "'calm' twice"),
    "no tags": (with_label(frozenset(), Tags(())), "task", "no tags"),
    "tags in a list": (with_label(["calm"], Tags(("calm", "loud"))), "labels", "frozenset"),
    "an unknown tag": (with_label(frozenset({"Calm"}), Tags(("calm", "loud"))), "labels", "'Calm'"),
    "a class twice": (with_task(Classification(("high", "low", "low"))), "task", "'low' twice"),
    "a target twice": (
        with_label((0.5, 0.5), Regression((Target("valence"), Target("valence")))),
        "task",
        "'valence' twice",
    ),
    "a range from high to low": (
        with_label((0.5,), Regression((Target("valence", 0.5, 0.5),))),
        "task",
        "from 0.5 to 0.5",
    ),
    "a target with a column's name": (
        with_label((0.5,), Regression((Target("frames"),))),
        "task",
        "the target 'frames'",
    ),
    "duplicate ids": (
        with_track(id=lambda audio, file: file.name),
        "ids",
        "'0.wav' twice",
    ),
    "absolute ids": (
        with_track(id=lambda audio, file: str(file)),
        "ids portable",
        "/high/0.wav'",
    ),
    "numbers for ids": (
        with_track(id=lambda audio, file: FILES.index(f"{file.parent.name}/{file.name}")),
        "ids",
        "id 0",
    ),
    "file tags that are maybe taken": (
        with_member("takes_file_tags", None),
        "listing",
        "takes_file_tags=None",
    ),
    "empty labels": (with_track(label=""), "labels", "the label ''"),
    "labels without a task": (with_label("high", None), "labels", "expected None"),
    "unknown classes": (with_track(label="High"), "labels", "the label 'High'"),
    "a value missing": (
        with_label((0.5,), Regression((Target("valence"), Target("arousal")))),
        "labels",
        "(valence, arousal)",
    ),
    "a value that is NaN": (
        with_label((float("nan"),), ONE_TARGET),
        "labels",
        "valence is nan",
    ),
    "a value out of range": (
        with_label((5.0,), ONE_TARGET),
        "labels",
        "valence is 5.0",
    ),
    "a value without a tuple": (with_label(0.5, ONE_TARGET), "labels", "the label 0.5"),
    "empty groups": (with_track(group=""), "groups", "the group ''"),
    "numbers for groups": (with_track(group=7), "groups", "the group 7"),
    "text for paths": (with_track(path=lambda audio, file: str(file)), "paths", "pathlib.Path"),
    "absent files": (
        with_track(path=lambda audio, file: file.with_suffix(".mp3")),
        "paths",
        "high/0.mp3",
    ),
    "files from elsewhere": (
        with_track(path=lambda audio, file: Path(__file__)),
        "paths",
        __file__,
    ),
    "tracks kept from before": (Growing, "stable", "'high/0.wav (again)'"),
    "ids that are counted": (Counting, "stable portable", "second time"),
    "a group from the folder's name": (
        with_track(group=lambda audio, file: audio.name),
        "portable",
        "the group 'another folder'",
    ),
    "an empty listing of another folder": (
        Silent,
        "wrong-folder",
        "an empty folder",
    ),
    "another exception for another folder": (
        Unguarded,
        "wrong-folder",
        "FileNotFoundError",
    ),
    "no message for another folder": (Mute, "wrong-folder", "raises a DatasetError without a message"),
    "a file left in the folder": (Caching, "untouched", "'index.json'"),
    "a text for notes": (with_listing(notes="all is well"), "notes", "'all is well'"),
    "a note of two lines": (with_listing(notes=["one\ntwo"]), "notes", r"'one\ntwo'"),
    "a negative number of absent tracks": (with_listing(absent=-1), "notes", "absent=-1"),
    "a card of text": (with_member("card", "Tones"), "card", "'Tones'"),
    "a card without a number": (
        with_member("card", Card("Tones", "four", "", "", "", "", "")),
        "card",
        "n_tracks='four'",
    ),
    "a checksum without its kind": (
        with_member("card", Card("Tones", 4, "", "", "", "", "", archives=(Archive("https://a.b", "d41d8c"),))),
        "card",
        "'d41d8c'",
    ),
    "a split without a list": (
        with_member("schemes", lambda self: {"official": Split(frozenset("a"), frozenset("b"))}),
        "schemes",
        "'official'",
    ),
    "an id on both sides": (
        with_member("schemes", lambda self: {"official": [Split(frozenset("ab"), frozenset("b"))]}),
        "schemes",
        "1 id in both train and test, such as 'b'",
    ),
    "lists for sets": (
        with_member("schemes", lambda self: {"official": [Split(["a"], ["b"])]}),
        "schemes",
        "train=['a']",
    ),
    "faults without reasons": (
        with_member("known_faults", lambda self: {"high/0.wav": ""}),
        "known-faults",
        "'high/0.wav'",
    ),
    "faults that are no mapping": (
        with_member("known_faults", lambda self: {"high/0.wav"}),
        "known-faults",
        "ValueError",
    ),
}
"""Broken datasets, the checks that fail, and a part of the message: mostly the value at fault."""


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_promise_is_found_and_no_other_is_reported(fault):
    factory, names, fragment = BROKEN[fault]
    assert_breaks(failures("dataset", factory, write_copy), names, fragment)


def test_every_check_finds_a_fault():
    assert {names.split()[0] for _, names, _ in BROKEN.values()} == {p.name for p in promises("dataset")}


class Complete(Tones):
    card: ClassVar[Card] = SOUND_CARD

    def schemes(self) -> dict[str, list[Split]]:
        return {"halves": [Split(frozenset(FILES[::2]), frozenset(FILES[1::2]))]}

    def known_faults(self) -> dict[str, str]:
        return {FILES[0]: "silent"}

    def synthesize(self, audio: Path) -> None:
        write_copy(audio)


def label_high(audio: Path, file: Path) -> str | None:
    """Label the files of one folder."""
    return "high" if file.parent.name == "high" else None


@pytest.mark.parametrize(
    "sound",
    [
        Tones,
        Complete,
        with_label((0.5,), ONE_TARGET),
        with_label(label_high, Tones.task),
        with_label(None, None),
    ],
)
def test_a_sound_dataset_passes_all_checks(sound):
    assert failures("dataset", sound, write_copy) == {}


def test_the_documented_dataset_of_file_tags_passes_all_checks(tmp_path):
    """With files that say something, and with files that do not."""
    [code] = [code for code in blocks(read("docs/plugin-authors.md"), "python") if "takes_file_tags" in code]
    names: dict[str, Any] = {}
    exec(compile(code, "plugin-authors.md", "exec"), names)
    assert failures("dataset", names["Artists"], write_copy) == {}
    for name, artist in (("a.flac", "Nina"), ("b.flac", None), ("c.flac", "Ann")):
        soundfile.write(tmp_path / name, np.zeros(100), 22_050)
        if artist is not None:
            tags = mutagen.File(tmp_path / name)
            tags["artist"] = artist
            tags.save()
    check_dataset(names["Artists"], tmp_path)
    listed = names["Artists"]().listing(tmp_path, read_file_tags)
    assert listed.task == Classification(("Ann", "Nina"))
    assert {track.id: track.label for track in listed.tracks} == {"a.flac": "Nina", "b.flac": None, "c.flac": "Ann"}


def test_the_audio_is_a_folder_a_function_or_synthesized_by_the_dataset(tmp_path):
    write_copy(tmp_path)
    check_dataset(Tones, tmp_path)
    check_dataset(Tones, write_copy)
    check_dataset(Complete)
    with pytest.raises(DatasetError, match=r"Tones.*--audio"):
        check_dataset(Tones)


def test_for_a_folder_that_is_not_a_copy_the_error_of_the_dataset_is_shown(tmp_path):
    with pytest.raises(ConformanceError) as error:
        check_dataset(Tones, tmp_path)
    for text in ("dataset Tones, listing: ", f"{tmp_path} holds no WAV file; give the folder with high/ and low/"):
        assert text in str(error.value)


@pytest.mark.parametrize("returned", [None, [], "tracks"])
def test_the_type_of_anything_but_a_listing_is_shown(returned):
    with pytest.raises(ConformanceError, match=type(returned).__name__):
        check_dataset(with_member("listing", lambda self, audio: returned), write_copy)


class Unable(Tones):
    def synthesize(self, audio: Path) -> None:
        (audio / "high" / "0.wav").touch()


class Unmade(Tones):
    def __init__(self) -> None:
        raise RuntimeError("no license")


@pytest.mark.parametrize(
    ("factory", "what"),
    [
        (Unable, "FileNotFoundError"),
        (Unmade, "RuntimeError: no license"),
    ],
)
def test_a_dataset_that_cannot_synthesize_its_audio_fails_the_first_check(factory, what):
    with pytest.raises(ConformanceError, match=f"dataset {factory.__name__}, listing: .*{what}"):
        check_dataset(factory)
    registry = Registry([Plugin("dataset", "tones", factory, "", "mirembed-tones", "1.0")])
    [outcome] = run_checks("dataset", registry, Spec("tones"))
    assert (outcome.check, outcome.status) == ("listing", "failed")
    assert what in outcome.reason
