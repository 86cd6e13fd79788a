"""What a store holds, and whether it is sound.

Verifying a store reads every file, checks it against its checksums, and checks the tables against each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mirembed.errors import MirembedError, StoreError
from mirembed.hookspecs import Classification
from mirembed.models.saved import MANIFEST, ModelSummary, list_models, model_faults, summarize_model
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.runs.folder import RunFolder, list_runs
from mirembed.runs.record import run_faults
from mirembed.runs.summary import RunSummary, summarize
from mirembed.store.features import FeatureStore, compare_parameters, row_groups, shard_parameters
from mirembed.store.files import TEMPORARY, Fault, being_written, is_held, unreadable
from mirembed.store.root import Store
from mirembed.store.rows import DatasetInfo

_EXTRACT_AGAIN = "run `mirembed extract` again with the dataset's --dataset and --audio"


@dataclass(frozen=True)
class DatasetSummary:
    """One dataset of a store.

    Attributes
    ----------
    dataset : str
        As given to ``--dataset``.
    state : {"complete", "incomplete", "being written", "damaged"}
        Incomplete: some listed tracks are neither stored nor failed.
    tracks, listed, failures : int
    absent, unlisted : int
        Annotated tracks without audio, and stored tracks that are no longer listed.
    hours : float
        Of music.
    bytes, shards : int
        Of the spectrograms.
    backends : mapping of str to int
        Number of tracks that each backend computed; see `SpectrogramRow.backend`.
    embeddings : tuple of str
        Models with a table of embeddings.
    """

    dataset: str
    state: str
    tracks: int = 0
    listed: int = 0
    failures: int = 0
    absent: int = 0
    unlisted: int = 0
    hours: float = 0.0
    bytes: int = 0
    shards: int = 0
    backends: Mapping[str, int] = field(default_factory=dict)
    embeddings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """Everything in a store."""

    datasets: list[DatasetSummary]
    models: list[ModelSummary]
    runs: list[RunSummary]


def contents(store: Store) -> Contents:
    """List the contents of a store; whatever cannot be read is listed as damaged."""
    return Contents(
        [_summarize_dataset(features) for features in store.datasets()],
        [summarize_model(folder) for folder in list_models(store.models)],
        [summarize(run) for run in list_runs(store.runs)],
    )


def _summarize_dataset(features: FeatureStore) -> DatasetSummary:
    try:
        info, failures = features.info(), features.failures()
        tracks = features.columns("backend", "duration").values()
    except StoreError:
        return DatasetSummary(features.folder.name, "damaged")
    complete = len(tracks) - info.n_unlisted + len(failures) >= info.n_listed
    shards = features.shards()
    backends = Counter(backend for backend, _ in tracks)
    return DatasetSummary(
        dataset=info.spec,
        state="being written" if is_held(features.folder) else "complete" if complete else "incomplete",
        tracks=len(tracks),
        listed=info.n_listed,
        failures=len(failures),
        absent=info.n_absent,
        unlisted=info.n_unlisted,
        hours=sum(duration for _, duration in tracks) / 3600,
        bytes=sum(shard.stat().st_size for shard in shards),
        shards=len(shards),
        backends=dict(sorted(backends.items())),
        embeddings=tuple(path.stem for path in sorted(features.embeddings.glob("*.parquet"))),
    )


def verify(store: Store, progress: Progress = NO_PROGRESS) -> list[Fault]:
    """Read everything in a store and list its faults.

    Changes nothing, and skips files that another process is writing.
    """
    datasets = [FeatureStore(path) for path in _folders(store.root / "datasets")]
    progress.start("verifying", sum(len(features.shards()) for features in datasets))
    faults: list[Fault] = []
    if not (store.root / "store.json").exists():
        advice = f"{_EXTRACT_AGAIN}: it writes a new one"
        faults.append(Fault(str(store.root / "store.json"), "is missing", advice))
    done = 0
    for features in datasets:
        faults += _dataset_faults(features)
        done += len(features.shards())
        progress.update(done)
    for folder in _folders(store.models):
        faults += model_faults(folder)
    for folder in _folders(store.runs):
        run = RunFolder(folder)
        faults += run_faults(run)
        for manifest in sorted(folder.rglob(f"{run.models.name}/[!.]*/{MANIFEST}")):
            faults += model_faults(manifest.parent)
    return [*faults, *_leftovers(store.root)]


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("[!.]*") if path.is_dir())


def _dataset_faults(features: FeatureStore) -> Iterator[Fault]:
    try:
        info = features.info()
    except StoreError as error:
        path = features.folder / "dataset.json"
        yield Fault.of(path, error, f"delete it and {_EXTRACT_AGAIN}; the spectrograms are kept")
        return
    make_again = f"delete it and {_EXTRACT_AGAIN}, which computes its tracks again"
    seen: Counter[str] = Counter()
    for shard in features.shards():
        try:
            ids = _shard_ids(shard, info)
        except MirembedError as error:
            if shard.exists():  # otherwise it has just been merged with others
                yield Fault.of(shard, error, make_again)
            continue
        seen.update(set(ids))
        if twice := [track for track, count in Counter(ids).items() if count > 1]:
            yield Fault(str(shard), f"contains {twice[0]!r} twice", make_again)
    twice_stored = sorted(track for track, count in seen.items() if count > 1)
    if twice_stored and not is_held(features.folder):
        yield Fault(
            str(features.folder / "spectrograms"),
            f"has {counted(len(twice_stored), 'track')} in two shards ({twice_stored[0]!r} is one)",
            f"{_EXTRACT_AGAIN}, which keeps the last row of each",
        )
    for table in [features.folder / "failures.parquet", *sorted(features.embeddings.glob("*.parquet"))]:
        if table.exists():
            yield from unreadable(table, "delete it and repeat the command that wrote it")


def _shard_ids(shard: Path, info: DatasetInfo) -> list[str]:
    """Read all of a shard and return its ids."""
    import numpy as np

    compare_parameters(shard_parameters(shard), info.parameters, str(shard), "the dataset")
    ids: list[str] = []
    for table in row_groups(shard):
        ids += table["id"].to_pylist()
        lengths = np.array([len(frames) for frames in table["frames"]])
        frames = table["frames"].combine_chunks().flatten().flatten().to_numpy()
        if not np.array_equal(lengths, table["n_frames"].to_numpy()):
            raise StoreError("the number of frames of a track is not its n_frames")
        if not np.isfinite(frames).all():
            raise StoreError("a spectrogram has values that are not finite")
        if isinstance(info.task, Classification):
            unknown = set(table["label"].to_pylist()) - set(info.task.classes)
            if unknown:
                raise StoreError(f"has the label {min(unknown)!r}, which is not one of the dataset's classes")
    return ids


def _leftovers(root: Path) -> Iterator[Fault]:
    for path in sorted(root.rglob("*")):
        if path.name.startswith(TEMPORARY) and not being_written(path):
            yield Fault(str(path), "was left by a process that was killed", "delete it")
        elif path.name.endswith(".damaged"):
            yield Fault(str(path), "is a damaged shard that was set aside", "delete it; its tracks were computed again")
        elif path.parent.name == "spectrograms" and path not in FeatureStore(path.parent.parent).shards():
            yield Fault(str(path), "is not a shard", "move it out of the store")
