"""The commands from beginning to end, in every form of output."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, write_tones
from small_store import workers_run

from mirembed.cli.main import main
from mirembed.store.files import read_json, read_table


@dataclass(frozen=True)
class Result:
    """What a command printed."""

    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)

    @property
    def cells(self) -> list[list[str]]:
        """The rows of the table, without its head."""
        return [[cell.strip() for cell in line.split("│")[1:-1]] for line in self.out.splitlines() if "│" in line]


def run(*arguments: object, code: int = 0) -> Result:
    """Run a command in this process: to import everything anew takes longer than what it does with small music."""
    out, err = io.StringIO(), io.StringIO()
    with (
        workers_run(),
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        patch.setattr(sys, "argv", ["mirembed", *map(str, arguments)])
        main()
    assert end.value.code == code, err.getvalue()
    return Result(out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    """A folder of 18 tones in three classes, with a table of targets."""
    folder = write_tones(tmp_path_factory.mktemp("audio"))
    octaves = {name: np.log2(pitch / 220) for name, pitch in CLASSES.items()}
    rows = [(name, number) for name in CLASSES for number in range(6)]
    lines = [f"{name}/{name}-{number}.wav,{octaves[name] - 0.01 * number},{number % 4}" for name, number in rows]
    (folder / "targets.csv").write_text("\n".join(["path,pitch,number", *lines]))
    return folder


@pytest.fixture(scope="module")
def store(audio, tmp_path_factory) -> Path:
    """A store with the tones and a model of each approach."""
    root = tmp_path_factory.mktemp("store")
    run("extract", "--store", root, "--dataset", "folder", "--audio", audio)
    run("fit", "--store", root, "--epochs", 15, "--approach", "rbf-sl", "--approach", "nn", "--approach", "fl")
    return root


@pytest.fixture(scope="module")
def target_store(audio, tmp_path_factory) -> Path:
    """A store with the tones, their targets and a model."""
    root = tmp_path_factory.mktemp("targets")
    dataset = "folder:labels=targets.csv,target=pitch+number"
    run("extract", "--store", root, "--dataset", dataset, "--audio", audio)
    run("fit", "--store", root, "--epochs", 15, "--name", "tones")
    return root


@pytest.fixture
def broken(tmp_path) -> Path:
    """A folder with one tone and one file that is no audio."""
    folder = write_tones(tmp_path / "broken", n_tracks=1)
    (folder / "low" / "broken.wav").write_bytes(b"no audio")
    return folder


def stored_embeddings(store: Path, model: str) -> dict[str, np.ndarray]:
    table = read_table(next(store.glob(f"datasets/*/embeddings/{model}.parquet")))
    return {row["id"]: np.array(row["embedding"], np.float32) for row in table.to_pylist()}


def test_extract_says_what_it_did(audio, tmp_path):
    first = run("extract", "--store", tmp_path, "--dataset", "folder", "--audio", audio)
    assert first.out.splitlines()[0] == "folder: 18 of 18 tracks in the store, 18 of them new"
    again = run("extract", "--store", tmp_path)
    assert again.out.splitlines()[0] == "folder: 18 of 18 tracks in the store, 0 of them new"
    summary = run("extract", "--store", tmp_path, "--json").json
    assert summary["dataset"] == "folder"
    assert (summary["listed"], summary["extracted"], summary["unchanged"], summary["failures"]) == (18, 0, 18, [])


def test_a_file_that_fails_makes_the_exit_code_2_and_keeps_the_others(broken, tmp_path):
    done = run("extract", "--store", tmp_path / "s", "--dataset", "folder", "--audio", broken, code=2)
    assert "folder: 3 of 4 tracks in the store" in done.out
    assert "broken.wav: " in done.out
    summary = run("extract", "--store", tmp_path / "s", "--json", code=2).json
    assert [failure["id"] for failure in summary["failures"]] == ["low/broken.wav"]


def test_fit_says_where_model_and_embeddings_are(store):
    done = run("fit", "--store", store, "--epochs", 1, "--approach", "nn", "--approach", "fl", "--name", "mine")
    for approach in ("nn", "fl"):
        assert f"{approach}: fitted to 18 tracks, loss " in done.out
        assert f"model       {store / 'models' / f'mine-{approach}'}" in done.out
        assert (store / "models" / f"mine-{approach}" / "model.json").is_file()
        assert str(store / "datasets" / "folder" / "embeddings" / f"mine-{approach}.parquet") in done.out
    listed = run("fit", "--store", store, "--epochs", 1, "--similarity", "cosine", "--json").json
    assert listed["dataset"] == "folder"
    [model] = listed["models"]
    assert model["approach"] == "cosine-sl"
    assert Path(model["model"]) == store / "models" / "folder-cosine-sl"
    assert Path(model["embeddings"]).is_file()
    assert model["loss"] > 0


def test_fit_takes_over_a_network(store, target_store):
    model = store / "models" / "folder-rbf-sl"
    [taken] = run("fit", "--store", target_store, "--network", model, "--json").json["models"]
    assert Path(taken["model"]).name.endswith("-from-folder-rbf-sl")
    assert taken["loss"] is None


@pytest.mark.parametrize(
    "options",
    [
        ["--similarity", "rbf"],
        ["--approach", "nn", "--label-similarity", "cosine"],
        ["--epochs", 400, "--batch", 32],
        ["--seed", 0, "--normalize", "training", "--device", "cpu"],
    ],
)
def test_what_would_change_a_network_that_is_taken_over_is_refused(store, target_store, options):
    model = store / "models" / "folder-rbf-sl"
    refused = run("fit", "--store", target_store, "--network", model, *options, code=1)
    listed = ", ".join(option for option in options if str(option).startswith("--"))
    assert refused.err == f"error: --network takes a network as it was trained; leave {listed} out\n"


def test_evaluate_tells_tones_apart_and_prints_what_it_keeps(store):
    options = ["--store", store, "--cv", 3, "--epochs", 8, "--approach", "rbf-sl", "--approach", "nn"]
    printed = run("evaluate", *options, "--json").json
    assert (printed["dataset"], printed["n_tracks"]) == ("folder", 18)
    assert printed["approaches"] == read_json(Path(printed["run"]) / "scores.json")
    assert list(printed["approaches"]) == ["rbf-sl", "nn"]
    assert (printed["n_used"], printed["n_train"], printed["n_test"], printed["n_folds"]) == (18, 12, 6, 3)
    assert (printed["seeds"], printed["epochs"], printed["chance"]) == ([0], 8, pytest.approx(1 / 3))
    assert printed["notes"] == read_json(Path(printed["run"]) / "notes.json")
    assert printed["notes"][0].startswith("warning: the test part of a fold has only 6 tracks (fewer than 10)")
    for score in printed["approaches"].values():
        assert set(score["accuracy"]) == {"mean", "low", "high"}
        assert score["accuracy"]["mean"] > 0.7

    shown = run("evaluate", *options)
    assert shown.out.splitlines()[0] == "folder: 18 tracks, 3 stratified folds (12 train, 6 test), 8 epochs"
    for row, (approach, score) in zip(shown.cells, printed["approaches"].items(), strict=True):
        accuracy, pooled = score["accuracy"], score["pooled"]["accuracy"]
        accuracy, pooled = (f"{s['mean']:.3f} [{s['low']:.3f}, {s['high']:.3f}]" for s in (accuracy, pooled))
        assert [row[0], row[1], row[3]] == [approach, accuracy, pooled]
    assert "Majority-class accuracy: 0.333" in shown.out
    run_folder = Path(shown.out.split("predictions, folds and curves: ")[1].strip())
    assert (run_folder / "predictions.parquet").is_file()


def test_evaluate_prints_r_for_each_target(target_store):
    done = run("evaluate", "--store", target_store, "--cv", 3, "--epochs", 8, "--seed", 0, "--seed", 1)
    assert "no range is declared for pitch, number" in done.err
    assert "Chance: r = 0" in done.out
    assert [row[0] for row in done.cells] == ["rbf-sl", "pitch", "number"]
    headings = [line for line in done.out.splitlines() if line.startswith("┃")]
    assert [text.strip() for text in headings[0].split("┃")[1:-1]] == ["approach", "r", "r²", "R²", "pooled r"]
    scores = run("evaluate", "--store", target_store, "--cv", 3, "--epochs", 8, "--json").json["approaches"]["rbf-sl"]
    assert scores["r"].keys() == scores["targets"]["pitch"].keys() == {"mean", "low", "high"}
    assert scores["targets"]["pitch"]["mean"] > 0.7


def test_embed_gives_the_embeddings_of_fit_to_the_bit_in_every_form(store, audio, tmp_path):
    stored = stored_embeddings(store, "folder-rbf-sl")
    expected = {str(audio / track): vector for track, vector in stored.items()}
    command = ["embed", "folder-rbf-sl", audio, "--store", store]

    as_json = run(*command, "--json", "--out", tmp_path / "e.parquet").json
    assert as_json["failures"] == []
    assert as_json["embeddings"].keys() == expected.keys()
    rows = read_table(tmp_path / "e.parquet").to_pylist()
    for path, vector in expected.items():
        np.testing.assert_array_equal(np.array(as_json["embeddings"][path], np.float32), vector)
    assert {row["id"] for row in rows} == expected.keys()
    for row in rows:
        np.testing.assert_array_equal(np.array(row["embedding"], np.float32), expected[row["id"]])
        assert (row["model"], row["epoch"], row["in_sample"]) == ("folder-rbf-sl", 15, None)

    assert run(*command, "--out", tmp_path / "e.csv").err.endswith(f"18 rows written to {tmp_path / 'e.csv'}\n")
    with (tmp_path / "e.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    assert head == ["id", *(f"embedding_{unit}" for unit in range(50))]
    assert len(lines) == 18
    for name, *values in lines:
        np.testing.assert_array_equal(np.array(values, np.float32), expected[name])

    table = run(*command).cells
    assert [row[0] for row in table] == list(expected)
    np.testing.assert_allclose(np.array(table[0][1].split(), float), next(iter(expected.values()))[:6], atol=5e-5)


def test_predict_gives_classes_in_every_form(store, audio, tmp_path):
    files = sorted(map(str, audio.rglob("*.wav")))
    for model in ("folder-rbf-sl", "folder-nn", "folder-fl"):
        predictions = run("predict", model, audio, "--store", store, "--json").json["predictions"]
        assert predictions == [{"path": file, "label": Path(file).parent.name} for file in files]
    command = ["predict", "folder-nn", *files[:2], "--store", store]
    assert run(*command).cells == [[file, "high"] for file in files[:2]]
    run(*command, "--out", tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().split() == ["path,label", f"{files[0]},high", f"{files[1]},high"]
    run(*command, "--out", tmp_path / "p.parquet")
    assert read_table(tmp_path / "p.parquet").to_pylist() == [{"path": f, "label": "high"} for f in files[:2]]


def test_predict_gives_targets_in_their_own_units(target_store, audio, tmp_path):
    command = ["predict", "tones", audio / "low", audio / "high", "--store", target_store]
    predictions = run(*command, "--json").json["predictions"]
    assert [list(row) for row in predictions] == 12 * [["path", "pitch", "number"]]
    pitch = np.array([row["pitch"] for row in predictions])
    np.testing.assert_allclose(pitch, np.repeat([0, 4], 6), atol=1)
    assert [row[1] for row in run(*command).cells] == [f"{value:.3f}" for value in pitch]
    run(*command, "--out", tmp_path / "p.parquet")
    assert read_table(tmp_path / "p.parquet")["pitch"].to_pylist() == pitch.tolist()


def test_similar_ranks_the_tracks_of_the_store(store):
    command = ["similar", "folder-rbf-sl", "low/low-1.wav", "--store", store, "--top", 5]
    found = run(*command, "--json").json
    assert (found["query"], found["similarity"], found["failures"]) == ("low/low-1.wav", "rbf", [])
    values = [row["similarity"] for row in found["neighbors"]]
    assert values == sorted(values, reverse=True)
    others = {f"low/low-{number}.wav" for number in (0, 2, 3, 4, 5)}
    assert {row["track"] for row in found["neighbors"]} == others
    vectors = stored_embeddings(store, "folder-rbf-sl")
    for row in found["neighbors"]:
        distance = np.sum((vectors[row["track"]].astype(float) - vectors["low/low-1.wav"]) ** 2)
        assert row["similarity"] == pytest.approx(np.exp(-distance), abs=1e-5)
    expected = [[str(i), row["track"], f"{row['similarity']:.4f}"] for i, row in enumerate(found["neighbors"], 1)]
    assert run(*command).cells == expected


def test_similar_searches_a_folder_for_tracks_like_a_file(store, audio, broken):
    query = audio / "high" / "high-3.wav"
    found = run("similar", "folder-rbf-sl", query, "--in", audio, "--store", store, "--json").json
    assert len(found["neighbors"]) == 10
    assert [row["track"] for row in found["neighbors"] if row["track"] == str(query)] == []
    assert {Path(row["track"]).parent.name for row in found["neighbors"][:5]} == {"high"}
    failed = run("similar", "folder-rbf-sl", query, "--in", broken, "--store", store, code=2)
    assert failed.cells[0][1] == str(broken / "high" / "high-0.wav")
    assert f"failed: {broken / 'low' / 'broken.wav'}: " in failed.err


def test_similar_leaves_out_the_tracks_that_are_the_file_itself_or_copies_of_it(store, audio, tmp_path):
    copy = shutil.copy(audio / "low" / "low-0.wav", tmp_path)
    for query in (audio / "low" / "low-0.wav", copy):
        ranked = run("similar", "folder-rbf-sl", query, "--store", store, "--top", 18, "--json").json["neighbors"]
        assert len(ranked) == 17
        assert "low/low-0.wav" not in {row["track"] for row in ranked}


def test_similar_says_when_no_similarity_was_learned(store):
    found = run("similar", "folder-nn", "low/low-1.wav", "--store", store)
    assert "folder-nn learned no similarity" in found.err
    assert "cosine" in found.err
    assert len(found.cells) == 10


def test_plugins_lists_what_there_is():
    cells = run("plugins").cells
    listed = run("plugins", "--json").json
    assert [row[:2] for row in cells] == [[plugin["kind"], plugin["name"]] for plugin in listed["plugins"]]
    assert listed["broken"] == []
    assert ["similarity", "rbf"] in [row[:2] for row in cells]
    verbose = {row[1]: row[-1] for row in run("plugins", "--verbose").cells}
    assert verbose["polynomial"] == "gamma: float = 1.0, c: float = 0.0, d: int = 2"


@pytest.mark.parametrize("command", ["embed", "predict"])
def test_files_that_fail_make_the_exit_code_2(store, broken, command):
    done = run(command, "folder-nn", broken, "--store", store, "--json", code=2)
    assert len(done.json[{"embed": "embeddings", "predict": "predictions"}[command]]) == 3
    [failure] = done.json["failures"]
    assert failure["path"] == str(broken / "low" / "broken.wav")
    assert f"failed: {failure['path']}: {failure['reason']}" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "--dataset", "folder"], "dataset folder needs its audio folder; give --audio DIR"),
        (["extract", "--dataset", "folder", "--audio", "nowhere"], "--audio nowhere does not exist"),
        (["extract", "--dataset", "fodler", "--audio", "."], "no dataset is called 'fodler'; did you mean folder?"),
        (["fit"], "is empty; run `mirembed extract` first"),
        (["fit", "--dataset", "gtzan"], "run `mirembed extract --dataset gtzan` first"),
        (["evaluate"], "is empty; run `mirembed extract` first"),
        (["embed", "model", "."], "'model' is neither a model's folder nor one of the store's models (none yet)"),
        (["embed", "model", ".", "--out", "x.txt"], "--out x.txt: expected a name that ends in .csv or .parquet"),
        (["predict", "model", "."], "'model' is neither a model's folder"),
        (["similar", "model", "track"], "'model' is neither a model's folder"),
        (["fit", "--epochs", "0"], "'--epochs'"),
        (["fit", "--epochs", "many"], "'--epochs'"),
        (["fit", "--color"], "--color"),
        (["embed"], "Missing argument"),
        (["nonsense"], "nonsense"),
    ],
)
def test_every_error_has_the_exit_code_1_and_says_what_to_do(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    failed = run(*arguments, code=1)
    assert message in failed.err
    assert failed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--similarity", "rfb"], "no similarity is called 'rfb'; did you mean rbf?"),
        (["--similarity", "rbf:gama=1"], "rbf has no parameter 'gama'; its parameters: gamma: float = 1.0"),
        (["--similarity", "rbf:gamma=0"], "gamma is 0.0"),
        (["--label-similarity", "rfb"], "no similarity is called 'rfb'"),
        (
            ["--approach", "rbf"],
            "'rbf' is no approach; write nn, fl, chance, mel, untrained, or a similarity followed by -sl",
        ),
        (["--approach", "nn", "--approach", "nn"], "the approach nn is given twice; give it once"),
        (["--learner", "smv"], "no learner is called 'smv'; did you mean svm?"),
        (["--normalize", "none"], "--normalize none: expected training or dataset"),
        (["--device", "tpu"], "--device tpu: expected auto, cpu or cuda"),
    ],
)
def test_settings_are_checked_before_anything_is_trained(store, command, options, message):
    before = sorted(store.rglob("*"))
    failed = run(command, "--store", store, *options, code=1)
    assert failed.err.startswith("error: ")
    assert message in failed.err
    assert sorted(store.rglob("*")) == before


def test_version_is_printed():
    assert run("--version").out == "mirembed 0.1.0\n"


def test_several_datasets_in_a_store_have_to_be_told_apart(audio, tmp_path):
    for dataset in ("folder", "folder:labels=targets.csv,target=pitch"):
        run("extract", "--store", tmp_path, "--dataset", dataset, "--audio", audio)
    failed = run("fit", "--store", tmp_path, code=1)
    assert "folder, folder:labels=targets.csv,target=pitch; choose one with --dataset" in failed.err


def test_the_demo_works_as_it_stands(mirembed):
    """The three commands of a first run, and what a user of the model does next, each in a process of its own."""
    assert mirembed("extract").stdout.startswith("demo: 120 of 120 tracks in the store, 120 of them new")
    assert "rbf-sl: fitted to 120 tracks" in mirembed("fit", "--similarity", "rbf", "--epochs", 1).stdout
    printed = json.loads(mirembed("evaluate", "--cv", 2, "--epochs", 1, "--json").stdout)
    assert printed["approaches"]["rbf-sl"]["accuracy"]["mean"] > 0.125

    waltzes = mirembed.folder / "mirembed-store" / "audio" / "demo" / "waltz"
    mirembed("embed", "demo-rbf-sl", waltzes, "--out", "waltzes.parquet")
    vectors = {row["id"]: row["embedding"] for row in read_table(mirembed.folder / "waltzes.parquet").to_pylist()}
    stored = stored_embeddings(mirembed.folder / "mirembed-store", "demo-rbf-sl")
    for path, vector in vectors.items():
        np.testing.assert_array_equal(np.array(vector, np.float32), stored[f"waltz/{Path(path).name}"])


def test_real_genres_are_told_apart(mirembed, real_data):
    """100 clips of GTZAN, ten genres: chance is 0.1."""
    mirembed("extract", "--dataset", "gtzan", "--audio", real_data / "gtzan_mini" / "genres")
    printed = json.loads(mirembed("evaluate", "--cv", 3, "--epochs", 25, "--json").stdout)
    assert printed["n_tracks"] == 100
    assert printed["approaches"]["rbf-sl"]["accuracy"]["low"] > 0.1
    assert printed["approaches"]["rbf-sl"]["accuracy"]["mean"] > 0.3
