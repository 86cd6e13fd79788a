"""Resolving settings before any work starts: plugins with all their parameters, and the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mirembed.config import Settings
from mirembed.errors import SpecError
from mirembed.models.learners import describe_learner
from mirembed.registry import Registry


def describe_plugins(settings: Settings, registry: Registry) -> dict[str, Any]:
    """Return the approaches, methods and learners as JSON, with their plugins and all parameters.

    Every similarity and learner is created once, which checks its parameters.

    Raises
    ------
    SpecError
        If an approach or learner is malformed, or the kernel of a learner should match a similarity where none is
        learned.
    PluginError
        If a similarity or a learner is unknown, or rejects its parameters.
    """
    approaches = {}
    for approach in settings.approaches:
        specs = {"similarity": approach.similarity, "label_similarity": approach.label_similarity}
        given = {role: spec for role, spec in specs.items() if spec is not None}
        for spec in {str(spec): spec for spec in given.values()}.values():
            registry.create("similarity", spec)
        approaches[approach.name] = {role: registry.provenance("similarity", spec) for role, spec in given.items()}
    learners = {
        str(learner): describe_learner(
            registry, learner, [a for a in settings.approaches if a.learns or a.name == "nn"]
        )
        for learner in settings.learners
    }
    return {
        "approaches": approaches,
        "methods": [
            {
                "name": method.name,
                "features": method.features,
                "network": method.network,
                "approach": method.approach.name,
                "learner": None if method.learner is None else str(method.learner),
            }
            for method in settings.methods
        ],
        "learners": learners,
    }


def describe_settings(settings: Settings, plugins: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides the numbers of a training, as JSON: its `describe_plugins` and settings."""
    names = ("epochs", "batch", "optimizer", "excerpt", "deltas", "normalize", "engine", "device")
    return {**plugins, **{name: getattr(settings, name) for name in names}}


def choose_device(device: str) -> str:
    """Resolve ``auto``: ``cuda`` if torch finds a CUDA device, else ``cpu``.

    Raises
    ------
    SpecError
        If the device is unknown or unavailable.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SpecError(f"--device {device}: expected auto, cpu or cuda")
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise SpecError("--device cuda: torch finds no CUDA device; use --device cpu")
    return "cpu"
