"""The spectrograms of one dataset: a folder of Parquet shards, a table of failures, and what the dataset is.

Shards are only ever added, or replaced whole. Where two hold the same track, the later shard counts.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.errors import DatasetError, FingerprintError, StoreError, StoreWriteError
from mirembed.hookspecs import Classification, Regression, Target, Task
from mirembed.store.files import (
    exclusive,
    read_json,
    read_table,
    reading_parquet,
    remove_leftovers,
    write_json,
    write_table,
    writing,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

ROWS_PER_GROUP = 32
"""Tracks in a row group: about 6 MB of 30-s clips, so that reading streams."""

_FIXED_COLUMNS = (
    "id",
    "group",
    "path",
    "duration",
    "file_hash",
    "audio_hash",
    "backend",
    "file_size",
    "file_mtime_ns",
    "n_frames",
    "frames",
)


_RESERVED = {
    *_FIXED_COLUMNS,
    *("shard", "row", "label", "prediction", "approach", "seed", "fold", "epoch", "loss", "model", "in_sample"),
    *("embedding", "learner", "score"),
}
"""Names of columns in any table that holds targets beside them."""


@dataclass(frozen=True)
class SpectrogramRow:
    """One track of the store.

    Attributes
    ----------
    id, group, path
        As the dataset lists them; ``path`` is where the audio was found.
    label : str or tuple of float
        The class, or one value for each target in original units.
    duration : float
        Seconds.
    file_hash, audio_hash : str
        Digests of the file's bytes and of the decoded samples.
    backend : str
        What computed the frames, see `mirembed.spectrogram.BACKENDS`. The fingerprint does not depend on it.
    file_size, file_mtime_ns : int
        Bytes and nanoseconds, to know an unchanged file without reading it.
    frames : ndarray [n_frames, n_bands], float32, dB
    """

    id: str
    label: str | tuple[float, ...]
    group: str | None
    path: str
    duration: float
    file_hash: str
    audio_hash: str
    backend: str
    file_size: int
    file_mtime_ns: int
    frames: NDArray[np.float32]


@dataclass(frozen=True)
class Failure:
    """A file that could not be turned into a spectrogram, and how to try again."""

    id: str
    path: str
    reason: str
    retry: str
    file_size: int
    file_mtime_ns: int


@dataclass(frozen=True)
class DatasetInfo:
    """What ``dataset.json`` holds.

    Attributes
    ----------
    spec : str
        As given to ``--dataset``.
    plugin : mapping
        Name, distribution, version and parameters of the dataset plugin.
    task : Classification or Regression
    parameters : mapping
        Of the spectrogram.
    audio : str
        The audio folder.
    n_listed, n_absent : int
        Tracks that the dataset listed, and annotated tracks without audio.
    """

    spec: str
    plugin: Mapping[str, Any]
    task: Task
    parameters: Mapping[str, Any]
    audio: str
    n_listed: int
    n_absent: int


class FeatureStore:
    """The spectrograms of one dataset.

    Parameters
    ----------
    folder : pathlib.Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards = folder / "spectrograms"

    @property
    def exists(self) -> bool:
        """Whether anything was extracted here."""
        return (self.folder / "dataset.json").exists()

    @property
    def embeddings(self) -> Path:
        """The folder of the embedding tables."""
        return self.folder / "embeddings"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the only right to write; it ends with the process, however that ends.

        Raises
        ------
        StoreBusyError
            If another process holds it.
        """
        busy = f"another process is writing to {self.folder}; wait until it ends, or use another --store"
        with exclusive(self.folder, busy):
            for folder in (self.folder, self._shards, self.embeddings, self.folder / "cache"):
                remove_leftovers(folder)
            yield

    def info(self) -> DatasetInfo:
        """Read ``dataset.json``."""
        path = self.folder / "dataset.json"
        content = read_json(path)
        try:
            return DatasetInfo(**{**content, "task": task_from_json(content["task"])})
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{path} is damaged ({error}); delete it and run `mirembed extract` again with --dataset and --audio: "
                "the spectrograms are kept"
            ) from error

    def write_info(self, info: DatasetInfo) -> None:
        """Write ``dataset.json``."""
        write_json(self.folder / "dataset.json", {**asdict(info), "task": task_to_json(info.task)})

    def shards(self) -> list[Path]:
        """Return the shard files, oldest first."""
        return sorted(self._shards.glob("[0-9]*-*.parquet"))

    def n_rows(self, shard: Path) -> int:
        """Return the number of rows of a shard, those included that a later shard replaced."""
        import pyarrow.parquet as pq

        with reading_parquet(shard):
            return int(pq.read_metadata(shard).num_rows)

    def append(self, rows: Sequence[SpectrogramRow], info: DatasetInfo) -> None:
        """Write ``rows`` as a new shard, later than all others."""
        self._require_there()
        shards = self.shards()
        number = int(shards[-1].stem.split("-")[0]) + 1 if shards else 1
        table = _to_table(rows, info)
        # The random part keeps two stores that are copied into one folder from overwriting each other's shards.
        path = self._shards / f"{number:06d}-{uuid.uuid4().hex[:8]}.parquet"
        write_table(path, table, row_group_size=ROWS_PER_GROUP)

    def index(self) -> pa.Table:
        """Return all columns but ``frames``, with ``shard`` and ``row``; one row a track, sorted by id."""
        import pyarrow as pa

        tables = []
        for number, path in enumerate(self.shards()):
            table = read_table(path, columns=_without_frames(path))
            tables.append(
                table.append_column("shard", pa.array([number] * len(table), pa.int32())).append_column(
                    "row", pa.array(range(len(table)), pa.int64())
                )
            )
        if not tables:
            return pa.table({"id": pa.array([], pa.string())})
        merged = pa.concat_tables(tables, promote_options="default")  # old shards have no backend
        latest = {track: position for position, track in enumerate(merged["id"].to_pylist())}
        return merged.take(pa.array([latest[track] for track in sorted(latest)], pa.int64()))

    def read_frames(self, columns: Sequence[str] = ("id", "frames")) -> Iterator[pa.Table]:
        """Yield the row groups of all shards one after the other, so that memory stays bounded."""
        import pyarrow.parquet as pq

        for path in self.shards():
            with reading_parquet(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=list(columns))

    def rewrite(self, shard: Path, keep: Sequence[int], labels: Mapping[str, Any], info: DatasetInfo) -> None:
        """Replace a shard by its rows ``keep``, with the labels and groups of ``labels`` by track id.

        Frames are copied group by group and not decoded again. A shard of which nothing is kept is deleted.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not keep:
            shard.unlink()
            return
        kept = set(keep)
        with reading_parquet(shard), pq.ParquetFile(shard, page_checksum_verification=True) as source:
            schema = _schema(info)
            with (
                writing(shard) as temporary,
                pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
            ):
                first = 0
                for group in range(source.num_row_groups):
                    table = source.read_row_group(group)
                    rows = [row for row in range(len(table)) if first + row in kept]
                    first += len(table)
                    table = table.take(pa.array(rows, pa.int64()))
                    tracks = [labels[track] for track in table["id"].to_pylist()]
                    columns = _label_columns([(t.label, t.group) for t in tracks], info.task)
                    known = {name: table[name] for name in table.column_names} | columns
                    arrays = [known.get(field.name, pa.nulls(len(table), field.type)) for field in schema]
                    writer.write_table(pa.table(arrays, schema=schema), row_group_size=ROWS_PER_GROUP)

    def _require_there(self) -> None:
        """Refuse to begin a second store where a drive was mounted that holds the first."""
        if not self.exists:
            raise StoreWriteError(
                f"{self.folder} has vanished while it was written to; bring it back and run the same command again"
            )

    def set_aside_damaged(self) -> list[Path]:
        """Rename shards that cannot be read to ``*.damaged`` and return them."""
        damaged = []
        for shard in self.shards():
            try:
                read_table(shard, columns=["id"])
            except StoreError:
                damaged.append(shard.rename(shard.with_suffix(".parquet.damaged")))
        return damaged

    def check_fingerprint(self, parameters: Mapping[str, Any], wanted_by: str) -> None:
        """Refuse spectrograms made with other parameters, in ``dataset.json`` or in any shard.

        Raises
        ------
        FingerprintError
            Naming the first field that differs.
        """
        compare_parameters(self.info().parameters, parameters, f"the store {self.folder}", wanted_by)
        for shard in self.shards():
            compare_parameters(_shard_parameters(shard), parameters, str(shard), wanted_by)

    def failures(self) -> list[Failure]:
        """Return the files that failed."""
        path = self.folder / "failures.parquet"
        return [Failure(**row) for row in read_table(path).to_pylist()] if path.exists() else []

    def write_failures(self, failures: Iterable[Failure]) -> None:
        """Replace the table of failures."""
        import pyarrow as pa

        self._require_there()
        fields = [("id", pa.string()), ("path", pa.string()), ("reason", pa.string()), ("retry", pa.string())]
        schema = pa.schema([*fields, ("file_size", pa.int64()), ("file_mtime_ns", pa.int64())])
        rows = [asdict(failure) for failure in failures]
        write_table(self.folder / "failures.parquet", pa.Table.from_pylist(rows, schema=schema))


def compare_parameters(found: Mapping[str, Any], wanted: Mapping[str, Any], holder: str, wanted_by: str) -> None:
    """Raise `FingerprintError` naming the first field in which two sets of parameters differ."""
    for name in {**wanted, **found}:
        if found.get(name) != wanted.get(name):
            raise FingerprintError(
                f"{holder} was made with {name}={found.get(name)}, {wanted_by} needs {name}={wanted.get(name)}; "
                "extract into another --store"
            )


def task_to_json(task: Task) -> dict[str, Any]:
    """Return a task as JSON."""
    if isinstance(task, Classification):
        return {"kind": "classification", "classes": list(task.classes)}
    return {"kind": "regression", "targets": [asdict(target) for target in task.targets]}


def task_from_json(content: Mapping[str, Any]) -> Task:
    """Read what `task_to_json` wrote."""
    if content["kind"] == "classification":
        return Classification(tuple(content["classes"]))
    return Regression(tuple(Target(**target) for target in content["targets"]))


def label_names(task: Task) -> list[str]:
    """Return the names of the label columns: ``label``, or the targets' names.

    Raises
    ------
    DatasetError
        If a target's name is a column of its own.
    """
    if isinstance(task, Classification):
        return ["label"]
    names = [target.name for target in task.targets]
    for name in names:
        if name in _RESERVED or name.startswith("predicted_") or names.count(name) > 1:
            raise DatasetError(f"a target cannot be called {name!r}: a column of the store has that name; rename it")
    return names


def _schema(info: DatasetInfo) -> pa.Schema:
    import pyarrow as pa

    label = pa.string() if isinstance(info.task, Classification) else pa.float64()
    bands = info.parameters["bands"]
    fields = [
        ("id", pa.string()),
        *((name, label) for name in label_names(info.task)),
        ("group", pa.string()),
        ("path", pa.string()),
        ("duration", pa.float64()),
        ("file_hash", pa.string()),
        ("audio_hash", pa.string()),
        ("backend", pa.string()),
        ("file_size", pa.int64()),
        ("file_mtime_ns", pa.int64()),
        ("n_frames", pa.int64()),
        ("frames", pa.list_(pa.list_(pa.float32(), bands))),
    ]
    return pa.schema(fields, metadata={"mirembed.spectrogram": json.dumps(dict(info.parameters))})


def _to_table(rows: Sequence[SpectrogramRow], info: DatasetInfo) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    columns: dict[str, Any] = {
        name: [getattr(row, name) for row in rows] for name in _FIXED_COLUMNS if name not in ("n_frames", "frames")
    }
    columns.update(_label_columns([(row.label, row.group) for row in rows], info.task))
    lengths = [len(row.frames) for row in rows]
    columns["n_frames"] = lengths
    values = np.concatenate([row.frames.reshape(-1) for row in rows])
    frames = pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), info.parameters["bands"])
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    columns["frames"] = pa.ListArray.from_arrays(offsets, frames)
    schema = _schema(info)
    return pa.table([columns[field.name] for field in schema], schema=schema)


def _label_columns(rows: Sequence[tuple[Any, str | None]], task: Task) -> dict[str, Any]:
    import pyarrow as pa

    columns: dict[str, Any] = {"group": pa.array([group for _, group in rows], pa.string())}
    if isinstance(task, Classification):
        columns["label"] = pa.array([label for label, _ in rows], pa.string())
    else:
        for position, name in enumerate(label_names(task)):
            columns[name] = pa.array([label[position] for label, _ in rows], pa.float64())
    return columns


def _without_frames(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    with reading_parquet(path):
        return [name for name in pq.read_schema(path).names if name != "frames"]


def _shard_parameters(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    with reading_parquet(path):
        metadata = pq.read_schema(path).metadata or {}
    try:
        return dict(json.loads(metadata[b"mirembed.spectrogram"]))
    except (KeyError, ValueError):
        raise StoreError(f"{path} is not a spectrogram shard of mirembed; move it out of the store") from None
