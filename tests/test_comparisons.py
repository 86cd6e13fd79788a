"""Comparisons that are declared before training: which pairs, from flags and files, and where a run keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from conftest import Command
from small_store import evaluate, experiment, open_tracks, workers_run, write_classes

from mirembed.config import Settings, read_experiment, write_experiment
from mirembed.config.approaches import Approach, cross
from mirembed.config.comparisons import Comparisons
from mirembed.config.files import parse_experiment
from mirembed.errors import SpecError
from mirembed.registry import Registry
from mirembed.runs.record import open_run
from mirembed.specs import Spec

METHODS = cross(
    ["logmel"], ["gru"], map(Approach.parse, ["chance", "rbf-sl", "nn", "stats", "fl"]), [Spec.parse("svm")]
)


def comparisons(against: str | None = None, primary: Sequence[tuple[str, str]] = ()) -> Comparisons:
    return Comparisons.of(METHODS, against, primary)


def test_the_first_trained_method_is_the_reference_of_the_others_and_baselines_are_apart():
    assert comparisons() == Comparisons(
        reference="rbf-sl",
        primary=(("nn", "rbf-sl"), ("fl", "rbf-sl")),
        baselines=(("rbf-sl", "chance"), ("rbf-sl", "stats")),
    )


def test_a_baseline_may_be_the_reference():
    assert comparisons("stats") == Comparisons(
        reference="stats",
        primary=(("rbf-sl", "stats"), ("nn", "stats"), ("fl", "stats")),
        baselines=(("stats", "chance"),),
    )


def test_without_a_trained_method_the_first_baseline_is_compared_with_the_others():
    baselines = [method for method in METHODS if method.name in ("chance", "stats")]
    assert Comparisons.of(baselines) == Comparisons("chance", (), (("chance", "stats"),))


def test_a_single_method_has_nothing_to_be_compared_with():
    assert Comparisons.of(METHODS[1:2]) == Comparisons("rbf-sl", (), ())


def test_listed_pairs_are_the_only_ones():
    pairs = (("fl", "nn"), ("rbf-sl", "stats"))
    assert comparisons(primary=pairs) == Comparisons(None, pairs, ())


def test_comparisons_are_read_back_from_json():
    for one in (comparisons(), comparisons(primary=[("fl", "nn")])):
        assert Comparisons.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("against", "primary", "facts"),
    [
        ("rbf", (), ["--against rbf", "rbf-sl?", "chance, rbf-sl, nn, stats, fl"]),
        (None, [("fl", "cnn")], ["primary: cnn", "chance, rbf-sl, nn, stats, fl"]),
        (None, [("fl", "fl")], ["fl with itself"]),
        (None, [("fl", "nn"), ("nn", "fl")], ["fl and nn", "2 times"]),
        ("fl", [("fl", "nn")], ["--against fl", "primary"]),
    ],
)
def test_unknown_methods_and_useless_pairs_are_an_error(against, primary, facts):
    with pytest.raises(SpecError) as error:
        comparisons(against, primary)
    for fact in facts:
        assert fact in str(error.value)


def test_a_reference_without_another_method_is_an_error():
    with pytest.raises(SpecError, match="--against rbf-sl"):
        Comparisons.of(METHODS[1:2], "rbf-sl")


def test_pairs_are_a_key_of_experiment_files():
    [settings] = parse_experiment('primary = [["fl", "nn"], ["rbf-sl", "nn"]]\n', "x.toml")
    assert settings.primary == (("fl", "nn"), ("rbf-sl", "nn"))
    assert parse_experiment(write_experiment([settings]), "x.toml") == [settings]
    assert settings.updated({"against": "fl"}, "flags") == Settings(against="fl")


@pytest.mark.parametrize("value", ['["fl", "nn"]', '[["fl"]]', '[["fl", 1]]', '"fl"', '[["fl", "nn", "rbf-sl"]]'])
def test_what_is_not_a_list_of_pairs_is_an_error(value):
    with pytest.raises(SpecError, match=r"x\.toml: primary"):
        parse_experiment(f"primary = {value}\n", "x.toml")


@pytest.mark.slow
def test_a_run_records_what_was_declared_and_repeats_it(tmp_path):
    tracks, registry = open_tracks(write_classes(tmp_path / "s")), Registry.discover()
    settings = experiment("stats", "untrained", "chance", cv=3, against="untrained")
    with workers_run():
        run, _ = evaluate(tracks, settings, registry, tmp_path / "runs")
        other, _ = evaluate(tracks, experiment("stats", "untrained", "chance", cv=3), registry, tmp_path / "runs")
    declared = open_run(tmp_path / "runs", run.folder.name).comparisons
    assert declared == Comparisons("untrained", (), (("untrained", "stats"), ("untrained", "chance")))
    assert [one.against for one in read_experiment(run.folder)] == ["untrained"]
    assert other.folder != run.folder
    assert open_run(tmp_path / "runs", other.folder.name).comparisons.reference == "stats"


@pytest.mark.slow
def test_an_unknown_reference_is_reported_before_anything_is_trained(mirembed: Command, tones):
    mirembed("extract", "--dataset", "folder", "--audio", tones)
    said = mirembed("evaluate", "--cv", 3, "--approach", "nn", "--against", "fl", code=1).stderr
    assert "--against fl" in said
    assert not (mirembed.folder / "mirembed-store" / "runs").exists()
