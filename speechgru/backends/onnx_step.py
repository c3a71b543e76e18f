"""Calls of one step through onnxruntime, in buffers that stay: all that a live stream does."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import prod
from threading import Lock
from typing import NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from speechgru.audio.files import Samples

#: Floats in 64 bytes: each tensor begins at a whole number of them.
_ALIGNED = 16


class _Place(NamedTuple):
    """Where a tensor lies in the array that holds all of them."""

    start: int
    end: int
    shape: tuple[int, ...]

    def of(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tensor, a view."""
        return flat[self.start : self.end].reshape(self.shape)


class FlatState(Mapping[str, NDArray[np.float32]]):
    """A state whose tensors lie in one array, as copying one takes a sixth as long as six.

    A tensor becomes an array of its own, a view, when it is asked for: a stream asks for none.
    """

    __slots__ = ("flat", "places")

    def __init__(self, flat: NDArray[np.float32], places: Mapping[str, _Place]) -> None:
        self.flat = flat
        self.places = places

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.places[name].of(self.flat)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class OneStep:
    """A session's calls of one step; onnxruntime takes a sixth less time where buffers stay.

    The buffers are for one call at a time; threads wait for each other.

    Args:
        samples, log_posteriors: the graph's input and output of these names, with their shapes.
        states: pairs of an input and of the output that is the next call's, with their shape.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        samples: tuple[str, tuple[int, ...]],
        log_posteriors: tuple[str, tuple[int, ...]],
        states: Mapping[str, tuple[str, str, tuple[int, ...]]],
    ) -> None:
        self._lock = Lock()
        self._run = session.run_with_iobinding
        self._binding = session.io_binding()
        self._places: dict[str, _Place] = {}
        size = 0
        for name, (_, _, shape) in states.items():
            self._places[name] = _Place(size, size + prod(shape), shape)
            size += -(-prod(shape) // _ALIGNED) * _ALIGNED
        self._state, self._next = np.zeros((2, size), np.float32)
        self._samples = np.zeros(samples[1], np.float32)
        answer = np.zeros(log_posteriors[1], np.float32)
        self._log_posteriors = answer[0]
        inputs, outputs = {samples[0]: self._samples}, {log_posteriors[0]: answer}
        for name, (before, after, _) in states.items():
            inputs[before] = self._places[name].of(self._state)
            outputs[after] = self._places[name].of(self._next)
        for bind, arrays in (
            (self._binding.bind_ortvalue_input, inputs),
            (self._binding.bind_ortvalue_output, outputs),
        ):
            for name, array in arrays.items():
                bind(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))  # shares its memory

    def __call__(
        self, samples: Samples, state: Mapping[str, NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], FlatState]:
        """A step of samples, (S,) -> log-posteriors (1, V) and the new state."""
        with self._lock:
            self._put(samples, state)
            self._run(self._binding)
            return self._log_posteriors.copy(), FlatState(self._next.copy(), self._places)

    def bare(
        self, samples: Samples, state: Mapping[str, NDArray[np.float32]]
    ) -> Callable[[], None]:
        """Onnxruntime's call alone, with all that goes in made ready."""
        self._put(samples, state)
        return partial(self._run, self._binding)

    def _put(self, samples: Samples, state: Mapping[str, NDArray[np.float32]]) -> None:
        """What the next run is to hear."""
        self._samples[0] = samples
        if type(state) is FlatState and state.places is self._places:
            self._state[:] = state.flat
        else:
            for name, place in self._places.items():
                place.of(self._state)[...] = state[name]
