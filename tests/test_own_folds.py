"""Folds that a table gives: ``--folds FILE``."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Command
from small_store import CLASSES, workers_run, write_classes
from typer.testing import CliRunner

from mirembed.cli.main import app
from mirembed.datasets.folds_file import FoldsFile, own_folds, read_folds_file
from mirembed.errors import SpecError

pytestmark = pytest.mark.slow

IDS = "abcdef"
LABELS = np.array([0, 1, 0, 1, 0, 1])


def write(folder: Path, text: str, name: str = "mine.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def rows(folds: str, inner: str = "", ids: str = IDS) -> str:
    """Return a CSV file in which each character is the fold, or inner fold, of a track; ``t`` stands for train."""
    table = {"id": list(ids), "fold": list(folds), **({"inner_fold": list(inner)} if inner else {})}
    return pd.DataFrame(table).replace({name: {"t": "train"} for name in ("fold", "inner_fold")}).to_csv(index=False)


def folds_of(file: FoldsFile, ids: Sequence[str] = IDS, missing: str = "") -> tuple[list[Any], list[str]]:
    folds, notes = own_folds(CLASSES, LABELS[: len(ids)], file, list(ids), missing)
    return [(fold.train.tolist(), fold.test.tolist()) for fold in folds], notes


def names(file: FoldsFile) -> list[str]:
    return list(file.splits)


def test_each_fold_tests_its_tracks_and_trains_on_all_others(tmp_path: Path) -> None:
    folds, notes = folds_of(read_folds_file(write(tmp_path, rows("121323"))))
    assert folds == [([1, 3, 4, 5], [0, 2]), ([0, 2, 3, 5], [1, 4]), ([0, 1, 2, 4], [3, 5])]
    assert notes == []


def test_train_marks_tracks_that_are_never_tested(tmp_path: Path) -> None:
    assert folds_of(read_folds_file(write(tmp_path, rows("tttt1t"))))[0] == [([0, 1, 2, 3, 5], [4])]
    text = "id,fold\na,train\nb,train\nc,test\nd,train\ne,train\nf,test\n"
    assert folds_of(read_folds_file(write(tmp_path, text)))[0] == [([0, 1, 3, 4], [2, 5])]


def test_folds_are_in_the_order_of_their_numbers_or_names(tmp_path: Path) -> None:
    numbers = "id,fold\n" + "".join(f"t{n},{n}\n" for n in (10, 9, 0, 2))
    assert names(read_folds_file(write(tmp_path, numbers))) == ["0", "2", "9", "10"]
    assert names(read_folds_file(write(tmp_path, "id,fold\na,rock\nb,jazz\n"))) == ["jazz", "rock"]


@pytest.mark.parametrize("name", ["mine.csv", "mine.tsv", "MINE.CSV", "mine.parquet"])
def test_a_table_is_csv_tsv_or_parquet(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"fold": [1, 2, 1, 3, 2, 3], "id": list(IDS), "artist": "x"})
    if name.endswith("parquet"):
        table.to_parquet(tmp_path / name)
    else:
        table.to_csv(tmp_path / name, index=False, sep="\t" if name.endswith("tsv") else ";")
    file = read_folds_file(tmp_path / name)
    assert folds_of(file)[0] == [([1, 3, 4, 5], [0, 2]), ([0, 2, 3, 5], [1, 4]), ([0, 1, 2, 4], [3, 5])]
    assert (file.name, file.content) == (name, (tmp_path / name).read_bytes())


def test_inner_folds_are_those_of_the_training_tracks(tmp_path: Path) -> None:
    file = read_folds_file(write(tmp_path, rows(folds="112211", inner="xyxyxt")))
    first, second = own_folds(CLASSES, LABELS, file, list(IDS), ())[0]
    assert first.train.tolist() == [2, 3]
    assert [(one.train.tolist(), one.test.tolist()) for one in first.inner_folds()] == [([3], [2]), ([2], [3])]
    assert second.train.tolist() == [0, 1, 4, 5]
    assert [one.test.tolist() for one in second.inner_folds()] == [[0, 4], [1]]
    assert [one.train.tolist() for one in second.inner_folds()] == [[1, 5], [0, 4, 5]]


def test_a_track_that_is_only_tested_needs_no_inner_fold(tmp_path: Path) -> None:
    text = "id,fold,inner_fold\na,train,1\nb,train,2\nc,train,1\nd,train,2\ne,train,train\nf,test,\n"
    [fold], _ = own_folds(CLASSES, LABELS, read_folds_file(write(tmp_path, text)), list(IDS), ())
    assert fold.inner is not None
    assert fold.inner.tolist() == [0, 1, 0, 1, -1]


def test_without_inner_folds_they_are_left_to_be_drawn(tmp_path: Path) -> None:
    folds, _ = own_folds(CLASSES, LABELS, read_folds_file(write(tmp_path, rows("112212"))), list(IDS), ())
    assert [fold.inner for fold in folds] == [None, None]
    assert folds[0].inner_folds() == []


def test_tracks_outside_the_table_and_tracks_without_features_are_counted(tmp_path: Path) -> None:
    file = read_folds_file(write(tmp_path, rows("12132311", ids="abcdefyz")))
    folds, notes = folds_of(file, ids="abcdef", missing="yz")
    assert folds[0] == ([1, 3, 4, 5], [0, 2])
    [missing] = notes
    assert missing.startswith("2 of 8 tracks of mine.csv")
    file = read_folds_file(write(tmp_path, rows("1212", ids="abde")))
    _, (ignored,) = folds_of(file)
    assert ignored.startswith("2 of 6 tracks ignored: not in mine.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,fold\n", "mine.csv has no rows"),
        ("id,part\na,1\n", "mine.csv has no column 'fold'.* 'id', 'part'"),
        ("track,fold\na,1\n", "mine.csv has no column 'id'"),
        (rows("12", ids="aa"), "mine.csv, line 3: track 'a' .*twice"),
        ("id,fold\na,1\nb,\n", "mine.csv, line 3: column 'fold' is empty"),
        ("id,fold\n,1\n", "mine.csv, line 2: column 'id' is empty"),
        ("id,fold\na,1,2\n", "mine.csv, line 2: expected 2 values"),
        ('id,fold\n"a,1\n', "mine.csv, line 2: .*quotation"),
        (rows("111111"), "mine.csv: all 6 tracks are in the fold '1'"),
        (rows("tttttt"), "mine.csv: all tracks are marked 'train'"),
        ("id,fold,inner_fold\na,1,\nb,2,1\n", "mine.csv: 1 training track of fold '2' without an inner_fold: a"),
    ],
)
def test_a_faulty_table_is_an_error_that_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_folds_file(write(tmp_path, text))


def test_a_table_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none.csv: cannot be read"):
        read_folds_file(tmp_path / "none.csv")
    with pytest.raises(SpecError, match=r"mine.parquet is not a Parquet file"):
        read_folds_file(write(tmp_path, rows("121212"), "mine.parquet"))
    (tmp_path / "mine.csv").write_bytes(b"id,fold\n\xff,1\n")
    with pytest.raises(SpecError, match=r"mine.csv is not UTF-8"):
        read_folds_file(tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("ids", "missing", "message"),
    [
        ("abcd", "", "2 of its 6 tracks are not in the dataset: e, f; .*such as 'a'$"),
        ("abcde", "", "1 of its 6 tracks is not in the dataset: f"),
        ("bdef", "ac", "fold '1' has no test track: all 2 "),
        ("ac", "bdef", "fold '1' has no training track: all 4 "),
    ],
)
def test_a_table_that_does_not_fit_the_store_is_an_error(tmp_path: Path, ids: str, missing: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"--folds mine.csv: {message}"):
        folds_of(read_folds_file(write(tmp_path, rows("121323"))), ids, missing)


# The command


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of 18 tracks by six artists, and tables of folds; ``leaky.csv`` splits two artists."""
    folder = tmp_path_factory.mktemp("own")
    artists = [f"artist {number // 3}" for number in range(18)]
    write_classes(folder / "s", groups=artists)
    for name, leaked in (("apart", []), ("leaky", [0, 3])):
        fold = [(number // 3) % 3 for number in range(18)]
        table = pd.DataFrame({"id": [f"{n:03d}" for n in range(18)], "fold": fold})
        table.loc[leaked, "fold"] = 2
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder


def evaluate(work: Path, *words: object) -> tuple[Mapping[str, Any], str]:
    """Evaluate in this process; return the JSON and what was said."""
    options = ["--store", work / "s", "--approach", "stats", "--json"]
    with workers_run():
        result = CliRunner().invoke(app, [*map(str, ["evaluate", *words, *options])], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout), result.stderr


def test_a_run_tests_what_the_table_says_and_keeps_it(work: Path) -> None:
    report, said = evaluate(work, "--folds", work / "apart.csv")
    run = Path(report["run"])
    assert (report["folds"], report["n_folds"]) == ("apart.csv", 3)
    tested = pd.read_parquet(run / "folds.parquet").set_index("id")["fold"].to_dict()
    assert tested == pd.read_csv(work / "apart.csv", dtype={"id": str}).set_index("id")["fold"].to_dict()
    assert (run / "folds" / "apart.csv").read_bytes() == (work / "apart.csv").read_bytes()
    assert tomllib.loads((run / "experiment.toml").read_text())["folds"] == "folds/apart.csv"
    assert "group (artist)" not in said


def test_groups_on_both_sides_are_counted(work: Path) -> None:
    """Tracks 0 and 3 were moved: they are tested while their artist is trained on, as are the two others of each."""
    _, said = evaluate(work, "--folds", work / "leaky.csv")
    assert "warning: 6 of 18 test tracks share their group (artist)" in said


def test_groups_on_both_sides_of_inner_folds_are_counted(work: Path, tmp_path: Path) -> None:
    """The inner folds take turns, so that each of an artist's tracks is tested while the others are trained on."""
    table = pd.read_csv(work / "apart.csv", dtype={"id": str}).assign(inner_fold=[n % 3 for n in range(18)])
    table.to_csv(tmp_path / "inner.csv", index=False)
    _, said = evaluate(work, "--folds", tmp_path / "inner.csv")
    assert "warning: 36 test tracks of the inner folds " in said


def test_a_run_repeats_from_its_own_files(work: Path, tmp_path: Path) -> None:
    table = tmp_path / "moved.csv"
    table.write_bytes((work / "apart.csv").read_bytes())
    first, _ = evaluate(work, "--folds", table)
    table.unlink()
    again, _ = evaluate(work, "--config", first["run"])
    assert again["run"] != first["run"]
    assert (again["folds"], again["approaches"]) == (first["folds"], first["approaches"])


def test_an_experiment_of_several_runs_repeats_from_its_own_files(work: Path, tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text('seed = 3\nfolds = "mine.csv"\ntrain-size = [0.5, 1]\n')
    (tmp_path / "mine.csv").write_bytes((work / "apart.csv").read_bytes())
    first, _ = evaluate(work, "--config", tmp_path / "two.toml")
    (tmp_path / "mine.csv").unlink()
    again, _ = evaluate(work, "--config", first["run"])
    assert [one["folds"] for one in again["evaluations"]] == ["mine.csv"] * 2
    assert [one["approaches"] for one in again["evaluations"]] == [one["approaches"] for one in first["evaluations"]]


def test_the_folds_of_another_run_can_be_used(work: Path) -> None:
    first, _ = evaluate(work, "--folds", "grouped", "--cv", 3, "--seed", 4)
    again, _ = evaluate(work, "--folds", Path(first["run"]) / "folds.parquet", "--seed", 4)
    assert again["approaches"]["stats"]["pooled"] == first["approaches"]["stats"]["pooled"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--folds", "apart.csv", "--cv", "3"], "--cv 3 and --folds .*apart.csv: the number of folds of a table"),
        (["--folds", "apart.csv", "--splits", "3"], "--splits 3 and --folds"),
        (["--folds", "missing.csv"], "--folds .*missing.csv: cannot be read"),
        (["--folds", "apart.txt"], "--folds apart.txt: expected .*FILE.csv"),
    ],
)
def test_wrong_folds_are_an_error_before_anything_is_trained(
    work: Path, mirembed: Command, words: Sequence[str], message: str
) -> None:
    runs = sorted((work / "s" / "runs").glob("*"))
    given = [work / word if word in ("apart.csv", "missing.csv") else word for word in words]
    said = mirembed("evaluate", *given, "--store", work / "s", code=1).stderr.splitlines()
    assert said[-1].startswith("error: ")
    assert re.search(message, said[-1])
    assert sorted((work / "s" / "runs").glob("*")) == runs


def test_a_track_that_could_not_be_extracted_may_be_in_the_table(tmp_path: Path) -> None:
    store = write_classes(tmp_path / "s", 9)
    dataset = store.find(None)
    [first, *others] = dataset.tracks()
    dataset.write_tracks([replace(first, recording=None), *others], dataset.info())
    table = write(tmp_path, "id,fold\n" + "".join(f"{n:03d},{n % 2}\n" for n in range(9)))
    report, said = evaluate(tmp_path, "--folds", table)
    assert report["n_tracks"] == 8
    assert "1 of 9 tracks of mine.csv missing" in said
