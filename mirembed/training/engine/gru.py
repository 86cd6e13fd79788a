"""The two recurrent layers, forward and backward, compiled by Numba: the code of the fused engine.

**Batch in the lanes.** Sixteen sequences make a *tile*. All arrays of a tile end in an axis of 16 lanes, one per
sequence: two AVX2 registers or one of AVX-512. Lanes never mix, so a sequence's result does not depend on its
companions; an unused lane has the weight 0. One thread takes a tile through both layers and all frames, so that its
data stays in the cache.

**One inner loop.** All heavy arithmetic is `add_products`, which adds to each of ROWS sums in registers the product of
one vector and a broadcast scalar. ROWS is as large as the registers allow, so that a loaded vector is used as often as
possible. LLVM's automatic vectorization does not find this form, hence the vector type of
`mirembed.training.engine.vectors`; no C compiler is needed. ``fastmath`` stays off because reassociation spoils `exp`;
multiply-adds are called by name.

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
sum over lanes and frames, so the gates' gradients are transposed to ``[frame, lane, gate]`` and, every CHUNK frames,
multiplied in blocks of ROWS inputs by 16 gates.

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
    add_products,
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

CHUNK = 8
"""Number of frames whose gate gradients are multiplied with the inputs at a time."""
BLOCK = 100
"""Number of frames summed before they are added to the total, which keeps the rounding of long tracks small."""
VECTORS = "f8a6cb69a816"
"""Digest of ``vectors.py``. Numba's cache looks at this file alone, so this file has to change with the other."""

compiled = njit(**OPTIONS)


def entry(function: Any) -> Any:
    """Compile a function that Python calls, and cache its machine code on disk where there is a place for it."""
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no place, neither beside this file nor in the user's cache folder
        return compiled(function)


class Layer(NamedTuple):
    """The weights of a layer of n units with n_in inputs, in panels ``[n_outputs / ROWS, n_inputs, ROWS]``, float32."""

    new: NDArray[np.float32]  # [n / ROWS, n_in, ROWS]: W_in
    reset_update: NDArray[np.float32]  # [2 n / ROWS, n_in + n, ROWS]: W_ir and W_hr, then W_iz and W_hz
    candidate: NDArray[np.float32]  # [n / ROWS, n, ROWS]: W_hn
    biases: NDArray[np.float32]  # [4 n]: b_in, b_ir + b_hr, b_iz + b_hz, b_hn
    to_state: NDArray[np.float32]  # [n / ROWS, 3 n, ROWS]: W_h transposed, gates r, z, c
    to_inputs: NDArray[np.float32]  # [n_in / ROWS, 3 n, ROWS]: W_i transposed, gates n, r, z


class Tape(NamedTuple):
    """Results of the forward pass that the backward pass needs, for one layer and one tile, float32."""

    inputs: NDArray[np.float32]  # [n_frames + 1, n_in + n, LANES]: x of frame t, then the state before it
    gates: NDArray[np.float32]  # [n_frames, 4 n (filled up to LANES), LANES]: n, r, z, c; later their gradients


class Gradient(NamedTuple):
    """The gradient of one layer and its working memory, float32. Columns beyond 3 n are padding."""

    weights: NDArray[np.float32]  # [n_in + n, 3 n (filled up)]: rows of x to n, r, z; rows of the state to r, z, c
    biases: NDArray[np.float32]  # [4 n, LANES]
    state: NDArray[np.float32]  # [n, LANES]: gradient of the state
    transposed: NDArray[np.float32]  # [CHUNK, LANES, 4 n + LANES (filled up)]: of the gates


class Sequences(NamedTuple):
    """The sequences of all tiles, and how their frames become inputs."""

    frames: NDArray[np.float32]  # [total_frames, n_values]
    first: NDArray[np.int64]  # [n_tiles, LANES]: first row of the track
    offset: NDArray[np.int64]  # [n_tiles, LANES]: frames of the track before the sequence
    length: NDArray[np.int64]  # [n_tiles, LANES]: frames of the sequence
    weight: NDArray[np.float32]  # [n_tiles, LANES]: of each frame in the sum over time
    mean: NDArray[np.float32]  # [n_values]
    scale: NDArray[np.float32]  # [n_values]: 1 / standard deviation


# ---- one frame of one layer ---------------------------------------------------------------------------------------


@inlined
def multiply(rows, panels, panel, inputs, time, first):
    """Add one panel times the vectors ``inputs[time, first:]`` to ``rows``."""
    for k in range(panels.shape[1]):
        rows = add_products(rows, load(inputs, (time, first + k, 0)), panels, (panel, k, 0), 1)
    return rows


@inlined
def product(panels, biases, inputs, time, first, gates, at, gate):
    """Write ``panels x + biases`` to ``gates[at, gate:]``, x from ``inputs[time, first:]`` on."""
    for panel in range(panels.shape[0]):
        row = gate + panel * ROWS
        rows = multiply(splat_rows(biases, (row,)), panels, panel, inputs, time, first)
        store_rows(gates, (at, row, 0), LANES, rows)


@inlined
def forward_layer(layer, inputs, time, gates, at):
    """Compute the gates of one frame, ``gates[at]``, from ``inputs[time]``."""
    n_in, n = layer.new.shape[1], layer.candidate.shape[1]
    product(layer.new, layer.biases, inputs, time, 0, gates, at, 0)
    product(layer.reset_update, layer.biases, inputs, time, 0, gates, at, n)
    product(layer.candidate, layer.biases, inputs, time, n_in, gates, at, 3 * n)
    for unit in range(n):
        reset = sigmoid(load(gates, (at, n + unit, 0)))
        update = sigmoid(load(gates, (at, 2 * n + unit, 0)))
        new = tanh(multiply_add(reset, load(gates, (at, 3 * n + unit, 0)), load(gates, (at, unit, 0))))
        store(gates, (at, unit, 0), new)
        store(gates, (at, n + unit, 0), reset)
        store(gates, (at, 2 * n + unit, 0), update)


@inlined
def new_state(gates, at, n, unit, before):
    """Return ``n + z (h - n)`` of one unit."""
    new, update = load(gates, (at, unit, 0)), load(gates, (at, 2 * n + unit, 0))
    return multiply_add(update, before - new, new)


@compiled
def forward_frame(first, second, inputs1, inputs2, gates1, gates2, now, after, at):
    """Take both layers from frame ``now`` to frame ``after``; the gates go to frame ``at``.

    Reads ``inputs1[now]`` and the states in ``inputs1[now]`` and ``inputs2[now]``. Writes the input of the second layer
    for ``now``, and both states for ``after``.
    """
    n_in, n1, n2 = first.new.shape[1], first.candidate.shape[1], second.candidate.shape[1]
    forward_layer(first, inputs1, now, gates1, at)
    for unit in range(n1):
        state = new_state(gates1, at, n1, unit, load(inputs1, (now, n_in + unit, 0)))
        store(inputs1, (after, n_in + unit, 0), state)
        store(inputs2, (now, unit, 0), state)
    forward_layer(second, inputs2, now, gates2, at)
    for unit in range(n2):
        state = new_state(gates2, at, n2, unit, load(inputs2, (now, n1 + unit, 0)))
        store(inputs2, (after, n1 + unit, 0), state)


# ---- reading frames -----------------------------------------------------------------------------------------------


@compiled
def gather(sequences, tile, time, lane_rows, raw):
    """Write the raw frames ``time`` of a tile to ``raw [n_values (filled up), LANES]``.

    Before the start of a track and beyond the end of a sequence the nearest frame is repeated.
    """
    n_values = sequences.frames.shape[1]
    for lane in range(LANES):
        frame = min(time, sequences.length[tile, lane] - 1)
        row = sequences.first[tile, lane] + max(0, sequences.offset[tile, lane] + frame)
        for column in range(0, n_values - LANES, LANES):
            store(lane_rows, (lane, column), load(sequences.frames, (row, column)))
        store(lane_rows, (lane, n_values - LANES), load(sequences.frames, (row, n_values - LANES)))
    for column in range(0, raw.shape[0], LANES):
        transpose(lane_rows, (0, column), lane_rows.shape[1], raw, (column, 0), LANES)


@compiled
def read_frame(sequences, tile, time, lane_rows, raw, before, inputs, at):
    """Write normalized values and their first differences to ``inputs[at]``.

    ``before [n_values (filled up), LANES]`` holds the previous frame, and afterwards this one.
    """
    n_values = sequences.frames.shape[1]
    gather(sequences, tile, time, lane_rows, raw)
    for column in range(n_values):
        value, scale = load(raw, (column, 0)), splat(sequences.scale[column])
        store(inputs, (at, column, 0), (value - splat(sequences.mean[column])) * scale)
        store(inputs, (at, n_values + column, 0), (value - load(before, (column, 0))) * scale)
        store(before, (column, 0), value)


@compiled
def frame_weights(sequences, tile, time, weights):
    """Return the weights of the frames ``time`` in the sum over time; ``weights [LANES]`` is working memory."""
    for lane in range(LANES):
        inside = time < sequences.length[tile, lane]
        weights[lane] = sequences.weight[tile, lane] if inside else np.float32(0)
    return load(weights, (0,))


# ---- whole sequences ----------------------------------------------------------------------------------------------


@entry
def forward(sequences, tile, n_frames, first, second, tape1, tape2, embeddings):
    """Embed the sequences of a tile: ``embeddings[tile] [n_units, LANES]``.

    Tapes as long as the sequences keep what `backward` needs. On shorter tapes later frames overwrite earlier ones: two
    rows of inputs and one row of gates are enough for any length.
    """
    n_in, n1, n2 = first.new.shape[1], first.candidate.shape[1], second.candidate.shape[1]
    filled = (sequences.frames.shape[1] + LANES - 1) // LANES * LANES
    lane_rows = np.zeros((LANES, filled), np.float32)
    raw, before = np.zeros((filled, LANES), np.float32), np.zeros((filled, LANES), np.float32)
    weights, part = np.zeros(LANES, np.float32), np.zeros((n2, LANES), np.float32)
    tape1.inputs[0, n_in:] = 0
    tape2.inputs[0, n1:] = 0
    embeddings[tile] = 0
    gather(sequences, tile, -1, lane_rows, before)
    for time in range(n_frames):
        now, after = time % tape1.inputs.shape[0], (time + 1) % tape1.inputs.shape[0]
        at = time % tape1.gates.shape[0]
        read_frame(sequences, tile, time, lane_rows, raw, before, tape1.inputs, now)
        forward_frame(first, second, tape1.inputs, tape2.inputs, tape1.gates, tape2.gates, now, after, at)
        weight = frame_weights(sequences, tile, time, weights)
        for unit in range(n2):
            output = load(tape2.inputs, (after, n1 + unit, 0))
            store(part, (unit, 0), multiply_add(output, weight, load(part, (unit, 0))))
        if (time + 1) % BLOCK == 0 or time + 1 == n_frames:
            embeddings[tile] += part
            part[:] = 0


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


@inlined
def add_product(panels, gates, time, first, out):
    """Add ``panels x`` to ``out``, x from ``gates[time, first]`` on."""
    for panel in range(panels.shape[0]):
        at = (panel * ROWS, 0)
        rows = multiply(load_rows(out, at, LANES), panels, panel, gates, time, first)
        store_rows(out, at, LANES, rows)


@inlined
def transpose_gates(gates, time, gradient, slot):
    """Write the gate gradients of a frame to ``gradient.transposed[slot]``, lanes first."""
    for row in range(0, gates.shape[1], LANES):
        transpose(gates, (time, row, 0), LANES, gradient.transposed, (slot, 0, row), gradient.transposed.shape[2])


@inlined
def add_weights(tape, first_frame, n_frames, first_row, last_row, first_gate, gradient):
    """Add the products of some rows of the inputs and three gates, over a chunk of frames."""
    columns = gradient.weights.shape[1]
    for column in range(0, columns, LANES):
        for row in range(first_row, last_row, ROWS):
            rows = load_rows(gradient.weights, (row, column), columns)
            for slot in range(n_frames):
                for lane in range(LANES):
                    vector = load(gradient.transposed, (slot, lane, first_gate + column))
                    rows = add_products(rows, vector, tape.inputs, (first_frame + slot, row, lane), LANES)
            store_rows(gradient.weights, (row, column), columns, rows)


@entry
def backward(sequences, tile, n_frames, first, second, tape1, tape2, embeddings, gradient1, gradient2):
    """Add a tile's part to the gradients of both layers, after its `forward`.

    ``embeddings[tile]`` holds the gradient of the embeddings. The gates on the tapes are overwritten.
    """
    n_in, n1, n2 = first.new.shape[1], first.candidate.shape[1], second.candidate.shape[1]
    weights = np.zeros(LANES, np.float32)
    gradient1.state[:] = 0
    gradient2.state[:] = 0
    for time in range(n_frames - 1, -1, -1):
        weight = frame_weights(sequences, tile, time, weights)
        for unit in range(n2):
            of_mean = load(embeddings, (tile, unit, 0))
            store(gradient2.state, (unit, 0), multiply_add(of_mean, weight, load(gradient2.state, (unit, 0))))
        gate_gradients(tape2, time, n2, n1, gradient2)
        add_product(second.to_state, tape2.gates, time, n2, gradient2.state)
        add_product(second.to_inputs, tape2.gates, time, 0, gradient1.state)
        gate_gradients(tape1, time, n1, n_in, gradient1)
        add_product(first.to_state, tape1.gates, time, n1, gradient1.state)
        slot = time % CHUNK
        transpose_gates(tape1.gates, time, gradient1, slot)
        transpose_gates(tape2.gates, time, gradient2, slot)
        if slot == 0:
            in_chunk = min(CHUNK, n_frames - time)
            add_weights(tape1, time, in_chunk, 0, n_in, 0, gradient1)
            add_weights(tape1, time, in_chunk, n_in, n_in + n1, n1, gradient1)
            add_weights(tape2, time, in_chunk, 0, n1, 0, gradient2)
            add_weights(tape2, time, in_chunk, n1, n1 + n2, n2, gradient2)
