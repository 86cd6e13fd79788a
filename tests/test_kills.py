"""Extraction, killed at random moments: how often, MIREMBED_KILLS says (``make torture``: 200)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import CLASSES, RATE, clean_environment, tone, write_tones
from test_extraction import stored

from mirembed.store import FeatureStore

pytestmark = pytest.mark.slow

N_KILLS = int(os.environ.get("MIREMBED_KILLS", "20"))

PROGRAM = """
import sys
import mirembed.extract.extraction as extraction
extraction.SHARD_ROWS = 4  # many shards, so that many moments fall between two writings
from mirembed.cli.main import main
sys.argv[0] = "mirembed"
main()
"""


def start(folder: Path) -> subprocess.Popen:
    arguments = ("extract", "--dataset", "folder:labels=labels.csv", "--audio", "audio", "--store", "s", "--jobs", "2")
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env={name: value for name, value in clean_environment().items() if not name.startswith("COV")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def write_labels(audio: Path, turn: int) -> None:
    names = sorted(path.relative_to(audio).as_posix() for path in audio.rglob("*.wav"))
    lines = [f"{name},{list(CLASSES)[(number + turn) % 3]}" for number, name in enumerate(names)]
    (audio / "labels.csv").write_text("\n".join(["path,label", *lines]))


def test_a_run_may_be_killed_at_any_moment(tmp_path):
    """Each run finds new labels and a changed file, so that shards are written, rewritten and dropped."""
    audio = write_tones(tmp_path / "audio", n_tracks=16, seconds=0.2)
    rng = np.random.default_rng(6)
    write_labels(audio, 0)
    began = time.monotonic()
    process = start(tmp_path)
    assert process.wait(timeout=120) == 0
    seconds = time.monotonic() - began
    features = FeatureStore(next((tmp_path / "s" / "datasets").iterdir()))
    shutil.rmtree(features.folder)
    for turn in range(N_KILLS):
        write_labels(audio, turn)
        soundfile.write(audio / "low" / "low-0.wav", tone(220, 0.2, seed=turn), RATE)
        process = start(tmp_path)
        time.sleep(rng.uniform(0.2, 1.1) * seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if features.exists:
            ids = features.index()["id"].to_pylist()  # every shard can be read
            assert len(ids) == len(set(ids))
    assert start(tmp_path).wait(timeout=120) == 0
    killed = stored(features)
    shutil.rmtree(features.folder)
    assert start(tmp_path).wait(timeout=120) == 0
    at_a_stroke = stored(features)
    assert killed.keys() == at_a_stroke.keys()
    for track, row in at_a_stroke.items():
        np.testing.assert_array_equal(killed[track].pop("frames"), row.pop("frames"))
        assert killed[track] == row
