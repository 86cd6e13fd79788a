"""Many files → store: workers, failures, resume."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mirembed import workers
from mirembed.errors import AudioError, DatasetError, StoreError
from mirembed.hookspecs import Classification, Listing, Task, Track
from mirembed.progress import Progress, Silent
from mirembed.spectrogram import SpectrogramParameters, spectrogram
from mirembed.store import DatasetInfo, Failure, FeatureStore, SpectrogramRow
from mirembed.store.features import label_names

SHARD_ROWS = 128
SHARD_SECONDS = 20.0
"""A shard is written when it is full or this old: what a killed process loses."""


@dataclass
class Summary:
    """What an extraction did, in tracks.

    Attributes
    ----------
    listed, absent : int
        What the dataset listed, and annotated tracks without audio.
    extracted, unchanged, relabelled : int
        Done now; in the store already; in the store with another label or group, which is now the listed one.
    failures : list of Failure
        All that stand in the failures table after this run.
    failed_before : int
        Those of them that failed in an earlier run, have not changed, and so were not tried again.
    unlisted, pruned : int
        In the store but no longer listed: kept, or removed because that was asked.
    chatter : int
        Lines that decoders wrote and that were not shown.
    damaged : list of str
        Shards that could not be read and were set aside.
    """

    listed: int
    absent: int
    extracted: int = 0
    unchanged: int = 0
    relabelled: int = 0
    failures: list[Failure] = field(default_factory=list)
    failed_before: int = 0
    unlisted: int = 0
    pruned: int = 0
    chatter: int = 0
    damaged: list[str] = field(default_factory=list)

    def to_json(self, dataset: str) -> dict[str, Any]:
        """Return the summary as JSON."""
        return {"dataset": dataset, **asdict(self)}

    def lines(self, dataset: str) -> list[str]:
        """Return the summary in words, saying only what happened."""
        stored = self.extracted + self.unchanged
        lines = [f"{dataset}: {stored} of {self.listed} tracks in the store, {self.extracted} of them new"]
        if self.absent:
            lines.append(f"{self.absent} annotated tracks have no audio here")
        if self.relabelled:
            lines.append(f"{self.relabelled} tracks got a new label or group; they were not decoded again")
        if self.unlisted:
            lines.append(
                f"{self.unlisted} tracks in the store are no longer listed; they are kept: --prune removes them"
            )
        if self.pruned:
            lines.append(f"{self.pruned} tracks that are no longer listed were removed")
        if self.damaged:
            lines.append(f"{len(self.damaged)} damaged shards were set aside: {', '.join(self.damaged)}")
        if self.chatter:
            lines.append(f"{self.chatter} lines of decoder messages were silenced")
        if self.failures:
            lines.append(f"{len(self.failures)} files failed (their reasons are in failures.parquet):")
            lines += [f"  {failure.path}: {failure.reason}" for failure in self.failures[:10]]
            if len(self.failures) > 10:
                lines.append(f"  and {len(self.failures) - 10} more")
        if self.failed_before:
            lines.append(f"{self.failed_before} of them failed before and have not changed: --retry-failed tries again")
        return lines


def check_listing(listing: Listing, plugin: str) -> None:
    """Check what a dataset plugin promises.

    Raises
    ------
    DatasetError
        If there is no track, an id is doubled, or a label is not one of the task's.
    """
    if not listing.tracks:
        raise DatasetError(f"{plugin} lists no track in this folder; check --audio")
    label_names(listing.task)
    seen: dict[str, Track] = {}
    for track in listing.tracks:
        if track.id in seen:
            raise DatasetError(
                f"{plugin} lists {track.id!r} twice ({seen[track.id].path} and {track.path}); ids must be unique"
            )
        seen[track.id] = track
        if isinstance(listing.task, Classification):
            if track.label not in listing.task.classes:
                raise DatasetError(f"{plugin}: {track.id} has the label {track.label!r}, which is no class of it")
            continue
        if isinstance(track.label, str) or len(track.label) != len(listing.task.targets):
            raise DatasetError(f"{plugin}: {track.id} needs {len(listing.task.targets)} values, has {track.label!r}")
        for target, value in zip(listing.task.targets, track.label, strict=True):
            low = -np.inf if target.low is None else target.low
            high = np.inf if target.high is None else target.high
            if not (np.isfinite(value) and low <= value <= high):
                raise DatasetError(f"{plugin}: {track.id} has {target.name}={value}, outside {low} to {high}")


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
    progress: Progress | None = None,
) -> Summary:
    """Bring a dataset's store up to date with its listing.

    Only what is missing or changed is decoded. Whatever ends the program, what is in the store is valid and the
    next call goes on from there.

    Raises
    ------
    DatasetError
        See `check_listing`.
    StoreError
        If the store is busy, cannot be written, was made with other parameters, or holds another folder's tracks.
    """
    progress = progress or Silent()
    check_listing(listing, spec)
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
        _check_same_folder(store, listing, info, prune)
        info = replace(info, task=_task(store, listing, prune))
        _refresh(store, listing, info, prune, summary)
        store.write_info(info)
        wanted = _missing(store, listing, retry_failed, summary)
        _extract_tracks(store, wanted, info, jobs, summary, progress)
        _drop_replaced(store, info)
    return summary


def _check_same_folder(store: FeatureStore, listing: Listing, info: DatasetInfo, prune: bool) -> None:
    known = store.index()["id"].to_pylist()
    if known and not prune and not {track.id for track in listing.tracks} & set(known):
        raise StoreError(
            f"the store already holds {len(known)} tracks of {info.spec} from {store.info().audio}, "
            f"and none of them is in {info.audio}; use another --store, or --prune to remove them"
        )


def _task(store: FeatureStore, listing: Listing, prune: bool) -> Task:
    """Return the listing's task, with the classes of the tracks that are kept though they are no longer listed."""
    index = store.index()
    if prune or not isinstance(listing.task, Classification) or "label" not in index.column_names:
        return listing.task
    listed = {track.id for track in listing.tracks}
    kept = {row["label"] for row in index.to_pylist() if row["id"] not in listed}
    return Classification((*listing.task.classes, *sorted(kept - set(listing.task.classes))))


def _refresh(store: FeatureStore, listing: Listing, info: DatasetInfo, prune: bool, summary: Summary) -> None:
    """Bring labels and groups of the stored tracks up to date; with ``prune``, remove those not listed."""
    index = store.index()
    if len(index) == 0:
        return
    names = label_names(info.task)
    if names != label_names(store.info().task):
        raise StoreError(
            f"{info.spec} now has {', '.join(names)}, the store {store.folder} holds "
            f"{', '.join(label_names(store.info().task))}; extract into another --store, or delete that folder"
        )
    listed = {track.id: track for track in listing.tracks}
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
        elif (track.label, track.group) != (stored.label, stored.group):
            summary.relabelled += 1
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
        stamp = _stamp(track.path)
        row, failure = stored.get(track.id), failed.get(track.id)
        if row is not None and (
            (row["file_size"], row["file_mtime_ns"]) == stamp or row["file_hash"] == _file_hash(track.path)
        ):
            summary.unchanged += 1
            failed.pop(track.id, None)
        elif failure is not None and (failure.file_size, failure.file_mtime_ns) == stamp and not retry_failed:
            summary.failed_before += 1
        else:
            wanted.append(track)
    summary.failures = list(failed.values())
    return wanted


def _extract_tracks(
    store: FeatureStore,
    tracks: Sequence[Track],
    info: DatasetInfo,
    jobs: int,
    summary: Summary,
    progress: Progress,
) -> None:
    failures = {failure.id: failure for failure in summary.failures}
    progress.start("extracting", len(tracks))
    pending: list[SpectrogramRow] = []
    written_at = time.monotonic()
    try:
        for outcome in extract_files([track.path for track in tracks], jobs):
            track = tracks[outcome.index]
            if isinstance(outcome.result, str):
                failures[track.id] = _failure(track, outcome.result)
            else:
                failures.pop(track.id, None)
                extracted = outcome.result
                summary.chatter += extracted.chatter
                pending.append(_row(track, extracted))
            progress.update(outcome.number)
            if len(pending) >= SHARD_ROWS or (pending and time.monotonic() - written_at > SHARD_SECONDS):
                _flush(store, pending, info, summary)
                written_at = time.monotonic()
    finally:
        # Also after ctrl-C: what was extracted is kept.
        _flush(store, pending, info, summary)
        summary.failures = sorted(failures.values(), key=lambda failure: failure.id)
        store.write_failures(summary.failures)


def _flush(store: FeatureStore, pending: list[SpectrogramRow], info: DatasetInfo, summary: Summary) -> None:
    if pending:
        rows = pending.copy()
        # Emptied first: a shard that could not be written is not tried a second time on the way out.
        pending.clear()
        store.append(rows, info)
        summary.extracted += len(rows)


@dataclass(frozen=True)
class ExtractedFile:
    """What a worker makes of one file."""

    frames: np.ndarray[Any, np.dtype[np.float32]]
    duration: float
    file_hash: str
    audio_hash: str
    file_size: int
    file_mtime_ns: int
    chatter: int


@dataclass(frozen=True)
class FileOutcome:
    """One file's spectrogram, or the reason why there is none.

    Attributes
    ----------
    index : int
        Of the path in the call.
    number : int
        How many outcomes have come, this one included.
    result : ExtractedFile or str
    """

    index: int
    number: int
    result: ExtractedFile | str


def extract_files(paths: Sequence[Path], jobs: int) -> Iterator[FileOutcome]:
    """Compute the spectrograms of files in worker processes, in the order in which they are ready."""
    for number, outcome in enumerate(workers.run(_extract_file, list(map(str, paths)), max(1, jobs)), 1):
        if isinstance(outcome, workers.Crashed):
            yield FileOutcome(outcome.index, number, outcome.reason)
        else:
            yield FileOutcome(outcome.index, number, outcome.result)


def _extract_file(name: str) -> ExtractedFile | str:
    path = Path(name)
    try:
        size, mtime = _stamp(path)
        result = spectrogram(path)
        return ExtractedFile(
            frames=result.frames,
            duration=result.duration,
            file_hash=_file_hash(path),
            audio_hash=result.audio_hash,
            file_size=size,
            file_mtime_ns=mtime,
            chatter=result.chatter,
        )
    except AudioError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except MemoryError:
        return "needs more memory than there is"


def _row(track: Track, file: ExtractedFile) -> SpectrogramRow:
    return SpectrogramRow(
        id=track.id,
        label=track.label,
        group=track.group,
        path=str(track.path),
        duration=file.duration,
        file_hash=file.file_hash,
        audio_hash=file.audio_hash,
        file_size=file.file_size,
        file_mtime_ns=file.file_mtime_ns,
        frames=file.frames,
    )


def _failure(track: Track, reason: str) -> Failure:
    size, mtime = _stamp(track.path)
    retry = "mend or replace the file and run the same command again, or try it as it is with --retry-failed"
    return Failure(track.id, str(track.path), reason, retry, size, mtime)


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time stamp of a file, in bytes and nanoseconds; (-1, -1) when it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _file_hash(path: Path) -> str:
    # Opening a pipe or a device would wait for ever.
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return ""
