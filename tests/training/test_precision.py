"""Products in bfloat16: where a recipe takes them, and that it learns by them."""

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
def test_it_is_taken_where_it_is_fast_or_asked_for(precision, device, amx, taken, monkeypatch):
    monkeypatch.setattr("speechgru.training.trainer.has_amx", lambda: amx)
    assert uses_bf16(precision, device) == taken


@pytest.mark.parametrize(
    "name", ["speech-commands-v2-12", "speech-commands-v2-12-stream", "speech-commands-v2-35"]
)
def test_the_recipes_of_the_full_corpus_take_it_where_it_is_fast(name):
    assert load_recipe(name).training.precision == "fast"


@pytest.fixture(scope="module")
def short(tones, tmp_path_factory) -> tuple[loop.TrainingResult, list[str]]:
    said: list[str] = []
    run = tmp_path_factory.mktemp("runs") / "short"
    return loop.train(quick_recipe(tones, precision="bf16"), run, CPU, say=said.append), said


def test_it_learns_as_well_and_says_how(short):
    result, said = short
    assert result.metrics["validation"]["balanced_accuracy"] > 0.9
    assert said[-1] == "products in bf16; training.precision = 'float32' computes them in float32"
    assert "step 0 of 30 on cpu in bf16: folder" in (result.run / "train.log").read_text()
    model = load_model(result.model)
    assert model.metadata["provenance"]["precision"] == "bf16"
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_weights_states_and_gradients_are_whole(tones):
    trainer = make_trainer(quick_recipe(tones, precision="bf16"))
    _, carried = trainer.learn(trainer.batches.draw(16))
    tensors = [*carried.values(), *(p.grad for p in trainer.model.parameters())]
    assert {one.dtype for one in tensors} == {torch.float32}


def test_a_run_that_was_stopped_ends_with_the_same_weights(short, tones, tmp_path):
    asked = iter(range(100))
    recipe = quick_recipe(tones, precision="bf16")
    with pytest.raises(InterruptedRunError):
        loop.train(recipe, tmp_path / "run", CPU, stop=lambda: next(asked) >= 12)
    loop.train(recipe, tmp_path / "run", CPU, resume=True)
    assert_same_run(tmp_path / "run", short[0].run)


def test_a_run_that_goes_on_in_other_products_says_so(tones, tmp_path, monkeypatch):
    recipe = quick_recipe(tones, precision="bf16")
    asked, said = iter(range(100)), list[str]()
    with pytest.raises(InterruptedRunError):
        loop.train(recipe, tmp_path / "run", CPU, stop=lambda: next(asked) >= 12)
    monkeypatch.setattr(trainer, "uses_bf16", lambda precision, device: False)
    result = loop.train(recipe, tmp_path / "run", CPU, resume=True, say=said.append)
    assert said[-1] == "products were in bf16 before, and are in float32 here"
    assert load_model(result.model).metadata["provenance"]["precision"] == "float32"


def test_bench_says_in_what_it_reckons(capsys):
    arguments = ["bench", "train", "--clips", "40", "--batches", "1", "--device", "cpu", "--json"]
    small = ["model.hidden=8", "training.batch_size=4", "training.precision=bf16"]
    assert main([*arguments, *(part for one in small for part in ("--set", one))]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "bf16"
