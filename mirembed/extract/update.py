"""Bring a dataset's store up to date with its listing: only what is missing or changed is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mirembed.audio.files import file_hash, file_stamp
from mirembed.errors import StoreError
from mirembed.extract.extraction import Extraction, MaxFailures
from mirembed.extract.file_features import ExtractOptions
from mirembed.extract.summary import Summary
from mirembed.hookspecs import Classification, Listing, Track
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.spectrogram import SpectrogramParameters
from mirembed.store import DatasetInfo, FeatureStore
from mirembed.store.rows import label_names

Row = Mapping[str, Any]
"""A row of `FeatureStore.index`."""


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
    options: ExtractOptions | None = None,
    max_failures: MaxFailures | None = None,
    progress: Progress = NO_PROGRESS,
) -> Summary:
    """Bring a dataset's store up to date with its listing.

    Only what is missing or changed is decoded. Whatever ends the program, the store stays valid and the next call
    continues from there.

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
    options : ExtractOptions, optional
    max_failures : MaxFailures, optional
        Stop when more files than this fail.
    progress : Progress

    Raises
    ------
    DatasetError
        See `Extraction.run`.
    StoreError
        The store is busy, cannot be written, was made with other parameters, or holds another folder's tracks.
    """
    tracks = listing.tracks
    parameters = SpectrogramParameters().to_json()
    info = DatasetInfo(
        spec, plugin, listing.task, parameters, str(audio.resolve()), n_listed=len(tracks), n_absent=listing.absent
    )
    with store.lock():
        summary = Summary(listed=len(tracks), absent=listing.absent)
        summary.damaged = [str(path) for path in store.set_aside_damaged()]
        if not store.exists:
            store.write_info(info)
        store.check_parameters(parameters, "this version of mirembed")
        rows = store.index().to_pylist()
        moved = _moved_tracks(rows, tracks)
        known = {track.id for track in tracks} & {row["id"] for row in rows}
        # Another folder may hold some of the same files; one in which all were renamed holds most of them.
        if not known and not prune and len(moved) < len(rows) / 2:
            raise StoreError(
                f"the store already has {len(rows)} tracks of {spec} from {store.info().audio}, and none of them is in "
                f"{info.audio}; use another --store, or --prune to remove them"
            )
        listed = {**moved, **{track.id: track for track in tracks}}
        info = _refresh(store, rows, listed, info, prune, summary)
        missing = _missing(store, tracks, retry_failed, summary)
        Extraction(store, info, missing, audio, options, summary, progress, max_failures).run(jobs)
        rows = store.index().to_pylist()
        _drop_replaced(store, rows, info)
        summary.kept = len({failure.id for failure in summary.failures} & {row["id"] for row in rows})
    return summary


def _moved_tracks(rows: Sequence[Row], tracks: Sequence[Track]) -> dict[str, Track]:
    """Find the tracks that the store has under an id that is no longer listed.

    Returns
    -------
    dict of str to Track
        By the stored id, the listed track whose file has the same bytes. If several stored tracks have these bytes,
        each is used once.
    """
    listed = {track.id for track in tracks}
    stored = {row["id"] for row in rows}
    gone: dict[int, dict[str, list[str]]] = {}
    for row in rows:
        if row["id"] not in listed:
            gone.setdefault(row["file_size"], {}).setdefault(row["file_hash"], []).append(row["id"])
    found: dict[str, Track] = {}
    for track in tracks:
        # Only a file of the right size is worth reading.
        same_size = {} if track.id in stored else gone.get(file_stamp(track.path)[0], {})
        if same_size and (same := same_size.get(file_hash(track.path))):
            found[same.pop(0)] = track
    return found


def _refresh(
    store: FeatureStore,
    rows: Sequence[Row],
    listed: Mapping[str, Track],
    info: DatasetInfo,
    prune: bool,
    summary: Summary,
) -> DatasetInfo:
    """Bring ids, labels and groups of the stored tracks up to date; with ``prune``, remove unlisted tracks.

    Parameters
    ----------
    rows
        The index of the store.
    listed : mapping of str to Track
        Listed tracks by the id under which they are, or would be, stored.

    Returns
    -------
    DatasetInfo
        The new ``dataset.json``, with the classes of unlisted tracks that are kept.
    """
    before, names = store.info().task, label_names(info.task)
    if rows and names != label_names(before):
        raise StoreError(
            f"{info.spec} now has the labels {', '.join(names)}, but the store {store.folder} has "
            f"{', '.join(label_names(before))}; extract into another --store, or delete that folder"
        )
    if isinstance(info.task, Classification) and isinstance(before, Classification):
        # A process that is killed while it relabels leaves both old and new labels.
        store.write_info(_with_classes(info, before.classes))
        info = _with_classes(info, [row["label"] for row in rows if row["id"] not in listed and not prune])
    current: dict[str, Track] = {}
    kept: dict[int, list[int]] = {}
    changed: set[int] = set()
    for row in rows:
        stored = _stored_track(row, names)
        track = listed.get(stored.id)
        if track is None and prune:
            summary.pruned += 1
            changed.add(row["shard"])
            continue
        if track is None:
            summary.unlisted += 1
        elif track.id != stored.id:
            summary.moved += 1
            changed.add(row["shard"])
        elif (track.label, track.group) != (stored.label, stored.group):
            summary.relabeled += 1
            changed.add(row["shard"])
        current[stored.id] = track or stored
        kept.setdefault(row["shard"], []).append(row["row"])
    shards = store.shards()
    for number in changed:
        store.rewrite(shards[number], kept.get(number, []), current, info)
    info = replace(info, n_unlisted=summary.unlisted)
    store.write_info(info)
    return info


def _with_classes(info: DatasetInfo, others: Iterable[str]) -> DatasetInfo:
    assert isinstance(info.task, Classification)  # noqa: S101
    classes = info.task.classes
    return replace(info, task=Classification((*classes, *sorted(set(others) - set(classes)))))


def _stored_track(row: Row, names: Sequence[str]) -> Track:
    label = tuple(row[name] for name in names)
    return Track(row["id"], Path(row["path"]), label[0] if isinstance(label[0], str) else label, row["group"])


def _missing(store: FeatureStore, tracks: Sequence[Track], retry_failed: bool, summary: Summary) -> list[Track]:
    """Return the listed tracks whose file, as it is now, is not in the store."""
    stored = {row["id"]: row for row in store.index().to_pylist()}
    listed = {track.id for track in tracks}
    failed = {failure.id: failure for failure in store.failures() if failure.id in listed}
    missing = []
    for track in tracks:
        stamp = file_stamp(track.path)
        row, failure = stored.get(track.id), failed.get(track.id)
        if row is not None and (
            (row["file_size"], row["file_mtime_ns"]) == stamp or row["file_hash"] == file_hash(track.path)
        ):
            # A stamp that differs stays: refreshing it would rewrite the frames of the whole shard.
            summary.unchanged += 1
            failed.pop(track.id, None)
        elif failure is not None and (failure.file_size, failure.file_mtime_ns) == stamp and not retry_failed:
            summary.failed_before += 1
        else:
            missing.append(track)
    summary.failures = list(failed.values())
    return missing


def _drop_replaced(store: FeatureStore, rows: Sequence[Row], info: DatasetInfo) -> None:
    """Remove the rows of files that have changed, whose new rows are in later shards."""
    names = label_names(info.task)
    tracks = {row["id"]: _stored_track(row, names) for row in rows}
    latest: dict[int, list[int]] = {}
    for row in rows:
        latest.setdefault(row["shard"], []).append(row["row"])
    for number, shard in enumerate(store.shards()):
        current = latest.get(number, [])
        if len(current) < store.n_rows(shard):
            store.rewrite(shard, current, tracks, info)
