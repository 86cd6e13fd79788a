"""Many networks trained at once, against each of them trained alone; on the CPU, where the operations are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from small_store import experiment, noise_with_peak, workers_run, write_classes, write_targets

from mirembed import stacked
from mirembed.errors import EvaluationError, PluginError, SpecError, StoreError
from mirembed.evaluate import Evaluation, evaluate, parts, work
from mirembed.fit import fit
from mirembed.models.model import Model
from mirembed.progress import Silent
from mirembed.registry import Registry
from mirembed.runs import RunFolder
from mirembed.store.files import read_table
from mirembed.store.frames import Tracks, open_tracks
from mirembed.store.moments import Moments
from mirembed.training.engine.plain import PlainEngine
from mirembed.training.engine.stacked import StackedEngine, no_excerpts
from mirembed.training.excerpts import EXCERPT_FRAMES, Normalization
from mirembed.training.labels import one_hot
from mirembed.training.loop import PluginSimilarity, Settings, Trained, Training, TrainingData, train
from mirembed.training.network import EmbeddingNetwork, one_thread, seeded_network
from mirembed.training.stacked import train_stacked
from mirembed_similarities.similarities import Cosine, Rbf

BANDS = 40
MAX_FRAMES = 250
N_TRACKS = 12
BATCH = 8


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in every training of the program."""
    with one_thread():
        yield


# The engine


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Room for N_TRACKS tracks of up to MAX_FRAMES frames, one after the other."""
    return np.random.default_rng(0).normal(-50, 10, (N_TRACKS * MAX_FRAMES, BANDS)).astype(np.float32)


def networks(count: int) -> list[EmbeddingNetwork]:
    """Networks with larger weights than fresh ones, so that the gates are not all half open."""
    made = [seeded_network(2 * BANDS, (7, number)) for number in range(count)]
    with torch.no_grad():
        for network in made:
            for parameter in network.parameters():
                parameter.mul_(2)
    return made


def normalizations(frames: np.ndarray, count: int) -> list[Normalization]:
    """The statistics of other tracks for each network."""
    starts, lengths = np.arange(N_TRACKS) * MAX_FRAMES, np.full(N_TRACKS, MAX_FRAMES)
    return [Normalization.fit(Moments.of(frames, starts[number:], lengths[number:])) for number in range(count)]


@st.composite
def excerpts(draw: st.DrawFn) -> np.ndarray:
    """Starts, lengths and offsets of 0 to BATCH excerpts, at every place of tracks of every length."""
    tracks = draw(st.lists(st.integers(0, N_TRACKS - 1), max_size=BATCH))
    lengths = [draw(st.integers(1, MAX_FRAMES)) for _ in tracks]
    offsets = [draw(st.integers(0, max(0, length - EXCERPT_FRAMES))) for length in lengths]
    return np.array([np.array(tracks) * MAX_FRAMES, lengths, offsets]).reshape(3, -1).astype(np.int64)


@settings(max_examples=20)
@given(st.lists(excerpts(), min_size=1, max_size=3), st.integers(0, 1))
def test_embeddings_and_gradients_are_those_of_each_network_alone(frames, batches, spare):
    alone, together = networks(len(batches)), networks(len(batches))
    statistics = normalizations(frames, len(batches))
    engine = StackedEngine(together, statistics, frames, len(batches) + spare, BATCH)
    filled = no_excerpts(len(batches) + spare, BATCH)
    gradient = torch.zeros(len(batches) + spare, BATCH, 50)
    for place, batch in enumerate(batches):
        size = batch.shape[1]
        filled[:, place, :size] = batch
        gradient[place, :size] = torch.randn(size, 50, generator=torch.Generator().manual_seed(place))
    embeddings = engine.embed_excerpts(torch.from_numpy(filled))
    gradients = engine.gradients(gradient)
    for place, (network, batch) in enumerate(zip(alone, batches, strict=True)):
        size = batch.shape[1]
        if size == 0:
            assert not any(of_stack[place].any() for of_stack in gradients)
            continue
        expected = PlainEngine(network).embed_excerpts(frames, *batch, statistics[place])
        theirs = torch.autograd.grad(expected, list(network.parameters()), gradient[place, :size])
        np.testing.assert_allclose(embeddings[place, :size], expected.detach(), rtol=0, atol=1e-5)
        for of_stack, their in zip(gradients, theirs, strict=True):
            assert (of_stack[place] - their).abs().max() <= 1e-5 * their.abs().max()


def test_a_network_in_a_stack_does_not_depend_on_companions_to_the_bit(frames):
    batch = np.array([np.arange(BATCH) * MAX_FRAMES, np.arange(90, 90 + 5 * BATCH, 5), np.zeros(BATCH)], np.int64)
    gradient = torch.randn(3, BATCH, 50, generator=torch.Generator().manual_seed(0))

    def numbers(count: int) -> list[np.ndarray]:
        engine = StackedEngine(networks(3)[:count], normalizations(frames, count), frames, 3, BATCH)
        filled = no_excerpts(3, BATCH)
        filled[:, :count] = batch[:, None]
        embeddings = engine.embed_excerpts(torch.from_numpy(filled))
        return [embeddings[0].numpy(), *(of_stack[0].numpy() for of_stack in engine.gradients(gradient))]

    for ours, theirs in zip(numbers(1), numbers(3), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_networks_parameters_are_views_of_the_stack(frames):
    [network] = networks(1)
    engine = StackedEngine([network], normalizations(frames, 1), frames, 1, BATCH)
    excerpt = torch.from_numpy(no_excerpts(1, BATCH))
    before = engine.embed_excerpts(excerpt).clone()
    with torch.no_grad():
        network.second.weight_ih_l0.mul_(0.5)
    assert not torch.equal(engine.embed_excerpts(excerpt), before)


# The training loop


@pytest.fixture(scope="module")
def data() -> list[TrainingData]:
    """Folds of eleven tracks of three classes, unlike in length; the folds are of 9, 8 and 11 tracks."""
    classes = np.arange(11) % 3
    tracks = [noise_with_peak([0.1, 0.5, 0.9][label], 80 + 15 * i, seed=i) for i, label in enumerate(classes)]
    lengths = np.array([len(track) for track in tracks])
    starts, frames = np.cumsum(lengths) - lengths, np.concatenate(tracks)
    return [
        TrainingData(
            frames,
            starts[rows],
            lengths[rows],
            one_hot(classes[rows], 3),
            classes[rows],
            Normalization.fit(Moments.of(frames, starts[rows], lengths[rows])),
        )
        for rows in (np.arange(9), np.arange(3, 11), np.arange(11))
    ]


OBJECTIVES: Sequence[Sequence[Any]] = [(Rbf(),), (Rbf(gamma=2.0), Cosine()), ()]
"""Similarities of the three trainings of a stack: the last is a baseline."""


def trainings(
    data: list[TrainingData],
    folder: Path | None = None,
    similarities: Sequence[Sequence[Any]] = OBJECTIVES,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    **how: Any,
) -> list[Training]:
    """Return one training on each fold, with batches of 4 that the folds of 9 and 11 tracks do not fill."""
    made = []
    for fold, (of_fold, objective) in enumerate(zip(data, similarities, strict=True)):
        checkpoint = None if folder is None else folder / f"{fold}.safetensors"
        settings = Settings(**{"epochs": 3, "batch": 4, "seed": 1, "fold": fold, **how})
        made.append(Training(of_fold, settings, *objective, checkpoint=checkpoint, on_epoch=on_epoch))
    return made


def weights(trained: Trained) -> list[torch.Tensor]:
    head = [] if trained.head is None else list(trained.head.parameters())
    return [parameter.detach() for parameter in [*trained.network.parameters(), *head]]


def assert_close(ours: Trained, theirs: Trained) -> None:
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-4)
    for our, their in zip(weights(ours), weights(theirs), strict=True):
        np.testing.assert_allclose(our, their, rtol=0, atol=1e-4)


def assert_same_to_the_bit(ours: Trained, theirs: Trained) -> None:
    assert ours.losses == theirs.losses
    assert all(torch.equal(our, their) for our, their in zip(weights(ours), weights(theirs), strict=True))


def test_stacked_trainings_are_those_of_each_network_alone(data):
    together = trainings(data)
    train_stacked(together, 3)
    for fold, training in enumerate(together):
        alone = train(data[fold], training.settings, *OBJECTIVES[fold])
        assert len(training.trained.losses) == 3
        assert_close(training.trained, alone)


def test_a_training_does_not_depend_on_which_others_are_left_to_the_bit(data):
    all_three, one = trainings(data), trainings(data)[1:2]
    train_stacked(all_three, 3)
    train_stacked(one, 3)
    assert_same_to_the_bit(one[0].trained, all_three[1].trained)


def test_an_interrupted_stack_goes_on_to_the_bit_and_those_ahead_wait(data, tmp_path):
    def interrupt(epoch: int) -> None:
        if epoch == 11:
            raise KeyboardInterrupt

    whole = trainings(data, epochs=12)
    train_stacked(whole, 3)

    with pytest.raises(KeyboardInterrupt):
        train_stacked(trainings(data, tmp_path, epochs=12, on_epoch=interrupt), 3)
    (tmp_path / "1.safetensors").unlink()  # as if the interruption had come before it was written

    resumed = trainings(data, tmp_path, epochs=12)
    assert [training.done for training in resumed] == [10, 0, 10]
    train_stacked(resumed, 3)
    for ours, theirs in zip(resumed, whole, strict=True):
        assert_same_to_the_bit(ours.trained, theirs.trained)


def test_checkpoints_are_those_of_a_network_trained_alone(data, tmp_path):
    train_stacked(trainings(data, tmp_path, epochs=10), 3)
    settings = Settings(epochs=10, batch=4, seed=1, fold=2)
    train(data[2], settings, checkpoint=tmp_path / "alone.safetensors")
    ours, theirs = load_file(tmp_path / "2.safetensors"), load_file(tmp_path / "alone.safetensors")
    assert {name: tensor.shape for name, tensor in ours.items()} == {n: tensor.shape for n, tensor in theirs.items()}
    for name, tensor in theirs.items():
        np.testing.assert_allclose(ours[name], tensor, rtol=1e-3, atol=1e-3)


def test_a_checkpoint_of_a_stack_is_gone_on_with_alone(data, tmp_path):
    train_stacked(trainings(data, tmp_path, epochs=10), 3)
    settings = Settings(epochs=11, batch=4, seed=1, fold=0)
    resumed = train(data[0], settings, Rbf(), checkpoint=tmp_path / "0.safetensors")
    assert_close(resumed, train(data[0], settings, Rbf()))


def test_a_damaged_checkpoint_is_named(data, tmp_path):
    (tmp_path / "1.safetensors").write_bytes(b"broken")
    with pytest.raises(StoreError, match=r"1.safetensors is damaged .*: this one training begins anew"):
        trainings(data, tmp_path)


def test_a_training_that_diverges_is_named(data):
    def exploding(x: torch.Tensor) -> torch.Tensor:
        return 1e30 * x @ x.mT

    culprit = PluginSimilarity(lambda x: exploding(x).clamp(max=1e38), "odd of mirembed-odd 1.0")
    with pytest.raises(
        EvaluationError, match=r"the loss is (inf|nan) after epoch 1: the training of seed 1, fold 1 .*odd"
    ):
        train_stacked(trainings(data, similarities=[(Rbf(),), (culprit,), ()]), 3)


class FailingGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x @ x.mT

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no gradient today")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.sum(dim=-1), r"returned the shape \(3, 4\) for vectors \(3, 4, 50\); expected \(3, 4, 4\)"),
        (lambda x: 1 / 0, r"fails for vectors \(3, 4, 50\): ZeroDivisionError"),
        (FailingGradient.apply, "fails: RuntimeError: no gradient today"),
    ],
)
def test_a_similarity_that_misbehaves_is_named_and_blamed(data, function, message):
    odd = PluginSimilarity(function, "odd:gamma=2 of mirembed-odd 1.0")
    with pytest.raises(PluginError, match=f"similarity odd:gamma=2 of mirembed-odd 1.0 {message}"):
        train_stacked(trainings(data, similarities=[(Rbf(),), (odd,), ()]), 3)


def test_a_similarity_is_not_learned_from_single_tracks(data):
    with pytest.raises(SpecError, match="--batch 1"):
        trainings(data, batch=1)


def test_too_little_memory_is_an_error_that_says_what_to_do(data, monkeypatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(StackedEngine, "embed_excerpts", full)
    with pytest.raises(EvaluationError, match=r"does not hold 3 networks with batches of 4 .*; use a smaller --batch"):
        train_stacked(trainings(data), 3)


# fit and evaluate


@pytest.fixture(scope="module")
def tracks(tmp_path_factory) -> Tracks:
    return open_tracks(write_classes(tmp_path_factory.mktemp("classes")))


def run_evaluation(tracks: Tracks, runs: Path, *approaches: str, **how: Any) -> RunFolder:
    settings = experiment(*approaches, epochs=how.pop("epochs", 5), batch=8)
    choices = Evaluation("stratified", 3, checkpoint_every=3, keep_models=True)
    with workers_run():
        return evaluate(tracks, settings, choices, Registry.discover(), runs, jobs=2, **how)[0]


def table(run: RunFolder, name: str) -> dict[str, list[Any]]:
    return read_table(run.folder / f"{name}.parquet").to_pydict()


APPROACHES = ("rbf-sl", "nn", "fl", "mel", "chance")


@pytest.fixture(scope="module")
def runs(tracks, tmp_path_factory) -> tuple[RunFolder, RunFolder]:
    """One evaluation, stacked and not."""
    folder = tmp_path_factory.mktemp("runs")
    return tuple(run_evaluation(tracks, folder / str(way), *APPROACHES, stacked=way) for way in (True, False))


def test_a_stacked_evaluation_is_that_of_single_networks(runs):
    ours, theirs = runs
    for name in ("folds", "predictions", "checkpoints"):
        assert table(ours, name) == table(theirs, name)
    losses = [table(run, "curves") for run in runs]
    assert losses[0]["epoch"] == losses[1]["epoch"]
    np.testing.assert_allclose(losses[0]["loss"], losses[1]["loss"], rtol=1e-3)
    for path in (theirs.folder / "embeddings").iterdir():
        vectors = [np.array(read_table(run.folder / "embeddings" / path.name)["embedding"].to_pylist()) for run in runs]
        np.testing.assert_allclose(*vectors, rtol=0, atol=1e-4)
    assert [path.name for path in sorted((ours.folder / "models").iterdir())] == [
        path.name for path in sorted((theirs.folder / "models").iterdir())
    ]


def test_the_models_of_a_stack_are_whole(runs, tracks):
    folder = runs[0].folder / "models" / "nn-seed0-fold2"
    model = Model.load(folder, Registry.discover())
    tested = read_table(runs[0].folder / "predictions.parquet").to_pylist()
    tested = [row for row in tested if (row["method"], row["fold"]) == ("nn", 2)]
    rows = np.array([tracks.ids.index(row["id"]) for row in tested])
    embeddings = model.embed(tracks.frames.open(), tracks.frames.starts[rows], tracks.frames.lengths[rows])
    assert [tracks.task.classes[i] for i in model.predict(embeddings)] == [row["prediction"] for row in tested]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000  # its own weights, and not the stack's


@pytest.mark.parametrize(("function", "calls"), [("_finish", 5), ("_keep_checkpoint", 4), ("save_checkpoint", 8)])
def test_an_interrupted_stacked_evaluation_goes_on_with_what_is_missing(
    runs, tracks, tmp_path, monkeypatch, function, calls
):
    """Between two parts, between two scores, and when two of six networks are trained."""
    done = []

    def stop(*arguments: Any) -> None:
        if len(done) == calls:
            raise KeyboardInterrupt
        original(*arguments)
        done.append(arguments)

    original = getattr(parts, function)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(parts, function, stop)
        run_evaluation(tracks, tmp_path, *APPROACHES, stacked=True)
    again = run_evaluation(tracks, tmp_path, *APPROACHES, stacked=True)
    for name in ("predictions", "checkpoints", "curves"):
        assert table(again, name) == table(runs[0], name)
    assert not list(again.folder.rglob("*-network.safetensors"))


def test_a_run_of_more_networks_than_a_stack_holds_has_several(runs, tracks, tmp_path, monkeypatch):
    monkeypatch.setattr(stacked, "STACK", 2)
    run = run_evaluation(tracks, tmp_path, "rbf-sl", stacked=True)
    of_all = read_table(runs[0].folder / "predictions.parquet").to_pylist()
    ours = read_table(run.folder / "predictions.parquet").to_pylist()
    assert ours == [row for row in of_all if row["method"] == "rbf-sl"]


def test_a_gpu_trains_stacked_and_a_cpu_does_not(tracks, tmp_path, monkeypatch):
    def stop(function: Callable[..., Any], arguments: Sequence[Any], epochs: list[int], jobs: int, *_: object) -> None:
        chosen.append((function.__name__, epochs, jobs))
        raise KeyboardInterrupt

    chosen: list[Any] = []
    monkeypatch.setattr(work, "run_trainings", stop)
    for device in ("cuda", "cpu"):
        settings = experiment("rbf-sl", epochs=7, device=device)
        with pytest.raises(KeyboardInterrupt):
            evaluate(tracks, settings, Evaluation("stratified", 3), Registry.discover(), tmp_path / device, jobs=2)
    assert chosen == [("train_stack", [21], 1), ("evaluate_part", [7, 7, 7], 2)]


def test_progress_counts_the_epochs_of_all_networks_and_then_their_scores(tracks, tmp_path):
    class Counted(Silent):
        def __init__(self) -> None:
            self.told: list[list[Any]] = []

        def start(self, description: str, total: float) -> None:
            self.told.append([description, total, 0])

        def update(self, done: float, **_: object) -> None:
            self.told[-1][2] = done

    progress = Counted()
    run_evaluation(tracks, tmp_path, "rbf-sl", "mel", epochs=4, stacked=True, progress=progress)
    assert progress.told == [
        ["training 3 networks for 4 epochs", 12, 12],
        ["scoring 3 networks", 6, 6],
        ["scoring what has no network", 3, 3],
    ]


def test_a_stacked_fit_is_that_of_single_networks(tmp_path):
    store, registry = write_targets(tmp_path), Registry.discover()
    tracks = open_tracks(store)
    models = {}
    for way in (True, False):
        with workers_run():
            fitted = fit(
                tracks,
                store,
                experiment("nn", "fl", "rbf-sl", epochs=3),
                registry,
                tmp_path / str(way),
                seed=0,
                jobs=1,
                stacked=way,
            )
        models[way] = [(one, Model.load(one.folder, registry)) for one in fitted]
    for (ours, our), (theirs, their) in zip(models[True], models[False], strict=True):
        assert ours.approach == theirs.approach
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
        for one, other in zip(our.network.parameters(), their.network.parameters(), strict=True):
            np.testing.assert_allclose(one.detach(), other.detach(), rtol=0, atol=1e-4)
        assert our.head is None or torch.allclose(our.head.weight, their.head.weight, rtol=0, atol=1e-4)
