"""``mirembed tag``: predictions into file tags, only where wanted, whole or not at all, and back."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from audio_files import mp4_bytes
from conftest import CLASSES, RATE, clean_environment, tone, wait_until
from kept_library import lent, make_model
from mutagen.flac import FLAC
from mutagen.id3 import ID3

from mirembed import read_file_tags
from mirembed.audio.decoding import decode
from mirembed.audio.files import file_hash, file_stamp
from mirembed.audio.tag_fields import TagFields
from mirembed.cli.tag import _new_undo_file
from mirembed.errors import StoreWriteError
from mirembed.library.undo import Undo, difference, read_undo, restore, undo_log
from mirembed.store import Store

pytestmark = pytest.mark.slow

FORMATS = ("wav", "flac", "mp3", "ogg", "opus", "aiff")
LOWEST = ("--min-score", "0")


def write_library(root: Path, seconds: float = 1.0) -> Path:
    """Write a tone of each class in each of six formats, and one more as M4A."""
    for position, (name, frequency) in enumerate(CLASSES.items()):
        (root / name).mkdir(parents=True)
        for number, kind in enumerate(FORMATS):
            samples = tone(frequency, seconds, seed=100 * position + number)
            rate = 48_000 if kind == "opus" else RATE
            soundfile.write(
                root / name / f"{number}.{kind}",
                samples,
                rate,
                format="OGG" if kind == "opus" else None,
                subtype="OPUS" if kind == "opus" else None,
            )
    soundfile.write(root / "plain.mp3", tone(220, 2 * seconds, 5), 44_100, bitrate_mode="CONSTANT")
    (root / "low" / "6.m4a").write_bytes(mp4_bytes((root / "plain.mp3").read_bytes(), 44_100))
    (root / "plain.mp3").unlink()
    return root


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """A library in every format, ``audio``, and a store with a model of its folders, ``m``."""
    root = tmp_path_factory.mktemp("library")
    write_library(root / "audio")
    return make_model(root, epochs=3)


@pytest.fixture
def audio(library, mirembed) -> Iterator[Path]:
    """The audio of the library. The store is ``s`` in the folder of the command."""
    yield from lent(library, mirembed.folder)


@pytest.fixture
def tag(mirembed):
    """The command on the model ``m``, and its JSON."""

    def run(*arguments: object, code: int = 0) -> dict:
        return json.loads(mirembed("tag", "m", *arguments, "--store", "s", "--json", code=code).stdout)

    return run


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in files_of(folder)}


def genres(folder: Path) -> dict[Path, tuple[str, ...]]:
    return {path: read_file_tags(path).genres for path in files_of(folder)}


def extracts_nothing(mirembed, audio: Path) -> bool:
    """Whether the store knows every file as it is now."""
    done = mirembed("extract", "--dataset", "folder", "--audio", audio, "--store", "s", "--json").stdout
    return json.loads(done.splitlines()[-1])["extracted"] == 0


def test_without_write_nothing_changes(mirembed, audio, tag):
    before = content(audio)
    found = tag(*LOWEST)
    assert len(found["changes"]) == len(before) == 19
    assert all(change["old"] == [] and change["new"][0] in CLASSES for change in found["changes"])
    assert all(0 <= change["probability"][0] <= 1 for change in found["changes"])
    assert (found["written"], found["undo_file"], found["fields"]) == (None, None, ["genre"])
    assert content(audio) == before
    assert list(mirembed.folder.glob("*.jsonl")) == []
    assert "--write" in mirembed("tag", "m", *LOWEST, "--store", "s").stdout


def test_write_puts_what_is_predicted_into_every_format_and_the_sound_stays(audio, tag):
    sound = {path: decode(path).audio_hash for path in files_of(audio)}
    planned = tag(*LOWEST)["changes"]
    found = tag(*LOWEST, "--write")
    assert (found["written"], found["changes"]) == (19, planned)
    assert genres(audio) == {Path(change["path"]): tuple(change["new"]) for change in planned}
    assert {path: decode(path).audio_hash for path in files_of(audio)} == sound
    assert tag(*LOWEST)["kept"] == 19


def test_the_store_is_updated_and_nothing_is_decoded_again(mirembed, audio, tag):
    store = Store(mirembed.folder / "s")
    before = {track.id: track for track in store.datasets()[0].tracks()}
    vectors = store.embeddings("m").read(store.embeddings("m").digest())
    tag(*LOWEST, "--write")
    after = {track.id: track for track in store.datasets()[0].tracks()}
    moved = store.embeddings("m").read(store.embeddings("m").digest())
    assert after.keys() == before.keys()
    for name, track in after.items():
        path = audio / name
        assert track.recording == file_hash(path) != before[name].recording
        assert (track.file_size, track.file_mtime_ns) == file_stamp(path)
        np.testing.assert_array_equal(moved[track.recording], vectors[before[name].recording])
    shards = store.all_features()[0]
    frames = dict(shards.frames_of({track.recording for track in after.values()}))
    assert frames.keys() == {track.recording for track in after.values()}
    tags = store.datasets()[0].file_tags()
    assert all(tags["genres"].to_pylist())
    assert "update" not in mirembed("duplicates", "m", "--store", "s").stderr
    updated = json.loads(mirembed("update", "m", "--store", "s", "--json").stdout.splitlines()[-1])
    assert (updated["embedded"], updated["listed"]) == (0, 19)
    assert extracts_nothing(mirembed, audio)
    mirembed("store", "verify", "--store", "s")
    predicted = json.loads(mirembed("predict", "m", audio, "--store", "s", "--json").stdout)["predictions"]
    assert [row["known"] for row in predicted] == [True] * 19


def test_undo_restores_every_byte(mirembed, audio, tag):
    before = content(audio)
    undo = tag(*LOWEST, "--write", "--undo-file", "back.jsonl")["undo_file"]
    assert undo == "back.jsonl"
    assert all(path.read_bytes() != old for path, old in before.items())
    done = json.loads(mirembed("tag", "--undo", undo, "--store", "s", "--json").stdout)
    assert (done["restored"], done["failures"]) == (19, [])
    assert content(audio) == before
    assert extracts_nothing(mirembed, audio)
    again = json.loads(mirembed("tag", "--undo", undo, "--store", "s", "--json").stdout)
    assert (again["restored"], again["failures"]) == (0, [])


def test_undo_restores_the_old_values_if_something_else_has_changed(mirembed, audio, tag):
    path, other = audio / "low" / "1.flac", audio / "low" / "2.mp3"
    TagFields(path).write({"genre": ["Dub"]})
    undo = tag(path, other, *LOWEST, "--write", "--overwrite", "--undo-file", "back.jsonl")["undo_file"]
    file = FLAC(path)
    file["title"] = "Ten"
    file.save()
    TagFields(other).write({"genre": ["Ska"]})
    done = json.loads(mirembed("tag", "--undo", undo, "--store", "s", "--json", code=2).stdout)
    assert done["restored"] == 1
    [failure] = done["failures"]
    assert failure["path"] == str(other)
    assert "Ska" in failure["reason"]
    assert (FLAC(path)["title"], FLAC(path)["genre"]) == (["Ten"], ["Dub"])
    assert ID3(other)["TCON"].text == ["Ska"]


def test_files_that_have_a_value_keep_it(audio, tag):
    path = audio / "middle" / "2.mp3"
    TagFields(path).write({"genre": ["Dub"]})
    before = path.read_bytes()
    found = tag(path, *LOWEST, "--write")
    assert (found["kept"], found["changes"], found["undo_file"]) == (1, [], None)
    assert path.read_bytes() == before


def test_add_and_overwrite_say_what_happens_to_the_old_value(audio, tag):
    path = audio / "middle" / "2.mp3"
    TagFields(path).write({"genre": ["Dub"]})
    [added] = tag(path, *LOWEST, "--add")["changes"]
    [replaced] = tag(path, *LOWEST, "--overwrite")["changes"]
    assert (added["old"], added["new"][0], len(added["new"])) == (["Dub"], "Dub", 2)
    assert (replaced["old"], len(replaced["new"])) == (["Dub"], 1)
    tag(path, *LOWEST, "--add", "--write")
    assert tag(path, *LOWEST, "--add")["equal"] == 1


def test_a_genre_that_only_other_tags_of_the_file_have_counts(audio, tag):
    from mutagen.apev2 import APEv2

    path = audio / "low" / "2.mp3"
    items = APEv2()
    items["Genre"] = "Dub"
    items.save(path)
    assert tag(path, *LOWEST)["kept"] == 1


def test_only_what_is_probable_enough_is_written(mirembed, audio, tag):
    scores = [change["probability"][0] for change in tag(*LOWEST)["changes"]]
    limit = float(np.median(scores))
    found = tag("--min-score", repr(limit))
    assert len(found["changes"]) == sum(score >= limit for score in scores)
    assert found["unsure"] == sum(score < limit for score in scores) > 0
    assert len(tag()["changes"]) == sum(score >= 0.7 for score in scores)
    assert "--min-score 2" in mirembed("tag", "m", "--min-score", "2", "--store", "s", code=1).stderr


def test_the_field_can_be_chosen(audio, tag):
    found = tag(*LOWEST, "--field", "mood", "--write")
    assert found["fields"] == ["mood"]
    assert {read_file_tags(path).moods[0] for path in files_of(audio)} <= CLASSES.keys()
    assert not any(genres(audio).values())
    tag(*LOWEST, "--field", "My guess", "--write")
    assert all(TagFields(path).get("MY_GUESS") for path in files_of(audio))


@pytest.mark.parametrize(
    ("flags", "named"),
    [(["--field", "artist"], "artist"), (["--add", "--overwrite"], "--overwrite"), (["--undo", "none"], "none")],
)
def test_impossible_requests_are_refused_before_any_work(mirembed, audio, flags, named):
    assert named in mirembed("tag", "m", *flags, "--store", "s", code=1).stderr


def test_a_model_or_an_undo_file_is_needed(mirembed):
    assert "--undo" in mirembed("tag", code=1).stderr


def test_files_that_must_not_be_replaced_fail_with_a_reason_and_are_unchanged(mirembed, audio, tag):
    outside = mirembed.folder / "outside"
    outside.mkdir()
    paths = {name: outside / name for name in ("read-only.wav", "link.wav", "a.au")}
    source = audio / "low" / "0.wav"
    shutil.copy(source, paths["read-only.wav"])
    paths["read-only.wav"].chmod(0o444)
    paths["link.wav"].symlink_to(source)
    soundfile.write(paths["a.au"], soundfile.read(source)[0], RATE)
    before = {name: path.read_bytes() for name, path in paths.items()}
    found = tag(*paths.values(), *LOWEST, "--write", code=2)
    reasons = {Path(failure["path"]).name: failure["reason"] for failure in found["failures"]}
    assert reasons.keys() == paths.keys()
    for name, word in {"read-only.wav": "read-only", "link.wav": str(source), "a.au": "FLAC"}.items():
        assert word in reasons[name]
    assert {name: path.read_bytes() for name, path in paths.items()} == before
    assert paths["link.wav"].is_symlink()
    assert found["undo_file"] is None


def test_other_hard_links_of_a_file_keep_the_old_bytes_and_are_counted(mirembed, audio, tag):
    path, other = audio / "low" / "0.wav", mirembed.folder / "shared.wav"
    os.link(path, other)
    before = path.read_bytes()
    assert tag(path, *LOWEST)["hard_linked"] == 1
    found = tag(path, *LOWEST, "--write")
    assert (found["written"], found["hard_linked"], found["failures"]) == (1, 1, [])
    assert other.read_bytes() == before != path.read_bytes()
    mirembed("tag", "--undo", found["undo_file"], "--store", "s")
    assert path.read_bytes() == before
    assert tag(path, *LOWEST)["hard_linked"] == 0


def test_mode_and_attributes_of_a_file_are_kept(audio, tag):
    path = audio / "low" / os.fsdecode(b"caf\xe9.mp3")
    (audio / "low" / "2.mp3").rename(path)
    path.chmod(0o640)
    with contextlib.suppress(OSError):
        os.setxattr(path, "user.mirembed", b"kept")
    before = sorted((audio / "low").iterdir())
    tag(path, *LOWEST, "--write")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    with contextlib.suppress(OSError):
        assert os.getxattr(path, "user.mirembed") == b"kept"
    assert sorted((audio / "low").iterdir()) == before
    assert read_file_tags(path).genres


def test_a_file_that_has_changed_since_it_was_read_is_left_alone(mirembed, audio, tag):
    path = audio / "high" / "0.wav"
    soundfile.write(path, tone(3000, 1.0, seed=77), RATE)
    found = tag(*LOWEST)
    assert str(path) not in {change["path"] for change in found["changes"]}
    assert "1 file" in mirembed("tag", "m", *LOWEST, "--store", "s").stderr


def test_targets_get_fields_of_their_names(mirembed, tmp_path):
    audio = write_library(tmp_path / "audio")
    names = sorted(str(path.relative_to(audio)) for path in files_of(audio))
    rows = [f"{name},{number / 10},{number % 3}" for number, name in enumerate(names)]
    (audio / "labels.csv").write_text("\n".join(["path,valence,my arousal", *rows]))
    dataset = ("--dataset", "folder:labels=labels.csv,target=valence+my arousal")
    mirembed("extract", *dataset, "--audio", audio, "--store", "s")
    mirembed("fit", *dataset, "--similarity", "rbf", "--epochs", "1", "--name", "m", "--store", "s", "--network", "mlp")
    (audio / "labels.csv").rename(tmp_path / "labels.csv")
    found = json.loads(mirembed("tag", "m", "--write", "--store", "s", "--json").stdout)
    assert found["fields"] == ["VALENCE", "MY_AROUSAL"]
    assert (found["written"], len(found["changes"])) == (19, 38)
    for path in files_of(audio):
        assert all(np.isfinite(float(TagFields(path).get(name)[0])) for name in found["fields"])
    assert "--min-score" in mirembed("tag", "m", "--min-score", "0.5", "--store", "s", code=1).stderr


def test_the_changes_can_be_written_as_a_table(mirembed, audio, tag):
    TagFields(audio / "low" / "0.wav").write({"genre": ["=1+1\x07"]})
    mirembed("tag", "m", audio, *LOWEST, "--overwrite", "--store", "s", "--out", "changes.parquet")
    table = pq.read_table(mirembed.folder / "changes.parquet").to_pylist()
    assert len(table) == 19
    assert table[0].keys() == {"path", "field", "old", "new", "probability"}
    mirembed("tag", "m", audio, *LOWEST, "--overwrite", "--store", "s", "--out", "changes.csv")
    assert ",=1" not in (mirembed.folder / "changes.csv").read_text()
    shown = mirembed("tag", "m", audio / "low" / "0.wav", *LOWEST, "--overwrite", "--store", "s").stdout
    assert "\x07" not in shown


def test_an_existing_undo_file_is_not_replaced(mirembed, audio):
    (mirembed.folder / "back.jsonl").write_text("mine")
    before = content(audio)
    flags = ("--write", "--undo-file", "back.jsonl", "--store", "s")
    assert "back.jsonl" in mirembed("tag", "m", *LOWEST, *flags, code=1).stderr
    assert (mirembed.folder / "back.jsonl").read_text() == "mine"
    assert content(audio) == before


@pytest.mark.parametrize("text", ["", "{}\n", "no json\n", '{"format": "mirembed tag undo 9"}\n', "\xff"])
def test_a_file_that_is_not_an_undo_file_is_refused(mirembed, text):
    (mirembed.folder / "u.jsonl").write_text(text, encoding="latin-1")
    assert "u.jsonl" in mirembed("tag", "--undo", "u.jsonl", "--store", "s", code=1).stderr


@pytest.mark.parametrize(("size", "n_kept"), [(20, None), (500, 2)])
def test_a_full_disk_is_named_and_the_undo_file_restores_what_was_written(tmp_path, size, n_kept):
    path = tmp_path / "undo.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with (
            pytest.raises(StoreWriteError, match=r"undo\.jsonl: File too large; free some space"),
            undo_log(path, "mirembed tag") as log,
        ):
            for number in range(20):
                log.add(Undo(f"/{number}.mp3", "a" * 32, "b" * 32, {"genre": ()}, {"genre": ("Jazz",)}, None))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.exists() == (n_kept is not None)
    if n_kept is not None:
        assert [undo.path for undo in read_undo(path)] == [f"/{number}.mp3" for number in range(n_kept)]


def line_of_undo(file: Path, **changed: object) -> str:
    known = {"before": "0" * 32, "after": file_hash(file), "old": {}, "new": {}, "pieces": None}
    lines = {"format": "mirembed tag undo 1"}, {"path": str(file), **known, **changed}
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.mark.parametrize(
    "changed",
    [
        {"path": 7},
        {"path": "relative.mp3"},
        {"old": ["genre"]},
        {"old": {"genre": [1]}, "new": {"genre": ["Dub"]}},
        {"old": {"genre": ["Ska"]}},
        {"pieces": [[-5, 3]]},
        {"pieces": [[1]]},
        {"pieces": ["no base 64!"]},
        {"pieces": 3},
    ],
)
def test_an_undo_file_that_was_damaged_is_refused_whole(mirembed, tmp_path, changed):
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(440, 0.1, 1), RATE)
    (mirembed.folder / "u.jsonl").write_text(line_of_undo(path, **changed))
    assert "line 2" in mirembed("tag", "--undo", "u.jsonl", "--store", "s", code=1).stderr


def test_an_undo_file_that_somebody_made_up_replaces_no_file_by_what_is_no_audio(mirembed, tmp_path):
    text, audio = tmp_path / "profile", tmp_path / "a.flac"
    text.write_text("mine")
    soundfile.write(audio, tone(440, 0.1, 1), RATE)
    Store(mirembed.folder / "s").create()
    bad = b"somebody else's"
    digest, piece = hashlib.blake2b(bad, digest_size=16).hexdigest(), base64.b64encode(bad).decode()
    for path, code in ((text, 2), (audio, 0)):
        (mirembed.folder / "u.jsonl").write_text(line_of_undo(path, before=digest, pieces=[piece]))
        mirembed("tag", "--undo", "u.jsonl", "--store", "s", "--json", code=code)
    assert text.read_text() == "mine"
    assert decode(audio)


def test_each_tagging_has_an_undo_file_of_its_own_also_within_a_second(mirembed, audio, tag, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    path = audio / "low" / "1.flac"
    names = [tag(path, *LOWEST, "--write", "--field", field)["undo_file"] for field in ("one", "two", "three")]
    assert len({Path(name).name for name in names}) == 3
    assert [len(read_undo(mirembed.folder / name)) for name in names] == [1, 1, 1]


def test_old_bytes_are_assembled_from_the_new_file(tmp_path):
    rng = np.random.default_rng(0)
    old, new, back = tmp_path / "old", tmp_path / "new", tmp_path / "back"
    data = rng.bytes(50_000)
    old.write_bytes(data)
    for changed in (
        data,
        b"inserted" * 1000 + data,
        data[5000:],
        data[:4] + b"12345678" + data[12:] + rng.bytes(300),
        data[:20_000] + rng.bytes(777) + data[25_000:],
    ):
        new.write_bytes(changed)
        pieces = json.loads(json.dumps(difference(old, new)))
        assert restore(new, pieces, back) == file_hash(old)
        assert back.read_bytes() == data
        assert sum(len(piece) for piece in pieces if isinstance(piece, str)) < 20_000
    new.write_bytes(rng.bytes(2_000_000))
    old.write_bytes(rng.bytes(2_000_000))
    assert difference(old, new) is None


def kill_soon(words: list[str], folder: Path, begun: Path, seconds: float) -> None:
    """Run the command in a process of its own, and kill it so many seconds after it has written a file."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mirembed", *words],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: begun.exists() or process.poll() is not None)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_tagging_leaves_every_file_old_or_new_and_can_be_undone(mirembed, tmp_path, audio):
    n_kills = int(os.environ.get("MIREMBED_KILLS", "2"))
    before = content(audio)
    sound = {path: decode(path).audio_hash for path in before}
    rng = np.random.default_rng(4)
    for turn in range(n_kills):
        undo = mirembed.folder / f"back-{turn}.jsonl"
        words = ["tag", "m", *LOWEST, "--write", "--undo-file", undo.name, "--store", "s"]
        kill_soon(words, mirembed.folder, undo, rng.uniform(0, 0.1))
        for path, old in before.items():
            assert path.read_bytes() == old or read_file_tags(path).genres
            assert decode(path).audio_hash == sound[path]
        if undo.exists() and undo.read_text().count("\n") > 0:
            read_undo(undo)
            mirembed("tag", "--undo", undo, "--store", "s")
        assert {path: path.read_bytes() for path in before} == before
        mirembed("extract", "--dataset", "folder", "--audio", audio, "--store", "s")


def test_two_undo_files_of_one_second_have_different_names(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "20261130-000000")
    first = _new_undo_file(tmp_path / "s")
    first.touch()
    assert [first.name, _new_undo_file(tmp_path / "s").name] == [
        "s-undo-20261130-000000.jsonl",
        "s-undo-20261130-000000-2.jsonl",
    ]


def test_a_library_that_is_away_is_an_error_and_not_a_library_without_files_to_tag(mirembed, audio):
    aside = audio.rename(audio.with_name("aside"))
    audio.mkdir()  # the mount point of a drive that is away
    assert "missing or empty" in mirembed("tag", "m", *LOWEST, "--store", "s", code=1).stderr
    audio.rmdir()
    aside.rename(audio)


def test_the_model_of_other_labels_needs_a_field(tmp_path):
    from mirembed.errors import SpecError
    from mirembed.hookspecs import Classification, Regression, Tags, Target
    from mirembed.library.file_tagging import choose_fields

    class Described:
        def __init__(self, task: object, spec: str = "folder") -> None:
            self.task, self.provenance = task, {"dataset": {"spec": spec}}

    classes, tags = Classification(("a", "b")), Tags(("a", "b"))
    assert choose_fields(Described(classes), None) == ["genre"]
    assert choose_fields(Described(tags, "library:label=mood"), None) == ["mood"]
    assert choose_fields(Described(tags, "library"), None) == ["genre"]
    assert choose_fields(Described(classes, "library:label=artist"), "style") == ["STYLE"]
    for label in ("artist", "album", "playlists", "folder"):
        with pytest.raises(SpecError, match="--field"):
            choose_fields(Described(classes, f"library:label={label}"), None)
    targets = Regression((Target("valence"), Target("arousal")))
    with pytest.raises(SpecError, match="--field"):
        choose_fields(Described(targets), "genre")
