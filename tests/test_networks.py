"""The built-in networks: padding, full tracks, shapes and parameters; and the default one's place in torch."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import read, sections
from small_networks import REGISTRY, network, seeded

from mirembed.errors import ParameterError
from mirembed.specs import Spec, parameters_of
from mirembed.store.frame_file import Moments
from mirembed.training.engine.by_torch import TorchEngine
from mirembed.training.excerpts import InputForm, Normalization, gather
from mirembed.training.network import one_thread
from mirembed.training.network_checks import check_network
from mirembed_networks import modules

VALUES, MAX_FRAMES, N_TRACKS = 12, 230, 12
SPECS = [
    "gru",
    "gru:layers=1",
    "gru:layers=3,hidden=9,units=7,dropout=0.3",
    "gru:cell=lstm",
    "gru:pooling=mean+std",
    "gru:pooling=attention,cell=lstm",
    "gru:bidirectional=true,hidden=9,units=7",
    "gru:bidirectional=true,cell=lstm,pooling=mean+std,layers=1",
    "crnn:maps=3,hidden=9,units=7",
    "crnn:maps=2,blocks=2,planes=2,pool_frames=3,pool_values=5",
    "mlp",
    "mlp:layers=4,hidden=9,units=7,dropout=0.5",
    "mlp:layers=1",
]
UNITS = {
    "gru:pooling=mean+std": 100,
    "gru:bidirectional=true,hidden=9,units=7": 14,
    "gru:bidirectional=true,cell=lstm,pooling=mean+std,layers=1": 200,
}


@pytest.fixture(scope="module")
def tracks() -> tuple[np.ndarray, Normalization]:
    frames = np.random.default_rng(0).normal(-50, 10, (N_TRACKS * MAX_FRAMES, VALUES)).astype(np.float32)
    starts, lengths = np.arange(N_TRACKS) * MAX_FRAMES, np.full(N_TRACKS, MAX_FRAMES)
    return frames, Normalization.fit(Moments.of(frames, starts, lengths))


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def module_of(spec: str, inputs: int = 2 * VALUES):
    """A network whose weights and statistics are not those at the start."""
    module = seeded(spec, inputs, (0, 0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
    return module.eval()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("excerpt", [100, 1])
def test_the_built_in_networks_pass_the_checks_of_all_networks(spec, excerpt):
    check_network(network(spec), 2 * VALUES, excerpt)
    assert module_of(spec).units == UNITS.get(spec, 7 if "units=7" in spec else 50)


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=5)
@given(st.lists(st.tuples(st.integers(0, N_TRACKS - 1), st.integers(1, MAX_FRAMES)), min_size=1, max_size=40))
def test_full_tracks_are_the_same_to_the_bit_in_any_batch(tracks, spec, chosen):
    frames, normalization = tracks
    starts = np.array([track * MAX_FRAMES for track, _ in chosen])
    lengths = np.array([length for _, length in chosen])
    engine = TorchEngine(module_of(spec), InputForm(excerpt=60))
    together = engine.embed_tracks(frames, starts, lengths, normalization)
    backwards = engine.embed_tracks(frames, starts[::-1], lengths[::-1], normalization)
    alone = engine.embed_tracks(frames, starts[:1], lengths[:1], normalization)
    np.testing.assert_array_equal(together, backwards[::-1])
    np.testing.assert_array_equal(together[:1], alone)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("length", [1, 59, 60, 61, 230])
def test_a_full_track_is_one_stream_or_the_mean_of_its_windows_by_their_frames(tracks, spec, length):
    frames, normalization = tracks
    module, form = module_of(spec), InputForm(excerpt=60)
    start, lengths, whole = np.array([MAX_FRAMES]), np.array([length]), np.array([0])
    inputs, _ = gather(frames, start, lengths, whole, length, normalization)
    with torch.no_grad():
        pieces = torch.from_numpy(inputs).split(length if hasattr(module, "stream") else 60, dim=1)
        embedded = [module(piece, torch.ones(1, piece.shape[1])) * piece.shape[1] for piece in pieces]
    expected = torch.stack(embedded).sum(dim=0).numpy() / length
    embeddings = TorchEngine(module, form).embed_tracks(frames, start, lengths, normalization)
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=2e-5)


def test_hours_of_audio_are_embedded_in_little_memory(monkeypatch):
    longest = []
    module = module_of("mlp")
    forward = module.forward
    monkeypatch.setattr(
        module, "forward", lambda frames, inside: longest.append(frames.shape) or forward(frames, inside)
    )
    frames = np.random.default_rng(0).normal(size=(40_000, VALUES)).astype(np.float32)
    normalization = Normalization(np.zeros(VALUES, np.float32), np.ones(VALUES, np.float32))
    TorchEngine(module).embed_tracks(frames, np.array([0]), np.array([40_000]), normalization)
    assert max(shape[0] * shape[1] for shape in longest) == 3200


def test_networks_are_in_evaluation_mode_only_while_they_embed_tracks(tracks):
    frames, normalization = tracks
    module = module_of("mlp:dropout=0.9").train()
    place = np.array([0]), np.array([50])
    one, two = (TorchEngine(module).embed_tracks(frames, *place, normalization) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert module.training


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_bidirectional_layer_is_that_of_torch(cell):
    module = module_of(f"gru:bidirectional=true,layers=1,units=5,cell={cell}")
    reference = modules.CELLS[cell](2 * VALUES, 5, batch_first=True, bidirectional=True)
    reference.load_state_dict(dict(zip(reference.state_dict(), module.state_dict().values(), strict=True)))
    frames = torch.randn(2, 40, 2 * VALUES, generator=torch.Generator().manual_seed(0))
    inside = torch.ones(2, 40)
    inside[1, 25:] = 0
    with torch.no_grad():
        found = module(frames, inside)
        expected = [reference(frames[:1])[0].mean(dim=1), reference(frames[1:, :25])[0].mean(dim=1)]
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-6)


def test_pooling_is_a_mean_with_deviation_or_with_learned_weights():
    frames = torch.randn(1, 30, 2 * VALUES, generator=torch.Generator().manual_seed(0))
    inside = torch.ones(1, 30)
    for pooling in ("mean+std", "attention"):
        module = module_of(f"gru:layers=1,units=5,pooling={pooling}")
        with torch.no_grad():
            outputs = module.layers[0](frames)[0][0].double()
            found = module(frames, inside)[0].double()
            if pooling == "mean+std":
                expected = torch.cat([outputs.mean(dim=0), outputs.std(dim=0, correction=0)])
            else:
                scores = outputs @ module.pooling.score.weight[0].double()
                expected = scores.softmax(dim=0) @ outputs
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_batch_normalization_is_that_of_torch_without_the_padding():
    ours, theirs = modules.InsideBatchNorm(3).train(), torch.nn.BatchNorm2d(3).train()
    x = torch.randn(4, 3, 10, 5, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([x, torch.full((4, 3, 6, 5), 1e3)], dim=2)
    inside = torch.ones(4, 1, 16, 1)
    inside[:, :, 10:] = 0
    for seen, mask in ((padded, inside), (x, None)):
        torch.testing.assert_close(ours(seen, mask)[:, :, :10], theirs(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.mean, theirs.running_mean)
        torch.testing.assert_close(ours.variance, theirs.running_var)
    torch.testing.assert_close(ours.eval()(padded, inside)[:, :, :10], theirs.eval()(x))


def test_convolutions_are_those_of_choi_with_parameters():
    module = seeded("crnn:maps=6,blocks=3,planes=2", 80, (0, 0))
    assert [tuple(one.weight.shape) for one in module.convolutions] == [(6, 2, 3, 3), (6, 6, 3, 3), (6, 6, 3, 3)]
    assert module.recurrent.layers[0].weight_ih_l0.shape == (300, 6 * 5)  # 40 values, halved three times
    assert module.units == 50


def test_only_the_papers_network_says_that_the_fused_engine_computes_it():
    said = {spec: network(spec).choice.fused for spec in [*SPECS, "gru:hidden=30,units=20"]}
    assert {spec: sizes for spec, sizes in said.items() if sizes} == {
        "gru": (100, 50),
        "gru:hidden=30,units=20": (30, 20),
    }


def test_initial_weights_of_every_network_depend_on_the_seed_alone():
    for spec in SPECS:
        torch.manual_seed(1)
        first = torch.cat([parameter.flatten() for parameter in seeded(spec, 24, (5, 2)).parameters()])
        torch.manual_seed(2)
        again, other = (
            torch.cat([parameter.flatten() for parameter in seeded(spec, 24, seed).parameters()])
            for seed in [(5, 2), (5, 3)]
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_drawing_weights_leaves_the_generator_of_others_alone():
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    seeded("crnn", 24, (0, 0))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("spec", "fact"),
    [
        ("gru:hidden=0", "hidden is 0"),
        ("gru:units=-1", "units is -1"),
        ("gru:layers=0", "layers is 0"),
        ("gru:dropout=1", "dropout is 1.0"),
        ("gru:dropout=-0.1", "dropout is -0.1"),
        ("gru:dropout=nan", "dropout is nan"),
        ("gru:dropout=0.5,layers=1", "dropout is 0.5"),
        ("gru:cell=rnn", "cell=rnn"),
        ("gru:pooling=max", "pooling=max"),
        ("crnn:maps=0", "maps is 0"),
        ("crnn:blocks=0", "blocks is 0"),
        ("crnn:pool_frames=0", "pool_frames is 0"),
        ("crnn:pool_values=0", "pool_values is 0"),
        ("crnn:planes=0", "planes is 0"),
        ("crnn:dropout=2", "dropout is 2.0"),
        ("mlp:layers=0", "layers is 0"),
        ("mlp:hidden=0", "hidden is 0"),
        ("mlp:dropout=0.1,layers=1", "dropout is 0.1"),
    ],
)
def test_an_error_about_a_parameter_names_the_value(spec, fact):
    with pytest.raises(ParameterError, match=fact):
        REGISTRY.create("network", Spec.parse(spec))


def test_planes_that_do_not_divide_the_input_are_an_error_once_it_is_known():
    with pytest.raises(ParameterError, match=r"crnn:planes=3: planes is 3.*\b80 inputs"):
        seeded("crnn:planes=3", 80, (0, 0))


@pytest.mark.parametrize("name", ["gru", "crnn", "mlp"])
def test_the_page_about_networks_lists_all_parameters_with_their_defaults(name):
    listed = {}
    for cells in re.findall(r"^\| (`.*?) \| (.*?) \|", sections(read("docs/networks.md"), 2)[name], re.MULTILINE):
        listed |= dict(zip(*(re.findall(r"[\w.+]+", cell) for cell in cells), strict=True))
    factory = REGISTRY.find("network", name).factory
    assert listed == {one.name: str(one.default).lower() for one in parameters_of(factory)}
