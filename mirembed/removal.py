"""Remove models, runs, datasets, features and caches from a store, and what is no longer used."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mirembed.errors import SpecError, StoreBusyError, StoreError
from mirembed.fit.names import names_being_fitted
from mirembed.interruption import interruptible, raise_if_interrupted
from mirembed.inventory import is_of_its_model, used_recordings
from mirembed.models.saved import features_of, list_models
from mirembed.progress import counted
from mirembed.runs.folder import RunFolder, list_runs
from mirembed.specs import Spec, near_names
from mirembed.store import DatasetStore, FeatureShards, Store
from mirembed.store.datasets import TRACKS
from mirembed.store.files import delete, is_held, size_of
from mirembed.store.frame_file import delete_unused

KINDS = ("model:NAME", "embeddings:NAME", "run:NAME", "dataset:SPEC", "features:NAME", "cache", "unused")
"""What `plan_removals` understands."""


@dataclass(frozen=True)
class Removal:
    """Something to remove.

    Attributes
    ----------
    what : str
        ``the model demo-rbf-sl``.
    bytes : int
        Of disk space that it takes; an estimate where shards are written anew without some of their rows.
    remove : callable
        Removes it.
    """

    what: str
    bytes: int
    remove: Callable[[], None]


@interruptible()
def plan_removals(store: Store, names: Sequence[str]) -> list[Removal]:
    """Find what is to be removed. Nothing is removed yet.

    Parameters
    ----------
    store : Store
    names : sequence of str
        See `KINDS`.

    Raises
    ------
    SpecError
        A name is not one of `KINDS`.
    StoreError
        The store does not have one of them, or it is damaged so that it is not known what is unused.
    StoreBusyError
        One of them is being written.
    """
    found: dict[str, Removal] = {}
    for text in names:
        kind, colon, name = text.partition(":")
        if (kind in _NAMED) != bool(colon and name) or kind not in (*_NAMED, *_UNNAMED):
            raise SpecError(f"{text!r} cannot be removed; expected {', '.join(KINDS[:-1])} or {KINDS[-1]}")
        found |= {one.what: one for one in (_NAMED[kind](store, name) if colon else _UNNAMED[kind](store))}
    return list(found.values())


def _model(store: Store, name: str) -> Iterator[Removal]:
    folder = _existing("model", name, list_models(store.models))
    if name in names_being_fitted(store.models):
        raise StoreBusyError(f"another process is fitting the model {name}; wait until it ends")
    yield Removal(f"the model {name}", size_of(folder), functools.partial(delete, folder))
    if store.embeddings(name).folder.exists():
        yield from _embeddings(store, name)


def _embeddings(store: Store, name: str) -> Iterator[Removal]:
    folder = _existing("embeddings", name, [stored.folder for stored in store.all_embeddings()])
    _refuse_if_held(folder)
    yield Removal(f"the embeddings of the model {name}", size_of(folder), functools.partial(delete, folder))


def _run(store: Store, name: str) -> Iterator[Removal]:
    folders = [run.folder for run in list_runs(store.runs)]
    begun = [folder for folder in folders if folder.name.startswith(name)]
    run = RunFolder(begun[0] if len(begun) == 1 else _existing("run", name, folders))
    _refuse_if_held(run.folder)

    def remove() -> None:
        with run.lock():
            delete(run.folder)

    yield Removal(f"the run {run.folder.name}", size_of(run.folder), remove)


def _dataset(store: Store, name: str) -> Iterator[Removal]:
    dataset = store.dataset(Spec.parse(name))
    if not dataset.folder.exists():
        specs = [_described_dataset(one)[0] for one in store.datasets()]
        if [spec.partition(":")[0] for spec in specs].count(name) != 1:
            raise StoreError(_no_such("dataset", name, specs))
        dataset = store.find(Spec(name))
    _refuse_if_held(dataset.folder)

    def remove() -> None:
        with dataset.lock():
            delete(dataset.folder)

    spec, tracks = _described_dataset(dataset)
    yield Removal(f"the dataset {spec} ({tracks}; features and audio stay)", size_of(dataset.folder), remove)
    yield from _flat_files(store.cache / dataset.folder.name)


def _described_dataset(dataset: DatasetStore) -> tuple[str, str]:
    """Return the spec of a dataset, and the number of its tracks in words."""
    try:
        return dataset.info().spec, counted(len(dataset.tracks()), "track")
    except StoreError:
        return dataset.folder.name, "damaged"


def _features(store: Store, name: str) -> Iterator[Removal]:
    stored = store.all_features()
    same_spec = [shards for shards in stored if _spec(shards) == name]
    if len(same_spec) > 1:
        names = " or ".join(f"features:{shards.name}" for shards in same_spec)
        raise StoreError(f"the store {store.root} has {name} several times, from different code; choose {names}")
    folder = same_spec[0].folder if same_spec else _existing("features", name, [shards.folder for shards in stored])
    yield _whole_features(store, FeatureShards(folder))


def _whole_features(store: Store, shards: FeatureShards) -> Removal:
    """Remove features, which the next extraction of a dataset will not compute again unless it is asked to."""

    def datasets() -> list[DatasetStore]:
        return [dataset for dataset in store.datasets() if shards.name in _features_of(dataset)]

    for folder in (shards.folder, *(dataset.folder for dataset in datasets())):
        _refuse_if_held(folder)

    def remove() -> None:
        for dataset in datasets():
            with dataset.lock():
                info = dataset.info()
                kept = {spec: name for spec, name in info.features.items() if name != shards.name}
                dataset.write_info(replace(info, features=kept))
                failures = dataset.failures()
                others = [failure for failure in failures if failure.features != shards.name]
                if others != failures:
                    dataset.write_failures(others)
        with shards.lock():
            delete(shards.folder)

    return Removal(f"the features {shards.name} ({_described(shards)})", size_of(shards.folder), remove)


def _cache(store: Store) -> Iterator[Removal]:
    for path in sorted(store.cache.glob("*")):
        if path.is_dir():
            yield from _flat_files(path)
        else:
            yield Removal(f"the cache {path.name}", size_of(path), functools.partial(delete, path))


def _flat_files(folder: Path) -> Iterator[Removal]:
    def remove() -> None:
        for path in folder.glob("*.f32"):
            delete_unused(path)
        with contextlib.suppress(OSError):  # a file is in use
            folder.rmdir()

    if folder.is_dir():
        yield Removal(f"the cached frames of {folder.name}", size_of(folder), remove)


def _unused(store: Store) -> Iterator[Removal]:
    used, wanted = used_recordings(_whole_datasets(store)), _wanted_features(store)
    for shards in store.all_features():
        if shards.name not in wanted:
            whole = _whole_features(store, shards)
            yield replace(whole, remove=functools.partial(_remove_unwanted, store, shards, whole.remove))
            continue
        frames = {recording: n_frames for recording, (n_frames,) in shards.columns("n_frames").items()}
        if unused := frames.keys() - used:
            _refuse_if_held(shards.folder)
            share = sum(frames[recording] for recording in unused) / sum(frames.values())
            yield Removal(
                f"{counted(len(unused), 'recording')} of the features {shards.name}",
                round(size_of(*shards.shards()) * share),
                functools.partial(_remove_unused, store, shards),
            )
    for damaged in sorted((store.root / "features").glob("*/*.damaged")):
        yield Removal(f"the damaged shard {damaged.name}", size_of(damaged), functools.partial(delete, damaged))
    for stored in store.all_embeddings():
        if not is_of_its_model(stored, store):
            yield from _embeddings(store, stored.folder.name)
    datasets = {dataset.folder.name for dataset in store.datasets()}
    for folder in sorted(path for path in store.cache.glob("*") if path.is_dir() and path.name not in datasets):
        yield from _flat_files(folder)


def _wanted_features(store: Store) -> set[str]:
    """Return the names of the features that a dataset was extracted with, or that a model takes.

    Raises
    ------
    StoreError
        A dataset is damaged.
    """
    names = {name for dataset in _whole_datasets(store) for name in dataset.info().features.values()}
    digests = {digest for folder in list_models(store.models) for digest in features_of(folder)}
    return names | {shards.name for shards in store.all_features() if shards.part().digest in digests}


def _whole_datasets(store: Store) -> list[DatasetStore]:
    """Return all datasets.

    Raises
    ------
    StoreError
        One lacks its ``dataset.json``, so it is not known what it refers to.
    """
    for path in store.root.glob(f"datasets/*/{TRACKS}"):
        DatasetStore(path.parent).info()
    return store.datasets()


def _remove_unwanted(store: Store, shards: FeatureShards, remove: Callable[[], None]) -> None:
    """Remove features that nothing refers to, unless a dataset or a model has come to refer to them since."""
    if shards.name in _wanted_features(store):
        raise StoreBusyError(f"the features {shards.name} are used by now; run the same command again")
    remove()


def _remove_unused(store: Store, shards: FeatureShards) -> None:
    with shards.lock():
        used, part = used_recordings(_whole_datasets(store)), shards.part()
        for shard, rows in shards.current_rows(shards.shards()).items():
            raise_if_interrupted()
            names = shards.recordings(shard)
            shards.keep(shard, [row for row in rows if names[row] in used], part)


def _described(shards: FeatureShards) -> str:
    try:
        return counted(len(shards.columns()), "recording")
    except StoreError:
        return "damaged"


def _features_of(dataset: DatasetStore) -> Collection[str]:
    """Return the names of the features that a dataset was extracted with; none if it is damaged."""
    try:
        return dataset.info().features.values()
    except StoreError:
        return ()


def _spec(shards: FeatureShards) -> str | None:
    try:
        return shards.part().spec
    except StoreError:
        return None


def _existing(kind: str, name: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if folder.name == name:
            return folder
    raise StoreError(_no_such(kind, name, [folder.name for folder in folders]))


def _no_such(kind: str, name: str, names: Sequence[str]) -> str:
    near = near_names(name, names)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(names) or 'none'}"
    what = "embeddings of a model" if kind == "embeddings" else kind
    return f"the store has no {what} called {name!r}; {hint}"


def _refuse_if_held(folder: Path) -> None:
    if is_held(folder):
        raise StoreBusyError(f"another process is writing to {folder}; wait until it ends")


_NAMED: dict[str, Callable[[Store, str], Iterator[Removal]]] = {
    "model": _model,
    "embeddings": _embeddings,
    "run": _run,
    "dataset": _dataset,
    "features": _features,
}
_UNNAMED: dict[str, Callable[[Store], Iterator[Removal]]] = {"cache": _cache, "unused": _unused}
