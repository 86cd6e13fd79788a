"""The tracks that are most similar to one or several seeds, in a library or in a folder of audio files.

Comparing stored embeddings needs no network and, with the built-in similarities, no torch. A file that the library has is
not decoded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection as Rows
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import audio_files, printable
from mirembed.audio.playlists import playlist_path
from mirembed.errors import AudioError, MirembedError
from mirembed.library.collection import Collection, learned_similarity
from mirembed.library.duplicates import copies_of, copy_groups
from mirembed.library.seeds import (
    Choose,
    Embed,
    LibraryTrack,
    Seed,
    excluded_rows,
    find_seeds,
    folded,
    rows_of_recordings,
)
from mirembed.progress import Progress, counted
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.files import write_csv, write_table

if TYPE_CHECKING:
    from mirembed.models.inference import EmbeddedFiles

TABLES = (".csv", ".parquet")
"""Suffixes of the tables that can be written."""

Reason: TypeAlias = Literal["copy", "missing", "excluded", "artist", "album", "unwritable"]
"""Why a track is left out."""


@dataclass(frozen=True)
class Limits:
    """What limits the choice of tracks.

    Attributes
    ----------
    max_per_artist, max_per_album : int or None
        Tracks of one artist or album. Tracks without these file tags are not limited.
    excluded : frozenset of int
        Rows.
    writable : bool
        Leave out files whose names no playlist can contain.
    """

    max_per_artist: int | None = None
    max_per_album: int | None = None
    excluded: frozenset[int] = frozenset()
    writable: bool = False

    @classmethod
    def of(
        cls,
        collection: Collection,
        exclude: Sequence[str],
        max_per_artist: int | None,
        max_per_album: int | None,
        progress: Progress,
        *,
        writable: bool = False,
    ) -> Limits:
        """Find the tracks to exclude; a limit of 0 is none."""
        excluded = excluded_rows(collection, exclude, progress.note)
        return cls(max_per_artist or None, max_per_album or None, excluded, writable)


class Quota:
    """How many tracks of each artist and album are taken already.

    Parameters
    ----------
    limits : Limits
    taken : iterable of LibraryTrack
    """

    def __init__(self, limits: Limits, taken: Iterable[LibraryTrack] = ()) -> None:
        self._limits = limits
        self._artists: Counter[str] = Counter()
        self._albums: Counter[tuple[str, str]] = Counter()
        for track in taken:
            self.take(track)

    def reason(self, track: LibraryTrack) -> Reason | None:
        """Return which limit keeps a track out."""
        most = self._limits.max_per_artist
        if most is not None and any(self._artists[artist] >= most for artist in artists_of(track)):
            return "artist"
        most, album = self._limits.max_per_album, album_of(track)
        return "album" if most is not None and album is not None and self._albums[album] >= most else None

    def take(self, track: LibraryTrack) -> None:
        """Count a track."""
        self._artists.update(artists_of(track))
        if (album := album_of(track)) is not None:
            self._albums[album] += 1


def artists_of(track: LibraryTrack) -> set[str]:
    """Return what identifies the artists of a track, if its file names any."""
    tags = track.tags
    return set(map(folded, tags.artists or filter(None, [tags.album_artist])))


def album_of(track: LibraryTrack) -> tuple[str, str] | None:
    """Return what identifies the album of a track: its name, and its artist or, without one, the folder."""
    tags = track.tags
    if tags.album is None:
        return None
    return folded(tags.album), folded(tags.album_artist) if tags.album_artist else str(track.path.parent)


@dataclass(frozen=True)
class Picked:
    """Tracks from a ranking.

    Attributes
    ----------
    rows : list of int
        In the order of the ranking.
    left_out : Counter
        How many better ones were left out, by reason.
    """

    rows: list[int]
    left_out: Counter[Reason] = field(default_factory=Counter)


def pick(
    collection: Collection,
    order: Iterable[int],
    n: int,
    limits: Limits,
    *,
    taken: Rows[int],
    beside: Sequence[LibraryTrack] = (),
) -> Picked:
    """Take the first ``n`` tracks of a ranking whose files exist, within limits, and without copies.

    Parameters
    ----------
    order : iterable of int
        Rows, the best first.
    n : int
    limits : Limits
    taken : collection of int
        Rows to leave out, together with their copies.
    beside : sequence of LibraryTrack
        Tracks that count towards the limits.
    """
    rows = [int(row) for row in order if row not in taken]
    tracks: dict[int, LibraryTrack] = {}
    present: dict[int, Reason | None] = {}
    copies: set[int] = set()

    def reason_against(row: int, quota: Quota) -> Reason | None:
        if row in limits.excluded:
            return "excluded"
        if row in copies:
            return "copy"
        if row not in tracks:
            tracks[row] = LibraryTrack.of(collection, row)
        if (reason := quota.reason(tracks[row])) is not None:
            return reason
        if row not in present:
            present[row] = _reason_against_file(collection, row, limits)
        return present[row]

    while True:
        picked, quota = Picked([]), Quota(limits, beside)
        for row in rows:
            if len(picked.rows) == n:
                break
            if (reason := reason_against(row, quota)) is not None:
                picked.left_out[reason] += 1
            else:
                picked.rows.append(row)
                quota.take(tracks[row])
        found = _later_copies(collection, [*taken, *picked.rows])
        if not found:
            return picked
        copies |= found


def _reason_against_file(collection: Collection, row: int, limits: Limits) -> Reason | None:
    if limits.writable and playlist_path(collection.path(row)) is None:
        return "unwritable"
    return None if collection.is_present(row) else "missing"


def _later_copies(collection: Collection, rows: Sequence[int]) -> set[int]:
    """Return the rows that are copies of earlier ones."""
    groups = copy_groups(collection, rows)
    first = set(np.unique(groups, return_index=True)[1].tolist())
    return {row for position, row in enumerate(rows) if position not in first}


def rank(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rank tracks by their agreement with seeds: the similarity to the seed that they are least similar to.

    Parameters
    ----------
    values : ndarray [n_seeds, n_tracks]
        Similarities.

    Returns
    -------
    ndarray [n_tracks]
        Rows, the best first. Equal ones are ranked by their mean similarity, and then by their row.
    """
    if len(values) == 1:
        return np.argsort(-values[0], kind="stable")
    return np.lexsort((-values.mean(axis=0), -values.min(axis=0)))


@dataclass(frozen=True)
class Neighbor:
    """A track with its similarities.

    Attributes
    ----------
    track : LibraryTrack
    to_seeds : tuple of float
        The similarity to each seed.
    """

    track: LibraryTrack
    to_seeds: tuple[float, ...]

    @property
    def similarity(self) -> float:
        """The similarity to the seed that the track is least similar to."""
        return min(self.to_seeds)


@dataclass(frozen=True)
class Neighbors:
    """Tracks by descending similarity.

    Attributes
    ----------
    seeds : list of Seed
    similarity : str
        Spec of the similarity that ranks them.
    tracks : list of Neighbor
    left_out : Counter
        How many better ones were left out, by reason.
    failures : list of (pathlib.Path, str)
        Files of the searched folder that could not be read.
    """

    seeds: list[Seed]
    similarity: str
    tracks: list[Neighbor]
    left_out: Counter[Reason]
    failures: list[tuple[Path, str]]

    def to_json(self) -> dict[str, Any]:
        """Return the neighbors as JSON."""
        return {
            "seeds": [{"seed": seed.text, **seed.track.to_json()} for seed in self.seeds],
            "similarity": self.similarity,
            "neighbors": [
                {
                    "rank": number,
                    **one.track.to_json(),
                    "similarity": one.similarity,
                    "similarity_to_seeds": list(one.to_seeds),
                }
                for number, one in enumerate(self.tracks, 1)
            ],
            "left_out": {reason: self.left_out[reason] for reason in get_args(Reason)},
            "failures": [{"path": printable(path), "reason": reason} for path, reason in self.failures],
        }

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Return the columns and rows of a table."""
        columns = ["rank", "path", "title", "artist", "album", "similarity"]
        rows = [
            [number, printable(one.track.path), tags.title, tags.artist, tags.album, one.similarity]
            for number, one in enumerate(self.tracks, 1)
            for tags in [one.track.tags]
        ]
        if len(self.seeds) > 1:
            columns += [f"similarity_to_seed_{number}" for number in range(1, len(self.seeds) + 1)]
            rows = [[*row, *one.to_seeds] for row, one in zip(rows, self.tracks, strict=True)]
        return columns, rows


def neighbors(
    store: Store,
    registry: Registry,
    model: str,
    seeds: Sequence[str],
    *,
    top: int,
    choose: Choose,
    progress: Progress,
    exclude: Sequence[str] = (),
    max_per_artist: int | None = None,
    max_per_album: int | None = None,
    writable: bool = False,
    inside: Path | None = None,
    dataset: Spec | None = None,
    jobs: int | None = None,
) -> Neighbors:
    """Rank tracks by their agreement with seeds, without the seeds and without copies; see `rank`.

    Parameters
    ----------
    model : str
        The folder of a model, or its name in the store.
    seeds : sequence of str
        See `mirembed.library.seeds.find_seeds`.
    top : int
        The most to return.
    choose : callable
        Asks which track is meant if it may be several.
    exclude : sequence of str
        See `mirembed.library.seeds.excluded_rows`.
    max_per_artist, max_per_album, writable
        See `Limits`.
    inside : pathlib.Path or None
        Search this folder of audio files in place of the library.
    dataset : Spec or None
        The library; by default the dataset that the model was fitted to.
    jobs : int or None
        Worker processes; by default one per core.

    Raises
    ------
    MirembedError
        If model, embeddings or a seed do not exist, or the audio folder is gone.
    """
    files = [] if inside is None else audio_files([inside])
    embed = embedder(store, registry, model, jobs, progress)
    failures: list[tuple[Path, str]] = []
    if inside is None:
        collection = open_present(store, registry, model, dataset, progress)
        found = find_seeds(collection, seeds, choose, embed)
    else:
        collection, failures = _of_files(store, registry, model, files, jobs, progress)
        are_files = all(os.path.isfile(seed) for seed in seeds)  # noqa: PTH113
        library = collection if are_files else Collection.open(store, registry, model, dataset, progress)
        found = find_seeds(library, seeds, choose, embed)
    limits = Limits.of(collection, exclude, max_per_artist, max_per_album, progress, writable=writable)
    values = collection.similarities(np.stack([seed.vector for seed in found]))
    if collection.is_unlearned:
        progress.note(f"{collection.model} learned no similarity; ranking by the {collection.similarity} similarity of its embeddings")
    picked = pick(collection, rank(values), top, limits, taken=rows_of_seeds(collection, found))
    explain(collection, picked, top, limits, progress)
    tracks = [Neighbor(LibraryTrack.of(collection, row), tuple(values[:, row].tolist())) for row in picked.rows]
    return Neighbors(found, str(collection.similarity), tracks, picked.left_out, failures)


def open_present(
    store: Store, registry: Registry, model: str, dataset: Spec | None, progress: Progress
) -> Collection:
    """Open a library whose audio folder is there.

    Raises
    ------
    MirembedError
        See `Collection.open`; or the folder is gone or empty.
    """
    collection = Collection.open(store, registry, model, dataset)
    notes = collection.staleness.notes()
    if collection.staleness.audio_missing:
        raise MirembedError(notes[0])
    for note in notes:
        progress.note(note)
    return collection


def rows_of_seeds(collection: Collection, seeds: Sequence[Seed]) -> set[int]:
    """Return the tracks that are the seeds, by recording or by path."""
    rows = rows_of_recordings(collection, {seed.recording for seed in seeds})
    paths = {printable(seed.track.path) for seed in seeds}
    return rows | {row for row, path in enumerate(collection.paths) if path in paths}


def explain(collection: Collection, picked: Picked, asked: int, limits: Limits, progress: Progress) -> None:
    """Say what was left out unasked, and why there are fewer tracks than asked for."""
    left_out = picked.left_out
    if n := left_out["copy"]:
        progress.note(f"left out {counted(n, 'track')} with the same recording as another one")
    if n := left_out["missing"]:
        progress.note(f"left out {counted(n, 'track')} whose file is gone; run `{collection.staleness.command}`")
    if n := left_out["unwritable"]:
        progress.note(f"left out {counted(n, 'track')} whose file name a playlist cannot contain; rename it")
    if len(picked.rows) < asked:
        flags: dict[Reason, str] = {
            "excluded": "by --exclude",
            "artist": f"by --max-per-artist {limits.max_per_artist}",
            "album": f"by --max-per-album {limits.max_per_album}",
        }
        why = [f"{left_out[reason]} left out {flag}" for reason, flag in flags.items() if left_out[reason]]
        progress.note(
            f"found {len(picked.rows)} of {counted(asked, 'track')}: the library has {len(collection)} in all"
            + "".join(f", {text}" for text in why)
        )


def embedder(store: Store, registry: Registry, model: str, jobs: int | None, progress: Progress) -> Embed:
    """Return a function that embeds a file; it loads the network when it is first called."""

    def embed(path: Path) -> tuple[str, NDArray[np.float32]]:
        embedded = _embed_files(store, registry, model, [path], jobs, progress)
        if embedded.failures:
            raise AudioError(f"{printable(path)}: {embedded.failures[0][1]}")
        return embedded.recordings[0], embedded.embeddings[0]

    return embed
