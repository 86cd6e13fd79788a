"""The tracks of a dataset with their labels, and all their frames in one flat file for training.

Random excerpts need random access, which Parquet does not offer. The flat file is derived from the shards, mapped into
memory read-only and so shared by all worker processes. It may be deleted at any time and is rebuilt when missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import StoreError
from mirembed.hookspecs import Classification, Task
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.provenance import content_digest
from mirembed.store.features import FeatureStore
from mirembed.store.frame_file import FrameFile, delete_unused
from mirembed.store.rows import DatasetInfo, label_names


@dataclass(frozen=True)
class Tracks:
    """The tracks of a dataset that have a spectrogram, sorted by id.

    Attributes
    ----------
    info : DatasetInfo
    task : Classification or Regression
        Without classes that have no track.
    ids : list of str
    labels : list of str, or ndarray [n_tracks, n_targets], float64, original units
    groups : list of str or None
    audio_hashes : list of str
        Equal for tracks with the same decoded samples.
    frames : FrameFile
    digest : str
        Changes with any id, label, group or audio sample.
    excluded : mapping of str to str
        Ids of tracks that were left out on purpose, and why.
    notes : tuple of str
        Sentences for the user: which tracks of the dataset are missing, and which are no longer listed.
    """

    info: DatasetInfo
    task: Task
    ids: list[str]
    labels: list[str] | NDArray[np.float64]
    groups: list[str | None]
    audio_hashes: list[str]
    frames: FrameFile
    digest: str
    excluded: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def label_array(self) -> NDArray[Any]:
        """Class indices ``[n_tracks]``, int64, or targets ``[n_tracks, n_targets]``, float64, in original units."""
        if isinstance(self.task, Classification):
            return np.array([self.task.classes.index(label) for label in self.labels], np.int64)
        return np.asarray(self.labels)

    def without(self, excluded: Mapping[str, str]) -> Tracks:
        """Return the tracks that ``excluded`` does not name, without classes that this empties.

        Raises
        ------
        StoreError
            No track is left.
        """
        rows = [row for row, track in enumerate(self.ids) if track not in excluded]
        if not rows:
            raise StoreError(f"all {len(self.ids)} tracks of {self.info.spec} are excluded")
        labels = self.labels[rows] if isinstance(self.labels, np.ndarray) else [self.labels[row] for row in rows]
        ids = [self.ids[row] for row in rows]
        return replace(
            self,
            task=_without_empty_classes(self.task, labels),
            ids=ids,
            labels=labels,
            groups=[self.groups[row] for row in rows],
            audio_hashes=[self.audio_hashes[row] for row in rows],
            frames=self.frames.take(rows),
            digest=_digest([self.digest, ids]),
            excluded=excluded,
        )


def open_tracks(store: FeatureStore, progress: Progress = NO_PROGRESS) -> Tracks:
    """Read the index of a dataset, and make its flat file unless it is there.

    ``progress`` gets notes about tracks that are missing or no longer listed, and classes without tracks.

    Raises
    ------
    StoreError
        The dataset has no tracks, a shard is damaged, or the flat file cannot be written.
    """
    info = store.info()
    store.check_parameters(info.parameters, "the rest of the store")
    index = store.index()
    if len(index) == 0:
        raise StoreError(f"the store {store.folder} has no spectrograms; run `mirembed extract` again")
    ids = index["id"].to_pylist()
    groups = index["group"].to_pylist()
    audio = index["audio_hash"].to_pylist()
    labels: list[str] | NDArray[np.float64]
    if isinstance(info.task, Classification):
        labels = index["label"].to_pylist()
        if empty := sorted(set(info.task.classes) - set(labels)):
            progress.note(f"leaving out classes without tracks in the store: {', '.join(empty)}")
    else:
        labels = np.column_stack([index[name].to_numpy() for name in label_names(info.task)])
    notes = _missing_and_unlisted(info, set(ids), {failure.id for failure in store.failures()})
    for note in notes:
        progress.note(note)
    return Tracks(
        info=info,
        task=_without_empty_classes(info.task, labels),
        ids=ids,
        labels=labels,
        groups=groups,
        audio_hashes=audio,
        frames=_frame_file(store, index, info),
        digest=_digest([str(info.task), dict(info.parameters), ids, groups, np.asarray(labels).tolist(), audio]),
        notes=tuple(notes),
    )


def _without_empty_classes(task: Task, labels: Sequence[str] | NDArray[np.float64]) -> Task:
    if not isinstance(task, Classification):
        return task
    present = set(labels)
    return Classification(tuple(name for name in task.classes if name in present))


def _missing_and_unlisted(info: DatasetInfo, stored: Set[str], failed: Set[str]) -> list[str]:
    """Say which tracks of the dataset are not in the store, and which of the store are no longer in the dataset."""
    notes = []
    n_listed, n_failed = len(stored) - info.n_unlisted, len(failed - stored)
    reasons = {
        "without audio": info.n_absent,
        "failed": n_failed,
        "not extracted yet: run `mirembed extract` again": info.n_listed - n_listed - n_failed,
    }
    if why := ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count > 0):
        whole = counted(info.n_listed + info.n_absent, "track")
        notes.append(f"the store has {n_listed} of the {whole} of {info.spec} ({why})")
    if info.n_unlisted:
        are, them = ("are", "them") if info.n_unlisted > 1 else ("is", "it")
        notes.append(
            f"{info.n_unlisted} of the {counted(len(stored), 'track')} in the store {are} no longer listed but still "
            f"used; `mirembed extract --prune` removes {them}"
        )
    return notes


def _frame_file(store: FeatureStore, index: Any, info: DatasetInfo) -> FrameFile:
    bands = int(info.parameters["bands"])
    ids, audio = index["id"].to_pylist(), index["audio_hash"].to_pylist()
    path = store.folder / "cache" / f"frames-{_digest([dict(info.parameters), ids, audio])}.f32"
    frames = FrameFile.at(path, index["n_frames"].to_numpy().astype(np.int64), bands)
    if not frames.is_whole:
        for old in path.parent.glob("frames-*.f32"):
            delete_unused(old)
        # By id and content, not by position: `extract` may be rewriting the shards at this moment.
        numbers = {key: track for track, key in enumerate(zip(ids, audio, strict=True))}
        frames.write(_read_tracks(store, numbers, bands))
    return frames


def _read_tracks(
    store: FeatureStore, missing: dict[tuple[str, str], int], bands: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the numbers that ``missing`` has for ids and audio hashes, with their frames ``[n_frames, bands]``."""
    for group in store.read_frames(["id", "audio_hash", "frames"]):
        rows = zip(group["id"].to_pylist(), group["audio_hash"].to_pylist(), group["frames"], strict=True)
        for track, audio, values in rows:
            if (track, audio) in missing:
                yield missing.pop((track, audio)), values.values.flatten().to_numpy().reshape(-1, bands)
    if missing:
        raise StoreError(f"the store {store.folder} changed while it was being read; run the same command again")


def _digest(content: list[Any]) -> str:
    return content_digest(content, 16, sort_keys=False)
