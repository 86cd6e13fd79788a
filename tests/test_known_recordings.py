"""Recordings that a store knows are never given to a features plugin again, whatever refers to them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import CLASSES, RATE, tone, write_tones
from test_commands import run

from mirembed.store import Store

pytestmark = pytest.mark.slow

PLUGIN = """
import os

import numpy as np

from mirembed import hookimpl


class Levels:
    values = 2
    hop = 0.05

    def extract(self, audio):
        with open(os.environ["EXTRACT_LOG"], "a") as log:
            log.write(f"{audio.path.name}\\n")
        samples = np.concatenate(list(audio.blocks(8000)))
        stretches = samples[: len(samples) // 400 * 400].reshape(-1, 400)
        crossings = np.diff(np.signbit(stretches), axis=1).mean(axis=1)
        return np.stack([np.abs(stretches).mean(axis=1), crossings], axis=1).astype(np.float32)


@hookimpl
def mirembed_register_features(register):
    register("levels", Levels, summary="Level and zero crossings")
"""


class Log:
    """The names of the files that the plugin has been given since the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def names(self) -> list[str]:
        found = self.path.read_text().split()
        self.path.write_text("")
        return sorted(found)


@pytest.fixture
def log(tmp_path, monkeypatch) -> Log:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "levels.py").write_text(PLUGIN)
    write_tones(tmp_path / "tones", n_tracks=2, seconds=1.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIREMBED_PLUGINS_DIR", str(tmp_path / "plugins"))
    monkeypatch.setenv("EXTRACT_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("MIREMBED_STORE", str(tmp_path / "s"))
    return Log(tmp_path / "log")


ALL = sorted(f"{name}-{number}.wav" for name in CLASSES for number in range(2))


def test_nothing_that_is_known_is_computed_again(log, tmp_path):
    tones = tmp_path / "tones"
    run("extract", "--dataset", "folder", "--audio", tones, "--features", "levels")
    assert log.names() == ALL

    # the same dataset, without its name and features
    summary = run("extract", "--json").json
    assert (summary["extracted"], summary["unchanged"]) == (0, 6)

    # other labels for the same files
    lines = [f"{path.relative_to(tones)},{path.name[-5]}" for path in sorted(tones.rglob("*.wav"))]
    (tones / "moods.csv").write_text("\n".join(["path,label", *lines]))
    moods = "folder:labels=moods.csv"
    summary = run("extract", "--dataset", moods, "--audio", tones, "--features", "levels", "--json").json
    assert (summary["extracted"], summary["stored"]) == (0, 6)

    # copies with other names and times, in another folder, and one new file
    (tmp_path / "copies" / "all").mkdir(parents=True)
    for number, path in enumerate(sorted(tones.rglob("*.wav"))):
        shutil.copyfile(path, tmp_path / "copies" / "all" / f"copy {number}.wav")
    soundfile.write(tmp_path / "copies" / "all" / "new.wav", tone(300, 1.0, seed=77), RATE)
    lines = [f"all/{path.name},{path.name[-5]}" for path in sorted((tmp_path / "copies" / "all").iterdir())]
    (tmp_path / "copies" / "table.csv").write_text("\n".join(["path,label", *lines]))
    copies = ("--dataset", "folder:labels=table.csv", "--audio", tmp_path / "copies")
    summary = run("extract", *copies, "--features", "levels", "--json").json
    assert (summary["extracted"], summary["unchanged"], log.names()) == (1, 6, ["new.wav"])

    # a renamed file
    (tones / "low" / "low-0.wav").rename(tones / "low" / "renamed.wav")
    summary = run("extract", "--dataset", "folder", "--json").json
    assert (summary["moved"], summary["extracted"]) == (1, 0)

    # models
    run("fit", "--dataset", "folder", "--features", "levels", "--network", "mlp", "--epochs", 1, "--name", "mine")
    assert len(run("predict", "mine", tmp_path / "copies", "--json").json["predictions"]) == 7
    assert len(run("embed", "mine", tmp_path / "copies", "--json").json["embeddings"]) == 7
    copy = tmp_path / "copies" / "all" / "copy 3.wav"
    for track in (copy, "low/renamed.wav"):
        assert len(run("similar", "mine", track, "--json").json["neighbors"]) == 5
    assert len(run("similar", "mine", copy, "--in", tmp_path / "copies", "--json").json["neighbors"]) == 6
    found = run("similar", "mine", "low/low-1.wav", "--dataset", moods, "--json").json["neighbors"]
    assert len(found) == 4  # one file is gone under the name that this dataset has
    run("evaluate", "--dataset", moods, "--features", "levels", "--network", "mlp", "--epochs", 1, "--cv", 2)
    assert log.names() == []


def test_predictions_from_stored_frames_are_those_from_files(log, tmp_path):
    run("extract", "--dataset", "folder", "--audio", "tones", "--features", "levels")
    run("fit", "--features", "levels", "--network", "mlp", "--epochs", 1, "--name", "mine")
    known = run("embed", "mine", "tones", "--json").json["embeddings"]
    shutil.rmtree(tmp_path / "s" / "embeddings")
    log.names()
    from_frames = run("embed", "mine", "tones", "--json").json["embeddings"]
    assert (log.names(), from_frames) == ([], known)
    run("store", "rm", "dataset:folder", "features:levels", "--yes")
    from_files = run("embed", "mine", "tones", "--json").json["embeddings"]
    assert (log.names(), from_files) == (ALL, known)


def test_two_features_are_computed_from_one_decoded_file_and_stacked(log, tmp_path):
    run("extract", "--dataset", "folder", "--audio", "tones", "--features", "levels")
    log.names()
    run("extract", "--features", "levels", "--features", "logmel:hop=0.05,bands=20")
    assert log.names() == []
    run("fit", "--features", "logmel:hop=0.05,bands=20+levels", "--network", "mlp", "--epochs", 1, "--name", "both")
    embedded = run("embed", "both", "tones", "--json").json["embeddings"]
    assert (len(embedded), log.names()) == (6, [])
    names = {shards.part().spec: shards.part().values for shards in Store(tmp_path / "s").all_features()}
    assert names == {"levels": 2, "logmel:bands=20,hop=0.05": 20}
    assert np.isfinite(list(embedded.values())).all()


def test_changed_code_of_a_plugin_computes_other_features(log, tmp_path):
    run("extract", "--dataset", "folder", "--audio", "tones", "--features", "levels")
    log.names()
    file = tmp_path / "plugins" / "levels.py"
    file.write_text(PLUGIN.replace("np.abs(stretches)", "np.square(stretches)"))
    run("fit", "--features", "levels", "--network", "mlp", "--epochs", 1, code=1)
    run("extract", "--features", "levels")
    assert log.names() == ALL
    assert len(Store(tmp_path / "s").all_features()) == 2
    removed = run("store", "rm", "unused", "--yes", "--json").json["removed"]
    assert len(removed) == 1
    run("fit", "--features", "levels", "--network", "mlp", "--epochs", 1)
