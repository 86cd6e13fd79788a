"""Which distributions supplied the plugins of earlier runs: what to install when one of them is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mirembed.config import Experiment
from mirembed.errors import StoreError, UnknownNameError
from mirembed.registry import Kind, Registry
from mirembed.store.files import read_json


def require_suppliers(experiment: Experiment, registry: Registry, runs: Path) -> None:
    """Say what to install where a plugin of an experiment is gone that an earlier run had.

    Raises
    ------
    UnknownNameError
        If there is such a plugin. One that no run knows is left to whoever uses it.
    """
    specs: list[tuple[Kind, str]] = [("learner", learner.name) for learner in experiment.learners]
    for approach in experiment.approaches:
        both = (approach.similarity, approach.label_similarity)
        specs += [("similarity", spec.name) for spec in both if spec is not None]
    for kind, name in specs:
        try:
            registry.find(kind, name)
        except UnknownNameError:
            for run, recorded in _recorded(runs, kind):
                if name in (recorded["name"], f"{recorded['distribution']}/{recorded['name']}"):
                    registry.require(kind, recorded, f"as in the run {run}, this")


def _recorded(runs: Path, kind: Kind) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the runs, latest first, with what they say of each of their plugins of a kind."""
    # Those of an experiment stand one folder lower.
    for path in sorted([*runs.glob("*/manifest.json"), *runs.glob("*/*/manifest.json")], reverse=True):
        with contextlib.suppress(StoreError, KeyError, AttributeError, TypeError):
            configuration = read_json(path)["configuration"]
            found = list(configuration["learners"].values())
            if kind == "similarity":
                found = [plugin for plugins in configuration["approaches"].values() for plugin in plugins.values()]
            yield from ((path.parent.name, plugin) for plugin in found if "distribution" in plugin)
