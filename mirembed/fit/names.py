"""Fits that are going on, and those that were interrupted.

Beside the models, in ``.checkpoints``, each has::

    DIGEST.json                       the names of its models
    DIGEST.lock                       held as long as it is going on
    TRAINING-DIGEST.safetensors       where an interrupted training goes on from
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from mirembed.errors import ModelError, StoreBusyError, StoreError
from mirembed.store.files import read_json, write_error, write_json
from mirembed.store.root import slug

_FOLDER = ".checkpoints"


def checkpoint(models: Path, training: str, digest: str) -> Path:
    """Return where a training of the fit ``digest`` keeps its checkpoint."""
    return models / _FOLDER / f"{slug(training)}-{digest}.safetensors"


@contextlib.contextmanager
def reserving(models: Path, digest: str, wanted: Mapping[str, str], *, exact: bool) -> Iterator[dict[str, Path]]:
    """Hold a fit's names till the block ends; give an interrupted fit the names again that it had.

    Parameters
    ----------
    models : pathlib.Path
    digest : str
        Of all that decides what the fit makes. The models that it has saved bear it as ``fit`` in their provenance.
    wanted : mapping of str to str
        The name that each model should have, by approach.
    exact : bool
        Refuse a name that is taken; otherwise a number is added to it.

    Yields
    ------
    dict of str to pathlib.Path
        The folder of each model. One that exists was saved by this fit before it was interrupted.

    Raises
    ------
    StoreBusyError
        If the same fit is going on in another process.
    ModelError
        If a name is taken.
    """
    folder = models / _FOLDER
    marker = folder / f"{digest}.json"
    with contextlib.ExitStack() as stack:
        with _choosing(folder):
            before = read_json(marker) if marker.exists() else {}
            others = _names_of_others(folder, marker)
            names = {}
            for approach, name in wanted.items():
                kept = before.get(approach)
                if kept is not None and kept not in others and _is_free_or_of(models / kept, digest):
                    names[approach] = kept
                else:
                    names[approach] = _free_name(models, name, others, exact=exact)
            if not stack.enter_context(_trying(marker)):
                raise StoreBusyError(f"the same fit is going on in another process ({marker}); wait until it ends")
            write_json(marker, names)
        yield {approach: models / name for approach, name in names.items()}
        with _choosing(folder):
            for path in folder.glob(f"*{digest}.*"):
                path.unlink()


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
        if exact:
            raise ModelError(f"there is a model {models / chosen} already; choose another --name or delete it")
        chosen, number = f"{name}-{number}", number + 1
    return chosen


def _names_of_others(folder: Path, marker: Path) -> set[str]:
    """Return the names that fits in other processes are going to use."""
    names: set[str] = set()
    for other in folder.glob("*.json"):
        if other != marker:
            with _trying(other) as abandoned:
                names |= set() if abandoned else set(read_json(other).values())
    return names


@contextlib.contextmanager
def _choosing(folder: Path) -> Iterator[None]:
    """Let one process at a time look at the names and take some."""
    with _locking(folder / ".lock", wait=True):
        yield


@contextlib.contextmanager
def _trying(marker: Path) -> Iterator[bool]:
    """Hold the lock of a fit and yield True; yield False where another process holds it."""
    with _locking(marker.with_suffix(".lock"), wait=False) as held:
        yield held


@contextlib.contextmanager
def _locking(path: Path, *, wait: bool) -> Iterator[bool]:
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=-1 if wait else 0)
        lock.acquire()
    except Timeout:
        yield False
        return
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield True
    finally:
        lock.release()
