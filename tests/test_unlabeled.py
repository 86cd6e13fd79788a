"""Tracks without labels, and datasets without them: listed, stored and embedded, but neither trained nor tested on."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Command, write_tones
from small_store import (
    CLASSES,
    TAGS,
    TARGETS,
    Notes,
    class_frames,
    open_tracks,
    run_here,
    workers_run,
    write_classes,
    write_store,
)

from mirembed import Classification, Listing, Split, Tags, Task, Track, workers
from mirembed.datasets.check import CheckResult, check
from mirembed.datasets.folds_file import own_folds, read_folds_file
from mirembed.errors import DatasetError, StoreError
from mirembed.evaluate.plan import tracks_digest
from mirembed.extract import extract
from mirembed.extract.summary import Summary
from mirembed.features import resolve_features
from mirembed.inventory import verify
from mirembed.listings import check_listing
from mirembed.registry import Registry
from mirembed.store import Store

LABELS: dict[str, tuple[Task, list[Any]]] = {
    "classes": (CLASSES, ["high", None, "low", "middle"]),
    "tags": (TAGS, [frozenset({"low", "high"}), None, frozenset(), frozenset({"middle"})]),
    "targets": (TARGETS, [(1.0, 2.0), None, (3.0, 4.0), (0.1, 5.0)]),
}
"""For each kind of task, labels of which one is missing."""


def listing(labels: Sequence[Any], task: Task | None) -> Listing:
    return Listing(task, [Track(f"{n}.wav", Path(f"{n}.wav"), label) for n, label in enumerate(labels)])


# What a plugin may list


@pytest.mark.parametrize("kind", LABELS)
def test_tracks_of_every_task_may_have_no_label(kind: str) -> None:
    task, labels = LABELS[kind]
    check_listing(listing(labels, task), "test")
    check_listing(listing([None, None], task), "test")
    check_listing(listing([None, None], None), "test")


@pytest.mark.parametrize("label", ["rock", frozenset(), (1.0,)])
def test_a_dataset_without_a_task_has_no_labels(label: Any) -> None:
    with pytest.raises(DatasetError, match=re.escape(f"'1.wav' the label {label!r}, expected None")):
        check_listing(listing([None, label], None), "test")


def test_a_target_that_is_not_a_number_is_not_a_missing_label() -> None:
    with pytest.raises(DatasetError, match="depth is nan, expected a finite number"):
        check_listing(listing([(1.0, float("nan"))], TARGETS), "test")


@pytest.mark.parametrize(("task", "kind"), [(Classification(()), "classes"), (Tags(()), "tags")])
def test_a_task_has_classes_or_tags(task: Task, kind: str) -> None:
    with pytest.raises(DatasetError, match=f"has no {kind}.* None"):
        check_listing(listing([None], task), "test")


# The store


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_unlabeled_tracks_are_null(tmp_path: Path, kind: str) -> None:
    task, labels = LABELS[kind]
    dataset = write_store(tmp_path, task, labels, class_frames(["low"] * 4, 30)).find(None)
    assert [track.label for track in dataset.tracks()] == labels
    names = ["height", "depth"] if kind == "targets" else ["label"]
    table = pq.read_table(dataset.folder / "tracks.parquet", columns=names)
    assert [row == dict.fromkeys(names) for row in table.to_pylist()] == [False, True, False, False]


def test_a_dataset_without_labels_has_no_label_column(tmp_path: Path) -> None:
    dataset = write_store(tmp_path, None, [None, None], class_frames(["low"] * 2, 30)).find(None)
    assert dataset.info().task is None
    assert json.loads((dataset.folder / "dataset.json").read_text())["task"] is None
    assert [track.label for track in dataset.tracks()] == [None, None]
    columns = pq.read_table(dataset.folder / "tracks.parquet").column_names
    assert columns == ["id", "recording", "group", "path", "file_size", "file_mtime_ns", "listed"]


def test_a_table_with_labels_does_not_fit_a_dataset_without(tmp_path: Path) -> None:
    dataset = write_classes(tmp_path, 3).find(None)
    dataset.write_info(replace(dataset.info(), task=None))
    with pytest.raises(StoreError, match="labels"):
        dataset.tracks()


# Training and testing


def some_labeled(root: Path, *, labeled_only: bool = False) -> Store:
    """Write 9 labeled tracks; unless ``labeled_only``, with unlabeled ones before, between and after them."""
    store = write_classes(root, 18)
    dataset = store.find(None)
    tracks = [replace(one, label=None) if n % 2 else one for n, one in enumerate(dataset.tracks())]
    if labeled_only:
        tracks = [track for track in tracks if track.label is not None]
        dataset.write_info(replace(dataset.info(), n_listed=len(tracks)))
    dataset.write_tracks(tracks, dataset.info())
    return store


def test_labeled_tracks_are_opened_as_if_there_were_no_others(tmp_path: Path) -> None:
    """So that a run is resumed, and its folds stay the same, when unlabeled tracks come or go."""
    notes = Notes()
    found = open_tracks(some_labeled(tmp_path / "some"), notes)
    expected = open_tracks(some_labeled(tmp_path / "only", labeled_only=True))
    assert (found.ids, found.labels, found.groups, found.task) == (
        expected.ids,
        expected.labels,
        expected.groups,
        expected.task,
    )
    assert found.digest == expected.digest
    assert tracks_digest(found) == tracks_digest(expected)
    assert found.frames_digests == expected.frames_digests
    np.testing.assert_array_equal(found.frames["logmel"].open(), expected.frames["logmel"].open())
    assert found.lacking == {f"{number:03d}" for number in range(1, 18, 2)}
    assert found.notes == (*notes.notes,)
    assert re.search("9 unlabeled tracks of 18", notes.notes[0])


def test_digests_of_labeled_datasets_are_those_of_earlier_versions(tmp_path: Path) -> None:
    """So that runs from before labels could be missing are compared with later ones."""
    frames = [np.full((4 + n, 40), n, np.float32) for n in range(6)]
    for name, task, labels, digest in (
        ("classes", CLASSES, ["high", "low", "low", "high", "low", "high"], "ff8a15d7b484ab72"),
        ("tags", TAGS, [frozenset({"low"}), frozenset(), frozenset({"low", "high"})] * 2, "e5962ebc1e70e963"),
        ("targets", TARGETS, [(n / 4, 5.0 - n) for n in range(6)], "3e85f4b685bddd54"),
    ):
        tracks = open_tracks(write_store(tmp_path / name, task, labels, frames, ["a", "b", None] * 2))
        assert tracks_digest(tracks) == digest


def test_classes_that_only_tracks_without_features_have_are_left_out(tmp_path: Path) -> None:
    notes = Notes()
    store = write_classes(tmp_path, 9)
    dataset = store.find(None)
    kept = [replace(one, recording=None) if one.label == "middle" else one for one in dataset.tracks()]
    dataset.write_tracks(kept, dataset.info())
    tracks = open_tracks(store, notes)
    assert tracks.task == Classification(("high", "low"))
    assert tracks.label_array.tolist() == [0, 1, 0, 1, 0, 1]
    assert any("6 of the 9 tracks" in note and "3 not extracted" in note for note in notes.notes)


def test_tags_of_unlabeled_tracks_are_unknown_and_those_of_others_may_be_none(tmp_path: Path) -> None:
    labels = [frozenset({"low"}), None, frozenset(), frozenset({"low", "high"})]
    tracks = open_tracks(write_store(tmp_path, TAGS, labels, class_frames(["low"] * 4, 30)))
    assert tracks.ids == ["000", "002", "003"]
    assert tracks.label_array.tolist() == [[0, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("task", "parameters", "words"),
    [
        (None, {}, ["has no labels", "--dataset"]),
        (CLASSES, {}, ["none of the 2 tracks", "--dataset"]),
        (None, {"label": "none"}, ["label=", "mirembed datasets show folder", "--dataset"]),
    ],
)
def test_nothing_is_trained_on_a_dataset_without_labels(
    tmp_path: Path, task: Task | None, parameters: Mapping[str, Any], words: Sequence[str]
) -> None:
    store = write_store(tmp_path, task, [None, None], class_frames(["low"] * 2, 30))
    dataset = store.find(None)
    dataset.write_info(replace(dataset.info(), plugin={"name": "folder", "parameters": parameters}))
    with pytest.raises(StoreError) as error:
        open_tracks(store)
    assert [word for word in words if word not in str(error.value)] == []


def test_folds_of_a_table_may_name_unlabeled_tracks(tmp_path: Path) -> None:
    tracks = open_tracks(some_labeled(tmp_path / "s"))
    table = tmp_path / "mine.csv"
    table.write_text("id,fold\n" + "".join(f"{n:03d},{n // 2 % 3}\n" for n in range(18)))
    folds, notes = own_folds(tracks.task, tracks.label_array, read_folds_file(table), tracks.ids, tracks.lacking)
    assert [fold.test.tolist() for fold in folds] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert re.match("9 of 18 tracks of mine.csv", notes[0])


# Extracting


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Write six short tones in three classes."""
    return write_tones(tmp_path / "audio", n_tracks=2, seconds=0.3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.create()
    return store


def list_files(audio: Path, task: Task | None, label: Mapping[str, Any]) -> Listing:
    """List the files of a folder; ``label`` has the labels of some, by class and number such as ``low-0``."""
    files = sorted(audio.rglob("*.wav"))
    return Listing(task, [Track(file.relative_to(audio).as_posix(), file, label.get(file.stem)) for file in files])


def run(store: Store, audio: Path, found: Listing, **options: Any) -> Summary:
    check_listing(found, "test")
    with workers_run():
        return extract(
            store,
            found,
            spec="folder",
            plugin={},
            audio=audio,
            features=[resolve_features(Registry.discover(), "logmel")],
            jobs=1,
            **options,
        )


def labels_of(store: Store) -> dict[str, Any]:
    return {Path(track.id).stem: track.label for track in store.find(None).tracks() if track.label is not None}


@pytest.mark.slow
def test_a_label_that_appears_or_vanishes_is_a_new_label_and_nothing_is_decoded(store: Store, audio: Path) -> None:
    summary = run(store, audio, list_files(audio, CLASSES, {"low-0": "low", "high-0": "high"}))
    assert (summary.extracted, summary.relabeled) == (6, 0)
    assert labels_of(store) == {"low-0": "low", "high-0": "high"}
    summary = run(store, audio, list_files(audio, CLASSES, {"low-1": "low", "high-0": "high"}))
    assert (summary.extracted, summary.relabeled) == (0, 2)
    assert labels_of(store) == {"low-1": "low", "high-0": "high"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LABELS)
def test_labels_may_come_to_a_dataset_and_go(store: Store, audio: Path, kind: str) -> None:
    task, (label, _, _, other) = LABELS[kind]
    assert run(store, audio, list_files(audio, None, {})).extracted == 6
    summary = run(store, audio, list_files(audio, task, {"low-0": label, "low-1": other}))
    assert (summary.extracted, summary.relabeled) == (0, 2)
    assert labels_of(store) == {"low-0": label, "low-1": other}
    assert store.find(None).info().task == task
    summary = run(store, audio, list_files(audio, None, {}))
    assert (summary.extracted, summary.relabeled) == (0, 2)
    assert labels_of(store) == {}
    assert store.find(None).info().task is None
    assert verify(store) == []


@pytest.mark.slow
def test_unlisted_tracks_keep_their_labels_when_the_others_lose_theirs(store: Store, audio: Path) -> None:
    run(store, audio, list_files(audio, CLASSES, {"low-0": "low", "high-0": "high"}))
    (audio / "low" / "low-0.wav").unlink()
    summary = run(store, audio, list_files(audio, None, {}))
    assert (summary.unlisted, summary.relabeled) == (1, 1)
    assert labels_of(store) == {"low-0": "low"}
    run(store, audio, list_files(audio, None, {}), prune=True)
    assert labels_of(store) == {}
    assert store.find(None).info().task is None


@pytest.mark.slow
@pytest.mark.parametrize("before", [None, CLASSES])
def test_a_process_killed_while_labels_come_or_go_leaves_a_sound_dataset(
    store: Store, audio: Path, monkeypatch: pytest.MonkeyPatch, before: Task | None
) -> None:
    """Whichever of its writes is the last one."""
    listings = {task: list_files(audio, task, {} if task is None else {"low-0": "low"}) for task in (None, CLASSES)}
    after = CLASSES if before is None else None
    for last in range(1, 5):
        run(store, audio, listings[before])
        written = 0

        def kill(path: Path, write: Any = None, last: int = last) -> None:
            nonlocal written
            written += 1
            if written > last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            dataset = type(store.find(None))
            for name in ("write_info", "write_tracks"):
                whole = getattr(dataset, name)
                patch.setattr(dataset, name, lambda self, *args, whole=whole: (kill(self.folder), whole(self, *args)))
            try:
                run(store, audio, listings[after])
            except KeyboardInterrupt:
                assert written == last + 1
        assert labels_of(store) in ({}, {"low-0": "low"})
        assert verify(store) == []
        run(store, audio, listings[after])
        assert store.find(None).info().task == after
        assert labels_of(store) == ({} if after is None else {"low-0": "low"})


# Checking a copy


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Check a listing of an audio folder in this process."""
    monkeypatch.setattr(workers, "run", run_here)

    def look(audio: Path, found: Listing, schemes: Mapping[str, Sequence[Split]] | None = None) -> CheckResult:
        return check(found, audio, card=None, schemes=schemes or {}, cache=tmp_path / "cache.parquet", jobs=1)

    return look


@pytest.mark.slow
def test_unlabeled_tracks_are_a_warning_unless_there_are_no_labels_at_all(look: Any, audio: Path) -> None:
    labels = {"low-0": "low", "middle-0": "middle", "high-0": "high"}
    (finding,) = look(audio, list_files(audio, CLASSES, labels)).findings
    assert (finding.kind, finding.level) == ("no label", "warning")
    assert finding.tracks == ("high/high-1.wav", "low/low-1.wav", "middle/middle-1.wav")
    assert look(audio, list_files(audio, None, {})).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("kind", LABELS)
def test_an_unlabeled_copy_does_not_conflict(look: Any, audio: Path, kind: str) -> None:
    task, (label, _, _, other) = LABELS[kind]
    (audio / "low" / "low-1.wav").write_bytes((audio / "low" / "low-0.wav").read_bytes())
    found = look(audio, list_files(audio, task, {"low-0": label, "high-0": other})).findings
    assert "conflicting labels" not in [one.kind for one in found]
    found = look(audio, list_files(audio, task, {"low-0": label, "low-1": other})).findings
    assert [one.tracks for one in found if one.kind == "conflicting labels"] == [("low/low-0.wav", "low/low-1.wav")]


@pytest.mark.slow
def test_groups_are_checked_among_labeled_tracks(look: Any, audio: Path) -> None:
    """No fold is trained on the unlabeled track that shares the group of the test track."""
    official = {"official": [Split(frozenset({"low/low-0.wav", "high/high-0.wav"}), frozenset({"low/low-1.wav"}))]}
    for labeled, found in ((("low-0", "low-1", "high-0"), True), (("low-1", "high-0"), False)):
        listed = list_files(audio, CLASSES, {name: name[:-2] for name in labeled})
        grouped = [replace(one, group="x" if one.id.startswith("low") else None) for one in listed.tracks]
        findings = look(audio, replace(listed, tracks=grouped), official).findings
        assert ("groups" in [one.kind for one in findings]) == found


# The commands

PLUGIN = """
from mirembed import Classification, Listing, Track, hookimpl


class Shelf:
    def __init__(self, label: str = "folder") -> None:
        self.label = label

    def listing(self, audio):
        task = None if self.label == "none" else Classification(("high", "low"))
        labeled = ("high", "low") if self.label == "folder" else ()
        return Listing(task, [
            Track(path.name, path, path.parent.name if path.parent.name in labeled else None)
            for path in sorted(audio.rglob("*.wav"))
        ])


@hookimpl
def mirembed_register_datasets(register):
    register("shelf", Shelf)
"""


@pytest.fixture
def shelf(mirembed: Command, tmp_path: Path) -> Command:
    """The command, with a dataset ``shelf`` of which the files in one of three folders are unlabeled."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "shelf.py").write_text(PLUGIN)
    return lambda *words, **options: mirembed("--plugins-dir", tmp_path / "plugins", *words, **options)


@pytest.mark.slow
def test_every_command_takes_a_dataset_with_unlabeled_tracks(shelf: Command, tmp_path: Path) -> None:
    audio = write_tones(tmp_path / "tones", n_tracks=4, seconds=1.5)
    shelf("extract", "--dataset", "shelf", "--audio", audio)
    found = shelf("evaluate", "--cv", "2", "--approach", "stats", "--json")
    assert json.loads(found.stdout)["n_tracks"] == 8
    assert "4 unlabeled tracks of 12" in found.stderr
    report = tmp_path / "work" / json.loads(shelf("report", json.loads(found.stdout)["run"], "--json").stdout)["page"]
    (row,) = csv.DictReader((report.parent / "tables" / "datasets.csv").read_text().splitlines())
    assert (row["tracks"], float(row["hours"])) == ("8", pytest.approx(8 * 1.5 / 3600, rel=0.01))
    found = shelf("fit", "--network", "mlp", "--epochs", "1", "--json")
    assert "4 unlabeled tracks of 12" in found.stderr
    unlabeled = str(audio / "middle" / "middle-0.wav")
    predicted = json.loads(shelf("predict", "shelf-rbf-sl", unlabeled, "--json").stdout)
    assert predicted["predictions"][0]["label"] in ("high", "low")
    shelf("embed", "shelf-rbf-sl", unlabeled)
    assert "middle-1.wav" in shelf("similar", "shelf-rbf-sl", "middle-0.wav", "--top", "11", "--json").stdout
    checked = json.loads(shelf("datasets", "check", "shelf", "--audio", audio, "--json", code=None).stdout)
    assert ("no label", 4) in [(one["kind"], len(one["tracks"])) for one in checked["findings"]]
    (dataset,) = json.loads(shelf("store", "info", "--json").stdout)["datasets"]
    assert (dataset["state"], dataset["tracks"], dataset["listed"]) == ("complete", 12, 12)
    shelf("store", "verify")
    listed = json.loads(shelf("datasets", "--json").stdout)
    assert [one["stored"] for one in listed if one["name"] == "shelf"] == ["12 of 12"]


@pytest.mark.slow
@pytest.mark.parametrize("label", ["none", "unknown"])
def test_training_on_a_dataset_without_labels_is_refused_with_advice(
    shelf: Command, tmp_path: Path, label: str
) -> None:
    audio, spec = write_tones(tmp_path / "tones", n_tracks=1, seconds=0.3), f"shelf:label={label}"
    shelf("extract", "--dataset", spec, "--audio", audio)
    for command in ("fit", "evaluate"):
        said = shelf(command, code=1).stderr
        assert len(said.splitlines()) == 1
        assert spec in said
        assert "label=" in said
        assert "mirembed datasets show shelf" in said
    shelf("store", "verify")
    assert json.loads(shelf("datasets", "check", spec, "--audio", audio, "--json", code=None).stdout)["n_tracks"] == 3
