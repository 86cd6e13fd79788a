"""Adadelta, against torch's own."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from conftest import clean_environment

from mirembed.training.network import EmbeddingNetwork, seeded_network
from mirembed.training.optimizer import Adadelta


def losses(network: EmbeddingNetwork):
    """Four losses, one per batch."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        frames = torch.randn(3, 20, 80, generator=generator)
        yield (network(frames, torch.ones(3, 20)) ** 2).sum()


def same(ours: EmbeddingNetwork, theirs: EmbeddingNetwork) -> bool:
    return all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_a_step_equals_that_of_torch_to_the_bit():
    ours, theirs = seeded_network(80, (0, 0)), seeded_network(80, (0, 0))
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
    assert not same(ours, seeded_network(80, (0, 0)))


def test_a_restored_optimizer_continues_to_the_bit():
    whole, resumed = seeded_network(80, (0, 0)), seeded_network(80, (0, 0))
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
    state = Adadelta(seeded_network(80, (0, 0)).parameters()).state()
    with pytest.raises(ValueError, match=r"\b3 tensors.* 24\b"):
        Adadelta(seeded_network(80, (0, 0)).parameters()).restore(
            {name: tensor for name, tensor in state.items() if name.startswith("0.")}
        )
    with pytest.raises(ValueError, match=r"0\.square_avg.* \(300, 80\)"):
        Adadelta(seeded_network(40, (0, 0)).parameters()).restore(state)


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
