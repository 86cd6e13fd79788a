"""``mirembed predict``: probabilities, a threshold, and recordings that the model was fitted to."""

from __future__ import annotations

import csv
import json
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone, write_tones
from hypothesis import given
from hypothesis import strategies as st
from pages import invoke
from small_store import workers_run

from mirembed import Classification, Listing, Regression, Tags, Target, find_audio
from mirembed.audio.tag_fields import TagFields
from mirembed.hookspecs import Task
from mirembed.models.model import Model
from mirembed.models.predictions import Ranking, write_predictions
from mirembed.registry import Registry
from mirembed.store.files import read_json, read_table, write_json
from mirembed_datasets.folder import Folder
from mirembed_datasets.folder_table import MISSING

pytestmark = pytest.mark.slow

CLASSES = {"high", "low", "middle"}


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A store with the models ``classes``, ``nn`` and ``targets`` of tones, and two files that they do not know."""
    folder = tmp_path_factory.mktemp("work")
    write_tones(folder / "tones", n_tracks=6, seconds=1.0)
    paths = sorted(path.relative_to(folder / "tones") for path in (folder / "tones").rglob("*.wav"))
    lines = [f"{path},{number % 5}" for number, path in enumerate(paths)]
    (folder / "labels.csv").write_text("\n".join(["path,height", *lines]) + "\n")
    (folder / "new").mkdir()
    soundfile.write(folder / "new" / "new.wav", tone(220, 1.0, seed=77), RATE, subtype="PCM_16")
    shutil.copyfile(folder / "tones" / "low" / "low-0.wav", folder / "new" / "renamed.wav")
    with workers_run(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ["--epochs", "40", "--network", "mlp"]
        labeled = "folder:labels=labels.csv,target=height"
        for dataset in ("folder", labeled):
            invoke("extract", "--dataset", dataset, "--audio", "tones")
        invoke("fit", "--dataset", "folder", "--name", "classes", *options)
        invoke("fit", "--dataset", "folder", "--name", "nn", "--approach", "nn", *options)
        invoke("fit", "--dataset", labeled, "--name", "targets", *options)
    return folder


Predict = Callable[..., Any]


@pytest.fixture
def predict(work, monkeypatch, capsys) -> Predict:
    """Predict the new files, and return what is printed as JSON or, on failure, the error."""
    monkeypatch.chdir(work)

    def run(model: str, *options: str, code: int = 0, paths: tuple[str, ...] = ("new",)) -> Any:
        capsys.readouterr()
        with workers_run():
            invoke("predict", model, *paths, *options, "--json", code=code)
        printed = capsys.readouterr()
        return json.loads(printed.out) if code == 0 else printed.err

    return run


def test_recordings_that_the_model_was_fitted_to_are_marked_whatever_their_file_is_called(predict):
    for model, column in (("classes", "label"), ("targets", "height")):
        rows = predict(model)["predictions"]
        assert [list(row) for row in rows] == [["path", "known", column]] * 2
        assert [(row["path"], row["known"]) for row in rows] == [("new/new.wav", False), ("new/renamed.wav", True)]


def test_a_store_that_lacks_the_recordings_knows_them_all_the_same(predict, tmp_path, work):
    rows = predict(str(work / "mirembed-store" / "models" / "classes"), "--store", str(tmp_path))["predictions"]
    assert [row["known"] for row in rows] == [False, True]


def test_known_recordings_are_left_out_and_counted(predict, work, capsys):
    found = predict("classes", "--skip-known")
    assert [row["path"] for row in found["predictions"]] == ["new/new.wav"]
    assert found["skipped"] == 1
    found = predict("classes", "--skip-known", paths=("tones",))
    assert (found["predictions"], found["skipped"]) == ([], 18)


def test_the_recordings_that_a_learner_was_fitted_to_are_known_too(predict, work, monkeypatch):
    manifest = work / "mirembed-store" / "models" / "classes" / "model.json"
    before = read_json(manifest)
    try:
        write_json(manifest, {**before, "recordings": [], "learner_recordings": before["recordings"]})
        assert [row["known"] for row in predict("classes")["predictions"]] == [False, True]
        write_json(manifest, {**before, "recordings": [], "audio_hashes": []})
        assert [row["known"] for row in predict("classes")["predictions"]] == [False, False]
    finally:
        write_json(manifest, before)


def test_a_recording_whose_file_got_other_tags_is_known_still(predict, work, tmp_path):
    path = tmp_path / "tagged.wav"
    shutil.copyfile(work / "tones" / "low" / "low-0.wav", path)
    TagFields(path).write({"genre": ["Polka"]})
    for model in ("classes", "targets"):
        assert [row["known"] for row in predict(model, paths=(str(path),))["predictions"]] == [True]
    assert predict("classes", "--skip-known", paths=(str(path),))["predictions"] == []


def test_the_most_probable_classes_come_with_their_probabilities(predict):
    found = predict("classes", "--top", "2")
    assert found["calibrated"] is True
    for row in found["predictions"]:
        assert list(row) == ["path", "known", "label", "probability", "label_2", "probability_2"]
        assert row["probability"] >= row["probability_2"] > 0
        assert row["probability"] + row["probability_2"] < 1
        assert {row["label"], row["label_2"]} < CLASSES
    all_three = predict("classes", "--top", "9")["predictions"]
    for row in all_three:
        assert {row["label"], row["label_2"], row["label_3"]} == CLASSES
        assert row["probability"] + row["probability_2"] + row["probability_3"] == pytest.approx(1)


def test_probabilities_are_those_of_the_model(predict, work):
    model = Model.load(work / "mirembed-store" / "models" / "classes", Registry.discover())
    rows = predict("classes", "--top", "1", paths=("tones",))["predictions"]
    table = read_table(work / "mirembed-store" / "embeddings" / "classes" / "embeddings.parquet").to_pylist()
    expected = model.probabilities(np.array([row["vector"] for row in table], np.float32))
    found = sorted(row["probability"] for row in rows)
    np.testing.assert_allclose(found, np.sort(expected.max(axis=1)), rtol=1e-12)


def test_below_the_least_probability_it_is_none_of_these(predict, work, capsys, monkeypatch):
    rows = predict("classes", "--min-score", "0")["predictions"]
    least = min(row["probability"] for row in rows)
    found = predict("classes", "--min-score", f"{least + 1e-6:.9f}", "--top", "2")["predictions"]
    missing = [row for row in found if row["label"] is None]
    assert len(missing) == 1
    assert missing[0]["probability"] is missing[0]["label_2"] is missing[0]["probability_2"] is None
    with workers_run():
        invoke("predict", "classes", "new", "--min-score", "1")
    assert capsys.readouterr().out.count("none of these") == 2


def test_the_columns_are_the_same_in_table_csv_parquet_and_json(predict, work, capsys):
    options = ["--top", "2", "--min-score", "0.999999"]
    rows = predict("classes", *options)["predictions"]
    with workers_run():
        invoke("predict", "classes", "new", *options, "--out", "rows.csv", "--force")
        invoke("predict", "classes", "new", *options, "--out", "rows.parquet", "--force")
        capsys.readouterr()
        invoke("predict", "classes", "new", *options)
    heading = next(line for line in capsys.readouterr().out.splitlines() if "path" in line)
    assert heading.replace("┃", " ").split() == list(rows[0])
    with Path("rows.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [list(row) for row in found] == [list(row) for row in rows]
    assert found[0]["label"] == ""
    assert read_table(Path("rows.parquet")).to_pylist() == rows


def test_nothing_to_predict_gives_a_table_without_rows(predict, work):
    with workers_run():
        invoke("predict", "classes", "tones", "--skip-known", "--out", "none.csv")
    assert Path("none.csv").read_text().splitlines() == ["path,known,label"]


def test_the_probabilities_of_nn_are_said_not_to_be_calibrated(predict, work, capsys):
    found = predict("nn", "--top", "1")
    assert found["calibrated"] is False
    with workers_run():
        invoke("predict", "nn", "new", "--top", "1")
    assert "not calibrated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "options", "fact"),
    [
        ("targets", ["--top", "2"], "targets"),
        ("targets", ["--min-score", "0.5"], "targets"),
        ("classes", ["--min-score", "1.5"], "--min-score 1.5"),
        ("classes", ["--min-score", "-0.1"], "--min-score -0.1"),
    ],
)
def test_probabilities_that_do_not_exist_are_an_error_before_anything_is_decoded(
    predict, monkeypatch, model, options, fact
):
    monkeypatch.setattr("mirembed.models.inference.embedding_files", lambda *_: pytest.fail("files are embedded"))
    assert fact in predict(model, *options, code=1)


def test_a_model_without_probabilities_says_so(predict, work):
    folder = work / "mirembed-store" / "models" / "classes"
    model = Model.load(folder, Registry.discover())
    model.calibration = None
    model.save(work / "uncalibrated")
    assert "probabilities" in predict(str(work / "uncalibrated"), "--top", "1", code=1)


def test_tags_are_named_by_falling_probability():
    task = Tags(("calm", "drums", "piano"))
    probabilities = np.array([[0.2, 0.9, 0.6], [0.1, 0.2, 0.3]])
    assert Ranking(3, 0.5).rows(task, probabilities) == [
        {"label": ["drums", "piano"], "probability": [0.9, 0.6]},
        {"label": [], "probability": []},
    ]
    assert [row["label"] for row in Ranking(1, 0.0).rows(task, probabilities)] == [["drums"], ["piano"]]


# Tables for spreadsheets, and back


def test_predictions_are_corrected_and_read_as_labels(predict, work):
    with workers_run():
        invoke("predict", "classes", "tones", "--top", "2", "--out", "rows.csv", "--bom", "--force")
    text = Path("rows.csv").read_text(encoding="utf-8-sig")
    assert Path("rows.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    corrected, n_corrected = re.subn(r"(low-0\.wav,True),\w+", r"\1,Café", text)
    assert n_corrected == 1
    Path("rows.csv").write_text(corrected, encoding="utf-8")
    listing = Folder(labels=Path("rows.csv")).listing(work / "tones")
    assert {track.id: track.label for track in listing.tracks} == {
        f"{name}/{name}-{number}.wav": "Café" if (name, number) == ("low", 0) else name
        for name in ("high", "low", "middle")
        for number in range(6)
    }


def test_predicted_targets_are_read_as_labels_to_the_last_digit(predict, work):
    rows = predict("targets", "--out", "heights.csv", paths=("tones",))["predictions"]
    listing = Folder(labels=Path("heights.csv"), target="height").listing(work / "tones")
    assert [track.label for track in listing.tracks] == [(row["height"],) for row in rows]


NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1).filter(
    lambda name: name.casefold() not in MISSING.casefold().split("+") and unicodedata.is_normalized("NFC", name)
)


@given(labels=st.lists(NAMES, min_size=1), bom=st.booleans())
def test_predicted_classes_of_any_name_are_read_back(tmp_path_factory, labels, bom):
    task = Classification(tuple(sorted(set(labels))))
    read = read_back(tmp_path_factory, task, [{"label": name} for name in labels], bom)
    assert [track.label for track in read("label").tracks] == labels


@given(labels=st.lists(st.lists(NAMES, unique=True), min_size=1).filter(any), bom=st.booleans())
def test_predicted_tags_of_any_name_are_read_back(tmp_path_factory, labels, bom):
    tags = Tags(tuple(sorted({name for names in labels for name in names})))
    read = read_back(tmp_path_factory, tags, [{"label": names} for names in labels], bom)
    assert [track.label for track in read("tags").tracks] == [frozenset(names) for names in labels]


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), bom=st.booleans())
def test_predicted_targets_of_any_size_are_read_back(tmp_path_factory, values, bom):
    read = read_back(tmp_path_factory, Regression((Target("v"),)), [{"v": value} for value in values], bom)
    assert [track.label for track in read("target").tracks] == [(value,) for value in values]


def read_back(folders, task: Task, rows: list[dict[str, Any]], bom: bool) -> Callable[[str], Listing]:
    """Write predictions for hostile paths, and return a function that reads them as labels of classes, tags ..."""
    audio = folders.mktemp("audio")
    for number, row in enumerate(rows):
        path = audio / f"={number:03}, 'a\n\"b.wav"
        path.touch()
        row["path"] = path.name
    columns = ["path", *(name for name in rows[0] if name != "path")]
    write_predictions(audio / "p.csv", [{name: row[name] for name in columns} for row in rows], task, columns, bom=bom)
    return lambda parameter: Folder(labels=audio / "p.csv", **{parameter: columns[1]}).listing(audio)


@pytest.mark.parametrize("command", ["predict", "embed"])
class TestOutput:
    """``--out`` is checked before anything is loaded or decoded."""

    @pytest.fixture(autouse=True)
    def nothing_is_loaded(self, work, monkeypatch):
        monkeypatch.chdir(work)
        monkeypatch.setattr("mirembed.models.model.Model.load", lambda *_: pytest.fail("a model is loaded"))

    def test_a_file_is_replaced_only_with_force(self, command, work, tmp_path, monkeypatch, capsys):
        (tmp_path / "t.csv").write_text("mine")
        arguments = [command, "classes", "new", "--out", str(tmp_path / "t.csv")]
        invoke(*arguments, code=1)
        assert "--force" in capsys.readouterr().err
        assert (tmp_path / "t.csv").read_text() == "mine"
        monkeypatch.undo()
        monkeypatch.chdir(work)
        with workers_run():
            invoke(*arguments, "--force")
        assert (tmp_path / "t.csv").read_text().startswith("path,")

    @pytest.mark.parametrize("name", ["nowhere/t.csv", "folder.csv", "file/t.csv", f"{'n' * 300}.csv", "dangling.csv"])
    def test_a_file_that_cannot_be_written_is_an_error_that_names_it(self, command, name, tmp_path, capsys):
        (tmp_path / "folder.csv").mkdir()
        (tmp_path / "file").touch()
        (tmp_path / "dangling.csv").symlink_to(tmp_path / "elsewhere.csv")
        invoke(command, "classes", "new", "--out", str(tmp_path / name), code=1)
        assert str(tmp_path / name) in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling.csv", "file", "folder.csv"]

    @pytest.mark.parametrize("options", [["--bom"], ["--bom", "--out", "t.parquet"]])
    def test_only_a_csv_file_begins_with_a_byte_order_mark(self, command, options, capsys):
        invoke(command, "classes", "new", *options, code=1)
        assert "--bom" in capsys.readouterr().err


def test_notes_on_skipped_files_are_those_of_extract(work, monkeypatch, capsys, tmp_path):
    music = tmp_path / "music"
    shutil.copytree(work / "new", music)
    (music / "itself.wav").symlink_to("itself.wav")
    (music / "cover.jpg").touch()
    (music / "._new.wav").touch()
    monkeypatch.chdir(work)
    notes = {}
    for command in (["predict", "classes", str(music)], ["embed", "classes", str(music)]):
        capsys.readouterr()
        with workers_run():
            invoke(*command)
        notes[command[0]] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped")]
    assert notes["predict"] == notes["embed"]
    assert [note.replace(f"{music}/", "") for note in notes["embed"]] == list(find_audio(music).notes)
    assert len(notes["embed"]) == 3
