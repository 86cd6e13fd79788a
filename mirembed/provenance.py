"""What a computation depends on: versions, source, processor, and digests of settings and content."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_DISTRIBUTIONS = (
    *("mirembed", "torch", "numpy", "scipy", "scikit-learn", "essentia", "numba", "soundfile", "soxr", "pyarrow"),
    "onnxruntime",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed distributions that affect results."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment(device: str = "cpu") -> dict[str, Any]:
    """Return what decides the numbers besides settings and plugins.

    Parameters
    ----------
    device : str
        ``cpu`` or ``cuda``.

    Returns
    -------
    dict
        ``versions`` (see `versions`), ``code`` (see `core_code`) and ``processor`` (see `processor`).
    """
    return {"versions": versions(), "code": core_code(), "processor": processor(device)}


@functools.cache
def core_code() -> str:
    """Return the digest of mirembed's own source, without the built-in plugins: ``sha256:...``."""
    return files_digest(folder_files(Path(__file__).parent))


def processor(device: str = "cpu") -> str:
    """Return the model of the CPU or, for the device ``cuda``, of the graphics card too."""
    name = _cpu()
    if device.startswith("cuda"):
        import torch

        name += f", {torch.cuda.get_device_name()}"
    return name


@functools.cache
def _cpu() -> str:
    try:
        information = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        information = ""
    model = re.search(r"^model name\s*:\s*(\S.*)$", information, re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()


def folder_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a package with their names relative to it, without bytecode and hidden files."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith("~"):
                path = Path(parent) / name
                yield path.relative_to(folder).as_posix(), path


def files_digest(files: Iterable[tuple[str, Path]]) -> str:
    """Return ``sha256:...`` of the names and contents of files, in the given order."""
    digest = hashlib.sha256()
    for name, path in files:
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded_plugins(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield what `mirembed.registry.Registry.provenance` returned, wherever it is in recorded settings.

    >>> svm = {"kind": "learner", "name": "svm", "distribution": "mirembed", "code": "sha256:0123"}
    >>> [plugin["name"] for plugin in recorded_plugins({"epochs": 9, "learners": {"svm:C=2": svm}})]
    ['svm']
    """
    if isinstance(content, Mapping):
        if {"kind", "name", "distribution", "code"} <= content.keys():
            yield content
        for value in content.values():
            yield from recorded_plugins(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from recorded_plugins(value)


def content_digest(content: Any, digits: int = 12, *, sort_keys: bool = True) -> str:
    """Return the first hexadecimal digits of the SHA-256 hash of JSON content.

    Without ``sort_keys``, the order of a mapping's keys matters.

    >>> content_digest({"epochs": 500, "batch": 64}) == content_digest({"batch": 64, "epochs": 500})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=sort_keys).encode()).hexdigest()[:digits]
