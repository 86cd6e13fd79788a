"""Playlists from the tracks of a library: from seeds, from one track to another, or continuing a playlist.

Distances are those of embeddings. Where the similarity looks only at their directions, as cosine does, embeddings are
scaled to length 1 first.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import printable
from mirembed.audio.playlists import PlaylistEntry, PlaylistTrack, playlist_path, playlist_text, read_playlist
from mirembed.config import defaults
from mirembed.errors import MirembedError
from mirembed.library.collection import Collection
from mirembed.library.neighbors import (
    Limits,
    Picked,
    Reason,
    copies_among,
    embedder,
    explain,
    open_present,
    pick,
    rank,
    rows_of_seeds,
)
from mirembed.library.seeds import Choose, LibraryTrack, Seed, find_seeds, rows_of_entries
from mirembed.progress import Progress, counted
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.files import writing

_POWER = 8
"""Power of the steps of a path whose sum is minimized: the higher it is, the smaller is the largest step.

Measured on 100 clips of GTZAN, with 8 tracks between two of different genres: the steps vary by 30 % (standard
deviation over mean), and the largest is 0.85; with squared steps, 54 % and 1.02. Taking the track nearest to each place
on the line gives 49 % and 1.17.
"""

_SPARE = 40
"""Candidates for each place on a path, in addition to the length of the path."""

TINY = np.finfo(np.float64).tiny

_ENTRIES = {
    "missing": ("left out", "missing file", ""),
    "remote": ("left out", "remote address", "; it is not a file"),
    "unknown": ("kept", "file", " outside the library, without effect on the choice"),
}
"""What a note says about entries of a playlist to extend, around their number."""


@dataclass(frozen=True)
class Item:
    """A track of a playlist.

    Attributes
    ----------
    track : LibraryTrack
    why : str
        Why it was chosen.
    vector : ndarray [units] or None
        Its embedding; None for a file that the library does not have.
    """

    track: LibraryTrack
    why: str
    vector: NDArray[np.float32] | None


@dataclass(frozen=True)
class Draft:
    """A playlist.

    Attributes
    ----------
    items : list of Item
    steps : list of float or None
        The distance of each track from the one before it; None for the first, and next to a track without embedding.
    left_out : Counter
        How many tracks were left out, by reason.
    entries : mapping of str to int, or None
        The number of entries of the playlist to extend that are ``missing``, ``remote``, or ``unknown`` to the library.
    """

    items: list[Item]
    steps: list[float | None]
    left_out: Counter[Reason]
    entries: Mapping[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the playlist as JSON."""
        return {
            "tracks": [
                {"position": number, **item.track.to_json(), "why": item.why, "step": step}
                for number, (item, step) in enumerate(zip(self.items, self.steps, strict=True), 1)
            ],
            "left_out": {reason: self.left_out[reason] for reason in get_args(Reason)},
            **({} if self.entries is None else {"entries": dict(self.entries)}),
        }


@dataclass(frozen=True)
class Plan:
    """What a playlist is made from: seeds, the ends of a path, or another playlist.

    Attributes
    ----------
    seeds : sequence of str
    ends : (str, str) or None
        The first and the last track of a path.
    extend : pathlib.Path or None
        A playlist to continue.
    length : int
        Number of tracks; with ``extend``, of tracks to add.

    Raises
    ------
    MirembedError
        It is not exactly one of these, or the length is too small.
    """

    seeds: Sequence[str] = ()
    ends: tuple[str, str] | None = None
    extend: Path | None = None
    length: int = 25

    def __post_init__(self) -> None:
        if bool(self.seeds) + bool(self.ends) + bool(self.extend) != 1:
            raise MirembedError(
                "a playlist starts from --seed, from --from and --to, or from --extend; give exactly one of these"
            )
        if self.length < len(self.seeds or self.ends or ()):
            given = "--from and --to" if self.ends else counted(len(self.seeds), "seed")
            raise MirembedError(f"--length {self.length} has no room for {given}; give a larger --length")


def make_playlist(
    store: Store,
    registry: Registry,
    model: str,
    plan: Plan,
    *,
    choose: Choose,
    progress: Progress,
    exclude: Sequence[str] = (),
    max_per_artist: int | None = defaults.MAX_PER_ARTIST,
    max_per_album: int | None = None,
    writable: bool = False,
    dataset: Spec | None = None,
    jobs: int | None = None,
) -> Draft:
    """Choose and order the tracks of a playlist; see `mirembed.library.neighbors.neighbors` for the parameters.

    Raises
    ------
    MirembedError
        If the model, its embeddings or a seed do not exist, or no entry of the playlist to extend is in the library.
    """
    entries = [] if plan.extend is None else read_playlist(plan.extend)
    collection = open_present(store, registry, model, dataset, progress)
    limits = Limits.of(collection, exclude, max_per_artist, max_per_album, progress, writable=writable)
    if plan.extend is not None:
        return _extended(collection, plan.extend, entries, plan.length, limits, progress)
    seeds = find_seeds(collection, plan.ends or plan.seeds, choose, embedder(store, registry, model, jobs, progress))
    for seed in seeds:
        if not seed.track.path.is_file():
            raise MirembedError(
                f"{seed.text!r}: the file {printable(seed.track.path)} is missing; choose another track"
            )
    if plan.ends is None:
        return _from_seeds(collection, seeds, plan.length, limits, progress)
    if len(seeds) == 1:
        raise MirembedError(f"--from {plan.ends[0]} and --to {plan.ends[1]} are the same track; choose two")
    return _between(collection, seeds[0], seeds[1], plan.length, limits, progress)


def write_playlist(
    path: Path, tracks: Sequence[tuple[LibraryTrack, str]], *, folder: Path | None, inside: bool = False
) -> list[LibraryTrack]:
    """Write an M3U playlist; return the tracks that it cannot contain because of their file names.

    Parameters
    ----------
    path : pathlib.Path
    tracks : sequence of (LibraryTrack, str)
        The tracks, each with a comment.
    folder : pathlib.Path or None
        The folder that paths are relative to; None for absolute paths.
    inside : bool
        Refuse files outside that folder.

    Raises
    ------
    MirembedError
        A file is not in the folder.
    StoreWriteError
        The playlist cannot be written.
    """
    lines, unwritable = [], []
    for track, comment in tracks:
        line = _path_inside(track.path, folder) if folder is not None and inside else playlist_path(track.path, folder)
        if line is None:
            unwritable.append(track)
            continue
        title = track.tags.title or Path(track.path.name).stem
        name = title if track.tags.artist is None else f"{track.tags.artist} - {title}"
        lines.append(PlaylistTrack(line, name, track.seconds, comment))
    with writing(path) as temporary:
        temporary.write_text(playlist_text(lines), encoding="utf-8", newline="\n")
    return unwritable


def _path_inside(path: Path, folder: Path) -> str | None:
    """Return the line for a file in a folder, even if links lead to the file or the folder."""
    for one, top in ((path, folder.absolute()), (path.resolve(), folder.resolve())):
        if one.is_relative_to(top):
            return playlist_path(one, top)
    raise MirembedError(
        f"{printable(path)} is not in {folder}, the folder of --relative-to; give a folder that contains the library"
    )


def _from_seeds(
    collection: Collection, seeds: Sequence[Seed], length: int, limits: Limits, progress: Progress
) -> Draft:
    """Choose the tracks that agree best with the seeds, and order them on a short path from the first seed."""
    values = collection.similarities(np.stack([seed.vector for seed in seeds]))
    n = length - len(seeds)
    taken, tracks = rows_of_seeds(collection, seeds), [seed.track for seed in seeds]
    foreign = [seed for seed in seeds if seed.row is None]
    picked = pick(collection, rank(values), n, limits, taken=taken, seeds=foreign, beside=tracks)
    explain(collection, picked, n, limits, progress)
    items = [Item(seed.track, "seed", seed.vector) for seed in seeds]
    for row in picked.rows:
        why = f"similar to {_named(tracks, values[:, row])}"
        items.append(Item(LibraryTrack.of(collection, row), why, collection.vectors[row]))
    order = short_path(_places(collection, np.stack([item.vector for item in items if item.vector is not None])))
    return _draft(collection, [items[number] for number in order], picked)


def _named(tracks: Sequence[LibraryTrack], values: NDArray[np.float64]) -> str:
    """Name tracks with the similarities to them; of more than three, only the most and the least similar one."""
    numbers = range(len(tracks)) if len(tracks) <= 3 else [int(np.argmax(values)), int(np.argmin(values))]
    return ", ".join(f"{tracks[number].name} ({values[number]:.3f})" for number in numbers)


def _between(collection: Collection, start: Seed, end: Seed, length: int, limits: Limits, progress: Progress) -> Draft:
    """Choose a path from one track to another, in even steps."""
    ends = _places(collection, np.stack([start.vector, end.vector]))
    points = _places(collection, collection.vectors)
    picked = Picked([])
    layers = _layers(collection, points, ends, length, limits, [start, end], picked.left_out)
    tracks = {row: LibraryTrack.of(collection, row) for row in set().union(*layers)}
    keys = {row: limits.keys(track) for row, track in tracks.items()}
    at_ends = [key for seed in (start, end) for key in limits.keys(seed.track)]

    def full(path: Sequence[int], row: int) -> Reason | None:
        if not keys[row]:
            return None
        return limits.full(keys[row], Counter([*at_ends, *(key for one in path for key in keys[one])]))

    picked.rows.extend(even_path(points, ends, layers, lambda path, row: full(path, row) is None))
    if len(picked.rows) < length - 2:
        limited = (full(picked.rows, row) for row in tracks if row not in picked.rows)
        picked.left_out.update(reason for reason in limited if reason is not None)
    explain(collection, picked, length - 2, limits, progress)
    line = ends[1] - ends[0]
    items = [Item(start.track, "start", start.vector)]
    for row in picked.rows:
        share = float((points[row] - ends[0]) @ line / max(line @ line, TINY))
        why = f"{100 * min(max(share, 0), 1):.0f} % of the way to {end.track.name}"
        items.append(Item(tracks[row], why, collection.vectors[row]))
    return _draft(collection, [*items, Item(end.track, "end", end.vector)], picked)


def _layers(
    collection: Collection,
    points: NDArray[np.float64],
    ends: NDArray[np.float64],
    length: int,
    limits: Limits,
    seeds: Sequence[Seed],
    left_out: Counter[Reason],
) -> list[list[int]]:
    """Return the nearest tracks that may be chosen for each of the evenly spaced places between two ends."""
    taken = rows_of_seeds(collection, seeds)
    reasons: dict[int, Reason | None] = {}
    lengths = np.square(points).sum(axis=1)
    layers = []
    for share in np.linspace(0, 1, length)[1:-1]:
        target = ends[0] + share * (ends[1] - ends[0])
        layer: list[int] = []
        for row in np.argsort(lengths - 2 * points @ target, kind="stable").tolist():
            if row not in reasons:
                reasons[row] = None if row in taken else limits.reason_against(collection, row)
            if row not in taken and reasons[row] is None:
                layer.append(row)
            if len(layer) == length + _SPARE:
                break
        layers.append(layer)
    foreign = [seed for seed in seeds if seed.row is None]
    copies = copies_among(collection, sorted(set().union(*layers)), taken, foreign)
    left_out.update(reason for reason in reasons.values() if reason is not None)
    left_out["copy"] += len(copies)
    return [[row for row in layer if row not in copies] for layer in layers]


def even_path(
    points: NDArray[np.float64],
    ends: NDArray[np.float64],
    layers: Sequence[Sequence[int]],
    allows: Callable[[Sequence[int], int], bool] = lambda path, row: True,
) -> list[int]:
    """Choose one point from each layer, none twice, so that the steps are even and the largest is small.

    Dynamic programming minimizes the sum of the steps to the power of `_POWER`: of all paths to a point, only the best
    one that is allowed to continue there is kept. A layer to which no path may continue is skipped.

    Parameters
    ----------
    points : ndarray [n_points, d]
    ends : ndarray [2, d]
        Where the path begins and ends.
    layers : sequence of sequence of int
        Candidates, in the order of the path.
    allows : callable
        Takes a path as rows, and a row; returns whether the path may continue with it.

    Returns
    -------
    list of int
        The chosen rows.

    Examples
    --------
    >>> points = np.array([[0.9], [1.0], [2.0], [2.1]])
    >>> even_path(points, np.array([[0.0], [3.0]]), [[0, 1], [2, 3]])
    [1, 2]
    """
    used = points[sorted(set().union(*layers))]
    # The largest distance, so that powers neither overflow nor vanish; the ends may be at one place.
    unit = float(_distances(ends[:1], np.vstack([ends[1:], used])).max()) or 1.0

    def cost(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(_distances(x / unit, y / unit) ** _POWER)

    paths: list[tuple[int, ...]] = [()]
    costs, here = np.zeros(1), ends[:1]  # cost and last point of each path
    for layer in layers:
        totals = costs[:, None] + cost(here, points[list(layer)])  # [n_paths, n_layer]
        longer: dict[int, tuple[float, tuple[int, ...]]] = {}
        for place, row in enumerate(layer):
            for number in np.argsort(totals[:, place], kind="stable"):
                if row not in paths[number] and allows(paths[number], row):
                    longer[row] = (float(totals[number, place]), (*paths[number], row))
                    break
        if longer:
            costs, here = np.array([cost for cost, _ in longer.values()]), points[list(longer)]
            paths = [path for _, path in longer.values()]
    return list(paths[int(np.argmin(costs + cost(here, ends[1:])[:, 0]))])


def _extended(
    collection: Collection,
    path: Path,
    entries: Sequence[PlaylistEntry],
    n: int,
    limits: Limits,
    progress: Progress,
) -> Draft:
    """Add the tracks that are most similar to those of a playlist, on a short path from its last track."""
    others = dict.fromkeys(_ENTRIES, 0)
    items: list[Item] = []
    rows: list[int] = []
    for entry, row in zip(entries, rows_of_entries(collection, entries), strict=True):
        if row is not None and collection.is_present(row):
            rows.append(row)
            items.append(Item(LibraryTrack.of(collection, row), f"in {path.name}", collection.vectors[row]))
        elif entry.path is None:
            others["remote"] += 1
        elif os.path.isfile(entry.path):  # noqa: PTH113
            others["unknown"] += 1
            items.append(Item(LibraryTrack.of_file(entry.path), f"in {path.name}", None))
        else:
            others["missing"] += 1
    for kind, number in others.items():
        if number:
            verb, noun, remark = _ENTRIES[kind]
            progress.note(f"{path}: {verb} {counted(number, noun)}{remark}")
    if not rows:
        raise MirembedError(f"no entry of {path} is in the library {collection.spec}; give another playlist")
    means, best, nearest = _mean_similarities(collection, rows)
    picked = pick(collection, np.argsort(-means, kind="stable"), n, limits, taken=set(rows))
    explain(collection, picked, n, limits, progress)
    added = []
    for row in picked.rows:
        like = LibraryTrack.of(collection, rows[nearest[row]])
        why = f"similar to {like.name} ({best[row]:.3f})"
        added.append(Item(LibraryTrack.of(collection, row), why, collection.vectors[row]))
    order = short_path(_places(collection, collection.vectors[[rows[-1], *picked.rows]]))
    return _draft(collection, [*items, *(added[number - 1] for number in order[1:])], picked, others)


def _mean_similarities(
    collection: Collection, rows: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return for every track ``[n_tracks]`` its mean and largest similarity to rows, and the position of the latter."""
    total, best = np.zeros(len(collection)), np.full(len(collection), -np.inf)
    nearest = np.zeros(len(collection), np.int64)
    for place, row in enumerate(rows):
        values = collection.similarities(collection.vectors[row])
        total += values
        nearest[values > best] = place
        np.maximum(best, values, out=best)
    return total / len(rows), best, nearest


def short_path(points: NDArray[np.float64]) -> list[int]:
    """Order points in short steps, beginning with the first.

    Each point is followed by the nearest one that is left; then parts of the path are reversed as long as this makes it
    shorter (2-opt; Croes, A method for solving traveling-salesman problems, Operations Research, 1958).

    Parameters
    ----------
    points : ndarray [n_points, d]

    Examples
    --------
    >>> short_path(np.array([[0.0], [3.0], [1.0], [2.0]]))
    [0, 2, 3, 1]
    """
    distances = _distances(points, points)
    path, left = [0], set(range(1, len(points)))
    while left:
        path.append(min(left, key=lambda point: (distances[path[-1], point], point)))
        left.remove(path[-1])
    # A last point at distance 0 from all others, because the path may end anywhere.
    distances = np.pad(distances, (0, 1))
    order = np.array([*path, len(points)])
    for _ in range(len(points) ** 2):
        before, first, last, after = order[:-2], order[1:-1], order[1:-1], order[2:]
        # The distance saved by reversing the points from one (rows) to another (columns).
        saved = distances[before, first][:, None] + distances[last, after] - distances[np.ix_(before, last)]
        saved = np.triu(saved - distances[np.ix_(first, after)], 1)
        start, end = np.unravel_index(np.argmax(saved), saved.shape) if saved.size else (0, 0)
        if not saved.size or saved[start, end] <= 1e-9 * distances.max():
            break
        order[start + 1 : end + 2] = order[start + 1 : end + 2][::-1].copy()
    found: list[int] = order[:-1].tolist()
    return found


def _places(collection: Collection, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return embeddings ``[n, units]``, scaled to length 1 if the similarity looks only at their directions."""
    places: NDArray[np.float64] = vectors.astype(np.float64)
    longest = collection.vectors[np.argmax(np.square(collection.vectors).sum(axis=1))]
    one, twice = collection.similarities(np.stack([longest, 2 * longest]))
    if np.allclose(one, twice):
        places /= np.maximum(np.sqrt(np.square(places).sum(axis=1, keepdims=True)), TINY)
    return places


def _distances(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distances ``[n, m]`` of ``x [n, d]`` from ``y [m, d]``."""
    center = x.mean(axis=0)  # smaller numbers, smaller rounding
    x, y = x - center, y - center
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    return np.asarray(np.sqrt(squares.clip(min=0)))


def _draft(collection: Collection, items: list[Item], picked: Picked, others: Mapping[str, int] | None = None) -> Draft:
    """Return a playlist with the lengths of its steps."""
    steps: list[float | None] = [None]
    for one, other in itertools.pairwise(items):
        if one.vector is None or other.vector is None:
            steps.append(None)
        else:
            places = _places(collection, np.stack([one.vector, other.vector]))
            steps.append(float(np.linalg.norm(places[1] - places[0])))
    return Draft(items, steps, picked.left_out, others)
