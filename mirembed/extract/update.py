"""Bring a dataset of a store up to date with its listing: only recordings that the store lacks are decoded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mirembed.audio.files import file_stamp
from mirembed.config import defaults
from mirembed.errors import PluginError, StoreError
from mirembed.extract.extraction import Extraction, Features, MaxFailures
from mirembed.extract.file_features import ExtractOptions, FileToExtract
from mirembed.extract.summary import Summary
from mirembed.features.info import FeaturesInfo, FeaturesPart, resolve_features
from mirembed.hookspecs import Classification, Listing, Regression, Tags, Task, Track
from mirembed.interruption import interruptible, raise_if_interrupted
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import DatasetInfo, DatasetStore, Failure, Store, StoredTrack
from mirembed.store.file_tags import KnownFileTags
from mirembed.store.recordings import KnownRecordings, absolute
from mirembed.store.rows import classes_of, label_names, stored_file_tags

PRUNE_FREELY = 0.1
"""Share of a dataset's tracks that ``--prune`` may remove without asking."""

READ_QUIETLY = 2**30
"""Bytes of files whose reading takes so little time that it is not worth a message."""


def features_to_extract(registry: Registry, dataset: DatasetStore, given: Sequence[str]) -> list[FeaturesInfo]:
    """Return the features that are given, else those that a dataset was extracted with before, else the default.

    Raises
    ------
    SpecError, PluginError
        See `resolve_features`. If features from before cannot be computed any more, the message says how to go on.
    """
    if given or not dataset.exists or not (before := dataset.info().features):
        return [resolve_features(registry, text) for text in given or [defaults.FEATURES]]
    found = []
    for text, name in before.items():
        try:
            found.append(resolve_features(registry, text))
        except PluginError as error:
            raise type(error)(
                f"{error}; {dataset.info().spec} was extracted with {text} before: choose others with --features, or "
                f"run `mirembed store rm features:{name}`"
            ) from error
    return found


def extract(
    store: Store,
    listing: Listing,
    *,
    spec: str,
    plugin: Mapping[str, Any],
    audio: Path,
    features: Sequence[FeaturesInfo],
    jobs: int,
    retry_failed: bool = False,
    prune: bool = False,
    confirm: Callable[[str], None] = lambda question: None,
    options: ExtractOptions | None = None,
    max_failures: MaxFailures | None = None,
    progress: Progress = NO_PROGRESS,
    file_tags: KnownFileTags | None = None,
) -> Summary:
    """Bring a dataset of a store up to date with its listing.

    Only recordings that the store lacks are decoded. However the program ends, the store stays valid and the next call
    continues from there.

    Parameters
    ----------
    store : Store
    listing : Listing
        Checked by `mirembed.listings.check_listing`.
    spec : str
        The dataset, as given to ``--dataset``.
    plugin : mapping
        Provenance of the dataset plugin.
    audio : pathlib.Path
        The folder that was listed; files that links put outside it fail.
    features : sequence of FeaturesInfo
        Stacked features are stored as their parts.
    jobs : int
        Worker processes.
    retry_failed : bool
        Try files again that failed before and have not changed.
    prune : bool
        Remove tracks that are not listed.
    confirm : callable
        Called with a question before more than a tenth of the tracks are removed; raises an error to prevent it.
    options : ExtractOptions, optional
    max_failures : MaxFailures, optional
        Stop when more files than this fail.
    progress : Progress, optional
    file_tags : KnownFileTags, optional
        With which the dataset was listed.

    Raises
    ------
    DatasetError
        See `Extraction.run`.
    StoreError
        The store is busy, cannot be written, or holds another folder's tracks.
    """
    dataset = store.dataset(Spec.parse(spec))
    parts = list({part.digest: part for one in features for part in one.parts}.values())
    summary = Summary(listed=len(listing.tracks), absent=listing.absent)
    with dataset.lock(), contextlib.ExitStack() as adding:
        before = dataset.info() if dataset.exists else None
        stored = dataset.tracks() if before else []
        for part in parts:
            shards = store.features(part)
            adding.enter_context(shards.adding())
            shards.create(part)
            summary.damaged += [str(path) for path in shards.set_aside_damaged()]
        info = DatasetInfo(
            spec=spec,
            plugin=plugin,
            task=listing.task,
            audio=str(audio.resolve()),
            n_listed=len(listing.tracks),
            n_absent=listing.absent,
            features={
                **(before.features if before else {}),
                **{part.spec: store.features(part).name for part in parts},
            },
        )
        recordings = _recognize(store, stored, listing.tracks, progress)
        moved = _moved_tracks(stored, listing.tracks, recordings)
        if before is not None:
            _check_labels(dataset, before, info, stored)
            _check_folder(before, info, stored, listing.tracks, moved, prune, confirm)
        tracks = _refresh(stored, listing.tracks, recordings, moved, prune, summary)
        _write(dataset, before, info, stored, tracks)
        _write_file_tags(dataset, listing.tracks, tracks, file_tags or KnownFileTags(store), progress)
        dataset.write_schemes(listing.schemes)
        wanted = [Features.of(part, store) for part in parts]
        before_ids = {track.id for track in stored} | set(moved.values())
        earlier = [one for one in dataset.failures() if one.features in info.features.values()]  # not replaced ones
        files, failures = _missing(earlier, listing.tracks, recordings, before_ids, wanted, retry_failed, summary)
        extraction = Extraction(
            store=store,
            dataset=dataset,
            features=wanted,
            files=files,
            tracks=tracks,
            failures=failures,
            audio=audio,
            options=options or ExtractOptions(),
            summary=summary,
            progress=progress,
            max_failures=max_failures,
        )
        extraction.run(jobs)
        adding.close()
        for part in parts:
            store.features(part).drop_replaced()
    return summary


def _recognize(
    store: Store, stored: Sequence[StoredTrack], tracks: Sequence[Track], progress: Progress
) -> dict[str, str]:
    """Return the recordings of the listed tracks whose files, as they are now, the store knows; by id."""
    known, before = KnownRecordings(store), {track.id: track for track in stored}
    found: dict[str, str] = {}
    unread = []
    for track in tracks:
        raise_if_interrupted()
        stamp, old = file_stamp(track.path), before.get(track.id)
        if old is not None and old.recording is not None and (old.file_size, old.file_mtime_ns) == stamp:
            found[track.id] = old.recording
        elif (recording := known.by_stamp(track.path)) is not None:
            found[track.id] = recording
        elif known.has_size(track.path):
            unread.append(track)
    if sum(file_stamp(track.path)[0] for track in unread) < READ_QUIETLY:
        progress = NO_PROGRESS
    progress.start("comparing files with known recordings", len(unread))
    for number, track in enumerate(unread, 1):
        if (recording := known.by_content(track.path)) is not None:
            found[track.id] = recording
        progress.update(number)
    return found


def _moved_tracks(
    stored: Sequence[StoredTrack], tracks: Sequence[Track], recordings: Mapping[str, str]
) -> dict[str, str]:
    """Return the new ids of stored tracks that are no longer listed, by their old ids.

    The file of a new track has the same bytes. If several stored tracks have them, each is used once.
    """
    listed = {track.id for track in tracks}
    known = {track.id for track in stored}
    gone: dict[str | None, list[str]] = {}
    for old in stored:
        if old.id not in listed:
            gone.setdefault(old.recording, []).append(old.id)
    new = [track.id for track in tracks if track.id not in known and track.id in recordings]
    return {same.pop(0): track for track in new if (same := gone.get(recordings[track]))}


def _check_labels(dataset: DatasetStore, before: DatasetInfo, info: DatasetInfo, stored: Sequence[StoredTrack]) -> None:
    """Refuse labels of another kind than those of the stored tracks."""
    names, old = _kind(info.task), _kind(before.task)
    if stored and names != old:
        raise StoreError(
            f"{info.spec} now has {names} as labels, but the store {dataset.folder} has {old}; "
            f"extract into another --store, or run `mirembed store rm dataset:{info.spec}`: nothing is decoded again"
        )


def _kind(task: Task) -> str:
    """Return what the labels of a task are, in words: a change of it takes other columns."""
    if isinstance(task, Regression):
        return f"the targets {', '.join(label_names(task))}"
    return "tags" if isinstance(task, Tags) else "classes"


def _check_folder(
    before: DatasetInfo,
    info: DatasetInfo,
    stored: Sequence[StoredTrack],
    tracks: Sequence[Track],
    moved: Mapping[str, str],
    prune: bool,
    confirm: Callable[[str], None],
) -> None:
    """Refuse another folder, and let the user confirm if many tracks are to be removed."""
    listed = {track.id for track in tracks}
    gone = [track.id for track in stored if track.id not in listed and track.id not in moved]
    # Another folder may hold some of the same files; one in which all were renamed holds most of them.
    if stored and not prune and not any(track.id in listed for track in stored) and len(moved) < len(stored) / 2:
        raise StoreError(
            f"the store already has {len(stored)} tracks of {info.spec} from {before.audio}, and none of them is in "
            f"{info.audio}; use another --store, or --prune to remove them"
        )
    if prune and len(gone) > PRUNE_FREELY * len(stored):
        confirm(f"remove {len(gone)} of the {counted(len(stored), 'track')} of {info.spec} from the store")


@interruptible()
def _refresh(
    stored: Sequence[StoredTrack],
    listed: Sequence[Track],
    recordings: Mapping[str, str],
    moved: Mapping[str, str],
    prune: bool,
    summary: Summary,
) -> dict[str, StoredTrack]:
    """Return the tracks as they are before anything is extracted, by id: listed ones first, then those that are not.

    A track whose file has changed keeps its recording until the new one is extracted.
    """
    before = {moved.get(track.id, track.id): track for track in stored}
    tracks: dict[str, StoredTrack] = {}
    for track in listed:
        old = before.pop(track.id, None)
        recording, stamp = recordings.get(track.id), file_stamp(track.path)
        if recording is None:
            recording = old.recording if old else None
            stamp = (old.file_size, old.file_mtime_ns) if old else (-1, -1)
        tracks[track.id] = StoredTrack(
            track.id, recording, track.label, track.group, absolute(track.path), *stamp, listed=True
        )
        if old is not None and old.id == track.id:
            summary.relabeled += (track.label, track.group) != (old.label, old.group)
    summary.moved = len(moved)
    gone = [track for track in before.values() if track.recording is not None]
    if prune:
        summary.pruned = len(gone)
        return tracks
    summary.unlisted = len(gone)
    return tracks | {track.id: replace(track, listed=False) for track in gone}


def _write(
    dataset: DatasetStore,
    before: DatasetInfo | None,
    info: DatasetInfo,
    stored: Sequence[StoredTrack],
    tracks: Mapping[str, StoredTrack],
) -> None:
    """Write the dataset unless it is there as it should be."""
    unlisted = [track for track in tracks.values() if not track.listed]
    names = frozenset[str]().union(*(classes_of(track.label) for track in unlisted))
    info = replace(info, n_unlisted=len(unlisted), task=_with_classes(info.task, names))
    if info != before:
        # A process that is killed here leaves the old labels.
        old = before.task if before else info.task
        others = () if isinstance(old, Regression) else old.classes
        dataset.write_info(replace(info, task=_with_classes(info.task, others)))
    if sorted(tracks.values(), key=lambda track: track.id) != list(stored) or not stored:
        dataset.write_tracks(tracks.values(), info)
    if info != before:
        dataset.write_info(info)


def _write_file_tags(
    dataset: DatasetStore,
    listed: Sequence[Track],
    tracks: Mapping[str, StoredTrack],
    known: KnownFileTags,
    progress: Progress,
) -> None:
    """Write the file tags of the listed tracks; tracks that are not listed keep what they have."""
    rows = known.of_tracks({track.id: track.path for track in listed}, progress)
    with contextlib.suppress(StoreError):
        before = stored_file_tags(dataset.file_tags())
        rows += [row for row in before if row.id in tracks and not tracks[row.id].listed]
    dataset.write_file_tags(rows)


def _with_classes(task: Task, others: Collection[str]) -> Task:
    """Return a task with further classes or tags."""
    if isinstance(task, Regression):
        return task
    kind = Classification if isinstance(task, Classification) else Tags
    return kind((*task.classes, *sorted(set(others) - set(task.classes))))


@interruptible()
def _missing(
    failures_before: Sequence[Failure],
    tracks: Sequence[Track],
    recordings: Mapping[str, str],
    before: Collection[str],
    features: Sequence[Features],
    retry_failed: bool,
    summary: Summary,
) -> tuple[list[FileToExtract], dict[tuple[str, str], Failure]]:
    """Return the files that lack features, and the failures that remain, by id and features.

    ``before`` has the ids that the dataset had already.
    """
    listed, wanted = {track.id for track in tracks}, {one.name for one in features}
    failures = {(one.id, one.features): one for one in failures_before if one.id in listed}
    files: dict[Path, tuple[list[str], list[FeaturesPart]]] = {}
    for track in tracks:
        stamp, recording = file_stamp(track.path), recordings.get(track.id)
        lacking = [one for one in features if recording is None or recording not in one.having]
        for name in wanted - {one.name for one in lacking}:
            failures.pop((track.id, name), None)
        failed = {
            name
            for name in wanted
            if (old := failures.get((track.id, name))) and (old.file_size, old.file_mtime_ns) == stamp
        }
        again = [one.part for one in lacking if retry_failed or one.name not in failed]
        if not lacking:
            summary.unchanged += 1
            summary.known += track.id not in before
        elif again:
            ids, parts = files.setdefault(track.path, ([], []))
            ids.append(track.id)
            parts += [part for part in again if part not in parts]
        else:
            summary.failed_before += 1
    return [FileToExtract(path, tuple(ids), tuple(parts)) for path, (ids, parts) in files.items()], failures
