"""What a dataset plugin promises of its listing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path, PurePath
from typing import Any

from mirembed.errors import DatasetError, PluginError
from mirembed.hookspecs import Classification, Listing, Regression, Target, Track
from mirembed.store.rows import label_names


def check_listing(listing: Listing, plugin: str) -> None:
    """Check what a dataset plugin promises.

    Raises
    ------
    DatasetError
        If there is no track, an id is doubled or not fit to be one, a path is not fit to be stored, or a label is
        not one of the task's.
    PluginError
        If it is no listing at all.
    """
    _check_shape(listing, plugin)
    if not listing.tracks:
        raise DatasetError(f"{plugin} lists no track in this folder; check --audio")
    label_names(listing.task)
    seen: dict[str, Track] = {}
    for track in listing.tracks:
        _check_names(track, plugin)
        if track.id in seen:
            raise DatasetError(
                f"{plugin} lists {track.id!r} twice ({seen[track.id].path} and {track.path}); ids must be unique"
            )
        seen[track.id] = track
        if isinstance(listing.task, Classification):
            if track.label not in listing.task.classes or not _is_text(track.label):
                raise DatasetError(f"{plugin}: {track.id} has the label {track.label!r}, which is no class of it")
        else:
            _check_values(track, listing.task, plugin)


def _check_shape(listing: Any, plugin: str) -> None:
    """Check the types of what a plugin gave, which is code that no type checker may have seen."""
    if not isinstance(listing, Listing):
        raise PluginError(f"{plugin} returns {type(listing).__name__} from listing(); expected a mirembed.Listing")
    if not isinstance(listing.task, Classification | Regression):
        raise PluginError(f"{plugin} lists for the task {listing.task!r}; expected Classification or Regression")
    if isinstance(listing.task, Classification):
        names: Any = listing.task.classes
        sound = not isinstance(names, str) and all(_is_text(name) for name in names) and len(set(names)) == len(names)
        expected = "a tuple of distinct names"
    else:
        names = listing.task.targets
        sound = len(names) > 0 and all(isinstance(target, Target) and _is_text(target.name) for target in names)
        expected = "a tuple of mirembed.Target, one or more"
    if not sound:
        raise PluginError(f"{plugin} has the classes or targets {names!r}; expected {expected}")
    if isinstance(listing.tracks, str) or not isinstance(listing.tracks, Sequence):
        raise PluginError(f"{plugin} has a {type(listing.tracks).__name__} of tracks; expected a list or tuple")
    for track in listing.tracks:
        if not isinstance(track, Track):
            raise PluginError(f"{plugin} lists {track!r}; expected a mirembed.Track")
    if not isinstance(listing.absent, int) or listing.absent < 0:
        raise PluginError(f"{plugin} counts {listing.absent!r} absent tracks; expected a number, 0 or more")
    if isinstance(listing.notes, str) or not all(isinstance(note, str) for note in listing.notes):
        raise PluginError(f"{plugin} has the notes {listing.notes!r}; expected a list of lines")


def _check_names(track: Track, plugin: str) -> None:
    blame = "report it to that plugin's authors"
    if not _is_text(track.id) or not track.id or PurePath(track.id).is_absolute():
        raise DatasetError(f"{plugin} lists the id {track.id!r}; expected a relative path in valid UTF-8: {blame}")
    if track.group is not None and not _is_text(track.group):
        raise DatasetError(f"{plugin}: {track.id} has the group {track.group!r}; expected valid UTF-8 or None: {blame}")
    if not isinstance(track.path, Path):
        raise DatasetError(f"{plugin}: {track.id} has the path {track.path!r}; expected a pathlib.Path: {blame}")


def _check_values(track: Track, task: Regression, plugin: str) -> None:
    values: Any = track.label
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != len(task.targets):
        raise DatasetError(f"{plugin}: {track.id} needs {len(task.targets)} values, has {values!r}")
    for target, value in zip(task.targets, values, strict=True):
        low = -math.inf if target.low is None else target.low
        high = math.inf if target.high is None else target.high
        if not (_is_finite(value) and low <= value <= high):
            raise DatasetError(f"{plugin}: {track.id} has {target.name}={value}, outside {low} to {high}")


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    """Whether a value is a string that can be stored: a file's name need not be valid text."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
