"""``mirembed store``: what a store holds, what is wrong with it, and merging its shards."""

from __future__ import annotations

import io
import json
import os
import pty
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
from small_store import LOGMEL, evaluate, experiment, open_tracks, workers_run, write_classes
from test_store import LINES, PART, fill, frames_of, make_store, row, track

from mirembed import progress
from mirembed.errors import SpecError, StoreBusyError, StoreError
from mirembed.features.info import FeaturesInfo
from mirembed.fit import fit
from mirembed.inventory import contents, verify
from mirembed.models.saved import NETWORK
from mirembed.registry import Registry
from mirembed.removal import plan_removals
from mirembed.runs.folder import FORMAT, RunFolder
from mirembed.specs import Spec
from mirembed.store import EmbeddingRows, Failure, FeatureShards, Store, compact
from mirembed.store.files import size_of, write_json, write_table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a dataset, a model and a run."""
    store = write_classes(tmp_path_factory.mktemp("made") / "s", n_tracks=12)
    store.find(None).write_failures([])
    tracks, registry = open_tracks(store), Registry.discover()
    with workers_run():
        fit(tracks, store, experiment(epochs=1), registry, store.models, seed=0, jobs=1)
        evaluate(tracks, experiment(epochs=2, cv=2), registry, store.runs)
    return store.root


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of that store, to damage."""
    return Path(shutil.copytree(made, tmp_path / "s"))


def small_shards(folder: Path, n_shards: int = 10, n_rows: int = 3) -> FeatureShards:
    """Features in many small shards."""
    numbers = iter(range(n_shards * n_rows))
    return fill(
        folder,
        *([row(f"{(n := next(numbers)):03d}", 3 + n % 5, seed=n) for _ in range(n_rows)] for _ in range(n_shards)),
    )


def shard_of(store: Path) -> Path:
    return next(store.glob("features/*/*.parquet"))


def flip(path: Path, at: float) -> None:
    """Change a byte of a file, at a share of its length."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 0xFF
    path.write_bytes(content)


# Contents


def test_info_lists_everything_in_the_store(mirembed, made):
    found = json.loads(mirembed("store", "info", "--store", made, "--json").stdout)
    (features,), (dataset,), (model,), (run,) = (found[kind] for kind in ("features", "datasets", "models", "runs"))
    assert (features["features"], features["spec"], features["values"]) == (
        Store(made).features(LOGMEL.parts[0]).name,
        "logmel",
        40,
    )
    assert (features["state"], features["recordings"], features["unused"]) == ("complete", 12, 0)
    assert features["backends"] == {"essentia": 12}
    assert (dataset["dataset"], dataset["state"], dataset["tracks"], dataset["failures"]) == (
        "folder",
        "complete",
        12,
        0,
    )
    assert dataset["features"] == {"logmel": 12}
    hours = pq.read_table(shard_of(made))["duration"].to_numpy().sum() / 3600
    assert (features["hours"], dataset["hours"]) == (pytest.approx(hours), pytest.approx(hours))
    assert (model["model"], model["dataset"], model["approach"], model["tracks"]) == (
        "folder-rbf-sl",
        "folder",
        "rbf-sl",
        12,
    )
    assert [(one["model"], one["state"], one["recordings"]) for one in found["embeddings"]] == [
        ("folder-rbf-sl", "complete", 12)
    ]
    assert (run["state"], run["dataset"], run["approaches"]) == ("finished", "folder", ["rbf-sl"])
    accuracy = json.loads((made / "runs" / run["run"] / "scores.json").read_text())["rbf-sl"]["accuracy"]["mean"]
    assert (run["folds"], run["epochs"], run["seeds"]) == ("2 stratified folds", 2, [0])
    assert (run["metric"], run["scores"]) == ("accuracy", {"rbf-sl": accuracy})
    printed = mirembed("store", "info", "--store", made, env={"COLUMNS": "200"}).stdout
    date = run["started"][:16].replace("T", " ")
    for word in ("folder-rbf-sl", "finished", "12 of 12", run["run"], f"rbf-sl {accuracy:.3f}", "2 stratified", date):
        assert word in printed


def test_info_tells_the_disk_space_of_everything(mirembed, made):
    found = json.loads(mirembed("store", "info", "--store", made, "--json").stdout)

    def bytes_of(*patterns: str) -> int:
        files = {path for pattern in patterns for path in made.glob(pattern) if path.is_file()}
        return sum(path.stat().st_size for path in files)

    assert found["features"][0]["bytes"] == bytes_of("features/*/*", "features/*/.lock")
    assert found["datasets"][0]["bytes"] == bytes_of("datasets/**/*")
    assert found["embeddings"][0]["bytes"] == bytes_of("embeddings/**/*")
    assert found["cache"] == bytes_of("cache/**/*") > 12 * 120 * 40 * 4
    assert found["audio"] == 0
    assert found["bytes"] == bytes_of("**/*")
    assert f"{progress.size(found['bytes'])} in total" in mirembed("store", "info", "--store", made).stdout


def test_the_list_counts_tracks_without_audio_and_those_no_longer_listed(mirembed, store):
    dataset = Store(store).datasets()[0]
    info = replace(dataset.info(), n_listed=11, n_absent=988, n_unlisted=1)
    first, *others = dataset.tracks()
    dataset.write_info(info)
    dataset.write_tracks([replace(first, listed=False), *others], info)
    printed = " ".join(mirembed("store", "info", "--store", store).stdout.split())
    for number in ("11 of 11", " 988 ", "1 no longer listed"):
        assert number in printed
    [found] = contents(Store(store)).datasets
    assert (found.state, found.absent, found.unlisted) == ("complete", 988, 1)


def test_an_unfinished_run_is_interrupted_or_running(store):
    manifest = next(store.glob("runs/*/manifest.json"))
    write_json(manifest, {**json.loads(manifest.read_text()), "finished": None})
    assert contents(Store(store)).runs[0].state == "interrupted"
    with RunFolder(manifest.parent).lock():
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


def test_a_dataset_with_tracks_that_lack_its_features_is_incomplete(tmp_path):
    store = make_store(tmp_path, [track("a"), track("b")], [row("A")])
    (dataset,) = contents(store).datasets
    assert (dataset.state, dataset.tracks, dataset.listed, dataset.features) == ("incomplete", 2, 3, {"lines": 1})


def test_recordings_that_no_dataset_refers_to_are_counted(tmp_path):
    store = make_store(tmp_path, [track("a")], [row("A"), row("B"), row("C")])
    (features,) = contents(store).features
    assert (features.recordings, features.unused) == (3, 2)


def test_what_is_being_written_is_listed_as_such(tmp_path):
    store = make_store(tmp_path, [track("a")], [row("A")])
    with store.find(None).lock(), store.features(PART).adding():
        found = contents(store)
    assert (found.datasets[0].state, found.features[0].state) == ("being written", "being written")


def test_whatever_is_damaged_is_listed_as_such(mirembed, store):
    for name in ("models/*/model.json", "runs/*/manifest.json", "datasets/*/dataset.json", "embeddings/*/*.parquet"):
        next(store.glob(name)).write_text("{")
    os.truncate(shard_of(store), 100)
    found = json.loads(mirembed("store", "info", "--store", store, "--json").stdout)
    states = {kind: [one["state"] for one in found[kind]] for kind in found if isinstance(found[kind], list)}
    assert states == {kind: ["damaged"] for kind in ("features", "datasets", "embeddings", "models", "runs")}


@pytest.mark.parametrize("command", ["info", "verify", "compact", "rm"])
def test_a_folder_without_a_store_is_an_error(mirembed, command):
    error = mirembed("store", command, *["unused"] * (command == "rm"), code=1).stderr
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


def double_recordings(store: Path) -> Path:
    shutil.copy(shard_of(store), shard_of(store).with_name("000002-0123abcd.parquet"))
    return shard_of(store).parent


def repeat_a_row(store: Path) -> Path:
    table = pq.read_table(shard_of(store))
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), shard_of(store))
    return shard_of(store)


def claim_other_features(store: Path) -> Path:
    table = pq.read_table(shard_of(store))
    part = json.loads(table.schema.metadata[b"mirembed.features"])
    metadata = {"mirembed.features": json.dumps({**part, "digest": "5" * 32})}
    pq.write_table(table.replace_schema_metadata(metadata), shard_of(store))
    return shard_of(store)


def swap_frames(store: Path) -> Path:
    """Write other frames into a shard, in a file without any damage."""
    table = pq.read_table(shard_of(store))
    frames = table["frames"].to_pylist()
    frames[2][7][3] += 1e-3
    position = table.schema.get_field_index("frames")
    column = pa.array(frames, table.schema.field("frames").type)
    pq.write_table(table.set_column(position, table.schema.field(position), column), shard_of(store))
    return shard_of(store)


def put_in_a_nan(store: Path) -> Path:
    shards = FeatureShards(shard_of(store).parent)
    bad = row("nan")
    bad.frames[1, 2] = np.nan
    shards.append([bad], shards.part())
    return shards.shards()[-1]


def leave_out_frames(store: Path) -> Path:
    table = pq.read_table(shard_of(store))
    position = table.schema.get_field_index("frames")
    column = pa.nulls(len(table), table.schema.field(position).type)
    pq.write_table(table.set_column(position, table.schema.field(position), column), shard_of(store))
    return shard_of(store)


def rename_features(store: Path) -> Path:
    folder = shard_of(store).parent
    return folder.rename(folder.with_name("chroma-0123456789ab"))


def name_an_unknown_class(store: Path) -> Path:
    dataset = Store(store).datasets()[0]
    first, *others = dataset.tracks()
    dataset.write_tracks([replace(first, label="unheard of"), *others], dataset.info())
    return dataset.folder / "tracks.parquet"


def repeat_a_track(store: Path) -> Path:
    dataset = Store(store).datasets()[0]
    tracks = dataset.tracks()
    dataset.write_tracks([tracks[0], *tracks], dataset.info())
    return dataset.folder / "tracks.parquet"


def delete_a_shard(store: Path) -> Path:
    shards = FeatureShards(shard_of(store).parent)
    shards.append([row("other")], shards.part())
    shards.shards()[0].unlink()
    shutil.rmtree(store / "embeddings")  # a recording that a model has embedded needs no frames
    return store / "datasets" / "folder" / "tracks.parquet"


def remove_the_model(store: Path) -> Path:
    shutil.rmtree(store / "models" / "folder-rbf-sl")
    return first(store, "embeddings/*/*.parquet")


def give_the_embeddings_to_another_model(store: Path) -> Path:
    stored = Store(store).embeddings("folder-rbf-sl")
    stored.write("0" * 64, EmbeddingRows(["A"], np.zeros((1, 50), np.float32)))
    return stored.path


def put_a_nan_into_embeddings(store: Path) -> Path:
    stored = Store(store).embeddings("folder-rbf-sl")
    stored.write(stored.digest(), EmbeddingRows(["A"], np.full((1, 50), np.nan, np.float32)))
    return stored.path


def add_a_foreign_file(store: Path) -> Path:
    path = shard_of(store).parent / "notes.txt"
    path.write_text("x")
    return path


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
    double_recordings: "12 recordings",
    repeat_a_row: "twice",
    claim_other_features: "5{32}",
    swap_frames: "frames_digest",
    put_in_a_nan: "not finite",
    leave_out_frames: "is incomplete",
    rename_features: "holds features with the digest",
    name_an_unknown_class: "'unheard of'",
    repeat_a_track: "'000' twice",
    delete_a_shard: "12 tracks",
    remove_the_model: "folder-rbf-sl",
    give_the_embeddings_to_another_model: "network other than",
    put_a_nan_into_embeddings: "not finite",
    add_a_foreign_file: "not a shard",
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
    drop_an_epoch: "1 of 2 epochs of rbf-sl.* seed 0, fold 0",
    leave_a_temporary_folder: "killed",
    set_a_shard_aside: "set aside",
    write_text("datasets/*/dataset.json"): "is damaged",
    write_text("datasets/*/failures.parquet"): "cannot be read",
    write_text("datasets/*/tracks.parquet"): "cannot be read",
    write_text("features/*/_features.json"): "is damaged",
    write_text("embeddings/*/*.parquet"): "cannot be read",
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
    assert lines[-1].endswith("2 problems")
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
    facts, frames = features.columns("n_frames", "frames_digest", "duration"), frames_of(features)
    result = compact.compact(features)
    assert (result.shards_before, result.shards_after) == (10, 1)
    after = frames_of(features)
    assert features.columns("n_frames", "frames_digest", "duration") == facts
    assert after.keys() == frames.keys()
    for recording, values in frames.items():
        np.testing.assert_array_equal(after[recording], values)
    assert pq.ParquetFile(features.shards()[0]).metadata.num_row_groups == 1


def test_merging_changes_no_digest_and_no_flat_file(tmp_path):
    store = make_store(tmp_path, [track("a"), track("b")], [row("A", 5)], [row("B", 3, seed=1)])
    before = open_tracks(store, features=[LINES])
    compact.compact(store.features(PART))
    after = open_tracks(store, features=[LINES])
    assert (after.digest, after.frames["lines"].path) == (before.digest, before.frames["lines"].path)


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
    features.append([row(f"large {number}", 400, seed=number) for number in range(5)], PART)
    large = features.shards()[-1]
    monkeypatch.setattr(compact, "SHARD_BYTES", 4 * size)
    assert large.stat().st_size > 2 * size
    compact.compact(features)
    assert large in features.shards()
    assert len(features.shards()) == 1 + 3
    assert len(features.columns()) == 9 * 3 + 5


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
    with features.adding(), pytest.raises(StoreBusyError, match="another process"):
        compact.compact(FeatureShards(tmp_path))
    assert len(features.shards()) == 2


def test_a_reader_during_a_merge_finds_every_recording(tmp_path):
    features = small_shards(tmp_path)
    expected = frames_of(features)
    reading = features.frames_of(expected)
    found = dict([next(reading)])
    compact.compact(FeatureShards(tmp_path))
    found |= dict(reading)
    assert found.keys() == expected.keys()
    for recording, values in expected.items():
        np.testing.assert_array_equal(found[recording], values)


def test_what_is_listed_during_a_merge_is_whole(tmp_path, monkeypatch):
    features = small_shards(tmp_path)
    before = features.shards()
    compact.compact(FeatureShards(tmp_path))
    listings = iter([before])
    shards = FeatureShards.shards
    monkeypatch.setattr(FeatureShards, "shards", lambda self: next(listings, None) or shards(self))
    assert len(features.columns()) == 30


KILLED = """
import sys
from pathlib import Path
from mirembed.store import FeatureShards, compact
compact.SHARD_BYTES = 8 * 2**10  # many shards, so that many moments fall between two writings
print("ready", flush=True)
compact.compact(FeatureShards(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_a_merge_may_be_killed_at_any_moment(tmp_path):
    features = small_shards(tmp_path, n_shards=60)
    expected = frames_of(features)
    moments = random.Random(7)
    for _ in range(int(os.environ.get("MIREMBED_KILLS", "2"))):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path], env=clean_environment(), stdout=subprocess.PIPE
        )
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert features.columns().keys() == expected.keys()
    compact.compact(features)
    found = frames_of(features)
    assert sum(features.n_rows(shard) for shard in features.shards()) == len(expected)
    for recording, values in expected.items():
        np.testing.assert_array_equal(found[recording], values)


def test_compact_reports_each_features(mirembed, tmp_path):
    store = Store(tmp_path / "s")
    store.create()
    name = small_shards(store.features(PART).folder).name
    (done,) = json.loads(mirembed("store", "compact", "--store", tmp_path / "s", "--json").stdout)
    assert (done["features"], done["shards_before"], done["shards_after"]) == (name, 10, 1)
    assert mirembed("store", "compact", "--store", tmp_path / "s").stdout.startswith(f"{name}: 1 shard (")


# Removing


def remaining(store: Path) -> set[str]:
    """The folders and files of a store, down to single models, runs, datasets and features."""
    return {path.relative_to(store).as_posix() for path in store.glob("*/[!.]*")}


def test_a_model_is_removed_with_its_embeddings(mirembed, store):
    before = remaining(store)
    completed = mirembed("store", "rm", "model:folder-rbf-sl", "--store", store, "--yes")
    assert before - remaining(store) == {"models/folder-rbf-sl", "embeddings/folder-rbf-sl"}
    assert "folder-rbf-sl: " in completed.stderr
    assert "KiB" in completed.stdout
    assert verify(Store(store)) == []


def test_a_run_is_removed_by_the_beginning_of_its_name(mirembed, store):
    [run] = (store / "runs").glob("folder*")
    size = size_of(run)
    flags = ("--store", store, "--yes", "--json")
    removed = json.loads(mirembed("store", "rm", f"run:{run.name[:15]}", *flags).stdout)["removed"]
    assert [(one["what"].split()[-1], one["bytes"]) for one in removed] == [(run.name, size)]
    assert not run.exists()


def test_removing_a_dataset_keeps_its_features_until_they_are_removed_as_unused(mirembed, store):
    name = shard_of(store).parent.name
    mirembed("store", "rm", "dataset:folder", "--store", store, "--yes")
    assert not (store / "datasets" / "folder").exists()
    assert not (store / "cache" / "folder").exists()
    assert len(Store(store).features(LOGMEL.parts[0]).columns()) == 12
    flags = ("--store", store, "--yes", "--json")
    removed = json.loads(mirembed("store", "rm", "unused", *flags).stdout)["removed"]
    assert [(name in one["what"], "12 recordings" in one["what"]) for one in removed] == [(True, True)]
    assert not list(store.glob("features/*/*.parquet"))
    assert json.loads(mirembed("store", "rm", "unused", *flags).stdout)["removed"] == []


@pytest.mark.parametrize("by", ["name", "spec"])
def test_features_are_removed_by_their_name_or_spec(mirembed, store, by):
    folder = shard_of(store).parent
    mirembed("store", "rm", f"features:{folder.name if by == 'name' else 'logmel'}", "--store", store, "--yes")
    assert not folder.exists()
    assert verify(Store(store)) == []
    assert Store(store).find(None).info().features == {}  # the next extraction does not compute them again


def test_failures_of_removed_features_go_with_them(mirembed, store):
    dataset, [removed] = Store(store).find(None), Store(store).find(None).info().features.values()
    failures = [Failure("a.wav", "a.wav", name, "too short", "", 0, 0) for name in (removed, "chroma-012345678901")]
    dataset.write_failures(failures)
    mirembed("store", "rm", "features:logmel", "--store", store, "--yes")
    assert dataset.failures() == failures[1:]


def test_the_cache_is_removed_and_made_again(mirembed, store):
    [flat] = store.glob("cache/folder/*.f32")
    content = flat.read_bytes()
    (store / "cache" / "checks-folder.parquet").write_bytes(b"x")
    mirembed("store", "rm", "cache", "--store", store, "--yes")
    assert remaining(store) & {"cache/folder", "cache/checks-folder.parquet"} == set()
    assert open_tracks(Store(store)).frames["logmel"].path.read_bytes() == content


def test_what_is_named_twice_is_removed_once(mirembed, store):
    flags = ("--store", store, "--yes", "--json")
    names = ("dataset:folder", "cache", "model:folder-rbf-sl", "embeddings:folder-rbf-sl")
    size = size_of(*(store / name for name in ("datasets", "cache", "models/folder-rbf-sl", "embeddings")))
    removed = json.loads(mirembed("store", "rm", *names, *flags).stdout)["removed"]
    assert sum(one["bytes"] for one in removed) == size
    assert remaining(store) & {"datasets/folder", "cache/folder", "models/folder-rbf-sl"} == set()


def test_features_that_a_dataset_has_come_to_use_since_are_not_removed_as_unused(store):
    place = Store(store)
    dataset = place.find(None)
    info = dataset.info()
    for model in ("models", "runs"):
        shutil.rmtree(store / model)
    dataset.write_info(replace(info, features={}))
    [features] = [one for one in plan_removals(place, ["unused"]) if "the features" in one.what]
    dataset.write_info(info)
    with pytest.raises(StoreBusyError, match=r"logmel"):
        features.remove()
    assert len(frames_of(place.features(LOGMEL.parts[0]))) == 12


def test_a_flat_file_in_use_stays(store):
    tracks = open_tracks(Store(store))
    with tracks.in_use():
        for removal in plan_removals(Store(store), ["cache"]):
            removal.remove()
        assert tracks.frames["logmel"].is_whole


def test_unused_is_what_no_dataset_and_no_model_refers_to(tmp_path):
    store = make_store(
        tmp_path, [track("a"), track("b", "C")], [row("A"), row("B", seed=1)], [row("C", seed=2)], [row("D", seed=3)]
    )
    kept = frames_of(store.features(PART))
    untouched = store.features(PART).shards()[1]
    inode = untouched.stat().st_ino
    (other,) = (replace(PART, spec="old", digest="7" * 32),)
    fill(store.features(other).folder, [row("A")], part=other)
    store.embeddings("gone").write("0" * 64, EmbeddingRows(["A"], np.zeros((1, 50), np.float32)))
    (store.features(PART).folder / "000009-x.parquet.damaged").write_bytes(b"x")
    (store.cache / "gone").mkdir(parents=True)
    (store.cache / "gone" / "lines-0.f32").write_bytes(b"x")
    planned = plan_removals(store, ["unused"])
    what = " ".join(removal.what for removal in planned)
    for fact in (f"2 recordings of the features {store.features(PART).name}", store.features(other).name, "gone"):
        assert fact in what
    for removal in planned:
        removal.remove()
    found = frames_of(store.features(PART))
    assert found.keys() == {"A", "C"}
    np.testing.assert_array_equal(found["A"], kept["A"])
    assert untouched.stat().st_ino == inode
    assert remaining(tmp_path) == {f"features/{store.features(PART).name}", "datasets/folder"}
    assert plan_removals(store, ["unused"]) == []


def test_what_a_model_of_an_earlier_version_takes_is_not_unused(tmp_path):
    store = make_store(tmp_path, [track("a")], [row("A")])
    other = replace(PART, spec="old", digest="7" * 32)
    fill(store.features(other).folder, [row("A")], part=other)
    (store.models / "old").mkdir(parents=True)
    content = {"format": 6, "features": FeaturesInfo("old", (other,)).to_json()}
    (store.models / "old" / "model.json").write_text(json.dumps(content))
    assert plan_removals(store, ["unused"]) == []


def test_nobody_can_tell_what_is_unused_where_a_dataset_is_damaged(store):
    (store / "datasets" / "folder" / "dataset.json").unlink()
    with pytest.raises(StoreError, match=r"dataset\.json"):
        plan_removals(Store(store), ["unused"])


@pytest.mark.parametrize("name", ["dataset.json", "tracks.parquet"])
def test_a_damaged_dataset_can_be_removed(store, name):
    (store / "datasets" / "folder" / name).write_text("{")
    [dataset, _] = plan_removals(Store(store), ["dataset:folder"])
    dataset.remove()
    assert not (store / "datasets" / "folder").exists()


def test_nothing_is_removed_without_confirmation(mirembed, store, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    before = remaining(store)
    names = ("model:folder-rbf-sl", "cache")
    completed = mirembed("store", "rm", *names, "--store", store, code=1)
    *listed, error = completed.stderr.splitlines()
    assert len(listed) == 3  # the model, its embeddings, the cached frames
    assert "--yes" in error
    assert remaining(store) == before


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_on_a_terminal_the_user_is_asked(mirembed, store, monkeypatch, answer, code):
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{answer}\n".encode())
    with open(terminal) as stdin:  # noqa: PTH123 - it is the number of an open file
        monkeypatch.setattr(sys, "stdin", stdin)
        errors = mirembed("store", "rm", "model:folder-rbf-sl", "--store", store, code=code).stderr
    os.close(keyboard)
    assert "folder-rbf-sl: " in errors
    assert "[y/N]" in errors
    assert (store / "models" / "folder-rbf-sl").exists() == bool(code)


@pytest.mark.parametrize(
    ("name", "error", "fact"),
    [
        ("model:nothing", StoreError, "folder-rbf-sl"),
        ("run:nothing", StoreError, "'nothing'"),
        ("run:../models/folder-rbf-sl", StoreError, "folder-rbf-sl"),
        ("dataset:nothing", StoreError, "folder"),
        ("features:nothing", StoreError, "logmel-"),
        ("folder-rbf-sl", SpecError, "model:NAME"),
        ("model:", SpecError, "model:NAME"),
        ("cache:x", SpecError, "model:NAME"),
        ("everything", SpecError, "unused"),
    ],
)
def test_what_does_not_exist_cannot_be_removed(store, name, error, fact):
    with pytest.raises(error, match=fact):
        plan_removals(Store(store), [name])


def test_what_is_being_written_is_not_removed(store):
    place = Store(store)
    [run] = (store / "runs").glob("folder*")
    writing = [
        ("dataset:folder", place.dataset(Spec("folder")).lock()),
        ("features:logmel", place.features(LOGMEL.parts[0]).adding()),
        (f"run:{run.name}", RunFolder(run).lock()),
    ]
    for name, lock in writing:
        with lock, pytest.raises(StoreBusyError, match="another process"):
            plan_removals(place, [name])


def test_a_folder_that_was_only_locked_is_no_fault(store):
    """An extraction may end before it writes anything."""
    for name in ("datasets/new", "features/logmel-0123456789ab"):
        (store / name).mkdir()
        (store / name / ".lock").touch()
    assert verify(Store(store)) == []
