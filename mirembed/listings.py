"""The rules for a dataset's listing.

mirembed calls `check_listing` before it uses a listing; a conformance check in `mirembed.testing` calls one of the
functions below. Each yields the violations that it finds, and relies on the functions before it in `check_listing`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import Any

from mirembed.errors import DatasetError, MirembedError, PluginError
from mirembed.hookspecs import Classification, Listing, Regression, Split, Tags, Target, Task, Track
from mirembed.progress import counted

RESERVED_COLUMNS = frozenset(
    {
        *("id", "recording", "group", "path", "file_size", "file_mtime_ns", "listed", "audio_hash", "duration", "rate"),
        *("backend", "n_frames", "frames_digest", "frames", "shard", "row", "vector", "features", "network"),
        *("label", "known", "prediction", "approach", "seed", "fold", "epoch", "loss"),
        *("model", "in_sample", "embedding", "learner", "method", "score"),
    }
)
"""Columns that some table has beside the targets, which therefore cannot have these names."""


@dataclass(frozen=True)
class Violation:
    """A promise that a listing breaks.

    Attributes
    ----------
    what : str
        Completes a sentence that begins with the dataset's name: ``lists the id 7, expected ...``.
    cause : str
        The usual cause.
    given : str
        The input that breaks it.
    error : type
        What the host raises: `PluginError` for wrong types, `DatasetError` where the data may be to blame.
    """

    what: str
    cause: str
    given: str = "the audio folder"
    error: type[MirembedError] = PluginError


def list_tracks(dataset: Any, audio: Path, file_tags: Callable[[Path], Any]) -> Any:
    """Call the method ``listing`` of a dataset, with the reader of file tags if it takes one."""
    if getattr(dataset, "takes_file_tags", False):
        return dataset.listing(audio, file_tags=file_tags)
    return dataset.listing(audio)


def check_listing(listing: Any, plugin: str) -> None:
    """Raise an error for the first promise that a listing breaks.

    Parameters
    ----------
    listing : object
        What a plugin returned, which may be anything.
    plugin : str
        What to call the plugin in the message.

    Raises
    ------
    DatasetError
        If there are no tracks, an id is duplicated or cannot be stored, or a label does not fit the task.
    PluginError
        If the plugin returned values of the wrong type.
    """
    advice = {
        DatasetError: "check --audio and its annotations, or report it to that plugin's authors",
        PluginError: "report it to that plugin's authors",
    }
    checks = (types, counts, task, presence, ids, labels, groups, paths, schemes)
    for violation in chain.from_iterable(check(listing) for check in checks):
        raise violation.error(f"{plugin} {violation.what}; {advice[violation.error]}")


def types(listing: Any) -> Iterator[Violation]:
    """Check that there is a listing, and that its tracks are a sequence of `Track`."""
    if not isinstance(listing, Listing):
        what = f"returns {type(listing).__name__}, expected a mirembed.Listing"
        yield Violation(what, "a missing return, or a generator that was used up")
    elif isinstance(listing.tracks, str) or not isinstance(listing.tracks, Sequence):
        what = f"returns tracks of the type {type(listing.tracks).__name__}, expected a list or tuple"
        yield Violation(what, "a generator: make it a list")
    else:
        for track in listing.tracks:
            if not isinstance(track, Track):
                yield Violation(f"lists {track!r}, expected a mirembed.Track", "a path or dict instead of a Track")


def counts(listing: Listing) -> Iterator[Violation]:
    """Check that the absent tracks are counted, and that notes and sources are strings."""
    if not is_count(listing.absent):
        what = f"returns absent={listing.absent!r}, expected a whole number of 0 or more"
        yield Violation(what, "the tracks instead of their number, or more files than rows")
    notes: Any = listing.notes
    if isinstance(notes, str) or not isinstance(notes, Sequence) or not all(isinstance(note, str) for note in notes):
        what = f"returns the notes {notes!r}, expected a list of strings"
        yield Violation(what, "one string instead of a list of them")
    for name in ("labels_from", "groups_from"):
        if not isinstance(source := getattr(listing, name), str):
            what = f"returns {name}={source!r}, expected a string such as column 'genre'"
            yield Violation(what, "the columns instead of a description of them")


def presence(listing: Listing) -> Iterator[Violation]:
    """Check that there are tracks."""
    if not listing.tracks:
        cause = "suffixes in upper case, or a folder one level further down"
        yield Violation("lists no tracks", cause, error=DatasetError)


def task(listing: Listing) -> Iterator[Violation]:
    """Check that the task has distinct classes or tags, or targets with distinct, free names and increasing ranges."""
    cause = "a list instead of a tuple, a missing comma in (name,), or a duplicated name"
    found: Any = listing.task
    if found is None:
        return
    if isinstance(found, Classification):
        kind, names = "classes", found.classes
    elif isinstance(found, Tags):
        kind, names = "tags", found.classes
    elif not isinstance(found, Regression):
        what = f"has the task {found!r}, expected Classification(...), Tags(...), Regression(...) or None"
        yield Violation(what, cause)
        return
    elif not isinstance(found.targets, Sequence) or not found.targets or not _all_targets(found.targets):
        yield Violation(f"has the targets {found.targets!r}, expected a tuple of mirembed.Target", cause)
        return
    else:
        kind, names = "targets", tuple(target.name for target in found.targets)
    if isinstance(names, str) or not isinstance(names, Sequence):
        yield Violation(f"has the {kind} {names!r}, expected a tuple of names", cause)
        return
    if not names:
        what = f"has no {kind}, expected a tuple with at least one, or the task None if nothing is labeled"
        yield Violation(what, cause, error=DatasetError)
    seen: set[str] = set()
    for name in names:
        if not is_text(name):
            yield Violation(f"has {name!r} among its {kind}, expected names that are not empty", cause)
        elif name in seen:
            yield Violation(f"has {name!r} twice among its {kind}", cause)
        else:
            seen.add(name)
    for target in found.targets if kind == "targets" else ():
        if target.name in RESERVED_COLUMNS or target.name.startswith("predicted_"):
            what = f"has the target {target.name!r}, a name that is reserved for a column of the store"
            yield Violation(what, "a column of the table that needs another name", error=DatasetError)
        if target.low is not None and target.high is not None and not target.low < target.high:
            what = f"has the target {target.name!r} from {target.low} to {target.high}, expected low below high"
            yield Violation(what, "low and high swapped")


def _all_targets(targets: Sequence[Any]) -> bool:
    return all(isinstance(target, Target) for target in targets)


def ids(listing: Listing) -> Iterator[Violation]:
    """Check that ids are strings that can be stored, relative and unique."""
    seen: dict[str, Track] = {}
    for track in listing.tracks:
        given = f"the file {track.path}"
        if not is_text(track.id):
            what = f"lists the id {track.id!r}, expected a string in valid UTF-8 that is not empty"
            yield Violation(what, "a number or a Path instead of str(...)", given, DatasetError)
        elif os.path.isabs(track.id):  # noqa: PTH117 (much faster than PurePath)
            what = f"lists the id {track.id!r}, an absolute path, which differs between machines"
            yield Violation(what, "str(path): use path.relative_to(audio).as_posix()", given, DatasetError)
        elif track.id in seen:
            both = f"{seen[track.id].path} and {track.path}"
            cause = "a file's name without its folder or suffix, or a row that is twice in the table"
            what = f"lists the id {track.id!r} twice, for {both}"
            yield Violation(what, cause, f"the files {both}", DatasetError)
        else:
            seen[track.id] = track


def labels(listing: Listing) -> Iterator[Violation]:
    """Check that each label is a class, a frozenset of tags, finite values in the ranges of the targets, or None."""
    cause = (
        "an empty cell or NaN in the table: write None for a track without a label; or another spelling of a class or "
        "tag, tags in a list, or a range that is too narrow"
    )
    classes = frozenset(listing.task.classes if isinstance(listing.task, Classification | Tags) else ())
    for track in listing.tracks:
        if expected := _expected_label(track.label, listing.task, classes):
            what = f"gives {track.id!r} the label {track.label!r}, {expected}"
            yield Violation(what, cause, f"the file {track.path}", DatasetError)


def _expected_label(label: Any, task: Task | None, classes: frozenset[str]) -> str:
    """Say what is expected instead of a label; "" for one that fits the task, or None for an unlabeled track.

    ``classes`` are the classes or tags of the task.
    """
    if label is None:
        return ""
    if task is None:
        return "expected None, as the task is None"
    if isinstance(task, Classification):
        if isinstance(label, str) and label in classes:
            return ""
        return f"expected one of the classes {', '.join(task.classes)}"
    if isinstance(task, Tags):
        if not isinstance(label, frozenset):
            return "expected a frozenset of tags"
        unknown = sorted(label - classes, key=str)
        return f"where {unknown[0]!r} is not one of the task's {counted(len(task.classes), 'tag')}" if unknown else ""
    if isinstance(label, str) or not isinstance(label, Sequence) or len(label) != len(task.targets):
        names = ", ".join(target.name for target in task.targets)
        return f"expected a tuple with a value for each target ({names})"
    for target, value in zip(task.targets, label, strict=True):
        low = -math.inf if target.low is None else target.low
        high = math.inf if target.high is None else target.high
        if not (isinstance(value, Real) and math.isfinite(value) and low <= float(value) <= high):
            return f"where {target.name} is {value!r}, expected a finite number from {low:g} to {high:g}"
    return ""


def groups(listing: Listing) -> Iterator[Violation]:
    """Check that groups are strings that can be stored, or None."""
    cause = "an empty cell of a table, or a number: write `str(group) if group else None`"
    expected = "expected None or a string in valid UTF-8 that is not empty"
    for track in listing.tracks:
        if track.group is not None and not is_text(track.group):
            what = f"gives {track.id!r} the group {track.group!r}, {expected}"
            yield Violation(what, cause, f"the file {track.path}", DatasetError)


def schemes(listing: Listing) -> Iterator[Violation]:
    """Check that official folds are sequences of `Split` with each id on one side only."""
    found: Any = listing.schemes
    if not isinstance(found, Mapping):
        yield Violation(f"returns schemes={found!r}, expected a mapping of names to sequences of Split", "a list")
        return
    for name, splits in found.items():
        yield from scheme(name, splits)


def scheme(name: Any, splits: Any) -> Iterator[Violation]:
    """Check that official folds have a name and are a sequence of `Split` with each id on one side only."""
    given = f"the folds {name!r}"
    if not is_text(name) or isinstance(splits, str) or not isinstance(splits, Sequence) or not splits:
        what = f"has {splits!r}, expected a sequence of Split"
        yield Violation(what, "a single Split: put it in a list", given)
        return
    for number, split in enumerate(splits):
        if fault := _split_fault(split):
            cause = "train and test tables with different spellings of ids, or with tracks in common"
            yield Violation(f"has a split that {fault}", cause, f"{given}, split {number}")


def _split_fault(split: Any) -> str:
    if not isinstance(split, Split):
        return f"is {split!r}, expected a Split"
    for side in ("train", "test"):
        found = getattr(split, side)
        if not isinstance(found, frozenset) or not found or not all(map(is_text, found)):
            return f"has {side}={found!r}, expected a non-empty frozenset of ids"
    if shared := sorted(split.train & split.test):
        return f"has {counted(len(shared), 'id')} in both train and test, such as {shared[0]!r}"
    inner: Any = split.inner
    if not isinstance(inner, tuple) or not all(isinstance(tested, frozenset) and tested for tested in inner):
        return f"has inner={inner!r}, expected a tuple of non-empty frozensets of ids"
    if outside := sorted(frozenset().union(*inner) - split.train):
        return f"has {outside[0]!r} in an inner fold and not in train"
    if sum(map(len, inner)) > len(frozenset().union(*inner)):
        return "tests an id in two inner folds"
    return ""


def paths(listing: Listing) -> Iterator[Violation]:
    """Check that paths are of the type pathlib.Path."""
    for track in listing.tracks:
        if not isinstance(track.path, Path):
            what = f"gives {track.id!r} the path {track.path!r}, expected a pathlib.Path"
            yield Violation(what, "a name from a table: write audio / name", error=DatasetError)


def is_text(value: Any) -> bool:
    """Whether a value is a non-empty string that can be stored; file names may hold bytes that are not UTF-8."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
