"""The whole model as one ONNX graph: (samples, state) -> (log-posteriors, state)."""

import math

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from speechgru.backends.onnx import LOG_POSTERIORS, NEXT, SAMPLES, STATE, STREAMS
from speechgru.export.frontend import Normalization, features
from speechgru.export.graph_builder import GraphBuilder
from speechgru.export.layers import causal_conv, layer_norm, recurrent
from speechgru.labels import UNKNOWN
from speechgru.model.cells import CausalTransformer
from speechgru.model.fronts import CausalConv2d, ConvFront
from speechgru.model.network import SpeechGRU
from speechgru.version import __version__

#: If logits differ by less, all posteriors are larger than the smallest float32.
_SAFE_RANGE = 80.0


def build_graph(model: SpeechGRU, int8: bool = False) -> bytes:
    """An ONNX file without a header, for a model from `weights.folded` or `weights.rounded`.

    It takes any whole number of steps of any number of streams, (N, T step_samples), each with its
    state, and returns (N, T, V). The graph of a Transformer is for one stream.

    Raises:
        SpeechGRUError: a layer cannot be exported.
    """
    g = GraphBuilder(int8)
    count = 1 if any(isinstance(c, CausalTransformer) for c in model.cells) else STREAMS
    samples = g.input(SAMPLES, count, "S")
    state = {
        name: g.input(STATE + name, count, *tensor.shape[1:])
        for name, tensor in model.initial_state(1).items()
        if tensor.numel()
    }
    # From the shape of a state, which a runtime can infer from the number of streams.
    streams = None if count == 1 else g.op("Shape", state["layer0"], start=0, end=1)
    log_posteriors, following = _forward(g, model, samples, state, streams)
    columns = sum(map(len, model.outputs.values()))
    g.output(LOG_POSTERIORS, log_posteriors, count, "T", columns)
    for name, tensor in model.initial_state(1).items():
        if tensor.numel():
            g.output(NEXT + name, following[name], count, *tensor.shape[1:])
    return g.model("speechgru", __version__)


def _forward(
    g: GraphBuilder,
    model: SpeechGRU,
    samples: str,
    state: dict[str, str],
    streams: str | None,
) -> tuple[str, dict[str, str]]:
    context, following = samples, {}
    if "samples" in state:  # frames overlap
        context = g.op("Concat", state["samples"], samples, axis=1)
        following["samples"] = g.slice(context, 1, -model.features.config.context_samples)
    norm = Normalization(model.mean.double().numpy(), model.deviation.double().numpy())
    x = features(g, model.features, context, norm, streams)  # (N, 1, FRAMES_PER_STEP T, F)
    x = _front(g, model, x, state, following)  # (T, N, H)
    for i, layer in enumerate(model.layers):
        name = f"layer{i}"
        y, following[name] = recurrent(layer, g, layer_norm(model.norms[i], g, x), state[name])
        x = g.op("Add", x, y) if model.config.residual else y
    return _heads(g, model, layer_norm(model.norms[-1], g, x), streams), following


def _front(
    g: GraphBuilder,
    model: SpeechGRU,
    x: str,
    state: dict[str, str],
    following: dict[str, str],
) -> str:
    """Frames to steps: (N, 1, FRAMES_PER_STEP T, F) -> (T, N, H)."""
    front, project = model.front, model.project
    if not isinstance(front, ConvFront):
        steps = g.op("Reshape", x, g.integers([0, -1, front.size]))
        steps = g.op("Transpose", steps, perm=[1, 0, 2])
        return g.linear(steps, project.weight, project.bias)
    for i, conv in enumerate(front.convs):
        assert isinstance(conv, CausalConv2d)
        x, state_after = causal_conv(conv, g, x, state.get(f"conv{i}"))  # (N, C, T, F)
        if state_after is not None:
            following[f"conv{i}"] = state_after
    # The product over channels and bands is one more convolution, which reads the output of the
    # last one in the order in which a runtime stores it.
    hidden, channels = model.config.hidden, model.config.front_channels[-1]
    kernel = g.op("Reshape", g.weight(project.weight), g.integers([hidden, channels, 1, -1]))
    y = g.op("Conv", x, kernel, g.vector(project.bias))  # (N, H, T, 1)
    steps = g.op("Transpose", y, perm=[2, 0, 3, 1])
    return g.op("Reshape", steps, g.integers([0, -1, hidden]))


def _heads(g: GraphBuilder, model: SpeechGRU, x: str, streams: str | None) -> str:
    """Log-posteriors of all heads, side by side: (T, N, H) -> (N, T, V)."""
    if streams is not None:
        x = g.op("Transpose", x, perm=[1, 0, 2])
    x = g.op("Reshape", x, g.integers([-1, model.config.hidden]))  # (N T, H)
    rows = torch.arange(len(model.head.bias))
    heads = []
    for head, own in model.split_heads(rows).items():
        weight, bias = model.head.weight[own], model.head.bias[own]
        if head == "classify":
            heads.append(_labels(g, model, x, weight, bias))
        else:
            heads.append(g.op("LogSoftmax", g.affine(x, weight, bias), axis=-1))
    columns = heads[0] if len(heads) == 1 else g.op("Concat", *heads, axis=-1)
    shape = g.integers([-1, sum(map(len, model.outputs.values()))])
    first = g.integers([1]) if streams is None else streams
    return g.op("Reshape", columns, g.op("Concat", first, shape, axis=0))


def _labels(g: GraphBuilder, model: SpeechGRU, x: str, weight: Tensor, bias: Tensor) -> str:
    """Log-posteriors of the labels: (N T, H) -> (N T, labels).

    As in `SpeechGRU.fold` unknown words are added to `_unknown_` and the prior is removed; it is in
    the biases, as normalizing once gives the same.
    """
    labels, words = len(model.labels), len(model.unknown_words)
    if not words:
        return g.op("LogSoftmax", g.affine(x, weight, bias - model.log_prior), axis=-1)
    unknown = model.vocabulary.id(UNKNOWN)
    label_of_row = np.append(np.arange(labels), np.full(words, unknown))
    bias = bias - model.log_prior[label_of_row]
    if _range(model, weight, bias) < _SAFE_RANGE:
        posteriors = g.op("Softmax", g.affine(x, weight, bias), axis=-1)
        merge = np.eye(labels, dtype=np.uint8)[label_of_row]  # (labels + words, labels)
        merge_floats = g.small_integers(merge, to=onnx.TensorProto.FLOAT)
        return g.op("Log", g.op("MatMul", posteriors, merge_floats))
    order = np.argsort(label_of_row, kind="stable")  # so that what is added is contiguous
    parts = g.ops(
        "Split",
        g.affine(x, weight[order], bias[order]),
        g.integers([unknown, 1 + words, labels - unknown - 1]),
        outputs=3,
        axis=-1,
    )
    parts[1] = g.op("ReduceLogSumExp", parts[1], axes=[-1], keepdims=1)
    return g.op("LogSoftmax", g.op("Concat", *parts, axis=-1), axis=-1)


def _range(model: SpeechGRU, weight: Tensor, bias: Tensor) -> float:
    """An upper bound of the difference between any two logits; infinite without a layer norm.

    The sum of squares of H normalized features is at most H.
    """
    norm = model.norms[-1]
    if not isinstance(norm, nn.LayerNorm):
        return math.inf
    with torch.no_grad():
        centre = weight @ norm.bias + bias
        reach = (weight * norm.weight).norm(dim=1) * math.sqrt(weight.shape[1])
        return float((centre + reach).max() - (centre - reach).min())
