"""The PyTorch backend: a model as a stream of samples needs it."""

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speechgru.audio.files import Samples
from speechgru.audio.pcm import FULL_SCALE
from speechgru.labels import Outputs
from speechgru.model.network import SpeechGRU, State
from speechgru.modelfile.safetensors import header_of
from speechgru.recognition.clips import Clips

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
        self.model = model.eval()
        self._names = tuple(model.initial_state(1))
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

    @property
    def header(self) -> Mapping[str, Any]:
        """All of the model but its weights, as its file has it."""
        return header_of(self.model)

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return self.model.parameter_count

    def initial_state(self) -> State:
        """The state at a stream's start, on the model's device.

        Raises:
            UsageError: the model needs whole clips.
        """
        self.check_streams()
        return self.model.initial_state(1)

    def check_streams(self) -> None:
        """Raise UsageError where the model needs whole clips."""
        self.model.check_streams()

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

    def with_features(self) -> "FeatureTape":
        """The same model, keeping the features that it computes."""
        return FeatureTape(self.model)

    @torch.inference_mode()
    def batch(self, clips: Clips, states: State | None = None) -> tuple[NDArray[np.float32], State]:
        """Clips (N, S), each from its own state or from silence -> (N, T, V), and their states."""
        samples = torch.as_tensor(clips).to(self.model.device)
        if not samples.is_floating_point():
            samples = samples.float() / FULL_SCALE
        log_posteriors, following = self.model(samples, states)
        return log_posteriors.cpu().numpy(), following

    def _count(self, steps: int) -> None:
        if 0 < steps <= MOST_COMPILED_STEPS:
            self._calls[steps] += 1
            if self._calls[steps] == COMPILED_AFTER:
                self.compile(steps)


class FeatureTape(TorchBackend):
    """The backend, which also keeps the features that it computes from each block."""

    def __init__(self, model: SpeechGRU) -> None:
        super().__init__(model)
        self.features: list[NDArray[np.float32]] = []

    @torch.inference_mode()
    def __call__(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        """As the backend's own."""
        batch = torch.tensor(samples).unsqueeze(0).to(self.model.device)
        features, _ = self.model.extract(batch, state["samples"])
        self.features.append(features[0].cpu().numpy())
        return super().__call__(samples, state)


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
