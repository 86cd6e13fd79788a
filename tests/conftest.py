"""Shared by several test files: the command, and small music that is quick to learn."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

# The workers of pytest-xdist share the cores; threads that wait for each other would take time from all of them.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

# Without bytecode on disk, every process of the tests would compile all of mirembed, and every worker all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

settings.register_profile("mirembed", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("mirembed")

RATE = 22050
CLASSES = {"low": 220.0, "middle": 880.0, "high": 3520.0}
"""Classes of the small test music: each is a tone of about this frequency (Hz), in noise."""

Command = Callable[..., subprocess.CompletedProcess[str]]


def tone(frequency: float, seconds: float, seed: int) -> np.ndarray:
    """Return a tone with vibrato in noise: float32 [n]."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    detune = rng.uniform(0.95, 1.05)
    phase = 2 * np.pi * frequency * detune * time + 3 * np.sin(2 * np.pi * 5 * time + rng.uniform(0, 6))
    return (0.3 * np.sin(phase) + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


def write_tones(root: Path, n_tracks: int = 6, seconds: float = 3.0) -> Path:
    """Write ``<root>/<class>/<class>-<number>.wav`` for every class of `CLASSES`."""
    for position, (name, frequency) in enumerate(CLASSES.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(n_tracks):
            samples = tone(frequency, seconds, seed=100 * position + number)
            soundfile.write(root / name / f"{name}-{number}.wav", samples, RATE, subtype="PCM_16")
    return root


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Handle ctrl-C in every test and in its processes, whatever the program did to the handler in this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """A folder of 18 tones in three classes."""
    return write_tones(tmp_path / "tones")


@pytest.fixture
def mirembed(tmp_path: Path) -> Command:
    """The command, in an empty folder; in this process, tasks of workers included, unless it needs one of its own.

    ``mirembed("extract", "--dataset", "gtzan", code=1)`` checks the exit code (default 0) and that no traceback was
    printed. ``env`` is added to the environment. With ``process=True``, or any option of `subprocess.run`, the command
    runs in its own process: for worker processes, output of native code, and variables that libraries read.
    """
    folder = tmp_path / "work"
    folder.mkdir()

    def run(
        *arguments: object,
        code: int | None = 0,
        env: Mapping[str, str] | None = None,
        process: bool = False,
        **options: object,
    ) -> subprocess.CompletedProcess[str]:
        runner = run_process if process or options else run_here
        completed = runner(folder, list(map(str, arguments)), env, **options)
        assert "Traceback" not in completed.stderr, completed.stderr
        assert code is None or completed.returncode == code, (completed.stdout, completed.stderr)
        return completed

    run.folder = folder
    return run


def run_process(
    folder: Path, arguments: Sequence[str], env: Mapping[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run the command in its own process."""
    return subprocess.run(
        [sys.executable, "-m", "mirembed", *arguments],
        cwd=folder,
        env=clean_environment(env),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def run_here(
    folder: Path, arguments: Sequence[str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in this process: to import everything anew takes longer than most of what the tests do."""
    from small_store import workers_run

    from mirembed.cli.main import main
    from mirembed.extract import file_features
    from mirembed.registry.source import source_digest

    for cached in (source_digest, file_features._plugin):  # a plugin may have been edited since the last command
        cached.cache_clear()
    environment = clean_environment(env)
    out, err = io.StringIO(), io.StringIO()
    with (
        workers_run(),
        pytest.MonkeyPatch.context() as patch,
        importing_from(environment.get("PYTHONPATH", "")),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        for name in os.environ.keys() - environment.keys():
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["mirembed", *arguments])
        patch.setattr(gc, "freeze", lambda: None)  # this process goes on, and would keep all its garbage
        main()
    return subprocess.CompletedProcess(arguments, end.value.code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def importing_from(path: str) -> Iterator[None]:
    """Import from the folders of a PYTHONPATH inside the block, even what is imported already; then forget it."""
    folders = tuple(folder for folder in path.split(os.pathsep) if folder and folder not in sys.path)
    provided = {path.stem for folder in folders for path in Path(folder).glob("*")}
    before = set(sys.modules)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in before:
                if name.partition(".")[0] in provided:
                    patch.delitem(sys.modules, name)
            patch.setattr(sys, "path", [*folders, *sys.path])
            patch.setattr(sys, "dont_write_bytecode", True)
            importlib.invalidate_caches()
            yield
    finally:
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(folders):
                del sys.modules[name]


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for a condition to come true. Wait for content: a file that exists need not be complete."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment without the variables that change the program's behavior."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MIREMBED_")}
    return {**kept, "COLUMNS": "120", **(extra or {})}


@pytest.fixture
def real_data() -> Path:
    """The folder of real audio, from MIREMBED_REAL_DATA."""
    folder = os.environ.get("MIREMBED_REAL_DATA")
    if not folder:
        pytest.skip("no real audio: MIREMBED_REAL_DATA is not set")
    return Path(folder)
