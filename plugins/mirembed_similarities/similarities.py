"""The similarities of the paper, differentiable by PyTorch.

All take vectors ``[..., n, d]``, float32 or float64, and leave them unchanged. They only call methods of their input
tensors, so importing this module does not import torch.

Source: Jakubik & Kwaśnicka, Similarity-Based Summarization of Music Files for Support Vector Machines,
Complexity, 2018, doi 10.1155/2018/1935938.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-8
"""Added to squared norms, so that the direction of a zero vector is 0 and its gradient is finite."""


@dataclass(frozen=True)
class Rbf:
    """``exp(-gamma |x - y|^2)``, between 0 and 1; equal vectors have similarity 1.

    Parameters
    ----------
    gamma : float
        Above 0.

    Raises
    ------
    ValueError
        If ``gamma`` is not a finite number above 0.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        _check_gamma(self.gamma)

    @property
    def description(self) -> str:
        """What it is, for a paper."""
        return rf"the RBF similarity $\exp(-\gamma \|x - y\|^2)$ with $\gamma = {self.gamma:g}$"

    def __call__(self, x: Tensor) -> Tensor:
        """Return the similarities ``[..., n, n]`` of all pairs of ``x [..., n, d]``."""
        # Dot products of long vectors lose the precision of short distances; centering keeps the vectors short.
        products = _dot_products(x - x.mean(dim=-2, keepdim=True))
        squared_norms = products.diagonal(dim1=-2, dim2=-1)
        return self._of_products(squared_norms, squared_norms, products)

    def cross(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the similarities ``[..., n, m]`` of ``x [..., n, d]`` with ``y [..., m, d]``.

        Both are centered at the mean of ``y``: a kernel machine stores ``y``, so the result for a row of ``x`` does
        not depend on the other rows.
        """
        center = y.mean(dim=-2, keepdim=True)
        x, y = x - center, y - center
        return self._of_products((x * x).sum(dim=-1), (y * y).sum(dim=-1), x @ y.mT)

    def cross_numpy(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the similarities ``[n, m]`` of arrays ``x [n, d]`` and ``y [m, d]``, without torch."""
        center = y.mean(axis=0) if len(y) else 0.0
        x, y = x - center, y - center
        squares = np.square(x).sum(axis=-1)[:, None] + np.square(y).sum(axis=-1) - 2 * x @ y.T
        return np.asarray(np.exp(-self.gamma * squares.clip(min=0)))

    def _of_products(self, x_squared: Tensor, y_squared: Tensor, products: Tensor) -> Tensor:
        squared_distances = x_squared[..., :, None] + y_squared[..., None, :] - 2 * products
        return (-self.gamma * squared_distances.clamp(min=0)).exp()


@dataclass(frozen=True)
class Cosine:
    """``x.y / (|x| |y|)``, from -1 to 1 up to rounding; zero vectors have similarity 0 to everything."""

    description = r"the cosine similarity $x \cdot y / (\|x\| \|y\|)$"

    def __call__(self, x: Tensor) -> Tensor:
        """Return the similarities ``[..., n, n]`` of all pairs of ``x [..., n, d]``."""
        return _dot_products(_direction(x))

    def cross(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the similarities ``[..., n, m]`` of ``x [..., n, d]`` with ``y [..., m, d]``."""
        return _direction(x) @ _direction(y).mT

    def cross_numpy(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the similarities ``[n, m]`` of arrays ``x [n, d]`` and ``y [m, d]``, without torch."""
        x, y = (v / np.sqrt(np.square(v).sum(axis=-1, keepdims=True) + TINY) for v in (x, y))
        return np.asarray(x @ y.T)


@dataclass(frozen=True)
class Polynomial:
    """``(gamma x.y + c)^d``.

    Parameters
    ----------
    gamma : float
        Above 0.
    c : float
        0 or more.
    d : int
        The degree, 1 or more.

    Raises
    ------
    ValueError
        If a parameter is out of range, where the similarity would not be a kernel.
    """

    gamma: float = 1.0
    c: float = 0.0
    d: int = 2

    def __post_init__(self) -> None:
        _check_gamma(self.gamma)
        if not 0 <= self.c < math.inf:
            raise ValueError(f"c is {self.c}; expected a finite number, 0 or more")
        if self.d < 1:
            raise ValueError(f"d is {self.d}; expected a degree of 1 or more")

    @property
    def description(self) -> str:
        """What it is, for a paper."""
        values = rf"$\gamma = {self.gamma:g}$, $c = {self.c:g}$ and $d = {self.d}$"
        return rf"the polynomial similarity $(\gamma\, x \cdot y + c)^d$ with {values}"

    def __call__(self, x: Tensor) -> Tensor:
        """Return the similarities ``[..., n, n]`` of all pairs of ``x [..., n, d]``."""
        return self._of_products(_dot_products(x))

    def cross(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the similarities ``[..., n, m]`` of ``x [..., n, d]`` with ``y [..., m, d]``."""
        return self._of_products(x @ y.mT)

    def cross_numpy(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the similarities ``[n, m]`` of arrays ``x [n, d]`` and ``y [m, d]``, without torch."""
        return np.asarray((self.gamma * x @ y.T + self.c) ** self.d)

    def _of_products(self, products: Tensor) -> Tensor:
        return (self.gamma * products + self.c).pow(self.d)


def _check_gamma(gamma: float) -> None:
    if not 0 < gamma < math.inf:
        raise ValueError(f"gamma is {gamma}; expected a finite number above 0")


def _dot_products(x: Tensor) -> Tensor:
    """Return the dot products ``[..., n, n]`` of all pairs, symmetric to the bit."""
    products = x @ x.mT  # not quite symmetric: sums may be accumulated in different orders
    return (products + products.mT) / 2


def _direction(x: Tensor) -> Tensor:
    return x * ((x * x).sum(dim=-1, keepdim=True) + TINY).rsqrt()
