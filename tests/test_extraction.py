"""Extracting a folder into a store: what is missing or changed is decoded, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from audio_files import loud_then_quiet, spectrogram, write_mp3
from conftest import CLASSES, RATE, tone, write_tones
from small_store import run_here, workers_run

from mirembed import Classification, Listing, Track, workers
from mirembed.errors import DatasetError, StoreError
from mirembed.extract import MaxFailures, extract, extraction, file_features
from mirembed.extract.summary import Summary
from mirembed.features import FeaturesInfo, resolve_features
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import DatasetStore, FeatureShards, Store
from mirembed.store.recordings import KnownRecordings
from mirembed_datasets.folder import Folder

pytestmark = pytest.mark.slow

LOGMEL = resolve_features(Registry.discover(), "logmel")
RUN = workers.run
WIDE = resolve_features(Registry.discover(), "logmel:bands=60")


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Write six short tones in three classes."""
    return write_tones(tmp_path / "audio", n_tracks=2, seconds=0.3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the files that are given to workers, in every extraction of the test."""
    names: list[str] = []

    def spy(function: Callable, tasks: list, jobs: int, **options: object) -> Iterator:
        names.extend(task.file.path.name for task in tasks)
        return run_here(function, tasks, jobs, **options)

    monkeypatch.setattr(workers, "run", spy)
    return names


def run(
    store: Store,
    audio: Path,
    *features: FeaturesInfo,
    spec: str = "folder",
    jobs: int = 0,
    listing: Listing | None = None,
    **options: object,
) -> Summary:
    """Extract a folder, in this process unless there are ``jobs``.

    The dataset is `folder`, with the table ``labels.csv`` if it exists.
    """
    if listing is None:
        table = audio / "labels.csv"
        listing = (Folder(labels=table, group="artist") if table.exists() else Folder()).listing(audio)
    store.create()
    with contextlib.nullcontext() if jobs or workers.run is not RUN else workers_run():
        return extract(
            store,
            listing,
            spec=spec,
            plugin={},
            audio=audio,
            features=features or [LOGMEL],
            jobs=jobs or 1,
            **options,
        )


def dataset_of(store: Store) -> DatasetStore:
    return store.dataset(Spec("folder"))


def shards_of(store: Store, features: FeaturesInfo = LOGMEL) -> FeatureShards:
    return store.features(features.parts[0])


def stored(store: Store, features: FeaturesInfo = LOGMEL, spec: str | None = None) -> dict[str, dict]:
    """Return the tracks by id, each with the row of its recording; fail if a recording has two."""
    rows = [row for shard in shards_of(store, features).shards() for row in pq.read_table(shard).to_pylist()]
    recordings = {row.pop("recording"): {**row, "frames": np.array(row["frames"], np.float32)} for row in rows}
    assert len(recordings) == len(rows)
    dataset = store.find(None) if spec is None else store.dataset(Spec.parse(spec))
    return {
        track.id: {**vars(track), **recordings[track.recording]}
        for track in dataset.tracks()
        if track.recording in recordings
    }


def snapshot(store: Store) -> dict[str, tuple[int, bytes]]:
    """Return the inode and content of every shard and table of tracks: rewriting a file changes its inode."""
    files = [*store.root.glob("features/*/*.parquet"), *store.root.glob("datasets/*/tracks.parquet")]
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in files}


# Rows


def test_each_track_gets_one_row_with_its_label_and_group(store, audio):
    (audio / "labels.csv").write_text("path,label,artist\nlow/low-0.wav,calm,Nina\nhigh/high-1.wav,wild,\n")
    summary = run(store, audio)
    assert (summary.listed, summary.extracted, summary.absent, summary.failures) == (2, 2, 0, [])
    rows = stored(store)
    assert {track: (row["label"], row["group"]) for track, row in rows.items()} == {
        "low/low-0.wav": ("calm", "Nina"),
        "high/high-1.wav": ("wild", None),
    }
    assert dataset_of(store).info().task == Classification(("calm", "wild"))
    assert dataset_of(store).info().audio == str(audio)


def test_each_row_describes_its_file(store, audio):
    run(store, audio)
    for track, row in stored(store).items():
        path = audio / track
        assert row["path"] == str(path)
        assert row["recording"] == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        assert (row["file_size"], row["file_mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)
        assert row["duration"] == pytest.approx(0.3)
        assert row["n_frames"] == len(row["frames"]) == 11
        np.testing.assert_array_equal(row["frames"], spectrogram(path))


def test_the_same_sound_in_another_file_has_the_same_audio_hash(store, audio):
    samples, rate = soundfile.read(audio / "low" / "low-0.wav", dtype="int16")
    soundfile.write(audio / "low" / "copy.flac", samples, rate)
    run(store, audio)
    rows = stored(store)
    original, copy = rows["low/low-0.wav"], rows["low/copy.flac"]
    assert copy["audio_hash"] == original["audio_hash"]
    assert copy["recording"] != original["recording"]
    assert len({row["audio_hash"] for row in rows.values()}) == len(rows) - 1


def test_recordings_of_tracks_are_written_now_and_then(store, audio, monkeypatch):
    """So that a process that is killed need not read all its files again."""
    monkeypatch.setattr(extraction, "SHARD_ROWS", 2)
    monkeypatch.setattr(extraction, "TRACKS_SECONDS", 0)
    found = []
    write_tracks = DatasetStore.write_tracks

    def spy(self, tracks, info):
        tracks = list(tracks)
        found.append(sum(track.recording is not None for track in tracks))
        write_tracks(self, tracks, info)

    monkeypatch.setattr(DatasetStore, "write_tracks", spy)
    run(store, audio)
    assert found == [0, 2, 4, 6, 6]


def test_results_do_not_depend_on_the_number_of_workers(tmp_path, audio):
    one, many = Store(tmp_path / "one"), Store(tmp_path / "many")
    run(one, audio, jobs=1)
    run(many, audio, jobs=3)
    expected, found = stored(one), stored(many)
    assert expected.keys() == found.keys()
    for track in expected:
        np.testing.assert_array_equal(found[track].pop("frames"), expected[track].pop("frames"))
        assert found[track] == expected[track]


def test_annotated_tracks_without_audio_are_counted_and_do_not_fail(store, audio):
    (audio / "labels.csv").write_text("path,label,artist\nlow/low-0.wav,a,\ngone.wav,b,\nlow/low-1.wav,b,\n")
    summary = run(store, audio)
    assert (summary.listed, summary.absent, summary.failures) == (2, 1, [])
    assert "1 annotated track without audio" in summary.lines("folder")


def test_shards_are_written_as_soon_as_they_are_full(store, audio, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD_ROWS", 4)
    run(store, audio)
    shards = shards_of(store)
    assert [shards.n_rows(shard) for shard in shards.shards()] == [4, 2]
    assert len(stored(store)) == 6


def test_shards_of_long_tracks_have_fewer_rows(store, audio, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD_BYTES", 30 * 40 * 4)  # each track has 11 frames
    run(store, audio)
    shards = shards_of(store)
    assert [shards.n_rows(shard) for shard in shards.shards()] == [3, 3]


# The next run


def test_a_second_run_does_nothing(store, audio, decoded):
    run(store, audio)
    before = snapshot(store)
    decoded.clear()
    summary = run(store, audio)
    assert (summary.extracted, summary.unchanged) == (0, 6)
    assert decoded == []
    assert snapshot(store) == before


def test_a_touched_file_is_not_decoded_again(store, audio, decoded):
    run(store, audio)
    decoded.clear()
    os.utime(audio / "low" / "low-0.wav", (1, 1))
    assert run(store, audio).unchanged == 6
    assert decoded == []


def test_a_new_file_is_added(store, audio, decoded):
    run(store, audio)
    before = snapshot(store)
    decoded.clear()
    soundfile.write(audio / "low" / "new.wav", tone(220, 0.4, seed=9), RATE)
    summary = run(store, audio)
    assert (summary.extracted, summary.unchanged) == (1, 6)
    assert decoded == ["new.wav"]
    before.pop("tracks.parquet")
    assert before.items() <= snapshot(store).items()
    assert len(stored(store)) == 7


def test_a_changed_file_replaces_its_row(store, audio, decoded):
    run(store, audio)
    before = stored(store)
    decoded.clear()
    path = audio / "low" / "low-0.wav"
    soundfile.write(path, tone(300, 0.5, seed=9), RATE)
    summary = run(store, audio)
    assert (summary.extracted, summary.unchanged) == (1, 5)
    assert decoded == ["low-0.wav"]
    after = stored(store)
    np.testing.assert_array_equal(after["low/low-0.wav"]["frames"], spectrogram(path))
    assert after["low/low-0.wav"]["n_frames"] == 19
    for track in before.keys() - {"low/low-0.wav"}:
        np.testing.assert_array_equal(after[track]["frames"], before[track]["frames"])
    assert run(store, audio).extracted == 0


def test_labels_and_groups_are_updated_without_decoding(store, audio, decoded):
    table = audio / "labels.csv"
    table.write_text("path,label,artist\nlow/low-0.wav,a,Nina\nlow/low-1.wav,b,\nhigh/high-0.wav,a,\n")
    run(store, audio)
    before = stored(store)
    decoded.clear()
    table.write_text("path,label,artist\nlow/low-0.wav,a,\nlow/low-1.wav,c,\nhigh/high-0.wav,a,\n")
    summary = run(store, audio)
    assert (summary.extracted, summary.unchanged, summary.relabeled) == (0, 3, 2)
    assert decoded == []
    after = stored(store)
    assert {track: (row["label"], row["group"]) for track, row in after.items()} == {
        "low/low-0.wav": ("a", None),
        "low/low-1.wav": ("c", None),
        "high/high-0.wav": ("a", None),
    }
    for track in before:
        np.testing.assert_array_equal(after[track]["frames"], before[track]["frames"])
    assert dataset_of(store).info().task == Classification(("a", "c"))
    assert run(store, audio).relabeled == 0


def test_unlisted_tracks_are_kept_with_their_class(store, audio, decoded):
    run(store, audio)
    shutil.rmtree(audio / "low")
    decoded.clear()
    summary = run(store, audio)
    assert (summary.listed, summary.unlisted, summary.pruned) == (4, 2, 0)
    (line,) = summary.lines("folder")
    assert re.match(r"folder: 4 of 4 tracks.* 0 extracted.* 2 no longer listed \(--prune removes them\)", line)
    assert (dataset_of(store).info().n_listed, dataset_of(store).info().n_unlisted) == (4, 2)
    assert len(stored(store)) == 6
    assert set(dataset_of(store).info().task.classes) == set(CLASSES)
    assert decoded == []


def test_prune_removes_unlisted_tracks(store, audio, decoded):
    run(store, audio)
    shutil.rmtree(audio / "low")
    decoded.clear()
    summary = run(store, audio, prune=True)
    assert (summary.listed, summary.unlisted, summary.pruned) == (4, 0, 2)
    assert summary.lines("folder")[0].startswith("folder: 4 of 4 tracks")
    assert "removed 2 unlisted tracks" in summary.lines("folder")
    assert dataset_of(store).info().n_unlisted == 0
    assert {track.split("/")[0] for track in stored(store)} == {"middle", "high"}
    assert set(dataset_of(store).info().task.classes) == {"middle", "high"}
    assert decoded == []


def test_a_renamed_file_is_recognized_by_its_content(store, audio, decoded):
    run(store, audio)
    before = stored(store)
    decoded.clear()
    path = (audio / "low" / "low-0.wav").rename(audio / "high" / "renamed.wav")
    summary = run(store, audio)
    assert (summary.moved, summary.extracted, summary.unchanged, summary.unlisted) == (1, 0, 6, 0)
    assert any(line.startswith("1 track moved or renamed") for line in summary.lines("folder"))
    assert decoded == []
    after = stored(store)
    assert after.keys() == before.keys() - {"low/low-0.wav"} | {"high/renamed.wav"}
    row, old = after["high/renamed.wav"], before["low/low-0.wav"]
    assert (row["path"], row["label"], row["recording"]) == (str(path), "high", old["recording"])
    np.testing.assert_array_equal(row["frames"], old["frames"])
    assert run(store, audio).moved == 0


def test_a_renamed_file_that_changes_while_it_is_compared_is_read_again(store, audio, decoded, monkeypatch):
    run(store, audio)
    path = (audio / "low" / "low-0.wav").rename(audio / "low" / "renamed.wav")
    by_content = KnownRecordings.by_content

    def then_change(*arguments: object) -> str | None:
        found = by_content(*arguments)
        soundfile.write(path, tone(900, 0.4, 9), RATE)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(KnownRecordings, "by_content", then_change)
        assert run(store, audio).moved == 1
    decoded.clear()
    assert (run(store, audio).extracted, decoded) == (1, ["renamed.wav"])
    np.testing.assert_array_equal(stored(store)["low/renamed.wav"]["frames"], spectrogram(path))


def test_a_folder_whose_files_are_all_renamed_is_recognized_by_their_content(store, audio, decoded):
    run(store, audio)
    decoded.clear()
    for name in CLASSES:
        (audio / name).rename(audio / f"all-{name}")
    summary = run(store, audio)
    assert (summary.moved, summary.extracted) == (6, 0)
    assert decoded == []
    assert dataset_of(store).info().task == Classification(tuple(sorted(f"all-{name}" for name in CLASSES)))
    assert set(stored(store)) == {path.relative_to(audio).as_posix() for path in audio.rglob("*.wav")}


def test_only_one_of_two_copies_takes_the_place_of_a_deleted_file(store, audio, decoded):
    run(store, audio)
    decoded.clear()
    path = audio / "low" / "low-0.wav"
    shutil.copy(path, audio / "low" / "copy-1.wav")
    path.rename(audio / "low" / "copy-2.wav")
    summary = run(store, audio)
    assert (summary.moved, summary.extracted, summary.unchanged, summary.stored) == (1, 0, 7, 7)
    assert decoded == []
    rows = stored(store)
    assert rows["low/copy-1.wav"]["recording"] == rows["low/copy-2.wav"]["recording"]


def test_a_copy_of_an_existing_file_is_a_track_of_its_own_and_is_not_decoded(store, audio, decoded):
    run(store, audio)
    decoded.clear()
    shutil.copy(audio / "low" / "low-0.wav", audio / "low" / "copy.wav")
    summary = run(store, audio)
    assert (summary.moved, summary.extracted, summary.unchanged) == (0, 0, 7)
    assert decoded == []
    assert len(stored(store)) == 7
    assert len(shards_of(store).columns()) == 6


def test_copies_that_are_extracted_together_are_stored_once(store, audio):
    shutil.copy(audio / "low" / "low-0.wav", audio / "low" / "copy.wav")
    assert run(store, audio).extracted == 7
    assert len(stored(store)) == 7
    assert len(shards_of(store).columns()) == 6


def test_tracks_of_one_file_are_decoded_once(store, audio, decoded):
    path = audio / "low" / "low-0.wav"
    listing = Listing(Classification(("a", "b")), [Track("one", path, "a"), Track("two", path, "b")])
    summary = run(store, audio, listing=listing)
    assert (summary.extracted, decoded) == (2, ["low-0.wav"])
    assert {row["label"] for row in stored(store).values()} == {"a", "b"}


def test_files_that_swap_names_are_recognized_by_their_content(store, audio, decoded):
    run(store, audio)
    decoded.clear()
    first, second, third = audio / "low" / "low-0.wav", audio / "low" / "low-1.wav", audio / "third"
    for old, new in ((first, third), (second, first), (third, second)):
        old.rename(new)
    assert (run(store, audio).unchanged, decoded) == (6, [])
    for track, row in stored(store).items():
        np.testing.assert_array_equal(row["frames"], spectrogram(audio / track))


def test_a_moved_folder_is_recognized_by_its_tracks(store, audio, tmp_path, decoded):
    run(store, audio)
    decoded.clear()
    moved = audio.rename(tmp_path / "moved")
    assert run(store, moved).unchanged == 6
    assert decoded == []
    assert dataset_of(store).info().audio == str(moved)


def test_another_folder_is_refused(store, audio, tmp_path):
    run(store, audio)
    before = snapshot(store)
    other = tmp_path / "other"
    (other / "loud").mkdir(parents=True)
    soundfile.write(other / "loud" / "a.wav", tone(220, 0.3, seed=0), RATE)
    with pytest.raises(StoreError, match=r"6 tracks of folder from .*audio.*none.*other.*--store"):
        run(store, other)
    assert snapshot(store) == before
    assert dataset_of(store).info().audio == str(audio)


def test_other_kinds_of_labels_are_refused(store, audio):
    run(store, audio)
    before = snapshot(store)
    (audio / "numbers.csv").write_text("path,valence\nlow/low-0.wav,1\nlow/low-1.wav,2\n")
    listing = Folder(labels=audio / "numbers.csv", target="valence").listing(audio)
    with pytest.raises(StoreError, match=r"folder.*valence.*the store .*classes;.*--store"):
        run(store, audio, listing=listing)
    assert snapshot(store) == before


def test_a_damaged_shard_is_set_aside_and_its_recordings_are_extracted_again(store, audio, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD_ROWS", 4)
    run(store, audio)
    expected = stored(store)
    shard = shards_of(store).shards()[0]
    os.truncate(shard, shard.stat().st_size // 2)
    summary = run(store, audio)
    assert (summary.extracted, summary.unchanged) == (4, 2)
    assert summary.damaged == [f"{shard}.damaged"]
    assert any("set aside" in line and f"{shard}.damaged" in line for line in summary.lines("folder"))
    for track, row in stored(store).items():
        np.testing.assert_array_equal(row["frames"], expected[track]["frames"])


def test_a_deleted_table_of_tracks_is_made_again_without_decoding(store, audio, decoded):
    run(store, audio)
    expected = stored(store)
    decoded.clear()
    for name in ("tracks.parquet", "dataset.json"):
        (dataset_of(store).folder / name).unlink()
        assert run(store, audio).unchanged == 6
        assert stored(store).keys() == expected.keys()
    assert decoded == []


# Several datasets


def test_a_second_dataset_of_the_same_files_decodes_nothing_and_reads_nothing(store, audio, decoded, monkeypatch):
    run(store, audio)
    decoded.clear()
    listing = Folder().listing(audio)
    moods = {track.id: f"mood {number % 2}" for number, track in enumerate(listing.tracks)}
    tracks = [Track(track.id, track.path, moods[track.id]) for track in listing.tracks]
    monkeypatch.setattr("mirembed.store.recordings.file_hash", lambda path: pytest.fail(f"{path} is read"))
    other = Listing(Classification(("mood 0", "mood 1")), tracks)
    summary = run(store, audio, spec="moods", listing=other)
    assert (summary.extracted, summary.unchanged, summary.stored, decoded) == (0, 6, 6, [])
    assert summary.known == 6
    assert any(line.startswith("6 new tracks") for line in summary.lines("moods"))
    assert {track: row["label"] for track, row in stored(store, spec="moods").items()} == moods
    assert {row["label"] for row in stored(store, spec="folder").values()} == set(CLASSES)
    assert len(list(store.root.glob("features/*"))) == 1


def test_a_second_dataset_of_copied_and_renamed_files_decodes_only_new_ones(store, audio, tmp_path, decoded):
    run(store, audio)
    decoded.clear()
    copied = Path(shutil.copytree(audio, tmp_path / "copied", copy_function=shutil.copyfile))
    (copied / "low" / "low-0.wav").rename(copied / "high" / "new name.wav")
    soundfile.write(copied / "low" / "new.wav", tone(220, 0.4, seed=9), RATE)
    summary = run(store, copied, spec="copied")
    assert (summary.extracted, summary.unchanged, summary.known, summary.stored) == (1, 6, 6, 7)
    assert decoded == ["new.wav"]
    assert len(shards_of(store).columns()) == 7


# Several features


def test_each_features_are_stored_on_their_own_and_a_file_is_decoded_once(store, audio, decoded):
    summary = run(store, audio, LOGMEL, WIDE)
    assert (summary.extracted, len(decoded)) == (6, 6)
    assert dataset_of(store).info().features == {
        "logmel": shards_of(store).name,
        "logmel:bands=60": shards_of(store, WIDE).name,
    }
    for track, row in stored(store, WIDE).items():
        np.testing.assert_array_equal(row["frames"], spectrogram(audio / track, bands=60))
        np.testing.assert_array_equal(stored(store)[track]["frames"], spectrogram(audio / track))


def test_stacked_features_are_stored_as_their_parts(store, audio, decoded):
    run(store, audio)
    decoded.clear()
    both = resolve_features(Registry.discover(), "logmel+logmel:bands=60")
    assert run(store, audio, both).extracted == 6
    assert len(decoded) == 6
    assert len(stored(store, WIDE)) == 6
    decoded.clear()
    assert run(store, audio, LOGMEL, WIDE, both).unchanged == 6
    assert decoded == []


def test_only_features_that_a_recording_lacks_are_computed(store, audio):
    run(store, audio)
    before = {path: path.stat().st_ino for path in shards_of(store).shards()}
    soundfile.write(audio / "low" / "new.wav", tone(220, 0.4, seed=9), RATE)
    summary = run(store, audio, LOGMEL, WIDE)
    assert (summary.extracted, summary.unchanged, summary.stored) == (7, 0, 7)
    assert {path: path.stat().st_ino for path in shards_of(store).shards()}.items() >= before.items()
    assert len(shards_of(store).columns()) == len(shards_of(store, WIDE).columns()) == 7


def test_features_that_fail_for_a_file_do_not_keep_others_from_it(store, audio, decoded):
    low, high = (resolve_features(Registry.discover(), f"logmel:high={hertz}") for hertz in (4000, 7900))
    soundfile.write(audio / "low" / "low-1.wav", tone(220, 0.3, seed=9), 11_025)
    summary = run(store, audio, low, high)
    assert (summary.extracted, summary.stored) == (6, 6)
    assert summary.having == {"logmel:high=4000": 6, "logmel:high=7900": 5}
    assert "logmel:high=7900: 5 of 6 tracks" in summary.lines("folder")
    [failure] = summary.failures
    assert (failure.id, failure.features) == ("low/low-1.wav", shards_of(store, high).name)
    assert "11025 Hz" in failure.reason
    assert (len(stored(store, low)), len(stored(store, high))) == (6, 5)
    decoded.clear()
    summary = run(store, audio, low, high)
    assert (summary.failed_before, summary.unchanged, summary.stored, decoded) == (1, 5, 6, [])
    summary = run(store, audio, low)
    assert (summary.failed_before, summary.unchanged, summary.stored, summary.failures) == (0, 6, 6, [])
    assert [one.features for one in dataset_of(store).failures()] == [failure.features]


# Removing unlisted tracks


@pytest.mark.parametrize(("n_gone", "asks"), [(1, False), (3, True)])
def test_pruning_more_than_a_tenth_is_confirmed_first(store, audio, n_gone, asks):
    write_tones(audio, n_tracks=4, seconds=0.3)  # 12
    run(store, audio)
    before = snapshot(store)
    for number in range(n_gone):
        (audio / "low" / f"low-{number}.wav").unlink()

    def refuse(what: str) -> None:
        assert f"{n_gone} of the 12 tracks" in what
        raise KeyError(what)

    if asks:
        with pytest.raises(KeyError):
            run(store, audio, prune=True, confirm=refuse)
        assert snapshot(store) == before
        assert run(store, audio, prune=True).pruned == n_gone
    else:
        assert run(store, audio, prune=True, confirm=refuse).pruned == n_gone


# Failures


def test_failures_are_stored_with_the_reason_and_advice(store, audio):
    (audio / "low" / "empty.wav").touch()
    (audio / "low" / "text.mp3").write_text("not music")
    summary = run(store, audio)
    assert (summary.listed, summary.extracted) == (8, 6)
    table = pq.read_table(dataset_of(store).folder / "failures.parquet")
    columns = ["id", "path", "features", "reason", "retry", "file_size", "file_mtime_ns", "reported", "accepted"]
    assert table.column_names == columns
    empty, text = table.to_pylist()
    assert (empty["id"], text["id"]) == ("low/empty.wav", "low/text.mp3")
    assert empty["path"] == str(audio / "low" / "empty.wav")
    assert empty["features"] == shards_of(store).name
    assert "empty file" in empty["reason"]
    assert "neither soundfile nor Essentia" in text["reason"]
    assert "--retry-failed" in empty["retry"]
    assert [failure.id for failure in summary.failures] == ["low/empty.wav", "low/text.mp3"]


def test_a_file_that_vanishes_after_it_was_listed_is_a_failure(store, audio):
    listing = Folder().listing(audio)
    (audio / "low" / "low-0.wav").unlink()
    summary = run(store, audio, listing=listing)
    assert summary.extracted == 5
    (failure,) = summary.failures
    assert "No such file" in failure.reason


def test_a_failed_file_is_tried_again_only_when_it_changes_or_on_request(store, audio, decoded):
    bad = audio / "low" / "bad.wav"
    bad.write_bytes(b"RIFF")
    run(store, audio)
    decoded.clear()

    summary = run(store, audio)
    assert (decoded, summary.failed_before, len(summary.failures)) == ([], 1, 1)
    [line] = [line for line in summary.lines("folder") if "1 file " in line]
    assert "--retry-failed" in line
    assert "--accept-failures" in line

    summary = run(store, audio, retry_failed=True)
    assert (decoded, summary.failed_before, len(summary.failures)) == (["bad.wav"], 0, 1)

    soundfile.write(bad, tone(220, 0.3, seed=5), RATE)
    summary = run(store, audio)
    assert decoded == ["bad.wav", "bad.wav"]
    assert (summary.extracted, summary.failures, dataset_of(store).failures()) == (1, [], [])


def test_a_failure_is_listed_once_and_counted_later_until_it_changes(store, audio):
    bad = audio / "low" / "bad.wav"
    bad.write_bytes(b"RIFF")

    def mentions(summary: Summary) -> bool:
        return any(f"  {bad}: " in line for line in summary.lines("folder"))

    first, again, retried = run(store, audio), run(store, audio), run(store, audio, retry_failed=True)
    assert [mentions(one) for one in (first, again, retried)] == [True, False, False]
    assert [one.to_json("folder")["new_failures"] for one in (first, again, retried)] == [["low/bad.wav"], [], []]
    assert all(one.has_failures for one in (first, again, retried))
    bad.write_bytes(b"RIFF again")
    changed = run(store, audio)
    assert mentions(changed)
    assert changed.has_failures


def test_accepted_failures_count_again_when_the_file_or_the_reason_changes_or_on_request(store, audio, monkeypatch):
    bad = audio / "low" / "bad.wav"
    bad.write_bytes(b"RIFF")
    assert run(store, audio, accept_failures=True).has_failures  # this is the first time that it is listed
    assert not run(store, audio).has_failures
    assert not run(store, audio, retry_failed=True, max_failures=MaxFailures.parse("0")).has_failures
    assert [one.accepted for one in dataset_of(store).failures()] == [True]

    assert run(store, audio, accept_failures=False).has_failures
    assert not run(store, audio, accept_failures=True).has_failures
    other = audio / "low" / "other.wav"
    other.write_bytes(b"RIFF")
    summary = run(store, audio)
    assert ([one.id for one in summary.new_failures], summary.has_failures) == (["low/other.wav"], True)
    other.unlink()

    os.utime(bad, (1, 1))
    assert run(store, audio).has_failures
    assert not run(store, audio, accept_failures=True).has_failures
    with monkeypatch.context() as patch:
        patch.setattr(file_features, "compute", lambda *_: (_ for _ in ()).throw(KeyError("another reason")))
        assert run(store, audio, retry_failed=True).has_failures


def test_a_failure_of_an_extraction_that_did_not_end_is_listed_by_the_next(store, audio):
    for name in ("bad.wav", "worse.wav"):
        (audio / "low" / name).write_bytes(b"RIFF")
    with pytest.raises(DatasetError, match="--max-failures 1"):
        run(store, audio, max_failures=MaxFailures.parse("1"))
    assert len(dataset_of(store).failures()) == 2
    assert len(run(store, audio).new_failures) == 2


def test_a_file_that_becomes_unreadable_fails_and_keeps_its_old_row(store, audio, decoded):
    run(store, audio)
    before = stored(store)["low/low-0.wav"]["frames"]
    good = (audio / "low" / "low-0.wav").read_bytes()
    (audio / "low" / "low-0.wav").write_bytes(b"RIFF")
    for failed_before in (0, 1, 1):
        summary = run(store, audio)
        assert (summary.failed_before, summary.unchanged, summary.kept) == (failed_before, 5, 1)
        assert any(line.startswith("kept") and "1 failed file" in line for line in summary.lines("folder"))
        assert summary.lines("folder")[0].startswith("folder: 6 of 6 tracks")
        assert summary.to_json("folder")["kept"] == 1
        assert [failure.id for failure in summary.failures] == ["low/low-0.wav"]
    np.testing.assert_array_equal(stored(store)["low/low-0.wav"]["frames"], before)
    (audio / "low" / "low-0.wav").write_bytes(good)
    summary = run(store, audio)
    assert (summary.unchanged, summary.kept, summary.failures, dataset_of(store).failures()) == (6, 0, [], [])


def test_any_exception_of_a_decoder_fails_one_file_only(store, audio, monkeypatch):
    compute = file_features.compute

    def fail_on_one(features: object, path: Path, ids: tuple[str, ...]):
        if path.name == "low-0.wav":
            raise KeyError("chunk")
        return compute(features, path, ids)

    from small_store import workers_run  # imports torch, and workers import this file

    monkeypatch.setattr(file_features, "compute", fail_on_one)
    with workers_run():
        summary = run(store, audio)
    assert summary.extracted == 5
    (failure,) = summary.failures
    assert "KeyError: 'chunk'" in failure.reason


def test_failures_of_unlisted_tracks_are_dropped(store, audio):
    bad = audio / "low" / "bad.wav"
    bad.touch()
    run(store, audio)
    bad.unlink()
    assert run(store, audio).failures == []
    assert dataset_of(store).failures() == []


def test_decoder_messages_are_counted_and_not_shown(store, audio, capfd):
    samples = loud_then_quiet(2, 44_100)
    path = write_mp3(audio / "low" / "junk.mp3", samples, 44_100, "CONSTANT")
    content = path.read_bytes()
    junk = np.random.default_rng(2).bytes(20_000)
    path.write_bytes(content[: len(content) // 2] + junk + content[len(content) // 2 :])
    summary = run(store, audio)
    assert (summary.extracted, summary.failures) == (7, [])
    assert summary.decoder_messages > 0
    assert any(f"{summary.decoder_messages} lines of decoder messages" in line for line in summary.lines("folder"))
    assert capfd.readouterr() == ("", "")


def test_warnings_about_files_that_were_read_are_printed(store, audio):
    samples = loud_then_quiet(2, 44_100)[:, 0]
    soundfile.write(audio / "low" / "against.wav", np.stack([samples, -samples], axis=1), 44_100)
    summary = run(store, audio)
    ((path, note),) = summary.notes.items()
    assert (Path(path).name, summary.failures) == ("against.wav", [])
    assert any(path in line and note in line for line in summary.lines("folder"))
    assert run(store, audio).notes == {}


def test_an_odd_date_or_name_does_not_affect_other_files(store, audio):
    sound = next((audio / "low").iterdir()).read_bytes()
    for number, seconds in enumerate([-(10**9), -(10**10), 9_400_000_000, 15_000_000_000]):
        path = audio / "low" / f"odd-{number}.wav"
        path.write_bytes(sound + bytes(number))
        os.utime(path, ns=(seconds * 10**9, seconds * 10**9))
    for name in (b"n" * 251 + b".wav", b"caf\xe9.wav"):
        (audio / "low" / os.fsdecode(name)).write_bytes(sound)
    (audio / "low" / "empty.wav").touch()
    summary = run(store, audio)
    assert len(summary.failures) == 1
    again = run(store, audio)
    assert (again.extracted, len(again.failures)) == (0, 1)


def test_extraction_does_not_wait_for_a_pipe(store, audio):
    os.mkfifo(audio / "low" / "pipe.wav")
    listing = Folder().listing(audio)
    assert "low/pipe.wav" not in {track.id for track in listing.tracks}
    pipe = Track("low/pipe.wav", audio / "low" / "pipe.wav", "low")
    for _ in range(2):
        summary = run(store, audio, listing=Listing(listing.task, [*listing.tracks, pipe]))
        (failure,) = summary.failures
        assert failure.id == "low/pipe.wav"
        assert "pipe" in failure.reason
    assert len(stored(store)) == 6


# A crashing decoder


@pytest.fixture
def killer(audio: Path) -> Path:
    """Write an MP3 whose number of channels changes midway, which crashes Essentia."""
    samples = loud_then_quiet(2, 44_100)
    stereo = write_mp3(audio / "stereo.mp3", samples, 44_100, "CONSTANT")
    mono = write_mp3(audio / "mono.mp3", samples[:, 0], 44_100, "CONSTANT")
    path = audio / "low" / "killer.mp3"
    path.write_bytes(stereo.read_bytes() + mono.read_bytes())
    stereo.unlink()
    mono.unlink()
    script = (
        "import sys; from pathlib import Path; from mirembed.audio.decoding import decode; decode(Path(sys.argv[1]))"
    )
    code = subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=False).returncode
    if code != -signal.SIGSEGV:
        pytest.skip(f"such a file does not crash this Essentia: exit code {code}")
    return path


def test_a_file_that_crashes_its_decoder_fails_and_the_others_are_extracted(mirembed, audio, killer):
    # In a slim container there is not even pgrep.
    nothing_to_call = {"PATH": "/nowhere"}
    completed = mirembed(
        "extract",
        *("--dataset", "folder", "--audio", audio, "--store", "s", "--jobs", 2),
        env=nothing_to_call,
        code=2,
        process=True,
    )
    [line] = [line for line in completed.stdout.splitlines() if f"{killer}: " in line]
    assert "native code (SIGSEGV)" in line
    store = Store(mirembed.folder / "s")
    assert len(stored(store)) == 6
    assert [failure.id for failure in dataset_of(store).failures()] == ["low/killer.mp3"]
    killer.unlink()
    mirembed("extract", "--dataset", "folder", "--store", "s", code=0)
    assert dataset_of(store).failures() == []
