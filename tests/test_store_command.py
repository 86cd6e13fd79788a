"""``mirembed store``: what a store holds, what is wrong with it, and merging its shards."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import clean_environment, write_tones
from small_store import evaluate, experiment, open_tracks, workers_run, write_classes
from test_store import CLASSES, fill, frames_of, row

from mirembed.errors import StoreBusyError, StoreError
from mirembed.fit import fit
from mirembed.inventory import contents, verify
from mirembed.models.saved import NETWORK
from mirembed.registry import Registry
from mirembed.runs.folder import FORMAT
from mirembed.store import Store, compact
from mirembed.store.files import write_json, write_table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a dataset, a model and a run."""
    root = tmp_path_factory.mktemp("made") / "s"
    features = write_classes(root, n_tracks=12)
    features.write_failures([])
    tracks, registry = open_tracks(features), Registry.discover()
    with workers_run():
        fit(tracks, features, experiment(epochs=1), registry, root / "models", seed=0, jobs=1)
        evaluate(tracks, experiment(epochs=2, cv=2), registry, root / "runs")
    return root


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of that store, to damage."""
    return Path(shutil.copytree(made, tmp_path / "s"))


def small_shards(folder: Path, n_shards: int = 10, n_rows: int = 3) -> Store:
    """A dataset's store of many small shards."""
    numbers = iter(range(n_shards * n_rows))
    return fill(
        folder,
        *([row(f"{(n := next(numbers)):03d}", 3 + n % 5, seed=n) for _ in range(n_rows)] for _ in range(n_shards)),
    )


def shard_of(store: Path) -> Path:
    return next(store.glob("datasets/*/spectrograms/*.parquet"))


def flip(path: Path, at: float) -> None:
    """Change a byte of a file, at a share of its length."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 0xFF
    path.write_bytes(content)


# Contents


def test_info_lists_datasets_models_and_runs(mirembed, made):
    found = json.loads(mirembed("store", "info", "--store", made, "--json").stdout)
    (dataset,), (model,), (run,) = found["datasets"], found["models"], found["runs"]
    assert (dataset["dataset"], dataset["state"], dataset["tracks"], dataset["failures"]) == (
        "folder",
        "complete",
        12,
        0,
    )
    assert dataset["bytes"] == shard_of(made).stat().st_size
    assert dataset["hours"] == pytest.approx(pq.read_table(shard_of(made))["duration"].to_numpy().sum() / 3600)
    assert dataset["backends"] == {"essentia": 12}
    assert (model["model"], model["dataset"], model["approach"], model["tracks"]) == (
        "folder-rbf-sl",
        "folder",
        "rbf-sl",
        12,
    )
    assert (run["state"], run["dataset"], run["approaches"]) == ("finished", "folder", ["rbf-sl"])
    accuracy = json.loads((made / "runs" / run["run"] / "scores.json").read_text())["rbf-sl"]["accuracy"]["mean"]
    assert (run["folds"], run["epochs"], run["seeds"]) == ("2 stratified folds", 2, [0])
    assert (run["metric"], run["scores"]) == ("accuracy", {"rbf-sl": accuracy})
    printed = mirembed("store", "info", "--store", made).stdout
    date = run["started"][:16].replace("T", " ")
    for word in ("folder-rbf-sl", "finished", "12 of 12", run["run"], f"rbf-sl {accuracy:.3f}", "2 stratified", date):
        assert word in printed


def test_the_list_counts_tracks_without_audio_and_those_no_longer_listed(mirembed, store):
    features = Store(store).datasets()[0]
    features.write_info(replace(features.info(), n_listed=11, n_absent=988, n_unlisted=1))
    printed = " ".join(mirembed("store", "info", "--store", store).stdout.split())
    for number in ("11 of 11", " 988 ", "1 no longer listed"):
        assert number in printed
    [dataset] = contents(Store(store)).datasets
    assert (dataset.state, dataset.absent, dataset.unlisted) == ("complete", 988, 1)


def test_an_unfinished_run_is_interrupted_or_running(store):
    manifest = next(store.glob("runs/*/manifest.json"))
    write_json(manifest, {**json.loads(manifest.read_text()), "finished": None})
    assert contents(Store(store)).runs[0].state == "interrupted"
    with Store(manifest.parent).lock():
        assert contents(Store(store)).runs[0].state == "running"


def test_the_runs_of_an_experiment_are_listed_under_it(store):
    member = next(store.glob("runs/*"))
    whole = store / "runs" / "experiment-1"
    whole.mkdir()
    member.rename(whole / "one")
    started = "2026-01-01T00:00:00+00:00"
    write_json(
        whole / "manifest.json",
        {
            "format": FORMAT,
            "command": "mirembed evaluate",
            "configuration": {"grid": ["one", "two"]},
            "started": started,
            "finished": None,
        },
    )
    (run,) = contents(Store(store)).runs
    assert (run.run, run.state, run.started) == ("experiment-1", "interrupted", started)
    assert [(one.run, one.state, one.dataset) for one in run.members] == [("experiment-1/one", "finished", "folder")]


def test_a_dataset_with_tracks_that_were_never_tried_is_incomplete(tmp_path):
    Store(tmp_path).create()
    fill(tmp_path / "datasets" / "folder", [row("a")])  # CLASSES lists three
    (dataset,) = contents(Store(tmp_path)).datasets
    assert (dataset.state, dataset.tracks, dataset.listed) == ("incomplete", 1, 3)


def test_damaged_datasets_models_and_runs_are_listed_as_such(mirembed, store):
    for name in ("models/*/model.json", "runs/*/manifest.json"):
        next(store.glob(name)).write_text("{")
    os.truncate(shard_of(store), 100)
    found = json.loads(mirembed("store", "info", "--store", store, "--json").stdout)
    assert {kind: [one["state"] for one in found[kind]] for kind in found} == {kind: ["damaged"] for kind in found}


@pytest.mark.parametrize("command", ["info", "verify", "compact"])
def test_a_folder_without_a_store_is_an_error(mirembed, command):
    error = mirembed("store", command, code=1).stderr
    assert error.startswith("error: ")
    assert "mirembed-store" in error
    assert "mirembed extract" in error


# Faults


def test_a_sound_store_has_no_faults(mirembed, made):
    [line] = mirembed("store", "verify", "--store", made).stdout.splitlines()
    assert line.startswith(f"{made}: ")
    assert json.loads(mirembed("store", "verify", "--store", made, "--json").stdout) == {"sound": True, "faults": []}


def first(store: Path, pattern: str) -> Path:
    return next(iter(sorted(store.glob(pattern))))


def damage_frames(store: Path) -> Path:
    flip(shard_of(store), 0.5)
    return shard_of(store)


def double_ids(store: Path) -> Path:
    shutil.copy(shard_of(store), shard_of(store).with_name("000002-0123abcd.parquet"))
    return shard_of(store).parent


def repeat_a_row(store: Path) -> Path:
    table = pq.read_table(shard_of(store))
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), shard_of(store))
    return shard_of(store)


def use_other_parameters(store: Path) -> Path:
    table = pq.read_table(shard_of(store))
    parameters = json.loads(table.schema.metadata[b"mirembed.spectrogram"])
    metadata = {"mirembed.spectrogram": json.dumps({**parameters, "bands": 41})}
    pq.write_table(table.replace_schema_metadata(metadata), shard_of(store))
    return shard_of(store)


def put_in_a_nan(store: Path) -> Path:
    features = Store(store).datasets()[0]
    info = features.info()
    bad = row("nan", label=info.task.classes[0])
    bad.frames[1, 2] = np.nan
    features.append([bad], info)
    return features.shards()[-1]


def name_an_unknown_class(store: Path) -> Path:
    features = Store(store).datasets()[0]
    features.append([row("other", label="unheard of")], features.info())
    return features.shards()[-1]


def change_weights(store: Path) -> Path:
    flip(first(store, "models/*/network.safetensors"), 0.9)
    return first(store, "models/*/network.safetensors")


def set_digests(name: str, change: Callable[[dict[str, Any]], Any], path: str) -> Callable[[Path], Path]:
    def damage(store: Path) -> Path:
        manifest = first(store, "models/*/model.json")
        content = json.loads(manifest.read_text())
        write_json(manifest, {**content, "files": change(content["files"])})
        return manifest.parent / path

    damage.__name__ = name
    return damage


def delete_learner(store: Path) -> Path:
    path = first(store, "models/*/learner.skops")
    path.unlink()
    return path


def delete_curves(store: Path) -> Path:
    path = first(store, "runs/*/curves.parquet")
    path.unlink()
    return path


def drop_a_prediction(store: Path) -> Path:
    path = first(store, "runs/*/predictions.parquet")
    write_table(path, pq.read_table(path).slice(1))
    return path


def drop_an_epoch(store: Path) -> Path:
    path = first(store, "runs/*/curves.parquet")
    write_table(path, pq.read_table(path).slice(1))
    return path


def leave_a_temporary_folder(store: Path) -> Path:
    import platform

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = shard_of(store).parent / f".tmp-{platform.node()}-{ended.pid}-abc"
    path.mkdir()
    return path


def set_a_shard_aside(store: Path) -> Path:
    path = shard_of(store).parent / "000009-abc.parquet.damaged"
    path.write_bytes(b"")
    return path


def write_text(pattern: str):
    def damage(store: Path) -> Path:
        path = first(store, pattern)
        path.write_text("{")
        return path

    damage.__name__ = f"damage {pattern}"
    return damage


FAULTS = {
    damage_frames: "cannot be read",
    double_ids: "12 tracks",
    repeat_a_row: "twice",
    use_other_parameters: "bands=41",
    put_in_a_nan: "not finite",
    name_an_unknown_class: "'unheard of'",
    change_weights: "changed",
    set_digests("a number as digest", lambda files: {**files, NETWORK: 5}, NETWORK): "changed",
    set_digests(
        "a digest with a prefix", lambda files: {**files, NETWORK: f"sha256:{files[NETWORK]}"}, NETWORK
    ): "changed",
    set_digests("a number for all digests", lambda files: 5, ""): "is not a model",
    set_digests("pairs of numbers for all digests", lambda files: [[1, 2]], ""): "is not a model",
    delete_learner: "cannot be read",
    delete_curves: "is missing",
    drop_a_prediction: "11 predictions of rbf-sl.* 12 ",
    drop_an_epoch: "1 of 2 epochs of rbf-sl, seed 0, fold 0",
    leave_a_temporary_folder: "killed",
    set_a_shard_aside: "set aside",
    write_text("datasets/*/dataset.json"): "is damaged",
    write_text("datasets/*/failures.parquet"): "cannot be read",
    write_text("datasets/*/embeddings/*.parquet"): "cannot be read",
    write_text("runs/*/scores.json"): "is damaged",
}


@pytest.mark.parametrize("damage", FAULTS, ids=lambda damage: damage.__name__)
def test_a_fault_is_found_with_advice(damage, store):
    path = damage(store)
    (fault,) = verify(Store(store))
    assert fault.path == str(path)
    assert re.search(FAULTS[damage], fault.what)
    assert str(path) not in fault.what
    assert fault.advice


@pytest.mark.parametrize("pattern", ["models/*/model.json", "runs/*/manifest.json"])
def test_a_folder_that_is_not_a_model_or_run_is_a_fault(pattern, store):
    path = write_text(pattern)(store)
    (fault,) = verify(Store(store))
    assert fault.path == str(path.parent)


def test_each_fault_is_a_line_and_the_exit_code_is_1(mirembed, store):
    paths = [change_weights(store), drop_a_prediction(store)]
    completed = mirembed("store", "verify", "--store", store, code=1)
    lines = completed.stdout.splitlines()
    assert [line.split(" ")[0] for line in lines] == [*map(str, paths), f"{store}:"]
    assert lines[-1].endswith("2 faults")
    found = json.loads(mirembed("store", "verify", "--store", store, "--json", code=1).stdout)
    assert not found["sound"]
    assert [list(fault) for fault in found["faults"]] == [["path", "what", "advice"]] * 2


def test_an_unfinished_run_may_lack_tables(store):
    manifest = first(store, "runs/*/manifest.json")
    write_json(manifest, {**json.loads(manifest.read_text()), "finished": None})
    (manifest.parent / "predictions.parquet").unlink()
    assert verify(Store(store)) == []


@pytest.mark.slow
def test_following_the_advice_on_a_damaged_shard_repairs_the_store(mirembed, tmp_path):
    extract = ("extract", "--dataset", "folder", "--audio", write_tones(tmp_path / "tones", 2, 0.3), "--jobs", 1)
    mirembed(*extract)
    root = mirembed.folder / "mirembed-store"
    damage_frames(root)
    assert re.search("delete .*`mirembed extract` again", mirembed("store", "verify", code=1).stdout)
    shard_of(root).unlink()
    mirembed(*extract)
    mirembed("store", "verify")


# Merging shards


def test_merging_small_shards_loses_nothing(tmp_path):
    features = small_shards(tmp_path)
    index, frames, digest = features.index(), frames_of(features), open_tracks(features).digest
    result = compact.compact(features)
    assert (result.shards_before, result.shards_after) == (10, 1)
    after = frames_of(features)
    assert features.index().drop_columns(["shard", "row"]) == index.drop_columns(["shard", "row"])
    assert after.keys() == frames.keys()
    for track, values in frames.items():
        np.testing.assert_array_equal(after[track], values)
    assert open_tracks(features).digest == digest
    assert pq.ParquetFile(features.shards()[0]).metadata.num_row_groups == 1


def test_merging_again_changes_nothing(tmp_path):
    features = small_shards(tmp_path)
    compact.compact(features)
    (shard,) = features.shards()
    before = shard.stat().st_ino
    assert compact.compact(features).shards_after == 1
    assert features.shards()[0].stat().st_ino == before


def test_large_shards_stay_and_merged_ones_keep_to_the_limit(tmp_path, monkeypatch):
    features = small_shards(tmp_path, n_shards=9)
    size = features.shards()[0].stat().st_size
    features.append([row(f"large {number}", 400, seed=number) for number in range(5)], CLASSES)
    large = features.shards()[-1]
    monkeypatch.setattr(compact, "SHARD_BYTES", 4 * size)
    assert large.stat().st_size > 2 * size
    compact.compact(features)
    assert large in features.shards()
    assert len(features.shards()) == 1 + 3
    assert len(features.index()) == 9 * 3 + 5


def test_replaced_rows_are_dropped(tmp_path):
    features = fill(tmp_path, [row("a", 3, seed=1), row("b", seed=2)], [row("a", 5, seed=3)], [row("c", seed=4)])
    compact.compact(features)
    (shard,) = features.shards()
    assert features.n_rows(shard) == 3
    assert len(frames_of(features)["a"]) == 5


def test_a_merge_that_cannot_read_a_shard_changes_nothing(tmp_path):
    features = small_shards(tmp_path, n_shards=3)
    flip(features.shards()[1], 0.4)
    before = {path: path.read_bytes() for path in features.shards()}
    with pytest.raises(StoreError, match="cannot be read"):
        compact.compact(features)
    assert {path: path.read_bytes() for path in features.shards()} == before


def test_a_merge_during_an_extraction_is_refused(tmp_path):
    features = small_shards(tmp_path, n_shards=2)
    with features.lock(), pytest.raises(StoreBusyError, match="another process"):
        compact.compact(Store(tmp_path))
    assert len(features.shards()) == 2


def test_a_reader_during_a_merge_finds_every_track(tmp_path):
    features = small_shards(tmp_path)
    expected = frames_of(features)
    reading = features.read_frames(["id", "frames"])
    found = {next(reading)["id"][0].as_py()}
    compact.compact(Store(tmp_path))
    for table in reading:
        found.update(table["id"].to_pylist())
    assert found >= expected.keys() - {"001", "002"}  # which the first row group held


def test_an_index_that_is_read_during_a_merge_is_whole(tmp_path, monkeypatch):
    features = small_shards(tmp_path)
    before = features.shards()
    compact.compact(Store(tmp_path))
    listings = iter([before])
    shards = Store.shards
    monkeypatch.setattr(Store, "shards", lambda self: next(listings, None) or shards(self))
    assert len(features.index()) == 30


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
from mirembed.store import Store, compact
compact.SHARD_BYTES = 8 * 2**10  # many shards, so that many moments fall between two writings
print("ready", flush=True)
compact.compact(Store(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_a_merge_may_be_killed_at_any_moment(tmp_path):
    features = small_shards(tmp_path, n_shards=60)
    expected = frames_of(features)
    moments = random.Random(7)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path], env=clean_environment(), stdout=subprocess.PIPE
        )
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert set(features.index()["id"].to_pylist()) == expected.keys()
    compact.compact(features)
    found = frames_of(features)
    assert sum(features.n_rows(shard) for shard in features.shards()) == len(expected)
    for track, values in expected.items():
        np.testing.assert_array_equal(found[track], values)


def test_compact_reports_each_dataset(mirembed, tmp_path):
    Store(tmp_path / "s").create()
    small_shards(tmp_path / "s" / "datasets" / "folder")
    (done,) = json.loads(mirembed("store", "compact", "--store", tmp_path / "s", "--json").stdout)
    assert (done["dataset"], done["shards_before"], done["shards_after"]) == ("folder", 10, 1)
    assert mirembed("store", "compact", "--store", tmp_path / "s").stdout.startswith("folder: 1 shard (")
