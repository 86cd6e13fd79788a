"""The weights of the network in the order in which the kernel reads them, and its gradients in torch's order.

Both orders are permutations, found once by arranging the numbers of the elements instead of the elements; a step of
training then costs one `numpy.take` each way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.training.engine.kernel import CHUNK, Gradient, Layer, Tape
from mirembed.training.engine.vectors import LANES, ROWS

_ALIGNMENT = 64


class Packing:
    """Both orders for a network of two layers.

    The parameters in torch's order are ``weight_ih, weight_hh, bias_ih, bias_hh`` of the first layer, then of the
    second; gates r, z, n in each. All sizes have to be multiples of ROWS.

    Parameters
    ----------
    n_in, n_hidden, n_units : int
        Sizes of the input and of the two layers.
    """

    def __init__(self, n_in: int, n_hidden: int, n_units: int) -> None:
        self.sizes = [(n_in, n_hidden), (n_hidden, n_units)]
        self.shapes = [shape for i, n in self.sizes for shape in ((3 * n, i), (3 * n, n), (3 * n,), (3 * n,))]
        numbers = _split(np.arange(_total(self.shapes)), self.shapes)
        packed = [_panels(numbers[first], numbers[first + 1]) for first in (0, 4)]
        self._packed_shapes = [[panels.shape for panels in layer] for layer in packed]
        self._weights = np.concatenate([panels.ravel() for layer in packed for panels in layer])
        # The kernel's biases are sums of two; where there is one, the other is the zero after all parameters.
        zero = _total(self.shapes)
        self._biases = [_biases(numbers[first], numbers[first + 1], zero) for first in (2, 6)]
        self._gradient = self._gradient_order()
        self._flat = np.zeros(zero + 1, np.float32)
        self._packed = np.zeros(len(self._weights), np.float32)

    def layers(self, parameters: Sequence[NDArray[np.float32]]) -> tuple[Layer, Layer]:
        """Return the layers of the kernel; ``parameters`` in torch's order. The next call writes over them."""
        np.concatenate([parameter.ravel() for parameter in parameters], out=self._flat[:-1])
        np.take(self._flat, self._weights, out=self._packed, mode="clip")
        views = _split(self._packed, [shape for layer in self._packed_shapes for shape in layer])
        biases = [self._flat[first] + self._flat[second] for first, second in self._biases]
        return _layer(views[:5], biases[0]), _layer(views[5:], biases[1])

    def tapes(self, n_inputs: int, n_gates: int) -> tuple[Tape, Tape]:
        """Return tapes of a tile, with room for so many frames of inputs and of gates."""
        first, second = (
            Tape(aligned(n_inputs, i + n, LANES), aligned(n_gates, filled(4 * n), LANES)) for i, n in self.sizes
        )
        return first, second

    def gradients(self) -> tuple[Gradient, Gradient]:
        """Return room for the gradients of both layers."""
        first, second = (
            Gradient(
                weights=aligned(i + n, filled(3 * n)),
                biases=aligned(4 * n, LANES),
                state=aligned(n, LANES),
                transposed=aligned(CHUNK, LANES, filled(4 * n + LANES)),
            )
            for i, n in self.sizes
        )
        return first, second

    def parameter_gradients(self, gradients: Sequence[Gradient]) -> list[NDArray[np.float32]]:
        """Return the gradients of the parameters, in torch's order."""
        parts = [part for g in gradients for part in (g.weights.ravel(), g.biases.sum(axis=1))]
        return _split(np.take(np.concatenate(parts), self._gradient, mode="clip"), self.shapes)

    def _gradient_order(self) -> NDArray[np.int64]:
        order = []
        start = 0
        for i, n in self.sizes:
            columns = filled(3 * n)
            weights = start + np.arange((i + n) * columns).reshape(i + n, columns)
            biases = start + weights.size + np.arange(4 * n)
            from_inputs, from_state = weights[:i, : 3 * n].T, weights[i:, : 3 * n].T  # gates n, r, z; gates r, z, c
            order += [np.roll(from_inputs, -n, axis=0), from_state, np.roll(biases[: 3 * n], -n), biases[n:]]
            start += weights.size + biases.size
        return np.concatenate([part.ravel() for part in order])


def filled(size: int) -> int:
    """Return the smallest multiple of LANES that is not below ``size``."""
    return -(-size // LANES) * LANES


def aligned(*shape: int) -> NDArray[np.float32]:
    """Return zeros, float32, that begin where a cache line begins: no vector then lies on two of them."""
    size = 4 * int(np.prod(shape))
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def _panels(w_i: NDArray[np.int64], w_h: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Arrange the weights ``[3 n, n_in]`` and ``[3 n, n]`` of a layer as `Layer` has them, biases left out."""
    n = w_h.shape[1]
    both = np.concatenate([w_i, w_h], axis=1)
    outputs = [w_i[2 * n :], both[: 2 * n], w_h[2 * n :], w_h.T, np.roll(w_i, n, axis=0).T]
    return [w.reshape(-1, ROWS, w.shape[1]).transpose(0, 2, 1) for w in outputs]


def _biases(b_i: NDArray[np.int64], b_h: NDArray[np.int64], zero: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the two summands of the kernel's biases, gates n, r, z, c."""
    n = len(b_i) // 3
    nothing = np.full(n, zero)
    return np.concatenate([np.roll(b_i, n), nothing]), np.concatenate([nothing, b_h])


def _layer(panels: Sequence[NDArray[np.float32]], biases: NDArray[np.float32]) -> Layer:
    new, reset_update, candidate, to_state, to_inputs = panels
    return Layer(new, reset_update, candidate, biases, to_state, to_inputs)


def _total(shapes: Sequence[tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes)


def _split(flat: NDArray[Any], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
    """Return consecutive parts of a flat array, in these shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat[: ends[-1]], ends[:-1]), shapes, strict=True)]
