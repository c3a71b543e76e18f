"""The whole model as one ONNX graph: (samples, state) -> (log-posteriors, state)."""

import numpy as np
import torch
from torch import Tensor

import speechgru
from speechgru.cells import CausalConv2d
from speechgru.export.builder import GraphBuilder
from speechgru.export.frontend import features
from speechgru.export.layers import causal_conv, layer_norm, recurrent
from speechgru.fronts import ConvFront
from speechgru.labels import UNKNOWN
from speechgru.model import SpeechGRU
from speechgru.runtime import LOG_POSTERIORS, NEXT, SAMPLES, STATE


def build_graph(model: SpeechGRU, int8: bool = False) -> bytes:
    """An ONNX file without a header, of a model that `weights.folded` or `rounded` gave.

    It takes any whole number of steps of one stream: (1, T step_samples), and gives (1, T, V).

    Raises:
        SpeechGRUError: a layer cannot be exported.
    """
    g = GraphBuilder(int8)
    samples = g.input(SAMPLES, 1, "S")
    state = {
        name: g.input(STATE + name, *tensor.shape)
        for name, tensor in model.initial_state(1).items()
        if tensor.numel()
    }
    log_posteriors, following = _forward(g, model, samples, state)
    columns = sum(map(len, model.outputs.values()))
    g.output(LOG_POSTERIORS, log_posteriors, 1, "T", columns)
    for name, tensor in model.initial_state(1).items():
        if tensor.numel():
            g.output(NEXT + name, following[name], *tensor.shape)
    return g.model("speechgru", speechgru.__version__)


def _forward(
    g: GraphBuilder, model: SpeechGRU, samples: str, state: dict[str, str]
) -> tuple[str, dict[str, str]]:
    stretch, following = samples, {}
    if "samples" in state:  # frames overlap
        stretch = g.op("Concat", state["samples"], samples, axis=1)
        following["samples"] = g.slice(stretch, 1, -model.features.config.context_samples)
    centred = g.op("Sub", features(g, model.features, stretch), g.floats(model.mean))
    x = g.op("Div", centred, g.floats(model.deviation))  # (FRAMES_PER_STEP T, F)
    x = _front(g, model, x, state, following)  # (T, 1, C F)
    x = g.linear(x, model.project.weight, model.project.bias)
    for i, layer in enumerate(model.layers):
        name = f"layer{i}"
        y, following[name] = recurrent(layer, g, layer_norm(model.norms[i], g, x), state[name])
        x = g.op("Add", x, y) if model.config.residual else y
    log_posteriors = _heads(g, model, layer_norm(model.norms[-1], g, x))
    return g.op("Transpose", log_posteriors, perm=[1, 0, 2]), following


def _front(
    g: GraphBuilder,
    model: SpeechGRU,
    x: str,
    state: dict[str, str],
    following: dict[str, str],
) -> str:
    """Frames to steps: (FRAMES_PER_STEP T, F) -> (T, 1, size)."""
    front = model.front
    if not isinstance(front, ConvFront):
        return g.op("Reshape", x, g.integers([-1, 1, front.size]))
    x = g.op("Unsqueeze", x, g.integers([0, 1]))
    for i, conv in enumerate(front.convs):
        assert isinstance(conv, CausalConv2d)
        x, kept = causal_conv(conv, g, x, state.get(f"conv{i}"))  # (1, C, T, F)
        if kept is not None:
            following[f"conv{i}"] = kept
    steps = g.op("Transpose", x, perm=[2, 0, 1, 3])  # (T, 1, C, F)
    return g.op("Reshape", steps, g.integers([0, 0, front.size]))


def _heads(g: GraphBuilder, model: SpeechGRU, x: str) -> str:
    """Log-posteriors of each head's labels, side by side: (T, 1, H) -> (T, 1, V)."""
    rows = torch.arange(len(model.head.bias))
    heads = []
    for head, own in model.split_heads(rows).items():
        weight, bias = model.head.weight[own], model.head.bias[own]
        logits = (
            _labels(g, model, x, weight, bias) if head == "classify" else g.linear(x, weight, bias)
        )
        heads.append(g.op("LogSoftmax", logits, axis=-1))
    return heads[0] if len(heads) == 1 else g.op("Concat", *heads, axis=-1)


def _labels(g: GraphBuilder, model: SpeechGRU, x: str, weight: Tensor, bias: Tensor) -> str:
    """What the classify head says of each label, not normalised: (T, 1, H) -> (T, 1, labels).

    As in `SpeechGRU.fold` the unknown words are added to `_unknown_` and the prior is taken out.
    Normalising once, at the end, is the same. The prior is in the biases, and the rows are in an
    order in which what is added lies together.
    """
    labels, words = len(model.labels), len(model.unknown_words)
    if not words:
        return g.linear(x, weight, bias - model.log_prior)
    unknown = model.vocabulary.id(UNKNOWN)
    label_of_row = np.append(np.arange(labels), np.full(words, unknown))
    order = np.argsort(label_of_row, kind="stable")
    bias = bias - model.log_prior[label_of_row]
    parts = g.ops(
        "Split",
        g.linear(x, weight[order], bias[order]),
        g.integers([unknown, 1 + words, labels - unknown - 1]),
        outputs=3,
        axis=-1,
    )
    parts[1] = g.op("ReduceLogSumExp", parts[1], axes=[-1], keepdims=1)
    return g.op("Concat", *parts, axis=-1)
