"""What ``mirembed datasets check`` finds in a copy of a dataset, and what it caches."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from archive_server import Notes
from audio_files import write_mp3
from conftest import Command
from small_store import run_here

from mirembed import Card, Classification, Listing, Regression, Split, Target, Track, workers
from mirembed.datasets.check import CheckResult, Finding, check
from mirembed.progress import Silent
from mirembed.store.files import write_table
from mirembed_datasets.folder import Folder

RATE = 22_050


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process: starting another takes longer than measuring the files."""
    monkeypatch.setattr(workers, "run", run_here)


def piece(seed: int, seconds: float = 10.0) -> np.ndarray:
    """Return a melody of random notes in noise, a different one for each seed: float32 [n], within 0.5."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitches = 110 * 2 ** (rng.integers(0, 48, (3, round(seconds * 3) + 1)) / 12)
    beat = (time * 3).astype(int)
    phases = 2 * np.pi * np.cumsum(pitches[:, beat], axis=1) / RATE
    envelope = np.exp(-4 * (time * 3 % 1))
    samples = sum(np.sin(harmonic * phases).sum(axis=0) / harmonic for harmonic in range(1, 6)) * envelope
    return (0.05 * samples + 0.003 * rng.standard_normal(len(time))).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound dataset: two pieces in each of two classes."""
    root = tmp_path_factory.mktemp("pieces")
    for seed, name in enumerate(["jig/a.wav", "jig/b.wav", "reel/c.wav", "reel/d.wav"]):
        write(root / name, piece(seed))
    return root


@pytest.fixture
def music(tmp_path: Path, pieces: Path) -> Path:
    """A copy of the sound dataset that a test may damage."""
    root = tmp_path / "music"
    for file in sorted(pieces.rglob("*.wav")):
        (root / file.relative_to(pieces)).parent.mkdir(parents=True, exist_ok=True)
        (root / file.relative_to(pieces)).write_bytes(file.read_bytes())
    return root


def look(audio: Path, listing: Listing | None = None, **options: Any) -> CheckResult:
    """Check the folder dataset ``audio``, or the tracks of ``listing``."""
    settings = {"card": None, "schemes": {}, "cache": audio.parent / "cache.parquet", "jobs": 1}
    return check(listing or Folder().listing(audio), audio, **{**settings, **options})


def kinds(report: CheckResult) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.kind, finding.tracks) for finding in report.findings]


def card(n_tracks: int = 4, **facts: Any) -> Card:
    return Card("Dances", n_tracks, "2 dances", "none", "", "", "", **facts)


# A sound dataset


@pytest.mark.usefixtures("in_process")
def test_nothing_is_found_in_a_sound_dataset(music: Path) -> None:
    report = look(music, card=card(rate=RATE, seconds=(9.9, 10.1)))
    assert report == CheckResult(4, ())
    assert report.sound
    assert report.to_json() == {"n_tracks": 4, "sound": True, "findings": []}


# One file


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty file"), (b"no music at all" * 100, "neither soundfile nor Essentia")],
)
def test_a_file_that_is_not_audio_is_unreadable(music: Path, content: bytes, reason: str) -> None:
    (music / "jig/a.wav").write_bytes(content)
    report = look(music)
    assert kinds(report) == [("unreadable", ("jig/a.wav",))]
    assert report.findings[0].level == "error"
    assert reason in report.findings[0].text
    assert not report.sound


@pytest.mark.usefixtures("in_process")
def test_loud_channels_that_cancel_are_a_warning(music: Path) -> None:
    samples, rate = soundfile.read(music / "jig/a.wav")
    soundfile.write(music / "jig/a.wav", np.stack([samples, -0.99 * samples], axis=1), rate)
    warning = next(finding for finding in look(music).findings if finding.kind == "file")
    assert (warning.level, warning.tracks) == ("warning", ("jig/a.wav",))
    assert "cancel" in warning.text


@pytest.mark.usefixtures("in_process")
def test_a_truncated_wav_is_unreadable_and_both_durations_are_reported(music: Path) -> None:
    content = (music / "reel/c.wav").read_bytes()
    (music / "reel/c.wav").write_bytes(content[: len(content) // 2])
    (finding,) = look(music).findings
    assert (finding.kind, finding.tracks) == ("unreadable", ("reel/c.wav",))
    assert re.match(r"the header states 10\.0 s, the file has room for 5\.0 s, but 5\.0 s", finding.text)


@pytest.mark.usefixtures("in_process")
def test_sampling_rates_and_durations_that_differ_from_the_card_are_errors(music: Path) -> None:
    write(music / "jig/a.wav", piece(7, 10), rate=2 * RATE)
    write(music / "jig/b.wav", piece(8, 11))
    assert look(music, card=card(rate=RATE, seconds=(9.5, 10.5))).findings == (
        Finding("sampling rate", "error", ("jig/a.wav",), "44100 Hz, expected 22050 Hz"),
        Finding("duration", "error", ("jig/a.wav",), "5.0 s, expected 9.5 to 10.5 s"),
        Finding("duration", "error", ("jig/b.wav",), "11.0 s, expected 9.5 to 10.5 s"),
    )
    assert look(music, card=card()).sound


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("seconds", "rate", "reason"), [(10, 8000, "sampling rate 8000 Hz"), (0.03, RATE, "0.030 s long")]
)
def test_files_that_extract_would_refuse_are_found(music: Path, seconds: float, rate: int, reason: str) -> None:
    write(music / "jig/a.wav", piece(7)[: int(seconds * rate)], rate=rate)
    (finding,) = look(music).findings
    assert (finding.kind, finding.level) == ("unreadable", "error")
    assert reason in finding.text


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("level", [0, 2e-4])
@pytest.mark.parametrize(("seconds", "found"), [(4, False), (6, True), (10, True)])
def test_half_a_track_of_silence_is_an_error(music: Path, level: float, seconds: float, found: bool) -> None:
    samples = piece(0)
    samples[: round(seconds * RATE)] = level * np.sin(np.arange(round(seconds * RATE)))
    write(music / "jig/a.wav", samples)
    expected = Finding("silence", "error", ("jig/a.wav",), f"{seconds / 10:.0%} of the track is below -70 dB")
    assert look(music).findings == ((expected,) if found else ())


@pytest.mark.usefixtures("in_process")
def test_loud_channels_that_cancel_are_not_called_silent(music: Path) -> None:
    write(music / "jig/a.wav", np.stack([piece(0), -piece(0)], axis=1))
    texts = {finding.kind: finding.text for finding in look(music).findings}
    assert texts["silence"] == "the mean of the channels, which cancel, is below -70 dB in 100% of the track"


@pytest.mark.usefixtures("in_process")
def test_soft_music_is_not_silence(music: Path) -> None:
    write(music / "jig/a.wav", 0.1 * piece(0))
    assert look(music).findings == ()


@pytest.mark.usefixtures("in_process")
def test_clipping_is_a_warning(music: Path) -> None:
    write(music / "jig/a.wav", (20 * piece(0)).clip(-1, 1))
    peaks = piece(1)
    peaks[:: len(peaks) // 100] = 1  # one sample in two thousand
    write(music / "jig/b.wav", peaks)
    report = look(music)
    assert kinds(report) == [("clipping", ("jig/a.wav",))]
    assert report.findings[0].level == "warning"
    assert report.sound


# Missing and unexpected tracks


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("absent", "n_tracks", "text"),
    [
        (3, 0, "3 of 7 tracks missing"),
        (0, 9, "5 of 9 tracks missing"),
        (5, 9, "5 of 9 tracks missing"),
    ],
)
def test_missing_tracks_are_counted_from_listing_and_card(music: Path, absent: int, n_tracks: int, text: str) -> None:
    listed = Folder().listing(music)
    listing = Listing(listed.task, listed.tracks, absent=absent)
    assert look(music, listing, card=card(n_tracks=n_tracks)).findings == (Finding("missing", "error", (), text),)


@pytest.mark.usefixtures("in_process")
def test_a_copy_with_more_tracks_than_the_card_is_complete(music: Path) -> None:
    assert look(music, card=card(n_tracks=3)).findings == ()


@pytest.mark.usefixtures("in_process")
def test_a_listed_file_that_is_gone_is_unreadable(music: Path) -> None:
    listing = Folder().listing(music)
    (music / "jig/b.wav").unlink()
    (finding,) = look(music, listing).findings
    assert (finding.kind, finding.tracks) == ("unreadable", ("jig/b.wav",))


@pytest.mark.usefixtures("in_process")
def test_audio_files_that_are_not_tracks_are_a_warning(music: Path) -> None:
    write(music / "loose.wav", piece(9))
    write(music / "new" / "take 1.flac", piece(10))
    write(music / ".trash" / "x.wav", piece(11))
    (music / "cover.jpg").touch()
    listed = Folder().listing(music)
    tracks = [track for track in listed.tracks if track.label != "new"]
    assert look(music, Listing(Classification(("jig", "reel")), tracks)).findings == (
        Finding("unexpected", "warning", ("loose.wav", "new/take 1.flac"), "2 audio files outside the dataset"),
    )


@pytest.mark.usefixtures("in_process")
def test_tracks_may_have_other_suffixes_and_be_outside_the_folder(music: Path, tmp_path: Path) -> None:
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    file = (music / "jig/a.wav").rename(music / "jig/a.clip")
    tracks = [Track("a", file, "jig"), Track("c", music / "reel/c.wav", "reel")]
    assert look(empty, Listing(Classification(("jig", "reel")), tracks)).findings == ()


# The same music twice


@pytest.mark.usefixtures("in_process")
def test_the_same_samples_in_another_format_are_an_exact_duplicate(music: Path) -> None:
    samples, _ = soundfile.read(music / "jig/a.wav", dtype="int16")
    write(music / "jig/copy.flac", samples)
    write(music / "jig/another.aiff", samples)
    assert look(music).findings == (
        Finding("exact duplicate", "error", ("jig/a.wav", "jig/another.aiff", "jig/copy.flac"), "identical samples"),
    )


@pytest.mark.usefixtures("in_process")
def test_a_recording_that_was_encoded_again_or_cut_is_a_near_duplicate(music: Path) -> None:
    write_mp3(music / "jig/a.mp3", piece(0), RATE, "CONSTANT")
    write(music / "reel/c2.wav", piece(2)[round(2.514 * RATE) :])
    one, other = look(music, Listing(Classification(("jig",)), one_class(music))).findings
    assert {one.tracks, other.tracks} == {("jig/a.mp3", "jig/a.wav"), ("reel/c.wav", "reel/c2.wav")}
    assert {one.kind, other.kind} == {"near duplicate"}
    (shifted,) = [finding for finding in (one, other) if "reel/c.wav" in finding.tracks]
    assert "+2.5 s (9" in shifted.text


def one_class(audio: Path) -> list[Track]:
    return [Track(track.id, track.path, "jig") for track in Folder().listing(audio).tracks]


@pytest.mark.usefixtures("in_process")
def test_silent_tracks_are_exact_duplicates_but_not_near_duplicates(music: Path) -> None:
    for name in ("jig/a.wav", "jig/b.wav"):
        write(music / name, np.zeros(10 * RATE))
    write(music / "reel/c.wav", np.zeros(12 * RATE))
    assert kinds(look(music)) == [
        ("silence", ("jig/a.wav",)),
        ("silence", ("jig/b.wav",)),
        ("silence", ("reel/c.wav",)),
        ("exact duplicate", ("jig/a.wav", "jig/b.wav")),
    ]


@pytest.mark.usefixtures("in_process")
def test_tracks_that_share_a_file_are_exact_duplicates(music: Path) -> None:
    tracks = [Track(f"{name}.{part}", music / name, "jig") for name in ("jig/a.wav", "reel/c.wav") for part in (1, 2)]
    report = look(music, Listing(Classification(("jig",)), tracks))
    assert report.n_tracks == 4
    assert kinds(report)[:2] == [
        ("exact duplicate", ("jig/a.wav.1", "jig/a.wav.2")),
        ("exact duplicate", ("reel/c.wav.1", "reel/c.wav.2")),
    ]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_duplicates_in_two_classes_conflict(music: Path, suffix: str) -> None:
    if suffix == "mp3":
        write_mp3(music / "reel/copy.mp3", piece(0), RATE, "CONSTANT")
    else:
        write(music / "reel/copy.flac", soundfile.read(music / "jig/a.wav", dtype="int16")[0])
    duplicate, conflict = look(music).findings
    assert duplicate.kind == ("near duplicate" if suffix == "mp3" else "exact duplicate")
    assert duplicate.tracks == ("jig/a.wav", "reel/copy." + suffix)
    expected = Finding("conflicting labels", "error", duplicate.tracks, "one recording, labeled jig and reel")
    assert conflict == expected


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("target", "limit"), [(Target("mood", 1, 9), 0.8), (Target("mood"), 0.6)])
def test_duplicates_with_targets_a_tenth_of_the_range_apart_conflict(music: Path, target: Target, limit: float) -> None:
    """The range is the declared one, 1 to 9, or that of all values, 2 to 8."""
    write(music / "copy.flac", soundfile.read(music / "jig/a.wav", dtype="int16")[0])
    files = ["jig/a.wav", "copy.flac", "jig/b.wav", "reel/c.wav"]

    def found(mood_of_the_copy: float) -> tuple[Finding, ...]:
        moods = (5.0, mood_of_the_copy, 2.0, 8.0)
        tracks = [Track(name, music / name, (0.5, mood)) for name, mood in zip(files, moods, strict=True)]
        report = look(music, Listing(Regression((Target("pace", 0, 1), target)), tracks))
        return tuple(finding for finding in report.findings if finding.kind not in ("exact duplicate", "unexpected"))

    assert found(5 + limit - 0.01) == ()
    text = f"one recording, with mood 5 and {5 + limit + 0.01:g}"
    expected = Finding("conflicting labels", "error", ("jig/a.wav", "copy.flac"), text)
    assert found(5 + limit + 0.01) == (expected,)


# Classes and groups


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("n_jigs", "found"), [(3, ()), (4, ("'jig' has 4 tracks, 'reel' has 1",))])
def test_a_class_more_than_three_times_larger_than_another_is_a_warning(
    music: Path, n_jigs: int, found: tuple[str, ...]
) -> None:
    tracks = [Track(file.name, file, "jig") for file in sorted(music.rglob("*.wav"))[:n_jigs]]
    tracks.append(Track("e.wav", write(music / "reel/e.wav", piece(20)), "reel"))
    findings = look(music, Listing(Classification(("jig", "reel")), tracks)).findings
    assert tuple(finding.text for finding in findings if finding.kind == "imbalance") == found
    assert all(finding.level == "warning" for finding in findings)


@pytest.mark.usefixtures("in_process")
def test_a_class_without_tracks_is_an_imbalance(music: Path) -> None:
    listed = Folder().listing(music)
    (finding,) = look(music, Listing(Classification(("jig", "polka", "reel")), listed.tracks)).findings
    assert (finding.kind, finding.text) == ("imbalance", "'jig' has 2 tracks, 'polka' has 0")


def grouped(audio: Path, n_tracks: int, groups: Sequence[str | None]) -> Listing:
    """Return a listing of ``n_tracks`` that alternate between two classes, all with the same file."""
    tracks = [Track(str(i), audio / "jig/a.wav", ("jig", "reel")[i % 2], groups[i]) for i in range(n_tracks)]
    return Listing(Classification(("jig", "reel")), tracks)


def findings_on_groups(report: CheckResult) -> list[str]:
    found = [finding for finding in report.findings if finding.kind == "groups"]
    assert all(finding.level == "warning" and finding.tracks == () for finding in found)
    return [finding.text for finding in found]


@pytest.mark.usefixtures("in_process")
def test_groups_in_training_and_test_of_the_default_folds_are_a_warning(music: Path) -> None:
    one_band = grouped(music, 40, ["band"] * 10 + [None] * 30)
    (text,) = findings_on_groups(look(music, one_band))
    assert all(fact in text for fact in ("10 stratified folds", "10 test tracks", "--folds grouped"))
    assert findings_on_groups(look(music, grouped(music, 40, [None] * 40))) == []
    assert findings_on_groups(look(music, grouped(music, 40, [str(i) for i in range(40)]))) == []


@pytest.mark.usefixtures("in_process")
def test_groups_in_training_and_test_of_an_official_split_are_a_separate_warning(music: Path) -> None:
    """There are too few tracks for ten folds, so only the official splits count."""
    listing = grouped(music, 6, ["ann", "ann", "bob", "bob", None, None])
    apart = Split(frozenset("01"), frozenset("2345"))
    crossing = Split(frozenset("024"), frozenset("135"))
    schemes = {"apart": [apart, apart], "crossing": [apart, crossing, crossing]}
    (text,) = findings_on_groups(look(music, listing, schemes=schemes))
    assert "official folds crossing, 4 test tracks" in text


@pytest.mark.usefixtures("in_process")
def test_errors_come_before_warnings(music: Path) -> None:
    write(music / "jig/a.wav", (20 * piece(0)).clip(-1, 1))
    (music / "reel/d.wav").write_bytes(b"")
    report = look(music, card=card(n_tracks=5))
    assert kinds(report) == [("missing", ()), ("unreadable", ("reel/d.wav",)), ("clipping", ("jig/a.wav",))]
    assert not report.sound
    assert report.to_json()["findings"][0] == {
        "kind": "missing",
        "level": "error",
        "tracks": (),
        "text": "1 of 5 tracks missing",
    }


# The cache


class Counted(Silent):
    """Records how many files each stage measures; interrupts the program, like ctrl-C, after ``limit`` files."""

    def __init__(self, limit: float = np.inf) -> None:
        self.limit = limit
        self.totals: list[float] = []

    def start(self, description: str, total: float) -> None:
        self.totals.append(total)

    def update(self, completed: float, **_: float) -> None:
        if completed > self.limit:
            raise KeyboardInterrupt


def touch_back(path: Path, status: os.stat_result) -> None:
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.usefixtures("in_process")
def test_a_file_of_the_same_size_and_time_is_not_measured_again(music: Path) -> None:
    assert look(music).sound
    file = music / "jig/a.wav"
    status = file.stat()
    write(file, np.zeros_like(piece(0)))
    assert file.stat().st_size == status.st_size
    touch_back(file, status)
    again = Counted()
    assert look(music, progress=again).sound
    assert again.totals == [0]
    os.utime(file)
    later = Counted()
    assert kinds(look(music, progress=later)) == [("silence", ("jig/a.wav",))]
    assert later.totals == [1]


@pytest.mark.usefixtures("in_process")
def test_a_failure_is_remembered_until_the_file_changes(music: Path) -> None:
    file = music / "jig/a.wav"
    content = file.read_bytes()
    file.write_bytes(content[:1000])
    first, second, third = Counted(), Counted(), Counted()
    report = look(music, progress=first)
    assert not report.sound
    assert look(music, progress=second) == report
    file.write_bytes(content)
    assert look(music, progress=third).sound
    assert (first.totals, second.totals, third.totals) == ([4], [0], [1])


@pytest.mark.usefixtures("in_process")
def test_a_cache_that_cannot_be_written_is_noted_once_and_the_check_goes_on(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirembed.datasets.check.WRITE_SECONDS", -1.0)  # write it after each file
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / "cache.parquet"
    progress = Notes()
    assert look(music, cache=cache, progress=progress) == CheckResult(4, ())
    [note] = progress.said
    assert str(cache) in note


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("damage", ["cut", "garbage", "other table", "other version"])
def test_a_damaged_cache_is_replaced(music: Path, tmp_path: Path, damage: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    expected = look(music)
    cache = tmp_path / "cache.parquet"
    content = cache.read_bytes()
    if damage == "cut":
        cache.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        cache.write_bytes(content[:100] + bytes(400) + content[500:])
    elif damage == "other table":
        pq.write_table(pa.table({"path": ["x"]}), cache)
    else:
        table = pq.read_table(cache)
        pq.write_table(table.replace_schema_metadata({b"mirembed.checks": b"0"}), cache)
    first, second = Counted(), Counted()
    assert look(music, progress=first) == look(music, progress=second) == expected
    assert (first.totals, second.totals) == ([4], [0])


@pytest.mark.usefixtures("in_process")
def test_an_interrupted_check_resumes(tmp_path: Path) -> None:
    for number in range(150):
        write(tmp_path / "clicks" / "one" / f"{number}.wav", np.full(RATE // 20 + number, 0.1))
    with pytest.raises(KeyboardInterrupt):
        look(tmp_path / "clicks", progress=Counted(limit=140))
    rest = Counted()
    assert look(tmp_path / "clicks", progress=rest).sound
    assert rest.totals == [150 - 141]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("seconds", "times"), [(60.0, 1), (-1.0, 5)])
def test_the_measurements_are_written_at_the_end_and_once_a_minute(
    music: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, times: int
) -> None:
    written: list[Path] = []

    def spy(path: Path, table: Any) -> None:
        written.append(path)
        write_table(path, table)

    monkeypatch.setattr("mirembed.datasets.check.write_table", spy)
    monkeypatch.setattr("mirembed.datasets.check.WRITE_SECONDS", seconds)
    for _ in range(2):  # nothing is new the second time
        look(music)
        assert len(written) == times


# Worker processes


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(music: Path, tmp_path: Path) -> None:
    write_mp3(music / "jig/a.mp3", piece(0), RATE, "CONSTANT")
    (music / "reel/d.wav").write_bytes(b"")
    one = look(music, jobs=1, cache=tmp_path / "one.parquet")
    two = look(music, jobs=2, cache=tmp_path / "two.parquet")
    assert one == two
    assert kinds(one) == [("unreadable", ("reel/d.wav",)), ("near duplicate", ("jig/a.mp3", "jig/a.wav"))]


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MP3 whose number of channels changes halfway, which crashes Essentia."""
    folder = tmp_path_factory.mktemp("killer")
    mono = piece(0)
    halves = [write_mp3(folder / f"{x.ndim}.mp3", x, RATE, "CONSTANT", header=False).read_bytes()
              for x in (np.column_stack([mono, mono[::-1]]), mono)]  # fmt: skip
    (folder / "killer.mp3").write_bytes(b"".join(halves))
    script = "import sys, pathlib, mirembed.audio.decoding as d; d.decode(pathlib.Path(sys.argv[1]))"
    code = subprocess.run([sys.executable, "-c", script, folder / "killer.mp3"], check=False).returncode
    if code != -signal.SIGSEGV:
        pytest.skip("this Essentia survives the file")
    return (folder / "killer.mp3").read_bytes()


def test_a_file_that_crashes_its_decoder_is_one_finding(music: Path, killer: bytes) -> None:
    (music / "jig/k.mp3").write_bytes(killer)
    report = look(music, jobs=2)
    assert kinds(report) == [("unreadable", ("jig/k.mp3",))]
    assert "SIGSEGV" in report.findings[0].text
    again = Counted()
    assert look(music, progress=again) == report
    assert again.totals == [0]


# The command


def test_the_command_reports_no_problems_in_a_sound_dataset(mirembed: Command, music: Path) -> None:
    completed = mirembed("datasets", "check", "folder", "--audio", music)
    assert len(completed.stdout.splitlines()) == 1
    assert all(count in completed.stdout for count in ("4 tracks", "0 errors", "0 warnings"))


def test_warnings_are_shown_and_the_exit_code_is_0(mirembed: Command, music: Path) -> None:
    write(music / "loose.wav", piece(9))
    write(music / "jig/a.wav", (20 * piece(0)).clip(-1, 1))
    completed = mirembed("datasets", "check", "folder", "--audio", music)
    assert "│ warning │ clipping   │ jig/a.wav │" in completed.stdout
    assert "│ warning │ unexpected │ loose.wav │ 1 audio file " in completed.stdout
    last = completed.stdout.splitlines()[-1]
    assert all(count in last for count in ("4 tracks", "0 errors", "2 warnings"))


def test_errors_are_in_the_json_and_the_exit_code_is_1(mirembed: Command, music: Path) -> None:
    (music / "jig/a.wav").write_bytes(b"")
    completed = mirembed("datasets", "check", "folder", "--audio", music, "--json", code=1)
    report = json.loads(completed.stdout)
    (finding,) = report.pop("findings")
    assert report == {"dataset": "folder", "audio": str(music), "n_tracks": 4, "sound": False}
    assert "empty file" in finding.pop("text")
    assert finding == {"kind": "unreadable", "level": "error", "tracks": ["jig/a.wav"]}


@pytest.mark.slow
def test_a_second_check_decodes_nothing(mirembed: Command, music: Path) -> None:
    first = mirembed("datasets", "check", "folder", "--audio", music)
    file = music / "jig/a.wav"
    status = file.stat()
    write(file, np.zeros_like(piece(0)))
    touch_back(file, status)
    second = mirembed("datasets", "check", "folder", "--audio", music)
    assert second.stdout == first.stdout
    assert "checking audio" in first.stderr
    assert "checking audio" not in second.stderr


def test_a_real_copy_is_checked(mirembed: Command, real_data: Path) -> None:
    completed = mirembed("datasets", "check", "gtzan", "--audio", real_data / "gtzan_mini", "--json", code=1)
    report = json.loads(completed.stdout)
    assert report["n_tracks"] == 100
    assert [(finding["kind"], finding["text"]) for finding in report["findings"] if finding["level"] == "error"] == [
        ("missing", "900 of 1000 tracks missing")
    ]
