"""The versions of everything that takes part in a computation."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

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
