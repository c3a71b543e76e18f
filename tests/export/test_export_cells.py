"""Every cell as ONNX equals PyTorch: whole, in chunks and with int8 weights."""

from functools import cache

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export import assert_same, backend, sound

from speechgru.backends.onnx import OnnxBackend
from speechgru.export.graph import build_graph
from speechgru.export.weights import folded, rounded
from speechgru.model.cells import CELL_NAMES
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.recognition.verification import compare

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")
all_cells = pytest.mark.parametrize("cell", CELL_NAMES)


@cache
def network(cell: str) -> SpeechGRU:
    """A network whose biases and normalization statistics are not the initial ones."""
    torch.manual_seed(0)
    config = ModelConfig(cell=cell, hidden=24, context_steps=12, dropout=0.0)
    model = SpeechGRU(config, FeatureConfig(kind="logmel", mels=40, fft_samples=512), ("yes", "no"))
    for name, tensor in [*model.layers.named_parameters(), *model.layers.named_buffers()]:
        if name.endswith("running_var"):
            tensor.data.uniform_(0.5, 2)
        elif "bias" in name or name.endswith("running_mean") or name.endswith("norm.weight"):
            tensor.data += 0.3 * torch.randn_like(tensor)
    model.set_normalisation(model.features(0.1 * torch.randn(4, 16_000)))
    return model.eval()


@cache
def graph(cell: str, int8: bool = False) -> OnnxBackend:
    model = network(cell)
    return backend(model, build_graph(rounded(model) if int8 else folded(model), int8))


@all_cells
def test_graph_equals_pytorch(cell):
    assert_same(network(cell), graph(cell), sound(network(cell), 2.0))


@all_cells
@settings(deadline=None, max_examples=6)
@given(sizes=st.lists(st.integers(1, 6_000), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_any_chunking_equals_the_whole(cell, sizes, seed):
    samples = sound(network(cell), (sum(sizes) + 640) / 16_000, seed)
    assert compare(graph(cell), samples, sizes).log_posteriors <= 1e-4


@all_cells
def test_state_can_be_carried_from_pytorch_to_onnx(cell):
    """Start in PyTorch, continue in ONNX."""
    model, samples = network(cell), sound(network(cell), 2.0)
    with torch.no_grad():
        _, state = model(torch.from_numpy(samples[:16_000])[None])
        expected, _ = model(torch.from_numpy(samples[16_000:])[None], state)
    found, _ = graph(cell)(samples[16_000:], {k: v.numpy() for k, v in state.items()})
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-4)


@all_cells
def test_int8_graph_equals_the_network_with_rounded_weights(cell):
    model = network(cell)
    assert_same(rounded(model), graph(cell, True), sound(model))


@all_cells
def test_batch_of_streams_equals_single_streams(cell):
    model, one = network(cell), graph(cell)
    many = one.many_streams()
    if cell == "transformer":
        assert many is None
        return
    streams = np.stack([sound(model, 1.0, seed) for seed in range(5)])
    states = many.initial_states(5)
    alone = [one.initial_state() for _ in streams]
    for first in range(0, 16_000 - 1_600, 1_600):
        chunk = streams[:, first : first + 1_600]
        found, states = many(chunk, states)
        for i, samples in enumerate(chunk):
            expected, alone[i] = one(samples, alone[i])
            np.testing.assert_allclose(found[i], expected, atol=1e-4)


def test_onnx_operators_are_used_where_they_exist():
    kinds = {}
    for cell in CELL_NAMES:
        built = onnx.load_from_string(build_graph(folded(network(cell))))
        kinds[cell] = {node.op_type for node in built.graph.node} & {"RNN", "LSTM", "GRU", "Scan"}
    ours = dict.fromkeys(("lstmp", "ligru", "mingru", "minlstm", "ssm"), "Scan")
    assert kinds == {
        cell: {ours.get(cell) or {"rnn": "RNN", "lstm": "LSTM"}.get(cell, "GRU")}
        for cell in CELL_NAMES
        if cell != "transformer"
    } | {"transformer": set()}
