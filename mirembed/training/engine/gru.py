"""The two recurrent layers, forward and backward, compiled by Numba: the code of the fused engine.

**Batch in the lanes.** LANES sequences make a *tile*: 32 with AVX-512, elsewhere 16. All arrays of a tile end in an
axis of lanes, one per sequence: two registers of AVX-512 or AVX2. Lanes never mix, so a sequence's result does not
depend on its companions; an unused lane has the weight 0. One thread takes a tile through both layers and all frames,
so that its data stays in the cache.

**One inner loop.** All heavy arithmetic is `add_products`, which adds to each of ROWS sums in registers the product of
one vector and a broadcast scalar. ROWS is as large as the registers allow, so that a loaded vector is used as often as
possible; a loaded scalar is used twice, because a vector is two registers. LLVM's automatic vectorization does not find
this form, hence the vector type of `mirembed.training.engine.vectors`; no C compiler is needed. ``fastmath`` stays off
because reassociation spoils `exp`; multiply-adds are called by name.

**Forward.** For a layer with inputs x and state h, in torch's form of the gates::

    r = sigmoid(W_ir x + W_hr h + b_r)        reset
    z = sigmoid(W_iz x + W_hz h + b_z)        update
    c = W_hn h + b_hn                         candidate's share of the state
    n = tanh(W_in x + b_in + r c)             new
    h' = n + z (h - n)

The inputs of frame t lie right before the state that they are combined with, ``[x | h]``, so that r and z are one
product with the whole row, n one with its beginning and c one with its end. The gates of a frame are in the order
n, r, z, c.

**Backward.** One loop runs over the frames in reverse, through both layers. The gradients of a frame's gates replace
the gates, in the same order: W_i belongs to the first three quarters (n, r, z) and W_h to the last three (r, z, c).
They reach the state and the layer below by the same products with transposed weights. The gradient of the weights is a
sum over lanes and frames, so the gates' gradients are transposed to blocks of LANES gates, ``[frame, lane, gate]``,
and, every CHUNK frames, multiplied in blocks of ROWS inputs by LANES gates.

**Excerpts.** Frames are read in place from the flat array of all tracks and normalized on the way, with their first
differences. The mean over time has the weight 1 / length inside a track and 0 beyond its end.

Nothing is checked here: an index out of bounds reads foreign memory. Only `mirembed.training.engine.fused`, which
checks everything, may call this code.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mirembed.training.engine.vectors import (
    LANES,
    OPTIONS,
    ROWS,
    WIDTH,
    add_products,
    copy,
    inlined,
    load,
    load_rows,
    multiply_add,
    sigmoid,
    splat,
    splat_rows,
    store,
    store_rows,
    tanh,
    transpose,
)

CHUNK = 128 // LANES
"""Number of frames whose gate gradients are multiplied with the inputs at a time."""
BLOCK = 100
"""Number of frames summed before they are added to the total, which keeps the rounding of long tracks small."""
VECTORS = "d0e2f2624fee"
"""Digest of ``vectors.py``. Numba's cache looks at this file alone, so this file has to change with the other."""

ZERO = np.int64(0)
"""An argument that is 0: for Numba, a plain 0 is a type of its own, for which it would compile a function once more."""

compiled = njit(**OPTIONS)


def entry(function: Any) -> Any:
    """Compile a function that Python calls, and cache its machine code on disk where there is a place for it."""
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no place, neither beside this file nor in the user's cache folder
        return compiled(function)


class Layer(NamedTuple):
    """The weights of a layer of n units with n_in inputs, float32. Products take ROWS outputs at a time: a *panel*."""

    gates: NDArray[np.float32]
    """``[n / ROWS, 3 (n_in + n), ROWS]``: for ROWS units W_in; W_ir, W_hr; W_iz, W_hz; W_hn."""
    biases: NDArray[np.float32]  # [4 n]: b_in, b_ir + b_hr, b_iz + b_hz, b_hn
    to_state: NDArray[np.float32]  # [n / ROWS, 3 n, ROWS]: W_h transposed, gates r, z, c
    to_inputs: NDArray[np.float32]  # [n_in / ROWS, 3 n, ROWS]: W_i transposed, gates n, r, z


class Tape(NamedTuple):
    """Results of the forward pass that the backward pass needs, for one layer and one tile, float32."""

    inputs: NDArray[np.float32]  # [n_frames + 1, n_in + n, LANES]: x of frame t, then the state before it
    gates: NDArray[np.float32]  # [n_frames, 4 n (filled up to LANES), LANES]: n, r, z, c; later their gradients


class Gradient(NamedTuple):
    """The gradient of one layer and its working memory, float32. The 4 n gates are in blocks of LANES, filled up."""

    weights: NDArray[np.float32]
    """``[blocks, n_in + n, LANES]``: rows of x to n, r, z; rows of the state to r, z, c; the rest means nothing."""
    biases: NDArray[np.float32]  # [4 n, LANES]
    state: NDArray[np.float32]  # [n, LANES]: gradient of the state
    transposed: NDArray[np.float32]  # [blocks, CHUNK * LANES, LANES]: of the gates, by frame and sequence


class Sequences(NamedTuple):
    """The sequences of all tiles, and how their frames become inputs."""

    frames: NDArray[np.float32]  # [total_frames, n_values]
    first: NDArray[np.int64]  # [n_tiles, LANES]: first row of the track
    offset: NDArray[np.int64]  # [n_tiles, LANES]: frames of the track before the sequence
    length: NDArray[np.int64]  # [n_tiles, LANES]: frames of the sequence
    weight: NDArray[np.float32]  # [n_tiles, LANES]: of each frame in the sum over time
    mean: NDArray[np.float32]  # [n_values]
    scale: NDArray[np.float32]  # [n_values]: 1 / standard deviation


class Work(NamedTuple):
    """Working memory, float32. Code that allocates memory takes seconds longer to compile."""

    lane_rows: NDArray[np.float32]  # [LANES, n_values (filled up to WIDTH)]
    raw: NDArray[np.float32]  # [n_values (filled up), LANES]: a frame
    before: NDArray[np.float32]  # [n_values (filled up), LANES]: the previous frame
    weights: NDArray[np.float32]  # [LANES]: of a frame in the sum over time
    outputs: NDArray[np.float32]  # [1, n_units, LANES]: of the second layer
    part: NDArray[np.float32]  # [n_units, LANES]: their sum over a part of the sequence


# ---- one frame of one layer ---------------------------------------------------------------------------------------


@inlined
def multiply(rows, panels, panel, start, inputs, time, first, count):
    """Add ``count`` columns of a panel, from ``start`` on, times the vectors ``inputs[time, first:]`` to ``rows``."""
    for k in range(count):
        rows = add_products(rows, load(inputs, (time, first + k, 0)), panels, (panel, start + k, 0), 1)
    return rows


@compiled
def forward_layer(layer, inputs, now, after, gates, at, above, to):
    """Take a layer from frame ``now`` to frame ``after``; the gates go to ``gates[at]``.

    Reads the inputs and the state in ``inputs[now]``. Writes the state to ``inputs[after]`` and to ``above[to]``.
    """
    n_in, n = layer.to_inputs.shape[0] * ROWS, layer.to_state.shape[0] * ROWS
    for panel in range(n // ROWS):
        start = 0
        for gate in range(4):  # n, r, z, c
            first = n_in if gate == 3 else 0
            count = (n_in if gate == 0 else n_in + n) - first
            row = gate * n + panel * ROWS
            rows = splat_rows(layer.biases, (row,))
            rows = multiply(rows, layer.gates, panel, start, inputs, now, first, count)
            store_rows(gates, (at, row, 0), LANES, rows)
            start += count
        for unit in range(panel * ROWS, (panel + 1) * ROWS):
            reset = sigmoid(load(gates, (at, n + unit, 0)))
            update = sigmoid(load(gates, (at, 2 * n + unit, 0)))
            new = tanh(multiply_add(reset, load(gates, (at, 3 * n + unit, 0)), load(gates, (at, unit, 0))))
            store(gates, (at, unit, 0), new)
            store(gates, (at, n + unit, 0), reset)
            store(gates, (at, 2 * n + unit, 0), update)
            state = multiply_add(update, load(inputs, (now, n_in + unit, 0)) - new, new)
            store(inputs, (after, n_in + unit, 0), state)
            store(above, (to, unit, 0), state)


# ---- reading frames -----------------------------------------------------------------------------------------------


@compiled
def gather(sequences, tile, time, lane_rows, raw):
    """Write the raw frames ``time`` of a tile to ``raw``.

    Before the start of a track and beyond the end of a sequence the nearest frame is repeated.
    """
    n_values = sequences.frames.shape[1]
    for lane in range(LANES):
        frame = min(time, sequences.length[tile, lane] - 1)
        row = sequences.first[tile, lane] + max(0, sequences.offset[tile, lane] + frame)
        for column in range(0, n_values - WIDTH, WIDTH):
            copy(sequences.frames, (row, column), lane_rows, (lane, column))
        copy(sequences.frames, (row, n_values - WIDTH), lane_rows, (lane, n_values - WIDTH))
    for column in range(0, raw.shape[0], WIDTH):
        for lane in range(0, LANES, WIDTH):
            transpose(lane_rows, (lane, column), lane_rows.shape[1], raw, (column, lane), LANES)


@compiled
def read_frame(sequences, tile, time, work, inputs, at):
    """Write normalized values and their first differences to ``inputs[at]``; the values become the previous frame."""
    n_values = sequences.frames.shape[1]
    gather(sequences, tile, time, work.lane_rows, work.raw)
    for column in range(n_values):
        value, scale = load(work.raw, (column, 0)), splat(sequences.scale[column])
        store(inputs, (at, column, 0), (value - splat(sequences.mean[column])) * scale)
        store(inputs, (at, n_values + column, 0), (value - load(work.before, (column, 0))) * scale)
        store(work.before, (column, 0), value)


@compiled
def frame_weights(sequences, tile, time, weights):
    """Return the weights of the frames ``time`` in the sum over time."""
    for lane in range(LANES):
        inside = time < sequences.length[tile, lane]
        weights[lane] = sequences.weight[tile, lane] if inside else np.float32(0)
    return load(weights, (0,))


# ---- whole sequences ----------------------------------------------------------------------------------------------


@entry
def forward(sequences, tile, n_frames, first, second, tape1, tape2, embeddings, work):
    """Add the embeddings of a tile's sequences to ``embeddings[tile] [n_units, LANES]``.

    Tapes as long as the sequences keep what `backward` needs. On shorter tapes later frames overwrite earlier ones: two
    rows of inputs and one row of gates are enough for any length.
    """
    n_in, n1, n2 = first.to_inputs.shape[0] * ROWS, first.to_state.shape[0] * ROWS, second.to_state.shape[0] * ROWS
    for unit in range(n1):
        store(tape1.inputs, (0, n_in + unit, 0), splat(0.0))
    for unit in range(n2):
        store(tape2.inputs, (0, n1 + unit, 0), splat(0.0))
        store(work.part, (unit, 0), splat(0.0))
    gather(sequences, tile, ZERO - 1, work.lane_rows, work.before)
    for time in range(n_frames):
        now, after = time % tape1.inputs.shape[0], (time + 1) % tape1.inputs.shape[0]
        at = time % tape1.gates.shape[0]
        read_frame(sequences, tile, time, work, tape1.inputs, now)
        forward_layer(first, tape1.inputs, now, after, tape1.gates, at, tape2.inputs, now)
        forward_layer(second, tape2.inputs, now, after, tape2.gates, at, work.outputs, ZERO)
        weight = frame_weights(sequences, tile, time, work.weights)
        for unit in range(n2):
            part = multiply_add(load(work.outputs, (0, unit, 0)), weight, load(work.part, (unit, 0)))
            if (time + 1) % BLOCK == 0 or time + 1 == n_frames:
                store(embeddings, (tile, unit, 0), load(embeddings, (tile, unit, 0)) + part)
                part = splat(0.0)
            store(work.part, (unit, 0), part)


@inlined
def gate_gradients(tape, time, n, n_in, gradient):
    """Replace the gates of a frame by their gradients, given the gradient of the state after it.

    Afterwards ``gradient.state`` holds the part that goes directly to the state before it.
    """
    one = splat(1.0)
    for unit in range(n):
        after, before = load(gradient.state, (unit, 0)), load(tape.inputs, (time, n_in + unit, 0))
        new, reset = load(tape.gates, (time, unit, 0)), load(tape.gates, (time, n + unit, 0))
        update, candidate = load(tape.gates, (time, 2 * n + unit, 0)), load(tape.gates, (time, 3 * n + unit, 0))
        d_new = after * (one - update) * (one - new * new)
        d_reset = d_new * candidate * reset * (one - reset)
        d_update = after * (before - new) * update * (one - update)
        d_candidate = d_new * reset
        store(gradient.state, (unit, 0), after * update)
        for gate, d_gate in enumerate((d_new, d_reset, d_update, d_candidate)):
            row = gate * n + unit
            store(tape.gates, (time, row, 0), d_gate)
            store(gradient.biases, (row, 0), load(gradient.biases, (row, 0)) + d_gate)


@compiled
def add_product(panels, gates, time, first, out):
    """Add ``panels x`` to ``out``, x from ``gates[time, first]`` on."""
    for panel in range(panels.shape[0]):
        at = (panel * ROWS, 0)
        rows = multiply(load_rows(out, at, LANES), panels, panel, ZERO, gates, time, first, panels.shape[1])
        store_rows(out, at, LANES, rows)


@compiled
def backward_layer(layer, tape, time, gradient):
    """Take the gradient of a layer's state through a frame."""
    n_in, n = layer.to_inputs.shape[0] * ROWS, layer.to_state.shape[0] * ROWS
    gate_gradients(tape, time, n, n_in, gradient)
    add_product(layer.to_state, tape.gates, time, n, gradient.state)
    start = time % CHUNK * LANES
    for row in range(0, tape.gates.shape[1], WIDTH):
        for lane in range(0, LANES, WIDTH):
            to = row // LANES, start + lane, row % LANES
            transpose(tape.gates, (time, row, lane), LANES, gradient.transposed, to, LANES)


@compiled
def add_weights(layer, tape, first_frame, n_frames, gradient):
    """Add the products of inputs and gates to the gradient of the weights, over a chunk of frames."""
    n_in, n = layer.to_inputs.shape[0] * ROWS, layer.to_state.shape[0] * ROWS
    for block in range(gradient.weights.shape[0]):
        first = 0 if block * LANES < 3 * n else n_in
        last = n_in + n if (block + 1) * LANES > n else n_in
        for row in range(first, last, ROWS):
            rows = load_rows(gradient.weights, (block, row, 0), LANES)
            for k in range(n_frames * LANES):
                at = first_frame + k // LANES, row, k % LANES
                rows = add_products(rows, load(gradient.transposed, (block, k, 0)), tape.inputs, at, LANES)
            store_rows(gradient.weights, (block, row, 0), LANES, rows)


@entry
def backward(sequences, tile, n_frames, first, second, tape1, tape2, embeddings, work, gradient1, gradient2):
    """Add a tile's part to the gradients of both layers, after its `forward`.

    ``embeddings[tile]`` holds the gradient of the embeddings. The gates on the tapes are overwritten.
    """
    for unit in range(gradient1.state.shape[0]):
        store(gradient1.state, (unit, 0), splat(0.0))
    for unit in range(gradient2.state.shape[0]):
        store(gradient2.state, (unit, 0), splat(0.0))
    for time in range(n_frames - 1, -1, -1):
        weight = frame_weights(sequences, tile, time, work.weights)
        for unit in range(gradient2.state.shape[0]):
            of_mean = load(embeddings, (tile, unit, 0))
            store(gradient2.state, (unit, 0), multiply_add(of_mean, weight, load(gradient2.state, (unit, 0))))
        backward_layer(second, tape2, time, gradient2)
        add_product(second.to_inputs, tape2.gates, time, ZERO, gradient1.state)
        backward_layer(first, tape1, time, gradient1)
        if time % CHUNK == 0:
            in_chunk = min(CHUNK, n_frames - time)
            add_weights(first, tape1, time, in_chunk, gradient1)
            add_weights(second, tape2, time, in_chunk, gradient2)
