"""What is wrong with the parts of a dataset, in words that end a sentence about it; empty when nothing is."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Real
from typing import Any

from mirembed.errors import DatasetError
from mirembed.hookspecs import Archive, Card, Regression, Split, Target
from mirembed.store.rows import label_names

_CHECKSUM = re.compile(r"sha256:[0-9a-fA-F]{64}|md5:[0-9a-fA-F]{32}")


def of_names(what: str, names: Any) -> str:
    """Of the classes of a task, or the names of its targets."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        return f"has the {what} {names!r}, expected a tuple of texts"
    if strange := [name for name in names if not is_text(name)]:
        return f"has {strange[0]!r} among its {what}, expected texts that are not empty"
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        return f"has {doubled[0]!r} twice among its {what}"
    return ""


def of_targets(task: Regression) -> str:
    """Of the targets of a regression."""
    targets: Any = task.targets
    if not isinstance(targets, Sequence) or not all(isinstance(target, Target) for target in targets):
        return f"has the targets {targets!r}, expected a tuple of Target"
    if fault := of_names("targets", tuple(target.name for target in targets)):
        return fault
    for target in targets:
        if None not in (target.low, target.high) and not target.low < target.high:
            return f"has the target {target.name!r} from {target.low} to {target.high}"
    try:
        label_names(task)
    except DatasetError as error:
        return f"has a target whose name is taken: {error}"
    return ""


def of_values(label: Any, targets: Sequence[Target]) -> str:
    """Of the label of a track in a regression."""
    if isinstance(label, str) or not isinstance(label, Sequence) or len(label) != len(targets):
        return f"expected a tuple of {len(targets)} values, for {', '.join(target.name for target in targets)}"
    for target, value in zip(targets, label, strict=True):
        low = -math.inf if target.low is None else target.low
        high = math.inf if target.high is None else target.high
        if not (isinstance(value, Real) and math.isfinite(value) and low <= float(value) <= high):
            return f"whose {target.name} is {value!r}, expected a finite number from {low:g} to {high:g}"
    return ""


def of_card(card: Any) -> str:
    """Of a dataset's card."""
    if not isinstance(card, Card):
        return f"is {card!r}, expected a Card"
    for name in ("title", "labels", "license", "citation", "source", "tree"):
        if not isinstance(getattr(card, name), str):
            return f"has {name}={getattr(card, name)!r}, expected text"
    if not card.title:
        return "has no title"
    if not is_count(card.n_tracks):
        return f"has n_tracks={card.n_tracks!r}, expected a whole number, 0 where it depends on the copy"
    if card.rate is not None and not (is_count(card.rate) and card.rate):
        return f"has rate={card.rate!r}, expected Hz"
    if card.seconds is not None and not (len(card.seconds) == 2 and 0 <= card.seconds[0] <= card.seconds[1]):
        return f"has seconds={card.seconds!r}, expected the shortest and the longest track"
    if isinstance(card.archives, Archive):
        return "has one archive in place of a tuple of archives"
    for archive in card.archives:
        if not _CHECKSUM.fullmatch(archive.checksum):
            return f"has the checksum {archive.checksum!r}, expected sha256: or md5: and as many hexadecimal digits"
    return ""


def of_split(split: Any) -> str:
    """Of one official fold."""
    if not isinstance(split, Split):
        return f"is {split!r}, expected a Split"
    for side in ("train", "test"):
        found = getattr(split, side)
        if not isinstance(found, frozenset) or not found or not all(map(is_text, found)):
            return f"has {side}={found!r}, expected a frozenset of ids that is not empty"
    if shared := sorted(split.train & split.test):
        return f"has {len(shared)} ids in train and in test, such as {shared[0]!r}"
    return ""


def is_text(value: Any) -> bool:
    """Whether a value is a text that is not empty and that can be stored: a file's name need not be UTF-8."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def is_count(value: Any) -> bool:
    """Whether a value is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
