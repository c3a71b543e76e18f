"""Averaged weights: what a run keeps, and what is validated."""

import copy

import torch

from speechgru.model.network import SpeechGRU


class WeightAverage:
    """Exponential moving average of a model's weights and running statistics.

    The decay begins low and rises to `decay`, as min(decay, (1 + n) / (10 + n)) at step n, so that
    the first random weights are soon forgotten. With decay 0 the average is the model itself.
    """

    def __init__(self, model: SpeechGRU, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        names = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
        source, average = model.state_dict(), self.model.state_dict()
        self._pairs = [source[name] for name in names], [average[name] for name in names]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the model's weights after step number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        source, average = self._pairs
        torch._foreach_lerp_(average, source, 1 - decay)
