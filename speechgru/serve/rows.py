"""The states of many streams of one model, one row per stream, and steps of several at once."""

import threading
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.samples import Samples
from speechgru.backends.onnx import OnnxBackend
from speechgru.backends.onnx_batch import ManyStreams
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import RECURRENT, with_initial_layers

#: Most steps in one call, over all its streams: their numbers fit into the processor's cache, and
#: onnxruntime, which keeps what its largest call needed, needs no more than this.
MOST_AT_ONCE = 128
#: Rows allocated at first; doubled when needed.
_ROWS = 8


class Rows(Protocol):
    """Streams by row number; a freed row is used again."""

    def add(self) -> int:
        """Add a stream in its initial state; returns its row."""
        ...

    def free(self, row: int) -> None:
        """Free the row of a stream that has ended."""
        ...

    def reset(self, row: int) -> None:
        """Reset the whole state."""
        ...

    def reset_layers(self, row: int) -> None:
        """Reset the recurrent state only."""
        ...

    def step(self, rows: list[int], samples: Samples) -> NDArray[np.float32]:
        """Run whole steps of some streams: samples (N, S) -> log-posteriors (N, T, V)."""
        ...


class SingleRows:
    """Rows of any backend: streams are computed one at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._states: dict[int, Any] = {}
        self._free: list[int] = []

    def add(self) -> int:
        """Add a stream; returns its row."""
        row = self._free.pop() if self._free else len(self._states)
        self.reset(row)
        return row

    def free(self, row: int) -> None:
        """Free the row of a stream that has ended."""
        self._states[row] = None
        self._free.append(row)

    def reset(self, row: int) -> None:
        """Reset the whole state."""
        self._states[row] = self._backend.initial_state()

    def reset_layers(self, row: int) -> None:
        """Reset the recurrent state only."""
        self._states[row] = with_initial_layers(self._backend, self._states[row])

    def step(self, rows: list[int], samples: Samples) -> NDArray[np.float32]:
        """Run whole steps of some streams, one after the other."""
        answers = []
        for row, chunk in zip(rows, samples, strict=True):
            log_posteriors, self._states[row] = self._backend(chunk, self._states[row])
            answers.append(log_posteriors)
        return np.stack(answers)


class BatchRows:
    """Rows of a graph for many streams at once: one array for each tensor of the state."""

    def __init__(self, streams: ManyStreams, step_samples: int) -> None:
        self._run, self._step_samples = streams, step_samples
        self._states = streams.initial_states(_ROWS)
        self._used = 0
        self._free: list[int] = []
        #: Streams are added by another thread than the one that runs steps; without the lock the
        #: arrays could be copied to larger ones while a step's states are written to them.
        self._lock = threading.Lock()

    def add(self) -> int:
        """Add a stream; returns its row."""
        with self._lock:
            if self._free:
                row = self._free.pop()
            else:
                row = self._used
                self._used += 1
                if row >= len(next(iter(self._states.values()))):
                    self._double()
        self.reset(row)
        return row

    def free(self, row: int) -> None:
        """Free the row of a stream that has ended."""
        self._free.append(row)

    def reset(self, row: int) -> None:
        """Reset the whole state."""
        with self._lock:
            for array in self._states.values():
                array[row] = 0

    def reset_layers(self, row: int) -> None:
        """Reset the recurrent state only."""
        with self._lock:
            for name, array in self._states.items():
                if name.startswith(RECURRENT):
                    array[row] = 0

    def step(self, rows: list[int], samples: Samples) -> NDArray[np.float32]:
        """Run whole steps of some streams, in calls of up to `MOST_AT_ONCE` steps."""
        steps = samples.size // self._step_samples
        calls = -(-steps // MOST_AT_ONCE)
        if calls <= 1:
            return self._part(np.array(rows), samples)
        indices = np.array_split(np.array(rows), calls)
        chunks = np.array_split(samples, calls)
        return np.concatenate(list(map(self._part, indices, chunks)))

    def _part(self, rows: NDArray[np.intp], samples: Samples) -> NDArray[np.float32]:
        # A slice is not copied.
        place = slice(rows[0], rows[0] + 1) if len(rows) == 1 else rows
        with self._lock:
            states = {name: array[place] for name, array in self._states.items()}
        log_posteriors, following = self._run(samples, states)
        with self._lock:
            for name, array in self._states.items():
                array[place] = following[name]
        return log_posteriors

    def _double(self) -> None:
        more = self._run.initial_states(len(next(iter(self._states.values()))))
        self._states = {
            name: np.concatenate([array, more[name]]) for name, array in self._states.items()
        }


def rows_of(backend: Backend) -> Rows:
    """Rows for a backend: many streams at once if its graph allows that."""
    if isinstance(backend, OnnxBackend) and (many := backend.many_streams()) is not None:
        return BatchRows(many, backend.step_samples)
    return SingleRows(backend)
