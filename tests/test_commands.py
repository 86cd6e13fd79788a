"""The commands from beginning to end, in every output format."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from conftest import CLASSES, clean_environment, write_tones
from small_store import workers_run, write_tags

from mirembed.cli.main import app, main
from mirembed.cli.output import print_json, print_table
from mirembed.errors import MirembedError
from mirembed.store import Store
from mirembed.store.files import read_json, read_table

pytestmark = pytest.mark.slow

QUICK = ("--epochs", 1, "--network", "mlp")


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
        """The rows of the table, without its header."""
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
        patch.setenv("COLUMNS", "200")  # as in a pipe, if the variable is not set
        patch.setattr(sys, "argv", ["mirembed", *map(str, arguments)])
        main()
    assert end.value.code == code, err.getvalue()
    return Result(out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    """A folder of 18 tones in three classes, with a table of targets."""
    folder = write_tones(tmp_path_factory.mktemp("audio"), seconds=1.0)
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
    approaches = ["--approach", "rbf-sl", "--approach", "nn", "--approach", "fl"]
    run("fit", "--store", root, "--epochs", 15, "--network", "mlp", *approaches)
    return root


@pytest.fixture(scope="module")
def target_store(audio, tmp_path_factory) -> Path:
    """A store with the tones, their targets and a model."""
    root = tmp_path_factory.mktemp("targets")
    dataset = "folder:labels=targets.csv,target=pitch+number"
    run("extract", "--store", root, "--dataset", dataset, "--audio", audio)
    run("fit", "--store", root, "--epochs", 15, "--network", "mlp", "--name", "tones")
    return root


@pytest.fixture(scope="module")
def run_folder(store) -> Path:
    """A run of two approaches in that store."""
    options = ["--cv", 3, *QUICK, "--approach", "rbf-sl", "--approach", "nn"]
    return Path(run("evaluate", "--store", store, *options, "--json").json["run"])


@pytest.fixture
def broken(tmp_path) -> Path:
    """A folder with one tone and one file that is no audio."""
    folder = write_tones(tmp_path / "broken", n_tracks=1, seconds=1.0)
    (folder / "low" / "broken.wav").write_bytes(b"no audio")
    return folder


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split() if word.isdigit()]


def stored_embeddings(store: Path, model: str) -> dict[str, np.ndarray]:
    table = read_table(store / "embeddings" / model / "embeddings.parquet").to_pylist()
    vectors = {row["recording"]: np.array(row["vector"], np.float32) for row in table}
    return {track.id: vectors[track.recording] for track in Store(store).find(None).tracks()}


def test_extract_reports_what_it_did(audio, tmp_path):
    first = run("extract", "--store", tmp_path, "--dataset", "folder", "--audio", audio)
    assert numbers(first.out.splitlines()[0]) == [18, 18, 18]
    again = run("extract", "--store", tmp_path)
    assert numbers(again.out.splitlines()[0]) == [18, 18, 0]
    summary = run("extract", "--store", tmp_path, "--json").json
    assert summary["dataset"] == "folder"
    assert (summary["listed"], summary["extracted"], summary["unchanged"], summary["failures"]) == (18, 0, 18, [])


def test_a_file_that_fails_makes_the_exit_code_2_and_keeps_the_others(broken, tmp_path):
    done = run("extract", "--store", tmp_path / "s", "--dataset", "folder", "--audio", broken, code=2)
    assert numbers(done.out.splitlines()[0])[:2] == [3, 4]
    assert "broken.wav: " in done.out
    summary = run("extract", "--store", tmp_path / "s", "--json", code=2).json
    assert [failure["id"] for failure in summary["failures"]] == ["low/broken.wav"]


def test_accepted_failures_are_shown_as_such(broken, tmp_path):
    store = ("--store", tmp_path / "s")
    run("extract", *store, "--dataset", "folder", "--audio", broken, "--accept-failures", code=2)
    assert "broken.wav: " not in run("extract", *store).out
    [failure] = run("store", "failures", *store, "--dataset", "folder", "--json").json["failures"]
    assert (failure["dataset"], failure["id"], failure["accepted"]) == ("folder", "low/broken.wav", True)
    assert failure["reason"][:10] in run("store", "failures", *store).out
    [dataset] = run("store", "info", *store, "--json").json["datasets"]
    assert (dataset["failures"], dataset["accepted"]) == (1, 1)
    found = run("datasets", "check", "folder", "--audio", broken, *store, "--json").json["findings"]
    assert ("unreadable", "warning") in {(one["kind"], one["level"]) for one in found}


def test_fit_prints_where_model_and_embeddings_are(store):
    done = run("fit", "--store", store, *QUICK, "--approach", "nn", "--approach", "fl", "--name", "mine")
    for approach in ("nn", "fl"):
        [line] = [line for line in done.out.splitlines() if line.startswith(f"{approach}: ")]
        assert 18 in numbers(line)
        assert "loss" in line
        assert str(store / "models" / f"mine-{approach}") in done.out.split()
        assert (store / "models" / f"mine-{approach}" / "model.json").is_file()
        assert str(store / "embeddings" / f"mine-{approach}" / "embeddings.parquet") in done.out.split()
    listed = run("fit", "--store", store, *QUICK, "--similarity", "cosine", "--json").json
    assert listed["dataset"] == "folder"
    [model] = listed["models"]
    assert model["approach"] == "cosine-sl"
    assert Path(model["model"]) == store / "models" / "folder-cosine-sl"
    assert Path(model["embeddings"]).is_file()
    assert model["loss"] > 0


def test_fit_reuses_a_network(store, target_store):
    model = store / "models" / "folder-rbf-sl"
    [taken] = run("fit", "--store", target_store, "--from", model, "--json").json["models"]
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
def test_options_that_would_change_a_reused_network_are_an_error(store, target_store, options):
    model = store / "models" / "folder-rbf-sl"
    refused = run("fit", "--store", target_store, "--from", model, *options, code=1)
    listed = ", ".join(option for option in options if str(option).startswith("--"))
    [error] = refused.err.splitlines()
    assert error.startswith("error: --from ")
    assert listed in error


def test_evaluate_tells_tones_apart_and_prints_the_scores_that_it_saves(store):
    shape = ["--cv", 3, "--epochs", 8, "--network", "mlp"]
    options = ["--store", store, *shape, "--approach", "rbf-sl", "--approach", "nn"]
    printed = run("evaluate", *options, "--json").json
    assert (printed["dataset"], printed["n_tracks"]) == ("folder", 18)
    assert printed["approaches"] == read_json(Path(printed["run"]) / "scores.json")
    assert list(printed["approaches"]) == ["rbf-sl", "nn"]
    assert (printed["n_used"], printed["n_train"], printed["n_test"], printed["n_folds"]) == (18, 12, 6, 3)
    assert (printed["seeds"], printed["epochs"], printed["chance"]) == ([0], 8, pytest.approx(1 / 3))
    assert printed["notes"] == read_json(Path(printed["run"]) / "notes.json")
    assert printed["notes"][0].startswith("warning: ")
    assert "6 tracks" in printed["notes"][0]
    for score in printed["approaches"].values():
        assert set(score["accuracy"]) == {"mean", "low", "high"}
        assert score["accuracy"]["mean"] > 0.7

    shown = run("evaluate", *options)
    assert shown.out.splitlines()[0] == "folder: 18 tracks, 3 stratified folds (12 train, 6 test), 8 epochs"
    for row, (approach, score) in zip(shown.cells[:2], printed["approaches"].items(), strict=True):
        accuracy, pooled = score["accuracy"], score["pooled"]["accuracy"]
        accuracy, pooled = (f"{s['mean']:.3f} [{s['low']:.3f}, {s['high']:.3f}]" for s in (accuracy, pooled))
        assert [row[0], row[1], row[3]] == [approach, accuracy, pooled]
    [chance] = [line for line in shown.out.splitlines() if "class" in line and "│" not in line]
    assert "0.333" in chance
    assert shown.cells[2][:2] == ["nn", "rbf-sl"]  # the declared comparison
    run_folder = Path(shown.out.split()[-1])
    assert (run_folder / "predictions.parquet").is_file()


def test_evaluate_prints_r_for_each_target(target_store):
    options = ["--store", target_store, "--cv", 3, "--epochs", 8, "--network", "mlp"]
    done = run("evaluate", *options, "--seed", 0, "--seed", 1)
    assert [line for line in done.err.splitlines() if "range" in line and "pitch, number" in line] != []
    assert "no r, as it is undefined" in done.out
    assert [row[0] for row in done.cells] == ["rbf-sl", "pitch", "number"]
    headings = [line for line in done.out.splitlines() if line.startswith("┃")]
    assert [text.strip() for text in headings[0].split("┃")[1:-1]] == ["approach", "r", "r²", "R²", "pooled r"]
    scores = run("evaluate", *options, "--json").json["approaches"]["rbf-sl"]
    assert scores["r"].keys() == scores["by_target"]["r"]["pitch"].keys() == {"mean", "low", "high"}
    assert scores["by_target"]["r"]["pitch"]["mean"] > 0.7


def test_embed_gives_the_embeddings_of_fit_to_the_bit_in_every_format(store, audio, tmp_path):
    stored = stored_embeddings(store, "folder-rbf-sl")
    expected = {str(audio / track): vector for track, vector in stored.items()}
    command = ["embed", "folder-rbf-sl", audio, "--store", store]

    as_json = run(*command, "--json", "--out", tmp_path / "e.parquet").json
    assert as_json["failures"] == []
    assert as_json["embeddings"].keys() == expected.keys()
    rows = read_table(tmp_path / "e.parquet").to_pylist()
    for path, vector in expected.items():
        np.testing.assert_array_equal(np.array(as_json["embeddings"][path], np.float32), vector)
    assert {row["path"] for row in rows} == expected.keys()
    for row in rows:
        np.testing.assert_array_equal(np.array(row["embedding"], np.float32), expected[row["path"]])
        assert row["model"] == "folder-rbf-sl"

    written = run(*command, "--out", tmp_path / "e.csv").err.splitlines()[-1]
    assert numbers(written) == [18]
    assert str(tmp_path / "e.csv") in written
    with (tmp_path / "e.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    assert head == ["path", *(f"embedding_{unit}" for unit in range(50))]
    assert len(lines) == 18
    for name, *values in lines:
        np.testing.assert_array_equal(np.array(values, np.float32), expected[name])

    table = run(*command).cells
    assert [row[0] for row in table] == list(expected)
    np.testing.assert_allclose(np.array(table[0][1].split(), float), next(iter(expected.values()))[:6], atol=5e-5)


def test_predict_gives_classes_in_every_format(store, audio, tmp_path):
    files = sorted(map(str, audio.rglob("*.wav")))
    for model in ("folder-rbf-sl", "folder-nn", "folder-fl"):
        predictions = run("predict", model, audio, "--store", store, "--json").json["predictions"]
        expected = [{"path": file, "known": True, "label": Path(file).parent.name} for file in files]
        assert predictions == expected
    command = ["predict", "folder-nn", *files[:2], "--store", store]
    assert run(*command).cells == [[file, "yes", "high"] for file in files[:2]]
    run(*command, "--out", tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().split() == [
        "path,known,label",
        f"{files[0]},True,high",
        f"{files[1]},True,high",
    ]
    run(*command, "--out", tmp_path / "p.parquet")
    assert read_table(tmp_path / "p.parquet").to_pylist() == [
        {"path": f, "known": True, "label": "high"} for f in files[:2]
    ]


def test_predict_gives_targets_in_their_original_units(target_store, audio, tmp_path):
    command = ["predict", "tones", audio / "low", audio / "high", "--store", target_store]
    predictions = run(*command, "--json").json["predictions"]
    assert [list(row) for row in predictions] == 12 * [["path", "known", "pitch", "number"]]
    pitch = np.array([row["pitch"] for row in predictions])
    np.testing.assert_allclose(pitch, np.repeat([0, 4], 6), atol=1)
    assert [row[2] for row in run(*command).cells] == [f"{value:.3f}" for value in pitch]
    run(*command, "--out", tmp_path / "p.parquet")
    assert read_table(tmp_path / "p.parquet")["pitch"].to_pylist() == pitch.tolist()


def test_similar_ranks_the_tracks_of_the_store(store):
    command = ["similar", "folder-rbf-sl", "low/low-1.wav", "--store", store, "--top", 5]
    found = run(*command, "--json").json
    assert ([seed["track"] for seed in found["seeds"]], found["similarity"]) == (["low/low-1.wav"], "rbf")
    assert found["failures"] == []
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


def test_similar_searches_a_folder_for_the_neighbors_of_a_file(store, audio, broken):
    query = audio / "high" / "high-3.wav"
    found = run("similar", "folder-rbf-sl", query, "--in", audio, "--store", store, "--json").json
    assert len(found["neighbors"]) == 10
    assert [row["track"] for row in found["neighbors"] if row["track"] == str(query)] == []
    assert {Path(row["track"]).parent.name for row in found["neighbors"][:5]} == {"high"}
    failed = run("similar", "folder-rbf-sl", query, "--in", broken, "--store", store, code=2)
    assert failed.cells[0][1] == str(broken / "high" / "high-0.wav")
    assert f"failed: {broken / 'low' / 'broken.wav'}: " in failed.err


def test_similar_leaves_out_the_file_itself_and_its_copies(store, audio, tmp_path):
    copy = shutil.copy(audio / "low" / "low-0.wav", tmp_path)
    for query in (audio / "low" / "low-0.wav", copy):
        ranked = run("similar", "folder-rbf-sl", query, "--store", store, "--top", 18, "--json").json["neighbors"]
        assert len(ranked) == 17
        assert "low/low-0.wav" not in {row["track"] for row in ranked}


def test_similar_warns_if_the_model_learned_no_similarity(store):
    found = run("similar", "folder-nn", "low/low-1.wav", "--store", store)
    [warning] = [line for line in found.err.splitlines() if "folder-nn" in line]
    assert "cosine" in warning
    assert len(found.cells) == 10


def test_plugins_lists_the_same_plugins_as_table_and_json():
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
    ("arguments", "facts"),
    [
        (["extract", "--dataset", "folder"], ["dataset folder", "--audio DIR"]),
        (["extract", "--dataset", "folder", "--audio", "nowhere"], ["--audio nowhere"]),
        (["extract", "--dataset", "fodler", "--audio", "."], ["dataset", "'fodler'", "folder?"]),
        (["fit"], ["mirembed-store", "`mirembed extract`"]),
        (["fit", "--dataset", "gtzan"], ["`mirembed extract --dataset gtzan`"]),
        (["evaluate"], ["mirembed-store", "`mirembed extract`"]),
        (["embed", "model", "."], ["'model'"]),
        (["embed", "model", ".", "--out", "x.txt"], ["--out x.txt", ".csv", ".parquet"]),
        (["predict", "model", "."], ["'model'"]),
        (["similar", "model", "track"], ["'model'"]),
        (["store", "info"], ["mirembed-store", "`mirembed extract`"]),
        (["fit", "--epochs", "0"], ["--epochs is 0"]),
        (["fit", "--epochs", "many"], ["'--epochs'"]),
        (["fit", "--color"], ["--color"]),
        (["embed"], ["Missing argument"]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_every_error_has_exit_code_1_and_leaves_nothing_behind(tmp_path, monkeypatch, arguments, facts):
    monkeypatch.chdir(tmp_path)
    failed = run(*arguments, code=1)
    assert [fact for fact in facts if fact not in failed.err] == []
    assert failed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (["--similarity", "rfb"], ["similarity", "'rfb'", "rbf?"]),
        (["--similarity", "rbf:gama=1"], ["rbf", "'gama'", "gamma: float = 1.0"]),
        (["--similarity", "rbf:gamma=0"], ["gamma", "0.0"]),
        (["--label-similarity", "rfb"], ["similarity", "'rfb'"]),
        (["--approach", "rbf"], ["approach", "'rbf'", "nn", "fl", "chance", "untrained", "-sl"]),
        (["--approach", "nn", "--approach", "nn"], ["approach nn"]),
        (["--learner", "smv"], ["learner", "'smv'", "svm?"]),
        (["--normalize", "none"], ["--normalize none", "training", "dataset"]),
        (["--device", "tpu"], ["--device tpu", "auto", "cpu", "cuda"]),
    ],
)
def test_settings_are_checked_before_anything_is_trained(store, command, options, facts):
    before = sorted(store.rglob("*"))
    failed = run(command, "--store", store, *options, code=1)
    assert failed.err.startswith("error: ")
    assert [fact for fact in facts if fact not in failed.err] == []
    assert sorted(store.rglob("*")) == before


def commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *path, name)


def test_help_is_shown_word_for_word():
    """Square brackets, as in "pip install 'mirembed[dask]'", are no markup."""
    assert "'mirembed[dask]'" in run("extract", "--help").out
    for path, command in commands(typer.main.get_command(app)):
        shown = "".join(run(*path, "--help").out.replace("│", "").split())
        for parameter in command.params:
            text = (getattr(parameter, "help", None) or "").replace("\\[", "[")
            assert "".join(text.split()) in shown, (path, parameter.name)


def test_a_table_is_printed_word_for_word(capsys):
    print_table(["[bold]", ":guitar:"], [["a[dask]", "[/]"], ["\n", ":smile:"]], "[red]title")
    shown = capsys.readouterr().out
    for text in ("[bold]", ":guitar:", "a[dask]", "[/]", r"\n", ":smile:", "[red]title"):
        assert text in shown


def test_a_method_is_broken_before_a_sign_and_long_text_is_wrapped_in_any_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    print_table(["method", "score"], [["rbf:gamma=2-sl+svm:C=1@gru:hidden=20@logmel+chroma", "0.750 [0.700, 0.800]"]])
    cells = [line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert cells == ["rbf:gamma=2-sl+svm:C=1", "@gru:hidden=20@logmel+chroma"]
    many = ", ".join(f"rbf:gamma={number}-sl 0.750" for number in range(20))
    print_table(["scores", *("interval" for _ in range(4))], [[many, *["0.750 [0.700, 0.800]"] * 4]])
    assert max(map(len, capsys.readouterr().out.splitlines())) == 40 + 4 * 20 + 3 * 5 + 1


def test_a_long_heading_of_numbers_is_broken_where_the_numbers_are_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    print_table(["tag", "stats+svm:C=1@logmel+semitones+chroma", "nn"], [["calm", "0.750 [0.700, 0.800]", "0.5"]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert any("0.750 [0.700, 0.800]" in line for line in lines)


def test_many_tags_are_rows_where_there_are_fewer_methods(tmp_path):
    write_tags(tmp_path)
    command = ("evaluate", "--store", tmp_path, "--cv", 2, "--approach", "stats", "--learner", "svm")
    printed = run(*command, "--learner", "svm:C=2").out
    assert {"high", "low", "middle"} <= {line.split("│")[1].strip() for line in printed.splitlines() if "│" in line}
    printed = run(*command, "--learner", "svm:C=2", "--learner", "svm:C=3").out
    assert "high" not in {line.split("│")[1].strip() for line in printed.splitlines() if "│" in line}


def test_scores_are_aligned_to_the_right_even_if_one_is_undefined(capsys):
    print_table(["tag", "ROC-AUC by tag"], [["calm", "undefined"], ["loud", "0.750"]])
    shown = capsys.readouterr().out
    assert " undefined │" in shown
    assert " 0.750 │" in shown
    assert "│ 0.750" not in shown


def test_json_has_paths_as_strings_and_refuses_other_objects(capsys):
    print_json({"page": Path("report/index.html")})
    assert json.loads(capsys.readouterr().out) == {"page": "report/index.html"}
    for value in (np.int64(3), {1}):
        with pytest.raises(TypeError, match=type(value).__name__):
            print_json({"value": value})


def test_plain_values_are_read_as_typer_reads_them():
    def outcome(read: Callable[[Any, Any], Any], value: object) -> object:
        try:
            return read(context, value)
        except (typer.TyperException, MirembedError) as error:
            return type(error)

    context = typer.Context(typer.main.get_command(app))
    different: dict[tuple[object, ...], Any] = {}
    for _, command in commands(typer.main.get_command(app)):
        for parameter in command.get_params(context):
            described = parameter.type_descriptor
            kind = (type(parameter), str(described.annotation), described.parameter_info.parser, parameter.required)
            if parameter.callback is None:
                different.setdefault(kind, parameter)
    assert len(different) > 10
    for parameter in different.values():
        is_list = parameter.multiple or parameter.nargs == -1
        for value in (None, parameter.default, *((["a", "b"], []) if is_list else ("demo", "2"))):
            expected = outcome(partial(type(parameter).process_value, parameter), value)
            assert outcome(parameter.process_value, value) == expected, (parameter.name, value)


def on_terminal(store: Path, columns: int, *words: object) -> str:
    """Run the real command on a terminal and return what it prints."""
    ours, theirs = pty.openpty()
    environment = clean_environment({"MIREMBED_STORE": str(store), "COLUMNS": str(columns), "TERM": "xterm"})
    command = [sys.executable, "-m", "mirembed", *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, env=environment) as process:
        os.close(theirs)
        printed = b""
        with contextlib.suppress(OSError):  # on Linux, the end of the output is an error
            while piece := os.read(ours, 65536):
                printed += piece
        os.close(ours)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).replace("\r\n", "\n")


def test_numbers_are_whole_in_a_table_that_is_wider_than_the_terminal(store, run_folder):
    row = next(line for line in on_terminal(store, 60, "compare", run_folder).splitlines() if "rbf-sl │" in line)
    cells = [cell.strip() for cell in row.split("│")]
    assert re.fullmatch(r"-?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\]", cells[6])
    assert all(re.fullmatch(r"<?-?\d+\.\d+", cell) for cell in cells[4:6] + cells[7:11])


def test_text_is_wrapped_to_fit_the_terminal(store):
    printed = on_terminal(store, 80, "datasets")
    table = printed[: printed.index("`")].splitlines()
    assert {len(line) for line in table} == {80}
    assert len(table) > 4 + 7 * 2
    cells = {cell.strip() for line in table for cell in line.split("│")}
    assert {"698", "1000", "2904", "mediaeval2013"} <= cells


@pytest.mark.parametrize("words", [("similar",), ("datasets", "check"), ("evaluate",), ("plugins",)])
def test_help_shows_what_to_write_and_no_python_type(words):
    shown = run(*words, "--help").out
    assert re.search(r"--json +Print JSON", shown)
    assert not re.search(r"<\w+>", shown)


def test_a_folder_to_search_is_checked_before_any_work(store):
    failed = run("similar", "folder-rbf-sl", "low/low-1.wav", "--in", "nowhere", "--store", store, code=1)
    assert "nowhere does not exist" in failed.err
    assert "embedding" not in failed.err


def test_version_is_printed():
    assert run("--version").out == "mirembed 0.1.0\n"


def test_a_store_with_several_datasets_requires_a_choice(audio, tmp_path):
    for dataset in ("folder", "folder:labels=targets.csv,target=pitch"):
        run("extract", "--store", tmp_path, "--dataset", dataset, "--audio", audio)
    failed = run("fit", "--store", tmp_path, code=1)
    assert "folder, folder:labels=targets.csv,target=pitch" in failed.err
    assert "--dataset" in failed.err


def test_the_demo_works_out_of_the_box(mirembed):
    """The three commands of a first run, and what comes next."""
    assert numbers(mirembed("extract", process=True).stdout.splitlines()[0]) == [120, 120, 120]
    assert 120 in numbers(mirembed("fit", "--similarity", "rbf", "--epochs", 1).stdout.splitlines()[0])
    printed = json.loads(mirembed("evaluate", "--cv", 2, "--epochs", 1, "--json").stdout)
    assert printed["approaches"]["rbf-sl"]["accuracy"]["mean"] > 0.125

    report = json.loads(mirembed("datasets", "check", "demo", "--json").stdout)
    assert report["n_tracks"] == 120
    assert {(finding["kind"], finding["level"]) for finding in report["findings"]} == {("groups", "warning")}

    waltzes = mirembed.folder / "mirembed-store" / "audio" / "demo" / "waltz"
    mirembed("embed", "demo-rbf-sl", waltzes, "--out", "waltzes.parquet")
    vectors = {row["path"]: row["embedding"] for row in read_table(mirembed.folder / "waltzes.parquet").to_pylist()}
    stored = stored_embeddings(mirembed.folder / "mirembed-store", "demo-rbf-sl")
    for path, vector in vectors.items():
        np.testing.assert_array_equal(np.array(vector, np.float32), stored[f"waltz/{Path(path).name}"])


def test_real_genres_are_told_apart(mirembed, real_data):
    """100 clips of GTZAN, ten genres: chance is 0.1."""
    mirembed("extract", "--dataset", "gtzan", "--audio", real_data / "gtzan_mini" / "genres", process=True)
    printed = json.loads(mirembed("evaluate", "--cv", 3, "--epochs", 12, "--json", process=True).stdout)
    assert printed["n_tracks"] == 100
    assert printed["approaches"]["rbf-sl"]["accuracy"]["low"] > 0.1
    assert printed["approaches"]["rbf-sl"]["accuracy"]["mean"] > 0.3


def test_an_error_at_the_end_of_a_file_is_no_interruption(mirembed, monkeypatch):
    def fail(store: Store) -> None:
        raise EOFError("marshal data too short")

    monkeypatch.setattr("mirembed.inventory.contents", fail)
    (mirembed.folder / "s" / "runs").mkdir(parents=True)
    error = mirembed("store", "info", "--store", "s", code=1).stderr
    assert "marshal data too short" in error
    assert "interrupted" not in error
