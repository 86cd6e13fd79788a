"""The script of docs/results.md: it fills the tables on the page, and repeats nothing that is in the store."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pages import read
from small_store import workers_run, write_classes

from benchmarks import results
from mirembed.statistics.intervals import Interval

DATASETS = ("demo", "demo:task=regression", "gtzan", "emotify")
TINY = {"network": "mlp:hidden=4,units=3", "engine": "torch", "device": "cpu"}
EVALUATIONS = (
    {"approach": ["chance", "stats"]},
    {"approach": ["nn", "rbf-sl"], **TINY},
    {"combine": "best=rbf:gamma=2-sl|stats", "ensemble": 2, **TINY},
)
"""Those of the script with a network that takes no time, and without features that the store lacks."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The runs of the script on a store, and what the same call returns then."""
    store = write_classes(tmp_path_factory.mktemp("store"), groups=["a", "b", "c"] * 6)
    words = {"cv": 3, "epochs": 1, "checkpoint_every": 0}
    with workers_run():
        first, second = (
            [results.evaluated(store.root, "folder", 1, **words, **one) for one in EVALUATIONS] for _ in range(2)
        )
    return store, first, second


def test_the_page_has_a_place_for_every_dataset():
    page = read("docs/results.md")
    for dataset in DATASETS:
        assert results.put(page, dataset, results.between(page, dataset)) == page
    assert page.count("<!-- ") == 2 * len(DATASETS)


def test_only_the_place_of_the_dataset_changes():
    page = "a\n<!-- results of demo -->\nold\n<!-- end of results of demo -->\nb\n"
    assert results.between(page, "demo") == "old\n"
    assert results.put(page, "demo", "new\n") == page.replace("old", "new")
    with pytest.raises(SystemExit, match="gtzan"):
        results.put(page, "gtzan", "new\n")


def test_the_tables_on_the_page_have_a_score_and_a_cost_in_every_row():
    page = read("docs/results.md")
    for dataset in DATASETS:
        for row in re.findall(r"^\| `.*$", results.between(page, dataset), re.MULTILINE):
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert len(cells) == 6, row
            assert re.fullmatch(r"undefined|\d\.\d{3} \[-?\d\.\d{3}, \d\.\d{3}\]|-?\d\.\d{3} \[.*\]", cells[2]), row
            assert float(cells[5]) >= 0


def test_a_row_has_the_score_the_difference_and_the_cost():
    alone = results.Row("`chance`", "", Interval(0.1, 0.1, 0.1), None, None, 0.6)
    compared = results.Row("`stats`", "logmel", Interval(0.5, 0.4, 0.6), Interval(0.2, 0.1, 0.3), 0.0004, 750)
    *_, first, second = results.markdown([alone, compared], "accuracy").splitlines()
    assert first == "| `chance` |  | 0.100 [0.100, 0.100] |  |  | 0.01 |"
    assert second == "| `stats` | `logmel` | 0.500 [0.400, 0.600] | 0.200 [0.100, 0.300] | <0.001 | 12.5 |"


def test_a_finished_evaluation_is_not_repeated(measured):
    store, first, second = measured
    assert [run.folder for run in first] == [run.folder for run in second]
    assert len(list(store.runs.iterdir())) == len(EVALUATIONS)


def test_folds_keep_groups_apart_if_there_are_enough(measured):
    store, _, _ = measured
    assert results.schemes(store.root, "folder", 3) == [None, "grouped"]
    assert results.schemes(store.root, "folder", 3, "grouped") == ["grouped"]
    assert results.schemes(store.root, "folder", 4) == [None]


def test_every_method_is_in_the_table_once_with_its_score_and_cost(measured):
    _, runs, _ = measured
    found = {row.method: row for row in results.rows(runs)}
    names = ("chance", "stats", "nn", "rbf-sl")
    assert list(found) == [*(f"`{name}`" for name in names), "`rbf:gamma=2-sl`, 2 networks", "`--preset best`"]
    accuracy = [float(np.mean(runs[1].fold_scores[name]["accuracy", None])) for name in ("nn", "rbf-sl")]
    assert [found[f"`{name}`"].score.mean for name in ("nn", "rbf-sl")] == pytest.approx(accuracy)
    members = [found["`stats`"].cpu_seconds, found["`rbf:gamma=2-sl`, 2 networks"].cpu_seconds]
    assert found["`--preset best`"].cpu_seconds == pytest.approx(sum(members))
    assert min(members) > 0


def test_the_preset_is_compared_with_its_members_and_one_network(measured):
    _, runs, _ = measured
    rows = results.rows(runs)
    compared = {row.method: row.difference.mean for row in rows if row.difference is not None}
    best = rows[-1].score.mean
    assert set(compared) == {"`stats`", "`rbf-sl`", "`rbf:gamma=2-sl`, 2 networks"}
    assert compared == pytest.approx({row.method: best - row.score.mean for row in rows if row.method in compared})


def test_a_section_says_what_was_run(measured):
    _, runs, _ = measured
    text = results.section(runs)
    assert text.startswith(
        "\n### folder, 3 stratified folds\n\n18 tracks, 3 stratified folds (12 train, 6 test), 1 epoch"
    )
    assert Counter(line.count("|") for line in text.splitlines() if line.startswith("|")) == {7: 8}


def test_a_page_without_a_place_is_refused_before_anything_is_run(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no place\n")
    with pytest.raises(SystemExit, match="demo"):
        results.main(["--dataset", "demo", "--page", str(page), "--store", str(tmp_path / "store")])
    assert [path.name for path in Path(tmp_path).iterdir()] == ["page.md"]
