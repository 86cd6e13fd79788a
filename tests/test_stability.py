"""Trainings that diverge, jump or learn nothing; and what users are told about them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_networks import network
from small_store import evaluate, experiment, open_tracks, workers_run, write_classes

from mirembed import Classification
from mirembed.registry import Registry
from mirembed.store.frame_file import Moments
from mirembed.training.advice import PATIENCE, constant_loss, unlearned
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.labels import one_hot
from mirembed.training.loop import Trained, TrainingData, TrainingSettings, train
from mirembed.training.network import one_thread
from mirembed_similarities.similarities import Polynomial, Rbf

STEADY = "adam:lr=0.001,clip=10"


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return noisy(0.5)


def noisy(signal: float) -> TrainingData:
    """Forty tracks of ten classes, with noise of their own and in each frame."""
    rng = np.random.default_rng(0)
    classes = np.arange(40) % 10
    frames = signal * rng.normal(size=(10, 40))[classes] + rng.normal(size=(40, 40))  # [n_tracks, values]
    frames = (frames[:, None] + rng.normal(size=(40, 30, 40))).astype(np.float32).reshape(-1, 40)
    lengths = np.full(40, 30)
    starts = np.cumsum(lengths) - lengths
    normalization = Normalization.fit(Moments.of(frames, starts, lengths))
    task = Classification(tuple(map(str, range(10))))
    return TrainingData(frames, starts, lengths, task, one_hot(classes, 10), normalization)


def trained(data: TrainingData, similarity, optimizer: str, epochs: int = PATIENCE, spec: str = "mlp") -> Trained:
    with one_thread():
        return train(data, network(spec), TrainingSettings(epochs, 8, optimizer, InputForm(10)), similarity)


def test_the_constant_loss_is_that_of_the_best_similarity_for_all_pairs():
    rng = np.random.default_rng(0)
    batches = [rng.uniform(size=(n, n)) for n in (4, 4, 2, 1)]

    def loss(constant: float) -> float:
        return sum(((one - constant) ** 2)[~np.eye(len(one), dtype=bool)].sum() for one in batches)

    found = constant_loss(map(torch.from_numpy, batches))
    assert found == pytest.approx(min(map(loss, np.linspace(0, 1, 10001))), rel=1e-6)


def test_only_the_loss_of_the_last_epochs_says_whether_anything_was_learned():
    assert unlearned([9.0] * 60 + [0.9] * 5, 1.0, "adadelta") is None
    for optimizer, remedy in (("adadelta", f"--optimizer {STEADY}"), (STEADY, "epochs")):
        note = unlearned([0.9] * 60 + [1.1] * 5, 1.0, optimizer)
        assert note is not None
        assert [fact for fact in ("65 epochs", "1.1", remedy) if fact not in note] == []


@pytest.mark.slow
def test_a_training_that_has_learned_nothing_is_noted_once_it_had_the_epochs(data):
    frozen = "sgd:lr=0"
    assert trained(data, Rbf(), frozen).note is not None
    assert trained(data, Rbf(), frozen, epochs=PATIENCE - 1).note is None
    assert trained(data, None, frozen).note is None
    assert trained(data, Rbf(), "adadelta").note is None


@pytest.mark.slow
def test_an_unbounded_similarity_is_learned_with_the_remedy_that_the_note_names():
    plain, steady = (trained(noisy(0), Polynomial(d=3), optimizer, 100) for optimizer in ("adadelta", STEADY))
    assert plain.note is not None
    assert STEADY in plain.note
    assert steady.note is None
    assert steady.losses[-1] < 0.6 * plain.losses[-1]
    assert steady.losses[0] > 10 * plain.losses[-1], "the first gradient, which the default remembers, is large"


@pytest.mark.slow
def test_a_run_warns_of_a_network_that_has_learned_nothing(tmp_path):
    tracks = open_tracks(write_classes(tmp_path))
    # So large a gamma that all embeddings are unlike each other.
    settings = experiment("rbf:gamma=1e6-sl", "stats", label_similarity="cosine", epochs=PATIENCE, cv=2, excerpt=5)
    settings = replace(settings, optimizer="sgd:lr=0")
    with workers_run():
        run, _ = evaluate(tracks, settings, Registry.discover(), tmp_path / "runs")
    notes = [note for note in json.loads((run.folder / "notes.json").read_text()) if f"{PATIENCE} epochs" in note]
    assert [note.startswith("rbf:gamma=1e6-sl") for note in notes] == [True, True]
