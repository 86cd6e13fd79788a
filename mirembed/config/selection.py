"""What is chosen inside the folds: parameters, each with the values to try, and the number of epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mirembed.errors import SpecError
from mirembed.specs import near_names

EPOCH = "epoch"
"""The choice between the checkpoints of a training."""

PARTS = ("learner", "similarity", "label-similarity", "network", "optimizer")
"""Parts of a method whose parameters can be chosen, named as their flags are."""


@dataclass(frozen=True)
class Choice:
    """A parameter with the values to try, or the number of epochs.

    Attributes
    ----------
    part : str
        One of `PARTS`, or ``epoch``.
    parameter : str
        Of the part's spec; empty for ``epoch``.
    values : tuple of str
        As a spec has them; empty for ``epoch``, whose values are the checkpoints.
    """

    part: str
    parameter: str = ""
    values: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Read a choice.

        >>> choice = Choice.parse("learner.C=0.1|1|10")
        >>> choice.name, choice.values
        ('learner.C', ('0.1', '1', '10'))

        Raises
        ------
        SpecError
            If the text is neither ``epoch`` nor ``PART.PARAMETER=VALUE|VALUE``, or names a value twice.
        """
        if text == EPOCH:
            return cls(EPOCH)
        name, _, rest = text.partition("=")
        part, _, parameter = name.partition(".")
        values = tuple(rest.split("|"))
        if part not in PARTS:
            near = near_names(part, [EPOCH, *PARTS], n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected epoch, or a parameter of {', '.join(PARTS)}"
            raise SpecError(f"--select {text}: {part!r} cannot be chosen; {hint}")
        if not (parameter.isidentifier() and all(values)):
            raise SpecError(f"--select {text}: expected {part}.PARAMETER=VALUE|VALUE, such as learner.C=0.1|1|10")
        if len(values) == 1:
            raise SpecError(
                f"--select {text}: one value leaves nothing to choose; give more, separated by |, or write the "
                f"parameter in --{part}"
            )
        for value, times in Counter(values).items():
            if times > 1:
                raise SpecError(f"--select {text}: {value} is given {times} times; give it once")
        return cls(part, parameter, values)

    @property
    def name(self) -> str:
        """As in tables: ``learner.C``, ``epoch``."""
        return f"{self.part}.{self.parameter}" if self.parameter else self.part


def parse_choices(texts: Sequence[str]) -> tuple[Choice, ...]:
    """Read what is to be chosen, each once.

    Raises
    ------
    SpecError
        If one is malformed, or a parameter is given twice.
    """
    choices = tuple(map(Choice.parse, texts))
    for name, times in Counter(choice.name for choice in choices).items():
        if times > 1:
            raise SpecError(f"--select {name} is given {times} times; give all its values in one --select")
    return choices


def checkpoints(epochs: int, every: int) -> list[int]:
    """Return the numbers of epochs after which a training can be scored, the last one included.

    >>> checkpoints(25, 10), checkpoints(20, 10), checkpoints(5, 0)
    ([10, 20, 25], [10, 20], [5])
    """
    return [*(range(every, epochs, every) if every else ()), epochs]
