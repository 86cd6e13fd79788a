"""Extracting folders that may hold anything, on machines where anything may happen."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import loud_then_quiet, mp4_bytes, spectrogram, wav_bytes, write_mp3
from conftest import RATE, tone, write_tones
from fuzz import Report, watching
from small_store import LOGMEL, workers_run
from test_bad_input import run_here
from test_extraction import run, stored

from mirembed import Classification, Listing, Track
from mirembed.cli import output
from mirembed.errors import DatasetError, SpecError, StoreWriteError
from mirembed.extract import ExtractOptions, FileToExtract, MaxFailures, extract_files, extraction
from mirembed.progress import Silent
from mirembed.specs import Spec
from mirembed.store import DatasetStore, Store

pytestmark = pytest.mark.slow

in_worker = functools.partial(run, jobs=1)  # what is at stake here may end or hang a process


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Write six short tones in three classes."""
    return write_tones(tmp_path / "audio", n_tracks=2, seconds=0.3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def dataset(store: Store) -> DatasetStore:
    return store.dataset(Spec("folder"))


def listing(*tracks: tuple[str, Path]) -> Listing:
    return Listing(Classification(("a", "b")), [Track(name, path, "a") for name, path in tracks])


# Backends


@pytest.fixture
def without_essentia(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a program without Essentia."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "essentia.py").write_text("raise ImportError('no wheel for this platform')\n")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "blocked"), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_the_store_records_the_backend_of_each_track_and_accepts_both(store, audio):
    run(store, audio, options=ExtractOptions("scipy"))
    soundfile.write(audio / "low" / "new.wav", tone(220, 0.4, seed=9), RATE)
    summary = run(store, audio, options=ExtractOptions("essentia"))
    assert (summary.extracted, summary.unchanged) == (1, 6)
    backends = {track: row["backend"] for track, row in stored(store).items()}
    assert backends.pop("low/new.wav") == "essentia"
    assert set(backends.values()) == {"scipy"}


def test_without_essentia_scipy_does_everything(mirembed, audio, without_essentia):
    write_mp3(audio / "low" / "a.mp3", loud_then_quiet(2, 44_100), 44_100, "VARIABLE")
    arguments = ("--dataset", "folder", "--audio", audio, "--store", "s", "--jobs", 1)
    mirembed("extract", *arguments, env=without_essentia, process=True)
    rows = stored(Store(mirembed.folder / "s"))
    assert len(rows) == 7
    for track, row in rows.items():
        assert row["backend"] == "scipy"
        np.testing.assert_allclose(row["frames"], spectrogram(audio / track, backend="essentia"), atol=0.01)
    assert run_here(mirembed.folder, "fit", "--store", "s", "--epochs", 1, "--network", "mlp") == 0
    mirembed("predict", "folder-rbf-sl", audio / "low", "--store", "s", "--jobs", 1, env=without_essentia, process=True)


def test_without_essentia_an_m4a_fails_and_says_why(mirembed, audio, without_essentia):
    mp3 = write_mp3(audio / "a.mp3", loud_then_quiet(2, 44_100), 44_100, "CONSTANT")
    (audio / "low" / "a.m4a").write_bytes(mp4_bytes(mp3.read_bytes(), 44_100))
    arguments = ("--dataset", "folder", "--audio", audio, "--store", "s", "--jobs", 1)
    completed = mirembed("extract", *arguments, env=without_essentia, process=True, code=2)
    assert re.search(
        r"a\.m4a: soundfile.*Format not recogni.ed.*no wheel for this platform.*install Essentia", completed.stdout
    )
    completed = mirembed("extract", *arguments, "--backend", "essentia", env=without_essentia, process=True, code=1)
    assert re.fullmatch(r"error: .*backend=essentia:.*no wheel for this platform.*scipy\n", completed.stderr)


# Names and links


def test_files_of_any_name_are_extracted(store, audio):
    names = [b"caf\xe9.wav", b"-v.wav", b"a\nb.wav", "Ärger 音楽.wav".encode(), b"file:x.wav", b"a|b;$(c).wav"]
    content = (audio / "low" / "low-0.wav").read_bytes()
    for name in names:
        Path(os.fsdecode(os.fsencode(audio / "low") + b"/" + name)).write_bytes(content)
    summary = run(store, audio)
    assert (summary.extracted, summary.failures) == (12, [])
    assert {"low/caf\\xe9.wav", "low/a\nb.wav", "low/Ärger 音楽.wav"} <= stored(store).keys()
    assert run(store, audio).unchanged == 12


def test_files_outside_the_folder_fail(store, audio, tmp_path):
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
        assert re.match(f"points outside the audio folder, to {outside};", reasons[name])
    assert "outside the audio folder, to /dev/null" in reasons["elsewhere"]
    assert reasons["circle"].startswith("cannot be read: ")
    assert "protocol" in reasons


def test_folders_beside_the_given_one_may_be_listed(store, audio):
    tracks = listing(("low", audio / "low" / "low-0.wav"), ("high", audio / "high" / "high-0.wav"))
    assert run(store, audio / "low", listing=tracks).extracted == 2


def test_pipes_sockets_and_devices_are_not_opened(store, audio):
    os.mkfifo(audio / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(audio / "socket.wav"))
    (audio / "folder.wav").mkdir()
    tracks = [(name, audio / f"{name}.wav") for name in ("pipe", "socket", "folder")]
    summary = in_worker(store, audio, listing=listing(*tracks, ("good", audio / "low" / "low-0.wav")))
    assert summary.extracted == 1
    reasons = {failure.id: failure.reason for failure in summary.failures}
    assert reasons.keys() == {"pipe", "socket", "folder"}
    assert "pipe, socket" in reasons["pipe"]
    assert "pipe, socket" in reasons["socket"]
    assert "directory" in reasons["folder"]


# Limits


def test_a_file_that_takes_too_long_fails_and_says_how_to_try_again(store, audio):
    soundfile.write(audio / "low" / "long.flac", np.zeros(2 * 60 * 96_000, np.int16), 96_000)
    summary = in_worker(store, audio, options=ExtractOptions(timeout=0.02))
    failures = {failure.id: failure for failure in summary.failures}
    assert "took longer than 0 s" in failures["low/long.flac"].reason
    assert "--timeout" in failures["low/long.flac"].retry
    summary = run(store, audio, retry_failed=True)
    assert (summary.failures, len(stored(store))) == ([], 7)


def test_half_an_hour_of_music_needs_little_memory(tmp_path):
    path = tmp_path / "long.wav"
    size = 2 * 48_000 * 1800
    path.write_bytes(wav_bytes(b"", rate=48_000, stated=size))
    os.truncate(path, path.stat().st_size + size)
    report = Report()
    with watching(report):
        (outcome,) = extract_files([FileToExtract(path, (), LOGMEL.parts)], 1)
    (frames,) = outcome.result.frames.values()
    assert frames.shape == (71_999, 40)
    assert 20 * 2**20 < report.peak < 250 * 2**20


@pytest.mark.parametrize(
    ("text", "n_failed", "exceeded"),
    [("0", 0, False), ("0", 1, True), ("10", 10, False), ("10", 11, True), ("5%", 10, False), ("5%", 11, True),
     ("0.5 %", 1, False), ("0.5%", 2, True)],
)  # fmt: skip
def test_the_limit_on_failures_is_a_number_or_a_share(text, n_failed, exceeded):
    assert MaxFailures.parse(text).exceeded_by(n_failed, 200) == exceeded


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "101%", "%", "1e3"])
def test_an_invalid_limit_on_failures_is_refused(text):
    with pytest.raises(SpecError, match=r"--max-failures .*expected.* 10.* 5%"):
        MaxFailures.parse(text)


def test_too_many_failures_stop_the_extraction_and_keep_what_is_done(mirembed, audio):
    for number in range(9):
        (audio / "low" / f"bad-{number}.wav").write_text("no audio")
    arguments = ("extract", "--dataset", "folder", "--audio", audio, "--store", "s", "--jobs", 1, "--max-failures")
    completed = mirembed(*arguments, "3", code=1)
    assert re.search(r"error: 4 of 15 files failed.* --max-failures 3;.*bad-\d\.wav", completed.stderr)
    assert len(Store(mirembed.folder / "s").dataset(Spec("folder")).failures()) == 4
    done = mirembed(*arguments, "50%", "--json", code=2)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["extracted"] + summary["unchanged"], len(summary["failures"])) == (6, 9)


def test_a_drive_that_vanishes_stops_the_extraction_without_failures(store, audio, monkeypatch):
    class Vanishing(Silent):
        def update(self, completed: float, **_: float) -> None:
            if completed == 2:
                audio.rename(audio.with_name("unmounted"))
                audio.mkdir()

    with workers_run(), pytest.raises(DatasetError, match=r"the audio folder .* has vanished"):
        run(store, audio, progress=Vanishing())
    assert (len(stored(store)), dataset(store).failures()) == (2, [])
    audio.rmdir()
    audio.with_name("unmounted").rename(audio)
    assert run(store, audio).extracted == 4


def test_a_store_that_vanishes_is_not_replaced_by_a_new_one(store, audio):
    class Vanishing(Silent):
        def update(self, completed: float, **_: float) -> None:
            if completed == 2:
                store.root.rename(store.root.with_name("unmounted"))

    with workers_run(), pytest.raises(StoreWriteError, match="vanished while"):
        run(store, audio, progress=Vanishing())
    assert not dataset(store).exists
    shutil.rmtree(store.root, ignore_errors=True)
    store.root.with_name("unmounted").rename(store.root)
    assert run(store, audio).extracted == 6


def test_failures_are_written_along_with_the_shards(store, audio, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD_ROWS", 1)
    (audio / "high" / "bad.wav").touch()
    seen = []

    class Watching(Silent):
        def update(self, completed: float, **_: float) -> None:
            seen.append(len(dataset(store).failures()))

    with workers_run():
        run(store, audio, progress=Watching())
    assert seen[-1] == 1


# Progress


def test_progress_events_tell_how_much_is_done(capsys, monkeypatch):
    monkeypatch.setattr(output, "_EVENT_INTERVAL", 0.0)
    with output.EventProgress() as progress:
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


def test_the_last_line_of_json_output_is_the_result(mirembed, audio):
    done = mirembed("extract", "--dataset", "folder", "--audio", audio, "--store", "s", "--json", "--jobs", 1)
    *_, last = done.stdout.splitlines()
    assert json.loads(last).items() >= {"event": "done", "extracted": 6, "failures": []}.items()
