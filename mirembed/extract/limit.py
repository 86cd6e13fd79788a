"""Choose the files for an extraction with a limit: labeled ones first, evenly over classes, tags or folders."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mirembed.extract.extraction import Features
from mirembed.hookspecs import Track
from mirembed.store.rows import classes_of


@dataclass(frozen=True)
class Limit:
    """A limit on the files of a dataset that have features.

    Attributes
    ----------
    n_files : int
    features : sequence of Features
        A file counts if it has some of them.
    """

    n_files: int
    features: Sequence[Features]

    def files(self, tracks: Sequence[Track], recordings: Mapping[str, str | None]) -> set[Path]:
        """Return what `drawn_files` draws from tracks whose latest known ``recordings`` are given by id."""
        having = set[str]().union(*(one.having for one in self.features))
        return drawn_files(tracks, self.n_files, {track for track, known in recordings.items() if known in having})


def drawn_files(tracks: Sequence[Track], limit: int, extracted: Collection[str]) -> set[Path]:
    """Return the files to extract, at most ``limit`` of those of a listing.

    They are the files that have features already, then labeled tracks, then unlabeled ones. Each class contributes the
    same number of tracks as far as it has them, and so do the tracks with the same rarest tag, and each folder of
    unlabeled tracks. The draw depends only on the ids and labels: a larger limit contains every smaller one.

    Parameters
    ----------
    tracks : sequence of Track
    limit : int
    extracted : collection of str
        Ids of the tracks that have features.
    """
    labeled = _evenly((track, stratum) for track, stratum in _labeled_strata(tracks))
    unlabeled = _evenly((track, str(track.path.parent)) for track in tracks if track.label is None)
    ranked = sorted([*labeled, *unlabeled], key=lambda track: track.id not in extracted)
    return set(islice(dict.fromkeys(track.path for track in ranked), limit))


def _labeled_strata(tracks: Iterable[Track]) -> list[tuple[Track, str]]:
    """Return each labeled track with its class or the rarest of its tags; target values form one stratum."""
    labeled = [track for track in tracks if track.label is not None]
    counts = Counter(name for track in labeled for name in classes_of(track.label))
    return [
        (track, min(classes_of(track.label), key=lambda name: (counts[name], name), default="")) for track in labeled
    ]


def _evenly(tracks: Iterable[tuple[Track, str]]) -> list[Track]:
    """Return tracks with their strata in random order: the first of every stratum, then the second of every one ..."""
    drawn: Counter[str] = Counter()
    ranked = []
    for track, stratum in sorted(tracks, key=lambda one: _random_key(one[0].id)):
        ranked.append((drawn[stratum], track))
        drawn[stratum] += 1
    return [track for _, track in sorted(ranked, key=lambda one: one[0])]


def _random_key(track: str) -> bytes:
    """Return a digest to shuffle by; unlike a random draw, it does not change when other tracks are added."""
    return hashlib.blake2b(track.encode(), digest_size=8).digest()
