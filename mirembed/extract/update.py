"""Bring a dataset of a store up to date with its listing: only recordings that the store lacks are decoded."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mirembed.audio.files import printable
from mirembed.audio.folders import FolderState, is_missing
from mirembed.config import defaults
from mirembed.errors import DatasetError, PluginError, StoreError
from mirembed.extract.extraction import Extraction, Features, MaxFailures
from mirembed.extract.failures import Failures
from mirembed.extract.file_features import ExtractOptions, FileToExtract, prepare_extraction
from mirembed.extract.limit import Limit
from mirembed.extract.summary import Summary
from mirembed.features.info import FeaturesInfo, FeaturesPart, distinct_parts, resolve_features
from mirembed.hookspecs import Classification, Listing, Regression, Tags, Task, Track
from mirembed.interruption import interruptible, raise_if_interrupted
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import DatasetInfo, DatasetStore, Store, StoredTrack
from mirembed.store.file_tags import KnownFileTags
from mirembed.store.recordings import KnownRecordings, real_path
from mirembed.store.rows import classes_of, label_names, stored_file_tags
from mirembed.workers.executor import is_cluster

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
    limit: int | None = None,
    retry_failed: bool = False,
    prune: bool = False,
    confirm: Callable[[str], None] = lambda question: None,
    options: ExtractOptions | None = None,
    max_failures: MaxFailures | None = None,
    accept_failures: bool | None = None,
    progress: Progress = NO_PROGRESS,
    file_tags: KnownFileTags | None = None,
    folders: Mapping[str, FolderState] | None = None,
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
    limit : int, optional
        Compute features of at most this many files, see `drawn_files`, including those that have them already. The
        dataset lists all others, too.
    retry_failed : bool
        Try files again that failed before and have not changed.
    prune : bool
        Remove tracks that are not listed.
    confirm : callable
        Called with a question before more than a tenth of the tracks are removed; raises an error to prevent it.
    options : ExtractOptions, optional
    max_failures : MaxFailures, optional
        Stop when more files than this fail whose failure is not accepted.
    accept_failures : bool, optional
        Whether to accept the failures of these features, or to take that back. See `Summary.has_failures`.
    progress : Progress, optional
    file_tags : KnownFileTags, optional
        With which the dataset was listed.
    folders : mapping of str to FolderState, optional
        The folders in ``audio`` from before the dataset was listed; see `mirembed.audio.folders.read_folders`.

    Raises
    ------
    DatasetError
        See `refresh` and `Extraction.run`.
    StoreError
        The store is busy, cannot be written, or holds another folder's tracks.
    """
    dataset = store.dataset(Spec.parse(spec))
    parts = distinct_parts(features)
    summary = Summary(listed=len(listing.tracks), absent=listing.absent)
    options = options or ExtractOptions()
    # The store knows most files of a dataset that it has, but hardly any of another one.
    n_new = 0 if dataset.exists or is_cluster() else len(listing.tracks)
    with dataset.lock(), prepare_extraction(min(jobs, n_new), options), contextlib.ExitStack() as adding:
        for part in parts:
            shards = store.features(part)
            adding.enter_context(shards.adding())
            shards.create(part)
            summary.damaged += [str(path) for path in shards.set_aside_damaged()]
        wanted = [Features.of(part, store) for part in parts]
        limited = None if limit is None else Limit(limit, wanted)
        refreshed = refresh(
            store,
            listing,
            spec=spec,
            plugin=plugin,
            audio=audio,
            features={part.spec: store.features(part).name for part in parts},
            prune=prune,
            confirm=confirm,
            summary=summary,
            progress=progress,
            file_tags=file_tags,
            folders=folders,
            limited=limited,
        )
        files, failures = missing_files(dataset, listing.tracks, refreshed, wanted, retry_failed, summary, limited)
        extraction = Extraction(
            store=store,
            dataset=dataset,
            features=wanted,
            files=files,
            tracks=refreshed.tracks,
            failures=failures,
            audio=audio,
            options=options,
            summary=summary,
            progress=progress,
            max_failures=max_failures,
            accept_failures=accept_failures,
        )
        extraction.run(jobs)
        adding.close()
        for part in parts:
            store.features(part).drop_replaced()
    return summary


@dataclass(frozen=True)
class Refreshed:
    """A dataset of a store after its tracks were brought up to date with a listing.

    Attributes
    ----------
    info : DatasetInfo
    tracks : dict of str to StoredTrack
        All tracks, by id.
    recordings : mapping of str to str
        Of the listed tracks whose files, as they are now, the store knows; by id.
    before : frozenset of str
        The ids that the dataset had already, by the names that they have now.
    stamps : mapping of str to (int, int)
        Size and modification time of the file of each listed track, from before it was compared; by id.
    """

    info: DatasetInfo
    tracks: dict[str, StoredTrack]
    recordings: Mapping[str, str]
    before: frozenset[str]
    stamps: Mapping[str, tuple[int, int]]


def refresh(
    store: Store,
    listing: Listing,
    *,
    spec: str,
    plugin: Mapping[str, Any],
    audio: Path,
    features: Mapping[str, str],
    prune: bool,
    confirm: Callable[[str], None],
    summary: Summary,
    progress: Progress = NO_PROGRESS,
    file_tags: KnownFileTags | None = None,
    folders: Mapping[str, FolderState] | None = None,
    limited: Limit | None = None,
) -> Refreshed:
    """Bring the tracks of a dataset and their file tags up to date with its listing. Nothing is decoded.

    Needs the lock of the dataset. The parameters are those of `extract`, except for those that follow.

    Parameters
    ----------
    features : mapping of str to str
        What the dataset is to be extracted with, besides the features from before: names of stored features by spec.
    summary : Summary
        Gets the numbers of tracks that moved, were removed, and so on.
    limited : Limit, optional
        Which files are to be extracted, if not all.

    Raises
    ------
    DatasetError
        Tracks are to be removed whose files may be on a drive that is away.
    StoreError
        The store cannot be written, or holds other labels or another folder's tracks.
    """
    dataset = store.dataset(Spec.parse(spec))
    before = dataset.info() if dataset.exists else None
    stored = dataset.tracks() if before else []
    info = DatasetInfo(
        spec=spec,
        plugin=plugin,
        task=listing.task,
        audio=str(audio.resolve()),
        n_listed=len(listing.tracks),
        n_absent=listing.absent,
        features={**(before.features if before else {}), **features},
    )
    known_tags = file_tags or KnownFileTags(store)
    # First, because a file may change while it is read.
    keys = {track.id: known_tags.key(track.path) for track in listing.tracks}
    stamps = {track: key[1:] for track, key in keys.items()}
    recordings = _recognize(store, stored, listing.tracks, stamps, limited, progress)
    moved = _moved_tracks(stored, listing.tracks, recordings)
    if before is not None:
        _check_labels(dataset, before, info, stored)
        if prune and before.audio == info.audio:
            _check_reachable(dataset, before, stored, listing.tracks, moved)
        _check_folder(before, info, stored, listing.tracks, moved, prune, confirm)
    tracks = _refresh(stored, listing.tracks, recordings, keys, moved, prune, summary)
    _write(dataset, before, info, stored, tracks)
    _write_file_tags(dataset, listing.tracks, tracks, known_tags, progress)
    dataset.write_schemes(listing.schemes)
    dataset.write_folders(folders or {})
    known = frozenset({track.id for track in stored} | set(moved.values()))
    return Refreshed(info, tracks, recordings, known, stamps)


def _recognize(
    store: Store,
    stored: Sequence[StoredTrack],
    tracks: Sequence[Track],
    stamps: Mapping[str, tuple[int, int]],
    limited: Limit | None,
    progress: Progress,
) -> dict[str, str]:
    """Return the recordings of the listed tracks whose files, as they are now, the store knows; by id.

    Files that an earlier extraction left for later are not read, unless they are drawn now.
    """
    before = {track.id: track for track in stored}
    found: dict[str, str] = {}
    changed, unread = [], []
    for track in tracks:
        stamp, old = stamps[track.id], before.get(track.id)
        if old is not None and old.recording is not None and (old.file_size, old.file_mtime_ns) == stamp:
            found[track.id] = old.recording
        else:
            changed.append(track)
    if not changed:
        return found
    known = KnownRecordings(store)
    for track in changed:
        raise_if_interrupted()
        stamp = stamps[track.id]
        if (recording := known.by_stamp(track.path, stamp)) is not None:
            found[track.id] = recording
        elif known.has_size(stamp):
            unread.append(track)
    if limited is not None:
        drawn = limited.files(tracks, {**{one.id: one.recording for one in stored}, **found})
        unread = [track for track in unread if track.path in drawn or track.id not in before]
    if sum(stamps[track.id][0] for track in unread) < READ_QUIETLY:
        progress = NO_PROGRESS
    progress.start("comparing files with known recordings", len(unread))
    for number, track in enumerate(unread, 1):
        if (recording := known.by_content(track.path, stamps[track.id])) is not None:
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
    """Refuse labels of another kind than those of the stored tracks; they may appear and vanish."""
    if not stored or info.task is None or before.task is None:
        return
    names, old = _kind(info.task), _kind(before.task)
    if names != old:
        raise StoreError(
            f"{info.spec} now has {names} as labels, but the store {dataset.folder} has {old}; "
            f"extract into another --store, or run `mirembed store rm dataset:{info.spec}`: nothing is decoded again"
        )


def _kind(task: Task) -> str:
    """Return what the labels of a task are, in words: a change of it takes other columns."""
    if isinstance(task, Regression):
        return f"the targets {', '.join(label_names(task))}"
    return "tags" if isinstance(task, Tags) else "classes"


def _check_reachable(
    dataset: DatasetStore,
    before: DatasetInfo,
    stored: Sequence[StoredTrack],
    tracks: Sequence[Track],
    moved: Mapping[str, str],
) -> None:
    """Refuse to remove tracks whose files may be out of reach: on an unmounted drive, or in an unreadable folder."""
    listed = {track.id for track in tracks}
    gone = [track for track in stored if track.id not in listed and track.id not in moved]
    if not gone:
        return
    audio = Path(before.audio)
    kept = "nothing was changed; bring it back, or give the folder with --audio DIR"
    if is_missing(audio):
        raise DatasetError(f"the audio folder {audio} is missing, empty or unreadable; {kept}")
    away = [audio / name for name, state in dataset.folders().items() if state.is_mount]
    away = [folder for folder in away if not os.path.ismount(folder)]
    for track in gone:
        path = real_path(track.path)
        for folder in away:
            if path.is_relative_to(folder):
                raise DatasetError(
                    f"no drive is mounted at {folder}, where {track.id} was; nothing was changed; mount it, or, if it "
                    f"is no drive any more, run `mirembed extract --dataset {before.spec}` first"
                )
        if reason := _out_of_reach(path, audio):
            raise DatasetError(
                f"cannot look for {track.path}: {reason}; nothing was changed; make it readable and run the same "
                "command again"
            )


def _out_of_reach(path: Path, audio: Path) -> str:
    """Return why a file cannot be looked for; empty if it can."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            return error.strerror or str(error)
    for folder in path.parents:
        if folder.is_relative_to(audio) and folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            return f"no permission to read {folder}"
    return ""


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
    known = [track.id for track in stored if track.recording is not None]
    gone = [track for track in known if track not in listed and track not in moved]
    # Another folder may hold some of the same files; one in which all were renamed holds most of them.
    if known and not prune and not any(track in listed for track in known) and len(moved) < len(known) / 2:
        raise StoreError(
            f"the store already has {counted(len(known), 'track')} of {info.spec} from {before.audio}, and none of "
            f"them is in {info.audio}; use another --store, or --prune to remove them"
        )
    if prune and len(gone) > PRUNE_FREELY * len(known):
        confirm(f"remove {len(gone)} of the {counted(len(known), 'track')} of {info.spec} from the store")


@interruptible()
def _refresh(
    stored: Sequence[StoredTrack],
    listed: Sequence[Track],
    recordings: Mapping[str, str],
    keys: Mapping[str, tuple[str, int, int]],
    moved: Mapping[str, str],
    prune: bool,
    summary: Summary,
) -> dict[str, StoredTrack]:
    """Return the tracks as they are before anything is extracted, by id: listed ones first, then those that are not.

    A track whose file has changed keeps its recording until the new one is extracted. For ``keys``, see
    `KnownFileTags.key`.
    """
    before = {moved.get(track.id, track.id): track for track in stored}
    tracks: dict[str, StoredTrack] = {}
    for track in listed:
        old = before.pop(track.id, None)
        recording, (path, size, mtime) = recordings.get(track.id), keys[track.id]
        if recording is None:
            recording = old.recording if old else None
            size, mtime = (old.file_size, old.file_mtime_ns) if old else (-1, -1)
        tracks[track.id] = StoredTrack(track.id, recording, track.label, track.group, path, size, mtime)
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
    old, task = before.task if before else None, info.task
    if task is None and any(track.label is not None for track in unlisted):
        task = old
    info = replace(info, n_unlisted=len(unlisted), task=None if task is None else _with_classes(task, names))
    if info != before:
        # A process that is killed here leaves the old labels.
        others = () if old is None or isinstance(old, Regression) else old.classes
        dataset.write_info(replace(info, task=old if info.task is None else _with_classes(info.task, others)))
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
    paths = {track.id: track.path for track in listed}
    if known.are_in(dataset, paths):
        return
    rows = known.of_tracks(paths, progress)
    if unlisted := {track.id for track in tracks.values() if not track.listed}:
        with contextlib.suppress(StoreError):
            rows += [row for row in stored_file_tags(dataset.file_tags()) if row.id in unlisted]
    dataset.write_file_tags(rows)


def _with_classes(task: Task, others: Collection[str]) -> Task:
    """Return a task with further classes or tags."""
    if isinstance(task, Regression):
        return task
    kind = Classification if isinstance(task, Classification) else Tags
    return kind((*task.classes, *sorted(set(others) - set(task.classes))))


@interruptible()
def missing_files(
    dataset: DatasetStore,
    tracks: Sequence[Track],
    refreshed: Refreshed,
    features: Sequence[Features],
    retry_failed: bool,
    summary: Summary,
    limited: Limit | None = None,
) -> tuple[list[FileToExtract], Failures]:
    """Return the files that lack features, and the failures that remain.

    Parameters
    ----------
    dataset : DatasetStore
    tracks : sequence of Track
        Those that are listed.
    refreshed : Refreshed
    features : sequence of Features
    retry_failed : bool
        Try files again that failed before and have not changed.
    summary : Summary
        Gets the numbers of tracks that lack nothing, and of those that failed before.
    limited : Limit, optional
        Which files to extract, if not all.
    """
    recordings = refreshed.recordings
    current = {one.name for one in features} | set(refreshed.info.features.values())  # others were replaced
    failures_before = [one for one in dataset.failures() if one.features in current]
    listed, wanted = {track.id for track in tracks}, {one.name for one in features}
    failures = {(one.id, one.features): one for one in failures_before if one.id in listed}
    latest = {one.id: one.recording for one in refreshed.tracks.values()}
    drawn = None if limited is None else limited.files(tracks, latest)
    files: dict[Path, tuple[list[str], list[FeaturesPart]]] = {}
    for track in tracks:
        stamp, recording = refreshed.stamps[track.id], recordings.get(track.id)
        lacking = [one for one in features if recording is None or recording not in one.having]
        if not lacking and not failures:
            summary.unchanged += 1
            summary.known += track.id not in refreshed.before
            continue
        for name in wanted - {one.name for one in lacking}:
            failures.pop((track.id, name), None)
        for name in wanted:
            if one := failures.get((track.id, name)):  # the library may have another place now
                failures[track.id, name] = replace(one, path=printable(track.path))
        failed = {
            name
            for name in wanted
            if (old := failures.get((track.id, name))) and (old.file_size, old.file_mtime_ns) == stamp
        }
        again = [one.part for one in lacking if retry_failed or one.name not in failed]
        if not lacking:
            summary.unchanged += 1
            summary.known += track.id not in refreshed.before
        elif drawn is not None and track.path not in drawn:
            summary.left += 1
        elif again:
            ids, parts = files.setdefault(track.path, ([], []))
            ids.append(track.id)
            parts += [part for part in again if part not in parts]
        else:
            summary.failed_before += 1
    missing = [FileToExtract(path, tuple(ids), tuple(parts)) for path, (ids, parts) in files.items()]
    return missing, Failures(failures.values())
