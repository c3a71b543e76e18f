"""The PyTorch backend: calls that are compiled output as the model does."""

import numpy as np
import pytest
import torch

from speechgru.backends.pytorch import COMPILED_AFTER, MOST_COMPILED_STEPS, TorchBackend
from speechgru.model.cells import CELL_NAMES
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU

FEATURES = FeatureConfig(kind="logmel", mels=20, fft_samples=512)


def network(**config):
    torch.manual_seed(0)
    model = SpeechGRU(ModelConfig(hidden=24, dropout=0.0, **config), FEATURES, ("a", "b", "c"))
    noise = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(1))
    model.set_normalisation(model.features(0.1 * noise))
    return model.eval()


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def run_stream(backend, samples, steps):
    """Run a stream in calls of `steps` steps: (T, V), and the last state."""
    size, state, outputs = steps * backend.step_samples, backend.initial_state(), []
    for first in range(0, len(samples), size):
        output, state = backend(samples[first : first + size], state)
        outputs.append(output)
    return np.concatenate(outputs), state


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_compiling_changes_the_output_of_no_cell(cell):
    model = network(cell=cell)
    backend = TorchBackend(model)
    samples = noise(3 * COMPILED_AFTER * backend.step_samples)
    outputs, state = run_stream(backend, samples, 1)
    assert backend.is_compiled(1)
    with torch.inference_mode():
        whole, last = model(torch.from_numpy(samples)[None])
    np.testing.assert_allclose(outputs, whole[0].numpy(), atol=2e-5)
    assert state.keys() == last.keys()
    for name in last:
        torch.testing.assert_close(state[name], last[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("front", ["stack", "conv"])
@pytest.mark.parametrize("heads", [("classify",), ("classify", "ctc")])
def test_calls_of_any_length_share_one_state(front, heads):
    model = network(front=front, front_channels=(4, 8), heads=heads)
    backend = TorchBackend(model)
    for steps in (1, 2, 5):
        backend.compile(steps)
        assert backend.is_compiled(steps)
    state, outputs, place = backend.initial_state(), [], 0
    samples = noise(120 * backend.step_samples)
    for steps in [1, 5, 2, 1, 40, 5, 3, 1, 2] * 2:  # 40 and 3 are not compiled
        stop = place + steps * backend.step_samples
        output, state = backend(samples[place:stop], state)
        outputs.append(output)
        place = stop
    expected, _ = TorchBackend(model)(samples, backend.initial_state())
    np.testing.assert_allclose(np.concatenate(outputs), expected, atol=2e-5)


def test_short_frequent_calls_are_compiled():
    backend = TorchBackend(network())
    samples = noise((COMPILED_AFTER - 1) * backend.step_samples)
    run_stream(backend, samples, 1)
    assert not backend.is_compiled(1)
    run_stream(backend, samples[: backend.step_samples], 1)
    assert backend.is_compiled(1)
    steps = MOST_COMPILED_STEPS + 1
    run_stream(backend, noise((COMPILED_AFTER + 1) * steps * backend.step_samples), steps)
    assert not backend.is_compiled(steps)
    assert backend(samples[:0], backend.initial_state())[0].shape == (0, 3)


def test_a_model_with_data_dependent_code_is_not_compiled(monkeypatch):
    """A trace follows only one branch, which the comparison detects."""
    model = network()
    encode = model.encode

    def data_dependent(features, state):
        output, state = encode(features, state)
        return (output if features.mean() > 0 else output.flip(-1)), state

    monkeypatch.setattr(model, "encode", data_dependent)
    backend = TorchBackend(model)
    samples = noise(2 * COMPILED_AFTER * backend.step_samples)
    outputs, _ = run_stream(backend, samples, 1)
    assert not backend.is_compiled(1)
    again, _ = run_stream(backend, samples, 1)
    np.testing.assert_array_equal(again, outputs)


def test_a_model_that_cannot_be_traced_runs_uncompiled(monkeypatch):
    model = network()
    monkeypatch.setattr(torch.jit, "trace", _refuse)
    backend = TorchBackend(model)
    backend.compile(1)
    assert not backend.is_compiled(1)
    outputs, _ = run_stream(backend, noise(640), 1)
    assert np.isfinite(outputs).all()


def _refuse(*arguments, **options):
    raise RuntimeError("not this one")
