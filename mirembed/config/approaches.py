"""Approaches and methods: how predictions are made, and which of them share a trained network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mirembed.errors import SpecError
from mirembed.specs import Spec

NETWORK_BASELINES = ("nn", "fl")
"""Both train a network to predict labels: ``nn`` uses its predictions, ``fl`` gives its embeddings to a learner."""

UNTRAINED_BASELINES = ("chance", "mel", "untrained")
"""What a trained network has to beat: no features, statistics of the mel bands, an untrained network."""


@dataclass(frozen=True)
class Approach:
    """A way to make predictions: ``nn``, ``fl``, learning a similarity, or a baseline without training.

    Attributes
    ----------
    name : str
        As typed: ``nn``, ``fl``, ``rbf-sl``, ``rbf:gamma=2-sl``, ``chance``, ``mel``, ``untrained``.
    similarity : Spec or None
        Compares embeddings; None for the baselines.
    label_similarity : Spec or None
        Compares labels; None for the baselines.
    """

    name: str
    similarity: Spec | None = None
    label_similarity: Spec | None = None

    @classmethod
    def parse(cls, text: str, label_similarity: Spec | None = None) -> Approach:
        """Read an approach.

        >>> Approach.parse("rbf:gamma=2-sl").similarity
        Spec(name='rbf', parameters={'gamma': '2'})

        Raises
        ------
        SpecError
            If it is neither a baseline nor a similarity followed by ``-sl``.
        """
        baselines = NETWORK_BASELINES + UNTRAINED_BASELINES
        if text in baselines:
            return cls(text)
        if not text.endswith("-sl"):
            raise SpecError(
                f"unknown approach {text!r}: expected {', '.join(baselines)}, or a similarity followed by -sl, such as "
                "rbf-sl or rbf:gamma=2-sl"
            )
        similarity = Spec.parse(text.removesuffix("-sl"))
        return cls(f"{similarity}-sl", similarity, label_similarity or similarity)

    @property
    def training(self) -> str:
        """Identifies the network: approaches with the same value, such as ``nn`` and ``fl``, share one training."""
        if self.name in NETWORK_BASELINES:
            return "baseline"
        return self.name if self.similarity is None else f"{self.similarity} | {self.label_similarity}"

    @property
    def trains(self) -> bool:
        """Whether a network is trained."""
        return self.name not in UNTRAINED_BASELINES

    @property
    def learns(self) -> bool:
        """Whether a learner makes the predictions."""
        return self.name not in ("nn", "chance")


@dataclass(frozen=True)
class Method:
    """An approach together with the learner that makes its predictions.

    Attributes
    ----------
    name : str
        The approach's name; ``APPROACH+LEARNER`` where there are several learners.
    approach : Approach
    learner : Spec or None
        None for approaches without a learner: ``nn``, ``chance``.
    """

    name: str
    approach: Approach
    learner: Spec | None


def combine(approaches: Iterable[Approach], learners: Sequence[Spec]) -> tuple[Method, ...]:
    """Combine every approach with every learner; an approach without a learner makes one method.

    >>> [method.name for method in combine([Approach("nn"), Approach("fl")], [Spec("svm"), Spec("knn")])]
    ['nn', 'fl+svm', 'fl+knn']
    """
    several = len(learners) > 1
    return tuple(
        Method(f"{approach.name}+{learner}" if several and learner else approach.name, approach, learner)
        for approach in approaches
        for learner in (learners if approach.learns else [None])
    )
