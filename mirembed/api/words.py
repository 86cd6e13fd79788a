"""The words of a call: checked as those of a command are, and as text for provenance; store and plugins."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from mirembed.audio.files import printable
from mirembed.config import defaults
from mirembed.config.settings import flag, key
from mirembed.errors import SpecError, StoreError
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.rows import task_to_json

PathLike: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = PathLike | Iterable[PathLike]
StoreLike: TypeAlias = PathLike | None
"""The folder of a store, or a `mirembed.Store`; None: that in MIREMBED_STORE, else ``mirembed-store``."""


def discover(note: Callable[[str], None]) -> Registry:
    """Load the plugins, and note which are broken."""
    registry = Registry.discover()
    for broken in registry.broken:
        note(f"warning: {broken}; not loaded; {broken.remedy}")
    return registry


def store_of(store: StoreLike, *, writable: bool = False) -> Store:
    """Return the store that a call means; with ``writable``, refuse one that cannot be written.

    Raises
    ------
    SpecError
        If it is neither a path nor a store.
    StoreError
        If the folder holds a store of another version, or cannot be written.
    """
    if store is None:
        store = os.environ.get("MIREMBED_STORE") or defaults.STORE
    path = path_of("store", store)
    return Store.writable(path) if writable else Store(path)


def task_kind(store: Store, dataset: Spec | None) -> str | None:
    """Return the kind of a stored dataset's task: ``classification``, ``tags`` or ``regression``; None if unknown."""
    try:
        task = store.find(dataset).info().task
    except StoreError:  # it is said later that there is none
        return None
    return None if task is None else str(task_to_json(task)["kind"])


def path_of(name: str, value: Any) -> Path:
    """Return a path that was given as text or as an object.

    Raises
    ------
    SpecError
        If it is neither.
    """
    if not isinstance(value, str | os.PathLike):
        raise SpecError(f"{_shown(name)} is {value!r}: expected a path")
    return Path(value)


def paths_of(name: str, value: Any) -> list[Path]:
    """Return one or several paths.

    Raises
    ------
    SpecError
        If something else is given, or nothing.
    """
    several = not isinstance(value, str | os.PathLike) and isinstance(value, Iterable)
    found = [path_of(name, one) for one in (value if several else [value])]
    if not found:
        raise SpecError(f"{name} is empty: expected audio files, or folders of them")
    return found


def dataset_of(dataset: Any) -> Spec | None:
    """Return the dataset that a call names.

    Raises
    ------
    SpecError
        If it is not text, or malformed.
    """
    if dataset is None:
        return None
    return Spec.parse(text_of("dataset", dataset))


def text_of(name: str, value: Any) -> str:
    """Return a text.

    Raises
    ------
    SpecError
        If it is something else.
    """
    if not isinstance(value, str):
        raise SpecError(f"{_shown(name)} is {value!r}: expected text")
    return value


def _shown(name: str) -> str:
    """Return the name of a word for errors: a flag, or an argument of a command."""
    return name if name in ("model", "paths", "run", "seeds") else flag(name)


def number_of(name: str, value: Any, *, least: int = 1, whole: bool = True) -> Any:
    """Return a number, or None if none is given.

    Raises
    ------
    SpecError
        If it is something else, or too small.
    """
    value = plain(value)
    if value is None:
        return None
    if not isinstance(value, int if whole else int | float) or isinstance(value, bool):
        raise SpecError(f"{flag(name)} is {value!r}: expected {'an integer' if whole else 'a number'}")
    if not value >= least:
        raise SpecError(f"{flag(name)} is {value}: expected at least {least}")
    return value


def plain(value: Any) -> Any:
    """Return numbers of numpy as Python's, paths as text, and iterables as lists.

    >>> import numpy as np
    >>> plain(np.float32(0.5)), plain(range(3)), plain(Path("a/b")), plain("rbf")
    (0.5, [0, 1, 2], 'a/b', 'rbf')
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str | bytes | Mapping) or value is None:
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(one) for one in value] if isinstance(value, Iterable) else value


def words_of(function: Callable[..., Any], local: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, from the local variables of the function."""
    return {name: local[name] for name in inspect.signature(function).parameters}


def given_words(words: Mapping[str, Any], leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Return the words that were given, by their keys in experiment files.

    Parameters
    ----------
    words : mapping of str to object
        The arguments of a call by name; None, or nothing in a list, is not given.
    leave_out : collection of str
        Names that are no settings.
    """
    given = {name: plain(value) for name, value in words.items() if name not in leave_out}
    return {key(name): value for name, value in given.items() if value is not None and value != []}


def as_call(function: Callable[..., Any], words: Mapping[str, Any]) -> str:
    """Return a call as text, for provenance: the arguments that are not the defaults, without those about progress.

    >>> def fit(dataset=None, *, similarity=None, jobs=None, progress=True): ...
    >>> as_call(fit, {"dataset": "demo", "similarity": "rbf", "jobs": None, "progress": False})
    "mirembed.fit('demo', similarity='rbf')"
    """
    shown = []
    for name, parameter in inspect.signature(function).parameters.items():
        value = plain(words[name])
        if name not in ("progress", "command") and value != parameter.default:
            text = printable(repr(value))
            shown.append(f"{name}={text}" if parameter.kind is parameter.KEYWORD_ONLY else text)
    return f"mirembed.{function.__name__}({', '.join(shown)})"
