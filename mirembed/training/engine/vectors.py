"""A vector of LANES numbers for Numba: the type, its instructions, and the functions of the gates.

Numba leaves vectors to LLVM's automatic vectorization, which does not find the form that the fused engine needs. So a
type ``Lanes`` is defined here in Python: each instruction is a few lines that emit LLVM's own for ``<LANES x float>``,
and LLVM translates that to what the processor has: two registers of AVX-512 or AVX2, four of NEON.

An array with an index, such as ``load(array, (time, unit, 0))``, means the address of that element.
"""

from __future__ import annotations

import inspect
import operator
from typing import Any

from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

# Two registers are multiplied by each broadcast number. A processor loads two vectors a cycle and multiplies two, so
# with one register it would have to load more than it multiplies.
LANES, ROWS = (32, 10) if "+avx512f" in (config.CPU_FEATURES or binding.get_host_cpu_features().flatten()) else (16, 5)
"""Numbers in a vector, and the vectors of sums kept in registers: 20 of 32 with AVX-512, 10 of 16 with AVX2."""
WIDTH = 16
"""Numbers that are copied, or rows and columns that are transposed, at a time."""

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = _LanesType()
sums = types.UniTuple(lanes, ROWS)


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _pointer(context: Any, builder: Any, array: tuple[Any, Any], index: tuple[Any, Any]) -> Any:
    """Return the address of an element; ``array`` and ``index`` are pairs of a Numba type and a value."""
    content = context.make_array(array[0])(context, builder, array[1])
    typed = zip(index[0].types, cgutils.unpack_tuple(builder, index[1]), strict=True)
    numbers = [context.cast(builder, number, kind, types.intp) for kind, number in typed]
    return cgutils.get_item_pointer(context, builder, array[0], content, numbers, wraparound=False)


def _pointers(context: Any, builder: Any, array: Any, index: Any, stride: Any, count: int) -> list[Any]:
    """Return the addresses of ``count`` elements, ``stride`` numbers apart, from ``array[index]`` on."""
    first = _pointer(context, builder, array, index)
    step = context.cast(builder, stride[1], stride[0], types.intp)
    return [builder.gep(first, [builder.mul(step, step.type(number))]) for number in range(count)]


def _read(builder: Any, pointer: Any, size: int = LANES) -> Any:
    return builder.load(builder.bitcast(pointer, ir.VectorType(ir.FloatType(), size).as_pointer()), align=4)


def _write(builder: Any, vector: Any, pointer: Any) -> None:
    builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer()), align=4)


def _broadcast(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(nothing, number, ir.IntType(32)(0))
    return builder.shuffle_vector(single, nothing, ir.Constant(_INTEGERS, [0] * LANES))


def _call(builder: Any, name: str, *arguments: Any) -> Any:
    """Call LLVM's own function ``name`` on vectors."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{LANES}f32"), arguments)


def _instruction(returns: Any) -> Any:
    """Make ``emit(context, builder, *arguments)`` a function for Numba; each argument is a pair of type and value."""

    def decorate(emit: Any) -> Any:
        def typed(_context: Any, *kinds: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                result = emit(context, builder, *zip(signature.args, values, strict=True))
                return context.get_dummy_value() if result is None else result

            return returns(*kinds), generate

        typed.__name__, typed.__doc__ = emit.__name__, emit.__doc__
        parameters = list(inspect.signature(emit).parameters.values())
        signature = inspect.Signature([parameters[0], *parameters[2:]])  # as Numba calls it: no builder
        typed.__signature__ = signature  # type: ignore[attr-defined]
        return intrinsic(typed)

    return decorate


@_instruction(lanes)
def splat(context: Any, builder: Any, number: Any) -> Any:
    """Return a vector that repeats one number."""
    return _broadcast(builder, context.cast(builder, number[1], number[0], types.float32))


@_instruction(lanes)
def load(context: Any, builder: Any, array: Any, index: Any) -> Any:
    """Return the LANES numbers from ``array[index]`` on."""
    return _read(builder, _pointer(context, builder, array, index))


@_instruction(types.void)
def store(context: Any, builder: Any, array: Any, index: Any, vector: Any) -> None:
    """Write the LANES numbers from ``array[index]`` on."""
    _write(builder, vector[1], _pointer(context, builder, array, index))


@_instruction(types.void)
def copy(context: Any, builder: Any, source: Any, index: Any, target: Any, to_index: Any) -> None:
    """Copy the WIDTH numbers from ``source[index]`` on to ``target[to_index]``."""
    numbers = _read(builder, _pointer(context, builder, source, index), WIDTH)
    _write(builder, numbers, _pointer(context, builder, target, to_index))


@_instruction(sums)
def splat_rows(context: Any, builder: Any, array: Any, index: Any) -> Any:
    """Return ROWS vectors, each repeating one of the numbers from ``array[index]`` on."""
    pointers = _pointers(context, builder, array, index, (types.intp, context.get_constant(types.intp, 1)), ROWS)
    return context.make_tuple(builder, sums, [_broadcast(builder, builder.load(pointer)) for pointer in pointers])


@_instruction(sums)
def load_rows(context: Any, builder: Any, array: Any, index: Any, stride: Any) -> Any:
    """Return ROWS vectors: the first begins at ``array[index]``, each other ``stride`` numbers after the one before."""
    pointers = _pointers(context, builder, array, index, stride, ROWS)
    return context.make_tuple(builder, sums, [_read(builder, pointer) for pointer in pointers])


@_instruction(types.void)
def store_rows(context: Any, builder: Any, array: Any, index: Any, stride: Any, rows: Any) -> None:
    """Write ROWS vectors where `load_rows` finds them."""
    pointers = _pointers(context, builder, array, index, stride, ROWS)
    for vector, pointer in zip(cgutils.unpack_tuple(builder, rows[1]), pointers, strict=True):
        _write(builder, vector, pointer)


@_instruction(sums)
def add_products(context: Any, builder: Any, rows: Any, vector: Any, array: Any, index: Any, stride: Any) -> Any:
    """Add to each of ROWS vectors the product of ``vector`` and one number.

    The numbers are ``array[index]`` and those that follow it ``stride`` numbers apart.
    """
    pointers = _pointers(context, builder, array, index, stride, ROWS)
    added = [
        _call(builder, "llvm.fmuladd", _broadcast(builder, builder.load(pointer)), vector[1], row)
        for row, pointer in zip(cgutils.unpack_tuple(builder, rows[1]), pointers, strict=True)
    ]
    return context.make_tuple(builder, sums, added)


@_instruction(types.void)
def transpose(
    context: Any, builder: Any, source: Any, index: Any, stride: Any, target: Any, to_index: Any, to_stride: Any
) -> None:
    """Transpose the WIDTH x WIDTH numbers at ``source[index]``, rows ``stride`` apart, into ``target``."""
    rows = [_read(builder, pointer, WIDTH) for pointer in _pointers(context, builder, source, index, stride, WIDTH)]
    columns = ir.VectorType(ir.IntType(32), WIDTH)
    width = WIDTH // 2
    while width:  # swap the off-diagonal quarters of all blocks of 2 width x 2 width
        keep = [column if column & width == 0 else WIDTH + column - width for column in range(WIDTH)]
        move = [column + width if column & width == 0 else WIDTH + column for column in range(WIDTH)]
        for row in range(WIDTH):
            if row & width == 0:
                pair = rows[row], rows[row + width]
                rows[row] = builder.shuffle_vector(*pair, ir.Constant(columns, keep))
                rows[row + width] = builder.shuffle_vector(*pair, ir.Constant(columns, move))
        width //= 2
    for row, pointer in zip(rows, _pointers(context, builder, target, to_index, to_stride, WIDTH), strict=True):
        _write(builder, row, pointer)


@_instruction(lanes)
def multiply_add(context: Any, builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c``, rounded once where the processor can."""
    return _call(builder, "llvm.fmuladd", a[1], b[1], c[1])


@_instruction(lanes)
def clamp(context: Any, builder: Any, x: Any, low: Any, high: Any) -> Any:
    """Limit ``x`` to [low, high]; NaN stays NaN."""
    above = builder.select(builder.fcmp_ordered("<", x[1], low[1]), low[1], x[1])
    return builder.select(builder.fcmp_ordered(">", above, high[1]), high[1], above)


@_instruction(lanes)
def floor(context: Any, builder: Any, x: Any) -> Any:
    """Round down to whole numbers."""
    return _call(builder, "llvm.floor", x[1])


@_instruction(lanes)
def power_of_two(context: Any, builder: Any, n: Any) -> Any:
    """Return ``2 ** n`` for whole numbers from -126 to 127, by setting the bits of the exponent."""
    biased = builder.add(builder.fptosi(n[1], _INTEGERS), ir.Constant(_INTEGERS, [127] * LANES))
    return builder.bitcast(builder.shl(biased, ir.Constant(_INTEGERS, [23] * LANES)), _VECTOR)


def _arithmetic(operation: Any, emit: Any) -> None:
    @_instruction(lanes)
    def apply(context: Any, builder: Any, a: Any, b: Any) -> Any:
        return getattr(builder, emit)(a[1], b[1])

    @overload(operation)
    def of_lanes(a, b):
        if a is lanes and b is lanes:
            return lambda a, b: apply(a, b)
        return None


for _operation, _emit in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_operation, _emit)


# ---- the gates ----------------------------------------------------------------------------------------------------

OPTIONS = {"nogil": True, "fastmath": False, "error_model": "numpy"}
inlined = njit(forceinline=True, **OPTIONS)


@inlined
def exp(x):
    """Return e ** x after Cephes' ``expf``: x = n ln 2 + r, a polynomial of r, the exponent n by its bits."""
    x = clamp(x, splat(-87.0), splat(88.0))
    n = floor(multiply_add(x, splat(1.44269504088896341), splat(0.5)))
    x = multiply_add(n, splat(-0.693359375), x)  # ln 2 in two parts, the first exact
    x = multiply_add(n, splat(2.12194440e-4), x)
    y = splat(1.9875691500e-4)
    y = multiply_add(y, x, splat(1.3981999507e-3))
    y = multiply_add(y, x, splat(8.3334519073e-3))
    y = multiply_add(y, x, splat(4.1665795894e-2))
    y = multiply_add(y, x, splat(1.6666665459e-1))
    y = multiply_add(y, x, splat(5.0000001201e-1))
    y = multiply_add(y, x * x, x) + splat(1.0)
    return y * power_of_two(n)


@inlined
def sigmoid(x):
    """Return 1 / (1 + e ** -x)."""
    return splat(1.0) / (splat(1.0) + exp(splat(0.0) - x))


@inlined
def tanh(x):
    """Return 2 / (1 + e ** -2x) - 1."""
    return splat(2.0) / (splat(1.0) + exp(splat(-2.0) * x)) - splat(1.0)
