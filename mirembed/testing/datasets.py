"""What a dataset has to do, on a copy of its audio."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any
from unittest import SkipTest

from mirembed.errors import DatasetError
from mirembed.hookspecs import Classification, Dataset, Listing, Regression, Track
from mirembed.testing import faults
from mirembed.testing.checks import Broken, Subject, parameters

_GIVEN = "the audio folder"


def listing(subject: Subject) -> None:
    """Return a Listing of at least one Track for a folder that holds a copy."""
    with subject.audio_folder() as audio:
        listed = _list(subject.create(), audio)
    cause = "a return that is missing, or a generator that was used up"
    if not isinstance(listed, Listing):
        raise Broken(f"returns {type(listed).__name__}, expected a Listing", given=_GIVEN, cause=cause)
    if not isinstance(listed.tracks, Sequence):
        what = f"returns tracks that are a {type(listed.tracks).__name__}, expected a list or tuple"
        raise Broken(what, given=_GIVEN, cause="a generator: make a list of it")
    if strange := [track for track in listed.tracks if not isinstance(track, Track)]:
        raise Broken(
            f"lists {strange[0]!r}, which is no Track", given=_GIVEN, cause="a path or dict in place of a Track"
        )
    if not listed.tracks:
        raise Broken("lists no track", given=_GIVEN, cause="endings in upper case, or a folder one level further down")


def task(subject: Subject) -> None:
    """Have a task with distinct classes, or with targets whose names are distinct and whose low is below high."""
    with subject.audio_folder() as audio:
        found: Any = _list(subject.create(), audio).task
    if isinstance(found, Classification):
        fault = faults.of_names("classes", found.classes)
    elif isinstance(found, Regression):
        fault = faults.of_targets(found)
    else:
        fault = f"has the task {found!r}, expected Classification(...) or Regression(...)"
    if fault:
        raise Broken(
            fault, given=_GIVEN, cause="a list in place of a tuple, a comma missing in (name,), or a doubled name"
        )


def ids(subject: Subject) -> None:
    """Give unique ids that do not tell where the folder is."""
    with subject.audio_folder() as audio:
        tracks = _list(subject.create(), audio).tracks
        place = str(audio.resolve())
    seen: dict[str, Track] = {}
    for track in tracks:
        if not faults.is_text(track.id):
            what = f"lists the id {track.id!r}, expected text that is not empty"
            raise Broken(what, given=f"the file {track.path}", cause="a number or a Path in place of str(...)")
        if PurePath(track.id).is_absolute() or f"{place}/" in track.id:
            what = f"lists the id {track.id!r}, which names a folder of this machine"
            raise Broken(
                what, given=f"the file {track.path}", cause="str(path): use path.relative_to(audio).as_posix()"
            )
        if track.id in seen:
            raise Broken(
                f"lists the id {track.id!r} twice",
                given=f"the files {seen[track.id].path} and {track.path}",
                cause="the name of a file without its folder or ending, or a row that is twice in the table",
            )
        seen[track.id] = track


def labels(subject: Subject) -> None:
    """Give every track a label: one of the classes, or for each target a finite value within its range."""
    with subject.audio_folder() as audio:
        listed = _list(subject.create(), audio)
    for track in listed.tracks:
        if isinstance(listed.task, Classification):
            fault = "" if track.label in listed.task.classes else f"expected one of {', '.join(listed.task.classes)}"
        else:
            fault = faults.of_values(track.label, listed.task.targets)
        if fault:
            raise Broken(
                f"gives {track.id!r} the label {track.label!r}, {fault}",
                given=f"the file {track.path}",
                cause="a track that the table does not label: leave it out and count it in the notes; "
                "or another spelling of a class, or a range that is too narrow",
            )


def groups(subject: Subject) -> None:
    """Give as group a text that is not empty, or None."""
    with subject.audio_folder() as audio:
        tracks = _list(subject.create(), audio).tracks
    for track in tracks:
        if track.group is not None and not faults.is_text(track.group):
            raise Broken(
                f"gives {track.id!r} the group {track.group!r}",
                given=f"the file {track.path}",
                cause="an empty cell of a table, or a number: write `str(group) if group else None`",
            )


def paths(subject: Subject) -> None:
    """Give as path a file in the folder that it was given."""
    with subject.audio_folder() as audio:
        home = audio.resolve()
        for track in _list(subject.create(), audio).tracks:
            if not isinstance(track.path, Path):
                what = f"gives {track.id!r} the path {track.path!r}, expected a pathlib.Path"
                raise Broken(what, given=_GIVEN, cause="a name from a table: write audio / name")
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
    found: Any = listed.notes
    if isinstance(found, str) or not isinstance(found, Sequence):
        raise Broken(f"returns the notes {found!r}", given=_GIVEN, cause="one text in place of a list of texts")
    if strange := [note for note in found if not faults.is_text(note) or "\n" in note]:
        raise Broken(f"returns the note {strange[0]!r}", given=_GIVEN, cause="a note of several lines: make several")
    if not faults.is_count(listed.absent):
        what = f"returns absent={listed.absent!r}, expected a whole number from 0"
        raise Broken(what, given=_GIVEN, cause="the tracks in place of their number, or more files than rows")


def card(subject: Subject) -> None:
    """Have a sound Card, where it has one."""
    found = getattr(subject.create(), "card", None)
    if found is None:
        raise SkipTest("it has no card")
    if fault := faults.of_card(found):
        raise Broken(
            f"has a card that {fault}", given="its member `card`", cause="a field that was left out or mixed up"
        )


def schemes(subject: Subject) -> None:
    """Give its official folds, where it has some, as named sequences of Split, each id on one side only."""
    for name, splits in _ask(subject, "schemes").items():
        given = f"the folds {name!r}"
        if not faults.is_text(name) or isinstance(splits, str) or not isinstance(splits, Sequence) or not splits:
            raise Broken(f"has {splits!r}, expected a sequence of Split", given=given, cause="one Split without a list")
        for number, split in enumerate(splits):
            fault = faults.of_split(split)
            if fault:
                raise Broken(
                    f"has a split that {fault}",
                    given=f"{given}, split {number}",
                    cause="tables of train and test that were read with another spelling of ids, or exchanged",
                )


def known_faults(subject: Subject) -> None:
    """Give its known faults, where it knows some, as a mapping of ids to reasons."""
    for track, reason in _ask(subject, "known_faults").items():
        if not faults.is_text(track) or not faults.is_text(reason):
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
