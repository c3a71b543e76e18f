"""The ONNX backend: an exported model through onnxruntime, with only numpy besides."""

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.samples import Samples
from speechgru.backends.onnx_batch import ManyStreams
from speechgru.backends.onnx_session import STREAMS, Trial, open_session
from speechgru.backends.onnx_step import SingleStep
from speechgru.decoding.factory import ModelInfo
from speechgru.errors import DataError
from speechgru.modelfile.onnx import OnnxFile, parse_onnx, read_bytes
from speechgru.recognition.backend import Backend

#: Names in the graph, whose inputs are samples and the tensors of the state, and whose outputs are
#: log-posteriors and the tensors of the next call's state.
SAMPLES, LOG_POSTERIORS, STATE, NEXT = "samples", "log_posteriors", "state.", "next."

_RATES_HZ = range(8_000, 48_001)
_STEP_SAMPLES = range(1, 48_001)
#: Most tensors in a state, and most numbers in all of them.
_MOST_TENSORS, _LARGEST_STATE = 64, 2**22
#: Steps of silence that a graph has to run when it is opened.
_TRIAL_STEPS = 50

State = Mapping[str, NDArray[np.float32]]


class OnnxBackend(Backend):
    """A model through onnxruntime.

    Older graphs are for one stream: a batch runs clip by clip.

    Args:
        threads: cores for the network; for single steps more than one is hardly faster.

    Raises:
        DataError: the graph is not what the header says.
    """

    def __init__(self, model: OnnxFile, threads: int = 1) -> None:
        self._header = model.header
        graph = model.header["graph"]
        self.info = ModelInfo(
            tuple(model.header["labels"]),
            {head: tuple(names) for head, names in model.header["outputs"].items()},
            _integer(graph, "sample_rate", _RATES_HZ),
            _integer(graph, "step_samples", _STEP_SAMPLES),
            model.header["metadata"],
        )
        self._columns = sum(map(len, self.outputs.values()))
        self._parameters = _integer(graph, "parameters", range(1, 2**32))
        self._content, self._threads = model.content, threads
        trial = Trial(model.content)
        self._shapes = _state_shapes(trial)
        trial.run(
            {SAMPLES: np.zeros((1, _TRIAL_STEPS * self.step_samples), np.float32)}
            | {STATE + name: state for name, state in self.initial_state().items()}
        )
        self._session = open_session(model.content, threads, {STREAMS: 1})
        self._inputs = [STATE + name for name in self._shapes]
        self._outputs = [LOG_POSTERIORS, *(NEXT + name for name in self._shapes)]
        self._check_one_step()
        self._single_step = SingleStep(
            self._session,
            (SAMPLES, (1, self.step_samples)),
            (LOG_POSTERIORS, (1, 1, self._columns)),
            {name: (STATE + name, NEXT + name, shape) for name, shape in self._shapes.items()},
        )

    @property
    def header(self) -> Mapping[str, Any]:
        """Everything in the model's file except its graph."""
        return self._header

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return self._parameters

    def initial_state(self) -> State:
        """The state at the start of a stream: zeros, as after silence."""
        return {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}

    def __call__(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        """Run whole steps: samples (T step_samples,) -> log-posteriors (T, V), new state."""
        if len(samples) == self.step_samples:
            return self._single_step(samples, state)
        if not len(samples):
            return np.empty((0, self._columns), np.float32), state
        return self._run(samples, state)

    def many_streams(self) -> ManyStreams | None:
        """The model for any number of streams at once; None if the graph is for one."""
        session = open_session(self._content, threads=1)
        if session.get_inputs()[0].shape[0] == 1:
            return None
        states = {name: (STATE + name, NEXT + name) for name in self._shapes}
        return ManyStreams(session, SAMPLES, LOG_POSTERIORS, states, self._shapes)

    def bare_step(self, samples: Samples, state: State) -> Callable[[], object]:
        """onnxruntime's own call for a step, which every call of this backend contains."""
        return self._single_step.bare(samples, state)

    def _run(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        feeds = dict(zip(self._inputs, map(state.__getitem__, self._shapes), strict=True))
        feeds[SAMPLES] = samples[np.newaxis]
        outputs = self._session.run(self._outputs, feeds)
        return outputs[0][0], dict(zip(self._shapes, outputs[1:], strict=True))

    def _check_one_step(self) -> None:
        """Run one step of silence; raise DataError if the outputs do not fit the header."""
        silence = np.zeros(self.step_samples, np.float32)
        log_posteriors, state = self._run(silence, self.initial_state())
        if log_posteriors.shape != (1, self._columns):
            raise DataError(
                f"the graph gives {list(log_posteriors.shape)} numbers for a step, where its "
                f"header names {self._columns}"
            )
        for name, shape in self._shapes.items():
            if state[name].shape != shape or state[name].dtype != np.float32:
                raise DataError(f"the graph returns another state {name!r} than it takes")


def load_onnx(path: Path, threads: int = 1) -> OnnxBackend:
    """Open an exported model.

    Raises:
        DataError: missing, truncated, damaged, not a speechgru model, of a newer format, or with a
            graph that is not what the header says.
    """
    content = read_bytes(path)
    try:
        return OnnxBackend(parse_onnx(content), threads)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _state_shapes(graph: Trial) -> dict[str, tuple[int, ...]]:
    """Shapes of the state's tensors by name, as the graph takes them.

    Raises:
        DataError: inputs and outputs are not those of a speechgru model, or too large.
    """
    inputs = graph.inputs
    names = [name.removeprefix(STATE) for name in inputs if name != SAMPLES]
    expected_inputs = {SAMPLES, *(STATE + name for name in names)}
    expected_outputs = {LOG_POSTERIORS, *(NEXT + name for name in names)}
    if inputs.keys() != expected_inputs or graph.outputs != expected_outputs:
        raise DataError("the graph has other inputs and outputs than a speechgru model")
    shapes = {
        name: tuple(size for size in inputs[STATE + name] if isinstance(size, int))
        for name in names
    }
    if (
        any(len(shape) < len(inputs[STATE + name]) for name, shape in shapes.items())
        or not all(size > 0 for shape in shapes.values() for size in shape)
        or len(shapes) > _MOST_TENSORS
        or sum(map(prod, shapes.values())) > _LARGEST_STATE
    ):
        raise DataError(
            f"the graph's state has more than {_LARGEST_STATE} numbers, or no fixed size"
        )
    return shapes


def _integer(graph: Mapping[str, Any], name: str, allowed: range) -> int:
    value = graph.get(name)
    if not isinstance(value, int) or value not in allowed:
        raise DataError(
            f"the model is inconsistent: {name} is {value!r:.40}; "
            f"{allowed[0]} to {allowed[-1]} is needed"
        )
    return value
