"""The built-in similarities."""

from __future__ import annotations

import subprocess
import sys
import typing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.metrics.pairwise import cosine_similarity, polynomial_kernel, rbf_kernel

from mirembed.training.similarity import PluginSimilarity
from mirembed_similarities import mirembed_register_similarities
from mirembed_similarities.similarities import Cosine, Polynomial, Rbf

SIMILARITIES = [Rbf(), Rbf(gamma=2.5), Cosine(), Polynomial(), Polynomial(gamma=0.5, c=1.0, d=3)]
every_similarity = pytest.mark.parametrize("similarity", SIMILARITIES, ids=repr)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

vectors = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=6),
    elements=st.sampled_from([0.0, 1.0, -1.0, 1e-9, 0.25, -3.0]) | st.floats(-4, 4),
)


NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.25]) | st.floats(-1, 1, width=32)


def random_vectors(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def reference(similarity: object, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    match similarity:
        case Rbf(gamma):
            return rbf_kernel(x, y, gamma=gamma)
        case Polynomial(gamma, c, d):
            return polynomial_kernel(x, y, gamma=gamma, coef0=c, degree=d)
        case _:
            return cosine_similarity(x, y)


@every_dtype
@every_similarity
def test_values_agree_with_scikit_learn(similarity, dtype):
    x, y = random_vectors(7, 5, dtype=dtype), random_vectors(4, 5, dtype=dtype, seed=1)
    # the reference has no 1e-8 beside the squared norm
    tolerance = 1e-7 if isinstance(similarity, Cosine) else TOLERANCE[dtype]
    tolerance = max(tolerance, TOLERANCE[dtype])

    expected = reference(similarity, x.double().numpy(), x.double().numpy())
    np.testing.assert_allclose(similarity(x).numpy(), expected, rtol=tolerance, atol=tolerance)
    expected = reference(similarity, x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose(similarity.cross(x, y).numpy(), expected, rtol=tolerance, atol=tolerance)


@every_dtype
@every_similarity
def test_results_keep_dtype_and_batch_dimensions(similarity, dtype):
    x, y = random_vectors(2, 3, 5, 4, dtype=dtype), random_vectors(2, 3, 6, 4, dtype=dtype)
    assert (similarity(x).shape, similarity(x).dtype) == ((2, 3, 5, 5), dtype)
    assert (similarity.cross(x, y).shape, similarity.cross(x, y).dtype) == ((2, 3, 5, 6), dtype)


@every_dtype
@every_similarity
def test_a_batch_gives_what_a_loop_gives(similarity, dtype):
    x, y = random_vectors(3, 5, 4, dtype=dtype), random_vectors(3, 6, 4, dtype=dtype, seed=1)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    looped = torch.stack([similarity(one) for one in x])
    torch.testing.assert_close(similarity(x), looped, **tolerance)
    looped = torch.stack([similarity.cross(one, other) for one, other in zip(x, y, strict=True)])
    torch.testing.assert_close(similarity.cross(x, y), looped, **tolerance)


@every_similarity
@given(x=vectors)
def test_results_are_finite_and_symmetric_to_the_bit(similarity, x):
    for dtype in (torch.float32, torch.float64):
        values = similarity(torch.tensor(x, dtype=dtype))
        assert torch.isfinite(values).all()
        assert torch.equal(values, values.mT)


@every_similarity
@given(x=vectors)
def test_cross_of_x_with_itself_gives_all_pairs(similarity, x):
    x = torch.tensor(x)
    torch.testing.assert_close(similarity.cross(x, x), similarity(x), rtol=1e-9, atol=1e-9)


@every_similarity
@given(query=arrays(np.float32, 6, elements=NUMBERS), candidates=arrays(np.float32, (9, 6), elements=NUMBERS))
def test_numpy_ranks_as_torch_does(similarity, query, candidates):
    host = PluginSimilarity(similarity, "tested")
    expected = host.similarities_to(query.astype(np.float64), candidates.astype(np.float64))
    values = host.ranking_similarities(query, candidates)
    rounding = 1e-12 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(values, expected, rtol=0, atol=rounding)
    ranked = expected[np.argsort(-values, kind="stable")]
    assert (np.diff(ranked) <= 2 * rounding).all()


@every_similarity
@given(vector=arrays(np.float32, 6, elements=NUMBERS), query=arrays(np.float32, 6, elements=NUMBERS))
def test_equal_tracks_rank_equally(similarity, vector, query):
    values = PluginSimilarity(similarity, "tested").ranking_similarities(query, np.tile(vector, (17, 1)))
    assert len(set(values.tolist())) == 1


@every_similarity
@given(x=vectors)
def test_the_input_is_left_unchanged(similarity, x):
    given_x = torch.tensor(x)
    similarity(given_x)
    similarity.cross(given_x, given_x)
    assert torch.equal(given_x, torch.tensor(x))


@given(x=vectors)
def test_rbf_lies_between_0_and_1_and_is_1_for_equal_vectors(x):
    values = Rbf()(torch.tensor(x, dtype=torch.float32))
    assert values.min() >= 0
    assert values.max() <= 1
    diagonal = values.diagonal(dim1=-2, dim2=-1)
    assert torch.equal(diagonal, torch.ones_like(diagonal))


@given(x=vectors)
def test_cosine_lies_between_minus_1_and_1_up_to_rounding(x):
    assert Cosine()(torch.tensor(x, dtype=torch.float32)).abs().max() <= 1 + 1e-6


@given(x=vectors)
def test_polynomials_of_even_degree_are_not_negative(x):
    assert Polynomial(d=2)(torch.tensor(x)).min() >= 0


def test_one_hot_labels_are_similar_only_within_a_class():
    labels = torch.eye(3)[[0, 0, 1, 2]]
    same = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(Cosine()(labels), same)
    torch.testing.assert_close(Polynomial()(labels), same)
    torch.testing.assert_close(Rbf()(labels), same + (1 - same) * np.exp(-2))


def test_rbf_keeps_short_distances_between_long_vectors():
    steps = torch.tensor([[0.0], [0.5], [1.0]])
    far = 8192 + steps
    torch.testing.assert_close(Rbf()(far), Rbf()(steps), rtol=0, atol=1e-6)
    torch.testing.assert_close(Rbf().cross(far, far[:2]), Rbf()(steps)[:, :2], rtol=0, atol=1e-6)


def test_rbf_of_long_identical_vectors_does_not_exceed_1():
    x = 30 * random_vectors(20, 50, dtype=torch.float32).repeat(2, 1)
    assert Rbf()(x).max() == 1
    assert Rbf().cross(x, x).max() <= 1


def test_cosine_of_a_zero_vector_is_0():
    values = Cosine()(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    assert values.tolist() == [[0, 0], [0, pytest.approx(1)]]


@every_similarity
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2)])
def test_gradients_equal_finite_differences(similarity, shape):
    x, y = random_vectors(*shape).requires_grad_(), random_vectors(*shape, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(similarity, x)
    assert torch.autograd.gradcheck(similarity.cross, (x, y))


@every_similarity
@pytest.mark.parametrize(
    "x", [[[0.0, 0.0], [1.0, 2.0]], [[0.3, -0.7], [0.3, -0.7], [1.0, 0.0]]], ids=["zero", "identical"]
)
def test_gradients_at_zero_and_identical_vectors_equal_finite_differences(similarity, x):
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(similarity, x)


@every_similarity
@given(x=vectors)
def test_gradients_are_finite_everywhere(similarity, x):
    x = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    (similarity(x).sum() + similarity.cross(x, x).sum()).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("factory", "parameters"),
    [
        (Rbf, {"gamma": 0.0}),
        (Rbf, {"gamma": -1.0}),
        (Rbf, {"gamma": float("nan")}),
        (Rbf, {"gamma": float("inf")}),
        (Polynomial, {"gamma": 0.0}),
        (Polynomial, {"c": -1.0}),
        (Polynomial, {"c": float("nan")}),
        (Polynomial, {"d": 0}),
    ],
)
def test_an_error_about_a_parameter_gives_its_name_and_value(factory, parameters):
    [(name, value)] = parameters.items()
    with pytest.raises(ValueError, match=rf"{name} is {value}\b"):
        factory(**parameters)


def test_the_plugin_registers_three_similarities_with_the_defaults_of_the_paper():
    registered = {}
    mirembed_register_similarities(lambda name, factory, *, summary="": registered.update({name: factory()}))
    assert registered == {
        "rbf": Rbf(gamma=1.0),
        "cosine": Cosine(),
        "polynomial": Polynomial(gamma=1.0, c=0.0, d=2),
    }


def test_the_parameters_can_be_read_from_the_annotations():
    assert typing.get_type_hints(Polynomial.__init__) == {
        "gamma": float,
        "c": float,
        "d": int,
        "return": type(None),
    }


def test_importing_the_plugin_does_not_import_torch():
    code = "import sys, mirembed_similarities; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
