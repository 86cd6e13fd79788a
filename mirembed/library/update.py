"""Bring the embeddings of a library up to date: embed new files, follow moved ones, remove missing ones.

Frames that are not in the store are computed, embedded and thrown away. However an update ends, the next one continues
from there: embeddings are added in shards, which appear whole or not at all, and merged at the end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import file_hash, file_stamp, printable
from mirembed.audio.folders import is_missing, read_folders
from mirembed.datasets.catalog import audio_folder, list_dataset
from mirembed.errors import DatasetError, StoreError
from mirembed.extract import (
    ExtractOptions,
    Failures,
    Features,
    FileToExtract,
    Refreshed,
    Summary,
    extract,
    failures_of,
    missing_files,
    refresh,
)
from mirembed.extract.summary import file_lines, has_failures, ids_of
from mirembed.features.info import FeaturesInfo, distinct_parts
from mirembed.hookspecs import Track
from mirembed.interruption import interruptible, raise_if_interrupted
from mirembed.library.index import open_index
from mirembed.models.combined import load_model
from mirembed.models.inference import EmbeddedFile, embed_decoded, embed_frames
from mirembed.models.kept import SHARD_ROWS, SHARD_SECONDS
from mirembed.models.saved import features_in, read_identity, read_manifest
from mirembed.progress import NO_PROGRESS, Progress, counted, duration, joined
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import DatasetStore, EmbeddingRows, Failure, RecordingFacts, Store
from mirembed.store.file_tags import KnownFileTags
from mirembed.store.recordings import facts_of_frames, real_path

TRACKS_SECONDS = 60.0
"""How often the table of tracks is written. After a kill, later recordings are found by reading the files."""


@dataclass
class Updated:
    """What an update did.

    Attributes
    ----------
    model, dataset : str
    embeddings : pathlib.Path
        The table of embeddings.
    listed : int
        Tracks that the dataset lists.
    with_embeddings : int
        Listed tracks that have an embedding now.
    embedded : int
        Listed tracks that this update embedded.
    known : int
        Listed tracks whose recordings had an embedding before.
    moved : int
        Tracks that were renamed or moved; they are recognized by their content.
    pruned : int
        Tracks that were removed, because they are no longer listed.
    relabeled : int
        Tracks with another label or group than before.
    dropped : int
        Tracks whose files have changed and cannot be read: their old embeddings do not count any more.
    notes : dict of str to str
        Warnings about files that were decoded, by path.
    failures : list of Failure
        Files that could not be embedded, now or before.
    new_failures : list of Failure
        Those that no earlier run has reported.
    failed_before : int
        Failures that were not tried again, because the files have not changed.
    audio_seconds : float
        Duration of the recordings that this update embedded, without those of unknown duration.
    hours : float
        Duration of all listed tracks that have an embedding.
    seconds_elapsed : float
        How long the update took.
    """

    model: str
    dataset: str
    embeddings: Path
    listed: int = 0
    with_embeddings: int = 0
    embedded: int = 0
    known: int = 0
    moved: int = 0
    pruned: int = 0
    relabeled: int = 0
    dropped: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    new_failures: list[Failure] = field(default_factory=list)
    failed_before: int = 0
    audio_seconds: float = 0.0
    hours: float = 0.0
    seconds_elapsed: float = 0.0

    @property
    def has_failures(self) -> bool:
        """Whether there are failures that are new, or that the user has not accepted."""
        return has_failures(self.new_failures, self.failures)

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON, with the ids of the new failures."""
        return {**asdict(self), "embeddings": str(self.embeddings), "new_failures": ids_of(self.new_failures)}

    def lines(self) -> list[str]:
        """Return the summary in words, without the counts that are zero."""
        embedded = f"{self.with_embeddings} of {counted(self.listed, 'track')} embedded by {self.model}"
        lines = [
            f"{self.dataset}: {embedded}, {self.hours:.1f} hours of music",
            f"{self.embedded} embedded now, {self.known} before, in {duration(self.seconds_elapsed)}",
        ]
        changes = [
            (self.moved, f"{counted(self.moved, 'track')} moved or renamed, not decoded again"),
            (self.relabeled, f"{counted(self.relabeled, 'track')} with a new label or group"),
            (self.pruned, f"removed {counted(self.pruned, 'unlisted track')}"),
            (self.dropped, f"dropped the old embeddings of {counted(self.dropped, 'changed file')} that failed"),
        ]
        lines += [line for happened, line in changes if happened]
        return lines + file_lines(self.notes, self.new_failures, self.failures)


def update(
    store: Store,
    registry: Registry,
    model: str,
    *,
    dataset: Spec | None = None,
    audio: Path | None = None,
    keep_features: bool = False,
    retry_failed: bool = False,
    accept_failures: bool | None = None,
    confirm: Callable[[str], None] = lambda question: None,
    jobs: int = 1,
    options: ExtractOptions | None = None,
    progress: Progress = NO_PROGRESS,
) -> Updated:
    """List a dataset again, and embed the recordings that a model has not embedded.

    Parameters
    ----------
    store : Store
    registry : Registry
    model : str
        The folder of a model, or its name in the store.
    dataset : Spec, optional
        Default: the one that the model was fitted to.
    audio : pathlib.Path, optional
        The audio folder. Default: the one of the last listing.
    keep_features : bool
        Keep the frames in the store.
    retry_failed : bool
        Retry files that failed before and have not changed.
    accept_failures : bool, optional
        Whether to accept the failures of the model's features, or to take that back. See `Updated.has_failures`.
    confirm : callable
        Called before more than a tenth of the tracks are removed, with a text that says so; raises an error to prevent
        it.
    jobs : int
        Worker processes.
    options : ExtractOptions, optional
    progress : Progress, optional

    Raises
    ------
    DatasetError
        The audio folder is missing, empty or another dataset's.
    ModelError
        There is no such model, or it is damaged.
    MismatchError
        The model takes features that the installed plugins compute differently.
    StoreError
        The store is busy, or cannot be written.
    """
    began = time.monotonic()
    folder, provenance = read_identity(store.models, model)
    features = features_in(read_manifest(folder))
    spec = _spec(store, dataset or Spec.parse(provenance["dataset"]["spec"]), audio)
    file_tags = KnownFileTags(store)
    audio = audio_folder(registry, spec, audio, store, progress, file_tags)
    if is_missing(audio):
        raise DatasetError(
            f"the audio folder {audio} of dataset {spec} is empty or unreadable, so nothing was changed; connect its "
            "drive, or give the folder with --audio DIR"
        )
    folders = read_folders(audio)  # before the files, so that what changes in the meantime is found later
    listing, _ = list_dataset(registry, spec, audio, store, progress, file_tags)
    store.create()
    about: dict[str, Any] = {"spec": str(spec), "plugin": registry.provenance("dataset", spec), "audio": audio}
    shared: dict[str, Any] = {"file_tags": file_tags, "folders": folders, "confirm": confirm, "progress": progress}
    summary = Summary(listed=len(listing.tracks), absent=listing.absent)
    if keep_features:
        summary = extract(
            store,
            listing,
            **about,
            **shared,
            features=features,
            jobs=jobs,
            retry_failed=retry_failed,
            prune=True,
            options=options,
        )
        retry_failed = False  # they have just been tried
    found, stored = store.dataset(spec), store.embeddings(folder.name)
    with found.lock(), stored.lock():
        again = Summary(listed=len(listing.tracks), absent=listing.absent)
        refreshed = refresh(store, listing, **about, **shared, features={}, prune=True, summary=again)
        work = _Update(
            store=store,
            registry=registry,
            folder=folder,
            digest=str(provenance["digest"]),
            features=features,
            dataset=found,
            refreshed=refreshed,
            audio=audio,
            jobs=jobs,
            options=options or ExtractOptions(),
            accept_failures=accept_failures,
            progress=progress,
        )
        done = work.run(listing.tracks, retry_failed)
    # Here, because the first query should not take longer than the others.
    open_index(store, found, refreshed.info.task, folder.name, str(provenance["digest"]))
    if keep_features:
        done.failed_before, done.notes = summary.failed_before, {**summary.notes, **done.notes}
        new = {failure.id for failure in (*summary.new_failures, *done.new_failures)}
        done.new_failures = [failure for failure in done.failures if failure.id in new]
    done.moved += summary.moved + again.moved
    done.pruned += summary.pruned + again.pruned
    done.relabeled += summary.relabeled + again.relabeled
    done.seconds_elapsed = time.monotonic() - began
    return done


def _spec(store: Store, wanted: Spec, audio: Path | None) -> Spec:
    """Return the spec of the dataset as it is in the store; a dataset that is not in the store needs ``audio``."""
    try:
        return Spec.parse(store.find(wanted).info().spec)
    except StoreError:
        if audio is None:
            raise
        return wanted


@dataclass
class _Update:
    """Embeds the recordings that a model has not embedded; see `update`.

    Parameters
    ----------
    store : Store
    registry : Registry
    folder : pathlib.Path
        Folder of the model.
    digest : str
        Digest of its network.
    features : tuple of FeaturesInfo
        Features that the model takes.
    dataset : DatasetStore
    refreshed : Refreshed
        The tracks of the dataset; new recordings are added to them.
    audio : pathlib.Path
        The audio folder.
    jobs : int
    options : ExtractOptions
    accept_failures : bool or None
        See `Failures.report`.
    progress : Progress
    """

    store: Store
    registry: Registry
    folder: Path
    digest: str
    features: tuple[FeaturesInfo, ...]
    dataset: DatasetStore
    refreshed: Refreshed
    audio: Path
    jobs: int
    options: ExtractOptions
    accept_failures: bool | None
    progress: Progress

    def __post_init__(self) -> None:
        self._stored = self.store.embeddings(self.folder.name)
        table = self._stored.table(self.digest, ["duration"])
        self._before = dict(zip(table["recording"].to_pylist(), table["duration"].to_pylist(), strict=True))
        self._new: dict[str, float | None] = {}
        self._waiting: dict[str, tuple[NDArray[np.float32], RecordingFacts]] = {}
        manifest = read_manifest(self.folder)
        self._trained_on = {*manifest["recordings"], *manifest["audio_hashes"]}
        self._failures = Failures()
        self._notes: dict[str, str] = {}
        self._parts = distinct_parts(self.features)
        self._names = [self.store.features(part).name for part in self._parts]
        self._written_at = self._tracks_written_at = time.monotonic()

    def run(self, tracks: Sequence[Track], retry_failed: bool) -> Updated:
        """Embed the listed tracks without an embedding, and merge the shards. Finished work is always kept."""
        facts = facts_of_frames(self.store, self._parts)
        having = self._before.keys() | facts.keys()
        wanted = [Features(part, name, set(having)) for part, name in zip(self._parts, self._names, strict=True)]
        counts = Summary(listed=len(tracks), absent=0)
        missing, self._failures = missing_files(self.dataset, tracks, self.refreshed, wanted, retry_failed, counts)
        # If one of several features has failed, the others are of no use.
        files = [file for file in missing if len(file.features) == len(self._parts)]
        failed_before = (
            counts.failed_before + sum(len(file.ids) for file in missing) - sum(len(file.ids) for file in files)
        )
        with_frames = set(self.refreshed.recordings.values()) & facts.keys() - self._before.keys()
        self.progress.start("embedding", len(with_frames) + len(files))
        if with_frames or files:
            try:
                self._embed(with_frames, facts, files)
            finally:
                self._write()
                if files:
                    self._write_tracks()
        new_failures = self._failures.report(self._names, self.accept_failures)
        self._write_failures()
        dropped = self._drop_changed()
        self._stored.merge(self.digest, self._used_recordings())
        done = self._summarize(tracks)
        return replace(done, failed_before=failed_before, new_failures=new_failures, dropped=dropped)

    def _embed(
        self, with_frames: set[str], facts: Mapping[str, RecordingFacts], files: Sequence[FileToExtract]
    ) -> None:
        with interruptible():  # it may import scikit-learn
            model = load_model(self.folder, self.registry)
        if with_frames:
            for batch in embed_frames(model, self.store, with_frames, self.progress):
                for recording, vector in batch.items():
                    self._add(recording, vector, facts[recording])
                self._write_sometimes()
                self.progress.update(len(self._new))
            self._fail_unstacked(with_frames - self._new.keys())
        if not files:
            return
        distinct, copies = _distinct(files)
        n_done = len(self._new) + len(files) - len(distinct)
        decoded = embed_decoded(
            model,
            self.registry,
            distinct,
            self.jobs,
            self.progress,
            n_done=n_done,
            options=self.options,
            folder=self.audio,
        )
        with contextlib.closing(decoded):
            for number, found in decoded:
                file = distinct[number]
                if isinstance(found, str):
                    for one in (file, *(copy for copy, _ in copies.get(file.path, ()))):
                        self._fail(one, found)
                else:
                    self._take(file, found, copies.get(file.path, ()))
                self._write_sometimes()

    def _take(self, file: FileToExtract, found: EmbeddedFile, copies: Sequence[tuple[FileToExtract, _Content]]) -> None:
        """Keep the embedding of a file, also for its copies."""
        result = found.file
        size, mtime = result.file_size, result.file_mtime_ns
        if result.notes:
            self._notes[printable(file.path)] = "; ".join(result.notes)
        self._add(result.recording, found.vector, RecordingFacts(result.audio_hash, result.duration or None, size))
        self._found(file, result.recording, (size, mtime))
        for copy, content in copies:
            if content.recording == result.recording:  # otherwise the file has just changed
                self._found(copy, content.recording, content.stamp)

    def _found(self, file: FileToExtract, recording: str, stamp: tuple[int, int]) -> None:
        tracks = self.refreshed.tracks
        for track in file.ids:
            tracks[track] = replace(tracks[track], recording=recording, file_size=stamp[0], file_mtime_ns=stamp[1])
            for name in self._names:
                self._failures.discard(track, name)

    def _fail(self, file: FileToExtract, reason: str) -> None:
        for failure in failures_of(file, dict.fromkeys(self._names, reason), self.audio):
            self._failures.add(failure)

    def _fail_unstacked(self, recordings: set[str]) -> None:
        named = joined([one.spec for one in self.features if len(one.parts) > 1], "or")
        for track in self.refreshed.tracks.values():
            if track.recording in recordings:
                file = FileToExtract(real_path(track.path), (track.id,), self._parts)
                self._fail(file, f"its features {named} differ too much in length")

    def _add(self, recording: str, vector: NDArray[np.float32], facts: RecordingFacts) -> None:
        self._new[recording] = facts.duration
        self._waiting[recording] = vector, facts

    def _write_sometimes(self) -> None:
        now = time.monotonic()
        if len(self._waiting) >= SHARD_ROWS or now - self._written_at > SHARD_SECONDS:
            self._write()
            self._write_failures()
            if now - self._tracks_written_at > TRACKS_SECONDS:
                self._write_tracks()

    def _write(self) -> None:
        # Emptied first, so that a shard that could not be written is not tried again on the way out.
        waiting, self._waiting = self._waiting, {}
        self._written_at = time.monotonic()
        if not waiting:
            return
        vectors = {recording: vector for recording, (vector, _) in waiting.items()}
        facts = {recording: facts for recording, (_, facts) in waiting.items()}
        self._stored.append(self.digest, EmbeddingRows.of(vectors, facts, self._trained_on))

    def _write_tracks(self) -> None:
        self.dataset.write_tracks(self.refreshed.tracks.values(), self.dataset.info())
        self._tracks_written_at = time.monotonic()

    def _write_failures(self) -> None:
        failures = list(self._failures)
        if failures != self.dataset.failures():
            self.dataset.write_failures(failures)

    def _drop_changed(self) -> int:
        """Forget the recordings of files that have changed and cannot be read; return the number of their tracks."""
        tracks, dropped = self.refreshed.tracks, 0
        for failure in self._failures:
            track, stamp = tracks[failure.id], (failure.file_size, failure.file_mtime_ns)
            if failure.features in self._names and track.recording and (track.file_size, track.file_mtime_ns) != stamp:
                tracks[track.id] = replace(track, recording=None, file_size=-1, file_mtime_ns=-1)
                dropped += 1
        if dropped:
            self._write_tracks()
        return dropped

    def _used_recordings(self) -> set[str] | None:
        """Return the recordings that any dataset refers to; None if one is damaged."""
        used: set[str] = set()
        try:
            for dataset in self.store.datasets():
                used.update(dataset.columns("recording")["recording"].to_pylist())
        except StoreError:
            return None
        return used

    def _summarize(self, tracks: Sequence[Track]) -> Updated:
        stored = self.refreshed.tracks
        recordings = [stored[track.id].recording for track in tracks]
        embedded = [name for name in recordings if name in self._new]
        known = [name for name in recordings if name in self._before and name not in self._new]
        seconds = {**self._before, **self._new}
        return Updated(
            model=self.folder.name,
            dataset=self.refreshed.info.spec,
            embeddings=self._stored.path,
            listed=len(tracks),
            with_embeddings=len(embedded) + len(known),
            embedded=len(embedded),
            known=len(known),
            failures=[one for one in self._failures if one.features in self._names],
            notes=self._notes,
            audio_seconds=sum(value or 0.0 for value in self._new.values()),
            hours=sum(seconds[name] or 0.0 for name in (*embedded, *known) if name is not None) / 3600,
        )


@dataclass(frozen=True)
class _Content:
    """The recording in a file, and the size and modification time of the file when it was read."""

    recording: str
    stamp: tuple[int, int]


def _distinct(
    files: Sequence[FileToExtract],
) -> tuple[list[FileToExtract], dict[Path, list[tuple[FileToExtract, _Content]]]]:
    """Return the files without copies of others, and the copies by the path of the file that is decoded instead.

    Only files of equal size are read.
    """
    by_size: dict[int, list[FileToExtract]] = {}
    for file in files:
        by_size.setdefault(file_stamp(file.path)[0], []).append(file)
    first: dict[str, Path] = {}
    copies: dict[Path, list[tuple[FileToExtract, _Content]]] = {}
    are_copies: set[Path] = set()
    for same in by_size.values():
        for file in same if len(same) > 1 else ():
            raise_if_interrupted()
            stamp = file_stamp(file.path)  # taken before reading, so that a change in the meantime is found later
            content = _Content(file_hash(file.path), stamp)
            if content.recording and (original := first.setdefault(content.recording, file.path)) != file.path:
                copies.setdefault(original, []).append((file, content))
                are_copies.add(file.path)
    return [file for file in files if file.path not in are_copies], copies
