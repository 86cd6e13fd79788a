"""The checks of an installed plugin, one outcome each, for ``mirembed plugins check``."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from unittest import SkipTest

from mirembed.registry import Kind, Registry
from mirembed.specs import Spec
from mirembed.testing.checks import Broken, Promise, Subject
from mirembed.testing.suites import promises


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
        The audio folder of a dataset; None for one that synthesizes its own.

    Raises
    ------
    UnknownNameError, NameClashError
        If the spec names no plugin, or several.
    DatasetError
        If a dataset needs its audio folder.
    """
    registry.find(kind, spec.name)
    with contextlib.ExitStack() as stack:
        subject = Subject(kind, registry, spec, audio)
        if kind == "dataset":
            try:
                subject = replace(subject, audio=stack.enter_context(subject.audio_folder()))
            except Broken as broken:
                return [_failed(promises(kind)[0], broken)]
        outcomes: list[Outcome] = []
        for promise in promises(kind):
            outcomes.append(_outcome(promise, subject))
            if outcomes[0].status == "failed":
                break
    return outcomes


def _outcome(promise: Promise, subject: Subject) -> Outcome:
    try:
        promise.check(subject)
    except SkipTest as skip:
        return Outcome(promise.name, promise.text, "skipped", str(skip))
    except Broken as broken:
        return _failed(promise, broken)
    return Outcome(promise.name, promise.text, "passed")


def _failed(promise: Promise, broken: Broken) -> Outcome:
    return Outcome(promise.name, promise.text, "failed", broken.what, broken.given, broken.cause)
