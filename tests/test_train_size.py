"""Training on a share of each fold's training tracks: ``--train-size``."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Command
from hypothesis import given
from hypothesis import strategies as st
from small_store import workers_run, write_classes
from typer.testing import CliRunner

from mirembed import Classification, Regression, Tags, Target
from mirembed.cli.main import app
from mirembed.datasets.splits import Fold, make_folds
from mirembed.datasets.train_size import shrunk_folds
from mirembed.errors import EvaluationError, SpecError

pytestmark = pytest.mark.slow

CLASSES = Classification(("blues", "jazz", "rock"))
TARGETS = Regression((Target("valence"),))
SIZES = (0.1, 0.25, 0.5, 0.9, 1.0)
SHORT = ("--cv", 3, "--epochs", 1, "--network", "mlp", "--approach", "rbf-sl", "--approach", "chance")


def shrunk(labels: np.ndarray, size: float, seed: int = 0, groups: Sequence[str | None] | None = None) -> list[Fold]:
    """Return folds of labels ``[n]`` of three classes, or targets ``[n, 1]``, with a share of their training tracks."""
    task, scheme = (CLASSES, "stratified") if labels.ndim == 1 else (TARGETS, "random")
    folds, _ = make_folds(task, labels, scheme="grouped" if groups else scheme, n_folds=3, seed=seed, groups=groups)
    codes = None
    if groups is not None:
        named = sorted({group for group in groups if group is not None})
        codes = np.array([-row if group is None else named.index(group) + 1 for row, group in enumerate(groups)])
    return shrunk_folds(task, labels, folds, size, seed=seed, groups=codes)[0]


@given(counts=st.lists(st.integers(12, 40), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_classes_keep_their_proportions(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(3), counts)
    whole = shrunk(labels, 1.0, seed)
    for size in SIZES[1:]:
        for fold, of in zip(shrunk(labels, size, seed), whole, strict=True):
            assert len(fold.train) == pytest.approx(size * len(of.train), abs=0.5)
            expected = size * np.bincount(labels[of.train], minlength=3)
            np.testing.assert_allclose(np.bincount(labels[fold.train], minlength=3), expected, atol=1.0)


@pytest.mark.parametrize("labels", [np.repeat(np.arange(3), 30), np.linspace(0, 1, 90)[:, None]])
@pytest.mark.parametrize("groups", [None, [f"artist {n * n % 17}" for n in range(90)]])
def test_a_larger_share_contains_every_smaller_one(labels: np.ndarray, groups: Sequence[str] | None) -> None:
    of_sizes = [shrunk(labels, size, groups=groups) for size in SIZES]
    for smaller, larger in itertools.pairwise(of_sizes):
        for one, other in zip(smaller, larger, strict=True):
            assert set(one.train) <= set(other.train)
            np.testing.assert_array_equal(one.test, other.test)
            np.testing.assert_array_equal(one.train, np.unique(one.train))


def test_only_fold_and_seed_decide_which_tracks_are_kept() -> None:
    labels = np.repeat(np.arange(3), 30)
    made = [[fold.train.tolist() for fold in shrunk(labels, 0.5, seed)] for seed in (0, 0, 1)]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_tracks_with_the_same_rarest_tag_keep_their_share() -> None:
    """Ten tracks are rare and common, 30 only common, 20 have no tag."""
    labels = np.repeat([[1, 1], [1, 0], [0, 0]], [10, 30, 20], axis=0)
    folds = [Fold(0, np.arange(60), np.array([60]))]
    [half], _ = shrunk_folds(Tags(("common", "rare")), np.vstack([labels, [1, 1]]), folds, 0.5, seed=0)
    np.testing.assert_array_equal(labels[half.train].sum(axis=0), [20, 5])


def test_whole_groups_are_kept() -> None:
    sizes = [1, 2, 3, 4, 5, 6, 7, 8]
    groups = [f"artist {number}" for number, n in enumerate(sizes) for _ in range(n)] + [None] * 4
    labels = np.zeros((len(groups), 1))
    whole = shrunk(labels, 1.0, groups=groups)
    for fold, of in zip(shrunk(labels, 0.5, groups=groups), whole, strict=True):
        kept, left_out = set(fold.train), set(of.train) - set(fold.train)
        assert not {groups[row] for row in kept} & {groups[row] for row in left_out} - {None}
        assert len(kept) == pytest.approx(len(of.train) / 2, abs=4)  # half of the largest group


def test_the_whole_share_changes_nothing() -> None:
    fold = Fold(0, np.array([0, 1, 2, 3]), np.array([4]), inner=np.array([0, 1, 0, -1]))
    assert shrunk_folds(TARGETS, np.zeros((5, 1)), [fold], 1.0, seed=0) == ([fold], [])


def test_inner_folds_keep_the_tracks_that_are_left() -> None:
    fold = Fold(0, np.arange(40), np.array([40]), inner=np.arange(40) % 4 - 1)
    [half], _ = shrunk_folds(TARGETS, np.zeros((41, 1)), [fold], 0.5, seed=0)
    assert half.inner is not None
    np.testing.assert_array_equal(half.inner, half.train % 4 - 1)


def test_at_least_one_track_is_kept() -> None:
    fold = Fold(0, np.arange(9), np.array([9]))
    [one], _ = shrunk_folds(TARGETS, np.zeros((10, 1)), [fold], 0.01, seed=0)
    assert len(one.train) == 1


def test_a_share_with_a_single_class_is_an_error() -> None:
    fold = Fold(0, np.arange(9), np.array([9]))
    with pytest.raises(EvaluationError, match=r"training part of fold 0 .*--train-size"):
        shrunk_folds(CLASSES, np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 0]), [fold], 0.1, seed=0)


def test_a_class_that_is_no_longer_trained_on_is_noted() -> None:
    fold = Fold(0, np.arange(21), np.array([21]))
    labels = np.array([0] * 10 + [1] * 10 + [2, 2])
    [note] = shrunk_folds(CLASSES, labels, [fold], 0.2, seed=0)[1]
    assert note.endswith(": rock (fold 0)")


# The command


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 36 tracks of three classes."""
    root = tmp_path_factory.mktemp("sizes") / "s"
    write_classes(root, 36)
    return root


@pytest.fixture(scope="module")
def report(store: Path) -> dict[str, Any]:
    """What a run for each of three shares says."""
    with workers_run():
        words = ["evaluate", "--store", store, *SHORT]
        result = CliRunner().invoke(app, [*map(str, [*words, "--train-size", "0.25|0.5", "--train-size", 1, "--json"])])
    assert result.exit_code == 0
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_each_share_is_a_run_with_the_same_tests(report: dict[str, Any]) -> None:
    runs = report["evaluations"]
    assert [(one["train_size"], one["n_train"], one["n_test"]) for one in runs] == [
        (0.25, 6, 12),
        (0.5, 12, 12),
        (1, 24, 12),
    ]
    names = [Path(one["run"]).name for one in runs]
    assert [name.split("-train-")[1].split("-")[0] for name in names] == ["0.25", "0.5", "1"]
    tables = [pd.read_parquet(Path(one["run"]) / "folds.parquet") for one in runs]
    assert tables[0].equals(tables[1])
    assert tables[1].equals(tables[2])


def test_the_whole_share_has_the_numbers_of_a_run_without_shares(store: Path, report: dict[str, Any]) -> None:
    with workers_run():
        words = ["evaluate", "--store", store, *SHORT]
        result = CliRunner().invoke(app, [*map(str, [*words, "--json"])])
    assert json.loads(result.stdout)["approaches"] == report["evaluations"][2]["approaches"]
    assert json.loads(result.stdout)["train_size"] == 1


def test_a_table_shows_the_headline_metric_by_share(store: Path, report: dict[str, Any]) -> None:
    with workers_run():
        words = ["evaluate", "--store", store, "--cv", 3, "--approach", "stats", "--train-size", "0.25|1"]
        said = CliRunner().invoke(app, [*map(str, words)]).stdout
    last = said[said.index("by train size") :]
    assert re.findall(r"[\d.]+ \(\d+ tracks\)", last) == ["0.25 (6 tracks)", "1 (24 tracks)"]
    assert len(re.findall(r"│ stats", last)) == 1


@pytest.mark.parametrize("size", ["0", "1.5", "-0.5", "nan", "half", "0.5|"])
def test_a_share_is_a_number_above_0_and_at_most_1(store: Path, size: str) -> None:
    with pytest.raises(SpecError, match=f"--train-size .*{re.escape(size)}.*: expected"):
        CliRunner().invoke(app, ["evaluate", "--store", str(store), f"--train-size={size}"], catch_exceptions=False)


def test_a_share_that_is_given_twice_is_an_error(store: Path, mirembed: Command) -> None:
    said = mirembed("evaluate", "--store", store, "--train-size", "0.5|0.5", code=1).stderr
    assert said.splitlines()[-1].startswith("error: --train-size 0.5 ")
