"""Estimates of the time, memory and disk space of an experiment, from two epochs of one training per evaluation."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from mirembed.evaluate.fold import FoldTraining, train_fold
from mirembed.evaluate.plan import PlannedRun
from mirembed.progress import Progress, Silent, counted, duration, size
from mirembed.runs.folder import RunFolder
from mirembed.workers.trainings import run_trainings

_EPOCHS = 2


@dataclass(frozen=True)
class Cost:
    """The cost of one evaluation.

    Attributes
    ----------
    name : str
        Dataset and folds.
    trainings : int
        Networks to train.
    epochs : int
        Epochs of each network.
    scorings : int
        How often learners are fitted to the embeddings of a fold and its test tracks predicted.
    seconds : float
        With all worker processes.
    memory : int
        Bytes of all worker processes together, with shared memory counted once.
    frames : int
        Bytes of the file with all frames, which the workers share and the system may drop from memory.
    disk : int
        Bytes of the run folder.
    """

    name: str
    trainings: int
    epochs: int
    scorings: int
    seconds: float
    memory: int
    frames: int
    disk: int

    def describe(self) -> str:
        """Return the cost in a line."""
        return (
            f"{self.name}: {counted(self.trainings, 'network')}, scored {counted(self.scorings, 'time')}: about "
            f"{duration(self.seconds)}, {size(self.memory)} of memory, {size(self.frames)} of frames, "
            f"{size(self.disk)} of disk space"
        )


@dataclass(frozen=True)
class Estimate:
    """The cost of an experiment."""

    costs: tuple[Cost, ...]
    jobs: int

    @property
    def seconds(self) -> float:
        """Time of all evaluations."""
        return sum(cost.seconds for cost in self.costs)

    def to_json(self) -> dict[str, Any]:
        """Return the costs as JSON."""
        return {"evaluations": [asdict(cost) for cost in self.costs], "jobs": self.jobs, "seconds": self.seconds}

    def describe(self) -> str:
        """Return the costs, a line each, and their sum."""
        lines = [cost.describe() for cost in self.costs]
        return "\n".join([*lines, f"total: about {duration(self.seconds)} with --jobs {self.jobs}; nothing was saved"])


@dataclass(frozen=True)
class _Measured:
    """Seconds of an epoch and of a scoring; bytes of a worker's own memory, of its shared memory and on disk."""

    epoch: float
    scoring: float
    memory: int
    shared: int
    disk: int


def estimate(planned: Sequence[PlannedRun], *, jobs: int, progress: Progress | None = None) -> Estimate:
    """Measure two epochs and one scoring of each evaluation, and estimate the cost of all of it.

    Nothing is left on the disk.

    Parameters
    ----------
    planned : sequence of PlannedRun
    jobs : int
        Worker processes.
    """
    return Estimate(tuple(_estimate_run(one, jobs, progress or Silent()) for one in planned), jobs)


def _estimate_run(planned: PlannedRun, jobs: int, progress: Progress) -> Cost:
    tracks, settings = planned.tracks, planned.settings
    for note in planned.fold_notes:
        progress.note(note)
    with tempfile.TemporaryDirectory(prefix="mirembed-") as folder, tracks.in_use():
        trainings = planned.trainings(RunFolder.resume_at(Path(folder) / "run", {}, ""))
        trained = [training for training in trainings if training.job.approach.trains]
        # All networks have the same size; they differ in the number of their learners.
        sample = max(trained or trainings, key=lambda training: len(training.job.methods))
        description = f"measuring {_EPOCHS} epochs of {planned.describe()}"
        [(_, measured)] = run_trainings(_measure, [_shorten(sample)], [_EPOCHS], 1, progress, description)
    checkpoints = math.ceil(settings.epochs / settings.checkpoint_every) - 1 if settings.checkpoint_every else 0
    scorings = len(trainings) + len(trained) * checkpoints
    workers = min(jobs, len(trainings))
    return Cost(
        name=planned.describe(),
        trainings=len(trained),
        epochs=settings.epochs,
        scorings=scorings,
        seconds=(len(trained) * settings.epochs * measured.epoch + scorings * measured.scoring) / workers,
        memory=measured.shared + measured.memory * workers,
        frames=sum(math.prod(frames.shape) * 4 for frames in tracks.frames.values()),
        disk=measured.disk * scorings,
    )


def _shorten(training: FoldTraining) -> FoldTraining:
    settings = replace(training.job.settings, epochs=_EPOCHS, checkpoint_every=0)
    job = replace(training.job, settings=settings, checkpoint=None)
    keep = training.keep_embeddings
    return replace(training, job=job, models=None, keep_embeddings="all" if keep == "all" else "none")


def _measure(training: FoldTraining, on_epoch: Callable[[int], None]) -> _Measured:
    """Train and score, and measure how long that takes; runs in a worker."""
    times = [time.perf_counter()]

    def note_time(epoch: int) -> None:
        times.append(time.perf_counter())
        on_epoch(epoch)

    train_fold(training, note_time)
    scoring = time.perf_counter() - times[-1]
    memory = psutil.Process().memory_full_info()
    return _Measured(
        # The last epoch: the first includes what is done only once.
        epoch=times[-1] - times[-2] if len(times) > 1 else 0.0,
        scoring=scoring,
        memory=memory.uss,
        shared=memory.rss - memory.uss,
        disk=sum(path.stat().st_size for path in training.part.folder.iterdir()),
    )
