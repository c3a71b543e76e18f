"""Products in bfloat16: when they are used, and training with them."""

import json

import pytest
import torch
from runs import CPU, assert_same_run, make_trainer, quick_recipe

from speechgru.cli import main
from speechgru.errors import InterruptedRunError
from speechgru.modelfile.safetensors import load_model
from speechgru.training import loop, trainer
from speechgru.training.recipe import load_recipe
from speechgru.training.trainer import uses_bf16

CUDA, MPS = torch.device("cuda:1"), torch.device("mps")


@pytest.mark.parametrize(
    ("precision", "device", "amx", "taken"),
    [
        ("auto", CPU, True, False),
        ("auto", CUDA, False, True),
        ("fast", CPU, False, False),
        ("fast", CPU, True, True),
        ("fast", CUDA, False, True),
        ("fast", MPS, True, False),
        ("float32", CPU, True, False),
        ("float32", CUDA, True, False),
        ("bf16", CPU, False, True),
    ],
)
def test_uses_bf16(precision, device, amx, taken, monkeypatch):
    monkeypatch.setattr("speechgru.training.trainer.has_amx", lambda: amx)
    assert uses_bf16(precision, device) == taken


@pytest.mark.parametrize(
    "name", ["speech-commands-v2-12", "speech-commands-v2-12-stream", "speech-commands-v2-35"]
)
def test_full_corpus_recipes_use_fast_precision(name):
    assert load_recipe(name).training.precision == "fast"


@pytest.fixture(scope="module")
def short(tones, tmp_path_factory) -> tuple[loop.TrainingResult, list[str]]:
    lines: list[str] = []
    run = tmp_path_factory.mktemp("runs") / "short"
    return loop.train(quick_recipe(tones, precision="bf16"), run, CPU, say=lines.append), lines


def test_training_in_bf16(short):
    result, lines = short
    assert result.metrics["validation"]["balanced_accuracy"] > 0.9
    assert lines[-1] == "products in bf16; training.precision = 'float32' computes them in float32"
    assert "step 0 of 30 on cpu in bf16: folder" in (result.run / "train.log").read_text()
    model = load_model(result.model)
    assert model.metadata["provenance"]["precision"] == "bf16"
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_weights_states_and_gradients_stay_float32(tones):
    trainer = make_trainer(quick_recipe(tones, precision="bf16"))
    _, carried = trainer.learn(trainer.batches.draw(16))
    tensors = [*carried.values(), *(p.grad for p in trainer.model.parameters())]
    assert {one.dtype for one in tensors} == {torch.float32}


def test_resumed_run_in_bf16_ends_with_the_same_weights(short, tones, tmp_path):
    calls = iter(range(100))
    recipe = quick_recipe(tones, precision="bf16")
    with pytest.raises(InterruptedRunError):
        loop.train(recipe, tmp_path / "run", CPU, stop=lambda: next(calls) >= 12)
    loop.train(recipe, tmp_path / "run", CPU, resume=True)
    assert_same_run(tmp_path / "run", short[0].run)


def test_resume_in_another_precision_is_reported(tones, tmp_path, monkeypatch):
    recipe = quick_recipe(tones, precision="bf16")
    calls, lines = iter(range(100)), list[str]()
    with pytest.raises(InterruptedRunError):
        loop.train(recipe, tmp_path / "run", CPU, stop=lambda: next(calls) >= 12)
    monkeypatch.setattr(trainer, "uses_bf16", lambda precision, device: False)
    result = loop.train(recipe, tmp_path / "run", CPU, resume=True, say=lines.append)
    assert lines[0] == "products were in bf16 before, and are in float32 here"
    assert load_model(result.model).metadata["provenance"]["precision"] == "float32"


def test_bench_reports_the_precision(capsys):
    arguments = ["bench", "train", "--clips", "40", "--batches", "1", "--device", "cpu", "--json"]
    small = ["model.hidden=8", "training.batch_size=4", "training.precision=bf16"]
    assert main([*arguments, *(part for one in small for part in ("--set", one))]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "bf16"
