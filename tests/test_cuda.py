"""What only a GPU can show: nothing waits for it, and its batches are those of the processor."""

import pytest
import torch
from runs import quick_recipe

from speechgru.training import loop
from speechgru.training.data import prepare
from speechgru.training.recipe import parse_recipe
from speechgru.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
CUDA = torch.device("cuda")


@pytest.mark.parametrize("place", ["device", "host", "mapped"])
@pytest.mark.parametrize("clips", [0, 2])
def test_a_step_does_not_wait_for_the_gpu(tones, place, clips):
    table = quick_recipe(tones, placement=place).model_dump(mode="json")
    recipe = parse_recipe(table | {"stream": table["stream"] | {"clips": clips}}, "recipe")
    trainer = Trainer(recipe, prepare(recipe), CUDA)
    for _ in range(3):  # memory is claimed and kernels are chosen
        trainer.train_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loss = trainer.train_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()


def test_every_place_draws_the_same(tones):
    batches = []
    for place in ("device", "host", "mapped"):
        recipe = quick_recipe(tones, placement=place)
        made = Trainer(recipe, prepare(recipe), CUDA).batches
        batches.append([made.draw(16).features for _ in range(4)])
    for one in batches[1:]:
        for features, other in zip(one, batches[0], strict=True):
            torch.testing.assert_close(features, other, atol=1e-4, rtol=0)


def test_it_learns_in_bf16(tones, tmp_path):
    result = loop.train(quick_recipe(tones), tmp_path / "run", CUDA)
    assert result.metrics["validation"]["balanced_accuracy"] > 0.9
