"""The training loop: losses, optimizer, checkpoints; and the scale of regression targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from audio_files import log_mel
from conftest import CLASSES, RATE, tone
from safetensors.torch import load_file, save_file
from small_networks import network, seeded
from small_networks import odd as odd_network
from small_store import experiment, job, noise_with_peak, open_tracks, workers_run, write_classes

from mirembed import Classification, Regression, Tags, Target
from mirembed.errors import EvaluationError, PluginError, SpecError, StoreError
from mirembed.fit import fit
from mirembed.fit.job import fit_models
from mirembed.models.model import Model
from mirembed.registry import Plugin, Registry
from mirembed.store.frame_file import Moments
from mirembed.training.engine.by_torch import TorchEngine
from mirembed.training.excerpts import InputForm, Normalization, epoch_batches, gather
from mirembed.training.labels import TargetScale, one_hot
from mirembed.training.loop import Trained, TrainingData, TrainingSettings
from mirembed.training.loop import train as train_network
from mirembed.training.network import one_thread, seeded_head
from mirembed.training.similarity import PluginSimilarity
from mirembed_similarities.similarities import Cosine, Rbf

pytestmark = pytest.mark.slow

THREE_CLASSES = Classification(("low", "middle", "high"))


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Nine tracks of three classes and different lengths."""
    classes = np.arange(9) % 3
    return training_data(
        [noise_with_peak([0.1, 0.5, 0.9][label], 80 + 15 * i, seed=i) for i, label in enumerate(classes)], classes
    )


def training_data(frames: list[np.ndarray], classes: np.ndarray) -> TrainingData:
    lengths = np.array([len(track) for track in frames])
    starts = np.cumsum(lengths) - lengths
    together = np.concatenate(frames)
    normalization = Normalization.fit(Moments.of(together, starts, lengths))
    return TrainingData(together, starts, lengths, THREE_CLASSES, one_hot(classes, 3), normalization)


@pytest.fixture(autouse=True)
def _one_thread():
    """As in every training of the program."""
    with one_thread():
        yield


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    head = {} if trained.head is None else {f"head.{name}": value for name, value in trained.head.named_parameters()}
    return {name: value.detach() for name, value in [*trained.network.named_parameters(), *head.items()]}


def same_to_the_bit(first: Trained, second: Trained) -> bool:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    return first.losses == second.losses and all(torch.equal(ours[name], theirs[name]) for name in ours)


def settings(epochs: int, batch: int = 32, **others: Any) -> TrainingSettings:
    return TrainingSettings(epochs, batch, **others)


SHORT = InputForm(20)
"""Excerpts for trainings of many epochs."""


def train(
    data: TrainingData, chosen: TrainingSettings, *similarities: Any, spec: str = "gru", **others: Any
) -> Trained:
    """Train a built-in network."""
    return train_network(data, network(spec), chosen, *similarities, **others)


def first_embeddings(data: TrainingData) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the first batch of seed 0, and the initial network's embeddings of their excerpts."""
    [(rows, offsets)] = epoch_batches((0, 0), 0, data.lengths, 32)
    engine = TorchEngine(seeded("gru", 80, (0, 0)))
    embeddings = engine.embed_excerpts(data.frames, data.starts[rows], data.lengths[rows], offsets, data.normalization)
    return rows, embeddings.detach().numpy().astype(np.float64)


def test_the_loss_compares_similarities_of_embeddings_with_those_of_labels(data):
    rows, embeddings = first_embeddings(data)
    labels = data.label_vectors[rows]
    squared = ((embeddings[:, None] - embeddings[None]) ** 2).sum(axis=2)
    directions = labels / np.linalg.norm(labels, axis=1, keepdims=True)
    expected = ((np.exp(-2 * squared) - directions @ directions.T) ** 2).sum() / 9
    assert train(data, settings(1), Rbf(gamma=2.0), Cosine()).losses == [pytest.approx(expected, rel=1e-5)]


def test_every_batch_is_compared_with_its_own_labels(data):
    engine = TorchEngine(seeded("gru", 80, (0, 0)))
    expected = 0.0
    for rows, offsets in epoch_batches((0, 0), 0, data.lengths, 2):  # four of 2 tracks and one of 1
        embeddings = engine.embed_excerpts(
            data.frames, data.starts[rows], data.lengths[rows], offsets, data.normalization
        )
        labels = torch.from_numpy(data.label_vectors[rows])
        expected += ((Rbf()(embeddings) - Rbf()(labels)) ** 2).sum().item()
    trained = train(data, settings(1, batch=2, optimizer="sgd:lr=0"), Rbf())
    assert trained.losses == [pytest.approx(expected / 9, rel=1e-5)]


def test_the_loss_of_a_regression_baseline_is_the_squared_error_of_its_output_layer(data):
    targets = np.random.default_rng(0).uniform(size=(9, 2)).astype(np.float32)
    rows, embeddings = first_embeddings(data)
    weight, bias = (parameter.detach().numpy() for parameter in seeded_head(50, 2, (0, 0)).parameters())
    expected = ((embeddings @ weight.T + bias - targets[rows]) ** 2).sum() / 9
    regression = replace(data, label_vectors=targets, task=Regression((Target("valence"), Target("arousal"))))
    assert train(regression, settings(1)).losses == [pytest.approx(expected, rel=1e-5)]


def test_the_loss_of_a_tags_baseline_is_the_binary_cross_entropy_of_its_output_layer(data):
    rows, embeddings = first_embeddings(data)
    weight, bias = (parameter.detach().numpy() for parameter in seeded_head(50, 3, (0, 0)).parameters())
    tags = np.random.default_rng(0).integers(0, 2, (9, 3)).astype(np.float32)
    tags[0] = 0
    p = 1 / (1 + np.exp(-(embeddings @ weight.T + bias)))
    expected = -(tags[rows] * np.log(p) + (1 - tags[rows]) * np.log(1 - p)).sum() / 9
    tagged = replace(data, label_vectors=tags, task=Tags(("calm", "drums", "piano")))
    assert train(tagged, settings(1)).losses == [pytest.approx(expected, rel=1e-5)]


def test_the_loss_of_a_classification_baseline_is_the_cross_entropy_of_its_output_layer(data):
    rows, embeddings = first_embeddings(data)
    weight, bias = (parameter.detach().numpy() for parameter in seeded_head(50, 3, (0, 0)).parameters())
    logits = embeddings @ weight.T + bias
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -log_softmax[np.arange(9), data.label_vectors.argmax(axis=1)[rows]].sum() / 9
    assert train(data, settings(1)).losses == [pytest.approx(expected, rel=1e-5)]


def test_three_epochs_are_three_steps_of_adadelta(data):
    """Learning rate 1, rho 0.95, epsilon 1e-6 (Zeiler, arXiv:1212.5701), on the sum over the batch's pairs."""
    module = seeded("gru", 80, (4, 1))
    squares = [np.zeros(parameter.shape) for parameter in module.parameters()]
    squared_steps = [np.zeros(parameter.shape) for parameter in module.parameters()]
    losses = []
    for epoch in range(3):
        [(rows, offsets)] = epoch_batches((4, 1), epoch, data.lengths, 32)
        inputs, inside = gather(data.frames, data.starts[rows], data.lengths[rows], offsets, 100, data.normalization)
        embeddings = module(torch.from_numpy(inputs), torch.from_numpy(inside))
        loss = ((Rbf()(embeddings) - Rbf()(torch.from_numpy(data.label_vectors[rows]))) ** 2).sum()
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        losses.append(loss.item() / 9)
        for i, (parameter, gradient) in enumerate(zip(module.parameters(), gradients, strict=True)):
            gradient = gradient.double().numpy()
            squares[i] = 0.95 * squares[i] + 0.05 * gradient**2
            step = np.sqrt(squared_steps[i] + 1e-6) / np.sqrt(squares[i] + 1e-6) * gradient
            squared_steps[i] = 0.95 * squared_steps[i] + 0.05 * step**2
            with torch.no_grad():
                parameter -= torch.from_numpy(step).float()

    trained = train(data, TrainingSettings(epochs=3, batch=32, seed=4, fold=1), Rbf())
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-4)
    for ours, theirs in zip(module.parameters(), trained.network.parameters(), strict=True):
        np.testing.assert_allclose(theirs.detach(), ours.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("similarity", [Rbf(), None], ids=["similarity", "baseline"])
def test_the_loss_falls_on_tones(similarity):
    classes = np.arange(9) % 3
    pitches = list(CLASSES.values())
    tones = [tone(pitches[label], seconds=3.0, seed=number) for number, label in enumerate(classes)]
    losses = train(
        training_data([log_mel(t, RATE) for t in tones], classes), settings(40, form=SHORT), similarity
    ).losses
    assert len(losses) == 40
    assert losses[-1] < 0.1 * losses[0]


def test_training_depends_on_seed_and_fold_alone(data):
    chosen = settings(2, seed=1, fold=2)
    first = train(data, chosen, Rbf())
    torch.manual_seed(5)
    assert same_to_the_bit(train(data, chosen, Rbf()), first)
    assert not same_to_the_bit(train(data, settings(2, seed=1, fold=3), Rbf()), first)
    assert not same_to_the_bit(train(data, settings(2, seed=2, fold=2), Rbf()), first)


def test_all_approaches_start_from_the_same_weights_and_see_the_same_excerpts(data, monkeypatch):
    started, seen = [], []

    def recording(frames, starts, lengths, offsets, n_frames, normalization, *, deltas):
        seen[-1].append((starts.tolist(), offsets.tolist()))
        return gather(frames, starts, lengths, offsets, n_frames, normalization, deltas=deltas)

    monkeypatch.setattr("mirembed.training.engine.by_torch.gather", recording)
    for similarity in (Rbf(), Cosine(), None):
        seen.append([])
        started.append(train(data, settings(0, seed=3, fold=1), similarity).network.state_dict())
        train(data, settings(3, batch=4, seed=3, fold=1, form=SHORT), similarity)
    assert len(seen[0]) == 9
    assert seen[0] == seen[1] == seen[2]
    for name, initial in started[0].items():
        assert torch.equal(started[1][name], initial)
        assert torch.equal(started[2][name], initial)


@pytest.mark.parametrize("similarity", [Rbf(), None], ids=["similarity", "baseline"])
def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(data, similarity, tmp_path):
    def interrupt(epoch: int) -> None:
        if epoch == 12:
            raise KeyboardInterrupt

    chosen, checkpoint = settings(13, form=SHORT), tmp_path / "checkpoint.safetensors"
    whole = train(data, chosen, similarity)
    with pytest.raises(KeyboardInterrupt):
        train(data, chosen, similarity, checkpoint=checkpoint, on_epoch=interrupt)
    epochs: list[int] = []
    resumed = train(data, chosen, similarity, checkpoint=checkpoint, on_epoch=epochs.append)
    assert epochs == [10, 11, 12, 13]
    assert len(resumed.losses) == 13
    assert same_to_the_bit(resumed, whole)


@pytest.mark.parametrize(
    ("spec", "optimizer"),
    [
        ("gru:dropout=0.5", "adadelta"),
        ("gru:cell=lstm,pooling=attention", "adam:lr=0.01"),
        ("crnn:maps=2,blocks=2,dropout=0.3", "sgd:lr=0.0001,momentum=0.9"),
        ("mlp:dropout=0.2", "rmsprop:lr=0.001"),
    ],
)
def test_draws_buffers_and_optimizers_are_resumed_to_the_bit(data, spec, optimizer, tmp_path):
    def interrupt(epoch: int) -> None:
        torch.rand(1)  # somebody else draws too
        if epoch == 11:
            raise KeyboardInterrupt

    chosen, checkpoint = settings(12, batch=4, optimizer=optimizer, form=SHORT), tmp_path / "checkpoint.safetensors"
    whole = train(data, chosen, Rbf(), spec=spec)
    with pytest.raises(KeyboardInterrupt):
        train(data, chosen, Rbf(), spec=spec, checkpoint=checkpoint, on_epoch=interrupt)
    torch.manual_seed(0)
    resumed = train(data, chosen, Rbf(), spec=spec, checkpoint=checkpoint)
    assert resumed.losses == whole.losses
    states = resumed.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())


def test_dropout_draws_anew_in_each_epoch_and_leaves_the_generator_of_others_alone(data):
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    frozen = settings(2, optimizer="sgd:lr=0")
    one, two = train(data, frozen, None, spec="mlp:dropout=0.5").losses
    assert torch.equal(torch.rand(5), expected)
    same, _ = train(data, frozen, None, spec="mlp:dropout=0.5").losses
    other, _ = train(data, replace(frozen, seed=1), None, spec="mlp:dropout=0.5").losses
    assert one == same
    assert len({one, two, other}) == 3


def test_excerpts_have_the_length_that_is_set_and_differences_only_if_they_are_wanted(data):
    seen = []

    class Spy(torch.nn.Linear):
        units = 2

        def forward(self, frames: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
            seen.append((tuple(frames.shape), inside.sum(dim=1).tolist()))
            weights = inside / inside.sum(dim=1, keepdim=True)
            return (super().forward(frames) * weights[:, :, None]).sum(dim=1)

    spy = odd_network(lambda inputs: Spy(inputs, 2))
    for form, expected in [
        (InputForm(7), (9, 7, 80)),
        (InputForm(7, deltas=False), (9, 7, 40)),
        (InputForm(1000), (9, 200, 80)),
    ]:
        train_network(data, spy, settings(1, form=form), Rbf())
        shape, counts = seen[-1]
        assert shape == expected
        assert sorted(counts) == [min(form.excerpt, length) for length in data.lengths]


def test_features_of_one_frame_are_trained_on_with_any_network(tmp_path):
    rng = np.random.default_rng(0)
    classes = np.arange(30) % 3
    frames = [rng.normal(3 * label, 1, (1, 12)).astype(np.float32) for label in classes]
    one_frame = training_data(frames, classes)
    form = InputForm.of(None, excerpt=100, deltas=None)
    for spec in ("mlp", "gru", "crnn:blocks=2"):
        losses = train(one_frame, settings(30, form=form), Rbf(), spec=spec).losses
        assert losses[-1] < losses[0]


def test_weights_that_two_layers_share_are_checkpointed(data, tmp_path):
    class Tied(torch.nn.Module):
        units = 4

        def __init__(self, inputs: int) -> None:
            super().__init__()
            self.first = self.again = torch.nn.Linear(inputs, 4)

        def forward(self, frames: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
            outputs = (self.first(frames) + self.again(frames)) * inside[:, :, None]
            return outputs.sum(dim=1) / inside.sum(dim=1, keepdim=True)

    checkpoint = tmp_path / "checkpoint.safetensors"
    whole = train_network(data, odd_network(Tied), settings(12), Rbf(), checkpoint=checkpoint)
    resumed = train_network(data, odd_network(Tied), settings(12), Rbf(), checkpoint=checkpoint)
    assert resumed.losses == whole.losses


def test_divergence_is_an_error_that_names_the_epoch(data):
    def exploding(x: torch.Tensor) -> torch.Tensor:
        return 1e30 * x @ x.mT

    with pytest.raises(EvaluationError, match=r"(inf|nan) after epoch 1\b.*similarity"):
        train(data, settings(3), exploding)
    with pytest.raises(EvaluationError, match=r"after epoch \d.*--optimizer sgd:lr=1e\+30"):
        train(data, settings(30, optimizer="sgd:lr=1e+30"), spec="mlp")


def odd(function: Callable[..., Any]) -> PluginSimilarity:
    return PluginSimilarity(function, "odd:gamma=2 of mirembed-odd 1.0")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.sum(dim=-1), r"shape \(9,\).* \(9, 50\).* expected \(9, 9\)"),
        (lambda x: x.detach().numpy() @ x.detach().numpy().T, r"ndarray.* \(9, 50\).* tensor"),
        (lambda x: (x @ x.mT).tolist(), "list"),
        (lambda x: (x @ x.mT).long(), r"torch\.int64.* \(9, 50\)"),
        (lambda x: (x @ x.mT).detach(), r"without gradient.* detach\(\)"),
        (lambda x: 1 / 0, r"\(9, 50\).*ZeroDivisionError"),
    ],
)
def test_the_error_names_the_similarity_that_misbehaves(data, function, message):
    with pytest.raises(PluginError, match=rf"odd:gamma=2 of mirembed-odd 1\.0 .*{message}"):
        train(data, settings(1), odd(function), Rbf())


def test_the_error_names_the_similarity_of_labels_too(data):
    with pytest.raises(PluginError, match=r"odd.* \(9,\).* \(9, 3\).* \(9, 9\)"):
        train(data, settings(1), Rbf(), odd(lambda x: x.sum(dim=-1)))


def test_the_error_names_the_similarity_that_ranks_neighbors_too():
    class Odd:
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.mT

        def cross(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no graphics card")

    query, candidates = np.ones(50, np.float32), np.ones((7, 50), np.float32)
    with pytest.raises(PluginError, match=r"odd.* \(1, 50\) and \(7, 50\).* no graphics card"):
        odd(Odd()).similarities_to(query, candidates)
    assert odd(Odd().__call__).similarities_to(query, candidates).tolist() == [50.0] * 7


@pytest.mark.parametrize("returned", [np.zeros(7), np.full((1, 7), np.nan)], ids=["shape", "nan"])
def test_a_wrong_ranking_by_numpy_is_an_error_of_the_similarity(returned):
    class Odd:
        def cross_numpy(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return returned

    with pytest.raises(PluginError, match=r"odd:gamma=2 .*expected finite values in the shape \(1, 7\)"):
        odd(Odd()).ranking_similarities(np.ones(50, np.float32), np.ones((7, 50), np.float32))


class Weighted(torch.nn.Module):
    """A similarity with a parameter and a buffer of its own."""

    def __init__(self, trainable: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5), requires_grad=trainable)
        self.register_buffer("shift", torch.tensor(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x @ x.mT + self.shift


def with_similarity(factory: Callable[[], Any]) -> Registry:
    plugin = Plugin("similarity", "weighted", factory, "", "mirembed-odd", "1.0")
    return Registry([*Registry.discover().plugins, plugin])


def test_a_similarity_with_buffers_and_frozen_parameters_is_not_trained(tmp_path):
    created = []

    def weighted() -> Weighted:
        created.append(Weighted(trainable=False))
        return created[-1]

    checkpoint = tmp_path / "checkpoint.safetensors"
    training = job(open_tracks(write_classes(tmp_path)), "weighted-sl", epochs=10, network=("gru",))
    fit_models(replace(training, checkpoint=checkpoint), with_similarity(weighted))
    assert [similarity.weight.item() for similarity in created] == [0.5, 0.5]
    assert [name for name in load_file(checkpoint) if "weight" in name and "weight_" not in name] == []


def test_a_similarity_with_trainable_weights_is_refused(tmp_path):
    training = job(open_tracks(write_classes(tmp_path)), "weighted-sl")
    with pytest.raises(PluginError, match=r"weighted of mirembed-odd 1\.0 .*\(weight\).*requires_grad=False"):
        fit_models(training, with_similarity(lambda: Weighted(trainable=True)))


def test_trainable_weights_that_a_similarity_hides_are_refused_where_it_is_used(data):
    hidden = torch.tensor(0.5, requires_grad=True)
    with pytest.raises(PluginError, match=r"odd:gamma=2 .*trainable"):
        train(data, settings(1), odd(lambda x: hidden * x @ x.mT))


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-100], lambda content: content[8:]])
def test_the_error_about_a_damaged_checkpoint_says_to_delete_it(data, tmp_path, damage):
    checkpoint = tmp_path / "checkpoint.safetensors"
    train(data, settings(10, form=SHORT), Rbf(), checkpoint=checkpoint)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(StoreError, match=f"{checkpoint} is damaged.* delete it"):
        train(data, settings(11, form=SHORT), Rbf(), checkpoint=checkpoint)


@pytest.mark.parametrize("kept", ["module", "optimizer", "no losses"])
def test_a_checkpoint_without_all_its_parts_is_damaged_too(data, tmp_path, kept):
    checkpoint = tmp_path / "checkpoint.safetensors"
    train(data, settings(10, form=SHORT), Rbf(), checkpoint=checkpoint)
    tensors = {
        name: tensor for name, tensor in load_file(checkpoint).items() if kept in (name.split(".")[0], "no losses")
    }
    save_file(tensors, checkpoint, metadata=None if kept == "no losses" else {"losses": str([1.0] * 10)})
    with pytest.raises(StoreError, match="is damaged"):
        train(data, settings(11, form=SHORT), Rbf(), checkpoint=checkpoint)


def test_learning_a_similarity_takes_batches_of_two_tracks(data):
    with pytest.raises(SpecError, match=r"--batch 1\b.* at least 2 tracks"):
        train(data, settings(1, batch=1), Rbf())
    assert train(data, settings(1, batch=1)).losses[0] > 0
    assert train(data, settings(1, batch=2), Rbf()).losses[0] > 0


def test_nn_and_fl_share_one_training(tmp_path):
    assert [len(group) for group in experiment("nn", "rbf-sl", "fl", "cosine-sl").trainings] == [2, 1, 1]
    store, registry = write_classes(tmp_path), Registry.discover()
    with workers_run():
        fitted = fit(
            open_tracks(store),
            store,
            experiment("nn", "fl", epochs=2),
            registry,
            tmp_path / "models",
            seed=0,
            jobs=1,
        )
    nn, fl = (Model.load(model.folder, registry) for model in fitted)
    assert fitted[0].loss == fitted[1].loss
    for name, array in nn.network.arrays.items():
        np.testing.assert_array_equal(fl.network.arrays[name], array)
    assert (nn.estimator, fl.head) == (None, None)
    assert nn.head is not None
    assert fl.estimator is not None


def test_a_declared_range_is_mapped_to_0_and_1_whatever_the_labels():
    task = Regression((Target("arousal", 1, 9), Target("valence", -1, 1)))
    labels = np.array([[3.0, 0.0], [5.0, 0.5]])
    scale = TargetScale.fit(task, labels)
    np.testing.assert_allclose(scale.scale(labels), [[0.25, 0.5], [0.5, 0.75]])
    np.testing.assert_allclose(scale.unscale(scale.scale(labels)), labels)
    np.testing.assert_allclose(scale.unscale(np.array([[0, 1], [1.25, -1]], np.float32)), [[1, 1], [11, -3]])


def test_the_range_of_an_undeclared_target_is_that_of_the_training_tracks():
    task = Regression((Target("arousal"), Target("valence", low=0.0), Target("tempo", 0, 300)))
    scale = TargetScale.fit(task, np.array([[-20.0, 0.5, 60], [30.0, 0.25, 180], [5.0, 2.0, 90]]))
    assert scale.low.tolist() == [-20, 0, 0]
    assert scale.high.tolist() == [30, 2, 300]
    np.testing.assert_allclose(scale.scale(np.array([[55.0, 1.0, 75]])), [[1.5, 0.5, 0.25]])


def test_a_constant_target_is_an_error_unless_its_range_is_declared():
    labels = np.array([[3.0], [3.0]])
    with pytest.raises(EvaluationError, match=r"arousal is 3\b"):
        TargetScale.fit(Regression((Target("arousal"),)), labels)
    np.testing.assert_allclose(TargetScale.fit(Regression((Target("arousal", 1, 9),)), labels).scale(labels), 0.25)
