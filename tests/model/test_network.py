"""The acoustic model as one function of samples and state: live equals offline."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from speechgru.errors import DataError
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.model.cells import CELL_NAMES
from speechgru.model.features import FeatureConfig
from speechgru.model.network import LockedDropout, ModelConfig, SpeechGRU, State

LABELS = (SILENCE, UNKNOWN, "yes", "no")
UNKNOWN_WORDS = ("bed", "cat")
LOGMEL = FeatureConfig(kind="logmel", mels=40, fft_samples=512)
SETTINGS = {
    "stack": (ModelConfig(hidden=16), FeatureConfig()),
    "stack, plain": (
        ModelConfig(hidden=16, layers=3, layer_norm=False, residual=False),
        FeatureConfig(cepstra=20, window_ms=25, hop_ms=12.5),
    ),
    "conv": (ModelConfig(front="conv", front_channels=(4, 6), hidden=16), LOGMEL),
    "conv, three": (
        ModelConfig(front="conv", front_channels=(4, 6, 8), front_kernel=3, hidden=16),
        LOGMEL,
    ),
}
SETTINGS |= {
    cell: (ModelConfig(cell=cell, hidden=16, context_steps=10), LOGMEL)
    for cell in CELL_NAMES
    if cell != "gru"
}
NEAR = {"atol": 1e-5, "rtol": 1e-5}
all_settings = pytest.mark.parametrize("name", SETTINGS)


def make(name: str) -> SpeechGRU:
    """A network as after training: no statistic is at its first value."""
    torch.manual_seed(0)
    model = SpeechGRU(*SETTINGS[name], LABELS, UNKNOWN_WORDS)
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_()
        if buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    model.set_normalisation(model.features(noise(16_000)))
    return model.eval()


def noise(samples: int, batch: int = 1, seed: int = 0) -> Tensor:
    return 0.2 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


model_of = cache(make)


@st.composite
def recordings(draw: st.DrawFn, step: int) -> tuple[Tensor, list[int]]:
    """Speech-like loudness: noise, silence and clipping; and chunks of whole steps."""
    steps = draw(st.lists(st.integers(1, 12), min_size=1, max_size=10))
    samples = noise(sum(steps) * step, batch=2, seed=draw(st.integers(0, 99)))
    quiet = draw(st.integers(0, sum(steps))) * step
    samples[0, quiet : quiet + 4 * step] = 0
    samples[1] = (samples[1] * draw(st.sampled_from([1, 30]))).clamp(-1, 1)
    return samples, [count * step for count in steps]


@all_settings
@given(data=st.data())
@settings(max_examples=12, deadline=None)
@torch.no_grad()
def test_any_chunking_equals_the_whole(name, data):
    model = model_of(name)
    samples, chunks = data.draw(recordings(model.step_samples))
    whole, last = model(samples)
    state, context = model.initial_state(2), model.initial_state(2)["samples"]
    parts, features = [], []
    for chunk in samples.split(chunks, dim=1):
        log_posteriors, state = model(chunk, state)
        found, context = model.extract(chunk, context)
        parts.append(log_posteriors)
        features.append(found)
        assert log_posteriors.shape[1] == chunk.shape[1] // model.step_samples
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=0)
    raw = model.extract(samples, model.initial_state(2)["samples"])[0] * model.deviation
    torch.testing.assert_close(torch.cat(features, dim=1) * model.deviation, raw, **NEAR)
    assert state.keys() == last.keys()
    for key in state:
        torch.testing.assert_close(state[key], last[key], atol=1e-4, rtol=1e-4)


@all_settings
def test_every_whole_step_has_an_output(name):
    model = model_of(name)
    step = model.step_samples
    for samples in (0, 1, step - 1, step, 3 * step, 3 * step + 1, 4 * step - 1):
        log_posteriors, state = model(noise(samples))
        assert log_posteriors.shape == (1, samples // step, len(LABELS))
        assert {k: v.shape for k, v in state.items()} == {
            k: v.shape for k, v in model.initial_state(1).items()
        }


@all_settings
@torch.no_grad()
def test_samples_after_the_last_whole_step_are_ignored(name):
    model = model_of(name)
    samples = noise(5 * model.step_samples + 7)
    expected, state = model(samples[:, :-7])
    found, with_rest = model(samples)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for key in state:
        torch.testing.assert_close(with_rest[key], state[key], rtol=0, atol=0)


@all_settings
@torch.no_grad()
def test_no_step_looks_ahead(name):
    model = model_of(name)
    samples = noise(10 * model.step_samples)
    changed = samples.clone()
    changed[:, 6 * model.step_samples :] += 0.5
    before, after = model(samples)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :6], after[:, :6], **NEAR)
    assert (before[:, 6:] - after[:, 6:]).abs().amax(dim=(0, 2)).min() > 1e-4


@all_settings
@torch.no_grad()
def test_a_recording_starts_as_after_silence(name):
    """The first state's samples are zeros: silence before the recording changes no frame of it."""
    model = model_of(name)
    samples = noise(4 * model.step_samples)
    silence = torch.zeros(1, 3 * model.step_samples)
    alone, _ = model.extract(samples, model.initial_state()["samples"])
    preceded, _ = model.extract(torch.cat([silence, samples], 1), model.initial_state()["samples"])
    torch.testing.assert_close(preceded[:, 6:], alone, atol=1e-4, rtol=1e-4)


@all_settings
@torch.no_grad()
def test_the_state_is_carried(name):
    """What was heard before matters: a carried state is not a fresh one."""
    model = model_of(name)
    _, state = model(noise(20 * model.step_samples))
    samples = noise(2 * model.step_samples, seed=1)
    assert (model(samples, state)[0] - model(samples)[0]).abs().max() > 1e-3


@all_settings
@torch.no_grad()
def test_posteriors_sum_to_one_and_clips_are_independent(name):
    model = model_of(name)
    samples = noise(8 * model.step_samples, batch=3)
    log_posteriors, _ = model(samples)
    torch.testing.assert_close(log_posteriors.exp().sum(dim=-1), torch.ones(3, 8), **NEAR)
    torch.testing.assert_close(model(samples[1:2])[0], log_posteriors[1:2], **NEAR)


def test_unknown_words_count_as_unknown():
    model = model_of("stack")
    outputs = torch.randn(2, 5, len(LABELS) + len(UNKNOWN_WORDS)).log_softmax(dim=-1)
    folded, expected = model.fold(outputs).exp(), outputs.exp()
    assert folded.shape == (2, 5, 4)
    torch.testing.assert_close(folded[..., [0, 2, 3]], expected[..., [0, 2, 3]])
    torch.testing.assert_close(folded[..., 1], expected[..., [1, 4, 5]].sum(dim=-1))


def test_without_unknown_words_nothing_is_folded():
    outputs = torch.randn(2, 5, 3).log_softmax(dim=-1)
    model = SpeechGRU(ModelConfig(), FeatureConfig(), ("a", "b", "c"))
    torch.testing.assert_close(model.fold(outputs), outputs)


def test_the_label_shares_in_training_are_removed_from_the_posteriors():
    """Bayes: p(label | x) / p(label), normalised, is the posterior under equal priors."""
    model = SpeechGRU(ModelConfig(), FeatureConfig(), ("a", "b", "c"))
    shares, likelihoods = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.3, 0.4])
    model.set_prior(shares)
    trained = (shares * likelihoods) / (shares * likelihoods).sum()
    expected = likelihoods / likelihoods.sum()
    torch.testing.assert_close(model.fold(trained.log()).exp(), expected)


def test_unknown_may_be_likelier_than_the_other_labels():
    model = SpeechGRU(ModelConfig(), FeatureConfig(), (SILENCE, UNKNOWN, "a"))
    shares, likelihoods = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.3, 0.4])
    model.set_prior(shares, unknown_odds=4.0)
    trained = (shares * likelihoods) / (shares * likelihoods).sum()
    expected = torch.tensor([0.2, 4 * 0.3, 0.4])
    torch.testing.assert_close(model.fold(trained.log()).exp(), expected / expected.sum())


def test_unknown_words_need_the_label_unknown():
    with pytest.raises(DataError, match=r"unknown words need the label _unknown_"):
        SpeechGRU(ModelConfig(), FeatureConfig(), ("yes", "no"), ("bed",))


def test_labels_must_differ():
    with pytest.raises(DataError, match="labels have to differ"):
        SpeechGRU(ModelConfig(), FeatureConfig(), ("yes", "yes"))


def test_normalised_features_have_mean_0_and_deviation_1():
    model = model_of("stack")
    samples = noise(16_000)
    normalised, _ = model.extract(samples, samples[:, :320])
    torch.testing.assert_close(normalised.mean(dim=(0, 1)), torch.zeros(40), atol=0.1, rtol=0)
    torch.testing.assert_close(normalised.std(dim=(0, 1)), torch.ones(40), atol=0.1, rtol=0)


def test_a_constant_feature_is_not_divided_by_zero():
    model = SpeechGRU(ModelConfig(hidden=4), FeatureConfig(), ("yes", "no"))
    model.set_normalisation(torch.full((50, 40), 3.0))
    log_posteriors, _ = model(torch.zeros(1, 3_200))
    assert log_posteriors.isfinite().all()


def test_the_initial_state_is_zeros_by_name():
    state = model_of("conv").initial_state(3)
    assert list(state) == ["samples", "conv0", "conv1", "layer0", "layer1"]
    assert not any(part.any() for part in state.values())
    assert state["samples"].shape == (3, 320)
    assert state["layer0"].shape == (3, 16)


def test_the_state_argument_is_not_modified():
    model = model_of("conv")
    _, state = model(noise(3_200))
    before = {key: part.clone() for key, part in state.items()}
    model(noise(3_200, seed=1), state)
    assert_equal(before, state)


def assert_equal(one: State, other: State) -> None:
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=0)


def test_gradients_reach_every_weight():
    for model in (make(name).train() for name in SETTINGS):
        log_posteriors, _ = model(noise(6_400, batch=2))
        log_posteriors[:, :, 2].sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_dropout_is_the_same_at_every_step():
    torch.manual_seed(0)
    x = LockedDropout(0.4).train()(torch.ones(50, 6, 40))
    assert (x == x[:, :1]).all()
    torch.testing.assert_close(x.unique(), torch.tensor([0.0, 1 / 0.6]))
    assert (x == 0).float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert LockedDropout(0.4).eval()(x) is x


def test_dropout_can_differ_at_every_step():
    model = SpeechGRU(ModelConfig(dropout=0.4, dropout_mask="step"), FeatureConfig(), ("a", "b"))
    dropped = model.train().dropout(torch.ones(50, 6, 40)) == 0
    assert dropped.float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert (dropped != dropped[:, :1]).float().mean().item() == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"front": "conv", "front_channels": (8,)}, "at least two convolutions"),
        ({"front_channels": (8, 0)}, "must be positive"),
        ({"hiden": 4}, "hiden"),
        ({"dropout": 1.0}, "dropout"),
        ({"layers": 0}, "layers"),
        ({"cell": "grue"}, "cell"),
        ({"cell": "rnn", "keep_bias": 1.0}, "cell 'rnn' has no such gate"),
        ({"cell": "transformer", "context_steps": 1}, "context_steps"),
        ({"cell": "lstm4"}, "cell"),
    ],
)
def test_invalid_settings_are_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        ModelConfig(**wrong)
