"""The optimiser is torch's own, without its compiler."""

import subprocess
import sys
from pathlib import Path

import torch
from tones import untrained_model

from speechgru.training.optimiser import make_optimiser
from speechgru.training.recipe import TrainingConfig


def stepped(kind: type[torch.optim.AdamW] | None) -> list[torch.Tensor]:
    """The weights of a network after three steps."""
    model = untrained_model()
    optimiser = make_optimiser(model, TrainingConfig(weight_decay=0.1, learning_rate=0.01))
    if kind is not None:
        optimiser = kind(optimiser.param_groups)
    for seed in range(3):
        for parameter in model.parameters():
            generator = torch.Generator().manual_seed(seed)
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()
    return [parameter.detach() for parameter in model.parameters()]


def test_it_steps_as_torchs_own():
    for ours, theirs in zip(stepped(None), stepped(torch.optim.AdamW), strict=True):
        assert torch.equal(ours, theirs)


def test_a_step_of_training_does_not_load_the_compiler(tones):
    """Its import takes as long as all else that a second run on the same data begins with."""
    code = f"""
import sys
from runs import make_trainer, quick_recipe
make_trainer(quick_recipe({str(tones)!r})).train_step()
sys.exit("torch._dynamo" in sys.modules)
"""
    folder = Path(__file__).parent
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == 0
