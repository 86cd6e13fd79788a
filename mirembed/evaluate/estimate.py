"""What an experiment will take, measured on two epochs of one training of each of its evaluations."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from mirembed.evaluate.grid import Member
from mirembed.evaluate.parts import Part, evaluate_part
from mirembed.evaluate.planning import draw_folds, plan
from mirembed.progress import Progress, Silent, duration
from mirembed.runs.folder import Run
from mirembed.workers.trainings import run_trainings

_EPOCHS = 2
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Cost:
    """What one evaluation will take.

    Attributes
    ----------
    name : str
        Dataset and folds.
    trainings : int
        Networks to train.
    epochs : int
        Of each.
    scorings : int
        How often learners are fitted to the embeddings of a fold and its test tracks predicted.
    seconds : float
        With all worker processes.
    memory : int
        Bytes of all worker processes together; what they share counts once.
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
            f"{self.name}: {self.trainings} networks, scored {self.scorings} times: about {duration(self.seconds)}, "
            f"{_mebibytes(self.memory)} of memory and {_mebibytes(self.frames)} of frames, "
            f"{_mebibytes(self.disk)} of disk"
        )


@dataclass(frozen=True)
class Estimate:
    """What an experiment will take."""

    costs: tuple[Cost, ...]
    jobs: int

    def to_json(self) -> dict[str, Any]:
        """Return the costs as JSON."""
        total = sum(cost.seconds for cost in self.costs)
        return {"evaluations": [asdict(cost) for cost in self.costs], "jobs": self.jobs, "seconds": total}

    def describe(self) -> str:
        """Return the costs, a line each, and their sum."""
        lines = [cost.describe() for cost in self.costs]
        total = sum(cost.seconds for cost in self.costs)
        lines.append(f"in all about {duration(total)} with --jobs {self.jobs}; nothing of it is kept")
        return "\n".join(lines)


def estimate(members: Sequence[Member], *, jobs: int, progress: Progress | None = None) -> Estimate:
    """Measure two epochs and one scoring of each evaluation, and reckon what all of it will take.

    Nothing is left on the disk.

    Parameters
    ----------
    members : sequence of Member
    jobs : int
        Worker processes.
    """
    return Estimate(tuple(_cost(member, jobs, progress or Silent()) for member in members), jobs)


@dataclass(frozen=True)
class _Measured:
    epoch: float
    scoring: float
    memory: int
    shared: int
    disk: int


def _cost(member: Member, jobs: int, progress: Progress) -> Cost:
    tracks, experiment, evaluation = member.tracks, member.experiment, member.evaluation
    folds, notes = draw_folds(tracks, evaluation)
    for note in notes:
        progress.note(note)
    with tempfile.TemporaryDirectory(prefix="mirembed-") as folder, tracks.frames.in_use():
        run = Run.at(Path(folder) / "run", {}, "")
        parts = plan(tracks, experiment, evaluation, folds, run, {})
        trained = [part for part in parts if part.job.approach.trains]
        # All networks are of one size; what differs is how many learners each of them has.
        sample = max(trained or parts, key=lambda part: len(part.job.methods))
        [(_, measured)] = run_trainings(
            _measure,
            [_shortened(sample)],
            [_EPOCHS],
            1,
            progress,
            f"measuring {_EPOCHS} epochs of {member.describe()}",
        )
    checkpoints = 0
    if evaluation.checkpoint_every:
        checkpoints = math.ceil(experiment.epochs / evaluation.checkpoint_every) - 1
    scorings = len(parts) + len(trained) * checkpoints
    workers = min(jobs, len(parts))
    return Cost(
        name=member.describe(),
        trainings=len(trained),
        epochs=experiment.epochs,
        scorings=scorings,
        seconds=(len(trained) * experiment.epochs * measured.epoch + scorings * measured.scoring) / workers,
        memory=measured.shared + measured.memory * workers,
        frames=math.prod(tracks.frames.shape) * 4,
        disk=measured.disk * scorings,
    )


def _shortened(part: Part) -> Part:
    settings = replace(part.job.settings, epochs=_EPOCHS, checkpoint_every=0)
    job = replace(part.job, settings=settings, checkpoint=None)
    return replace(part, job=job, models=None, keep_embeddings="all" if part.keep_embeddings == "all" else "none")


def _measure(part: Part, on_epoch: Callable[[int], None]) -> _Measured:
    """Train and score one part, and say how long that took. Runs in a worker."""
    times = [time.perf_counter()]

    def note_time(epoch: int) -> None:
        times.append(time.perf_counter())
        on_epoch(epoch)

    evaluate_part(part, note_time)
    scoring = time.perf_counter() - times[-1]
    memory = psutil.Process().memory_full_info()
    return _Measured(
        # The first epoch also pays for what is done once.
        epoch=times[-1] - times[-2] if len(times) > 1 else 0.0,
        scoring=scoring,
        memory=memory.uss,
        shared=memory.rss - memory.uss,
        disk=sum(path.stat().st_size for path in part.folder.iterdir()),
    )


def _mebibytes(size: int) -> str:
    return f"{size / _MEBIBYTE:.0f} MiB" if size >= _MEBIBYTE else f"{size / 1024:.0f} KiB"
