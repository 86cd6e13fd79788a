"""Extracting a folder into a store: what is missing or changed is decoded, and nothing else."""

from __future__ import annotations

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
from audio_files import loud_then_quiet, write_mp3
from conftest import CLASSES, RATE, tone, write_tones
from mirembed.spectrogram import spectrogram

from mirembed import Classification, Listing, Track, extract, workers
from mirembed.errors import StoreError
from mirembed.store import FeatureStore
from mirembed_datasets.folder import Folder

pytestmark = pytest.mark.slow


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Write six short tones in three classes."""
    return write_tones(tmp_path / "audio", n_tracks=2, seconds=0.3)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the files that are given to workers, in every extraction of the test."""
    names: list[str] = []
    run = workers.run

    def spy(function: Callable, files: list, jobs: int, **options: object) -> Iterator:
        names.extend(file.path.name for file in files)
        return run(function, files, jobs, **options)

    monkeypatch.setattr(workers, "run", spy)
    return names


def run(store: FeatureStore, audio: Path, *, jobs: int = 1, listing: Listing | None = None, **options: object):
    """Extract a folder; the dataset is `folder`, with the table ``labels.csv`` if it exists."""
    if listing is None:
        table = audio / "labels.csv"
        listing = (Folder(labels=table, group="artist") if table.exists() else Folder()).listing(audio)
    return extract.extract(store, listing, spec="folder", plugin={}, audio=audio, jobs=jobs, **options)


def stored(store: FeatureStore) -> dict[str, dict]:
    """Return the rows of the shards by track id, with ``frames``; fail if a track has two."""
    rows = [row for shard in store.shards() for row in pq.read_table(shard).to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: {**row, "frames": np.array(row["frames"], np.float32)} for row in rows}


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the inode and content of every Parquet file: rewriting a file changes its inode."""
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.glob("spectrograms/*")}


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
    assert store.info().task == Classification(("calm", "wild"))
    assert store.info().audio == str(audio)


def test_each_row_describes_its_file(store, audio):
    run(store, audio)
    for track, row in stored(store).items():
        path = audio / track
        assert row["path"] == str(path)
        assert row["file_hash"] == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        assert (row["file_size"], row["file_mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)
        assert row["duration"] == pytest.approx(0.3)
        assert row["n_frames"] == len(row["frames"]) == 11
        np.testing.assert_array_equal(row["frames"], spectrogram(path).frames)


def test_the_same_sound_in_another_file_has_the_same_audio_hash(store, audio):
    samples, rate = soundfile.read(audio / "low" / "low-0.wav", dtype="int16")
    soundfile.write(audio / "low" / "copy.flac", samples, rate)
    run(store, audio)
    rows = stored(store)
    original, copy = rows["low/low-0.wav"], rows["low/copy.flac"]
    assert copy["audio_hash"] == original["audio_hash"]
    assert copy["file_hash"] != original["file_hash"]
    assert len({row["audio_hash"] for row in rows.values()}) == len(rows) - 1


def test_results_do_not_depend_on_the_number_of_workers(tmp_path, audio):
    one, many = FeatureStore(tmp_path / "one"), FeatureStore(tmp_path / "many")
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
    monkeypatch.setattr(extract.extraction, "SHARD_ROWS", 4)
    run(store, audio)
    assert [store.n_rows(shard) for shard in store.shards()] == [4, 2]
    assert len(stored(store)) == 6


def test_shards_of_long_tracks_have_fewer_rows(store, audio, monkeypatch):
    monkeypatch.setattr(extract.extraction, "SHARD_FRAMES", 30)  # each track has 11
    run(store, audio)
    assert [store.n_rows(shard) for shard in store.shards()] == [3, 3]


# The next run


def test_a_second_run_does_nothing(store, audio, decoded):
    run(store, audio)
    before = snapshot(store.folder)
    decoded.clear()
    summary = run(store, audio)
    assert (summary.extracted, summary.unchanged) == (0, 6)
    assert decoded == []
    assert snapshot(store.folder) == before


def test_a_touched_file_is_not_decoded_again(store, audio, decoded):
    run(store, audio)
    decoded.clear()
    os.utime(audio / "low" / "low-0.wav", (1, 1))
    assert run(store, audio).unchanged == 6
    assert decoded == []


def test_a_new_file_is_added(store, audio, decoded):
    run(store, audio)
    before = snapshot(store.folder)
    decoded.clear()
    soundfile.write(audio / "low" / "new.wav", tone(220, 0.4, seed=9), RATE)
    summary = run(store, audio)
    assert (summary.extracted, summary.unchanged) == (1, 6)
    assert decoded == ["new.wav"]
    assert before.items() <= snapshot(store.folder).items()
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
    np.testing.assert_array_equal(after["low/low-0.wav"]["frames"], spectrogram(path).frames)
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
    assert store.info().task == Classification(("a", "c"))
    assert run(store, audio).relabeled == 0


def test_unlisted_tracks_are_kept_with_their_class(store, audio, decoded):
    run(store, audio)
    shutil.rmtree(audio / "low")
    decoded.clear()
    summary = run(store, audio)
    assert (summary.listed, summary.unlisted, summary.pruned) == (4, 2, 0)
    (line,) = summary.lines("folder")
    assert re.match(r"folder: 4 of 4 tracks.* 0 .*new.* 2 no longer listed \(--prune removes them\)", line)
    assert (store.info().n_listed, store.info().n_unlisted) == (4, 2)
    assert len(stored(store)) == 6
    assert set(store.info().task.classes) == set(CLASSES)
    assert decoded == []


def test_prune_removes_unlisted_tracks(store, audio, decoded):
    run(store, audio)
    shutil.rmtree(audio / "low")
    decoded.clear()
    summary = run(store, audio, prune=True)
    assert (summary.listed, summary.unlisted, summary.pruned) == (4, 0, 2)
    assert summary.lines("folder")[0].startswith("folder: 4 of 4 tracks")
    assert "removed 2 unlisted tracks" in summary.lines("folder")
    assert store.info().n_unlisted == 0
    assert {track.split("/")[0] for track in stored(store)} == {"middle", "high"}
    assert set(store.info().task.classes) == {"middle", "high"}
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
    assert (row["path"], row["label"], row["file_hash"]) == (str(path), "high", old["file_hash"])
    np.testing.assert_array_equal(row["frames"], old["frames"])
    assert run(store, audio).moved == 0


def test_a_folder_whose_files_are_all_renamed_is_recognized_by_their_content(store, audio, decoded):
    run(store, audio)
    decoded.clear()
    for name in CLASSES:
        (audio / name).rename(audio / f"all-{name}")
    summary = run(store, audio)
    assert (summary.moved, summary.extracted) == (6, 0)
    assert decoded == []
    assert store.info().task == Classification(tuple(sorted(f"all-{name}" for name in CLASSES)))
    assert set(stored(store)) == {path.relative_to(audio).as_posix() for path in audio.rglob("*.wav")}


def test_only_one_of_two_copies_takes_the_row_of_a_deleted_file(store, audio, decoded):
    run(store, audio)
    decoded.clear()
    path = audio / "low" / "low-0.wav"
    shutil.copy(path, audio / "low" / "copy-1.wav")
    path.rename(audio / "low" / "copy-2.wav")
    summary = run(store, audio)
    assert (summary.moved, summary.extracted) == (1, 1)
    assert decoded == ["copy-2.wav"]


def test_a_copy_of_an_existing_file_is_a_track_of_its_own(store, audio, decoded):
    run(store, audio)
    decoded.clear()
    shutil.copy(audio / "low" / "low-0.wav", audio / "low" / "copy.wav")
    summary = run(store, audio)
    assert (summary.moved, summary.extracted) == (0, 1)
    assert decoded == ["copy.wav"]


def test_files_that_swap_names_are_decoded_again(store, audio):
    run(store, audio)
    first, second, third = audio / "low" / "low-0.wav", audio / "low" / "low-1.wav", audio / "third"
    for old, new in ((first, third), (second, first), (third, second)):
        old.rename(new)
    run(store, audio)
    for track, row in stored(store).items():
        np.testing.assert_array_equal(row["frames"], spectrogram(audio / track).frames)


def test_a_moved_folder_is_recognized_by_its_tracks(store, audio, tmp_path, decoded):
    run(store, audio)
    decoded.clear()
    moved = audio.rename(tmp_path / "moved")
    assert run(store, moved).unchanged == 6
    assert decoded == []
    assert store.info().audio == str(moved)


def test_another_folder_is_refused(store, audio, tmp_path):
    run(store, audio)
    before = snapshot(store.folder)
    other = tmp_path / "other"
    (other / "loud").mkdir(parents=True)
    soundfile.write(other / "loud" / "a.wav", tone(220, 0.3, seed=0), RATE)
    with pytest.raises(StoreError, match=r"6 tracks of folder from .*audio.*none.*other.*--store"):
        run(store, other)
    assert snapshot(store.folder) == before
    assert store.info().audio == str(audio)


def test_other_kinds_of_labels_are_refused(store, audio):
    run(store, audio)
    before = snapshot(store.folder)
    (audio / "numbers.csv").write_text("path,valence\nlow/low-0.wav,1\nlow/low-1.wav,2\n")
    listing = Folder(labels=audio / "numbers.csv", target="valence").listing(audio)
    with pytest.raises(StoreError, match=r"folder.*valence.*the store .*label;.*--store"):
        run(store, audio, listing=listing)
    assert snapshot(store.folder) == before


def test_a_damaged_shard_is_set_aside_and_its_tracks_are_extracted_again(store, audio, monkeypatch):
    monkeypatch.setattr(extract.extraction, "SHARD_ROWS", 4)
    run(store, audio)
    expected = stored(store)
    shard = store.shards()[0]
    os.truncate(shard, shard.stat().st_size // 2)
    summary = run(store, audio)
    assert (summary.extracted, summary.unchanged) == (4, 2)
    assert summary.damaged == [f"{shard}.damaged"]
    assert any("set aside" in line and f"{shard}.damaged" in line for line in summary.lines("folder"))
    for track, row in stored(store).items():
        np.testing.assert_array_equal(row["frames"], expected[track]["frames"])


# Failures


def test_failures_are_stored_with_the_reason_and_advice(store, audio):
    (audio / "low" / "empty.wav").touch()
    (audio / "low" / "text.mp3").write_text("not music")
    summary = run(store, audio)
    assert (summary.listed, summary.extracted) == (8, 6)
    table = pq.read_table(store.folder / "failures.parquet")
    assert table.column_names == ["id", "path", "reason", "retry", "file_size", "file_mtime_ns"]
    empty, text = table.to_pylist()
    assert (empty["id"], text["id"]) == ("low/empty.wav", "low/text.mp3")
    assert empty["path"] == str(audio / "low" / "empty.wav")
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
    assert any("1 unchanged file" in line and "--retry-failed" in line for line in summary.lines("folder"))

    summary = run(store, audio, retry_failed=True)
    assert (decoded, summary.failed_before, len(summary.failures)) == (["bad.wav"], 0, 1)

    soundfile.write(bad, tone(220, 0.3, seed=5), RATE)
    summary = run(store, audio)
    assert decoded == ["bad.wav", "bad.wav"]
    assert (summary.extracted, summary.failures, store.failures()) == (1, [], [])


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
    assert (summary.unchanged, summary.kept, summary.failures, store.failures()) == (6, 0, [], [])


def test_any_exception_of_a_decoder_fails_one_file_only(store, audio, monkeypatch):
    def fail_on_one(path: Path, **_: object):
        if path.name == "low-0.wav":
            raise KeyError("chunk")
        return spectrogram(path)

    from small_store import workers_run  # imports torch, and workers import this file

    monkeypatch.setattr(extract.file_features, "spectrogram", fail_on_one)
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
    assert store.failures() == []


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


# Crashing workers


def act(task: tuple[str, int]) -> int:
    """In a worker: return the number, or end as requested."""
    what, number = task
    if what == "SIGSEGV":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "exit":
        os._exit(3)
    if what == "raise":
        raise ValueError(number)
    if what == "process":
        return os.getpid()
    return number


def test_a_task_that_crashes_its_worker_is_named_and_the_others_finish():
    tasks = [("return", 10), ("SIGSEGV", 11), ("return", 12), ("exit", 13)]
    outcomes = sorted(workers.run(act, tasks, jobs=2), key=lambda outcome: outcome.index)
    done, crashed, also_done, left = outcomes
    assert (done, also_done) == (workers.Done(0, 10), workers.Done(2, 12))
    assert isinstance(crashed, workers.Crashed)
    assert "native code (SIGSEGV)" in crashed.reason
    assert isinstance(left, workers.Crashed)
    assert re.search(r"code 3\b", left.reason)


def test_tasks_handed_out_after_a_crash_share_a_worker():
    crashed, *rest = workers.run(act, [("SIGSEGV", 0), *[("process", 0)] * 3], jobs=1)
    assert isinstance(crashed, workers.Crashed)
    assert len({outcome.result for outcome in rest}) == 1


def variable(name: str) -> str | None:
    """In a worker."""
    return os.environ.get(name)


def test_workers_compute_in_a_fixed_order():
    expected = {"OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    outcomes = workers.run(variable, list(expected), jobs=1)
    assert [outcome.result for outcome in outcomes] == list(expected.values())


def test_an_exception_in_a_worker_reaches_the_caller():
    with pytest.raises(ValueError, match="7"):
        list(workers.run(act, [("return", 1), ("raise", 7)], 1))


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
    )
    [line] = [line for line in completed.stdout.splitlines() if f"{killer}: " in line]
    assert "native code (SIGSEGV)" in line
    store = FeatureStore(mirembed.folder / "s" / "datasets" / "folder")
    assert len(stored(store)) == 6
    assert [failure.id for failure in store.failures()] == ["low/killer.mp3"]
    killer.unlink()
    mirembed("extract", "--dataset", "folder", "--store", "s", code=0)
    assert store.failures() == []
