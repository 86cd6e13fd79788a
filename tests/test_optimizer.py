"""Optimizers against torch's own, and the specs that name them."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest
import torch
from conftest import clean_environment
from small_networks import seeded

from mirembed.errors import SpecError
from mirembed.training.optimizer import Adadelta, make_optimizer, resolve_optimizer


def losses(network: torch.nn.Module):
    """Four losses, one per batch."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        frames = torch.randn(3, 20, 80, generator=generator)
        yield (network(frames, torch.ones(3, 20)) ** 2).sum()


def same(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    return all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_a_step_equals_that_of_torch_to_the_bit():
    ours, theirs = seeded("gru", 80, (0, 0)), seeded("gru", 80, (0, 0))
    optimizer, reference = (
        Adadelta(ours.parameters()),
        torch.optim.Adadelta(theirs.parameters(), lr=1.0, rho=0.95, eps=1e-6),
    )
    for loss, their_loss in zip(losses(ours), losses(theirs), strict=True):
        optimizer.step(loss)
        reference.zero_grad()
        their_loss.backward()
        reference.step()
        assert same(ours, theirs)
    assert not same(ours, seeded("gru", 80, (0, 0)))


def test_a_restored_optimizer_continues_to_the_bit():
    whole, resumed = seeded("gru", 80, (0, 0)), seeded("gru", 80, (0, 0))
    first = Adadelta(whole.parameters())
    for number, loss in enumerate(losses(whole)):
        first.step(loss)
        if number == 1:
            state = {name: tensor.clone() for name, tensor in first.state().items()}
            resumed.load_state_dict(whole.state_dict())
    second = Adadelta(resumed.parameters())
    second.restore(state)
    for loss in itertools.islice(losses(resumed), 2, None):
        second.step(loss)
    assert same(resumed, whole)


def test_the_state_of_other_parameters_is_refused():
    state = Adadelta(seeded("gru", 80, (0, 0)).parameters()).state()
    with pytest.raises(ValueError, match=r"\b3 tensors.* 24\b"):
        Adadelta(seeded("gru", 80, (0, 0)).parameters()).restore(
            {name: tensor for name, tensor in state.items() if name.startswith("0.")}
        )
    with pytest.raises(ValueError, match=r"0\.square_avg.* \(300, 80\)"):
        Adadelta(seeded("gru", 40, (0, 0)).parameters()).restore(state)


@pytest.mark.slow
def test_torchs_compiler_is_not_imported():
    code = (
        "import sys, torch\n"
        "from mirembed.training.optimizer import Adadelta\n"
        "weight = torch.ones(3, requires_grad=True)\n"
        "Adadelta([weight]).step((weight**2).sum())\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], env=clean_environment(), check=True)


USABLE = [
    "adadelta:lr=0.5,rho=0.9,weight_decay=0.01",
    "adafactor",
    "adagrad:lr_decay=0.1",
    "adam:lr=0.01,betas=0.8,0.9,amsgrad=true",
    "adamax",
    "adamw",
    "asgd",
    "nadam",
    "radam",
    "rmsprop:momentum=0.5,centered=true",
    "rprop:etas=0.4,1.1",
    "sgd:lr=0.01",
    "sgd:lr=0.01,momentum=0.9,nesterov=true",
    "adadelta:clip=0.5",
    "adam:lr=0.001,clip=0.5",
]


def torchs(spec: str, parameters) -> torch.optim.Optimizer:
    """The optimizer that a spec means, made by hand."""
    options = {
        "adadelta:lr=0.5,rho=0.9,weight_decay=0.01": {"lr": 0.5, "rho": 0.9, "weight_decay": 0.01},
        "adagrad:lr_decay=0.1": {"lr_decay": 0.1},
        "adam:lr=0.01,betas=0.8,0.9,amsgrad=true": {"lr": 0.01, "betas": (0.8, 0.9), "amsgrad": True},
        "rmsprop:momentum=0.5,centered=true": {"momentum": 0.5, "centered": True},
        "rprop:etas=0.4,1.1": {"etas": (0.4, 1.1)},
        "sgd:lr=0.01": {"lr": 0.01},
        "sgd:lr=0.01,momentum=0.9,nesterov=true": {"lr": 0.01, "momentum": 0.9, "nesterov": True},
        "adadelta:clip=0.5": {"rho": 0.95},
        "adam:lr=0.001,clip=0.5": {"lr": 0.001},
    }
    name = spec.partition(":")[0]
    [kind] = [one for key, one in vars(torch.optim).items() if key.lower() == name and isinstance(one, type)]
    return kind(parameters, **options.get(spec, {}))


@pytest.mark.slow
@pytest.mark.parametrize("spec", USABLE)
def test_a_spec_names_an_optimizer_of_torch_which_is_resumed_to_the_bit(spec):
    ours, theirs, resumed = (seeded("gru:hidden=7,units=5", 80, (0, 0)) for _ in range(3))
    optimizer, reference = make_optimizer(spec, ours.parameters()), torchs(spec, theirs.parameters())
    for number, (loss, their_loss) in enumerate(zip(losses(ours), losses(theirs), strict=True)):
        optimizer.step(loss)
        reference.zero_grad()
        their_loss.backward()
        if "clip" in spec:
            norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            assert norm > 0.5
        reference.step()
        assert same(ours, theirs)
        if number == 1:
            state = {name: tensor.clone() for name, tensor in optimizer.state().items()}
            resumed.load_state_dict(ours.state_dict())
    again = make_optimizer(spec, resumed.parameters())
    again.restore(state)
    for loss in itertools.islice(losses(resumed), 2, None):
        again.step(loss)
    assert same(resumed, ours)


@pytest.mark.parametrize("spec", ["adadelta", "sgd:momentum=0.9"])
def test_a_gradient_shorter_than_clip_stays_as_it_is(spec):
    plain, unlimited, long = (seeded("gru:hidden=7,units=5", 80, (0, 0)) for _ in range(3))
    separator = "," if ":" in spec else ":"
    for network, clip in ((plain, ""), (unlimited, f"{separator}clip=inf"), (long, f"{separator}clip=1e6")):
        optimizer = make_optimizer(spec + clip, network.parameters())
        for loss in losses(network):
            optimizer.step(loss)
    assert same(unlimited, plain)
    assert same(long, plain)


def test_weights_without_a_gradient_stay_as_they_are():
    for spec in ("adadelta", "adam", "adadelta:clip=0.1", "adam:clip=0.1"):
        used, unused = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
        make_optimizer(spec, [used, unused]).step((used**2).sum())
        assert unused.tolist() == [1, 1]
        assert used.tolist() != [1, 1, 1]


def test_a_resolved_optimizer_has_all_parameters_that_a_spec_can_set():
    assert resolve_optimizer("adadelta") == {
        "name": "adadelta",
        "parameters": {"lr": 1.0, "rho": 0.95, "eps": 1e-6, "weight_decay": 0.0, "clip": math.inf},
    }
    adam = resolve_optimizer("adam:lr=0.01")
    assert adam["parameters"] == {
        "lr": 0.01,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0,
        "amsgrad": False,
        "clip": math.inf,
        **({"decoupled_weight_decay": False} if "decoupled_weight_decay" in adam["parameters"] else {}),
    }


@pytest.mark.parametrize(
    ("spec", "facts"),
    [
        ("adamm", ["adamm", "adadelta", "adam,", "sgd"]),
        ("lbfgs", ["lbfgs", "adadelta", "sgd"]),
        ("sparseadam", ["sparse", "adam,"]),
        ("muon", ["matrices", "adam,"]),
        ("adam:learning=1", ["'learning'", "lr=0.001", "betas=0.9,0.999", "amsgrad=false"]),
        ("adam:lr=fast", ["lr=fast", "0.001"]),
        ("adam:lr=nan", ["lr=nan"]),
        ("adam:clip=nan", ["clip=nan"]),
        ("adam:clip=0", ["clip", "0", "above 0"]),
        ("adadelta:clip=-1", ["clip", "-1", "above 0"]),
        ("adadelta:clip=ten", ["clip=ten", "inf"]),
        ("adam:betas=0.9", ["betas=0.9", "0.9,0.999"]),
        ("adam:amsgrad=maybe", ["amsgrad=maybe", "false"]),
        ("adam:fused=true", ["'fused'", "lr=0.001"]),
        ("sgd:maximize=true", ["'maximize'"]),
        ("adam:lr", ["'lr'"]),
    ],
)
def test_an_optimizer_that_does_not_exist_or_fit_is_refused_and_what_there_is_is_listed(spec, facts):
    with pytest.raises(SpecError) as error:
        resolve_optimizer(spec)
    assert [fact for fact in facts if fact not in str(error.value)] == []


@pytest.mark.parametrize("spec", ["adam:lr=-1", "sgd:nesterov=true", "adadelta:rho=1.5", "adadelta:lr=-0.1"])
def test_a_value_that_an_optimizer_rejects_names_the_flag(spec):
    with pytest.raises(SpecError, match=f"--optimizer {spec}: "):
        resolve_optimizer(spec)
