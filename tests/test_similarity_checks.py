"""The checks of a similarity find what is wrong with it, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
from broken_promises import assert_breaks, failures
from torch import Tensor

from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec
from mirembed.testing import ConformanceError, check_similarity, promises, run_checks


def products(x: Tensor) -> Tensor:
    return x @ x.mT


def with_cross(cross: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
    class WithCross:
        def __call__(self, x: Tensor) -> Tensor:
            return products(x)

    WithCross.cross = staticmethod(cross)
    return WithCross


def masked(x: Tensor) -> Tensor:
    zero = (x == 0).all(dim=-1)
    return products(x).masked_fill(zero[..., :, None] | zero[..., None, :], torch.nan)


def naive_cosine(x: Tensor) -> Tensor:
    return products(x / x.norm(dim=-1, keepdim=True))


def correlation(x: Tensor) -> Tensor:
    """Guards against zero vectors, but not against constant vectors, which centering makes zero."""
    centered = x - x.mean(dim=-1, keepdim=True)
    zero = (x == 0).all(dim=-1, keepdim=True)
    return products(centered / torch.where(zero, 1, centered.norm(dim=-1, keepdim=True)))


def centered_in_place(x: Tensor) -> Tensor:
    x -= x.mean(dim=-2, keepdim=True)
    return products(x)


def clamped_in_cross(x: Tensor, y: Tensor) -> Tensor:
    result = x @ y.mT
    y.clamp_(min=0)
    return result


def rounded_at_random(x: Tensor) -> Tensor:
    values = products(x)
    return values + torch.rand_like(values) * torch.finfo(x.dtype).eps


def norms_by_sqrt(x: Tensor) -> Tensor:
    norms = (x * x).sum(dim=-1).sqrt()
    return norms[..., :, None] * norms[..., None, :]


def distances_by_sqrt(x: Tensor) -> Tensor:
    return -((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(dim=-1).sqrt()


class DrawnScale:
    def __init__(self) -> None:
        self.scale = random.uniform(1, 2)

    def __call__(self, x: Tensor) -> Tensor:
        return self.scale * products(x)


class Untyped:
    def __init__(self, gamma=1.0) -> None:
        self.gamma = gamma

    def __call__(self, x: Tensor) -> Tensor:
        return products(x)


class WronglyTyped(Untyped):
    def __init__(self, gamma: int = 0.5) -> None:
        super().__init__(gamma)


class OfAList(Untyped):
    def __init__(self, gammas: list[float] = (1.0, 2.0)) -> None:
        super().__init__(gammas)


class Weighted(torch.nn.Module):
    """A module with a parameter, which mirembed freezes and moves to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.to(x.dtype) * products(x)


def function(similarity: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    """Return a factory of a similarity that is a function."""
    return lambda: similarity


BROKEN: dict[str, tuple[Callable[[], object], str, str]] = {
    "all dimensions of size 1 squeezed": (
        function(lambda x: products(x).squeeze()),
        "shape",
        "[], expected [1, 1]\n  given: a single vector [1, 5]\n  usual cause: squeeze()",
    ),
    "parameter without annotation": (Untyped, "parameters", "gamma is '1.0'"),
    "default of another type": (WronglyTyped, "parameters", "gamma=0.5"),
    "parameter that no spec can give": (OfAList, "parameters", "gammas=(1.0, 2.0)"),
    "NaN for zero vectors": (function(masked), "finite", "nan in 16 of 16 places\n  given: zero vectors [4, 5]"),
    "division by a norm": (function(naive_cosine), "finite gradient-finite", "zero vectors"),
    "division by a deviation": (function(correlation), "finite gradient-finite", "given: constant vectors [3, 5]"),
    "overflow": (
        function(lambda x: (10 * products(x)).exp()),
        "finite gradient-finite",
        "of 36 places\n  given: vectors [6, 50] of -1 and 1",
    ),
    "softmax of rows": (
        function(lambda x: products(x).softmax(dim=-1)),
        "symmetric",
        "softmax",
    ),
    "no batch dimension": (function(lambda x: x @ x.t()), "batch", "RuntimeError: t() expects a tensor with <="),
    "a mean over the batch": (
        function(lambda x: products(x) + x.mean()),
        "batch",
        "each [6, 5]",
    ),
    "always float64": (
        function(lambda x: products(x.double())),
        "dtype",
        "float64, expected float32\n  given: random vectors [6, 5], float32",
    ),
    "always float32": (
        function(lambda x: products(x.float())),
        "dtype gradient",
        "float32, expected float64\n  given: random vectors [6, 5], float64",
    ),
    "input changed in place": (
        function(centered_in_place),
        "input-unchanged",
        "changes its input\n  given: random vectors [6, 5]\n",
    ),
    "input of cross changed in place": (with_cross(clamped_in_cross), "input-unchanged", "clamp_()"),
    "random numbers": (function(rounded_at_random), "deterministic", "a second call"),
    "random numbers in the factory": (DrawnScale, "deterministic", "a second object"),
    "gradient missing": (
        function(lambda x: products(x.detach())),
        "gradient",
        "gradient\n  given: random vectors [4, 3], float64\n  usual cause: detach(), numpy()",
    ),
    "half of the gradient": (
        function(lambda x: x @ x.detach().mT),
        "gradient",
        "finite differences: ",
    ),
    "a result changed in place": (
        function(lambda x: products(x).exp().add_(1)),
        "gradient gradient-finite",
        "RuntimeError: one of the variables needed for gradient computation",
    ),
    "infinite slope at zero vectors": (
        function(norms_by_sqrt),
        "gradient-finite",
        "nan in 20 of 20 places\n  given: zero vectors [4, 5]\n  usual cause: sqrt()",
    ),
    "infinite slope at equal vectors": (
        function(distances_by_sqrt),
        "gradient gradient-finite",
        "finite differences",
    ),
    "cross with another formula": (
        with_cross(lambda x, y: 2 * x @ y.mT),
        "cross",
        " at [",
    ),
    "cross of y and x": (
        with_cross(lambda x, y: y @ x.mT),
        "cross",
        "[4, 6], expected [6, 4]\n  given: random vectors [6, 5] and [4, 5]",
    ),
    "cross without batch dimension": (
        with_cross(lambda x, y: x @ y.t()),
        "cross",
        "given: cross of random vectors [2, 6, 5] and [2, 4, 5]",
    ),
    "a tensor on the CPU": (
        function(lambda x: products(x) + torch.zeros(x.shape[-2], x.shape[-2])),
        "device",
        "device=x.device",
    ),
}
"""Broken similarities, the promises that they break, and a fact in the first message."""


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_found_and_nothing_else_is_reported(fault):
    factory, names, fragment = BROKEN[fault]
    assert_breaks(failures("similarity", factory), names, fragment)


def test_every_check_finds_a_fault():
    assert {names.split()[0] for _, names, _ in BROKEN.values()} == {p.name for p in promises("similarity")}


@pytest.mark.parametrize("correct", [function(products), with_cross(lambda x, y: x @ y.mT), Weighted])
def test_a_correct_similarity_passes_every_check(correct):
    assert failures("similarity", correct) == {}


def test_the_error_of_a_factory_is_quoted():
    def factory(*, gamma: float) -> None:
        raise AssertionError

    with pytest.raises(ConformanceError, match=r"similarity factory, shape: .*gamma"):
        check_similarity(factory)


def test_the_first_broken_promise_is_an_assertion_error():
    with pytest.raises(AssertionError) as error:
        check_similarity(function(lambda x: products(x.detach())))
    assert isinstance(error.value, ConformanceError)
    assert str(error.value).startswith("similarity lambda, gradient: ")
    check_similarity(function(products))


def registry(factory: object) -> Registry:
    return Registry([Plugin("similarity", "products", factory, "", "mirembed-products", "1.0")])


def test_outcomes_say_what_passed_what_failed_and_what_does_not_apply():
    plugins = registry(function(lambda x: products(x).softmax(dim=-1)))
    outcomes = {each.check: each for each in run_checks("similarity", plugins, Spec("products"))}
    assert list(outcomes) == [promise.name for promise in promises("similarity")]
    assert asdict(outcomes["finite"]) == {
        "check": "finite",
        "promise": next(promise.text for promise in promises("similarity") if promise.name == "finite"),
        "status": "passed",
        "reason": "",
        "given": "",
        "cause": "",
    }
    assert outcomes["cross"].status == "skipped"
    assert "cross" in outcomes["cross"].reason
    failed = outcomes["symmetric"]
    assert (failed.status, failed.given) == ("failed", "random vectors [6, 5]")
    assert "not symmetric" in failed.reason
    assert "softmax" in failed.cause


def test_a_plugin_that_fails_the_first_check_is_not_checked_further():
    [outcome] = run_checks("similarity", registry(function(lambda x: products(x).numpy())), Spec("products"))
    assert (outcome.check, outcome.status) == ("shape", "failed")
    assert "ndarray" in outcome.reason
