"""Features through the real command: several at once, and plugins that do not do what they declare."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Command, write_tones
from test_onnx import dense

pytestmark = pytest.mark.slow

PLUGIN = """
import os

import numpy as np
from mirembed import hookimpl

class Bad:
    values = 2

    def __init__(self, how: str, hop: float | None = 0.025):
        self.how, self.hop = how, hop

    def extract(self, audio):
        n = round(sum(map(len, audio.blocks())) / audio.rate / 0.025) - 1
        if self.how == "exit":
            os._exit(3)
        return {
            "nan": np.full((n, 2), np.nan, np.float32),
            "width": np.zeros((n, 3), np.float32),
            "none": np.zeros((0, 2), np.float32),
            "few": np.zeros((3, 2), np.float32),
            "list": [[0.0, 0.0]] * n,
        }[self.how]

@hookimpl
def mirembed_register_features(register):
    register("bad", Bad)
"""


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "tones", n_tracks=4, seconds=1.0)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "bad.py").write_text(PLUGIN)
    return tmp_path / "plugins"


def vectors(audio: Path, missing: int = 0) -> Path:
    """A table of one value a class, without its first tracks."""
    names = sorted(path.relative_to(audio) for path in audio.rglob("*.wav"))
    classes = sorted({name.parts[0] for name in names})
    rows = [f"{name},{classes.index(name.parts[0])},{number}" for number, name in enumerate(names)]
    file = audio.parent / "vectors.csv"
    file.write_text("\n".join(["id,class,number", *rows[missing:]]) + "\n")
    return file


def n_rows(folder: Path, features: str) -> int:
    files = folder.glob(f"mirembed-store/features/{features}-*/*.parquet")
    return sum(pq.read_metadata(file).num_rows for file in files)


def test_all_built_in_features_are_compared_in_one_command(mirembed: Command, audio: Path, tmp_path: Path) -> None:
    features = [
        "logmel:bands=20+chroma",
        "descriptors",
        f"vectors:file={vectors(audio)}",
        f"onnx:model={dense(tmp_path / 'm.onnx', length=4000)},rate=16000",
    ]
    flags = [flag for spec in features for flag in ("--features", spec)]
    mirembed("extract", "--dataset", "folder", "--audio", audio, *flags)
    shape = ["--cv", "2", "--epochs", "1", "--network", "mlp", "--approach", "stats", "--approach", "nn"]
    text = mirembed("evaluate", "--dataset", "folder", *flags, *shape, "--json").stdout
    assert all(f"{approach}@{spec}" in text for spec in features for approach in ("stats", "nn"))


def test_a_track_that_a_table_lacks_is_a_failure_of_these_features_alone(mirembed: Command, audio: Path) -> None:
    flags = ["--features", f"vectors:file={vectors(audio, missing=1)}", "--features", "logmel"]
    found = mirembed("extract", "--dataset", "folder", "--audio", audio, *flags, code=2)
    assert "high-0.wav" in found.stdout
    rows = {name: n_rows(mirembed.folder, name) for name in ("logmel", "vectors")}
    assert rows == {"logmel": 12, "vectors": 11}


def test_entries_that_no_track_matches_are_named(mirembed: Command, audio: Path) -> None:
    file = vectors(audio)
    with file.open("a", encoding="utf-8") as table:
        table.write(file.read_text().splitlines()[1].replace("high-0", "nobody") + "\n")
    flags = ["--features", f"vectors:file={file}"]
    found = mirembed("extract", "--dataset", "folder", "--audio", audio, *flags)
    [line] = [line for line in found.stderr.splitlines() if "no track" in line]
    assert "nobody" in line
    assert n_rows(mirembed.folder, "vectors") == 12


@pytest.mark.parametrize(("how", "fact"), [("nan", "NaN"), ("width", "3]"), ("none", "no frames"), ("list", "list")])
def test_a_plugin_that_breaks_its_word_is_named(
    how: str, fact: str, mirembed: Command, audio: Path, plugins: Path
) -> None:
    spec = f"logmel+bad:how={how}"
    found = mirembed(
        "--plugins-dir", plugins, "extract", "--dataset", "folder", "--audio", audio, "--features", spec, code=2
    )
    assert fact in found.stdout
    assert f"bad:how={how} of bad.py" in found.stdout
    assert n_rows(mirembed.folder, "logmel") == 12


def test_a_plugin_that_ends_its_worker_is_named(mirembed: Command, audio: Path, plugins: Path) -> None:
    shutil.rmtree(audio / "high")  # each file ends a worker
    flags = ["--dataset", "folder", "--audio", audio, "--features", "bad:how=exit"]
    found = mirembed("--plugins-dir", plugins, "extract", *flags, code=2, process=True)
    assert "code 3" in found.stdout
    assert "bad:how=exit of bad.py" in found.stdout


@pytest.mark.parametrize(("hop", "shown"), [("0.05", "0.05 s"), ("none", "one vector")])
def test_a_hop_that_cannot_be_stacked_is_refused(
    hop: str, shown: str, mirembed: Command, audio: Path, plugins: Path
) -> None:
    spec = f"logmel+bad:how=few,hop={hop}"
    found = mirembed(
        "--plugins-dir", plugins, "extract", "--dataset", "folder", "--audio", audio, "--features", spec, code=1
    )
    assert "0.025 s" in found.stderr
    assert shown in found.stderr


def test_frames_of_another_number_are_refused_when_they_are_stacked(
    mirembed: Command, audio: Path, plugins: Path
) -> None:
    write_tones(audio, n_tracks=4, seconds=1.5)  # frames of up to a second would be cut off
    flags = ["--dataset", "folder", "--features", "logmel+bad:how=few"]
    mirembed("--plugins-dir", plugins, "extract", *flags, "--audio", audio)
    found = mirembed("--plugins-dir", plugins, "evaluate", *flags, "--cv", "2", "--epochs", "1", code=1)
    assert "logmel" in found.stderr
    assert "bad:how=few" in found.stderr


def test_features_that_the_store_lacks_are_named_with_the_command(mirembed: Command, audio: Path) -> None:
    mirembed("extract", "--dataset", "folder", "--audio", audio)
    found = mirembed("evaluate", "--dataset", "folder", "--features", "chroma", "--cv", "2", code=1)
    assert "mirembed extract --dataset folder" in found.stderr
    assert "--features chroma" in found.stderr


def test_features_from_before_that_cannot_be_computed_any_more_are_named_with_the_way_out(
    mirembed: Command, audio: Path
) -> None:
    table = vectors(audio)
    shape = ["extract", "--dataset", "folder", "--audio", audio]
    mirembed(*shape, "--features", f"vectors:file={table}")
    table.unlink()
    found = mirembed(*shape, code=1)
    assert f"folder was extracted with vectors:file={table} before" in found.stderr
    [features] = mirembed.folder.glob("mirembed-store/features/*")
    assert f"mirembed store rm features:{features.name}" in found.stderr
    mirembed(*shape, "--features", "logmel")
    mirembed("store", "rm", f"features:{features.name}", "--yes")
    assert "12 of 12 tracks" in mirembed(*shape).stdout


@pytest.mark.parametrize("spec", ["vectors:file=none.csv", "onnx:model=none.onnx,rate=16000", "chroma:size=13"])
def test_bad_parameters_are_refused_before_any_work(spec: str, mirembed: Command, audio: Path) -> None:
    found = mirembed("extract", "--dataset", "folder", "--audio", audio, "--features", spec, code=1)
    assert len(found.stderr.strip().splitlines()) <= 2
    assert not list(mirembed.folder.glob("mirembed-store/features/*"))


def test_one_vector_a_recording_needs_no_sound(mirembed: Command, audio: Path) -> None:
    broken = audio / "low" / "low-0.wav"
    broken.write_bytes(broken.read_bytes()[:44])
    mirembed("extract", "--dataset", "folder", "--audio", audio, "--features", f"vectors:file={vectors(audio)}")


def test_failures_of_a_plugin_are_forgotten_once_it_is_mended(mirembed: Command, audio: Path, plugins: Path) -> None:
    def extract(code: int) -> dict[str, object]:
        flags = ["--dataset", "folder", "--audio", audio, "--features", "bad:how=nan", "--json"]
        lines = mirembed("--plugins-dir", plugins, "extract", *flags, code=code).stdout.splitlines()
        summary: dict[str, object] = json.loads(lines[-1])
        return summary

    assert extract(2)["stored"] == 0
    (plugins / "bad.py").write_text(PLUGIN.replace("np.nan", "0.5"))
    summary = extract(0)
    assert (summary["stored"], summary["failures"]) == (12, [])
    assert json.loads(mirembed("store", "info", "--json").stdout)["datasets"][0]["failures"] == 0


def test_a_model_whose_features_are_missing_says_where_to_find_them(
    mirembed: Command, audio: Path, plugins: Path
) -> None:
    (plugins / "bad.py").write_text(PLUGIN.replace("np.nan", "0.5"))
    flags = ["--dataset", "folder", "--features", "bad:how=nan"]
    mirembed("--plugins-dir", plugins, "extract", *flags, "--audio", audio)
    mirembed("--plugins-dir", plugins, "fit", *flags, "--epochs", "1", "--network", "mlp")
    new = next(write_tones(audio.parent / "new", n_tracks=1, seconds=2).rglob("*.wav"))
    found = mirembed("predict", "folder-rbf-sl", new, code=1)
    assert "'bad' of bad.py" in found.stderr
    assert "--plugins-dir" in found.stderr
