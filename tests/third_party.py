"""Third-party plugins, laid out as pip would install them."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path


def install(folder: Path, distribution: str, source: str) -> dict[str, str]:
    """Write version 1.0 of a distribution with one plugin module into ``folder``, which may contain others.

    Returns the environment variables with which Python and its worker processes find it.
    """
    module = distribution.replace("-", "_")
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir(parents=True)
    (folder / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[mirembed]\nplugin = {module}\n")
    return found_in(folder)


def found_in(*folders: Path) -> dict[str, str]:
    """Return the environment variables that add folders to Python's path."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")]))}
