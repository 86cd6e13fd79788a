"""Resolving settings before any work starts: plugins with all their parameters, and the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mirembed.config import Approach, Method, Settings
from mirembed.config import defaults as default
from mirembed.errors import SpecError
from mirembed.features.info import FeaturesInfo, resolve_features
from mirembed.fit.saved import SavedNetwork, needed_features, with_saved
from mirembed.models.learners import describe_learner
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.training.network import resolve_network

if TYPE_CHECKING:
    from mirembed.training.engine import NetworkUse

_NO_MODELS: Mapping[str, SavedNetwork] = MappingProxyType({})


def resolve_settings(settings: Settings, registry: Registry) -> tuple[Settings, list[FeaturesInfo]]:
    """Create the features that settings name; return them, and the settings with all specs in their usual form.

    Raises
    ------
    SpecError
        If a spec is malformed or features are given twice, features cannot be stacked, or excerpts or differences of
        features of one frame are asked for.
    PluginError
        If features are unknown, or reject their parameters.
    """
    found = {text: resolve_features(registry, text) for text in settings.all_features}
    features = list({one.spec: one for one in found.values()}.values())
    resolved = replace(
        settings.with_features({text: one.spec for text, one in found.items()}),
        network=tuple(str(Spec.parse(network)) for network in settings.network),
        optimizer=str(Spec.parse(settings.optimizer)),
    )
    used = {method.features for method in resolved.methods}
    if all(one.hop is None for one in features if one.spec in used or used == {None}):
        asked = {"--excerpt": settings.excerpt != default.EXCERPT, "--deltas": settings.deltas}
        for flag in [flag for flag, given in asked.items() if given]:
            listed = ", ".join(one.spec for one in features if one.spec in used)
            raise SpecError(f"{flag}: a recording has a single frame of {listed}; omit {flag}")
    return resolved, features


def describe_plugins(
    settings: Settings,
    registry: Registry,
    saved: Mapping[str, SavedNetwork] = _NO_MODELS,
    features: Sequence[FeaturesInfo] | None = None,
) -> dict[str, Any]:
    """Return the methods as JSON, and all that they consist of, with their plugins and all parameters.

    Every plugin is created once, which checks its parameters.

    Parameters
    ----------
    settings : Settings
    registry : Registry
    saved : mapping of str to SavedNetwork
        See `mirembed.fit.saved.open_saved`.
    features : sequence of FeaturesInfo or None
        What `resolve_settings` returned with ``settings``; None if they are not resolved yet.

    Raises
    ------
    SpecError
        If something is malformed, or the kernel of a learner should match a similarity where none is learned.
    PluginError
        If a plugin is unknown, or rejects its parameters.
    """
    if features is None:
        settings, features = resolve_settings(settings, registry)
    methods = with_saved(settings.methods, saved)
    networks = dict.fromkeys(method.network for method in methods if method.network is not None)
    approaches = list({method.approach.name: method.approach for method in methods}.values())
    learners = dict.fromkeys(map(str, [*settings.learners, *(one.learner for one in methods if one.learner)]))
    return {
        "features": {one.spec: one.to_json() for one in needed_features(features, methods, saved)},
        "networks": {spec: resolve_network(registry, spec).to_json() for spec in networks},
        "approaches": {approach.name: _describe_approach(approach, registry, saved) for approach in approaches},
        "methods": [_describe_method(method) for method in methods],
        "learners": {
            name: describe_learner(registry, Spec.parse(name), [a for a in approaches if a.learns or a.name == "nn"])
            for name in learners
        },
    }


def _describe_approach(approach: Approach, registry: Registry, saved: Mapping[str, SavedNetwork]) -> dict[str, Any]:
    if approach.model is not None:
        return {"model": saved[approach.name].described()}
    # Only now, as it imports torch.
    from mirembed.training.similarity import PluginSimilarity

    specs = {"similarity": approach.similarity, "label_similarity": approach.label_similarity}
    given = {role: spec for role, spec in specs.items() if spec is not None}
    for spec in {str(spec): spec for spec in given.values()}.values():
        PluginSimilarity.create(registry, spec)
    return {role: registry.provenance("similarity", spec) for role, spec in given.items()}


def _describe_method(method: Method) -> dict[str, Any]:
    approach = method.approach
    return {
        "name": method.name,
        "approach": approach.name,
        "learner": None if method.learner is None else str(method.learner),
        "network": method.network,
        "features": method.features,
        **({"members": list(approach.members), "stacked": approach.stacked} if approach.members else {}),
    }


def describe_settings(settings: Settings, plugins: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides the numbers of a training, as JSON: its `describe_plugins` and settings."""
    names = ("epochs", "batch", "optimizer", "excerpt", "deltas", "normalize", "ensemble", "engine", "device")
    return {**plugins, **{name: getattr(settings, name) for name in names}}


def describe_chosen(
    described: Mapping[str, Any], methods: Sequence[Method], optimizer: str, epochs: int, registry: Registry
) -> dict[str, Any]:
    """Return `describe_settings` of a training whose methods, optimizer and epochs were chosen.

    Parameters
    ----------
    described : mapping
        `describe_settings` before the choice.
    methods : sequence of Method
        With what was chosen for them.
    optimizer : str
    epochs : int

    Raises
    ------
    SpecError, PluginError
        See `describe_plugins`.
    """
    networks = dict.fromkeys(method.network for method in methods if method.network is not None)
    approaches = {method.approach.name: method.approach for method in methods}
    learners = {str(method.learner): method.learner for method in methods if method.learner is not None}
    if optimizer != described["optimizer"]:
        from mirembed.training.optimizer import resolve_optimizer

        resolve_optimizer(optimizer)
    return {
        **described,
        "networks": {spec: resolve_network(registry, spec).to_json() for spec in networks},
        "approaches": {
            name: described["approaches"][name] if one.model is not None else _describe_approach(one, registry, {})
            for name, one in approaches.items()
        },
        "methods": [_describe_method(method) for method in methods],
        "learners": {
            name: describe_learner(registry, spec, [method.approach for method in methods if method.learner == spec])
            for name, spec in learners.items()
        },
        "optimizer": optimizer,
        "epochs": epochs,
    }


def network_uses(
    settings: Settings, registry: Registry, methods: Sequence[Method], features: Mapping[str, FeaturesInfo]
) -> list[NetworkUse]:
    """Return the networks that methods use, with the features that they use them on, each once."""
    from mirembed.training.engine import NetworkUse
    from mirembed.training.excerpts import InputForm

    pairs = dict.fromkeys((m.network, m.features) for m in methods if m.network is not None and m.features is not None)
    uses = []
    for network, spec in pairs:
        info = features[spec]
        form = InputForm.of(info.hop, settings.excerpt, settings.deltas)
        uses.append(NetworkUse(resolve_network(registry, network), spec, info.values, form))
    return uses


def choose_engine_for(
    settings: Settings,
    registry: Registry,
    methods: Sequence[Method],
    features: Mapping[str, FeaturesInfo],
    note: Callable[[str], None],
) -> str:
    """Check optimizer and networks on small examples, and choose the engine; see `choose_engine`.

    Raises
    ------
    SpecError
        If the optimizer or the engine cannot be used.
    PluginError
        If a network fails a check.
    """
    from mirembed.training.engine import choose_engine
    from mirembed.training.network import PluginNetwork
    from mirembed.training.network_checks import check_network
    from mirembed.training.optimizer import resolve_optimizer

    resolve_optimizer(settings.optimizer)
    uses = network_uses(settings, registry, methods, features)
    trained = {(method.network, method.features) for method in methods if method.approach.trains}
    for use in uses:
        network = PluginNetwork.create(registry, Spec.parse(use.choice.spec))
        inputs, excerpt = use.form.inputs(use.values), use.form.excerpt
        check_network(network, inputs, excerpt, trained=(use.choice.spec, use.features) in trained)
    return choose_engine(settings.engine, settings.device, note, uses)


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
