"""Beyond one machine: a real Dask scheduler and worker processes on this one, some of which are killed."""

from __future__ import annotations

import contextlib
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
from conftest import RATE, clean_environment, tone, write_tones
from test_extraction import run, stored

from mirembed import workers
from mirembed.errors import SpecError, WorkerError
from mirembed.inventory.verify import verify
from mirembed.store import FeatureStore
from mirembed.store.root import Store
from mirembed.workers import cluster

pytestmark = pytest.mark.slow

distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'mirembed[dask]'")


class Cluster:
    """A scheduler, and workers of one thread each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = clean_environment({"PYTHONPATH": os.pathsep.join(sys.path)})
        self._processes: list[subprocess.Popen] = []
        self.workers: list[subprocess.Popen] = []
        address = folder / "scheduler.json"
        self._start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", address)
        end = time.monotonic() + 60
        while not address.exists():
            assert time.monotonic() < end, "the scheduler did not start"
            time.sleep(0.05)
        self.address: str = json.loads(address.read_text())["address"]

    def add_worker(self) -> None:
        """Start a worker without a nanny, so that one who is killed stays away."""
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        self.workers.append(self._start("worker", self.address, *options))

    def _start(self, *arguments: object) -> subprocess.Popen:
        module = {"scheduler": "distributed.cli.dask_scheduler", "worker": "distributed.cli.dask_worker"}
        command = [sys.executable, "-m", module[str(arguments[0])], *map(str, arguments[1:])]
        with (self._folder / "log.txt").open("a") as log:
            process = subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=log, stderr=log, start_new_session=True
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
        cluster.add_worker()
        cluster.add_worker()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def on_machines(machines: Cluster) -> Iterator[Cluster]:
    """The cluster, and joblib's backend set to it."""
    with cluster.engine("dask", machines.address):
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


def test_every_argument_has_its_result(on_machines):
    outcomes = list(cluster.run_on_cluster(double, range(20)))
    assert sorted(outcomes, key=lambda done: done.index) == [workers.Done(i, 2 * i) for i in range(20)]


def test_the_work_is_shared_by_the_workers(on_machines):
    processes = {done.result for done in cluster.run_on_cluster(process_of, range(12))}
    assert processes <= {worker.pid for worker in on_machines.workers}
    assert len(processes) == 2


def test_an_exception_of_a_task_reaches_the_caller(on_machines):
    with pytest.raises(ValueError, match="3 is refused"):
        list(cluster.run_on_cluster(fail, [3]))


def test_joblibs_backend_is_the_switch(machines):
    assert not cluster.is_cluster()
    with (
        distributed.Client(machines.address, set_as_default=False) as client,
        joblib.parallel_config("dask", client=client),
    ):
        assert cluster.is_cluster()
        assert cluster.n_threads() == 2
    assert not cluster.is_cluster()


def test_a_cluster_writes_the_store_that_this_machine_would(on_machines, audio, tmp_path):
    (audio / "low" / "broken.wav").write_bytes(b"no audio")
    remote, local = FeatureStore(tmp_path / "remote"), FeatureStore(tmp_path / "local")
    there = run(remote, audio)
    with joblib.parallel_config("loky"):
        here = run(local, audio)
    assert (there.extracted, there.unchanged) == (here.extracted, here.unchanged) == (12, 0)
    assert [(f.id, f.reason) for f in there.failures] == [(f.id, f.reason) for f in here.failures]
    assert len(remote.shards()) > 1  # written by the workers, a shard for each batch
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
    completed = mirembed("extract", *arguments, "--backend-jobs", "dask", "--scheduler", machines.address, code=1)
    assert "more than --max-failures 1" in completed.stderr


def wait_until(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def start(folder: Path, *arguments: object) -> subprocess.Popen:
    """Start the command."""
    return subprocess.Popen(
        [sys.executable, "-m", "mirembed", *map(str, arguments)],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(process: subprocess.Popen) -> list[psutil.Process]:
    """What a worker of the cluster has started."""
    return psutil.Process(process.pid).children(recursive=True)


def lose_a_worker(machines: Cluster) -> None:
    """Kill a worker with a task in hand; another has come before, so that two are left."""
    machines.add_worker()
    lost = machines.workers.pop(0)
    wait_until(lambda: children(lost))
    lost.send_signal(signal.SIGKILL)
    lost.wait()


def test_the_files_of_a_lost_worker_are_taken_up_by_others(machines, tmp_path):
    audio = tmp_path / "audio"
    (audio / "noise").mkdir(parents=True)
    for number in range(60):
        soundfile.write(audio / "noise" / f"{number:02d}.wav", tone(220, 10.0, seed=number), RATE)
    flags = ("--dataset", "folder", "--audio", audio, "--store", "s", "--json")
    process = start(tmp_path, "extract", *flags, "--backend-jobs", "dask", "--scheduler", machines.address)
    try:
        wait_until(lambda: list(tmp_path.glob("s/datasets/folder/spectrograms/*.parquet")))
        lose_a_worker(machines)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["failures"] == []
    found = stored(FeatureStore(tmp_path / "s" / "datasets" / "folder"))  # fails where a track stands twice
    assert set(found) == {f"noise/{number:02d}.wav" for number in range(60)}
    assert verify(Store(tmp_path / "s")) == []


def test_the_folds_of_a_lost_worker_are_taken_up_by_others(machines, mirembed):
    audio = write_tones(mirembed.folder / "tones", n_tracks=3, seconds=1.0)
    mirembed("extract", "--dataset", "folder", "--audio", audio, "--jobs", 1)
    settings = ("evaluate", "--cv", 2, "--epochs", 6)
    process = start(mirembed.folder, *settings, "--backend-jobs", "dask", "--scheduler", machines.address)
    try:
        wait_until(lambda: any(children(worker) for worker in machines.workers))
        lose_a_worker(machines)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    runs = mirembed.folder / "mirembed-store" / "runs"
    (remote,) = runs.iterdir()
    mirembed(*settings, "--jobs", 1)
    (local,) = set(runs.iterdir()) - {remote}
    for name in ("predictions.parquet", "curves.parquet", "folds.parquet"):
        assert pq.read_table(remote / name) == pq.read_table(local / name)


# Wrong settings


def test_a_scheduler_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    with (
        pytest.raises(WorkerError, match=r"tcp://127\.0\.0\.1:9 cannot be reached"),
        cluster.engine("dask", "tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "scheduler", "message"),
    [
        ("ray", None, "--backend-jobs ray: expected local or dask"),
        ("dask", None, "needs the address of a scheduler"),
        ("dask", "host", "expected an address such as"),
        ("local", "tcp://host:8786", "belongs to --backend-jobs dask"),
    ],
)
def test_settings_that_do_not_fit_are_an_error(name, scheduler, message):
    with pytest.raises(SpecError, match=message), cluster.engine(name, scheduler):
        pass


def test_the_number_of_processes_is_the_clusters(mirembed):
    flags = ("--backend-jobs", "dask", "--scheduler", "tcp://host:8786", "--jobs", 2)
    assert "leave --jobs out" in mirembed("extract", *flags, code=1).stderr


def test_a_worker_with_other_versions_is_refused(on_machines, monkeypatch):
    monkeypatch.setattr(cluster, "versions", lambda: {"mirembed": "99"})
    with pytest.raises(WorkerError, match="this program 99; install the same versions on all machines"):
        list(cluster.run_on_cluster(double, [1]))
