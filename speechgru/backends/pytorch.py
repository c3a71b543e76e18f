"""The PyTorch backend: a trained model, whole clips in batches and streams step by step."""

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speechgru.audio.pcm import FULL_SCALE
from speechgru.audio.samples import Samples
from speechgru.decoding.factory import ModelInfo
from speechgru.model.network import SpeechGRU, State
from speechgru.modelfile.safetensors import header_of
from speechgru.recognition.backend import Backend, Clips

#: Calls of up to this many steps are compiled after so many calls of that length. Compiling takes
#: a quarter of a second, and such a call then takes half the time.
MOST_COMPILED_STEPS, COMPILED_AFTER = 8, 100
#: A compiled call is compared with the model in this many calls, and not used if it differs more.
CHECKED_CALLS, TOLERANCE = 10, 1e-5


class TorchBackend(Backend):
    """A model through PyTorch; `batch` runs all clips at once, on the model's device.

    The model's weights must not change afterwards, as short frequent calls are compiled.
    """

    def __init__(self, model: SpeechGRU) -> None:
        self.model = model.eval()
        self.info = ModelInfo(
            model.labels, model.outputs, model.sample_rate, model.step_samples, model.metadata
        )
        self._names = tuple(model.initial_state(1))
        self._calls: Counter[int] = Counter()
        self._compiled: dict[int, torch.jit.ScriptModule] = {}

    @property
    def header(self) -> Mapping[str, Any]:
        """Everything in the model's file except its weights."""
        return header_of(self.model)

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return self.model.parameter_count

    def initial_state(self) -> State:
        """The state at the start of a stream, on the model's device.

        Raises:
            UsageError: the model needs whole clips.
        """
        self.check_streams()
        return self.model.initial_state(1)

    def check_streams(self) -> None:
        """Raise UsageError if the model needs whole clips."""
        self.model.check_streams()

    def compile(self, steps: int) -> None:
        """Compile calls of `steps` steps now instead of after `COMPILED_AFTER` of them."""
        self._calls[steps] = COMPILED_AFTER
        if self.model.device.type == "cpu":
            compiled = _compiled(self.model, steps)
            if compiled is not None:
                self._compiled[steps * self.step_samples] = compiled

    def is_compiled(self, steps: int) -> bool:
        """Whether calls of `steps` steps run compiled."""
        return steps * self.step_samples in self._compiled

    @torch.inference_mode()
    def __call__(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        """Run whole steps: samples (T step_samples,) -> log-posteriors (T, V), new state."""
        batch = self._as_batch(samples)
        if compiled := self._compiled.get(len(samples)):
            log_posteriors, *tensors = compiled(batch, *(state[name] for name in self._names))
            return log_posteriors[0].numpy(), dict(zip(self._names, tensors, strict=True))
        log_posteriors, state = self.model(batch, state)
        self._count_call(len(log_posteriors[0]))
        return log_posteriors[0].cpu().numpy(), state

    @torch.inference_mode()
    def batch(self, clips: Clips, states: State | None = None) -> tuple[NDArray[np.float32], State]:
        """Run clips of one length: (N, S) -> log-posteriors (N, T, V), and the new states."""
        samples = torch.as_tensor(clips).to(self.model.device)
        if not samples.is_floating_point():
            samples = samples.float() / FULL_SCALE
        log_posteriors, states = self.model(samples, states)
        return log_posteriors.cpu().numpy(), states

    @torch.inference_mode()
    def features(self, samples: Samples, state: State) -> NDArray[np.float32]:
        """The normalized features (frames, F) of a block of whole steps."""
        features, _ = self.model.extract(self._as_batch(samples), state["samples"])
        return features[0].cpu().numpy()

    def _as_batch(self, samples: Samples) -> Tensor:
        return torch.tensor(samples, dtype=torch.float32, device=self.model.device).unsqueeze(0)

    def _count_call(self, steps: int) -> None:
        if 0 < steps <= MOST_COMPILED_STEPS:
            self._calls[steps] += 1
            if self._calls[steps] == COMPILED_AFTER:
                self.compile(steps)


class _Flat(nn.Module):
    """A model whose state is a tuple of tensors in the order of `names`, as tracing needs it."""

    def __init__(self, model: SpeechGRU, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, samples: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        log_posteriors, state = self.model(samples, dict(zip(self.names, tensors, strict=True)))
        return log_posteriors, *(state[name] for name in self.names)


@torch.inference_mode()
def _compiled(model: SpeechGRU, steps: int) -> torch.jit.ScriptModule | None:
    """A call of `steps` steps without Python; None if its output differs from the model's."""
    state = model.initial_state()
    flat = _Flat(model, tuple(state)).eval()
    noise = 0.1 * torch.randn(
        CHECKED_CALLS, 1, steps * model.step_samples, generator=torch.Generator().manual_seed(0)
    )
    tensors = expected_tensors = list(state.values())
    distance = 0.0
    with warnings.catch_warnings():
        # torch.compile, which the warning recommends, needs a C++ compiler and half a minute.
        warnings.simplefilter("ignore")
        try:
            traced = torch.jit.trace(flat, (noise[0], *tensors), check_trace=False)
            compiled = torch.jit.freeze(traced)
            for samples in noise:  # its first calls also optimize it
                found, *tensors = compiled(samples, *tensors)
                expected, *expected_tensors = flat(samples, *expected_tensors)
                distance = max(distance, float((found - expected).abs().max()))
        except RuntimeError:
            return None
    return compiled if distance <= TOLERANCE else None
