"""Find copies of one recording in a library.

`copy_groups` and `copies_of` use only what is stored, and decode nothing. `find_duplicates` also decodes files: stored
hashes, embeddings and file tags suggest candidates, and fingerprints confirm them.

Copies have equal bytes, equal decoded samples, or embeddings that are much closer than those of different tracks. How
close depends on the model and the library, so distances are measured in a unit of the library itself: the median
distance from a track to its fourth nearest one, which a few copies hardly change.

Measured in this unit on 32 clips of GTZAN and Emotify in 18 versions each, among 120 clips, with three models
(``rbf-sl``, ``cosine-sl``, ``nn``): transcodes to MP3, Ogg Vorbis and Opus at usual bit rates, and other sampling
rates, are 0.01 to 0.2 apart; versions trimmed by half a second, 0.02 to 0.25 (one 0.7); and the two nearest different
clips, 0.38, 0.31 and 0.22. A change of level by 6 dB moves an embedding by more than 1, so embeddings do not reveal
such copies.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import failures_json, file_stamp
from mirembed.library.distances import FEWEST, near_pairs
from mirembed.progress import Progress, counted
from mirembed.store.exports import write_rows

if TYPE_CHECKING:
    from mirembed.library.collection import Collection

COPY = 0.15
"""Largest distance of the embeddings of copies, in units of `Collection.typical_distance`."""

COPY_SECONDS = 1.0
"""Largest difference in duration, in seconds, between copies that are found only by their embeddings."""

CANDIDATE = 0.5
"""Like `COPY`, for pairs whose fingerprints are compared; it also covers low bit rates and trimmed versions."""

CANDIDATE_SECONDS, CANDIDATE_SHARE = 10.0, 0.05
"""Largest difference in duration between such pairs: in seconds, or as a share of the longer one."""

CANDIDATES = 10
"""The most such pairs of a track with later ones; an embedding that hardly separates tracks would give many."""

_PAIRS = 2000
"""Pairs whose fingerprints are in memory at once: about 80 MB for four-minute tracks."""

_FORMATS = {"WAVE": "WAV", "MP4": "AAC", "ASF": "WMA"}
"""Names of formats that differ from mutagen's."""

Match: TypeAlias = Literal["file", "audio", "fingerprint"]
"""What two copies have in common: all bytes, all decoded samples, or the fingerprint."""


def copy_groups(collection: Collection, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Group tracks that are copies of one recording, without decoding anything.

    Copies have equal bytes or samples; or equally long within a second, they have near embeddings or equal title and
    artist.

    Parameters
    ----------
    collection : Collection
    rows : sequence of int
        Rows of the collection: a few, as the file tags of each are read.

    Returns
    -------
    ndarray [n_rows], int64
        The same number for copies: the position in ``rows`` of the first of them.
    """
    rows = np.asarray(rows, np.int64)
    links: list[tuple[int, int]] = []
    for column in ("recording", "audio_hash"):
        links += equal_pairs([collection.index.value(column, row) for row in rows.tolist()])
    nearest = COPY * collection.typical_distance
    seconds = collection.durations[rows]
    for one, other, _ in near_pairs(collection.vectors[rows], nearest):
        close = np.abs(seconds[one] - seconds[other]) <= COPY_SECONDS  # False where a duration is unknown
        links += zip(one[close].tolist(), other[close].tolist(), strict=True)
    tags = [collection.tags(row) for row in rows.tolist()]
    titled = _equal_titles([(of_track.title, of_track.artists) for of_track in tags], seconds)
    links += [(one, other) for one, other in titled if np.abs(seconds[one] - seconds[other]) <= COPY_SECONDS]
    return linked(len(rows), links)


def copies_of(
    collection: Collection,
    rows: Sequence[int] | NDArray[np.int64],
    vector: NDArray[np.float32],
    duration: float,
    audio_hash: str | None = None,
) -> NDArray[np.bool_]:
    """Return which tracks are copies of a recording, which need not be in the collection.

    Parameters
    ----------
    collection : Collection
    rows : sequence of int
        Rows of the collection.
    vector : ndarray [units]
        Embedding of the recording.
    duration : float
        Seconds; NaN if unknown.
    audio_hash : str, optional
        Digest of the decoded samples.

    Returns
    -------
    ndarray [n_rows], bool
    """
    rows = np.asarray(rows, np.int64)
    distances = np.linalg.norm(collection.vectors[rows] - vector, axis=1)
    near = distances <= COPY * collection.typical_distance
    near &= np.abs(collection.durations[rows] - duration) <= COPY_SECONDS
    values = [collection.index.value("audio_hash", row) for row in rows.tolist()] if audio_hash is not None else ()
    same = [value == audio_hash for value in values] or False
    return np.asarray(near | same)


def equal_pairs(values: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """Yield pairs of positions: the first occurrence of a value, and each later one. None equals nothing.

    >>> list(equal_pairs(["a", "b", "a", None, "a", None]))
    [(0, 2), (0, 4)]
    """
    first: dict[Hashable, int] = {}
    for place, value in enumerate(values):
        if value is not None and first.setdefault(value, place) != place:
            yield first[value], place


def linked(n: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Return for each of ``n`` items the first one that it is linked to, directly or through others.

    >>> linked(5, [(3, 1), (4, 3)]).tolist()
    [0, 1, 2, 1, 1]
    """
    first = list(range(n))

    def root(thing: int) -> int:
        while first[thing] != thing:
            first[thing] = thing = first[first[thing]]
        return thing

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        first[high] = low
    return np.array([root(thing) for thing in range(n)], np.int64)


@dataclass(frozen=True)
class DuplicateFile:
    """A file that has a copy.

    Attributes
    ----------
    group : int
        The same number for copies of one recording, from 1.
    path, track : str
        The file, and its id in the dataset.
    match : {"file", "audio", "fingerprint"}
        What it shares with the most similar other file of the group.
    agreement : float
        Share of the fingerprint that agrees with that file; 1 for equal audio.
    duration : float or None
        Seconds; None if unknown.
    format : str
        Format of the audio, such as ``FLAC`` or ``MP3``.
    bit_rate : int or None
        kbit/s.
    size : int
        Bytes.
    """

    group: int
    path: str
    track: str
    match: Match
    agreement: float
    duration: float | None
    format: str
    bit_rate: int | None
    size: int


@dataclass(frozen=True)
class Duplicates:
    """The duplicates of a library.

    Attributes
    ----------
    n_tracks : int
        Number of tracks that were compared.
    files : list of DuplicateFile
        By group; within a group, by descending bit rate.
    n_missing, n_changed, n_links : int
        Tracks that were left out, because their files are missing, have changed since the last update, or are links to
        the file of another track.
    failures : list of (pathlib.Path, str)
        Files that could not be read, with the reason.
    """

    n_tracks: int
    files: list[DuplicateFile]
    n_missing: int
    n_changed: int
    n_links: int
    failures: list[tuple[Path, str]]

    @property
    def n_groups(self) -> int:
        """The number of recordings that have copies."""
        return len({file.group for file in self.files})

    @property
    def extra_bytes(self) -> int:
        """The total size of all files except the largest of each group."""
        largest: dict[int, int] = defaultdict(int)
        for file in self.files:
            largest[file.group] = max(largest[file.group], file.size)
        return sum(file.size for file in self.files) - sum(largest.values())

    def notes(self) -> list[str]:
        """Return a line for each kind of files that were left out."""
        kinds = (
            (self.n_missing, "missing file", ""),
            (self.n_changed, "file", " changed since the last update; run `mirembed update`"),
            (self.n_links, "link", " to the file of another track"),
        )
        return [f"left out {counted(number, noun)}{more}" for number, noun, more in kinds if number]

    def to_json(self) -> dict[str, Any]:
        """Return the duplicates as JSON."""
        groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for file in self.files:
            groups[file.group].append({name: value for name, value in asdict(file).items() if name != "group"})
        return {
            "tracks": self.n_tracks,
            "groups": list(groups.values()),
            "extra_bytes": self.extra_bytes,
            "missing": self.n_missing,
            "changed": self.n_changed,
            "links": self.n_links,
            "failures": failures_json(self.failures),
        }


def find_duplicates(collection: Collection, jobs: int, progress: Progress) -> Duplicates:
    """Find the files of a library that contain the same recording.

    Nothing is changed. Candidates are decoded once to get their fingerprints; see `mirembed.library.fingerprints`.

    Parameters
    ----------
    collection : Collection
    jobs : int
        Worker processes.
    progress : Progress
    """
    from mirembed.library.fingerprints import fingerprint_files

    rows, missing, changed, links = _present(collection)
    hashes = [collection.audio_hashes[row] for row in rows]
    files = list(equal_pairs([collection.recordings[row] for row in rows]))
    found: dict[tuple[int, int], tuple[Match, float]] = dict.fromkeys(equal_pairs(hashes), ("audio", 1.0))
    found |= dict.fromkeys(files, ("file", 1.0))
    audio = linked(len(rows), found)
    distinct = np.flatnonzero(audio == np.arange(len(rows)))  # one of each audio
    candidates = [
        (int(distinct[one]), int(distinct[other])) for one, other in _candidates(collection, rows[distinct], progress)
    ]
    to_read = sorted({place for pair in candidates for place in pair})
    of_recording = {collection.recordings[rows[place]]: collection.path(rows[place]) for place in to_read}
    failed = fingerprint_files(collection.store, of_recording, jobs, progress)
    found |= _confirmed(collection, rows, candidates, progress)
    failures = [
        (collection.path(rows[place]), failed[name])
        for place in to_read
        if (name := collection.recordings[rows[place]]) in failed
    ]
    return Duplicates(len(rows), _described(collection, rows, found), missing, changed, links, failures)


def _present(collection: Collection) -> tuple[NDArray[np.int64], int, int, int]:
    """Return the rows of unchanged files, each file once; and how many are missing, changed, and links to others."""
    stamps, rows, files = collection.stamps, [], set()
    counts = {"missing": 0, "changed": 0, "links": 0}
    for row in range(len(collection)):
        try:
            status = os.stat(collection.path(row))  # noqa: PTH116
        except OSError:
            counts["missing"] += 1
            continue
        if (status.st_size, status.st_mtime_ns) != stamps[row]:
            counts["changed"] += 1
        elif (status.st_dev, status.st_ino) in files:
            counts["links"] += 1
        else:
            files.add((status.st_dev, status.st_ino))
            rows.append(row)
    return np.array(rows, np.int64), counts["missing"], counts["changed"], counts["links"]


def _candidates(collection: Collection, rows: NDArray[np.int64], progress: Progress) -> list[tuple[int, int]]:
    """Return pairs of positions in ``rows`` to compare by fingerprint, sorted: near embeddings, or equal file tags.

    File tags also find copies at another level, whose embeddings differ.
    """
    seconds = collection.durations[rows]

    def similar_length(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        allowed = np.maximum(CANDIDATE_SECONDS, CANDIDATE_SHARE * np.maximum(seconds[one], seconds[other]))
        return ~(np.abs(seconds[one] - seconds[other]) > allowed)  # True where a duration is unknown

    titles, artists = collection.index.values("title"), collection.index.values("artists")
    pairs = _equal_titles([(titles[row], artists[row]) for row in rows.tolist()], seconds)
    one, other = (np.array([pair[end] for pair in pairs], np.int64) for end in (0, 1))
    pairs = [pair for pair, fits in zip(pairs, similar_length(one, other), strict=True) if fits]
    progress.start("comparing embeddings", len(rows))
    # With few tracks, there is no telling what is near: all of them are compared.
    nearest = np.inf if len(collection) < FEWEST else CANDIDATE * collection.typical_distance
    for one, other, distances in near_pairs(collection.vectors[rows], nearest):
        fits = similar_length(one, other)
        one, other, distances = one[fits], other[fits], distances[fits]
        order = np.lexsort((distances, one))
        one, other = one[order], other[order]
        # Rank of each pair among those of its first track, by distance.
        rank = np.arange(len(one)) - np.searchsorted(one, one)
        pairs += zip(one[rank < CANDIDATES].tolist(), other[rank < CANDIDATES].tolist(), strict=True)
        if len(one):
            progress.update(int(one[-1]))
    return sorted(set(pairs))


def _equal_titles(
    named: Sequence[tuple[str | None, tuple[str, ...]]], seconds: NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Return pairs of tracks with equal title and first artist: each with the next few by duration."""
    groups = defaultdict(list)
    for place, (title, artists) in enumerate(named):
        if title and artists:
            groups[title.casefold(), artists[0].casefold()].append(place)
    pairs = []
    for places in groups.values():
        places.sort(key=lambda place: (np.nan_to_num(seconds[place]), place))
        for position, one in enumerate(places):
            pairs += [(min(one, other), max(one, other)) for other in places[position + 1 : position + 1 + CANDIDATES]]
    return pairs


def _confirmed(
    collection: Collection, rows: NDArray[np.int64], pairs: Sequence[tuple[int, int]], progress: Progress
) -> dict[tuple[int, int], tuple[Match, float]]:
    """Return the pairs whose fingerprints agree, with the share that agrees."""
    from mirembed.datasets.duplicates import same_recordings
    from mirembed.library.fingerprints import FingerprintCache

    cache, found = FingerprintCache(collection.store), dict[tuple[int, int], tuple[Match, float]]()
    progress.start("comparing fingerprints", len(pairs))
    for start in range(0, len(pairs), _PAIRS):
        block = pairs[start : start + _PAIRS]
        words = cache.read({collection.recordings[rows[place]] for pair in block for place in pair})
        for number, (one, other) in enumerate(block, start + 1):
            both = [words.get(collection.recordings[rows[place]]) for place in (one, other)]
            matches = same_recordings([one_words for one_words in both if one_words is not None])
            if matches:
                found[one, other] = ("fingerprint", 1 - matches[0].difference)
            progress.update(number)
    return found


def _described(
    collection: Collection, rows: NDArray[np.int64], found: Mapping[tuple[int, int], tuple[Match, float]]
) -> list[DuplicateFile]:
    """Describe the files of each group."""
    order: tuple[Match, ...] = ("file", "audio", "fingerprint")
    best: dict[int, tuple[Match, float]] = {}
    for pair, match in found.items():
        for place in pair:
            best[place] = min(match, best.get(place, match), key=lambda one: (order.index(one[0]), -one[1]))
    groups: dict[int, list[int]] = defaultdict(list)
    for place, first in enumerate(linked(len(rows), found).tolist()):
        if place in best:
            groups[first].append(place)
    files = []
    for number, places in enumerate(groups.values(), 1):
        described = []
        for place in places:
            row, path = int(rows[place]), collection.path(int(rows[place]))
            size, seconds = file_stamp(path)[0], float(collection.durations[row])
            kind, bit_rate = _format(path, size, seconds)
            length = None if np.isnan(seconds) else round(seconds, 3)
            text = collection.paths[row]
            described.append(
                DuplicateFile(number, text, collection.ids[row], *best[place], length, kind, bit_rate, size)
            )
        files += sorted(described, key=lambda file: (-(file.bit_rate or 0), file.path))
    return files


def _format(path: Path, size: int, seconds: float) -> tuple[str, int | None]:
    """Return the format of a file and its bit rate in kbit/s; by its suffix and size if the header does not say."""
    import mutagen

    name, rate = path.suffix.lstrip(".").upper(), 8 * size / seconds if seconds > 0 else 0.0
    with contextlib.suppress(Exception):  # damaged tags make mutagen raise almost anything
        file: Any = mutagen.File(os.fsencode(path))
        rate = file.info.bitrate or rate
        codec = "ALAC" if getattr(file.info, "codec", "") == "alac" else type(file).__name__
        name = _FORMATS.get(codec, codec.removeprefix("Ogg").upper())
    return name, round(rate / 1000) or None


def write_duplicates(path: Path, files: Sequence[DuplicateFile], *, bom: bool = False) -> None:
    """Write a table with one row per file, as CSV or Parquet.

    Raises
    ------
    StoreWriteError
    """
    import pyarrow as pa

    names = [field.name for field in fields(DuplicateFile)]
    types = {"group": pa.int64(), "agreement": pa.float64(), "duration": pa.float64(), "bit_rate": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.int64() if name == "size" else pa.string())) for name in names])
    write_rows(path, ([getattr(file, name) for name in names] for file in files), schema, bom=bom)
