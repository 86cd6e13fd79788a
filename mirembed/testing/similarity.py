"""The checks of a similarity: every public function is one.

The vectors are random with fixed seeds, in float32 and within [-1, 1] like embeddings and label vectors. Comparisons
allow for the rounding of float32; gradients are compared in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn

from mirembed.hookspecs import Similarity
from mirembed.testing import Broken, Subject, broken_by_errors
from mirembed.testing.tensors import dtype_name, require_finite, require_same

_UNFORESEEN = "a case that the author did not consider"
_RANDOM = "random vectors [6, 5]"


def shape(subject: Subject) -> None:
    """Return a floating-point tensor [n, n] for n vectors, even for a single vector or vectors of length 1."""
    similarity = _create(subject)
    for given, x in _special_vectors().items():
        result = _call(similarity, x, given=given)
        if not isinstance(result, Tensor) or not result.is_floating_point():
            kind = result.dtype if isinstance(result, Tensor) else type(result).__name__
            raise Broken(f"returns {kind}", given=given, cause="numpy(), tolist() or a comparison: use torch")
        if result.shape != (len(x), len(x)):
            raise Broken(
                f"returns the shape {list(result.shape)}, expected {[len(x), len(x)]}",
                given=given,
                cause="squeeze() without dim, which drops every dimension of size 1, or comparing columns",
            )


def finite(subject: Subject) -> None:
    """Be finite for all finite vectors, including zero, constant, equal and one-hot vectors."""
    similarity = _create(subject)
    cause = "dividing by a norm or deviation of 0: add a small constant under the root; or an overflow in exp"
    for given, x in _special_vectors().items():
        require_finite(_call(similarity, x, given=given), "is", given, cause)


def symmetric(subject: Subject) -> None:
    """Be symmetric: S(x, y) equals S(y, x)."""
    x = _vectors(6, 5)
    result = _call(_create(subject), x, given=_RANDOM)
    cause = "normalizing only the rows, as softmax does, or weighting only one of the two vectors"
    require_same(result, result.mT, "is not symmetric", given=_RANDOM, cause=cause)


def batch(subject: Subject) -> None:
    """Keep leading dimensions: for [..., n, d] return the same as for each [n, d] separately."""
    similarity = _create(subject)
    given = "a batch of random vectors [2, 3, 6, 5]"
    cause = "x.T, dim=0 or dim=1 (use x.mT, dim=-2 or dim=-1), or mean() or max() without dim"
    x = _vectors(2, 3, 6, 5)
    result = _call(similarity, x, given=given, cause=cause)
    single = torch.stack([_call(similarity, each, given=_RANDOM) for each in x.flatten(0, 1)])
    expected = single.reshape(2, 3, *single.shape[1:])
    require_same(result, expected, "differs from the result for each [6, 5] separately", given=given, cause=cause)


def dtype(subject: Subject) -> None:
    """Return float32 for float32, and float64 for float64."""
    similarity = _create(subject)
    for expected in (torch.float32, torch.float64):
        x = _vectors(6, 5).to(expected)
        given = f"{_RANDOM}, {dtype_name(expected)}"
        for result in (_call(similarity, x, given=given), *_call_cross(similarity, x, x[:4], given=given)):
            if result.dtype != expected:
                raise Broken(
                    f"returns {dtype_name(result.dtype)}, expected {dtype_name(expected)}",
                    given=given,
                    cause="float() or double(), or a tensor created without dtype=x.dtype",
                )


def input_unchanged(subject: Subject) -> None:
    """Leave its input unchanged."""
    similarity = _create(subject)
    for given, vectors in _special_vectors().items():
        x, y = vectors.clone(), vectors.clone()
        _call(similarity, x, given=given, copy=False)
        _call_cross(similarity, x, y, given=given, copy=False)
        if not (torch.equal(x, vectors) and torch.equal(y, vectors)):
            raise Broken(
                "changes its input",
                given=given,
                cause="an in-place operation: x -= ..., x /= ..., or a method that ends in _, such as clamp_()",
            )


def deterministic(subject: Subject) -> None:
    """Return the same result every time, whatever it was called with in between."""
    similarity = _create(subject)
    cause = "unseeded random numbers, or statistics kept between calls"
    x = _vectors(6, 5)
    first = _call(similarity, x, given=_RANDOM)
    _call(similarity, _vectors(4, 5, seed=1), given=_RANDOM)
    for again, which in ((similarity, "a second call"), (_create(subject), "a second object")):
        what = f"does not return the same from {which}"
        require_same(_call(again, x, given=_RANDOM), first, what, given=_RANDOM, cause=cause, tolerance=0.0)


def gradient(subject: Subject) -> None:
    """Have a gradient that agrees with finite differences in float64."""
    similarity, given = _create(subject), "random vectors [4, 3], float64"
    weights = _vectors(4, 4, seed=1).double()

    def weighted_sum(x: Tensor) -> Tensor:
        return (_call(similarity, x, given=given).double() * weights).sum()

    x = _vectors(4, 3).double().requires_grad_()
    total = weighted_sum(x)
    cause = "detach(), numpy(), item(), no_grad() or torch.tensor(...) in the computation: use only torch operations"
    if not total.requires_grad:
        raise Broken("returns a tensor without a gradient", given=given, cause=cause)
    derivatives = _derivatives(total, x, given)
    step = 1e-6
    with torch.no_grad():
        steps = step * torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
        expected = torch.stack([(weighted_sum(x + s) - weighted_sum(x - s)) / (2 * step) for s in steps])
    what = "has a gradient that differs from finite differences"
    require_same(derivatives, expected.reshape(x.shape), what, given=given, cause=cause)


def gradient_finite(subject: Subject) -> None:
    """Have a finite gradient for all finite vectors, including zero, constant, equal and one-hot vectors."""
    similarity = _create(subject)
    cause = "sqrt(), norm() or cdist() at 0, where the slope is infinite: square the distance, or add a small constant"
    for given, vectors in _special_vectors().items():
        x = vectors.clone().requires_grad_()
        total = _call(similarity, x, given=given).sum()
        if not total.requires_grad:
            raise SkipTest("it has no gradient")
        require_finite(_derivatives(total, x, given), "has a gradient that is", given, cause)


def cross(subject: Subject) -> None:
    """Return from cross(x, y), if it has this method, the same as for x and y stacked."""
    similarity = _create(subject)
    if hasattr(similarity, "cross_numpy"):
        _require_cross_numpy(similarity)
    if not hasattr(similarity, "cross"):
        raise SkipTest("it has no method cross, so x and y are stacked")
    for leading in ((), (2,)):
        x, y = _vectors(*leading, 6, 5), _vectors(*leading, 4, 5, seed=1)
        given = f"random vectors {list(x.shape)} and {list(y.shape)}"
        cause = "two versions of the formula that differ, x and y swapped, or x.T instead of x.mT"
        (result,) = _call_cross(similarity, x, y, given=given, cause=cause)
        stacked = _call(similarity, torch.cat([x, y], dim=-2), given=given)[..., :6, 6:]
        require_same(result, stacked, "cross differs from the similarities of all pairs", given=given, cause=cause)


def _require_cross_numpy(similarity: Any) -> None:
    """Check that ``cross_numpy`` agrees with the similarities of all pairs."""
    x, y = _vectors(6, 5).double(), _vectors(4, 5, seed=1).double()
    given, cause = "cross_numpy of random arrays [6, 5] and [4, 5]", "a formula written twice that differs"
    stacked = _call(similarity, torch.cat([x, y]), given=given)[:6, 6:]
    result = _call(
        lambda x, y: torch.as_tensor(similarity.cross_numpy(x.numpy(), y.numpy())), x, y, given=given, cause=cause
    )
    require_same(result, stacked, "cross_numpy differs from the similarities of all pairs", given=given, cause=cause)


def device(subject: Subject) -> None:
    """Return the result on the same device as the vectors."""
    name = "cuda" if torch.cuda.is_available() else "meta"
    similarity, given = _create(subject), f"{_RANDOM} on the device {name}"
    if isinstance(similarity, nn.Module):
        similarity.to(name)
    cause = "a tensor created without device=x.device"
    try:
        found = similarity(_vectors(6, 5).to(name)).device.type
    except Exception as error:
        if "same device" in str(error) or "expected device" in str(error):
            raise Broken(f"mixes devices: {error}", given=given, cause=cause) from error
        # Tensors on the meta device have no values, which a similarity may legitimately need.
        raise SkipTest(f"this cannot be checked without a GPU: {error}") from error
    if found != name:
        raise Broken(f"returns a tensor on {found}", given=given, cause=cause)


def _vectors(*size: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(*size, generator=torch.Generator().manual_seed(seed)) - 1


def _special_vectors() -> dict[str, Tensor]:
    """Return edge cases, by their description in messages."""
    some_zero = _vectors(6, 5)
    some_zero[::2] = 0
    return {
        _RANDOM: _vectors(6, 5),
        "zero vectors [4, 5]": torch.zeros(4, 5),
        "random vectors [6, 5], every other one zero": some_zero,
        "equal vectors [4, 5]": _vectors(1, 5).repeat(4, 1),
        "constant vectors [3, 5], such as (0.5, 0.5, 0.5, 0.5, 0.5)": torch.tensor([[-1.0], [0.5], [1.0]]).repeat(1, 5),
        "one-hot vectors [4, 3], two of them equal": torch.eye(3)[[0, 0, 1, 2]],
        "vectors [6, 50] of -1 and 1, the longest embeddings": _vectors(6, 50).sign(),
        "vectors of one number [6, 1]": _vectors(6, 1),
        "a single vector [1, 5]": _vectors(1, 5),
    }


def _create(subject: Subject) -> Similarity:
    similarity: Similarity = subject.create()
    if isinstance(similarity, nn.Module):
        similarity.requires_grad_(False)
    return similarity


def _call(
    function: Callable[..., Tensor], *vectors: Tensor, given: str, cause: str = _UNFORESEEN, copy: bool = True
) -> Tensor:
    """Call a plugin with copies of vectors, so that changing them in place does not affect other checks."""
    with broken_by_errors("raises an error", given=given, cause=cause):
        return function(*(each.clone() if copy else each for each in vectors))


def _call_cross(
    similarity: Similarity, x: Tensor, y: Tensor, *, given: str, cause: str = _UNFORESEEN, copy: bool = True
) -> list[Tensor]:
    """Return the result of ``cross`` in a list, which is empty if there is no such method."""
    function = getattr(similarity, "cross", None)
    return [] if function is None else [_call(function, x, y, given=f"cross of {given}", cause=cause, copy=copy)]


def _derivatives(total: Tensor, x: Tensor, given: str) -> Tensor:
    with broken_by_errors(
        "has a gradient that cannot be computed",
        given=given,
        cause="an in-place operation, such as += or exp_(), that overwrites values needed for the gradient",
    ):
        (derivatives,) = torch.autograd.grad(total, x)
    return derivatives
