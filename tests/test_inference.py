"""Embedding audio files with a model and no store: in order, and in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_tones
from small_networks import REGISTRY, network, seeded
from small_store import BANDS, CLASSES, LOGMEL, TARGETS, workers_run

from mirembed import Task
from mirembed.hookspecs import Classification, Estimator
from mirembed.models import inference
from mirembed.models.inference import EmbeddedFiles, embed_files
from mirembed.models.model import Model
from mirembed.progress import Silent
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.spectrogram import spectrogram
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.labels import TargetScale
from mirembed.training.network import seeded_head
from mirembed.training.weights import NetworkWeights, OutputLayer


def untrained(task: Task = CLASSES, estimator: Estimator | None = None) -> Model:
    """Return a model with initial weights, which predicts by its head if no estimator is given."""
    module = seeded("gru", 2 * BANDS, [0])
    n_outputs = len(task.classes if isinstance(task, Classification) else task.targets)
    return Model(
        task=task,
        network=NetworkWeights.of(module, network("gru").choice, 2 * BANDS, REGISTRY),
        normalization=Normalization(np.full(BANDS, -60, np.float32), np.full(BANDS, 20, np.float32)),
        form=InputForm(),
        head=OutputLayer.of(seeded_head(module.units, n_outputs, [0])) if estimator is None else None,
        estimator=estimator,
        scale=None if isinstance(task, Classification) else TargetScale(np.zeros(n_outputs), np.ones(n_outputs)),
        features=LOGMEL,
    )


def embed_here(model: Model, paths: list[Path]) -> EmbeddedFiles:
    with workers_run():
        return embed_files(model, paths, 1, Silent())


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> list[Path]:
    """Nine tones of 11 frames."""
    return sorted(write_tones(tmp_path_factory.mktemp("tones"), n_tracks=3, seconds=0.3).rglob("*.wav"))


def test_the_embedding_of_a_file_is_that_of_its_spectrogram(tones):
    model = untrained()
    embedded = embed_here(model, tones)
    assert (embedded.paths, embedded.failures) == (tones, [])
    for path, embedding in zip(tones, embedded.embeddings, strict=True):
        frames = spectrogram(path).frames
        (expected,) = model.embed(frames, np.array([0]), np.array([len(frames)]))
        np.testing.assert_array_equal(embedding, expected)


def test_only_so_many_spectrograms_are_held_at_once(tones, monkeypatch):
    model = untrained()
    expected = embed_here(model, tones).embeddings
    held = []
    embed = model.embed

    def spy(frames, starts, lengths):
        held.append(len(frames))
        return embed(frames, starts, lengths)

    monkeypatch.setattr(model, "embed", spy)
    monkeypatch.setattr(inference, "MAX_FRAMES", 40)
    np.testing.assert_array_equal(embed_here(model, tones).embeddings, expected)
    assert held == [44, 44, 11]


def test_failed_files_are_reported_and_the_others_keep_their_order(tones, tmp_path):
    bad, empty = tmp_path / "bad.wav", tmp_path / "empty.wav"
    bad.write_text("no audio")
    empty.touch()
    embedded = embed_here(untrained(), [bad, tones[5], empty, tones[0]])
    assert embedded.paths == [tones[5], tones[0]]
    assert [path for path, _ in embedded.failures] == [bad, empty]


@pytest.mark.parametrize("learner", [None, "svm"])
@pytest.mark.parametrize(("task", "shape"), [(CLASSES, (0,)), (TARGETS, (0, 2))])
def test_no_files_give_no_embeddings_and_no_predictions(learner, task, shape):
    estimator = learner and Registry.discover().create("learner", Spec(learner)).estimator(task)
    model = untrained(task, estimator)
    embedded = embed_here(model, [])
    assert embedded.embeddings.shape == (0, model.network.units)
    predicted = model.predict(embedded.embeddings)
    assert predicted.shape == shape
    assert predicted.dtype == (np.int64 if task == CLASSES else np.float64)
