"""The rows of the store: recordings with their frames, tracks, failures, official folds, and ``dataset.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from mirembed.audio.file_tags import FileTags
from mirembed.features.info import FeaturesPart
from mirembed.hookspecs import Classification, Label, Regression, Split, Tags, Target, Task

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

PART = b"mirembed.features"
"""Key of the features in the metadata of a shard."""


@dataclass(frozen=True, kw_only=True)
class RecordingRow:
    """The frames of a recording, with facts about the recording.

    Attributes
    ----------
    recording : str
        BLAKE2b digest of the file's bytes, 32 hexadecimal digits.
    audio_hash : str or None
        Digest of the decoded samples; None if the features were made without decoding.
    duration : float
        Seconds; 0 if nothing was decoded.
    rate : int
        Sampling rate of the file in Hz; likewise.
    backend : str
        The library that computed the frames, where the features have a choice; otherwise empty.
    file_size : int
        Bytes.
    frames : ndarray [n_frames, values], float32
    """

    recording: str
    audio_hash: str | None
    duration: float
    rate: int
    backend: str
    file_size: int
    frames: NDArray[np.float32]


def frames_digest(frames: NDArray[np.float32]) -> str:
    """Return the BLAKE2b digest of the bytes of frames ``[n_frames, values]``, 32 hexadecimal digits."""
    import numpy as np

    return hashlib.blake2b(np.ascontiguousarray(frames, "<f4").data, digest_size=16).hexdigest()


@dataclass(frozen=True)
class StoredTrack:
    """A track of a dataset.

    Attributes
    ----------
    id : str
    recording : str or None
        None until the file has been read.
    label : str, frozenset of str, tuple of float or None
        The class, the tags, or one value per target in original units; None if the track is unlabeled.
    group : str or None
    path : str
        The audio file, absolute.
    file_size, file_mtime_ns : int
        Bytes and nanoseconds, to recognize an unchanged file without reading it; -1 until it has been read.
    listed : bool
        Whether the dataset still lists the track.
    """

    id: str
    recording: str | None
    label: Label | None
    group: str | None
    path: str
    file_size: int
    file_mtime_ns: int
    listed: bool = True


@dataclass(frozen=True)
class Failure:
    """A file without some features, and how to try again.

    Attributes
    ----------
    id, path : str
        Of the track.
    features : str
        The features that it lacks; see `mirembed.store.features.FeatureShards.name`.
    reason, retry : str
    file_size, file_mtime_ns : int
        Of the file that failed; a changed file is tried again.
    reported : bool
        Whether a run has ended since, which listed the failure.
    accepted : bool
        Whether the user has accepted that the file fails, so that it does not lead to exit code 2.
    """

    id: str
    path: str
    features: str
    reason: str
    retry: str
    file_size: int
    file_mtime_ns: int
    reported: bool = False
    accepted: bool = False

    def repeats(self, before: Failure) -> bool:
        """Whether an unchanged file failed for the same reason as ``before``."""
        return (self.reason, self.file_size, self.file_mtime_ns) == (
            before.reason,
            before.file_size,
            before.file_mtime_ns,
        )


@dataclass(frozen=True)
class StoredFileTags:
    """The file tags of a track.

    Attributes
    ----------
    id : str
    file_size, file_mtime_ns : int
        Of the file when its tags were read; those of a changed file are read again.
    tags : FileTags
    """

    id: str
    file_size: int
    file_mtime_ns: int
    tags: FileTags


@dataclass(frozen=True)
class DatasetInfo:
    """The content of ``dataset.json``.

    Attributes
    ----------
    spec : str
        As given to ``--dataset``.
    plugin : mapping
        Name, distribution, version and parameters of the dataset plugin.
    task : Classification, Tags, Regression or None
        None if the dataset has no labels.
    audio : str
        The audio folder.
    n_listed, n_absent : int
        Tracks that the dataset listed, and annotated tracks without audio.
    n_unlisted : int
        Tracks of the store that the dataset no longer lists.
    features : mapping of str to str
        What the dataset was extracted with: names of stored features by spec.
    """

    spec: str
    plugin: Mapping[str, Any]
    task: Task | None
    audio: str
    n_listed: int
    n_absent: int
    n_unlisted: int = 0
    features: Mapping[str, str] = field(default_factory=dict)


def task_to_json(task: Task) -> dict[str, Any]:
    """Return a task as JSON.

    >>> task_to_json(Classification(("jazz", "rock")))
    {'kind': 'classification', 'classes': ['jazz', 'rock']}
    """
    if isinstance(task, Classification):
        return {"kind": "classification", "classes": list(task.classes)}
    if isinstance(task, Tags):
        return {"kind": "tags", "classes": list(task.classes)}
    return {"kind": "regression", "targets": [asdict(target) for target in task.targets]}


def task_from_json(content: Mapping[str, Any]) -> Task:
    """Read what `task_to_json` wrote."""
    if content["kind"] == "classification":
        return Classification(tuple(content["classes"]))
    if content["kind"] == "tags":
        return Tags(tuple(content["classes"]))
    return Regression(tuple(Target(**target) for target in content["targets"]))


def label_names(task: Task | None) -> list[str]:
    """Return the names of the label columns: ``label`` of classes and of tags, the names of the targets, or none.

    >>> label_names(Regression((Target("valence"), Target("arousal"))))
    ['valence', 'arousal']
    """
    if task is None:
        return []
    return [target.name for target in task.targets] if isinstance(task, Regression) else ["label"]


def label_type(task: Task) -> pa.DataType:
    """Return the type of each of the label columns."""
    import pyarrow as pa

    if isinstance(task, Tags):
        return pa.list_(pa.string())
    return pa.string() if isinstance(task, Classification) else pa.float64()


def in_order(tags: Collection[str], task: Tags) -> list[str]:
    """Return the tags of a track in the order of the task, then those that the task lacks.

    >>> in_order(frozenset({"piano", "calm"}), Tags(("calm", "drums", "piano")))
    ['calm', 'piano']
    """
    return [tag for tag in task.classes if tag in tags] + sorted(set(tags) - set(task.classes))


def tags_of(row: NDArray[Any], task: Tags) -> list[str]:
    """Return the tags whose value in a row ``[n_tags]`` is not 0, in the order of the task."""
    return [task.classes[number] for number in row.nonzero()[0]]


def classes_of(label: Label | None) -> frozenset[str]:
    """Return the class, or the tags, of a label; target values and unlabeled tracks have none."""
    if isinstance(label, str):
        return frozenset({label})
    return label if isinstance(label, frozenset) else frozenset()


def schemes_table(schemes: Mapping[str, Sequence[Split]]) -> pa.Table:
    """Return official folds as a table: one row for each track of each split."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in ("scheme", "split", "id", "part", "inner")}
    for scheme, splits in schemes.items():
        for number, split in enumerate(splits):
            inner = {track: fold for fold, tested in enumerate(split.inner) for track in tested}
            for part, tracks in (("train", sorted(split.train)), ("test", sorted(split.test))):
                values = {"scheme": scheme, "split": number, "part": part}
                for name, value in values.items():
                    columns[name] += [value] * len(tracks)
                columns["id"] += tracks
                columns["inner"] += map(inner.get, tracks)
    types = {name: pa.int64() if name in ("split", "inner") else pa.string() for name in columns}
    return pa.table(columns, schema=pa.schema(types))


def stored_schemes(table: pa.Table) -> dict[str, list[Split]]:
    """Return the official folds of a table that `schemes_table` made."""
    columns = (table[name].to_pylist() for name in ("scheme", "split", "id", "part", "inner"))
    parts: dict[tuple[str, int], dict[str, set[str]]] = {}
    inner_folds: dict[tuple[str, int], dict[int, set[str]]] = {}
    for scheme, number, track, part, inner in zip(*columns, strict=True):
        parts.setdefault((scheme, number), {"train": set(), "test": set()})[part].add(track)
        if inner is not None:
            inner_folds.setdefault((scheme, number), {}).setdefault(inner, set()).add(track)
    schemes: dict[str, list[Split]] = {}
    for key in sorted(parts):
        tests = (frozenset(tracks) for _, tracks in sorted(inner_folds.get(key, {}).items()))
        split = Split(frozenset(parts[key]["train"]), frozenset(parts[key]["test"]), tuple(tests))
        schemes.setdefault(key[0], []).append(split)
    return schemes


def recordings_schema(part: FeaturesPart) -> pa.Schema:
    """Return the schema of a shard; its metadata holds the features."""
    import pyarrow as pa

    fields = [
        ("recording", pa.string()),
        ("audio_hash", pa.string()),
        ("duration", pa.float64()),
        ("rate", pa.int64()),
        ("backend", pa.string()),
        ("file_size", pa.int64()),
        ("n_frames", pa.int64()),
        ("frames_digest", pa.string()),
        ("frames", pa.list_(pa.list_(pa.float32(), part.values))),
    ]
    return pa.schema(fields, metadata={PART: json.dumps(part.to_json())})


def recordings_table(rows: Sequence[RecordingRow], part: FeaturesPart) -> pa.Table:
    """Return rows as the table of a shard."""
    import numpy as np
    import pyarrow as pa

    lengths = [len(row.frames) for row in rows]
    values = np.concatenate([row.frames.reshape(-1) for row in rows])
    frames = pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), part.values)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    columns: dict[str, Any] = {
        "n_frames": lengths,
        "frames_digest": [frames_digest(row.frames) for row in rows],
        "frames": pa.ListArray.from_arrays(offsets, frames),
    }
    schema = recordings_schema(part)
    for name in schema.names:
        if name not in columns:
            columns[name] = [getattr(row, name) for row in rows]
    return pa.table([columns[name] for name in schema.names], schema=schema)


def tracks_schema(task: Task | None) -> pa.Schema:
    """Return the schema of ``tracks.parquet``."""
    import pyarrow as pa

    labels = [] if task is None else [(name, label_type(task)) for name in label_names(task)]
    return pa.schema(
        [
            ("id", pa.string()),
            ("recording", pa.string()),
            *labels,
            ("group", pa.string()),
            ("path", pa.string()),
            ("file_size", pa.int64()),
            ("file_mtime_ns", pa.int64()),
            ("listed", pa.bool_()),
        ]
    )


def tracks_table(tracks: Iterable[StoredTrack], task: Task | None) -> pa.Table:
    """Return tracks as a table, sorted by id; the label columns of an unlabeled track are null."""
    import pyarrow as pa

    ordered, schema = sorted(tracks, key=lambda track: track.id), tracks_schema(task)
    columns: dict[str, Any] = {}
    for number, name in enumerate(label_names(task)):
        if isinstance(task, Tags):
            columns[name] = [
                None if track.label is None else in_order(classes_of(track.label), task) for track in ordered
            ]
        elif isinstance(task, Regression):
            columns[name] = [None if track.label is None else tuple(track.label)[number] for track in ordered]
        else:
            columns[name] = [track.label for track in ordered]
    for name in (*_BEFORE_LABEL, *_AFTER_LABEL):
        columns[name] = [getattr(track, name) for track in ordered]
    return pa.table([columns[name] for name in schema.names], schema=schema)


_BEFORE_LABEL, _AFTER_LABEL = ("id", "recording"), ("group", "path", "file_size", "file_mtime_ns", "listed")
"""The fields of `StoredTrack` besides the label, in their order."""


def stored_tracks(table: pa.Table, task: Task | None) -> list[StoredTrack]:
    """Return the rows of a table that `tracks_table` made for this task, or for None: these are unlabeled.

    Raises
    ------
    KeyError, TypeError
        If it was made for labels of another kind.
    """
    names = label_names(task)
    if unknown := set(table.column_names) - {*_BEFORE_LABEL, *names, *_AFTER_LABEL}:
        raise TypeError(f"{min(unknown)} is no column of such a dataset")
    labels: Iterable[Label | None] = [None] * len(table)
    if task is not None and set(names) & set(table.column_names):
        if other := [name for name in names if table.schema.field(name).type != label_type(task)]:
            raise TypeError(f"{other[0]} has another type")
        columns = [table[name].to_pylist() for name in names]
        if isinstance(task, Regression):
            labels = [None if None in values else values for values in zip(*columns, strict=True)]
        elif isinstance(task, Tags):
            labels = [None if tags is None else frozenset(tags) for tags in columns[0]]
        else:
            labels = columns[0]
    before, after = ([table[name].to_pylist() for name in some] for some in (_BEFORE_LABEL, _AFTER_LABEL))
    return list(map(StoredTrack, *before, labels, *after))


def file_tags_table(rows: Iterable[StoredFileTags]) -> pa.Table:
    """Return file tags as a table, sorted by id."""
    import pyarrow as pa

    ordered = sorted(rows, key=lambda row: row.id)
    stamp = {"id": pa.string(), "file_size": pa.int64(), "file_mtime_ns": pa.int64()}
    texts = {name: pa.string() for name in ("title", "album", "album_artist")}
    lists = {name: pa.list_(pa.string()) for name in ("artists", "genres", "moods")}
    numbers = {name: pa.int64() for name in ("year", "track", "disc")} | {"rating": pa.float64()}
    of_tags = texts | lists | numbers
    schema = pa.schema([*stamp.items(), *((one.name, of_tags[one.name]) for one in fields(FileTags))])
    columns = {name: [getattr(row, name) for row in ordered] for name in stamp}
    columns |= {name: [getattr(row.tags, name) for row in ordered] for name in of_tags}
    return pa.table([columns[name] for name in schema.names], schema=schema)


def stored_file_tags(table: pa.Table) -> Iterator[StoredFileTags]:
    """Yield the rows of a table that `file_tags_table` made."""
    names = [one.name for one in fields(FileTags)]
    columns: dict[str, Iterable[Any]] = {name: table[name].to_pylist() for name in names}
    for name in ("artists", "genres", "moods"):
        columns[name] = map(tuple, columns[name])
    stamps = (table[name].to_pylist() for name in ("id", "file_size", "file_mtime_ns"))
    yield from map(StoredFileTags, *stamps, map(FileTags, *columns.values()))
