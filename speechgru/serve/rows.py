"""The states of many streams of one model, a row each, and a step of some of them at once."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import Samples
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import with_initial_layers


class Rows(Protocol):
    """Streams by the number of their row; a freed row is given out again."""

    def add(self) -> int:
        """A new stream: its state is as after silence."""
        ...

    def free(self, row: int) -> None:
        """The stream is over."""
        ...

    def reset(self, row: int) -> None:
        """The whole state as after silence."""
        ...

    def reset_layers(self, row: int) -> None:
        """The recurrent state alone."""
        ...

    def step(self, rows: list[int], samples: Samples) -> NDArray[np.float32]:
        """A step of some streams, samples (N, step_samples) -> log-posteriors (N, V)."""
        ...


class SingleRows:
    """Rows of a backend that computes one stream at a time: any backend does."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._states: dict[int, Any] = {}
        self._free: list[int] = []

    def add(self) -> int:
        """A new stream."""
        row = self._free.pop() if self._free else len(self._states)
        self.reset(row)
        return row

    def free(self, row: int) -> None:
        """The stream is over."""
        self._states[row] = None
        self._free.append(row)

    def reset(self, row: int) -> None:
        """The whole state as after silence."""
        self._states[row] = self._backend.initial_state()

    def reset_layers(self, row: int) -> None:
        """The recurrent state alone."""
        self._states[row] = with_initial_layers(self._backend, self._states[row])

    def step(self, rows: list[int], samples: Samples) -> NDArray[np.float32]:
        """A step of some streams, one after the other."""
        answers = []
        for row, chunk in zip(rows, samples, strict=True):
            log_posteriors, self._states[row] = self._backend(chunk, self._states[row])
            answers.append(log_posteriors[0])
        return np.stack(answers)
