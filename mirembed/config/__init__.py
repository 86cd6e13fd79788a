"""What decides the numbers of a fit or an evaluation: settings, their defaults, experiment files and presets.

The names are imported when they are used: the command line needs only the defaults, and has to start quickly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirembed.config.approaches import Approach, Method
    from mirembed.config.files import presets, read_experiment, read_preset, write_experiment
    from mirembed.config.settings import Settings

__all__ = [
    "Approach",
    "Method",
    "Settings",
    "presets",
    "read_experiment",
    "read_preset",
    "write_experiment",
]

_MODULES = {"Approach": "approaches", "Method": "approaches", "Settings": "settings"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'files')}"), name)
