"""The work of a run: its parts in worker processes, with one progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mirembed.evaluate.parts import Part, evaluate_part
from mirembed.progress import Progress, counted
from mirembed.workers.trainings import run_trainings


def run_parts(parts: Sequence[Part], jobs: int, progress: Progress) -> None:
    """Do the parts of a run that are not done.

    Parameters
    ----------
    parts : sequence of Part
    jobs : int
        Worker processes; the numbers do not depend on it.
    progress : Progress
    """
    missing = [part for part in parts if not part.folder.exists()]
    trained = [part for part in missing if part.job.approach.trains]
    untrained = [part for part in missing if not part.job.approach.trains]
    epochs = [part.job.settings.epochs for part in trained]
    _run(evaluate_part, trained, epochs, jobs, progress, _training(trained))
    _run(evaluate_part, untrained, [1] * len(untrained), jobs, progress, "scoring what has no network")


def _run(
    function: Callable[[Any, Callable[[int], None]], None],
    arguments: Sequence[Any],
    amounts: Sequence[int],
    jobs: int,
    progress: Progress,
    description: str,
) -> None:
    if arguments:
        for _ in run_trainings(function, arguments, amounts, jobs, progress, description):
            pass


def _training(parts: Sequence[Part]) -> str:
    epochs = max((part.job.settings.epochs for part in parts), default=0)
    return f"training {counted(len(parts), 'network')} for {counted(epochs, 'epoch')}"
