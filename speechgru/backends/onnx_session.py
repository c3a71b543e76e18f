"""Opens a graph in onnxruntime, after a trial run with bounded memory and time.

A model's file may come from anywhere. The trial runs the graph as it is written, without the
optimizations that onnxruntime does when it opens a session, which have no bounds of their own.
"""

from collections.abc import Mapping
from functools import cache
from threading import Timer
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from speechgru.errors import DataError
from speechgru.modelfile.onnx import with_constants_as_outputs

#: The first axis of inputs and outputs in graphs for any number of streams; in others it is 1.
STREAMS = "streams"

#: Limits of the trial. The largest models need a hundredth of them.
_TRIAL_S, _TRIAL_MB = 10.0, 512
#: The trial of a larger file has only the time limit, as its weights alone may exceed the memory.
_LARGEST_LIMITED_MB = 64


def open_session(
    content: bytes, threads: int, sizes: Mapping[str, int] | None = None
) -> onnxruntime.InferenceSession:
    """Open a session for a model's bytes.

    Args:
        sizes: fixed sizes of axes, by name; other axes may differ from call to call.

    Raises:
        DataError: onnxruntime cannot load the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if sizes is None:
        options.enable_mem_pattern = False  # it would keep a plan for each size
    return _open(content, options, sizes or {})


class Trial:
    """A graph for one stream, to be inspected and run once.

    Raises:
        DataError: onnxruntime cannot load the graph.
    """

    def __init__(self, content: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if len(content) <= _LARGEST_LIMITED_MB << 20:
            _register_limited_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
            # Weights do not count.
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        # With constants as outputs all of them are held at once, as they are after optimization.
        content, constants = with_constants_as_outputs(content)
        self._session = _open(content, options, {STREAMS: 1})
        #: Shapes by name; an axis without a fixed size has a name or None in place of it.
        self.inputs: dict[str, tuple[int | str | None, ...]] = {
            value.name: tuple(value.shape) for value in self._session.get_inputs()
        }
        self.outputs = {value.name for value in self._session.get_outputs()} - constants

    def run(self, feeds: Mapping[str, NDArray[np.float32]]) -> None:
        """Run the graph with these inputs.

        Raises:
            DataError: it fails, or takes too much memory or time.
        """
        run = onnxruntime.RunOptions()
        run.log_severity_level = 4
        problem = None
        timer = Timer(_TRIAL_S, setattr, (run, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            self._session.run(None, dict(feeds), run)
        except Exception as error:  # onnxruntime's errors have no common class
            if run.terminate:
                problem = f"takes over {_TRIAL_S:g} s for a few steps"
            elif "Available memory" in str(error):
                problem = f"takes over {_TRIAL_MB} MB for a few steps"
            else:
                problem = f"does not run: {_reason(error)}"
        finally:
            timer.cancel()
        if problem:  # not from the error, whose traceback would keep the session and its memory
            raise DataError(f"the graph {problem}")


@cache
def _register_limited_memory() -> None:
    """For sessions that use the allocator of the process instead of their own.

    Regions grow as requested: with the default, growth by powers of two, onnxruntime does not
    enforce the limit once a session has reached it.
    """
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo(
            "Cpu",
            onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
            0,
            onnxruntime.OrtMemType.DEFAULT,
        ),
        onnxruntime.OrtArenaCfg({"max_mem": _TRIAL_MB << 20, "arena_extend_strategy": 1}),
    )


def _open(content: bytes, options: Any, sizes: Mapping[str, int]) -> onnxruntime.InferenceSession:
    options.inter_op_num_threads = 1
    # Errors are raised, so onnxruntime need not print them too; some it logs outside any session.
    options.log_severity_level = 4
    onnxruntime.set_default_logger_severity(4)
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise DataError(f"onnxruntime cannot load the graph: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].strip()
