"""The PyTorch backend: a model as a stream of samples needs it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.audio import Samples
from speechgru.labels import Outputs
from speechgru.model import SpeechGRU, State


class TorchBackend:
    """`(samples (T step_samples,), state) -> (log_posteriors (T, V), state)` through PyTorch."""

    def __init__(self, model: SpeechGRU) -> None:
        model.check_streams()
        self.model = model.eval()

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model can answer."""
        return self.model.labels

    @property
    def outputs(self) -> Outputs:
        """The columns of the log-posteriors: each head's labels, side by side."""
        return self.model.outputs

    @property
    def sample_rate(self) -> int:
        """Hertz."""
        return self.model.sample_rate

    @property
    def step_samples(self) -> int:
        """Samples from one output to the next."""
        return self.model.step_samples

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the model's file says of itself."""
        return self.model.metadata

    def initial_state(self) -> State:
        """The state at a stream's start, on the model's device."""
        return self.model.initial_state(1)

    @torch.inference_mode()
    def __call__(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        """Whole steps of samples, (T step_samples,) -> log-posteriors (T, V), and the new state."""
        batch = torch.tensor(samples, dtype=torch.float32, device=self.model.device).unsqueeze(0)
        log_posteriors, state = self.model(batch, state)
        return log_posteriors[0].cpu().numpy(), state
