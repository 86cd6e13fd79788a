"""The Laplacian kernel as a similarity for mirembed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mirembed import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Laplacian:
    """``exp(-gamma |x - y|_1)``, between 0 and 1; equal vectors have similarity 1.

    Parameters
    ----------
    gamma : float
        Above 0.
    """

    def __init__(self, gamma: float = 0.1) -> None:
        if not 0 < gamma < math.inf:
            raise ValueError(f"gamma is {gamma}; expected a finite number above 0")
        self.gamma = gamma

    def __call__(self, x: Tensor) -> Tensor:
        """Return the similarities ``[..., n, n]`` of all pairs of ``x [..., n, d]``."""
        return self.cross(x, x)

    def cross(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the similarities ``[..., n, m]`` of ``x [..., n, d]`` with ``y [..., m, d]``."""
        distances = (x[..., :, None, :] - y[..., None, :, :]).abs().sum(dim=-1)
        return (-self.gamma * distances).exp()


@hookimpl
def mirembed_register_similarities(register: Callable[..., None]) -> None:
    """Register the similarity."""
    register("laplacian", Laplacian, summary="exp(-gamma |x - y|_1)")
