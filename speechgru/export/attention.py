"""The causal Transformer as ONNX: every step with the keys and values of its own context."""

import numpy as np

from speechgru.export.graph_builder import GraphBuilder
from speechgru.model.cells import CausalTransformer


def causal_transformer(
    cell: CausalTransformer, g: GraphBuilder, x: str, state: str
) -> tuple[str, str]:
    """(T, 1, H), (1, C - 1, 2 H) -> (T, 1, H), (1, C - 1, 2 H) with a context of C steps."""
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
    seen = g.op("Reshape", g.op("MatMul", weights, v), g.integers([0, 1, hidden]))
    attended = g.linear(seen, cell.joined.weight, cell.joined.bias)
    norm = cell.norm
    normed = g.op(
        "LayerNormalization",
        g.op("Add", x, attended),
        g.floats(norm.weight.detach()),
        g.floats(norm.bias.detach()),
        axis=-1,
        epsilon=norm.eps,
    )
    wide = g.linear(normed, cell.wide.weight, cell.wide.bias)
    y = g.op("Add", attended, g.linear(_gelu(g, wide), cell.narrow.weight, cell.narrow.bias))
    return y, g.op("Unsqueeze", g.slice(stored, 0, 1 - context), first)


def _windows(g: GraphBuilder, x: str, context: int) -> str:
    """Where each step's keys and values lie, its own first: (T, C) of T + C - 1 rows."""
    steps = g.slice(g.op("Shape", x), 0, 0, 1)
    bounds = (g.op("Squeeze", bound) for bound in (g.integers([0]), steps, g.integers([1])))
    rows = g.op("Range", *bounds)
    back = g.integers(np.arange(context - 1, -1, -1))
    return g.op("Add", g.op("Unsqueeze", rows, g.integers([1])), back)


def _gelu(g: GraphBuilder, x: str) -> str:
    """x times the normal distribution's share below x."""
    below = g.op("Erf", g.op("Mul", x, g.floats(2**-0.5)))
    return g.op("Mul", x, g.op("Mul", g.op("Add", below, g.floats(1.0)), g.floats(0.5)))
