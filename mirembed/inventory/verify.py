"""Whether a store is sound: every file is read and checked against its checksums, and tables against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mirembed.errors import MirembedError, StoreError
from mirembed.hookspecs import Classification
from mirembed.models.saved import MANIFEST, model_faults
from mirembed.progress import Progress, Silent, counted
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import run_faults
from mirembed.store.faults import Fault, unreadable
from mirembed.store.features import FeatureStore, compare_parameters, row_groups, shard_parameters
from mirembed.store.files import TEMPORARY, being_written, is_held
from mirembed.store.root import Store
from mirembed.store.rows import DatasetInfo

_EXTRACT_AGAIN = "run `mirembed extract` again with the dataset's --dataset and --audio"


def verify(store: Store, progress: Progress | None = None) -> list[Fault]:
    """Read everything in a store and list what is wrong with it.

    Nothing is changed. Files that another process is writing are skipped.
    """
    progress = progress or Silent()
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
        if len(set(ids)) < len(ids):
            twice = next(track for track, count in Counter(ids).items() if count > 1)
            yield Fault(str(shard), f"contains {twice!r} twice", make_again)
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
