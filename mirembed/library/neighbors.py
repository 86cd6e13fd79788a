"""The tracks that are most similar to one or several seeds, in a library or in a folder of audio files.

Comparing stored embeddings needs no network and, with the built-in similarities, no torch. Files that the library has
are not decoded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection as Rows
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import audio_files, failures_json, printable
from mirembed.audio.playlists import playlist_path
from mirembed.errors import AudioError, MirembedError
from mirembed.library.collection import Collection, learned_similarity
from mirembed.library.duplicates import copies_of, copy_groups
from mirembed.library.index import folded
from mirembed.library.seeds import (
    Choose,
    Embed,
    LibraryTrack,
    Seed,
    excluded_rows,
    find_seeds,
    rows_of_recordings,
)
from mirembed.progress import Progress, counted
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.exports import write_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from mirembed.models.inference import EmbeddedFiles

Reason: TypeAlias = Literal["copy", "missing", "excluded", "artist", "album", "unwritable"]
"""Why a track is left out."""


@dataclass(frozen=True)
class Limits:
    """Limits on the choice of tracks.

    Attributes
    ----------
    max_per_artist, max_per_album : int or None
        The most tracks by one artist, or from one album. Tracks without these file tags are not limited.
    excluded : frozenset of int
        Rows to leave out.
    writable : bool
        Leave out files whose names a playlist cannot contain.
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
        """Return limits, with the tracks that ``--exclude`` means; a limit of 0 is no limit."""
        excluded = excluded_rows(collection, exclude, progress.note)
        return cls(max_per_artist or None, max_per_album or None, excluded, writable)

    @property
    def any(self) -> bool:
        """Whether artists or albums are limited."""
        return self.max_per_artist is not None or self.max_per_album is not None

    def keys(self, track: LibraryTrack) -> dict[tuple[Reason, str], int]:
        """Return the limits that apply to a track, by artist and album."""
        found: dict[tuple[Reason, str], int] = {}
        if self.max_per_artist is not None:
            found |= {("artist", artist): self.max_per_artist for artist in artists_of(track)}
        if self.max_per_album is not None and (album := album_of(track)) is not None:
            found["album", album] = self.max_per_album
        return found

    @staticmethod
    def full(keys: Mapping[tuple[Reason, str], int], number: Mapping[tuple[Reason, str], int]) -> Reason | None:
        """Return the limit that a track would exceed, given its `keys` and the number of chosen tracks for each."""
        return next((key[0] for key, most in keys.items() if number.get(key, 0) >= most), None)

    def reason_against(self, collection: Collection, row: int) -> Reason | None:
        """Return why a track cannot be chosen, whatever else is chosen; None if it can."""
        if row in self.excluded:
            return "excluded"
        if self.writable and playlist_path(collection.path(row)) is None:
            return "unwritable"
        return None if collection.is_present(row) else "missing"


def artists_of(track: LibraryTrack) -> set[str]:
    """Return keys of the artists of a track; none if its file tags have no artist."""
    tags = track.tags
    return set(map(folded, tags.artists or filter(None, [tags.album_artist])))


def album_of(track: LibraryTrack) -> str | None:
    """Return a key of the album of a track: its name, and its artist or else its folder; None without an album."""
    tags = track.tags
    if tags.album is None:
        return None
    owner = folded(tags.album_artist) if tags.album_artist else printable(track.path.parent)
    return f"{folded(tags.album)}\n{owner}"


@dataclass(frozen=True)
class Picked:
    """Tracks from a ranking.

    Attributes
    ----------
    rows : list of int
        In the order of the ranking.
    left_out : Counter
        The number of higher-ranked tracks that were left out, by reason.
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
    seeds: Sequence[Seed] = (),
    beside: Sequence[LibraryTrack] = (),
) -> Picked:
    """Take the first ``n`` tracks of a ranking whose files exist, within limits and without copies.

    Parameters
    ----------
    collection : Collection
    order : iterable of int
        Rows, best first.
    n : int
    limits : Limits
    taken : collection of int
        Rows to leave out, with their copies.
    seeds : sequence of Seed
        Seeds that are not in the collection; their copies are left out, too.
    beside : sequence of LibraryTrack
        Other tracks of the result, which count toward the limits.
    """
    ranked = np.asarray(order)
    keys: dict[int, dict[tuple[Reason, str], int]] = {}
    reasons: dict[int, Reason | None] = {}
    copies: set[int] = set()
    while True:
        picked = Picked([])
        number = Counter(key for track in beside for key in limits.keys(track))
        for row in map(int, ranked):  # rarely all of them
            if len(picked.rows) == n:
                break
            if row in taken:
                continue
            if row not in keys:
                keys[row] = limits.keys(LibraryTrack.of(collection, row)) if limits.any else {}
            full = limits.full(keys[row], number)
            if full is None and row not in reasons:
                reasons[row] = limits.reason_against(collection, row)
            reason: Reason | None = "copy" if row in copies else full or reasons[row]
            if reason is None:
                picked.rows.append(row)
                number.update(keys[row].keys())
            else:
                picked.left_out[reason] += 1
        found = copies_among(collection, picked.rows, taken, seeds)
        if not found:
            return picked
        copies |= found


def copies_among(collection: Collection, rows: Sequence[int], taken: Rows[int], seeds: Sequence[Seed]) -> set[int]:
    """Return the rows that are copies of taken rows, of earlier rows, or of seeds that are not in the collection."""
    every = [*taken, *rows]
    groups = copy_groups(collection, every)
    first = set(np.unique(groups, return_index=True)[1].tolist())
    found = {row for place, row in enumerate(every) if place not in first and place >= len(taken)}
    for seed in seeds:
        same = copies_of(collection, rows, seed.vector, seed.track.seconds)
        found |= {row for row, is_copy in zip(rows, same, strict=True) if is_copy}
    return found


def rank(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rank tracks by their agreement with seeds: the similarity to the seed that they are least similar to.

    Parameters
    ----------
    values : ndarray [n_seeds, n_tracks]
        Similarities.

    Returns
    -------
    ndarray [n_tracks]
        Rows, best first. Ties are broken by the mean similarity, then by the row.
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
        The number of higher-ranked tracks that were left out, by reason.
    failures : list of (pathlib.Path, str)
        Files of the searched folder that could not be read, with the reason.
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
            "failures": failures_json(self.failures),
        }

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Return the columns and rows of a table, with the names that `to_json` uses."""
        columns = ["rank", "track", "path", "title", "artist", "album", "duration", "similarity"]
        rows = [[number, *one.track.to_json().values(), one.similarity] for number, one in enumerate(self.tracks, 1)]
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
    store : Store
    registry : Registry
    model : str
        The folder of a model, or its name in the store.
    seeds : sequence of str
        See `mirembed.library.seeds.find_seeds`.
    top : int
        The most tracks to return.
    choose : callable
        Asks which track a seed means if it matches several.
    progress : Progress
    exclude : sequence of str
        See `mirembed.library.seeds.excluded_rows`.
    max_per_artist, max_per_album, writable
        See `Limits`.
    inside : pathlib.Path or None
        Search this folder of audio files instead of the library.
    dataset : Spec or None
        The library; by default the dataset that the model was fitted to.
    jobs : int or None
        Worker processes; by default one per core.

    Raises
    ------
    MirembedError
        If the model, its embeddings or a seed do not exist, or the audio folder is missing.
    """
    embed = embedder(store, registry, model, jobs, progress)
    failures: list[tuple[Path, str]] = []
    if inside is None:
        collection = library = open_present(store, registry, model, dataset, progress)
    else:
        collection, failures = _collection_of_files(store, registry, model, inside, jobs, progress)
        are_files = all(os.path.isfile(seed) for seed in seeds)  # noqa: PTH113
        library = collection if are_files else Collection.open(store, registry, model, dataset, progress)
    found = find_seeds(library, seeds, choose, embed)
    foreign = [seed for seed in found if seed.row is None or collection is not library]
    if learned_similarity(collection.provenance, registry) is None:
        progress.note(
            f"{_why_unlearned(collection)}; ranking by the {collection.similarity} similarity of its embeddings"
        )
    limits = Limits.of(collection, exclude, max_per_artist, max_per_album, progress, writable=writable)
    values = collection.similarities(np.stack([seed.vector for seed in found]))
    picked = pick(collection, rank(values), top, limits, taken=rows_of_seeds(collection, found), seeds=foreign)
    explain(collection, picked, top, limits, progress)
    tracks = [Neighbor(LibraryTrack.of(collection, row), tuple(values[:, row].tolist())) for row in picked.rows]
    return Neighbors(found, str(collection.similarity), tracks, picked.left_out, failures)


def _why_unlearned(collection: Collection) -> str:
    made = collection.provenance
    methods = made["settings"].get("methods", [])
    if any(method["name"] == made["approach"] and method.get("members") for method in methods):
        return f"{collection.model} combines several methods and so has learned no single similarity"
    return f"{collection.model} learned no similarity"


def write_neighbors(path: Path, found: Neighbors, *, bom: bool = False) -> None:
    """Write a table of neighbors, CSV or Parquet by the suffix of ``path``.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    columns, rows = found.table()
    write_rows(path, rows, neighbors_schema(columns), bom=bom)


def neighbors_schema(columns: Sequence[str]) -> pa.Schema:
    """Return the names and types of the columns of `Neighbors.table`."""
    import pyarrow as pa

    types = [pa.int64(), *[pa.string()] * 5, *[pa.float64()] * (len(columns) - 6)]
    return pa.schema(list(zip(columns, types, strict=True)))


def open_present(store: Store, registry: Registry, model: str, dataset: Spec | None, progress: Progress) -> Collection:
    """Open a library whose audio folder exists.

    Raises
    ------
    MirembedError
        See `Collection.open`; or the folder is missing or empty.
    """
    collection = Collection.open(store, registry, model, dataset)
    notes = collection.staleness.notes()
    if collection.staleness.audio_missing:
        raise MirembedError(notes[0])
    for note in notes:
        progress.note(note)
    return collection


def rows_of_seeds(collection: Collection, seeds: Sequence[Seed]) -> set[int]:
    """Return the rows of the seeds, found by recording or path."""
    rows = rows_of_recordings(collection, {seed.recording for seed in seeds})
    return rows.union(collection.index.rows_of("path", {printable(seed.track.path) for seed in seeds}))


def explain(collection: Collection, picked: Picked, asked: int, limits: Limits, progress: Progress) -> None:
    """Note what was left out without a flag, and why there are fewer tracks than asked for."""
    left_out = picked.left_out
    if n := sum(not collection.is_unchanged(row) for row in picked.rows):
        progress.note(collection.staleness.of_changed(f"{counted(n, 'file')} of these", n))
    if n := left_out["copy"]:
        progress.note("left out 1 copy of another track" if n == 1 else f"left out {n} copies of other tracks")
    if n := left_out["missing"]:
        progress.note(f"left out {counted(n, 'missing file')}; run `{collection.staleness.command}`")
    if n := left_out["unwritable"]:
        progress.note(f"left out {counted(n, 'track')}: a playlist cannot contain the file name; rename the file")
    if len(picked.rows) < asked:
        flags: dict[Reason, str] = {
            "excluded": "by --exclude",
            "artist": f"by --max-per-artist {limits.max_per_artist}",
            "album": f"by --max-per-album {limits.max_per_album}",
        }
        why = [f"{left_out[reason]} left out {flag}" for reason, flag in flags.items() if left_out[reason]]
        progress.note(
            f"found {len(picked.rows)} of {counted(asked, 'track')}; the library has {len(collection)} in all"
            + "".join(f", {text}" for text in why)
        )


def embedder(store: Store, registry: Registry, model: str, jobs: int | None, progress: Progress) -> Embed:
    """Return a function that embeds a file; the network is loaded only when it is called."""

    def embed(path: Path) -> tuple[str, NDArray[np.float32]]:
        embedded = _embed_files(store, registry, model, [path], jobs, progress)
        if embedded.failures:
            raise AudioError(f"{printable(path)}: {embedded.failures[0][1]}")
        return embedded.recordings[0], embedded.embeddings[0]

    return embed


def _collection_of_files(
    store: Store, registry: Registry, model: str, inside: Path, jobs: int | None, progress: Progress
) -> tuple[Collection, list[tuple[Path, str]]]:
    """Embed the audio files of a folder; return them as a collection, and the files that failed."""
    files, notes = audio_files([inside])
    for note in notes:
        progress.note(note)
    embedded = _embed_files(store, registry, model, files, jobs, progress)
    tracks = [LibraryTrack.of_file(path) for path in embedded.paths]
    collection = Collection.of_files(
        store,
        registry,
        model,
        inside,
        embedded.paths,
        embedded.recordings,
        embedded.embeddings,
        durations=[track.seconds for track in tracks],
        file_tags=[track.tags for track in tracks],
    )
    return collection, embedded.failures


def _embed_files(
    store: Store, registry: Registry, model: str, paths: Sequence[Path], jobs: int | None, progress: Progress
) -> EmbeddedFiles:
    from mirembed.models.combined import load_model
    from mirembed.models.inference import embed_files
    from mirembed.models.saved import find_model
    from mirembed.workers import available_jobs

    loaded = load_model(find_model(store.models, model), registry)
    return embed_files(loaded, paths, registry, store, jobs or available_jobs(), progress)
