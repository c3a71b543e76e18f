"""Layers for which ONNX has no operator, composed of others: a loop over the steps, with as much as
possible outside of it, or attention without a loop.

Each is (x, state) -> (y, state) of one stream, steps first: (T, 1, I), (1, ...) -> (T, 1, H), ...
"""

import numpy as np
import torch
from torch import Tensor

from speechgru.export.graph_builder import GraphBuilder
from speechgru.model.cells import (
    LSTM,
    CausalTransformer,
    LiGRU,
    MinGRU,
    MinLSTM,
    SelectiveSSM,
)


def lstmp(cell: LSTM, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    """An LSTM with a projection, see `cells.LSTM`."""
    biases = (g.vector(cell.lstm.get_parameter(f"bias_{kind}_l0")) for kind in ("ih", "hh"))
    products = g.linear(x, cell.lstm.get_parameter("weight_ih_l0"), None)
    products = g.op("Add", products, g.op("Add", *biases))
    of_state = _transposed(g, cell.lstm.get_parameter("weight_hh_l0"))
    projection = _transposed(g, cell.lstm.get_parameter("weight_hr_l0"))

    def body(b: GraphBuilder, states: list[str], columns: list[str]) -> tuple[list[str], str]:
        h, c = states
        gates = b.op("Add", columns[0], b.op("MatMul", h, of_state))
        i, f, n, o = b.ops("Split", gates, outputs=4, axis=-1)
        remembered = b.op("Mul", b.op("Sigmoid", f), c)
        c = b.op("Add", remembered, b.op("Mul", b.op("Sigmoid", i), b.op("Tanh", n)))
        h = b.op("MatMul", b.op("Mul", b.op("Sigmoid", o), b.op("Tanh", c)), projection)
        return [h, c], h

    h = g.slice(state, 1, 0, cell.outputs)
    last, y = g.scan(body, [h, g.slice(state, 1, cell.outputs)], [products])
    return y, g.op("Concat", *last, axis=1)


def light(cell: LiGRU, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    """A light gated recurrent unit, see `cells.LiGRU`.

    Its batch normalization is folded into the weights except for the bias, see `weights.folded`.
    """
    products = g.linear(x, cell.input.weight, cell.norm.bias)
    of_state = _transposed(g, cell.recurrent.weight)
    scale, epsilon = g.floats(torch.ones(2 * cell.outputs)), cell.recurrent_norm.eps
    one = g.floats(1.0)

    def body(b: GraphBuilder, states: list[str], columns: list[str]) -> tuple[list[str], str]:
        (h,) = states
        recurrent = b.op("LayerNormalization", b.op("MatMul", h, of_state), scale, epsilon=epsilon)
        z, n = b.ops("Split", b.op("Add", columns[0], recurrent), outputs=2, axis=-1)
        z = b.op("Sigmoid", z)
        new = b.op("Mul", b.op("Sub", one, z), b.op("Relu", n))
        h = b.op("Add", b.op("Mul", z, h), new)
        return [h], h

    (last,), y = g.scan(body, [state], [products])
    return y, last


def minimal(cell: MinGRU | MinLSTM, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    """A minimal GRU or LSTM, see `cells.minimal`."""
    count = 3 if isinstance(cell, MinLSTM) else 2
    *gates, n = g.ops(
        "Split", g.linear(x, cell.input.weight, cell.input.bias), outputs=count, axis=-1
    )
    if isinstance(cell, MinLSTM):
        # log sigmoid(a) = -softplus(-a); so log f - log i = softplus(-i) - softplus(-f)
        f, i = (g.op("Softplus", g.op("Neg", gate)) for gate in gates)
        new = g.op("Sigmoid", g.op("Sub", f, i))
        keep = g.op("Sigmoid", g.op("Sub", i, f))
    else:
        new, keep = g.op("Sigmoid", gates[0]), g.op("Sigmoid", g.op("Neg", gates[0]))
    above = g.op("GreaterOrEqual", n, g.floats(0.0))
    positive = g.op("Where", above, g.op("Add", n, g.floats(0.5)), g.op("Sigmoid", n))
    y, last = _linear_recurrence(g, keep, g.op("Mul", new, positive), state)
    return y, last


def selective(cell: SelectiveSSM, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    """A selective state space model, see `cells.SelectiveSSM`."""
    hidden, states = cell.state_size
    u, gate = g.ops("Split", g.linear(x, cell.input.weight, None), outputs=2, axis=-1)
    sizes = g.integers([cell.rank, states, states])
    selection = g.linear(u, cell.selection.weight, None)
    delta, write, read = g.ops("Split", selection, sizes, outputs=3, axis=-1)
    delta = g.op("Softplus", g.linear(delta, cell.delta.weight, cell.delta.bias))
    rates = g.floats(-cell.log_rates.detach().exp().view(hidden, states))
    last_axis, row = g.integers([-1]), g.integers([-2])
    keep = g.op("Exp", g.op("Mul", g.op("Unsqueeze", delta, last_axis), rates))  # (T, 1, H, N)
    written = g.op(
        "Mul",
        g.op("Unsqueeze", g.op("Mul", delta, u), last_axis),
        g.op("Unsqueeze", write, row),
    )
    h, last = _linear_recurrence(g, keep, written, state)
    output = g.op("MatMul", h, g.op("Unsqueeze", read, last_axis))  # (T, 1, H, 1)
    skipped = g.op("Mul", u, g.vector(cell.skip))
    y = g.op("Add", g.op("Squeeze", output, last_axis), skipped)
    open_gate = g.op("Mul", gate, g.op("Sigmoid", gate))
    return g.linear(g.op("Mul", y, open_gate), cell.output.weight, None), last


def _linear_recurrence(g: GraphBuilder, keep: str, new: str, state: str) -> tuple[str, str]:
    """h' = keep * h + new, over the first axis; returns all h, and the last one."""

    def body(b: GraphBuilder, states: list[str], columns: list[str]) -> tuple[list[str], str]:
        h = b.op("Add", b.op("Mul", columns[0], states[0]), columns[1])
        return [h], h

    (last,), y = g.scan(body, [state], [keep, new])
    return y, last


def _transposed(g: GraphBuilder, weight: Tensor) -> str:
    return g.op("Transpose", g.weight(weight), perm=list(np.arange(weight.ndim)[::-1]))


def causal_transformer(
    cell: CausalTransformer, g: GraphBuilder, x: str, state: str
) -> tuple[str, str]:
    """A causal Transformer, see `cells.CausalTransformer`; the state is (1, C - 1, 2 H).

    Each step attends to the keys and values of its context of C steps.
    """
    hidden, heads, context = cell.outputs, cell.heads, cell.context
    if cell.inputs != hidden:
        x = g.linear(x, cell.into.get_parameter("weight"), cell.into.get_parameter("bias"))
    products = g.linear(x, cell.qkv.weight, cell.qkv.bias)  # (T, 1, 3 H)
    q, new = g.slice(products, 2, 0, hidden), g.slice(products, 2, hidden)
    first, second = g.integers([0]), g.integers([1])
    stored = g.op("Concat", g.op("Squeeze", state, first), g.op("Squeeze", new, second), axis=0)
    windows = g.op("Gather", stored, _windows(g, x, context), axis=0)  # (T, C, 2 H)
    by_head = g.op("Reshape", windows, g.integers([0, context, 2, heads, hidden // heads]))
    parts = g.op("Transpose", by_head, perm=[2, 0, 3, 1, 4])  # (2, T, heads, C, H / heads)
    k, v = (g.op("Squeeze", part, first) for part in g.ops("Split", parts, outputs=2, axis=0))
    q = g.op("Reshape", q, g.integers([0, heads, 1, hidden // heads]))
    q = g.op("Mul", q, g.floats((hidden // heads) ** -0.5))
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))  # (T, heads, 1, C)
    position = cell.position.detach().view(heads, 1, context)
    weights = g.op("Softmax", g.op("Add", scores, g.floats(position)), axis=-1)
    mixed = g.op("Reshape", g.op("MatMul", weights, v), g.integers([0, 1, hidden]))
    attended = g.linear(mixed, cell.joined.weight, cell.joined.bias)
    norm = cell.norm
    normed = g.op(
        "LayerNormalization",
        g.op("Add", x, attended),
        g.vector(norm.weight),
        g.vector(norm.bias),
        axis=-1,
        epsilon=norm.eps,
    )
    wide = g.linear(normed, cell.wide.weight, cell.wide.bias)
    y = g.op("Add", attended, g.linear(_gelu(g, wide), cell.narrow.weight, cell.narrow.bias))
    return y, g.op("Unsqueeze", g.slice(stored, 0, 1 - context), first)


def _windows(g: GraphBuilder, x: str, context: int) -> str:
    """Rows of each step's keys and values, its own first: (T, C) of T + C - 1."""
    steps = g.slice(g.op("Shape", x), 0, 0, 1)
    bounds = (g.op("Squeeze", bound) for bound in (g.integers([0]), steps, g.integers([1])))
    rows = g.op("Range", *bounds)
    back = g.integers(np.arange(context - 1, -1, -1))
    return g.op("Add", g.op("Unsqueeze", rows, g.integers([1])), back)


def _gelu(g: GraphBuilder, x: str) -> str:
    """GELU: x times the normal distribution function of x."""
    probability = g.op("Erf", g.op("Mul", x, g.floats(2**-0.5)))
    return g.op("Mul", x, g.op("Mul", g.op("Add", probability, g.floats(1.0)), g.floats(0.5)))
