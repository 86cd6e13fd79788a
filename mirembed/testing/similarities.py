"""What a similarity has to do.

Vectors are made up from fixed seeds, in float32 and within [-1, 1] as embeddings and label vectors are; comparisons
allow for the rounding of float32, and the gradient is compared in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest import SkipTest

import torch
from torch import Tensor, nn

from mirembed.hookspecs import Similarity
from mirembed.testing.checks import Broken, Subject, parameters

TOLERANCE = 1e-4
"""Of a difference, relative to the largest value."""


def shape(subject: Subject) -> None:
    """Give a floating-point tensor [n, n] for n vectors, also for one vector and for vectors of one number."""
    similarity = _create(subject)
    for given, x in _special_vectors().items():
        result = _call(similarity, x, given=given)
        if not isinstance(result, Tensor) or not result.is_floating_point():
            kind = result.dtype if isinstance(result, Tensor) else type(result).__name__
            raise Broken(f"returns {kind}", given=given, cause="numpy(), tolist() or a comparison in place of torch")
        if result.shape != (len(x), len(x)):
            raise Broken(
                f"returns the shape {list(result.shape)}, expected {[len(x), len(x)]}",
                given=given,
                cause="squeeze() without dim, which drops every dimension of size 1; or distances of the columns",
            )


def finite(subject: Subject) -> None:
    """Be finite for any finite vectors: zero, constant, equal and one-hot vectors too."""
    similarity = _create(subject)
    for given, x in _special_vectors().items():
        result = _call(similarity, x, given=given)
        _require_finite(
            result,
            "is",
            given,
            "a division by a norm or a deviation that is 0: add a small constant under the root; or an overflow of exp",
        )


def symmetric(subject: Subject) -> None:
    """Be symmetric: S(x, y) equals S(y, x)."""
    x = _vectors(6, 5)
    result = _call(_create(subject), x, given=_RANDOM)
    if place := _difference(result, result.mT):
        raise Broken(
            f"is not symmetric: {place}",
            given=_RANDOM,
            cause="a normalization of rows only, such as softmax, or a weight on one of the two sides",
        )


def batch(subject: Subject) -> None:
    """Keep leading dimensions: for [..., n, d] give what the [n, d] one at a time give."""
    similarity = _create(subject)
    given = "a batch of random vectors [2, 3, 6, 5]"
    cause = "x.T, dim=0 or dim=1 (use x.mT, dim=-2, dim=-1), or a mean() or max() of everything, without dim"
    x = _vectors(2, 3, 6, 5)
    result = _call(similarity, x, given=given, cause=cause)
    if result.shape != (2, 3, 6, 6):
        raise Broken(f"returns the shape {list(result.shape)}, expected [2, 3, 6, 6]", given=given, cause=cause)
    single = torch.stack([_call(similarity, each, given=_RANDOM) for each in x.flatten(0, 1)])
    if place := _difference(result.flatten(0, 1), single):
        raise Broken(f"is unlike what it is for one [6, 5] at a time: {place}", given=given, cause=cause)


def dtype(subject: Subject) -> None:
    """Give float32 for float32, and float64 for float64."""
    similarity = _create(subject)
    for expected in (torch.float32, torch.float64):
        x = _vectors(6, 5).to(expected)
        given = f"{_RANDOM}, {_name(expected)}"
        for result in (_call(similarity, x, given=given), *_call_cross(similarity, x, x[:4], given=given)):
            if result.dtype != expected:
                raise Broken(
                    f"returns {_name(result.dtype)}, expected {_name(expected)}",
                    given=given,
                    cause="float() or double(), or a tensor that is made without dtype=x.dtype",
                )


def input_unchanged(subject: Subject) -> None:
    """Leave the vectors that it is given as they are."""
    similarity = _create(subject)
    for given, vectors in _special_vectors().items():
        x, y = vectors.clone(), vectors.clone()
        _call(similarity, x, given=given, copy=False)
        _call_cross(similarity, x, y, given=given, copy=False)
        if not (torch.equal(x, vectors) and torch.equal(y, vectors)):
            raise Broken(
                "changes its input",
                given=given,
                cause="an operation in place: x -= ..., x /= ..., or a method that ends in _, such as clamp_()",
            )


def deterministic(subject: Subject) -> None:
    """Give the same every time, whatever it was called with in between."""
    similarity = _create(subject)
    x = _vectors(6, 5)
    first = _call(similarity, x, given=_RANDOM)
    _call(similarity, _vectors(4, 5, seed=1), given=_RANDOM)
    for again, maker in ((similarity, "a second call"), (_create(subject), "a second object")):
        if place := _difference(_call(again, x, given=_RANDOM), first, tolerance=0.0):
            raise Broken(
                f"gives something else in {maker}: {place}",
                given=_RANDOM,
                cause="random numbers without a seed of their own, or statistics that are kept from call to call",
            )


def gradient(subject: Subject) -> None:
    """Have a gradient, which agrees with finite differences in float64."""
    similarity, given = _create(subject), "random vectors [4, 3], float64"
    weights = _vectors(4, 4, seed=1).double()

    def weighted_sum(x: Tensor) -> Tensor:
        return (_call(similarity, x, given=given).double() * weights).sum()

    x = _vectors(4, 3).double().requires_grad_()
    total = weighted_sum(x)
    cause = "detach(), numpy(), item(), no_grad() or torch.tensor(...) on the way: use torch alone"
    if not total.requires_grad:
        raise Broken("returns a tensor without gradient", given=given, cause=cause)
    derivatives = _derivatives(total, x, given)
    step = 1e-6
    with torch.no_grad():
        steps = step * torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
        expected = torch.stack([(weighted_sum(x + s) - weighted_sum(x - s)) / (2 * step) for s in steps])
    if place := _difference(derivatives, expected.reshape(x.shape)):
        raise Broken(f"has a gradient that differs from finite differences: {place}", given=given, cause=cause)


def gradient_finite(subject: Subject) -> None:
    """Have a finite gradient for any finite vectors: zero, constant, equal and one-hot vectors too."""
    similarity = _create(subject)
    for given, vectors in _special_vectors().items():
        x = vectors.clone().requires_grad_()
        total = _call(similarity, x, given=given).sum()
        if not total.requires_grad:
            raise SkipTest("it has no gradient")
        derivatives = _derivatives(total, x, given)
        _require_finite(
            derivatives,
            "has a gradient that is",
            given,
            "sqrt(), norm() or cdist() at 0, where the slope is infinite: square the distance, or add a small constant",
        )


def cross(subject: Subject) -> None:
    """Give in its method cross(x, y), where it has one, what it gives for x and y stacked."""
    similarity = _create(subject)
    _require_cross_numpy(similarity)
    if not hasattr(similarity, "cross"):
        raise SkipTest("it has no method cross: x and y are stacked")
    for leading in ((), (2,)):
        x, y = _vectors(*leading, 6, 5), _vectors(*leading, 4, 5, seed=1)
        given = f"random vectors {list(x.shape)} and {list(y.shape)}"
        cause = "a formula written twice that differs, x and y exchanged, or x.T in place of x.mT"
        (result,) = _call_cross(similarity, x, y, given=given, cause=cause)
        stacked = _call(similarity, torch.cat([x, y], dim=-2), given=given)[..., :6, 6:]
        if result.shape != stacked.shape:
            shapes = f"{list(result.shape)}, expected {list(stacked.shape)}"
            raise Broken(f"cross returns the shape {shapes}", given=given, cause=cause)
        if place := _difference(result, stacked):
            raise Broken(f"cross is unlike the similarities of all pairs: {place}", given=given, cause=cause)


def _require_cross_numpy(similarity: Similarity) -> None:
    """Check that ``cross_numpy``, if there is one, agrees with the similarities of all pairs."""
    function = getattr(similarity, "cross_numpy", None)
    if function is None:
        return
    x, y = _vectors(6, 5).double(), _vectors(4, 5, seed=1).double()
    given, cause = "cross_numpy of random arrays [6, 5] and [4, 5]", "a formula written twice that differs"
    stacked = _call(similarity, torch.cat([x, y]), given=given)[:6, 6:]
    result = _call(lambda x, y: torch.as_tensor(function(x.numpy(), y.numpy())), x, y, given=given, cause=cause)
    if result.shape != stacked.shape:
        raise Broken(f"returns the shape {list(result.shape)}, expected [6, 4]", given=given, cause=cause)
    if place := _difference(result, stacked):
        raise Broken(f"differs from the similarities of all pairs: {place}", given=given, cause=cause)


def device(subject: Subject) -> None:
    """Give the result on the device of the vectors."""
    name = "cuda" if torch.cuda.is_available() else "meta"
    similarity, given = _create(subject), f"{_RANDOM} on the device {name}"
    if isinstance(similarity, nn.Module):
        similarity.to(name)
    cause = "a tensor that is made without device=x.device"
    try:
        found = similarity(_vectors(6, 5).to(name)).device.type
    except Exception as error:
        if "same device" in str(error) or "expected device" in str(error):
            raise Broken(f"mixes devices: {error}", given=given, cause=cause) from error
        # A tensor of the device meta has no values, and a similarity may want to look at some.
        raise SkipTest(f"it cannot be told without a GPU: {error}") from error
    if found != name:
        raise Broken(f"returns a tensor on {found}", given=given, cause=cause)


PROMISES: tuple[Callable[[Subject], None], ...] = (
    shape,
    parameters,
    finite,
    symmetric,
    batch,
    dtype,
    input_unchanged,
    deterministic,
    gradient,
    gradient_finite,
    cross,
    device,
)

_UNFORESEEN = "a case that its author did not think of"
_RANDOM = "random vectors [6, 5]"


def _vectors(*size: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(*size, generator=torch.Generator().manual_seed(seed)) - 1


def _special_vectors() -> dict[str, Tensor]:
    """Return what a similarity may meet, by what messages call it."""
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
    function: Callable[..., Tensor],
    *vectors: Tensor,
    given: str,
    cause: str = _UNFORESEEN,
    copy: bool = True,
) -> Tensor:
    """Call a plugin with copies of vectors, so that what it does to them spoils no other check."""
    try:
        return function(*(each.clone() if copy else each for each in vectors))
    except Exception as error:
        raise Broken(f"raises {type(error).__name__}: {error}", given=given, cause=cause) from error


def _call_cross(
    similarity: Similarity, x: Tensor, y: Tensor, *, given: str, cause: str = _UNFORESEEN, copy: bool = True
) -> list[Tensor]:
    """Return what ``cross`` gives, or nothing where there is none."""
    function = getattr(similarity, "cross", None)
    return [] if function is None else [_call(function, x, y, given=f"cross of {given}", cause=cause, copy=copy)]


def _derivatives(total: Tensor, x: Tensor, given: str) -> Tensor:
    try:
        (derivatives,) = torch.autograd.grad(total, x)
    except Exception as error:
        raise Broken(
            f"has a gradient that cannot be computed: {type(error).__name__}: {str(error).partition(':')[0]}",
            given=given,
            cause="an operation in place on the way, such as += or exp_(), which spoils what the gradient is made of",
        ) from error
    return derivatives


def _difference(values: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> str:
    """Say where two tensors differ most, if they do."""
    values, expected = values.detach().double(), expected.detach().double()
    # Two infinities or two NaN are no difference here: that they should not be is another promise.
    same = (values == expected) | (values.isnan() & expected.isnan())
    gap = (values - expected).abs().nan_to_num(nan=torch.inf).masked_fill(same, 0)
    if gap.max() <= tolerance * expected.abs().max().clamp(min=1e-6):
        return ""
    place = tuple(int(each) for each in torch.unravel_index(gap.argmax(), gap.shape))
    return f"at {list(place)} it is {values[place]:.6g}, expected {expected[place]:.6g}"


def _require_finite(values: Tensor, verb: str, given: str, cause: str) -> None:
    strange = values[~torch.isfinite(values)]
    if len(strange):
        raise Broken(
            f"{verb} {strange[0].item()} in {len(strange)} of {values.numel()} places", given=given, cause=cause
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
