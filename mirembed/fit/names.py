"""The names of models: reserved while a fit runs, and given again to a fit that was interrupted.

The folder ``.checkpoints`` beside the models holds for each unfinished fit::

    DIGEST.json                       the names of its models, and its configuration
    DIGEST.lock                       held while it runs
    TRAINING-DIGEST.safetensors       where an interrupted training resumes from
    METHOD-DIGEST.member              a fitted member of a combined model that is not saved yet
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mirembed.differences import ask_the_same, made_with
from mirembed.errors import ModelError, SpecError, StoreBusyError, StoreError
from mirembed.interruption import interruptible
from mirembed.provenance import content_digest
from mirembed.store.files import delete, locked, read_json, write_json
from mirembed.store.root import slug

_FOLDER = ".checkpoints"


def check_name(models: Path, name: str | None, methods: Collection[str]) -> None:
    """Refuse a name for models, before any work is done, that is malformed or taken.

    A name that an unfinished fit has reserved may be its own; `reserving` decides.

    Parameters
    ----------
    models : pathlib.Path
    name : str or None
        None: the names are chosen so that they are free.
    methods : collection of str
        See `wanted_names`.

    Raises
    ------
    SpecError, ModelError
    """
    if name is None:
        return
    reserved: set[str] = set()
    for marker in (models / _FOLDER).glob("*.json"):
        with contextlib.suppress(StoreError):  # that fit has just ended
            reserved |= {*read_json(marker)["names"].values()}
    for wanted in wanted_names("", methods, name).values():
        if wanted not in reserved:
            _free_name(models, wanted, (), exact=True)


def wanted_names(dataset: str, methods: Collection[str], name: str | None) -> dict[str, str]:
    """Return the preferred name of the model of each method.

    Parameters
    ----------
    dataset : str
        Its spec.
    methods : collection of str
    name : str or None
        None: from dataset and method.

    Raises
    ------
    SpecError
        If the name is malformed.
    """
    if name is None:
        return {method: f"{slug(dataset.partition(':')[0])}-{slug(method)}" for method in methods}
    if not re.fullmatch(r"[^\W_][\w.-]{0,59}", name):
        raise SpecError(f"--name {name}: expected a letter or digit, then at most 59 letters, digits, '.', '_' and '-'")
    return {method: name if len(methods) == 1 else f"{name}-{slug(method)}" for method in methods}


def work_folder(models: Path) -> Path:
    """Return the folder of what unfinished fits keep."""
    return models / _FOLDER


def checkpoint(models: Path, training: str, digest: str) -> Path:
    """Return the checkpoint file of a training of the fit ``digest``."""
    return models / _FOLDER / f"{slug(training)}-{digest}.safetensors"


@contextlib.contextmanager
def reserving(
    models: Path, configuration: Mapping[str, Any], wanted: Mapping[str, str], *, exact: bool
) -> Iterator[dict[str, Path]]:
    """Reserve the names of a fit's models until the block ends; an interrupted fit gets the names that it had.

    Parameters
    ----------
    models : pathlib.Path
    configuration : mapping
        Everything that decides what the fit makes; its saved models have the digest as ``fit`` in their provenance.
    wanted : mapping of str to str
        The preferred name of each model, by method.
    exact : bool
        Refuse a name that is taken; otherwise add a number to it.

    Yields
    ------
    dict of str to pathlib.Path
        The folder of each model. One that exists was saved by this fit before it was interrupted.

    Raises
    ------
    StoreBusyError
        If another process is running the same fit.
    ModelError
        If a name is taken.
    """
    folder, digest = models / _FOLDER, content_digest(configuration)
    marker = folder / f"{digest}.json"
    with contextlib.ExitStack() as held:
        with _lock(folder / ".lock", wait=True):  # one process at a time chooses names
            before = read_json(marker)["names"] if marker.exists() else {}
            others = _reserved_by_others(folder, marker)
            names = {}
            for method, name in wanted.items():
                kept = before.get(method)
                if kept is not None and kept not in others and _is_free_or_of(models / kept, digest):
                    names[method] = kept
                else:
                    names[method] = _free_name(models, name, others, exact=exact)
            if not held.enter_context(_lock(marker.with_suffix(".lock"), wait=False)):
                raise StoreBusyError(f"another process is running the same fit ({marker}); wait until it ends")
            write_json(marker, {"names": names, "configuration": configuration})
        yield {method: models / name for method, name in names.items()}
        with _lock(folder / ".lock", wait=True):
            for finished in (digest, *_superseded(models, configuration)):
                for path in folder.glob(f"*{finished}.*"):
                    delete(path)


def obstacles(models: Path, configuration: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return why an interrupted fit of the same command cannot be resumed, see `mirembed.differences.made_with`.

    Empty if there is no such fit, or if it can be.
    """
    if (models / _FOLDER / f"{content_digest(configuration)}.json").exists():
        return {}
    for before in _superseded(models, configuration).values():
        return made_with(before, configuration)
    return {}


def _superseded(models: Path, configuration: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the configurations of interrupted fits of the same command that cannot be resumed, by their digests."""
    found = {}
    for marker in sorted((models / _FOLDER).glob("*.json")):
        with _lock(marker.with_suffix(".lock"), wait=False) as abandoned:
            before = read_json(marker)["configuration"] if abandoned else {}
        if marker.stem != content_digest(configuration) and ask_the_same(before, configuration):
            found[marker.stem] = before
    return found


def _is_free_or_of(folder: Path, digest: str) -> bool:
    if not folder.exists():
        return True
    try:
        return bool(read_json(folder / "model.json")["provenance"].get("fit") == digest)
    except (StoreError, KeyError, TypeError, AttributeError):
        return False


def _free_name(models: Path, name: str, others: Collection[str], *, exact: bool) -> str:
    chosen, number = name, 2
    while chosen in others or (models / chosen).exists():
        if exact and chosen in others:
            raise StoreBusyError(f"another process is fitting a model named {chosen}; choose another --name, or wait")
        if exact:
            raise ModelError(f"the model {models / chosen} already exists; choose another --name or delete it")
        chosen, number = f"{name}-{number}", number + 1
    return chosen


def names_being_fitted(models: Path) -> set[str]:
    """Return the names of the models that running fits make."""
    return _reserved_by_others(models / _FOLDER, None)


def _reserved_by_others(folder: Path, marker: Path | None) -> set[str]:
    """Return the names that fits in other processes have reserved."""
    names: set[str] = set()
    for other in folder.glob("*.json"):
        if other != marker:
            with _lock(other.with_suffix(".lock"), wait=False) as abandoned:
                names |= set() if abandoned else set(read_json(other)["names"].values())
    return names


@contextlib.contextmanager
def _lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock and yield True; yield False if another process holds it and ``wait`` is False."""
    with contextlib.ExitStack() as held:
        with interruptible():
            got = held.enter_context(locked(path, wait=wait))
        yield got
