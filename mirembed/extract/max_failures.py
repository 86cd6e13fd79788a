"""How many files may fail before an extraction is given up."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirembed.errors import SpecError


@dataclass(frozen=True)
class MaxFailures:
    """A number of files, or a share of those that the dataset lists.

    Attributes
    ----------
    value : float
        Files, or percent.
    percent : bool
    """

    value: float
    percent: bool

    @classmethod
    def parse(cls, text: str) -> MaxFailures:
        """Read ``10`` or ``5%``.

        Raises
        ------
        SpecError
        """
        found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*%", text.strip())
        if not found or (found[2] and float(found[2]) > 100):
            raise SpecError(f"--max-failures {text}: expected a number of files such as 10, or a share such as 5%")
        return cls(float(found[1] or found[2]), percent=found[2] is not None)

    def exceeded_by(self, n_failed: int, n_files: int) -> bool:
        """Whether so many failures of so many files are too many."""
        return n_failed > (self.value * n_files / 100 if self.percent else self.value)

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.percent else f"{self.value:g}"
