"""From measurements to what is wrong: one function for each kind of fault."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from mirembed.datasets.fingerprints import same_recordings
from mirembed.datasets.measurements import FULL_SCALE, QUIET, Measurement
from mirembed.datasets.splits import default_scheme, groups_on_both_sides, make_folds
from mirembed.errors import EvaluationError
from mirembed.hookspecs import Card, Classification, Listing, Split, Track

SILENT = 0.5
"""Share of silence from which a track is reported."""

CLIPPED = 0.001
"""Share of samples at full scale from which a track is reported: one in a thousand is heard."""

IMBALANCE = 3.0
"""How many times larger than the smallest the largest class may be."""

CONTRADICTION = 0.1
"""Share of a target's range by which the values of one recording may differ."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or that should be known.

    Attributes
    ----------
    kind : str
        ``unreadable``, ``exact duplicate`` ...
    level : {"error", "warning"}
        A warning may be meant; an error hardly.
    tracks : tuple of str
        The ids, or paths, that it is about; empty for the dataset as a whole.
    text : str
    """

    kind: str
    level: Literal["error", "warning"]
    tracks: tuple[str, ...]
    text: str


def missing(listing: Listing, card: Card | None) -> Iterator[Finding]:
    """Report tracks that a complete copy has and this one lacks."""
    expected = len(listing.tracks) + listing.absent
    if card is not None and card.n_tracks:
        expected = max(expected, card.n_tracks)
    lacking = expected - len(listing.tracks)
    if lacking > 0:
        yield Finding("missing", "error", (), f"{lacking} of {expected} tracks are not there")


def unexpected(paths: Sequence[str]) -> Iterator[Finding]:
    """Report audio files under the folder that the dataset does not list."""
    if paths:
        yield Finding("unexpected", "warning", tuple(paths), f"{len(paths)} audio files belong to no track")


def sound(tracks: Sequence[Track], measured: Mapping[str, Measurement], card: Card | None) -> Iterator[Finding]:
    """Report files that cannot be decoded, and those with the wrong rate or length, silence or clipping."""
    for track in tracks:
        m = measured[track.id]
        one = (track.id,)
        if m.error is not None:
            yield Finding("unreadable", "error", one, m.error)
            continue
        if card is not None and card.rate is not None and m.rate != card.rate:
            yield Finding("sampling rate", "error", one, f"{m.rate} Hz, where this dataset has {card.rate} Hz")
        if card is not None and card.seconds is not None and not card.seconds[0] <= m.seconds <= card.seconds[1]:
            low, high = card.seconds
            yield Finding("duration", "error", one, f"{m.seconds:.1f} s, where this dataset has {low:g} to {high:g} s")
        if m.silent >= SILENT:
            yield Finding("silence", "error", one, f"{m.silent:.0%} of it are below {QUIET:g} dB")
        if m.clipped >= CLIPPED:
            yield Finding("clipping", "warning", one, f"{m.clipped:.1%} of its samples are at {FULL_SCALE} or more")


def duplicates(listing: Listing, measured: Mapping[str, Measurement]) -> Iterator[Finding]:
    """Report tracks with the same samples, tracks with the same recording, and duplicates with different labels."""
    tracks = [track for track in listing.tracks if measured[track.id].error is None]
    same: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        same[measured[track.id].audio_hash].append(track)
    pairs: set[tuple[str, str]] = set()
    for copies in same.values():
        if len(copies) > 1:
            yield Finding("exact duplicate", "error", tuple(t.id for t in copies), "the same samples")
            yield from _contradictions(listing, copies)
        pairs.update((a.id, b.id) for a, b in combinations(copies, 2))
    for match in same_recordings([measured[track.id].fingerprint for track in tracks]):
        first, second = tracks[match.first], tracks[match.second]
        if (first.id, second.id) in pairs:
            continue
        shift = f", {match.offset:+.1f} s apart" if match.offset else ""
        text = f"the same recording{shift} ({1 - match.difference:.0%} of the fingerprint agree)"
        yield Finding("near duplicate", "error", (first.id, second.id), text)
        yield from _contradictions(listing, [first, second])


def balance(listing: Listing) -> Iterator[Finding]:
    """Report classes of very different sizes."""
    if not isinstance(listing.task, Classification):
        return
    counts = Counter(dict.fromkeys(listing.task.classes, 0))
    counts.update(str(track.label) for track in listing.tracks)
    (large, most), (small, least) = counts.most_common()[0], counts.most_common()[-1]
    if most > IMBALANCE * least:
        yield Finding("imbalance", "warning", (), f"{large!r} has {most} tracks, {small!r} has {least}")


def crossing_groups(listing: Listing, schemes: Mapping[str, Sequence[Split]]) -> Iterator[Finding]:
    """Report groups that stand on both sides of the default folds, or of an official split."""
    groups = [track.group for track in listing.tracks]
    if all(group is None for group in groups):
        return
    group_of = {track.id: track.group for track in listing.tracks}
    scheme = default_scheme(listing.task)
    if isinstance(listing.task, Classification):
        labels = np.array([listing.task.classes.index(str(track.label)) for track in listing.tracks])
    else:
        labels = np.zeros(len(listing.tracks))
    try:
        folds, _ = make_folds(listing.task, labels, scheme=scheme, n_folds=10, seed=0)
    except EvaluationError:
        folds = []
    crossing = {f"10 {scheme} folds": groups_on_both_sides(folds, groups)}
    crossing |= {f"the official folds {name}": _crossing(splits, group_of) for name, splits in schemes.items()}
    for where, count in crossing.items():
        if count:
            text = f"in {where}, {count} test tracks have their group in the training part too"
            yield Finding("groups", "warning", (), f"{text}; --folds grouped keeps groups apart")


def _crossing(splits: Sequence[Split], group_of: Mapping[str, str | None]) -> int:
    count = 0
    for split in splits:
        trained = {group_of.get(track) for track in split.train} - {None}
        count += sum(group_of.get(track) in trained for track in split.test)
    return count


def _contradictions(listing: Listing, copies: Sequence[Track]) -> Iterable[Finding]:
    if isinstance(listing.task, Classification):
        labels = {str(track.label) for track in copies}
        if len(labels) > 1:
            text = f"one recording, labeled {' and '.join(sorted(labels))}"
            yield Finding("contradicting labels", "error", tuple(t.id for t in copies), text)
        return
    everything = np.array([track.label for track in listing.tracks])
    values = np.array([track.label for track in copies])
    for column, target in enumerate(listing.task.targets):
        low = everything[:, column].min() if target.low is None else target.low
        high = everything[:, column].max() if target.high is None else target.high
        if np.ptp(values[:, column]) > CONTRADICTION * (high - low):
            listed = " and ".join(f"{value:g}" for value in values[:, column])
            text = f"one recording, with {target.name} {listed}"
            yield Finding("contradicting labels", "error", tuple(t.id for t in copies), text)
