"""The index of a library: everything that its commands look up, in one file that is mapped into memory.

It is derived from the tables of a dataset and the embeddings of a model, kept in the cache of the store, and built
again when one of these has changed. An index of 100 000 tracks opens in a few milliseconds; columns are read only when
they are used.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.file_tags import FileTags
from mirembed.errors import StoreWriteError
from mirembed.hookspecs import Task
from mirembed.interruption import interruptible
from mirembed.library.distances import typical_distance
from mirembed.store import DatasetStore, Store
from mirembed.store.datasets import FILE_TAGS, INFO, TRACKS
from mirembed.store.embeddings import StoredEmbeddings, vectors
from mirembed.store.files import writing
from mirembed.store.root import slug
from mirembed.store.rows import label_names, label_type

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 2
"""Version of the index; an index of another version is built again."""

_FACTS = b"mirembed.library"
"""Key of the table's metadata for everything that is not in columns."""

_OF_TRACKS = ("path", "file_size", "file_mtime_ns")
_OF_RECORDINGS = ("audio_hash", "duration")
_OF_FILES = tuple(field.name for field in fields(FileTags))

_COMPARED = 16
"""The most texts that `Index.rows_of` compares one by one."""

_CHECKSUM = 8
"""Bytes at the end of the file: the sum of the 64-bit words before them."""

_PLAIN = str.maketrans(dict(zip("’‘“”–—‐øØłŁđĐ", "''\"\"---oOlLdD", strict=True)))  # noqa: RUF001
"""Characters that people type differently and that Unicode does not decompose."""


@dataclass(frozen=True)
class Index:
    """The tracks of a library in columns; see `make_index` for their names.

    Attributes
    ----------
    table : pyarrow.Table
        Each column has one chunk.
    without_embeddings : list of str
        Ids of listed tracks that are not in the table, because the model has not embedded them.
    """

    table: pa.Table
    without_embeddings: list[str]

    def values(self, name: str) -> list[Any]:
        """Return a column, with lists as tuples."""
        column = self._column(name)
        if not hasattr(column, "offsets"):
            return list(column.to_pylist())
        if column.null_count:
            return [None if one is None else tuple(one) for one in column.to_pylist()]
        texts, offsets = column.values.to_pylist(), column.offsets.to_pylist()
        return [tuple(texts[first:last]) for first, last in itertools.pairwise(offsets)]

    def value(self, name: str, row: int) -> Any:
        """Return the value of a track in a column, a list as a tuple."""
        value = self._column(name)[row].as_py()
        return tuple(value) if isinstance(value, list) else value

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of floats ``[n_tracks]``; NaN where there is no value."""
        column = self._column(name)
        known, values = column.buffers()
        found = np.frombuffer(values, np.float64, len(column))
        if known is None:
            return found
        is_known = np.unpackbits(np.frombuffer(known, np.uint8), count=len(column), bitorder="little")
        return np.where(is_known, found, np.nan)

    def rows_of(self, name: str, texts: Collection[str]) -> list[int]:
        """Return the tracks that have one of some texts in a column of texts, in order.

        For a few texts, this is much faster than reading the column.
        """
        if len(texts) > _COMPARED:
            wanted = frozenset(texts)
            return [row for row, text in enumerate(self.values(name)) if text in wanted]
        _, places, content = self._column(name).buffers()
        ends = np.frombuffer(places, np.int32, len(self.table) + 1)
        letters = np.frombuffer(content or b"", np.uint8)
        found: set[int] = set()
        for text in texts:
            data = text.encode(errors="surrogatepass")  # of the command line: no text has it
            rows = np.flatnonzero(np.diff(ends) == len(data))
            for back, letter in enumerate(reversed(data), 1):  # names differ at their ends rather than beginnings
                if len(rows) == 0:
                    break
                rows = rows[letters[ends[rows + 1] - back] == letter]
            # An empty text looks like one that is missing.
            found.update(row for row in rows.tolist() if data or self.value(name, row) is not None)
        return sorted(found)

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """The embeddings ``[n_tracks, units]``, read-only."""
        column = self._column("vector")
        flat: NDArray[np.float32] = np.frombuffer(column.buffers()[1], np.float32)
        return flat.reshape(len(column), -1)

    @cached_property
    def typical_distance(self) -> float:
        """See `mirembed.library.distances.typical_distance`."""
        known = (self.table.schema.metadata or {}).get(_FACTS)
        return float(json.loads(known)["typical_distance"]) if known else typical_distance(self.vectors)

    def rows_with(self, words: Sequence[str]) -> list[int]:
        """Return the tracks whose artist, title and id together contain all words; these are `folded` and not empty."""
        column = self._column("search")
        offsets, text = np.frombuffer(column.buffers()[1], np.int32), bytes(column.buffers()[2])
        parts = [word.encode() for word in words]
        longest = max(parts, key=len)
        rows: list[int] = []
        place = text.find(longest)
        while place >= 0:
            row = int(np.searchsorted(offsets, place, "right")) - 1
            first, last = int(offsets[row]), int(offsets[row + 1])
            if place + len(longest) > last:  # it crosses into the text of the next track
                place = text.find(longest, place + 1)
                continue
            if all(text.find(part, first, last) >= 0 for part in parts):
                rows.append(row)
            place = text.find(longest, last)
        return rows

    def _column(self, name: str) -> Any:
        return self.table.column(name).chunk(0)


def folded(text: str) -> str:
    """Return a text without case, accents and typographic characters, as people type it.

    >>> folded("Björk: Jóga")
    'bjork: joga'
    """
    if text.isascii():
        return text.lower()
    letters = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


def make_index(
    columns: Mapping[str, Any],
    embeddings: NDArray[np.float32],
    task: Task | None = None,
    without_embeddings: Sequence[str] = (),
) -> Index:
    """Return an index of tracks.

    Parameters
    ----------
    columns : mapping of str to sequence or pyarrow.ChunkedArray
        ``id``, ``recording``, ``path``, ``file_size``, ``file_mtime_ns``, ``audio_hash`` and ``duration`` of the
        tracks, the fields of their `FileTags`, and the columns of their labels, named ``label:`` and the name in the
        table of tracks. Columns that are not given are null. Columns of tables are taken as they are.
    embeddings : ndarray [n_tracks, units], float32
    task : Classification, Tags, Regression or None
        The task of the labels.
    without_embeddings : sequence of str
        See `Index`.
    """
    import pyarrow as pa

    n_tracks, units = embeddings.shape
    texts, numbers = pa.list_(pa.string()), pa.int64()
    types = {"id": pa.string(), "recording": pa.string(), "path": pa.string(), "file_size": numbers}
    types |= {"file_mtime_ns": numbers, "audio_hash": pa.string(), "duration": pa.float64()}
    types |= dict.fromkeys(("title", "album", "album_artist"), pa.string())
    types |= dict.fromkeys(("artists", "genres", "moods"), texts)
    types |= dict.fromkeys(("year", "track", "disc"), numbers) | {"rating": pa.float64()}
    if task is not None:
        types |= {f"label:{name}": label_type(task) for name in label_names(task)}
    nothing = [None] * n_tracks
    arrays = {name: _array(columns.get(name, nothing), kind) for name, kind in types.items()}
    named = zip(*(arrays[name].to_pylist() for name in ("id", "title", "artists", "album_artist")), strict=True)
    search = [folded(" ".join(filter(None, (name, title, *artists, album)))) for name, title, artists, album in named]
    arrays["search"] = pa.array(search, pa.string())
    flat = pa.py_buffer(np.ascontiguousarray(embeddings, np.float32))
    arrays["vector"] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * units), n_tracks, [None, flat])
    return Index(pa.table(arrays), list(without_embeddings))


def _array(values: Any, kind: pa.DataType) -> Any:
    """Return values, or a column of a table, as an array; a list that is missing is empty."""
    import pyarrow as pa

    if not isinstance(values, pa.ChunkedArray):
        if pa.types.is_list(kind):
            values = [found or () for found in values]
        return pa.array(values, kind)
    chunks = values.cast(kind).chunks
    array = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks) if chunks else pa.array([], kind)
    return pa.ListArray.from_arrays(array.offsets, array.values) if pa.types.is_list(kind) else array


def open_index(store: Store, dataset: DatasetStore, task: Task | None, model: str, digest: str) -> Index:
    """Return the index of the tracks of a dataset that a model has embedded, from the cache if it is up to date.

    Parameters
    ----------
    store : Store
    dataset : DatasetStore
    task : Classification, Tags, Regression or None
        The task of the dataset.
    model : str
        Name of the model.
    digest : str
        Digest of its network.

    Raises
    ------
    StoreError
        A table of the store is damaged.
    """
    embedded = store.embeddings(model)
    path = store.cache / f"library-{slug(f'{dataset.folder.name} {model}')}.arrow"
    source = _source(dataset, embedded, task, digest)
    if (index := _read(path, source)) is not None:
        return index
    index = _build(dataset, embedded, task, digest)
    # An index that cannot be written is not cached, nor is one of tables that have changed in the meantime.
    if len(index.table) and _source(dataset, embedded, task, digest) == source:
        with contextlib.suppress(StoreWriteError):
            _write(path, index, source)
    return index


def _source(dataset: DatasetStore, embedded: StoredEmbeddings, task: Task | None, digest: str) -> str:
    """Return a digest that changes when any of the files behind an index is replaced.

    The columns of labels are named, because the task was read before the files.
    """
    stamps = []
    for path in (*(dataset.folder / name for name in (INFO, TRACKS, FILE_TAGS)), *embedded.files()):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            stamps.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
    content = json.dumps([VERSION, str(dataset.folder.absolute()), _labels_of(task), digest, stamps])
    return hashlib.sha256(content.encode()).hexdigest()


def _labels_of(task: Task | None) -> list[str]:
    """Return the names of the columns of labels in the table of tracks."""
    return [] if task is None else list(label_names(task))


def _read(path: Path, source: str) -> Index | None:
    """Return the index in a file; None if it is missing, damaged or out of date."""
    import pyarrow as pa

    try:
        content = pa.memory_map(str(path)).read_buffer()
        table = pa.ipc.open_file(content.slice(0, content.size - _CHECKSUM)).read_all()
        facts = json.loads((table.schema.metadata or {})[_FACTS])
        is_right = facts["source"] == source and content.slice(content.size - _CHECKSUM).to_pybytes() == _sum(content)
        return Index(table, facts["without_embeddings"]) if is_right else None
    except (OSError, pa.ArrowException, KeyError, ValueError, IndexError):
        return None


def _sum(content: Any) -> bytes:
    """Return the checksum of a file, given with its checksum or with as many other bytes in its place.

    A sum of all words takes a few milliseconds for 100 000 tracks, a hash as long as the rest of a query.
    """
    words = np.frombuffer(content, np.uint64, (len(content) - _CHECKSUM) // 8)
    return int(words.sum(dtype=np.uint64)).to_bytes(_CHECKSUM, "little")


def _write(path: Path, index: Index, source: str) -> None:
    import pyarrow as pa

    facts = {
        "source": source,
        "typical_distance": index.typical_distance,
        "without_embeddings": index.without_embeddings,
    }
    table = index.table.replace_schema_metadata({_FACTS: json.dumps(facts)})
    with writing(path) as temporary, temporary.open("wb") as file:
        with pa.ipc.new_file(file, table.schema) as out:
            out.write_table(table, max_chunksize=len(table))
        file.write(bytes(_CHECKSUM))
        file.flush()
        file.seek(-_CHECKSUM, os.SEEK_END)
        file.write(_sum(pa.memory_map(str(temporary)).read_buffer()))


@interruptible()
def _build(dataset: DatasetStore, embedded: StoredEmbeddings, task: Task | None, digest: str) -> Index:
    """Join the tables of a dataset with the embeddings, one row per track."""
    import pyarrow as pa

    labels = _labels_of(task)
    tracks = dataset.columns("id", "recording", "listed", *_OF_TRACKS, *labels)
    embeddings, tags = embedded.table(digest, ["vector", *_OF_RECORDINGS]), dataset.file_tags(["id", *_OF_FILES])
    known = {recording: place for place, recording in enumerate(embeddings["recording"].to_pylist())}
    places = [known.get(recording) for recording in tracks["recording"].to_pylist()]
    listed = [row for row, is_listed in enumerate(tracks["listed"].to_pylist()) if is_listed]
    ids = tracks["id"].to_pylist()
    rows = [row for row in listed if places[row] is not None]
    embedding = [places[row] for row in rows]
    tagged = {track: place for place, track in enumerate(tags["id"].to_pylist())}
    tag_rows = [tagged.get(ids[row]) for row in rows]
    columns: dict[str, Any] = {}
    for table, names, taken in (
        (tracks, ("id", "recording", *_OF_TRACKS, *labels), rows),
        (embeddings, _OF_RECORDINGS, embedding),
        (tags, _OF_FILES, tag_rows),
    ):
        numbers = pa.array(taken, pa.int64())
        found = table.select(names).take(numbers)
        columns |= {f"label:{name}" if name in labels else name: found[name] for name in names}
    lacking = [ids[row] for row in listed if places[row] is None]
    return make_index(columns, vectors(embeddings)[np.array(embedding, np.int64)], task, lacking)
