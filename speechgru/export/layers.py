"""Layers as ONNX: each (x, state) -> (y, state), as in PyTorch, of one stream."""

from functools import singledispatch

import numpy as np
import torch
from torch import nn

from speechgru.cells import GRU, CausalConv2d
from speechgru.errors import SpeechGRUError
from speechgru.export.builder import GraphBuilder


@singledispatch
def recurrent(cell: nn.Module, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    """A recurrent layer, steps first as ONNX has them: (T, 1, I), (1, ...) -> (T, 1, H), (1, ...).

    Raises:
        SpeechGRUError: a layer of this kind cannot be exported.
    """
    raise SpeechGRUError(f"a layer of the kind {type(cell).__name__} cannot be exported to ONNX")


@recurrent.register
def _gru(cell: GRU, g: GraphBuilder, x: str, state: str) -> tuple[str, str]:
    # Torch has the gates as r, z, n; ONNX as z, r, n. The reset gate comes after the product.
    y, (last,) = _onnx_layer(g, "GRU", cell.gru, [1, 0, 2], x, state, linear_before_reset=1)
    return y, last


def _onnx_layer(
    g: GraphBuilder,
    kind: str,
    module: nn.GRU | nn.LSTM | nn.RNN,
    gates: list[int],
    x: str,
    *states: str,
    **attributes: int,
) -> tuple[str, list[str]]:
    """One of ONNX's own layers; `gates` says in which order it has torch's gates."""
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
        g.floats(torch.cat(biases).detach().unsqueeze(0)),
        "",
        *(g.op("Unsqueeze", state, axis) for state in states),
        outputs=1 + len(states),
        hidden_size=hidden,
        **attributes,
    )  # (T, 1, 1, H), (1, 1, H) each
    return g.op("Squeeze", y, g.integers([1])), [g.op("Squeeze", one, axis) for one in last]


def causal_conv(
    layer: CausalConv2d, g: GraphBuilder, x: str, state: str | None
) -> tuple[str, str | None]:
    """(1, C, T, F), (1, C, K, F) -> (1, C', T', F'), state; without a state where K is 0.

    The normalisation is folded into the weights but for its bias: see `weights.folded`.
    """
    kept = layer.state_size[1]
    padded = x if state is None else g.op("Concat", state, x, axis=2)
    band_padding = layer.conv.padding[1]
    y = g.op(
        "Conv",
        padded,
        g.weight(layer.conv.weight),
        g.floats(layer.norm.bias.detach()),
        strides=list(layer.conv.stride),
        pads=[0, band_padding, 0, band_padding],
        group=layer.conv.groups,
    )
    return g.op("Relu", y), None if state is None else g.slice(padded, 2, -kept)


def layer_norm(module: nn.Module, g: GraphBuilder, x: str) -> str:
    """Over the last axis; nothing where the model has none."""
    if not isinstance(module, nn.LayerNorm):
        return x
    scale, bias = g.floats(module.weight.detach()), g.floats(module.bias.detach())
    return g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=module.eps)
