"""The rows of a dataset's tables, the label columns of its task, and the content of ``dataset.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.audio.files import printable
from mirembed.hookspecs import Classification, Regression, Target, Task, Track

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class FileFeatures:
    """The features of one audio file, with facts about the file.

    Attributes
    ----------
    duration : float
        Seconds.
    file_hash, audio_hash : str
        Digests of the file's bytes and of the decoded samples.
    backend : str
        The library that computed the spectra, ``essentia`` or ``scipy``; files of one store may differ in it.
    file_size, file_mtime_ns : int
        Bytes and nanoseconds, to recognize an unchanged file without reading it.
    frames : ndarray [n_frames, n_bands], float32, dB
    """

    duration: float
    file_hash: str
    audio_hash: str
    backend: str
    file_size: int
    file_mtime_ns: int
    frames: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SpectrogramRow(FileFeatures):
    """One track of the store.

    Attributes
    ----------
    id, group, path
        As the dataset lists them; ``path`` is where the audio was found.
    label : str or tuple of float
        The class, or one value per target in original units.
    """

    id: str
    label: str | tuple[float, ...]
    group: str | None
    path: str

    @classmethod
    def of(cls, track: Track, features: FileFeatures) -> SpectrogramRow:
        """Combine a track with the features of its file."""
        known = {field.name: getattr(features, field.name) for field in fields(FileFeatures)}
        return cls(id=track.id, label=track.label, group=track.group, path=printable(track.path), **known)


@dataclass(frozen=True)
class Failure:
    """A file whose features could not be computed, and how to try again."""

    id: str
    path: str
    reason: str
    retry: str
    file_size: int
    file_mtime_ns: int


@dataclass(frozen=True)
class DatasetInfo:
    """The content of ``dataset.json``.

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
        Tracks of the store that the dataset no longer lists.
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
    """Return a task as JSON.

    >>> task_to_json(Classification(("jazz", "rock")))
    {'kind': 'classification', 'classes': ['jazz', 'rock']}
    """
    if isinstance(task, Classification):
        return {"kind": "classification", "classes": list(task.classes)}
    return {"kind": "regression", "targets": [asdict(target) for target in task.targets]}


def task_from_json(content: Mapping[str, Any]) -> Task:
    """Read what `task_to_json` wrote."""
    if content["kind"] == "classification":
        return Classification(tuple(content["classes"]))
    return Regression(tuple(Target(**target) for target in content["targets"]))


def label_names(task: Task) -> list[str]:
    """Return the names of the label columns: ``label``, or the names of the targets.

    >>> label_names(Regression((Target("valence"), Target("arousal"))))
    ['valence', 'arousal']
    """
    return ["label"] if isinstance(task, Classification) else [target.name for target in task.targets]


def spectrogram_schema(info: DatasetInfo) -> pa.Schema:
    """Return the schema of a shard; its metadata holds the parameters of the spectrogram."""
    import pyarrow as pa

    label = pa.string() if isinstance(info.task, Classification) else pa.float64()
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
        ("frames", pa.list_(pa.list_(pa.float32(), info.parameters["bands"]))),
    ]
    return pa.schema(fields, metadata={"mirembed.spectrogram": json.dumps(dict(info.parameters))})


def spectrogram_table(rows: Sequence[SpectrogramRow], info: DatasetInfo) -> pa.Table:
    """Return rows as the table of a shard."""
    import numpy as np
    import pyarrow as pa

    lengths = [len(row.frames) for row in rows]
    values = np.concatenate([row.frames.reshape(-1) for row in rows])
    frames = pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), info.parameters["bands"])
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    columns: dict[str, Any] = {field.name: [getattr(row, field.name) for row in rows] for field in fields(FileFeatures)}
    columns |= {"n_frames": lengths, "frames": pa.ListArray.from_arrays(offsets, frames)}
    return _table({**columns, **_track_columns(rows, info.task)}, info)


def relabeled(table: pa.Table, tracks: Sequence[Track], info: DatasetInfo) -> pa.Table:
    """Return rows of a shard with the ids, paths, labels and groups of ``tracks``, one for each row."""
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return _table({**columns, **_track_columns(tracks, info.task)}, info)


def _table(columns: Mapping[str, Any], info: DatasetInfo) -> pa.Table:
    import pyarrow as pa

    schema = spectrogram_schema(info)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _track_columns(tracks: Sequence[Track | SpectrogramRow], task: Task) -> dict[str, list[Any]]:
    """Return the columns that come from a dataset's listing, by name."""
    columns: dict[str, list[Any]] = {
        "id": [track.id for track in tracks],
        "group": [track.group for track in tracks],
        "path": [printable(Path(track.path)) for track in tracks],
    }
    if isinstance(task, Classification):
        return {**columns, "label": [track.label for track in tracks]}
    return {**columns, **{name: [track.label[i] for track in tracks] for i, name in enumerate(label_names(task))}}
