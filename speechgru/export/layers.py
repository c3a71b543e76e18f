"""Layers as ONNX: each (x, state) -> (y, state), as in PyTorch."""

from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import nn

from speechgru.errors import SpeechGRUError
from speechgru.export.composed_layers import (
    causal_transformer,
    light,
    lstmp,
    minimal,
    selective,
)
from speechgru.export.graph_builder import GraphBuilder
from speechgru.model.cells import (
    GRU,
    LSTM,
    MGU,
    RNN,
    CausalTransformer,
    ChoGRU,
    LiGRU,
    MinGRU,
    MinLSTM,
    SelectiveSSM,
)
from speechgru.model.fronts import CausalConv2d


@singledispatch
def recurrent(cell: nn.Module, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    """A recurrent layer, time first as in ONNX: (T, N, I), (N, ...) -> (T, N, H), (N, ...).

    Raises:
        SpeechGRUError: a layer of this kind cannot be exported.
    """
    raise SpeechGRUError(f"a layer of the kind {type(cell).__name__} cannot be exported to ONNX")


@recurrent.register
def _gru(cell: GRU, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    # PyTorch orders the gates r, z, n; ONNX z, r, n. The reset gate applies after the product.
    y, (last,) = _onnx_layer(g, "GRU", cell.gru, [1, 0, 2], x, state, linear_before_reset=1)
    return y, last


@recurrent.register
def _rnn(cell: RNN, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    y, (last,) = _onnx_layer(g, "RNN", cell.rnn, [0], x, state)
    return y, last


@recurrent.register
def _lstm(cell: LSTM, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    if cell.lstm.proj_size:
        return lstmp(cell, g, x, state)
    h, c = g.slice(state, 1, 0, cell.outputs), g.slice(state, 1, cell.outputs)
    # PyTorch orders the gates i, f, n, o; ONNX i, o, f, n.
    y, last = _onnx_layer(g, "LSTM", cell.lstm, [0, 3, 1, 2], x, h, c)
    return y, g.op("Concat", *last, axis=1)


@recurrent.register
def _cho(cell: ChoGRU, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    r, z, n = _rows(cell.outputs, 3)
    w, gates = g.weight(cell.input.weight), g.weight(cell.gates.weight)
    u = [_taken(g, gates, z), _taken(g, gates, r), g.weight(cell.candidate.weight)]
    return _onnx_gru(
        g,
        [_taken(g, w, rows) for rows in (z, r, n)],
        u,
        [cell.input.bias[rows] for rows in (z, r, n)],
        x,
        state,
    )


@recurrent.register
def _mgu(cell: MGU, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    # Cho's GRU with r = f and z = 1 - f = sigmoid(-(W_f x + U_f h + b_f)).
    f, n = _rows(cell.outputs, 2)
    w, gate = g.weight(cell.input.weight), g.weight(cell.gate.weight)
    of_f, bias = _taken(g, w, f), cell.input.bias
    return _onnx_gru(
        g,
        [g.op("Neg", of_f), of_f, _taken(g, w, n)],
        [g.op("Neg", gate), gate, g.weight(cell.candidate.weight)],
        [-bias[f], bias[f], bias[n]],
        x,
        state,
    )


recurrent.register(LiGRU, light)
recurrent.register(MinGRU, minimal)
recurrent.register(MinLSTM, minimal)
recurrent.register(SelectiveSSM, selective)
recurrent.register(CausalTransformer, causal_transformer)


def _rows(hidden: int, gates: int) -> list[slice]:
    return [slice(i * hidden, (i + 1) * hidden) for i in range(gates)]


def _taken(g: GraphBuilder, weight: str, rows: slice) -> str:
    return g.slice(weight, 0, rows.start, rows.stop)


def _onnx_gru(
    g: GraphBuilder,
    w: list[str],
    u: list[str],
    biases: list[torch.Tensor],
    x: str,
    state: str,
    **attributes: Any,
) -> tuple[str, str]:
    """ONNX's GRU with the reset gate before the product, from parts in the order z, r, n."""
    axis, hidden = g.integers([0]), len(biases[0])
    bias = torch.cat([*biases, torch.zeros(3 * hidden)]).unsqueeze(0)
    y, last = g.ops(
        "GRU",
        x,
        *(g.op("Unsqueeze", g.op("Concat", *parts, axis=0), axis) for parts in (w, u)),
        g.vector(bias),
        "",
        g.op("Unsqueeze", state, axis),
        outputs=2,
        hidden_size=hidden,
        linear_before_reset=0,
        **attributes,
    )  # (T, 1, 1, H), (1, 1, H)
    return g.op("Squeeze", y, g.integers([1])), g.op("Squeeze", last, axis)


def _onnx_layer(
    g: GraphBuilder,
    kind: str,
    module: nn.GRU | nn.LSTM | nn.RNN,
    gates: list[int],
    x: str,
    *states: str,
    **attributes: int,
) -> tuple[str, list[str]]:
    """One of ONNX's own layers; `gates` are PyTorch's gates in ONNX's order."""
    hidden = module.hidden_size
    rows = np.arange(len(gates) * hidden).reshape(-1, hidden)[gates].ravel()
    axis = g.integers([0])
    weights = [
        g.op("Unsqueeze", g.weight(module.get_parameter(name)[rows]), axis)
        for name in ("weight_ih_l0", "weight_hh_l0")
    ]
    biases = [module.get_parameter(name)[rows] for name in ("bias_ih_l0", "bias_hh_l0")]
    y, *last = g.ops(
        kind,
        x,
        *weights,
        g.vector(torch.cat(biases).unsqueeze(0)),
        "",
        *(g.op("Unsqueeze", state, axis) for state in states),
        outputs=1 + len(states),
        hidden_size=hidden,
        **attributes,
    )  # (T, 1, 1, H), (1, 1, H) each
    return g.op("Squeeze", y, g.integers([1])), [g.op("Squeeze", state, axis) for state in last]


def causal_conv(
    layer: CausalConv2d, g: GraphBuilder, x: str, state: str | None
) -> tuple[str, str | None]:
    """(N, C, T, F), (N, C, K, F) -> (N, C', T', F'), state; None if K is 0.

    The normalization is folded into the weights except for the bias, see `weights.folded`.
    """
    context = layer.state_size[1]
    padded = x if state is None else g.op("Concat", state, x, axis=2)
    band_padding = layer.conv.padding[1]
    y = g.op(
        "Conv",
        padded,
        g.weight(layer.conv.weight),
        g.vector(layer.norm.bias),
        strides=list(layer.conv.stride),
        pads=[0, band_padding, 0, band_padding],
        group=layer.conv.groups,
    )
    return g.op("Relu", y), None if state is None else g.slice(padded, 2, -context)


def layer_norm(module: nn.Module, g: GraphBuilder, x: str) -> str:
    """Layer normalization over the last axis; nothing if the model has none."""
    if not isinstance(module, nn.LayerNorm):
        return x
    scale, bias = g.vector(module.weight), g.vector(module.bias)
    return g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=module.eps)
