"""Trainings of several networks on all cores: each network is trained by a task of its own, before they are used.

So the networks of an ensemble, and those of inner folds, can keep all workers busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from mirembed.fit.candidates import Selection
from mirembed.fit.job import Job
from mirembed.fit.selection import unfinished_inner_trainings
from mirembed.fit.stacking import Stacking
from mirembed.progress import Progress
from mirembed.workers.executor import run_trainings

OnEpoch = Callable[[int], None]


class Divisible(Protocol):
    """A training whose networks can be trained by other tasks."""

    @property
    def job(self) -> Job:
        """What is trained at the end."""

    @property
    def epochs(self) -> int:
        """How many epochs it trains for in all."""

    @property
    def networks(self) -> list[Job]:
        """The networks to train before it; see `networks_apart`."""

    def train_network(self, network: Job, on_epoch: OnEpoch) -> None:
        """Train one of them, in a worker."""


Training = TypeVar("Training", bound=Divisible)
Result = TypeVar("Result")


def networks_apart(final: Job | None, job: Job, selection: Selection | None, stacking: Stacking | None) -> list[Job]:
    """Return the networks of a training that wait for no other, each as a job; none if there is only one.

    Parameters
    ----------
    final : Job or None
        The job with the networks that are used in the end, unless they are chosen in inner folds; None if they are
        trained already.
    job : Job
    selection, stacking
        Of the job; networks are trained in their inner folds, too.
    """
    jobs = [] if stacking is None else stacking.unfinished(job)
    if selection is not None and selection.of_network:
        jobs += [inner.job for inner in unfinished_inner_trainings(job, selection)]
    elif final is not None:
        jobs.append(final)
    found = [network for one in jobs if one.approach.trains for network in one.networks]
    return found if len(found) > 1 else []


@dataclass(frozen=True)
class _Task(Generic[Training, Result]):
    """A network of a training; or, with None, the training itself, when ``n_before`` epochs are done."""

    function: Callable[[Training, OnEpoch], Result]
    training: Training
    network: Job | None
    n_before: int = 0


def run_in_parallel(
    function: Callable[[Training, OnEpoch], Result],
    trainings: Sequence[Training],
    jobs: int,
    progress: Progress,
    description: str,
) -> Iterator[Result]:
    """Call ``function(training, on_epoch)`` in worker processes for each training, once its networks are trained.

    Those with the longest tasks come first, and those without a network last: a worker that finds no network left to
    train has something to do while the others finish. The results come in any order.

    Parameters
    ----------
    function : callable
        See `mirembed.workers.executor.run_trainings`.
    trainings : sequence of Divisible
    jobs : int
        Number of worker processes; the results do not depend on it.
    progress : Progress
    description : str

    Raises
    ------
    MirembedError
        If a training fails.
    """
    tasks: list[_Task[Training, Result]] = []
    epochs: list[int] = []
    after: dict[int, range] = {}
    divided = [(training, training.networks) for training in trainings]
    for training, networks in sorted(divided, key=lambda one: _longest_task(*one), reverse=True):
        first = len(tasks)
        n_before = sum(network.epochs for network in networks)
        tasks += [_Task(function, training, network) for network in networks]
        epochs += [network.epochs for network in networks]
        after[len(tasks)] = range(first, len(tasks))
        tasks.append(_Task(function, training, None, n_before))
        epochs.append(max(1, training.epochs - n_before))
    for index, result in run_trainings(_run, tasks, epochs, jobs, progress, description, after):
        if tasks[index].network is None and result is not None:
            yield result


def _run(task: _Task[Training, Result], on_epoch: OnEpoch) -> Result | None:
    if task.network is None:
        return task.function(task.training, lambda epoch: on_epoch(max(0, epoch - task.n_before)))
    task.training.train_network(task.network, on_epoch)
    return None


def _longest_task(training: Divisible, networks: Sequence[Job]) -> int:
    """Return how long the longest task takes, compared with others: the values that its networks see."""
    of_networks = [network.epochs for network in networks]
    epochs = max([training.epochs - sum(of_networks), *of_networks])
    return epochs * len(training.job.rows) * training.job.features.values
