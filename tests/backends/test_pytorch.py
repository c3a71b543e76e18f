"""The PyTorch backend: calls that are compiled answer as the model does."""

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


def called(backend, samples, steps):
    """A stream in calls of so many steps: (T, V), and the last state."""
    size, state, answers = steps * backend.step_samples, backend.initial_state(), []
    for first in range(0, len(samples), size):
        answer, state = backend(samples[first : first + size], state)
        answers.append(answer)
    return np.concatenate(answers), state


def is_compiled(backend, steps):
    return steps * backend.step_samples in backend._compiled


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_every_cell_answers_the_same_before_and_after_it_is_compiled(cell):
    model = network(cell=cell)
    backend = TorchBackend(model)
    samples = noise(3 * COMPILED_AFTER * backend.step_samples)
    answers, state = called(backend, samples, 1)
    assert is_compiled(backend, 1)
    with torch.inference_mode():
        whole, last = model(torch.from_numpy(samples)[None])
    np.testing.assert_allclose(answers, whole[0].numpy(), atol=2e-5)
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
        assert is_compiled(backend, steps)
    state, answers, place = backend.initial_state(), [], 0
    samples = noise(120 * backend.step_samples)
    for steps in [1, 5, 2, 1, 40, 5, 3, 1, 2] * 2:  # 40 and 3 are not compiled
        stop = place + steps * backend.step_samples
        answer, state = backend(samples[place:stop], state)
        answers.append(answer)
        place = stop
    expected, _ = TorchBackend(model)(samples, backend.initial_state())
    np.testing.assert_allclose(np.concatenate(answers), expected, atol=2e-5)


def test_only_short_calls_that_come_often_are_compiled():
    backend = TorchBackend(network())
    samples = noise((COMPILED_AFTER - 1) * backend.step_samples)
    called(backend, samples, 1)
    assert not is_compiled(backend, 1)
    called(backend, samples[: backend.step_samples], 1)
    assert is_compiled(backend, 1)
    steps = MOST_COMPILED_STEPS + 1
    called(backend, noise((COMPILED_AFTER + 1) * steps * backend.step_samples), steps)
    assert not is_compiled(backend, steps)
    assert backend(samples[:0], backend.initial_state())[0].shape == (0, 3)


def test_a_model_that_decides_by_what_it_hears_is_not_compiled(monkeypatch):
    """A trace keeps one of its ways; the comparison finds that out."""
    model = network()
    encode = model.encode

    def fickle(features, state):
        answer, state = encode(features, state)
        return (answer if features.mean() > 0 else answer.flip(-1)), state

    monkeypatch.setattr(model, "encode", fickle)
    backend = TorchBackend(model)
    samples = noise(2 * COMPILED_AFTER * backend.step_samples)
    answers, _ = called(backend, samples, 1)
    assert not is_compiled(backend, 1)
    again, _ = called(backend, samples, 1)
    np.testing.assert_array_equal(again, answers)


def test_what_cannot_be_traced_is_not_compiled(monkeypatch):
    model = network()
    monkeypatch.setattr(torch.jit, "trace", _refuse)
    backend = TorchBackend(model)
    backend.compile(1)
    assert not is_compiled(backend, 1)
    answers, _ = called(backend, noise(640), 1)
    assert np.isfinite(answers).all()


def _refuse(*arguments, **options):
    raise RuntimeError("not this one")
