"""The work of a run: its parts in worker processes, with one progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mirembed.config import Experiment
from mirembed.evaluate.parts import Part, evaluate_part, make_stacks, score_part, train_stack
from mirembed.progress import Progress, counted
from mirembed.workers.trainings import run_trainings


def is_stacked(experiment: Experiment) -> bool:
    """Return whether the networks are trained together: on a GPU, which is quick with large operations only."""
    return experiment.device == "cuda"


def run_parts(parts: Sequence[Part], jobs: int, stacked: bool, progress: Progress) -> None:
    """Do the parts of a run that are not done.

    Parameters
    ----------
    parts : sequence of Part
    jobs : int
        Worker processes; the numbers do not depend on it.
    stacked : bool
        Whether one process trains many networks together, and the worker processes only score them.
    progress : Progress
    """
    missing = [part for part in parts if not part.on_disk.exists]
    trained = [part for part in missing if part.job.approach.trains]
    untrained = [part for part in missing if not part.job.approach.trains]
    epochs = [part.job.settings.epochs for part in trained]
    if stacked:
        stacks = make_stacks(parts)
        left = [part for stack in stacks for part in stack if not part.is_trained]
        _run(train_stack, stacks, [*map(_epochs_left, stacks)], 1, progress, _training(left))
        scores = [len(part.scored_epochs) for part in trained]
        _run(score_part, trained, scores, jobs, progress, f"scoring {counted(len(trained), 'network')}")
    else:
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


def _epochs_left(parts: Sequence[Part]) -> int:
    return sum(part.job.settings.epochs for part in parts if not part.is_trained)
