"""The default network against its equations written out in float64, and how torch embeds tracks with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import seeded

from mirembed.store.frame_file import Moments
from mirembed.training.engine.by_torch import TorchEngine
from mirembed.training.excerpts import Normalization, gather
from mirembed.training.network import seeded_head

pytestmark = pytest.mark.slow

BANDS = 40
MAX_FRAMES = 250


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gru(layer: torch.nn.GRU, x: np.ndarray) -> np.ndarray:
    """Return the states ``[time, units]`` of a GRU whose reset gate comes after the matrix product."""
    w_x, w_h, b_x, b_h = (parameter.detach().double().numpy() for parameter in layer.parameters())
    h = np.zeros(layer.hidden_size)
    states = []
    for frame in x:
        reset_x, update_x, new_x = np.split(w_x @ frame + b_x, 3)
        reset_h, update_h, new_h = np.split(w_h @ h + b_h, 3)
        reset, update = sigmoid(reset_x + reset_h), sigmoid(update_x + update_h)
        new = np.tanh(new_x + reset * new_h)
        h = (1 - update) * new + update * h
        states.append(h)
    return np.array(states)


def reference(network: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """Return the embedding of one sequence ``x [time, inputs]``."""
    return gru(network.layers[1], gru(network.layers[0], x.astype(np.float64))).mean(axis=0)


def sequences(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    # Larger than the initial weights, so that the gates are not all half open.
    network = seeded("gru", 2 * BANDS, (7, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    return network


@pytest.fixture(scope="module")
def tracks() -> tuple[np.ndarray, Normalization]:
    """Frames of 40 tracks of MAX_FRAMES frames, and their normalization."""
    frames = np.random.default_rng(0).normal(-50, 10, (40 * MAX_FRAMES, BANDS)).astype(np.float32)
    starts, lengths = np.arange(40) * MAX_FRAMES, np.full(40, MAX_FRAMES)
    return frames, Normalization.fit(Moments.of(frames, starts, lengths))


def test_the_network_is_two_grus_and_a_mean_over_time(network):
    x = sequences(3, 60, 80)
    with torch.no_grad():
        embeddings = network(x, torch.ones(3, 60))
    assert embeddings.shape == (3, 50)
    expected = np.stack([reference(network, one) for one in x.numpy()])
    np.testing.assert_allclose(embeddings.numpy(), expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.5


def test_the_layers_are_those_of_the_paper():
    shapes = {name: tuple(parameter.shape) for name, parameter in seeded("gru", 80, (0, 0)).named_parameters()}
    assert shapes == {
        "layers.0.weight_ih_l0": (300, 80),
        "layers.0.weight_hh_l0": (300, 100),
        "layers.0.bias_ih_l0": (300,),
        "layers.0.bias_hh_l0": (300,),
        "layers.1.weight_ih_l0": (150, 100),
        "layers.1.weight_hh_l0": (150, 50),
        "layers.1.bias_ih_l0": (150,),
        "layers.1.bias_hh_l0": (150,),
    }


def test_padding_frames_do_not_count(network):
    x = sequences(2, 100, 80)
    inside = torch.ones(2, 100)
    inside[0, 37:] = 0
    with torch.no_grad():
        embeddings = network(x, inside)
        alone = network(x[:1, :37], torch.ones(1, 37))
    torch.testing.assert_close(embeddings[:1], alone, rtol=0, atol=1e-6)


def test_padding_frames_have_no_gradient(network):
    x = sequences(1, 100, 80).requires_grad_()
    inside = torch.ones(1, 100)
    inside[0, 37:] = 0
    network(x, inside).sum().backward()
    assert x.grad[0, :37].abs().sum(dim=1).min() > 0
    assert torch.equal(x.grad[0, 37:], torch.zeros(63, 80))


def test_gradients_agree_with_the_equations(network):
    """By finite differences of the float64 reference."""
    x = sequences(1, 12, 80).requires_grad_()
    direction = np.random.default_rng(1).normal(size=(12, 80))
    network(x, torch.ones(1, 12)).sum().backward()
    step = 1e-5
    ahead, behind = (reference(network, x[0].detach().numpy() + s * direction).sum() for s in (step, -step))
    assert (x.grad[0].numpy() * direction).sum() == pytest.approx((ahead - behind) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("n_frames", [1, 99, 100, 101, 250])
def test_a_track_is_embedded_as_if_by_one_pass_of_the_network(network, tracks, n_frames):
    frames, normalization = tracks
    start, length = np.array([3 * MAX_FRAMES]), np.array([n_frames])
    inputs, inside = gather(frames, start, length, np.array([0]), n_frames, normalization)
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs), torch.from_numpy(inside)).numpy()
    embedded = TorchEngine(network).embed_tracks(frames, start, length, normalization)
    assert (embedded.shape, embedded.dtype) == ((1, 50), np.float32)
    np.testing.assert_allclose(embedded, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(embedded[0], reference(network, inputs[0]), rtol=0, atol=1e-5)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 39), st.integers(1, MAX_FRAMES)), min_size=1, max_size=40))
def test_an_embedding_is_the_same_to_the_bit_alone_and_among_others(network, tracks, chosen):
    frames, normalization = tracks
    starts = np.array([track * MAX_FRAMES for track, _ in chosen])
    lengths = np.array([length for _, length in chosen])
    together = TorchEngine(network).embed_tracks(frames, starts, lengths, normalization)
    backwards = TorchEngine(network).embed_tracks(frames, starts[::-1], lengths[::-1], normalization)
    alone = TorchEngine(network).embed_tracks(frames, starts[:1], lengths[:1], normalization)
    np.testing.assert_array_equal(together, backwards[::-1])
    np.testing.assert_array_equal(together[:1], alone)


def test_no_tracks_give_no_embeddings(network, tracks):
    nothing = np.zeros(0, np.int64)
    assert TorchEngine(network).embed_tracks(tracks[0], nothing, nothing, tracks[1]).shape == (0, 50)


def weights(module: torch.nn.Module) -> np.ndarray:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).numpy()


def test_initial_weights_depend_on_seed_and_fold_alone():
    torch.manual_seed(1)
    network, head = seeded("gru", 80, (5, 2)), seeded_head(50, 10, (5, 2))
    torch.manual_seed(2)
    np.testing.assert_array_equal(weights(seeded("gru", 80, (5, 2))), weights(network))
    np.testing.assert_array_equal(weights(seeded_head(50, 10, (5, 2))), weights(head))
    for other in [(5, 3), (6, 2), (2, 5), (5, 0)]:
        assert not np.array_equal(weights(seeded("gru", 80, other)), weights(network))
        assert not np.array_equal(weights(seeded_head(50, 10, other)), weights(head))


def test_initial_weights_have_the_ranges_of_torch():
    network, head = seeded("gru", 80, (0, 0)), seeded_head(50, 200, (0, 0))
    for module, bound in [(network.layers[0], 100**-0.5), (network.layers[1], 50**-0.5), (head, 50**-0.5)]:
        values = weights(module)
        assert np.abs(values).max() <= bound
        assert values.std() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert values.mean() == pytest.approx(0, abs=0.05 * bound)
