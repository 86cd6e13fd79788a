"""What a dataset has to do, on a copy of its audio."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import SkipTest

from mirembed import listings
from mirembed.datasets.fetch_files import Checksum
from mirembed.errors import DatasetError, SpecError
from mirembed.hookspecs import Archive, Card, Dataset, Listing, Split
from mirembed.progress import counted
from mirembed.testing.checks import Broken, Subject, parameters

_GIVEN = "the audio folder"


def listing(subject: Subject) -> None:
    """Return a Listing of at least one Track for a folder that holds a copy."""
    with subject.audio_folder() as audio:
        listed = _list(subject.create(), audio)
    _require(listings.types(listed))
    _require(listings.presence(listed))


def task(subject: Subject) -> None:
    """Have a task with distinct classes, or with targets whose names are distinct and whose low is below high."""
    with subject.audio_folder() as audio:
        _require(listings.task(_list(subject.create(), audio)))


def ids(subject: Subject) -> None:
    """Give unique ids that do not tell where the folder is."""
    with subject.audio_folder() as audio:
        listed = _list(subject.create(), audio)
        folder = f"{audio.resolve()}/"
    _require(listings.ids(listed))
    for track in listed.tracks:
        if folder in track.id:
            what = f"lists the id {track.id!r}, which names a folder of this machine"
            raise Broken(what, given=f"the file {track.path}", cause="use path.relative_to(audio).as_posix()")


def labels(subject: Subject) -> None:
    """Give every track a label: one of the classes, or for each target a finite value within its range."""
    with subject.audio_folder() as audio:
        _require(listings.labels(_list(subject.create(), audio)))


def groups(subject: Subject) -> None:
    """Give as group a text that is not empty, or None."""
    with subject.audio_folder() as audio:
        _require(listings.groups(_list(subject.create(), audio)))


def paths(subject: Subject) -> None:
    """Give as path a file in the folder that it was given."""
    with subject.audio_folder() as audio:
        home = audio.resolve()
        listed = _list(subject.create(), audio)
        _require(listings.paths(listed))
        for track in listed.tracks:
            # Not the file that a link leads to: only where the plugin looks.
            inside = Path(os.path.normpath(track.path.absolute())).is_relative_to(audio.absolute())
            if not inside and not track.path.resolve().is_relative_to(home):
                what = f"gives {track.id!r} the path {track.path}, outside of {audio}"
                raise Broken(what, given=_GIVEN, cause="a folder that is written into the plugin or its table")
            if not track.path.is_file():
                what = f"lists {track.id!r}, whose file {track.path} is not there"
                raise Broken(what, given=_GIVEN, cause="a row of a table without its audio: count it in `absent`")


def stable(subject: Subject) -> None:
    """List the same when it is asked again."""
    with subject.audio_folder() as audio:
        dataset: Dataset = subject.create()
        first = _described(_list(dataset, audio), audio)
        for again in (dataset, subject.create()):
            if difference := _difference(_described(_list(again, audio), audio), first):
                raise Broken(
                    f"lists something else the second time: {difference}",
                    given=_GIVEN,
                    cause="random ids, a count that goes on, or hash() of a text, which differs from run to run",
                )


def portable(subject: Subject) -> None:
    """Give the same ids, labels and groups wherever the folder is."""
    with subject.audio_folder() as audio, tempfile.TemporaryDirectory(prefix="mirembed-") as elsewhere:
        first = _described(_list(subject.create(), audio), audio)
        # Another path to the same folder: a copy of a large one would take long.
        other = Path(elsewhere) / "another place"
        other.symlink_to(audio.resolve(), target_is_directory=True)
        if difference := _difference(_described(_list(subject.create(), other), other), first):
            raise Broken(
                f"lists the folder otherwise in another place: {difference}",
                given=f"{other}, a link to {_GIVEN}",
                cause="an id or a group made of the whole path: make it of path.relative_to(audio)",
            )


def wrong_folder(subject: Subject) -> None:
    """Refuse a folder that is not its own with a DatasetError that says what was expected."""
    cause = "a file that is opened or a list that is indexed before looking whether it is there"
    with tempfile.TemporaryDirectory(prefix="mirembed-") as place:
        empty, other = Path(place) / "empty", Path(place) / "other"
        empty.mkdir()
        (other / "pictures").mkdir(parents=True)
        (other / "notes.txt").write_text("no music\n")
        (other / "pictures" / "cover.jpg").touch()
        for audio, given in ((empty, "an empty folder"), (other, "a folder with notes.txt and pictures/cover.jpg")):
            try:
                subject.create().listing(audio)
            except DatasetError as error:
                if not str(error).strip():
                    what = "raises a DatasetError without a message"
                    raise Broken(what, given=given, cause="raise DatasetError with what was expected") from error
            except Exception as error:
                what = f"raises {type(error).__name__}: {error}; expected a DatasetError"
                raise Broken(what, given=given, cause=cause) from error
            else:
                what = "lists it without an error"
                raise Broken(what, given=given, cause="a glob that finds nothing: raise DatasetError when it is empty")


def untouched(subject: Subject) -> None:
    """Change, add and delete nothing in the folder."""
    with subject.audio_folder() as audio:
        before = dict(_files(audio))
        _list(subject.create(), audio)
        after = dict(_files(audio))
    if changed := sorted(name for name in {*before, *after} if before.get(name) != after.get(name)):
        raise Broken(
            f"changes {changed[0]!r}" + (f" and {len(changed) - 1} more" if len(changed) > 1 else ""),
            given=_GIVEN,
            cause="a cache or an index beside the audio: the folder may be read-only, and is not the plugin's",
        )


def notes(subject: Subject) -> None:
    """Give notes as lines of text, and the absent tracks as a number from 0."""
    with subject.audio_folder() as audio:
        listed = _list(subject.create(), audio)
    _require(listings.counts(listed))
    if strange := [note for note in listed.notes if not listings.is_text(note) or "\n" in note]:
        raise Broken(f"returns the note {strange[0]!r}", given=_GIVEN, cause="a note of several lines: make several")


def card(subject: Subject) -> None:
    """Have a sound Card, where it has one."""
    found = getattr(subject.create(), "card", None)
    if found is None:
        raise SkipTest("it has no card")
    if fault := _card_fault(found):
        raise Broken(
            f"has a card that {fault}", given="its member `card`", cause="a field that was left out or mixed up"
        )


def _card_fault(card: Any) -> str:
    if not isinstance(card, Card):
        return f"is {card!r}, expected a Card"
    for name in ("title", "labels", "license", "citation", "source", "tree"):
        if not isinstance(getattr(card, name), str):
            return f"has {name}={getattr(card, name)!r}, expected text"
    if not card.title:
        return "has no title"
    if not listings.is_count(card.n_tracks):
        return f"has n_tracks={card.n_tracks!r}, expected a whole number, 0 where it depends on the copy"
    if card.rate is not None and not (listings.is_count(card.rate) and card.rate):
        return f"has rate={card.rate!r}, expected Hz"
    if card.seconds is not None and not (len(card.seconds) == 2 and 0 <= card.seconds[0] <= card.seconds[1]):
        return f"has seconds={card.seconds!r}, expected the shortest and the longest track"
    if isinstance(card.archives, Archive):
        return "has one archive in place of a tuple of archives"
    for archive in card.archives:
        try:
            Checksum.parse(archive.checksum)
        except SpecError as error:
            return f"has a checksum that cannot be read: {error}"
    return ""


def schemes(subject: Subject) -> None:
    """Give its official folds, where it has some, as named sequences of Split, each id on one side only."""
    for name, splits in _ask(subject, "schemes").items():
        given = f"the folds {name!r}"
        if not listings.is_text(name) or isinstance(splits, str) or not isinstance(splits, Sequence) or not splits:
            raise Broken(f"has {splits!r}, expected a sequence of Split", given=given, cause="one Split without a list")
        for number, split in enumerate(splits):
            if fault := _split_fault(split):
                raise Broken(
                    f"has a split that {fault}",
                    given=f"{given}, split {number}",
                    cause="tables of train and test that were read with another spelling of ids, or exchanged",
                )


def _split_fault(split: Any) -> str:
    if not isinstance(split, Split):
        return f"is {split!r}, expected a Split"
    for side in ("train", "test"):
        found = getattr(split, side)
        if not isinstance(found, frozenset) or not found or not all(map(listings.is_text, found)):
            return f"has {side}={found!r}, expected a frozenset of ids that is not empty"
    if shared := sorted(split.train & split.test):
        return f"has {counted(len(shared), 'id')} in train and in test, such as {shared[0]!r}"
    return ""


def known_faults(subject: Subject) -> None:
    """Give its known faults, where it knows some, as a mapping of ids to reasons."""
    for track, reason in _ask(subject, "known_faults").items():
        if not listings.is_text(track) or not listings.is_text(reason):
            raise Broken(
                f"has the fault {track!r}: {reason!r}, expected two texts that are not empty",
                given="known_faults()",
                cause="a set of ids without reasons",
            )


PROMISES: tuple[Callable[[Subject], None], ...] = (
    listing,
    parameters,
    task,
    ids,
    labels,
    groups,
    paths,
    stable,
    portable,
    wrong_folder,
    untouched,
    notes,
    card,
    schemes,
    known_faults,
)


def _require(violations: Iterator[listings.Violation]) -> None:
    """Raise `Broken` for the first violation, if there is one."""
    for violation in violations:
        raise Broken(violation.what, given=violation.given, cause=violation.cause)


def _list(dataset: Dataset, audio: Path) -> Listing:
    try:
        return dataset.listing(audio)
    except Exception as error:
        raise Broken(
            f"cannot list it: {type(error).__name__}: {error}",
            given=f"{_GIVEN} {audio}",
            cause="a folder that is not a copy of this dataset; or a table, a file or a column that is not there",
        ) from error


def _ask(subject: Subject, method: str) -> Mapping[Any, Any]:
    """Return what an optional method tells."""
    function = getattr(subject.create(), method, None)
    if function is None:
        raise SkipTest(f"it has no method {method}")
    try:
        return dict(function())
    except Exception as error:
        raise Broken(
            f"fails: {type(error).__name__}: {error}",
            given=f"{method}()",
            cause="something other than a mapping, or a file in the audio folder: it is asked without one",
        ) from error


def _described(listed: Listing, audio: Path) -> dict[str, Any]:
    """Return label, group and place of each track by its id."""
    described: dict[str, Any] = {}
    for track in listed.tracks:
        name = f"{track.id} (once more)" if track.id in described else track.id
        place = os.path.relpath(Path(track.path).resolve(), audio.resolve())
        described[name] = (track.label, track.group, place)
    return described


def _difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Say what the first difference is, if there is one."""
    for name in sorted({*found, *expected}, key=str):
        if name not in found or name not in expected:
            return f"{name!r} is listed only {'then' if name in found else 'at first'}"
        for what, then, before in zip(("label", "group", "path"), found[name], expected[name], strict=True):
            if then != before:
                return f"{name!r} has the {what} {then!r}, at first {before!r}"
    return ""


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Give the size and the time of change of everything in a folder."""
    for path in folder.rglob("*"):
        status = path.lstat()
        yield path.relative_to(folder).as_posix(), (status.st_size if path.is_file() else 0, status.st_mtime_ns)
