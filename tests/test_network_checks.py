"""Networks that break a promise are refused before they are trained, and the error names their plugin."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import REGISTRY, Odd, network, odd, with_network
from small_store import experiment, job, open_tracks, write_classes
from torch import Tensor, nn

from mirembed.errors import ModelError, ParameterError, PluginError, UnknownNameError
from mirembed.fit.job import fit_models
from mirembed.models.model import Model
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec
from mirembed.store.tracks import Tracks
from mirembed.training.engine.self_check import check_claim
from mirembed.training.excerpts import InputForm
from mirembed.training.network import NetworkChoice, PluginNetwork, resolve_network
from mirembed.training.network_checks import check_network, check_with_engine

NAME = r"network odd of mirembed-odd 1\.0"


class Mean(nn.Module):
    """A sound network: a linear layer and the mean over time. Subclasses break one promise."""

    units: Any = 4

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 4)

    def forward(self, frames: Tensor, inside: Tensor) -> Any:
        return self.pool(self.linear(frames), inside)

    def pool(self, outputs: Tensor, inside: Tensor) -> Any:
        weights = inside / inside.sum(dim=1, keepdim=True)
        return (outputs * weights[:, :, None]).sum(dim=1)


def broken(**members: Any) -> type[Mean]:
    return type("Broken", (Mean,), members)


def pooled(change: Callable[[Any, Tensor, Tensor], Any]) -> type[Mean]:
    """A network whose pooling is changed: ``change`` takes the sound result, the outputs and ``inside``."""
    return broken(pool=lambda self, outputs, inside: change(Mean.pool(self, outputs, inside), outputs, inside))


class NoWeights(Mean):
    def __init__(self, inputs: int) -> None:
        nn.Module.__init__(self)
        self.linear = lambda frames: frames[..., :4]


class Double(Mean):
    def __init__(self, inputs: int) -> None:
        super().__init__(inputs)
        self.double()


class Unsavable(Mean):
    def __init__(self, inputs: int) -> None:
        super().__init__(inputs)
        self.register_buffer("seen", torch.zeros(2, dtype=torch.bfloat16))


class Forgetful(Mean):
    """Streams without the first piece."""

    def stream(self, frames: Tensor, inside: Tensor, state: Any) -> Any:
        return self(frames, inside.clamp(min=1e-9))

    def finish(self, state: Any) -> Any:
        return state


BROKEN = {
    "no units": (broken(units=None), "units=None"),
    "units of zero": (broken(units=0), "units=0"),
    "units that are true": (broken(units=True), "units=True"),
    "wrong units": (broken(units=5), r"\(3, 4\); expected torch\.float32 \(3, 5\)"),
    "wrong shape": (pooled(lambda mean, outputs, inside: outputs), r"\(3, 100, 4\)"),
    "wrong type": (pooled(lambda mean, outputs, inside: mean.double()), "float64"),
    "no tensor": (pooled(lambda mean, outputs, inside: mean.tolist()), "list"),
    "not finite": (pooled(lambda mean, outputs, inside: mean / 0), "not finite"),
    "raises": (pooled(lambda mean, outputs, inside: 1 / 0), r"\(3, 100, 80\).*ZeroDivisionError"),
    "sees the values of padding": (pooled(lambda mean, outputs, inside: outputs.mean(dim=1)), "padding"),
    "sees the length of padding": (
        pooled(lambda mean, outputs, inside: (outputs * inside[:, :, None]).mean(dim=1)),
        "padding",
    ),
    "sees companions": (pooled(lambda mean, outputs, inside: mean - mean.mean(dim=0)), "other tracks"),
    "draws noise": (pooled(lambda mean, outputs, inside: mean + torch.randn_like(mean)), "second time"),
    "has no gradient": (pooled(lambda mean, outputs, inside: mean.detach()), "no weight"),
    "has a gradient that is not finite": (
        pooled(lambda mean, outputs, inside: mean + (mean - mean).abs().sqrt()),
        "gradient that is not finite",
    ),
    "has no weights": (NoWeights, "no weight"),
    "streams something else": (Forgetful, "stream"),
    "fails to stream": (broken(stream=lambda self, *of: 1 / 0), "ZeroDivisionError"),
    "weights in float64": (Double, "float64"),
    "state that cannot be saved": (Unsavable, "bfloat16"),
    "not a module": (lambda inputs: len, "builtin_function_or_method"),
    "fails": (lambda inputs: 1 / 0, "80 values.*ZeroDivisionError"),
}


def test_a_sound_network_passes():
    check_network(odd(Mean), 80, 100)


@pytest.mark.parametrize(("module", "fact"), BROKEN.values(), ids=BROKEN)
def test_a_broken_network_is_named_with_what_is_wrong(module, fact):
    with pytest.raises(PluginError, match=rf"{NAME}.*{fact}"):
        check_network(odd(module), 80, 100)


def test_untrained_networks_need_no_gradient():
    module, _ = BROKEN["has no gradient"]
    check_network(odd(module), 80, 100, trained=False)


def test_a_value_that_only_the_input_shows_to_be_wrong_is_the_users():
    def refuse(inputs: int) -> None:
        raise ValueError(f"planes is 3; {inputs} inputs")

    with pytest.raises(ParameterError, match="network odd: planes is 3; 80 inputs"):
        check_network(odd(refuse), 80, 100)


def test_a_network_that_fails_to_draw_its_weights_is_named():
    with pytest.raises(PluginError, match=rf"{NAME}.*initial weights.*KeyError"):
        check_network(odd(Mean, initialize=lambda module, rng: {}["x"]), 80, 100)


def test_the_command_that_trains_a_broken_network_names_it(tmp_path):
    module, _ = BROKEN["sees the values of padding"]
    registry = with_network(lambda: Odd(module))
    tracks = open_tracks(write_classes(tmp_path))
    for approach in ("rbf-sl", "nn", "untrained"):
        with pytest.raises(PluginError, match=rf"{NAME}: the padding"):
            fit_models(job(tracks, approach, network=("odd",)), registry)


# ---- what a network says about the fused engine -------------------------------------------------------------------


def like_gru(change: Callable[[Any], None] = lambda module: None) -> Callable[[int], Any]:
    def create(inputs: int) -> Any:
        module = network("gru:hidden=20,units=10").module(inputs)
        change(module)
        return module

    return create


def with_tanh(module: Any) -> None:
    """Add a function between the two layers."""
    module.dropout = nn.Tanh()


def test_a_true_claim_is_accepted_and_used():
    claims = odd(like_gru(), fused=(20, 10))
    assert claims.choice.fused == (20, 10)
    check_claim(claims, 80)


@pytest.mark.parametrize(
    ("change", "fused", "fact"),
    [
        (lambda module: None, (20, 11), r"fused=\(20, 11\).*\(60, 80\)"),
        (lambda module: module.register_buffer("more", torch.zeros(1)), (20, 10), r"\(1,\)"),
        (with_tanh, (20, 10), "differs"),
    ],
)
@pytest.mark.slow
def test_a_false_claim_is_an_error_that_names_the_plugin(change, fused, fact):
    claims = odd(like_gru(change), fused=fused)
    with pytest.raises(PluginError, match=rf"{NAME} says .*{fact}"):
        check_with_engine(claims, 80, InputForm(), "numba")
    check_with_engine(claims, 80, InputForm(), "torch")


@pytest.mark.parametrize("fused", [True, (1,), (1, 0), [20, 10], (2.0, 1)])
def test_a_claim_of_another_form_is_refused(fused):
    with pytest.raises(PluginError, match=rf"{NAME}: fused is {re.escape(repr(fused))}"):
        odd(Mean, fused=fused)


# ---- models -------------------------------------------------------------------------------------------------------


def test_a_choice_survives_json():
    choice = resolve_network(REGISTRY, "gru:hidden=30")
    assert json.loads(json.dumps(choice.to_json())) == choice.to_json()
    assert NetworkChoice.from_json(choice.to_json()) == choice
    assert (choice.spec, choice.fused, choice.plugin["parameters"]["layers"]) == ("gru:hidden=30", (30, 50), 2)


def place_of(tracks: Tracks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frames = tracks.frames["logmel"]
    return frames.open(), frames.starts, frames.lengths


class Stateful(Mean):
    """Has a counter and a buffer besides its weights."""

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs)
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("seen", torch.zeros(inputs))

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.count += 1
                self.seen.lerp_(frames.mean(dim=(0, 1)), 0.1)
        return super().forward(frames - self.seen, inside)


@pytest.fixture
def saved(tmp_path) -> tuple[Any, Model]:
    """Tracks, and a model with the network of a plugin, saved in the folder ``model``."""
    tracks = open_tracks(write_classes(tmp_path / "store"))
    fitted = fit_models(job(tracks, "nn", network=("odd",)), with_network(lambda: Odd(Stateful)))
    model = fitted.models["nn"]
    model.save(tmp_path / "model")
    return tracks, model


def test_a_model_keeps_buffers_and_needs_the_plugin_of_its_network_only_to_embed(saved, tmp_path):
    tracks, model = saved
    place = place_of(tracks)
    loaded = Model.load(tmp_path / "model", with_network(lambda: Odd(Stateful)))
    assert loaded.network.arrays["count"] == 2
    assert np.abs(loaded.network.arrays["seen"]).max() > 0
    np.testing.assert_array_equal(loaded.embed(*place), model.embed(*place))
    without = Model.load(tmp_path / "model", Registry.discover())
    assert len(without.predict(model.embed(*place))) == len(tracks.ids)
    with pytest.raises(ModelError, match=r"needs the network 'odd' of mirembed-odd 1\.0"):
        without.embed(*place)


def test_a_plugin_that_creates_another_network_now_is_an_error(saved, tmp_path):
    tracks, _ = saved
    loaded = Model.load(tmp_path / "model", with_network(lambda: Odd(Mean)))
    with pytest.raises(ModelError, match=rf"{NAME}.*fit the model again"):
        loaded.embed(*place_of(tracks))


def test_an_unknown_network_is_an_error_that_lists_what_there_is():
    with pytest.raises(UnknownNameError, match="crnn"):
        PluginNetwork.create(REGISTRY, Spec("crn"))
    assert experiment(network=("crnn", "gru")).network == ("crnn", "gru")


@pytest.mark.slow
def test_the_fused_engine_needs_neither_the_plugin_nor_its_torch_module(tmp_path):
    tracks = open_tracks(write_classes(tmp_path / "store"))
    registry = with_network(lambda: Odd(like_gru(), fused=(20, 10)))
    model = fit_models(job(tracks, "nn", network=("odd",), engine="numba"), registry).models["nn"]
    model.save(tmp_path / "model")
    place = place_of(tracks)
    without = Model.load(tmp_path / "model", Registry.discover())
    without.engine = "numba"
    np.testing.assert_array_equal(without.embed(*place), model.embed(*place))


def test_weights_are_not_put_into_other_code_of_a_third_party_network():
    class Edited(Plugin):
        code = "sha256:2"

    registry = with_network(lambda: Odd(lambda inputs: torch.nn.Linear(inputs, 3)))
    choice = PluginNetwork.create(registry, Spec("odd")).choice
    assert PluginNetwork.recorded(registry, choice).choice == choice
    edited = Registry([Edited("network", "odd", lambda: None, "", "mirembed-odd", "1.0")])
    with pytest.raises(PluginError, match=r"odd of mirembed-odd 1\.0.*code"):
        PluginNetwork.recorded(edited, choice)
