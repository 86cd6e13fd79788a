"""Commands run in poor environments, and say what these lack."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from conftest import clean_environment, run_here, write_tones

from mirembed import workers
from mirembed.cli.output import ConsoleProgress, heading
from mirembed.errors import SystemWarning
from mirembed.store import Store

pytestmark = pytest.mark.slow

MIREMBED = f"{sys.executable} -m mirembed"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the music ``café``, and a store with its features."""
    folder = tmp_path_factory.mktemp("world")
    write_tones(folder / "café", n_tracks=2, seconds=0.3)
    assert run_here(folder, ["extract", "--dataset", "folder", "--audio", "café", "--store", "s"]).returncode == 0
    return folder


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_no_home_no_user_few_open_files_and_no_shared_memory(world):
    """A container may have a user id without a name, a read-only /dev/shm, 64 open files, and no home folder."""
    own = ["unshare", "--user", "--map-user=12345", "--mount", "--keep-caps", "sh", "-ec"]
    mount = "mount -t tmpfs -o ro none /dev/shm"
    if subprocess.run([*own, mount], capture_output=True).returncode:
        pytest.skip("this system does not let us mount a small /dev/shm")
    script = f"{mount}; ulimit -n 64; {MIREMBED} fit --store s --epochs 1 --jobs 40"
    environment = {
        name: value for name, value in clean_environment().items() if name not in ("HOME", "USER", "LOGNAME")
    }
    done = subprocess.run([*own, script], cwd=world, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("rbf-sl: fitted to 6 tracks")
    assert "Warning" not in done.stderr
    assert sorted(path.name for path in world.iterdir()) == ["café", "s"]  # no folder named "~"


def test_names_are_the_same_in_every_locale(world):
    environment = clean_environment({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
    arguments = [
        "extract",
        "--dataset",
        "folder",
        "--audio",
        ".",
        "--store",
        "t",
        "--limit",
        "1",
        "--jobs",
        "1",
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mirembed", *arguments], cwd=world, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode("ascii").splitlines()[-1])["extracted"] == 1
    assert {track.id.partition("/")[0] for track in Store(world / "t").find(None).tracks()} == {"café"}


def test_a_deleted_working_folder_is_one_error(tmp_path):
    script = f"mkdir gone; cd gone; rmdir ../gone; {MIREMBED} --version"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the current folder")
    assert len(done.stderr.splitlines()) == 1


def test_a_terminal_without_control_sequences_gets_lines(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ConsoleProgress() as progress:
        progress.start("extracting", 2)
        progress.update(1)
        progress.start("embedding", 2)
    assert capsys.readouterr().err == "extracting ...\nembedding ...\n"
    assert heading("Source") == "Source"


def test_more_workers_than_files_may_be_open(monkeypatch):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    started = []
    start = workers._Pool._start_worker
    monkeypatch.setattr(workers._Pool, "_start_worker", lambda pool: started.append(pool) or start(pool))
    resource.setrlimit(resource.RLIMIT_NOFILE, (len([*Path("/dev/fd").iterdir()]) + 24, limits[1]))
    try:
        done = sorted(one.result for one in workers.run(abs, range(-8, 0), jobs=8))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert done == list(range(1, 9))
    assert 1 <= len(started) < 8


def test_a_file_system_without_locks_and_sync_is_noted_once(mirembed, monkeypatch, world):
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    sync = os.fsync
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(os, "fsync", lambda file: refuse() if Path(f"/proc/self/fd/{file}").is_dir() else sync(file))
    with warnings.catch_warnings():
        warnings.simplefilter("default", SystemWarning)
        done = mirembed("extract", "--dataset", "folder", "--audio", world / "café", "--jobs", 1)
    assert done.stdout.startswith("folder: 6 of 6 tracks")
    assert sorted(line.split("(")[0] for line in done.stderr.splitlines() if line.startswith("warning: ")) == [
        "warning: the file system cannot sync a folder ",
        "warning: the file system has no locks ",
    ]
