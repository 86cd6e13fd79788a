"""The checks of an installed plugin, one outcome each, for ``mirembed plugins check``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mirembed.registry import Kind, Registry
from mirembed.specs import Spec


@dataclass(frozen=True)
class Outcome:
    """What came of one check.

    Attributes
    ----------
    check : str
        Its name, such as ``symmetric``.
    promise : str
        What it checks, in a sentence.
    status : {"passed", "failed", "skipped"}
    reason : str
        What broke, with the values; or why the check does not apply. Empty when it passed.
    given : str
        On which input it broke.
    cause : str
        What usually causes it.
    """

    check: str
    promise: str
    status: Literal["passed", "failed", "skipped"]
    reason: str = ""
    given: str = ""
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON."""
        return asdict(self)


def run_checks(kind: Kind, registry: Registry, spec: Spec, audio: Path | None = None) -> list[Outcome]:
    """Run all checks of a plugin; where the first fails, it cannot be used at all and the others are not run.

    Parameters
    ----------
    kind : {"dataset", "similarity", "learner"}
    registry : Registry
    spec : Spec
    audio : pathlib.Path or None
        The audio folder of a dataset; None for one that synthesises its own.

    Raises
    ------
    UnknownNameError, NameClashError
        If the spec names no plugin, or several.
    DatasetError
        If a dataset needs its audio folder.
    """
    raise NotImplementedError
