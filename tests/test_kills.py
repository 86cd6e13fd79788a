"""Extraction, killed or interrupted at random moments: how often, MIREMBED_KILLS says (``make torture``: 200)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import CLASSES, RATE, clean_environment, run_here, tone, wait_until, write_tones
from test_extraction import LOGMEL, stored
from test_interruption import living

from mirembed.extract import extraction as extracting
from mirembed.store import Store

pytestmark = pytest.mark.slow

N_KILLS = int(os.environ.get("MIREMBED_KILLS", "2"))
N_INTERRUPTIONS = max(2, N_KILLS // 2)
SHARD_ROWS = 4
"""Tracks in a shard: few, so that many moments fall between two writes."""

ARGUMENTS = ("extract", "--dataset", "folder:labels=labels.csv", "--audio", "audio", "--store", "s", "--jobs", "2")
PROGRAM = f"""
import os, pathlib, sys
try:
    pathlib.Path(f"begun-{{os.getpid()}}").touch()
    from mirembed.extract import extraction
    extraction.SHARD_ROWS = {SHARD_ROWS}
    from mirembed.__main__ import main
except KeyboardInterrupt:
    sys.exit("interrupted")
sys.argv[0] = "mirembed"
main()
"""


@contextlib.contextmanager
def extraction(folder: Path, **streams: object) -> Iterator[subprocess.Popen]:
    """Start an extraction in a session of its own, none of whose processes outlives the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *ARGUMENTS],
        cwd=folder,
        env={name: value for name, value in clean_environment().items() if not name.startswith("COV")},
        start_new_session=True,
        text=True,
        **(streams or {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}),
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def extract(folder: Path) -> None:
    """Extract without being killed, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extracting, "SHARD_ROWS", SHARD_ROWS)
        assert run_here(folder, ARGUMENTS).returncode == 0


def write_labels(audio: Path, turn: int) -> None:
    names = sorted(path.relative_to(audio).as_posix() for path in audio.rglob("*.wav"))
    lines = [f"{name},{list(CLASSES)[(number + turn) % 3]}" for number, name in enumerate(names)]
    (audio / "labels.csv").write_text("\n".join(["path,label", *lines]))


def assert_like_a_fresh_extraction(folder: Path) -> None:
    """Finish the extraction, and compare the store to one that was written without interruption."""
    extract(folder)
    found = stored(Store(folder / "s"))
    shutil.rmtree(folder / "s")
    extract(folder)
    expected = stored(Store(folder / "s"))
    assert found.keys() == expected.keys()
    for track, row in expected.items():
        np.testing.assert_array_equal(found[track].pop("frames"), row.pop("frames"))
        assert found[track] == row


def write_audio(folder: Path) -> None:
    """Write 48 tones with labels into the folder ``audio``."""
    write_labels(write_tones(folder / "audio", n_tracks=16, seconds=0.2), 0)


@pytest.fixture(scope="module")
def seconds(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long an extraction of the tones takes."""
    folder = tmp_path_factory.mktemp("seconds")
    write_audio(folder)
    began = time.monotonic()
    with extraction(folder) as process:
        assert process.wait(timeout=120) == 0
    return time.monotonic() - began


def test_an_extraction_may_be_killed_at_any_moment(tmp_path, seconds):
    """Each run finds new labels and a changed file, so that shards are written, rewritten and dropped."""
    write_audio(tmp_path)
    rng = np.random.default_rng(6)
    for turn in range(N_KILLS):
        write_labels(tmp_path / "audio", turn)
        soundfile.write(tmp_path / "audio" / "low" / "low-0.wav", tone(220, 0.2, seed=turn), RATE)
        with extraction(tmp_path) as process:
            time.sleep(rng.uniform(0.2, 1.1) * seconds)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        store = Store(tmp_path / "s")
        for features in store.all_features():
            features.columns()  # every shard can be read
        for dataset in store.datasets():
            dataset.tracks()
    extract(tmp_path)
    assert len(stored(Store(tmp_path / "s"))) == 48
    assert Store(tmp_path / "s").features(LOGMEL.parts[0]).set_aside_damaged() == []
    assert_like_a_fresh_extraction(tmp_path)


def test_an_extraction_may_be_interrupted_at_any_moment(tmp_path, seconds):
    """Ctrl-C ends it with the exit code 1 and one line, and leaves no process behind."""
    write_audio(tmp_path)
    rng = np.random.default_rng(7)
    n_interrupted = 0
    for turn in range(N_INTERRUPTIONS):
        if turn % 4 == 0:  # otherwise it goes on where the last one was interrupted
            shutil.rmtree(tmp_path / "s", ignore_errors=True)
        with extraction(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            wait_until((tmp_path / f"begun-{process.pid}").exists)
            time.sleep(rng.uniform(0, 1) * seconds if turn else 0)
            os.killpg(process.pid, signal.SIGSTOP)  # so that nothing is written between the count and ctrl-C
            before = n_shards(tmp_path)
            os.killpg(process.pid, signal.SIGINT)
            os.killpg(process.pid, signal.SIGCONT)
            output, errors = process.communicate(timeout=120)
            wait_until(lambda session=process.pid: not living(session))
        if process.returncode == 0:  # it was about to end
            assert before >= 48 / SHARD_ROWS - 2, (turn, errors)
            continue
        n_interrupted += 1
        assert (process.returncode, output) == (1, ""), (turn, errors)
        assert errors.splitlines()[-1].startswith("interrupted"), (turn, errors)
        about_labels = re.compile(r"matched |skipped |\d+ class")
        others = {line for line in errors.splitlines()[:-1] if not about_labels.match(line)}
        assert others <= {"extracting ..."}, (turn, errors)
        assert n_shards(tmp_path) <= before + 3, turn  # what was being written, and what was pending
        assert not list(tmp_path.glob("s/**/.tmp-*"))
    assert n_interrupted
    extract(tmp_path)
    assert_like_a_fresh_extraction(tmp_path)


def n_shards(folder: Path) -> int:
    return len(list(folder.glob("s/features/*/[0-9]*.parquet")))
