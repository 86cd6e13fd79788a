"""What trainings cost: measured in the worker, kept in the run, and honest about interruptions."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from conftest import write_tones
from pages import invoke
from small_store import evaluate, experiment, open_tracks, run_here, workers_run, write_classes

from mirembed import workers
from mirembed.evaluate import fold
from mirembed.provenance import processor
from mirembed.registry import Registry
from mirembed.runs.cost import costs, costs_to_json, describe_costs, total
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import open_run, read_run
from mirembed.store.files import read_table
from mirembed.store.tracks import Tracks
from mirembed.workers.cost import Cost, Meter

REGISTRY = Registry.discover()


@pytest.fixture(scope="module")
def tracks(tmp_path_factory) -> Tracks:
    return open_tracks(write_classes(tmp_path_factory.mktemp("store")))


def run(tracks: Tracks, folder: Any, *approaches: str, how: Any = run_here, **settings: Any) -> RunFolder:
    with workers_run(how):
        described = experiment(*approaches, **{"epochs": 2, "cv": 3, **settings})
        found, _ = evaluate(tracks, described, REGISTRY, folder, jobs=2)
    return found


def test_a_meter_measures_time_and_the_peak_of_the_memory_since_its_start():
    big = np.ones(200 * 2**20 // 8)
    before = Meter().read().peak_memory
    del big
    meter = Meter()
    small = meter.read().peak_memory
    assert before - small > 150 * 2**20
    again = np.ones(100 * 2**20 // 8)
    del again
    time.sleep(0.05)
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    cost = meter.read()
    assert cost.peak_memory - small > 90 * 2**20
    assert cost.wall_seconds >= 0.1
    assert 0.05 <= cost.cpu_seconds <= cost.wall_seconds
    assert cost.sessions == 1


def test_costs_of_sessions_add_up_and_the_larger_memory_counts():
    assert Cost(1, 2, 30, 1) + Cost(10, 20, 3, 2) == Cost(11, 22, 30, 3)


@pytest.mark.slow
def test_a_run_keeps_the_cost_of_every_training(tracks, tmp_path):
    found = run(tracks, tmp_path, "nn", "fl", "rbf-sl", "stats", how=workers.run)
    rows = read_table(found.folder / "cost.parquet").to_pylist()
    assert [(row["methods"], row["seed"], row["fold"]) for row in rows] == [
        (methods, 0, number) for number in range(3) for methods in (["nn", "fl"], ["rbf-sl"], ["stats"])
    ]
    for row in rows:
        assert row["wall_seconds"] > 0
        assert row["cpu_seconds"] > 0
        assert 20 * 2**20 < row["peak_memory"] < 2**33
        assert (row["sessions"], row["processor"]) == (1, processor())
    record = open_run(tmp_path, found.folder.name)
    assert [(part.methods, part.trainings, part.resumed) for part in record.costs] == [
        (("nn", "fl"), 3, 0),
        (("rbf-sl",), 3, 0),
        (("stats",), 3, 0),
    ]
    whole = total(record.costs)
    assert whole.cost.wall_seconds == pytest.approx(sum(row["wall_seconds"] for row in rows))
    assert whole.cost.peak_memory == max(row["peak_memory"] for row in rows)


@pytest.mark.slow
def test_the_cost_of_a_resumed_training_counts_all_sessions(tracks, tmp_path, monkeypatch):
    monkeypatch.setattr(fold, "_COST_INTERVAL", 0.0)

    def interrupted(function, arguments, *_, **options):
        def on_epoch(epoch):
            if epoch == 12:
                time.sleep(0.2)
            if epoch == 13:
                raise KeyboardInterrupt

        for index, argument in enumerate(arguments):
            call = argument.argument.training
            yield workers.Done(index, fold.train_fold(call, on_epoch))

    with pytest.raises(KeyboardInterrupt):
        run(tracks, tmp_path, "rbf-sl", how=interrupted, epochs=20)
    [unfinished] = [RunFolder(path) for path in tmp_path.iterdir()]
    assert read_run(unfinished.folder).costs == []
    found = run(tracks, tmp_path, "rbf-sl", epochs=20)
    assert found.folder == unfinished.folder
    first, *others = read_table(found.folder / "cost.parquet").to_pylist()
    assert first["sessions"] == 2
    assert first["wall_seconds"] > 0.2
    assert [row["sessions"] for row in others] == [1, 1]
    [part] = costs(read_table(found.folder / "cost.parquet"))
    assert (part.trainings, part.resumed) == (3, 1)
    assert "(1 training interrupted and resumed)" in describe_costs([part])
    assert costs_to_json([part])["resumed"] == 1


def test_the_cost_of_an_unfinished_part_is_that_of_its_tasks_and_counts_the_latest_session(tmp_path):
    part = RunFolder(tmp_path).part("one")
    assert part.read_cost() == Cost()
    part.write_cost("first", Cost(1.5, 1.0, 2**20, 1))
    part.write_cost("second", Cost(1.0, 0.5, 2**21, 2))
    assert part.read_cost("first") == Cost(1.5, 1.0, 2**20, 1)
    assert part.read_cost() == Cost(2.5, 1.5, 2**21, 2)


@pytest.mark.slow
def test_an_interruption_before_the_cost_was_noted_counts_as_a_session_of_unknown_cost(tracks, tmp_path):
    def interrupted(function, arguments, *_, **options):
        def on_epoch(epoch):
            if epoch == 12:
                raise KeyboardInterrupt

        yield workers.Done(0, fold.train_fold(arguments[0].argument.training, on_epoch))

    with pytest.raises(KeyboardInterrupt):
        run(tracks, tmp_path, "rbf-sl", how=interrupted, epochs=20)
    found = run(tracks, tmp_path, "rbf-sl", epochs=20)
    assert [row["sessions"] for row in read_table(found.folder / "cost.parquet").to_pylist()] == [2, 1, 1]


@pytest.mark.slow
def test_evaluate_tells_the_cost_in_its_text_and_as_json(tmp_path, monkeypatch, capsys):
    write_tones(tmp_path / "tones", n_tracks=3, seconds=0.5)
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "--cv", "3", "--epochs", "1", "--network", "mlp"]
    with workers_run():
        invoke("extract", "--dataset", "folder", "--audio", "tones")
        capsys.readouterr()
        invoke(*command)
        assert processor() in capsys.readouterr().out
        invoke(*command, "--json")
    cost = json.loads(capsys.readouterr().out)["cost"]
    assert cost.keys() == {
        *("trainings", "resumed", "wall_seconds", "cpu_seconds", "peak_memory", "processors", "parts"),
    }
    assert cost["trainings"] == 3
    assert [part["methods"] for part in cost["parts"]] == [["rbf-sl"]]
