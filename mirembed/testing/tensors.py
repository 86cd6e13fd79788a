"""What the checks of similarities and networks demand of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from mirembed.testing import Broken

TOLERANCE = 1e-4
"""The largest accepted difference, relative to the largest value."""


def require_same(
    values: Tensor, expected: Tensor, what: str, given: str, cause: str, tolerance: float = TOLERANCE
) -> None:
    """Raise `Broken` if two tensors differ in shape, or in a value by more than the tolerance."""
    if values.shape != expected.shape:
        shapes = f"the shape is {list(values.shape)}, expected {list(expected.shape)}"
        raise Broken(f"{what}: {shapes}", given=given, cause=cause)
    values, expected = values.detach().double(), expected.detach().double()
    # Equal infinities and NaNs count as equal here: being finite is a promise of its own.
    same = (values == expected) | (values.isnan() & expected.isnan())
    gap = (values - expected).abs().nan_to_num(nan=torch.inf).masked_fill(same, 0)
    if not gap.max() <= tolerance * expected.abs().max().clamp(min=1e-6):
        index = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
        place = f"{values[index]:.6g} at {list(index)}, expected {expected[index]:.6g}"
        raise Broken(f"{what}: {place}", given=given, cause=cause)


def require_finite(values: Tensor, verb: str, given: str, cause: str) -> None:
    """Raise `Broken` if a value is NaN or infinite; ``verb`` is what the plugin does with it."""
    strange = values[~torch.isfinite(values)]
    if len(strange):
        raise Broken(
            f"{verb} {strange[0].item()} in {len(strange)} of {values.numel()} places", given=given, cause=cause
        )


def dtype_name(dtype: torch.dtype) -> str:
    """Return ``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")
