"""Bringing a dataset's store up to date with its listing: only what is missing or changed is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mirembed.audio.files import file_hash, file_stamp
from mirembed.errors import StoreError
from mirembed.extract.extraction import Extraction
from mirembed.extract.files import Handling
from mirembed.extract.max_failures import MaxFailures
from mirembed.extract.moved import moved_tracks
from mirembed.extract.summary import Summary
from mirembed.hookspecs import Classification, Listing, Task, Track
from mirembed.progress import Progress, Silent
from mirembed.spectrogram import SpectrogramParameters
from mirembed.store import DatasetInfo, FeatureStore
from mirembed.store.rows import label_names


def extract(
    store: FeatureStore,
    listing: Listing,
    *,
    spec: str,
    plugin: Mapping[str, Any],
    audio: Path,
    jobs: int,
    retry_failed: bool = False,
    prune: bool = False,
    handling: Handling | None = None,
    max_failures: MaxFailures | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Bring a dataset's store up to date with its listing.

    Only what is missing or changed is decoded. Whatever ends the program, what is in the store is valid and the
    next call goes on from there.

    Parameters
    ----------
    store : FeatureStore
    listing : Listing
        Checked by `mirembed.listings.check_listing`.
    spec : str
        The dataset, as given to ``--dataset``.
    plugin : mapping
        Provenance of the dataset plugin.
    audio : pathlib.Path
        The folder that was listed; files that links put outside it fail.
    jobs : int
        Worker processes.
    retry_failed : bool
        Try files again that failed before and have not changed.
    prune : bool
        Remove tracks that are not listed.
    handling : Handling, optional
    max_failures : MaxFailures, optional
        More failures than this end the extraction.
    progress : Progress, optional

    Raises
    ------
    DatasetError
        See `Extraction.run`.
    StoreError
        If the store is busy, cannot be written, was made with other parameters, or holds another folder's tracks.
    """
    progress = progress or Silent()
    parameters = SpectrogramParameters()
    info = DatasetInfo(
        spec,
        plugin,
        listing.task,
        parameters.to_json(),
        str(audio.resolve()),
        len(listing.tracks),
        listing.absent,
    )
    with store.lock():
        summary = Summary(listed=len(listing.tracks), absent=listing.absent)
        summary.damaged = [str(path) for path in store.set_aside_damaged()]
        if not store.exists:
            store.write_info(info)
        store.check_fingerprint(parameters.to_json(), "this version of mirembed")
        moved = moved_tracks(store, listing.tracks)
        _check_same_folder(store, listing, info, prune, len(moved))
        before = store.info().task
        if isinstance(listing.task, Classification) and isinstance(before, Classification):
            # A process that is killed while it relabels leaves old labels and new ones.
            store.write_info(replace(info, task=_with_classes(listing.task, before.classes)))
        info = replace(info, task=_task(store, listing, moved, prune))
        _refresh(store, {**moved, **{track.id: track for track in listing.tracks}}, info, prune, summary)
        info = replace(info, n_unlisted=summary.unlisted)
        store.write_info(info)
        wanted = _missing(store, listing, retry_failed, summary)
        extraction = Extraction(store, info, wanted, audio, summary, progress, max_failures)
        extraction.run(jobs, handling or Handling())
        _drop_replaced(store, info)
        summary.kept = len({failure.id for failure in summary.failures} & set(store.index()["id"].to_pylist()))
    return summary


def _check_same_folder(store: FeatureStore, listing: Listing, info: DatasetInfo, prune: bool, n_moved: int) -> None:
    known = store.index()["id"].to_pylist()
    # Another folder may hold some of the same files; one in which all were renamed holds most of them.
    if n_moved < len(known) / 2 and not prune and not {track.id for track in listing.tracks} & set(known):
        raise StoreError(
            f"the store already holds {len(known)} tracks of {info.spec} from {store.info().audio}, "
            f"and none of them is in {info.audio}; use another --store, or --prune to remove them"
        )


def _task(store: FeatureStore, listing: Listing, moved: Mapping[str, Track], prune: bool) -> Task:
    """Return the listing's task, with the classes of the tracks that are kept though they are no longer listed."""
    index = store.index()
    if prune or not isinstance(listing.task, Classification) or "label" not in index.column_names:
        return listing.task
    listed = {track.id for track in listing.tracks} | set(moved)
    kept = {row["label"] for row in index.to_pylist() if row["id"] not in listed}
    return _with_classes(listing.task, kept)


def _with_classes(task: Classification, others: Iterable[str]) -> Classification:
    return Classification((*task.classes, *sorted(set(others) - set(task.classes))))


def _refresh(
    store: FeatureStore, listed: Mapping[str, Track], info: DatasetInfo, prune: bool, summary: Summary
) -> None:
    """Bring names, labels and groups of the stored tracks up to date; with ``prune``, remove those not listed.

    ``listed`` has the listed tracks by the id under which they are, or would be, stored.
    """
    index = store.index()
    if len(index) == 0:
        return
    names = label_names(info.task)
    if names != label_names(store.info().task):
        raise StoreError(
            f"{info.spec} now has {', '.join(names)}, the store {store.folder} holds "
            f"{', '.join(label_names(store.info().task))}; extract into another --store, or delete that folder"
        )
    current: dict[str, Track] = {}
    changed: set[int] = set()
    rows: dict[int, list[tuple[int, str]]] = {}
    for row in index.to_pylist():
        rows.setdefault(row["shard"], []).append((row["row"], row["id"]))
        track = listed.get(row["id"])
        stored = _stored_track(row, names)
        if track is None:
            summary.unlisted += not prune
            summary.pruned += prune
            if prune:
                changed.add(row["shard"])
                continue
        elif track.id != stored.id:
            summary.moved += 1
            changed.add(row["shard"])
        elif (track.label, track.group) != (stored.label, stored.group):
            summary.relabeled += 1
            changed.add(row["shard"])
        current[row["id"]] = track or stored
    shards = store.shards()
    for number in changed:
        store.rewrite(shards[number], [row for row, track in rows[number] if track in current], current, info)


def _drop_replaced(store: FeatureStore, info: DatasetInfo) -> None:
    """Remove the rows of files that have changed, whose new rows are in later shards."""
    names = label_names(info.task)
    tracks: dict[str, Track] = {}
    latest: dict[int, list[int]] = {}
    for row in store.index().to_pylist():
        tracks[row["id"]] = _stored_track(row, names)
        latest.setdefault(row["shard"], []).append(row["row"])
    for number, shard in enumerate(store.shards()):
        rows = latest.get(number, [])
        if len(rows) < store.n_rows(shard):
            store.rewrite(shard, rows, tracks, info)


def _stored_track(row: Mapping[str, Any], names: Sequence[str]) -> Track:
    label = tuple(row[name] for name in names)
    return Track(row["id"], Path(row["path"]), label[0] if isinstance(label[0], str) else label, row["group"])


def _missing(store: FeatureStore, listing: Listing, retry_failed: bool, summary: Summary) -> list[Track]:
    """Return the listed tracks whose file is not in the store as it is now."""
    stored = {row["id"]: row for row in store.index().to_pylist()}
    listed = {track.id for track in listing.tracks}
    failed = {failure.id: failure for failure in store.failures() if failure.id in listed}
    wanted = []
    for track in listing.tracks:
        stamp = file_stamp(track.path)
        row, failure = stored.get(track.id), failed.get(track.id)
        if row is not None and (
            (row["file_size"], row["file_mtime_ns"]) == stamp or row["file_hash"] == file_hash(track.path)
        ):
            # A stamp that differs stays: refreshing it would write the frames of the whole shard anew.
            summary.unchanged += 1
            failed.pop(track.id, None)
        elif failure is not None and (failure.file_size, failure.file_mtime_ns) == stamp and not retry_failed:
            summary.failed_before += 1
        else:
            wanted.append(track)
    summary.failures = list(failed.values())
    return wanted
