"""Models that need whole clips: what they answer, and that they are no streams."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from runs import CPU, quick_recipe
from tones import RATE, write_tones
from torch import nn

from speechgru.backends.pytorch import TorchBackend
from speechgru.cli import main
from speechgru.errors import UsageError
from speechgru.model.cells import GRU, Bidirectional
from speechgru.model.features import FeatureConfig
from speechgru.model.layers import AttentionPooling
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.safetensors import save_model
from speechgru.training.loop import train
from speechgru.training.recipe import parse_recipe

pytestmark = pytest.mark.usefixtures("seeded")

NEAR = {"atol": 1e-5, "rtol": 1e-5}
WHOLE = [{"bidirectional": True}, {"pooling": "attention"}]


@torch.no_grad()
def test_bidirectional_equals_the_sum_of_torchs_directions():
    cell = Bidirectional(GRU(5, 7), GRU(5, 7))
    reference = nn.GRU(5, 7, batch_first=True, bidirectional=True)
    for name, parameter in cell.ahead.gru.named_parameters():
        reference.get_parameter(name).copy_(parameter)
        reference.get_parameter(f"{name}_reverse").copy_(cell.back.gru.get_parameter(name))
    x, zeros = torch.randn(3, 11, 5), torch.zeros(3, 7)
    y, last = cell(x, zeros)
    expected, states = reference(x)
    torch.testing.assert_close(y, expected[..., :7] + expected[..., 7:], **NEAR)
    torch.testing.assert_close(last, states[0], **NEAR)
    traced = cell.trace(x, zeros)
    torch.testing.assert_close(traced.y, y, **NEAR)
    assert traced.gates.keys() == {"update", "reset", "backward update", "backward reset"}
    assert cell.multiply_adds == 2 * 3 * (7 * 5 + 7 * 7)
    with pytest.raises(UsageError, match="it has no steps"):
        cell.step(x[:, 0], zeros)


@torch.no_grad()
def test_backward_gates_are_aligned_with_their_steps():
    """The last step is the first that the backward cell hears, from zeros."""
    cell = Bidirectional(GRU(4, 4), GRU(4, 4))
    x = torch.randn(1, 6, 4)
    gate = cell.trace(x, torch.zeros(1, *cell.state_size)).gates["backward update"]
    first = cell.back.step(x[:, -1], torch.zeros(1, 4))
    torch.testing.assert_close(gate[:, -1], first.gates["update"])
    second = cell.back.step(x[:, -2], first.state)
    torch.testing.assert_close(gate[:, -2], second.gates["update"])


@given(steps=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
@torch.no_grad()
def test_attention_pooling_does_not_depend_on_the_order(steps, seed):
    torch.manual_seed(seed)
    pooling = AttentionPooling(8)
    x = torch.randn(2, steps, 8)
    torch.testing.assert_close(pooling.weights(x).sum(dim=1), torch.ones(2, 4))
    y = pooling(x)
    assert (y >= x.amin(dim=1) - 1e-5).all()
    assert (y <= x.amax(dim=1) + 1e-5).all()
    torch.testing.assert_close(pooling(x[:, torch.randperm(steps)]), y, **NEAR)
    torch.testing.assert_close(pooling(x[:, :1].expand_as(x)), x[:, 0], **NEAR)


@torch.no_grad()
def test_attention_pooling_follows_the_highest_score():
    pooling = AttentionPooling(4, heads=2)
    pooling.score.weight.fill_(40.0)
    pooling.inner.weight.fill_(1.0)
    x = torch.zeros(1, 5, 4)
    x[:, 3] = 2.0
    torch.testing.assert_close(pooling(x), x[:, 3], atol=1e-3, rtol=0)


def small(**options) -> SpeechGRU:
    features = FeatureConfig(kind="logmel", mels=20, fft_samples=512)
    return SpeechGRU(ModelConfig(hidden=16, **options), features, ("low", "mid", "high"))


def test_a_pooled_model_has_one_output_for_all_steps():
    answer, _ = small(pooling="attention").eval()(0.1 * torch.randn(2, RATE))
    assert answer.shape == (2, 50, 3)
    torch.testing.assert_close(answer, answer[:, :1].expand_as(answer))
    assert (answer[0] - answer[1]).abs().max() > 1e-4


@torch.no_grad()
def test_the_first_output_of_a_bidirectional_model_depends_on_the_end():
    model = small(bidirectional=True).eval()
    samples = 0.1 * torch.randn(1, RATE)
    changed = samples.clone()
    changed[:, RATE // 2 :] = 0
    assert (model(samples)[0] - model(changed)[0])[:, :20].abs().max() > 1e-4


@pytest.mark.parametrize("options", WHOLE)
def test_gradients_reach_every_weight(options):
    model = small(**options).train()
    answer, _ = model(0.1 * torch.randn(2, 6_400))
    answer[:, :, 2].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("options", WHOLE)
def test_they_cannot_run_on_streams(options):
    with pytest.raises(UsageError, match=f"needs whole clips .model.{next(iter(options))} = "):
        TorchBackend(small(**options)).initial_state()


def test_pooling_and_a_ctc_head_exclude_each_other():
    with pytest.raises(ValidationError, match="one output per clip, a CTC head one per step"):
        ModelConfig(pooling="attention", head="ctc")


def test_they_cannot_be_trained_on_streams():
    table = {"model": {"bidirectional": True}, "stream": {"clips": 4}}
    with pytest.raises(
        UsageError, match=r"stream\.clips 4: a model with bidirectional = true needs whole clips"
    ):
        parse_recipe(table, "whole")


def test_they_can_be_trained_and_evaluated(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SPEECHGRU_CACHE", str(tmp_path / "cache"))
    manifest = write_tones(tmp_path)
    table = quick_recipe(manifest).model_dump(mode="json")
    table["model"] |= {"bidirectional": True}
    model = str(train(parse_recipe(table, "whole"), tmp_path / "run", CPU).model)
    assert main(["evaluate", model, "--data", str(manifest), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] >= 0.7
    assert main(["recognize", model, str(tmp_path / "high-g.wav"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["word"] == "high"


def test_commands_on_streams_refuse_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SPEECHGRU_CACHE", str(tmp_path / "cache"))
    manifest, model = str(write_tones(tmp_path)), str(tmp_path / "model.safetensors")
    save_model(small(bidirectional=True, pooling="attention"), Path(model))
    wav = str(tmp_path / "high-g.wav")
    data = ["--data", manifest, "--protocol", "folder"]
    for refused in (
        ["evaluate", model, *data, "--carry-state"],
        ["evaluate", model, *data, "--streaming"],
        ["verify", model, wav],
        ["listen", model, "--input", wav],
    ):
        assert main(refused) == 2
        said = capsys.readouterr()
        assert 'model.bidirectional = true and model.pooling = "attention"' in said.err
        assert not said.out
