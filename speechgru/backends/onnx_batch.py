"""Many streams through onnxruntime in one call."""

from collections.abc import Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from speechgru.audio.samples import Samples

#: The states of N streams: each tensor with N as its first axis.
States = dict[str, NDArray[np.float32]]


class ManyStreams:
    """A session's call for N streams at once; several threads may call it at the same time.

    Args:
        samples, log_posteriors: names of the graph's input and output.
        states: for each tensor of the state the name of its input and of its output.
        shapes: of these tensors for one stream, (1, ...).
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        samples: str,
        log_posteriors: str,
        states: Mapping[str, tuple[str, str]],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._session, self._samples = session, samples
        self._inputs = {name: before for name, (before, _) in states.items()}
        self._outputs = [log_posteriors, *(after for _, after in states.values())]
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}

    def initial_states(self, streams: int) -> States:
        """The states of N streams at their start: zeros, as after silence."""
        return {
            name: np.zeros((streams, *shape[1:]), np.float32) for name, shape in self.shapes.items()
        }

    def __call__(self, samples: Samples, states: States) -> tuple[NDArray[np.float32], States]:
        """Run whole steps: samples (N, T step_samples) -> log-posteriors (N, T, V), states."""
        feeds = {self._inputs[name]: states[name] for name in self.shapes}
        feeds[self._samples] = samples
        log_posteriors, *following = self._session.run(self._outputs, feeds)
        return log_posteriors, dict(zip(self.shapes, following, strict=True))
