"""The benchmarks: the obvious program computes the same as mirembed, and the commands run."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from conftest import run_here
from small_networks import seeded
from small_store import workers_run

from benchmarks import machine, memory, naive, scaling, speed
from benchmarks.problem import EMBEDDING_FLOP, TRAINING_FLOP
from mirembed.store.frame_file import Moments
from mirembed.training.engine import make_engine
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.labels import one_hot
from mirembed.training.loop import similarity_loss
from mirembed.training.network import one_thread
from mirembed_similarities import Rbf

pytestmark = pytest.mark.slow

LENGTHS = np.array([130, 250, 101, 40])
STARTS = np.cumsum(LENGTHS) - LENGTHS
TINY = ["--tracks", "20", "--frames", "110", "--folds", "2", "--rounds", "1"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measure badly: threads of torch that wait for each other are slow where several tests run at a time."""
    monkeypatch.setattr(machine, "SGEMM_REPEATS", 2)
    with one_thread():
        yield


@pytest.fixture
def frames():
    return np.random.default_rng(0).normal(-50, 10, (LENGTHS.sum(), 40)).astype(np.float32)


def test_the_naive_network_embeds_tracks_as_mirembed_does(frames):
    network, theirs = naive.Network(80), seeded("gru", 80, (0, 0))
    network.load_state_dict(dict(zip(network.state_dict(), theirs.state_dict().values(), strict=True)))
    training = np.array([0, 1, 2])
    tracks = naive.features(np.split(frames, STARTS[1:]), training)
    normalization = Normalization.fit(Moments.of(frames, STARTS[training], LENGTHS[training]))
    expected = make_engine("torch", theirs, InputForm()).embed_tracks(frames, STARTS, LENGTHS, normalization)
    np.testing.assert_allclose(naive.embed(network, tracks), expected, atol=1e-5)


def test_the_naive_similarity_loss_is_that_of_the_rbf():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(6, 50)))
    labels = torch.from_numpy(one_hot(np.array([0, 1, 2, 0, 1, 2]), 3)).double()
    torch.testing.assert_close(naive.SimilarityLoss()(x, labels), similarity_loss(Rbf()(x), Rbf()(labels)))


def test_the_naive_excerpts_begin_anywhere_and_short_tracks_are_used_whole(frames):
    tracks = [torch.from_numpy(track) for track in np.split(frames, STARTS[1:])]
    excerpts = naive.Excerpts(tracks, torch.arange(4))
    assert torch.equal(excerpts[3][0], tracks[3])
    starts = {int((tracks[2] == excerpts[2][0][0]).all(dim=1).nonzero()) for _ in range(50)}
    assert starts == {0, 1}


def test_the_operations_are_two_for_each_weight_and_product():
    network = seeded("gru", 80, (0, 0))
    weights = sum(p.numel() for p in network.parameters() if p.ndim == 2)
    of_the_input = network.layers[0].weight_ih_l0.numel()
    assert 2 * weights == EMBEDDING_FLOP
    assert 2 * (3 * weights - of_the_input) == TRAINING_FLOP


@pytest.mark.parametrize("approach", ["rbf-sl", "fl"])
def test_speed_compares_both_engines_with_the_naive_program(approach, capsys):
    with workers_run():
        speed.main(
            [*TINY, "--approach", approach, "--part", "training", "--part", "embedding", "--epochs", "1", "--jobs", "2"]
        )
    printed = capsys.readouterr().out
    rows = re.findall(r"^(\w+(?:, \d cores?)?) +\d+\.\d+ +\(", printed, re.MULTILINE)
    assert rows[:3] == ["naive", "numba", "torch"]
    assert rows[3:] == ["naive", "numba, 1 core", "numba, 2 cores", "torch, 1 core", "torch, 2 cores"]


def test_speed_runs_the_evaluation_as_a_user_would(tmp_path, monkeypatch, capsys):
    def run(words):
        assert words[1:3] == ["-m", "mirembed"]
        done = run_here(tmp_path, words[3:])
        assert done.returncode == 0, done.stderr
        return 1.0, done.stdout

    monkeypatch.setattr(speed, "run_command", run)
    words = ["--part", "evaluate", "--evaluate-epochs", "2", "--checkpoint-every", "1", "--engine", "torch"]
    speed.main([*TINY, *words, "--jobs", "1"])
    printed = capsys.readouterr().out
    assert "2 epochs of 2 networks, each scored 2 times" in printed
    assert re.search(r"^torch .* score [01]\.\d+$", printed, re.MULTILINE)


def test_scaling_lays_a_line_through_its_points(monkeypatch, capsys):
    def pretend(words):
        return 1.5 + 0.25 * int(words[words.index("--cv") + 1]) / int(words[words.index("--jobs") + 1]), ""

    monkeypatch.setattr(scaling, "run_command", pretend)
    scaling.main([*TINY, "--tracks", "80", "--folds", "4", "--jobs", "2"])
    printed = capsys.readouterr().out
    assert "folds, 2 workers: 1.50 s + 125.00 ms each" in printed
    assert re.search(r"^ +2 +2\.00 +1\.25 +\d+$", printed, re.MULTILINE)


def test_training_from_disk_gives_the_numbers_of_training_in_memory(tmp_path, capsys):
    with workers_run():
        words = ["--size", "1", "--frames", "110", "--jobs", "1", "--rounds", "1"]
        memory.main(["--part", "large", *words, "--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    losses = re.findall(r"a tenth, .* MiB +(\d+\.\d+) ", printed)
    assert len(losses) == 2
    assert losses[0] == losses[1]
    assert re.search(
        r"^disk: \d+ excerpts/s by random reads, one at a time; \d+/s, 32 at a time$", printed, re.MULTILINE
    )
    assert not list(tmp_path.iterdir())
