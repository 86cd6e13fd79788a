"""Approaches: how a prediction is made, and what has to be trained for it."""

from __future__ import annotations

from dataclasses import dataclass

from mirembed.errors import SpecError
from mirembed.specs import Spec


@dataclass(frozen=True)
class Approach:
    """``nn``, ``fl``, or similarity learning with a given similarity.

    Attributes
    ----------
    name : str
        As it is written: ``nn``, ``fl``, ``rbf-sl``, ``rbf:gamma=2-sl``.
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
            If it is not ``nn``, ``fl`` or a similarity followed by ``-sl``.
        """
        if text in ("nn", "fl"):
            return cls(text)
        if not text.endswith("-sl"):
            raise SpecError(
                f"{text!r} is no approach; write nn, fl, or a similarity followed by -sl: rbf-sl, rbf:gamma=2-sl"
            )
        similarity = Spec.parse(text.removesuffix("-sl"))
        return cls(f"{similarity}-sl", similarity, label_similarity or similarity)

    @property
    def training(self) -> str:
        """What identifies the network: approaches with the same value share one training (``nn`` and ``fl``)."""
        return "baseline" if self.similarity is None else f"{self.similarity} | {self.label_similarity}"

    @property
    def learns(self) -> bool:
        """Whether a learner makes the predictions, and not the network itself."""
        return self.name != "nn"
