"""Describe the labels of a listing in a line, and warn of names that differ only in spelling."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from unicodedata import category, normalize

from mirembed.hookspecs import Classification, Listing, Regression, Tags
from mirembed.progress import counted, first_names
from mirembed.store.rows import classes_of

_NAMED = 12
"""Classes or tags to name with their counts; of more, the most frequent ones."""

_NEAR = 5
"""Groups of similar names to show."""


def described(listing: Listing) -> list[str]:
    """Return a line on the labels and groups of a listing, and warnings of names that differ only in spelling.

    Parameters
    ----------
    listing : Listing
        A valid listing; see `mirembed.listings.check_listing`.
    """
    groups = Counter(track.group for track in listing.tracks if track.group is not None)
    parts = [_labels(listing)] if listing.task is not None else []
    if groups:
        parts.append(f"{counted(len(groups), 'group')}{_from(listing.groups_from)}")
    kind = "tags" if isinstance(listing.task, Tags) else "classes"
    warnings = [*_near_misses(kind, _counts(listing)), *_near_misses("groups", groups)]
    return [*(["; ".join(parts)] if parts else []), *warnings]


def spelling(name: str) -> str:
    """Return a key that ignores case, spaces, hyphens, underscores and the form of apostrophes.

    >>> spelling("Hip-Hop ") == spelling("hip hop"), spelling("C#") == spelling("C")
    (True, False)
    """
    name = normalize("NFKC", name).casefold().replace("\u2019", "'")
    name = re.sub(r"(?<=\w)[-\u2010\u2011](?=\w)", "", name)
    return "".join(one for one in name if not one.isspace() and one != "_" and category(one) not in ("Cf", "Cc"))


def _labels(listing: Listing) -> str:
    task, tracks = listing.task, listing.tracks
    if isinstance(task, Regression):
        rows = [track.label for track in tracks if isinstance(track.label, tuple)]
        ranges = [
            f"{target.name} {min(values):g} to {max(values):g}" if values else target.name
            for target, values in ((target, [row[n] for row in rows]) for n, target in enumerate(task.targets))
        ]
        text = f"{counted(len(ranges), 'target')}{_from(listing.labels_from)}: {', '.join(ranges)}"
    else:
        counts = _counts(listing)
        noun, plural = ("tag", "tags") if isinstance(task, Tags) else ("class", "classes")
        number = f"{len(counts)} {noun if len(counts) == 1 else plural}{_from(listing.labels_from)}"
        shown = counts.items() if len(counts) <= _NAMED else counts.most_common()
        listed = first_names([f"{name} {count}" for name, count in shown], _NAMED)
        text = f"{number}: {listed}"
        if isinstance(task, Tags) and (without := sum(track.label == frozenset() for track in tracks)):
            text += f"; {counted(without, 'track')} without a tag"
    if unlabeled := sum(track.label is None for track in tracks):
        text += f"; {counted(unlabeled, 'track')} unlabeled"
    return text


def _from(source: str) -> str:
    return f" from {source}" if source else ""


def _counts(listing: Listing) -> Counter[str]:
    """Return the number of tracks of each class or tag, in the order of the task."""
    if not isinstance(listing.task, Classification | Tags):
        return Counter()
    counts = Counter(dict.fromkeys(listing.task.classes, 0))
    counts.update(name for track in listing.tracks for name in classes_of(track.label))
    return counts


def _near_misses(kind: str, counts: Mapping[str, int]) -> Iterable[str]:
    same: defaultdict[str, list[str]] = defaultdict(list)
    for name in counts:
        same[spelling(name)].append(name)
    found = [" and ".join(f"{name!r} ({counts[name]})" for name in names) for names in same.values() if len(names) > 1]
    if found:
        listed = "; ".join(found[:_NEAR]) + (f" and {len(found) - _NEAR} more" if len(found) > _NEAR else "")
        yield (
            f"warning: {kind} that differ only in case, spaces or hyphens: {listed}; "
            "give them one spelling if they are the same"
        )
