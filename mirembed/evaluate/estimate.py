"""Estimates of the time, memory and disk space of an experiment, from two epochs of one training of each kind."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import psutil
from numpy.typing import NDArray

from mirembed.evaluate.experiment import embed_missing
from mirembed.evaluate.fold import FoldTraining, train_fold
from mirembed.evaluate.plan import PlannedRun
from mirembed.fit.job import Job
from mirembed.fit.selection import inner_trainings
from mirembed.progress import NO_PROGRESS, Progress, counted, duration, size
from mirembed.runs.folder import RunFolder
from mirembed.workers.executor import run_trainings

_EPOCHS = 2

_Kind: TypeAlias = tuple[str | None, str | None, bool, bool]
"""Features, network, whether it is trained, and whether in an inner fold: trainings of one kind cost the same."""


@dataclass(frozen=True)
class TrainingCost:
    """The cost of trainings with the same features and network.

    Attributes
    ----------
    features, network : str or None
        None for methods without.
    trained : bool
        Whether the network is trained; otherwise only learners are fitted.
    inner : bool
        Whether in inner folds, to choose something.
    trainings : int
        How many there are; the networks of an ensemble are one training.
    ensemble : int
        Networks of each training.
    scorings : int
        How often learners are fitted to the embeddings of a fold and its test tracks predicted.
    seconds : float
        Of each, in one worker process.
    memory : int
        Bytes of a worker process, without shared memory.
    shared : int
        Bytes of the memory that the worker processes share.
    disk : int
        Bytes that all of them write into the run folder.
    """

    features: str | None
    network: str | None
    trained: bool
    inner: bool
    trainings: int
    ensemble: int
    scorings: int
    seconds: float
    memory: int
    shared: int
    disk: int

    def describe(self) -> str:
        """Return the cost in a line."""
        what = " on ".join(name for name in (self.network, self.features) if name is not None) or "no features"
        if not self.trained:
            what += ", not trained"
        if self.inner:
            what += ", in inner folds"
        many = counted(self.trainings, "training" if self.trained else "fit")
        if self.ensemble > 1:
            many += f" of {self.ensemble} networks"
        return f"{what}: {many}, about {duration(self.seconds)} each"


@dataclass(frozen=True)
class Cost:
    """The cost of one evaluation.

    Attributes
    ----------
    name : str
        Dataset and folds.
    trainings : int
        Networks to train, those of inner folds included.
    epochs : int
        Epochs of each network.
    scorings : int
        How often learners are fitted to the embeddings of a fold and its test tracks predicted.
    seconds : float
        With all worker processes.
    memory : int
        Bytes of all worker processes together, with shared memory counted once.
    frames : int
        Bytes of the files with all frames, which the workers share and the system may drop from memory.
    disk : int
        Bytes of the run folder.
    parts : tuple of TrainingCost
        By features and network.
    """

    name: str
    trainings: int
    epochs: int
    scorings: int
    seconds: float
    memory: int
    frames: int
    disk: int
    parts: tuple[TrainingCost, ...]

    def describe(self) -> str:
        """Return the cost in a line, and a line for each of its parts."""
        whole = (
            f"{self.name}: {counted(self.trainings, 'network')}, scored {counted(self.scorings, 'time')}: about "
            f"{duration(self.seconds)}, {size(self.memory)} of memory, {size(self.frames)} of frames, "
            f"{size(self.disk)} of disk space"
        )
        return "\n".join([whole, *(f"  {part.describe()}" for part in self.parts)])


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
        """Return the costs and their sum."""
        lines = [cost.describe() for cost in self.costs]
        return "\n".join([*lines, f"total: about {duration(self.seconds)} with --jobs {self.jobs}; nothing was saved"])


@dataclass(frozen=True)
class _Measured:
    """Seconds of an epoch of a network and of a scoring; bytes of a worker's own and shared memory, and on disk."""

    epoch: float
    scoring: float
    memory: int
    shared: int
    disk: int


def estimate(planned: Sequence[PlannedRun], *, jobs: int, progress: Progress = NO_PROGRESS) -> Estimate:
    """Measure two epochs and one scoring of each combination of features and network, and estimate the total cost.

    Nothing is left on the disk.

    Parameters
    ----------
    planned : sequence of PlannedRun
    jobs : int
        Worker processes.
    """
    return Estimate(tuple(_estimate_run(one, jobs, progress) for one in planned), jobs)


def _estimate_run(planned: PlannedRun, jobs: int, progress: Progress) -> Cost:
    for note in planned.fold_notes:
        progress.note(note)
    with tempfile.TemporaryDirectory(prefix="mirembed-") as folder, planned.tracks.in_use():
        trainings = planned.trainings(RunFolder.resume_at(Path(folder) / "run", {}, ""))
        kinds: dict[_Kind, list[FoldTraining]] = {}
        for training, is_inner in (pair for one in trainings for pair in _with_inner(one)):
            method = training.job.methods[0]
            kinds.setdefault((method.features, method.network, method.approach.trains, is_inner), []).append(training)
        # Trainings of one kind have the same size; they differ in the number of their learners.
        samples = [max(group, key=lambda one: len(one.job.methods)) for group in kinds.values()]
        embed_missing(samples, 1, progress)
        description = f"measuring {_EPOCHS} epochs of {planned.describe()}"
        arguments = [_shorten(sample) for sample in samples]
        epochs = [max(1, argument.job.epochs) for argument in arguments]
        measured = dict(run_trainings(_measure, arguments, epochs, 1, progress, description))
    parts = tuple(_cost(kind, group, measured[number]) for number, (kind, group) in enumerate(kinds.items()))
    workers = min(jobs, sum(max(1, len(training.networks)) for training in trainings))
    return Cost(
        name=planned.describe(),
        trainings=sum(part.trainings * part.ensemble for part in parts if part.trained),
        epochs=planned.settings.epochs,
        scorings=sum(part.scorings for part in parts),
        seconds=sum(part.seconds * part.trainings for part in parts) / workers,
        memory=max(part.shared + part.memory * workers for part in parts),
        frames=sum(math.prod(frames.shape) * 4 for frames in planned.tracks.frames.values()),
        disk=sum(part.disk for part in parts),
        parts=parts,
    )


def _with_inner(training: FoldTraining) -> Iterator[tuple[FoldTraining, bool]]:
    """Yield a training and those in its inner folds, and whether they are such.

    Which network is chosen is not known; that of the command stands for it.
    """
    selection = training.selection
    if training.stacking is not None:
        for number, (of_fold, test) in enumerate(training.stacking.jobs(training.job)):
            yield _inner(training, of_fold, training.job.rows[test], f"stacking-{number}"), True
        training = replace(training, stacking=None)
    if selection is None or not selection.of_network:
        yield training, False
        return
    yield replace(training, selection=None), False
    for number, inner in enumerate(inner_trainings(training.job, selection)):
        yield _inner(training, inner.job, inner.test, str(number)), True


def _inner(training: FoldTraining, job: Job, test: NDArray[np.int64], name: str) -> FoldTraining:
    """Return the training of an inner fold, with a part of its own."""
    part = replace(training.part, folder=training.part.folder.with_name(f"{training.part.folder.name}-{name}"))
    return replace(training, job=job, test=test, part=part, keep_embeddings="none", selection=None, stacking=None)


def _cost(kind: _Kind, group: Sequence[FoldTraining], measured: _Measured) -> TrainingCost:
    """Return the cost of the trainings of a kind."""
    features, network, trained, inner = kind
    n, settings = len(group), group[0].job.settings
    scorings = 1
    if trained and settings.checkpoint_every:
        scorings = math.ceil(settings.epochs / settings.checkpoint_every)
    return TrainingCost(
        features=features,
        network=network,
        trained=trained,
        inner=inner,
        trainings=n,
        ensemble=group[0].job.ensemble,
        scorings=n * scorings,
        seconds=group[0].job.epochs * measured.epoch + scorings * measured.scoring,
        memory=measured.memory,
        shared=measured.shared,
        disk=0 if inner else measured.disk * n * scorings,
    )


def _shorten(training: FoldTraining) -> FoldTraining:
    settings = replace(training.job.settings, epochs=_EPOCHS, checkpoint_every=0)
    # Learners are calibrated after the last epoch only, which hardly matters where there are many checkpoints.
    calibrate = training.job.calibrate and not (training.job.approach.trains and training.job.settings.checkpoint_every)
    job = replace(training.job, settings=settings, checkpoint=None, calibrate=calibrate)
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
