"""Extraction of a folder in which anything may lie, on a machine on which anything may happen."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from audio_files import loud_then_quiet, mp4_bytes, wav_bytes, write_mp3
from conftest import RATE, tone, write_tones
from fuzz import Report, watching
from small_store import workers_run
from test_bad_input import run_here
from test_extraction import run, stored

from mirembed import Classification, Listing, Track, extract
from mirembed.cli import events
from mirembed.errors import DatasetError, SpecError, StoreWriteError
from mirembed.extract import ExtractOptions, MaxFailures
from mirembed.progress import Silent
from mirembed.spectrogram import spectrogram
from mirembed.store import FeatureStore


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Six short tones in three classes."""
    return write_tones(tmp_path / "audio", n_tracks=2, seconds=0.3)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def listing(*tracks: tuple[str, Path]) -> Listing:
    return Listing(Classification(("a", "b")), [Track(name, path, "a") for name, path in tracks])


# Backends


@pytest.fixture
def without_essentia(tmp_path: Path) -> dict[str, str]:
    """The environment of a program that has no Essentia."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "essentia.py").write_text("raise ImportError('no wheel for this platform')\n")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "blocked"), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_the_store_says_what_computed_each_track_and_both_are_one_to_it(store, audio):
    run(store, audio, options=ExtractOptions("scipy"))
    soundfile.write(audio / "low" / "new.wav", tone(220, 0.4, seed=9), RATE)
    summary = run(store, audio, options=ExtractOptions("essentia"))
    assert (summary.extracted, summary.unchanged) == (1, 6)
    backends = {track: row["backend"] for track, row in stored(store).items()}
    assert backends.pop("low/new.wav") == "essentia"
    assert set(backends.values()) == {"scipy"}


def test_a_store_without_the_column_of_the_backend_is_read_and_added_to(store, audio):
    run(store, audio)
    (shard,) = store.shards()
    pq.write_table(pq.read_table(shard).drop_columns("backend"), shard)
    shutil.copy(audio / "low" / "low-0.wav", audio / "low" / "new.wav")
    assert run(store, audio).extracted == 1
    assert [row["backend"] for row in store.index().to_pylist()].count(None) == 6
    shutil.rmtree(audio / "high")
    assert run(store, audio, prune=True).pruned == 2
    assert len(stored(store)) == 5


def test_without_essentia_everything_goes_on_with_scipy(mirembed, audio, without_essentia):
    write_mp3(audio / "low" / "a.mp3", loud_then_quiet(2, 44_100), 44_100, "VARIABLE")
    arguments = ("--dataset", "folder", "--audio", audio, "--store", "s", "--jobs", 1)
    mirembed("extract", *arguments, env=without_essentia)
    rows = stored(FeatureStore(mirembed.folder / "s" / "datasets" / "folder"))
    assert len(rows) == 7
    for track, row in rows.items():
        assert row["backend"] == "scipy"
        np.testing.assert_allclose(row["frames"], spectrogram(audio / track, backend="essentia").frames, atol=0.01)
    assert run_here(mirembed.folder, "fit", "--store", "s", "--epochs", 1) == 0
    mirembed("predict", "folder-rbf-sl", audio / "low", "--store", "s", "--jobs", 1, env=without_essentia)


def test_without_essentia_an_m4a_says_what_is_missing(mirembed, audio, without_essentia):
    mp3 = write_mp3(audio / "a.mp3", loud_then_quiet(2, 44_100), 44_100, "CONSTANT")
    (audio / "low" / "a.m4a").write_bytes(mp4_bytes(mp3.read_bytes(), 44_100))
    arguments = ("--dataset", "folder", "--audio", audio, "--store", "s", "--jobs", 1)
    completed = mirembed("extract", *arguments, env=without_essentia, code=2)
    said = "a.m4a: soundfile cannot decode this file (Format not recognized), and Essentia, which could, is not there"
    assert said in completed.stdout
    assert "(no wheel for this platform): convert it to FLAC, or install Essentia" in completed.stdout
    completed = mirembed("extract", *arguments, "--backend", "essentia", env=without_essentia, code=1)
    expected = (
        "error: --backend essentia: Essentia cannot be imported (no wheel for this platform); use --backend scipy\n"
    )
    assert completed.stderr == expected


# Names and links


def test_names_of_any_kind_are_extracted(store, audio):
    names = [b"caf\xe9.wav", b"-v.wav", b"a\nb.wav", "Ärger 音楽.wav".encode(), b"file:x.wav", b"a|b;$(c).wav"]
    content = (audio / "low" / "low-0.wav").read_bytes()
    for name in names:
        Path(os.fsdecode(os.fsencode(audio / "low") + b"/" + name)).write_bytes(content)
    summary = run(store, audio)
    assert (summary.extracted, summary.failures) == (12, [])
    assert {"low/caf\\xe9.wav", "low/a\nb.wav", "low/Ärger 音楽.wav"} <= stored(store).keys()
    assert run(store, audio).unchanged == 12


def test_what_leads_out_of_the_folder_is_a_failure(store, audio, tmp_path):
    outside = tmp_path / "outside" / "secret.wav"
    outside.parent.mkdir()
    shutil.copy(audio / "low" / "low-0.wav", outside)
    (audio / "link.wav").symlink_to(outside)
    (audio / "linked").symlink_to(outside.parent)
    (audio / "inside.wav").symlink_to(audio / "low" / "low-1.wav")
    (audio / "circle.wav").symlink_to(audio / "circle.wav")
    paths = {
        "link": audio / "link.wav",
        "linked": audio / "linked" / "secret.wav",
        "dots": audio / ".." / "outside" / "secret.wav",
        "elsewhere": Path("/dev/null"),
        "circle": audio / "circle.wav",
        "protocol": Path(f"file:{audio}/low/low-0.wav"),
        "inside": audio / "inside.wav",
        "still inside": audio / "low" / ".." / "high" / "high-0.wav",
    }
    summary = run(store, audio, listing=listing(*paths.items()))
    assert {"inside", "still inside"} == stored(store).keys()
    reasons = {failure.id: failure.reason for failure in summary.failures}
    for name in ("link", "linked", "dots"):
        assert reasons[name] == f"leads out of the audio folder, to {outside}: copy the file into the folder"
    assert "leads out of the audio folder, to /dev/null" in reasons["elsewhere"]
    assert reasons["circle"].startswith("cannot be read: ")
    assert "protocol" in reasons


def test_the_folder_beside_the_one_that_was_given_may_be_listed(store, audio):
    tracks = listing(("low", audio / "low" / "low-0.wav"), ("high", audio / "high" / "high-0.wav"))
    assert run(store, audio / "low", listing=tracks).extracted == 2


def test_pipes_sockets_and_devices_are_not_opened(store, audio):
    os.mkfifo(audio / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(audio / "socket.wav"))
    (audio / "folder.wav").mkdir()
    tracks = [(name, audio / f"{name}.wav") for name in ("pipe", "socket", "folder")]
    summary = run(store, audio, listing=listing(*tracks, ("good", audio / "low" / "low-0.wav")))
    assert summary.extracted == 1
    kinds = {failure.id: failure.reason.partition(",")[0] for failure in summary.failures}
    assert kinds == {"pipe": "a pipe", "socket": "a pipe", "folder": "a directory"}


# Limits


def test_a_file_that_takes_too_long_is_a_failure_that_says_how_to_try_again(store, audio):
    soundfile.write(audio / "low" / "long.flac", np.zeros(5 * 60 * 96_000, np.int16), 96_000)
    began = time.monotonic()
    summary = run(store, audio, options=ExtractOptions(timeout=0.05))
    assert time.monotonic() - began < 30
    failures = {failure.id: failure for failure in summary.failures}
    assert failures["low/long.flac"].reason == "took longer than 0 s and was stopped"
    assert "more --timeout" in failures["low/long.flac"].retry
    summary = run(store, audio, retry_failed=True)
    assert (summary.failures, len(stored(store))) == ([], 7)


def test_an_hour_of_music_needs_little_memory(tmp_path):
    path = tmp_path / "hour.wav"
    size = 2 * 48_000 * 3600
    path.write_bytes(wav_bytes(b"", rate=48_000, stated=size))
    os.truncate(path, path.stat().st_size + size)
    report = Report()
    with watching(report):
        (outcome,) = extract.extract_files([path], 1)
    assert outcome.result.frames.shape == (143_999, 40)
    assert 20 * 2**20 < report.peak < 250 * 2**20


@pytest.mark.parametrize(
    ("text", "n_failed", "exceeded"),
    [("0", 0, False), ("0", 1, True), ("10", 10, False), ("10", 11, True), ("5%", 10, False), ("5%", 11, True),
     ("0.5 %", 1, False), ("0.5%", 2, True)],
)  # fmt: skip
def test_so_many_files_of_200_may_fail(text, n_failed, exceeded):
    assert MaxFailures.parse(text).exceeded_by(n_failed, 200) == exceeded


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "101%", "%", "1e3"])
def test_a_limit_that_is_no_number_is_refused(text):
    with pytest.raises(SpecError, match=r"--max-failures .*: expected a number of files such as 10, or a share"):
        MaxFailures.parse(text)


def test_too_many_failures_stop_the_extraction_and_what_is_done_is_kept(mirembed, audio):
    for number in range(9):
        (audio / "low" / f"bad-{number}.wav").write_text("no audio")
    arguments = ("extract", "--dataset", "folder", "--audio", audio, "--store", "s", "--jobs", 1, "--max-failures")
    completed = mirembed(*arguments, "3", code=1)
    assert "error: 4 of 15 files failed, more than --max-failures 3; the last: " in completed.stderr
    features = FeatureStore(mirembed.folder / "s" / "datasets" / "folder")
    assert len(features.failures()) == 4
    done = mirembed(*arguments, "50%", "--json", code=2)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["extracted"] + summary["unchanged"], len(summary["failures"])) == (6, 9)


def test_a_drive_that_vanishes_stops_the_extraction_and_is_no_fault_of_the_files(store, audio, monkeypatch):
    class Vanishing(Silent):
        def update(self, completed: float, **_: float) -> None:
            if completed == 2:
                audio.rename(audio.with_name("unmounted"))
                audio.mkdir()

    with workers_run(), pytest.raises(DatasetError, match=r"the audio folder .* has vanished; bring it back"):
        run(store, audio, progress=Vanishing())
    assert (len(stored(store)), store.failures()) == (2, [])
    audio.rmdir()
    audio.with_name("unmounted").rename(audio)
    assert run(store, audio).extracted == 4


def test_a_store_that_vanishes_is_not_begun_anew_in_its_place(store, audio):
    class Vanishing(Silent):
        def update(self, completed: float, **_: float) -> None:
            if completed == 2:
                store.folder.rename(store.folder.with_name("unmounted"))

    with workers_run(), pytest.raises(StoreWriteError, match="has vanished while it was written to; bring it back"):
        run(store, audio, progress=Vanishing())
    assert not store.exists
    shutil.rmtree(store.folder, ignore_errors=True)
    store.folder.with_name("unmounted").rename(store.folder)
    assert run(store, audio).extracted == 6


def test_failures_are_kept_on_the_way(store, audio, monkeypatch):
    monkeypatch.setattr(extract.extraction, "SHARD_ROWS", 1)
    (audio / "high" / "bad.wav").touch()
    seen = []

    class Watching(Silent):
        def update(self, completed: float, **_: float) -> None:
            seen.append(len(store.failures()))

    with workers_run():
        run(store, audio, progress=Watching())
    assert seen[-1] == 1


# Progress


def test_a_program_is_told_how_far_the_work_is(capsys, monkeypatch):
    monkeypatch.setattr(events, "EVERY", 0.0)
    with events.EventProgress() as progress:
        progress.start("extracting", 8)
        time.sleep(0.01)
        progress.update(2, failed=1, audio_seconds=36.0)
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    event = json.loads(line)
    elapsed = event.pop("seconds_elapsed")
    assert elapsed >= 0.01
    assert event == {
        "event": "progress",
        "stage": "extracting",
        "done": 2,
        "total": 8,
        "failed": 1,
        "hours_per_second": pytest.approx(0.01 / elapsed),
        "seconds_left": pytest.approx(3 * elapsed),
    }
    assert printed.err == "extracting ...\n"


def test_the_last_line_for_a_program_is_the_result(mirembed, audio):
    done = mirembed("extract", "--dataset", "folder", "--audio", audio, "--store", "s", "--json", "--jobs", 1)
    *_, last = done.stdout.splitlines()
    assert json.loads(last).items() >= {"event": "done", "extracted": 6, "failures": []}.items()
