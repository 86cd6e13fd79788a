"""What an experiment is made of: everything that decides its numbers, and nothing that does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from mirembed.config.approaches import Approach, Method, methods
from mirembed.errors import SpecError
from mirembed.registry import Registry
from mirembed.specs import Spec

Normalize = Literal["training", "dataset"]

DEFAULT_APPROACH = "rbf-sl"


@dataclass(frozen=True)
class Experiment:
    """The settings that `fit` and `evaluate` share.

    Attributes
    ----------
    approaches : tuple of Approach
    learners : tuple of Spec
        Each is tried with every approach that needs one.
    epochs, batch : int
    normalize : {"training", "dataset"}
        Whose statistics the bands are normalized with.
    device : str
        ``cpu`` or ``cuda``.
    engine : {"numba", "torch"}
        What computes embeddings and gradients.
    """

    approaches: tuple[Approach, ...]
    learners: tuple[Spec, ...]
    epochs: int = 400
    batch: int = 32
    normalize: Normalize = "training"
    device: str = "cpu"
    engine: str = "torch"

    @property
    def methods(self) -> tuple[Method, ...]:
        """Every approach with every learner."""
        return methods(self.approaches, self.learners)

    @property
    def trainings(self) -> list[tuple[Method, ...]]:
        """The methods, those that share a network together."""
        groups: dict[str, list[Method]] = {}
        for method in self.methods:
            groups.setdefault(method.approach.training, []).append(method)
        return [tuple(group) for group in groups.values()]

    def describe(self, registry: Registry) -> dict[str, Any]:
        """Return the settings, with the plugins and parameters that they resolve to, as JSON.

        Raises
        ------
        PluginError
            If a similarity or a learner is unknown, or refuses its parameters.
        SpecError
            If the kernel of a learner should match a similarity where none is learned.
        """
        from mirembed.models.learners import describe_learner

        approaches = {}
        for approach in self.approaches:
            specs = {"similarity": approach.similarity, "label_similarity": approach.label_similarity}
            for spec in specs.values():
                if spec is not None:
                    registry.create("similarity", spec)
            approaches[approach.name] = {
                role: registry.provenance("similarity", spec) for role, spec in specs.items() if spec is not None
            }
        learners = [approach for approach in self.approaches if approach.learns or approach.name == "nn"]
        return {
            "approaches": approaches,
            "methods": [
                {"name": method.name, "approach": method.approach.name, "learner": str(method.learner or "") or None}
                for method in self.methods
            ],
            "learners": {str(learner): describe_learner(registry, learner, learners) for learner in self.learners},
            "epochs": self.epochs,
            "batch": self.batch,
            "normalize": self.normalize,
            "engine": self.engine,
            "device": self.device,
        }


def on_engine(experiment: Experiment, engine: str, registry: Registry, note: Callable[[str], None]) -> Experiment:
    """Return the experiment with ``--engine`` resolved; see `mirembed.training.engine.choose_engine`.

    The check of the engine takes a second, so that errors in the names and parameters of plugins come first.

    Raises
    ------
    SpecError
        If the engine is unknown, or cannot run here.
    PluginError
        If a similarity or the learner is unknown, or refuses its parameters.
    """
    from mirembed.training.engine import choose_engine

    experiment.describe(registry)
    return replace(experiment, engine=choose_engine(engine, note))


def choose_approaches(
    approaches: Sequence[str], similarities: Sequence[str], label_similarity: str | None
) -> tuple[Approach, ...]:
    """Combine ``--approach`` and ``--similarity``, each repeatable; ``rbf-sl`` when neither is given.

    Raises
    ------
    SpecError
        If one is malformed or given twice.
    """
    labels = None if label_similarity is None else Spec.parse(label_similarity)
    names = [*approaches, *(f"{Spec.parse(similarity)}-sl" for similarity in similarities)]
    chosen = tuple(Approach.parse(name, labels) for name in names or [DEFAULT_APPROACH])
    if labels is not None and not any(approach.similarity for approach in chosen):
        listed = ", ".join(approach.name for approach in chosen)
        raise SpecError(f"--label-similarity {labels}: none of {listed} learns a similarity; leave it out")
    for position, approach in enumerate(chosen):
        if approach.name in [earlier.name for earlier in chosen[:position]]:
            raise SpecError(f"the approach {approach.name} is given twice; give it once")
    return chosen


def check_normalize(value: str) -> Normalize:
    """Read ``--normalize``.

    Raises
    ------
    SpecError
    """
    for choice in get_args(Normalize):
        if choice == value:
            return cast(Normalize, choice)
    raise SpecError(f"--normalize {value}: expected training or dataset")


def choose_device(device: str) -> str:
    """Resolve ``auto``: a CUDA device when there is one.

    Raises
    ------
    SpecError
        If a device is asked for that is not there.
    """
    import torch

    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device not in ("cpu", "cuda"):
        raise SpecError(f"--device {device}: expected auto, cpu or cuda")
    if device == "cuda" and not available:
        raise SpecError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return device
