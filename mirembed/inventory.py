"""What a store holds, how large it is, and whether it is sound.

Verifying a store reads every file, checks it against its checksums, and checks the tables against each other.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from mirembed.errors import MirembedError, StoreError
from mirembed.hookspecs import Regression
from mirembed.interruption import interruptible
from mirembed.models.saved import MANIFEST, ModelSummary, is_network_of, list_models, model_faults, summarize_model
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.runs.folder import RunFolder, list_runs
from mirembed.runs.record import run_faults
from mirembed.runs.summary import RunSummary, summarize
from mirembed.store import DatasetStore, FeatureShards, Store, StoredEmbeddings
from mirembed.store.datasets import FAILURES, FILE_TAGS, FOLDERS, SCHEMES
from mirembed.store.features import INFO, check_digest, row_groups
from mirembed.store.files import TEMPORARY, Fault, being_written, is_held, size_of, unreadable
from mirembed.store.recordings import durations
from mirembed.store.rows import classes_of, frames_digest

_Facts: TypeAlias = Mapping[str, tuple[float, str]]
"""Seconds and backend of each recording of stored features."""

_EXTRACT_AGAIN = "run `mirembed extract` again with the dataset's --dataset and --audio"


@dataclass(frozen=True)
class FeaturesSummary:
    """Stored features.

    Attributes
    ----------
    features : str
        Their name in the store.
    spec : str
        As given to ``--features``.
    state : {"complete", "being written", "damaged"}
    values : int
    hop : float or None
        Seconds.
    recordings : int
    unused : int
        Recordings that no dataset refers to.
    hours : float
        Of music.
    bytes, shards : int
    backends : mapping of str to int
        Number of recordings that each backend computed; see `RecordingRow.backend`.
    """

    features: str
    state: str
    spec: str = ""
    values: int = 0
    hop: float | None = None
    recordings: int = 0
    unused: int = 0
    hours: float = 0.0
    bytes: int = 0
    shards: int = 0
    backends: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetSummary:
    """One dataset of a store.

    Attributes
    ----------
    dataset : str
        As given to ``--dataset``.
    state : {"complete", "incomplete", "being written", "damaged"}
        Incomplete: some listed tracks neither have the features that the dataset was extracted with, nor have been
        embedded by any model, nor have failed.
    tracks, listed, failures, accepted : int
        Tracks with a recording, including unlisted ones; listed tracks; tracks that failed; those of them all of whose
        failures the user has accepted.
    absent, unlisted : int
        Annotated tracks without audio, and stored tracks that are no longer listed.
    hours : float
        Of music.
    features : mapping of str to int
        Tracks that have the features that the dataset was extracted with, by their spec.
    bytes : int
        Of the tables; the features are shared.
    """

    dataset: str
    state: str
    tracks: int = 0
    listed: int = 0
    failures: int = 0
    accepted: int = 0
    absent: int = 0
    unlisted: int = 0
    hours: float = 0.0
    features: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0


@dataclass(frozen=True)
class EmbeddingsSummary:
    """The stored embeddings of a model.

    Attributes
    ----------
    model : str
    state : {"complete", "of another model", "being written", "damaged"}
        The second: the model was removed, or another one has its name.
    recordings, bytes : int
    """

    model: str
    state: str
    recordings: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Contents:
    """Everything in a store.

    Attributes
    ----------
    bytes : int
        Of the whole folder.
    cache, audio : int
        Bytes of what is rebuilt when missing, and of audio that datasets have synthesized.
    """

    features: list[FeaturesSummary]
    datasets: list[DatasetSummary]
    embeddings: list[EmbeddingsSummary]
    models: list[ModelSummary]
    runs: list[RunSummary]
    cache: int
    audio: int
    bytes: int


@interruptible()
def contents(store: Store) -> Contents:
    """List the contents of a store; whatever cannot be read is listed as damaged."""
    used: set[str] = set()
    for dataset in store.datasets():
        with contextlib.suppress(StoreError):
            used |= used_recordings([dataset])
    features = store.all_features()
    having = {shards.name: _facts(shards) for shards in features}
    embedded = _all_embedded(store)
    try:
        seconds = durations(store)
    except StoreError:
        seconds = {}
    return Contents(
        features=[_summarize_features(shards, having[shards.name], used) for shards in features],
        datasets=[_summarize_dataset(dataset, having, embedded, seconds) for dataset in store.datasets()],
        embeddings=[_summarize_embeddings(stored, store) for stored in store.all_embeddings()],
        models=[summarize_model(folder) for folder in list_models(store.models)],
        runs=[summarize(run) for run in list_runs(store.runs)],
        cache=size_of(store.cache),
        audio=size_of(store.root / "audio"),
        bytes=size_of(store.root),
    )


def used_recordings(datasets: Iterable[DatasetStore]) -> set[str]:
    """Return the recordings that the tracks of datasets refer to.

    Raises
    ------
    StoreError
        A dataset is damaged.
    """
    return {track.recording for dataset in datasets for track in dataset.tracks() if track.recording is not None}


def is_of_its_model(stored: StoredEmbeddings, store: Store) -> bool:
    """Whether the model with the name of the embeddings exists, and its network made them.

    Raises
    ------
    StoreError
        The table cannot be read.
    """
    folder = store.models / stored.folder.name
    return folder.exists() and is_network_of(folder, stored.digest())


def _facts(shards: FeatureShards) -> _Facts | None:
    try:
        return shards.columns("duration", "backend")
    except StoreError:
        return None


def _summarize_features(shards: FeatureShards, recordings: _Facts | None, used: Collection[str]) -> FeaturesSummary:
    n_bytes, files = size_of(shards.folder), shards.shards()
    if recordings is None:
        return FeaturesSummary(shards.name, "damaged", bytes=n_bytes, shards=len(files))
    part = shards.part()
    backends = Counter(backend for _, backend in recordings.values() if backend)
    return FeaturesSummary(
        features=shards.name,
        state="being written" if is_held(shards.folder) else "complete",
        spec=part.spec,
        values=part.values,
        hop=part.hop,
        recordings=len(recordings),
        unused=len(recordings.keys() - set(used)),
        hours=sum(duration for duration, _ in recordings.values()) / 3600,
        bytes=n_bytes,
        shards=len(files),
        backends=dict(sorted(backends.items())),
    )


def _summarize_dataset(
    dataset: DatasetStore,
    having: Mapping[str, _Facts | None],
    embedded: Collection[str],
    seconds: Mapping[str, float],
) -> DatasetSummary:
    try:
        info, tracks, failures = dataset.info(), dataset.tracks(), dataset.failures()
    except StoreError:
        return DatasetSummary(dataset.folder.name, "damaged")
    known = [track for track in tracks if track.recording is not None]
    counts = {
        spec: sum(track.recording in (having.get(name) or ()) for track in tracks)
        for spec, name in info.features.items()
    }
    failed = {(failure.id, failure.features) for failure in failures}
    n_failed = len({failure.id for failure in failures})
    complete = all(
        track.recording in (having.get(name) or ()) or (track.id, name) in failed
        for track in tracks
        if track.listed and track.recording not in embedded
        for name in info.features.values()
    )
    return DatasetSummary(
        dataset=info.spec,
        state="being written" if is_held(dataset.folder) else "complete" if complete else "incomplete",
        tracks=len(known),
        listed=info.n_listed,
        failures=n_failed,
        accepted=n_failed - len({failure.id for failure in failures if not failure.accepted}),
        absent=info.n_absent,
        unlisted=info.n_unlisted,
        hours=sum(seconds.get(track.recording, 0.0) for track in known if track.recording) / 3600,
        features=counts,
        bytes=size_of(dataset.folder),
    )


def _all_embedded(store: Store) -> set[str]:
    """Return the recordings that any model has embedded, without what is damaged."""
    found: set[str] = set()
    for stored in store.all_embeddings():
        with contextlib.suppress(StoreError):
            found |= _embedded(stored)
    return found


def _embedded(stored: StoredEmbeddings) -> set[str]:
    """Return the recordings that a model has embedded.

    Raises
    ------
    StoreError
        A table is damaged.
    """
    return set(stored.table(stored.digest() or "", ["recording"])["recording"].to_pylist())


def _summarize_embeddings(stored: StoredEmbeddings, store: Store) -> EmbeddingsSummary:
    name, n_bytes = stored.folder.name, size_of(stored.folder)
    try:
        n_recordings = len(_embedded(stored))
        state = "complete" if is_of_its_model(stored, store) else "of another model"
        state = "being written" if is_held(stored.folder) else state
    except StoreError:
        return EmbeddingsSummary(name, "damaged", bytes=n_bytes)
    return EmbeddingsSummary(name, state, n_recordings, n_bytes)


def verify(store: Store, progress: Progress = NO_PROGRESS) -> list[Fault]:
    """Read everything in a store and list its faults.

    Changes nothing, and skips files that another process is writing.
    """
    features = [FeatureShards(path) for path in _folders(store.root / "features")]
    progress.start("verifying", sum(len(shards.shards()) for shards in features))
    faults: list[Fault] = []
    if not (store.root / "store.json").exists():
        advice = f"{_EXTRACT_AGAIN}: it writes a new one"
        faults.append(Fault(str(store.root / "store.json"), "is missing", advice))
    done = 0
    having: dict[str, set[str] | None] = {}
    for shards in features:
        recordings: set[str] = set()
        with interruptible():
            found = [*_features_faults(shards, recordings)]
        having[shards.name] = None if found else recordings
        faults += found
        done += len(shards.shards())
        progress.update(done)
    return [*faults, *_other_faults(store, having)]


@interruptible()
def _other_faults(store: Store, having: Mapping[str, set[str] | None]) -> list[Fault]:
    """Return the faults of everything but features; see `_dataset_faults`."""
    faults: list[Fault] = []
    embedded = _all_embedded(store)
    for folder in _folders(store.root / "datasets"):
        faults += _dataset_faults(DatasetStore(folder), having, embedded)
    for stored in store.all_embeddings():
        faults += _embeddings_faults(stored, store)
    for folder in _folders(store.models):
        faults += model_faults(folder)
    for folder in _folders(store.runs):
        run = RunFolder(folder)
        faults += run_faults(run)
        for manifest in sorted(folder.rglob(f"{run.models.name}/[!.]*/{MANIFEST}")):
            faults += model_faults(manifest.parent)
    return [*faults, *_leftovers(store.root)]


def _folders(parent: Path) -> list[Path]:
    """Return folders that hold anything but a lock: a command may end before it writes more."""
    return sorted({path.parent for path in parent.glob("[!.]*/[!.]*")})


def _features_faults(shards: FeatureShards, recordings: set[str]) -> Iterator[Fault]:
    """Yield the faults of stored features, and collect the recordings whose frames can be read."""
    try:
        digest = shards.part().digest
    except StoreError as error:
        yield Fault.of(shards.folder / INFO, error, f"delete it and {_EXTRACT_AGAIN}; the frames are kept")
        return
    if not shards.name.endswith(f"-{digest[:12]}"):
        yield Fault(str(shards.folder), f"holds features with the digest {digest}", "move it out of the store")
    make_again = f"delete it and {_EXTRACT_AGAIN}, which computes its recordings again"
    seen: Counter[str] = Counter()
    for shard in shards.shards():
        try:
            found = _read_shard(shard, digest)
        except MirembedError as error:
            if shard.exists():  # otherwise it has just been merged with others
                yield Fault.of(shard, error, make_again)
            continue
        seen.update(set(found))
        if twice := [recording for recording, count in Counter(found).items() if count > 1]:
            yield Fault(str(shard), f"contains the recording {twice[0]} twice", make_again)
    recordings.update(seen)
    twice_stored = sorted(recording for recording, count in seen.items() if count > 1)
    if twice_stored and not is_held(shards.folder):
        yield Fault(
            str(shards.folder),
            f"has {counted(len(twice_stored), 'recording')} in two shards (such as {twice_stored[0]})",
            "run `mirembed store compact`, which keeps the last row of each",
        )


def _read_shard(shard: Path, digest: str) -> list[str]:
    """Read all of a shard and return its recordings."""
    import numpy as np

    check_digest(shard, digest)
    recordings: list[str] = []
    for table in row_groups(shard):
        for row, value in zip(table.drop_columns(["frames"]).to_pylist(), table["frames"], strict=True):
            if value.values is None or row["recording"] is None:
                raise StoreError(f"the recording {row['recording']} is incomplete")
            frames = value.values.flatten().to_numpy().reshape(len(value.values), -1)
            if len(frames) != row["n_frames"]:
                raise StoreError(f"the recording {row['recording']} has {len(frames)} frames, not {row['n_frames']}")
            if not np.isfinite(frames).all():
                raise StoreError(f"the frames of the recording {row['recording']} have values that are not finite")
            if frames_digest(frames) != row["frames_digest"]:
                raise StoreError(f"the frames of the recording {row['recording']} do not match its frames_digest")
            recordings.append(row["recording"])
    return recordings


def _dataset_faults(
    dataset: DatasetStore, having: Mapping[str, Collection[str] | None], embedded: Collection[str]
) -> Iterator[Fault]:
    """Yield the faults of a dataset.

    ``having`` has the recordings of stored features, None for damaged ones; ``embedded`` those of any model, whose
    frames need not be kept.
    """
    repeat = f"delete it and {_EXTRACT_AGAIN}: nothing is decoded again"
    path = dataset.folder / "dataset.json"
    try:
        info = dataset.info()
    except StoreError as error:
        yield Fault.of(path, error, repeat)
        return
    path = dataset.folder / "tracks.parquet"
    try:
        tracks = dataset.tracks()
    except StoreError as error:
        yield Fault.of(path, error, repeat)
        return
    if twice := [track for track, count in Counter(track.id for track in tracks).items() if count > 1]:
        yield Fault(str(path), f"contains {twice[0]!r} twice", repeat)
    if not isinstance(info.task, Regression) and not is_held(dataset.folder):
        classes = () if info.task is None else info.task.classes
        unknown = frozenset[str]().union(*(classes_of(track.label) for track in tracks)) - set(classes)
        if unknown:
            yield Fault(str(path), f"has the label {min(unknown)!r}, which is not one of the dataset's classes", repeat)
    features = [having[name] for name in info.features.values() if name in having]
    lost = [
        track.id
        for track in tracks
        if features
        and track.recording is not None
        and track.recording not in embedded
        and all(recordings is not None and track.recording not in recordings for recordings in features)
    ]
    if lost and not is_held(dataset.folder):
        yield Fault(
            str(path),
            f"refers to recordings that the store lacks, for {counted(len(lost), 'track')} (such as {lost[0]!r})",
            f"{_EXTRACT_AGAIN}, which computes them again",
        )
    for name in (FAILURES, SCHEMES, FILE_TAGS, FOLDERS):
        if (table := dataset.folder / name).exists():
            yield from unreadable(table, "delete it and repeat the command that wrote it")


def _embeddings_faults(stored: StoredEmbeddings, store: Store) -> Iterator[Fault]:
    import numpy as np

    name, path = stored.folder.name, str(stored.path)
    advice = f"delete it and run `mirembed update {name}`, which computes its embeddings again"
    if not (store.models / name).exists():
        advice = f"run `mirembed store rm embeddings:{name}`"
    if is_held(stored.folder):
        return
    damaged = [fault for file in stored.files() for fault in unreadable(file, advice)]
    yield from damaged
    if damaged:
        return
    try:
        digest = stored.digest()
        vectors = {} if digest is None else stored.read(digest)
    except (KeyError, StoreError) as error:
        yield Fault.of(stored.path, error, advice)
        return
    if digest is None:
        yield Fault(path, "is missing", advice)
    elif not (store.models / name).exists():
        yield Fault(path, f"belongs to the model {name}, which the store does not have", advice)
    elif not is_of_its_model(stored, store):
        yield Fault(path, f"was computed by a network other than that of the model {name}", advice)
    elif not all(np.isfinite(vector).all() for vector in vectors.values()):
        yield Fault(path, "has embeddings that are not finite", advice)


def _leftovers(root: Path) -> Iterator[Fault]:
    for path in sorted(root.rglob("*")):
        if path.name.startswith(TEMPORARY) and not being_written(path):
            yield Fault(str(path), "was left by a process that was killed", "delete it")
        elif path.name.endswith(".damaged"):
            yield Fault(
                str(path), "is a damaged shard that was set aside", "delete it; its recordings were computed again"
            )
        elif (
            path.is_file()
            and path.parent.parent == root / "features"
            and path.name not in (INFO, ".lock")
            and path not in FeatureShards(path.parent).shards()
        ):
            yield Fault(str(path), "is not a shard", "move it out of the store")
