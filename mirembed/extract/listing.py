"""What a dataset plugin promises of its listing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path, PurePath
from typing import Any

from mirembed.errors import DatasetError
from mirembed.hookspecs import Classification, Listing, Regression, Track
from mirembed.store.rows import label_names


def check_listing(listing: Listing, plugin: str) -> None:
    """Check what a dataset plugin promises.

    Raises
    ------
    DatasetError
        If there is no track, an id is doubled or not fit to be one, a path is not fit to be stored, or a label is
        not one of the task's.
    """
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
