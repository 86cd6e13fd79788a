import pytest
import torch
from sklearn.metrics.pairwise import laplacian_kernel

from mirembed.testing import similarity_checks
from mirembed_laplacian import Laplacian


@similarity_checks(Laplacian)
def test_it_passes_every_check_of_a_similarity(check):
    check()


def test_its_values_match_scikit_learn():
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Laplacian(gamma=0.5)(x), torch.from_numpy(laplacian_kernel(x.numpy(), gamma=0.5)))


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan"), float("inf")])
def test_gamma_must_be_a_finite_number_above_0(gamma):
    with pytest.raises(ValueError, match=f"gamma is {gamma}"):
        Laplacian(gamma)
