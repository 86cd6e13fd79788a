"""Where work runs: in processes of this machine, or on the machines of a Dask cluster; and trainings on either.

joblib's own setting switches to the cluster, so it works in a Python program, too::

    with joblib.parallel_config("dask", client=client):
        extract(...)

The tasks go to Dask directly, not through joblib's ``Parallel``, which computes in this process if the cluster has one
thread, keeps arguments in a worker that may die with them, and waits forever for a task that killed its worker.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic

import numpy as np

from mirembed import workers
from mirembed.errors import SpecError, WorkerError
from mirembed.interruption import interruptible
from mirembed.progress import Progress
from mirembed.provenance import core_code, versions
from mirembed.workers import Argument, Crashed, Done, Result, blocked_tasks, unblock
from mirembed.workers.processes import ForkServer, forkserver

EXECUTORS = ("local", "dask")
"""Values of ``--executor``."""

CONNECT_TIMEOUT = 30
"""Seconds to wait for the scheduler, and for the first worker."""

_TASKS_PER_THREAD = 2
"""Tasks submitted ahead of time for each thread of the cluster."""

_LOAD = "mirembed.fit.job:load"
"""Imports what trainings need, in the process that forks their workers. By name: not in this process."""


@contextlib.contextmanager
def executor(name: str, scheduler: str | None, jobs: int | None = None) -> Iterator[None]:
    """Run the work of the ``with`` block on a Dask cluster if ``name`` is ``"dask"``.

    Parameters
    ----------
    name : {"local", "dask"}
    scheduler : str or None
        Address of the Dask scheduler: ``tcp://HOST:PORT``.
    jobs : int or None
        Number of worker processes, if the user chose one; not for a cluster.

    Raises
    ------
    SpecError
        If they contradict each other, or Dask is not installed.
    WorkerError
        If the scheduler cannot be reached.
    """
    if name not in EXECUTORS:
        raise SpecError(f"--executor {name}: expected {' or '.join(EXECUTORS)}")
    if name == "local":
        if scheduler is not None:
            raise SpecError(f"--scheduler {scheduler} needs --executor dask")
        yield
        return
    if jobs is not None:
        raise SpecError(f"--jobs {jobs} and --executor {name}: the cluster sets the number of workers; omit --jobs")
    if scheduler is None:
        raise SpecError("--executor dask needs the address of a scheduler: --scheduler tcp://HOST:8786")
    if not re.fullmatch(r"(tcp|tls|ws|wss)://\S+:\d+", scheduler):
        raise SpecError(f"--scheduler {scheduler}: expected an address such as tcp://HOST:8786")
    with _connect(scheduler) as client:
        import joblib

        with joblib.parallel_config("dask", client=client):
            yield


def _connect(scheduler: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise SpecError("--executor dask: Dask is not installed; pip install 'mirembed[dask]'") from None
    try:
        with interruptible():
            return Client(scheduler, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise WorkerError(
            f"cannot reach the scheduler {scheduler} ({reason}); start one with `dask scheduler`, and workers with "
            f"`dask worker {scheduler}`"
        ) from error


def is_cluster() -> bool:
    """Return whether joblib's active backend is Dask."""
    return _client() is not None


def n_threads() -> int:
    """Return how many tasks the cluster runs at once; wait for its first worker.

    Raises
    ------
    WorkerError
        If there is no worker.
    """
    client = _client()
    try:
        with interruptible():
            client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
    except TimeoutError:
        address = client.scheduler.address
        raise WorkerError(f"the scheduler {address} has no workers; start some with `dask worker {address}`") from None
    return sum(client.ncores().values())


def run_on_cluster(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    after: Mapping[int, Iterable[int]] = MappingProxyType({}),
) -> Iterator[Done[Result]]:
    """Call ``function`` on every argument in the workers of the cluster, and yield the results as they arrive.

    If a worker is lost, another one repeats its tasks; they must allow that.

    Parameters
    ----------
    function : callable
        A module-level function.
    arguments : sequence
    after : mapping of int to iterable of int
        See `mirembed.workers.run`.

    Raises
    ------
    WorkerError
        If there is no worker, a worker has other versions than this program, or several workers died of one task.
    Exception
        Whatever ``function`` raises; the remaining tasks are abandoned.
    """
    from distributed import as_completed

    client = _client()
    blocked = blocked_tasks(after)
    waiting = [task for task in range(len(arguments)) if task not in blocked][::-1]
    expected = _installed()
    submitted: dict[Any, int] = {}

    def submit() -> list[Any]:
        tasks = [waiting.pop() for _ in range(min(len(waiting), most - len(submitted)))]
        # pure=False: equal arguments are different tasks.
        new = {client.submit(_call, function, arguments[i], expected, pure=False): i for i in tasks}
        submitted.update(new)
        return list(new)

    most = _TASKS_PER_THREAD * n_threads()
    completed = as_completed(submit(), loop=client.loop)
    try:
        while submitted:
            with interruptible():
                future = next(completed)
                result = _result(future)
            task = submitted.pop(future)
            waiting += unblock(blocked, task)
            completed.update(submit())
            yield Done(task, result)
    finally:
        client.cancel(list(submitted))


def _client() -> Any:
    """Return the Dask client of joblib's active backend, or None if that is another one."""
    from joblib.parallel import BACKENDS, get_active_backend

    backend, _ = get_active_backend()
    dask = BACKENDS.get("dask")  # registered by its first use
    return backend.client if dask is not None and isinstance(backend, dask) else None


def _result(future: Any) -> Any:
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise WorkerError(
            f"a task killed {error.allowed_failures + 1} workers of the cluster, perhaps because memory ran out; "
            "see their logs, then run the same command again: finished work is kept"
        ) from error
    except (CancelledError, TimeoutError, OSError) as error:
        raise WorkerError(
            f"lost the cluster ({type(error).__name__}); run the same command again: finished work is kept"
        ) from error


def _installed() -> dict[str, str]:
    """Return the versions that affect results, and what identifies the source of mirembed."""
    return {**versions(), "the source of mirembed": core_code()[: len("sha256:") + 12]}


def _call(function: Callable[[Argument], Result], argument: Argument, expected: dict[str, str]) -> Result:
    """Call ``function`` in a worker of the cluster whose versions are those of the program."""
    found = _installed()
    for name, version in expected.items():
        if found.get(name) != version:
            import platform

            raise WorkerError(
                f"the worker on {platform.node()} has {name} {found.get(name, '(missing)')}, this program has "
                f"{version}; install the same versions on all machines"
            )
    return function(argument)


@dataclass(frozen=True)
class _Training(Generic[Argument, Result]):
    """A training to run in a worker.

    Attributes
    ----------
    counters : pathlib.Path or None
        File of int32, where the training counts its epochs at ``index``. None on a cluster.
    folder : pathlib.Path or None
        The working directory on a cluster.
    """

    function: Callable[[Argument, Callable[[int], None]], Result]
    argument: Argument
    index: int
    counters: Path | None
    folder: Path | None = None


def prepare_trainings() -> contextlib.AbstractContextManager[ForkServer | None]:
    """Start the process that forks the workers of `run_trainings`, while the caller still plans in a ``with`` block."""
    return forkserver(_LOAD)


def run_trainings(
    function: Callable[[Argument, Callable[[int], None]], Result],
    arguments: Sequence[Argument],
    epochs: Sequence[int],
    jobs: int,
    progress: Progress,
    description: str,
    after: Mapping[int, Iterable[int]] = MappingProxyType({}),
) -> Iterator[tuple[int, Result]]:
    """Call ``function(argument, on_epoch)`` for each argument in worker processes, and yield ``(index, result)``.

    The results arrive in the order in which the trainings finish. On a cluster (see `executor`), each training has
    its own process on a machine that sees the store and the current folder under the same paths.

    Parameters
    ----------
    function : callable
        A module-level function. It calls ``on_epoch`` with the number of finished epochs.
    arguments : sequence
    epochs : sequence of int
        Number of epochs of each training, for the progress.
    jobs : int
        Number of worker processes; the results do not depend on it.
    progress : Progress
    description : str
    after : mapping of int to iterable of int
        See `mirembed.workers.run`.

    Raises
    ------
    WorkerError
        If a training killed its worker.
    """
    progress.start(description, sum(epochs))
    with contextlib.ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirembed-"))) / "epochs.i32"
        counters = np.memmap(path, np.int32, "w+", shape=max(1, len(arguments)))

        def tick() -> None:
            progress.update(float(counters.sum()))

        calls = [_Training(function, argument, index, path) for index, argument in enumerate(arguments)]
        if is_cluster():
            outcomes = _run_on_cluster(calls, after)
        else:
            server = stack.enter_context(forkserver(_LOAD))
            outcomes = workers.run(_train, calls, jobs, tick, after=after, server=server)
        # Closed first: the workers end before the process that forked them.
        for outcome in stack.enter_context(contextlib.closing(outcomes)):
            if isinstance(outcome, Crashed):
                raise WorkerError(
                    f"a training was lost: {outcome.reason}; use fewer --jobs if memory is short, leave out a plugin "
                    "that may be to blame, and run the same command again: it resumes where it stopped"
                )
            counters[outcome.index] = epochs[outcome.index]
            tick()
            yield outcome.index, outcome.result


def _train(call: _Training[Argument, Result]) -> Result:
    if call.folder is not None:
        os.chdir(call.folder)
    counters = None if call.counters is None else np.memmap(call.counters, np.int32, "r+")

    def on_epoch(epoch: int) -> None:
        if counters is not None:
            counters[call.index] = epoch

    return call.function(call.argument, on_epoch)


def _run_on_cluster(
    calls: Sequence[_Training[Argument, Result]], after: Mapping[int, Iterable[int]]
) -> Generator[Done[Result] | Crashed, None, None]:
    remote = [replace(call, counters=None, folder=Path.cwd()) for call in calls]
    for done in run_on_cluster(_train_isolated, remote, after):
        yield replace(done.result, index=done.index)


def _train_isolated(call: _Training[Argument, Result]) -> Done[Result] | Crashed:
    """Train in a worker of the cluster, in a process of its own that is set up as every worker process."""
    [outcome] = workers.run(_train, [call], jobs=1)
    return outcome
