"""Export to ONNX: the graph equals the network in any chunking, and is checked before writing."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from tones import trained_model, untrained_model

from speechgru.backends.loader import write_metadata
from speechgru.backends.onnx import OnnxBackend, load_onnx
from speechgru.backends.pytorch import TorchBackend
from speechgru.cli import main
from speechgru.errors import GateError, SpeechGRUError
from speechgru.export import exporter as exporting
from speechgru.export.graph import build_graph
from speechgru.export.parity import check_parity, embedded_recording
from speechgru.export.weights import folded, is_rounded, rounded, to_half, to_int8
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.model.cells import Cell
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.onnx import parse_onnx, with_header
from speechgru.modelfile.safetensors import save_model
from speechgru.recognition.verification import compare

LABELS = (SILENCE, "yes", UNKNOWN, "no")

NETWORKS = {
    "stack": {},
    "conv": {"front": "conv", "front_channels": (4, 8)},
    "three thin convolutions": {"front": "conv", "front_channels": (4, 6, 8), "front_kernel": 3},
    "a kernel that keeps no frame": {"front": "conv", "front_kernel": 2},
    "no norm, nothing added": {"layer_norm": False, "residual": False},
    "one layer": {"layers": 1},
    "ctc": {"heads": ("ctc",)},
    "two heads": {"heads": ("classify", "ctc"), "ctc_units": "characters"},
}
FRONTENDS = {
    "mfcc": {},
    "logmel": {"kind": "logmel", "mels": 40, "fft_samples": 512},
    "a window of an odd number of hops": {"window_ms": 25.0, "fft_samples": 512, "mels": 40},
    "8 kHz": {"sample_rate": 8_000, "high_hz": 3_800.0, "fft_samples": 512, "mels": 40},
    "44.1 kHz": {"sample_rate": 44_100, "fft_samples": 1_024, "window_ms": 20.0},
    "a window of an odd number of samples": {"sample_rate": 44_100, "fft_samples": 1_323},
    "no overlap": {"window_ms": 10.0, "hop_ms": 10.0, "kind": "logmel", "mels": 20},
    "a long hop": {"window_ms": 40.0, "hop_ms": 20.0, "kind": "logmel", "mels": 20},
}


@cache
def network(name="conv", frontend="logmel", unknown_words=()) -> SpeechGRU:
    """Random weights, and normalization statistics other than zero and one."""
    torch.manual_seed(0)
    config = ModelConfig(hidden=24, dropout=0.0, **NETWORKS[name])
    model = SpeechGRU(config, FeatureConfig(**FRONTENDS[frontend]), LABELS, unknown_words)
    noise = 0.1 * torch.randn(4, model.sample_rate)
    model.set_normalisation(model.features(noise))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
            torch.nn.init.uniform_(module.running_var, 0.2, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -1, 1)
        elif isinstance(module, torch.nn.GRU):
            torch.nn.init.uniform_(module.bias_ih_l0, -0.5, 0.5)
            torch.nn.init.uniform_(module.bias_hh_l0, -0.5, 0.5)
    model.set_prior(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    return model.eval()


def backend(model, content) -> OnnxBackend:
    """A backend for a graph without a header."""
    header = exporting.as_onnx(model, "float32").header
    return OnnxBackend(parse_onnx(with_header(content, header)))


@cache
def exported(*arguments) -> OnnxBackend:
    return OnnxBackend(exporting.as_onnx(network(*arguments), "float32"))


def sound(model, seconds=1.3, seed=0):
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * model.sample_rate)) / model.sample_rate
    tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 3_000) * time_s) * (time_s % 0.5 < 0.3)
    return (tone + rng.normal(0, 1e-3, len(time_s))).astype(np.float32)


def assert_same(model, graph, samples):
    """The graph gives PyTorch's log-posteriors and state.

    Sums that nearly cancel have the rounding of their terms, so a state is compared by its largest
    value: processors differ by up to 1.1e-5 of it.
    """
    steps = samples[: len(samples) // model.step_samples * model.step_samples]
    expected, expected_state = TorchBackend(model)(steps, model.initial_state(1))
    found, state = graph(steps, graph.initial_state())
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4)
    carried = {name: tensor for name, tensor in expected_state.items() if tensor.numel()}
    assert state.keys() == carried.keys()
    for name, tensor in carried.items():
        atol = max(1e-4, 2e-5 * float(tensor.abs().max()))
        np.testing.assert_allclose(state[name], tensor.numpy(), 1e-4, atol, err_msg=name)


@pytest.mark.parametrize("name", NETWORKS)
def test_graph_equals_pytorch(name):
    assert_same(network(name), exported(name), sound(network(name)))


@pytest.mark.parametrize("name", FRONTENDS)
def test_graph_equals_pytorch_with_every_frontend(name):
    model = network("stack", name)
    assert_same(model, exported("stack", name), sound(model))


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("place", range(4))
def test_unknown_words_count_as_unknown_at_any_position(place, normalised):
    """They are added as posteriors if the range of logits is known, otherwise as logarithms."""
    labels = [SILENCE, "yes", "no"]
    labels.insert(place, UNKNOWN)
    torch.manual_seed(place)
    features = FeatureConfig(kind="logmel", mels=20, fft_samples=512)
    config = ModelConfig(hidden=16, layer_norm=normalised)
    model = SpeechGRU(config, features, labels, ("cat", "dog", "tree")).eval()
    model.set_prior(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    content = build_graph(folded(model))
    kinds = {node.op_type for node in onnx.load_from_string(content).graph.node}
    assert ("ReduceLogSumExp" in kinds) is not normalised
    assert_same(model, backend(model, content), sound(model))


def test_distant_logits_do_not_become_minus_infinity():
    torch.manual_seed(0)
    features = FeatureConfig(kind="logmel", mels=20, fft_samples=512)
    model = SpeechGRU(ModelConfig(hidden=16), features, LABELS, ("cat", "dog")).eval()
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([150.0, 0, 0, 0, 0, 0]))
    graph = backend(model, build_graph(folded(model)))
    assert graph(sound(model)[:3_200], graph.initial_state())[0].min() < -140
    assert_same(model, graph, sound(model))


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(list(NETWORKS)),
    sizes=st.lists(st.integers(1, 4_000), min_size=1, max_size=20),
    seed=st.integers(0, 1_000),
)
def test_any_chunking_equals_the_whole(name, sizes, seed):
    graph = exported(name)
    samples = sound(graph, (sum(sizes) + 640) / 16_000, seed)
    assert compare(graph, samples, sizes).log_posteriors <= 1e-4


def test_step_leaves_earlier_states_unchanged():
    """Buffers are reused from call to call, but not those that callers hold."""
    graph = exported()
    steps = sound(graph)[: 20 * graph.step_samples].reshape(20, -1)
    states, answers = [graph.initial_state()], []
    for step in steps:
        log_posteriors, state = graph(step, states[-1])
        answers.append(log_posteriors)
        states.append(state)
    for step, state, answer, following in zip(steps, states, answers, states[1:], strict=False):
        again, after = graph(step, state)
        assert (again == answer).all()
        assert all((after[name] == following[name]).all() for name in state)


def test_state_can_be_rebuilt_from_a_dict():
    graph = exported()
    _, state = graph(sound(graph)[: graph.step_samples], graph.initial_state())
    assert list(state) == list(graph.initial_state())
    assert len(state) == len(graph.initial_state())
    again = {name: state[name].copy() for name in state}
    step = sound(graph, seed=1)[: graph.step_samples]
    assert (graph(step, state)[0] == graph(step, again)[0]).all()


def test_threads_can_share_a_model():
    graph = exported()
    sounds = [sound(graph, seed=seed)[: 30 * graph.step_samples] for seed in range(4)]

    def in_steps(samples):
        state, heard = graph.initial_state(), []
        for step in samples.reshape(30, -1):
            log_posteriors, state = graph(step, state)
            heard.append(log_posteriors)
        return np.concatenate(heard)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(in_steps, sounds))
    for samples, found in zip(sounds, together, strict=True):
        assert (found == in_steps(samples)).all()


def test_batch_normalization_is_folded():
    model = network("three thin convolutions")
    twin = folded(model)
    samples = torch.from_numpy(sound(model))[None]
    assert not torch.equal(twin.front.convs[0].conv.weight, model.front.convs[0].conv.weight)
    torch.testing.assert_close(twin(samples)[0], model(samples)[0], atol=1e-5, rtol=0)
    kinds = {node.op_type for node in onnx.load_from_string(build_graph(twin)).graph.node}
    assert "BatchNormalization" not in kinds


# Errors that the comparison detects.


def with_attribute(content: bytes, kind: str, name: str, value: int) -> bytes:
    """The graph with another attribute in each node of a kind."""
    model = onnx.load_from_string(content)
    for node in model.graph.node:
        for attribute in node.attribute:
            if (node.op_type, attribute.name) == (kind, name):
                attribute.i = value
    return model.SerializeToString()


def test_gru_without_linear_before_reset_is_detected():
    """An exporter that omits the attribute makes a small, silent error."""
    model = network()
    content = build_graph(folded(model))
    recording = embedded_recording(model.sample_rate)
    reference = TorchBackend(model)
    check_parity(backend(model, content), reference, [recording])
    wrong = backend(model, with_attribute(content, "GRU", "linear_before_reset", 0))
    with pytest.raises(GateError, match="log-posteriors by up to"):
        check_parity(wrong, reference, [recording])


def test_graph_that_is_wrong_only_in_chunks_is_detected():
    """It returns the state it was given, which is right for a whole recording."""
    model = network()
    graph = onnx.load_from_string(build_graph(folded(model)))
    for node in graph.graph.node:
        if node.output[0] == "next.layer0":
            node.input[0] = "state.layer0"
    wrong = backend(model, graph.SerializeToString())
    reference = TorchBackend(model)
    whole = wrong(sound(model)[:16_000], wrong.initial_state())[0]
    expected, _ = reference(sound(model)[:16_000], reference.initial_state())
    np.testing.assert_allclose(whole, expected, atol=1e-4)
    with pytest.raises(GateError, match=r"chunks: (20 ms|random|whole)"):
        check_parity(wrong, reference, [sound(model, 3.0)])


def test_differing_graph_is_not_written(tmp_path, capsys, monkeypatch):
    save_model(network(), tmp_path / "m.safetensors")
    monkeypatch.setattr(
        exporting,
        "build_graph",
        lambda *args: with_attribute(build_graph(*args), "GRU", "linear_before_reset", 0),
    )
    target = tmp_path / "out" / "m.onnx"
    assert main(["export", str(tmp_path / "m.safetensors"), "-o", str(target)]) == 5
    assert "the exported graph differs from PyTorch" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["m.safetensors"]


# Eight bits.


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 9),
    scale=st.floats(1e-20, 1e20),
    seed=st.integers(0, 99),
)
def test_int8_is_within_half_a_step_of_each_rows_scale(rows, columns, scale, seed):
    weights = np.random.default_rng(seed).normal(0, scale, (rows, columns)).astype(np.float32)
    weights[0] = 0
    numbers, scales = to_int8(weights)
    assert numbers.dtype == np.int8
    assert scales.shape == (rows, 1)
    assert np.abs(numbers * scales - weights).max() <= 0.5001 * scales.max()
    assert (np.abs(numbers[1:]).max(axis=1, initial=127) == 127).all()
    again, same = to_int8(numbers * scales)
    assert (again == numbers).all()
    np.testing.assert_allclose(same, scales, rtol=1e-6)


def test_int8_graph_equals_the_network_with_rounded_weights():
    model = network()
    content = build_graph(rounded(model), int8=True)
    twin = rounded(model)
    assert_same(twin, backend(model, content), sound(model))
    difference = (
        twin(torch.from_numpy(sound(model))[None])[0]
        - model(torch.from_numpy(sound(model))[None])[0]
    )
    assert 1e-4 < difference.abs().max() < 1.0
    initializers = onnx.load_from_string(content).graph.initializer
    eight = [numpy_helper.to_array(i) for i in initializers if i.data_type == onnx.TensorProto.INT8]
    large = sum(p.numel() for p in model.parameters() if is_rounded(tuple(p.shape)))
    assert sum(array.size for array in eight) == large > 0
    floats = [i for i in initializers if i.data_type == onnx.TensorProto.FLOAT]
    # The tables of the transform are not rounded.
    assert max(numpy_helper.to_array(i).size for i in floats) <= 4_096
    halves = [i for i in initializers if i.data_type == onnx.TensorProto.FLOAT16]
    shapes = {tuple(numpy_helper.to_array(i).shape) for i in halves}
    norms = {tuple(norm.weight.shape) for norm in model.norms}
    scales = {(len(p), *(1,) * (p.dim() - 1)) for p in model.parameters() if is_rounded(p.shape)}
    assert norms | scales <= shapes


def test_half_precision_is_the_nearest_and_leaves_large_numbers():
    values = np.array([0.0, 1.0, 0.1, -3.0001, 6e4, 65_520, -1e30], np.float32)
    half = to_half(values)
    assert half.dtype == np.float32
    assert (half[-2:] == values[-2:]).all()  # 65,504 is the largest
    np.testing.assert_allclose(half[:-2], values[:-2], rtol=2**-11)
    assert (half[:-2].astype(np.float16) == half[:-2]).all()
    assert (to_half(half) == half).all()


@pytest.mark.parametrize("size", [1e-9, 1e7])
def test_weights_whose_scales_half_precision_cannot_hold_are_kept(size):
    model = network()
    with torch.no_grad():
        model.project.weight.mul_(size)
    before, after = model.project.weight, rounded(model).project.weight
    assert (after - before).abs().max() <= 0.005 * before.abs().max()


def test_int8_graph_with_scales_that_are_too_small_for_half_precision():
    model = network()
    with torch.no_grad():
        model.project.weight.mul_(1e-9)
    assert_same(rounded(model), backend(model, build_graph(rounded(model), True)), sound(model))


def test_export_is_deterministic(tmp_path):
    model = trained_model()
    for name in ("one", "two"):
        exporting.export_model(model, tmp_path / f"{name}.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_layer_without_onnx_form_is_an_error():
    class Strange(Cell):
        state_size = (24,)
        forward = step = None  # neither is needed to be refused

    model = untrained_model()
    model.layers[0] = Strange()
    with pytest.raises(SpeechGRUError, match="kind Strange cannot be exported to ONNX"):
        build_graph(model)


def test_writing_metadata_keeps_the_graph(tmp_path):
    path = tmp_path / "m.onnx"
    exporting.export_model(untrained_model(clip_s=0.5), path)
    before = load_onnx(path)
    write_metadata(path, before.metadata | {"decoder": {"threshold": 0.8}})
    after = load_onnx(path)
    assert after.metadata == {**before.metadata, "decoder": {"threshold": 0.8}}
    assert after.header["graph"] == before.header["graph"]
    samples = sound(after)[:3_200]
    one, two = (b(samples, b.initial_state())[0] for b in (before, after))
    assert (one == two).all()
    onnx.checker.check_model(onnx.load(path), full_check=True)
