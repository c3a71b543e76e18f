"""The interface of every backend: a model ready to run, whatever runs it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.pcm import Packed, to_floats
from speechgru.audio.samples import Samples
from speechgru.decoding.factory import ModelInfo
from speechgru.labels import Outputs

if TYPE_CHECKING:
    from torch import Tensor

#: What a backend carries from call to call: a mapping of names to tensors of fixed shape, of the
#: backend's own type. Recurrent layers are named layer0, layer1, ...
State: TypeAlias = Any
#: (N, S): float samples in [-1, 1] or 16-bit integers; on a device for a backend that runs there.
Clips: TypeAlias = "Samples | Packed | Tensor"


class Backend(Protocol):
    """A model as a function: `(samples, state) -> (log_posteriors, state)`.

    A backend subclasses this, sets `info`, and implements `initial_state` and `__call__`. The other
    methods have defaults for backends that can do no better.
    """

    info: ModelInfo

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model can answer."""
        return self.info.labels

    @property
    def outputs(self) -> Outputs:
        """The V columns of the log-posteriors: the labels of each head, side by side."""
        return self.info.outputs

    @property
    def sample_rate(self) -> int:
        """In hertz."""
        return self.info.sample_rate

    @property
    def step_samples(self) -> int:
        """Samples from one step to the next."""
        return self.info.step_samples

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The model file's metadata: protocol, decoder and state policy settings, metrics."""
        return self.info.metadata

    @property
    def header(self) -> Mapping[str, Any]:
        """Everything in the model's file except its weights."""
        return {"labels": list(self.labels), "metadata": dict(self.metadata)}

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return 0

    def initial_state(self) -> State:
        """The state at the start of a stream, as after silence.

        Raises:
            UsageError: the model needs whole clips.
        """
        ...

    def __call__(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        """Run whole steps: samples (T step_samples,) -> log-posteriors (T, V), new state."""
        ...

    def batch(self, clips: Clips, states: State = None) -> tuple[NDArray[np.float32], State]:
        """Run clips of one length: (N, S) -> log-posteriors (N, T, V), and the new states.

        Each clip starts from its own state of `states`, as an earlier call returned them, or from
        the initial state. By default clips run one after another.
        """
        clips = to_floats(np.asarray(clips))
        whole = clips.shape[1] // self.step_samples * self.step_samples
        states = states or [self.initial_state() for _ in clips]
        results = [self(clip[:whole], state) for clip, state in zip(clips, states, strict=True)]
        return np.stack([log_posteriors for log_posteriors, _ in results]), [s for _, s in results]

    def check_streams(self) -> None:
        """Raise UsageError if the model needs whole clips and cannot run on a stream."""
        return

    def compile(self, steps: int) -> None:
        """Prepare for calls of `steps` steps now instead of after many such calls."""
        return

    def features(self, samples: Samples, state: State) -> NDArray[np.float32] | None:
        """The normalized features (frames, F) of a block, if the backend exposes them."""
        return None

    def bare_step(self, samples: Samples, state: State) -> Callable[[], object] | None:
        """The inference library's own call for one step, with its inputs ready.

        `bench` compares the recognizer with it. None if there is no call below the backend's own.
        """
        return None
