import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from mirembed.testing import network_checks
from mirembed_tcn import Tcn


@network_checks(Tcn)
def test_it_passes_every_check_of_a_network(check):
    check()


def test_its_values_match_scipy():
    module = Tcn(channels=2, layers=2, units=3).module(4)
    frames = np.random.default_rng(0).normal(size=(25, 4))
    outputs = frames
    for number, layer in enumerate(module.layers):
        weights = np.zeros((2, outputs.shape[1], 2 ** (number + 1) + 1))
        weights[:, :, :: 2**number] = layer.weight.detach().numpy()
        sums = [
            sum(correlate1d(outputs[:, i], weights[o, i], mode="constant") for i in range(outputs.shape[1]))
            for o in range(2)
        ]
        outputs = np.maximum(np.stack(sums, axis=1) + layer.bias.detach().numpy(), 0)
    output = module.output
    expected = output.weight.detach().numpy() @ outputs.mean(axis=0) + output.bias.detach().numpy()
    found = module(torch.from_numpy(frames).float()[None], torch.ones(1, 25))
    np.testing.assert_allclose(found.detach().numpy()[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["channels", "layers", "units"])
def test_a_size_below_1_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        Tcn(**{name: 0})
