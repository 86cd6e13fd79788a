"""The store: what was written is read back, files are whole or absent, and damage is always noticed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small_store import Notes

from mirembed import Classification, Regression, Target
from mirembed.errors import MismatchError, StoreBusyError, StoreError, StoreWriteError
from mirembed.features import FeaturesInfo, FeaturesPart
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.specs import Spec
from mirembed.store import DatasetInfo, DatasetStore, Failure, FeatureShards, RecordingRow, Store, StoredTrack
from mirembed.store.files import check_writable, delete, is_held, read_json, read_table, size_of, write_json, writing
from mirembed.store.root import slug
from mirembed.store.rows import frames_digest
from mirembed.store.tracks import Tracks, open_tracks

VALUES = 40
PLUGIN = {"name": "lines", "distribution": "mirembed-lines", "version": "1", "parameters": {}}
PART = FeaturesPart("lines", PLUGIN, VALUES, 0.025, "0123456789abcdef" * 2)
LINES = FeaturesInfo("lines", (PART,))
DOTS = FeaturesInfo("dots", (FeaturesPart("dots", {**PLUGIN, "name": "dots"}, 3, 0.025, "fedcba9876543210" * 2),))
BOTH = FeaturesInfo("lines+dots", (*LINES.parts, *DOTS.parts))
CLASSES = DatasetInfo(
    spec="folder",
    plugin={"name": "folder", "distribution": "mirembed", "version": "1", "parameters": {"labels": None}},
    task=Classification(("jazz", "rock")),
    audio="/music",
    n_listed=3,
    n_absent=1,
    features={"lines": "lines-0123456789ab"},
)
TARGETS = replace(CLASSES, task=Regression((Target("valence", 1.0, 9.0), Target("arousal"))))


def row(recording: str, n_frames: int = 4, *, seed: int = 0, values: int = VALUES) -> RecordingRow:
    """Return a recording with random frames."""
    frames = np.random.default_rng(seed).normal(-50, 10, (n_frames, values)).astype(np.float32)
    return RecordingRow(
        recording=recording,
        audio_hash=f"audio {seed}",
        duration=n_frames * 0.025,
        rate=22_050,
        backend="essentia",
        file_size=1000 + seed,
        frames=frames,
    )


def fill(folder: Path, *shards: list[RecordingRow], part: FeaturesPart = PART) -> FeatureShards:
    """Return features with these shards."""
    features = FeatureShards(folder)
    features.create(part)
    for rows in shards:
        features.append(rows, part)
    return features


def track(name: str, recording: str | None = None, label: object = "jazz", **facts: object) -> StoredTrack:
    """Return a track whose recording is called as it is itself, in upper case."""
    stamp = {"file_size": 1000, "file_mtime_ns": 2_000_000_000_000_000_001}
    return StoredTrack(
        **{
            **{"id": name, "recording": recording or name.upper(), "label": label, "group": None},
            **{"path": f"/music/{name}", **stamp, **facts},
        }
    )


def make_store(
    root: Path, tracks: list[StoredTrack], *shards: list[RecordingRow], info: DatasetInfo = CLASSES
) -> Store:
    """Return a store with a dataset, and the shards of `LINES`."""
    store = Store(root)
    store.create()
    dataset = store.dataset(Spec.parse(info.spec))
    dataset.write_info(info)
    dataset.write_tracks(tracks, info)
    fill(store.features(PART).folder, *shards)
    return store


def opened(store: Store, *features: FeaturesInfo, progress: Progress = NO_PROGRESS) -> Tracks:
    return open_tracks(store, store.find(None), features or [LINES], progress)


def frames_of(features: FeatureShards) -> dict[str, np.ndarray]:
    """Return the current frames by recording, read from the shards."""
    return dict(features.frames_of(list(features.columns())))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


# Shards


def test_appended_rows_are_listed_sorted_by_recording(tmp_path):
    features = fill(tmp_path, [row("b", 3, seed=1), row("a", 5)])
    facts = features.columns("n_frames", "file_size", "frames_digest")
    assert list(facts) == ["a", "b"]
    assert facts["a"] == (5, 1000, frames_digest(row("a", 5).frames))
    assert facts["b"] == (3, 1001, frames_digest(row("b", 3, seed=1).frames))


def test_frames_are_read_back_to_the_bit(tmp_path):
    rows = [row(f"{number}", 1 + number, seed=number) for number in range(70)]  # more than two row groups
    features = fill(tmp_path, rows[:66], rows[66:])
    frames = frames_of(features)
    assert len(frames) == 70
    for expected in rows:
        np.testing.assert_array_equal(frames[expected.recording], expected.frames)


def test_only_the_frames_that_are_asked_for_are_read(tmp_path):
    rows = [row(f"{number}", 2, seed=number) for number in range(70)]
    features = fill(tmp_path, rows[:40], rows[40:])
    found = dict(features.frames_of(["3", "69", "no such recording"]))
    assert found.keys() == {"3", "69"}
    np.testing.assert_array_equal(found["69"], rows[69].frames)


def test_the_later_of_two_rows_of_a_recording_counts(tmp_path):
    features = fill(tmp_path, [row("a", 3, seed=1), row("b", 4, seed=2)], [row("a", 6, seed=3)])
    assert features.columns("audio_hash") == {"a": ("audio 3",), "b": ("audio 2",)}
    np.testing.assert_array_equal(frames_of(features)["a"], row("a", 6, seed=3).frames)
    assert [features.n_rows(shard) for shard in features.shards()] == [2, 1]


def test_replaced_rows_are_dropped_unless_another_process_is_writing(tmp_path):
    features = fill(tmp_path, [row("a", 3, seed=1), row("b", 4, seed=2)], [row("a", 6, seed=3)], [row("c")])
    untouched = features.shards()[1:]
    before = [shard.stat().st_ino for shard in untouched]
    with FeatureShards(tmp_path).adding():
        features.drop_replaced()
    assert [features.n_rows(shard) for shard in features.shards()] == [2, 1, 1]
    features.drop_replaced()
    assert [features.n_rows(shard) for shard in features.shards()] == [1, 1, 1]
    assert [shard.stat().st_ino for shard in untouched] == before
    np.testing.assert_array_equal(frames_of(features)["b"], row("b", 4, seed=2).frames)


def test_empty_features_list_nothing(tmp_path):
    assert len(fill(tmp_path).columns()) == 0


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
FINITE = st.floats(-1e6, 1e6, width=32)
ROWS = st.lists(
    st.builds(
        replace,
        st.builds(row, TEXT, st.integers(1, 5), seed=st.integers(0, 10)),
        audio_hash=st.none() | TEXT,
        backend=TEXT | st.just(""),
        duration=st.floats(0, 1e5),
        file_size=st.integers(-1, 2**62),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one.recording,
)


@given(rows=ROWS)
def test_any_recordings_are_read_back_unchanged(tmp_path_factory, rows):
    features = fill(tmp_path_factory.mktemp("features"), rows)
    frames = frames_of(features)
    names = ("audio_hash", "duration", "rate", "backend", "file_size")
    found = features.columns(*names)
    assert list(found) == sorted(one.recording for one in rows)
    for one in rows:
        assert found[one.recording] == tuple(getattr(one, name) for name in names)
        np.testing.assert_array_equal(frames[one.recording], one.frames)


TRACKS = st.lists(
    st.builds(
        track,
        TEXT,
        st.none() | TEXT,
        group=st.none() | TEXT,
        path=TEXT,
        file_size=st.integers(-1, 2**62),
        file_mtime_ns=st.integers(-1, 2**62),
        listed=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda one: one.id,
)


@given(tracks=TRACKS, data=st.data(), regression=st.booleans())
def test_any_tracks_are_read_back_unchanged_and_sorted(tmp_path_factory, tracks, data, regression):
    info = TARGETS if regression else CLASSES
    label = st.tuples(FINITE, FINITE) if regression else TEXT
    tracks = [replace(one, label=data.draw(label)) for one in tracks]
    dataset = DatasetStore(tmp_path_factory.mktemp("dataset"))
    dataset.write_info(info)
    dataset.write_tracks(tracks, info)
    assert dataset.tracks() == sorted(tracks, key=lambda one: one.id)


def test_pyarrow_and_pandas_read_the_tables_without_mirembed(tmp_path):
    rows = [row("A", 3, seed=1), row("B", 4, seed=2)]
    tracks = [track("a", label=(1.5, -2.0)), track("b", label=(9.0, 0.25), group="Nina")]
    store = make_store(tmp_path, tracks, rows[:1], rows[1:], info=TARGETS)
    table = pq.read_table(store.root / "features" / "lines-0123456789ab")
    columns = "recording audio_hash duration rate backend file_size n_frames frames_digest frames"
    assert table.column_names == columns.split()
    assert json.loads(table.schema.metadata[b"mirembed.features"])["digest"] == PART.digest
    table = pq.read_table(store.root / "datasets" / "folder" / "tracks.parquet")
    columns = "id recording valence arousal group path file_size file_mtime_ns listed"
    assert table.column_names == columns.split()
    assert table["valence"].to_pylist() == [1.5, 9.0]
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(store.features(PART).shards()[1])
    np.testing.assert_array_equal(np.stack(frame["frames"][0]), rows[1].frames)


def test_a_shard_is_smaller_than_its_frames(tmp_path):
    rows = [row(f"{number}", 400, seed=number) for number in range(20)]
    (shard,) = fill(tmp_path, rows).shards()
    assert shard.stat().st_size < 0.95 * sum(one.frames.nbytes for one in rows)


def test_a_new_shard_is_the_latest_even_after_others_were_deleted(tmp_path):
    features = fill(tmp_path, [row("a", seed=1)], [row("a", seed=2)], [row("a", seed=3)])
    features.shards()[0].unlink()
    features.append([row("a", seed=4)], PART)
    assert features.columns("audio_hash") == {"a": ("audio 4",)}


def test_a_shard_without_kept_rows_is_deleted_and_one_with_all_of_them_stays(tmp_path):
    features = fill(tmp_path, [row("a")], [row("b"), row("c")], [row("d"), row("e")])
    first, second, third = features.shards()
    before = second.stat().st_ino
    with features.lock():
        features.keep(first, [], PART)
        features.keep(second, [0, 1], PART)
        features.keep(third, [1], PART)
    assert list(features.columns()) == ["b", "c", "e"]
    assert (first.exists(), second.stat().st_ino) == (False, before)


# Tracks and their flat files


def test_the_flat_file_has_the_frames_of_the_tracks_sorted_by_id(tmp_path):
    tracks = [track("c", "X"), track("a", "Y"), track("b", "Z"), track("pending", None), track("copy", "Y")]
    tracks[3] = replace(tracks[3], recording=None)
    store = make_store(tmp_path, tracks, [row("X", 3, seed=1), row("Y", 5, seed=2)], [row("Z", 2, seed=3)])
    found = opened(store)
    assert found.ids == ["a", "b", "c", "copy"]
    assert found.recordings == ["Y", "Z", "X", "Y"]
    frames, stored = found.frames["lines"], frames_of(store.features(PART))
    assert frames.lengths.tolist() == [5, 2, 3, 5]
    for start, length, recording in zip(frames.starts, frames.lengths, found.recordings, strict=True):
        np.testing.assert_array_equal(frames.open()[start : start + length], stored[recording])
    assert frames.path.is_relative_to(store.cache)


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: os.truncate(path, 100), lambda path: os.truncate(path, 8 * VALUES * 4)],
    ids=["deleted", "cut short", "without moments"],
)
def test_an_incomplete_flat_file_is_made_again(tmp_path, damage):
    store = make_store(tmp_path, [track("a"), track("b")], [row("A", 5), row("B", 3, seed=1)])
    path = opened(store).frames["lines"].path
    content = path.read_bytes()
    damage(path)
    assert opened(store).frames["lines"].path.read_bytes() == content


def test_the_flat_file_has_the_moments_of_each_track(tmp_path):
    tracks = [track("c"), track("a"), track("b")]
    store = make_store(tmp_path, tracks, [row("C", 3, seed=1), row("A", 5, seed=2)], [row("B", 2, seed=3)])
    found = opened(store)
    moments = found.frames["lines"].moments()
    assert moments.counts.tolist() == [5, 2, 3]
    of_some = found.without({"a": "why"}).frames["lines"].moments()
    for recording, expected in frames_of(store.features(PART)).items():
        position = found.recordings.index(recording)
        expected = expected.astype(np.float64)
        np.testing.assert_allclose(moments.means[position], expected.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.squares[position], expected.var(axis=0) * len(expected), rtol=1e-9)
    np.testing.assert_array_equal(of_some.means, moments.means[1:])
    np.testing.assert_array_equal(of_some.squares, moments.squares[1:])


def test_a_flat_file_of_other_frames_is_replaced(tmp_path):
    store = make_store(tmp_path, [track("a"), track("b")], [row("A", 5)])
    old = opened(store).frames["lines"].path
    store.features(PART).append([row("B", 3, seed=1)], PART)
    new = opened(store).frames["lines"].path
    assert new != old
    assert list(new.parent.glob("*.f32")) == [new]


def test_a_flat_file_in_use_is_not_deleted(tmp_path):
    store = make_store(tmp_path, [track("a"), track("b")], [row("A", 5)])
    old = opened(store)
    store.features(PART).append([row("B", 3, seed=1)], PART)
    with old.in_use():
        opened(store)
        assert old.frames["lines"].open().shape == (5, VALUES)


def test_datasets_with_the_same_recordings_share_a_flat_file(tmp_path):
    tracks = [track("a"), track("b")]
    store = make_store(tmp_path, tracks, [row("A", 5), row("B", 3, seed=1)])
    other = store.dataset(Spec("moods"))
    info = replace(CLASSES, spec="moods", task=Classification(("calm",)))
    other.write_info(info)
    other.write_tracks([replace(one, label="calm") for one in tracks], info)
    first = open_tracks(store, store.dataset(Spec("folder")), [LINES]).frames["lines"].path
    before = size_of(store.cache)
    second = open_tracks(store, other, [LINES]).frames["lines"].path
    assert (first != second, first.samefile(second), size_of(store.cache)) == (True, True, before)


def test_frames_that_vanish_while_they_are_read_are_noticed(tmp_path, monkeypatch):
    store = make_store(tmp_path, [track("a"), track("b")], [row("A", 5, seed=1), row("B", 3, seed=2)], [row("C", 4)])
    facts = store.features(PART).columns("n_frames", "frames_digest", "backend", "audio_hash")
    store.features(PART).shards()[0].unlink()
    monkeypatch.setattr(FeatureShards, "columns", lambda self, *names: facts)
    with pytest.raises(StoreError, match=r"changed.*same command again"):
        opened(store)


def test_the_digest_depends_on_the_data_and_not_on_the_shards(tmp_path):
    def digest(name: str, tracks: list[StoredTrack], *shards: list[RecordingRow]) -> tuple[str, str]:
        found = opened(make_store(tmp_path / name, tracks, *shards))
        return found.digest, found.frames_digests["lines"]

    rows, tracks = [row("A", seed=1), row("B", seed=2)], [track("a"), track("b")]
    same = digest("one", tracks, rows)
    assert digest("two", tracks, rows[1:], rows[:1]) == same
    changed = [
        [replace(tracks[0], label="rock"), tracks[1]],
        [replace(tracks[0], group="Nina"), tracks[1]],
        [track("c"), tracks[1]],
    ]
    others = [digest(f"other {number}", one, [*rows, row("C", seed=1)]) for number, one in enumerate(changed)]
    assert len({same[0], *(one for one, _ in others)}) == 4
    assert {frames for _, frames in others[:2]} == {same[1]}
    of_other_frames = digest("frames", tracks, [row("A", seed=3), rows[1]])
    assert of_other_frames[0] != same[0]
    assert of_other_frames[1] != same[1]


def test_regression_labels_are_read_in_original_units(tmp_path):
    tracks = [track("b", label=(9.0, -3.5)), track("a", label=(1.25, 0.5))]
    found = opened(make_store(tmp_path, tracks, [row("A"), row("B")], info=TARGETS))
    assert found.labels.dtype == np.float64
    assert found.labels.tolist() == [[1.25, 0.5], [9.0, -3.5]]


def test_missing_classes_and_tracks_are_noted(tmp_path):
    store = make_store(tmp_path, [track("a"), track("b", label="rock")], [row("A")])
    store.find(None).write_failures([Failure("b", "b.wav", "lines-0123456789ab", "no", "again", 1, 1)])
    progress = Notes()
    tracks = opened(store, progress=progress)
    assert tracks.task == Classification(("jazz",))
    of_classes, of_tracks = progress.notes
    assert re.search(r"classes.*: rock$", of_classes)
    assert re.search(
        r"1 of the 4 tracks of folder \(1 without audio, 1 failed, 1 not extracted.*--features lines", of_tracks
    )
    assert tracks.notes == (of_tracks,)


def test_unlisted_tracks_are_noted(tmp_path):
    tracks = [track("a"), track("b"), track("c"), track("gone", listed=False)]
    info = replace(CLASSES, n_listed=3, n_absent=0, n_unlisted=1)
    store = make_store(tmp_path, tracks, [row(name) for name in ("A", "B", "C", "GONE")], info=info)
    (note,) = opened(store).notes
    assert re.search(r"1 of the 4 tracks.*--prune` removes it$", note)


# Several features


def with_dots(store: Store, *rows: RecordingRow) -> Store:
    fill(store.features(DOTS.parts[0]).folder, list(rows), part=DOTS.parts[0])
    return store


def test_tracks_are_those_that_have_all_features(tmp_path):
    tracks = [track(name) for name in "abc"]
    store = make_store(tmp_path, tracks, [row("A", 5, seed=1), row("B", 4, seed=2), row("C", 6, seed=3)])
    with_dots(store, row("C", 7, seed=4, values=3), row("A", 5, seed=5, values=3))
    alone, found = opened(store), opened(store, LINES, DOTS)
    assert (alone.ids, found.ids) == (["a", "b", "c"], ["a", "c"])
    assert [frames.lengths.tolist() for frames in found.frames.values()] == [[5, 6], [5, 7]]
    assert (
        found.frames["lines"].path == alone.frames["lines"].path
    )  # of all that have them, whatever they are used with
    np.testing.assert_array_equal(found.frames["dots"].open()[5:], row("C", 7, seed=4, values=3).frames)
    assert "1 not extracted" in found.notes[0]
    assert list(found.features.values()) == [LINES, DOTS]
    assert found.backends == {"lines": ["essentia"], "dots": ["essentia"]}


def test_equal_audio_is_known_from_any_features_that_were_made_by_decoding(tmp_path):
    store = make_store(tmp_path, [track("a"), track("b")], [row("A", seed=1), row("B", seed=1)])
    vectors = [replace(row(name, values=3), audio_hash=None) for name in "AB"]
    fill(store.features(DOTS.parts[0]).folder, vectors, part=DOTS.parts[0])
    assert opened(store, DOTS).audio_hashes == ["A", "B"]
    assert opened(store, DOTS, LINES).audio_hashes == ["audio 1", "audio 1"]


def test_stacked_features_lie_side_by_side_and_end_with_the_shorter_one(tmp_path):
    lines = [row("A", 5, seed=1), row("B", 40, seed=2)]
    dots = [row("B", 2, seed=3, values=3), row("A", 6, seed=4, values=3)]
    store = with_dots(make_store(tmp_path, [track("a"), track("b")], lines), *dots)
    frames = opened(store, BOTH).frames["lines+dots"]
    assert (frames.shape, frames.lengths.tolist()) == ((7, VALUES + 3), [5, 2])
    expected = [
        np.hstack([lines[0].frames, dots[1].frames[:5]]),
        np.hstack([lines[1].frames[:2], dots[0].frames]),
    ]
    np.testing.assert_array_equal(frames.open(), np.vstack(expected))
    for moments, track_frames in zip(frames.moments().means, expected, strict=True):
        np.testing.assert_allclose(moments, track_frames.astype(np.float64).mean(axis=0), rtol=1e-12)


def test_stacked_features_that_differ_by_more_than_a_second_are_refused(tmp_path):
    store = make_store(tmp_path, [track("a"), track("b")], [row("A", 5), row("B", 45)])
    with_dots(store, row("A", 5, values=3), row("B", 4, values=3))
    with pytest.raises(MismatchError, match=r"of b differ by 1\.0 s \(45 of lines, 4 of dots\)"):
        opened(store, BOTH)


@pytest.mark.parametrize(("recorded", "fact"), [({}, "features dots;"), ({"dots": "dots-0"}, r"\(dots-0\)")])
def test_features_that_the_store_lacks_are_named_with_the_command(tmp_path, recorded, fact):
    store = make_store(tmp_path, [track("a")], [row("A")], info=replace(CLASSES, features=recorded))
    with pytest.raises(StoreError, match=rf"{fact}.*`mirembed extract --dataset folder --features dots`"):
        opened(store, DOTS)


def test_all_features_that_the_store_lacks_are_named_in_one_command(tmp_path):
    store = make_store(tmp_path, [track("a")])
    shutil.rmtree(store.features(PART).folder)
    with pytest.raises(StoreError, match=r"`mirembed extract --dataset folder --features lines --features dots`"):
        opened(store, LINES, DOTS)


def test_a_dataset_without_tracks_that_have_the_features_cannot_be_opened(tmp_path):
    store = make_store(tmp_path, [track("a")])
    with pytest.raises(StoreError, match=r"no track of folder.* has lines; run `mirembed extract --dataset folder"):
        opened(store)


def test_only_features_that_no_track_has_are_named_with_what_is_known_of_the_reason(tmp_path):
    store = make_store(tmp_path, [track("a"), track("b")], [row("A")])
    with_dots(store, row("B", values=3))
    with pytest.raises(StoreError, match=r"has all features \(1 have lines, 1 have dots\)"):
        opened(store, LINES, DOTS)
    name = store.features(DOTS.parts[0]).name
    only_lines = make_store(tmp_path / "other", [track("a")], [row("A")])
    only_lines.features(DOTS.parts[0]).create(DOTS.parts[0])
    with pytest.raises(StoreError, match=r"has dots; run `mirembed extract --dataset folder --features dots`"):
        opened(only_lines, LINES, DOTS)
    only_lines.find(None).write_failures([Failure("a", "a.wav", name, "too short", "", 0, 0)])
    with pytest.raises(StoreError, match=r"has dots; 1 track failed.* a: too short"):
        opened(only_lines, LINES, DOTS)


# Damage


def test_a_flipped_bit_in_the_data_is_always_noticed(tmp_path):
    features = fill(tmp_path, [row("a"), row("b", 6, seed=1)])
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
        features.columns()
    assert features.set_aside_damaged() == [shard.with_suffix(".parquet.damaged")]
    assert list(features.columns()) == ["b"]
    assert features.set_aside_damaged() == []


def test_a_shard_of_other_features_is_refused(tmp_path):
    features = fill(tmp_path, [row("a")])
    features.append([row("b", values=3)], DOTS.parts[0])
    with pytest.raises(MismatchError, match=rf"{features.shards()[1].name}.*dots"):
        features.columns()


def test_a_shard_without_a_column_is_named(tmp_path):
    features = fill(tmp_path, [row("a")])
    [shard] = features.shards()
    pq.write_table(pq.read_table(shard).drop_columns(["frames_digest"]), shard)
    with pytest.raises(StoreError, match=f"{shard.name} is not a"):
        features.columns("n_frames", "frames_digest")


def test_a_foreign_parquet_file_among_the_shards_is_named(tmp_path):
    features = fill(tmp_path, [row("a")])
    foreign = tmp_path / "000002-foreign.parquet"
    pq.write_table(pa.table({"x": [1]}), foreign)
    with pytest.raises(StoreError, match=f"{foreign.name} is not a"):
        features.columns()


@pytest.mark.parametrize("content", ['{"spec": "fol', "[]", "{}", "null", '{"task": {"kind": "classification"}}'])
def test_a_damaged_dataset_file_is_named(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(StoreError, match=r"dataset\.json is damaged.*delete it and "):
        DatasetStore(tmp_path).info()


@pytest.mark.parametrize("content", ['{"spec": "fol', "[]", "{}", "null"])
def test_a_damaged_features_file_is_named(tmp_path, content):
    (tmp_path / "_features.json").write_text(content)
    with pytest.raises(StoreError, match=r"_features\.json is damaged.*delete it"):
        FeatureShards(tmp_path).part()


def test_tracks_with_other_labels_than_the_dataset_file_says_are_refused(tmp_path):
    store = make_store(tmp_path, [track("a")])
    dataset = store.find(None)
    dataset.write_info(TARGETS)
    with pytest.raises(StoreError, match=r"tracks\.parquet.*valence, arousal"):
        dataset.tracks()


# Other files of a dataset


@pytest.mark.parametrize("info", [CLASSES, TARGETS], ids=["classification", "regression"])
def test_the_dataset_file_is_read_back_unchanged(tmp_path, info):
    dataset = DatasetStore(tmp_path)
    dataset.write_info(info)
    assert dataset.info() == info


def test_the_features_file_is_read_back_unchanged(tmp_path):
    assert fill(tmp_path).part() == PART


def test_failures_are_read_back_unchanged(tmp_path):
    dataset = make_store(tmp_path, []).find(None)
    assert dataset.failures() == []
    failures = [
        Failure("é.mp3", "/m/é.mp3", "lines-0", "empty", "mend it", 0, 1),
        Failure("z", "/m/z", "lines-0", "gone", "x", -1, -1),
    ]
    dataset.write_failures(failures)
    assert dataset.failures() == failures
    dataset.write_failures([])
    assert dataset.failures() == []


def test_only_one_process_may_write_to_a_dataset_at_a_time(tmp_path):
    dataset = DatasetStore(tmp_path / "new")
    with (
        dataset.lock(),
        pytest.raises(StoreBusyError, match=r"another process.*new"),
        DatasetStore(tmp_path / "new").lock(),
    ):
        pass
    with dataset.lock():
        pass


def test_several_processes_may_add_shards_while_none_rewrites_them(tmp_path):
    features = fill(tmp_path)
    with features.adding(), FeatureShards(tmp_path).adding():
        assert is_held(tmp_path)
        with pytest.raises(StoreBusyError, match=r"another process"), FeatureShards(tmp_path).lock():
            pass
    with features.lock():
        assert is_held(tmp_path)
        with pytest.raises(StoreBusyError, match=r"another process"), FeatureShards(tmp_path).adding():
            pass
    assert not is_held(tmp_path)


def test_features_that_are_deleted_while_a_process_waits_for_them_are_begun_anew(tmp_path):
    features = fill(tmp_path / "lines")
    with contextlib.ExitStack() as held:
        held.enter_context(features.lock())

        def delete_and_let_go() -> None:
            delete(features.folder)
            held.close()

        timer = threading.Timer(0.05, delete_and_let_go)
        timer.start()
        with FeatureShards(features.folder).adding():
            timer.join()
            assert is_held(features.folder)


def test_leftovers_of_a_killed_writer_are_removed_by_the_next_one(tmp_path):
    features = fill(tmp_path, [row("a")])
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left, at_work = (tmp_path / f".tmp-{platform.node()}-{process}-x" for process in (killed.pid, os.getpid()))
    for folder in (left, at_work):
        folder.mkdir(parents=True)
        (folder / "000002-x.parquet").write_bytes(b"half")
    assert list(features.columns()) == ["a"]
    with features.lock():
        assert not left.exists()
        assert at_work.exists()


def test_what_is_deleted_is_gone_as_a_whole(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").write_text("x")
    delete(tmp_path / "folder")
    delete(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


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
        features.append([row("b")], PART)
    assert names_in(tmp_path) == {features.shards()[0].name, "_features.json"}
    assert features.shards()[0].read_bytes() == before


def test_json_is_readable_and_read_back_unchanged(tmp_path):
    write_json(tmp_path / "a.json", {"title": "Für Elise", "n": [1, 2.5, None]})
    assert "Für Elise" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"title": "Für Elise", "n": [1, 2.5, None]}


def test_a_missing_json_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"a\.json.*No such file"):
        read_json(tmp_path / "a.json")


# The root folder


def test_the_size_of_files_counts_each_once(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 1000)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d").write_bytes(b"y" * 10)
    assert size_of(tmp_path) == 1010
    assert size_of(tmp_path / "a", tmp_path / "c") == 1010
    assert size_of(tmp_path / "nothing") == 0


def test_creating_a_store_twice_changes_nothing(tmp_path):
    store = Store(tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store.create()
    marker = (tmp_path / "store" / "store.json").read_bytes()
    Store(tmp_path / "store").create()
    assert (tmp_path / "store" / "store.json").read_bytes() == marker


@pytest.mark.parametrize("content", [{"format": 1}, {"format": 3}, {}, [], 1])
def test_a_store_of_another_format_is_refused(tmp_path, content):
    write_json(tmp_path / "store.json", content)
    with pytest.raises(StoreError, match=r"reads format 2;.*version.*`mirembed extract`"):
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


def test_a_path_below_a_file_or_with_a_name_that_is_too_long_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new" / "folder")
    for path in (tmp_path / "file" / "report", tmp_path / ("n" * 300)):
        with pytest.raises(StoreWriteError, match=path.name):
            check_writable(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
