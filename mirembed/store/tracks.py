"""The tracks of a dataset with their labels, and the frames of each features in one flat file for training.

Random excerpts need random access, which Parquet does not offer. A flat file is derived from the shards, mapped into
memory read-only and so shared by all worker processes. It may be deleted at any time and is rebuilt when missing.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import StoreError
from mirembed.features.info import FeaturesInfo, FeaturesPart, common_length, distinct_parts
from mirembed.hookspecs import Classification, Regression, Tags, Task
from mirembed.progress import NO_PROGRESS, Progress, counted, first_names, joined
from mirembed.provenance import content_digest
from mirembed.specs import Spec
from mirembed.store.datasets import DatasetStore
from mirembed.store.frame_file import FrameFile, delete_unused
from mirembed.store.root import Store, slug
from mirembed.store.rows import DatasetInfo, StoredTrack, classes_of

Labels: TypeAlias = list[str] | NDArray[Any]

_NAMED_TAGS = 10
"""Tags that a note names; it counts the others."""


@dataclass(frozen=True)
class Tracks:
    """The labeled tracks of a dataset that have all of some features, sorted by id.

    Attributes
    ----------
    info : DatasetInfo
    task : Classification, Tags or Regression
        Without classes and tags that no track has.
    ids : list of str
    labels : list of str, or ndarray
        Classes; or tags ``[n_tracks, n_tags]``, int64, 1 where the track has the tag and 0 elsewhere; or targets
        ``[n_tracks, n_targets]``, float64, in original units.
    groups : list of str or None
    recordings : list of str
        Equal for tracks whose files have the same bytes.
    audio_hashes : list of str
        Equal for tracks with the same decoded samples. The recording where none of the features needed to decode.
    features : dict of str to FeaturesInfo
        By spec, as given.
    frames : dict of str to FrameFile
        By spec, as given.
    frames_digests : dict of str to str
        By spec, as given; changes with any frame, and with the order of the tracks.
    backends : dict of str to list of str
        By spec, as given: the libraries that computed the frames, where the features have a choice.
    digest : str
        Changes with any id, label, group or frame.
    excluded : mapping of str to str
        Ids of tracks that were left out on purpose, and why.
    lacking : frozenset of str
        Ids of the dataset's tracks that lack some of the features, or a label.
    notes : tuple of str
        Sentences for the user: which tracks of the dataset are missing, unlabeled or no longer listed.
    """

    info: DatasetInfo
    task: Task
    ids: list[str]
    labels: Labels
    groups: list[str | None]
    recordings: list[str]
    audio_hashes: list[str]
    features: dict[str, FeaturesInfo]
    frames: dict[str, FrameFile]
    frames_digests: dict[str, str]
    backends: dict[str, list[str]]
    digest: str
    excluded: Mapping[str, str] = field(default_factory=dict)
    lacking: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @cached_property
    def label_array(self) -> NDArray[Any]:
        """Class indices ``[n_tracks]``, int64; tags ``[n_tracks, n_tags]``, int64 0 or 1; or targets as in `labels`."""
        if isinstance(self.task, Classification):
            return np.array([self.task.classes.index(label) for label in self.labels], np.int64)
        return np.asarray(self.labels)

    @cached_property
    def group_codes(self) -> NDArray[np.int64]:
        """See `group_numbers`."""
        return group_numbers(self.groups)

    def without(self, excluded: Mapping[str, str]) -> Tracks:
        """Return the tracks that ``excluded`` does not name, without classes and tags that this empties.

        Raises
        ------
        StoreError
            No track is left.
        """
        rows = [row for row, track in enumerate(self.ids) if track not in excluded]
        if not rows:
            raise StoreError(f"all {len(self.ids)} tracks of {self.info.spec} are excluded")
        labels = self.labels[rows] if isinstance(self.labels, np.ndarray) else [self.labels[row] for row in rows]
        task, labels = _without_empty_classes(self.task, labels)
        ids = [self.ids[row] for row in rows]
        return replace(
            self,
            task=task,
            ids=ids,
            labels=labels,
            groups=[self.groups[row] for row in rows],
            recordings=[self.recordings[row] for row in rows],
            audio_hashes=[self.audio_hashes[row] for row in rows],
            frames={spec: frames.take(rows) for spec, frames in self.frames.items()},
            frames_digests={spec: _digest([digest, ids]) for spec, digest in self.frames_digests.items()},
            digest=_digest([self.digest, ids]),
            excluded=excluded,
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes from deleting the flat files while worker processes open them again and again."""
        with contextlib.ExitStack() as held:
            for frames in self.frames.values():
                held.enter_context(frames.in_use())
            yield


class _Frames(NamedTuple):
    """What the shards say about the frames of a recording."""

    n_frames: int
    digest: str
    backend: str
    audio_hash: str | None


def open_tracks(
    store: Store, dataset: DatasetStore, features: Sequence[FeaturesInfo], progress: Progress = NO_PROGRESS
) -> Tracks:
    """Read the labeled tracks of a dataset that have all of some features, and make flat files unless they are there.

    Parameters
    ----------
    store : Store
    dataset : DatasetStore
    features : sequence of FeaturesInfo
        At least one.
    progress : Progress, optional
        Gets notes about tracks that are missing, unlabeled or no longer listed, classes and tags that no track has,
        tags that every track has, and tracks without tags.

    Raises
    ------
    StoreError
        The dataset has no labels, the store does not have the features, no track has all of them, a shard is damaged,
        or a flat file cannot be written.
    MismatchError
        The frames of stacked features differ in length, or a shard holds other features.
    """
    info, stored = dataset.info(), dataset.tracks()
    labeled = [track for track in stored if track.label is not None]
    if info.task is None or (stored and not labeled):
        raise StoreError(_why_unlabeled(info, len(stored)))
    _check_stored(store, info, features)
    known = {part.digest: _read_index(store, part) for part in distinct_parts(features)}
    having = {one.spec: [track for track in labeled if _has(track, one, known)] for one in features}
    extracted = [track for track in stored if all(_has(track, one, known) for one in features)]
    tracks = [track for track in extracted if track.label is not None]
    if not tracks:
        thing = "track" if len(labeled) == len(stored) else "labeled track"
        raise StoreError(_why_none(store, dataset, info, having, features, thing))
    task, labels = _labels(info.task, tracks, progress)
    names = {store.features(part).name for one in features for part in one.parts}
    failed = {failure.id for failure in dataset.failures() if failure.features in names}
    notes = _left_out_and_unlisted(info, extracted, failed, _command(info, features))
    if len({len(tracks), *map(len, having.values())}) > 1:
        listed = ", ".join(f"{len(some)} have {spec}" for spec, some in having.items())
        notes.append(f"using the {counted(len(tracks), 'track')} of {info.spec} that have all features ({listed})")
    for note in notes:
        progress.note(note)
    frames = {}
    for one in features:
        rows = {track.id: row for row, track in enumerate(having[one.spec])}
        whole = _frame_file(store, dataset, having[one.spec], one, known)
        frames[one.spec] = whole.take([rows[track.id] for track in tracks])
    ids, groups = [track.id for track in tracks], [track.group for track in tracks]
    recordings = [str(track.recording) for track in tracks]
    hashes = [{name: one.audio_hash for name, one in index.items() if one.audio_hash} for index in known.values()]
    of_frames = {
        one.spec: _digest([[digest, [known[digest][name].digest for name in recordings]] for digest in one.digests])
        for one in features
    }
    return Tracks(
        info=info,
        task=task,
        ids=ids,
        labels=labels,
        groups=groups,
        recordings=recordings,
        audio_hashes=[next((found[name] for found in hashes if name in found), name) for name in recordings],
        features={one.spec: one for one in features},
        frames=frames,
        frames_digests=of_frames,
        backends={
            one.spec: sorted({known[digest][name].backend for digest in one.digests for name in recordings} - {""})
            for one in features
        },
        digest=_digest([str(info.task), ids, groups, np.asarray(labels).tolist(), of_frames]),
        lacking=frozenset(track.id for track in stored).difference(ids),
        notes=tuple(notes),
    )


def _check_stored(store: Store, info: DatasetInfo, features: Sequence[FeaturesInfo]) -> None:
    """Refuse features that the store does not have, all in one message."""
    lacking = [part for part in distinct_parts(features) if not store.features(part).exists]
    if not lacking:
        return
    new, changed = [], []
    for part in lacking:
        other = info.features.get(part.spec)
        if other in (None, store.features(part).name):
            new.append(part.spec)
        else:
            changed.append(f"has the features {part.spec} only by other code or from another file ({other})")
    lack = joined([*changed, *([f"does not have the features {joined(new)}"] if new else [])])
    raise StoreError(f"the store {store.root} {lack}; run {_command(info, lacking)}")


def _read_index(store: Store, part: FeaturesPart) -> dict[str, _Frames]:
    """Return what the store knows about the frames of each recording."""
    facts = store.features(part).columns("n_frames", "frames_digest", "backend", "audio_hash")
    return {recording: _Frames(*of_one) for recording, of_one in facts.items()}


def _has(track: StoredTrack, features: FeaturesInfo, known: Mapping[str, Mapping[str, _Frames]]) -> bool:
    return all(track.recording in known[part.digest] for part in features.parts)


def _why_unlabeled(info: DatasetInfo, n_tracks: int) -> str:
    """Say that a dataset has no labels, or none of its tracks, and how to choose others."""
    name = Spec.parse(info.spec).name
    lack = f"none of the {counted(n_tracks, 'track')} of {info.spec} has a label"
    if info.task is None:
        lack = f"{info.spec} has no labels"
    advice = "choose another --dataset"
    if "label" in info.plugin.get("parameters", {}):
        advice = f"extract {name} with other labels (label=...; see `mirembed datasets show {name}`), or {advice}"
    return f"{lack}, so there is nothing to train or test on; {advice}"


def _why_none(
    store: Store,
    dataset: DatasetStore,
    info: DatasetInfo,
    having: Mapping[str, Sequence[StoredTrack]],
    features: Sequence[FeaturesInfo],
    thing: str,
) -> str:
    """Say which features no track has, and why as far as it is known, or that no track has all of them."""
    lacking = [one for one in features if not having[one.spec]]
    if not lacking:
        listed = ", ".join(f"{len(some)} have {spec}" for spec, some in having.items())
        return f"no {thing} of {info.spec} in the store {store.root} has all features ({listed})"
    named = " or ".join(one.spec for one in lacking)
    message = f"no {thing} of {info.spec} in the store {store.root} has {named}"
    names = {store.features(part).name for one in lacking for part in one.parts}
    if failed := [failure for failure in dataset.failures() if failure.features in names]:
        n_failed = counted(len({failure.id for failure in failed}), "track")
        return f"{message}; {n_failed} failed, the first one, {failed[0].id}: {failed[0].reason}"
    return f"{message}; run {_command(info, lacking)}"


def _command(info: DatasetInfo, features: Sequence[FeaturesInfo | FeaturesPart]) -> str:
    flags = "".join(f" --features {one.spec}" for one in features)
    return f"`mirembed extract --dataset {info.spec}{flags}`"


def _labels(task: Task, tracks: Sequence[StoredTrack], progress: Progress) -> tuple[Task, Labels]:
    """Return the task and the labels of tracks without classes and tags that none has, and say what is left out."""
    labels: Labels
    if isinstance(task, Classification):
        labels = [str(track.label) for track in tracks]
    elif isinstance(task, Tags):
        labels = tag_array(task, [classes_of(track.label) for track in tracks])
    else:
        labels = np.array([track.label for track in tracks], np.float64)
    kept, labels = _without_empty_classes(task, labels)
    if isinstance(task, Regression) or isinstance(kept, Regression):
        return kept, labels
    if empty := sorted(set(task.classes) - set(kept.classes)):
        things = "classes without tracks" if isinstance(task, Classification) else "tags without tracks"
        shown = ", ".join(empty) if isinstance(task, Classification) else first_names(empty, _NAMED_TAGS)
        progress.note(f"leaving out {things} in the store: {shown}")
    if isinstance(kept, Tags) and isinstance(labels, np.ndarray):
        if everywhere := [tag for tag, column in zip(kept.classes, labels.T, strict=True) if column.all()]:
            progress.note(f"tags that every track has, which cannot be learned: {first_names(everywhere, _NAMED_TAGS)}")
        if without := int((labels.sum(axis=1) == 0).sum()):
            progress.note(f"{without} of {counted(len(labels), 'track')} without a tag")
    return kept, labels


def group_numbers(groups: Sequence[str | None]) -> NDArray[np.int64]:
    """Return the number of the group of each track ``[n_tracks]``; a track without a group is a group of its own.

    >>> group_numbers(["ann", None, "ann", None]).tolist()
    [0, 1, 0, 2]
    """
    numbers: dict[str | int, int] = {}
    keys = [row if group is None else group for row, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def tag_array(task: Tags, labels: Sequence[Collection[str]]) -> NDArray[np.int64]:
    """Return the tags of tracks as an array ``[n_tracks, n_tags]``: 1 where the track has the tag, 0 elsewhere.

    >>> tag_array(Tags(("calm", "drums", "piano")), [{"piano", "calm"}, set()]).tolist()
    [[1, 0, 1], [0, 0, 0]]
    """
    column = {tag: number for number, tag in enumerate(task.classes)}
    array = np.zeros((len(labels), len(column)), np.int64)
    for row, tags in enumerate(labels):
        array[row, [column[tag] for tag in tags]] = 1
    return array


def _without_empty_classes(task: Task, labels: Labels) -> tuple[Task, Labels]:
    if isinstance(task, Classification):
        present = set(labels)
        return Classification(tuple(name for name in task.classes if name in present)), labels
    if isinstance(task, Tags) and isinstance(labels, np.ndarray):
        used = np.flatnonzero(labels.any(axis=0))
        return Tags(tuple(task.classes[number] for number in used)), labels[:, used]
    return task, labels


def _left_out_and_unlisted(
    info: DatasetInfo, tracks: Sequence[StoredTrack], failed: set[str], command: str
) -> list[str]:
    """Say which tracks of the dataset are not in the store or unlabeled, and which of the store it no longer lists."""
    notes = []
    n_listed, n_failed = sum(track.listed for track in tracks), len(failed - {track.id for track in tracks})
    reasons = {
        "without audio": info.n_absent,
        "failed": n_failed,
        f"not extracted yet: run {command}": info.n_listed - n_listed - n_failed,
    }
    if why := ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count > 0):
        whole = counted(info.n_listed + info.n_absent, "track")
        notes.append(f"the store has {n_listed} of the {whole} of {info.spec} ({why})")
    used = [track for track in tracks if track.label is not None]
    if n_unlabeled := len(tracks) - len(used):
        notes.append(f"leaving out {counted(n_unlabeled, 'unlabeled track')} of {len(tracks)} in the store")
    if n_unlisted := sum(not track.listed for track in used):
        are, them = ("are", "them") if n_unlisted > 1 else ("is", "it")
        notes.append(
            f"{n_unlisted} of the {counted(len(used), 'track')} in the store {are} no longer listed but still "
            f"used; `mirembed extract --prune` removes {them}"
        )
    return notes


def _frame_file(
    store: Store,
    dataset: DatasetStore,
    tracks: Sequence[StoredTrack],
    features: FeaturesInfo,
    known: Mapping[str, Mapping[str, _Frames]],
) -> FrameFile:
    """Return the flat file of all tracks of a dataset that have some features."""
    parts = [[known[part.digest][str(track.recording)] for track in tracks] for part in features.parts]
    lengths = [
        common_length(features, [one.n_frames for one in of_track], track.id)
        for track, *of_track in zip(tracks, *parts, strict=True)
    ]
    digest = _digest([features.digests, [[one.digest for one in part] for part in parts]])
    folder, name = store.cache / dataset.folder.name, slug(features.spec)
    frames = FrameFile.at(folder / f"{name}-{digest}.f32", np.array(lengths, np.int64), features.values)
    if not frames.is_whole:
        for old in folder.glob(f"{glob.escape(name)}-{'[0-9a-f]' * 16}.f32"):
            delete_unused(old)
        _link_to_equal(frames, store.cache.glob(f"*/*-{digest}.f32"))
    if not frames.is_whole:
        numbers: dict[str, list[int]] = {}
        for number, track in enumerate(tracks):
            numbers.setdefault(str(track.recording), []).append(number)
        frames.write(_pieces(store, features, numbers, known))
    return frames


def _link_to_equal(frames: FrameFile, others: Iterator[Any]) -> None:
    """Give a flat file that another dataset has made, such as one with other labels, a second name."""
    for other in others:
        if replace(frames, path=other).is_whole:
            with contextlib.suppress(OSError):
                frames.path.parent.mkdir(parents=True, exist_ok=True)
                frames.path.unlink(missing_ok=True)
                os.link(other, frames.path)
                return


def _pieces(
    store: Store,
    features: FeaturesInfo,
    numbers: Mapping[str, Sequence[int]],
    known: Mapping[str, Mapping[str, _Frames]],
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield what `FrameFile.write` takes; ``numbers`` has the tracks of each recording."""
    column = 0
    for part in features.parts:
        missing = set(numbers)
        # By recording, not by position: `store compact` may be merging the shards at this moment.
        for recording, frames in store.features(part).frames_of(numbers):
            if len(frames) == known[part.digest][recording].n_frames:
                missing.remove(recording)
            for number in numbers[recording]:
                yield number, column, frames
        if missing:
            raise StoreError(
                f"{store.features(part).folder} changed while it was being read; run the same command again"
            )
        column += part.values


def _digest(content: list[Any]) -> str:
    return content_digest(content, 16, sort_keys=False)
