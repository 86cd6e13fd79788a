"""A Dask cluster: a real scheduler and real workers on this machine, some of which are killed."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import RATE, clean_environment, tone, wait_until, write_tones
from test_extraction import run, shards_of, stored

from mirembed import workers
from mirembed.errors import SpecError, WorkerError
from mirembed.inventory import verify
from mirembed.store.root import Store
from mirembed.workers import executor

pytestmark = pytest.mark.slow

distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'mirembed[dask]'")


def die_with_the_tests() -> None:
    """Let the kernel end this process when pytest ends, however that happens (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Cluster:
    """A scheduler, and workers of one thread each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = clean_environment({"PYTHONPATH": os.pathsep.join(sys.path)})
        self._processes: list[subprocess.Popen] = []
        self.workers: list[subprocess.Popen] = []
        self.address = ""

    def start(self, n_workers: int) -> None:
        """Start the scheduler and its workers; return when all of them are there."""
        file = self._folder / "scheduler.json"
        self._start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", file)
        wait_until(lambda: is_json(file))
        self.address = json.loads(file.read_text())["address"]
        for _ in range(n_workers):
            self.add_worker()
        with distributed.Client(self.address, timeout=120, set_as_default=False) as client:
            client.wait_for_workers(n_workers, timeout=120)

    def add_worker(self) -> None:
        """Start a worker without a nanny, which would restart it when it is killed."""
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        self.workers.append(self._start("worker", self.address, *options))

    def _start(self, *arguments: object) -> subprocess.Popen:
        module = {"scheduler": "distributed.cli.dask_scheduler", "worker": "distributed.cli.dask_worker"}
        command = [sys.executable, "-m", module[str(arguments[0])], *map(str, arguments[1:]), "--host", "127.0.0.1"]
        with (self._folder / "log.txt").open("a") as log:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_the_tests,
            )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two workers."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start(n_workers=2)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def on_machines(machines: Cluster) -> Iterator[Cluster]:
    """The cluster, on which the test's work runs."""
    with executor.executor("dask", machines.address):
        yield machines


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "audio", n_tracks=4, seconds=0.3)


def double(number: int) -> int:
    return 2 * number


def fail(number: int) -> int:
    raise ValueError(f"{number} is refused")


def process_of(number: int) -> int:
    time.sleep(0.2)
    return os.getpid()


def test_every_argument_gets_its_result(on_machines):
    outcomes = list(executor.run_on_cluster(double, range(20)))
    assert sorted(outcomes, key=lambda done: done.index) == [workers.Done(i, 2 * i) for i in range(20)]


def test_the_work_is_shared_by_the_workers(on_machines):
    processes = {done.result for done in executor.run_on_cluster(process_of, range(12))}
    assert processes <= {worker.pid for worker in on_machines.workers}
    assert len(processes) == 2


def test_a_task_is_submitted_when_those_that_it_waits_for_are_done(on_machines):
    after = {number: range(number + 1, 12) for number in range(11)}
    assert [done.index for done in executor.run_on_cluster(double, range(12), after)] == [*range(12)][::-1]


def test_an_exception_of_a_task_reaches_the_caller(on_machines):
    with pytest.raises(ValueError, match="3 is refused"):
        list(executor.run_on_cluster(fail, [3]))


def test_joblibs_backend_is_the_switch(machines):
    assert not executor.is_cluster()
    with (
        distributed.Client(machines.address, set_as_default=False) as client,
        joblib.parallel_config("dask", client=client),
    ):
        assert executor.is_cluster()
        assert executor.n_threads() == 2
    assert not executor.is_cluster()


def test_a_cluster_writes_the_store_that_this_machine_would(on_machines, audio, tmp_path):
    (audio / "low" / "broken.wav").write_bytes(b"no audio")
    remote, local = Store(tmp_path / "remote"), Store(tmp_path / "local")
    there = run(remote, audio)
    with joblib.parallel_config("loky"):
        here = run(local, audio)
    assert (there.extracted, there.unchanged) == (here.extracted, here.unchanged) == (12, 0)
    assert [(f.id, f.reason) for f in there.failures] == [(f.id, f.reason) for f in here.failures]
    assert len(shards_of(remote).shards()) > 1  # written by the workers, a shard for each batch
    expected, found = stored(local), stored(remote)
    assert found.keys() == expected.keys()
    for track in expected:
        np.testing.assert_array_equal(found[track].pop("frames"), expected[track].pop("frames"))
        assert found[track] == expected[track]
    assert run(remote, audio).unchanged == 12


def test_too_many_failures_end_the_extraction_on_a_cluster(machines, audio, mirembed):
    for number in range(3):
        (audio / "low" / f"broken-{number}.wav").write_bytes(b"no audio")
    arguments = ("--dataset", "folder", "--audio", audio, "--max-failures", 1)
    completed = mirembed(
        "extract", *arguments, "--executor", "dask", "--scheduler", machines.address, code=1, process=True
    )
    assert "--max-failures 1" in completed.stderr


def is_json(file: Path) -> bool:
    """Whether a file is written to its end."""
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads(file.read_text()))
    return False


@contextlib.contextmanager
def started(folder: Path, *arguments: object) -> Iterator[subprocess.Popen]:
    """Start the command, which does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "mirembed", *map(str, arguments)],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


N_FILES = 100


def lose_a_worker(machines: Cluster, command: subprocess.Popen, condition=lambda: True) -> None:
    """Kill a worker while it works on a task, once the condition is true; a new one has come, so that two are left."""
    machines.add_worker()
    working: list[subprocess.Popen] = []

    def works() -> bool:
        with_task = [one for one in machines.workers if psutil.Process(one.pid).children(recursive=True)]
        working[:] = with_task[:1]
        return bool(working)

    wait_until(lambda: (condition() and works()) or command.poll() is not None)
    assert command.poll() is None, "the command ended before a worker could be lost"
    [lost] = working
    machines.workers.remove(lost)
    lost.send_signal(signal.SIGKILL)
    lost.wait()


def test_other_workers_take_over_the_files_of_a_lost_worker(machines, tmp_path):
    audio = tmp_path / "audio"
    (audio / "noise").mkdir(parents=True)
    for number in range(N_FILES):
        soundfile.write(audio / "noise" / f"{number:02d}.wav", tone(220, 10.0, seed=number), RATE)
    flags = ("--dataset", "folder", "--audio", audio, "--store", "s", "--json")
    with started(tmp_path, "extract", *flags, "--executor", "dask", "--scheduler", machines.address) as process:
        lose_a_worker(machines, process, lambda: any(tmp_path.glob("s/features/*/*.parquet")))
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["failures"] == []
    found = stored(Store(tmp_path / "s"))  # fails if a recording occurs twice
    assert set(found) == {f"noise/{number:02d}.wav" for number in range(N_FILES)}
    assert verify(Store(tmp_path / "s")) == []


def test_other_workers_take_over_the_folds_of_a_lost_worker(machines, mirembed):
    audio = write_tones(mirembed.folder / "tones", n_tracks=3, seconds=0.5)
    mirembed("extract", "--dataset", "folder", "--audio", audio)
    settings = ("evaluate", "--cv", 2, "--epochs", 6, "--network", "mlp")
    with started(mirembed.folder, *settings, "--executor", "dask", "--scheduler", machines.address) as process:
        lose_a_worker(machines, process)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    runs = mirembed.folder / "mirembed-store" / "runs"
    (remote,) = runs.iterdir()
    mirembed(*settings)
    (local,) = set(runs.iterdir()) - {remote}
    for name in ("predictions.parquet", "curves.parquet", "folds.parquet"):
        assert pq.read_table(remote / name) == pq.read_table(local / name)


# Wrong settings


def test_a_scheduler_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(executor, "CONNECT_TIMEOUT", 1)
    with (
        pytest.raises(WorkerError, match=r"tcp://127\.0\.0\.1:9 "),
        executor.executor("dask", "tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "scheduler", "facts"),
    [
        ("ray", None, ["--executor ray", "local", "dask"]),
        ("dask", None, ["--executor dask", "--scheduler"]),
        ("dask", "host", ["--scheduler host", "tcp://"]),
        ("local", "tcp://host:8786", ["--scheduler tcp://host:8786", "--executor dask"]),
    ],
)
def test_settings_that_contradict_each_other_are_an_error(name, scheduler, facts):
    with pytest.raises(SpecError) as raised, executor.executor(name, scheduler):
        pass
    assert [fact for fact in facts if fact not in str(raised.value)] == []


def test_the_extra_is_named_in_full_where_dask_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SpecError, match=r"mirembed\[dask\]"), executor.executor("dask", "tcp://host:8786"):
        pass


def test_the_cluster_sets_the_number_of_processes(mirembed):
    flags = ("--executor", "dask", "--scheduler", "tcp://host:8786", "--jobs", 2)
    assert "--jobs 2" in mirembed("extract", *flags, code=1).stderr


def test_a_worker_with_other_versions_is_refused(on_machines, monkeypatch):
    monkeypatch.setattr(executor, "versions", lambda: {"mirembed": "99"})
    with pytest.raises(WorkerError, match=r"mirembed.* 99\b"):
        list(executor.run_on_cluster(double, [1]))
