"""Worker processes: a crash costs the task that caused it, and no other."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mirembed import workers
from mirembed.errors import WorkerError
from mirembed.workers.processes import forkserver

pytestmark = pytest.mark.slow

MIB = 2**20


def act(task: tuple[str, Any]) -> Any:
    """In a worker: return the number, or do what the task says."""
    what, number = task
    if what == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        time.sleep(60)
    if what == "grow":
        with mmap.mmap(-1, number * MIB) as memory:
            memory.write(b"x" * len(memory))
            time.sleep(60)
    if what == "leak":
        LEAKED.append(b"x" * number * MIB)
        return os.getpid()
    if what == "exit":
        os._exit(number)
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "kill once":
        if not number.exists():
            number.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1
    if what == "process":
        return os.getpid()
    if what == "loaded":
        return LEAKED
    if what == "modules":
        return set(sys.modules)
    if what == "variable":
        return os.environ.get(number)
    if what == "parent":
        return os.getppid()
    if what == "kill process":
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
            time.sleep(3600)
    if what == "begin":
        with number.open("a") as file:
            file.write("x")
    if what == "print":
        print("printed by a worker")
    if what == "raise":
        raise ValueError(number)
    if what == "raise oddly":
        raise UnpicklableError(1, 2)
    return number


LEAKED: list[bytes] = []


class UnpicklableError(Exception):
    """An exception of the kind that pickle makes from its text alone, and fails."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def loaded() -> None:
    """In the fork server: load something that workers can find."""
    LEAKED.append(b"loaded")


def slowly() -> None:
    """In the fork server: take an hour."""
    time.sleep(3600)


@pytest.fixture(params=["from scratch", "forked"])
def run(request) -> Iterator[Callable[..., Iterator]]:
    """`mirembed.workers.run`, once with workers that start from scratch and once with forked workers."""
    with contextlib.nullcontext() if request.param == "from scratch" else forkserver("test_workers:loaded") as server:
        yield functools.partial(workers.run, server=server)


forked = pytest.mark.parametrize("run", ["forked"], indirect=True)
"""For what does not depend on how workers start."""


@pytest.fixture
def outcomes(run) -> Callable[..., list]:
    def in_order(tasks: list[tuple[str, int]], jobs: int = 1, **options: object) -> list:
        return sorted(run(act, tasks, jobs, **options), key=lambda outcome: outcome.index)

    return in_order


def test_a_task_that_takes_too_long_is_stopped_and_the_others_finish(outcomes):
    limits = workers.Limits(seconds=lambda task: 1.0 if task[0] == "hang" else 60.0)
    done = outcomes([("hang", 0), *[("return", 7)] * 5], per_worker=4, limits=limits)
    assert isinstance(done[0], workers.Crashed)
    assert "1 s" in done[0].reason
    assert [outcome.result for outcome in done[1:]] == [7] * 5


def test_a_task_that_takes_too_much_memory_is_stopped_and_the_others_finish(outcomes):
    done = outcomes([("grow", 600), ("return", 7)], per_worker=4, limits=workers.Limits(memory=300 * MIB))
    assert isinstance(done[0], workers.Crashed)
    assert "0.3 GiB" in done[0].reason
    assert done[1:] == [workers.Done(1, 7)]


@forked
def test_a_worker_that_leaks_is_replaced(outcomes):
    tasks = [("process", 0), ("leak", 200), ("process", 0), ("process", 0)]
    first, _, *later = outcomes(tasks, limits=workers.Limits(kept=150 * MIB))
    assert {outcome.result for outcome in later} != {first.result}
    assert len({outcome.result for outcome in later}) == 1


@forked
def test_a_worker_that_needs_much_memory_from_its_first_task_on_is_kept(outcomes):
    tasks = [("leak", 200), ("process", 0), ("process", 0)]
    assert len({outcome.result for outcome in outcomes(tasks, limits=workers.Limits(kept=150 * MIB))}) == 1


def test_a_task_whose_worker_is_killed_is_retried_once_and_alone(outcomes, tmp_path):
    once = ("kill once", tmp_path / "killed")
    done = outcomes([once, ("return", 2), ("kill", 3), ("return", 4)], jobs=2)
    assert isinstance(done[2], workers.Crashed)
    assert "SIGKILL" in done[2].reason
    assert [*done[:2], done[3]] == [workers.Done(0, 1), workers.Done(1, 2), workers.Done(3, 4)]


def test_a_task_starts_when_those_that_it_waits_for_are_over(run, tmp_path):
    begun = tmp_path / "begun"
    tasks = [("return", 0), ("kill once", tmp_path / "killed"), ("begin", begun), ("crash", 3), ("return", 4)]
    order = [outcome.index for outcome in run(act, tasks, 3, after={0: [2, 4], 2: [1], 4: range(3, 4)})]
    assert sorted(order) == [*range(5)]
    assert order.index(1) < order.index(2) < order.index(0) > order.index(4) > order.index(3)


@forked
def test_the_reason_of_a_crash_names_the_exit_code_or_the_signal(outcomes):
    exited, crashed = outcomes([("exit", 3), ("crash", 0)])
    assert isinstance(exited, workers.Crashed)
    assert "code 3" in exited.reason
    assert isinstance(crashed, workers.Crashed)
    assert "SIGSEGV" in crashed.reason


@forked
def test_results_wait_in_the_workers_until_the_caller_takes_them(run, tmp_path):
    begun = tmp_path / "begun"
    results = run(act, [("begin", begun)] * 12, 1, per_worker=2)
    next(results)
    time.sleep(0.5)
    assert begun.stat().st_size < 8
    assert len(list(results)) == 11


def test_no_worker_outlives_an_abandoned_run(run):
    results = run(act, [("process", 0), *[("hang", 0)] * 3], 1, per_worker=4)
    process = next(results).result
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def not_there(_: object) -> None:
    """Deleted before a worker can find it."""


def test_a_function_that_no_worker_can_import_is_an_error(run, monkeypatch):
    monkeypatch.setattr(not_there, "__qualname__", "vanished")
    with pytest.raises(Exception, match="vanished"):
        list(run(not_there, [1], 1))


@pytest.mark.parametrize("forks", [False, True])
def test_output_of_a_worker_is_not_lost(capfd, forks):
    with forkserver("test_workers:loaded") if forks else contextlib.nullcontext() as server:
        list(workers.run(act, [("print", 0)], 1, server=server))
    assert "printed by a worker" in capfd.readouterr().out


@forked
def test_an_exception_that_cannot_be_pickled_keeps_its_type_and_text(run):
    with pytest.raises(RuntimeError, match="UnpicklableError: 1 and 2"):
        list(run(act, [("raise oddly", 0)], 1))


def test_an_exception_in_a_worker_reaches_the_caller():
    with pytest.raises(ValueError, match="7"):
        list(workers.run(act, [("return", 1), ("raise", 7)], 1))


def test_workers_compute_in_a_fixed_order(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    expected = {"OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    outcomes = workers.run(act, [("variable", name) for name in expected], 1)
    assert [outcome.result for outcome in outcomes] == list(expected.values())


def test_tasks_handed_out_after_a_crash_share_a_worker():
    crashed, *rest = workers.run(act, [("crash", 0), *[("process", 0)] * 3], 1)
    assert isinstance(crashed, workers.Crashed)
    assert len({outcome.result for outcome in rest}) == 1


@pytest.mark.parametrize("forks", [False, True])
def test_workers_that_cannot_start_are_an_error(monkeypatch, forks):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with (
        pytest.raises(WorkerError, match=r"exit code 1\b"),
        forkserver("test_workers:loaded") if forks else contextlib.nullcontext() as server,
    ):
        list(workers.run(act, [("return", 1)], 1, server=server))


linux = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")


@linux
def test_forked_workers_share_what_the_fork_server_has_loaded():
    with forkserver("test_workers:loaded") as server:
        assert [done.result for done in workers.run(act, [("loaded", 0)] * 2, 2, server=server)] == [[b"loaded"]] * 2


@linux
def test_a_block_inside_another_has_a_server_of_its_own_for_other_imports():
    with forkserver("os:getpid") as outer:
        with forkserver("test_workers:loaded") as inner:
            assert [one.result for one in workers.run(act, [("loaded", 0)], 1, server=inner)] == [[b"loaded"]]
        with forkserver("os:getpid") as again:
            assert again is outer
            assert [one.result for one in workers.run(act, [("loaded", 0)], 1, server=again)] == [[]]


@linux
def test_a_fork_server_survives_an_error_while_it_loads():
    with forkserver("test_workers:there_is_no_such_function") as server:
        assert list(workers.run(act, [("return", 7)], 1, server=server)) == [workers.Done(0, 7)]


@linux
def test_one_fork_server_serves_a_whole_block_and_ends_with_it():
    servers = []
    with forkserver("test_workers:loaded"):
        for _ in range(2):
            with forkserver("test_workers:loaded") as server:
                parents = {done.result for done in workers.run(act, [("parent", 0)] * 2, 2, server=server)}
                assert parents == {server.process.pid}
                servers.append(server)
        assert servers[0] is servers[1]
    with pytest.raises(ProcessLookupError):
        os.kill(server.process.pid, 0)


@linux
def test_workers_start_from_scratch_if_the_fork_server_dies_early():
    with forkserver("os:abort") as server:
        done = workers.run(act, [("parent", 0)] * 4, 4, server=server)
        assert {one.result for one in done} == {os.getpid()}


def forks_once() -> None:
    """In the fork server: let the second fork fail, as if there were too many processes."""
    fork, calls = os.fork, []

    def limited() -> int:
        calls.append(None)
        if len(calls) == 2:
            raise BlockingIOError(errno.EAGAIN, "too many processes")
        return fork()

    os.fork = limited


@linux
def test_a_failed_fork_costs_no_other_worker_its_task():
    with forkserver("test_workers:forks_once") as server:
        done = list(workers.run(act, [("parent", 0)] * 4, 2, server=server))
        assert [one.result for one in done] == [server.process.pid] * 4


@linux
def test_trainings_are_forked_with_their_imports_and_without_threads():
    with forkserver("mirembed.fit.job:load") as server:
        [done] = workers.run(act, [("modules", 0)], 1, server=server)
        assert {"torch", "sklearn.svm", "numba"} <= done.result
        assert "sympy" not in done.result
        names = [path.read_text() for path in Path(f"/proc/{server.process.pid}/task").glob("*/comm")]
        assert len([name for name in names if not name.startswith("jemalloc")]) == 1


@linux
def test_an_abandoned_run_does_not_wait_for_the_fork_server_to_load():
    with forkserver("test_workers:slowly") as server:
        ticks = itertools.count()

        def stop_soon() -> None:
            if next(ticks) == 3:
                raise TimeoutError

        with pytest.raises(TimeoutError):
            list(workers.run(act, [("return", 1)], 1, stop_soon, server=server))


@linux
def test_workers_die_with_their_fork_server_and_others_take_over_their_tasks():
    with forkserver("test_workers:loaded") as server:
        tasks = [("process", 0), ("kill process", server.process.pid), ("parent", 0)]
        results = workers.run(act, tasks, 1, server=server)
        worker = psutil.Process(next(results).result)
        assert {done.result for done in results} == {server.process.pid, os.getpid()}
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
