"""Tasks on the machines of a Dask cluster, where joblib's backend is Dask's.

The switch is joblib's own, so that a program in Python has it too::

    with joblib.parallel_config("dask", client=client):
        extract(...)

The tasks are handed to Dask itself: joblib's ``Parallel`` computes in this process where the cluster has one thread,
leaves arguments with one worker, which takes them along when it is lost, and waits for ever for a task that ended it.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from mirembed.errors import SpecError, WorkerError
from mirembed.provenance import versions
from mirembed.workers.outcomes import Done

Argument = TypeVar("Argument")
Result = TypeVar("Result")

ENGINES = ("local", "dask")
"""What may do the work of the worker processes."""

PATIENCE = 30
"""Seconds to wait for the scheduler, and for the first worker."""

_AHEAD = 2
"""Tasks handed out for each thread of the cluster."""


@contextlib.contextmanager
def engine(name: str, scheduler: str | None) -> Iterator[None]:
    """Let Dask do the work for the length of a ``with`` block, if ``name`` says so.

    Parameters
    ----------
    name : {"local", "dask"}
    scheduler : str or None
        Of Dask: ``tcp://HOST:PORT``.

    Raises
    ------
    SpecError
        If the two do not fit, or Dask is not installed.
    WorkerError
        If the scheduler cannot be reached.
    """
    if name not in ENGINES:
        raise SpecError(f"--backend-jobs {name}: expected {' or '.join(ENGINES)}")
    if name == "local":
        if scheduler is not None:
            raise SpecError(f"--scheduler {scheduler} belongs to --backend-jobs dask")
        yield
        return
    if scheduler is None:
        raise SpecError("--backend-jobs dask needs the address of a scheduler: --scheduler tcp://HOST:8786")
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
        raise SpecError("--backend-jobs dask: Dask is not installed; pip install 'mirembed[dask]'") from None
    try:
        return Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise WorkerError(
            f"the scheduler {scheduler} cannot be reached ({reason}); start one with `dask scheduler`, and workers "
            f"with `dask worker {scheduler}`"
        ) from error


def is_cluster() -> bool:
    """Return whether joblib's backend is Dask's at this moment."""
    return _client() is not None


def n_threads() -> int:
    """Return the number of tasks that the cluster does at once; wait for its first worker.

    Raises
    ------
    WorkerError
        If no worker comes.
    """
    client = _client()
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        address = client.scheduler.address
        raise WorkerError(f"the scheduler {address} has no worker; start some with `dask worker {address}`") from None
    return sum(client.ncores().values())


def run_on_cluster(function: Callable[[Argument], Result], arguments: Sequence[Argument]) -> Iterator[Done[Result]]:
    """Call ``function`` on every argument in the workers of the cluster and yield the results as they come.

    The tasks of a worker that is lost are done again by another: they are to bear that.

    Parameters
    ----------
    function : callable
        A module-level function.
    arguments : sequence

    Raises
    ------
    WorkerError
        If there is no worker, a worker has other versions than this program, or a task was lost with several workers.
    Exception
        Whatever ``function`` raises; the other tasks are given up.
    """
    from distributed import as_completed

    client = _client()
    waiting = iter(enumerate(arguments))
    here = versions()
    handed_out: dict[Any, int] = {}

    def hand_out(number: int) -> list[Any]:
        # Whatever two tasks have in common, they are two: a key of its own for each.
        new = {client.submit(_call, function, a, here, pure=False): i for i, a in itertools.islice(waiting, number)}
        handed_out.update(new)
        return list(new)

    completed = as_completed(hand_out(_AHEAD * n_threads()), loop=client.loop)
    try:
        for future in completed:
            result = _result(future)
            completed.update(hand_out(1))
            yield Done(handed_out.pop(future), result)
    finally:
        client.cancel(list(handed_out))


def _client() -> Any:
    """Return the client of joblib's backend, or None where that is not Dask's."""
    from joblib.parallel import BACKENDS, get_active_backend

    backend, _ = get_active_backend()
    dask = BACKENDS.get("dask")  # there once it has been asked for
    return backend.client if dask is not None and isinstance(backend, dask) else None


def _result(future: Any) -> Any:
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise WorkerError(
            f"a task was lost with {error.allowed_failures + 1} workers of the cluster, perhaps for want of memory; "
            "see their logs and run the same command again: what is finished is kept"
        ) from error
    except (CancelledError, TimeoutError, OSError) as error:
        raise WorkerError(
            f"the cluster was lost ({type(error).__name__}); run the same command again: what is finished is kept"
        ) from error


def _call(function: Callable[[Argument], Result], argument: Argument, expected: dict[str, str]) -> Result:
    """In a worker of the cluster: call, if it would compute what the program would."""
    found = versions()
    for name, version in expected.items():
        if found.get(name) != version:
            import platform

            raise WorkerError(
                f"the worker on {platform.node()} has {name} {found.get(name, 'not at all')}, this program {version}; "
                "install the same versions on all machines"
            )
    return function(argument)
