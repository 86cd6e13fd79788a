"""The store: what was written is read back, files are whole or absent, and damage is always noticed."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mirembed.spectrogram import SpectrogramParameters

from mirembed import Classification, Regression, Target, Track
from mirembed.errors import MismatchError, StoreBusyError, StoreError, StoreWriteError
from mirembed.progress import Silent
from mirembed.specs import Spec
from mirembed.store import DatasetInfo, Failure, FeatureStore, SpectrogramRow, Store
from mirembed.store.files import read_json, read_table, write_json, writing
from mirembed.store.root import slug
from mirembed.store.rows import label_names
from mirembed.store.tracks import open_tracks

BANDS = 40
PARAMETERS = SpectrogramParameters().to_json()
CLASSES = DatasetInfo(
    spec="folder",
    plugin={"name": "folder", "distribution": "mirembed", "version": "1", "parameters": {"labels": None}},
    task=Classification(("jazz", "rock")),
    parameters=PARAMETERS,
    audio="/music",
    n_listed=3,
    n_absent=1,
)
TARGETS = replace(CLASSES, task=Regression((Target("valence", 1.0, 9.0), Target("arousal"))))


def row(track: str, n_frames: int = 4, *, seed: int = 0, label: object = "jazz", group: str | None = None):
    """Return a track with random frames."""
    frames = np.random.default_rng(seed).normal(-50, 10, (n_frames, BANDS)).astype(np.float32)
    return SpectrogramRow(
        id=track,
        label=label,
        group=group,
        path=f"/music/{track}",
        duration=n_frames * 0.025,
        file_hash=f"file {seed}",
        audio_hash=f"audio {seed}",
        backend="essentia",
        file_size=1000 + seed,
        file_mtime_ns=2_000_000_000_000_000_000 + seed,
        frames=frames,
    )


def fill(folder: Path, *shards: list[SpectrogramRow], info: DatasetInfo = CLASSES) -> FeatureStore:
    """Return the features of a dataset with these shards."""
    features = FeatureStore(folder)
    features.write_info(info)
    for rows in shards:
        features.append(rows, info)
    return features


def frames_of(features: FeatureStore) -> dict[str, np.ndarray]:
    """Return the current frames by track id, read from the shards."""
    frames = {}
    for table in features.read_frames(["id", "frames"]):  # oldest shard first, so the latest row of a track wins
        for track, values in zip(table["id"].to_pylist(), table["frames"], strict=True):
            frames[track] = np.array(values.as_py(), np.float32).reshape(-1, BANDS)
    return frames


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


# Rows


def test_the_index_lists_appended_rows_sorted_by_id(tmp_path):
    features = fill(tmp_path, [row("b", 3, seed=1, label="rock", group="Nina"), row("a", 5)])
    index = features.index()
    assert index["id"].to_pylist() == ["a", "b"]
    assert index["label"].to_pylist() == ["jazz", "rock"]
    assert index["group"].to_pylist() == [None, "Nina"]
    assert index["n_frames"].to_pylist() == [5, 3]
    assert index["file_mtime_ns"].to_pylist()[1] == 2_000_000_000_000_000_001
    assert "frames" not in index.column_names


def test_frames_are_read_back_to_the_bit(tmp_path):
    rows = [row(f"{number}", 1 + number, seed=number) for number in range(70)]  # more than two row groups
    features = fill(tmp_path, rows[:66], rows[66:])
    frames = frames_of(features)
    assert len(frames) == 70
    for expected in rows:
        np.testing.assert_array_equal(frames[expected.id], expected.frames)


def test_the_later_of_two_rows_of_a_track_counts(tmp_path):
    features = fill(tmp_path, [row("a", 3, seed=1), row("b", 4, seed=2)], [row("a", 6, seed=3)])
    index = features.index()
    assert index["id"].to_pylist() == ["a", "b"]
    assert index["audio_hash"].to_pylist() == ["audio 3", "audio 2"]
    np.testing.assert_array_equal(frames_of(features)["a"], row("a", 6, seed=3).frames)
    assert [features.n_rows(shard) for shard in features.shards()] == [2, 1]


def test_an_empty_store_has_an_empty_index(tmp_path):
    assert len(fill(tmp_path).index()) == 0


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
FINITE = st.floats(-1e6, 1e6, width=32)
ROWS = st.lists(
    st.builds(
        replace,
        st.builds(row, TEXT, st.integers(1, 5), seed=st.integers(0, 10)),
        group=st.none() | TEXT,
        path=TEXT,
        duration=st.floats(0, 1e5),
        file_size=st.integers(-1, 2**62),
        file_mtime_ns=st.integers(-1, 2**62),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one.id,
)


@given(rows=ROWS, data=st.data(), regression=st.booleans())
def test_any_rows_are_read_back_unchanged(tmp_path_factory, rows, data, regression):
    info = TARGETS if regression else CLASSES
    label = st.tuples(FINITE, FINITE) if regression else TEXT
    rows = [replace(one, label=data.draw(label)) for one in rows]
    features = fill(tmp_path_factory.mktemp("store"), rows, info=info)
    frames = frames_of(features)
    found = {one["id"]: one for one in features.index().to_pylist()}
    assert list(found) == sorted(one.id for one in rows)
    for one in rows:
        stored = found[one.id]
        label = tuple(stored[name] for name in label_names(info.task))
        assert (label if regression else label[0]) == one.label
        for column in ("group", "path", "duration", "file_hash", "audio_hash", "file_size", "file_mtime_ns"):
            assert stored[column] == getattr(one, column)
        np.testing.assert_array_equal(frames[one.id], one.frames)


def test_pyarrow_and_pandas_read_shards_without_mirembed(tmp_path):
    rows = [row("a", 3, seed=1, label=(1.5, -2.0)), row("b", 4, seed=2, label=(9.0, 0.25), group="Nina")]
    features = fill(tmp_path, rows[:1], rows[1:], info=TARGETS)
    table = pq.read_table(tmp_path / "spectrograms")
    assert table.column_names == [
        "id",
        "valence",
        "arousal",
        "group",
        "path",
        "duration",
        "file_hash",
        "audio_hash",
        "backend",
        "file_size",
        "file_mtime_ns",
        "n_frames",
        "frames",
    ]
    assert table["valence"].to_pylist() == [1.5, 9.0]
    assert json.loads(table.schema.metadata[b"mirembed.spectrogram"]) == PARAMETERS
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(features.shards()[1])
    assert list(frame["arousal"]) == [0.25]
    np.testing.assert_array_equal(np.stack(frame["frames"][0]), rows[1].frames)


def test_a_shard_is_smaller_than_its_frames(tmp_path):
    rows = [row(f"{number}", 400, seed=number) for number in range(20)]
    (shard,) = fill(tmp_path, rows).shards()
    assert shard.stat().st_size < 0.95 * sum(one.frames.nbytes for one in rows)


# Replacing shards


def test_rewriting_a_shard_changes_labels_and_keeps_frames(tmp_path):
    rows = [row(f"{number:02d}", 2, seed=number, label="rock") for number in range(40)]
    features = fill(tmp_path, rows)
    tracks = {one.id: Track(one.id, Path(one.path), "jazz", "Nina") for one in rows}
    features.rewrite(features.shards()[0], range(1, 40), tracks, CLASSES)
    index = features.index()
    assert index["id"].to_pylist() == [one.id for one in rows[1:]]
    assert set(zip(index["label"].to_pylist(), index["group"].to_pylist(), strict=True)) == {("jazz", "Nina")}
    assert index["file_hash"].to_pylist() == [one.file_hash for one in rows[1:]]
    frames = frames_of(features)
    for one in rows[1:]:
        np.testing.assert_array_equal(frames[one.id], one.frames)
    assert features.shards()[0].name in names_in(tmp_path)


def test_a_shard_without_kept_rows_is_deleted(tmp_path):
    features = fill(tmp_path, [row("a")], [row("b")])
    features.rewrite(features.shards()[0], [], {}, CLASSES)
    assert features.index()["id"].to_pylist() == ["b"]
    assert len(features.shards()) == 1


def test_a_new_shard_is_the_latest_even_after_others_were_deleted(tmp_path):
    features = fill(tmp_path, [row("a", seed=1)], [row("a", seed=2)], [row("a", seed=3)])
    features.shards()[0].unlink()
    features.append([row("a", seed=4)], CLASSES)
    assert features.index()["audio_hash"].to_pylist() == ["audio 4"]


def test_a_failed_rewrite_leaves_the_shard_unchanged(tmp_path):
    features = fill(tmp_path, [row("a"), row("b")])
    before = features.shards()[0].read_bytes()
    with pytest.raises(KeyError):
        features.rewrite(features.shards()[0], [0, 1], {"a": Track("a", Path("a"), "rock")}, CLASSES)
    assert features.shards()[0].read_bytes() == before
    assert names_in(tmp_path / "spectrograms") == {features.shards()[0].name}


# Tracks and their flat file


def test_the_flat_file_has_the_frames_of_the_latest_rows_sorted_by_id(tmp_path):
    features = fill(tmp_path, [row("c", 3, seed=1), row("a", 5, seed=2)], [row("b", 2, seed=3), row("c", 4, seed=4)])
    tracks = open_tracks(features)
    assert tracks.ids == ["a", "b", "c"]
    assert tracks.frames.lengths.tolist() == [5, 2, 4]
    flat = tracks.frames.open()
    for track, expected in frames_of(features).items():
        start = tracks.frames.starts[tracks.ids.index(track)]
        np.testing.assert_array_equal(flat[start : start + len(expected)], expected)


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: os.truncate(path, 100), lambda path: os.truncate(path, 8 * BANDS * 4)],
    ids=["deleted", "cut short", "without moments"],
)
def test_an_incomplete_flat_file_is_made_again(tmp_path, damage):
    features = fill(tmp_path, [row("a", 5), row("b", 3, seed=1)])
    before = open_tracks(features).frames
    content = before.path.read_bytes()
    damage(before.path)
    assert open_tracks(features).frames.path.read_bytes() == content


def test_the_flat_file_has_the_moments_of_each_track(tmp_path):
    features = fill(tmp_path, [row("c", 3, seed=1), row("a", 5, seed=2)], [row("b", 2, seed=3)])
    tracks = open_tracks(features)
    moments = tracks.frames.moments()
    assert moments.counts.tolist() == [5, 2, 3]
    of_some = tracks.without({"a": "why"}).frames.moments()
    for track, expected in frames_of(features).items():
        position = tracks.ids.index(track)
        expected = expected.astype(np.float64)
        np.testing.assert_allclose(moments.means[position], expected.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.squares[position], expected.var(axis=0) * len(expected), rtol=1e-9)
    np.testing.assert_array_equal(of_some.means, moments.means[1:])
    np.testing.assert_array_equal(of_some.squares, moments.squares[1:])


def test_a_flat_file_of_other_frames_is_replaced(tmp_path):
    features = fill(tmp_path, [row("a", 5)])
    old = open_tracks(features).frames.path
    features.append([row("b", 3, seed=1)], CLASSES)
    new = open_tracks(features).frames.path
    assert new != old
    assert list(new.parent.glob("*.f32")) == [new]


def test_a_flat_file_in_use_is_not_deleted(tmp_path):
    features = fill(tmp_path, [row("a", 5)])
    old = open_tracks(features).frames
    features.append([row("b", 3, seed=1)], CLASSES)
    with old.in_use():
        open_tracks(features)
        assert old.open().shape == (5, BANDS)


def test_frames_stay_with_their_track_while_shards_are_rewritten(tmp_path, monkeypatch):
    features = fill(tmp_path, [row("a", 5, seed=1), row("b", 3, seed=2)], [row("c", 4, seed=3)])
    expected = frames_of(features)
    index = features.index()
    features.rewrite(features.shards()[0], [1], {"b": Track("b", Path("b.wav"), "jazz")}, CLASSES)
    monkeypatch.setattr(FeatureStore, "index", lambda self: index)
    with pytest.raises(StoreError, match=r"changed.*same command again"):
        open_tracks(features)
    monkeypatch.undo()
    tracks = open_tracks(features)
    start = tracks.frames.starts[tracks.ids.index("b")]
    np.testing.assert_array_equal(tracks.frames.open()[start : start + 3], expected["b"])


def test_the_digest_depends_on_the_data_and_not_on_the_shards(tmp_path):
    def digest(name: str, *shards: list[SpectrogramRow]) -> str:
        return open_tracks(fill(tmp_path / name, *shards)).digest

    first = row("a", seed=1), row("b", seed=2)
    same = digest("one", list(first))
    assert digest("two", [first[1]], [first[0]]) == same
    changed = [replace(first[0], label="rock"), replace(first[0], group="Nina"), row("a", seed=3), row("c", seed=1)]
    others = [digest(f"other {number}", [one, first[1]]) for number, one in enumerate(changed)]
    assert len({same, *others}) == 5


def test_regression_labels_are_read_in_original_units(tmp_path):
    features = fill(tmp_path, [row("b", label=(9.0, -3.5)), row("a", label=(1.25, 0.5))], info=TARGETS)
    tracks = open_tracks(features)
    assert tracks.labels.dtype == np.float64
    assert tracks.labels.tolist() == [[1.25, 0.5], [9.0, -3.5]]


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_missing_classes_and_tracks_are_noted(tmp_path):
    features = fill(tmp_path, [row("a")])
    features.write_failures([Failure("b", "b.wav", "no", "again", 1, 1)])
    progress = Notes()
    tracks = open_tracks(features, progress)
    assert tracks.task == Classification(("jazz",))
    of_classes, of_tracks = progress.notes
    assert re.search(r"classes.*: rock$", of_classes)
    assert re.search(r"1 of the 4 tracks of folder \(1 without audio, 1 failed, 1 not extracted", of_tracks)
    assert tracks.notes == (of_tracks,)


def test_unlisted_tracks_are_noted(tmp_path):
    features = fill(tmp_path, [row("a"), row("b"), row("c"), row("gone")])
    features.write_info(replace(features.info(), n_listed=3, n_absent=0, n_unlisted=1))
    (note,) = open_tracks(features).notes
    assert re.search(r"1 of the 4 tracks.*--prune` removes it$", note)


def test_a_store_without_spectrograms_cannot_be_opened(tmp_path):
    with pytest.raises(StoreError, match=r"no spectrograms.*`mirembed extract`"):
        open_tracks(fill(tmp_path))


# Damage


def test_a_flipped_bit_in_the_data_is_always_noticed(tmp_path):
    features = fill(tmp_path, [row("a"), row("b", 6, seed=1, label="rock", group="Nina")])
    shard = features.shards()[0]
    content, whole = shard.read_bytes(), read_table(shard)
    footer = struct.unpack("<I", content[-8:-4])[0] + 8
    noticed = 0
    rng = np.random.default_rng(0)
    for position, bit in zip(
        rng.integers(0, len(content) - footer, 300).tolist(), rng.integers(0, 8, 300).tolist(), strict=True
    ):
        damaged = bytearray(content)
        damaged[position] ^= 1 << bit
        shard.write_bytes(damaged)
        try:
            assert read_table(shard) == whole
        except StoreError as error:
            assert str(shard) in str(error)
            noticed += 1
    assert noticed > 200


@pytest.mark.parametrize("kept", [0, 1, 7, 0.5, 0.999])
def test_a_truncated_shard_is_named_and_set_aside(tmp_path, kept):
    features = fill(tmp_path, [row("a")], [row("b")])
    shard = features.shards()[0]
    size = shard.stat().st_size
    os.truncate(shard, int(kept * size) if isinstance(kept, float) else kept)
    with pytest.raises(StoreError, match=shard.name):
        features.index()
    assert features.set_aside_damaged() == [shard.with_suffix(".parquet.damaged")]
    assert features.index()["id"].to_pylist() == ["b"]
    assert features.set_aside_damaged() == []


def test_spectrograms_with_other_parameters_are_refused(tmp_path):
    features = fill(tmp_path, [row("a")])
    features.check_parameters(PARAMETERS, "this program")
    with pytest.raises(MismatchError, match=r"hop_seconds=0\.025.*this program.*hop_seconds=0\.01"):
        features.check_parameters({**PARAMETERS, "hop_seconds": 0.01}, "this program")


def test_a_single_shard_with_other_parameters_is_refused(tmp_path):
    features = fill(tmp_path, [row("a")])
    features.append([row("b")], replace(CLASSES, parameters={**PARAMETERS, "window": "hann"}))
    with pytest.raises(MismatchError, match=rf"{features.shards()[1].name}.*window=hann"):
        features.check_parameters(PARAMETERS, "this program")
    with pytest.raises(MismatchError, match="window=hann"):
        open_tracks(features)


def test_a_foreign_parquet_file_among_the_shards_is_named(tmp_path):
    features = fill(tmp_path, [row("a")])
    foreign = tmp_path / "spectrograms" / "000002-foreign.parquet"
    pq.write_table(pa.table({"x": [1]}), foreign)
    with pytest.raises(StoreError, match=f"{foreign.name} is not a"):
        open_tracks(features)


@pytest.mark.parametrize("content", ['{"spec": "fol', "[]", "{}", "null", '{"task": {"kind": "classification"}}'])
def test_a_damaged_dataset_file_is_named(tmp_path, content):
    features = fill(tmp_path)
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(StoreError, match=r"dataset\.json is damaged.*delete it and "):
        features.info()


# Other files of a dataset


@pytest.mark.parametrize("info", [CLASSES, TARGETS], ids=["classification", "regression"])
def test_the_dataset_file_is_read_back_unchanged(tmp_path, info):
    assert fill(tmp_path, info=info).info() == info


def test_failures_are_read_back_unchanged(tmp_path):
    features = fill(tmp_path)
    assert features.failures() == []
    failures = [Failure("é.mp3", "/m/é.mp3", "empty", "mend it", 0, 1), Failure("z", "/m/z", "gone", "x", -1, -1)]
    features.write_failures(failures)
    assert features.failures() == failures
    features.write_failures([])
    assert features.failures() == []


def test_only_one_process_may_write_at_a_time(tmp_path):
    features = FeatureStore(tmp_path / "new")
    with (
        features.lock(),
        pytest.raises(StoreBusyError, match=r"another process.*new"),
        FeatureStore(tmp_path / "new").lock(),
    ):
        pass
    with features.lock():
        pass


def test_leftovers_of_a_killed_writer_are_removed_by_the_next_one(tmp_path):
    features = fill(tmp_path, [row("a")])
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    leftovers = [tmp_path / place / f".tmp-{platform.node()}-{killed.pid}-x" for place in ("spectrograms", "cache")]
    at_work = tmp_path / "spectrograms" / f".tmp-{platform.node()}-{os.getpid()}-x"
    for folder in (*leftovers, at_work):
        folder.mkdir(parents=True)
        (folder / "000002-x.parquet").write_bytes(b"half")
    assert features.index()["id"].to_pylist() == ["a"]
    with features.lock():
        assert [path for path in leftovers if path.exists()] == []
        assert at_work.exists()


# Files


def test_a_file_gets_its_name_when_it_is_complete(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with writing(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert names_in(tmp_path) == {"file.txt"}


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path):
    with writing(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "weights").write_text("1")
        assert not (tmp_path / "model").exists()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["model", "model/weights"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_an_exception_while_writing_leaves_nothing_behind(tmp_path, error):
    target = tmp_path / "file.txt"
    target.write_text("before")
    with pytest.raises(type(error)), writing(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device.*free"),
        (errno.EFBIG, "File too large.*free"),
        (errno.EACCES, "Permission denied.*--store"),
        (errno.EROFS, "Read-only file system.*--store"),
        (errno.EIO, "Input/output error.*check"),
    ],
)
def test_errors_while_writing_give_the_file_the_reason_and_advice(tmp_path, number, advice):
    target = tmp_path / "file.txt"
    with pytest.raises(StoreWriteError, match=f"file.txt.*{advice}"), writing(target):
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_cannot_be_written_leaves_the_others_unchanged(tmp_path, monkeypatch):
    features = fill(tmp_path, [row("a")])
    before = features.shards()[0].read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreWriteError, match="No space left"):
        features.append([row("b")], CLASSES)
    assert names_in(tmp_path / "spectrograms") == {features.shards()[0].name}
    assert features.shards()[0].read_bytes() == before


def test_json_is_readable_and_read_back_unchanged(tmp_path):
    write_json(tmp_path / "a.json", {"title": "Für Elise", "n": [1, 2.5, None]})
    assert "Für Elise" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"title": "Für Elise", "n": [1, 2.5, None]}


def test_a_missing_json_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"a\.json.*No such file"):
        read_json(tmp_path / "a.json")


# The root folder


def test_creating_a_store_twice_changes_nothing(tmp_path):
    store = Store(tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store.create()
    marker = (tmp_path / "store" / "store.json").read_bytes()
    Store(tmp_path / "store").create()
    assert (tmp_path / "store" / "store.json").read_bytes() == marker


@pytest.mark.parametrize("content", [{"format": 2}, {}, [], 1])
def test_a_store_of_another_format_is_refused(tmp_path, content):
    write_json(tmp_path / "store.json", content)
    with pytest.raises(StoreError, match=r"reads format 1;.*version"):
        Store(tmp_path)


def test_a_file_cannot_be_a_store(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file is a file.*--store"):
        Store(tmp_path / "file")


def extracted(root: Path, *specs: str) -> Store:
    """Return a store in which these datasets exist."""
    store = Store(root)
    for spec in specs:
        store.dataset(Spec.parse(spec)).write_info(replace(CLASSES, spec=spec))
    return store


def test_without_a_name_the_only_dataset_is_found(tmp_path):
    assert extracted(tmp_path / "none").only_spec() == Spec("demo")
    store = extracted(tmp_path / "one", "folder:labels=a.csv")
    assert store.only_spec() == Spec("folder", {"labels": "a.csv"})
    assert store.find(None).info().spec == "folder:labels=a.csv"


def test_a_bare_name_finds_the_only_dataset_with_parameters(tmp_path):
    store = extracted(tmp_path, "folder:labels=a.csv", "gtzan")
    assert store.find(Spec("folder")).info().spec == "folder:labels=a.csv"
    assert store.find(Spec("gtzan")).info().spec == "gtzan"


def test_an_exact_name_takes_precedence_over_one_with_parameters(tmp_path):
    store = extracted(tmp_path, "folder:labels=a.csv", "folder")
    assert store.find(Spec("folder")).info().spec == "folder"


@pytest.mark.parametrize("wanted", [None, Spec("folder")])
def test_an_ambiguous_dataset_is_refused_and_the_candidates_are_listed(tmp_path, wanted):
    store = extracted(tmp_path, "folder:labels=a.csv", "folder:labels=b.csv")
    with pytest.raises(StoreError, match=r"folder:labels=a\.csv, folder:labels=b\.csv;.*--dataset"):
        store.find(wanted)


def test_an_unknown_dataset_is_refused_and_the_known_ones_are_listed(tmp_path):
    with pytest.raises(StoreError, match=r"gtzan, not folder;.*`mirembed extract --dataset folder`"):
        extracted(tmp_path, "gtzan").find(Spec("folder"))


def test_a_simple_spec_is_used_as_the_folder_name():
    assert slug("folder") == "folder"
    assert slug("rbf:gamma=2") == f"rbf_gamma=2-{slug('rbf:gamma=2')[-8:]}"


@pytest.mark.parametrize("pair", [("a/b", "a_b"), ("a:b", "a/b"), ("a b", "a_b"), ("x" * 61, "x" * 62), ("é/", "é:")])
def test_different_specs_have_different_folder_names(pair):
    assert slug(pair[0]) != slug(pair[1])


@given(st.text(min_size=1))
@example("\U0001d4b3" * 100)  # a letter of four bytes
def test_any_text_gives_a_valid_folder_name(text):
    name = slug(text)
    assert not set(name) & set('/\\:*?"<>| \n\0')
    assert len(name.encode()) <= 255
