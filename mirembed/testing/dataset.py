"""The checks of a dataset, run on a copy of its audio: every public function is one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import SkipTest

from mirembed import listings
from mirembed.audio.file_tags import read_file_tags
from mirembed.datasets.download import parse_checksum
from mirembed.errors import DatasetError, SpecError
from mirembed.hookspecs import Archive, Card, Dataset, Listing
from mirembed.progress import first_names
from mirembed.testing import Broken, Subject, broken_by_errors

_GIVEN = "the audio folder"


def listing(subject: Subject) -> None:
    """Return a Listing of at least one Track for a folder that holds a copy of the dataset."""
    takes = getattr(subject.create(), "takes_file_tags", False)
    if not isinstance(takes, bool):
        raise Broken(
            f"has takes_file_tags={takes!r}, expected True or False",
            given="its attribute `takes_file_tags`",
            cause="a method instead of an attribute",
        )
    listed = _listed(subject)
    _require(listings.types(listed))
    _require(listings.presence(listed))


def task(subject: Subject) -> None:
    """Have a task with distinct classes, tags or targets, whose low is below their high; None if nothing is labeled."""
    _require(listings.task(_listed(subject)))


def ids(subject: Subject) -> None:
    """Give unique ids that do not depend on where the folder is."""
    with subject.audio_folder() as audio:
        listed = _list(subject.create(), audio)
        folder = f"{audio.resolve()}/"
    _require(listings.ids(listed))
    for track in listed.tracks:
        if folder in track.id:
            what = f"lists the id {track.id!r}, which includes the path of the audio folder"
            raise Broken(what, given=f"the file {track.path}", cause="use path.relative_to(audio).as_posix()")


def labels(subject: Subject) -> None:
    """Give every track a class, a frozenset of tags or a finite value within the range of each target; or None."""
    _require(listings.labels(_listed(subject)))


def groups(subject: Subject) -> None:
    """Give a non-empty string or None as the group."""
    _require(listings.groups(_listed(subject)))


def paths(subject: Subject) -> None:
    """Give the path of an existing file in the audio folder."""
    with subject.audio_folder() as audio:
        home = audio.resolve()
        listed = _list(subject.create(), audio)
        _require(listings.paths(listed))
        for track in listed.tracks:
            # Links inside the folder may lead out of it.
            inside = Path(os.path.normpath(track.path.absolute())).is_relative_to(audio.absolute())
            if not inside and not track.path.resolve().is_relative_to(home):
                what = f"gives {track.id!r} the path {track.path}, which is outside {audio}"
                raise Broken(what, given=_GIVEN, cause="a folder hard-coded in the plugin or its table")
            if not track.path.is_file():
                what = f"lists {track.id!r}, whose file {track.path} does not exist"
                raise Broken(what, given=_GIVEN, cause="a table row without audio: count it in `absent`")


def stable(subject: Subject) -> None:
    """Return the same listing every time."""
    with subject.audio_folder() as audio:
        dataset: Dataset = subject.create()
        first = _described(_list(dataset, audio), audio)
        for again in (dataset, subject.create()):
            if difference := _difference(_described(_list(again, audio), audio), first):
                raise Broken(
                    f"lists something different the second time: {difference}",
                    given=_GIVEN,
                    cause="random ids, a counter that is not reset, or hash() of a string, which differs between runs",
                )


def portable(subject: Subject) -> None:
    """Give the same ids, labels and groups wherever the folder is."""
    with subject.audio_folder() as audio, tempfile.TemporaryDirectory(prefix="mirembed-") as elsewhere:
        first = _described(_list(subject.create(), audio), audio)
        # A link rather than a copy, which could take long.
        other = Path(elsewhere) / "another folder"
        other.symlink_to(audio.resolve(), target_is_directory=True)
        if difference := _difference(_described(_list(subject.create(), other), other), first):
            raise Broken(
                f"lists the same files differently in another folder: {difference}",
                given=f"{other}, a link to {_GIVEN}",
                cause="an id or group made from the whole path: use path.relative_to(audio)",
            )


def wrong_folder(subject: Subject) -> None:
    """Reject a folder of something else with a DatasetError that says what was expected."""
    cause = "opening a file or indexing a list without checking that it exists"
    with tempfile.TemporaryDirectory(prefix="mirembed-") as folder:
        empty, other = Path(folder) / "empty", Path(folder) / "other"
        empty.mkdir()
        (other / "pictures").mkdir(parents=True)
        (other / "notes.txt").write_text("no music\n")
        (other / "pictures" / "cover.jpg").touch()
        for audio, given in ((empty, "an empty folder"), (other, "a folder with notes.txt and pictures/cover.jpg")):
            try:
                listings.list_tracks(subject.create(), audio, read_file_tags)
            except DatasetError as error:
                if not str(error).strip():
                    what = "raises a DatasetError without a message"
                    raise Broken(what, given=given, cause="raise DatasetError(...) with what was expected") from error
            except Exception as error:
                what = f"raises {type(error).__name__}: {error}; expected a DatasetError"
                raise Broken(what, given=given, cause=cause) from error
            else:
                what = "lists it without raising an error"
                raise Broken(what, given=given, cause="a glob that finds nothing: raise DatasetError if it is empty")


def untouched(subject: Subject) -> None:
    """Leave the folder unchanged: add, modify and delete nothing."""
    with subject.audio_folder() as audio:
        before = dict(_files(audio))
        _list(subject.create(), audio)
        after = dict(_files(audio))
    if changed := sorted(name for name in {*before, *after} if before.get(name) != after.get(name)):
        raise Broken(
            f"changes {first_names(list(map(repr, changed)), 1)}",
            given=_GIVEN,
            cause="a cache or index written beside the audio: the folder may be read-only, and belongs to the user",
        )


def notes(subject: Subject) -> None:
    """Give notes as single lines of text, and the number of absent tracks as an int of 0 or more."""
    listed = _listed(subject)
    _require(listings.counts(listed))
    if strange := [note for note in listed.notes if not listings.is_text(note) or "\n" in note]:
        raise Broken(f"returns the note {strange[0]!r}", given=_GIVEN, cause="a note of several lines: split it up")


def card(subject: Subject) -> None:
    """Have a valid Card, if it has one."""
    found = getattr(subject.create(), "card", None)
    if found is None:
        raise SkipTest("it has no card")
    if fault := _card_fault(found):
        raise Broken(
            f"has a card that {fault}", given="its attribute `card`", cause="a field that is missing or was swapped"
        )


def _card_fault(card: Any) -> str:
    if not isinstance(card, Card):
        return f"is {card!r}, expected a Card"
    for name in ("title", "labels", "license", "citation", "source", "tree"):
        if not isinstance(getattr(card, name), str):
            return f"has {name}={getattr(card, name)!r}, expected a string"
    if not card.title:
        return "has no title"
    if not listings.is_count(card.n_tracks):
        return f"has n_tracks={card.n_tracks!r}, expected a whole number, 0 if it depends on the copy"
    if card.rate is not None and not (listings.is_count(card.rate) and card.rate):
        return f"has rate={card.rate!r}, expected a sampling rate in Hz"
    if card.seconds is not None and not (len(card.seconds) == 2 and 0 <= card.seconds[0] <= card.seconds[1]):
        return f"has seconds={card.seconds!r}, expected the durations of the shortest and the longest track"
    if isinstance(card.archives, Archive):
        return "has a single archive, expected a tuple of archives"
    for archive in card.archives:
        try:
            parse_checksum(archive.checksum)
        except SpecError as error:
            return f"has a checksum that cannot be read: {error}"
    return ""


def schemes(subject: Subject) -> None:
    """Give its official folds, if it has any, as named sequences of Split, with each id on one side only."""
    listed = _listed(subject)
    _require(listings.schemes(listed))
    if listed.schemes and not hasattr(subject.create(), "schemes"):
        return
    for name, splits in _ask(subject, "schemes").items():
        _require(listings.scheme(name, splits))


def known_faults(subject: Subject) -> None:
    """Give its known faults, if it has any, as a mapping of ids to reasons."""
    for track, reason in _ask(subject, "known_faults").items():
        if not listings.is_text(track) or not listings.is_text(reason):
            raise Broken(
                f"has the fault {track!r}: {reason!r}, expected two non-empty strings",
                given="known_faults()",
                cause="a set of ids without reasons",
            )


def _require(violations: Iterator[listings.Violation]) -> None:
    """Raise `Broken` for the first violation, if there is one."""
    for violation in violations:
        raise Broken(violation.what, given=violation.given, cause=violation.cause)


def _listed(subject: Subject) -> Listing:
    with subject.audio_folder() as audio:
        return _list(subject.create(), audio)


def _list(dataset: Dataset, audio: Path) -> Listing:
    with broken_by_errors(
        "cannot list it",
        given=f"{_GIVEN} {audio}",
        cause="a folder that is not a copy of this dataset, or a missing table, file or column",
    ):
        listed: Listing = listings.list_tracks(dataset, audio, read_file_tags)
        return listed


def _ask(subject: Subject, method: str) -> Mapping[Any, Any]:
    """Call an optional method that returns a mapping."""
    function = getattr(subject.create(), method, None)
    if function is None:
        raise SkipTest(f"it has no method {method}")
    cause = "a return value that is not a mapping, or reading the audio folder, which this method is not given"
    with broken_by_errors("fails", given=f"{method}()", cause=cause):
        return dict(function())


def _described(listed: Listing, audio: Path) -> dict[str, Any]:
    """Return the label, group and relative path of each track by its id."""
    described: dict[str, Any] = {}
    for track in listed.tracks:
        name = f"{track.id} (again)" if track.id in described else track.id
        path = os.path.relpath(Path(track.path).resolve(), audio.resolve())
        described[name] = (track.label, track.group, path)
    return described


def _difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Describe the first difference; empty if there is none."""
    for name in sorted({*found, *expected}, key=str):
        if name not in found or name not in expected:
            return f"{name!r} is listed only the {'second' if name in found else 'first'} time"
        for what, now, before in zip(("label", "group", "path"), found[name], expected[name], strict=True):
            if now != before:
                return f"{name!r} has the {what} {now!r}, which was {before!r} the first time"
    return ""


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the size and modification time of everything in a folder."""
    for path in folder.rglob("*"):
        status = path.lstat()
        yield path.relative_to(folder).as_posix(), (status.st_size if path.is_file() else 0, status.st_mtime_ns)
