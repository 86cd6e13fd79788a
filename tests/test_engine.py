"""The fused engine against torch's own GRU, and the choice between them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest
import torch
from conftest import clean_environment
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import network as plugin
from small_networks import seeded
from small_store import evaluate, experiment, noise_with_peak, open_tracks, workers_run, write_classes

from mirembed import Classification, Regression, Target
from mirembed.errors import EvaluationError, SpecError
from mirembed.evaluate.experiment import plan_experiment
from mirembed.fit import fit
from mirembed.models.model import Model
from mirembed.registry import Registry
from mirembed.store import Store
from mirembed.store.files import read_table
from mirembed.store.frame_file import Moments
from mirembed.training import engine as engines
from mirembed.training.engine import NetworkUse, choose_engine, fused, gru, make_engine, self_check, vectors
from mirembed.training.engine.by_torch import TorchEngine
from mirembed.training.engine.fused import FusedEngine
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.labels import one_hot
from mirembed.training.loop import Trained, TrainingData, TrainingSettings, train
from mirembed.training.network import one_thread
from mirembed_similarities.similarities import Polynomial, Rbf

pytestmark = pytest.mark.slow

BANDS = 40
SIZES = (100, 50)
EXCERPT = 100
MAX_FRAMES = 250
N_TRACKS = 40


class Flat(NamedTuple):
    """Room for N_TRACKS tracks of up to MAX_FRAMES frames, one after the other."""

    frames: np.ndarray
    normalization: Normalization


@pytest.fixture(scope="module")
def flat() -> Flat:
    frames = np.random.default_rng(0).normal(-50, 10, (N_TRACKS * MAX_FRAMES, BANDS)).astype(np.float32)
    starts, lengths = np.arange(N_TRACKS) * MAX_FRAMES, np.full(N_TRACKS, MAX_FRAMES)
    return Flat(frames, Normalization.fit(Moments.of(frames, starts, lengths)))


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    # Larger than the initial weights, so that the gates are not all half open.
    network = seeded("gru", 2 * BANDS, (7, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network


def made(engine: str, network: torch.nn.Module) -> engines.Engine:
    """Return an engine for the default network and input."""
    return make_engine(engine, network, InputForm(), plugin().choice)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in every training."""
    with one_thread():
        yield


@st.composite
def excerpts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, lengths and offsets of 1 to 40 excerpts, anywhere in tracks of any length."""
    tracks = draw(st.lists(st.integers(0, N_TRACKS - 1), min_size=1, max_size=40))
    lengths = [draw(st.integers(1, MAX_FRAMES)) for _ in tracks]
    offsets = [draw(st.integers(0, max(0, length - EXCERPT))) for length in lengths]
    return np.array(tracks) * MAX_FRAMES, np.array(lengths), np.array(offsets)


def embeddings_and_gradients(engine, network, flat, batch, seed=0) -> list[np.ndarray]:
    """The embeddings of a batch, and the gradients of all parameters for a random gradient of the embeddings."""
    embeddings = engine.embed_excerpts(flat.frames, *batch, flat.normalization)
    direction = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(seed))
    gradients = torch.autograd.grad(embeddings, list(network.parameters()), direction)
    return [embeddings.detach().numpy(), *(gradient.numpy() for gradient in gradients)]


@settings(max_examples=30)
@given(excerpts())
def test_embeddings_and_gradients_agree_with_torch(network, flat, batch):
    theirs = embeddings_and_gradients(TorchEngine(network), network, flat, batch)
    ours = embeddings_and_gradients(FusedEngine(network, SIZES), network, flat, batch)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-5)
    for our, their in zip(ours, theirs, strict=True):
        assert np.abs(our - their).max() <= 1e-4 * np.abs(their).max()


def test_a_batch_leaves_no_trace_in_the_next_one(network, flat):
    engine = FusedEngine(network, SIZES)
    for size in (33, 1, 16, 40, 7):
        batch = np.arange(size) % N_TRACKS * MAX_FRAMES, np.full(size, 50 + 3 * size), np.zeros(size, np.int64)
        again = embeddings_and_gradients(engine, network, flat, batch)
        fresh = embeddings_and_gradients(FusedEngine(network, SIZES), network, flat, batch)
        for ours, theirs in zip(again, fresh, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_gradients_do_not_depend_on_what_is_embedded_before_they_are_taken(network, flat):
    engine, other = FusedEngine(network, SIZES), FusedEngine(seeded("gru", 80, (0, 1)), SIZES)
    batch = np.array([0, MAX_FRAMES]), np.array([120, 90]), np.array([0, 5])
    expected = embeddings_and_gradients(engine, network, flat, batch)
    embeddings = engine.embed_excerpts(flat.frames, *batch, flat.normalization)
    for one in (engine, other):
        one.embed_tracks(flat.frames, batch[0], np.array([200, 20]), flat.normalization)
    other.embed_excerpts(flat.frames, batch[0], np.array([99, 7]), batch[2], flat.normalization)
    direction = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad(embeddings, list(network.parameters()), direction)
    for ours, theirs in zip(gradients, expected[1:], strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


@settings(max_examples=15)
@given(excerpts())
def test_an_excerpts_embedding_is_the_same_to_the_bit_in_any_batch(network, flat, batch):
    engine = FusedEngine(network, SIZES)
    together = engine.embed_excerpts(flat.frames, *batch, flat.normalization).detach()
    alone = engine.embed_excerpts(flat.frames, *(values[-1:] for values in batch), flat.normalization).detach()
    assert torch.equal(together[-1:], alone)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, N_TRACKS - 1), st.integers(1, MAX_FRAMES)), min_size=1, max_size=40))
def test_full_tracks_agree_with_torch_and_are_the_same_to_the_bit_in_any_batch(network, flat, chosen):
    starts = np.array([track * MAX_FRAMES for track, _ in chosen])
    lengths = np.array([length for _, length in chosen])
    engine = FusedEngine(network, SIZES)
    together = engine.embed_tracks(flat.frames, starts, lengths, flat.normalization)
    expected = TorchEngine(network).embed_tracks(flat.frames, starts, lengths, flat.normalization)
    assert (together.dtype, together.shape) == (np.float32, (len(chosen), 50))
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5)
    backwards = engine.embed_tracks(flat.frames, starts[::-1], lengths[::-1], flat.normalization)
    alone = engine.embed_tracks(flat.frames, starts[:1], lengths[:1], flat.normalization)
    np.testing.assert_array_equal(together, backwards[::-1])
    np.testing.assert_array_equal(together[:1], alone)


def test_a_long_track_agrees_with_torch(network, flat):
    start, length = np.array([0]), np.array([len(flat.frames)])
    ours = FusedEngine(network, SIZES).embed_tracks(flat.frames, start, length, flat.normalization)
    expected = TorchEngine(network).embed_tracks(flat.frames, start, length, flat.normalization)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_no_tracks_give_no_embeddings(network, flat, engine):
    nothing = np.zeros(0, np.int64)
    assert made(engine, network).embed_tracks(flat.frames, nothing, nothing, flat.normalization).shape == (0, 50)


def test_the_code_is_compiled_once_for_all_kinds_of_arrays(network, flat, tmp_path):
    flat.frames.tofile(tmp_path / "frames.f32")
    mapped = np.memmap(tmp_path / "frames.f32", np.float32, "r", shape=flat.frames.shape)
    batch = np.array([MAX_FRAMES]), np.array([200]), np.array([20])
    engine = FusedEngine(network, SIZES)
    results = [embeddings_and_gradients(engine, network, flat._replace(frames=f), batch) for f in (flat.frames, mapped)]
    for of_array, of_file in zip(*results, strict=True):
        np.testing.assert_array_equal(of_array, of_file)
    assert len(gru.forward.signatures) == len(gru.backward.signatures) == 1


@pytest.mark.parametrize(
    ("starts", "lengths", "offsets"),
    [([-1], [100], [0]), ([N_TRACKS * MAX_FRAMES - 99], [100], [0]), ([0], [100], [100]), ([0], [0], [0])],
)
def test_the_engine_never_reads_outside_the_frames(network, flat, starts, lengths, offsets):
    batch = np.array(starts), np.array(lengths), np.array(offsets)
    with pytest.raises(ValueError, match="outside the frames"):
        FusedEngine(network, SIZES).embed_excerpts(flat.frames, *batch, flat.normalization)


def test_the_engine_takes_float32_only(network, flat):
    batch = np.array([0]), np.array([100]), np.array([0])
    with pytest.raises(ValueError, match=r"float64.* expected float32"):
        FusedEngine(network, SIZES).embed_excerpts(flat.frames.astype(np.float64), *batch, flat.normalization)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Values per frame, and units of two layers."""
    return draw(st.integers(vectors.WIDTH, 70)), draw(st.integers(1, 40)), draw(st.integers(1, 40))


@settings(max_examples=15)
@given(sizes(), st.integers(1, 250))
def test_networks_of_all_sizes_and_excerpts_of_all_lengths_agree_with_torch(chosen, excerpt):
    values, hidden, units = chosen
    form = InputForm(excerpt)
    module = seeded(f"gru:hidden={hidden},units={units}", 2 * values, (0, 0))
    frames = np.random.default_rng(0).normal(-50, 10, (600, values)).astype(np.float32)
    starts, lengths = np.array([0, 250, 300]), np.array([250, 50, 300])
    flat = Flat(frames, Normalization.fit(Moments.of(frames, starts, lengths)))
    batch = starts, lengths, np.array([0, 3, 40])
    engines = FusedEngine(module, (hidden, units), form), TorchEngine(module, form)
    ours, theirs = (embeddings_and_gradients(engine, module, flat, batch) for engine in engines)
    for our, their in zip(ours, theirs, strict=True):
        assert our.shape == their.shape
        assert np.abs(our - their).max() <= 1e-4 * max(np.abs(their).max(), 1e-6)
    tracks = [engine.embed_tracks(frames, starts, lengths, flat.normalization) for engine in engines]
    np.testing.assert_allclose(*tracks, rtol=0, atol=1e-5)


def test_a_longer_excerpt_after_a_shorter_one_has_room(network, flat):
    form = InputForm(excerpt=200)
    engine = FusedEngine(network, SIZES, form)
    for length in (30, 199, 30):
        batch = np.array([0, MAX_FRAMES]), np.full(2, length), np.zeros(2, np.int64)
        ours = embeddings_and_gradients(engine, network, flat, batch)
        for one, other in zip(
            ours, embeddings_and_gradients(TorchEngine(network, form), network, flat, batch), strict=True
        ):
            assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


@pytest.mark.parametrize(
    ("spec", "values", "form", "kind"),
    [
        ("gru", 40, InputForm(), FusedEngine),
        ("gru:hidden=64,units=33", 51, InputForm(7), FusedEngine),
        ("gru", 15, InputForm(), TorchEngine),
        ("gru", 40, InputForm(deltas=False), TorchEngine),
        ("gru:layers=1", 40, InputForm(), TorchEngine),
        ("gru:cell=lstm", 40, InputForm(), TorchEngine),
        ("gru:dropout=0.1", 40, InputForm(), TorchEngine),
        ("gru:pooling=attention", 40, InputForm(), TorchEngine),
        ("gru:bidirectional=true", 40, InputForm(), TorchEngine),
        ("mlp", 40, InputForm(), TorchEngine),
    ],
)
def test_torch_computes_what_the_fused_engine_cannot(spec, values, form, kind):
    module, choice = seeded(spec, form.inputs(values), (0, 0)), plugin(spec).choice
    assert isinstance(make_engine("numba", module, form, choice), kind)
    assert isinstance(make_engine("torch", module, form, choice), TorchEngine)
    engine, notes = chosen("auto", uses=[NetworkUse(choice, "logmel:bands=1", values, form)])
    assert engine == ("numba" if kind is FusedEngine else "torch")
    if kind is TorchEngine:
        assert re.search(rf"engine: torch .*{re.escape(spec)} on logmel:bands=1, because", notes[-1])
        with pytest.raises(SpecError, match=rf"--engine numba: .*{re.escape(spec)}.*--engine torch"):
            chosen("numba", uses=[NetworkUse(choice, "logmel:bands=1", values, form)])


def test_both_engines_share_an_experiment_with_several_networks():
    uses = [NetworkUse(plugin(spec).choice, "logmel", 40, InputForm()) for spec in ("gru", "mlp", "crnn")]
    engine, notes = chosen("auto", uses=uses)
    assert engine == "numba"
    assert ["numba" in notes[-3], "torch" in notes[-2], "torch" in notes[-1]] == [True] * 3
    assert ["mlp" in notes[-2], "crnn" in notes[-1]] == [True] * 2
    assert chosen("numba", uses=uses) == ("numba", notes[-2:])


# ---- training -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Nineteen tracks of three classes and different lengths, some shorter than an excerpt."""
    classes = np.arange(19) % 3
    tracks = [noise_with_peak([0.1, 0.5, 0.9][label], 60 + 9 * i, seed=i) for i, label in enumerate(classes)]
    lengths = np.array([len(track) for track in tracks])
    starts = np.cumsum(lengths) - lengths
    frames = np.concatenate(tracks)
    normalization = Normalization.fit(Moments.of(frames, starts, lengths))
    return TrainingData(
        frames, starts, lengths, Classification(("low", "middle", "high")), one_hot(classes, 3), normalization
    )


def weights(trained: Trained) -> torch.Tensor:
    heads = [] if trained.head is None else list(trained.head.parameters())
    return torch.cat([parameter.detach().flatten() for parameter in [*trained.network.parameters(), *heads]])


@pytest.mark.parametrize(
    ("similarity", "optimizer"),
    [(Rbf(), "adadelta"), (None, "adadelta"), (Polynomial(), "adam:lr=0.001,clip=10")],
    ids=["similarity", "baseline", "clip"],
)
def test_training_agrees_with_torch(data, similarity, optimizer):
    """Batches of 6 do not fill a tile, and the last one holds a single track."""
    settings = TrainingSettings(epochs=4, batch=6, seed=2, optimizer=optimizer)
    theirs = train(data, plugin(), replace(settings, engine="torch"), similarity)
    ours = train(data, plugin(), replace(settings, engine="numba"), similarity)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-3)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=1e-3)
    assert not torch.equal(weights(ours), weights(theirs)), "the same engine computed both"


@pytest.mark.parametrize("similarity", [Rbf(), None], ids=["similarity", "baseline"])
def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(data, similarity, tmp_path):
    def interrupt(epoch: int) -> None:
        if epoch == 12:
            raise KeyboardInterrupt

    settings, checkpoint = TrainingSettings(epochs=13, batch=32, engine="numba"), tmp_path / "checkpoint.safetensors"
    whole = train(data, plugin(), settings, similarity)
    with pytest.raises(KeyboardInterrupt):
        train(data, plugin(), settings, similarity, checkpoint=checkpoint, on_epoch=interrupt)
    resumed = train(data, plugin(), settings, similarity, checkpoint=checkpoint)
    assert resumed.losses == whole.losses
    assert torch.equal(weights(resumed), weights(whole))


def memory_of_files() -> int:
    """Bytes of mapped files in the memory of this process."""
    return int(re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_frames_in_a_file_give_the_same_numbers_and_do_not_stay_in_memory(tmp_path, network, engine):
    n_tracks, n_frames = 150, 1000
    shape = (n_tracks * n_frames, BANDS)  # 24 MB
    frames = np.random.default_rng(0).normal(-50, 10, shape).astype(np.float32)
    frames.tofile(tmp_path / "frames.f32")
    starts, lengths = np.arange(n_tracks) * n_frames, np.full(n_tracks, n_frames)
    labels = one_hot(np.arange(n_tracks) % 3, 3)
    results = []
    for source in (frames, np.memmap(tmp_path / "frames.f32", np.float32, "r", shape=shape)):
        before = memory_of_files()
        normalization = Normalization.fit(Moments.of(source, starts, lengths))
        data = TrainingData(
            source, starts, lengths, Regression((Target("a"), Target("b"), Target("c"))), labels, normalization
        )
        trained = train(data, plugin(), TrainingSettings(epochs=1, batch=50, engine=engine))
        embeddings = made(engine, network).embed_tracks(source, starts, lengths, normalization)
        results.append((weights(trained), torch.from_numpy(embeddings)))
    assert memory_of_files() - before < frames.nbytes / 3
    for in_memory, in_file in zip(*results, strict=True):
        assert torch.equal(in_memory, in_file)


def test_divergence_is_an_error(data):
    def exploding(x: torch.Tensor) -> torch.Tensor:
        return 1e30 * x @ x.mT

    with pytest.raises(EvaluationError, match=r"(inf|nan) after epoch 1\b"):
        train(data, plugin(), TrainingSettings(epochs=3, batch=32, engine="numba"), exploding)


def test_an_evaluation_does_not_depend_on_the_number_of_workers(tmp_path):
    tracks = open_tracks(write_classes(tmp_path / "store"))
    settings, runs = experiment("rbf-sl", epochs=2, cv=3, engine="numba"), []
    for here, jobs in ((workers_run(), 1), (nullcontext(), 2)):
        with here:
            run, _ = evaluate(tracks, settings, Registry.discover(), tmp_path / f"runs{jobs}", jobs=jobs)
        assert json.loads((run.folder / "manifest.json").read_text())["configuration"]["engine"] == "numba"
        runs.append([read_table(run.folder / f"{name}.parquet") for name in ("predictions", "curves")])
    assert runs[0] == runs[1]


def test_a_loaded_model_embeds_with_the_engine_that_trained_it_to_the_bit(tmp_path, monkeypatch):
    features = write_classes(tmp_path / "store")
    tracks = open_tracks(features)
    registry = Registry.discover()
    with workers_run():
        [fitted] = fit(
            tracks, features, experiment(epochs=1, engine="numba"), registry, tmp_path / "models", seed=0, jobs=1
        )
    table = read_table(fitted.embeddings)
    vectors = dict(zip(table["recording"].to_pylist(), table["vector"].to_pylist(), strict=True))
    stored = np.array([vectors[recording] for recording in tracks.recordings])
    frames = tracks.frames["logmel"]

    def embeddings() -> np.ndarray:
        return Model.load(fitted.folder, registry).embed(frames.open(), frames.starts, frames.lengths)

    np.testing.assert_array_equal(embeddings(), stored.astype(np.float32))
    monkeypatch.setattr(engines, "reason_against_numba", lambda: "numba is missing")
    elsewhere = embeddings()
    assert not np.array_equal(elsewhere, stored)
    np.testing.assert_allclose(elsewhere, stored, rtol=0, atol=1e-5)


# ---- the choice ---------------------------------------------------------------------------------------------------


@pytest.fixture
def afresh() -> Iterator[None]:
    """Check the fused engine anew, and forget the result afterwards."""
    engines.reason_against_numba.cache_clear()
    yield
    engines.reason_against_numba.cache_clear()


def chosen(engine: str, device: str = "cpu", uses: Sequence[NetworkUse] = ()) -> tuple[str, list[str]]:
    notes: list[str] = []
    return choose_engine(engine, device, notes.append, uses), notes


def test_networks_of_torch_are_listed_once_with_all_their_features_and_compile_nothing(afresh, monkeypatch):
    monkeypatch.setattr(engines, "gradient_difference", lambda: pytest.fail("compiled"))
    choices = [plugin(spec).choice for spec in ("mlp", "gru:layers=1")]
    uses = [NetworkUse(choice, features, 40, InputForm()) for choice in choices for features in ("logmel", "chroma")]
    engine, notes = chosen("auto", uses=uses)
    assert engine == "torch"
    assert [re.search(r"for (.+) on (.+), because", note).groups() for note in notes] == [
        ("mlp", "logmel, chroma"),
        ("gru:layers=1", "logmel, chroma"),
    ]


def test_numba_is_chosen_where_it_agrees_with_torch(afresh):
    engine, notes = chosen("auto")
    assert engine == "numba"
    assert "numba" in notes[-1]
    assert chosen("numba") == ("numba", [])
    assert chosen("torch") == ("torch", [])


def differ_by(patch: pytest.MonkeyPatch, difference: float) -> None:
    for check in ("gradient_difference", "embedding_difference"):
        patch.setattr(engines, check, lambda: difference)


def refuse(*_: object) -> None:
    raise RuntimeError("LLVM ERROR: unknown target\nand more of it")


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda patch: patch.setattr(numba.config, "DISABLE_JIT", 1), "NUMBA_DISABLE_JIT"),
        (
            lambda patch: patch.setitem(sys.modules, "numba", None),
            "ModuleNotFoundError",
        ),
        (lambda patch: patch.setattr("llvmlite.binding.get_host_cpu_features", dict), "AVX2"),
        (
            lambda patch: patch.setattr(fused, "FusedEngine", refuse),
            r"RuntimeError: LLVM ERROR: unknown target\b",
        ),
        (
            lambda patch: differ_by(patch, 0.03),
            r"0\.03, more than 0\.0001",
        ),
        (
            lambda patch: differ_by(patch, float("nan")),
            r"nan, more than 0\.0001",
        ),
    ],
)
def test_torch_is_chosen_where_numba_does_not_work_and_the_reason_is_given(afresh, monkeypatch, break_it, reason):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    break_it(monkeypatch)
    engine, [note] = chosen("auto")
    assert engine == "torch"
    assert isinstance(made("auto", seeded("gru", 80, (0, 0))), TorchEngine)
    assert re.search(f"engine: torch.*{reason}", note)
    with pytest.raises(SpecError, match=f"--engine numba.*{reason}.*--engine torch"):
        choose_engine("numba", "cpu", print)


def test_the_self_check_compares_embeddings_and_gradients_with_torch(monkeypatch):
    assert self_check.gradient_difference() < 1e-5
    forward, backward = fused.FusedEngine._forward, fused.FusedEngine._backward
    monkeypatch.setattr(fused.FusedEngine, "_forward", lambda *of: forward(*of) * np.float32(1.001))
    assert self_check.gradient_difference() == pytest.approx(1e-3, rel=0.01)
    monkeypatch.setattr(fused.FusedEngine, "_forward", forward)
    monkeypatch.setattr(fused.FusedEngine, "_backward", lambda *of: [each * 1.001 for each in backward(*of)])
    assert self_check.gradient_difference() == pytest.approx(1e-3, rel=0.01)


def test_the_self_check_for_embedding_compares_with_numpy_and_needs_no_torch(monkeypatch):
    assert self_check.embedding_difference() < 1e-5
    embed_tracks = fused.FusedEngine.embed_tracks
    monkeypatch.setattr(fused.FusedEngine, "embed_tracks", lambda *of: embed_tracks(*of) * np.float32(1.001))
    assert self_check.embedding_difference() == pytest.approx(1e-3, rel=0.01)
    code = (
        "import sys; from mirembed.training.engine import reason_against_numba as reason\n"
        "assert reason() is None, reason()\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env=clean_environment(), check=True)


def test_a_gradient_whose_tape_was_overwritten_is_refused():
    network = seeded("gru", 2 * BANDS, (0, 0))
    engine = FusedEngine(network, SIZES)
    frames = np.zeros((200, BANDS), np.float32)
    place = np.zeros(1, np.int64)
    batch = (
        frames,
        place,
        np.array([200]),
        place,
        Normalization(np.zeros(BANDS, np.float32), np.ones(BANDS, np.float32)),
    )
    first, second = engine.embed_excerpts(*batch), engine.embed_excerpts(*batch)
    with pytest.raises(RuntimeError, match="before embedding the next"):
        first.sum().backward()
    second.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        second.sum().backward()


def test_torch_computes_networks_that_are_not_on_the_cpu():
    assert isinstance(made("numba", seeded("gru", 80, (0, 0)).to("meta")), TorchEngine)


def test_on_cuda_torch_is_chosen_without_compiling_the_fused_engine(monkeypatch):
    monkeypatch.setattr(engines, "reason_against_numba", lambda **_: pytest.fail("the fused engine was compiled"))
    engine, [note] = chosen("auto", "cuda")
    assert engine == "torch"
    assert "torch" in note
    assert "cuda" in note
    assert chosen("torch", "cuda") == ("torch", [])
    with pytest.raises(SpecError, match=r"--engine numba.*\bcuda\b.*--engine torch"):
        chosen("numba", "cuda")


@pytest.mark.parametrize(("engine", "recorded"), [("auto", "torch"), ("torch", "torch"), ("numba", None)])
def test_a_command_on_cuda_records_torch_or_refuses(engine, recorded, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a graphics card")
    monkeypatch.setattr(engines, "reason_against_numba", lambda **_: pytest.fail("the fused engine was compiled"))
    features = write_classes(tmp_path / "s")
    settings = experiment(engine=engine, device="cuda", cv=2)
    with nullcontext() if recorded else pytest.raises(SpecError, match=r"--engine numba.*cuda"):
        [planned] = plan_experiment([settings], Store(tmp_path / "s"), Registry.discover())
        assert planned.configuration()["engine"] == recorded
    if recorded is None:
        with pytest.raises(SpecError, match=r"--engine numba.*cuda"):
            fit(open_tracks(features), features, settings, Registry.discover(), tmp_path / "models", seed=0, jobs=1)


def test_the_error_about_an_unknown_engine_lists_the_known_ones():
    with pytest.raises(SpecError, match=r"--engine fortran.* auto, numba or torch"):
        choose_engine("fortran", "cpu", print)


CHOOSE = "from mirembed.training.engine import choose_engine; print(choose_engine('auto', 'cpu', print))"


def choose_in_process(environment: dict[str, str]) -> list[str]:
    """The lines that a new process prints: notes, then the choice."""
    completed = subprocess.run(
        [sys.executable, "-c", CHOOSE], env=clean_environment(environment), capture_output=True, text=True, check=True
    )
    return completed.stdout.splitlines()


def test_a_compilation_is_announced_once(afresh, monkeypatch):
    successor = [numba.njit(lambda x: x + 1), numba.njit(lambda x: x + 2)]
    monkeypatch.setattr(engines, "gradient_difference", lambda: 0.0 * sum(each(1) for each in successor))
    compiling, chose = chosen("auto")[1]
    assert compiling.startswith("compiling")
    engines.reason_against_numba.cache_clear()
    assert chosen("auto") == ("numba", [chose])


def test_what_is_compiled_is_kept_for_other_processes():
    here, notes = chosen("auto")
    assert here == "numba"
    assert choose_in_process({}) == [notes[-1], "numba"]


def test_code_that_cannot_be_cached_is_compiled_anew(monkeypatch):
    def nowhere(*_: object, cache: bool = False, **__: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function 'forward': no locator available")
        return lambda function: function

    monkeypatch.setattr(gru, "njit", nowhere)
    monkeypatch.setattr(gru, "compiled", lambda function: f"compiled {function}")
    assert gru.entry("forward") == "compiled forward"


def test_numbas_cache_notices_changes_of_the_vectors():
    """Numba's cache looks at ``gru.py`` alone: when ``vectors.py`` changes, write its digest there."""
    assert hashlib.sha256(Path(vectors.__file__).read_bytes()).hexdigest()[:12] == gru.VECTORS


def test_the_commands_record_their_engine(mirembed, afresh, monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)  # what Numba makes of NUMBA_DISABLE_JIT when it is imported
    write_classes(mirembed.folder / "store")
    options = ("--store", "store", "--epochs", 1)
    completed = mirembed("fit", *options, "--json")
    assert re.search("engine: torch.*NUMBA_DISABLE_JIT", completed.stderr)
    [model] = json.loads(completed.stdout)["models"]
    manifest = json.loads((mirembed.folder / model["model"] / "model.json").read_text())
    assert manifest["provenance"]["settings"]["engine"] == "torch"
    refused = mirembed("evaluate", *options, "--cv", 3, "--engine", "numba", code=1)
    assert re.search("--engine numba.*NUMBA_DISABLE_JIT", refused.stderr)
    assert "--engine" in mirembed("fit", "--from", "x", "--engine", "torch", code=1).stderr
