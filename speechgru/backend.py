"""The PyTorch backend: a model as a stream of samples needs it."""

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speechgru.audio import Samples
from speechgru.labels import Outputs
from speechgru.model import SpeechGRU, State

#: A call of so many steps or fewer is compiled once it has come so often: compiling takes a
#: quarter of a second, and then such a call takes half the time.
MOST_COMPILED_STEPS, COMPILED_AFTER = 8, 100
#: What is compiled is compared with the model in so many calls; further away, it is not used.
CHECKED_CALLS, TOLERANCE = 10, 1e-5


class TorchBackend:
    """`(samples (T step_samples,), state) -> (log_posteriors (T, V), state)` through PyTorch.

    The model's weights must not change any more: short calls that come often are compiled.
    """

    def __init__(self, model: SpeechGRU) -> None:
        model.check_streams()
        self.model = model.eval()
        self._names = tuple(self.initial_state())
        self._calls: Counter[int] = Counter()
        self._compiled: dict[int, torch.jit.ScriptModule] = {}

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

    def compile(self, steps: int) -> None:
        """Make calls of so many steps quick now, rather than once they have come often."""
        self._calls[steps] = COMPILED_AFTER
        if self.model.device.type == "cpu":
            compiled = _compiled(self.model, steps)
            if compiled is not None:
                self._compiled[steps * self.step_samples] = compiled

    @torch.inference_mode()
    def __call__(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        """Whole steps of samples, (T step_samples,) -> log-posteriors (T, V), and the new state."""
        batch = torch.tensor(samples, dtype=torch.float32, device=self.model.device).unsqueeze(0)
        if compiled := self._compiled.get(len(samples)):
            log_posteriors, *values = compiled(batch, *(state[name] for name in self._names))
            return log_posteriors[0].numpy(), dict(zip(self._names, values, strict=True))
        log_posteriors, state = self.model(batch, state)
        self._count(len(log_posteriors[0]))
        return log_posteriors[0].cpu().numpy(), state

    def _count(self, steps: int) -> None:
        if 0 < steps <= MOST_COMPILED_STEPS:
            self._calls[steps] += 1
            if self._calls[steps] == COMPILED_AFTER:
                self.compile(steps)


class _Flat(nn.Module):
    """A model whose state is some tensors in the order of `names`, as a trace needs it."""

    def __init__(self, model: SpeechGRU, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, samples: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        log_posteriors, state = self.model(samples, dict(zip(self.names, values, strict=True)))
        return log_posteriors, *(state[name] for name in self.names)


@torch.inference_mode()
def _compiled(model: SpeechGRU, steps: int) -> torch.jit.ScriptModule | None:
    """A model's call of so many steps without Python; None where its answer is not the model's."""
    state = model.initial_state()
    flat = _Flat(model, tuple(state)).eval()
    noise = 0.1 * torch.randn(
        CHECKED_CALLS, 1, steps * model.step_samples, generator=torch.Generator().manual_seed(0)
    )
    values = own = list(state.values())
    distance = 0.0
    with warnings.catch_warnings():
        # torch.compile, which the warning names instead, needs a C++ compiler and half a minute.
        warnings.simplefilter("ignore")
        try:
            traced = torch.jit.trace(flat, (noise[0], *values), check_trace=False)
            compiled = torch.jit.freeze(traced)
            for samples in noise:  # in its first calls it is also optimised
                answer, *values = compiled(samples, *values)
                expected, *own = flat(samples, *own)
                distance = max(distance, float((answer - expected).abs().max()))
        except RuntimeError:
            return None
    return compiled if distance <= TOLERANCE else None
