"""What stands in the tables of a dataset: a row for each track, and the columns of its task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mirembed.hookspecs import Classification, Regression, Target, Task

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

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
    n_unlisted : int
        Tracks of the store that are kept although the dataset lists them no longer.
    """

    spec: str
    plugin: Mapping[str, Any]
    task: Task
    parameters: Mapping[str, Any]
    audio: str
    n_listed: int
    n_absent: int
    n_unlisted: int = 0


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
    """Return the names of the label columns: ``label``, or the targets' names."""
    if isinstance(task, Classification):
        return ["label"]
    return [target.name for target in task.targets]


def spectrogram_schema(info: DatasetInfo) -> pa.Schema:
    """Return the schema of a shard; the parameters of the spectrogram are in its metadata."""
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


def shard_encoding(info: DatasetInfo) -> dict[str, Any]:
    """Return how pyarrow is to write a shard.

    Decibels hardly repeat: a dictionary of them takes more room than they do, and four times as long to make. With
    their bytes of one place side by side, they shrink to 60 % of that.
    """
    names = [name for name in spectrogram_schema(info).names if name != "frames"]
    return {"use_dictionary": names, "use_byte_stream_split": ["frames.list.element.list.element"]}


def spectrogram_table(rows: Sequence[SpectrogramRow], info: DatasetInfo) -> pa.Table:
    """Return rows as the table of a shard."""
    import numpy as np
    import pyarrow as pa

    columns: dict[str, Any] = {
        name: [getattr(row, name) for row in rows] for name in _FIXED_COLUMNS if name not in ("n_frames", "frames")
    }
    columns.update(label_columns([(row.label, row.group) for row in rows], info.task))
    lengths = [len(row.frames) for row in rows]
    columns["n_frames"] = lengths
    values = np.concatenate([row.frames.reshape(-1) for row in rows])
    frames = pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), info.parameters["bands"])
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    columns["frames"] = pa.ListArray.from_arrays(offsets, frames)
    schema = spectrogram_schema(info)
    return pa.table([columns[field.name] for field in schema], schema=schema)


def as_stored(table: pa.Table, info: DatasetInfo, columns: Mapping[str, Any] | None = None) -> pa.Table:
    """Return rows of a shard, with other ``columns`` where they are given, as the schema has them.

    A column that shards did not have when this one was written is null.
    """
    import pyarrow as pa

    known = {name: table[name] for name in table.column_names} | dict(columns or {})
    schema = spectrogram_schema(info)
    return pa.table([known.get(field.name, pa.nulls(len(table), field.type)) for field in schema], schema=schema)


def label_columns(rows: Sequence[tuple[Any, str | None]], task: Task) -> dict[str, Any]:
    """Return the columns of labels and groups by name."""
    import pyarrow as pa

    columns: dict[str, Any] = {"group": pa.array([group for _, group in rows], pa.string())}
    if isinstance(task, Classification):
        columns["label"] = pa.array([label for label, _ in rows], pa.string())
    else:
        for position, name in enumerate(label_names(task)):
            columns[name] = pa.array([label[position] for label, _ in rows], pa.float64())
    return columns
