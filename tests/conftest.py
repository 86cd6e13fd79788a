"""Shared by several test files: the real command, and small music that is quick to learn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

settings.register_profile("mirembed", derandomize=True, deadline=None, max_examples=50)
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
    """The real command, in its own process and an empty folder.

    ``mirembed("extract", "--dataset", "gtzan", code=1)`` checks the exit code (default 0) and that no traceback was
    printed. ``env`` is added to the environment.
    """
    folder = tmp_path / "work"
    folder.mkdir()

    def run(
        *arguments: object, code: int | None = 0, env: Mapping[str, str] | None = None, **options: object
    ) -> subprocess.CompletedProcess[str]:
        environment = clean_environment(env)
        if "preexec_fn" in options:  # takes rights or space away: coverage could not write its data
            environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
        completed = subprocess.run(
            [sys.executable, "-m", "mirembed", *map(str, arguments)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **options,
        )
        assert "Traceback" not in completed.stderr, completed.stderr
        assert code is None or completed.returncode == code, (completed.stdout, completed.stderr)
        return completed

    run.folder = folder
    return run


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
