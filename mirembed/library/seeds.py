"""Find the tracks that neighbors and playlists start from or leave out: by id, file, title, artist or album."""

from __future__ import annotations

import difflib
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mirembed.audio.file_tags import FileTags, read_file_tags
from mirembed.audio.files import file_hash, is_audio, printable
from mirembed.audio.playlists import PLAYLIST_SUFFIXES, PlaylistEntry, playlist_matcher, read_playlist
from mirembed.errors import MirembedError
from mirembed.library.collection import Collection
from mirembed.library.duplicates import copy_groups
from mirembed.library.index import folded
from mirembed.progress import counted
from mirembed.store.recordings import absolute

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LISTED = 20
"""Matching tracks to list."""

_SHOWN = 80
"""Characters of a title or an artist that are shown: some files have a whole page there."""

_SEARCHED = 20_000
"""Names that are searched for similar ones, for an error message; more would take seconds."""


@dataclass(frozen=True)
class LibraryTrack:
    """A track with its file and file tags.

    Attributes
    ----------
    id : str
        Id in the library; the path, for a file outside of it.
    path : pathlib.Path
        The file, absolute.
    seconds : float
        Duration; NaN if it is unknown.
    tags : FileTags
    """

    id: str
    path: Path
    seconds: float
    tags: FileTags

    @classmethod
    def of(cls, collection: Collection, row: int) -> LibraryTrack:
        """Return a track of a collection."""
        track, tags = collection.index.value("id", row), collection.tags(row)
        return cls(track, collection.path(row), float(collection.durations[row]), tags)

    @classmethod
    def of_file(cls, path: Path) -> LibraryTrack:
        """Return a file as a track, with its file tags."""
        from mirembed.audio.headers import read_header

        seconds = read_header(path).stated or math.nan
        return cls(printable(path), Path(os.path.abspath(path)), seconds, read_file_tags(path))  # noqa: PTH100

    @property
    def name(self) -> str:
        """Artist and title, shortened where they are very long; without a title, the id."""
        if self.tags.title is None:
            return self.id
        title = _shortened(self.tags.title)
        return title if self.tags.artist is None else f"{_shortened(self.tags.artist)} – {title}"  # noqa: RUF001

    @property
    def label(self) -> str:
        """The id, and artist and title in parentheses."""
        return self.id if self.name == self.id else f"{self.id}  ({self.name})"

    def to_json(self) -> dict[str, Any]:
        """Return the track as JSON."""
        return {
            "track": self.id,
            "path": printable(self.path),
            "title": self.tags.title,
            "artist": self.tags.artist,
            "album": self.tags.album,
            "duration": None if math.isnan(self.seconds) else self.seconds,
        }


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1].rstrip()}…"


@dataclass(frozen=True)
class Seed:
    """A track to start from.

    Attributes
    ----------
    text : str
        As given.
    track : LibraryTrack
    recording : str
    vector : ndarray [units], float32
        Its embedding.
    row : int or None
        Row in the library; None for a file that is not in it, though a copy may be.
    """

    text: str
    track: LibraryTrack
    recording: str
    vector: NDArray[np.float32]
    row: int | None


Choose: TypeAlias = Callable[[str, Sequence[LibraryTrack]], int | None]
"""Takes a text and the tracks that match it; returns the position of the one that is meant, None if nobody can say."""

Embed: TypeAlias = Callable[[Path], tuple[str, "NDArray[np.float32]"]]
"""Returns the recording and the embedding of a file that is not in the library."""


def find_seeds(collection: Collection, texts: Iterable[str], choose: Choose, embed: Embed) -> list[Seed]:
    """Find the tracks that texts refer to; a track that is given twice is returned once.

    A text is the path of an audio file, the id of a track, or words from its artist, title and id. All words must
    occur; case and accents are ignored.

    Raises
    ------
    MirembedError
        No track matches, or several do and ``choose`` returns None.
    """
    seeds: dict[str, Seed] = {}
    for text in texts:
        if os.path.isfile(text):  # noqa: PTH113  (a text may be too long for a path)
            seed = _seed_of_file(collection, text, embed)
        else:
            seed = _seed_of_text(collection, text, choose)
        seeds.setdefault(seed.recording, seed)
    return list(seeds.values())


def excluded_rows(collection: Collection, texts: Iterable[str], note: Callable[[str], None]) -> frozenset[int]:
    """Return the tracks that texts refer to, and all tracks with the same recordings.

    A text is a playlist file, a folder, an audio file or an id, or else an artist, an album or a title.

    Parameters
    ----------
    collection : Collection
    texts : iterable of str
    note : callable
        Receives a note with the number of tracks for each text.

    Raises
    ------
    MirembedError
        No track matches.
    """
    excluded: set[int] = set()
    for text in texts:
        rows = _excluded(collection, text)
        note(f"excluding {counted(len(rows), 'track')}: {text}")
        excluded |= rows
    recordings = {collection.index.value("recording", row) for row in excluded}
    return frozenset(excluded | rows_of_recordings(collection, recordings))


def rows_of_recordings(collection: Collection, recordings: Set[str]) -> set[int]:
    """Return all tracks with one of these recordings."""
    return set(collection.index.rows_of("recording", recordings))


def rows_of_entries(collection: Collection, entries: Sequence[PlaylistEntry]) -> list[int | None]:
    """Return the track of each entry of a playlist; None if it is not in the library.

    The library may have moved: an entry whose file is missing matches a track with the same name in a folder of the
    same name.
    """
    rows = {path: row for row, path in enumerate(collection.paths)}
    found = [None if entry.path is None else _row_of_path(collection, rows, entry.path) for entry in entries]
    if any(row is None and entry.path is not None for row, entry in zip(found, entries, strict=True)):
        match = playlist_matcher(map(Path, collection.paths))
        for position, entry in enumerate(entries):
            if found[position] is None and entry.path is not None and not entry.path.exists():
                file = match(entry)
                found[position] = None if file is None else rows[str(file)]
    return found


def _seed_of_file(collection: Collection, text: str, embed: Embed) -> Seed:
    path = Path(text)
    row = _row_of(collection, "path", absolute(path))
    if row is not None and collection.is_unchanged(row):
        return _seed_of_row(collection, text, row)
    recording = file_hash(path)
    same = _row_of(collection, "recording", recording)
    if same is None:
        recording, vector = embed(path)
    else:
        vector = collection.vectors[same]
    return Seed(text, LibraryTrack.of_file(path), recording, vector, None)


def _seed_of_text(collection: Collection, text: str, choose: Choose) -> Seed:
    row = _row_of(collection, "id", text)
    if row is not None:
        return _seed_of_row(collection, text, row)
    present = (row for row in _matching(collection, text) if collection.is_present(row))
    rows = list(itertools.islice(present, _LISTED + 1))
    if not rows:
        raise MirembedError(_unknown(collection, text, "audio file, artist"))
    if len(set(copy_groups(collection, rows))) == 1:
        return _seed_of_row(collection, text, rows[0])
    tracks = [LibraryTrack.of(collection, row) for row in rows]
    chosen = choose(text, tracks[:_LISTED])
    if chosen is None:
        raise MirembedError(_ambiguous(text, tracks))
    return _seed_of_row(collection, text, rows[chosen])


def _seed_of_row(collection: Collection, text: str, row: int) -> Seed:
    recording = collection.index.value("recording", row)
    return Seed(text, LibraryTrack.of(collection, row), recording, collection.vectors[row], row)


def _excluded(collection: Collection, text: str) -> set[int]:
    path = Path(text)
    if path.suffix.lower() in PLAYLIST_SUFFIXES and os.path.isfile(path):  # noqa: PTH113
        return {row for row in rows_of_entries(collection, read_playlist(path)) if row is not None}
    folder = absolute(path) + "/"
    inside = f"{text.rstrip('/')}/"
    rows = {row for row, name in enumerate(collection.paths) if name.startswith(folder)}
    rows |= {row for row, name in enumerate(collection.ids) if name.startswith(inside)}
    rows.update(collection.index.rows_of("path", [absolute(path)]), collection.index.rows_of("id", [text]))
    if rows or os.path.isdir(path):  # noqa: PTH112
        return rows
    if is_audio(path):
        return rows_of_recordings(collection, {file_hash(path)})
    wanted, values = folded(text), collection.index.values
    albums = (row for row, album in enumerate(values("album")) if album is not None and folded(album) == wanted)
    names_of = zip(values("artists"), values("album_artist"), strict=True)
    artists = (
        row
        for row, (names, of_album) in enumerate(names_of)
        if any(folded(name) == wanted for name in names) or (of_album is not None and folded(of_album) == wanted)
    )
    rows = {*albums, *artists}
    if not rows:
        found = _matching(collection, text)
        if len(found) > 1 and not _is_exact(collection, found[0], wanted):
            raise MirembedError(_ambiguous(text, [LibraryTrack.of(collection, row) for row in found]))
        rows = set(found)
    if not rows:
        raise MirembedError(
            f"--exclude: {_unknown(collection, text, 'playlist file, folder, audio file, artist, album')}"
        )
    return rows


def _matching(collection: Collection, text: str) -> list[int]:
    """Return the tracks whose artist, title and id contain all words of a text; only exact ones, if there are any."""
    wanted = folded(text)
    words = [word for word in wanted.split() if re.search(r"\w", word)] or wanted.split()
    if not words:
        return []
    rows = collection.index.rows_with(words)
    exact = [row for row in rows if _is_exact(collection, row, wanted)]
    return exact or rows


def _is_exact(collection: Collection, row: int, wanted: str) -> bool:
    """Whether a folded text is the title, artist and title, or the file name of a track."""
    track = LibraryTrack.of(collection, row)
    title = track.tags.title or ""
    names = (title, track.name, f"{track.tags.artist or ''} {title}", track.path.name, track.path.stem)
    return wanted in map(folded, names)


def _row_of_path(collection: Collection, rows: dict[str, int], path: Path) -> int | None:
    row = rows.get(absolute(path))
    if row is None and path.is_file():
        # Library and playlist may reach one folder by different links.
        real, root = Path(os.path.realpath(path)), Path(os.path.realpath(collection.audio))
        if real.is_relative_to(root):
            row = rows.get(absolute(collection.audio / real.relative_to(root)))
    return row


def _row_of(collection: Collection, column: str, text: str) -> int | None:
    return next(iter(collection.index.rows_of(column, [text])), None)


def _ambiguous(text: str, tracks: Sequence[LibraryTrack]) -> str:
    number = f"more than {_LISTED}" if len(tracks) > _LISTED else str(len(tracks))
    listed = "".join(f"\n  {track.label}" for track in tracks[:_LISTED])
    return f"{text!r} matches {number} tracks; add words, or give an id:{listed}"


def _unknown(collection: Collection, text: str, kinds: str) -> str:
    names = [*collection.ids, *filter(None, collection.index.values("title"))][:_SEARCHED]
    near = difflib.get_close_matches(text, names)
    advice = f"did you mean {' or '.join(near)}?" if near else f"give an id, such as {collection.ids[0]}"
    tracks = counted(len(collection), "track")
    return f"no {kinds}, title or id matches {text!r} among the {tracks} with embeddings; {advice}"
