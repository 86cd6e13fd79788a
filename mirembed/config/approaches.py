"""Approaches: how a prediction is made, and what has to be trained for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirembed.errors import SpecError
from mirembed.specs import Spec

NETWORK_BASELINES = ("nn", "fl")
"""One network trained to predict the labels: its own predictions, and its embedding given to the learner."""

UNTRAINED_BASELINES = ("chance", "mel", "untrained")
"""What a trained network has to beat: no features, statistics of the mel bands, a network as it was drawn."""


@dataclass(frozen=True)
class Approach:
    """``nn``, ``fl``, similarity learning with a given similarity, or a baseline in which nothing is trained.

    Attributes
    ----------
    name : str
        As it is written: ``nn``, ``fl``, ``rbf-sl``, ``rbf:gamma=2-sl``, ``chance``, ``mel``, ``untrained``.
    similarity : Spec or None
        What the embeddings' similarities are computed with; None for the baselines.
    label_similarity : Spec or None
        The same for the labels.
    """

    name: str
    similarity: Spec | None = None
    label_similarity: Spec | None = None

    @classmethod
    def parse(cls, text: str, label_similarity: Spec | None = None) -> Approach:
        """Read an approach.

        Raises
        ------
        SpecError
            If it is no baseline and not a similarity followed by ``-sl``.
        """
        if text in NETWORK_BASELINES + UNTRAINED_BASELINES:
            return cls(text)
        if not text.endswith("-sl"):
            raise SpecError(
                f"{text!r} is no approach; write {', '.join(NETWORK_BASELINES + UNTRAINED_BASELINES)}, or a similarity "
                "followed by -sl: rbf-sl, rbf:gamma=2-sl"
            )
        similarity = Spec.parse(text.removesuffix("-sl"))
        return cls(f"{similarity}-sl", similarity, label_similarity or similarity)

    @property
    def training(self) -> str:
        """What identifies the network: approaches with the same value share one training (``nn`` and ``fl``)."""
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
        The approach's name; where several learners are tried, ``APPROACH+LEARNER``.
    approach : Approach
    learner : Spec or None
        None where no learner is needed: ``nn``, ``chance``.
    """

    name: str
    approach: Approach
    learner: Spec | None


def methods(approaches: Sequence[Approach], learners: Sequence[Spec]) -> tuple[Method, ...]:
    """Return every approach with every learner; an approach that needs none stands once."""
    several = len(learners) > 1
    return tuple(
        Method(f"{approach.name}+{learner}" if several and learner else approach.name, approach, learner)
        for approach in approaches
        for learner in (learners if approach.learns else [None])
    )
