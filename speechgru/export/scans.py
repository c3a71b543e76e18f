"""Layers that ONNX has no operator for: a loop over the steps, with all else outside of it.

Each is (x, state) -> (y, state) of one stream, steps first: (T, 1, I), (1, ...) -> (T, 1, H), ...
"""

import numpy as np
import torch
from torch import Tensor

from speechgru.export.graph_builder import GraphBuilder
from speechgru.model.cells import LSTM, LiGRU, MinGRU, MinLSTM, SelectiveSSM


def lstmp(cell: LSTM, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    """An LSTM with a projection: see `cells.LSTM`."""
    weights = {name: cell.lstm.get_parameter(f"{name}_l0") for name in ("bias_ih", "bias_hh")}
    products = g.linear(
        x, cell.lstm.get_parameter("weight_ih_l0"), weights["bias_ih"] + weights["bias_hh"]
    )
    of_state = _transposed(g, cell.lstm.get_parameter("weight_hh_l0"))
    projection = _transposed(g, cell.lstm.get_parameter("weight_hr_l0"))

    def body(b: GraphBuilder, states: list[str], columns: list[str]) -> tuple[list[str], str]:
        h, c = states
        gates = b.op("Add", columns[0], b.op("MatMul", h, of_state))
        i, f, n, o = b.ops("Split", gates, outputs=4, axis=-1)
        kept = b.op("Mul", b.op("Sigmoid", f), c)
        c = b.op("Add", kept, b.op("Mul", b.op("Sigmoid", i), b.op("Tanh", n)))
        h = b.op("MatMul", b.op("Mul", b.op("Sigmoid", o), b.op("Tanh", c)), projection)
        return [h, c], h

    h = g.slice(state, 1, 0, cell.outputs)
    last, y = g.scan(body, [h, g.slice(state, 1, cell.outputs)], [products])
    return y, g.op("Concat", *last, axis=1)


def light(cell: LiGRU, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    """A light gated recurrent unit: see `cells.LiGRU`.

    Of the batch normalisation the bias is left: see `weights.folded`.
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
        taken = b.op("Mul", b.op("Sub", one, z), b.op("Relu", n))
        h = b.op("Add", b.op("Mul", z, h), taken)
        return [h], h

    (last,), y = g.scan(body, [state], [products])
    return y, last


def minimal(cell: MinGRU | MinLSTM, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    """A minimal GRU or LSTM: see `cells.minimal`."""
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
    """A selective state space: see `cells.SelectiveSSM`."""
    hidden, states = cell.state_size
    u, gate = g.ops("Split", g.linear(x, cell.input.weight, None), outputs=2, axis=-1)
    sizes = g.integers([cell.rank, states, states])
    selection = g.linear(u, cell.selection.weight, None)
    delta, write, read = g.ops("Split", selection, sizes, outputs=3, axis=-1)
    delta = g.op("Softplus", g.linear(delta, cell.delta.weight, cell.delta.bias))
    rates = g.floats(-cell.log_rates.detach().exp().view(hidden, states))
    last_axis, row = g.integers([-1]), g.integers([-2])
    keep = g.op("Exp", g.op("Mul", g.op("Unsqueeze", delta, last_axis), rates))  # (T, 1, H, N)
    taken = g.op(
        "Mul",
        g.op("Unsqueeze", g.op("Mul", delta, u), last_axis),
        g.op("Unsqueeze", write, row),
    )
    h, last = _linear_recurrence(g, keep, taken, state)
    seen = g.op("MatMul", h, g.op("Unsqueeze", read, last_axis))  # (T, 1, H, 1)
    skipped = g.op("Mul", u, g.floats(cell.skip.detach()))
    y = g.op("Add", g.op("Squeeze", seen, last_axis), skipped)
    open_gate = g.op("Mul", gate, g.op("Sigmoid", gate))
    return g.linear(g.op("Mul", y, open_gate), cell.output.weight, None), last


def _linear_recurrence(g: GraphBuilder, keep: str, taken: str, state: str) -> tuple[str, str]:
    """h' = keep * h + taken, over the first axis: all h, and the last."""

    def body(b: GraphBuilder, states: list[str], columns: list[str]) -> tuple[list[str], str]:
        h = b.op("Add", b.op("Mul", columns[0], states[0]), columns[1])
        return [h], h

    (last,), y = g.scan(body, [state], [keep, taken])
    return y, last


def _transposed(g: GraphBuilder, weight: Tensor) -> str:
    return g.op("Transpose", g.weight(weight), perm=list(np.arange(weight.ndim)[::-1]))
