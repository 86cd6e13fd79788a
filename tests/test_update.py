"""``mirembed update``: a library changes on disk, and the embeddings follow; nothing is decoded twice or lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import CLASSES, RATE, Command, clean_environment, run_here, tone, wait_until, write_tones
from small_store import LOGMEL, Notes, write_classes, write_frames
from test_interruption import is_stopped

from mirembed.audio.folders import FolderState
from mirembed.extract import file_features
from mirembed.features import compute
from mirembed.interruption import InterruptHandler
from mirembed.inventory import contents, verify
from mirembed.library import update as updating
from mirembed.library.collection import Collection
from mirembed.models import inference
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import EmbeddingRows, Store
from mirembed.store.embeddings import StoredEmbeddings

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``music`` of six tracks, and a store ``s`` with a model ``m`` fitted to them."""
    folder = tmp_path_factory.mktemp("fitted")
    write_tones(folder / "music", 2, 1.0)
    for command in (
        "extract --dataset folder --audio music --store s --jobs 1",
        "fit --store s --similarity rbf --epochs 2 --network mlp --name m --jobs 1",
    ):
        assert run_here(folder, command.split()).returncode == 0
    return folder


class Library:
    """Music, and a store with a model, in a folder of their own."""

    def __init__(self, mirembed: Command, folder: Path) -> None:
        self.music, self.store = folder / "music", Store(folder / "s")
        self._mirembed = mirembed

    def update(self, *flags: object, code: int = 0) -> dict[str, Any]:
        """Update, and return the result; of an error, what it says."""
        done = self._mirembed("update", "m", "--store", self.store.root, "--jobs", 1, "--json", *flags, code=code)
        return json.loads(done.stdout.splitlines()[-1]) if code != 1 else {"error": done.stderr}

    def open(self, **options: Any) -> Collection:
        return Collection.open(self.store, REGISTRY, "m", **options)

    @property
    def vectors(self) -> dict[str, np.ndarray]:
        found = self.open()
        return dict(zip(found.ids, found.vectors, strict=True))

    @property
    def notes(self) -> list[str]:
        notes = Notes()
        self.open(progress=notes)
        return notes.notes

    def add(self, name: str, seed: int = 77, seconds: float = 1.0) -> Path:
        path = self.music / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(500, seconds, seed=seed), RATE)
        return path


@pytest.fixture
def library(mirembed: Command, fitted: Path) -> Library:
    for name in ("music", "s"):
        shutil.copytree(fitted / name, mirembed.folder / name)
    found = Library(mirembed, mirembed.folder)
    assert found.update("--audio", found.music)["embedded"] == 0
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded."""
    paths: list[Path] = []
    read = compute.read_recording

    def reading(path: Path, *arguments: Any, **options: Any) -> Any:
        paths.append(path)
        return read(path, *arguments, **options)

    monkeypatch.setattr(compute, "read_recording", reading)
    return paths


def n_recordings(store: Store) -> int:
    return len(store.features(LOGMEL.parts[0]).columns())


# What changes in a library


def test_a_new_file_is_embedded_as_embed_does_and_its_frames_are_not_kept(library, mirembed):
    path = library.add("low/new.wav", seconds=1.5)
    expected = json.loads(mirembed("embed", "m", path, "--store", library.store.root, "--json").stdout)
    before = n_recordings(library.store)
    done = library.update()
    assert (done["listed"], done["embedded"], done["known"], done["with_embeddings"]) == (7, 1, 6, 7)
    assert done["audio_seconds"] == pytest.approx(1.5)
    assert done["hours"] * 3600 == pytest.approx(6 * 1.0 + 1.5)
    np.testing.assert_allclose(library.vectors["low/new.wav"], expected["embeddings"][str(path)], atol=1e-6)
    assert n_recordings(library.store) == before


def test_the_frames_are_kept_on_request(library):
    library.add("low/new.wav")
    before = n_recordings(library.store)
    assert library.update("--keep", "features")["embedded"] == 1
    assert n_recordings(library.store) == before + 1
    assert "--keep frames" in library.update("--keep", "frames", code=1)["error"]


def test_duration_and_hash_of_the_samples_are_stored(library):
    path = library.add("low/new.wav", seconds=1.25)
    samples, rate = soundfile.read(path)
    soundfile.write(library.music / "low" / "same.flac", samples, rate)
    library.update()
    found = library.open()
    row, same = found.ids.index("low/new.wav"), found.ids.index("low/same.flac")
    assert found.durations[row] == pytest.approx(1.25, abs=1e-4)
    assert found.audio_hashes[row] == found.audio_hashes[same] is not None
    assert found.recordings[row] != found.recordings[same]


def test_a_second_update_decodes_and_writes_nothing(library, decoded):
    library.add("low/new.wav")
    library.update()
    files = {path: path.stat().st_ino for path in (library.store.root / "embeddings").rglob("*.parquet")}
    decoded.clear()
    done = library.update()
    assert (done["embedded"], done["known"], decoded) == (0, 7, [])
    assert {path: path.stat().st_ino for path in (library.store.root / "embeddings").rglob("*.parquet")} == files


def test_a_renamed_file_keeps_its_embedding(library, decoded):
    before = library.vectors["low/low-0.wav"]
    library.add("low/new.wav")
    library.update()
    decoded.clear()
    (library.music / "low" / "low-0.wav").rename(library.music / "high" / "called otherwise.wav")
    (library.music / "low" / "new.wav").rename(library.music / "middle" / "new.wav.wav")
    done = library.update()
    assert (done["moved"], done["embedded"], done["pruned"], decoded) == (2, 0, 0, [])
    np.testing.assert_array_equal(library.vectors["high/called otherwise.wav"], before)
    assert "low/low-0.wav" not in library.vectors


def test_a_library_that_has_moved_is_not_decoded_again(library, decoded):
    (library.music / "low" / "broken.wav").write_bytes(b"")
    library.update(code=2)
    decoded.clear()
    shutil.move(library.music, library.music.with_name("moved"))
    assert "--audio DIR" in library.update(code=1)["error"]
    done = library.update("--audio", library.music.with_name("moved"), code=2)
    assert (done["known"], done["embedded"], decoded) == (6, 0, [])
    assert [one["path"] for one in done["failures"]] == [str(library.music.with_name("moved") / "low" / "broken.wav")]
    assert library.open().path(0).is_relative_to(library.music.with_name("moved"))


def test_copies_of_a_recording_are_decoded_once(library, decoded):
    path = library.add("low/new.wav")
    for name in ("low/copy.wav", "low/another.wav"):
        shutil.copy(path, library.music / name)
    done = library.update()
    assert (done["embedded"], len(decoded)) == (3, 1)
    found = library.vectors
    np.testing.assert_array_equal(found["low/copy.wav"], found["low/new.wav"])
    np.testing.assert_array_equal(found["low/another.wav"], found["low/new.wav"])


def test_a_changed_file_is_embedded_again_and_its_old_embedding_is_removed(library):
    before = library.vectors
    stored = library.store.embeddings("m")
    n_before = len(stored.read(stored.digest()))
    library.add("low/low-0.wav", seed=5, seconds=2.0)
    done = library.update()
    assert (done["embedded"], done["known"], done["pruned"]) == (1, 5, 0)
    assert len(stored.read(stored.digest())) == n_before
    assert not np.allclose(library.vectors["low/low-0.wav"], before["low/low-0.wav"])
    assert library.open().is_unchanged(library.open().ids.index("low/low-0.wav"))


def test_tracks_with_missing_files_are_removed_with_their_embeddings(library):
    for number in range(20):  # more than ten times as many as are deleted
        library.add(f"low/new-{number}.wav", seed=number, seconds=0.3)
    library.update()
    for name in ("low-0.wav", "low-1.wav"):
        (library.music / "low" / name).unlink()
    done = library.update()
    assert (done["pruned"], done["listed"]) == (2, 24)
    stored = library.store.embeddings("m")
    assert len(stored.read(stored.digest())) == 24
    assert not any(name.startswith("low/low") for name in library.vectors)


def test_many_tracks_are_removed_only_on_request(library):
    (library.music / "low" / "low-0.wav").unlink()
    said = library.update(code=1)["error"]
    assert "--yes" in said and "1 of the 6 tracks" in said
    assert len(library.vectors) == 6
    assert library.update("--yes")["pruned"] == 1


def test_embeddings_of_recordings_of_another_dataset_stay(library, mirembed):
    shutil.copytree(library.music, library.music.with_name("others"))
    other = ("--dataset", "folder:labels=labels.csv", "--audio", library.music.with_name("others"))
    names = [f"{name}/{name}-{number}.wav,{name}" for name in CLASSES for number in range(2)]
    (library.music.with_name("others") / "labels.csv").write_text("\n".join(["path,label", *names]))
    assert library.update(*other)["known"] == 6
    shutil.rmtree(library.music / "low")
    library.update("--yes")
    assert len(library.open(dataset=Spec.parse("folder:labels=labels.csv"))) == 6


# A drive that is away


@pytest.mark.parametrize("away", ["gone", "empty", "a file"])
def test_nothing_is_removed_while_the_audio_folder_is_missing(library, away):
    shutil.move(library.music, library.music.with_name("elsewhere"))
    if away == "empty":
        library.music.mkdir()
    elif away == "a file":
        library.music.touch()
    assert str(library.music) in library.update("--yes", code=1)["error"]
    assert library.open().staleness.audio_missing == (away != "a file") or away == "a file"
    assert len(library.vectors) == 6


def test_nothing_is_removed_while_a_drive_inside_the_library_is_not_mounted(library):
    dataset = library.store.find(None)
    folders = dataset.folders()
    assert folders.keys() == {"", *CLASSES}
    assert not any(state.is_mount for state in folders.values())
    dataset.write_folders({**folders, "low": FolderState(folders["low"].mtime_ns, is_mount=True)})
    for path in (library.music / "low").iterdir():
        path.unlink()
    said = library.update("--yes", code=1)["error"]
    assert str(library.music / "low") in said
    assert len(library.vectors) == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_nothing_is_removed_from_a_folder_that_cannot_be_read(library):
    (library.music / "low").chmod(0)
    try:
        assert str(library.music / "low") in library.update("--yes", code=1)["error"]
    finally:
        (library.music / "low").chmod(0o755)
    assert len(library.vectors) == 6


def test_an_update_makes_the_index_of_the_library(library):
    [index] = (library.store.root / "cache").glob("library-*")
    for name in ("low/new.wav", "low/newer.wav"):
        library.add(name)
        library.update()
        made = index.read_bytes()
        assert name in library.vectors
        assert index.read_bytes() == made


def test_fit_makes_the_index_of_a_library(library, mirembed):
    store = library.store.root
    dataset = "library:label=folder,min_tracks=1"
    mirembed("extract", "--dataset", dataset, "--audio", library.music, "--store", store, "--jobs", 1)
    flags = ("--approach", "nn", "--epochs", 1, "--engine", "torch", "--name", "n", "--jobs", 1, "--store", store)
    mirembed("fit", "--dataset", dataset, *flags)
    [index] = (store / "cache").glob("library-library*")
    made = index.read_bytes()
    assert len(Collection.open(library.store, REGISTRY, "n")) == 6
    assert index.read_bytes() == made


# Files that fail


def test_a_broken_file_fails_once_until_it_changes(library, decoded):
    broken = library.music / "low" / "broken.wav"
    broken.write_bytes(b"RIFF" + bytes(1000))
    shutil.copy(broken, library.music / "low" / "copy of it.wav")
    done = library.update(code=2)
    assert {failure["id"] for failure in done["failures"]} == {"low/broken.wav", "low/copy of it.wav"}
    assert {failure.id for failure in library.store.find(None).failures()} == {"low/broken.wav", "low/copy of it.wav"}
    assert len(decoded) == 1
    done = library.update(code=2)
    assert (len(done["failures"]), done["failed_before"], done["new_failures"], len(decoded)) == (2, 2, [], 1)
    assert library.notes == []
    library.update("--accept-failures")
    library.update("--retry-failed", "--keep", "features")
    library.update("--no-accept-failures", code=2)
    assert len(decoded) == 3
    del decoded[1:]
    library.update("--retry-failed", code=2)
    assert len(decoded) == 2
    library.add("low/broken.wav")
    (library.music / "low" / "copy of it.wav").unlink()
    done = library.update("--yes")
    assert (done["failures"], done["embedded"]) == ([], 1)
    assert library.store.find(None).failures() == []


def test_the_old_embedding_of_a_changed_file_that_fails_does_not_count(library):
    path = library.music / "low" / "low-0.wav"
    sound, before = path.read_bytes(), library.vectors
    path.write_bytes(sound[: len(sound) // 2])
    done = library.update(code=2)
    assert (done["dropped"], done["with_embeddings"], len(done["failures"])) == (1, 5, 1)
    assert library.vectors.keys() == before.keys() - {"low/low-0.wav"}
    assert library.notes == []
    assert library.update(code=2)["dropped"] == 0
    path.write_bytes(sound)
    assert library.update()["with_embeddings"] == 6
    np.testing.assert_array_equal(library.vectors["low/low-0.wav"], before["low/low-0.wav"])


def test_an_update_also_drops_what_an_extraction_kept_of_a_changed_file_that_fails(library, mirembed):
    (library.music / "low" / "low-0.wav").write_bytes(b"RIFF" + bytes(1000))
    mirembed("extract", "--dataset", "folder", "--store", library.store.root, "--jobs", 1, code=2)
    assert (library.update(code=2)["dropped"], len(library.vectors)) == (1, 5)


def test_extract_does_not_retry_a_file_that_failed_in_an_update(library, decoded, mirembed):
    (library.music / "low" / "broken.wav").write_bytes(b"RIFF" + bytes(1000))
    library.update(code=2)
    decoded.clear()
    mirembed("extract", "--dataset", "folder", "--store", library.store.root, "--jobs", 1, code=2)
    assert decoded == []


def test_a_file_that_changes_while_it_is_read_is_read_again(library, monkeypatch, mirembed):
    path, contents_left = library.add("low/new.wav", seed=1), [3, 2]
    decode = file_features.compute

    def writing_meanwhile(*arguments: Any) -> Any:
        found = decode(*arguments)
        if contents_left:
            library.add("low/new.wav", seed=contents_left.pop(), seconds=2.0)
        return found

    monkeypatch.setattr(file_features, "compute", writing_meanwhile)
    assert library.update()["embedded"] == 1
    assert contents_left == []
    embed = ("embed", library.open().folder, path, "--store", "empty", "--json")
    expected = json.loads(mirembed(*embed).stdout)["embeddings"][str(path)]
    np.testing.assert_allclose(library.vectors["low/new.wav"], expected, atol=1e-6)
    contents_left += [7, 6, 5, 4]
    library.add("low/new.wav", seed=8)
    assert len(library.update(code=2)["failures"]) == 1


# Where embeddings come from


def test_stored_frames_are_not_computed_again(library, decoded, mirembed):
    library.add("low/new.wav")
    mirembed("extract", "--dataset", "folder", "--store", library.store.root, "--jobs", 1)
    decoded.clear()
    assert (library.update()["embedded"], decoded) == (1, [])


def test_a_dataset_that_was_never_extracted_is_embedded(library, tmp_path):
    write_tones(tmp_path / "other", 1, 0.5)
    spec = "folder:labels=labels.csv"
    (tmp_path / "other" / "labels.csv").write_text("path,label\n" + "\n".join(f"{c}/{c}-0.wav,{c}" for c in CLASSES))
    done = library.update("--dataset", spec, "--audio", tmp_path / "other")
    assert (done["listed"], done["embedded"], done["dataset"]) == (3, 3, spec)
    found = library.open(dataset=Spec.parse(spec))
    assert sorted(found.labels) == sorted(CLASSES)
    assert f"--dataset {spec}" in found.staleness.command


def test_embeddings_by_another_network_are_replaced(library):
    stored = library.store.embeddings("m")
    before = library.vectors
    rows = EmbeddingRows(library.open().recordings, np.ones((6, 50), np.float32))
    stored.write("0" * 64, rows)
    with pytest.raises(Exception, match="mirembed update m"):
        library.open()
    assert library.update()["embedded"] == 6
    for track, vector in library.vectors.items():
        np.testing.assert_allclose(vector, before[track], atol=1e-6)
    assert stored.files() == [stored.path]


def test_a_store_without_the_frames_is_intact_and_complete(library):
    library.add("low/new.wav")
    library.update()
    assert verify(library.store) == []
    (dataset,) = contents(library.store).datasets
    assert (dataset.state, dataset.tracks) == ("complete", 7)
    assert dataset.hours * 3600 == pytest.approx(7.0)
    assert [one.recordings for one in contents(library.store).embeddings] == [7]


# What is stale


def test_a_library_that_has_not_changed_is_not_stale(library):
    assert library.notes == []
    assert library.open().staleness.notes() == []


def test_new_changed_and_missing_files_are_counted_without_listing_the_library(library):
    library.add("low/new.wav")
    library.add("a new folder/inside/another.flac")
    (library.music / "middle" / "middle-1.wav").rename(library.music / "middle" / "renamed.wav")
    library.add("high/high-0.wav", seed=8, seconds=2.0)
    library.add("high/zz.wav").unlink()  # so that the name of the changed file is looked at
    found = library.open().staleness
    assert (found.new, found.changed, found.missing, found.without_embeddings) == (3, 1, 1, 0)
    (note,) = library.notes
    assert "`mirembed update m`" in note
    library.update("--yes")
    assert library.notes == []


def test_a_missing_file_is_noticed_at_once(library):
    found = library.open()
    row = found.ids.index("low/low-0.wav")
    assert found.is_present(row) and found.is_unchanged(row)
    found.path(row).write_bytes(b"other")
    assert found.is_present(row) and not found.is_unchanged(row)
    found.path(row).unlink()
    assert not found.is_present(row)


def test_a_file_whose_name_is_not_utf_8_is_found(library):
    path = library.add("low/plain.wav")
    path.rename(os.fsdecode(os.fsencode(library.music) + b"/low/caf\xe9.wav"))
    library.update()
    found = library.open()
    row = found.ids.index("low/caf\\xe9.wav")
    assert found.is_present(row)
    assert os.fsencode(found.path(row)).endswith(b"/low/caf\xe9.wav")


# The end of fit


def test_fit_embeds_unlabeled_tracks_too_and_counts_those_without_frames(mirembed, tmp_path):
    store = write_classes(tmp_path / "s")
    dataset = store.find(None)
    info, tracks = dataset.info(), dataset.tracks()
    rng = np.random.default_rng(0)
    write_frames(store, LOGMEL, {"F" * 32: rng.normal(-60, 3, (120, 40)).astype(np.float32)})
    more = [
        replace(tracks[0], id="unlabeled", label=None, recording="F" * 32),
        replace(tracks[0], id="not extracted", label=None, recording=None, file_size=-1, file_mtime_ns=-1),
    ]
    dataset.write_tracks([*tracks, *more], info)
    done = mirembed("fit", "--store", store.root, "--epochs", 1, "--network", "mlp", "--jobs", 1, "--json")
    (model,) = json.loads(done.stdout)["models"]
    assert model["without_embeddings"] == 1
    found = Collection.open(store, REGISTRY, Path(model["model"]).name)
    assert len(found) == 19
    assert found.labels[found.ids.index("unlabeled")] is None
    assert found.index.without_embeddings == ["not extracted"]
    assert any(f"mirembed update {found.model}" in note for note in found.staleness.notes()[-1:])
    table = store.embeddings(found.model).table(found.provenance["digest"])
    in_sample = dict(zip(table["recording"].to_pylist(), table["in_sample"].to_pylist(), strict=True))
    assert not in_sample.pop("F" * 32)
    assert all(in_sample.values())


# Killed and interrupted


PROGRAM = """
import os, signal, sys
import mirembed.library.update as update
import mirembed.models.inference as inference
update.SHARD_ROWS = inference.HELD_BYTES = 1
from mirembed.store.embeddings import StoredEmbeddings
append, appended = StoredEmbeddings.append, []

def append_and_stop(self, digest, rows):
    append(self, digest, rows)
    appended.append(rows)
    if len(appended) == 3:
        os.kill(os.getpid(), signal.SIGSTOP)

StoredEmbeddings.append = append_and_stop
from mirembed.__main__ import main
sys.argv[0] = "mirembed"
main()
"""


def kill_after_the_third(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "update", "m", "--store", library.store.root, "--jobs", "2", "--json"],
        env={name: value for name, value in clean_environment().items() if not name.startswith("COV")},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: is_stopped(process))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def interrupt_after_the_third(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    append, appended = StoredEmbeddings.append, []

    def append_and_interrupt(self: StoredEmbeddings, digest: str, rows: EmbeddingRows) -> None:
        append(self, digest, rows)
        appended.append(rows)
        if len(appended) == 3:
            signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, InterruptHandler())
    with monkeypatch.context() as patch:
        patch.setattr(updating, "SHARD_ROWS", 1)
        patch.setattr(inference, "HELD_BYTES", 1)
        patch.setattr(StoredEmbeddings, "append", append_and_interrupt)
        said = library.update(code=1)["error"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert "the same command resumes from there" in said


@pytest.mark.parametrize("stop", [kill_after_the_third, interrupt_after_the_third])
def test_a_stopped_update_resumes_where_it_was(library, monkeypatch, stop: Callable[..., None]):
    for number in range(12):
        library.add(f"new/{number}.wav", seed=number, seconds=0.5)
    stored = library.store.embeddings("m")
    stop(library, monkeypatch)
    n_done = len(stored.read(stored.digest())) - 6
    assert 3 <= n_done < 12
    assert verify(library.store) == []
    done = library.update()
    assert (done["embedded"], done["with_embeddings"]) == (12 - n_done, 18)
    assert stored.files() == [stored.path]
    interrupted = library.vectors
    stored.path.unlink()
    library.update()
    for track, vector in library.vectors.items():
        np.testing.assert_allclose(interrupted[track], vector, atol=1e-6)
