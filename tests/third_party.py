"""Third-party plugins, written as pip would install them."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path


def install(folder: Path, distribution: str, source: str) -> dict[str, str]:
    """Write version 1.0 of a distribution with one plugin module into ``folder``, beside others if there are any.

    Returns the environment in which Python finds it, worker processes included.
    """
    module = distribution.replace("-", "_")
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir(parents=True)
    (folder / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[mirembed]\nplugin = {module}\n")
    return found_in(folder)


def found_in(*folders: Path) -> dict[str, str]:
    """Return the environment in which Python finds what stands in folders, besides what it finds anyway."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")]))}
