"""What a computation depends on: the versions of everything that takes part, and digests of settings and content."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_DISTRIBUTIONS = ("mirembed", "torch", "numpy", "scipy", "scikit-learn", "essentia", "numba", "soundfile", "pyarrow")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed distributions that affect results."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def content_digest(content: Any, digits: int = 12, *, sort_keys: bool = True) -> str:
    """Return the first hexadecimal digits of the SHA-256 hash of JSON content.

    Without ``sort_keys``, the order of a mapping's keys matters.

    >>> content_digest({"epochs": 500, "batch": 64}) == content_digest({"batch": 64, "epochs": 500})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=sort_keys).encode()).hexdigest()[:digits]
