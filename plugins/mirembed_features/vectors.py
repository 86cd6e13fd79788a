"""The features ``vectors``: vectors or frames that were computed elsewhere, read from a table or a folder.

A file is a Parquet, CSV or NPZ table, or a folder of ``.npy`` files. Nothing in it can run code, and no audio is
decoded.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, get_args
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from mirembed import Audio, AudioError, Track

KEY_COLUMNS = ("id", "path")
"""A table names its tracks in a column, or an array, of one of these names."""

VECTORS = "vectors"
"""The array of an NPZ table that holds the values."""

By = Literal["auto", "id", "path", "name", "stem"]
Load = Callable[[], NDArray[Any]]


class Vectors:
    """Vectors or frames that were computed elsewhere, by track.

    Parquet and CSV: a column ``id`` or ``path``, and a column of numbers for each value; Parquet may have the values in
    a single column of lists instead. NPZ: arrays ``id`` or ``path`` and ``vectors``, one row per track; or an array for
    each track, named after it. Folder: a file ``NAME.npy`` for each track, in subfolders if the names have any. With
    ``hop``, a track has frames: the rows of a table with its name, in their order, or an array ``[frames, values]``.

    Parameters
    ----------
    file : pathlib.Path
        The table (.parquet, .csv or .npz) or the folder.
    hop : float or None
        Seconds from one frame to the next; none if a track has one vector.
    by : {"auto", "id", "path", "name", "stem"}
        What names a track: id, the dataset's id, with or without the suffix of an audio file; path, the audio file,
        relative to the folder of the table, with or without its suffix; name or stem, the audio file's name with or
        without its suffix, which no two files may share. auto: the column's name, or else id for tracks of a dataset
        and path for other files.

    Raises
    ------
    ValueError
        The file cannot be read, or is not as described: its names repeat, widths differ, or values are not numbers.
    """

    version = "1"
    neutral = ("file",)

    def __init__(self, file: Path, hop: float | None = None, by: By = "auto") -> None:
        if hop is not None and not 0 < hop < 3600:
            raise ValueError(f"hop is {hop:g}; expected seconds above 0, or none for one vector per track")
        self.hop = hop
        self._file = Path(file)
        column, arrays, self.values = _read(self._file, framed=hop is not None)
        self._arrays = {normalize("NFC", name): load for name, load in arrays.items()}
        self._by: By = column if by == "auto" and column else by
        self._used: dict[str, Path] = {}

    @functools.cached_property
    def digest(self) -> str:
        """32 hexadecimal digits (BLAKE2b) of the content of the file, or of all files of the folder."""
        digest = hashlib.blake2b(digest_size=16)
        for file in sorted(self._file.rglob("*.npy")) if self._file.is_dir() else [self._file]:
            name = file.relative_to(self._file).as_posix() if self._file.is_dir() else ""
            digest.update(f"{name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
            with file.open("rb") as content:
                while block := content.read(2**20):
                    digest.update(block)
        return digest.hexdigest()

    def extract(self, audio: Audio) -> NDArray[np.float32]:
        """Return the vector or the frames of a recording: ndarray ``[n_frames, values]``.

        Raises
        ------
        AudioError
            The file has none for this track, or several; or they are not finite.
        """
        name = self._find(audio)
        try:
            found = self._arrays[name]()
        except (OSError, ValueError) as error:
            raise AudioError(f"{self._file}: {name!r} cannot be read ({error})") from error
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(found, np.float32).reshape(-1, self.values)
        if not np.isfinite(values).all():
            raise AudioError(f"{self._file}: {name!r} has values that are NaN or infinite")
        return values

    def _find(self, audio: Audio) -> str:
        """Return the name that this recording has in the file."""
        by = self._by if self._by != "auto" else "id" if audio.ids else "path"
        if by == "id" and not audio.ids:
            raise AudioError(f"{self._file} names tracks by id, and no dataset lists this file; use by=path")
        exact, found = self._names(audio.path, audio.ids, by), self._entries(audio.path, audio.ids, by)
        if not found:
            some = ", ".join(map(repr, list(self._arrays)[:2]))
            entries = {other: self._entries(audio.path, audio.ids, other) for other in get_args(By)[1:]}
            hint = next((f"; by={other} finds {names[0]!r}" for other, names in entries.items() if names), "")
            raise AudioError(
                f"{self._file} has no entry for {by} {exact[0]!r}{hint}; it has {len(self._arrays)}: {some} ..."
            )
        if len(found) > 1:
            raise AudioError(f"{self._file} has several entries for this file: {', '.join(map(repr, found))}; keep one")
        shared = by in ("name", "stem") or found[0] not in exact
        if shared and self._used.setdefault(found[0], audio.path) != audio.path:
            raise AudioError(f"{self._file}: {found[0]!r} also matches {self._used[found[0]]}; use whole ids or paths")
        return found[0]

    def unmatched(self, tracks: Sequence[Track]) -> list[str]:
        """Return the names in the file that none of the tracks of a dataset has."""
        by = self._by if self._by != "auto" else "id"
        return sorted(set(self._arrays).difference(*(self._entries(one.path, (one.id,), by) for one in tracks)))

    def _entries(self, path: Path, ids: Sequence[str], by: str) -> list[str]:
        """Return the names in the file that fit a recording."""
        exact = self._names(path, ids, by)
        names = exact if by in ("name", "stem") else [*exact, *map(_without_suffix, exact)]
        return sorted({name for name in names if name in self._arrays})

    def _names(self, path: Path, ids: Sequence[str], by: str) -> list[str]:
        """Return what a recording may be called, in Unicode's composed form, the first as an example for messages."""
        return [normalize("NFC", name) for name in self._written(path, ids, by)]

    def _written(self, path: Path, ids: Sequence[str], by: str) -> list[str]:
        if by == "name":
            return [path.name]
        if by == "stem":
            return [path.stem]
        if by == "id":
            return list(ids)
        folder = self._file if self._file.is_dir() else self._file.parent
        places = [(path.absolute(), folder.absolute()), (path.resolve(), folder.resolve())]
        return [name for place, start in places for name in (os.path.relpath(place, start), str(place))]


def _without_suffix(name: str) -> str:
    """Return a name without the suffix of an audio file.

    >>> _without_suffix("pop/pop.00001.wav"), _without_suffix("pop/pop.00001")
    ('pop/pop.00001', 'pop/pop.00001')
    """
    from mirembed import AUDIO_SUFFIXES

    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in AUDIO_SUFFIXES else name


def _read(file: Path, framed: bool) -> tuple[Literal["id", "path"] | None, Mapping[str, Load], int]:
    """Return the column that names the tracks, or None; a function for the array of each track; and their width."""
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".npz": _read_npz}
    try:
        if file.is_dir():
            return None, *_by_track(_npy_headers(file), framed)
        if not file.is_file():
            raise ValueError("no such file or folder")
        if file.suffix.lower() not in readers:
            raise ValueError("expected a .parquet, .csv or .npz file, or a folder of .npy files")
        if not file.stat().st_size:
            raise ValueError("empty file (0 bytes)")
        return readers[file.suffix.lower()](file, framed)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # pyarrow's errors are ValueErrors
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from error


def _read_csv(file: Path, framed: bool) -> tuple[Literal["id", "path"], Mapping[str, Load], int]:
    import pyarrow as pa
    from pyarrow import csv

    with csv.open_csv(file) as opened:
        columns = opened.schema.names
    key = _key_column(columns)
    # Ids such as 007 stay as they are written.
    types = {name: pa.string() if name == key else pa.float64() for name in columns}
    options = csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False)
    return key, *_table(csv.read_csv(file, convert_options=options), key, framed)


def _read_parquet(file: Path, framed: bool) -> tuple[Literal["id", "path"], Mapping[str, Load], int]:
    from pyarrow import parquet

    table = parquet.read_table(file, partitioning=None)
    key = _key_column(table.column_names)
    return key, *_table(table, key, framed)


def _key_column(columns: list[str]) -> Literal["id", "path"]:
    found: list[Literal["id", "path"]] = [name for name in KEY_COLUMNS if name in columns]  # type: ignore[misc]
    if len(found) != 1 or len(set(columns)) < len(columns):
        shown = ", ".join(columns[:5]) + (" ..." if len(columns) > 5 else "")
        raise ValueError(f"expected one column id or path, and distinct column names; it has {shown}")
    return found[0]


def _table(table: Any, key: str, framed: bool) -> tuple[Mapping[str, Load], int]:
    """Read a pyarrow table."""
    import pyarrow as pa

    others = [name for name in table.column_names if name != key]
    if not table.num_rows or not others:
        raise ValueError(f"{table.num_rows} rows and {len(others)} columns of values; expected at least one of each")
    types = {name: table.schema.field(name).type for name in others}
    keys = table.column(key)
    if not (pa.types.is_string(keys.type) or pa.types.is_large_string(keys.type) or pa.types.is_integer(keys.type)):
        raise ValueError(f"column {key} is {keys.type}; expected text or whole numbers")
    for name in table.column_names:
        if table.column(name).null_count:
            raise ValueError(f"column {name} has {table.column(name).null_count} empty cells")
    names = [str(name) for name in keys.to_pylist()]
    if len(others) == 1 and _is_list(types[others[0]]):
        return _rows(names, _lists(names, table.column(others[0])), framed)
    for name, type_ in types.items():
        if not (pa.types.is_integer(type_) or pa.types.is_floating(type_)):
            raise ValueError(f"column {name} is {type_}; expected numbers; leave it out")
    with np.errstate(over="ignore"):
        columns = [np.asarray(table.column(name).to_numpy(), np.float32) for name in others]
    return _rows(names, np.stack(columns, axis=1), framed)


def _lists(names: list[str], column: Any) -> list[NDArray[Any]]:
    """Return an array for each row of a pyarrow column of lists, or of lists of lists."""
    import pyarrow as pa
    from pyarrow import compute

    flat = column
    lengths: list[NDArray[np.int64]] = []
    while not flat.null_count and _is_list(flat.type) and len(lengths) < 2:
        lengths.append(compute.list_value_length(flat).to_numpy())
        flat = compute.list_flatten(flat)
    if flat.null_count or not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)):
        raise ValueError(f"its lists contain {flat.type} with {flat.null_count} missing values; expected numbers")
    parts = np.split(flat.to_numpy(), np.cumsum(lengths[-1])[:-1])
    if len(lengths) == 1:
        return parts
    arrays, first = [], 0
    for name, n_frames in zip(names, lengths[0].tolist(), strict=True):
        frames = parts[first : first + n_frames]
        if len({len(frame) for frame in frames}) != 1:
            raise ValueError(
                f"{name!r} has {n_frames} frames with different numbers of values; expected one or more of equal length"
            )
        arrays.append(np.stack(frames))
        first += n_frames
    return arrays


def _is_list(type_: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def _rows(names: list[str], rows: NDArray[Any] | list[NDArray[Any]], framed: bool) -> tuple[Mapping[str, Load], int]:
    """Return functions for the arrays of tracks, from one array per name, and their width.

    With frames, several rows of one name are its frames.
    """
    where: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        where.setdefault(name, []).append(index)
    wide = rows[0].ndim == 1
    for name, indices in where.items():
        if len(indices) > 1 and not (framed and wide):
            remedy = "; if they are its frames, give hop=SECONDS" if wide else ""
            raise ValueError(f"{name!r} has {len(indices)} rows{remedy}")
    if not wide:
        arrays = ((name, rows[indices[0]]) for name, indices in where.items())
        return _by_track(((name, a.shape, a.dtype, functools.partial(np.asarray, a)) for name, a in arrays), framed)
    width = _one_width((name, row.shape, row.dtype) for name, row in zip(names, rows, strict=True))
    return {name: functools.partial(_take, rows, indices) for name, indices in where.items()}, width


def _take(rows: NDArray[Any] | list[NDArray[Any]], indices: list[int]) -> NDArray[Any]:
    return np.stack([rows[index] for index in indices])


def _read_npz(file: Path, framed: bool) -> tuple[Literal["id", "path"] | None, Mapping[str, Load], int]:
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            members = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            if VECTORS not in members:
                headers = []
                opened = functools.cache(functools.partial(np.load, file, allow_pickle=False))
                for name in members:
                    with archive.open(f"{name}.npy") as member:
                        headers.append((name, *_header(member, name), functools.partial(_load_member, opened, name)))
                return None, *_by_track(headers, framed)
    except zipfile.BadZipFile as error:
        raise ValueError("damaged, or not an NPZ file") from error
    key = _key_column(members)
    with np.load(file, allow_pickle=False) as table:
        names, vectors = _load_member(lambda: table, key), _load_member(lambda: table, VECTORS)
    if names.ndim != 1 or names.dtype.kind not in "Uiu" or vectors.ndim not in (2, 3) or len(names) != len(vectors):
        raise ValueError(
            f"{key} is {names.dtype} {list(names.shape)} and {VECTORS} is {vectors.dtype} {list(vectors.shape)}; "
            f"expected {key} [tracks] of text or whole numbers, and {VECTORS} [tracks, values] or "
            "[tracks, frames, values]"
        )
    if not len(names):
        raise ValueError("it has no tracks")
    return key, *_rows([str(name) for name in names.tolist()], vectors, framed)


def _load_member(opened: Callable[[], Mapping[str, NDArray[Any]]], name: str) -> NDArray[Any]:
    try:
        return opened()[name]
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from error


def _npy_headers(folder: Path) -> Iterable[tuple[str, tuple[int, ...], np.dtype[Any], Load]]:
    for path in sorted(folder.rglob("*.npy")):
        name = path.relative_to(folder).as_posix().removesuffix(".npy")
        with path.open("rb") as file:
            yield name, *_header(file, path.name), functools.partial(np.load, path, allow_pickle=False)


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and the type of an array, without its values."""
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[version](file)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{name!r} is not an array file ({error})") from error
    return shape, dtype


def _by_track(
    headers: Iterable[tuple[str, tuple[int, ...], np.dtype[Any], Load]], framed: bool
) -> tuple[Mapping[str, Load], int]:
    """Check one array per track: ``[values]``, or ``[frames, values]``."""
    loads: dict[str, Load] = {}
    checked = []
    for name, shape, dtype, load in headers:
        vector = len(shape) == 1 or (len(shape) == 2 and shape[0] == 1)
        if not framed and not vector:
            raise ValueError(f"{name!r} is {list(shape)}; expected one vector, or hop=SECONDS for [frames, values]")
        if framed and len(shape) != 2:
            raise ValueError(f"{name!r} is {list(shape)}; with hop, expected [frames, values]")
        if not shape[0]:
            raise ValueError(f"{name!r} is {list(shape)}; expected at least one value and one frame")
        loads[name] = load
        checked.append((name, shape, dtype))
    if not loads:
        raise ValueError("it has no arrays")
    return loads, _one_width(checked)


def _one_width(headers: Iterable[tuple[str, tuple[int, ...], np.dtype[Any]]]) -> int:
    """Return the number of values that all arrays have in their last axis."""
    first: tuple[str, int] | None = None
    for name, shape, dtype in headers:
        if dtype.kind not in "fiu":
            objects = " (Python objects are never unpickled)" if dtype.hasobject else ""
            raise ValueError(f"{name!r} is {dtype}{objects}; expected numbers")
        if first is None:
            first = name, shape[-1]
        if shape[-1] != first[1]:
            raise ValueError(
                f"{first[0]!r} has {first[1]} values and {name!r} has {shape[-1]}; expected the same number"
            )
    assert first is not None  # noqa: S101
    if not first[1]:
        raise ValueError(f"{first[0]!r} has no values")
    return first[1]
