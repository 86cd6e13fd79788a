"""Whatever a user gets wrong gives one or two lines that name it, and nothing is lost."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import CLASSES, RATE, clean_environment, tone, write_tones
from small_store import workers_run
from third_party import install

from mirembed.cli.main import main
from mirembed.cli.output import print_table

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Result:
    """What a command printed."""

    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


Run = Callable[..., Result]

QUICK = ["--epochs", 1, "--network", "mlp"]


def run_here(folder: Path, *arguments: object) -> int:
    """Run a command in this process, worker tasks included, and return its exit code.

    Importing torch in a new process takes longer than most tests.
    """
    with workers_run(), pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        for name in [name for name in os.environ if name.startswith("MIREMBED_")]:
            patch.delenv(name)
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["mirembed", *map(str, arguments)])
        main()
    return end.value.code


@pytest.fixture
def run(mirembed, capfd) -> Run:
    """Run a command in this process, in the folder of ``mirembed``."""

    def call(*arguments: object, code: int = 0) -> Result:
        capfd.readouterr()
        ended = run_here(mirembed.folder, *arguments)
        result = Result(*capfd.readouterr())
        assert ended == code, result
        return result

    return call


@pytest.fixture
def refused(run, mirembed) -> Callable[..., str]:
    """Run a command that has to fail, and return its message of one or two lines; no file may change."""

    def call(*arguments: object) -> str:
        before = files(mirembed.folder)
        result = run(*arguments, code=1)
        assert files(mirembed.folder).items() >= before.items()
        assert result.out == ""
        return message(result.err)

    return call


def message(errors: str) -> str:
    """Return the error in the standard error output, after progress such as "extracting ..." and warnings."""
    *progress, error = errors.rstrip("\n").split("error: ")
    assert all(
        line.endswith(" ...") or re.match(r"engine: |warning: |the name |\d+ class(es)? from ", line)
        for line in "".join(progress).splitlines()
    ), errors
    assert len(error.splitlines()) <= 2
    assert "bug in mirembed" not in error
    return error


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nine ``tones`` and a ``mirembed-store`` that has their features and the model ``folder-rbf-sl``."""
    folder = tmp_path_factory.mktemp("prepared")
    write_tones(folder / "tones", n_tracks=3, seconds=1.0)
    assert run_here(folder, "extract", "--dataset", "folder", "--audio", "tones") == 0
    assert run_here(folder, "fit", "--epochs", 2, "--network", "mlp") == 0
    return folder


@pytest.fixture
def store(mirembed, prepared: Path) -> Path:
    """A copy of the prepared store, where commands look for it, and of its audio."""
    shutil.copytree(prepared, mirembed.folder, dirs_exist_ok=True)
    return mirembed.folder / "mirembed-store"


@pytest.fixture
def features(store: Path) -> Path:
    (path,) = (store / "features").iterdir()
    return path


@pytest.fixture
def dataset(store: Path) -> Path:
    return store / "datasets" / "folder"


def shard(features: Path) -> Path:
    (path,) = features.glob("*.parquet")
    return path


def frames(features: Path) -> dict[str, list]:
    """The frames by recording."""
    return {row["recording"]: row["frames"] for row in pq.read_table(shard(features)).to_pylist()}


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# The command line


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["extract", "--color", "red"], "--color"),
        (["extract", "--jobs", "0"], "--jobs"),
        (["fit", "--seed", "-1"], "--seed"),
        (["evaluate", "--batch", "many"], "--batch"),
        (["embed"], "MODEL"),
        (["similar", "model"], "SEED"),
        (["extrakt"], "extrakt"),
    ],
)
def test_a_usage_error_names_the_argument_and_how_to_get_help(mirembed, arguments, names):
    completed = mirembed(*arguments, code=1)
    assert completed.stdout == ""
    *_, hint, empty, error = completed.stderr.splitlines()
    assert "--help' for help" in hint
    assert empty == ""
    assert names in error
    assert list(mirembed.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--similarity", "rfb"], ["similarity", "'rfb'", "did you mean rbf?"]),
        (["--learner", "smv"], ["learner", "'smv'", "did you mean svm?"]),
        (["--approach", "cosin-sl"], ["similarity", "'cosin'", "did you mean cosine?"]),
        (["--approach", "rbf"], ["'rbf'", "nn, fl, ", "rbf-sl"]),
        (["--similarity", "rbf:gama=2"], ["rbf", "'gama'", "gamma: float = 1.0"]),
        (["--similarity", "rbf:gamma=x"], ["gamma=x", "rbf", "expected float"]),
        (["--similarity", "rbf:gamma=-1"], ["rbf:gamma=-1", "gamma is -1.0"]),
        (["--similarity", "rbf:gamma"], ["'gamma'", "'rbf:gamma'", "param=value"]),
        (["--similarity", ":gamma=1"], ["':gamma=1'", "name:param=value"]),
        (["--learner", "svm:D=1"], ["svm", "'D'", "kernel: "]),
        (["--folds", "leave-one-out"], ["leave-one-out", "random, stratified, grouped", "official splits"]),
        (["--dataset", "FOLDER"], ["folder, not FOLDER", "did you mean folder?"]),
        (["--dataset", "gtzan"], ["folder, not gtzan", "`mirembed extract --dataset gtzan`"]),
    ],
)
def test_a_wrong_name_or_parameter_is_named_with_valid_ones(store, refused, arguments, facts):
    said = refused("evaluate", *arguments)
    assert [fact for fact in facts if fact not in said] == [], said


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--cv", 1], ["--cv", " 1", "at least 2 folds"]),
        (["--cv", 4], ["stratified", "4 tracks", " 3", "--cv"]),
        (["--cv", 10, "--folds", "random"], ["9 tracks", "10 folds", "--cv"]),
        (["--cv", 2, "--folds", "grouped"], ["grouped", "no track", "group"]),
    ],
)
def test_impossible_folds_are_refused(store, refused, arguments, facts):
    said = refused("evaluate", *arguments)
    assert [fact for fact in facts if fact not in said] == [], said


def test_an_unknown_table_format_is_refused_before_any_work(store, refused):
    said = refused("embed", "folder-rbf-sl", "tones", "--out", "x.txt")
    assert re.search(r"--out x\.txt.*\.csv.*\.parquet", said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract"],
        ["fit", *QUICK],
        ["evaluate", "--cv", 2, *QUICK],
        ["embed", "folder-rbf-sl", "tones/low"],
        ["predict", "folder-rbf-sl", "tones/low"],
        ["similar", "folder-rbf-sl", "low/low-0.wav"],
        ["plugins"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_json_is_all_there_is_on_standard_output(store, run, arguments):
    assert isinstance(run(*arguments, "--json").json, dict)


# Audio folders and datasets


def test_a_missing_audio_folder_is_refused(refused):
    assert "--audio nowhere does not exist" in refused("extract", "--dataset", "folder", "--audio", "nowhere")


def test_a_file_in_place_of_the_audio_folder_is_refused(store, refused):
    said = refused("extract", "--dataset", "folder", "--audio", "tones/low/low-0.wav")
    assert "--audio tones/low/low-0.wav is not a folder" in said


@pytest.mark.parametrize("dataset", ["folder", "gtzan"])
def test_a_dataset_that_was_never_extracted_needs_its_audio_folder(refused, dataset):
    assert re.search(f"dataset {dataset} .*--audio", refused("extract", "--dataset", dataset))


@pytest.mark.parametrize(
    ("dataset", "facts"),
    [
        ("fodler", ["dataset", "'fodler'", "did you mean folder?"]),
        ("folder:lables=x.csv", ["folder", "'lables'", "labels: Path"]),
        ("folder:labels", ["'labels'", "'folder:labels'", "param=value"]),
    ],
)
def test_a_wrong_dataset_is_named_with_valid_ones(store, refused, dataset, facts):
    said = refused("extract", "--dataset", dataset, "--audio", "tones")
    assert [fact for fact in facts if fact not in said] == [], said


def test_another_folder_under_the_same_name_is_refused(store, run, refused, prepared):
    write_tones(store.parent / "others" / "deep", n_tracks=1, seconds=0.2)
    said = refused("extract", "--dataset", "folder", "--audio", "others")
    assert f"9 tracks of folder from {prepared}/tones" in said
    assert "--store" in said
    assert "--prune" in said


@pytest.mark.parametrize("command", [["fit"], ["evaluate", "--cv", 2]], ids=["fit", "evaluate"])
def test_a_dataset_with_one_class_is_refused(run, refused, tmp_path, command):
    for number in range(4):
        path = tmp_path / "work" / "single" / "calm" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(220, 0.2, seed=number), RATE)
    run("extract", "--dataset", "folder", "--audio", "single")
    said = refused(*command)
    assert "all 4 tracks" in said
    assert "'calm'" in said
    assert "two classes" in said


BROKEN_DATASETS = """
    from pathlib import Path
    from mirembed import Classification, Listing, Regression, Target, Track, hookimpl

    CLASSES = Classification(("a", "b"))
    RANGE = Regression((Target("valence", 1.0, 9.0),))

    def dataset(make):
        class Broken:
            def listing(self, audio):
                return make(Path(audio) / "low" / "low-0.wav")
        return Broken

    @hookimpl
    def mirembed_register_datasets(register):
        register("twice", dataset(lambda file: Listing(CLASSES, [Track("x", file, "a"), Track("x", file, "b")])))
        register("stray", dataset(lambda file: Listing(CLASSES, [Track("x", file, "c")])))
        register("far", dataset(lambda file: Listing(RANGE, [Track("x", file, (9.5,))])))
        register("few", dataset(lambda file: Listing(RANGE, [Track("x", file, (2.0, 3.0))])))
        register("nan", dataset(lambda file: Listing(RANGE, [Track("x", file, (float("nan"),))])))
        register("empty", dataset(lambda file: Listing(CLASSES, [])))
        register("fails", dataset(lambda file: 1 / 0))
"""


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("twice", "'x' twice"),
        ("stray", "the label 'c'"),
        ("far", "valence is 9.5"),
        ("few", "(2.0, 3.0)"),
        ("nan", "valence is nan"),
        ("empty", "--audio"),
        ("fails", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_plugin_that_breaks_its_promise_is_named(mirembed, store, tmp_path, dataset, expected):
    before = files(store)
    completed = mirembed(
        "extract",
        *("--dataset", dataset, "--audio", "tones"),
        env=install(tmp_path / "site", "mirembed-broken", BROKEN_DATASETS),
        code=1,
    )
    error = message(completed.stderr)
    assert f"dataset {dataset} of mirembed-broken 1.0 " in error
    assert expected in error
    assert files(store) == before


def test_changed_labels_are_updated_without_audio_and_no_track_is_lost(run, store):
    table = store.parent / "tones" / "labels.csv"
    rows = [f"{name}/{name}-{number}.wav,{name}" for name in CLASSES for number in range(3)]
    table.write_text("\n".join(["path,label", *rows]))
    dataset = ("--dataset", "folder:labels=labels.csv", "--json")
    assert run("extract", *dataset, "--audio", "tones").json["known"] == 9  # in the dataset without labels

    for audio in (store.parent / "tones").rglob("*.wav"):  # none of them can be decoded any more
        status = audio.stat()
        audio.write_bytes(bytes(status.st_size))
        os.utime(audio, ns=(status.st_atime_ns, status.st_mtime_ns))
    table.write_text("\n".join(["path,label", *(row.replace(",low", ",deep") for row in rows[:-1])]))
    done = run("extract", *dataset).json
    assert (done["relabeled"], done["unlisted"], done["extracted"], done["failures"]) == (3, 1, 0, [])
    (line,) = run("extract", *dataset[:2]).out.splitlines()
    assert re.match(r"folder:labels=labels\.csv: 8 of 8 tracks.* 0 extracted.* 1 no longer listed", line)

    assert "--yes to remove 1 of the 9 tracks" in run("extract", *dataset[:2], "--prune", code=1).err
    done = run("extract", *dataset, "--prune", "--yes").json
    assert (done["unchanged"], done["pruned"], done["unlisted"]) == (8, 1, 0)


# Audio files


def test_tracks_shorter_than_an_excerpt_work(run, tmp_path):
    seconds = [0.1, 0.3, 1.0, 2.5]  # 3 to 99 frames
    for name, pitch in CLASSES.items():
        (tmp_path / "work" / "short" / name).mkdir(parents=True)
        for number, length in enumerate(seconds):
            path = tmp_path / "work" / "short" / name / f"{number}.wav"
            soundfile.write(path, tone(pitch, length, seed=number), RATE)
    run("extract", "--dataset", "folder", "--audio", "short")
    run("fit", "--epochs", 3, "--engine", "torch")
    scores = run("evaluate", "--cv", 2, "--epochs", 3, "--engine", "torch", "--json").json["approaches"]["rbf-sl"]
    assert 0 <= scores["accuracy"]["mean"] <= 1
    predictions = run("predict", "folder-rbf-sl", "short", "--json").json["predictions"]
    assert len(predictions) == 12
    assert {one["label"] for one in predictions} <= set(CLASSES)


@pytest.mark.parametrize("approach", ["rbf-sl", "cosine-sl", "polynomial-sl", "nn"])
def test_nothing_but_digital_silence_works(run, tmp_path, approach):
    for name in ("a", "b"):
        (tmp_path / "work" / "silence" / name).mkdir(parents=True)
        for number in range(3):
            soundfile.write(tmp_path / "work" / "silence" / name / f"{number}.wav", np.zeros(RATE), RATE)
    run("extract", "--dataset", "folder", "--audio", "silence")
    run("fit", "--approach", approach, "--epochs", 3, "--engine", "torch")
    embeddings = run("embed", f"folder-{approach}", "silence", "--json").json["embeddings"]
    assert len(embeddings) == 6
    assert np.isfinite(list(embeddings.values())).all()


def not_a_number(path: Path) -> None:
    samples = tone(220, 0.3, seed=1)
    samples[100] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("tiny.wav", lambda path: soundfile.write(path, tone(220, 0.04, 1), RATE), "0.040 s long"),
        ("nan.wav", not_a_number, "1 of 6615 samples"),
        ("text.mp3", lambda path: path.write_text("not music\n" * 100), "neither soundfile nor Essentia"),
        ("empty.ogg", Path.touch, "empty file"),
        ("half.flac", lambda path: path.write_bytes(b"fLaC" + bytes(40)), "neither soundfile nor Essentia"),
    ],
    ids=["shorter than a frame", "NaN", "text", "empty", "damaged"],
)
def test_a_file_without_sound_fails_and_the_others_are_extracted(run, store, dataset, name, write, reason):
    bad = store.parent / "tones" / "low" / name
    write(bad)
    result = run("extract", "--dataset", "folder", "--audio", "tones", code=2)
    assert re.match(r"folder: 9 of 10 tracks.* 0 extracted now", result.out)
    assert f"tones/low/{name}: {reason}" in result.out
    (failure,) = pq.read_table(dataset / "failures.parquet").to_pylist()
    assert failure["id"] == f"low/{name}"
    assert reason in failure["reason"]


def test_a_good_file_is_embedded_beside_a_bad_one_that_fails(run, store):
    bad = store.parent / "bad.wav"
    bad.write_text("no audio")
    result = run("embed", "folder-rbf-sl", "bad.wav", "tones/low/low-0.wav", "--json", code=2)
    assert list(result.json["embeddings"]) == ["tones/low/low-0.wav"]
    assert [failure["path"] for failure in result.json["failures"]] == ["bad.wav"]
    assert "failed: bad.wav: neither soundfile nor Essentia" in result.err


@pytest.mark.parametrize("command", ["embed", "predict"])
def test_reasons_are_given_when_no_file_can_be_read(run, store, command):
    (store.parent / "bad.raw").write_bytes(bytes(range(256)) * 20)
    misnamed = Path(os.fsdecode(b"caf\xe9.m4a"))
    (store.parent / misnamed).write_text("no audio")
    result = run(command, "folder-rbf-sl", "bad.raw", misnamed, "--json", code=2)
    assert not result.json["embeddings" if command == "embed" else "predictions"]
    raw, name = result.json["failures"]
    assert (raw["path"], name["path"]) == ("bad.raw", "caf\\xe9.m4a")
    for failure in (raw, name):
        assert "neither soundfile nor Essentia" in failure["reason"]
    assert [line.split(":")[0] for line in result.err.splitlines()[-2:]] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("command", "columns"),
    [("embed", ["path", *(f"embedding_{unit}" for unit in range(50))]), ("predict", ["path", "known", "label"])],
)
def test_a_table_without_rows_has_its_columns(run, store, command, columns):
    (store.parent / "bad.wav").write_text("no audio")
    run(command, "folder-rbf-sl", "bad.wav", "--out", "x.csv", code=2)
    assert (store.parent / "x.csv").read_text().splitlines() == [",".join(columns)]
    run(command, "folder-rbf-sl", "bad.wav", "--out", "x.parquet", code=2)
    table = pq.read_table(store.parent / "x.parquet")
    assert (table.num_rows, table.column_names[0]) == (0, columns[0])
    assert {"label", "embedding"} & set(table.column_names)


@pytest.mark.parametrize("command", ["embed", "predict"])
def test_a_missing_path_is_refused(store, refused, command):
    assert "nowhere.wav does not exist" in refused(command, "folder-rbf-sl", "tones", "nowhere.wav")


def test_a_folder_without_audio_is_refused(store, refused):
    (store.parent / "papers").mkdir()
    (store.parent / "papers" / "notes.txt").touch()
    assert re.search(r"papers.* no audio file.*\.flac", refused("embed", "folder-rbf-sl", "papers"))


def test_an_unknown_track_is_refused_with_similar_names(store, refused):
    said = refused("similar", "folder-rbf-sl", "low/low-9.wav")
    assert "'low/low-9.wav'" in said
    assert "9 tracks" in said
    assert "low/low-0.wav" in said


# Stores


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_an_empty_store_says_what_to_do_first(refused, command):
    assert re.search(r"the store mirembed-store is empty.*`mirembed extract`", refused(command))


def test_with_two_datasets_one_has_to_be_chosen(run, store, refused):
    (store.parent / "tones" / "labels.csv").write_text("path,label\nlow/low-0.wav,a\nlow/low-1.wav,b\n")
    run("extract", "--dataset", "folder:labels=labels.csv", "--audio", "tones")
    for command in ("extract", "fit", "evaluate"):
        assert re.search(r"folder, folder:labels=labels\.csv;.*--dataset", refused(command))


@pytest.mark.parametrize("command", [["extract"], ["fit"], ["evaluate"], ["embed", "folder-rbf-sl", "tones"]])
def test_a_store_of_another_format_is_refused(store, refused, command):
    edit_json(store / "store.json", lambda content: content.update(format=1))
    said = refused(*command)
    assert re.search(r"store mirembed-store has format 1,.* format 2;.*--store", said)


def test_a_file_in_place_of_the_store_is_refused(store, refused):
    assert re.search(r"tones/low/low-0\.wav is a file.*--store", refused("fit", "--store", "tones/low/low-0.wav"))


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_features_that_the_store_lacks_are_named_with_the_command_that_computes_them(run, store, refused, command):
    said = refused(command, "--features", "logmel:bands=60")
    [extract] = re.findall(r"`mirembed (extract [^`]*)`", said)
    run(*extract.split())
    run(command, "--features", "logmel:bands=60", *QUICK, *["--cv", 2] * (command == "evaluate"))


@pytest.mark.parametrize("command", ["extract", "fit", "evaluate"])
def test_a_shard_of_other_features_is_refused_by_name(store, features, refused, command):
    table = pq.read_table(shard(features))
    part = json.loads(table.schema.metadata[b"mirembed.features"])
    metadata = {"mirembed.features": json.dumps({**part, "spec": "logmel:hop=0.01", "digest": "5" * 32})}
    pq.write_table(table.replace_schema_metadata(metadata), shard(features))
    assert re.search(rf"{shard(features).name}.*logmel:hop=0\.01", refused(command))


def test_a_truncated_shard_is_named_and_extract_replaces_it(run, store, features, refused):
    whole = frames(features)
    broken = shard(features)
    os.truncate(broken, broken.stat().st_size // 2)
    assert f"{broken.name} cannot be read" in refused("evaluate", "--cv", 2)
    result = run("extract")
    assert re.match(r"folder: 9 of 9 tracks.* 9 extracted now", result.out)
    assert re.search(f"1 damaged shard: mirembed-store/features/logmel-[0-9a-f]+/{broken.name}", result.out)
    assert frames(features) == whole


def test_a_flipped_bit_in_a_shard_is_noticed_and_the_advice_helps(run, store, features, refused):
    whole = frames(features)
    shutil.rmtree(store / "cache")
    flip_bit(shard(features))
    said = refused("evaluate", "--cv", 2)
    assert f"{shard(features).name} cannot be read" in said
    assert "delete it and " in said
    shard(features).unlink()
    assert run("extract", "--json").json["extracted"] == 9
    assert frames(features) == whole


@pytest.mark.parametrize("content", ['{"spec": "fol', "[]", "{}"])
def test_a_damaged_dataset_file_is_named_and_the_advice_helps(run, store, dataset, refused, content):
    (dataset / "dataset.json").write_text(content)
    for command in ("extract", "fit", "evaluate"):
        said = refused(command)
        assert "dataset.json is damaged" in said
        assert "delete it and " in said
    (dataset / "dataset.json").unlink()
    assert run("extract", "--dataset", "folder", "--audio", "tones", "--json").json["unchanged"] == 9
    run("fit", *QUICK)


@pytest.mark.parametrize("name", ["failures.parquet", "tracks.parquet"])
def test_a_damaged_table_of_a_dataset_is_named_and_the_advice_helps(run, store, dataset, refused, name):
    (dataset / name).write_text("nonsense")
    for command in ("extract", "fit"):
        said = refused(command)
        assert f"{name} cannot be read" in said
        assert "delete it and " in said
    (dataset / name).unlink()
    assert run("extract", "--json").json["unchanged"] == 9


def test_a_damaged_description_of_features_is_named_and_the_advice_helps(run, store, features, refused):
    (features / "_features.json").write_text("{")
    for command in ("extract", "fit"):
        said = refused(command)
        assert "_features.json is damaged" in said
        assert "delete it and " in said
    (features / "_features.json").unlink()
    assert run("extract", "--json").json["unchanged"] == 9
    run("fit", *QUICK)


# Models


@pytest.mark.parametrize("name", ["network.safetensors", "learner.skops"])
def test_a_flipped_bit_in_a_model_is_noticed(store, refused, name):
    flip_bit(store / "models" / "folder-rbf-sl" / name)
    said = refused("predict", "folder-rbf-sl", "tones/low")
    assert f"folder-rbf-sl/{name}" in said


@pytest.mark.parametrize("name", ["network.safetensors", "learner.skops"])
def test_a_model_without_one_of_its_files_is_damaged(store, refused, name):
    (store / "models" / "folder-rbf-sl" / name).unlink()
    said = refused("predict", "folder-rbf-sl", "tones/low")
    assert "mirembed-store/models/folder-rbf-sl is damaged" in said
    assert name in said


@pytest.mark.parametrize(
    "content",
    [
        lambda manifest: "[]",
        lambda manifest: "{",
        lambda manifest: json.dumps({**manifest, "task": {}}),
        lambda manifest: json.dumps({**manifest, "files": {}}),
        lambda manifest: json.dumps({**manifest, "network": {"hidden": 7, "units": 50}}),
        lambda manifest: json.dumps({**manifest, "network": {"width": 7}}),
        lambda manifest: json.dumps({key: value for key, value in manifest.items() if key != "provenance"}),
    ],
    ids=["list", "cut short", "no task", "no files", "other network", "unknown network", "no provenance"],
)
def test_a_damaged_manifest_of_a_model_is_named(store, refused, content):
    path = store / "models" / "folder-rbf-sl" / "model.json"
    path.write_text(content(json.loads(path.read_text())))
    said = refused("predict", "folder-rbf-sl", "tones/low")
    assert re.search("models/folder-rbf-sl is (damaged|not a model)", said)


def test_a_model_of_another_format_is_refused(store, refused):
    edit_json(store / "models" / "folder-rbf-sl" / "model.json", lambda content: content.update(format=1))
    said = refused("embed", "folder-rbf-sl", "tones/low")
    assert re.search(r"models/folder-rbf-sl has format 1,.* format 7", said)


def test_a_model_of_features_that_are_computed_differently_is_refused_by_name(store, refused):
    edit_json(
        store / "models" / "folder-rbf-sl" / "model.json",
        lambda content: content["features"][0]["parts"][0].update(digest="5" * 32),
    )
    shutil.rmtree(store / "embeddings")
    assert "features logmel" in refused("embed", "folder-rbf-sl", "tones/low")


@pytest.mark.parametrize("command", [["embed", "jazz", "tones"], ["similar", "jazz", "x"], ["fit", "--from", "jazz"]])
def test_an_unknown_model_is_named_with_the_known_ones(store, refused, command):
    said = refused(*command)
    assert re.search(r"'jazz'.*folder-rbf-sl", said)


def test_a_name_that_is_taken_is_refused_before_training(store, refused):
    said = refused("fit", "--name", "folder-rbf-sl", "--epochs", 1)
    assert re.search(r"mirembed-store/models/folder-rbf-sl.*--name", said)


# A full disk, and no permission


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes inside the block."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def test_control_characters_in_names_do_not_break_a_table(capsys):
    print_table(["track"], [["line\nbreak \x1b[31m"], ["日本　é"]], title="of\ra folder")
    printed = capsys.readouterr().out
    assert [len(line) for line in printed.splitlines()[1:5]] == [24] * 4
    assert r"│ line\nbreak \x1b[31m │" in printed
    assert printed.startswith("of\\ra folder\n")
    assert "日本　é" in printed


@pytest.mark.parametrize("arguments", [("store", "info"), ("plugins", "--json"), ("--version",)])
def test_a_full_standard_output_is_one_error(mirembed, store, arguments):
    with Path("/dev/full").open("w") as full:
        completed = subprocess.run(
            [sys.executable, "-m", "mirembed", *arguments],
            cwd=mirembed.folder,
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert re.fullmatch(r"error: .*standard output.*No space left on device.*\n", completed.stderr)
    assert completed.returncode == 1


@pytest.mark.parametrize("arguments", [("store", "info"), ("plugins", "--json"), ("--version",)])
def test_output_to_a_closed_standard_output_is_discarded(mirembed, store, arguments):
    assert mirembed(*arguments, preexec_fn=lambda: os.close(1)).stderr == ""


def test_ctrl_c_at_the_very_end_shows_nothing(tmp_path):
    slow_end = "import atexit, sys, time; atexit.register(lambda: print('ending', flush=True) or time.sleep(0.5)); "
    program = [sys.executable, "-c", slow_end + "from mirembed.cli.main import main; main()", "--version"]
    with subprocess.Popen(
        program, cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("mirembed ")
        assert process.stdout.readline() == "ending\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_extract_on_a_full_disk_keeps_the_store_and_continues_later(mirembed, store, features):
    for number in range(9):
        soundfile.write(store.parent / "tones" / "low" / f"new-{number}.wav", tone(220, 3, seed=number), RATE)
    before = shard(features), shard(features).read_bytes()
    extract = ("extract", "--dataset", "folder", "--audio", "tones", "--jobs", 1)
    with full_disk(50_000):
        completed = mirembed(*extract, code=1)
    said = message(completed.stderr)
    assert re.search(r"mirembed-store/features/logmel-[0-9a-f]+/000002-.*File too large; free", said)
    assert (shard(features), shard(features).read_bytes()) == before
    assert sorted(path.name for path in features.glob("[!.]*")) == [before[0].name, "_features.json"]
    assert re.match(r"folder: 18 of 18 tracks.* 9 extracted now", mirembed(*extract).stdout)


@pytest.mark.parametrize(
    ("command", "size", "place"),
    [
        (["fit"], 20_000, "cache/folder/"),
        (["fit", "--epochs", 1, "--engine", "torch"], 100_000, "models/"),
        (["evaluate", "--cv", 2, "--epochs", 10, "--engine", "torch"], 100_000, "runs/folder-"),
    ],
    ids=["frames", "fit", "evaluate"],
)
def test_training_on_a_full_disk_keeps_the_store(mirembed, store, features, command, size, place):
    shutil.rmtree(store / "cache")
    before = files(store)
    with full_disk(size):
        completed = mirembed(*command, "--jobs", 1, code=1)
    said = message(completed.stderr)
    assert re.search(f"mirembed-store/{place}.*File too large; free", said)
    assert files(store).items() >= before.items()
    assert [path for path in store.rglob(".tmp-*") if path.is_dir()] == []


def with_own_mounts(folder: Path, *script: str) -> subprocess.CompletedProcess[str]:
    """Run lines of shell that may mount what they like, invisible to everybody else."""
    return subprocess.run(
        ["unshare", "-rm", "sh", "-ec", "\n".join(script)],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_on_a_really_full_disk_the_same_command_continues_once_there_is_space(mirembed, store):
    (store.parent / "disk").mkdir()
    mount = "mount -t tmpfs -o size=40k none disk"
    if with_own_mounts(store.parent, mount).returncode:
        pytest.skip("this system does not let us mount a small disk")
    extract = f"{sys.executable} -m mirembed extract --dataset folder --audio tones --store disk/store --jobs 1"
    completed = with_own_mounts(
        store.parent, mount, f"{extract} || echo failed: $?", "mount -o remount,size=9m disk", extract
    )
    assert re.fullmatch(r"failed: 1\nfolder: 9 of 9 tracks.* 9 extracted now\n", completed.stdout)
    assert "No space left on device; free" in completed.stderr
    assert completed.returncode == 0


def without_privileges() -> None:
    """For ``preexec_fn``: even root may then write only where the permissions say so."""
    drop_from_bounding_set = 24
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if os.geteuid() == 0 and ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0):
            raise PermissionError


@pytest.fixture
def read_only(store: Path):
    """The store, where nobody may write."""
    probe = [sys.executable, "-c", "import os; assert not os.access('.', os.W_OK)"]
    folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        subprocess.run(probe, cwd=store, preexec_fn=without_privileges, capture_output=True, check=True)
        yield store
    except subprocess.SubprocessError:
        pytest.skip("this user may write everywhere and cannot give that up")
    finally:
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.parametrize(
    "command",
    [["extract"], ["fit", *QUICK], ["evaluate", "--cv", 2, "--approach", "stats"]],
    ids=["extract", "fit", "evaluate"],
)
def test_a_read_only_store_is_named(mirembed, read_only, command):
    before = files(read_only)
    completed = mirembed(*command, "--jobs", 1, code=1, preexec_fn=without_privileges)
    said = message(completed.stderr)
    assert said.startswith("cannot write mirembed-store/")
    assert re.search(r"Permission denied;.*--store.*permission", said)
    assert files(read_only) == before


def test_a_file_without_read_permission_fails(mirembed, read_only):
    (read_only.parent / "tones" / "low" / "low-0.wav").chmod(0)
    completed = mirembed(
        "extract",
        *("--dataset", "folder", "--audio", "tones", "--store", "other", "--jobs", 1),
        code=2,
        preexec_fn=without_privileges,
    )
    assert completed.stdout.startswith("folder: 8 of 9 tracks")
    assert re.search(r"tones/low/low-0\.wav: .*Permission denied", completed.stdout)
