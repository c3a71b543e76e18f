"""Every cell as ONNX: the same as PyTorch whole, step by step and in eight bits."""

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
    """Biases and statistics of normalisation that are not where they began."""
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
def test_it_answers_as_it_does_through_pytorch(cell):
    assert_same(network(cell), graph(cell), sound(network(cell), 2.0))


@all_cells
@settings(deadline=None, max_examples=6)
@given(sizes=st.lists(st.integers(1, 6_000), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_any_chunking_gives_what_the_whole_gives(cell, sizes, seed):
    samples = sound(network(cell), (sum(sizes) + 640) / 16_000, seed)
    assert compare(graph(cell), samples, sizes).log_posteriors <= 1e-4


@all_cells
def test_a_carried_state_goes_on_through_either(cell):
    """Begun in PyTorch and ended in ONNX: the states are the same numbers."""
    model, samples = network(cell), sound(network(cell), 2.0)
    with torch.no_grad():
        _, state = model(torch.from_numpy(samples[:16_000])[None])
        expected, _ = model(torch.from_numpy(samples[16_000:])[None], state)
    found, _ = graph(cell)(samples[16_000:], {k: v.numpy() for k, v in state.items()})
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-4)


@all_cells
def test_in_eight_bits_it_is_the_network_with_rounded_weights(cell):
    model = network(cell)
    assert_same(rounded(model), graph(cell, True), sound(model))


@all_cells
def test_many_streams_at_once_answer_as_each_does_alone(cell):
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


def test_what_onnx_has_an_operator_for_is_one():
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
