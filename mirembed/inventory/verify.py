"""What is wrong with a store: every file is read and held against its checksums, and tables against each other."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mirembed.errors import MirembedError, StoreError
from mirembed.hookspecs import Classification
from mirembed.inventory.faults import Fault, unreadable
from mirembed.progress import Progress, Silent
from mirembed.runs.verify import run_faults
from mirembed.store.features import FeatureStore, compare_parameters, row_groups, shard_parameters
from mirembed.store.files import TEMPORARY, being_written, is_held, read_json
from mirembed.store.root import Store
from mirembed.store.rows import DatasetInfo

EXTRACT_AGAIN = "run `mirembed extract` again with the dataset's --dataset and --audio"
"""What mends a dataset."""

MAKE_ANEW = f"delete it, and {EXTRACT_AGAIN}: what it held is made anew"
"""What mends a shard."""


def verify(store: Store, progress: Progress | None = None) -> list[Fault]:
    """Read everything in a store and return what is wrong with it.

    Nothing is changed. What another process is writing at this moment is left alone.
    """
    progress = progress or Silent()
    datasets = [FeatureStore(path) for path in sorted(store.root.glob("datasets/[!.]*")) if path.is_dir()]
    shards = sum(len(features.shards()) for features in datasets)
    progress.start("verifying", shards)
    faults: list[Fault] = []
    if not (store.root / "store.json").exists():
        advice = f"{EXTRACT_AGAIN}: it writes a new one"
        faults.append(Fault(str(store.root / "store.json"), "is missing", advice))
    done = 0
    for features in datasets:
        faults += _dataset(features)
        done += len(features.shards())
        progress.update(done)
    for folder in sorted(path for path in store.models.glob("[!.]*") if path.is_dir()):
        faults += model_faults(folder)
    for folder in sorted(path for path in store.runs.glob("[!.]*") if path.is_dir()):
        faults += run_faults(folder)
        for model in sorted(folder.rglob("models/*/model.json")):
            faults += model_faults(model.parent)
    return [*faults, *_leftovers(store.root)]


def _dataset(features: FeatureStore) -> Iterator[Fault]:
    try:
        info = features.info()
    except StoreError as error:
        path = features.folder / "dataset.json"
        yield Fault.of(path, error, f"delete it, and {EXTRACT_AGAIN}: the spectrograms are kept")
        return
    seen: Counter[str] = Counter()
    for shard in features.shards():
        try:
            ids = _shard_ids(shard, info)
        except MirembedError as error:
            if shard.exists():  # otherwise it has just been merged with others
                yield Fault.of(shard, error, MAKE_ANEW)
            continue
        seen.update(set(ids))
        if len(set(ids)) < len(ids):
            twice = next(track for track, count in Counter(ids).items() if count > 1)
            yield Fault(str(shard), f"holds {twice!r} twice", MAKE_ANEW)
    twice_stored = sorted(track for track, count in seen.items() if count > 1)
    if twice_stored and not is_held(features.folder):
        yield Fault(
            str(features.folder / "spectrograms"),
            f"{len(twice_stored)} tracks stand in two shards, {twice_stored[0]!r} say: the last row counts",
            f"{EXTRACT_AGAIN}: it removes the others",
        )
    for table in [features.folder / "failures.parquet", *sorted(features.embeddings.glob("*.parquet"))]:
        if table.exists():
            yield from unreadable(table, "delete it and run the command that wrote it again")


def _shard_ids(shard: Path, info: DatasetInfo) -> list[str]:
    """Return the ids of a shard, all of which is read."""
    import numpy as np

    compare_parameters(shard_parameters(shard), info.parameters, str(shard), "the dataset")
    ids: list[str] = []
    for table in row_groups(shard):
        ids += table["id"].to_pylist()
        lengths = np.array([len(frames) for frames in table["frames"]])
        frames = table["frames"].combine_chunks().flatten().flatten().to_numpy()
        if not np.array_equal(lengths, table["n_frames"].to_numpy()):
            raise StoreError("a track has more or fewer frames than n_frames says")
        if not np.isfinite(frames).all():
            raise StoreError("a spectrogram has values that are not finite")
        if isinstance(info.task, Classification):
            unknown = set(table["label"].to_pylist()) - set(info.task.classes)
            if unknown:
                raise StoreError(f"has the label {min(unknown)!r}, which is no class of the dataset")
    return ids


def model_faults(folder: Path) -> Iterator[Fault]:
    """Yield what is wrong with a model: its files are to have the digests that it states."""
    try:
        digests: dict[str, str] = read_json(folder / "model.json")["files"]
        named = dict(digests).items()
    except (StoreError, KeyError, TypeError, ValueError) as error:
        yield Fault.of(folder, f"is no model: {error}", "delete it and fit it again")
        return
    for name, digest in named:
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield Fault(str(folder / name), f"cannot be read: {error.strerror}", "restore it, or fit the model again")
            continue
        if digest.removeprefix("sha256:") != found:
            yield Fault(str(folder / name), "has changed since it was fitted", "restore it, or fit the model again")


def _leftovers(root: Path) -> Iterator[Fault]:
    for path in sorted(root.rglob("*")):
        if path.name.startswith(TEMPORARY) and not being_written(path):
            yield Fault(str(path), "was left by a process that was killed", "delete it")
        elif path.name.endswith(".damaged"):
            yield Fault(str(path), "is a damaged shard that was set aside", "delete it: what it held was made anew")
        elif path.parent.name == "spectrograms" and path not in FeatureStore(path.parent.parent).shards():
            yield Fault(str(path), "is no shard", "move it out of the store")
