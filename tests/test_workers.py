"""Worker processes: what kills one costs its own task, and no other."""

from __future__ import annotations

import mmap
import os
import signal
import time
from pathlib import Path

import pytest

from mirembed import workers
from mirembed.errors import WorkerError

MIB = 2**20


def act(task: tuple[str, int]) -> int | bytes:
    """In a worker: return the number, or end in the way that is asked for."""
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
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "kill once":
        flag = Path(os.environ["KILLED_ONCE"])
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if what == "process":
        return os.getpid()
    if what == "large":
        return bytes(number * MIB)
    return number


LEAKED: list[bytes] = []


def outcomes(tasks: list[tuple[str, int]], jobs: int = 1, **options: object) -> list:
    return sorted(workers.run(act, tasks, jobs, **options), key=lambda outcome: outcome.index)


def test_a_task_that_takes_too_long_is_stopped_and_the_others_are_done():
    limits = workers.Limits(seconds=lambda task: 1.0 if task[0] == "hang" else 60.0)
    done = outcomes([("hang", 0), *[("return", 7)] * 5], per_worker=4, limits=limits)
    assert done[0] == workers.Crashed(0, "took longer than 1 s and was stopped")
    assert [outcome.result for outcome in done[1:]] == [7] * 5


def test_a_task_that_takes_too_much_memory_is_stopped_and_the_others_are_done():
    done = outcomes([("grow", 600), ("return", 7)], per_worker=4, limits=workers.Limits(memory=300 * MIB))
    assert done == [workers.Crashed(0, "took more than 0.3 GiB of memory and was stopped"), workers.Done(1, 7)]


def test_a_worker_that_leaks_is_replaced():
    tasks = [("process", 0), ("leak", 200), ("process", 0), ("process", 0)]
    first, _, *later = outcomes(tasks, limits=workers.Limits(kept=150 * MIB))
    assert {outcome.result for outcome in later} != {first.result}
    assert len({outcome.result for outcome in later}) == 1


def test_a_task_whose_worker_the_system_kills_is_tried_once_more_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("KILLED_ONCE", str(tmp_path / "killed"))
    done = outcomes([("kill once", 1), ("return", 2), ("kill", 3), ("return", 4)], jobs=2)
    reason = "its worker process was killed (SIGKILL), perhaps because memory ran out"
    assert done == [workers.Done(0, 1), workers.Done(1, 2), workers.Crashed(2, reason), workers.Done(3, 4)]


def test_results_wait_with_the_workers_while_nobody_takes_them():
    run = workers.run(act, [("large", 8)] * 12, 1, per_worker=2)
    next(run)
    time.sleep(1)
    assert len(list(run)) == 11


def test_no_worker_is_left_when_the_caller_goes_away():
    run = workers.run(act, [("process", 0), *[("hang", 0)] * 3], 1, per_worker=4)
    process = next(run).result
    run.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def not_there(_: object) -> None:
    """Deleted before a worker can find it."""


def test_a_function_that_no_worker_can_import_is_an_error(monkeypatch):
    monkeypatch.setattr(not_there, "__qualname__", "vanished")
    with pytest.raises(Exception, match="vanished"):
        list(workers.run(not_there, [1], 1))


def test_workers_that_cannot_start_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(WorkerError, match=r"worker processes end before they begin \(exit code 1\); free some memory"):
        outcomes([("return", 1)])
