"""The ONNX backend: an exported model through onnxruntime, with numpy and nothing else."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from speechgru.audio.files import Samples
from speechgru.backends.onnx_step import OneStep
from speechgru.errors import DataError
from speechgru.labels import Outputs
from speechgru.modelfile.onnx import OnnxFile, parse_onnx, read_bytes
from speechgru.recognition.clips import Clips, to_floats

#: The graph's names: samples and the tensors of the state go in, log-posteriors and the tensors
#: that are the next call's state come out.
SAMPLES, LOG_POSTERIORS, STATE, NEXT = "samples", "log_posteriors", "state.", "next."

_RATES_HZ = range(8_000, 48_001)
_STEP_SAMPLES = range(1, 48_001)
#: Tensors of a state, and numbers in them all.
_MOST_TENSORS, _LARGEST_STATE = 64, 2**22

State = Mapping[str, NDArray[np.float32]]


class OnnxBackend:
    """`(samples (T step_samples,), state) -> (log_posteriors (T, V), state)` through onnxruntime.

    Args:
        threads: cores for the network; more than one is hardly quicker, step by step.

    Raises:
        DataError: the graph is not what the header says.
    """

    def __init__(self, model: OnnxFile, threads: int = 1) -> None:
        self.header: Mapping[str, Any] = model.header
        self.metadata: Mapping[str, Any] = self.header["metadata"]
        self.labels: tuple[str, ...] = tuple(self.header["labels"])
        self.outputs: Outputs = {
            head: tuple(names) for head, names in self.header["outputs"].items()
        }
        self._columns = sum(map(len, self.outputs.values()))
        graph = self.header["graph"]
        self.sample_rate = _whole(graph, "sample_rate", _RATES_HZ)
        self.step_samples = _whole(graph, "step_samples", _STEP_SAMPLES)
        self.parameters = _whole(graph, "parameters", range(1, 2**32))
        self._session = _open(model.content, threads)
        self._shapes = _state_shapes(self._session)
        self._inputs = [STATE + name for name in self._shapes]
        self._outputs = [LOG_POSTERIORS, *(NEXT + name for name in self._shapes)]
        self._try()
        self._step = OneStep(
            self._session,
            (SAMPLES, (1, self.step_samples)),
            (LOG_POSTERIORS, (1, 1, self._columns)),
            {name: (STATE + name, NEXT + name, shape) for name, shape in self._shapes.items()},
        )

    def check_streams(self) -> None:
        """See that the model can be a stream: every exported one can."""

    def compile(self, steps: int) -> None:
        """Make calls of so many steps quick: they are, since the graph was loaded."""

    def initial_state(self) -> State:
        """The state at a stream's start: zeros, as after silence."""
        return {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}

    def __call__(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        """Whole steps of samples, (T step_samples,) -> log-posteriors (T, V), and the new state."""
        if len(samples) == self.step_samples:
            return self._step(samples, state)
        if not len(samples):
            return np.empty((0, self._columns), np.float32), state
        return self._hear(samples, state)

    def bare_step(self, samples: Samples, state: State) -> Callable[[], None]:
        """onnxruntime's own call for a step, which a call of this backend has to make too."""
        return self._step.bare(samples, state)

    def _hear(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        feeds = dict(zip(self._inputs, map(state.__getitem__, self._shapes), strict=True))
        feeds[SAMPLES] = samples[np.newaxis]
        outputs = self._session.run(self._outputs, feeds)
        return outputs[0][0], dict(zip(self._shapes, outputs[1:], strict=True))

    def batch(
        self, clips: Clips, states: list[State] | None = None
    ) -> tuple[NDArray[np.float32], list[State]]:
        """Clips (N, S), each from its own state or from silence -> (N, T, V), and their states.

        The graph is of one stream: they are computed one after the other.
        """
        clips = to_floats(np.asarray(clips))
        whole = clips.shape[1] // self.step_samples * self.step_samples
        states = states or [self.initial_state() for _ in clips]
        heard = [self(clip[:whole], state) for clip, state in zip(clips, states, strict=True)]
        return np.stack([log_posteriors for log_posteriors, _ in heard]), [s for _, s in heard]

    def _try(self) -> None:
        """See that one step of silence gives what a step has to give."""
        silence = np.zeros(self.step_samples, np.float32)
        try:
            log_posteriors, state = self._hear(silence, self.initial_state())
        except Exception as error:  # what onnxruntime raises has no class of its own
            raise DataError(f"the graph does not run: {_reason(error)}") from error
        if log_posteriors.shape != (1, self._columns):
            raise DataError(
                f"the graph gives {list(log_posteriors.shape)} numbers for a step, where its "
                f"header names {self._columns}"
            )
        for name, shape in self._shapes.items():
            if state[name].shape != shape or state[name].dtype != np.float32:
                raise DataError(f"the graph gives another state {name!r} than it takes")


def load_onnx(path: Path, threads: int = 1) -> OnnxBackend:
    """An exported model from its file.

    Raises:
        DataError: missing, no whole ONNX file, damaged, not a speechgru model, of a newer format,
            or with a graph that is not what the header says.
    """
    content = read_bytes(path)
    try:
        return OnnxBackend(parse_onnx(content), threads)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _open(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised; onnxruntime need not print it too
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # what onnxruntime raises has no class of its own
        raise DataError(f"onnxruntime cannot load the graph: {_reason(error)}") from error


def _state_shapes(session: onnxruntime.InferenceSession) -> dict[str, tuple[int, ...]]:
    """Shapes of the state's tensors by name, as the graph takes them.

    Raises:
        DataError: inputs and outputs are not those of a speechgru model, or too large.
    """
    inputs = {value.name: value for value in session.get_inputs()}
    outputs = {value.name for value in session.get_outputs()}
    names = [name.removeprefix(STATE) for name in inputs if name != SAMPLES]
    expected_in = {SAMPLES, *(STATE + name for name in names)}
    expected_out = {LOG_POSTERIORS, *(NEXT + name for name in names)}
    if inputs.keys() != expected_in or outputs != expected_out:
        raise DataError("the graph has other inputs and outputs than a speechgru model")
    shapes = {name: tuple(inputs[STATE + name].shape) for name in names}
    fixed = all(isinstance(size, int) and size > 0 for shape in shapes.values() for size in shape)
    if (
        not fixed
        or len(shapes) > _MOST_TENSORS
        or sum(int(np.prod(shape, dtype=object)) for shape in shapes.values()) > _LARGEST_STATE
    ):
        raise DataError(f"the graph's state is larger than {_LARGEST_STATE} numbers, or not fixed")
    return shapes


def _whole(graph: Mapping[str, Any], name: str, allowed: range) -> int:
    value = graph.get(name)
    if not isinstance(value, int) or value not in allowed:
        raise DataError(
            f"the model is inconsistent: {name} is {value!r:.40}; "
            f"{allowed[0]} to {allowed[-1]} is needed"
        )
    return value


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
