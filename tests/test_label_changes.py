"""Labels that have changed since ``mirembed extract`` are noticed before a network is trained with the old ones."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Command
from small_store import CLASSES, Notes, class_frames, experiment, open_tracks, workers_run, write_store

from mirembed import Regression, Target, Task
from mirembed.datasets.changes import noting_changes
from mirembed.evaluate.experiment import plan_experiment, run_experiment
from mirembed.registry import Registry
from mirembed.store import Store

REGISTRY = Registry.discover()
LABELS = {f"{number:03d}": CLASSES.classes[number % 3] for number in range(18)}
GROUPS = {track: f"artist {int(track) % 6}" for track in LABELS}


def write_labels(
    folder: Path, labels: Mapping[str, object], groups: Mapping[str, str] = GROUPS, column: str = "label"
) -> None:
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = [[f"{track}.wav", label, groups.get(track, "new")] for track, label in labels.items()]
        csv.writer(file).writerows([["path", column, "artist"], *rows])


def extracted(
    folder: Path, task: Task = CLASSES, labels: Mapping[str, object] = LABELS, label: str = "label=label"
) -> Store:
    """Write a folder of files and a table of labels, and the store that they were extracted into."""
    audio = folder / "music"
    audio.mkdir()
    write_labels(folder, LABELS)
    spec = f"folder:group=artist,{label},labels={folder}/labels.csv"
    frames = class_frames([*LABELS.values()])
    store = write_store(folder / "s", task, [*labels.values()], frames, [*GROUPS.values()], dataset=spec)
    [dataset] = store.datasets()
    info = replace(dataset.info(), audio=str(audio))
    dataset.write_info(info)
    dataset.write_tracks([replace(track, id=f"{track.id}.wav") for track in dataset.tracks()], info)
    for track in LABELS:
        (audio / f"{track}.wav").touch()
    return store


def noted(store: Store) -> list[str]:
    """Return the notes about changes."""
    notes = Notes()
    before = open_tracks(store)
    after = noting_changes(REGISTRY, store, before, notes)
    assert after.notes[len(before.notes) :] == tuple(notes.notes)
    return notes.notes


def test_nothing_is_said_where_nothing_has_changed(tmp_path):
    assert noted(extracted(tmp_path)) == []


def test_changed_labels_and_groups_and_new_tracks_are_counted(tmp_path):
    store = extracted(tmp_path)
    (tmp_path / "music" / "new.wav").touch()
    write_labels(tmp_path, LABELS | {"000": "low", "001": "middle", "new": "low"}, GROUPS | {"005": "someone else"})
    [note] = noted(store)
    assert note.startswith("warning: ")
    for fact in ("2 other labels", "1 other group", "1 new track", "mirembed extract --dataset folder:group=artist"):
        assert fact in note


def test_the_range_of_a_target_counts_as_a_label(tmp_path):
    values = {track: float(number) for number, track in enumerate(LABELS)}
    task = Regression((Target("height", 0.0, 9.0),))
    store = extracted(tmp_path, task, {track: (value,) for track, value in values.items()}, "target=height")
    write_labels(tmp_path, values, column="height")
    [note] = noted(store)
    assert "ranges" in note
    assert "other label" not in note


def test_labels_of_tracks_whose_audio_is_gone_are_not_missed(tmp_path):
    store = extracted(tmp_path)
    write_labels(tmp_path, LABELS | {"000": "low"})
    (tmp_path / "music" / "000.wav").unlink()
    assert noted(store) == []
    shutil.rmtree(tmp_path / "music")
    assert noted(store) == []


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("path,label\n")])
def test_labels_that_cannot_be_read_any_more_are_reported(tmp_path, spoil):
    store = extracted(tmp_path)
    spoil(tmp_path / "labels.csv")
    [note] = noted(store)
    assert "labels.csv" in note
    assert "mirembed extract" in note


@pytest.mark.slow
def test_an_evaluation_keeps_the_warning_in_its_run(tmp_path):
    store, notes = extracted(tmp_path), Notes()
    write_labels(tmp_path, LABELS | {"000": "low"})
    with workers_run():
        planned = plan_experiment([experiment("stats", cv=3)], store, REGISTRY, progress=notes)
        _, [result] = run_experiment(planned, store, jobs=1, progress=notes)
    assert [note for note in notes.notes if "1 other label" in note] != []
    assert [note for note in result.run.read_notes() if "1 other label" in note] != []


@pytest.mark.slow
def test_fit_warns_of_changed_labels(mirembed: Command, tones: Path):
    for file in sorted(tones.rglob("*.wav")):
        file.rename(tones / f"{file.parent.name}-{file.name}")
    labels = tones / "labels.csv"
    files = sorted(tones.glob("*.wav"))
    labels.write_text("path,label\n" + "".join(f"{file.name},{file.name.partition('-')[0]}\n" for file in files))
    dataset = "folder:labels=labels.csv"
    mirembed("extract", "--dataset", dataset, "--audio", tones)
    labels.write_text(labels.read_text().replace(f"{files[0].name},high", f"{files[0].name},low"))
    fit = ["fit", "--dataset", dataset, "--network", "mlp", "--epochs", 1, "--jobs", 1, "--json"]
    assert "1 other label" in (done := mirembed(*fit)).stderr
    assert json.loads(done.stdout)["models"]
