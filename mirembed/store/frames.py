"""All frames of a dataset in one flat file, for training.

Random excerpts need random access, which Parquet does not give. The file is derived from the shards, mapped into
memory read-only and so shared by all worker processes; it may be deleted at any time and is then made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import mmap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import StoreError
from mirembed.hookspecs import Classification, Task
from mirembed.progress import Progress, Silent
from mirembed.store.features import FeatureStore
from mirembed.store.files import writing
from mirembed.store.rows import DatasetInfo, label_names


@dataclass(frozen=True)
class FrameFile:
    """Where the frames of every track lie. Small: it is what travels to worker processes.

    Attributes
    ----------
    path : pathlib.Path
        Flat float32 ``[total frames, n_bands]``.
    shape : (int, int)
        Frames and bands of the whole file.
    starts, lengths : ndarray [n_tracks], int64
        Track i is the rows ``starts[i] : starts[i] + lengths[i]``.
    """

    path: Path
    shape: tuple[int, int]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def open(self) -> NDArray[np.float32]:
        """Map the file: ndarray ``[total frames, n_bands]``, dB, read-only."""
        return np.memmap(self.path, np.float32, "r", shape=self.shape)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes from deleting the file while worker processes open it again and again."""
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield


def expect_rows(frames: NDArray[np.float32], first: NDArray[np.int64], count: int) -> None:
    """Have the system read rows of a mapped file in the background; of any other array nothing has to be read.

    Parameters
    ----------
    frames : ndarray [total_frames, n_bands]
    first : ndarray [n]
        First of ``count`` rows each.
    """
    mapping = _mapping(frames)
    if mapping is not None:
        row = frames.strides[0]
        for start in (first * row // mmap.PAGESIZE * mmap.PAGESIZE).tolist():
            mapping.madvise(mmap.MADV_WILLNEED, start, min((count + 1) * row + mmap.PAGESIZE, len(mapping) - start))


def release_rows(frames: NDArray[np.float32]) -> None:
    """Take the pages of a mapped file out of this process's memory; the system may keep them, and reads them again.

    Without this the memory of a process that reads here and there grows to the size of the file.
    """
    mapping = _mapping(frames)
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


def _mapping(frames: NDArray[np.float32]) -> mmap.mmap | None:
    owner: Any = frames
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner if isinstance(owner, mmap.mmap) else None


@dataclass(frozen=True)
class Tracks:
    """The tracks of a dataset that have a spectrogram, sorted by id.

    Attributes
    ----------
    info : DatasetInfo
    task : Classification or Regression
        Without the classes that have no track.
    ids : list of str
    labels : list of str, or ndarray [n_tracks, n_targets], float64, original units
    groups : list of str or None
    audio_hashes : list of str
        Equal for tracks with the same decoded samples.
    durations : ndarray [n_tracks], seconds
    frames : FrameFile
    digest : str
        Changes with any id, label, group or sample of audio.
    excluded : mapping of str to str
        Ids of tracks that were left out on purpose, and why.
    """

    info: DatasetInfo
    task: Task
    ids: list[str]
    labels: list[str] | NDArray[np.float64]
    groups: list[str | None]
    audio_hashes: list[str]
    durations: NDArray[np.float64]
    frames: FrameFile
    digest: str
    excluded: Mapping[str, str] = field(default_factory=dict)

    @property
    def class_indices(self) -> NDArray[np.int64]:
        """Indices of the labels in ``task.classes``: ndarray ``[n_tracks]``."""
        assert isinstance(self.task, Classification)  # noqa: S101
        return np.array([self.task.classes.index(label) for label in self.labels], np.int64)

    def chance(self) -> str:
        """Say what always guessing the largest class scores; of regression, that chance is r = 0."""
        if not isinstance(self.task, Classification):
            return "Chance: r = 0."
        [(largest, count)] = Counter(self.labels).most_common(1)
        return f"Always guessing {largest!r}: {count / len(self.ids):.3f}."

    def without(self, excluded: Mapping[str, str]) -> Tracks:
        """Return the tracks but for those that ``excluded`` names, and without the classes that this empties.

        Raises
        ------
        StoreError
            If no track is left.
        """
        rows = [row for row, track in enumerate(self.ids) if track not in excluded]
        if not rows:
            raise StoreError(f"all {len(self.ids)} tracks of {self.info.spec} are excluded")
        labels: list[str] | NDArray[np.float64]
        task = self.task
        if isinstance(task, Classification):
            labels = [str(self.labels[row]) for row in rows]
            task = _without_empty_classes(task, labels)
        else:
            labels = np.asarray(self.labels)[rows]
        frames = replace(self.frames, starts=self.frames.starts[rows], lengths=self.frames.lengths[rows])
        ids = [self.ids[row] for row in rows]
        return replace(
            self,
            task=task,
            ids=ids,
            labels=labels,
            groups=[self.groups[row] for row in rows],
            audio_hashes=[self.audio_hashes[row] for row in rows],
            durations=self.durations[rows],
            frames=frames,
            digest=_digest([self.digest, ids]),
            excluded=excluded,
        )


def open_tracks(store: FeatureStore, progress: Progress | None = None) -> Tracks:
    """Read the index of a dataset and make its flat file if it is not there.

    What a user should know is told to ``progress``: tracks that are listed but not extracted, classes without tracks.

    Raises
    ------
    StoreError
        If the dataset holds no track, a shard is damaged, or the flat file cannot be written.
    """
    progress = progress or Silent()
    info = store.info()
    store.check_fingerprint(info.parameters, "the rest of the store")
    index = store.index()
    if len(index) == 0:
        raise StoreError(f"the store {store.folder} holds no spectrogram; run `mirembed extract` again")
    ids = index["id"].to_pylist()
    groups = index["group"].to_pylist()
    labels: list[str] | NDArray[np.float64]
    task: Task = info.task
    if isinstance(task, Classification):
        labels = classes = index["label"].to_pylist()
        all_classes = task.classes
        task = _without_empty_classes(task, classes)
        if empty := sorted(set(all_classes) - set(task.classes)):
            progress.note(f"classes without a track in the store, left out: {', '.join(empty)}")
    else:
        labels = np.column_stack([index[name].to_numpy() for name in label_names(task)])
    n_failed = len(store.failures())
    if len(ids) + n_failed < info.n_listed:
        progress.note(f"the store holds {len(ids)} of the {info.n_listed} listed tracks; `mirembed extract` goes on")
    lengths = index["n_frames"].to_numpy().astype(np.int64)
    content = [info.task, info.parameters, ids, groups, np.asarray(labels).tolist()]
    audio = index["audio_hash"].to_pylist()
    return Tracks(
        info=info,
        task=task,
        ids=ids,
        labels=labels,
        groups=groups,
        audio_hashes=audio,
        durations=index["duration"].to_numpy(),
        frames=_frame_file(store, index, lengths, _digest([info.parameters, ids, audio])),
        digest=_digest([*content, audio]),
    )


def _frame_file(store: FeatureStore, index: Any, lengths: NDArray[np.int64], digest: str) -> FrameFile:
    bands = int(store.info().parameters["bands"])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    shape = (int(lengths.sum()), bands)
    frames = FrameFile(store.folder / "cache" / f"frames-{digest}.f32", shape, starts, lengths)
    if frames.path.exists() and frames.path.stat().st_size == shape[0] * shape[1] * 4:
        return frames
    # By id and content, not by place: `extract` may be rewriting the shards at this moment.
    keys = list(zip(index["id"].to_pylist(), index["audio_hash"].to_pylist(), strict=True))
    place = dict(zip(keys, starts.tolist(), strict=True))
    for old in frames.path.parent.glob("frames-*.f32"):
        _delete_unused(old)
    with writing(frames.path) as temporary, temporary.open("wb") as file:
        missing = set(keys)
        for group in store.read_frames(["id", "audio_hash", "frames"]):
            rows = zip(group["id"].to_pylist(), group["audio_hash"].to_pylist(), group["frames"], strict=True)
            for track, audio, values in rows:
                if (track, audio) in missing:
                    missing.remove((track, audio))
                    file.seek(place[track, audio] * bands * 4)
                    file.write(values.values.flatten().to_numpy().tobytes())
        if missing:
            raise StoreError(f"the store {store.folder} was changed meanwhile; run the same command again")
    return frames


def _delete_unused(path: Path) -> None:
    """Delete a flat file unless a process has it `FrameFile.in_use`."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _without_empty_classes(task: Classification, labels: Sequence[str]) -> Classification:
    present = set(labels)
    return Classification(tuple(name for name in task.classes if name in present))


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:16]
