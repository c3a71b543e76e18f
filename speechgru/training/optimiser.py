"""How weights are stepped: AdamW, and a learning rate that rises and falls."""

import inspect
import math
from typing import Any

import torch

from speechgru.model import SpeechGRU
from speechgru.training.recipe import TrainingConfig


class EagerAdamW(torch.optim.AdamW):
    """torch's AdamW, without what it says to torch's compiler, whose import takes a second.

    For the same reason clear gradients with `Module.zero_grad`.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's own."""
        inspect.unwrap(torch.optim.AdamW.add_param_group)(self, param_group)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """As torch's own, of gradients that are there."""
        inspect.unwrap(torch.optim.AdamW.step)(self, closure)


def make_optimiser(model: SpeechGRU, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on the matrices alone (biases and norms are left free)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = model.device.type in ("cpu", "cuda")
    return EagerAdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=fused)


def schedule(step: int, steps: int, config: TrainingConfig) -> float:
    """The learning rate's share of its peak: a linear rise, then a cosine down to 1 %."""
    rise = max(1.0, config.warm_up * steps)
    if step + 1 < rise:
        return (step + 1) / rise
    fall = min(1.0, (step + 1 - rise) / max(1.0, steps - rise))
    return 0.01 + 0.99 * (1 + math.cos(math.pi * fall)) / 2
